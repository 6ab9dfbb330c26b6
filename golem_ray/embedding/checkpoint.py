"""An encoder's files: where they are, what its JSON files say, and the digest of a local one's. Any modality.

Read without importing PyTorch, which would cost the driver two seconds that it has no other use for; loading.py loads
the weights.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from golem_ray import hub
from golem_ray.config import ModelConfig
from golem_ray.errors import ConfigError, one_line

KEY = "model.feature_extractor_model"

LOCAL_COPY = f"point {KEY} at a local folder that save_pretrained wrote"


class Checkpoint(NamedTuple):
    """An encoder's files, as far as a driver needs them."""

    name: str
    """As configured."""
    where: dict[str, Any]
    """`path`, `revision`, `sha256` and `cached`, as EncoderInfo has them."""
    config: dict[str, Any]
    """config.json."""
    others: dict[str, dict[str, Any] | None]
    """Other JSON files by their names; None for one that is not there."""


def find_checkpoint(model: ModelConfig, bundled: Path | None, others: Sequence[str]) -> Checkpoint:
    """The configured encoder's config.json and other JSON files, from a folder or the Hub; `bundled` is `sample`'s.

    Raises ConfigError if it cannot be had, or has no config.json.
    """
    name = model.feature_extractor_model
    folder = bundled if name == "sample" and bundled is not None else Path(os.path.expanduser(name))
    wanted = ("config.json", *others)
    if os.path.isdir(folder):
        files = {file: _read_json(folder / file) for file in wanted}
        where: dict[str, Any] = {"path": str(folder.resolve()), "revision": None, "cached": False}
    elif hub.is_hub_id(name):
        where, files = _on_hub(name, model.revision, wanted)
    else:
        raise ConfigError(f"{KEY}: expected a Hub id or a local folder, found neither at {name!r}.")
    config = files.pop("config.json")
    if config is None:
        raise ConfigError(f"{KEY}: expected a config.json in {name}, found none; {LOCAL_COPY}.")
    where["sha256"] = None if where["revision"] or where["cached"] else _digest(folder)
    return Checkpoint(name, where, config, files)


def check_width(model: ModelConfig, width: int) -> None:
    """Raise ConfigError unless vectors of layers of that width are as wide as configured, if something is."""
    wanted, vector_size = model.classifier_input_features, width * len(model.pooling.split("+"))
    if wanted not in ("auto", vector_size):
        raise ConfigError(
            f"model.classifier_input_features: expected {vector_size}, the width of {model.feature_extractor_model} "
            f"with model.pooling {model.pooling!r}, got {wanted}; leave it at auto or choose another encoder."
        )


def _on_hub(
    name: str, revision: str | None, wanted: Sequence[str]
) -> tuple[dict[str, Any], dict[str, dict[str, Any] | None]]:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, LocalEntryNotFoundError

    cached = hub.resolve_commit(name, "model", revision, KEY, ConfigError) is None
    commit: str | None = None  # that of the first file: asked for by branch, so that the cache learns what that is
    files: dict[str, dict[str, Any] | None] = {}
    for file in wanted:
        try:
            path = Path(hf_hub_download(name, file, revision=commit or revision, local_files_only=cached))
        except GatedRepoError:
            raise ConfigError(f"{KEY}: expected an encoder that may be read, found {hub.gated(name)}") from None
        except LocalEntryNotFoundError:
            raise hub.unreachable(name, KEY, ConfigError, LOCAL_COPY) from None
        except EntryNotFoundError:
            files[file] = None
        except Exception as error:  # the HTTP library's own, when the connection breaks halfway
            reason = f"{type(error).__name__}: {one_line(error)}"
            raise ConfigError(f"{KEY}: expected to read {file} of {name}, but {reason}") from None
        else:
            files[file] = _read_json(path)
            commit = commit or path.parent.name  # the cache keeps a folder per commit
    return {"path": name, "revision": commit, "cached": cached}, files


def positive(value: object) -> int:
    """The value if it is a positive integer, else 0."""
    return value if isinstance(value, int) and value > 0 else 0


def _read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file, None without the file."""
    try:
        with _readable():
            values = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError):
        return None
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise ConfigError(f"{KEY}: expected {path} to hold a JSON object, found something else.")
    return values


@contextmanager
def _readable() -> Iterator[None]:
    """Turn the system's refusal of a file into a ConfigError."""
    try:
        yield
    except PermissionError as error:
        raise ConfigError(f"{KEY}: expected to be able to read {error.filename}, but {error.strerror}.") from None


def _digest(folder: Path) -> str:
    """sha256 over the names and contents of the files that decide what a local encoder computes."""
    total = hashlib.sha256()
    with _readable():
        for path in sorted(folder.iterdir()):
            if path.suffix in (".json", ".safetensors", ".bin") and path.is_file():
                with path.open("rb") as file:
                    total.update(path.name.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()
