"""Datasets of texts and runs on them that the tests of several jobs share."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

from tests.jobs.runs import configuration

SECRET = "тайнопись"
"""In every text, and nowhere else."""

WORDS = {
    "joy": "ура здорово рад счастье прекрасно",
    "anger": "злость ненавижу бесит ярость хватит",
    "fear": "страшно боюсь ужас темно жуть",
}


def texts(count: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """So many texts of unlike lengths, and their labels in turn."""
    rng, labels = random.Random(seed), [list(WORDS)[row % 3] for row in range(count)]
    written = [
        " ".join([f"{SECRET}-{row}", *rng.choices(WORDS[label].split(), k=rng.randint(2, 12))])
        for row, label in enumerate(labels)
    ]
    return written, labels


def write_csv(path: Path, count: int, seed: int = 0) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *zip(*texts(count, seed), strict=True)])
    return path


def run_on(source: object, encoder: object, save_path: object, **changes: Any) -> dict[str, Any]:
    """A run of texts on this process."""
    config = configuration(source, encoder, save_path, training={"epochs": 30}, processing={"max_samples": "all"})
    for group, keys in {"dataset": {"text_column": "text"}, **changes}.items():
        config[group] = {**config.get(group, {}), **keys}
    return config


def sidecar(path: Path) -> dict[str, Any]:
    return json.loads(path.with_suffix(".json").read_text())
