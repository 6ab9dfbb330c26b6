"""What a classifier that gives several labels, or none, is worth."""

import dataclasses
import json

import numpy as np
import pytest
import sklearn.metrics

from golem_ray.metrics.answers import Answers
from golem_ray.metrics.intervals import wilson_interval
from golem_ray.metrics.several import FIGURES_OF_SEVERAL, evaluate, figures, guesses, paired_f1, per_class
from golem_ray.metrics.several_measured import measure

RATES = np.array([0.5, 0.3, 0.1, 0.03, 0.01])


def answers_of(probabilities, decisions=None):
    decisions = probabilities > 0.5 if decisions is None else decisions
    return Answers(
        probabilities=probabilities,
        decisions=decisions,
        confidence=np.where(decisions, probabilities, 1 - probabilities).prod(axis=1),
    )


def drawn(seed, num_clips=300, rates=RATES):
    """Probabilities, some of them equal, and labels that are drawn from them."""
    rng = np.random.default_rng(seed)
    odds = rates / (1 - rates) * np.exp(1.5 * rng.standard_normal((num_clips, len(rates))))
    probabilities = np.round(odds / (1 + odds), 2).clip(0.001, 0.999)
    return probabilities, rng.random(probabilities.shape) < probabilities


def values_of(found):
    return {name: figure["value"] for name, figure in found.items()}


def by_class(score, labels, values, kept):
    return [score(labels[:, label], values[:, label]) for label in np.flatnonzero(kept)]


@pytest.mark.parametrize("seed", range(4))
def test_figures_equal_scikit_learns(seed):
    """Also of a label that nobody has and nobody is given, and of one that everybody has."""
    probabilities, labels = drawn(seed)
    probabilities = np.column_stack([probabilities, np.linspace(0, 0.4, 300), np.linspace(0.3, 1, 300)])
    labels = np.column_stack([labels, np.zeros(300, bool), np.ones(300, bool)])
    answers, some = answers_of(probabilities), labels.any(axis=0)
    said = answers.decisions
    precision = by_class(sklearn.metrics.average_precision_score, labels, probabilities, some)
    auc = by_class(sklearn.metrics.roc_auc_score, labels, probabilities, some & ~labels.all(axis=0))
    expected = {
        "macro_f1": sklearn.metrics.f1_score(labels, said, average="macro", zero_division=np.nan),
        "weighted_f1": sklearn.metrics.f1_score(labels, said, average="weighted", zero_division=0),
        "micro_f1": sklearn.metrics.f1_score(labels, said, average="micro", zero_division=0),
        "mean_average_precision": np.mean(precision),
        "roc_auc": np.mean(auc),
        "accuracy": sklearn.metrics.accuracy_score(labels, said),
        "hamming_loss": sklearn.metrics.hamming_loss(labels, said),
        "log_loss": np.mean(
            [sklearn.metrics.log_loss(*each, labels=[0, 1]) for each in zip(labels.T, probabilities.T, strict=True)]
        ),
    }
    found = figures(answers, labels)
    assert list(found) == list(FIGURES_OF_SEVERAL)
    error = found.pop("calibration_error")
    assert error["interval_95"][0] <= error["value"] <= error["interval_95"][1]
    assert values_of(found) == pytest.approx(expected, rel=1e-12)
    for name, figure in found.items():
        assert figure["interval_95"][0] < figure["value"] < figure["interval_95"][1], name
    assert found["accuracy"]["interval_95"] == pytest.approx(wilson_interval(expected["accuracy"], 300))

    records = per_class(answers, labels, list("abcdefg"))
    table = sklearn.metrics.precision_recall_fscore_support(labels, said, zero_division=np.nan)
    for number, record in enumerate(records):
        assert (record["label"], record["num_clips"]) == ("abcdefg"[number], labels[:, number].sum())
        for key, expected_values in zip(("precision", "recall", "f1"), table[:3], strict=True):
            expected_value = expected_values[number]
            if np.isnan(expected_value):
                assert record[key] is None
            else:
                assert record[key]["value"] == pytest.approx(expected_value)
                low, high = record[key]["interval_95"]
                assert low - 1e-12 <= expected_value <= high + 1e-12
                assert low < high  # although all may be right, or all wrong
    with_precision = [record["average_precision"] for record in records if record["average_precision"]]
    assert [each["value"] for each in with_precision] == pytest.approx(precision)
    assert [each["roc_auc"]["value"] for each in records if each["roc_auc"]] == pytest.approx(auc)
    assert np.mean([each["calibration_error"]["value"] for each in records]) == pytest.approx(error["value"])


def test_intervals_cover_what_more_clips_would_show():
    """Of a hundred draws of 150 clips, about 95 intervals hold the figure of very many."""
    probabilities, labels = drawn(0, num_clips=60_000, rates=np.array([0.5, 0.3, 0.15]))
    whole = {
        "macro_f1": sklearn.metrics.f1_score(labels, probabilities > 0.5, average="macro"),
        "micro_f1": sklearn.metrics.f1_score(labels, probabilities > 0.5, average="micro"),
        "mean_average_precision": sklearn.metrics.average_precision_score(labels, probabilities),
        "roc_auc": sklearn.metrics.roc_auc_score(labels, probabilities),
    }
    rng = np.random.default_rng(1)
    covered = dict.fromkeys(whole, 0)
    for _ in range(60):
        rows = rng.choice(60_000, 150, replace=False)
        found = figures(answers_of(probabilities[rows]), labels[rows])
        for name, value in whole.items():
            low, high = found[name]["interval_95"]
            covered[name] += low <= value <= high
    assert min(covered.values()) >= 53, covered
    assert sum(covered.values()) <= 4 * 59, covered


def test_an_average_precisions_interval_is_moved_by_its_bias():
    probabilities, labels = drawn(8, num_clips=200)
    answers = answers_of(probabilities)
    value, *resampled = measure(answers, labels, None, 0).figures()["mean_average_precision"]
    low, middle, high = np.percentile(resampled, [2.5, 50, 97.5])
    assert middle > value + 0.005
    found = figures(answers, labels)["mean_average_precision"]
    assert found["interval_95"] == pytest.approx([low - middle + value, high - middle + value])


def test_labels_that_the_classifier_does_not_know_are_missed():
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.1, 0.2]])
    labels = np.array([[1, 0, 0], [0, 1, 1], [0, 1, 1], [0, 0, 0]], bool)
    answers = answers_of(probabilities)
    found = values_of(figures(answers, labels))
    padded = np.pad(answers.decisions, ((0, 0), (0, 1)))
    for average in ("macro", "weighted", "micro"):
        score = sklearn.metrics.f1_score(labels, padded, average=average, zero_division=0)
        assert found[f"{average}_f1"] == pytest.approx(score)
    assert (found["accuracy"], found["hamming_loss"]) == (0.5, pytest.approx(4 / 12))
    known = values_of(figures(answers, labels[:, :2]))
    assert known["accuracy"] == 0.75
    for name in ("mean_average_precision", "roc_auc", "log_loss", "calibration_error"):
        assert found[name] == known[name]
    unknown = per_class(answers, labels, ["a", "b", "new"])[2]
    assert (unknown["num_clips"], unknown["precision"], unknown["roc_auc"]) == (2, None, None)
    assert (unknown["recall"]["value"], unknown["f1"]["value"]) == (0, 0)
    assert unknown["calibration_error"] is None


def test_what_cannot_be_computed_is_missing():
    answers = answers_of(np.full((5, 2), 0.3))
    found = figures(answers, np.zeros((5, 2), bool))
    assert list(found) == ["accuracy", "hamming_loss", "log_loss", "calibration_error"]
    assert found["accuracy"]["value"] == 1
    record = per_class(answers, np.zeros((5, 2), bool), ["a", "b"])[0]
    assert [key for key, value in record.items() if value is None] == [
        "precision", "recall", "f1", "average_precision", "roc_auc"
    ]  # fmt: skip
    everybody = figures(answers_of(np.full((5, 1), 0.7)), np.ones((5, 1), bool))
    assert "roc_auc" not in everybody
    assert everybody["mean_average_precision"]["value"] == 1
    assert paired_f1(answers, answers, np.zeros((5, 2), bool)) is None


def test_of_clips_with_groups_whole_groups_are_resampled():
    """Clips that are all there four times over say no more than they do once."""
    probabilities, labels = drawn(2, num_clips=200, rates=RATES[:3])
    once = figures(answers_of(probabilities), labels)
    four = answers_of(np.repeat(probabilities, 4, axis=0)), np.repeat(labels, 4, axis=0)
    grouped, alone = figures(*four, np.repeat(np.arange(200), 4)), figures(*four)
    for name, figure in grouped.items():
        width, expected, narrow = (np.ptp(found[name]["interval_95"]) for found in (grouped, once, alone))
        assert figure["value"] == pytest.approx(once[name]["value"])
        assert width == pytest.approx(expected, rel=0.2 if name != "calibration_error" else 0.5), name
        assert width > 1.4 * narrow, name
    of_one = figures(*four, np.zeros(800))
    assert of_one["roc_auc"]["interval_95"] == of_one["accuracy"]["interval_95"] == [0.0, 1.0]
    assert per_class(*four, list("abc"), np.zeros(800))[0]["roc_auc"]["interval_95"] == [0.0, 1.0]
    records = (per_class(*four, list("abc"), groups) for groups in (np.repeat(np.arange(200), 4), None))
    for record, narrow in zip(*records, strict=True):
        for key in ("precision", "recall", "f1", "average_precision", "roc_auc", "calibration_error"):
            assert np.ptp(record[key]["interval_95"]) > 1.4 * np.ptp(narrow[key]["interval_95"]), key


def test_guesses_equal_what_was_drawn():
    rng = np.random.default_rng(0)
    labels = rng.random((4000, 4)) < np.array([0.6, 0.3, 0.1, 0.5])
    labels[:, 3] &= ~labels[:, 0]  # unknown
    rates = np.array([0.5, 0.4, 0.1])
    found = guesses(labels, 3, rates)
    always = values_of(figures(answers_of(np.ones((4000, 3))), labels))
    del always["log_loss"], always["calibration_error"]
    assert found["always"] == pytest.approx(always)
    assert found["always"]["mean_average_precision"] == pytest.approx(labels[:, :3].mean())
    constant = answers_of(np.tile(rates, (4000, 1)))
    drawn_ones = [dataclasses.replace(constant, decisions=rng.random((4000, 3)) < rates) for _ in range(30)]
    several = [measure(each, labels, np.zeros(4000), 0).figures() for each in drawn_ones[:1]]
    assert set(found["chance"]) == set(several[0])
    for name in ("mean_average_precision", "roc_auc", "log_loss", "calibration_error"):
        assert found["chance"][name] == pytest.approx(several[0][name][0])
    padded = [np.pad(each.decisions, ((0, 0), (0, 1))) for each in drawn_ones]
    for name, score in {
        "accuracy": sklearn.metrics.accuracy_score,
        "hamming_loss": sklearn.metrics.hamming_loss,
        "macro_f1": lambda *each: sklearn.metrics.f1_score(*each, average="macro", zero_division=0),
        "weighted_f1": lambda *each: sklearn.metrics.f1_score(*each, average="weighted", zero_division=0),
        "micro_f1": lambda *each: sklearn.metrics.f1_score(*each, average="micro", zero_division=0),
    }.items():
        assert found["chance"][name] == pytest.approx(np.mean([score(labels, each) for each in padded]), abs=5e-3)
    nobody = guesses(np.zeros((3, 2), bool), 2, np.array([0.0, 0.5]))["chance"]
    assert "roc_auc" not in nobody
    assert nobody["macro_f1"] == 0  # the second is given; the first is neither there nor given


def test_an_evaluation_has_it_all():
    probabilities, labels = drawn(3, num_clips=60, rates=RATES[:3])
    labels = np.column_stack([labels, labels[:, 1], np.zeros(60, bool)])
    answers, plain = answers_of(probabilities), answers_of(probabilities[::-1])
    names, groups = ["a", "b", "c", "new", "newer"], np.arange(60) % 12
    found = evaluate(answers, labels, names, RATES[:3], {"plain": plain}, groups)
    json.dumps(found, allow_nan=False)
    assert found["num_clips"] == 60
    assert found["num_without_label"] == (labels.sum(axis=1) == 0).sum()
    assert found["unknown_labels"] == {"new": labels[:, 1].sum()}
    assert found["figures"] == figures(answers, labels, groups)
    assert found["per_class"] == per_class(answers, labels, names, groups)
    assert list(found["baselines"]) == ["always", "chance", "plain"]
    assert found["baselines"]["plain"] == figures(plain, labels, groups)
    assert found["baselines"]["chance"] == guesses(labels, 3, RATES[:3])["chance"]
    together = found["co_occurrence"]
    assert [together[number][number] for number in range(5)] == labels.sum(axis=0).tolist()
    assert together[0][1] == together[1][0] == together[0][3] == (labels[:, 0] & labels[:, 1]).sum()


def test_the_better_of_two_is_seen_though_each_alone_is_unsure():
    probabilities, labels = drawn(4, num_clips=200, rates=RATES[:3])
    better = answers_of(probabilities)
    worse = dataclasses.replace(better, decisions=better.decisions.copy())
    worse.decisions[np.flatnonzero(better.decisions[:, 0])[::6], 0] = False
    found, alone = paired_f1(better, worse, labels), [figures(each, labels)["macro_f1"] for each in (better, worse)]
    assert found["value"] == pytest.approx(alone[0]["value"] - alone[1]["value"])
    assert 0 < found["interval_95"][0] < found["value"] < found["interval_95"][1]
    assert alone[0]["interval_95"][0] < alone[1]["interval_95"][1]
    assert paired_f1(better, better, labels) == {"value": 0.0, "interval_95": [0.0, 0.0]}
    assert paired_f1(better, worse, labels, figure="roc_auc") == {"value": 0.0, "interval_95": [0.0, 0.0]}
    blurred = answers_of(probabilities / 2 + 0.1)
    for name in ("log_loss", "calibration_error"):
        worse_by = paired_f1(blurred, better, labels, figure=name)
        assert 0 < worse_by["interval_95"][0] < worse_by["value"] < worse_by["interval_95"][1]
    assert paired_f1(better, worse, labels, np.zeros(200))["interval_95"] == [-1.0, 1.0]
