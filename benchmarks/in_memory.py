"""Seconds to train on fifty clips from Python, in this process, with the bundled encoder.

    python benchmarks/in_memory.py

The first call loads PyTorch, transformers and the encoder; the others have other clips, none of them embedded before;
the last ones the same clips again. Medians.
"""

import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pyarrow.parquet as pq
from material import machine

import golem_ray
from golem_ray.sample import DATASETS


def main() -> None:
    """Print them."""
    rows = pq.read_table(DATASETS["sample-digits"] / "test.parquet").to_pylist()
    parts = [rows[start : start + 50] for start in range(0, len(rows), 50)]
    print(machine())
    first, *new = [_seconds(part) for part in parts]
    again = [_seconds(part) for part in parts]
    print(f"{first:.2f} s  the first fifty, from nothing")
    print(f"{statistics.median(new):.2f} s  fifty new ones ({min(new):.2f} to {max(new):.2f})")
    print(f"{statistics.median(again):.2f} s  fifty that were embedded before ({min(again):.2f} to {max(again):.2f})")


def _seconds(rows: list[dict]) -> float:
    """Of a training with cross-validation in five rounds and calibration."""
    clips, labels = [row["audio"]["bytes"] for row in rows], [row["label"] for row in rows]
    start = time.perf_counter()
    golem_ray.train(clips=clips, labels=labels, encoder="sample")
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
