"""Synthetic voices: a line of text in, a waveform out, by espeak-ng, flite, festival or SVOX Pico.

Programs, but for Pico, a package that only pretraining needs; nothing here is needed to use what
they made. Knows nothing of words, corpora or training.
"""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from scipy.signal import resample_poly

SAMPLE_RATE = 16_000
ESPEAK_ACCENTS = (
    "en-us",
    "en-gb",
    "en-us-nyc",
    "en-gb-x-rp",
    "en-gb-scotland",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
    "en-029",
)
_VARIANTS = """
Alex Alicia Andrea Andy Annie AnxiousAndy Denis Diogo Gene Gene2 Henrique Hugo Jacky Lee Marco
Mario Michael Mike Nguyen Storm adam anika announcer antonio aunty belinda benjamin boris caleb
david ed edward edward2 f1 f2 f3 f4 f5 grandma grandpa gustave iven iven2 iven3 iven4 john
kaukovalta klatt klatt2 klatt3 klatt4 klatt5 klatt6 linda m1 m2 m3 m4 m5 m6 m7 m8 marcelo max
michel miguel norbert pablo paul pedro quincy rob robert sandro shelby steph steph2 steph3
travis victor zac
"""
ESPEAK_VARIANTS = tuple(_VARIANTS.split())
_TRAIN = "m3 f2 Andy Annie Hugo steph paul linda michel belinda klatt2 Mike"
_TEST = "m7 f5 Jacky Lee Mario Alicia steph3 robert shelby victor grandma ed"
SAMPLE_VARIANTS = {"train": tuple(_TRAIN.split()), "test": tuple(_TEST.split())}
"""espeak-ng variants kept for the sample set: the encoder is pretrained without them."""
FLITE_VOICES = ("awb", "rms", "slt", "kal16")
FESTIVAL_VOICES = ("ked_diphone", "cmu_us_slt_arctic_hts")
PICO_VOICES = ("en-US", "en-GB")


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """One thing to say and how."""

    text: str
    engine: str
    """`espeak`, `flite`, `festival` or `pico`."""
    voice: str
    """The engine's own name; for espeak `accent+variant`."""
    rate: float = 1.0
    """1 is the engine's usual speed, 1.2 a fifth faster."""
    pitch: float = 0.5
    """0 to 1 over the voice's range; festival's voices have their own and ignore it."""


def to_rate(waveform: np.ndarray, source_hz: int, target_hz: int = SAMPLE_RATE) -> np.ndarray:
    """The waveform at another sampling rate: (T,) float32 -> (T * target / source,) float32."""
    if source_hz == target_hz:
        return waveform
    divisor = gcd(source_hz, target_hz)
    return resample_poly(waveform, target_hz // divisor, source_hz // divisor).astype(np.float32)


def trim(waveform: np.ndarray, floor_db: float = -42.0, hop: int = 160) -> np.ndarray:
    """The waveform without its silent ends: (T,) -> (<= T,), and (0,) where nothing is heard."""
    frames = waveform[: len(waveform) // hop * hop].reshape(-1, hop)
    level = np.sqrt((frames**2).mean(axis=1) + 1e-12)
    loud = np.flatnonzero(level > max(level.max(initial=0.0) * 10 ** (floor_db / 20), 1e-4))
    if not len(loud):
        return waveform[:0]
    return waveform[max(loud[0] - 1, 0) * hop : (loud[-1] + 2) * hop]


def synthesise(utterances: list[Utterance]) -> list[np.ndarray]:
    """One trimmed 16 kHz waveform (T,) float32 in [-1, 1] for each utterance, in their order."""
    waveforms: list[np.ndarray] = [np.zeros(0, np.float32)] * len(utterances)
    with tempfile.TemporaryDirectory() as folder:
        spoken_by_festival = [i for i, u in enumerate(utterances) if u.engine == "festival"]
        _festival([utterances[i] for i in spoken_by_festival], Path(folder))
        for number, index in enumerate(spoken_by_festival):
            waveforms[index] = _read(Path(folder, f"{number}.wav"))
        for index, utterance in enumerate(utterances):
            if utterance.engine == "espeak":
                waveforms[index] = _espeak(utterance)
            elif utterance.engine == "flite":
                waveforms[index] = _flite(utterance, Path(folder, "flite.wav"))
            elif utterance.engine == "pico":
                waveforms[index] = _pico(utterance)
    return [trim(waveform) for waveform in waveforms]


def phonemes(text: str) -> list[str]:
    """espeak-ng's IPA symbols of the text in American English, stress marks taken off."""
    command = ["espeak-ng", "-q", "--ipa", "--sep=_", "-v", "en-us", "--", text]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    symbols = printed.translate(str.maketrans("", "", "ˈˌ‍̩")).replace(" ", "_").split("_")
    return [symbol.strip() for symbol in symbols if symbol.strip()]


def _espeak(utterance: Utterance) -> np.ndarray:
    speed, pitch = str(round(175 * utterance.rate)), str(round(99 * utterance.pitch))
    command = ["espeak-ng", "--stdout", "-v", utterance.voice, "-s", speed, "-p", pitch]
    sound = subprocess.run([*command, "--", utterance.text], check=True, capture_output=True).stdout
    pcm = np.frombuffer(sound[44 : len(sound) // 2 * 2], np.int16)
    return to_rate(pcm.astype(np.float32) / 32768, int.from_bytes(sound[24:28], "little"))


def _flite(utterance: Utterance, path: Path) -> np.ndarray:
    base_hz = {"slt": 175.0, "awb": 130.0, "rms": 105.0, "kal16": 105.0}[utterance.voice]
    stretch = f"duration_stretch={1 / utterance.rate:.3f}"
    pitch = f"int_f0_target_mean={base_hz * (0.75 + 0.5 * utterance.pitch):.1f}"
    command = ["flite", "-voice", utterance.voice, "--setf", stretch, "--setf", pitch]
    subprocess.run([*command, "-t", utterance.text, "-o", str(path)], check=True)
    return _read(path)


def _pico(utterance: Utterance) -> np.ndarray:
    engine = _pico_engine(utterance.voice)
    engine.rate, engine.pitch = round(100 * utterance.rate), round(70 + 70 * utterance.pitch)
    return np.frombuffer(engine.speak(utterance.text), np.int16).astype(np.float32) / 32768


@cache
def _pico_engine(voice: str) -> Any:
    from ttspico import TtsEngine  # needed for pretraining alone

    return TtsEngine(voice)


def _festival(utterances: list[Utterance], folder: Path) -> None:
    lines = []
    for number, utterance in enumerate(utterances):
        lines.append(f"(voice_{utterance.voice})")
        lines.append(f"(Parameter.set 'Duration_Stretch {1 / utterance.rate:.3f})")
        speech = f'(utt.synth (Utterance Text "{utterance.text}"))'
        lines.append(f'(utt.save.wave {speech} "{folder / f"{number}.wav"}" \'riff)')
    if lines:
        script = folder / "say.scm"
        script.write_text("\n".join(lines))
        subprocess.run(["festival", "-b", str(script)], check=True, capture_output=True)


def _read(path: Path) -> np.ndarray:
    if not path.exists():
        return np.zeros(0, np.float32)
    waveform, rate = soundfile.read(path, dtype="float32")
    return to_rate(waveform, rate)
