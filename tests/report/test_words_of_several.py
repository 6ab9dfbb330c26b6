from golem_ray.config import NOUNS
from golem_ray.data.split import HELD_OUT
from golem_ray.report.words_of_several import (
    calibration_line,
    cross_validation_line,
    evaluation_line,
    evaluation_table,
    guessing_words,
)
from golem_ray.text import MODALITY
from tests.report.several import judged_of_several, record

TEXT = NOUNS["text"]


def figure(value):
    return {"value": value, "interval_95": [value - 0.1, value + 0.1]}


FIGURES = {"macro_f1": figure(0.4), "weighted_f1": figure(0.5), "mean_average_precision": figure(0.6)}
PLAIN = {"macro_f1": 0.1, "weighted_f1": 0.2, "mean_average_precision": 0.3}


def test_sentences_say_the_figures_their_intervals_and_what_to_compare_with():
    said = (
        "macro F1 0.400 (95 % interval 0.300 to 0.500), weighted F1 0.500 (0.400 to 0.600), mAP 0.600 (0.500 to 0.700)"
    )
    beside = {"tf_idf": FIGURES, "always": PLAIN, "at_half": {"macro_f1": 0.1}}
    scores = {"num_clips": 10, "num_also_trained_on": 1, "figures": FIGURES, "baselines": beside}
    assert evaluation_line({"how": HELD_OUT, **scores}, MODALITY.baseline, TEXT) == (
        f"On the 10 texts held out that were not trained on (1 was): {said}. For comparison, a logistic regression on "
        "TF-IDF: 0.400 / 0.500 / 0.600; giving every label to all: 0.100 / 0.200 / 0.300; this head with every "
        "threshold at 0.5: 0.100 / - / -."
    )
    shared = {"how": "test", **scores, "num_also_trained_on": 2, "group_column": "who", "num_of_groups_trained_on": 3}
    line = evaluation_line(shared, MODALITY.baseline, TEXT)
    assert line.startswith(
        "On the 10 texts of test that were not trained on (2 were) (3 of a who that was trained on): "
    )
    nobody = {"how": "test", "num_clips": 0, "num_also_trained_on": 0}
    assert evaluation_line(nobody, MODALITY.baseline, TEXT) == "On the 0 texts of test: none, for want of texts."

    scores = {"figures": FIGURES, "folds": 5, "num_clips": 90, "num_single_clip_classes": 2, "nested": True}
    scores["baseline"] = {"figures": FIGURES}
    assert cross_validation_line(scores, 1, TEXT, "who", MODALITY.baseline) == (
        f"Cross-validated {said}, in 5 folds over 90 texts, the choice made anew in each, no who on both sides of a "
        "fold, the thresholds of each chosen on the other folds; for comparison, a logistic regression on TF-IDF: "
        "0.400 / 0.500 / 0.600. 2 labels are of a single text, which no head that it is tested by has seen."
    )
    sampled = cross_validation_line({**scores, "sampled": True, "num_single_clip_classes": 1}, 1, TEXT)
    assert "over 90 sampled texts, of heads trained on these alone, the choice" in sampled
    assert sampled.endswith("other folds. 1 label is of a single text, which no head that it is tested by has seen.")
    assert cross_validation_line(None, 0, TEXT) == "No cross-validated figures: it is turned off."
    assert "no label has two texts, or texts of two groups" in cross_validation_line(None, 1, TEXT)
    assert guessing_words({"training_accuracy": 0.9, "chance": 0.1, "largest_class": 0.2}) == (
        "every label right for 90.0% of what it was trained on (giving each label at random, as often as it occurs, "
        "has 10.0%, always giving the most frequent set of labels 20.0%)"
    )


def test_it_is_said_when_a_label_is_given():
    assert calibration_line(record(), TEXT) == (
        "Probabilities are calibrated (Platt scaling, label by label) by 50 cross-validated texts; a label is given "
        "where its probability reaches a threshold of its own, 0.25 to 0.45."
    )
    few = record(thresholds=[0.5] * 4, num_clips=0, at_least_one=True)
    assert calibration_line(few, TEXT) == (
        "Probabilities are not calibrated, for want of cross-validated texts: expect them to be wrong. A label is "
        "given where its probability reaches 0.50, and to a text where none does, the one that comes closest to its "
        "threshold."
    )
    assert "not calibrated" in calibration_line(None, TEXT)


def test_the_tables_have_a_column_for_each_rival_and_a_line_for_the_floor():
    which = judged_of_several()
    scores = {"figures": which.figures, "baselines": which.baselines, "per_class": which.per_class}
    lines = evaluation_table({**scores, "num_without_label": 7}, TEXT)
    head, f1 = lines[0], lines[1]
    shown = [which.baselines[key]["macro_f1"] for key in ("always", "chance")]
    for title, value in zip(("all always", "at random", "all at 0.5"), [*shown, None], strict=True):
        end = head.index(title) + len(title)
        value = which.baselines["at_half"]["macro_f1"]["value"] if value is None else value
        assert f1[end - 6 : end] == f" {value:.3f}"
    (floor,) = (line for line in lines if "perfect" in line)
    assert floor.split()[-1] == f"{which.figures['calibration_error']['floor']:.3f}"
    assert lines[-1] == "7 texts without any label"
    assert "all at 0.5" not in evaluation_table({**scores, "baselines": {}, "num_without_label": 0}, TEXT)[0]
