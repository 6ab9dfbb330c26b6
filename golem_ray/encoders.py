"""Frozen speech encoders: waveforms -> one vector a clip.

What an encoder is follows from its config.json, never from its name. `inspect_encoder` reads that without
importing PyTorch (which costs the driver two seconds that it has no other use for); `SpeechEncoder` does the
work. Knows nothing of Ray, labels or heads.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from golem_ray import hub
from golem_ray.config import SAMPLE, ModelConfig
from golem_ray.errors import ConfigError

log = logging.getLogger(__name__)

_KEY = "model.feature_extractor_model"
_LOCAL_COPY = f"point {_KEY} at a local folder that save_pretrained wrote"


@dataclass(frozen=True, kw_only=True)
class EncoderInfo:
    """Which encoder, exactly: enough to load the same one elsewhere, and to notice that it is another."""

    name: str
    """Hub id or local folder, as configured."""
    path: str
    """What `from_pretrained` takes: the Hub id, or the folder's absolute path."""
    revision: str | None
    """Commit on the Hub."""
    sha256: str | None
    """Digest of a local folder's files; None for the Hub's, whose commit says it."""
    model_type: str
    sampling_rate: int
    """Hz"""
    embedding_size: int
    cached: bool
    """Whether only the local cache can be used, the Hub being out of reach."""


def inspect_encoder(model: ModelConfig) -> EncoderInfo:
    """What the configured encoder is, from its config.json and preprocessor_config.json.

    Raises ConfigError if it cannot be had, is no speech encoder of a known family, or has another width than
    model.classifier_input_features.
    """
    name = model.feature_extractor_model
    folder = SAMPLE / "encoder" if name == "sample" else Path(os.path.expanduser(name))
    if os.path.isdir(folder):
        where: dict[str, Any] = {"path": str(folder.resolve()), "revision": None, "cached": False}
        files = {file: _read_json(folder / file) for file in ("config.json", "preprocessor_config.json")}
    elif hub.is_hub_id(name):
        where, files = _inspect_on_hub(name, model.revision)
    else:
        raise ConfigError(f"{_KEY}: expected a Hub id or a local folder, found neither at {name!r}.")

    config, preprocessor = files["config.json"], files["preprocessor_config.json"]
    if config is None:
        raise ConfigError(f"{_KEY}: expected a config.json in {name}, found none; {_LOCAL_COPY}.")
    info = EncoderInfo(
        name=name,
        **where,
        sha256=None if where["revision"] or where["cached"] else _digest(folder),
        model_type=str(config.get("model_type")),
        sampling_rate=_positive((preprocessor or {}).get("sampling_rate")),
        embedding_size=_positive(config.get("hidden_size")),
    )
    if info.model_type not in ENCODERS:
        raise ConfigError(
            f"{_KEY}: expected a speech encoder ({', '.join(ENCODERS)}), found {name} to be {info.model_type!r}."
        )
    if not info.sampling_rate or not info.embedding_size:
        missing = "sampling_rate in preprocessor_config.json" if info.embedding_size else "hidden_size in config.json"
        raise ConfigError(f"{_KEY}: expected {missing} of {name}, found none; {_LOCAL_COPY}.")
    wanted = model.classifier_input_features
    if wanted not in ("auto", info.embedding_size):
        raise ConfigError(
            f"model.classifier_input_features: expected {info.embedding_size}, the width of {name}, "
            f"got {wanted}; leave it at auto or choose another encoder."
        )
    return info


def check_sampling_rate(info: EncoderInfo, target_rate: int) -> None:
    """Raise ConfigError if the encoder was made for another rate than target_rate (Hz)."""
    if target_rate != info.sampling_rate:
        raise ConfigError(
            f"processing.target_sampling_rate: expected {info.sampling_rate}, which {info.name} was made for, "
            f"got {target_rate}."
        )


def _inspect_on_hub(name: str, revision: str | None) -> tuple[dict[str, Any], dict[str, dict[str, Any] | None]]:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, LocalEntryNotFoundError

    cached = hub.resolve_commit(name, "model", revision, _KEY, ConfigError) is None
    commit: str | None = None  # that of the first file: asked for by branch, so that the cache learns what that is
    files: dict[str, dict[str, Any] | None] = {}
    for file in ("config.json", "preprocessor_config.json"):
        try:
            path = Path(hf_hub_download(name, file, revision=commit or revision, local_files_only=cached))
        except GatedRepoError:
            raise ConfigError(f"{_KEY}: expected an encoder that may be read, found {hub.gated(name)}") from None
        except LocalEntryNotFoundError:
            raise hub.unreachable(name, _KEY, ConfigError, _LOCAL_COPY) from None
        except EntryNotFoundError:
            files[file] = None
        except Exception as error:  # the HTTP library's own, when the connection breaks halfway
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            raise ConfigError(f"{_KEY}: expected to read {file} of {name}, but {reason}") from None
        else:
            files[file] = _read_json(path)
            commit = commit or path.parent.name  # the cache keeps a folder per commit
    return {"path": name, "revision": commit, "cached": cached}, files


def _positive(value: object) -> int:
    """The value if it is a positive integer, else 0."""
    return value if isinstance(value, int) and value > 0 else 0


def _read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file, None without the file."""
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise ConfigError(f"{_KEY}: expected {path} to hold a JSON object, found something else.")
    return values


def _digest(folder: Path) -> str:
    """sha256 over the names and contents of the files that decide what a local encoder computes."""
    total = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in (".json", ".safetensors", ".bin") and path.is_file():
            with path.open("rb") as file:
                total.update(path.name.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


class SpeechEncoder:
    """A frozen encoder on one device. One by one, a clip's vector depends on that clip alone.

    float32 throughout, with TF32 off for the whole process. Raises ConfigError if its weights cannot be loaded.
    """

    def __init__(self, info: EncoderInfo, device: str) -> None:
        import torch
        from transformers import AutoFeatureExtractor, AutoModel
        from transformers.utils import logging as transformers_logging

        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        # For a checkpoint that is no .safetensors, transformers would have a service on the Hub convert it meanwhile.
        os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
        options: dict[str, Any] = {"revision": info.revision, "local_files_only": info.cached}
        try:
            self.preprocessor = AutoFeatureExtractor.from_pretrained(info.path, **options)
            model, loading = AutoModel.from_pretrained(
                info.path, dtype=torch.float32, output_loading_info=True, **options
            )
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise ConfigError(
                f"{_KEY}: expected weights that load from {info.name}, but {type(error).__name__}: {reason}"
            ) from None
        missing = sorted(set(loading["missing_keys"]) - {"masked_spec_embed"})
        if missing:
            raise ConfigError(
                f"{_KEY}: expected all weights of a {info.model_type} encoder in {info.name}, found {len(missing)} "
                f"missing ({missing[0]}, ...): they would be random."
            )
        self.device = device
        self.model = model.eval().requires_grad_(False).to(device)

    def embed(self, waveforms: Sequence[np.ndarray]) -> np.ndarray:
        """Mean over time of the last layer: N arrays (T,) float32 at the encoder's rate -> (N, D) float32."""
        import torch

        vectors = np.empty((len(waveforms), self.model.config.hidden_size), dtype=np.float32)
        with torch.inference_mode():
            for row, waveform in enumerate(waveforms):
                inputs = self.preprocessor(
                    waveform, sampling_rate=self.preprocessor.sampling_rate, return_tensors="pt"
                ).input_values
                frames = self.model(inputs.to(self.device)).last_hidden_state  # (1, frames, D)
                vectors[row] = frames.mean(dim=1)[0].cpu().numpy()
        return vectors


ENCODERS = {
    "wav2vec2": SpeechEncoder,
    "hubert": SpeechEncoder,
    "wavlm": SpeechEncoder,
    "unispeech-sat": SpeechEncoder,
}
