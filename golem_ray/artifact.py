"""The artifact: the head's weights in a .pth and a JSON sidecar beside it, on any filesystem, whole or not at all.

Knows nothing of what the sidecar says beyond its format, its digest and what must be the same to make it again.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import golem_ray
from golem_ray import storage
from golem_ray.errors import ConfigError
from golem_ray.presets import SIDECAR_FORMAT, SIDECAR_VERSION

_LIBRARIES = ("torch", "torchaudio", "transformers", "datasets", "ray", "soundfile", "numpy")


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
    """Write weights and sidecar, each whole or not at all, the sidecar last."""
    document = {
        "format": SIDECAR_FORMAT,
        "format_version": SIDECAR_VERSION,
        "weights": {"file": save_path.rsplit("/", 1)[-1], "sha256": hashlib.sha256(weights).hexdigest()},
        **sidecar,
    }
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    commits: list[Callable[[], None]] = []
    staged: list[Path] = []
    try:
        for path, data in ((save_path, weights), (sidecar_path(save_path), text.encode())):
            commits.append(storage.stage(path, data, staged))
        for commit in commits:
            commit()
    finally:
        for temporary in staged:
            temporary.unlink(missing_ok=True)


def library_versions() -> dict[str, str]:
    """The versions that an artifact's bytes depend on."""
    versions = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    return {"golem_ray": golem_ray.__version__, "python": platform.python_version(), **versions}


def differences(recorded: dict[str, Any], current: dict[str, Any]) -> list[str]:
    """What differs of `current` from the same entries of a sidecar, each in words: `versions.torch: 2.11 -> 2.14`."""
    found = []
    for group, values in current.items():
        before = recorded.get(group) or {}
        found += [
            f"{group}.{key}: {before.get(key)!r} then, {value!r} now"
            for key, value in values.items()
            if before.get(key) != value
        ]
    return found
