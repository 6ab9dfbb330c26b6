"""The bundled sample: spoken requests and a small speech encoder, for where nothing else can be reached."""

from __future__ import annotations

from pathlib import Path

SAMPLE = Path(__file__).resolve().parent
"""Spoken requests (train.parquet, test.parquet) and a small encoder, for where nothing else can be reached."""
