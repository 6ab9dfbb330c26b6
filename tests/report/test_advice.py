import pytest

from golem_ray.config import NOUNS
from golem_ray.embedding.modality import Baseline
from golem_ray.report.advice import advice

BASELINE = Baseline(key="plain", name="plain statistics", head="the same head", short="plain", size=3)


def lines(accuracy, interval, rival, gains=None, *, number=100, is_chosen=False, evaluation=None):
    scores = {
        "accuracy": accuracy,
        "interval_95": list(interval),
        "num_clips": number,
        "baseline": {"accuracy": rival, "interval_95": [rival - 0.1, rival + 0.1]},
    }
    if gains:
        scores["growth"] = dict(zip(("encoder", "baseline"), gains, strict=True))
    metrics = {"chance": 0.25, "cross_validation": scores, "evaluation": evaluation}
    return advice(metrics, BASELINE, ("a/one", "b/two"), NOUNS["speech"], encoder="a/one", is_chosen=is_chosen)


def test_nothing_is_said_where_nothing_is_wrong():
    assert lines(0.6, (0.5, 0.7), 0.4, (0.1, 0.0)) == []


def test_what_is_wrong_and_what_may_help_is_said_in_three_lines():
    both = lines(0.27, (0.2, 0.35), 0.3, (0.05, 0.01))
    assert len(both) == 3
    assert "its interval holds chance, 25.0%" in both[0]
    assert "Plain statistics do as well or better (30.0% against 27.0%)" in both[0]
    assert "--auto" in both[1]
    assert "(--model.feature-extractor-model b/two)" in both[1]
    assert "a/one" not in both[1]  # which was used
    assert "--auto" not in lines(0.4, (0.3, 0.5), 0.5, is_chosen=True)[1]


@pytest.mark.parametrize(
    ("accuracy", "gains", "said"),
    [
        (0.4, (0.1, 0.05), "some 400 clips would do, 4.0 times as many"),  # .1 behind, .05 nearer with each doubling
        (0.4, (0.05, 0.05), "more clips alone are not seen to help"),
        (0.1, (0.05, 0.04), "more than 64 times as many"),
    ],
)
def test_how_many_clips_overtake_the_baseline_follows_from_what_the_second_half_brought(accuracy, gains, said):
    last = lines(accuracy, (0.3, 0.5), 0.5, gains)[-1]
    assert f"went from {accuracy - gains[0]:.1%} to {accuracy:.1%}" in last
    assert said in last


def test_how_many_clips_tell_an_accuracy_from_chance():
    said = lines(0.27, (0.2, 0.35), 0.1, (0.05, 0.0))[-1]
    number = int(said.split("some ")[1].split(" clips")[0])
    assert 100 < number <= 300  # two and a half times as many: .33, less its error of .06
    assert "not seen to help" in lines(0.24, (0.2, 0.3), 0.1, (-0.02, 0.0))[-1]


def test_examples_held_out_are_what_counts_where_there_are_any():
    tested = {
        "figures": {"accuracy": {"value": 0.7, "interval_95": [0.6, 0.8]}},
        "baselines": {"plain": {"accuracy": {"value": 0.75}}},
    }
    said = lines(0.6, (0.5, 0.7), 0.4, evaluation=tested)
    assert "(75.0% against 70.0%)" in said[0]


def test_texts_are_called_texts():
    scores = {
        "accuracy": 0.27,
        "interval_95": [0.2, 0.35],
        "num_clips": 100,
        "growth": {"encoder": 0.05, "baseline": 0},
    }
    metrics = {"chance": 0.25, "cross_validation": scores}
    said = advice(metrics, BASELINE, ("a/one", "b/two"), NOUNS["text"], encoder="a/one", is_chosen=False)
    assert said[0].startswith("These texts do not show")
    assert "From half of the texts to all of them" in said[-1]
    assert "clip" not in " ".join(said)


def test_of_several_labels_mean_average_precision_is_what_counts():
    def scores(value):
        return {"figures": {"mean_average_precision": {"value": value, "interval_95": [value - 0.1, value + 0.1]}}}

    metrics = {"chance": 0.9, "mean_rate": 0.2, "cross_validation": {**scores(0.25), "baseline": scores(0.3)}}
    said = advice(metrics, BASELINE, ("a/one",), NOUNS["text"], encoder="b/two", is_chosen=False)
    assert said[0] == (
        "These texts do not show that it recognises anything: the interval of its mean average precision holds chance, "
        "20.0%. Plain statistics do as well or better (mean average precision 30.0% against 25.0%): what tells the "
        "labels apart is not in these vectors of the encoder."
    )
    metrics["cross_validation"] = {**scores(0.35), "baseline": scores(0.3)}
    assert advice(metrics, BASELINE, ("a/one",), NOUNS["text"], encoder="b/two", is_chosen=False) == []
