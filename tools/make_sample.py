"""Make the bundled sample sets, each in two Parquet files: spoken banking requests of fourteen intents, and digits.

    python tools/make_sample.py --out golem_ray/sample

Needs espeak-ng (Debian: espeak-ng); whoever only uses the samples does not. The same espeak-ng and
libsndfile give the same content. Phrasings, voices and accents of one split are never in the other; digits
are single words, which both splits have, by other voices and accents.
"""

from __future__ import annotations

import argparse
import io
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
from pretraining.corpus import DIGITS
from pretraining.voices import SAMPLE_VARIANTS, Utterance, synthesise, to_rate
from scipy.signal import butter, sosfilt

PHRASES = Path(__file__).with_name("sample_phrases.toml")
SAMPLE_HZ = 8_000
ACCENTS = {
    "train": ("en-us", "en-gb-x-rp", "en-gb-scotland", "en-gb-x-gbclan"),
    "test": ("en-gb", "en-us-nyc", "en-029", "en-gb-x-gbcwmd"),
}
LANGUAGES = ("en-US",)
DIGIT_NAMES = DIGITS[:10]
"""`zero` to `nine`: that zero is also called `oh` is not asked of anyone."""
DIGIT_CLIPS = {"train": 5, "test": 20}
"""Of each digit."""


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("golem_ray/sample"))
    parser.add_argument("--draw", type=int, default=0, help="0 is what is bundled; others show how much figures vary")
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


def voices_of(split: str) -> list[str]:
    """The split's voices, 48: every accent with every variant."""
    return [f"{accent}+{v}" for accent in ACCENTS[split] for v in SAMPLE_VARIANTS[split]]


def any_voice(voices: list[str], rng: np.random.Generator) -> Iterator[str]:
    """Voices without end, each drawn from all of them."""
    while True:
        yield voices[int(rng.integers(len(voices)))]


def every_voice(voices: list[str], rng: np.random.Generator) -> Iterator[str]:
    """Voices without end, none again before all had their turn, in an order drawn anew each time."""
    while True:
        yield from (voices[index] for index in rng.permutation(len(voices)))


def speak(
    split: str, said: list[tuple[int, str]], voices: Iterator[str], rng: np.random.Generator, column: str
) -> list[dict]:
    """A row for each (class number, phrasing), the number in the column."""
    rows = []
    for number, ((label, text), voice) in enumerate(zip(said, voices, strict=False)):
        rate, pitch = float(rng.uniform(0.85, 1.2)), float(rng.uniform(0.1, 0.9))
        utterance = Utterance(text=text, engine="espeak", voice=voice, rate=rate, pitch=pitch)
        waveform = over_the_line(synthesise([utterance])[0], rng)
        path = f"{split}/{number:04d}.ogg"
        rows.append(
            {
                "audio": {"bytes": encode(waveform, number), "path": path},
                "transcription": text,
                column: label,
                "lang_id": 0,
                "speaker": voice,
            }
        )
    return rows


def speak_requests(split: str, phrases: dict[str, list[str]], seed: int) -> list[dict]:
    """The rows of one split of the banking requests, of voices drawn one by one."""
    rng = np.random.default_rng(seed)
    return speak(split, ordered_phrases(phrases, seed), any_voice(voices_of(split), rng), rng, "intent_class")


def speak_digits(split: str, seed: int) -> list[dict]:
    """The rows of one split of the digits: few clips, so that every voice has its turn."""
    said = ordered_phrases({digit: [digit] * DIGIT_CLIPS[split] for digit in DIGIT_NAMES}, seed)
    voices = every_voice(voices_of(split), np.random.default_rng([seed, 1]))
    return speak(split, said, voices, np.random.default_rng(seed), "label")


def table(rows: list[dict], column: str, names: list[str]) -> pa.Table:
    """The rows with the schema, and the metadata that `datasets` reads its features from.

    `column` holds the classes' numbers, whose names are `names`.
    """
    schema = pa.schema(
        [
            ("audio", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            ("transcription", pa.string()),
            (column, pa.int64()),
            ("lang_id", pa.int64()),
            ("speaker", pa.string()),
        ]
    )
    features = {
        "audio": {"sampling_rate": SAMPLE_HZ, "_type": "Audio"},
        "transcription": {"dtype": "string", "_type": "Value"},
        column: {"names": names, "_type": "ClassLabel"},
        "lang_id": {"names": list(LANGUAGES), "_type": "ClassLabel"},
        "speaker": {"dtype": "string", "_type": "Value"},
    }
    described = json.dumps({"info": {"features": features}})
    return pa.Table.from_pylist(rows, schema.with_metadata({"huggingface": described}))


def write(rows: list[dict], column: str, names: list[str], path: Path) -> None:
    """One split in its file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table(rows, column, names), path, compression="zstd")
    print(f"{path}: {len(rows)} clips, {path.stat().st_size / 1e6:.2f} MB")


def main() -> None:
    """Write both splits of both sets."""
    args = parse()
    phrases = tomllib.loads(PHRASES.read_text())
    seeds = iter(range(4 * args.draw, 4 * args.draw + 4))
    for split in ("train", "test"):
        rows = speak_requests(split, phrases[split], next(seeds))
        write(rows, "intent_class", list(phrases[split]), args.out / f"{split}.parquet")
    for split in ("train", "test"):
        write(speak_digits(split, next(seeds)), "label", list(DIGIT_NAMES), args.out / "digits" / f"{split}.parquet")


if __name__ == "__main__":
    main()
