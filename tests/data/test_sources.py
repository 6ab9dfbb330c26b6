"""Folders, manifests and Parquet shards: which examples they give, in which order, and what is refused."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from golem_ray.config import NOUNS, DatasetConfig, EvaluationConfig, TrainConfig
from golem_ray.data import open_source
from golem_ray.data.encode import encode_labels
from golem_ray.data.files import open_paths, other_splits
from golem_ray.data.shards import with_contents
from golem_ray.data.split import divide
from golem_ray.data.table import Columns, Content, columns_of, example_name, read_content
from golem_ray.data.unusable import example_at
from golem_ray.errors import DataError, ExampleError
from golem_ray.speech import MODALITY
from tests.conftest import ROOT, audio_bytes, tone, write_clips

CLIPS = MODALITY.content


def source(name, max_samples=None, **keys):
    return open_source(DatasetConfig(name=str(name), **{"label_column": "label", **keys}), CLIPS, max_samples)


def contents(clips) -> list[bytes | None]:
    assert clips["bytes"].null_count == len(clips)  # the driver has none of them
    return with_contents(clips)["bytes"].to_pylist()


def names(opened) -> list[str | None]:
    return [None if row is None else opened.labels[row] for row in opened.examples["label"].to_pylist()]


def test_metadata_csv_gives_clips_in_its_order(tmp_path):
    folder = write_clips(tmp_path / "set", ["b", "a", "c", "a"])
    opened = source(folder)
    assert opened.labels == ("a", "b", "c")
    assert names(opened) == ["b", "a", "c", "a"]
    assert opened.examples["id"].to_pylist() == [0, 1, 2, 3]
    assert opened.examples["path"].to_pylist() == [f"{folder}/clips/{row}.wav" for row in range(4)]
    assert opened.examples["bytes"].null_count == 4
    assert source(folder / "metadata.csv").examples.equals(opened.examples)


def test_labels_are_sorted_over_the_whole_source_not_the_first_clips(tmp_path):
    opened = source(write_clips(tmp_path / "set", ["z", "y", "a"]), 2)
    assert opened.labels == ("a", "y", "z")
    assert names(opened) == ["z", "y"]
    assert opened.total == 3


def test_the_other_manifests_say_the_same(tmp_path):
    folder = write_clips(tmp_path / "set", ["b", "a", "b"])
    expected = source(folder)
    rows = [{"file_name": f"clips/{row}.wav", "label": label} for row, label in enumerate(["b", "a", "b"])]
    (folder / "metadata.csv").unlink()
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert source(folder).examples.equals(expected.examples)
    (folder / "metadata.jsonl").unlink()
    pq.write_table(pa.Table.from_pylist(rows), folder / "metadata.parquet")
    assert source(folder).examples.equals(expected.examples)
    pq.write_table(
        pa.table({"audio": [f"{folder}/clips/{row}.wav" for row in range(3)], "label": ["b", "a", "b"]}),
        tmp_path / "manifest.parquet",
    )
    assert source(tmp_path / "manifest.parquet").examples.equals(expected.examples)
    assert source(f"file://{tmp_path}/manifest.parquet").examples.equals(expected.examples)


def test_a_folder_per_label_is_taken_in_turn(tmp_path):
    for label, count in (("yes", 3), ("no", 1), ("maybe", 2)):
        (tmp_path / label).mkdir()
        for number in range(count):
            (tmp_path / label / f"{number}.wav").write_bytes(audio_bytes(tone(number)))
    (tmp_path / "README.md").write_text("about")
    (tmp_path / "stray.wav").write_bytes(audio_bytes(tone(9)))
    (tmp_path / "yes" / ".hidden").write_text("")
    opened = source(tmp_path)
    assert opened.labels == ("maybe", "no", "yes")
    assert names(opened) == [None, "maybe", "no", "yes", "maybe", "yes", "yes"]
    assert names(source(tmp_path, 3)) == [None, "maybe", "no"]
    assert (source(tmp_path, 3).total, opened.total) == (7, 7)
    (tmp_path / "no ").mkdir()
    (tmp_path / "no " / "9.wav").write_bytes(audio_bytes(tone(8)))
    assert names(source(tmp_path)) == [None, "maybe", "no", "yes", "maybe", "no", "yes", "yes"]


def test_label_folders_may_be_links_and_may_be_called_train(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    for folder in (tmp_path / "set" / "train" / "one", tmp_path / "set" / "car", elsewhere):
        folder.mkdir(parents=True)
        (folder / "a.WAV").write_bytes(audio_bytes(tone(0)))
    (tmp_path / "set" / "bus").symlink_to(elsewhere)
    opened = source(tmp_path / "set")
    assert opened.labels == ("bus", "car", "train")
    assert names(opened) == ["bus", "car", "train"]


def test_a_folder_that_this_user_may_not_list_is_named(tmp_path, monkeypatch, caplog):
    for label in ("in", "out"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "clip.wav").write_bytes(b"")
    scandir = os.scandir

    def refuse(place):
        def refused(path):
            if path == str(place):
                raise PermissionError(13, "Permission denied", path)
            return scandir(path)

        monkeypatch.setattr(os, "scandir", refused)

    refuse(tmp_path / "out")
    assert source(tmp_path).labels == ("in",)
    assert f"{tmp_path}/out cannot be listed (Permission denied): what is in it is left out" in caplog.text
    refuse(tmp_path)
    with pytest.raises(DataError, match=r"expected \S+ to be readable, but PermissionError: .*Permission denied"):
        source(tmp_path)


def test_names_are_taken_literally(tmp_path):
    for name in ("set[1]", "a::b", "x*?#"):
        (tmp_path / name / "yes::no").mkdir(parents=True)
        (tmp_path / name / "yes::no" / "a::b.wav").write_bytes(b"sound")
        (tmp_path / name / "other").mkdir()
        (tmp_path / name / "other" / "1.wav").write_bytes(b"sound")
        opened = source(tmp_path / name)
        assert opened.labels == ("other", "yes::no")
        assert {read_content(None, path) for path in opened.examples["path"].to_pylist()} == {b"sound"}
    pq.write_table(pa.table({"audio": [b"x", b"y"], "label": [0, 1]}), tmp_path / "set[1]" / "train-0.parquet")
    assert source(tmp_path / "set[1]").labels == ("0", "1")


@pytest.mark.parametrize(
    ("first", "second", "labels"),
    [
        (pa.array(["a", "b"]), pa.array(["b", None], pa.large_string()), ["a", "b", "b", None]),
        (pa.array([0, 1], pa.int32()), pa.array([1, 1], pa.int64()), ["0", "1", "1", "1"]),
        (pa.array(["a", "b"]), pa.nulls(2), ["a", "b", None, None]),
        (pa.nulls(2), pa.array([3, 4]), [None, None, "3", "4"]),
        (pa.array(["a", "7"]), pa.array([7, 8]), ["a", "7", "7", "8"]),
    ],
)
def test_shards_may_write_their_labels_differently(tmp_path, first, second, labels):
    for shard, column in enumerate((first, second)):
        table = pa.table({"audio": [b"x", b"y"], "label": column})
        pq.write_table(table, tmp_path / f"train-{shard}.parquet")
    assert names(source(tmp_path)) == labels


def test_splits_are_subfolders_or_manifests_of_that_name(tmp_path):
    write_clips(tmp_path / "a" / "train", ["x", "y"])
    write_clips(tmp_path / "a" / "test", ["y", "x", "y"])
    assert names(source(tmp_path / "a")) == ["x", "y"]
    assert names(source(tmp_path / "a", split="test")) == ["y", "x", "y"]
    with pytest.raises(DataError, match="dataset.split: expected a subfolder or a manifest called 'dev'"):
        source(tmp_path / "a", split="dev")

    assert other_splits(DatasetConfig(name=str(tmp_path / "a"))) == ["test"]
    assert other_splits(DatasetConfig(name=str(tmp_path / "a" / "test"))) == []
    assert other_splits(DatasetConfig(name="some/dataset")) == []

    (tmp_path / "b" / "de").mkdir(parents=True)
    for shard, labels in enumerate((["u", "v"], ["w", "u"])):
        table = pa.table({"audio": [audio_bytes(tone(shard))] * 2, "label": labels})
        pq.write_table(table, tmp_path / "b" / "de" / f"train-{shard:05d}-of-00002.parquet")
    assert names(source(tmp_path / "b", 3, name_alias="de")) == ["u", "v", "w"]
    assert other_splits(DatasetConfig(name=str(tmp_path / "b"), name_alias="de", split="test")) == ["train"]


def test_audio_bytes_may_lie_in_the_parquet_file(tmp_path):
    clips = [audio_bytes(tone(row)) for row in range(3)]
    pq.write_table(pa.table({"audio": clips, "label": [2, 0, 2]}), tmp_path / "plain.parquet")
    hub = pa.table({"audio": [{"bytes": clip, "path": f"{row}.wav"} for row, clip in enumerate(clips)]})
    hub = hub.append_column("label", pa.array([2, 0, 2]))
    features = {"label": {"names": ["p", "q", "r", "s"], "_type": "ClassLabel"}}
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    pq.write_table(hub.replace_schema_metadata(metadata), tmp_path / "hub.parquet")

    plain = source(tmp_path / "plain.parquet", 2)
    assert contents(plain.examples) == clips[:2]
    assert plain.labels == ("0", "2")
    opened = source(tmp_path / "hub.parquet")
    assert opened.labels == ("p", "q", "r", "s")  # unused classes keep their index
    assert opened.examples["label"].to_pylist() == [2, 0, 2]
    assert contents(opened.examples) == clips
    assert opened.examples["path"].to_pylist() == ["0.wav", "1.wav", "2.wav"]


@pytest.mark.parametrize(
    ("values", "class_names", "labels", "indices"),
    [
        (["b", None, "a", ""], None, ("a", "b"), [1, None, 0, None]),
        (["10", "9", "10"], None, ("9", "10"), [1, 0, 1]),
        (["10", "x"], None, ("10", "x"), [0, 1]),
        ([3, 1, 3], None, ("1", "3"), [1, 0, 1]),
        ([1.0, None, 0.0], None, ("0", "1"), [1, None, 0]),
        ([0, 2, -1, 3], ["u", "v", "w"], ("u", "v", "w"), [0, 2, None, None]),
        (["w", "nobody"], ["u", "v", "w"], ("u", "v", "w"), [2, None]),
        ([True, False], None, ("false", "true"), [1, 0]),
        (["anger", " anger\t", "cafe\u0301", "caf\u00e9", "  "], None, ("anger", "caf\u00e9"), [0, 0, 1, 1, None]),
        ([2, 1, 0, 3], ["u", "v", " u"], ("u", "v"), [0, 1, 0, None]),
        (["u", "v "], ["u ", "v"], ("u", "v"), [0, 1]),
    ],
)
def test_labels_may_be_names_or_integers(values, class_names, labels, indices):
    got, encoded = encode_labels(pa.chunked_array([pa.array(values)]), class_names)
    assert (got, encoded.to_pylist()) == (labels, indices)


def test_dictionary_columns_are_read_as_their_values():
    column = pa.chunked_array([pa.array(["b", "a", "b"]).dictionary_encode()])
    assert encode_labels(column, None)[1].to_pylist() == [1, 0, 1]


@pytest.mark.parametrize("values", [[{"bytes": b"x"}], [["a"]], [b"x"]])
def test_a_column_that_holds_no_labels_is_refused(values):
    with pytest.raises(DataError, match="dataset.label_column: expected names or integers, found"):
        encode_labels(pa.chunked_array([pa.array(values)]), None)


def test_what_is_not_there_is_named(tmp_path):
    folder = write_clips(tmp_path / "set", ["a", "b"])
    cases = {
        "dataset.label_column: expected a column of metadata.csv, found none called 'intent'; it has file_name": {
            "name": folder,
            "label_column": "intent",
        },
        "dataset.split: expected a subfolder": {"name": folder, "split": "test"},
        "dataset.split: expected 'train', the only split": {"name": folder / "metadata.csv", "split": "test"},
        "found nothing at '/no/such/folder'": {"name": "/no/such/folder"},
        "found nothing at 'file:///no/such": {"name": "file:///no/such/folder"},
        "found nothing at './clips'": {"name": "./clips"},
        "found nothing at 'absent.csv'": {"name": "absent.csv"},
        "expected .* to be readable, but ": {"name": "nosuchprotocol://x/y.csv"},
        "expected a folder or a manifest .*, found": {"name": folder / "clips" / "0.wav"},
    }
    for words, keys in cases.items():
        with pytest.raises(DataError, match=words):
            source(**keys)


@pytest.mark.parametrize("name", ["sample-digit", "Sample_Digits", "./sample-digit"])
def test_a_name_near_a_bundled_datasets_is_answered_with_that(name):
    with pytest.raises(DataError, match=r"^dataset.name: expected .* Bundled under a name like it: sample-digits\.$"):
        source(name)


def test_a_name_near_none_is_not_answered_with_what_is_bundled():
    for name in ("./clips", "PolyAI/minds14"):
        with pytest.raises(DataError, match="dataset.name: expected") as caught:
            source(name)
        assert "undled" not in str(caught.value)


def test_a_manifest_of_several_columns_without_audio_says_which_it_has(tmp_path):
    (tmp_path / "m.csv").write_text("sound,label\nx.wav,a\n")
    with pytest.raises(DataError, match="dataset.audio_column: .* none called 'audio'; it has sound, label"):
        source(tmp_path / "m.csv")
    (tmp_path / "m.csv").write_text("sound,label\nx.wav,a\ny.wav,b\n")
    assert source(tmp_path / "m.csv", audio_column="sound").examples["path"][0].as_py() == f"{tmp_path}/x.wav"


def test_a_label_column_called_audio_leaves_the_files_to_file_name(tmp_path):
    (tmp_path / "m.CSV").write_text('file_name,audio,note\nx.wav,a,"two\nlines"\ny.wav,b,\n')
    opened = source(tmp_path / "m.CSV", label_column="audio")
    assert names(opened) == ["a", "b"]
    assert opened.examples["path"].to_pylist() == [f"{tmp_path}/x.wav", f"{tmp_path}/y.wav"]


def test_a_column_that_is_there_twice_is_refused(tmp_path):
    (tmp_path / "m.csv").write_text("file_name,label,label\nx.wav,a,b\n")
    with pytest.raises(DataError, match=r"dataset.label_column: expected one column 'label' in .*, found several"):
        source(tmp_path / "m.csv")


def test_sources_without_clips_or_labels_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "m.csv").write_text("audio,label\n")
    for name in (tmp_path / "empty", tmp_path / "m.csv"):
        with pytest.raises(DataError, match="expected clips, found none"):
            source(name)
    with pytest.raises(DataError, match="expected classes in .*, found no label at all"):
        source(write_clips(tmp_path / "none", ["", ""]))
    assert source(write_clips(tmp_path / "one", ["only", "only"])).labels == ("only",)  # will do for testing


def test_broken_manifests_are_reported_in_words(tmp_path):
    for name in ("m.parquet", "m.jsonl", "m.csv"):
        (tmp_path / name).write_bytes(b'{"a": \xff\n"x,,\n1,2,3,4\n')
        with pytest.raises(DataError, match="expected .* to be readable|expected a column|other bytes in line 1"):
            source(tmp_path / name)


def test_a_file_gives_its_bytes_or_a_reason(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"sound")
    os.mkfifo(tmp_path / "pipe.wav")
    assert read_content(b"held", "ignored") == b"held"
    assert read_content(None, str(tmp_path / "a.wav")) == b"sound"
    assert read_content(None, f"file://{tmp_path}/a.wav") == b"sound"
    for path, reason in (
        (str(tmp_path / "b.wav"), "missing file"),
        (str(tmp_path), "a folder, not a file"),
        (str(tmp_path / "pipe.wav"), "a pipe, not a file"),
        ("/dev/zero", "a device, not a file"),
        ("file:///dev/zero", "a device, not a file"),
        (None, "no sound"),
        ("nosuchprotocol://x", "cannot be read"),
    ):
        with pytest.raises(ExampleError, match=reason):
            read_content(None, path, "sound")


def test_a_clip_is_named_without_its_secrets():
    assert example_name(3, None, NOUNS["speech"]) == "clip 3"
    assert example_name(3, "/a/b.wav", NOUNS["speech"]) == "clip 3 (/a/b.wav)"
    assert example_name(3, "https://me:word@host/a.wav?token=x", NOUNS["speech"]) == "clip 3 (https://host/a.wav)"


def test_clips_without_labels_need_no_label_column(tmp_path):
    folder = write_clips(tmp_path / "set", ["a", "b", "a"])
    (folder / "metadata.csv").write_text("file_name\nclips/2.wav\nclips/0.wav\n")
    opened = open_source(DatasetConfig(name=str(folder)), CLIPS, None, labelled=False)
    assert opened.labels == ()
    assert [Path(path).name for path in opened.examples["path"].to_pylist()] == ["2.wav", "0.wav"]
    assert opened.examples["label"].to_pylist() == [0, 0]
    (folder / "metadata.csv").unlink()
    (folder / "clips" / "notes.txt").write_text("")
    (folder / ".hidden.wav").write_bytes(b"")
    opened = open_source(DatasetConfig(name=str(folder)), CLIPS, 2, labelled=False)
    assert [Path(path).name for path in opened.examples["path"].to_pylist()] == ["0.wav", "1.wav"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="expected clips, found none"):
        open_source(DatasetConfig(name=str(tmp_path / "empty")), CLIPS, None, labelled=False)


def test_names_that_are_no_utf_8_are_read_and_written_as_text(tmp_path):
    odd, proper = tmp_path / os.fsdecode(b"caf\xe9"), tmp_path / "café"
    for folder in (odd, proper):
        folder.mkdir()
        (folder / f"{folder.name}.wav").write_bytes(os.fsencode(folder.name))
    opened = source(tmp_path)
    paths, found = opened.examples["path"].to_pylist(), [b"caf\xe9", "café".encode()]
    assert opened.labels == (r"caf\xe9", "café")
    assert paths == [str(tmp_path / r"caf\xe9" / r"caf\xe9.wav"), str(proper / "café.wav")]
    assert [read_content(None, path) for path in paths] == found
    code = f"from golem_ray.data import read_content; print([read_content(None, path) for path in {paths!a}])"
    posix = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}  # there each name is ASCII
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, env=posix, text=True).strip() == str(found)

    (odd / "a.wav").write_bytes(b"listed")
    (odd / "list.csv").write_text("audio\na.wav\n")
    with (odd / "shard.parquet").open("wb") as file:
        pq.write_table(pa.table({"audio": [b"held"]}), file)
    columns = columns_of(DatasetConfig(), CLIPS, labelled=False)
    rows = open_paths([str(odd / "list.csv"), str(odd / "shard.parquet")], columns).examples
    assert [read_content(row["bytes"], row["path"]) for row in with_contents(rows).to_pylist()] == [b"listed", b"held"]


def test_paths_are_files_folders_and_manifests_in_the_order_given(tmp_path):
    folder = write_clips(tmp_path / "set", ["a", "b"])
    pq.write_table(pa.table({"audio": [b"x", b"y"], "label": ["a", "b"]}), tmp_path / "two.parquet")
    columns = columns_of(DatasetConfig(), CLIPS, labelled=False)
    opened = open_paths([str(tmp_path / "absent.wav"), str(folder), str(tmp_path / "two.parquet")], columns)
    assert opened.examples["id"].to_pylist() == [0, 1, 2, 3, 4]
    assert contents(opened.examples) == [None, None, None, b"x", b"y"]
    paths = opened.examples["path"].to_pylist()
    assert paths[:3] == [str(tmp_path / "absent.wav"), str(folder / "clips/0.wav"), str(folder / "clips/1.wav")]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"expected audio files \(\.wav, .* in the folder, found none"):
        open_paths([str(tmp_path / "empty")], columns)
    with pytest.raises(DataError, match=r"absent\.csv: expected to be able to read it"):
        open_paths([str(tmp_path / "absent.csv")], columns)
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(DataError, match=r"pipe\.csv: expected a manifest, found a pipe, not a file"):
        open_paths([str(tmp_path / "pipe.csv")], columns)


def test_the_columns_of_a_configuration_name_their_keys():
    dataset = DatasetConfig(audio_column="sound", label_column="intent")
    columns = columns_of(dataset, CLIPS, labelled=True, group="who")
    assert columns == Columns(content=CLIPS, column="sound", label="intent", group="who")
    keys = ["dataset.audio_column", "dataset.label_column", "evaluation.group_column"]
    assert columns.needed() == list(zip(keys, ["sound", "intent", "who"], strict=True))
    assert columns_of(dataset, CLIPS, labelled=False).needed() == [("dataset.audio_column", "sound")]


def test_a_column_called_label_stands_in_for_the_default_one(tmp_path):
    folder = write_clips(tmp_path / "set", ["a", "b"])
    dataset = DatasetConfig(name=str(folder))
    assert dataset.label_column == "intent_class"
    opened = open_source(dataset, CLIPS, None)
    assert (opened.labels, names(opened)) == (("a", "b"), ["a", "b"])
    (folder / "metadata.csv").write_text("file_name,label,intent_class\nclips/0.wav,a,x\nclips/1.wav,b,y\n")
    assert open_source(dataset, CLIPS, None).labels == ("x", "y")
    (folder / "metadata.csv").write_text("file_name,label\nclips/0.wav,a\n")
    with pytest.raises(DataError, match=r"dataset.label_column: .* none called 'intent'; it has file_name, label"):
        open_source(dataclasses.replace(dataset, label_column="intent"), CLIPS, None)
    (folder / "metadata.csv").write_text("file_name,word\nclips/0.wav,a\n")
    with pytest.raises(DataError, match=r"dataset.label_column: .* none called 'intent_class'; it has file_name, word"):
        open_source(dataset, CLIPS, None)


def test_a_hub_dataset_may_call_its_labels_label_too(monkeypatch):
    split = datasets.Dataset.from_dict({"audio": ["x.wav", "y.wav"], "label": ["a", "b"]})
    monkeypatch.setattr("golem_ray.hub.resolve_commit", lambda *arguments: "c" * 40)
    monkeypatch.setattr("golem_ray.data.hub_dataset._load_split", lambda *arguments: (split, "c" * 40))
    opened = open_source(DatasetConfig(name="someone/clips"), CLIPS, None)
    assert (names(opened), opened.examples["path"].to_pylist()) == (["a", "b"], ["x.wav", "y.wav"])
    split = split.rename_column("label", "word")
    with pytest.raises(DataError, match="none called 'intent_class'; it has audio, word"):
        open_source(DatasetConfig(name="someone/clips"), CLIPS, None)


def test_which_files_hold_examples_the_content_says(tmp_path):
    """No kind of example is known to the sources themselves."""
    for name in ("a.note", "b.wav", "c.NOTE"):
        (tmp_path / name).write_bytes(b"x")
    notes = Content(key="dataset.audio_column", suffixes=(".note",), what="notes")
    dataset = DatasetConfig(name=str(tmp_path))
    opened = open_source(dataset, notes, None, labelled=False)
    assert [Path(path).name for path in opened.examples["path"].to_pylist()] == ["a.note", "c.NOTE"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"expected notes files \(\.note\) in the folder, found none"):
        open_paths([str(tmp_path / "empty")], columns_of(dataset, notes, labelled=False))


def test_what_examples_are_called_the_content_says(tmp_path):
    texts = Content(key="dataset.audio_column", suffixes=(".txt",), what="text", noun=NOUNS["text"])
    folder = tmp_path / "folder"
    for label in ("yes", "no"):
        (folder / label).mkdir(parents=True)
        (folder / label / "a.txt").write_text("x")
    (tmp_path / "m.csv").write_text("audio,label\na.txt,yes\n")
    shard = pa.table({"audio": [{"bytes": b"x", "path": "a.txt"}], "label": ["yes"]})
    pq.write_table(shard, tmp_path / "m.parquet")
    for name in (folder, tmp_path / "m.csv", tmp_path / "m.parquet"):
        dataset = DatasetConfig(name=str(name), label_column="label")
        for labelled in (True, False):
            assert open_source(dataset, texts, None, labelled=labelled).noun.many == "texts"
        assert open_paths([str(name)], columns_of(dataset, texts, labelled=False)).noun.many == "texts"
    opened = open_source(dataset, texts, None)
    assert example_at(opened, 0) == "text 0 (a.txt)"
    division = divide(TrainConfig(evaluation=EvaluationConfig(repeats=0)), opened, texts)
    assert division.noun.one == "text"
    assert division.name(0) == "text 0 (a.txt)"
    (tmp_path / "none.csv").write_text("audio,label\n")
    with pytest.raises(DataError, match=r"dataset\.name: expected texts, found none in"):
        open_source(DatasetConfig(name=str(tmp_path / "none.csv"), label_column="label"), texts, None)


def test_groups_are_read_where_a_column_is_named(tmp_path):
    folder = write_clips(tmp_path / "set", ["a", "b", "a"])
    (folder / "metadata.csv").write_text("file_name,label,who\nclips/0.wav,a,7\nclips/1.wav,b,\nclips/2.wav,a,x\n")
    dataset = DatasetConfig(name=str(folder), label_column="label")
    opened = open_source(dataset, CLIPS, 2, group_column="who")
    assert opened.examples["group"].to_pylist() == ["7", None]
    assert "group" not in open_source(dataset, CLIPS, 2).examples.column_names
    with pytest.raises(DataError, match=r"evaluation\.group_column: expected a column .* none called 'speaker'"):
        open_source(dataset, CLIPS, None, group_column="speaker")
    by_label = tmp_path / "labels"
    for name in ("yes", "no"):
        (by_label / name).mkdir(parents=True)
        (by_label / name / "0.wav").write_bytes(b"")
    with pytest.raises(DataError, match=r"evaluation\.group_column: expected metadata"):
        open_source(DatasetConfig(name=str(by_label)), CLIPS, None, group_column="who")


# --- Parquet shards -------------------------------------------------------------------------------------------


def write_shards(folder, sizes, group_rows=4, first=0):
    """Shards `train-0000n.parquet` of clips whose bytes are their number; the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    number = first
    for shard, size in enumerate(sizes):
        rows = [{"bytes": b"%d" % row, "path": f"{row}.wav"} for row in range(number, number + size)]
        labels = ["ab"[row % 2] for row in range(number, number + size)]
        table = pa.table({"audio": pa.array(rows, both_type()), "label": pa.array(labels, pa.string())})
        pq.write_table(table, folder / f"train-{shard:05}.parquet", row_group_size=group_rows)
        number += size
    return folder


def test_any_rows_of_any_shards_are_read_where_they_are_asked_for(tmp_path):
    opened = source(write_shards(tmp_path / "set", [10, 0, 7]))
    assert opened.examples["path"].to_pylist() == [f"{row}.wav" for row in range(17)]
    for wanted in ([0], [3, 4], [9, 10, 16], [2, 11], range(17), [8, 9, 0, 1, 8], [16, 3, 12, 3]):
        assert contents(opened.examples.take(list(wanted))) == [b"%d" % row for row in wanted]
    assert contents(source(tmp_path / "set", 12).examples) == [b"%d" % row for row in range(12)]


def test_a_worker_reads_a_row_group_no_further_than_it_needs(tmp_path, monkeypatch):
    opened = source(write_shards(tmp_path / "set", [400], group_rows=200))
    read = []
    iter_batches = pq.ParquetFile.iter_batches

    def counted(self, *arguments, **options):
        for batch in iter_batches(self, *arguments, **options):
            read.append(len(batch))
            yield batch

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", counted)
    assert contents(opened.examples.slice(210, 3)) == [b"210", b"211", b"212"]
    assert sum(read) <= 64


def test_a_shard_that_is_gone_costs_only_its_own_clips(tmp_path):
    opened = source(write_shards(tmp_path / "set", [2, 2]))
    (tmp_path / "set" / "train-00000.parquet").unlink()
    read = with_contents(opened.examples)
    assert read["bytes"].to_pylist() == [None, None, b"2", b"3"]
    assert ["cannot be read (FileNotFoundError" in (problem or "") for problem in read["problem"].to_pylist()] == [
        True,
        True,
        False,
        False,
    ]


def test_a_shard_may_hold_paths_or_both(tmp_path):
    both = [{"bytes": b"x", "path": "x.wav"}, {"bytes": None, "path": "clips/1.wav"}]
    pq.write_table(pa.table({"audio": both, "label": ["a", "b"]}), tmp_path / "both.parquet")
    read = with_contents(source(tmp_path / "both.parquet").examples)
    assert read["bytes"].to_pylist() == [b"x", None]
    assert read["path"].to_pylist() == ["x.wav", f"{tmp_path}/clips/1.wav"]
    paths = pa.array([{"bytes": None, "path": "clips/1.wav"}] * 2, both_type())
    pq.write_table(pa.table({"audio": paths, "label": ["a", "b"]}), tmp_path / "paths.parquet")
    clips = source(tmp_path / "paths.parquet").examples
    assert "shard" not in clips.column_names
    assert clips["path"].to_pylist() == [f"{tmp_path}/clips/1.wav"] * 2


def both_type():
    return pa.struct({"bytes": pa.binary(), "path": pa.string()})


def test_what_the_hub_converts_a_dataset_into_is_read(tmp_path):
    for split, first in (("train", 0), ("test", 10)):
        folder = write_shards(tmp_path / "en-US" / split, [3, 2], first=first)
        for number, shard in enumerate(sorted(folder.iterdir())):
            shard.rename(folder / f"{number:04}.parquet")
    assert contents(source(tmp_path / "en-US").examples) == [b"0", b"1", b"2", b"3", b"4"]
    assert contents(source(tmp_path / "en-US", split="test").examples) == [b"10", b"11", b"12", b"13", b"14"]


def test_metadata_without_labels_leaves_those_of_the_folders(tmp_path):
    for place in ("yes/a.wav", "no/b.wav", "c.wav"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_bytes(audio_bytes(tone(1)))
    (tmp_path / "metadata.csv").write_text("file_name,speaker\nyes/a.wav,ann\nno/b.wav,bob\nc.wav,bob\n")

    def opened(**keys):
        config = DatasetConfig(name=str(tmp_path), **keys)
        return open_source(config, MODALITY.content, None, group_column="speaker")

    source = opened()
    assert source.labels == ("no", "yes")
    assert source.examples["label"].to_pylist() == [1, 0, None]
    assert source.examples["group"].to_pylist() == ["ann", "bob", "bob"]
    with pytest.raises(DataError, match="label_column: expected a column of metadata.csv, found none called 'who'"):
        opened(label_column="who")
    for places in (
        "c.wav,ann",
        "yes/a.wav,ann\nyes/b.wav,bob",
        "train/a.wav,ann\ntest/b.wav,bob",
        "s3://a/b.wav,x\n/c/d.wav,y",
    ):
        (tmp_path / "metadata.csv").write_text(f"file_name,speaker\n{places}\n")
        with pytest.raises(DataError, match="found none called 'intent_class'"):
            opened()


def test_a_name_of_nothing_is_looked_for_here_too_and_a_wrong_split_is_not(monkeypatch):
    def refused(key):
        def opening(*arguments):
            raise DataError(f"{key}: expected something else.")

        monkeypatch.setattr("golem_ray.data.sources.open_hub_dataset", opening)
        with pytest.raises(DataError) as error:
            open_source(DatasetConfig(name="nosuch"), CLIPS, None)
        return str(error.value)

    assert refused("dataset.name").endswith(f" Nor is there a file or folder 'nosuch' in {os.getcwd()}.")
    assert refused("dataset.split") == "dataset.split: expected something else."
