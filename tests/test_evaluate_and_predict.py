"""A saved classifier on many clips: figures, predictions, and the commands that ask for them."""

import csv
import json
import logging
import os
import shutil
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
import sklearn.metrics
import torch

import golem_ray
from golem_ray import artifact
from golem_ray.config import ClipsConfig, ClusterConfig, DatasetConfig, DeviceConfig, EvaluateConfig, PredictConfig
from golem_ray.errors import ConfigError, DataError
from golem_ray.jobs.engines import HANDFUL
from golem_ray.jobs.evaluate import evaluate_artifact
from golem_ray.jobs.predict import as_text, check_output, predict, write_predictions
from tests.conftest import ROOT, audio_bytes, tone, write_clips
from tests.test_train_job import configuration

NAMES = ["north", "east", "south", "west"]


ONE_ACTOR = {
    "device": DeviceConfig(backend="cpu"),
    "cluster": ClusterConfig(workers=1, threads_per_worker=1),
}
"""For more than a handful of clips, which go through Ray."""


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A cache, so that each clip goes through an actor once: to train on it, or in the first test that asks for it."""
    return str(tmp_path_factory.mktemp("kept"))


@pytest.fixture(scope="module")
def trained(simulated_gpus, encoder_folder, kept, tmp_path_factory):
    """A folder of 60 clips and a classifier that was trained on the first 40 of them."""
    work = tmp_path_factory.mktemp("apply")
    clips = write_clips(work / "set", NAMES * 15, seconds=0.15)
    path = work / "voice.pth"
    changes = {"processing": {"max_samples": 40}, "paths": {"embedding_cache": kept}}
    golem_ray.train(configuration(clips, encoder_folder, path, **changes))
    return clips, path


def on(clips, **keys):
    return EvaluateConfig(dataset=DatasetConfig(name=str(clips), label_column="label"), **keys)


def by_hand(path, embeddings):
    """The probabilities, from the two files alone."""
    state = torch.load(path, weights_only=True)
    calibration = json.loads(path.with_suffix(".json").read_text())["metrics"]["calibration"]
    logits = torch.tensor(embeddings) @ state["weight"].T + state["bias"]
    return (logits / calibration["temperature"]).softmax(dim=1).numpy()


def test_ray_python_and_plain_arithmetic_agree(trained, kept):
    """60 clips go through Ray's actors, a handful and golem_ray.load through this process, weight and bias by hand."""
    clips, path = trained
    saved = artifact.load(str(path))
    files = [str(clips / "clips" / f"{row}.wav") for row in range(60)]
    assert len(files) > HANDFUL
    through_ray = list(predict(saved, files, PredictConfig(top_k=4, embedding_cache=kept, **ONE_ACTOR)))
    here = [row for start in (0, 30) for row in predict(saved, files[start : start + 30], PredictConfig(top_k=4))]
    classifier = golem_ray.load(str(path))
    in_python = classifier.predict(files)
    from golem_ray.speech.read import load_clip

    waveforms = [load_clip((clips / "clips" / f"{row}.wav").read_bytes(), 16000) for row in range(60)]
    expected = by_hand(path, classifier.embed(waveforms))
    labels = sorted(NAMES)
    for row in range(60):
        ranked = expected[row].argsort()[::-1]
        for found in (through_ray[row], here[row]):
            assert found["id"] == files[row]
            assert found["label"] == labels[ranked[0]] == in_python[row].label
            assert [found[f"label_{place}"] for place in (2, 3, 4)] == [labels[number] for number in ranked[1:]]
            assert found["probability"] == pytest.approx(expected[row].max(), abs=1e-5)
        assert in_python[row].probability == pytest.approx(expected[row].max(), abs=1e-5)


def test_evaluating_leaves_out_what_was_trained_on_and_gives_scikit_learns_figures(trained, kept, caplog, tmp_path):
    clips, path = trained
    report = tmp_path / "report.html"
    config = on(clips, report=str(report), embedding_cache=kept, **ONE_ACTOR)
    with caplog.at_level(logging.WARNING):
        found = evaluate_artifact(artifact.load(str(path)), config)
    assert (found["num_clips"], found["num_also_trained_on"]) == (20, 40)
    assert "40 of 60 clips were trained on: clip 0 (" in caplog.text
    assert "and 20 more" in caplog.text

    labels = [NAMES[row % 4] for row in range(40, 60)]
    predictions = golem_ray.load(str(path)).predict([clips / "clips" / f"{row}.wav" for row in range(40, 60)])
    said = [prediction.label for prediction in predictions]
    figures = {name: figure["value"] for name, figure in found["figures"].items()}
    assert figures["accuracy"] == pytest.approx(sklearn.metrics.accuracy_score(labels, said))
    assert figures["balanced_accuracy"] == pytest.approx(sklearn.metrics.balanced_accuracy_score(labels, said))
    assert figures["macro_f1"] == pytest.approx(sklearn.metrics.f1_score(labels, said, average="macro"))
    probabilities = np.array([[prediction.probabilities[name] for name in sorted(NAMES)] for prediction in predictions])
    assert figures["log_loss"] == pytest.approx(sklearn.metrics.log_loss(labels, probabilities), abs=1e-5)
    expected = sklearn.metrics.confusion_matrix(labels, said, labels=sorted(NAMES))
    assert found["confusion"] == expected.tolist()
    assert found["baselines"]["chance"]["accuracy"] == 0.25
    assert f"accuracy {figures['accuracy']:.1%} (95 % interval" in found["summary"]
    assert "40 that were trained on left out" in found["summary"]
    page = report.read_text()
    assert "clip 59" in page
    assert "clip 39" not in page


def test_clips_that_were_trained_on_count_only_when_asked_for(trained, kept, tmp_path):
    clips, path = trained
    saved, keys = artifact.load(str(path)), {"report": str(tmp_path / "report.html"), "embedding_cache": kept}
    found = evaluate_artifact(saved, on(clips, include_trained=True, **keys, **ONE_ACTOR))
    assert (found["num_clips"], found["num_also_trained_on"]) == (60, 40)
    assert "no honest figure" in found["summary"]
    few = on(clips, processing=ClipsConfig(max_samples=40), **keys, **ONE_ACTOR)
    with pytest.raises(DataError, match="expected clips that .*voice.pth was not trained on, found none among the 40"):
        evaluate_artifact(saved, few)


def test_unknown_labels_are_counted_as_missed_and_bad_clips_named(trained, tmp_path):
    _, path = trained
    clips = write_clips(tmp_path / "new", ["north", "up", "up", "east"], seconds=0.2)
    for row in range(4):
        (clips / "clips" / f"{row}.wav").write_bytes(audio_bytes(tone(100 + row, 0.2)))
    saved, report = artifact.load(str(path)), str(tmp_path / "report.html")
    found = evaluate_artifact(saved, on(clips, report=report))
    assert found["unknown_labels"] == {"up": 2}
    assert "does not know, counted as missed: up (2)" in found["summary"]
    assert found["figures"]["accuracy"]["value"] <= 0.5
    only_unknown = write_clips(tmp_path / "unknown", ["NORTH", "up"], seconds=0.21)
    with pytest.raises(DataError, match=r"expected labels that .* knows \(east, north, .* found none among NORTH, up"):
        evaluate_artifact(saved, on(only_unknown, report=report))
    (clips / "clips" / "1.wav").write_bytes(b"noise")
    with pytest.raises(DataError, match=r"at most 0 of 4 clips to be unusable, found 1 .*1\.wav\): not audio"):
        evaluate_artifact(saved, on(clips, report=report))
    allowing = on(clips, report=report, processing=ClipsConfig(max_bad_fraction=0.3))
    assert evaluate_artifact(saved, allowing)["num_clips"] == 3
    assert "clip 1 (" in (tmp_path / "report.html").read_text()  # among those that could not be used


def test_an_artifact_that_does_not_say_what_it_was_trained_on_is_not_believed(trained, tmp_path, caplog):
    clips, path = trained
    saved = artifact.load(str(path))
    saved.document["clips"]["digests"] = None
    report = tmp_path / "report.html"
    found = evaluate_artifact(saved, on(clips, report=str(report), processing=ClipsConfig(max_samples=3)))
    assert found["num_clips"] == 3
    assert "does not say which clips it was trained on" in caplog.text
    assert "of which the artifact does not say whether they were trained on" in report.read_text()


def test_a_report_does_not_replace_another_page(trained, tmp_path):
    clips, path = trained
    (tmp_path / "report.html").write_text("<html>mine</html>")
    with pytest.raises(ConfigError, match="report: expected room for the report, found another page"):
        evaluate_artifact(artifact.load(str(path)), on(clips, report=str(tmp_path / "report.html")))
    assert (tmp_path / "report.html").read_text() == "<html>mine</html>"


def test_an_unsure_clip_and_a_bad_one_are_said(trained, tmp_path):
    clips, path = trained
    saved = artifact.load(str(path))
    folder = tmp_path / "mixed"
    shutil.copytree(clips / "clips", folder / "deep", ignore=lambda _, names: [name for name in names if len(name) > 5])
    (folder / "bad.wav").write_bytes(b"noise")
    (folder / "notes.txt").write_text("not a clip")
    rows = list(predict(saved, [str(folder)], PredictConfig(threshold=0.999999)))
    assert len(rows) == 11
    assert rows[0]["id"].endswith("bad.wav")
    assert (rows[0]["label"], rows[0]["probability"]) == (None, None)
    assert "not audio" in rows[0]["problem"]
    assert {row["label"] for row in rows[1:]} == {"unsure"}
    assert {row["likeliest"] for row in rows[1:]} <= set(NAMES)
    lines = list(as_text(rows))
    assert "not audio" in lines[0]
    assert "  unsure  (" in lines[1]
    assert {row["label"] for row in predict(saved, [str(folder)], PredictConfig(threshold=0.0))} <= {None, *NAMES}
    with pytest.raises(DataError, match=r"expected clips that can be used, found none among 1 \(.*not audio"):
        list(predict(saved, [str(folder / "bad.wav")], PredictConfig()))


def read_lines(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_predictions_are_written_as_the_suffix_says(trained, tmp_path, suffix):
    clips, path = trained
    saved = artifact.load(str(path))
    config = PredictConfig(output=str(tmp_path / "new" / f"out{suffix}"), top_k=2)
    output = check_output(config)
    files = [str(clips / "clips" / name) for name in ("0.wav", "absent.wav")]
    rows = list(predict(saved, files, config))
    assert write_predictions(output, iter(rows)) == 2
    if suffix == ".csv":
        with open(output, newline="") as file:
            found = list(csv.DictReader(file))
        assert found[0]["probability"] == str(rows[0]["probability"])
        assert (found[1]["label"], found[1]["problem"]) == ("", "missing file")
    else:
        lines = pq.read_table(output).to_pylist() if suffix == ".parquet" else read_lines(output)
        assert lines == rows
    assert list(rows[0]) == ["id", "label", "probability", "label_2", "probability_2", "problem"]


def test_predictions_go_to_a_uri_and_clips_come_from_a_manifest(trained, tmp_path):
    import fsspec

    clips, path = trained
    saved = artifact.load(str(path))
    manifest = tmp_path / "list.csv"
    manifest.write_text(f"audio\n{clips}/clips/5.wav\n{clips}/clips/6.wav\n")
    rows = list(predict(saved, [str(manifest), str(clips / "clips" / "7.wav")], PredictConfig()))
    assert [os.path.basename(row["id"]) for row in rows] == ["5.wav", "6.wav", "7.wav"]
    limited = PredictConfig(processing=ClipsConfig(max_samples=2))
    assert len(list(predict(saved, [str(manifest), str(clips / "clips" / "7.wav")], limited))) == 2
    labelled = PredictConfig(dataset=DatasetConfig(name=str(clips)), processing=ClipsConfig(max_samples=3))
    assert [os.path.basename(row["id"]) for row in predict(saved, (), labelled)] == ["0.wav", "1.wav", "2.wav"]
    write_predictions("memory://out/p.jsonl", iter(rows))
    fs = fsspec.filesystem("memory")
    assert len(fs.cat("/out/p.jsonl").splitlines()) == 3
    fs.rm("/out", recursive=True)


def run(job, *arguments, cwd=ROOT):
    command = [sys.executable, str(ROOT / "jobs" / f"{job}.py"), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)


def test_the_commands_on_a_handful_of_clips_start_no_ray(trained, tmp_path):
    clips, path = trained
    work = tmp_path / "work"
    shutil.copytree(path.parent, work, ignore=shutil.ignore_patterns("set"))
    rest = write_clips(tmp_path / "rest", NAMES * 2, seconds=0.22)
    for row in range(8):
        (rest / "clips" / f"{row}.wav").write_bytes(audio_bytes(tone(200 + row, 0.22)))
    shutil.copy(clips / "clips" / "0.wav", work / "one.wav")
    done = run("predict", "voice.pth", "one.wav", "--top-k", 2, cwd=work)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    name, label, rest_of_line = line.split("  ")
    assert (name, label in NAMES) == ("one.wav", True)
    assert rest_of_line.count("%") == 2
    assert "worker" not in done.stderr

    done = run("evaluate", "voice.pth", "--dataset.name", rest, "--json", cwd=work)
    assert done.returncode == 0, done.stderr
    assert "worker" not in done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["num_clips"] == 8
    assert found["reportPath"] == str(work / "report.html")
    assert "golem_ray" in (work / "report.html").read_text()[:2000]
    assert f"Report in {work / 'report.html'}" in done.stdout


WRONG_COMMANDS = [
    ("predict", [], "ARTIFACT: expected a .pth file or a Hub repository"),
    ("evaluate", ["--json"], "ARTIFACT: expected a .pth file or a Hub repository"),
    ("predict", ["{voice}"], "predict: expected either files or --dataset flags, found neither"),
    ("predict", ["{voice}", "a.wav", "--dataset.name", "x"], "found both"),
    ("predict", ["{voice}", "a.wav", "--output", "x.txt"], "output: expected a name ending in .csv"),
    ("predict", ["{voice}", "a.wav", "--threshold", "7"], "threshold: expected a probability, 0 to 1, got 7"),
    ("predict", ["{voice}", "a.wav"], "found none among 1 (clip 0 (a.wav): missing file)"),
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

COMMANDS = """
import json, sys
from evaluate import evaluate
from predict import predict
from golem_ray.cli.commands import exit_status

for job, arguments in json.load(sys.stdin):
    status = exit_status(lambda: {"predict": predict, "evaluate": evaluate}[job](arguments))
    print(f"status {status}", file=sys.stderr, flush=True)
"""


def test_a_wrong_command_ends_with_status_2_and_one_line(trained, tmp_path):
    (tmp_path / "a.csv").write_text("audio\nb.wav\n")
    (tmp_path / "empty.csv").write_text("audio\n")
    (tmp_path / "folder.csv").mkdir()
    given = [(job, [word.format(voice=trained[1]) for word in arguments]) for job, arguments, _ in WRONG_COMMANDS]
    done = subprocess.run(  # one process for all: most of a command is imports
        [sys.executable, "-c", COMMANDS],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'jobs'}"},
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "secret" not in done.stderr
    assert (tmp_path / "a.csv").read_text() == "audio\nb.wav\n"
    *said, rest = done.stderr.split("status 2\n")
    assert (len(said), rest) == (len(WRONG_COMMANDS), ""), done.stderr
    for text, (_, _, words) in zip(said, WRONG_COMMANDS, strict=True):
        (line,) = text.strip().splitlines()
        assert line.startswith("error: ")
        assert words in line


def test_help_needs_no_artifact():
    for job, word in (("predict", "--threshold"), ("evaluate", "--include-trained")):
        done = run(job, "--help")
        assert done.returncode == 0
        assert word in done.stdout
