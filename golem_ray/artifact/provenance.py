"""Where an artifact comes from: versions, inputs, the examples that it was trained on; for the sidecar, and out of it.

Does not know how the sidecar is stored, nor what is done about a difference.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import platform
from contextlib import suppress
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import golem_ray
from golem_ray.data.split import Division
from golem_ray.embedding.modality import Modality, modality_named
from golem_ray.embedding.recipe import Recipe

_LIBRARIES = ("torch", "torchaudio", "transformers", "datasets", "ray", "soundfile", "numpy")

_EXTRAS = ("av",)
"""Extras of the package that some examples alone are read by: recorded where they are installed."""

_MOST_DIGESTS = 1_000_000


def pack_digests(digests: np.ndarray) -> str | None:
    """The examples that were trained on, for the sidecar: the first 8 bytes of each (N,) S32 digest, in base64.

    None for more than a million examples, whose list would be larger than all the rest.
    """
    if len(digests) > _MOST_DIGESTS:
        return None
    return base64.b64encode(b"".join(digest[:8].ljust(8, b"\0") for digest in digests)).decode()


def group_digests(examples: pa.Table) -> np.ndarray | None:
    """(N,) S32: sha256 of the group of each row of a table of examples, b"" where it has none; None without groups."""
    if "group" not in examples.column_names:
        return None
    groups = examples["group"].combine_chunks()
    known = pc.unique(groups)
    digests = [b"" if name is None else hashlib.sha256(name.encode()).digest() for name in known.to_pylist()]
    return np.array(digests, dtype="S32")[pc.index_in(groups, known).to_numpy()]


def trained_on(document: dict[str, Any], digests: np.ndarray, key: str = "digests") -> np.ndarray | None:
    """(N,) bool: which of (N,) S32 digests are of examples that were trained on; None if the sidecar does not say.

    With the key `groups` the digests are of groups.
    """
    packed = document["clips"].get(key)
    if not isinstance(packed, str):
        return None
    known = base64.b64decode(packed)
    listed = {known[start : start + 8] for start in range(0, len(known), 8)}
    return np.array([digest[:8].ljust(8, b"\0") in listed for digest in digests], dtype=bool)


def library_versions(modality: Modality) -> dict[str, str]:
    """The versions that an artifact's bytes depend on, those of extras where they are installed."""
    versions = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    for name in (*_EXTRAS, *modality.libraries):
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {"golem_ray": golem_ray.__version__, "python": platform.python_version(), **versions}


def differences(recorded: dict[str, Any], current: dict[str, Any]) -> list[str]:
    """What differs of `current` from the same entries of a sidecar, each in words: `versions.torch: 2.11 -> 2.14`.

    An extra's version counts only where the sidecar has one: without the extra, no example needed it.
    """
    found = []
    for group, values in current.items():
        before = recorded.get(group) or {}
        found += [
            f"{group}.{key}: {before.get(key)!r} then, {value!r} now"
            for key, value in values.items()
            if before.get(key) != value and not (key in _EXTRAS and key not in before)
        ]
    return found


def provenance(division: Division, recipe: Recipe, digests: np.ndarray) -> dict[str, Any]:
    """What must be the same for the same bytes to come out, as the sidecar records it."""
    tested = division.tested
    data = {**division.revisions, "sha256": _examples_sha256(division, digests, ~tested)}
    if tested.any():
        data["evaluation_sha256"] = _examples_sha256(division, digests, tested)
    return {
        "encoder": modality_named(recipe.modality).provenance(recipe),
        "data": data,
        "versions": library_versions(modality_named(recipe.modality)),
    }


def _examples_sha256(division: Division, digests: np.ndarray, which: np.ndarray) -> str:
    total = hashlib.sha256()
    labels = division.source.examples["label"].to_pylist()
    for row in np.flatnonzero(which):
        total.update(f"{labels[row]} ".encode() + digests[row].ljust(32, b"\0"))
    return total.hexdigest()
