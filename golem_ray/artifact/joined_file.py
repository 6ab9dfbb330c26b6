"""What an artifact's third file is called, beside the weights: what is joined to their encoder's vectors.

Does not know where it lies, nor what is in it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re

_LONGEST_STEM = 200
"""Bytes; filesystems allow names of 255."""


def joined_file(save_path: str, joined: bytes) -> str:
    """Name of the file with that content, for weights at that path; another content has another name."""
    return f"{_stem(save_path)}.joined-{hashlib.sha256(joined).hexdigest():.12}.npz"


def joined_file_in(sidecar: bytes | None, save_path: str) -> str | None:
    """The name in a sidecar, which anybody may have written, if a save to that path could have given it."""
    try:
        name = json.loads(sidecar or b"{}")["joined"]["file"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    pattern = rf"{re.escape(_stem(save_path))}\.joined-[0-9a-f]{{12}}\.npz"
    return name if isinstance(name, str) and re.fullmatch(pattern, name) else None


def _stem(save_path: str) -> str:
    """The name of the weights, without what `format.py` allows in none, and shortened if the rest needs the room."""
    name = save_path.rsplit("/", 1)[-1].removesuffix(".pth").replace("\\", "_")
    encoded = os.fsencode(name)
    return name if len(encoded) <= _LONGEST_STEM else encoded[:_LONGEST_STEM].decode(errors="ignore")
