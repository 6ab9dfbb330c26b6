"""The artifact: the head's weights in a .pth and a JSON sidecar beside it, on any filesystem, whole or not at all.

Knows nothing of what the sidecar says beyond its format, its digest and what must be the same to make it again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from golem_ray import hub, storage
from golem_ray.artifact import sharing
from golem_ray.artifact.format import build_head, parse_sidecar
from golem_ray.config.presets import SIDECAR_FORMAT, SIDECAR_VERSION
from golem_ray.errors import ConfigError, one_line

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger(__name__)

REPORT_MARK = b'<meta name="generator" content="golem_ray">'
"""What tells our report from another page."""


def sidecar_path(save_path: str) -> str:
    """The sidecar's path, beside the .pth."""
    return save_path.removesuffix(".pth") + ".json"


def check_writable(save_path: str) -> None:
    """Raise ConfigError unless both files can be written there. Leaves nothing behind, creates no folder."""
    try:
        if "://" not in save_path:
            for path in (Path(save_path), Path(sidecar_path(save_path))):
                if path.is_dir():
                    raise IsADirectoryError(f"{path} is a folder")
            _refuse_to_overwrite(Path(sidecar_path(save_path)))
            folder = next(parent for parent in Path(save_path).parents if os.path.lexists(parent))
            if len(os.fsencode(Path(save_path).name)) > os.pathconf(folder, "PC_NAME_MAX") - len(".json"):
                raise OSError("its name is too long")
        storage.check_folder(save_path.rsplit("/", 1)[0] or "/")
    except OSError as error:
        raise ConfigError(f"paths.save_path: expected to be able to write {save_path}, but {error}") from None


def _refuse_to_overwrite(sidecar: Path) -> None:
    """Raise ConfigError if something that is no sidecar lies where the sidecar goes: somebody's preset, say."""
    if not sidecar.exists():
        return
    try:
        found = json.loads(sidecar.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict) or found.get("format") != SIDECAR_FORMAT:
        raise ConfigError(
            f"paths.save_path: expected room for the sidecar, found another file at {sidecar}; choose another name."
        )


def save(save_path: str, weights: bytes, sidecar: dict[str, Any]) -> None:
    """Write weights and sidecar, each whole or not at all, the sidecar last.

    Raises ConfigError if that fails (a full disk, credentials that ran out), an old artifact untouched; it then names
    the temporary folder of this machine where the new one is.
    """
    document = {
        "format": SIDECAR_FORMAT,
        "format_version": SIDECAR_VERSION,
        "weights": {"file": save_path.rsplit("/", 1)[-1], "sha256": hashlib.sha256(weights).hexdigest()},
        **sidecar,
    }
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        _write_both(save_path, weights, text.encode())
    except Exception as error:  # every filesystem has its own
        kept = _kept_aside(save_path.rsplit("/", 1)[-1], weights, text.encode())
        raise ConfigError(
            f"paths.save_path: expected to be able to write {save_path}, but {one_line(error)}; {kept}."
        ) from None


def _kept_aside(name: str, weights: bytes, sidecar: bytes) -> str:
    """What to do about an artifact that could not be written: it is put where it can be fetched, if there is room."""
    try:
        place = f"{tempfile.mkdtemp(prefix='golem_ray-')}/{name}"
        _write_both(place, weights, sidecar)
    except OSError as error:
        return f"nor is there room for it in {tempfile.gettempdir()} ({one_line(error)}): make some, and run again"
    return f"it is in {place} instead, with its .json: move both to where they belong"


def _write_both(save_path: str, weights: bytes, sidecar: bytes) -> None:
    commits: list[Callable[[], None]] = []
    staged: list[Path] = []
    try:
        for path, data in ((save_path, weights), (sidecar_path(save_path), sidecar)):
            commits.append(storage.stage(path, data, staged))
        for commit in commits:
            commit()
    finally:
        for temporary in staged:
            temporary.unlink(missing_ok=True)


def report_path(save_path: str) -> str:
    """Where an artifact's report goes, if nobody says another place."""
    return f"{save_path.rpartition('/')[0]}/report.html" if "/" in save_path else "report.html"


def check_report(key: str, path: str) -> None:
    """Raise ConfigError, naming the configuration's key, unless a report can be written there."""
    try:
        storage.check_file(path)
        fs, place = storage.filesystem(path)
        ours = not fs.exists(place) or REPORT_MARK in fs.cat_file(place, end=4096)
    except Exception as error:  # every filesystem has its own
        raise ConfigError(f"{key}: expected to be able to write {path}, but {one_line(error)}") from None
    if not ours:
        raise ConfigError(f"{key}: expected room for the report, found another page at {path}; choose another name.")


def save_report(path: str, page: str) -> bool:
    """Write a report; whether that went well. The artifact is saved by then: what fails is told in a warning."""
    try:
        storage.write(path, page.encode(errors="replace"))
    except Exception as error:  # every filesystem has its own
        log.warning("the report could not be written to %s (%s)", path, one_line(error))
        return False
    return True


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A saved classifier, checked."""

    place: str
    """Where its weights were found: a path, a URI, or a file of a Hub repository."""
    weights: bytes
    """The .pth file."""
    sidecar: bytes
    """The .json file."""
    head: nn.Module
    document: dict[str, Any]
    """What the sidecar says."""
    from_hub: str | None = None
    """The Hub repository that it was fetched from."""

    @property
    def labels(self) -> list[str]:
        """The classes, in the order of the logits."""
        return list(self.document["labels"])

    @property
    def temperature(self) -> float:
        """What logits are divided by before they become probabilities; 1 where nothing was calibrated."""
        calibration = self.document["metrics"].get("calibration")
        return float(calibration["temperature"]) if calibration else 1.0

    def logits(self, embeddings: np.ndarray) -> np.ndarray:
        """(N, D) float32 -> (N, K) float32."""
        import torch

        with torch.inference_mode():
            return self.head(torch.tensor(embeddings)).numpy()


def load(place: str | os.PathLike[str]) -> Artifact:
    """The artifact at a local path or URI ending in .pth, or in a Hub repository (`user/repo`).

    Raises ConfigError, in one line, for one that is missing, damaged or changed, or that this version cannot read.
    No code in it is run: weights are read by PyTorch's restricted unpickler, the rest is JSON.
    """
    place, repository = os.fspath(place), None
    if place.endswith(".pth"):
        place = place if "://" in place else str(Path(os.path.expanduser(place)).absolute())
        weights, text = _read(place), _read(sidecar_path(place))
    elif "://" not in place and not os.path.exists(os.path.expanduser(place)) and hub.is_hub_id(place):
        repository = place
        place, weights, text = sharing.fetch(repository)
    else:
        raise ConfigError(
            f"{place}: expected an artifact, a path or URI ending in .pth with its .json beside it or a Hub repository "
            "(user/name), found neither."
        )
    document = parse_sidecar(text, sidecar_path(place))
    found = hashlib.sha256(weights).hexdigest()
    if found != document["weights"]["sha256"]:
        raise ConfigError(
            f"{place}: expected the weights that its sidecar was written for (sha256 "
            f"{document['weights']['sha256']:.12}...), found others ({found:.12}...): one of the two files was "
            "changed, cut or replaced."
        )
    head = build_head(weights, document, place)
    return Artifact(place=place, weights=weights, sidecar=text, head=head, document=document, from_hub=repository)


def _read(path: str) -> bytes:
    try:
        fs, place = storage.filesystem(path)
        content = fs.cat_file(place)
        assert isinstance(content, bytes)
        return content
    except FileNotFoundError:
        other = "the sidecar" if path.endswith(".json") else "the artifact"
        raise ConfigError(
            f"{path}: expected {other}, found no such file; the .pth and the .json belong together."
        ) from None
    except Exception as error:  # every filesystem has its own
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise ConfigError(f"{path}: expected to be able to read it, but {reason}") from None
