"""The artifact: the head's weights in a .pth and a JSON sidecar beside it, on any filesystem, whole or not at all.

Knows nothing of what the sidecar says beyond its format, its digest and what must be the same to make it again.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import fsspec

import golem_ray
from golem_ray.config import PathsConfig
from golem_ray.errors import ConfigError
from golem_ray.presets import SIDECAR_FORMAT, SIDECAR_VERSION

STORAGE_ROOT_VARIABLE = "GOLEM_RAY_STORAGE_ROOT"

_LIBRARIES = ("torch", "torchaudio", "transformers", "datasets", "ray", "soundfile", "numpy")


def resolve_save_path(paths: PathsConfig, in_job: bool) -> str:
    """Where the .pth goes: an absolute path or a URI.

    Raises ConfigError in a submitted job (in_job) if a relative path has no storage root to lie under: the job's
    working directory goes away with the job.
    """
    save_path = paths.save_path.removeprefix("file://")
    if "://" in save_path:
        return save_path
    path = _expand(save_path, "paths.save_path")
    if path.is_absolute():
        return str(path)
    root = paths.storage_root or os.environ.get(STORAGE_ROOT_VARIABLE)
    root = root.removeprefix("file://") if root else None
    if in_job and (root is None or not ("://" in root or _expand(root, "paths.storage_root").is_absolute())):
        raise ConfigError(
            f"paths.save_path: expected an absolute path or a URI in a submitted job, found {paths.save_path!r}, "
            f"which would vanish with the job's folder; set ${STORAGE_ROOT_VARIABLE} or paths.storage_root to "
            "shared storage."
        )
    if root is not None and "://" in root:
        return f"{root.rstrip('/')}/{path}"
    return str((_expand(root or ".", "paths.storage_root") / path).resolve())


def _expand(path: str, key: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ConfigError(f"{key}: expected a path, found {path!r}, whose user has no home folder here.") from None


def sidecar_path(save_path: str) -> str:
    """The sidecar's path, beside the .pth."""
    return save_path.removesuffix(".pth") + ".json"


def check_writable(save_path: str) -> None:
    """Raise ConfigError unless both files can be written there. Leaves nothing behind, creates no folder."""
    probe = f".{uuid.uuid4().hex}.golem_ray-write-check"
    try:
        if "://" in save_path:
            fs, path = fsspec.core.url_to_fs(save_path)
            place = path.rsplit("/", 1)[0] + "/" + probe
            fs.pipe_file(place, b"")
            fs.rm_file(place)
            return
        for path in (Path(save_path), Path(sidecar_path(save_path))):
            if path.is_dir():
                raise IsADirectoryError(f"{path} is a folder")
        _refuse_to_overwrite(Path(sidecar_path(save_path)))
        folder = next(parent for parent in Path(save_path).parents if os.path.lexists(parent))
        if len(os.fsencode(Path(save_path).name)) > os.pathconf(folder, "PC_NAME_MAX") - len(".json"):
            raise OSError("its name is too long")
        (folder / probe).touch(exist_ok=False)
        (folder / probe).unlink()
    except ConfigError:
        raise
    except Exception as error:  # every filesystem has its own
        reason = " ".join(str(error).split())[:300].replace(probe, "...")
        raise ConfigError(
            f"paths.save_path: expected to be able to write {save_path}, but {type(error).__name__}: {reason}"
        ) from None


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
            commits.append(_stage(path, data, staged))
        for commit in commits:
            commit()
    finally:
        for temporary in staged:
            temporary.unlink(missing_ok=True)


def _stage(path: str, data: bytes, staged: list[Path]) -> Callable[[], None]:
    """Do all of a write that can fail, short of the last step, and return that step.

    Local files: a temporary file beside the target, then a rename. Object stores: a single put.
    """
    if "://" in path:
        fs, place = fsspec.core.url_to_fs(path)
        return partial(fs.pipe_file, place, data)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{uuid.uuid4().hex}")
    staged.append(temporary)
    with temporary.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return partial(os.replace, temporary, target)


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
