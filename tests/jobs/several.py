"""Texts that have several labels each, made on the spot, and runs on them in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.jobs.runs import configuration

WORDS = {
    "anger": ("злой", "злость", "гнев", "ярость"),
    "fear": ("страх", "боюсь", "ужас", "тьма"),
    "joy": ("рад", "радость", "ура", "смех"),
}
NAMES = tuple(WORDS)
OTHERS = ("и", "дом", "стол", "вот", "тут", "там")


def rows(number: int, seed: int) -> list[dict[str, Any]]:
    """{"text", "label": a list, "author"}: words of each label, but for one in ten; a quarter has no label."""
    rng = np.random.default_rng(seed)
    found = []
    for row in range(number):
        has = [name for name, rate in zip(NAMES, (0.25, 0.4, 0.5), strict=True) if rng.uniform() < rate]
        said = [name for name in NAMES if (name in has) != (rng.uniform() < 0.1)]
        words = [*(word for name in said for word in rng.choice(WORDS[name], 2)), *rng.choice(OTHERS, 4)]
        found.append({"text": " ".join([*rng.permutation(words), str(row)]), "label": has, "author": f"a{row % 12}"})
    return found


def write_texts(folder: Path, **splits: list[dict[str, Any]]) -> Path:
    """A folder with a .jsonl a split. Returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, lines in splits.items():
        text = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
    return folder


def run_on_texts(texts: object, save_path: object, **changes: dict[str, Any]) -> dict[str, Any]:
    """A quick run on such texts; `changes` are group={key: value}."""
    quick: dict[str, dict[str, Any]] = {
        "dataset": {"text_column": "text"},
        "processing": {"max_samples": "all"},
        "training": {"epochs": 40},
        "evaluation": {"repeats": 1},
    }
    for group, keys in changes.items():
        quick[group] = {**quick.get(group, {}), **keys}
    return configuration(texts, "ngrams", save_path, **quick)


def sidecar_of(path: Path) -> dict[str, Any]:
    """Of an artifact."""
    found: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
    return found
