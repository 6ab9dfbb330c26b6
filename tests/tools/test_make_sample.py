"""What the bundled digits are: lists of voices and words against those of the encoder's pretraining; the one draw.

No synthesiser is needed: tones stand in for speech.
"""

import sys
from types import ModuleType

import make_sample
import numpy as np
import pyarrow.parquet as pq
import pytest
from make_sample import DIGIT_NAMES, every_voice, speak_digits, table
from pretraining import corpus
from pretraining.corpus import CorpusConfig, choose_words
from pretraining.voices import ESPEAK_ACCENTS, ESPEAK_VARIANTS

from golem_ray.sample import DATASETS
from tests.conftest import tone

FOLDER = DATASETS["sample-digits"]


def bundled(split: str) -> list[dict]:
    return pq.read_table(FOLDER / f"{split}.parquet").to_pylist()


@pytest.fixture
def tones(monkeypatch):
    """Tones instead of speech."""
    monkeypatch.setattr(make_sample, "synthesise", lambda said: [tone(len(said[0].text), 0.1, 16000)])


@pytest.fixture
def unencoded(tones, monkeypatch):
    """Who says what alone."""
    monkeypatch.setattr(make_sample, "encode", lambda waveform, serial: b"")


def test_the_test_voices_are_in_neither_the_training_clips_nor_the_pretraining():
    train, test = ({row["speaker"] for row in bundled(split)} for split in ("train", "test"))
    pretrained = {voice for _, voice in corpus.NATURAL_VOICES} | set(corpus._espeak_voices())
    assert len(pretrained) == 464
    assert not test & train
    assert not test & pretrained
    assert not train & pretrained
    variants = {voice.split("+")[1] for voice in pretrained if "+" in voice}
    for speaker in train | test:
        accent, variant = speaker.split("+")
        assert variant not in variants  # with no accent at all
        assert accent in ESPEAK_ACCENTS
        assert variant in ESPEAK_VARIANTS


def test_pretraining_leaves_out_the_digits_names_and_what_sounds_like_them(monkeypatch, tmp_path):
    spoken = {digit: [digit] for digit in corpus.DIGITS} | {"won": ["one"], "to": ["two"], "ate": ["eight"]}
    wordfreq = ModuleType("wordfreq")
    frequent = ["the", *DIGIT_NAMES, "oh", "won", "to", "ate", "sixth", "ninety", "word"]
    wordfreq.top_n_list = lambda language, number: frequent
    monkeypatch.setitem(sys.modules, "wordfreq", wordfreq)
    monkeypatch.setattr(corpus, "phonemes", lambda text: spoken.get(text, list(text)))
    (tmp_path / "words").write_text("\n".join(frequent))
    assert list(choose_words(CorpusConfig(), tmp_path / "words")) == ["the", "word"]


@pytest.mark.parametrize(("split", "seed"), [("train", 2), ("test", 3)])
def test_the_bundled_digits_are_the_first_draw(unencoded, split, seed):
    """Who says what in which order follows from the seed alone; 2 and 3 come after those of the requests."""
    drawn = speak_digits(split, seed)
    for column in ("speaker", "transcription", "label"):
        assert [row[column] for row in drawn] == [row[column] for row in bundled(split)]
    other = [row["speaker"] for row in speak_digits(split, seed + 4)]
    assert other != [row["speaker"] for row in drawn]


def test_a_seed_gives_the_same_bytes(tones, monkeypatch):
    monkeypatch.setitem(make_sample.DIGIT_CLIPS, "train", 1)
    first, again = (speak_digits("train", 2) for _ in range(2))
    assert first == again
    assert len({row["audio"]["bytes"] for row in first}) == 10


def test_every_voice_has_its_turn_before_any_is_heard_again():
    voices = every_voice(["a", "b", "c"], np.random.default_rng(0))
    turns = [[next(voices) for _ in range(3)] for _ in range(20)]
    assert all(sorted(turn) == ["a", "b", "c"] for turn in turns)
    assert len({tuple(turn) for turn in turns}) > 1


def test_the_files_have_the_columns_that_the_tool_writes(unencoded):
    expected = table(speak_digits("train", 2)[:1], "label", list(DIGIT_NAMES)).schema
    for split in ("train", "test"):
        assert pq.read_schema(FOLDER / f"{split}.parquet").equals(expected, check_metadata=True)
