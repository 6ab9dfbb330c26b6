"""Speech: how clips are read, which encoders embed them, and the plain baseline that an encoder has to beat.

Knows nothing of heads, jobs or Ray. Importing this loads neither PyTorch nor a decoder.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from golem_ray.data.table import Content
from golem_ray.embedding.modality import Baseline, Card, Encoder, Modality, Origins
from golem_ray.embedding.recipe import Recipe
from golem_ray.speech.facts import FACTS, LONG, describe, is_silent
from golem_ray.speech.families import LOG_MEL_SIZE, WHOLE_S
from golem_ray.speech.inspect import configured_recipe, fingerprint, provenance, recorded_recipe, traits_of
from golem_ray.speech.player import player


def _read(content: bytes, recipe: Recipe) -> np.ndarray:
    """The waveform (T,) float32 in an audio file, at the encoder's rate."""
    from golem_ray.speech.read import load_clip

    traits = traits_of(recipe)
    return _trimmed(load_clip(content, traits.sampling_rate, traits.shortest_s), recipe)


def _given(example: object, recipe: Recipe, sampling_rate: int | None = None) -> np.ndarray:
    """The waveform (T,) float32 of a clip that a caller gives, at the encoder's rate."""
    from golem_ray.speech.read import as_waveform

    traits = traits_of(recipe)
    return _trimmed(as_waveform(example, traits.sampling_rate, sampling_rate, traits.shortest_s), recipe)


def _trimmed(waveform: np.ndarray, recipe: Recipe) -> np.ndarray:
    """The waveform as the recipe wants it: without the silence at its ends, or as it is."""
    from golem_ray.speech.read import trim_silence

    traits = traits_of(recipe)
    return trim_silence(waveform, traits.sampling_rate, traits.shortest_s) if recipe.trimmed else waveform


def _as_file(example: object, recipe: Recipe, sampling_rate: int | None = None) -> bytes:
    """A file with the samples that a caller gives, as they are."""
    from golem_ray.speech.read import as_file

    return as_file(example, sampling_rate or traits_of(recipe).sampling_rate)


def _remark(waveform: np.ndarray, recipe: Recipe) -> str:
    """Whether the clip is silent, and whether it goes in windows that nobody asked for."""
    traits, said = traits_of(recipe), []
    if is_silent(waveform, traits.sampling_rate):
        said.append("silent")
    if not (recipe.window or traits.window_s) and len(waveform) > WHOLE_S * traits.sampling_rate:
        said.append(LONG)
    return ", ".join(said)


def _baseline_vector(waveform: np.ndarray, recipe: Recipe) -> np.ndarray:
    from golem_ray.speech.baseline import log_mel_statistics

    return log_mel_statistics(waveform, traits_of(recipe).sampling_rate)


def _load_encoder(recipe: Recipe, device: str, batch_cost: float | None) -> Encoder:
    from golem_ray.speech.encoders import SpeechEncoder

    return SpeechEncoder(recipe, device, batch_seconds=batch_cost)


def _made_for(record: dict[str, Any]) -> str:
    rate = record.get("sampling_rate")
    return f"It was made for audio at {rate if isinstance(rate, int | float) else 'an unknown number of'} Hz."


def _note(recipe: Recipe, device: str) -> str:
    from golem_ray.embedding.loading import precision_note

    return precision_note(recipe.precision, device)


MODALITY = Modality(
    name="speech",
    unit="audio_seconds",
    content=Content(
        key="dataset.audio_column",
        suffixes=(
            *(".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aiff", ".aif", ".au", ".caf"),
            *(".m4a", ".aac", ".wma", ".amr", ".mka"),  # these, and the sound of videos, by PyAV
            *(".mp4", ".m4v", ".mov", ".3gp", ".webm", ".mkv", ".avi", ".wmv", ".mpg", ".mpeg", ".ogv"),
        ),
        what="audio",
    ),
    baseline=Baseline(
        key="log_mel",
        name="log-mel statistics",
        head="the same head on log-mel statistics",
        short="Head on log-mel",
        size=LOG_MEL_SIZE,
    ),
    encoders=("facebook/wav2vec2-base", "microsoft/wavlm-base-plus"),
    poolings=("mean", "mean+std"),
    card=Card(
        task="audio-classification",
        over="time",
        tags=("audio-classification", "speech", "linear-probe"),
        examples="audio clips",
        made_for=_made_for,
    ),
    shown="Audio",
    html=player,
    recipe=configured_recipe,
    recorded_recipe=recorded_recipe,
    provenance=provenance,
    fingerprint=fingerprint,
    read=_read,
    given=_given,
    as_file=_as_file,
    remark=_remark,
    facts=FACTS,
    describe=describe,
    origins=Origins(
        columns=("speaker", "speaker_id", "client_id", "author"),
        heading="Who speaks",
        unsaid="who speaks",
        guessed="who speaks",
        alike="record or convert all labels alike",
    ),
    baseline_vector=_baseline_vector,
    cost=lambda length, recipe: length / traits_of(recipe).sampling_rate,
    load_encoder=_load_encoder,
    note=_note,
    too_large=lambda cost: f"its {cost:.0f} s do not fit into the memory: see processing.max_seconds",
    gpu_batch=lambda cluster: cluster.batch_seconds,
)
