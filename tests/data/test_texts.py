"""Texts in a column of their own, or in files: which examples every source gives, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from golem_ray.config import DatasetConfig
from golem_ray.data import columns_of, open_source, read_content, with_contents
from golem_ray.data.files import open_paths
from golem_ray.data.table import Source, example_name
from golem_ray.errors import DataError, ExampleError
from golem_ray.text import MODALITY

ROWS = (
    ("Какой прекрасный день!", "joy"),
    ("Я очень зол; мне, кажется, «плохо»", "anger"),
    ("две\nстроки", "joy"),
    (None, "anger"),
    ('с "кавычками"', None),
    ("clips/1.wav", "joy"),
)

LISTED = [(None if text is None else text.encode(), label) for text, label in ROWS]


def source(name: object, max_samples: int | None = None, **keys: Any) -> Source:
    dataset = DatasetConfig(name=str(name), **{"text_column": "text", "label_column": "label", **keys})
    return open_source(dataset, MODALITY.content, max_samples)


def listed(opened: Source) -> list[tuple[bytes | None, str | None]]:
    """(text, label) of each example, as a worker has them."""
    examples = with_contents(opened.examples)
    assert examples["path"].null_count == len(examples)
    labels = [None if row is None else opened.labels[row] for row in opened.examples["label"].to_pylist()]
    return list(zip(examples["bytes"].to_pylist(), labels, strict=True))


def csv_text(separator: str = ",") -> str:
    quoted = [[f'"{cell.replace(chr(34), chr(34) * 2)}"' if cell else "" for cell in row] for row in ROWS]
    return "\n".join([f"text{separator}label", *(separator.join(row) for row in quoted)]) + "\n"


def table(kind: pa.DataType) -> pa.Table:
    texts, labels = zip(*ROWS, strict=True)
    return pa.table({"text": pa.array(texts, pa.string()).cast(kind), "label": list(labels)})


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("a.csv", {}),
        ("a.csv", {"delimiter": ";"}),
        ("a.csv", {"delimiter": ";", "encoding": "cp1251"}),
        ("a.csv", {"encoding": "utf-16"}),
        ("a.tsv", {}),
        ("a.jsonl", {}),
        ("a.xlsx", {}),
    ],
    ids=str,
)
def test_texts_are_read_from_every_kind_of_table(tmp_path, name, keys):
    if name.endswith((".csv", ".tsv")):
        separator = "\t" if name.endswith(".tsv") else keys.get("delimiter", ",")
        (tmp_path / name).write_bytes(csv_text(separator).encode(keys.get("encoding", "utf-8")))
    elif name.endswith(".jsonl"):
        lines = [json.dumps({"text": text, "label": label}) for text, label in ROWS]
        (tmp_path / name).write_text("\n".join(lines))
    else:
        openpyxl = pytest.importorskip("openpyxl")
        book = openpyxl.Workbook()
        for row in (("text", "label"), *ROWS):
            book.active.append(row)
        book.save(tmp_path / name)
    opened = source(tmp_path / name, **keys)
    assert listed(opened) == LISTED
    assert opened.labels == ("anger", "joy")
    assert (opened.total, opened.noun.many) == (6, "texts")
    assert listed(source(tmp_path / name, 2, **keys)) == LISTED[:2]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary()], ids=str)
def test_texts_of_parquet_stay_in_their_shard_until_a_worker_reads_them(tmp_path, kind):
    pq.write_table(table(kind), tmp_path / "a.parquet", row_group_size=4)
    opened = source(tmp_path / "a.parquet")
    assert opened.examples["bytes"].null_count == len(ROWS)  # the driver has none of them
    assert opened.examples["shard"].to_pylist() == [str(tmp_path / "a.parquet")] * len(ROWS)
    assert listed(opened) == LISTED
    some = with_contents(opened.examples.take([5, 0, 4]))
    assert some["bytes"].to_pylist() == [LISTED[row][0] for row in (5, 0, 4)]
    assert listed(source(tmp_path / "a.parquet", 2)) == LISTED[:2]


def test_texts_that_another_library_wrote_with_a_dictionary_are_read_too(tmp_path):
    pq.write_table(table(pa.dictionary(pa.int32(), pa.string())), tmp_path / "a.parquet")
    assert listed(source(tmp_path / "a.parquet")) == LISTED


def test_a_folder_as_the_hub_lays_it_out(tmp_path):
    (tmp_path / "data").mkdir()
    features = datasets.Features(
        text=datasets.Value("string"), label=datasets.ClassLabel(names=["joy", "anger", "fear"])
    )
    rows = {"text": [row[0] for row in ROWS[:3]], "label": [0, 1, 0]}
    for split, number in (("train", 2), ("test", 1)):
        part = datasets.Dataset.from_dict({key: values[:number] for key, values in rows.items()}, features=features)
        part.to_parquet(tmp_path / "data" / f"{split}-00000-of-00001.parquet")
    assert source(tmp_path).labels == ("joy", "anger", "fear")
    assert listed(source(tmp_path)) == LISTED[:2]
    assert listed(source(tmp_path, split="test")) == LISTED[:1]


def test_a_dataset_on_the_hub(monkeypatch):
    features = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=["joy", "anger"]))
    split = datasets.Dataset.from_dict({"text": [row[0] for row in ROWS[:4]], "label": [0, 1, 0, 1]}, features=features)
    monkeypatch.setattr("golem_ray.hub.resolve_commit", lambda *_: "c" * 40)
    monkeypatch.setattr("golem_ray.data.hub_dataset._load_split", lambda *_: (split, "c" * 40))
    opened = source("some/texts")
    assert listed(opened) == LISTED[:4]
    assert (opened.labels, opened.total, opened.revision, opened.noun.many) == (("joy", "anger"), 4, "c" * 40, "texts")
    with pytest.raises(DataError, match=r"^dataset\.text_column: expected texts, found int64\.$"):
        source("some/texts", text_column="label")
    with pytest.raises(DataError, match=r"none called 'words'; it has text, label: .* --dataset\.text-column\.$"):
        source("some/texts", text_column="words")


def test_files_in_a_folder_per_label(tmp_path):
    for name, text in (("joy/1.txt", "ура"), ("joy/2.txt", "ого"), ("anger/1.txt", "ну вот"), ("joy/.hidden", "")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    opened = source(tmp_path)
    assert opened.labels == ("anger", "joy")
    assert opened.examples["label"].to_pylist() == [0, 1, 1]
    found = [read_content(None, path, "text").decode() for path in opened.examples["path"].to_pylist()]
    assert found == ["ну вот", "ура", "ого"]
    unlabelled = open_paths(
        [str(tmp_path)], columns_of(DatasetConfig(text_column="text"), MODALITY.content, labelled=False)
    )
    assert unlabelled.examples["path"].to_pylist() == [
        f"{tmp_path}/{name}.txt" for name in ("anger/1", "joy/1", "joy/2")
    ]
    with pytest.raises(ExampleError, match="^missing file$"):
        read_content(None, str(tmp_path / "none.txt"), "text")


def test_metadata_may_name_files_of_texts(tmp_path):
    (tmp_path / "a.txt").write_text("ура")
    (tmp_path / "metadata.csv").write_text("file_name,label\na.txt,joy\nb.txt,anger\n")
    opened = source(tmp_path)
    assert opened.examples["path"].to_pylist() == [f"{tmp_path}/a.txt", f"{tmp_path}/b.txt"]
    assert opened.examples["bytes"].null_count == 2


def test_a_text_is_named_by_its_row_alone(tmp_path):
    (tmp_path / "a.csv").write_text(csv_text())
    opened = source(tmp_path / "a.csv")
    assert example_name(3, opened.examples["path"][3].as_py(), opened.noun) == "text 3"


@pytest.mark.parametrize(
    ("kind", "values"), [("int64", [1, 2]), ("double", [1.5, 2]), ("list<item: string>", [["a"], ["b"]])]
)
@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_a_column_that_is_no_text_is_one_clear_error(tmp_path, suffix, kind, values):
    rows = [{"text": value, "label": label} for value, label in zip(values, "ab", strict=True)]
    place = tmp_path / f"a.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), place)
    else:
        place.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(DataError, match=rf"^dataset\.text_column: expected texts, found {kind[:4]}.*\.$") as error:
        source(place)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_column_that_is_not_there_is_said_with_those_that_are_and_the_flag(tmp_path, suffix):
    place = tmp_path / f"a.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.table({"words": ["a"], "label": ["b"]}), place)
    else:
        place.write_text("words,label\na,b\n" if suffix == "csv" else '{"words": "a", "label": "b"}\n')
    with pytest.raises(DataError) as error:
        source(place)
    assert str(error.value) == (
        f"dataset.text_column: expected a column of a.{suffix}, found none called 'text'; it has words, label: name "
        "one by --dataset.text-column."
    )


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "мой секрет, и не один,joy\n", "expected 2 columns, found 3 in row 2; put cells"),
        ("a.csv", 'мой секрет,joy\n"мой секрет,joy\n', "expected 2 columns, found 1 in row 3; put cells"),
        ("a.csv", "мой секрет,joy\n" * 90_000 + "мой секрет\n", "expected 2 columns, found 1 in a row; put cells"),
        ("a.jsonl", '{"text": "мой секрет" "label": "joy"}\n', "JSON parse error"),
        ("a.jsonl", '{"text": "секрет"}\n{"text": ["секрет"]}\n', "JSON parse error"),
    ],
    ids=range(5),
)
def test_what_is_wrong_with_a_table_is_said_without_its_texts(tmp_path, name, content, said):
    (tmp_path / name).write_text(("text,label\n" if name == "a.csv" else "") + content)
    with pytest.raises(DataError) as error:
        source(tmp_path / name)
    assert f"{name}: " in str(error.value) or str(tmp_path / name) in str(error.value)
    assert said in str(error.value)
    assert "секрет" not in str(error.value)
    assert "\n" not in str(error.value)
