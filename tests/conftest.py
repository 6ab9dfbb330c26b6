"""Small real things made on the spot: clips, datasets, encoders, and one Ray for the tests that share it."""

from __future__ import annotations

import io
import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

# Before anything reads them: no network, and neither Ray nor the Hub's cache touches the home of who runs the tests.
_HOME = Path(tempfile.mkdtemp(prefix="gr", dir="/tmp"))  # short: Ray's sockets lie below it
os.environ.update(
    HOME=str(_HOME),
    HF_HOME=str(_HOME / "hf"),
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    RAY_TMPDIR=str(_HOME),
    OMP_NUM_THREADS="1",  # the tests' tensors are tiny, and threads that wait for a busy core are slow
    OMP_WAIT_POLICY="passive",  # a stage's own two threads: waiting, they keep their core from the other test process
    RAY_USAGE_STATS_ENABLED="0",
    RAY_worker_niceness="0",  # else Ray's workers wait for whatever else the machine does, and the tests for them
    RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0",
)
for _name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "GOLEM_RAY_STORAGE_ROOT", "HF_TOKEN", "HF_ENDPOINT"):
    os.environ.pop(_name, None)

signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell has its background jobs, and theirs, ignore

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import pytest  # noqa: E402
import soundfile  # noqa: E402

from tests import warm  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]


def tone(seed: int, seconds: float = 0.4, rate: int = 8000, channels: int = 1) -> np.ndarray:
    """A clip of two tones under noise: (T,) or (T, channels) float32 in [-1, 1]."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    pitch = rng.uniform(100, 800, size=2)
    wave = 0.3 * np.sin(2 * np.pi * pitch[0] * time) + 0.2 * np.sin(2 * np.pi * pitch[1] * time)
    wave = wave[:, None] + 0.05 * rng.standard_normal((len(time), channels))
    return wave.squeeze(-1).astype(np.float32) if channels == 1 else wave.astype(np.float32)


def audio_bytes(samples: np.ndarray, rate: int = 8000, format: str = "WAV", subtype: str | None = None) -> bytes:
    """The samples as an audio file."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=format, subtype=subtype)
    return buffer.getvalue()


def clips_table(*rows: tuple[bytes | None, str | None, int | None]) -> pa.Table:
    """Rows of (file, path, label) as workers get them: a table of examples, with ids from 10."""
    schema = pa.schema({"id": pa.int64(), "bytes": pa.large_binary(), "path": pa.string(), "label": pa.int64()})
    records = [dict(zip(("bytes", "path", "label"), row, strict=True), id=10 + n) for n, row in enumerate(rows)]
    return pa.Table.from_pylist(records, schema)


def write_clips(folder: Path, labels: list[str], seconds: float = 0.3) -> Path:
    """A dataset folder: one WAV per label in `labels` (in that order) and a metadata.csv. Returns the folder."""
    (folder / "clips").mkdir(parents=True)
    lines = ["file_name,label"]
    for row, label in enumerate(labels):
        (folder / "clips" / f"{row}.wav").write_bytes(audio_bytes(tone(row, seconds)))
        lines.append(f"clips/{row}.wav,{label}")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    return folder


def write_encoder(folder: Path, seed: int = 0, family: str = "wav2vec2", **changes: Any) -> Path:
    """A random encoder of a few thousand weights in the Hub's folder format, 32 wide. Returns the folder."""
    import torch
    import transformers

    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "conv_dim": (32,) * 7,
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 2,
        **changes,
    }
    if family == "whisper":
        return _write_whisper(folder, seed)
    config_class, model_class = {
        "wav2vec2": (transformers.Wav2Vec2Config, transformers.Wav2Vec2Model),
        "hubert": (transformers.HubertConfig, transformers.HubertModel),
        "wavlm": (transformers.WavLMConfig, transformers.WavLMModel),
        "unispeech-sat": (transformers.UniSpeechSatConfig, transformers.UniSpeechSatModel),
        "data2vec-audio": (transformers.Data2VecAudioConfig, transformers.Data2VecAudioModel),
    }[family]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = model_class(config_class(**sizes))
        _draw_biases(model)
    model.save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


def _draw_biases(model: Any) -> None:
    """Give every bias a value, as training does. Without, a constant clip is nearly zero throughout, and each
    LayerNorm blows its rounding error up three-hundredfold: no way of computing its vector equals another.
    """
    import torch

    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)


def _write_whisper(folder: Path, seed: int) -> Path:
    import torch
    import transformers

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = transformers.WhisperConfig(
            d_model=32,
            encoder_layers=2,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=64,
            decoder_ffn_dim=64,
            vocab_size=100,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=1,
        )
        model = transformers.WhisperModel(config)
        _draw_biases(model)
    model.save_pretrained(folder)
    transformers.WhisperFeatureExtractor().save_pretrained(folder)
    return folder


def speech_recipe(folder: Path | str, **changes: Any) -> Any:
    """How an encoder's folder embeds clips: its Recipe, plain but for the changes."""
    from golem_ray.config import ModelConfig
    from golem_ray.embedding.recipe import Recipe
    from golem_ray.speech.inspect import inspect_encoder

    info = inspect_encoder(ModelConfig(feature_extractor_model=str(folder)))
    return Recipe(modality="speech", encoder=info, **changes)


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Wav2Vec2 encoder, 32 wide, group norm like facebook/wav2vec2-base."""
    return write_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="session")
def clips_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 clips of four labels, dealt out in turn."""
    return write_clips(tmp_path_factory.mktemp("clips") / "set", ["north", "east", "south", "west"] * 6)


def folder_source(folder: Path) -> Any:
    """The examples of a folder that `write_clips` made."""
    from golem_ray.config import DatasetConfig
    from golem_ray.data import open_source
    from golem_ray.speech import MODALITY

    return open_source(DatasetConfig(name=str(folder), label_column="label"), MODALITY.content, None)


def _on_ray(file: Path) -> bool:
    """Whether tests of a file use Ray in this process, rather than import it for what it brings along."""
    return re.search(r"(?m)\b(shared_ray|simulated_gpus)\b|^\s*import ray$", file.read_text()) is not None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """First the files that need a Ray, then those that may take long."""
    items.sort(key=lambda item: (not _on_ray(item.path), item.get_closest_marker("timeout") is None))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Of two processes one takes all files that need a Ray, so that there is one of it; others go file by file."""
    from xdist.scheduler import LoadScopeScheduling

    class OneRay(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::", 1)[0]
            return "ray" if _on_ray(ROOT / file) else file

    return OneRay(config, log)


@contextmanager
def _for_workers() -> Iterator[None]:
    """The environment for a Ray that starts within: workers import this checkout, and idle ones stay."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        patch.setenv("RAY_idle_worker_killing_time_threshold_ms", "60000")
        yield


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails on a filesystem is tried again as often as ever, but in this process without pauses."""
    monkeypatch.setattr("golem_ray.storage.RETRY_AFTER_S", (0.0,) * 3)


@pytest.fixture(autouse=True)
def no_encoder_from_before() -> None:
    """Each test loads its encoder, which another may have changed."""
    loaded = sys.modules.get("golem_ray.embedding.loaded")
    if loaded is not None:
        loaded._kept.clear()


@pytest.fixture(scope="session")
def _ray_at_the_end() -> Iterator[None]:
    """Ends the shared Ray, or whatever this process is connected to by then."""
    yield
    import ray

    ray.shutdown()


@pytest.fixture
def shared_ray(_ray_at_the_end: None) -> None:
    """One Ray of two CPUs for all tests that need no special one: started by the first, and again after another."""
    import ray

    if ray.is_initialized() and ray.cluster_resources().get("CPU") == 2 and not ray.cluster_resources().get("GPU"):
        return
    ray.shutdown()
    with _for_workers():
        ray.init(address="local", num_cpus=2, num_gpus=0, include_dashboard=False, log_to_driver=False)


@contextmanager
def ray_with_gpus(count: int) -> Iterator[int]:
    """A Ray with two CPUs and so many GPUs that it only believes to have."""
    import ray

    ray.shutdown()  # of the shared one
    with _for_workers():
        ray.init(address="local", num_cpus=2, num_gpus=count, include_dashboard=False, log_to_driver=False)
    yield count
    ray.shutdown()


@pytest.fixture(scope="module")
def simulated_gpus() -> Iterator[int]:
    """A Ray with two CPUs and two GPUs that it only believes to have."""
    with ray_with_gpus(2) as count:
        yield count


@pytest.fixture
def forwards_here(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many clips the encoders of this process have been given since the test began."""
    from golem_ray.speech.encoders import SpeechEncoder

    seen, embed = [], SpeechEncoder.embed

    def counting(self: Any, waveforms: Any) -> Any:
        seen.append(len(waveforms))
        return embed(self, waveforms)

    monkeypatch.setattr(SpeechEncoder, "embed", counting)
    return lambda: sum(seen)


@contextmanager
def ray_that_counts_forwards(log: Path) -> Iterator[Callable[[], int]]:
    """A Ray whose workers write down every clip that their encoder's forward pass is given; yields their number."""
    log.touch()

    def count_forwards():
        from golem_ray.embedding.stage import EmbedBatch

        start = EmbedBatch.__init__

        def counting(self, *arguments):
            start(self, *arguments)
            forward = self.encoder._forward

            def counted(model, inputs, lengths):
                with log.open("a") as file:
                    file.write("x" * len(inputs))
                return forward(model, inputs, lengths)

            self.encoder._forward = counted

        EmbedBatch.__init__ = counting

    import ray

    ray.shutdown()  # of the shared one
    with _for_workers():
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            runtime_env={"worker_process_setup_hook": count_forwards},
        )
    yield lambda: log.stat().st_size
    ray.shutdown()


@pytest.fixture
def counted_forwards(tmp_path: Path) -> Iterator[Callable[[], int]]:
    """How many clips the encoders were given, on a Ray of the test's own."""
    with ray_that_counts_forwards(tmp_path / "forwards") as count:
        yield count


class Said(NamedTuple):
    """What a command left behind."""

    status: int
    out: str
    err: str


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Said]]:
    """Runs a command in this process, as jobs/*.py do; what it logs is said too."""
    from golem_ray.cli import main

    handler, log, root = signal.getsignal(signal.SIGTERM), logging.getLogger("golem_ray"), logging.getLogger()
    level = log.level

    def beside_pytests(level: int, handlers: list[logging.Handler]) -> None:
        root.handlers += handlers

    def run(name: str, *arguments: object) -> Said:
        capsys.readouterr()
        before = list(root.handlers)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(logging, "basicConfig", beside_pytests)
            try:
                status = main(name, [str(argument) for argument in arguments])
            except SystemExit as end:  # the parser's own: --help, or a flag that it does not know
                status = int(end.code or 0)
            finally:
                root.handlers[:] = before
        return Said(status, *capsys.readouterr())

    yield run
    signal.signal(signal.SIGTERM, handler)
    log.setLevel(level)


def job(
    name: str,
    *arguments: object,
    cwd: Path = ROOT,
    stdin: str = "",
    timeout: float = 200,
    fresh: bool = False,
    **environment: str,
) -> subprocess.CompletedProcess[str]:
    """Run jobs/<name>.py from a checkout, in a process of its own: a fresh one as a user's, or a warm one (warm.py)."""
    script = [str(ROOT / "jobs" / f"{name}.py"), *map(str, arguments)]
    env = {**os.environ, **environment}
    if not fresh:
        return warm.run(script, cwd=cwd, env=env, input=stdin, timeout=timeout)
    command = [sys.executable, *script]
    return subprocess.run(command, cwd=cwd, env=env, input=stdin, capture_output=True, text=True, timeout=timeout)
