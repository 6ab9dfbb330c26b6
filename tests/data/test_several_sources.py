"""Several labels an example from every kind of source, for clips as for texts; splits, extra datasets and maps."""

import json

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from golem_ray import speech, text
from golem_ray.config import DatasetConfig
from golem_ray.config.presets import config_from_dict
from golem_ray.data import open_source
from golem_ray.data.labels import check_classes
from golem_ray.data.split import divide
from golem_ray.data.table import Source, renumbered
from golem_ray.errors import ConfigError, DataError
from tests.conftest import write_clips

ROWS = (("one", ["joy", "fear"]), ("two", []), ("three", ["fear"]), ("four", ["anger", "joy"]))
LABELS = ("anger", "fear", "joy")
NUMBERS = [[1, 2], [], [1], [0, 2]]
CONTENT = {"text": text.MODALITY.content, "speech": speech.MODALITY.content}


def source(name, modality="text", max_samples=None, **keys):
    texts = {"text_column": "text"} if modality == "text" else {}
    dataset = DatasetConfig(name=str(name), **{"label_column": "label", **texts, **keys})
    return open_source(dataset, CONTENT[modality], max_samples)


def write(place, modality, lists):
    """The rows as a table; `lists` makes a cell of a row's labels, or cells by column."""
    column = "text" if modality == "text" else "file_name"
    rows = []
    for name, labels in ROWS:
        cells = lists(labels)
        rows.append(
            {column: name if modality == "text" else f"{name}.wav"}
            | (cells if isinstance(cells, dict) else {"label": cells})
        )
    if place.suffix == ".jsonl":
        place.write_text("\n".join(map(json.dumps, rows)))
    elif place.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), place)
    elif place.suffix == ".xlsx":
        openpyxl = pytest.importorskip("openpyxl")
        book = openpyxl.Workbook()
        for row in (list(rows[0]), *(row.values() for row in rows)):
            book.active.append(list(row))
        book.save(place)
    else:
        separator = "\t" if place.suffix == ".tsv" else ","
        quoted = [[f'"{cell}"' for cell in row.values()] for row in rows]
        place.write_text("\n".join([separator.join(rows[0]), *map(separator.join, quoted)]) + "\n")
    return place


def joined(labels):
    return ";".join(labels)


def bracketed(labels):
    return f"[{' '.join(labels)}]"


def flags(labels):
    return {name: int(name in labels) for name in LABELS}


SEPARATED, FLAGS = {"label_separator": ";"}, {"label_columns": LABELS, "label_column": "nothing"}
FORMS = [
    *((suffix, cells, keys) for suffix in ("csv", "tsv", "jsonl", "xlsx", "parquet") for cells, keys in (
        (joined, SEPARATED), (bracketed, {}), (flags, FLAGS),
    )),
    ("jsonl", list, {}),
    ("parquet", list, {}),
]  # fmt: skip


@pytest.mark.parametrize("modality", ["text", "speech"])
@pytest.mark.parametrize(("suffix", "cells", "keys"), FORMS, ids=lambda value: getattr(value, "__name__", str(value)))
def test_several_labels_are_read_from_every_kind_of_table(tmp_path, suffix, cells, keys, modality):
    place = write(tmp_path / f"a.{suffix}", modality, cells)
    opened = source(place, modality, **keys)
    assert opened.several
    assert (opened.labels, opened.examples["label"].to_pylist()) == (LABELS, NUMBERS)
    assert opened.total == 4
    first = source(place, modality, 2, **keys)  # labels are those of the whole table
    assert (first.labels, first.examples["label"].to_pylist(), first.total) == (LABELS, NUMBERS[:2], 4)
    unlabelled = open_source(
        DatasetConfig(name=str(place), text_column="text"), CONTENT[modality], None, labelled=False
    )
    assert not unlabelled.several
    assert unlabelled.labels == ()


FEATURES = [datasets.Sequence(datasets.ClassLabel(names=["joy", "fear", "anger"])), None]
FEATURES[1] = [datasets.ClassLabel(names=["joy", "fear", "anger"])]


@pytest.mark.parametrize("feature", FEATURES, ids=["sequence", "list"])
def test_the_hubs_lists_of_classes_keep_their_order_in_shards(tmp_path, feature):
    (tmp_path / "data").mkdir()
    features = datasets.Features(text=datasets.Value("string"), label=feature)
    for number, rows in enumerate(([[1], []], [[1, 0], None])):
        part = datasets.Dataset.from_dict({"text": ["a", "b"], "label": rows}, features=features)
        part.to_parquet(tmp_path / "data" / f"train-0000{number}-of-00002.parquet")
    opened = source(tmp_path)
    assert opened.labels == ("joy", "fear", "anger")
    assert opened.examples["label"].to_pylist() == [[1], [], [0, 1], []]
    assert source(tmp_path, label_map={"joy": "up", "anger": ""}).labels == ("up",)


@pytest.mark.parametrize("feature", FEATURES, ids=["sequence", "list"])
def test_a_dataset_on_the_hub_may_have_them(monkeypatch, feature):
    features = datasets.Features(
        text=datasets.Value("string"), label=feature, joy=datasets.Value("int8"), fear=datasets.Value("bool")
    )
    rows = {"text": ["a", "b", "c"], "label": [[2, 0], [], [0]], "joy": [1, 0, 0], "fear": [True, False, True]}
    split = datasets.Dataset.from_dict(rows, features=features)
    monkeypatch.setattr("golem_ray.hub.resolve_commit", lambda *_: "c" * 40)
    monkeypatch.setattr("golem_ray.data.hub_dataset._load_split", lambda *_: (split, "c" * 40))
    opened = source("some/texts", max_samples=2)
    assert opened.labels == ("joy", "fear", "anger")
    assert opened.examples["label"].to_pylist() == [[0, 2], []]
    opened = source("some/texts", label_columns=("joy", "fear"))
    assert (opened.labels, opened.examples["label"].to_pylist()) == (("joy", "fear"), [[0, 1], [], [1]])
    mapped = source("some/texts", label_map={"joy": "up", "anger": "down", "fear": ""})
    assert (mapped.labels, mapped.examples["label"].to_pylist()) == (("up", "down"), [[0, 1], [], [0]])
    with pytest.raises(DataError, match=r"^dataset\.label_columns: .* none called 'rage'; .* --dataset\.label-columns"):
        source("some/texts", label_columns=("joy", "rage"))


def test_shards_may_write_them_each_in_its_way_but_not_as_lists_and_as_text(tmp_path):
    (tmp_path / "data").mkdir()

    def shard(number, values, kind):
        table = pa.table({"text": ["a"] * len(values), "label": pa.array(values, kind)})
        pq.write_table(table, tmp_path / "data" / f"train-0000{number}.parquet")

    shard(0, [["b"], None], pa.list_(pa.string()))
    shard(1, [["a", "b"]], pa.large_list(pa.string()))
    shard(2, [[]], pa.list_(pa.null()))
    opened = source(tmp_path)
    assert (opened.labels, opened.examples["label"].to_pylist()) == (("a", "b"), [[1], [], [0, 1], []])
    shard(3, ["a"], pa.string())
    with pytest.raises(DataError, match=r"^dataset\.label_column: expected lists of labels in all files or in none"):
        source(tmp_path)


def test_an_empty_column_of_lists_is_no_label_at_all(tmp_path):
    write(tmp_path / "a.jsonl", "text", lambda labels: [])
    with pytest.raises(DataError, match="found no label at all"):
        source(tmp_path / "a.jsonl")


def test_a_column_that_is_not_there_is_named(tmp_path):
    write(tmp_path / "a.csv", "text", flags)
    with pytest.raises(DataError, match=r"^dataset\.label_columns: expected a column of a\.csv, found none called 'x'"):
        source(tmp_path / "a.csv", label_columns=("joy", "x"))


def test_folders_that_are_labels_are_separated_and_called_otherwise(tmp_path):
    for name in ("joy;fear/1.txt", "fear/1.txt", "dull/1.txt"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(name)
    opened = source(tmp_path, label_separator=";")
    assert (opened.labels, opened.examples["label"].to_pylist()) == (("dull", "fear", "joy"), [[0], [1], [1, 2]])
    assert source(tmp_path, max_samples=2, label_separator=";").examples["label"].to_pylist() == [[0], [1]]
    opened = source(tmp_path, label_map={"fear": "afraid", "dull": "", "joy;fear": "both"})
    assert (opened.labels, opened.examples["label"].to_pylist()) == (("afraid", "both"), [None, 0, 1])
    assert source(tmp_path).labels == ("dull", "fear", "joy;fear")
    with pytest.raises(DataError, match=r"^dataset\.label_columns: expected metadata"):
        source(tmp_path, label_columns=("joy", "fear"))


def test_clips_in_a_folder_have_them_in_its_metadata(tmp_path):
    clips = write_clips(tmp_path / "set", ["a;b", "b", "", "c;a"], seconds=0.05)
    opened = source(clips, "speech", label_separator=";")
    assert (opened.labels, opened.examples["label"].to_pylist()) == (("a", "b", "c"), [[0, 1], [1], [], [0, 2]])


def split_folder(folder, **splits):
    """A folder of a .jsonl a split; values are each row's label."""
    folder.mkdir()
    for split, rows in splits.items():
        lines = [json.dumps({"text": f"{split} {row}", "label": label}) for row, label in enumerate(rows)]
        (folder / f"{split}.jsonl").write_text("\n".join(lines))
    return folder


def config_on(name, **groups):
    dataset = {"name": str(name), "label_column": "label", "text_column": "text", **groups.pop("dataset", {})}
    return config_from_dict({"dataset": dataset, **groups})


def divided(name, **groups):
    config = config_on(name, **groups)
    main = open_source(config.dataset, CONTENT["text"], config.processing.limit)
    return divide(config, main, CONTENT["text"])


MANY = [["a", "b"], ["b"], [], ["a"], ["b", "a"], ["a"], ["b"], ["a", "b"]]


@pytest.mark.parametrize(("trained", "tested"), [(MANY, ["a", "b"]), (["a", "b"] * 4, MANY)], ids=["train", "test"])
def test_one_label_in_one_split_and_several_in_the_other_is_refused(tmp_path, trained, tested):
    folder = split_folder(tmp_path / "set", train=trained, test=tested)
    with pytest.raises(DataError, match=r"^evaluation\.split: expected 'test' to have labels as 'train'") as error:
        divided(folder, evaluation={"split": "test"})
    assert "\n" not in str(error.value)


def test_a_split_is_numbered_by_the_labels_that_are_trained_on(tmp_path):
    folder = split_folder(tmp_path / "set", train=MANY, test=[["c", "b"], ["0"], []])
    division = divided(folder, evaluation={"split": "test"})
    assert (division.several, division.source.labels, division.names) == (True, ("a", "b"), ("a", "b", "0", "c"))
    assert division.source.examples["label"].to_pylist()[8:] == [[1, 3], [2], []]
    assert division.labels_of(np.arange(8, 11), division.names).tolist() == [
        [False, True, False, True],
        [False, False, True, False],
        [False] * 4,
    ]
    assert division.labelled(8) == "'b', 'c'"
    assert division.labelled(10) == "nothing"
    assert division.known.all()


def test_labels_that_only_the_other_source_names_and_no_example_of_it_has_are_left_out():
    for column in (pa.array([[0, 3], [], None], pa.list_(pa.int64())), pa.array([0, 3, None])):
        examples = pa.table({"id": [0, 1, 2], "label": column})
        names, table = renumbered(Source(examples=examples, labels=("b", "z", "a", "c")), ("a", "b"))
        assert names == ("a", "b", "c")
        assert table["label"].to_pylist() == ([[1, 2], [], None] if pa.types.is_list(column.type) else [1, 2, None])


def test_a_holdout_leaves_one_of_each_label(tmp_path):
    division = divided(split_folder(tmp_path / "set", train=MANY), evaluation={"holdout": 4})
    assert division.tested.sum() == 4
    assert division.labels_of(np.flatnonzero(~division.tested)).any(axis=0).all()


def test_extra_datasets_have_several_labels_too_by_name(tmp_path):
    main = split_folder(tmp_path / "main", train=MANY)
    extra = split_folder(tmp_path / "extra", train=[["b"], [], ["b", "a"]])
    table = {"name": str(extra), "label_column": "label", "text_column": "text"}
    division = divided(main, dataset={"extra": [table]}, evaluation={"holdout": 2})
    assert division.source.examples["label"].to_pylist()[8:] == [[1], [], [0, 1]]
    assert not division.tested[8:].any()
    assert division.counts(np.arange(11)) == [8, 3]


def test_an_extra_dataset_with_one_label_a_row_or_with_other_labels_is_refused(tmp_path):
    main = split_folder(tmp_path / "main", train=MANY)
    for rows, said in (
        (["a", "b"], r"dataset\.extra\[0\]\.label_column: expected several labels for each text, .*, found one label"),
        ([["b", "c"]], r"dataset\.extra\[0\]\.label_column: .* found 1 others in .* \(c\)"),
    ):
        extra = split_folder(tmp_path / f"extra-{len(rows)}", train=rows)
        table = {"name": str(extra), "label_column": "label", "text_column": "text"}
        with pytest.raises(DataError, match=said) as error:
            divided(main, dataset={"extra": [table]})
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"evaluation": {"reject": 0.9}}, r"evaluation\.reject: expected none where an example may have several"),
        ({"head": {"class_weights": [1.0, 2.0, 3.0]}}, r"head\.class_weights: expected 2 numbers, .* a, b, got 3"),
        ({"model": {"classifier_output_classes": 3}}, r"model\.classifier_output_classes: expected 2"),
    ],
    ids=["reject", "weights", "classes"],
)
def test_what_does_not_go_with_several_labels_is_refused(tmp_path, keys, said):
    config = config_on(split_folder(tmp_path / "set", train=MANY), **keys)
    with pytest.raises(ConfigError, match=said):
        check_classes(config, open_source(config.dataset, CONTENT["text"], None))
