"""Files and folders, at a local path or at a URI: read, listed, checked before the work, written whole or not at all.

The one place that touches filesystems. Each of these has exceptions of its own; every function here raises
StorageError instead, with what the filesystem said in one line. Does not know what is in a file, nor what the
configuration calls it.
"""

from __future__ import annotations

import errno
import io
import os
import random
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import fsspec

from golem_ray.errors import ConfigError, StorageError, as_storage_errors, one_line

T = TypeVar("T")
STORAGE_ROOT_VARIABLE = "GOLEM_RAY_STORAGE_ROOT"

RETRY_AFTER_S = (0.2, 1.0, 4.0)
"""Pauses before a failed call is tried again; each is drawn from half to one and a half of that."""

_LASTING = (FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError, ImportError, MemoryError)
_LASTING_ERRNO = (errno.ENAMETOOLONG, errno.ELOOP)


def in_submitted_job() -> bool:
    """Whether this process is the driver of a job that `ray job submit` or the Jobs interface started."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


def resolve(key: str, path: str, storage_root: str | None = None) -> str:
    """Where an output goes that the configuration names under `key`: an absolute path or a URI.

    A relative path lies under storage_root, else under $GOLEM_RAY_STORAGE_ROOT, else in the working folder. In a
    submitted job that folder goes away with the job: there, raises ConfigError for a relative path without a root.
    """
    path = path.removeprefix("file://")
    if "://" in path:
        return path
    local = _expand(path, key)
    if local.is_absolute():
        return str(local)
    root = storage_root or os.environ.get(STORAGE_ROOT_VARIABLE)
    root = root.removeprefix("file://") if root else None
    lasting = root is not None and ("://" in root or _expand(root, "paths.storage_root").is_absolute())
    if in_submitted_job() and not lasting:
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


def filesystem(path: str) -> tuple[Any, str]:
    """The fsspec filesystem that a path or URI lies on, and its place there. Raises StorageError if there is none."""
    with as_storage_errors():
        if "://" in path:
            fs, place = fsspec.core.url_to_fs(path)
            return fs, place
        return fsspec.filesystem("file"), path  # not through fsspec's URL parser, to which `a::b` is a chain


def retried(call: Callable[[], T]) -> T:
    """What call() returns, tried again a few times where it fails in a way that may pass; then its own exception."""
    for pause in RETRY_AFTER_S:
        try:
            return call()
        except Exception as error:
            if _is_lasting(error):
                raise
        time.sleep(pause * random.uniform(0.5, 1.5))
    return call()


def _is_lasting(error: Exception) -> bool:
    """Whether another try is in vain: the file is not there, not allowed, or the call not understood."""
    if not isinstance(error, FileNotFoundError):
        if isinstance(error, OSError) and error.errno in _LASTING_ERRNO:
            return True
        return isinstance(error, (*_LASTING, ValueError, TypeError))
    if error.__cause__ is None or isinstance(error.__cause__, KeyError):  # KeyError: of a store in memory
        return True
    # Else fsspec says `not found` of every failed HTTP request, and of what S3 refuses.
    response = getattr(error.__cause__, "response", None)
    status = getattr(error.__cause__, "status", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status in (400, 401, 403, 404, 410)


def read(path: str) -> bytes:
    """The content of a file."""
    with as_storage_errors():
        if "://" in path:  # in one request, where opening it takes another for its size
            fs, place = filesystem(path)
            return bytes(retried(partial(fs.cat_file, place)))
        return retried(Path(path).read_bytes)


def read_head(path: str, size: int) -> bytes:
    """The first `size` bytes of a file, or all of a shorter one."""
    with as_storage_errors():
        fs, place = filesystem(path)
        return bytes(retried(partial(fs.cat_file, place, end=size)))


def exists(path: str) -> bool:
    """Whether there is a file or a folder."""
    with as_storage_errors():
        fs, place = filesystem(path)
        return bool(fs.exists(place))


def list_folder(folder: str) -> list[str]:
    """Paths or URIs of what lies in a folder now, in order; none if there is no such folder."""
    folder = folder.rstrip("/")
    try:
        with as_storage_errors():
            fs, place = filesystem(folder)
            fs.invalidate_cache()
            entries = retried(partial(fs.ls, place, detail=False))
    except StorageError as error:
        if error.missing:
            return []
        raise
    return sorted(f"{folder}/{str(entry).rstrip('/').rsplit('/', 1)[-1]}" for entry in entries)


def remove(path: str) -> None:
    """Remove a file."""
    with as_storage_errors():
        fs, place = filesystem(path)
        retried(partial(fs.rm_file, place))


def check_folder(folder: str) -> None:
    """Raise StorageError unless a file can be written there: writes one and removes it. Creates no local folder."""
    probe = f".{uuid.uuid4().hex}.golem_ray-write-check"
    try:
        with as_storage_errors():
            if "://" in folder:
                fs, place = filesystem(f"{folder}/{probe}")
                retried(partial(fs.pipe_file, place, b""))
                retried(partial(fs.rm_file, place))
                return
            existing = next(place for place in (Path(folder), *Path(folder).parents) if os.path.lexists(place))
            (existing / probe).touch(exist_ok=False)
            (existing / probe).unlink()
    except StorageError as error:
        reason = f"{error.kind}: {one_line(error).replace(probe, '...')}"
        raise StorageError(reason, kind=error.kind, missing=error.missing) from None


def check_file(path: str) -> None:
    """Raise StorageError unless a file can be written there. Leaves nothing behind, creates no folder."""
    check_folder(path.rsplit("/", 1)[0] or "/")
    if "://" in path:
        return
    folder = next(parent for parent in Path(path).parents if os.path.lexists(parent))
    if len(os.fsencode(Path(path).name)) > os.pathconf(folder, "PC_NAME_MAX"):
        raise StorageError("its name is too long", kind="OSError")
    if Path(path).is_dir():
        raise StorageError(f"{path} is a folder", kind="IsADirectoryError")


def write(path: str, data: bytes) -> None:
    """Write a file whole or not at all."""
    write_all({path: data})


def write_all(files: Mapping[str, bytes]) -> None:
    """Write several files, each whole or not at all, in their order; the first only when all are sure to fit."""
    staged: list[Path] = []
    try:
        with as_storage_errors():
            for commit in [_stage(path, data, staged) for path, data in files.items()]:
                commit()
    finally:
        for temporary in staged:
            temporary.unlink(missing_ok=True)


def _stage(path: str, data: bytes, staged: list[Path]) -> Callable[[], None]:
    """Do all of a write that can fail, short of the last step, and return that step.

    A local file is a temporary file beside the target first (added to `staged`, for the caller to remove what is
    left), then renamed. In an object store the last step is all there is: a single put.
    """
    if "://" in path:
        fs, place = filesystem(path)
        return partial(retried, partial(fs.pipe_file, place, data))
    target, temporary = _beside(path)
    staged.append(temporary)
    with temporary.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return partial(os.replace, temporary, target)


def _beside(path: str) -> tuple[Path, Path]:
    """The target, whose folder is made, and a temporary file's place beside it."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    return target, target.with_name(f".{uuid.uuid4().hex}")


class _Sink(io.RawIOBase):
    """A file to write to that raises StorageError. Closing it leaves the file below open."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, data: Any) -> int:
        """Write all of the data; how many bytes."""
        with as_storage_errors():
            self._file.write(data)
        return memoryview(data).nbytes

    def tell(self) -> int:
        """How many bytes were written."""
        return int(self._file.tell())


@contextmanager
def writing(path: str) -> Iterator[BinaryIO]:
    """A binary file to write in parts. It is there whole after the block, and not at all if the block raises.

    An earlier file of that name stays until then. What the block itself raises passes as it is.
    """
    with _writing_to_uri(path) if "://" in path else _writing_locally(path) as file:
        yield cast(BinaryIO, _Sink(file))


@contextmanager
def _writing_locally(path: str) -> Iterator[Any]:
    with as_storage_errors():
        target, temporary = _beside(path)
        file = temporary.open("xb")
    try:
        with file:
            yield file
            with as_storage_errors():
                file.flush()
                os.fsync(file.fileno())
        with as_storage_errors():
            os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _writing_to_uri(path: str) -> Iterator[Any]:
    """In a transaction of a filesystem object of its own: other writes of this process are not part of it."""
    with as_storage_errors():
        fs, place = fsspec.core.url_to_fs(path, skip_instance_cache=True)
        transaction = fs.transaction
        transaction.start()
        file = fs.open(place, "wb")
    try:
        yield file
        with as_storage_errors():
            file.close()  # sends what is left; nothing of it shows before complete()
    except BaseException:
        with suppress(Exception):  # what went wrong first says more
            file.close()
        with suppress(Exception):
            transaction.complete(commit=False)
        raise
    with as_storage_errors():
        transaction.complete(commit=True)
