"""Make the bundled sample set: spoken banking requests of fourteen intents, in two Parquet files.

    python tools/make_sample.py --out golem_ray/sample

Needs espeak-ng (Debian: espeak-ng); whoever only uses the sample does not. The same espeak-ng and
libsndfile give the same content. Phrasings, voices and accents of one split are never in the other.
"""

from __future__ import annotations

import argparse
import io
import json
import tomllib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
from pretraining.voices import SAMPLE_VARIANTS, Utterance, synthesise, to_rate
from scipy.signal import butter, sosfilt

PHRASES = Path(__file__).with_name("sample_phrases.toml")
SAMPLE_HZ = 8_000
ACCENTS = {
    "train": ("en-us", "en-gb-x-rp", "en-gb-scotland", "en-gb-x-gbclan"),
    "test": ("en-gb", "en-us-nyc", "en-029", "en-gb-x-gbcwmd"),
}
LANGUAGES = ("en-US",)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("golem_ray/sample"))
    return parser.parse_args(argv)


def ordered_phrases(phrases: dict[str, list[str]], seed: int) -> list[tuple[int, str]]:
    """(intent number, phrasing) in rounds that hold every intent once, each shuffled."""
    rng = np.random.default_rng(seed)
    shuffled = [list(rng.permutation(said)) for said in phrases.values()]
    rounds = []
    for turn in range(max(len(said) for said in shuffled)):
        for intent in rng.permutation(len(shuffled)):
            if turn < len(shuffled[intent]):
                rounds.append((int(intent), str(shuffled[intent][turn])))
    return rounds


def over_the_line(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The clip as a telephone gives it: (T,) at 16 kHz -> (T / 2,) float32 at 8 kHz."""
    narrow = to_rate(waveform, 16_000, SAMPLE_HZ)
    margins = [np.zeros(int(rng.uniform(0.05, 0.35) * SAMPLE_HZ)) for _ in range(2)]
    padded = np.concatenate([margins[0], narrow, margins[1]])
    level = narrow.std() * 10 ** (-rng.uniform(15, 35) / 20)
    band = butter(4, (250, 3400), "bandpass", fs=SAMPLE_HZ, output="sos")
    heard = sosfilt(band, padded + level * rng.standard_normal(len(padded)))
    return (heard * rng.uniform(0.3, 0.9) / np.abs(heard).max()).astype(np.float32)


def encode(waveform: np.ndarray, serial: int) -> bytes:
    """Ogg Opus at 8 kHz, about 14 kbit/s; the same waveform and serial give the same bytes."""
    file = io.BytesIO()
    soundfile.write(file, waveform, SAMPLE_HZ, format="OGG", subtype="OPUS", compression_level=0.97)
    return with_serial(file.getvalue(), serial)


def with_serial(ogg: bytes, serial: int) -> bytes:
    """The stream under another serial number, which libsndfile draws at random (RFC 3533, 6)."""
    pages = []
    for page in ogg.split(b"OggS")[1:]:
        fresh = bytearray(b"OggS" + page)
        fresh[14:18] = serial.to_bytes(4, "little")
        fresh[22:26] = bytes(4)
        fresh[22:26] = ogg_checksum(bytes(fresh)).to_bytes(4, "little")
        pages.append(bytes(fresh))
    return b"".join(pages)


def ogg_checksum(page: bytes) -> int:
    """CRC-32 of a page as Ogg computes it: polynomial 0x04c11db7, nothing reflected or inverted."""
    checksum = 0
    for byte in page:
        checksum ^= byte << 24
        for _ in range(8):
            carry = checksum & 0x80000000
            checksum = (checksum << 1) & 0xFFFFFFFF
            if carry:
                checksum ^= 0x04C11DB7
    return checksum


def speak_split(split: str, phrases: dict[str, list[str]], seed: int) -> list[dict]:
    """The rows of one split."""
    rng = np.random.default_rng(seed)
    ordered = ordered_phrases(phrases, seed)
    voices = [f"{accent}+{v}" for accent in ACCENTS[split] for v in SAMPLE_VARIANTS[split]]
    rows = []
    for number, (intent, text) in enumerate(ordered):
        voice = voices[int(rng.integers(len(voices)))]
        rate, pitch = float(rng.uniform(0.85, 1.2)), float(rng.uniform(0.1, 0.9))
        utterance = Utterance(text=text, engine="espeak", voice=voice, rate=rate, pitch=pitch)
        waveform = over_the_line(synthesise([utterance])[0], rng)
        path = f"{split}/{number:04d}.ogg"
        rows.append(
            {
                "audio": {"bytes": encode(waveform, number), "path": path},
                "transcription": text,
                "intent_class": intent,
                "lang_id": 0,
                "speaker": voice,
            }
        )
    return rows


def table(rows: list[dict], intents: list[str]) -> pa.Table:
    """The rows with the schema, and the metadata that `datasets` reads its features from."""
    schema = pa.schema(
        [
            ("audio", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            ("transcription", pa.string()),
            ("intent_class", pa.int64()),
            ("lang_id", pa.int64()),
            ("speaker", pa.string()),
        ]
    )
    features = {
        "audio": {"sampling_rate": SAMPLE_HZ, "_type": "Audio"},
        "transcription": {"dtype": "string", "_type": "Value"},
        "intent_class": {"names": intents, "_type": "ClassLabel"},
        "lang_id": {"names": list(LANGUAGES), "_type": "ClassLabel"},
        "speaker": {"dtype": "string", "_type": "Value"},
    }
    described = json.dumps({"info": {"features": features}})
    return pa.Table.from_pylist(rows, schema.with_metadata({"huggingface": described}))


def main() -> None:
    """Write both splits."""
    args = parse()
    args.out.mkdir(parents=True, exist_ok=True)
    phrases = tomllib.loads(PHRASES.read_text())
    for seed, split in enumerate(("train", "test")):
        rows = speak_split(split, phrases[split], seed)
        path = args.out / f"{split}.parquet"
        pq.write_table(table(rows, list(phrases[split])), path, compression="zstd")
        print(f"{path}: {len(rows)} clips, {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
