"""Clips that a run cannot use: counted, named, given a reason, and refused if they are too many."""

import dataclasses
import json
import logging

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import golem_ray
from golem_ray.config import TrainConfig
from golem_ray.config.presets import config_from_dict
from golem_ray.data.split import Division
from golem_ray.data.table import Source
from golem_ray.embedding.embeddings import Embeddings
from golem_ray.errors import DataError
from golem_ray.jobs import usable
from tests.conftest import audio_bytes, tone, write_clips
from tests.jobs.runs import configuration


def bad_clips(folder):
    """24 clips of two labels, six of them unusable, each in its own way; and a split `test` of two, one of them bad."""
    good = [audio_bytes(tone(row, 0.1)) for row in range(24)]
    rows = [{"audio": {"bytes": clip, "path": f"{row}.wav"}, "label": "ab"[row % 2]} for row, clip in enumerate(good)]
    rows[2]["audio"]["bytes"] = b"this is not audio"
    rows[5]["audio"]["bytes"] = b""
    rows[8]["audio"]["bytes"] = audio_bytes(tone(0, 0.02))
    rows[11]["audio"]["bytes"] = audio_bytes(np.full(800, np.nan, dtype=np.float32), subtype="FLOAT")
    rows[14]["audio"] = {"bytes": None, "path": "gone.wav"}
    rows[17]["label"] = None
    tested = [{"audio": {"bytes": audio_bytes(tone(30, 0.1)), "path": "t0.wav"}, "label": "a"}]
    tested += [{"audio": {"bytes": b"noise", "path": "t1.wav"}, "label": "b"}]
    folder.mkdir()
    for split, records in (("train", rows), ("test", tested)):
        pq.write_table(pa.Table.from_pylist(records), folder / f"{split}.parquet")
    return folder


REASONS = {2: "not audio", 5: "empty file", 8: "20.0 ms", 11: "not finite", 14: "missing file", 17: "no label"}


def test_allowed_unusable_clips_are_counted_and_recorded_by_split(encoder_folder, tmp_path, caplog):
    """And what is there under two labels."""
    path, folder = tmp_path / "v.pth", bad_clips(tmp_path / "set")
    rows = pq.read_table(folder / "train.parquet").to_pylist()
    rows[20]["audio"]["bytes"] = rows[19]["audio"]["bytes"]
    rows[3]["audio"]["bytes"] = rows[2]["audio"]["bytes"]  # neither of which can be used
    pq.write_table(pa.Table.from_pylist(rows), folder / "train.parquet")
    changes = {"processing": {"max_bad_fraction": 0.5}, "evaluation": {"split": "test"}}
    with caplog.at_level(logging.WARNING):
        result = golem_ray.train(configuration(folder, encoder_folder, path, **changes))
    named = "2 of 26 clips are equal files under different labels: clip 19 (19.wav) as 'b' and clip 20 (20.wav) as 'a'"
    assert [record.getMessage() for record in caplog.records].count(named) == 1
    assert "\n2 of these clips are equal files under different labels.\n" in result["summary"]
    assert "; 2 of them are equal files under different labels" in (tmp_path / "report.html").read_text()
    assert "Trained on 17 clips" in result["summary"]
    assert "(7 skipped)" in result["summary"]
    clips = json.loads(path.with_suffix(".json").read_text())["clips"]
    assert (clips["total"], clips["used"], clips["num_under_two_labels"]) == (24, 17, 2)
    bad = {(entry["split"], entry["id"]): entry["reason"] for entry in clips["bad"]}
    assert list(bad) == [*(("train", row) for row in sorted([3, *REASONS])), ("test", 1)]
    assert all(reason in bad["train", row] for row, reason in REASONS.items())
    assert sum(clips["per_class"].values()) == 17


def test_silent_clips_are_named_and_counted_also_by_a_run_that_finds_them_in_the_cache(
    encoder_folder, tmp_path, caplog
):
    folder = write_clips(tmp_path / "set", ["left", "right"] * 6, seconds=0.1)
    for row in (3, 4):
        (folder / "clips" / f"{row}.wav").write_bytes(audio_bytes(np.zeros(800 + row, np.float32)))
    for name in ("first", "again"):
        paths = {"embedding_cache": str(tmp_path / "cache"), "save_path": str(tmp_path / name / "v.pth")}
        golem_ray.train(configuration(folder, encoder_folder, "", paths=paths))
        (line,) = [record.message for record in caplog.records if "are silent" in record.message]
        assert line.startswith("clips that are silent, 2 of 12: clip 3 (")
        assert "3.wav); clip 4 (" in line
        assert json.loads((tmp_path / name / "v.json").read_text())["clips"]["remarks"] == {"silent": 2}
        assert "12 of 12 clips of" in (page := next((tmp_path / name).glob("*.html")).read_text())
        assert "(2 silent)" in page
        caplog.clear()


def embedded(bad, num_clips):
    """What embedding gives where the clips of the rows `bad` cannot be used."""
    digests = np.array([row.to_bytes(32, "big") for row in range(1, num_clips + 1)], dtype="S32")
    vectors = np.zeros((num_clips, 2), dtype=np.float32)
    return Embeddings(vectors=vectors, bad=dict.fromkeys(bad, "not audio"), digests=digests, baseline=None)


def test_unusable_clips_are_all_named_with_their_reasons():
    source = Source(
        examples=pa.table({"path": [f"{row}.wav" for row in range(24)], "label": [0, 1] * 12}), labels=("a", "b")
    )
    division = Division(source=source, names=source.labels, tested=np.zeros(24, dtype=bool))
    found = dataclasses.replace(embedded([], 24), bad=REASONS)
    with pytest.raises(DataError) as error:
        usable.used_examples(TrainConfig(), division, found)
    assert "processing.max_bad_fraction: expected at most 0 of 24 clips to be unusable, found 6" in str(error.value)
    for row, reason in REASONS.items():
        assert f"clip {row} ({row}.wav): {reason}" in str(error.value)


def test_nothing_but_bad_clips_is_an_error_however_many_are_allowed():
    source = Source(examples=pa.table({"path": ["0.wav", "1.wav"], "label": [0, 1]}), labels=("a", "b"))
    division = Division(source=source, names=source.labels, tested=np.zeros(2, dtype=bool))
    everything = config_from_dict({"processing": {"max_bad_fraction": 1.0}})
    with pytest.raises(DataError, match="at least two classes, found 0 among 2 clips"):
        usable.used_examples(everything, division, embedded([0, 1], 2))


def test_bad_clips_of_the_other_split_are_named_as_its_own():
    paths = [f"train/{row}.wav" for row in range(6)] + ["test/0.wav", "test/1.wav"]
    source = Source(examples=pa.table({"path": paths, "label": [0, 1] * 4}), labels=("a", "b"))
    division = Division(source=source, names=source.labels, tested=np.arange(8) >= 6, how="test")
    with pytest.raises(DataError, match=r"test clip 1 \(.*test/1.wav\): not audio"):
        usable.used_examples(TrainConfig(), division, embedded([7], 8))
    few = config_from_dict({"processing": {"max_bad_fraction": 0.2}})  # of all eight one, of the two to test on none
    with pytest.raises(DataError, match="at most 0 of 2 clips to be unusable, found 1"):
        usable.used_examples(few, division, embedded([7], 8))
    half = config_from_dict({"processing": {"max_bad_fraction": 0.5}})
    assert usable.used_examples(half, division, embedded([7], 8)).used.tolist() == list(range(6))


def test_more_bad_clips_than_a_report_names_are_counted():
    clips = pa.table({"path": pa.nulls(30, pa.string())})
    source = Source(examples=clips, labels=("a", "b"))
    division = Division(source=source, names=source.labels, tested=np.zeros(30, dtype=bool))
    with pytest.raises(DataError, match=r"clip 19: x; and 5 more\)"):
        usable._unusable(TrainConfig(), division, dict.fromkeys(range(25), "x"))
