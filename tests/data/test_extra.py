"""Datasets beside the main one: opened whole, labelled by name, and never among what is tested."""

import numpy as np
import pytest

from golem_ray.config.presets import config_from_dict
from golem_ray.data import open_source
from golem_ray.data.split import divide
from golem_ray.errors import DataError
from golem_ray.speech import MODALITY


def table(folder, name, header, *rows):
    (folder / name).write_text("\n".join([header, *rows]) + "\n")
    return str(folder / name)


@pytest.fixture
def main(tmp_path):
    """Ten clips of two labels by five speakers."""
    rows = [f"{row}.wav,{'ab'[row % 2]},who-{row // 2}" for row in range(10)]
    return table(tmp_path, "main.csv", "file_name,label,who", *rows)


def divided(main, *extra, **groups):
    values = {**groups, "dataset": {"name": main, "label_column": "label", "extra": list(extra)}}
    config = config_from_dict(values)
    groups_column = config.evaluation.group_column
    source = open_source(config.dataset, MODALITY.content, config.processing.limit, group_column=groups_column)
    return divide(config, source, MODALITY.content)


def test_their_clips_are_all_taken_named_and_numbered_by_the_main_datasets_labels(main, tmp_path):
    first = table(tmp_path, "first.csv", "file_name,emotion", "x.wav,b", "y.wav,a", "z.wav,")
    second = table(tmp_path, "second.csv", "file_name,label", "0.wav,b")
    extra = {"name": first, "label_column": "emotion"}, {"name": second, "label_column": "label"}
    division = divided(main, *extra, processing={"max_samples": 4})
    assert division.source.labels == division.names == ("a", "b")
    assert division.source.examples["id"].to_pylist() == list(range(8))
    assert division.source.examples["label"].to_pylist() == [0, 1, 0, 1, 1, 0, None, 1]
    assert division.extra.tolist() == [False] * 4 + [True] * 4
    assert division.counts(np.array([0, 3, 4, 5, 7])) == [2, 2, 1]
    assert division.name(5) == f"dataset.extra[0] clip 1 ({tmp_path}/y.wav)"
    assert division.name(7).startswith("dataset.extra[1] clip 0 (")
    assert [division.place(row) for row in (3, 4, 7)] == [(None, 3), ("dataset.extra[0]", 0), ("dataset.extra[1]", 0)]
    assert not division.tested.any()


@pytest.mark.parametrize("evaluation", [{"holdout": 4}, {"holdout": 4, "group_column": "who"}])
def test_they_change_nothing_of_what_is_held_out(main, tmp_path, evaluation):
    extra = table(tmp_path, "more.csv", "file_name,label,who", *[f"x{row}.wav,a,who-{row}" for row in range(9)])
    without = divided(main, evaluation=evaluation)
    division = divided(main, {"name": extra, "label_column": "label"}, evaluation=evaluation)
    assert division.tested.tolist() == [*without.tested.tolist(), *[False] * 9]
    if without.groups is not None:
        assert division.groups[10:15].tolist() == division.groups[:10:2].tolist()  # the same speakers by name


def test_they_stand_before_a_split_to_test_on(tmp_path):
    for split in ("train", "test"):
        rows = [f"{row}.wav,{'ab'[row % 2]}" for row in range(4)]
        table(tmp_path, f"{split}.csv", "file_name,label", *rows)
    more = table(tmp_path, "more.csv", "file_name,label", "x.wav,a", "y.wav,b")
    division = divided(str(tmp_path), {"name": more, "label_column": "label"}, evaluation={"split": "test"})
    assert division.tested.tolist() == [False] * 6 + [True] * 4
    assert division.place(7) == ("test", 1)
    assert division.split(4) == "train"
    assert division.source.examples["path"].to_pylist()[4].endswith("x.wav")


def test_a_split_to_test_on_without_the_column_is_named(tmp_path):
    table(tmp_path, "train.csv", "file_name,label", "0.wav,a", "1.wav,b")
    table(tmp_path, "test.csv", "file_name,other", "0.wav,a")
    with pytest.raises(DataError, match=r"^evaluation\.split: for the split 'test', dataset\.label_column: expected"):
        divided(str(tmp_path), evaluation={"split": "test"})


def test_a_label_that_the_main_dataset_lacks_is_refused_by_name(main, tmp_path):
    more = table(tmp_path, "more.csv", "file_name,label", "x.wav,a", "y.wav,c")
    with pytest.raises(DataError, match=r"^dataset\.extra\[1\]\.label_column: .* \(a, b\), found 1 others in .* \(c\)"):
        divided(main, {"name": main, "label_column": "label"}, {"name": more, "label_column": "label"})


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"name": "/no/where"}, r"dataset\.extra\[0\]\.name: expected a Hub id"),
        ({"label_column": "absent"}, r"dataset\.extra\[0\]\.label_column: .*: name one by dataset\.extra\[0\]\.label"),
        ({"split": "test"}, r"dataset\.extra\[0\]\.split: expected 'train'"),
    ],
)
def test_what_is_wrong_with_one_is_named_by_its_key(main, keys, words):
    with pytest.raises(DataError, match=f"^{words}"):
        divided(main, {"name": main, "label_column": "label", **keys})


def test_one_without_the_column_of_groups_has_groups_of_its_own(main, tmp_path, caplog):
    more = table(tmp_path, "more.csv", "file_name,label", "x.wav,a", "y.wav,b")
    evaluation = {"group_column": "who"}
    division = divided(main, {"name": more, "label_column": "label"}, evaluation=evaluation)
    assert len(np.unique(division.groups)) == 5 + 2
    assert "dataset.extra[0] has no column 'who'" in caplog.text


def test_they_do_not_make_a_class_of_one_speaker_one_that_folds_can_test(main, tmp_path):
    rows = [f"{row}.wav,{'ab'[row % 2]},{'ab'[row % 2]}" for row in range(4)]
    own = table(tmp_path, "own.csv", "file_name,label,who", *rows)
    with pytest.raises(DataError, match=r"a class with clips of .*own\.csv of two groups in 'who'"):
        divided(own, {"name": main, "label_column": "label"}, evaluation={"group_column": "who"})
