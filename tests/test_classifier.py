"""A saved classifier in use without Ray, and artifacts that are not what they should be."""

import contextlib
import hashlib
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import numpy as np
import pytest
import soundfile
import torch
import torchaudio
import transformers

import golem_ray
from golem_ray import artifact
from golem_ray.artifact.recipe import recipe_of
from golem_ray.config import ModelConfig
from golem_ray.embedding import loaded
from golem_ray.errors import ConfigError, DataError
from golem_ray.speech.encoders import SpeechEncoder
from golem_ray.speech.inspect import inspect_encoder
from tests.conftest import ROOT, audio_bytes, tone, write_encoder

LABELS = ["north", "east", "south"]


def save_artifact(path, encoder, labels=LABELS, weights=None, temperature=2.0, **changes):
    """An artifact of a random head on an encoder, without training one. Returns its path as a string."""
    width = 32
    rng = np.random.default_rng(0)
    state = {
        "weight": torch.tensor(rng.standard_normal((len(labels), width)), dtype=torch.float32),
        "bias": torch.tensor(rng.standard_normal(len(labels)), dtype=torch.float32),
    }
    buffer = io.BytesIO()
    torch.save(state, buffer)
    info = inspect_encoder(ModelConfig(feature_extractor_model=str(encoder)))
    document = {
        "labels": labels,
        "encoder": {"name": info.name, "revision": info.revision, "sha256": info.sha256, "layer": "last"},
        "head": {"kind": "linear", "in_features": width, "out_features": len(labels)},
        "data": {},
        "versions": {},
        "config": {},
        "clips": {"per_class": dict.fromkeys(labels, 1), "digests": ""},
        "metrics": {"calibration": {"temperature": temperature, "num_clips": 40}},
        **changes,
    }
    artifact.save(str(path), buffer.getvalue() if weights is None else weights, document)
    return str(path)


@pytest.fixture
def saved(tmp_path, encoder_folder):
    return save_artifact(tmp_path / "voice.pth", encoder_folder)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "one.wav"
    path.write_bytes(audio_bytes(tone(3)))
    return path


def by_hand(saved, encoder_folder, clip):
    """The probabilities that plain PyTorch and transformers give."""
    samples, rate = soundfile.read(clip, dtype="float32")
    waveform = torchaudio.transforms.Resample(rate, 16000)(torch.tensor(samples))
    extractor = transformers.Wav2Vec2FeatureExtractor.from_pretrained(encoder_folder)
    model = transformers.Wav2Vec2Model.from_pretrained(encoder_folder).eval()
    head = torch.nn.Linear(32, len(LABELS))
    head.load_state_dict(torch.load(saved, weights_only=True))
    with torch.no_grad():
        inputs = extractor(waveform.numpy(), sampling_rate=16000, return_tensors="pt").input_values
        logits = head(model(inputs).last_hidden_state.mean(dim=1))[0]
    return (logits / 2).softmax(dim=0).numpy()


def test_a_clip_is_taken_for_what_plain_pytorch_takes_it_for(saved, encoder_folder, clip):
    expected = by_hand(saved, encoder_folder, clip)
    classifier = golem_ray.load(saved)
    assert (classifier.labels, classifier.sampling_rate) == (LABELS, 16000)
    waveform, rate = soundfile.read(clip, dtype="float32")
    forms = [str(clip), clip, clip.as_uri(), clip.read_bytes()]
    found = [*classifier.predict(forms), classifier.predict(waveform, sampling_rate=rate)]
    found.append(classifier.predict(torch.tensor(waveform), sampling_rate=rate))
    for prediction in found:
        assert prediction.label == LABELS[expected.argmax()]
        assert prediction.probability == max(prediction.probabilities.values())
        assert [prediction.probabilities[label] for label in LABELS] == pytest.approx(expected, abs=1e-5)
        assert list(prediction.probabilities.values()) == sorted(prediction.probabilities.values(), reverse=True)
        assert prediction.problem == ""


def test_threads_load_one_encoder(saved, clip, monkeypatch):
    classifier, expected = golem_ray.load(saved), golem_ray.load(saved).predict(clip)
    start, loads, begun = SpeechEncoder.__init__, [], threading.Barrier(2)

    def counted(*arguments, **keywords):
        loads.append(1)
        with contextlib.suppress(threading.BrokenBarrierError):
            begun.wait(0.5)  # for the other thread to load too
        start(*arguments, **keywords)

    monkeypatch.setattr(SpeechEncoder, "__init__", counted)
    monkeypatch.setattr(loaded, "_kept", {})
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(classifier.predict, [clip, clip])) == [expected, expected]
    assert len(loads) == 1


def test_a_bad_clip_is_an_error_alone_and_a_problem_in_a_list(saved, clip, tmp_path):
    (tmp_path / "noise.wav").write_bytes(b"noise")
    classifier = golem_ray.load(saved)
    with pytest.raises(DataError, match=r"absent\.wav: expected a clip that can be used, found missing file"):
        classifier.predict(str(tmp_path / "absent.wav"))
    stereo, short = np.zeros((2, 100), np.float32), np.zeros(10, np.float32)
    found = classifier.predict([tmp_path / "noise.wav", clip, stereo, short, np.full(9000, np.nan)])
    assert [prediction.label is None for prediction in found] == [True, False, True, True, True]
    for prediction, words in zip(found, ("not audio", "", "shape (2, 100)", "shorter than", "not finite"), strict=True):
        assert words in prediction.problem
    assert [each.remark for each in classifier.predict([clip, np.zeros(9000, np.float32)])] == ["", "silent"]
    assert classifier.predict([]) == []
    odd = classifier.predict((None, {"array": stereo}, ["nested"], np.zeros(9000, np.int16), np.full(9000, 1e38)))
    for prediction, words in zip(odd, ("NoneType", "dict", "list", "int16: scale", "not finite"), strict=True):
        assert prediction.label is None
        assert words in prediction.problem
    assert classifier.predict(bytearray(clip.read_bytes())) == classifier.predict(clip)
    for rate in (0, -1, "8000"):
        with pytest.raises(ConfigError, match="sampling_rate: expected a positive number of Hz"):
            classifier.predict(clip, sampling_rate=rate)
    assert classifier.predict([stereo])[0].label is None


def test_a_clip_that_does_not_fit_into_memory_is_a_problem_of_its_own(saved, clip):
    def limited(waveforms):
        if max(len(each.data) for each in waveforms) > 90_000:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 32000000000 bytes")
        return fits(waveforms)

    classifier = golem_ray.load(saved)
    alone = classifier.predict(clip)
    fits, classifier.embed = classifier.embed, limited
    found = classifier.predict([clip, np.ones(96_000, np.float32), clip])
    assert [each.problem for each in found] == [
        "",
        "its 6 s do not fit into the memory: see processing.max_seconds",
        "",
    ]
    assert found[0] == found[2] == alone


def test_probabilities_without_calibration_are_the_heads_own(tmp_path, encoder_folder, clip, saved):
    plain = save_artifact(tmp_path / "plain.pth", encoder_folder, metrics={"calibration": None})
    sure, calibrated = (golem_ray.load(path).predict(clip).probability for path in (plain, saved))
    assert sure > calibrated


def test_an_artifact_is_loaded_from_a_uri(tmp_path, encoder_folder, clip):
    save_artifact("memory://loads/voice.pth", encoder_folder)
    try:
        assert golem_ray.load("memory://loads/voice.pth").predict(clip).label in LABELS
    finally:
        fsspec.filesystem("memory").rm("/loads", recursive=True)


def test_the_encoder_is_the_one_that_the_head_was_trained_on(saved, tmp_path, encoder_folder, clip):
    moved = shutil.copytree(encoder_folder, tmp_path / "moved")
    assert golem_ray.load(saved, encoder=str(moved)).predict(clip) == golem_ray.load(saved).predict(clip)
    other = write_encoder(tmp_path / "other", seed=5)
    with pytest.raises(ConfigError, match=r"the encoder: expected the one that .*voice\.pth was trained on \(sha256"):
        golem_ray.load(saved, encoder=str(other))
    lost = save_artifact(tmp_path / "lost.pth", moved)
    shutil.rmtree(moved)
    with pytest.raises(
        ConfigError, match=r"expected a Hub id or a local folder, .*if it lies elsewhere, say where \(encoder\)"
    ):
        golem_ray.load(lost)


def test_the_encoder_runs_as_it_did_in_training(saved):
    document = json.loads(Path(saved).with_suffix(".json").read_text())
    document["encoder"] |= {"precision": "bfloat16", "max_seconds": 30.0, "pooling": "mean"}
    Path(saved).with_suffix(".json").write_text(json.dumps(document))
    recipe = recipe_of(artifact.load(saved))
    assert (recipe.precision, recipe.window, recipe.compiled) == ("bfloat16", 30.0, False)


def test_loading_and_predicting_need_neither_ray_nor_a_command_line_parser(saved, clip):
    lines = (
        "import sys, golem_ray\n"
        f"print(golem_ray.load({saved!r}).predict({str(clip)!r}).label)\n"
        "print(sorted({'ray', 'datasets', 'sklearn', 'plotly', 'typeguard'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", lines], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    label, loaded = done.stdout.splitlines()
    assert label in LABELS
    assert loaded == "[]"


def test_a_sidecar_may_name_the_modality_and_the_target(saved, clip):
    found = golem_ray.load(saved).predict(clip)
    change(Path(saved), modality="speech", target="single-label")
    assert golem_ray.load(saved).predict(clip) == found


class Touch:
    """Pickles to code that makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def with_code(path):
    path.write_bytes(pickle.dumps({"weight": Touch(str(path.parent / "ran"))}))
    resign(path)


def zipped_with_code(path):
    torch.save({"weight": Touch(str(path.parent / "ran"))}, path)
    resign(path)


def resign(path):
    """Have the sidecar name the weights as they are now."""
    change(path, weights={"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()})


def change(path, **values):
    sidecar = path.with_suffix(".json")
    sidecar.write_text(json.dumps(json.loads(sidecar.read_text()) | values))


def encoder_of(path):
    return json.loads(path.with_suffix(".json").read_text())["encoder"]


def other_weights(path):
    torch.save({"weight": torch.zeros(3, 32), "bias": torch.zeros(3)}, path)


def narrower(path):
    change(path, head={"kind": "linear", "in_features": 31, "out_features": 3})
    replaced({"weight": torch.zeros(3, 31), "bias": torch.zeros(3)})(path)


def replaced(state):
    def replace(path):
        torch.save(state, path)
        resign(path)

    return replace


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.unlink(), "expected the artifact, found no such file"),
        (lambda path: path.with_suffix(".json").unlink(), "expected the sidecar, found no such file"),
        (cut, "expected the weights that its sidecar was written for"),
        (other_weights, "one of the two files was changed, cut or replaced"),
        (lambda path: (cut(path), resign(path)), "expected a head's weights as torch.save writes them"),
        (with_code, "found code in it, which was not run"),
        (zipped_with_code, "found code in it, which was not run"),
        (lambda path: path.with_suffix(".json").write_text("{"), "something that is not a JSON object"),
        (lambda path: path.with_suffix(".json").write_text("[" * 100_000), "something that is not a JSON object"),
        (lambda path: path.with_suffix(".json").write_bytes(b"\xff\xfe\x00"), "something that is not a JSON object"),
        (lambda path: path.with_suffix(".json").write_text('{"dataset": {}}'), "found other JSON"),
        (lambda path: change(path, format_version=2), "expected format_version 1, found 2"),
        (
            lambda path: change(path, modality="video"),
            "expected modality 'speech' or 'text', found 'video'; use the golem_ray that",
        ),
        (lambda path: change(path, target=None), "expected target 'single-label' or 'multi-label', found None; use"),
        (lambda path: change(path, labels=LABELS[:2]), "the 3 classes of the weights in the sidecar, found 2"),
        (lambda path: change(path, labels="abc"), "expected labels as this package writes it"),
        (lambda path: change(path, labels=[1, 2, 3]), "expected labels as this package writes it"),
        (lambda path: change(path, weights={}), r"expected weights\.sha256"),
        (
            lambda path: change(path, metrics={"calibration": {"temperature": 0, "num_clips": 40}}),
            r"expected metrics\.calibration",
        ),
        (lambda path: change(path, metrics={"calibration": {"temperature": 1.5}}), r"expected metrics\.calibration"),
        (lambda path: change(path, metrics={"calibration": {}}), r"expected metrics\.calibration"),
        (lambda path: change(path, metrics=[]), "expected metrics"),
        (lambda path: change(path, head={"kind": "forest"}), "found a head of kind 'forest'"),
        (lambda path: change(path, metrics={"training_accuracy": 1.0}), r"expected metrics\.training_accuracy"),
        (lambda path: change(path, metrics={"cross_validation": {"accuracy": 1}}), r"metrics\.cross_validation"),
        (lambda path: change(path, metrics={"loss_history": [1]}), r"expected metrics\.loss_history"),
        (lambda path: change(path, labels=["a", "b", "a"]), "expected labels as"),
        (lambda path: change(path, head=None), "expected head as"),
        (lambda path: change(path, encoder={"precision": "float8"}), "expected encoder as"),
        (lambda path: change(path, encoder={"layer": "all"}), "expected encoder as"),
        (lambda path: change(path, encoder={"layer": -1}), "expected encoder as"),
        (lambda path: change(path, encoder={"pooling": "max"}), "expected encoder as"),
        (lambda path: change(path, encoder=encoder_of(path) | {"layer": 3}), r"model\.layer: expected 0 to 2"),
        (lambda path: change(path, encoder=encoder_of(path) | {"pooling": "mean+std"}), "embedding_size 32"),
        (lambda path: change(path, metrics={"choice": {"candidates": [{"layer": 0}]}}), r"expected metrics\.choice"),
        (lambda path: change(path, clips={"per_class": {}, "digests": "not base64!"}), r"expected clips\.digests"),
        (
            lambda path: change(path, clips={"per_class": dict.fromkeys(LABELS, 1), "extra": [{}]}),
            r"expected clips\.extra",
        ),
        (lambda path: change(path, clips=None), r"expected clips\.per_class"),
        (replaced([1, 2]), "expected a head's weights by name, found a list"),
        (replaced({"weight": torch.zeros(3, 32)}), "expected the head that its sidecar describes, found other weights"),
        (
            replaced({"weight": torch.zeros(3), "bias": torch.zeros(3)}),
            "expected the head that its sidecar describes, found other weights",
        ),
        (replaced({"weight": torch.full((3, 32), torch.nan), "bias": torch.zeros(3)}), "expected finite weights"),
        (narrower, "embedding_size 31"),
    ],
)
def test_a_bad_artifact_is_one_clear_line_and_its_code_never_runs(saved, damage, words):
    damage(Path(saved))
    with pytest.raises(ConfigError, match=words) as error:
        golem_ray.load(saved)
    assert "\n" not in str(error.value)
    assert not os.path.exists(Path(saved).parent / "ran")


def test_what_is_no_artifact_is_said(tmp_path):
    for place in (str(tmp_path), "/nowhere/at/all/x", "s3://bucket/voice"):
        with pytest.raises(ConfigError, match=r"expected an artifact, a path or URI ending in \.pth"):
            golem_ray.load(place)
    with pytest.raises(ConfigError, match="device: expected 'auto', 'cpu' or 'cuda'"):
        golem_ray.load(save_artifact(tmp_path / "v.pth", "sample", labels=LABELS), device="tpu")
