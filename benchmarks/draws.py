"""Clips of tasks, their vectors by the bundled encoder, and draws of them to train and test on.

The tasks are those that auto.py names; vectors stay in a folder.
"""

import csv
import io
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import soundfile
import torch

from golem_ray.config import ModelConfig, ProcessingConfig
from golem_ray.sample import SAMPLE
from golem_ray.speech.baseline import log_mel_statistics
from golem_ray.speech.encoders import SpeechEncoder
from golem_ray.speech.inspect import configured_recipe
from golem_ray.speech.read import load_clip, resample, trim_silence

RATE, SIZE, LAST = 16000, 256, 5
"""Of the bundled encoder; the place of its last layer among its layers and their mean."""

PHRASES = """the station/a red apple/seven houses/my brother/the weather today/an open window/the last train/green tea
his new car/a letter from home/the old school/two tickets/the garden gate/fresh bread/some music/the blue door
our neighbours/a cup of coffee/the long road/winter nights""".replace("\n", "/").split("/")

VOICES = [
    "en",
    "en-us",
    "en-gb-scotland",
    "en-gb-x-rp",
    "en-gb-x-gbclan",
    "en-029",
    "en-us+f2",
    "en+m3",
    "en+f4",
    "en-us+m5",
    "en+f1",
    "en-us+m7",
]


def spoken(task: str) -> Iterator[tuple[np.ndarray, str, str]]:
    """Each phrase by each voice in each class, with noise 30 dB below it: waveform, class, voice."""
    rng = np.random.default_rng(0)
    for voice in VOICES:
        for phrase in PHRASES:
            for kind in ("statement", "question") if task == "question" else ("plain", "slow", "high", "whisper"):
                speed = rng.integers(105, 130) if kind == "slow" else rng.integers(150, 190)
                pitch = rng.integers(75, 95) if kind == "high" else rng.integers(35, 60)
                who = f"{voice.split('+')[0]}+whisper" if kind == "whisper" else voice
                said = phrase + {"statement": ".", "question": "?"}.get(kind, "")
                command = ["espeak-ng", "-v", who, "-s", str(speed), "-p", str(pitch), "--stdout", said]
                wave, rate = soundfile.read(io.BytesIO(subprocess.run(command, capture_output=True, check=True).stdout))
                noise = rng.standard_normal(len(wave)) * wave.std() * 10 ** (-30 / 20)
                yield resample((wave + noise).astype(np.float32), rate, RATE), kind, voice


def clips(task: str, fsdd: Path | None) -> Iterator[tuple[np.ndarray, str, str]]:
    """Waveform, class, and who speaks or which split it is of."""
    if task in ("style", "question"):
        yield from spoken(task)
    elif task == "fsdd":
        assert fsdd is not None, "name the folder by --fsdd"
        for row in csv.DictReader((fsdd / "metadata.csv").open()):
            yield load_clip((fsdd / row["file_name"]).read_bytes(), RATE), row["label"], row["speaker"]
    else:
        import pyarrow.parquet

        folder, column = (SAMPLE, "intent_class") if task == "intents" else (SAMPLE / "digits", "label")
        for split in ("train", "test"):
            for row in pyarrow.parquet.read_table(folder / f"{split}.parquet").to_pylist():
                yield load_clip(row["audio"]["bytes"], RATE), row[column], split


def material(task: str, fsdd: Path | None, cache: Path) -> dict[str, np.ndarray]:
    """Vectors (N, layers, 2, 256) of clips as they are, `plain`, or trimmed, `trim`; with a second of silence on both
    sides, `pad` and `padtrim`; with `_mel` the baseline's; labels `y`; groups or splits `g`."""
    place = cache / f"{task}.npz"
    if not place.exists():
        model = ModelConfig(feature_extractor_model="sample", layer="auto", pooling="mean+std")
        encoder = SpeechEncoder(configured_recipe(model, ProcessingConfig()), "cpu")
        torch.set_num_threads(1)
        waves, labels, groups = zip(*clips(task, fsdd), strict=True)
        found = {"y": np.unique(labels, return_inverse=True)[1], "g": np.unique(groups, return_inverse=True)[1]}
        for kind, change in (
            ("plain", lambda wave: wave),
            ("trim", lambda wave: trim_silence(wave, RATE)),
            ("pad", lambda wave: np.pad(wave, RATE)),
            ("padtrim", lambda wave: trim_silence(np.pad(wave, RATE), RATE)),
        ):
            with ThreadPoolExecutor() as pool:
                changed = [change(wave) for wave in waves]
                vectors = np.stack(list(pool.map(lambda wave: encoder.embed([wave])[0], changed)))
                found[kind] = vectors.reshape(len(waves), -1, 2, SIZE)
                found[f"{kind}_mel"] = np.stack(list(pool.map(lambda wave: log_mel_statistics(wave, RATE), changed)))
        cache.mkdir(parents=True, exist_ok=True)
        np.savez(place, **found)
    return dict(np.load(place))


def draws(
    task: str, found: dict[str, np.ndarray], size: int, number: int
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Seed, rows to train on, and rows to test on. Where all of `train` is taken, seeds vary folds and heads alone."""
    y, g = found["y"], found["g"]
    for seed in range(number):
        rng = np.random.default_rng(seed)
        if task == "fsdd":
            for person in np.unique(g):
                pool, own = np.flatnonzero(g != person), np.random.default_rng(seed)
                rows = [own.permutation(pool[y[pool] == one])[:size] for one in np.unique(y)]
                yield seed, np.concatenate(rows), np.flatnonzero(g == person)
        elif task in ("style", "question"):
            tested = np.isin(g, rng.permutation(np.unique(g))[:4])
            yield seed, rng.permutation(np.flatnonzero(~tested))[:size], np.flatnonzero(tested)
        else:
            train, test = np.flatnonzero(g == 1), np.flatnonzero(g == 0)  # "test" comes before "train"
            yield seed, rng.permutation(train)[:size] if size < len(train) else train, test


def groups_of(task: str, found: dict[str, np.ndarray]) -> np.ndarray | None:
    """Who speaks, where that is known."""
    return None if task in ("intents", "digits") else found["g"]
