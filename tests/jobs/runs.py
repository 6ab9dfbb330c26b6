"""Configurations and data sets that the tests of several jobs share."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from golem_ray.config import ClusterConfig, DatasetConfig, DeviceConfig, EvaluateConfig, TrainConfig
from golem_ray.config.presets import config_from_dict
from tests.conftest import audio_bytes, write_clips

NAMES = ["north", "east", "south", "west"]

HERE: dict[str, Any] = {
    "device": DeviceConfig(backend="cpu"),
    "cluster": ClusterConfig(address="none", workers=1, threads_per_worker=1),
}
"""Keys of a configuration for the engine of this process."""

ON_RAY: dict[str, Any] = {
    "device": DeviceConfig(backend="cpu"),
    "cluster": ClusterConfig(workers=1, threads_per_worker=1),
}
"""Keys of a configuration for Ray, if there are more than a handful of clips."""


def configuration(clips: object, encoder: object, save_path: object, **changes: dict[str, Any]) -> dict[str, Any]:
    """A run on one thread of this process; `changes` are group={key: value}."""
    config: dict[str, Any] = {
        "dataset": {"name": str(clips), "label_column": "label"},
        "model": {"feature_extractor_model": str(encoder)},
        "device": {"backend": "cpu"},
        "cluster": {"address": "none", "threads_per_worker": 1, "workers": 1},
        "evaluation": {"repeats": 2},
        "paths": {"save_path": str(save_path)},
    }
    for group, keys in changes.items():
        config[group] = {**config.get(group, {}), **keys}
    return config


def on(clips: object, **keys: Any) -> EvaluateConfig:
    """An evaluation on a folder of clips."""
    return EvaluateConfig(dataset=DatasetConfig(name=str(clips), label_column="label"), **keys)


def write_splits(folder: Path, trained: list[str], tested: list[str]) -> Path:
    """A dataset folder of two splits; a label is the pitch of its tones. Returns the folder."""
    for split, labels in (("train", trained), ("test", tested)):
        (folder / split).mkdir(parents=True)
        lines = ["file_name,label"]
        for row, label in enumerate(labels):
            time = np.arange(2400) / 8000
            noise = 0.05 * np.random.default_rng([row, len(split)]).standard_normal(2400)
            samples = (0.4 * np.sin(2 * np.pi * int(label) * time) + noise).astype(np.float32)
            (folder / split / f"{row}.wav").write_bytes(audio_bytes(samples))
            lines.append(f"{row}.wav,{label}")
        (folder / split / "metadata.csv").write_text("\n".join(lines) + "\n")
    return folder


def artifact_beside(path: Path, folder: Path) -> Path:
    """A copy of the artifact in the folder, so that what a job writes beside it is alone there. Returns the .pth."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(path.with_suffix(".json"), folder)
    return Path(shutil.copy(path, folder))


def comparison_on(encoder: object, clips: object = "clips", **changes: Any) -> TrainConfig:
    """What a comparison is of, on one thread of this process."""
    return config_from_dict(
        {
            "dataset": {"name": str(clips), "label_column": "label"},
            "model": {"feature_extractor_model": str(encoder)},
            "processing": {"max_samples": "all"},
            "device": {"backend": "cpu"},
            "cluster": {"address": "none", "threads_per_worker": 1, "workers": 1},
            "evaluation": {"repeats": 1},
            **changes,
        }
    )


def write_grid(folder: Path, encoder: object, **keys: Any) -> None:
    """A grid.toml in the folder, on 18 clips of three speakers; `keys` go into [grid]."""
    clips = write_clips(folder / "clips", ["left", "right", "up"] * 6, seconds=0.1)
    lines = (clips / "metadata.csv").read_text().splitlines()
    rows = [f"{line},{'ann' if row < 6 else 'bob' if row < 12 else 'cleo'}" for row, line in enumerate(lines[1:])]
    (clips / "metadata.csv").write_text("\n".join([f"{lines[0]},who", *rows]) + "\n")
    grid = f"""
        [dataset]
        name = "{clips}"
        label_column = "label"
        [model]
        feature_extractor_model = "{encoder}"
        [training]
        epochs = 5
        [evaluation]
        repeats = 2
        group_column = "who"
        [cluster]
        address = "none"
        workers = 1
        threads_per_worker = 1
        [grid]
        layers = [1, "last"]
        poolings = ["mean"]
    """
    lines = [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    (folder / "grid.toml").write_text("\n".join([grid, *lines, "[grid.heads.small]", "hidden = [4]"]))
