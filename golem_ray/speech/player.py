"""A clip's player in an HTML page."""

from __future__ import annotations

import base64

from golem_ray.speech.containers import container_of

KINDS = {b"RIFF": "audio/wav", b"fLaC": "audio/flac", b"OggS": "audio/ogg"}
"""First bytes of an audio file -> its MIME type."""


def player(content: bytes | None) -> str:
    """An HTML element that plays the audio file with this content; nothing without content, or if browsers play none.

    Of a video it plays the sound; the page holds all of it.
    """
    if content is None:
        return ""
    container = container_of(content)
    mime = container.mime if container else KINDS.get(content[:4], "audio/mpeg")
    if mime is None:
        return ""
    source = f"data:{mime};base64,{base64.b64encode(content).decode()}"
    return f'<audio class="player" controls preload="none" src="{source}"></audio>'
