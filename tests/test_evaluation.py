"""Which clips are tested on, and what is said of them."""

import numpy as np
import pyarrow as pa
import pytest

from golem_ray.config import TrainConfig
from golem_ray.config.presets import config_from_dict
from golem_ray.data.groups import joined_groups
from golem_ray.data.split import HELD_OUT, divide, drawn, renumbered
from golem_ray.data.table import Source
from golem_ray.data.unusable import allowed, check_unusable
from golem_ray.errors import ConfigError, DataError
from golem_ray.metrics.figures import evaluate, figures
from golem_ray.report.words import calibration_line, cross_validation_line, evaluation_line


def source(labels, groups=None, names=("a", "b", "c")):
    columns = {"id": range(len(labels)), "bytes": [None] * len(labels), "path": [None] * len(labels)}
    table = pa.table({**columns, "label": pa.array(labels, pa.int64())})
    return Source(examples=table if groups is None else table.append_column("group", pa.array(groups)), labels=names)


def with_evaluation(**keys) -> TrainConfig:
    return config_from_dict({"evaluation": keys})


def test_without_a_word_nothing_is_held_out():
    division = divide(TrainConfig(), source([0, 1, 2, None]))
    assert not division.tested.any()
    assert (division.how, division.groups) == (None, None)
    assert division.place(3) == (None, 3)


@pytest.mark.parametrize(("holdout", "expected"), [(6, 6), (0.2, 6), (0.01, 1), (1, 1)])
def test_a_holdout_is_a_number_or_a_share(holdout, expected):
    division = divide(with_evaluation(holdout=holdout), source([0, 1, 2] * 10))
    assert division.tested.sum() == expected
    assert division.how == HELD_OUT
    assert division.place(int(np.flatnonzero(division.tested)[0]))[0] is None


def test_a_clip_without_a_label_is_not_held_out():
    division = divide(with_evaluation(holdout=8), source([0, 1, None] * 5))
    assert division.tested.sum() == 8
    assert not division.tested[2::3].any()


def test_groups_never_straddle_and_clips_without_one_stand_alone():
    groups = ["ann", "ann", None, "bob", None, "bob"] * 5
    division = divide(with_evaluation(holdout=10, group_column="speaker"), source([0, 1] * 15, groups))
    assert len(np.unique(division.groups)) == 2 + 10
    assert 0 < division.tested.sum() < 30
    assert not set(division.groups[division.tested]) & set(division.groups[~division.tested])


@pytest.mark.parametrize(
    ("keys", "labels", "groups", "words"),
    [
        ({"holdout": 9}, [0, 1, 2] * 3, None, "expected fewer clips than the 9"),
        ({"holdout": 1}, [0, 1, 2], None, "a class with two clips or more"),
        ({"holdout": 2, "group_column": "who"}, [0, 1] * 4, ["ann"] * 8, "at least two groups in 'who'"),
    ],
)
def test_what_cannot_be_held_out_is_said(keys, labels, groups, words):
    with pytest.raises(ConfigError, match=words):
        divide(with_evaluation(**keys), source(labels, groups))


@pytest.mark.parametrize("holdout", [0, -1, 1.0, 1.5, 0.0])
def test_a_holdout_out_of_range_is_refused(holdout):
    with pytest.raises(ConfigError, match=r"evaluation\.holdout: expected a number of clips, or a share"):
        with_evaluation(holdout=holdout)


def test_a_holdout_and_a_split_are_one_too_many():
    with pytest.raises(ConfigError, match="either a holdout or evaluation.split"):
        with_evaluation(holdout=5, split="test")


def test_labels_are_renumbered_by_name_and_unknown_ones_come_last():
    names, clips = renumbered(source([0, 1, 2, None, 2], names=("new", "b", "a", "unused")), ["a", "b", "c"])
    assert names == ("a", "b", "c", "new")
    assert clips["label"].to_pylist() == [3, 1, 0, None, 0]


def test_an_evaluation_names_unknown_labels_and_has_its_baselines():
    probabilities = np.array([[0.9, 0.1], [0.3, 0.7], [0.8, 0.2]])
    scores = evaluate(probabilities, np.array([0, 1, 2]), ["a", "b", "new"], largest=1, log_mel=probabilities[:, ::-1])
    assert scores["unknown_labels"] == {"new": 1}
    assert scores["figures"] == figures(probabilities, np.array([0, 1, 2]))
    assert scores["baselines"]["majority"]["accuracy"] == pytest.approx(1 / 3)
    assert scores["baselines"]["log_mel"]["accuracy"]["value"] == 0
    assert [record["recall"] for record in scores["per_class"]] == [1, 1, 0]


def test_sentences_say_the_figure_its_interval_and_chance():
    figure = {"value": 0.5, "interval_95": [0.2, 0.8]}
    beside = {"chance": {"accuracy": 0.25}, "log_mel": {"accuracy": figure}}
    scores = {"num_clips": 10, "num_also_trained_on": 2, "figures": {"accuracy": figure}, "baselines": beside}
    assert evaluation_line({"how": HELD_OUT, **scores}) == (
        "Accuracy on the 10 clips held out that were not trained on (2 were) 50.0% (95 % interval 20.0% to 80.0%); the "
        "same head on log-mel statistics 50.0% (20.0% to 80.0%), chance 25.0%."
    )
    assert "10 clips of test" in evaluation_line({"how": "test", **scores})
    assert "turned off" in cross_validation_line(None, 0)
    assert "no class has two clips" in cross_validation_line(None, 5)
    scores = {"accuracy": 0.5, "interval_95": [0.4, 0.6], "folds": 5, "repeats": 2, "num_clips": 900}
    scores["num_single_clip_classes"] = 0
    assert "2 x 5 folds over 900 clips)." in cross_validation_line(scores, 2)
    assert "2 x 5 folds over 900 sampled clips, of heads trained on these alone)." in cross_validation_line(
        {**scores, "sampled": True}, 2
    )
    assert "temperature of 2.50, from 40" in calibration_line({"temperature": 2.5, "num_clips": 40})
    assert "not calibrated" in calibration_line(None)


def test_bad_clips_are_allowed_up_to_a_share(caplog):
    records = [{"clip": f"clip {row}", "reason": "empty file"} for row in range(29)]
    assert allowed(0.58, 50) == 29
    check_unusable(records, 50, 0.58)
    assert "clips that cannot be used, 29 of 50: clip 0: empty file" in caplog.text
    assert "and 9 more" in caplog.text
    with pytest.raises(DataError, match="at most 28 of 50"):
        check_unusable(records, 50, 0.57)
    check_unusable([], 0, 0.0)


def test_groups_that_share_a_clip_are_one():
    joined = joined_groups(np.array([0, 0, 1, 2, 3]), np.array([9, 8, 8, 7, 7]))
    assert len(set(joined[:3])) == len(set(joined[3:])) == 1
    assert joined[0] != joined[3]


def test_at_most_so_many_rows_are_drawn_evenly():
    assert drawn(np.arange(5), most=5).tolist() == [0, 1, 2, 3, 4]
    assert drawn(np.arange(9), most=3).tolist() == [0, 4, 8]
