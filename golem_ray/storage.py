"""Where outputs go: a local path or a URI, checked before the work, written whole or not at all.

Knows nothing of what is written.
"""

from __future__ import annotations

import os
import random
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import fsspec

from golem_ray.config import PathsConfig
from golem_ray.errors import ConfigError, one_line

T = TypeVar("T")

STORAGE_ROOT_VARIABLE = "GOLEM_RAY_STORAGE_ROOT"

RETRY_AFTER_S = (0.2, 1.0, 4.0)
"""Pauses before what failed on some storage is tried again; each is drawn from half to one and a half of that."""

_LASTING = (FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError, ImportError, MemoryError)


def resolve(key: str, path: str, paths: PathsConfig, in_job: bool) -> str:
    """Where an output goes that the configuration names: an absolute path or a URI.

    Raises ConfigError in a submitted job (in_job) if a relative path has no storage root to lie under: the job's
    working directory goes away with the job.
    """
    path = path.removeprefix("file://")
    if "://" in path:
        return path
    local = _expand(path, key)
    if local.is_absolute():
        return str(local)
    root = paths.storage_root or os.environ.get(STORAGE_ROOT_VARIABLE)
    root = root.removeprefix("file://") if root else None
    if in_job and (root is None or not ("://" in root or _expand(root, "paths.storage_root").is_absolute())):
        raise ConfigError(
            f"{key}: expected an absolute path or a URI in a submitted job, found {path!r}, which would vanish with "
            f"the job's folder; set ${STORAGE_ROOT_VARIABLE} or paths.storage_root to shared storage."
        )
    if root is not None and "://" in root:
        return f"{root.rstrip('/')}/{local}"
    return str((_expand(root or ".", "paths.storage_root") / local).resolve())


def _expand(path: str, key: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ConfigError(f"{key}: expected a path, found {path!r}, whose user has no home folder here.") from None


def in_submitted_job() -> bool:
    """Whether this process is the driver of a job that `ray job submit` or the Jobs interface started."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


def filesystem(path: str) -> tuple[Any, str]:
    """The filesystem that a path or URI lies on, and its place there."""
    if "://" in path:
        fs, place = fsspec.core.url_to_fs(path)
        return fs, place
    return fsspec.filesystem("file"), path  # not through fsspec's URL parser, to which `a::b` is a chain


def retried(call: Callable[[], T]) -> T:
    """What call() gives, tried again a few times where it fails in a way that may pass; then its exception."""
    for pause in RETRY_AFTER_S:
        try:
            return call()
        except Exception as error:  # every filesystem has its own
            if _is_lasting(error):
                raise
        time.sleep(pause * random.uniform(0.5, 1.5))
    return call()


def _is_lasting(error: Exception) -> bool:
    """Whether to try again is in vain: what is not there, not allowed, or not understood."""
    if not isinstance(error, FileNotFoundError):
        return isinstance(error, (*_LASTING, ValueError, TypeError))
    if error.__cause__ is None:  # fsspec says `not found` of every failed HTTP request, and of what S3 refuses
        return True
    response = getattr(error.__cause__, "response", None)
    status = getattr(error.__cause__, "status", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status in (400, 401, 403, 404, 410)


def read(path: str) -> bytes:
    """The content of a file at a path or URI; whatever exception its filesystem has."""

    def content() -> bytes:
        if "://" in path:  # in one request, where opening it takes another for its size
            fs, place = fsspec.core.url_to_fs(path)
            return bytes(fs.cat_file(place))
        return Path(path).read_bytes()

    return retried(content)


def check_folder(folder: str) -> None:
    """Write a file there and remove it; whatever exception that raises. Creates no local folder."""
    probe = f".{uuid.uuid4().hex}.golem_ray-write-check"
    try:
        if "://" in folder:
            fs, place = fsspec.core.url_to_fs(f"{folder}/{probe}")
            retried(partial(fs.pipe_file, place, b""))
            retried(partial(fs.rm_file, place))
            return
        existing = next(place for place in (Path(folder), *Path(folder).parents) if os.path.lexists(place))
        (existing / probe).touch(exist_ok=False)
        (existing / probe).unlink()
    except Exception as error:  # every filesystem has its own
        raise OSError(f"{type(error).__name__}: {one_line(error).replace(probe, '...')}") from None


def check_file(path: str) -> None:
    """Raise OSError, with the reason, unless a file can be written there. Leaves nothing behind, creates no folder."""
    check_folder(path.rsplit("/", 1)[0] or "/")
    if "://" in path:
        return
    folder = next(parent for parent in Path(path).parents if os.path.lexists(parent))
    if len(os.fsencode(Path(path).name)) > os.pathconf(folder, "PC_NAME_MAX"):
        raise OSError("its name is too long")
    if Path(path).is_dir():
        raise IsADirectoryError(f"{path} is a folder")


def write(path: str, data: bytes) -> None:
    """Write a file whole or not at all, on any filesystem."""
    staged: list[Path] = []
    try:
        stage(path, data, staged)()
    finally:
        for temporary in staged:
            temporary.unlink(missing_ok=True)


def stage(path: str, data: bytes, staged: list[Path]) -> Callable[[], None]:
    """Do all of a write that can fail, short of the last step, and return that step.

    Local files: a temporary file beside the target (added to `staged`, for the caller to remove what is left), then a
    rename. Object stores: a single put.
    """
    if "://" in path:
        fs, place = fsspec.core.url_to_fs(path)
        return partial(retried, partial(fs.pipe_file, place, data))
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{uuid.uuid4().hex}")
    staged.append(temporary)
    with temporary.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return partial(os.replace, temporary, target)
