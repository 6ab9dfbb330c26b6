"""Describing a dataset, on clips whose figures are known."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from golem_ray.config import DatasetConfig, DescribeConfig
from golem_ray.config.jobs import DescribedGroupsConfig, ExamplesConfig
from golem_ray.errors import ConfigError, DataError
from golem_ray.jobs.describe import describe
from golem_ray.jobs.findings import findings
from golem_ray.text import MODALITY as TEXTS
from tests.conftest import ROOT, audio_bytes, tone, write_clips


def about(folder, **keys):
    return describe(DescribeConfig(dataset=DatasetConfig(name=str(folder), label_column="label"), **keys))


def write_mess(folder):
    """Clips of all sorts, a folder per label: 9 that can be used and 3 that cannot."""
    sound, other = tone(0, 0.5), np.round(32767 * tone(1, 1.0)).astype(np.int16)
    files = {
        "yes/0.wav": audio_bytes(sound),
        "yes/1.wav": audio_bytes(other),
        "yes/2.wav": audio_bytes(tone(2, 1.5, 16000), 16000),
        "yes/copy.wav": audio_bytes(sound),
        "yes/clipped.wav": audio_bytes(np.clip(9 * tone(3, 0.5), -1, 1)),
        "yes/silent.wav": audio_bytes(np.zeros(4000, np.float32)),
        "no/0.wav": audio_bytes(sound),
        "no/1.flac": audio_bytes(other, format="FLAC"),
        "no/broken.wav": b"RIFF",
        "no/short.wav": audio_bytes(tone(4, 0.01)),
        "Yes/0.wav": audio_bytes(tone(5, 0.5)),
        "Yes/empty.wav": b"",
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def mess(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mess")
    return about(write_mess(folder / "clips"), output=str(folder / "describe.html"))


def test_the_figures_of_a_mess(mess):
    assert (mess["num_clips"], mess["num_usable"], mess["total"]) == (12, 9, 12)
    assert {each["label"]: (each["num_clips"], each["num_bad"]) for each in mess["labels"]} == {
        "Yes": (1, 1),
        "no": (2, 2),
        "yes": (6, 0),
    }
    facts = {fact["key"]: fact for fact in mess["facts"]}
    length = facts["duration"]["quantiles"]
    assert (length["min"], length["median"], length["max"], length["total"]) == (0.5, 0.5, 1.5, 6.5)
    assert sum(facts["duration"]["histogram"]["counts"]) == 9
    assert mess["labels"][1]["duration"]["median"] == 0.75
    assert facts["rate"]["counts"] == {"8000": 8, "16000": 1}
    assert facts["format"]["counts"] == {"WAV PCM_16": 8, "FLAC PCM_16": 1}
    assert {key: fact["num_clips"] for key, fact in facts.items() if fact["kind"] == "flag"} == {
        "silent": 1,
        "mostly_silence": 0,
        "clipped": 1,
        "quiet": 0,
        "long": 0,
    }
    assert facts["silent"]["clips"][0].endswith("yes/silent.wav)")


def test_copies_are_found_by_file_and_by_content(mess):
    files, (samples,) = mess["equal_files"], mess["equal_content"]
    assert (files["num_clips"], files["num_sets"]) == (3, 1)
    assert files["sets"][0]["labels"] == ["no", "yes"]
    assert (samples["num_clips"], samples["num_sets"]) == (
        2,
        1,
    )  # the WAV and the FLAC; of equal files one word is enough
    assert [name.rsplit("/", 1)[-1] for name in samples["sets"][0]["clips"]] == ["1.flac)", "1.wav)"]
    assert mess["num_under_two_labels"] == 5


def test_clips_that_cannot_be_used_are_named_and_never_too_many(mess):
    assert [record["reason"].split(" (")[0] for record in mess["bad"]] == [
        "empty file",
        "not audio that libsndfile can read",
        "10.0 ms long, shorter than 25 ms",
    ]


def test_findings_say_what_to_do_of_what_applies_alone(mess, tmp_path):
    findings = {each["finding"]: each["advice"] for each in mess["findings"]}
    text = "\n".join(f"{finding}: {advice}" for finding, advice in findings.items())
    for words in (
        "3 of 12 clips cannot be used",
        "--processing.max-bad-fraction 0.25",
        "1 label is of one clip alone ('Yes')",
        "Labels are uneven, from 1 of 'Yes' to 6 clips of 'yes': --head.class-weights",
        "Labels 'Yes' and 'yes' differ",
        "3 clips are equal files (1 different ones)",
        "2 clips in files that differ have equal samples",
        "5 clips are there under another label too",
        "No column says who speaks",
        "1 of 12 clips is silent",
        "1 of 12 clips is clipped",
    ):
        assert words in text
    assert "very quiet" not in text
    assert "max-samples" not in text
    folder = write_clips(tmp_path / "clean", ["a", "b"] * 5)
    (folder / "metadata.csv").write_text(
        "file_name,label,speaker\n" + "".join(f"clips/{row}.wav,{'ab'[row % 2]},s{row // 2}\n" for row in range(10))
    )
    clean = about(folder, evaluation=DescribedGroupsConfig(group_column="speaker"))
    assert clean["findings"] == []


def test_the_summary_and_the_page_have_the_figures(mess):
    for text in (mess["summary"], Path(mess["reportPath"]).read_text()):
        for words in ("12, 9 can be used", "WAV PCM_16 (8), FLAC PCM_16 (1)", "8000 (8), 16000 (1)"):
            assert words in text
    lines = mess["summary"].split("\n")
    assert "duration (s)                   0.5       0.5       1.5" in lines
    assert "yes                                     6                  0.5" in lines
    assert json.loads(json.dumps(mess, allow_nan=False)) == mess


def spoken(folder, *rows):
    """A folder with a clip for each (label, speaker)."""
    write_clips(folder, [label for label, _ in rows], 0.05)
    lines = [f"clips/{row}.wav,{label},{speaker}" for row, (label, speaker) in enumerate(rows)]
    (folder / "metadata.csv").write_text("\n".join(["file_name,label,client_id", *lines]) + "\n")
    return folder


def test_who_speaks_is_guessed_and_a_label_of_one_speaker_is_a_leak(tmp_path):
    folder = spoken(tmp_path / "set", ("a", "bob"), ("a", "ann"), ("b", "ann"), ("b", "ann"), ("a", ""), ("c", "ann"))
    found = about(folder)
    groups = found["groups"]
    assert (groups["column"], groups["is_guess"], groups["num_groups"], groups["num_without"]) == (
        "client_id",
        True,
        2,
        1,
    )
    assert (groups["largest"], groups["one_group"]) == ({"ann": 4, "bob": 1}, {"b": "ann"})
    assert (groups["per_label"], groups["crossed"]) == ([2, 1, 1], [[1, 1], [2, 0], [1, 0]])
    text = str(found["findings"])
    for words in ("may be who speaks", "--evaluation.group-column client_id", "of one client_id alone ('b')"):
        assert words in text
    named = about(folder, evaluation=DescribedGroupsConfig(group_column="client_id"))
    assert "may be who speaks" not in str(named["findings"])
    assert about(folder, evaluation=DescribedGroupsConfig(group_column=""))["groups"] is None
    by_speaker = DatasetConfig(name=str(folder), label_column="client_id")
    assert describe(DescribeConfig(dataset=by_speaker))["groups"] is None  # which would be the labels
    with pytest.raises(DataError, match=r"evaluation\.group_column: expected a column of metadata\.csv, found none"):
        about(folder, evaluation=DescribedGroupsConfig(group_column="speaker"))


def test_a_rate_that_tells_the_label_is_named(tmp_path):
    for label, rate, count in (("a", 8000, 9), ("b", 8000, 1), ("b", 16000, 1), ("c", 16000, 14), ("d", 8000, 2)):
        (tmp_path / label).mkdir(exist_ok=True)
        for row in range(count):
            (tmp_path / label / f"{rate}-{row}.wav").write_bytes(audio_bytes(tone(rate + row, 0.1, rate), rate))
    found = about(tmp_path)
    (fact,) = (fact for fact in found["facts"] if fact["key"] == "rate")
    assert fact["telling"] == {"a": "8000"}  # d has too few clips to say so, and most clips are like those of c
    assert "All clips of 'a' have the sampling rate 8000 Hz" in str(found["findings"])


def test_clips_without_labels_are_described_all_the_same(tmp_path, clips_folder):
    for row in range(3):
        (tmp_path / f"{row}.wav").write_bytes(audio_bytes(tone(row)))
    found = about(tmp_path)
    assert (found["num_usable"], found["labels"]) == (3, [])
    assert "a folder per label" in found["findings"][0]["advice"]
    other = describe(DescribeConfig(dataset=DatasetConfig(name=str(clips_folder), label_column="who")))
    assert other["num_usable"] == 24
    assert other["findings"][0]["finding"].endswith("it has file_name, label)")
    assert other["findings"][0]["advice"] == "name one by --dataset.label-column"


def test_clips_without_a_label_and_the_first_n(tmp_path):
    folder = write_clips(tmp_path / "set", ["a", "", "b", "a", "b", "b"])
    found = about(folder, processing=ExamplesConfig(max_samples=4))
    assert (found["num_clips"], found["total"], found["num_usable"], found["num_without_label"]) == (4, 6, 3, 1)
    assert "no label" in found["findings"][0]["finding"]
    assert "the first 4 of 6, 3 can be used" in found["summary"]


def test_only_broken_clips_are_described_and_none_is_an_error(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(DataError, match="expected clips, found none"):
        about(tmp_path)
    (tmp_path / "a" / "0.wav").write_bytes(b"broken")
    found = about(tmp_path, output=str(tmp_path / "page.html"))
    assert (found["num_usable"], len(found["bad"])) == (0, 1)
    assert "Clips that cannot be used: 1" in (tmp_path / "page.html").read_text()


def test_a_foreign_page_is_not_overwritten_and_an_own_one_is(tmp_path, clips_folder):
    page = tmp_path / "page.html"
    page.write_text("<html>mine</html>")
    with pytest.raises(ConfigError, match="output: expected room for the report"):
        about(clips_folder, output=str(page))
    page.unlink()
    assert [about(clips_folder, output=str(page))["reportPath"] for _ in range(2)] == [str(page)] * 2
    with pytest.raises(ConfigError, match=r"output: expected a name ending in \.html"):
        DescribeConfig(output="page.pdf")


def test_nothing_heavy_is_loaded_to_describe_the_sample():
    code = (
        "import sys; from golem_ray.config import DatasetConfig, DescribeConfig\n"
        "from golem_ray.config.jobs import ExamplesConfig\n"
        "from golem_ray.jobs.describe import describe\n"
        "few = ExamplesConfig(max_samples=3)\n"
        "found = describe(DescribeConfig(dataset=DatasetConfig(name='sample'), processing=few))\n"
        "print(found['num_usable'], found['total'], found['other_splits'], found['groups']['column'])\n"
        "print({'torch', 'transformers', 'ray', 'plotly'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split("\n")[:2] == ["3 336 ['test'] speaker", "set()"], done.stderr


def test_findings_about_texts_call_them_texts(mess):
    config = DescribeConfig()
    groups = {"column": "author", "is_guess": False, "num_groups": 1, "num_without": 2, "one_group": {"a": "me"}}
    found = {**mess, "groups": groups, "num_under_two_labels": 1, "total": 1000}
    found["facts"] = [
        {"kind": "category", "title": "kind", "unit": "", "telling": {"a": "one"}},
        {"kind": "flag", "title": "empty", "num_clips": 2, "clips": ["text 1"], "advice": "mend them"},
    ]
    for labels in (found["labels"], found["labels"][:1], []):
        listed = findings({**found, "labels": labels, "bad": []}, config, TEXTS)
        said = json.dumps(listed).lower()
        assert "texts" in said
        for word in ("clip", "speaks", "record", "convert", "files"):
            assert word not in said
    assert "sort the texts into a folder" in str(findings({**found, "no_labels": "none"}, config, TEXTS))
