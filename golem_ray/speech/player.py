"""A clip's player in an HTML page."""

from __future__ import annotations

import base64

KINDS = {b"RIFF": "wav", b"fLaC": "flac", b"OggS": "ogg"}
"""First bytes of an audio file -> its MIME subtype."""


def player(content: bytes | None) -> str:
    """An HTML element that plays the audio file with this content; nothing without content."""
    if content is None:
        return ""
    source = f"data:audio/{KINDS.get(content[:4], 'mpeg')};base64,{base64.b64encode(content).decode()}"
    return f'<audio class="player" controls preload="none" src="{source}"></audio>'
