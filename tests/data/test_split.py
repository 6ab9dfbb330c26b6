"""Which clips are tested on."""

import numpy as np
import pyarrow as pa
import pytest

from golem_ray.config import TrainConfig
from golem_ray.config.presets import config_from_dict
from golem_ray.data.split import HELD_OUT, divide, drawn
from golem_ray.data.table import Source, renumbered
from golem_ray.errors import ConfigError, DataError
from golem_ray.speech import MODALITY


def source(labels, groups=None, names=("a", "b", "c")):
    columns = {"id": range(len(labels)), "bytes": [None] * len(labels), "path": [None] * len(labels)}
    table = pa.table({**columns, "label": pa.array(labels, pa.int64())})
    return Source(examples=table if groups is None else table.append_column("group", pa.array(groups)), labels=names)


def with_evaluation(**keys) -> TrainConfig:
    return config_from_dict({"evaluation": keys})


def test_without_a_word_nothing_is_held_out():
    division = divide(TrainConfig(), source([0, 1, 2, None]), MODALITY.content)
    assert not division.tested.any()
    assert (division.how, division.groups) == (None, None)
    assert division.place(3) == (None, 3)


@pytest.mark.parametrize(("holdout", "expected"), [(6, 6), (0.2, 6), (0.01, 1), (1, 1)])
def test_a_holdout_is_a_number_or_a_share(holdout, expected):
    division = divide(with_evaluation(holdout=holdout), source([0, 1, 2] * 10), MODALITY.content)
    assert division.tested.sum() == expected
    assert division.how == HELD_OUT
    assert division.place(int(np.flatnonzero(division.tested)[0]))[0] is None


def test_a_clip_without_a_label_is_not_held_out():
    division = divide(with_evaluation(holdout=8), source([0, 1, None] * 5), MODALITY.content)
    assert division.tested.sum() == 8
    assert not division.tested[2::3].any()


def test_groups_never_straddle_and_clips_without_one_stand_alone():
    groups = ["ann", "ann", None, "bob", None, "bob"] * 5
    division = divide(
        with_evaluation(holdout=10, group_column="speaker"), source([0, 1] * 15, groups), MODALITY.content
    )
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
        divide(with_evaluation(**keys), source(labels, groups), MODALITY.content)


def test_groups_that_leave_nothing_to_cross_validate_on_are_refused(caplog):
    alone = source([0, 0, 1, 1, 2], ["ann", "ann", "bob", "bob", None])
    with pytest.raises(DataError, match="a class with clips of two groups in 'who', found each class in one group al"):
        divide(with_evaluation(group_column="who"), alone, MODALITY.content)
    divide(with_evaluation(group_column="who", repeats=0), alone, MODALITY.content)
    assert not caplog.text
    divide(with_evaluation(group_column="who"), source([0, 0, 1, 1], ["ann", "bob", "cleo", "cleo"]), MODALITY.content)
    assert "2 of 4 clips are of classes that are in one group alone" in caplog.text


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


def test_an_old_artifacts_labels_are_matched_although_they_were_not_cleaned():
    names, clips = renumbered(source([0, 1, 2], names=("a", "caf\u00e9", "b")), ["b ", "cafe\u0301", "b", "b  "])
    assert names == ("b ", "cafe\u0301", "b", "b  ", "a")
    assert clips["label"].to_pylist() == [4, 1, 2]


def test_at_most_so_many_rows_are_drawn_evenly():
    assert drawn(np.arange(5), most=5).tolist() == [0, 1, 2, 3, 4]
    assert drawn(np.arange(9), most=3).tolist() == [0, 4, 8]
