"""The Hub as a source of clips and encoders: found, cached, pinned, out of reach, and each way that it says no."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import transformers
import yaml

from golem_ray.config import ModelConfig
from golem_ray.embedding.recipe import Recipe
from golem_ray.errors import ConfigError
from golem_ray.speech.encoders import SpeechEncoder
from golem_ray.speech.inspect import inspect_encoder
from tests import warm
from tests.conftest import ROOT, audio_bytes, job, tone
from tests.hub_server import HubServer, Repository

OLD, NEW, MODEL = "0" * 39 + "1", "0" * 38 + "2f", "a" * 40
TOKEN = "hf_NotToBeSeenAnywhere"
INTENTS = [
    "abroad",
    "address",
    "app_error",
    "atm_limit",
    "balance",
    "business_loan",
    "card_issues",
    "cash_deposit",
    "direct_debit",
    "freeze",
    "high_value_payment",
    "joint_account",
    "latest_transactions",
    "pay_bill",
]
TRANSCRIPT = "said in confidence"
EXPECTED_PATHS = r"/(api/)?(models/|datasets/)?(facebook/wav2vec2-base|PolyAI/minds14)(/(revision|tree|resolve)/.+)?"


# --- what lies on the Hub -------------------------------------------------------------------------------------


def minds14(seed: int) -> dict[str, bytes]:
    """A dataset laid out as PolyAI/minds14 is: 60 clips in en-US, 12 in fr-FR, two intents with no clip at all."""
    import datasets

    features = datasets.Features(
        path=datasets.Value("string"),
        audio=datasets.Audio(sampling_rate=8000),
        transcription=datasets.Value("string"),
        english_transcription=datasets.Value("string"),
        intent_class=datasets.ClassLabel(names=INTENTS),
        lang_id=datasets.ClassLabel(names=["en-US", "fr-FR"]),
    )
    files, cards = {}, []
    for language, num_clips in (("en-US", 60), ("fr-FR", 12)):
        names = [f"{language}~{INTENTS[row % 12]}/{row}.wav" for row in range(num_clips)]
        clips = [audio_bytes(tone(seed + row, seconds=0.1 + 0.05 * (row % 5))) for row in range(num_clips)]
        table = datasets.Dataset.from_dict(
            {
                "path": names,
                "audio": [{"bytes": clip, "path": name} for clip, name in zip(clips, names, strict=True)],
                "transcription": [TRANSCRIPT] * num_clips,
                "english_transcription": [TRANSCRIPT] * num_clips,
                "intent_class": [row % 12 for row in range(num_clips)],
                "lang_id": [int(language == "fr-FR")] * num_clips,
            }
        )
        buffer = io.BytesIO()
        table.cast(features).to_parquet(buffer)  # given to from_dict, they would want torchcodec
        files[f"{language}/train-00000-of-00001.parquet"] = buffer.getvalue()
        cards.append({"config_name": language, "data_files": [{"split": "train", "path": f"{language}/train-*"}]})
    files["README.md"] = f"---\n{yaml.safe_dump({'license': 'cc-by-4.0', 'configs': cards})}---\n# MInDS-14\n".encode()
    return files


@pytest.fixture(scope="module")
def pretrained() -> transformers.Wav2Vec2ForPreTraining:
    """A random facebook/wav2vec2-base: as wide as the real one, but shallow."""
    config = transformers.Wav2Vec2Config(
        num_hidden_layers=1,
        intermediate_size=256,
        conv_dim=(32,) * 7,
        num_conv_pos_embeddings=16,
        architectures=["Wav2Vec2ForPreTraining"],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return transformers.Wav2Vec2ForPreTraining(config).eval()


@pytest.fixture(scope="module")
def wav2vec2_base(pretrained: transformers.Wav2Vec2ForPreTraining) -> dict[str, bytes]:
    """Its files as facebook/wav2vec2-base has them: a .bin alone, and in it the names that weights had in 2020."""
    then = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    weights = {}
    for key, value in pretrained.state_dict().items():
        for now, before in then.items():
            key = key.replace(now, before)
        weights[key] = value
    assert "wav2vec2.encoder.pos_conv_embed.conv.weight_g" in weights
    assert "project_hid.weight" in weights
    buffer = io.BytesIO()
    torch.save(weights, buffer)
    preprocessor = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=False)
    return {
        "README.md": b"# Wav2Vec2-Base\n",
        "config.json": pretrained.config.to_json_string().encode(),
        "preprocessor_config.json": preprocessor.to_json_string().encode(),
        "pytorch_model.bin": buffer.getvalue(),
    }


@pytest.fixture(scope="module")
def bank() -> dict[str, dict[str, bytes]]:
    """The dataset's two commits, of which the second has other clips."""
    return {OLD: minds14(0), NEW: minds14(1000)}


@pytest.fixture
def hub(bank: dict[str, dict[str, bytes]], wav2vec2_base: dict[str, bytes]) -> Iterator[HubServer]:
    bert = {"config.json": json.dumps({"model_type": "bert", "hidden_size": 32}).encode()}
    server = HubServer(
        {
            "datasets/PolyAI/minds14": Repository(bank),
            "datasets/someone/locked": Repository(bank, gated=True),
            "models/facebook/wav2vec2-base": Repository({MODEL: wav2vec2_base}),
            "models/someone/locked": Repository({MODEL: wav2vec2_base}, gated=True),
            "models/someone/bert": Repository({MODEL: bert}),
            "models/someone/bare": Repository({MODEL: {"README.md": b"# Soon\n"}}),
        }
    )
    with server:
        yield server


@pytest.fixture
def closed_port() -> str:
    """An address at which nobody answers."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{one.getsockname()[1]}"


@pytest.fixture
def silent_port() -> Iterator[str]:
    """An address that takes calls and never answers them."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        yield f"http://127.0.0.1:{one.getsockname()[1]}"


def online(url: str, home: Path, **environment: str) -> dict[str, str]:
    """The environment of a process for which the Hub is at url, with a cache of its own."""
    return {"HF_ENDPOINT": url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(home), **environment}


# --- the job --------------------------------------------------------------------------------------------------


def run_job(folder: Path, *flags: str, **environment: str) -> tuple[bytes, dict[str, Any], str]:
    """The weights and the sidecar of a run with hardly a flag, and all that it said."""
    folder.mkdir()
    done = job("train", *flags, cwd=folder, **environment)
    assert done.returncode == 0, done.stderr
    text = (folder / "voice_classifier_knowledge.json").read_text()
    return (folder / "voice_classifier_knowledge.pth").read_bytes(), json.loads(text), done.stdout + done.stderr + text


@pytest.mark.slow
@pytest.mark.timeout(400)  # three jobs, each of which job() gives two minutes
def test_flagless_job_trains_on_minds14_and_then_without_the_hub(
    hub: HubServer, closed_port: str, tmp_path: Path
) -> None:
    there = online(hub.url, tmp_path / "hf", HF_TOKEN=TOKEN)
    weights, sidecar, said = run_job(tmp_path / "first", **there)
    head = torch.nn.Linear(768, 14)
    head.load_state_dict(torch.load(io.BytesIO(weights), weights_only=True))
    assert sidecar["labels"] == INTENTS
    assert list(sidecar["clips"]["per_class"].items()) == list(zip(INTENTS, [5] * 2 + [4] * 10 + [0] * 2, strict=True))
    assert sidecar["encoder"]["revision"] == MODEL
    assert sidecar["data"]["revision"] == NEW
    assert TOKEN not in said
    assert TRANSCRIPT not in said
    assert "Trained on 50 of 60 clips" in said
    assert "training: 100 of 100 epochs, loss" in said
    assert "Traceback" not in said

    assert {request.authorization for request in hub.requests} == {f"Bearer {TOKEN}"}
    strangers = [path for path in hub.paths() if not re.fullmatch(EXPECTED_PATHS, path)]
    assert not strangers, "such as the service that converts checkpoints, which transformers may call"

    num_requests = len(hub.requests)
    here = ("--cluster.address", "none")  # the same bytes, and no Ray to wait for
    offline, sidecar_offline, _ = run_job(tmp_path / "offline", *here, **{**there, "HF_HUB_OFFLINE": "1"})
    assert len(hub.requests) == num_requests
    alone, sidecar_alone, _ = run_job(tmp_path / "alone", *here, **online(closed_port, tmp_path / "hf"))
    for later in (sidecar_offline, sidecar_alone):
        assert (later["encoder"], later["data"]) == (sidecar["encoder"], sidecar["data"])
    assert offline == weights
    assert alone == weights


def test_dataset_that_cannot_be_loaded_is_reported_and_the_job_halts_gracefully(
    hub: HubServer,
    encoder_folder: Path,
    closed_port: str,
    tmp_path: Path,
) -> None:
    artifact = tmp_path / "voice_classifier_knowledge.pth"
    artifact.write_bytes(b"of an earlier run")
    for url, name, remedy in (
        (hub.url, "someone/locked", "accept its conditions on the Hub and set HF_TOKEN"),
        (closed_port, "PolyAI/minds14", "point dataset.name at a local copy"),
    ):
        started = time.monotonic()
        done = job(
            "train",
            *("--dataset.name", name, "--model.feature-extractor-model", encoder_folder),
            cwd=tmp_path,
            **online(url, tmp_path / "hf", HF_TOKEN=TOKEN),
        )
        assert time.monotonic() - started < 30
        assert done.returncode == 2, done.stderr
        *before, last = done.stderr.splitlines()
        assert re.match(rf"error: dataset\.name: expected .*{name}.*{remedy}", last)
        assert not [line for line in before if line.startswith(("error", "Traceback"))]
        assert done.stdout == ""
        assert TOKEN not in done.stderr
    assert {path.name for path in tmp_path.iterdir()} - {"hf"} == {artifact.name}
    assert artifact.read_bytes() == b"of an earlier run"


# --- what is found, and what is said where nothing is ---------------------------------------------------------

_PROBE = """
import json, sys
from golem_ray import hub
from golem_ray.config import DatasetConfig, ModelConfig
from golem_ray.data import open_source
from golem_ray.speech import MODALITY
from golem_ray.speech.inspect import inspect_encoder

cases, hub.TIMEOUT_S = json.load(sys.stdin)
answers = []
for case in cases:
    try:
        if "name" in case:
            source = open_source(DatasetConfig(**case), MODALITY.content, max_samples=50)
            found = [source.revision, source.examples.num_rows]
        else:
            found = [inspect_encoder(ModelConfig(**case)).revision]
        answers.append(["found", *found])
    except Exception as error:
        answers.append([type(error).__name__, str(error)])
print(json.dumps(answers))
"""


def ask(*cases: dict[str, str], timeout_s: float = 10.0, **environment: str) -> list[list[Any]]:
    """What a process of its own finds for each case, keys of a dataset or of a model: ["found", commit, ...].

    Or it is [name of the exception, message].
    """
    done = warm.run(["-c", _PROBE], cwd=ROOT, env={**os.environ, **environment}, input=json.dumps([cases, timeout_s]))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


_SHARDS = """
import hashlib, json, pickle
from golem_ray.config import DatasetConfig
from golem_ray.data import open_source
from golem_ray.data.shards import with_contents
from golem_ray.speech import MODALITY

source = open_source(DatasetConfig(name="hf://datasets/PolyAI/minds14/en-US"), MODALITY.content, None)
clips = pickle.loads(pickle.dumps(source.examples.slice(7, 3)))  # as a worker gets them
digests = [hashlib.sha256(content.as_py()).hexdigest() for content in with_contents(clips)["bytes"]]
print(json.dumps([source.labels, source.examples["bytes"].null_count, digests]))
"""


def test_workers_read_the_shards_of_a_hub_dataset_themselves(hub: HubServer, bank: Any, tmp_path: Path) -> None:
    environment = {**os.environ, **online(hub.url, tmp_path / "hf", HF_TOKEN=TOKEN)}
    done = warm.run(["-c", _SHARDS], cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    labels, num_null, digests = json.loads(done.stdout)
    shard = pq.read_table(io.BytesIO(bank[NEW]["en-US/train-00000-of-00001.parquet"]))
    files = [row["bytes"] for row in shard["audio"].to_pylist()[7:10]]
    assert (labels, num_null) == (INTENTS, 60)  # the driver has no audio
    assert digests == [hashlib.sha256(file).hexdigest() for file in files]
    assert {request.authorization for request in hub.requests} == {f"Bearer {TOKEN}"}


def minds(**keys: str) -> dict[str, str]:
    return {"name": "PolyAI/minds14", **keys}


def encoder(name: str = "facebook/wav2vec2-base", **keys: str) -> dict[str, str]:
    return {"feature_extractor_model": name, **keys}


def check_refusals(answers: list[list[Any]], expected: list[tuple[str, str]]) -> None:
    """Each answer is a user's error, one line that begins with the key and goes on as the pattern says."""
    for answer, (key, pattern) in zip(answers, expected, strict=True):
        kinds = ("DataError", "NoColumnError") if key.startswith("dataset.") else ("ConfigError",)
        assert answer[0] in kinds, answer
        assert re.fullmatch(rf"{re.escape(key)}: expected .*{pattern}.*", answer[1]), answer


def test_each_refusal_of_the_hub_names_the_key_and_the_remedy(hub: HubServer, tmp_path: Path) -> None:
    nowhere = "f" * 40
    cases = [
        ({"name": "someone/none"}, "dataset.name", "found none called 'someone/none'.*spelling.*HF_TOKEN"),
        ({"name": "someone/locked"}, "dataset.name", "someone/locked gated: accept its conditions.*HF_TOKEN"),
        (minds(name_alias="xx-XX"), "dataset.name_alias", "'xx-XX' not found.*'en-US', 'fr-FR'"),
        (minds(name_alias=""), "dataset.name_alias", "missing.*'en-US', 'fr-FR'"),
        (minds(split="test"), "dataset.split", "one of train .*got 'test'"),
        (minds(split="train[:x"), "dataset.split", "train\\[:x"),
        (minds(audio_column="sound"), "dataset.audio_column", "none called 'sound'; it has path, audio, "),
        (minds(audio_column="lang_id"), "dataset.audio_column", "found int64"),
        (minds(label_column="intent"), "dataset.label_column", "none called 'intent'; it has .*intent_class"),
        (minds(revision=nowhere), "dataset.revision", f"PolyAI/minds14.*none called '{nowhere}'"),
        (encoder("someone/none"), "model.feature_extractor_model", "found none called 'someone/none'"),
        (encoder("someone/locked"), "model.feature_extractor_model", "someone/locked gated: accept its conditions"),
        (encoder("someone/bert"), "model.feature_extractor_model", "wav2vec2, .*found someone/bert to be 'bert'"),
        (encoder("someone/bare"), "model.feature_extractor_model", "a config.json in someone/bare, found none"),
        (encoder(revision=nowhere), "model.revision", f"facebook/wav2vec2-base.*none called '{nowhere}'"),
    ]
    answers = ask(*(case for case, _, _ in cases), **online(hub.url, tmp_path))
    check_refusals(answers, [(key, pattern) for _, key, pattern in cases])

    hub.refused_token = TOKEN
    answers = ask(minds(), encoder(), **online(hub.url, tmp_path, HF_TOKEN=TOKEN))
    refused = "found it refused; renew the one in HF_TOKEN"
    check_refusals(answers, [("dataset.name", refused), ("model.feature_extractor_model", refused)])
    assert TOKEN not in str(answers)


def test_pinned_revision_is_what_is_asked_for_and_kept_to_without_the_hub(
    hub: HubServer, silent_port: str, tmp_path: Path
) -> None:
    pinned, newest = minds(revision=OLD), minds(revision=NEW)
    assert ask(pinned, encoder(), **online(hub.url, tmp_path)) == [["found", OLD, 50], ["found", MODEL]]
    files = [path for path in hub.paths() if "/resolve/" in path and "/datasets/" in path]
    assert files
    assert all(f"/resolve/{OLD}/" in path for path in files)

    hub.broken = True
    for environment in (online(hub.url, tmp_path), online(silent_port, tmp_path)):
        *found, other = ask(
            *(pinned, minds(), encoder(), encoder(revision=MODEL), newest), timeout_s=0.5, **environment
        )
        assert found == [["found", OLD, 50]] * 2 + [["found", MODEL]] * 2
        check_refusals([other], [("dataset.revision", f"{NEW}, found {OLD} in the cache")])


def test_without_hub_or_cache_a_local_copy_is_proposed(
    hub: HubServer, closed_port: str, silent_port: str, tmp_path: Path
) -> None:
    expected = [
        ("dataset.name", "reach the Hub for PolyAI/minds14.*no cached copy; point dataset.name at a local copy"),
        ("model.feature_extractor_model", "facebook/wav2vec2-base.*at a local folder"),
    ]
    hub.broken = True
    for environment in (
        online(closed_port, tmp_path),
        online(silent_port, tmp_path),
        online(hub.url, tmp_path),
        online(hub.url, tmp_path, HF_HUB_OFFLINE="1"),
    ):
        started = time.monotonic()
        check_refusals(ask(minds(), encoder(), timeout_s=0.5, **environment), expected)
        assert time.monotonic() - started < 20, "the Hub was asked again and again"


@pytest.mark.slow  # the Hub's library tries again for five seconds
@pytest.mark.parametrize(
    ("file", "case", "key"),
    [
        ("en-US/train-00000-of-00001.parquet", minds(), "dataset.name"),
        ("config.json", encoder(), "model.feature_extractor_model"),
    ],
    ids=["dataset", "encoder"],
)
def test_connection_that_breaks_halfway_is_reported(
    hub: HubServer, tmp_path: Path, file: str, case: dict[str, str], key: str
) -> None:
    hub.hangs_up_on = file
    check_refusals(ask(case, **online(hub.url, tmp_path)), [(key, "but RemoteProtocolError: Server disconnected")])


# --- the checkpoint -------------------------------------------------------------------------------------------


def test_checkpoint_in_the_form_of_wav2vec2_base_loads_with_its_own_weights(
    pretrained: transformers.Wav2Vec2ForPreTraining, wav2vec2_base: dict[str, bytes], tmp_path: Path
) -> None:
    for name, content in wav2vec2_base.items():
        (tmp_path / name).write_bytes(content)
    info = inspect_encoder(ModelConfig(feature_extractor_model=str(tmp_path)))
    assert (info.model_type, info.traits.sampling_rate, info.embedding_size) == ("wav2vec2", 16000, 768)

    waveform = tone(7, seconds=0.5, rate=16000)
    normed = (waveform - waveform.mean()) / np.sqrt(waveform.var() + 1e-7)
    with torch.inference_mode():
        expected = pretrained.wav2vec2(torch.from_numpy(normed)[None]).last_hidden_state.mean(dim=1)
    np.testing.assert_allclose(
        SpeechEncoder(Recipe(modality="speech", encoder=info), "cpu").embed([waveform]),
        expected.numpy(),
        rtol=1e-4,
        atol=1e-5,
    )


def test_checkpoint_without_its_positional_convolution_is_refused(
    wav2vec2_base: dict[str, bytes], tmp_path: Path
) -> None:
    weights = torch.load(io.BytesIO(wav2vec2_base["pytorch_model.bin"]), weights_only=True)
    del weights["wav2vec2.encoder.pos_conv_embed.conv.weight_g"]
    for name, content in wav2vec2_base.items():
        (tmp_path / name).write_bytes(content)
    torch.save(weights, tmp_path / "pytorch_model.bin")
    info = inspect_encoder(ModelConfig(feature_extractor_model=str(tmp_path)))
    with pytest.raises(ConfigError, match=r"found 1 missing \(encoder\.pos_conv_embed\.conv\."):
        SpeechEncoder(Recipe(modality="speech", encoder=info), "cpu")
