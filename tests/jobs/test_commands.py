"""The commands that apply a classifier: as processes of a user, and every way in which one is refused."""

import json
import shutil
import sys

import pytest

from tests.conftest import audio_bytes, job, tone, write_clips
from tests.jobs.runs import NAMES, artifact_beside


def test_the_commands_on_a_handful_of_clips_start_no_ray(command, applied, tmp_path, monkeypatch):
    clips, path = applied
    work = artifact_beside(path, tmp_path / "work").parent
    rest = write_clips(tmp_path / "rest", NAMES * 2, seconds=0.22)
    for row in range(8):
        (rest / "clips" / f"{row}.wav").write_bytes(audio_bytes(tone(200 + row, 0.22)))
    shutil.copy(clips / "clips" / "0.wav", work / "one.wav")
    traces = tmp_path / "ray"  # of a Ray, if one were started
    done = job("predict", "voice.pth", "one.wav", "--top-k", 2, cwd=work, RAY_TMPDIR=str(traces))
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    name, label, rest_of_line = line.split("  ")
    assert (name, label in NAMES) == ("one.wav", True)
    assert rest_of_line.count("%") == 2
    assert not traces.exists()

    (work / "report.html").write_text("the training's own")
    monkeypatch.setitem(sys.modules, "golem_ray.cluster", None)
    monkeypatch.chdir(work)
    said = command("evaluate", "voice.pth", "--dataset.name", rest, "--json")
    assert said.status == 0, said.err
    found = json.loads(said.out.splitlines()[-1])
    assert found["num_clips"] == 8
    assert found["reportPath"] == str(work / "evaluation.html")
    assert "golem_ray" in (work / "evaluation.html").read_text()[:2000]
    assert f"Report in {work / 'evaluation.html'}" in said.out
    assert (work / "report.html").read_text() == "the training's own"


WRONG_COMMANDS = [
    ("predict", [], "ARTIFACT: expected a .pth file or a Hub repository"),
    ("evaluate", ["--json"], "ARTIFACT: expected a .pth file or a Hub repository"),
    ("predict", ["{voice}"], "predict: expected either files or --dataset flags, found neither"),
    ("predict", ["{voice}", "a.wav", "--dataset.name", "x"], "found both"),
    ("predict", ["{voice}", "a.wav", "--output", "x.txt"], "output: expected a name ending in .csv"),
    ("predict", ["{voice}", "a.wav", "--threshold", "7"], "threshold: expected a probability, 0 to 1, got 7"),
    ("predict", ["{voice}", "a.wav"], "a.wav: expected audio files, or folders of them, found nothing there."),
    ("predict", ["{voice}", " "], "files: expected paths or URIs, found ' '"),
    (
        "predict",
        ["{voice}", "a.csv", "--output", "a.csv"],
        "output: expected another file than those that are read",
    ),
    ("predict", ["{voice}", "empty.csv"], "empty.csv: expected clips, found none"),
    ("predict", ["{voice}", "a.csv", "--dataset.audio-column", "sound"], "expected a column of a.csv, found none"),
    ("predict", ["{voice}", "a.csv", "--output", "folder.csv"], "folder.csv is a folder"),
    ("predict", ["{voice}", "a.csv", "--output", "x" * 260 + ".csv"], "its name is too long"),
    ("predict", ["~nobody-of-that-name/x.pth", "a.wav"], "expected the artifact, found no such file"),
    ("evaluate", ["{voice}", "--report", "https://u:secret@h/x.html"], "report: expected a URI without a password"),
    ("predict", ["absent.pth", "a.wav"], "absent.pth: expected the artifact, found no such file"),
    ("evaluate", ["{voice}", "--dataset.split", "nope"], "dataset.split: expected a subfolder"),
    ("evaluate", ["{voice}", "--report", "page.txt"], "report: expected a name ending in .html"),
]


@pytest.mark.parametrize(("name", "arguments", "words"), WRONG_COMMANDS)
def test_a_wrong_command_ends_with_status_2_and_one_line(
    command, applied, tmp_path, monkeypatch, name, arguments, words
):
    (tmp_path / "a.csv").write_text("audio\nb.wav\n")
    (tmp_path / "empty.csv").write_text("audio\n")
    (tmp_path / "folder.csv").mkdir()
    monkeypatch.chdir(tmp_path)
    status, out, err = command(name, *(word.format(voice=applied[1]) for word in arguments))
    assert (status, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    assert words in line
    assert "secret" not in err
    assert (tmp_path / "a.csv").read_text() == "audio\nb.wav\n"


def test_a_wrong_commands_own_process_ends_with_status_2_and_one_line(tmp_path):
    done = job("predict", "absent.pth", "a.wav", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("waiting for ")]
    assert line.startswith("error: ")
    assert "absent.pth: expected the artifact, found no such file" in line


def test_a_push_without_a_token_ends_with_status_2_and_one_line(command, applied):
    said = command("push", applied[1], "me/voice")
    assert (said.status, said.out) == (2, "")
    (line,) = said.err.splitlines()
    assert line.startswith("error: HF_TOKEN: expected a token")


@pytest.mark.parametrize(("name", "word"), [("predict", "--threshold"), ("evaluate", "--include-trained")])
def test_help_needs_no_artifact(command, name, word):
    status, out, _ = command(name, "--help")
    assert status == 0
    assert word in out
