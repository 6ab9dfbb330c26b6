"""What comes with the package, for where nothing else can be reached: datasets by name, and a small speech encoder."""

from __future__ import annotations

from pathlib import Path

SAMPLE = Path(__file__).resolve().parent
"""The folder of the bundled files; the encoder lies in `encoder/`."""

DATASETS = {
    "sample": SAMPLE,
    "sample-digits": SAMPLE / "digits",
}
"""Bundled datasets by name: folders of train.parquet and test.parquet.

`sample` holds spoken banking requests of fourteen intents (in the column `intent_class`), `sample-digits` the spoken
digits zero to nine (in the column `label`).
"""
