"""The training job: what a run saves, and what it says, from Python and as a process that a user starts."""

import io
import json
import logging
import os
import shutil
import weakref

import numpy as np
import pyarrow as pa
import pytest
import torch

import golem_ray
from golem_ray.cli.commands import train
from golem_ray.data import labels as data_labels
from golem_ray.data.table import Source
from golem_ray.jobs import train as train_job
from tests.conftest import ROOT, job
from tests.jobs.runs import configuration


def test_100_epochs_on_50_clips_save_the_artifact(trained_on_fifty):
    path, result = trained_on_fifty
    assert list(result) == ["savedArtifactPath", "summary"]
    assert result["savedArtifactPath"] == str(path)
    head = torch.nn.Linear(32, 13)
    head.load_state_dict(torch.load(path, weights_only=True))
    sidecar = json.loads(path.with_suffix(".json").read_text())
    assert [entry["epoch"] for entry in sidecar["metrics"]["loss_history"]] == list(range(10, 101, 10))
    assert sidecar["clips"]["total"] == sidecar["clips"]["used"] == 50
    assert sidecar["labels"] == [f"intent-{row:02d}" for row in range(12)] + ["solo"]
    assert sidecar["clips"]["per_class"]["solo"] == 1
    assert sidecar["head"] == {"kind": "linear", "in_features": 32, "out_features": 13}
    assert sidecar["config"]["training"] == {"epochs": 100, "learning_rate": 0.01, "batch_size": None, "seed": 0}
    assert len(sidecar["encoder"]["sha256"]) == len(sidecar["data"]["sha256"]) == 64
    assert set(sidecar["versions"]) >= {"golem_ray", "python", "torch", "transformers", "ray"}


def test_the_summary_says_what_happened_in_words(trained_on_fifty):
    path, result = trained_on_fifty
    metrics = json.loads(path.with_suffix(".json").read_text())["metrics"]
    scores = metrics["cross_validation"]
    assert (scores["folds"], scores["num_clips"], scores["num_single_clip_classes"]) == (4, 49, 1)
    for words in (
        "Trained on 50 clips",
        "(0 skipped)",
        "13 classes",
        "on cpu",
        f"Final loss {metrics['final_loss']:.4f}",
        f"training accuracy {metrics['training_accuracy']:.1%}",
        "chance is 7.7%",
        f"Cross-validated accuracy {scores['accuracy']:.1%} (95 % interval",
        "2 x 4 folds over 49 clips",
        "1 class with a single clip only trained",
    ):
        assert words in result["summary"]


def test_the_artifact_answers_in_plain_pytorch(trained_on_fifty, fifty_clips, encoder_folder):
    """The weights, applied to the raw mean-pooled embedding, give the logits that the metrics speak of."""
    import soundfile
    import torchaudio
    import transformers

    path, _ = trained_on_fifty
    sidecar = json.loads(path.with_suffix(".json").read_text())
    extractor = transformers.Wav2Vec2FeatureExtractor.from_pretrained(encoder_folder)
    model = transformers.Wav2Vec2Model.from_pretrained(encoder_folder).eval()
    head = torch.nn.Linear(32, 13)
    head.load_state_dict(torch.load(path, weights_only=True))
    right = 0
    for row in range(50):
        samples, rate = soundfile.read(fifty_clips / "clips" / f"{row}.wav", dtype="float32")
        audio = torchaudio.transforms.Resample(rate, 16000)(torch.tensor(samples))
        inputs = extractor(audio.numpy(), sampling_rate=16000, return_tensors="pt").input_values
        with torch.no_grad():
            logits = head(model(inputs).last_hidden_state.mean(dim=1))
        right += sidecar["labels"][logits.argmax()] == ("solo" if row == 49 else f"intent-{row % 12:02d}")
    assert right / 50 == pytest.approx(sidecar["metrics"]["training_accuracy"])


def lines_of(page: str) -> str:
    """The page's block of Python."""
    (block,) = (ROOT / "docs" / page).read_text().split("```python\n")[1:]
    return block.split("```")[0]


def test_the_documentations_lines_of_pytorch_use_it(trained_on_fifty, monkeypatch, capsys):
    path, _ = trained_on_fifty
    monkeypatch.chdir(path.parent)
    exec(lines_of("reference/artifact.md"), {})
    bias = torch.load(path, weights_only=True)["bias"]
    labels = json.loads(path.with_suffix(".json").read_text())["labels"]
    assert capsys.readouterr().out.strip() == labels[bias.argmax()]


def test_the_documentations_lines_of_golem_ray_use_it(trained_on_fifty, fifty_clips, tmp_path, monkeypatch, capsys):
    path, _ = trained_on_fifty
    for source in (path, path.with_suffix(".json")):
        shutil.copy(source, tmp_path)
    shutil.copy(fifty_clips / "clips" / "7.wav", tmp_path / "clip.wav")
    (tmp_path / "broken.wav").write_bytes(b"noise")
    monkeypatch.chdir(tmp_path)
    exec(lines_of("guides/predict.md"), {})
    printed = capsys.readouterr().out.splitlines()
    label = printed[0].split()[0]
    assert [line.split()[0] for line in (printed[1], printed[4])] == [label] * 2
    assert printed[5].startswith("None not audio")


def test_classes_without_a_clip_are_named_and_the_job_goes_on(caplog):
    source = Source(examples=pa.table({"label": [0, 2]}), labels=("north", "east", "south"))
    with caplog.at_level(logging.WARNING, logger="golem_ray"):
        data_labels.check_labels(source, np.array([0, 2]))
    assert "1 of 3 classes have no clip: east" in caplog.text


def test_a_preset_from_stdin_and_relative_paths(kept, clips_folder, encoder_folder, tmp_path, monkeypatch):
    preset = {
        "dataset": {"name": str(clips_folder), "labelColumn": "label"},
        "model": {"featureExtractorModel": str(encoder_folder)},
        "device": {"backend": "cpu"},
        "cluster": {"address": "none", "workers": 1, "threadsPerWorker": 1},
        "evaluation": {"repeats": 0},
        "paths": {"savePath": "out/voice.pth", "embeddingCache": kept},
    }
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(preset)))
    *said, last = train(["-", "--processing.max-samples", "20", "--json"])
    result = json.loads(last)
    assert result["savedArtifactPath"] == str(tmp_path / "out" / "voice.pth")
    assert "Trained on 20 of 24 clips" in result["summary"]
    assert "(0 skipped; --processing.max-samples all takes all)" in result["summary"]
    saved = [f"Saved to {tmp_path}/out/voice.pth", f"Report in {tmp_path}/out/report.html"]
    assert said == [result["summary"], *saved]
    assert sorted(os.listdir(tmp_path / "out")) == ["report.html", "voice.json", "voice.pth"]


@pytest.mark.parametrize("address", ["none", pytest.param("auto", marks=pytest.mark.slow)])
def test_the_command_from_any_folder(clips_folder, encoder_folder, tmp_path, address):
    """As a user runs it: a preset on stdin, relative paths, --json; with a Ray of its own, and without; and what it
    must not print.
    """
    preset = {
        "dataset": {"name": str(clips_folder), "labelColumn": "label"},
        "model": {"featureExtractorModel": str(encoder_folder)},
        "paths": {"savePath": "out/voice.pth"},
        "cluster": {"address": address, "threadsPerWorker": 1},
    }
    flags = ["-", "--processing.max-samples", 20, "--json"]
    done = job("train", *flags, cwd=tmp_path, stdin=json.dumps(preset), fresh=True, HF_TOKEN="hf_secret")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["savedArtifactPath"] == str(tmp_path / "out" / "voice.pth")
    assert "Trained on 20 of 24 clips" in result["summary"]
    assert done.stdout.startswith(result["summary"])
    assert "training: 100 of 100 epochs, loss" in done.stderr
    assert "Traceback" not in done.stderr
    sidecar = (tmp_path / "out" / "voice.json").read_text()
    assert "hf_secret" not in sidecar + done.stdout + done.stderr
    assert sorted(os.listdir(tmp_path / "out")) == ["report.html", "voice.json", "voice.pth"]


def test_the_driver_lets_go_of_the_vectors_once_the_heads_task_has_them(
    shared_ray, clips_folder, encoder_folder, tmp_path, kept, monkeypatch
):
    from golem_ray.cluster import RayEngine

    gather, train_head, seen = train_job.gather, RayEngine.train, []

    def gathering(*arguments):
        embedded = gather(*arguments)
        seen.append(weakref.ref(embedded.vectors))
        return embedded

    def training(*arguments):
        seen.append(seen[0]() is None)
        return train_head(*arguments)

    monkeypatch.setattr(train_job, "gather", gathering)
    monkeypatch.setattr(RayEngine, "train", training)
    paths = {"save_path": str(tmp_path / "v.pth"), "embedding_cache": kept}
    golem_ray.train(configuration(clips_folder, encoder_folder, "", paths=paths, cluster={"address": "auto"}))
    assert seen[1:] == [True]
