"""The pretraining corpus: thousands of words and phrases in many synthetic voices, kept on disk.

Words come one at a time (for the objectives that compare whole words) and in random phrases (for
those that must find words in running speech). No digit is among them, nor what sounds like one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import Pool
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pretraining.voices import (
    ESPEAK_ACCENTS,
    ESPEAK_VARIANTS,
    FESTIVAL_VOICES,
    FLITE_VOICES,
    PICO_VOICES,
    SAMPLE_VARIANTS,
    Utterance,
    phonemes,
    synthesise,
)

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "oh")
NATURAL_VOICES = [("flite", voice) for voice in FLITE_VOICES]
NATURAL_VOICES += [("festival", voice) for voice in FESTIVAL_VOICES]
NATURAL_VOICES += [("pico", voice) for voice in PICO_VOICES]
CHUNK = 400


@dataclass(frozen=True, kw_only=True)
class CorpusConfig:
    """How much is spoken."""

    words: int = 3500
    """Words to train on: the most frequent of written English."""
    held_out_words: int = 60
    """The next ones, for validation alone."""
    renderings: int = 26
    """Times each word is spoken; the first fourteen by the voices built from people's speech."""
    phrases: int = 24_000
    seed: int = 0


@dataclass(frozen=True)
class Clips:
    """Spoken clips end to end in one array."""

    pcm: np.ndarray
    """(samples,) int16 at 16 kHz."""
    ends: np.ndarray
    """(N,) where each clip ends in pcm."""
    words: np.ndarray
    """(N, most words) word numbers, -1 where a clip has fewer."""
    voices: np.ndarray
    """(N,) voice numbers; the natural voices come first."""

    def clip(self, index: int) -> np.ndarray:
        """(T,) float32 in [-1, 1]."""
        start = self.ends[index - 1] if index else 0
        return self.pcm[start : self.ends[index]].astype(np.float32) / 32768


def choose_words(config: CorpusConfig, dictionary: Path) -> dict[str, list[str]]:
    """The vocabulary with its phonemes: frequent words first, the held-out ones last.

    One word of those that sound alike, and none that is, begins with or sounds like a digit.
    """
    from wordfreq import top_n_list  # needed for making the corpus alone

    numbers = ("six", "seven", "eigh", "nine", "nint", "four", "fif", "thir", "twent", "zero")
    known = {"a", "i"} | {word for word in dictionary.read_text().split() if len(word) > 1}
    sounds = {tuple(phonemes(digit)) for digit in DIGITS}
    words: dict[str, list[str]] = {}
    for word in top_n_list("en", 20_000):
        if len(words) == config.words + config.held_out_words:
            break
        if word in known and word.isascii() and word.isalpha() and not word.startswith(numbers):
            spoken = phonemes(word)
            if tuple(spoken) not in sounds:
                sounds.add(tuple(spoken))
                words[word] = spoken
    return words


def plan_words(config: CorpusConfig, words: list[str]) -> Iterator[tuple[list[int], Utterance]]:
    """Every rendering of every word, in a shuffled order."""
    rng = np.random.default_rng(config.seed + 1)
    plan = [(word, turn) for word in range(len(words)) for turn in range(config.renderings)]
    for index in rng.permutation(len(plan)):
        word, turn = plan[index]
        natural = NATURAL_VOICES[(word + turn) % len(NATURAL_VOICES)] if turn < 14 else None
        yield [word], _utterance(words[word], natural, rng)


def plan_phrases(config: CorpusConfig, words: list[str]) -> Iterator[tuple[list[int], Utterance]]:
    """Phrases of two to ten random words, frequent ones more often, though less so than in English."""
    rng = np.random.default_rng(config.seed + 2)
    shares = (np.arange(config.words) + 5.0) ** -0.8
    shares /= shares.sum()
    for _ in range(config.phrases):
        chosen = [int(word) for word in rng.choice(config.words, rng.integers(2, 11), p=shares)]
        natural = NATURAL_VOICES[rng.integers(len(NATURAL_VOICES))] if rng.random() < 0.5 else None
        yield chosen, _utterance(" ".join(words[word] for word in chosen), natural, rng)


def make_corpus(config: CorpusConfig, dictionary: Path, folder: Path, processes: int) -> None:
    """Write vocabulary.json, words-*.npz and phrases-*.npz; what is there already is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary_path = folder / "vocabulary.json"
    if not vocabulary_path.exists():
        vocabulary_path.write_text(json.dumps(choose_words(config, dictionary)))
    words = list(json.loads(vocabulary_path.read_text()))
    tasks = []
    for kind, plan in ("words", plan_words), ("phrases", plan_phrases):
        planned = list(plan(config, words))
        for start in range(0, len(planned), CHUNK):
            path = folder / f"{kind}-{start // CHUNK:04d}.npz"
            if not path.exists():
                tasks.append((path, planned[start : start + CHUNK]))
    tasks.sort(key=lambda task: task[0].stem.split("-")[1])
    with Pool(processes) as pool:
        for _ in tqdm(pool.imap_unordered(_speak, tasks), total=len(tasks), mininterval=10):
            pass


def load_clips(folder: Path, kind: str) -> Clips:
    """Every chunk of `words` or `phrases` joined."""
    parts = [np.load(path) for path in sorted(folder.glob(f"{kind}-*.npz"))]
    widest = max(part["words"].shape[1] for part in parts)
    rows = [part["words"] for part in parts]
    rows = [np.pad(row, ((0, 0), (0, widest - row.shape[1])), constant_values=-1) for row in rows]
    return Clips(
        pcm=np.concatenate([part["pcm"] for part in parts]),
        ends=np.cumsum(np.concatenate([part["lengths"] for part in parts])),
        words=np.concatenate(rows),
        voices=np.concatenate([part["voices"] for part in parts]),
    )


def _speak(task: tuple[Path, list[tuple[list[int], Utterance]]]) -> None:
    path, planned = task
    waveforms = synthesise([utterance for _, utterance in planned])
    spoken = [index for index, waveform in enumerate(waveforms) if len(waveform) >= 2400]
    widest = max(len(words) for words, _ in planned)
    rows = [planned[index][0] for index in spoken]
    names = _voice_numbers()
    pcm = np.concatenate([waveforms[index] for index in spoken])
    np.savez(
        path,
        pcm=(pcm * 32767).clip(-32768, 32767).astype(np.int16),
        lengths=np.array([len(waveforms[index]) for index in spoken]),
        words=np.array([row + [-1] * (widest - len(row)) for row in rows], np.int32),
        voices=np.array([names[planned[index][1].voice] for index in spoken], np.int32),
    )


def _utterance(text: str, natural: tuple[str, str] | None, rng: np.random.Generator) -> Utterance:
    rate, pitch = float(rng.uniform(0.75, 1.4)), float(rng.uniform())
    if natural is not None:
        engine, voice = natural
        return Utterance(text=text, engine=engine, voice=voice, rate=rate, pitch=pitch)
    voices = _espeak_voices()
    voice = voices[rng.integers(len(voices))]
    return Utterance(text=text, engine="espeak", voice=voice, rate=rate, pitch=pitch)


def _espeak_voices() -> list[str]:
    kept = {*SAMPLE_VARIANTS["train"], *SAMPLE_VARIANTS["test"]}
    variants = [variant for variant in ESPEAK_VARIANTS if variant not in kept]
    return [f"{accent}+{variant}" for accent in ESPEAK_ACCENTS for variant in variants]


def _voice_numbers() -> dict[str, int]:
    names = [voice for _, voice in NATURAL_VOICES] + _espeak_voices()
    return {name: number for number, name in enumerate(names)}
