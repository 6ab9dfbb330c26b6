from golem_ray.config import NOUNS
from golem_ray.data.split import HELD_OUT
from golem_ray.report.words import (
    calibration_line,
    choice_line,
    covered_words,
    cross_validation_line,
    evaluation_line,
    evaluation_table,
    left_out_line,
    rejection_line,
    summary,
)
from golem_ray.speech import MODALITY
from tests.report.pages import comparison_result

CLIP = NOUNS["speech"]


def test_sentences_say_the_figure_its_interval_and_chance():
    figure = {"value": 0.5, "interval_95": [0.2, 0.8]}
    beside = {"chance": {"accuracy": 0.25}, "log_mel": {"accuracy": figure}}
    scores = {"num_clips": 10, "num_also_trained_on": 2, "figures": {"accuracy": figure}, "baselines": beside}
    assert evaluation_line({"how": HELD_OUT, **scores}, MODALITY.baseline, CLIP) == (
        "Accuracy on the 10 clips held out that were not trained on (2 were) 50.0% (95 % interval 20.0% to 80.0%); the "
        "same head on log-mel statistics 50.0% (20.0% to 80.0%), chance 25.0%."
    )
    assert "10 clips of test" in evaluation_line({"how": "test", **scores}, MODALITY.baseline, CLIP)
    shared = {"how": "test", **scores, "group_column": "speaker", "num_of_groups_trained_on": 3}
    assert "(2 were) (3 of a speaker that was trained on) 50.0%" in evaluation_line(shared, MODALITY.baseline, CLIP)
    assert "turned off" in cross_validation_line(None, 0, CLIP)
    assert "no class has two clips" in cross_validation_line(None, 5, CLIP)
    scores = {"accuracy": 0.5, "interval_95": [0.4, 0.6], "folds": 5, "repeats": 2, "num_clips": 900}
    scores["num_single_clip_classes"] = 0
    assert "2 x 5 folds over 900 clips)." in cross_validation_line(scores, 2, CLIP)
    assert cross_validation_line(scores, 5, CLIP).endswith(
        "Not 5 rounds: of so many clips in so many classes that would take too long."
    )
    assert "2 x 5 folds over 900 sampled clips, of heads trained on these alone)." in cross_validation_line(
        {**scores, "sampled": True}, 2, CLIP
    )
    assert cross_validation_line({**scores, "num_small_classes": 1}, 2, CLIP).endswith(
        "clips). 1 class with fewer clips than folds: not tested in every fold."
    )
    assert "temperature of 2.50, from 40" in calibration_line({"temperature": 2.5, "num_clips": 40}, CLIP)
    assert "not calibrated" in calibration_line(None, CLIP)


def test_columns_stay_in_line_whatever_the_signs_of_an_interval_are():
    figures = {
        "accuracy": {"value": 0.5, "interval_95": [0.2, 0.8]},
        "macro_f1": {"value": -0.1, "interval_95": [-0.3, -0.0]},
    }
    guessed = {"accuracy": 0.25, "macro_f1": 0.125}
    scores = {"figures": figures, "baselines": {"chance": guessed, "majority": guessed}, "per_class": []}
    head, accuracy, f1, *_ = evaluation_table(scores, CLIP)
    for column in ("chance", "majority"):
        end = head.index(column) + len(column)
        assert (accuracy[end - 6 : end], f1[end - 6 : end]) == (" 0.250", " 0.125")


def test_the_table_tells_candidates_apart_however_long_the_encoders_path_is():
    result = comparison_result("/somewhere/in/a/rather/long/folder/of/encoders/wav2vec2-large-960h-lv60-self-trained")
    rows = [line for line in summary(result, CLIP).splitlines() if " linear " in line]
    assert len(rows) == len({row[:60] for row in rows}) == 5
    assert [row for row in rows if row.startswith("*")] == [row for row in rows if " last " in row]
    result["candidates"] = result["candidates"][:3] * 10 + result["candidates"][3:]
    assert sum(line.startswith("* wav2vec2") for line in summary(result, CLIP).splitlines()) == 1


def test_a_threshold_that_refuses_nothing_and_one_for_strangers_are_said_plainly():
    def figure(value):
        return {"value": value, "interval_95": [value, value]}

    known = {"coverage": figure(1.0), "precision": figure(0.98)}
    record = {"by": "precision", "precision": 0.9, "threshold": 0.026, "cross_validated": known}
    assert rejection_line(record, CLIP).startswith("Of cross-validated clips 98.0%")
    assert "at least 90% at 95 % confidence: none of them is called `unsure`" in rejection_line(record, CLIP)
    known = {"coverage": figure(0.5), "precision": figure(0.98)}
    assert "is below 0.026, so that 90% of the other labels" in rejection_line(
        {**record, "cross_validated": known}, CLIP
    )
    assert "does not know 75.0%" in covered_words({**known, "unknown_refused": figure(0.75)})


def test_texts_are_called_texts_in_every_sentence():
    text = NOUNS["text"]
    figure = {"value": 0.5, "interval_95": [0.2, 0.8]}
    folds = {"accuracy": 0.5, "interval_95": [0.4, 0.6], "folds": 5, "repeats": 2, "num_clips": 9}
    folds |= {"num_single_clip_classes": 1, "num_small_classes": 1}
    unlike = {"by": "unlike", "threshold": 0.5, "kept": figure, "refused": figure}
    known = {"coverage": figure, "precision": figure}
    precise = {"by": "precision", "precision": 0.9, "threshold": 0.5, "cross_validated": known}
    everything = {"coverage": {"value": 1, "interval_95": [1, 1]}, "precision": figure}
    lines = [
        evaluation_line({"how": "test", "num_clips": 0, "num_also_trained_on": 0}, MODALITY.baseline, text),
        cross_validation_line(None, 5, text),
        cross_validation_line(folds, 5, text),
        cross_validation_line({**folds, "sampled": True}, 5, text),
        choice_line({"candidates": [], "chosen": "a", "plain": "a", "second": None}, text),
        left_out_line(1, "more", text),
        left_out_line(2, "more", text),
        calibration_line(None, text),
        calibration_line({"temperature": 2.5, "num_clips": 40}, text),
        *(rejection_line({**record, "threshold": at}, text) for record in (unlike, precise) for at in (0.5, None)),
        rejection_line({**precise, "cross_validated": everything}, text),
        evaluation_table({"figures": {}, "baselines": {}, "per_class": []}, text)[-1],
        summary(comparison_result(), text),
    ]
    for line in lines:
        assert "text" in line
        assert "clip" not in line


def test_a_choice_is_said_with_what_it_was_made_by():
    rows = [{"name": name, "accuracy": accuracy} for name, accuracy in (("a", 0.5), ("b", 0.25))]
    choice = {"candidates": rows, "chosen": "a", "plain": "b", "second": "b"}
    assert choice_line(choice, CLIP).startswith(
        "Of 2 candidates, taken was a: cross-validated accuracy 50.0%, the plain"
    )
    several = {**choice, "measure": "label ranking average precision"}
    assert "cross-validated label ranking average precision 50.0%," in choice_line(several, CLIP)
