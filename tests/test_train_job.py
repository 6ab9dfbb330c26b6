"""The training job: from Python on a shared Ray, and as a process that a user starts."""

import copy
import dataclasses
import io
import json
import logging
import os
import shutil
import weakref

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from train import train

import golem_ray
from golem_ray.config import TrainConfig
from golem_ray.config.presets import config_from_dict
from golem_ray.data import labels as labelled
from golem_ray.data.split import Division
from golem_ray.data.table import Source
from golem_ray.embedding.embeddings import Embeddings
from golem_ray.errors import ConfigError, DataError
from golem_ray.jobs import train as train_job
from tests.conftest import ROOT, audio_bytes, tone, write_clips, write_encoder


def configuration(clips, encoder, save_path, **changes) -> dict:
    """A CPU run of one actor and one thread; `changes` are group={key: value}."""
    config = {
        "dataset": {"name": str(clips), "label_column": "label"},
        "model": {"feature_extractor_model": str(encoder)},
        "device": {"backend": "cpu"},
        "cluster": {"threads_per_worker": 1, "workers": 1},
        "evaluation": {"repeats": 2},
        "paths": {"save_path": str(save_path)},
    }
    for group, keys in changes.items():
        config[group] = {**config.get(group, {}), **keys}
    return config


@pytest.fixture(scope="module")
def fifty_clips(tmp_path_factory):
    """50 clips of 13 labels; `solo` has one clip."""
    labels = [f"intent-{row % 12:02d}" for row in range(49)]
    return write_clips(tmp_path_factory.mktemp("fifty") / "set", [*labels, "solo"], seconds=0.15)


@pytest.fixture(scope="module")
def trained(simulated_gpus, fifty_clips, encoder_folder, tmp_path_factory):
    """The artifact of a run on fifty clips, and what the call returned."""
    path = tmp_path_factory.mktemp("artifact") / "voice_classifier_knowledge.pth"
    config = configuration(fifty_clips, encoder_folder, path)
    config["dataset"]["labelColumn"] = config["dataset"].pop("label_column")  # either spelling
    return path, golem_ray.train(config)


@pytest.fixture(scope="module")
def tested_on_itself(simulated_gpus, clips_folder, encoder_folder, tmp_path_factory):
    """What a run said that was tested on the clips of `clips_folder` that it was trained on, its sidecar, its cache."""
    work = tmp_path_factory.mktemp("kept")
    paths = {"save_path": str(work / "v.pth"), "embedding_cache": str(work / "cache")}
    result = golem_ray.train(
        configuration(clips_folder, encoder_folder, "", evaluation={"split": "train"}, paths=paths)
    )
    return result["summary"], json.loads((work / "v.json").read_text()), paths["embedding_cache"]


@pytest.fixture
def kept(tested_on_itself):
    """A cache of the clips of `clips_folder`, for runs in which embedding them is not the subject: no actor starts."""
    return tested_on_itself[2]


def test_100_epochs_on_50_clips_save_the_artifact(trained):
    path, result = trained
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


def test_the_summary_says_what_happened_in_words(trained):
    path, result = trained
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


def test_the_artifact_answers_in_plain_pytorch(trained, fifty_clips, encoder_folder):
    """The weights, applied to the raw mean-pooled embedding, give the logits that the metrics speak of."""
    import soundfile
    import torchaudio
    import transformers

    path, _ = trained
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


def readme_lines(words: str) -> str:
    """The README's block of Python that holds the words."""
    blocks = (ROOT / "README.md").read_text().split("```python\n")[1:]
    (block,) = [block.split("```")[0] for block in blocks if words in block]
    return block


def test_the_readmes_lines_of_pytorch_use_it(trained, monkeypatch, capsys):
    path, _ = trained
    monkeypatch.chdir(path.parent)
    exec(readme_lines("import json, torch"), {"embedding": torch.zeros(32)})
    bias = torch.load(path, weights_only=True)["bias"]
    labels = json.loads(path.with_suffix(".json").read_text())["labels"]
    assert capsys.readouterr().out.strip() == labels[bias.argmax()]


def test_the_readmes_lines_of_golem_ray_use_it(trained, fifty_clips, tmp_path, monkeypatch, capsys):
    path, _ = trained
    for source in (path, path.with_suffix(".json")):
        shutil.copy(source, tmp_path)
    for name in ("clip", "one", "two"):
        shutil.copy(fifty_clips / "clips" / "7.wav", tmp_path / f"{name}.wav")
    (tmp_path / "broken.wav").write_bytes(b"noise")
    monkeypatch.chdir(tmp_path)
    exec(readme_lines("import golem_ray"), {})
    printed = capsys.readouterr().out.splitlines()
    label = printed[0].split()[0]
    assert [line.split()[0] for line in printed[1:2] + printed[4:6]] == [label] * 3
    assert printed[6].startswith("None not audio")


def test_the_sidecar_makes_the_same_bytes_again_and_so_do_two_actors(trained, fifty_clips, encoder_folder, tmp_path):
    path, _ = trained
    sidecar = json.loads(path.with_suffix(".json").read_text())
    again = copy.deepcopy(sidecar)
    moved, encoder = shutil.copytree(fifty_clips, tmp_path / "moved"), shutil.copytree(encoder_folder, tmp_path / "enc")
    again["config"]["dataset"]["name"] = str(moved)  # the same files elsewhere are the same input
    again["config"]["model"]["feature_extractor_model"] = str(encoder)
    again["config"]["cluster"]["workers"] = 2
    again["config"]["paths"]["save_path"] = str(tmp_path / "out" / path.name)
    golem_ray.train(again)
    assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
    found = json.loads((tmp_path / "out" / path.name).with_suffix(".json").read_text())
    assert found["config"] == again["config"]
    back = json.dumps(found).replace(str(moved), str(fifty_clips)).replace(str(encoder), str(encoder_folder))
    expected = {**sidecar, "config": None, "timings": None}
    assert {**json.loads(back), "config": None, "timings": None} == expected


def test_an_artifact_is_not_made_again_from_other_things_unless_told_to(
    tested_on_itself, clips_folder, encoder_folder, tmp_path
):
    sidecar = copy.deepcopy(tested_on_itself[1])
    sidecar["config"]["evaluation"]["split"] = None
    del sidecar["data"]["evaluation_sha256"]
    sidecar["config"]["paths"]["save_path"] = str(tmp_path / "again.pth")
    clips = shutil.copytree(clips_folder, tmp_path / "set")
    shutil.move(clips / "clips" / "3.wav", clips / "clips" / "4.wav")
    shutil.copy(clips / "clips" / "0.wav", clips / "clips" / "3.wav")
    sidecar["config"]["dataset"]["name"] = str(clips)
    sidecar["config"]["model"]["feature_extractor_model"] = str(write_encoder(tmp_path / "enc", seed=1))
    sidecar["versions"]["torch"] = "1.0"
    with pytest.raises(ConfigError) as error:
        golem_ray.train(sidecar)
    for words in ("versions.torch: '1.0' then", "encoder.sha256:", "data.sha256:", "--allow-drift"):
        assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "again.pth").exists()
    sidecar["config"]["model"]["feature_extractor_model"] = str(encoder_folder)  # whose vectors are kept
    golem_ray.train(sidecar, allow_drift=True)
    drifted = json.loads((tmp_path / "again.json").read_text())
    assert drifted["weights"]["sha256"] != sidecar["weights"]["sha256"]
    assert drifted["data"]["sha256"] != sidecar["data"]["sha256"]


def test_an_artifact_is_made_again_from_the_commits_that_it_records():
    config = config_from_dict({"model": {"revision": "mine"}})
    sidecar = {
        "config": dataclasses.asdict(TrainConfig()),
        "data": {"revision": "d" * 40},
        "encoder": {"revision": "e" * 40},
    }
    pinned = train_job._pinned(config, sidecar)
    assert (pinned.dataset.revision, pinned.model.revision) == ("d" * 40, "mine")
    assert train_job._pinned(TrainConfig(), sidecar).model.revision == "e" * 40
    other = config_from_dict({"dataset": {"name": "other/set"}})
    assert train_job._pinned(other, sidecar).dataset.revision is None


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


def test_allowed_unusable_clips_are_counted_and_recorded_by_split(simulated_gpus, encoder_folder, tmp_path):
    path = tmp_path / "v.pth"
    changes = {"processing": {"max_bad_fraction": 0.5}, "evaluation": {"split": "test"}}
    result = golem_ray.train(configuration(bad_clips(tmp_path / "set"), encoder_folder, path, **changes))
    assert "Trained on 18 clips" in result["summary"]
    assert "(6 skipped)" in result["summary"]
    clips = json.loads(path.with_suffix(".json").read_text())["clips"]
    assert (clips["total"], clips["used"]) == (24, 18)
    bad = {(entry["split"], entry["id"]): entry["reason"] for entry in clips["bad"]}
    assert list(bad) == [*(("train", row) for row in REASONS), ("test", 1)]
    assert all(reason in bad["train", row] for row, reason in REASONS.items())
    assert sum(clips["per_class"].values()) == 18


def embedded(bad, num_clips):
    """What embedding gives where the clips of the rows `bad` cannot be used."""
    digests = np.array([row.to_bytes(32, "big") for row in range(1, num_clips + 1)], dtype="S32")
    vectors = np.zeros((num_clips, 2), dtype=np.float32)
    return Embeddings(vectors=vectors, bad=dict.fromkeys(bad, "not audio"), digests=digests, log_mel=None, workers=())


def test_unusable_clips_are_all_named_with_their_reasons():
    source = Source(
        clips=pa.table({"path": [f"{row}.wav" for row in range(24)], "label": [0, 1] * 12}), labels=("a", "b")
    )
    division = Division(source=source, names=source.labels, tested=np.zeros(24, dtype=bool))
    found = dataclasses.replace(embedded([], 24), bad=REASONS)
    with pytest.raises(DataError) as error:
        train_job._clips(TrainConfig(), division, found)
    assert "processing.max_bad_fraction: expected at most 0 of 24 clips to be unusable, found 6" in str(error.value)
    for row, reason in REASONS.items():
        assert f"clip {row} ({row}.wav): {reason}" in str(error.value)


def test_nothing_but_bad_clips_is_an_error_however_many_are_allowed():
    source = Source(examples=pa.table({"path": ["0.wav", "1.wav"], "label": [0, 1]}), labels=("a", "b"))
    division = Division(source=source, names=source.labels, tested=np.zeros(2, dtype=bool))
    everything = config_from_dict({"processing": {"max_bad_fraction": 1.0}})
    with pytest.raises(DataError, match="at least two classes, found 0 among 2 clips"):
        train_job._clips(everything, division, embedded([0, 1], 2))


def test_bad_clips_of_the_other_split_are_named_as_its_own():
    paths = [f"train/{row}.wav" for row in range(6)] + ["test/0.wav", "test/1.wav"]
    source = Source(examples=pa.table({"path": paths, "label": [0, 1] * 4}), labels=("a", "b"))
    division = Division(source=source, names=source.labels, tested=np.arange(8) >= 6, how="test")
    with pytest.raises(DataError, match=r"test clip 1 \(.*test/1.wav\): not audio"):
        train_job._clips(TrainConfig(), division, embedded([7], 8))
    few = config_from_dict({"processing": {"max_bad_fraction": 0.2}})  # of all eight one, of the two to test on none
    with pytest.raises(DataError, match="at most 0 of 2 clips to be unusable, found 1"):
        train_job._clips(few, division, embedded([7], 8))
    half = config_from_dict({"processing": {"max_bad_fraction": 0.5}})
    assert train_job._clips(half, division, embedded([7], 8)).used.tolist() == list(range(6))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": {"classifier_output_classes": 14}}, "model.classifier_output_classes: expected 4, .* got 14"),
        ({"model": {"classifier_input_features": 768}}, "model.classifier_input_features: expected 32, .* got 768"),
        ({"processing": {"target_sampling_rate": 8000}}, "processing.target_sampling_rate: expected 16000"),
        ({"paths": {"save_path": "/proc/no/v.pth"}}, "paths.save_path: expected to be able to write"),
        ({"dataset": {"label_column": "intent"}}, "dataset.label_column: .* it has file_name, label"),
        ({"cluster": {"workers": 9}}, "cluster.workers: expected at most 2"),
        ({"processing": {"max_samples": 1}}, "processing.max_samples: expected usable clips of at least two classes"),
    ],
)
def test_what_cannot_work_is_one_line_and_writes_nothing(
    simulated_gpus, clips_folder, encoder_folder, tmp_path, changes, words
):
    with pytest.raises((ConfigError, DataError), match=words) as error:
        golem_ray.train(configuration(clips_folder, encoder_folder, tmp_path / "v.pth", **changes))
    assert "\n" not in str(error.value)
    assert os.listdir(tmp_path) == []


def test_another_kind_of_processor_is_named():
    recorded = {"encoder": {"sha256": "e"}, "data": {}, "versions": {}, "gpu": True}

    def check(gpu: bool) -> None:
        train_job._check_drift(recorded, {"encoder": {"name": "moved", "sha256": "e"}}, gpu, allow_drift=False)

    check(gpu=True)
    with pytest.raises(ConfigError, match=r"\(gpu: True then, False now\)"):
        check(gpu=False)


def test_classes_without_a_clip_are_named_and_the_job_goes_on(caplog):
    source = Source(examples=pa.table({"label": [0, 2]}), labels=("north", "east", "south"))
    with caplog.at_level(logging.WARNING, logger="golem_ray"):
        labelled.check_labels(source, np.array([0, 2]))
    assert "1 of 3 classes have no clip: east" in caplog.text


def test_one_class_is_nothing_to_learn():
    source = Source(examples=pa.table({"label": [0, 0]}), labels=("only",))
    with pytest.raises(DataError, match=r"expected at least two classes in .*, found 1 \(only\)"):
        labelled.check_classes(TrainConfig(), source)


def test_more_bad_clips_than_a_report_names_are_counted():
    clips = pa.table({"path": pa.nulls(30, pa.string())})
    source = Source(examples=clips, labels=("a", "b"))
    division = Division(source=source, names=source.labels, tested=np.zeros(30, dtype=bool))
    with pytest.raises(DataError, match=r"clip 19: x; and 5 more\)"):
        train_job._bad_clips(TrainConfig(), division, dict.fromkeys(range(25), "x"))


def test_a_preset_from_stdin_and_relative_paths(kept, clips_folder, encoder_folder, tmp_path, monkeypatch):
    preset = {
        "dataset": {"name": str(clips_folder), "labelColumn": "label"},
        "model": {"featureExtractorModel": str(encoder_folder)},
        "device": {"backend": "cpu"},
        "cluster": {"workers": 1, "threadsPerWorker": 1},
        "evaluation": {"repeats": 0},
        "paths": {"savePath": "out/voice.pth", "embeddingCache": kept},
    }
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(preset)))
    *said, last = train(["-", "--processing.max-samples", "20", "--json"])
    result = json.loads(last)
    assert result["savedArtifactPath"] == str(tmp_path / "out" / "voice.pth")
    assert "Trained on 20 clips" in result["summary"]
    assert said == [result["summary"], f"Saved to {result['savedArtifactPath']}"]
    assert sorted(os.listdir(tmp_path / "out")) == ["report.html", "voice.json", "voice.pth"]


@pytest.mark.slow
def test_the_command_from_any_folder(run_job, clips_folder, encoder_folder, tmp_path):
    """As a user runs it: a preset on stdin, a Ray of its own, relative paths, --json; and what it must not print."""
    preset = {
        "dataset": {"name": str(clips_folder), "labelColumn": "label"},
        "model": {"featureExtractorModel": str(encoder_folder)},
        "paths": {"savePath": "out/voice.pth"},
    }
    done = run_job(
        "-", "--processing.max-samples", "20", "--json", cwd=tmp_path, stdin=json.dumps(preset), HF_TOKEN="hf_secret"
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["savedArtifactPath"] == str(tmp_path / "out" / "voice.pth")
    assert "Trained on 20 clips" in result["summary"]
    assert done.stdout.startswith(result["summary"])
    assert "training: 100 of 100 epochs, loss" in done.stderr
    assert "Traceback" not in done.stderr
    sidecar = (tmp_path / "out" / "voice.json").read_text()
    assert "hf_secret" not in sidecar + done.stdout + done.stderr
    assert sorted(os.listdir(tmp_path / "out")) == ["report.html", "voice.json", "voice.pth"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["absent.toml"], "error: absent.toml: expected a preset"),
        (["--training.epochs", "0"], "error: training.epochs: expected a positive number, got 0."),
        (["--dataset.name", "/no/folder", "--model.feature-extractor-model", "/no/encoder"], "error: model.feature"),
        (["--cluster.address", "127.0.0.1:1", "--dataset.name", "CLIPS"], "error: cluster.address: expected a Ray"),
    ],
)
def test_a_wrong_command_ends_with_status_2_and_one_line(
    run_job, clips_folder, encoder_folder, tmp_path, arguments, words
):
    if "CLIPS" in arguments:
        arguments = [str(clips_folder) if word == "CLIPS" else word for word in arguments]
        arguments += ["--dataset.label-column", "label", "--model.feature-extractor-model", str(encoder_folder)]
    done = run_job(*arguments, "--paths.save-path", tmp_path / "v.pth")
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith(words)
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def write_splits(folder, trained, tested):
    """A dataset folder of two splits; a label is the pitch of its tones. Returns the folder."""
    for split, labels in (("train", trained), ("test", tested)):
        (folder / split).mkdir(parents=True)
        lines = ["file_name,label"]
        for row, label in enumerate(labels):
            time = np.arange(2400) / 8000
            noise = 0.05 * np.random.default_rng([row, len(split)]).standard_normal(2400)
            samples = (0.4 * np.sin(2 * np.pi * int(label) * time) + noise).astype(np.float32)
            (folder / split / f"{row}.wav").write_bytes(audio_bytes(samples))
            lines.append(f"{row}.wav,{label}")
        (folder / split / "metadata.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_the_head_is_tested_on_another_split(simulated_gpus, tmp_path, encoder_folder):
    """Labels by name, not by number; a class that was not trained on is missed; a clip that was, left out."""
    folder = write_splits(tmp_path / "set", ["200", "800"] * 6, ["100", "800", "200", "800", "200"])
    shutil.copy(folder / "train" / "3.wav", folder / "test" / "3.wav")
    paths = {"embedding_cache": str(tmp_path / "cache")}  # the second run and the third embed nothing
    evaluated = configuration(folder, encoder_folder, tmp_path / "v.pth", evaluation={"split": "test"}, paths=paths)
    result = golem_ray.train(evaluated)
    plain = golem_ray.train(configuration(folder, encoder_folder, tmp_path / "plain.pth", paths=paths))
    assert (tmp_path / "v.pth").read_bytes() == (tmp_path / "plain.pth").read_bytes()
    assert result["summary"].splitlines()[1] == plain["summary"].splitlines()[1]

    sidecar = json.loads((tmp_path / "v.json").read_text())
    scores = sidecar["metrics"]["evaluation"]
    assert (scores["how"], scores["num_clips"], scores["num_also_trained_on"]) == ("test", 4, 1)
    assert scores["figures"]["accuracy"]["value"] == scores["baselines"]["log_mel"]["accuracy"]["value"] == 0.75
    assert scores["unknown_labels"] == {"100": 1}
    assert sidecar["clips"]["total"] == 12
    assert sidecar["labels"] == ["200", "800"]
    assert "Accuracy on the 4 clips of test that were not trained on (1 were) 75.0%" in result["summary"]
    assert "log-mel statistics 75.0%" in result["summary"]

    again = config_from_dict(sidecar["config"])
    train_job.run(again, sidecar=sidecar)  # nothing differs
    shutil.copy(folder / "test" / "1.wav", folder / "test" / "2.wav")
    with pytest.raises(ConfigError, match=r"data\.evaluation_sha256"):
        train_job.run(again, sidecar=sidecar)


def test_nothing_new_to_test_on_still_saves_the_head(tested_on_itself):
    summary, sidecar, _ = tested_on_itself
    assert "Accuracy on the 0 clips of train that were not trained on (24 were): none" in summary
    assert sidecar["metrics"]["evaluation"]["num_clips"] == 0


def test_clips_are_held_out_by_speaker_and_the_sidecar_makes_the_same_head_again(kept, tmp_path, encoder_folder):
    folder = write_clips(tmp_path / "set", ["north", "east"] * 12)  # the files of clips_folder
    lines = (folder / "metadata.csv").read_text().splitlines()
    speakers = [f"speaker-{row // 4}" for row in range(24)]
    rows = [f"{line},{speaker}" for line, speaker in zip(lines[1:], speakers, strict=True)]
    (folder / "metadata.csv").write_text("\n".join([f"{lines[0]},who", *rows]) + "\n")
    evaluation = {"holdout": 8, "group_column": "who"}
    paths = {"embedding_cache": kept}
    result = golem_ray.train(
        configuration(folder, encoder_folder, tmp_path / "v.pth", evaluation=evaluation, paths=paths)
    )
    sidecar = json.loads((tmp_path / "v.json").read_text())
    scores = sidecar["metrics"]["evaluation"]
    assert (scores["how"], scores["num_clips"], sidecar["clips"]["used"]) == ("held out", 8, 16)
    assert "Accuracy on the 8 clips held out" in result["summary"]
    assert sidecar["metrics"]["cross_validation"]["folds"] == 4  # of the four speakers that are left
    first = (tmp_path / "v.pth").read_bytes()
    assert "v.pth" in golem_ray.train(sidecar)["savedArtifactPath"]
    assert (tmp_path / "v.pth").read_bytes() == first

    plain = configuration(folder, encoder_folder, tmp_path / "plain.pth", evaluation={"group_column": "nobody"})
    with pytest.raises(DataError, match=r"evaluation\.group_column: expected a column .* none called 'nobody'"):
        golem_ray.train(plain)


def test_the_report_is_written_beside_the_artifact_or_where_it_is_wanted(kept, clips_folder, tmp_path, encoder_folder):
    beside = {"embedding_cache": kept, "save_path": str(tmp_path / "a" / "v.pth")}
    golem_ray.train(configuration(clips_folder, encoder_folder, "", paths=beside))
    assert sorted(os.listdir(tmp_path / "a")) == ["report.html", "v.json", "v.pth"]
    elsewhere = {**beside, "save_path": str(tmp_path / "b" / "v.pth"), "report_path": str(tmp_path / "page.html")}
    golem_ray.train(configuration(clips_folder, encoder_folder, "", paths=elsewhere))
    assert sorted(os.listdir(tmp_path / "b")) == ["v.json", "v.pth"]
    assert (tmp_path / "page.html").read_bytes() == (tmp_path / "a" / "report.html").read_bytes()
    (tmp_path / "page.html").write_text("mine")
    with pytest.raises(ConfigError, match=r"paths\.report_path: expected room for the report, found another page"):
        golem_ray.train(configuration(clips_folder, encoder_folder, "", paths=elsewhere))


@pytest.mark.parametrize(
    "head",
    [{"kind": "logistic"}, {"hidden": [8, 4], "layerNorm": True, "dropout": 0.2, "activation": "gelu", "patience": 20}],
)
def test_other_heads_are_saved_described_made_again_and_used(kept, clips_folder, tmp_path, encoder_folder, head):
    paths = {"embedding_cache": kept}
    golem_ray.train(configuration(clips_folder, encoder_folder, tmp_path / "v.pth", head=head, paths=paths))
    sidecar = json.loads((tmp_path / "v.json").read_text())
    assert sidecar["head"]["kind"] == ("mlp" if "hidden" in head else "linear")
    first = (tmp_path / "v.pth").read_bytes()
    golem_ray.train(sidecar)
    assert (tmp_path / "v.pth").read_bytes() == first
    classifier = golem_ray.load(tmp_path / "v.pth")
    files = [clips_folder / "clips" / f"{row}.wav" for row in range(24)]
    right = [
        each.label == ("north", "east", "south", "west")[row % 4] for row, each in enumerate(classifier.predict(files))
    ]
    assert np.mean(right) == pytest.approx(sidecar["metrics"]["training_accuracy"])
    if "hidden" not in head:
        assert sorted(torch.load(tmp_path / "v.pth", weights_only=True)) == ["bias", "weight"]


def test_the_driver_lets_go_of_the_vectors_once_the_heads_task_has_them(
    simulated_gpus, clips_folder, encoder_folder, tmp_path, kept, monkeypatch
):
    embed, train, seen = train_job.cluster.embed, train_job.cluster.train, []

    def embedding(*args, **options):
        embedded = embed(*args, **options)
        seen.append(weakref.ref(embedded.vectors))
        return embedded

    def training(*args):
        seen.append(seen[0]() is None)
        return train(*args)

    monkeypatch.setattr(train_job.cluster, "embed", embedding)
    monkeypatch.setattr(train_job.cluster, "train", training)
    paths = {"save_path": str(tmp_path / "v.pth"), "embedding_cache": kept}
    golem_ray.train(configuration(clips_folder, encoder_folder, "", paths=paths))
    assert seen[1:] == [True]


def test_a_chosen_layer_is_recorded_made_again_and_used(simulated_gpus, clips_folder, tmp_path, encoder_folder, caplog):
    changes = {
        "model": {"layer": "auto", "pooling": "mean+std"},
        "evaluation": {"holdout": 4},
        "training": {"epochs": 20},
        "paths": {"embedding_cache": str(tmp_path / "cache")},
    }
    result = golem_ray.train(configuration(clips_folder, encoder_folder, tmp_path / "v.pth", **changes))
    sidecar = json.loads((tmp_path / "v.json").read_text())
    chosen = sidecar["encoder"]["layer"]
    scores = {each["layer"]: each["accuracy"] for each in sidecar["metrics"]["layers"]}
    assert list(scores) == [0, 1, "last", "mean"]
    assert scores[chosen] == max(scores.values()) or chosen == "last"
    assert f"Of 4 layers, {chosen} was taken: cross-validated accuracy {scores[chosen]:.1%}" in result["summary"]
    assert "the layer chosen anew in each" in result["summary"]
    assert sidecar["head"]["in_features"] == 64
    assert '"layers": {"data"' in (tmp_path / "report.html").read_text()
    first = (tmp_path / "v.pth").read_bytes()
    golem_ray.train(sidecar)
    assert (tmp_path / "v.pth").read_bytes() == first

    classifier = golem_ray.load(tmp_path / "v.pth")
    files = [clips_folder / "clips" / f"{row}.wav" for row in range(24)]
    names = [each.label for each in classifier.predict(files)]
    right = np.array([name == ("north", "east", "south", "west")[row % 4] for row, name in enumerate(names)])
    accuracies = (
        sidecar["metrics"]["training_accuracy"],
        sidecar["metrics"]["evaluation"]["figures"]["accuracy"]["value"],
    )
    assert right.sum() == round(20 * accuracies[0] + 4 * accuracies[1])


def test_a_layer_that_the_encoder_lacks_ends_the_job_before_it_embeds(clips_folder, tmp_path, encoder_folder):
    config = configuration(clips_folder, encoder_folder, tmp_path / "v.pth", model={"layer": 3})
    with pytest.raises(ConfigError, match=r"model\.layer: expected 0 to 2, the blocks of .*, got 3"):
        golem_ray.train(config)
    width = configuration(
        clips_folder, encoder_folder, "v.pth", model={"pooling": "mean+std", "classifier_input_features": 32}
    )
    with pytest.raises(ConfigError, match=r"model\.classifier_input_features: expected 64"):
        golem_ray.train(width)


def test_a_split_to_test_on_that_is_not_there_ends_the_job_before_it_embeds(clips_folder, tmp_path, encoder_folder):
    config = configuration(clips_folder, encoder_folder, tmp_path / "v.pth", evaluation={"split": "absent"})
    with pytest.raises(DataError, match=r"evaluation\.split.*'absent'"):
        golem_ray.train(config)
