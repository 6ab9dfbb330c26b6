"""The artifact's files: the head's weights in a .pth, a JSON sidecar beside it, and the report; saved and loaded.

No filesystem replaces two files at once. So a save puts the sidecar aside first, in a file named by the digest of its
weights, then replaces the .pth, then the .json, and removes what it put aside. Loading takes the .json if it is that of
the .pth, else what was put aside for these weights: a save that is ended anywhere leaves the old artifact or the new.
Where the baseline is joined, what it says lies in a third file, named by its own digest, so that none is replaced.

Does not know what the sidecar says beyond its format and the digest of the weights: format.py checks the rest, and
sharing.py fetches an artifact from the Hub.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from golem_ray import hub, storage
from golem_ray.artifact import sharing
from golem_ray.artifact.format import build_head, parse_sidecar
from golem_ray.artifact.joined_file import joined_file, joined_file_in
from golem_ray.artifact.saved import Artifact
from golem_ray.config.presets import SIDECAR_FORMAT, SIDECAR_VERSION
from golem_ray.errors import ConfigError, StorageError, one_line
from golem_ray.heads.terms import JoinedScores

log = logging.getLogger(__name__)

REPORT_MARK = b'<meta name="generator" content="golem_ray">'
"""Marks a page as our report."""

_JOINED = "the joined baseline's weights"
"""What messages call the third file."""


def sidecar_path(save_path: str) -> str:
    """The sidecar's path, beside the .pth."""
    return save_path.removesuffix(".pth") + ".json"


def _aside(save_path: str, digest: str) -> str:
    """Where a save keeps the sidecar of the weights with that sha256 until both files are in their places."""
    return _beside(save_path, f".{digest}.json")


def _beside(save_path: str, name: str) -> str:
    return f"{save_path.rpartition('/')[0]}/{name}" if "/" in save_path else name


def check_writable(save_path: str) -> None:
    """Raise ConfigError unless both files can be written there. Leaves nothing behind, creates no folder."""
    try:
        for path in (save_path, sidecar_path(save_path)):
            storage.check_file(path)
        _refuse_to_overwrite(sidecar_path(save_path))
    except StorageError as error:
        raise ConfigError(f"paths.save_path: expected to be able to write {save_path}, but {error}") from None


def _refuse_to_overwrite(sidecar: str) -> None:
    """Raise ConfigError if a file that is no sidecar lies where the sidecar goes: somebody's preset, say."""
    if not storage.exists(sidecar):
        return
    try:
        found = json.loads(storage.read(sidecar))
    except ValueError:
        found = None
    if not isinstance(found, dict) or found.get("format") != SIDECAR_FORMAT:
        raise ConfigError(
            f"paths.save_path: expected room for the sidecar, found another file at {sidecar}; choose another name."
        )


def save(save_path: str, weights: bytes, sidecar: dict[str, Any], joined: bytes | None = None) -> None:
    """Write weights and sidecar, each whole or not at all, the sidecar last; before them what is joined, if something.

    Raises ConfigError if that fails (a full disk, credentials that ran out), an old artifact as it was; it then names
    the temporary folder of this machine where the new one is. If the process ends meanwhile, `load` finds the old
    artifact or the new one, and another save goes well.
    """
    digest, text = hashlib.sha256(weights).hexdigest(), _sidecar_text(save_path, weights, sidecar, joined)
    third = {} if joined is None else {_beside(save_path, joined_file(save_path, joined)): joined}
    try:
        old = _found(save_path)
        of_old = _joined_of(save_path, old)
        try:
            storage.write_all(
                {**third, _aside(save_path, digest): text, save_path: weights, sidecar_path(save_path): text}
            )
        except StorageError:
            with suppress(StorageError):  # what was put aside stays then, and belongs to the new weights
                _put_back(save_path, old)
                _remove({_aside(save_path, digest)} | (third.keys() - of_old))
            raise
    except StorageError as error:
        kept = _kept_aside(save_path.rsplit("/", 1)[-1], weights, text, joined)
        raise ConfigError(f"paths.save_path: expected to be able to write {save_path}, but {error}; {kept}.") from None
    done = {_aside(save_path, hashlib.sha256(each).hexdigest()) for each in {weights, old or weights}}
    _remove(done | (of_old - third.keys()))  # the old one's may be there from a save that was ended


def _remove(paths: Iterable[str]) -> None:
    """Remove files, as far as they are there and that is possible."""
    for path in paths:
        with suppress(StorageError):
            storage.remove(path)


def _joined_of(save_path: str, weights: bytes | None) -> set[str]:
    """Where what is joined lies of the artifact that is there, if that has it; by both sidecars of an ended save."""
    sidecars = [sidecar_path(save_path)]
    if weights is not None:
        sidecars.append(_aside(save_path, hashlib.sha256(weights).hexdigest()))
    names = [joined_file_in(_found(sidecar), save_path) for sidecar in sidecars]
    return {_beside(save_path, name) for name in names if name is not None}


def _sidecar_text(save_path: str, weights: bytes, sidecar: dict[str, Any], joined: bytes | None) -> bytes:
    """The .json file of these weights, and of what is joined."""
    ours: dict[str, Any] = {
        "format": SIDECAR_FORMAT,
        "format_version": SIDECAR_VERSION,
        "weights": {"file": save_path.rsplit("/", 1)[-1], "sha256": hashlib.sha256(weights).hexdigest()},
    }
    if joined is not None:
        ours["joined"] = {"file": joined_file(save_path, joined), "sha256": hashlib.sha256(joined).hexdigest()}
    document = ours | {key: value for key, value in sidecar.items() if key not in (*ours, "joined")}
    written = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return written.encode(errors="backslashreplace")  # JSON's own way to write a name that is no UTF-8


def _put_back(save_path: str, old: bytes | None) -> None:
    """Have the weights be what they were before, if they no longer are."""
    if _found(save_path) == old:
        return
    if old is None:
        storage.remove(save_path)
    else:
        storage.write(save_path, old)


def _found(path: str) -> bytes | None:
    """A file's content; None if there is no such file."""
    try:
        return storage.read(path)
    except StorageError as error:
        if error.missing:
            return None
        raise


def _kept_aside(name: str, weights: bytes, sidecar: bytes, joined: bytes | None) -> str:
    """What to do about an artifact that could not be written: it is put where it can be fetched, if there is room."""
    try:
        place = f"{tempfile.mkdtemp(prefix='golem_ray-')}/{name}"
        third = {} if joined is None else {_beside(place, joined_file(place, joined)): joined}
        storage.write_all({**third, place: weights, sidecar_path(place): sidecar})
    except OSError as error:  # a StorageError is one
        return f"nor is there room for it in {tempfile.gettempdir()} ({one_line(error)}): make some, and run again"
    return f"it is in {place} instead, with its .json: move {'all' if third else 'both'} to where they belong"


def report_path(save_path: str) -> str:
    """Where the report of a training goes if no other place is configured: beside the artifact."""
    return _beside(save_path, "report.html")


def evaluation_path(save_path: str) -> str:
    """Where the report of an evaluation goes if no other place is configured: beside the artifact too."""
    return _beside(save_path, "evaluation.html")


def check_report(key: str, path: str) -> None:
    """Raise ConfigError, naming the configuration's key, unless a report can be written there."""
    try:
        storage.check_file(path)
        ours = not storage.exists(path) or REPORT_MARK in storage.read_head(path, 4096)
    except StorageError as error:
        raise ConfigError(f"{key}: expected to be able to write {path}, but {error}") from None
    if not ours:
        raise ConfigError(f"{key}: expected room for the report, found another page at {path}; choose another name.")


def save_report(path: str, page: str) -> bool:
    """Write a report; whether that worked. The artifact is saved by then: a failure gives no more than a warning."""
    try:
        storage.write(path, page.encode(errors="replace"))
    except StorageError as error:
        log.warning("the report could not be written to %s (%s)", path, error)
        return False
    return True


def in_memory(weights: bytes, sidecar: dict[str, Any], joined: bytes | None = None) -> Artifact:
    """The artifact of a training, which lies nowhere yet."""
    place = "this classifier"
    text = _sidecar_text("", weights, sidecar, joined)
    document = parse_sidecar(text, place)
    return Artifact(
        place=place,
        weights=weights,
        sidecar=text,
        joined=None if joined is None else JoinedScores(joined),
        head=build_head(weights, document, place),
        document=document,
    )


def load(place: str | os.PathLike[str]) -> Artifact:
    """The artifact at a local path or URI ending in .pth, or in a Hub repository (`user/repo`).

    Raises ConfigError, in one line, for one that is missing, damaged or changed, or that this version cannot read.
    No code in it is run: weights are read by PyTorch's restricted unpickler, the rest is JSON.
    """
    place, repository = os.fspath(place), None
    read: Callable[[str], bytes] = _read
    if place.endswith(".pth"):
        place = place if "://" in place else str(Path(os.path.expanduser(place)).absolute())
        weights = _read(place)
        text = _sidecar(place, hashlib.sha256(weights).hexdigest())
    elif "://" not in place and not os.path.exists(os.path.expanduser(place)) and hub.is_hub_id(place):
        repository = place
        place, weights, text, read = sharing.fetch(repository)
    else:
        raise ConfigError(
            f"{place}: expected an artifact, a path or URI ending in .pth with its .json beside it or a Hub repository "
            "(user/name), found neither."
        )
    document = parse_sidecar(text, sidecar_path(place))
    _check_digest(place, weights, "weights", document)
    return Artifact(
        place=place,
        weights=weights,
        sidecar=text,
        joined=_joined(place, document, read) if "joined" in document else None,
        head=build_head(weights, document, place),
        document=document,
        from_hub=repository,
    )


def _joined(place: str, document: dict[str, Any], read: Callable[[str], bytes]) -> JoinedScores:
    """What is joined to the vectors of the artifact's encoder, from the file that its sidecar names."""
    path = _beside(place, document["joined"]["file"])
    content = read(path)
    _check_digest(path, content, "joined", document)
    try:
        return JoinedScores(content)
    except ValueError as error:
        raise ConfigError(f"{path}: expected {_JOINED} as this package writes them, found {error}.") from None


def _check_digest(path: str, content: bytes, key: str, document: dict[str, Any]) -> None:
    """Raise ConfigError unless the content is what the sidecar was written for."""
    found, wanted = hashlib.sha256(content).hexdigest(), document[key]["sha256"]
    if found != wanted:
        what = _JOINED if key == "joined" else "the weights"
        raise ConfigError(
            f"{path}: expected {what} that its sidecar was written for (sha256 {wanted:.12}...), found others "
            f"({found:.12}...): one of the two files was changed, cut or replaced."
        )


def _sidecar(place: str, digest: str) -> bytes:
    """The .json beside the weights with that sha256, or what an ended save put aside for them, if that fits alone."""
    problem = None
    try:
        text = _read(sidecar_path(place))
        if digest.encode() in text:
            return text
    except ConfigError as error:
        problem = error
    with suppress(StorageError):
        return storage.read(_aside(place, digest))
    if problem is not None:
        raise problem
    return text


def _read(path: str) -> bytes:
    try:
        return storage.read(path)
    except StorageError as error:
        if not error.missing:
            raise ConfigError(f"{path}: expected to be able to read it, but {error.kind}: {error}") from None
        what = {"json": "the sidecar", "npz": _JOINED}.get(path.rsplit(".", 1)[-1], "the artifact")
        files = "the .pth, the .json and the .npz" if path.endswith(".npz") else "the .pth and the .json"
        raise ConfigError(f"{path}: expected {what}, found no such file; {files} belong together.") from None
