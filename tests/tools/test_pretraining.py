"""The bundled encoder's training, on tones instead of speech: no synthesiser is needed."""

import json

import numpy as np
import pretrain
import pytest
import torch
import transformers
from pretraining.augment import _warp_formants, augment, place
from pretraining.batches import phrase_batches, word_batches
from pretraining.corpus import NATURAL_VOICES, load_clips
from pretraining.export import export
from pretraining.objectives import Objectives, bag_codes, contrastive_loss, phoneme_pairs
from torch import nn

from tests.conftest import tone

NUM_WORDS = 6
HELD_OUT = 60


def write_corpus(folder):
    """Eight clips of each word, one by each of the first voices, and forty phrases; tones for sounds."""
    folder.mkdir()
    names = [f"word{number}" for number in range(NUM_WORDS + HELD_OUT)]
    spelling = {name: [f"p{number % 5}", f"p{number % 7}"] for number, name in enumerate(names)}
    (folder / "vocabulary.json").write_text(json.dumps(spelling))
    words = [([word], voice) for word in range(len(names)) for voice in range(len(NATURAL_VOICES))]
    phrases = [([number % NUM_WORDS, (number + 1) % NUM_WORDS, -1], 0) for number in range(500)]
    for kind, spoken, seconds in (("words", words, 0.2), ("phrases", phrases, 0.3)):
        clips = [tone(numbers[0], seconds, 16000) for numbers, _ in spoken]
        np.savez(
            folder / f"{kind}-0000.npz",
            pcm=(np.concatenate(clips) * 32767).astype(np.int16),
            lengths=np.array([len(clip) for clip in clips]),
            words=np.array([numbers for numbers, _ in spoken], np.int32),
            voices=np.array([voice for _, voice in spoken], np.int32),
        )
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("pretraining") / "corpus")


@pytest.mark.slow
def test_a_run_resumes_and_ends_in_an_encoder_that_loads(corpus, tmp_path, capsys):
    arguments = ["--corpus", str(corpus), "--word-seconds", "2", "--phrase-seconds", "2"]
    arguments += ["--checkpoint", str(tmp_path / "state.pt"), "--out", str(tmp_path / "encoder")]
    pretrain.train(pretrain.parse([*arguments, "--steps", "1"]))
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == 1
    encoder, norm = pretrain.train(pretrain.parse([*arguments, "--steps", "2"]))
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == 2
    assert "new words by layer" in capsys.readouterr().out

    waveform = torch.from_numpy(tone(3, 0.5, 16000))[None]
    with torch.no_grad():
        pooled = encoder.eval()(waveform).last_hidden_state.mean(dim=1)
        expected = norm.eval()(pooled)
    export(encoder, norm, tmp_path / "encoder")
    loaded = transformers.Wav2Vec2Model.from_pretrained(tmp_path / "encoder").eval()
    assert loaded.dtype == torch.float32
    with torch.no_grad():
        found = loaded(waveform).last_hidden_state.mean(dim=1)
    assert torch.allclose(found, expected, atol=0.02 * expected.abs().max().item())  # float16 on disk


def test_batches_hold_different_words_in_several_voices(corpus):
    clips = load_clips(corpus, "words")
    batch = next(word_batches(clips, NUM_WORDS, 2.0, 2, seed=0))
    counts = np.bincount(batch.words[:, 0], minlength=NUM_WORDS)
    assert set(counts) <= {0, 2}
    assert batch.words.max() < NUM_WORDS
    assert batch.waveforms.shape[1] % 1600 == 0
    assert batch.waveforms.size <= 2.0 * 16000
    again = next(word_batches(clips, NUM_WORDS, 2.0, 2, seed=0))
    assert np.array_equal(batch.waveforms, again.waveforms)
    phrases = next(phrase_batches(load_clips(corpus, "phrases"), 2.0, seed=0))
    assert phrases.words.shape == (len(phrases.waveforms), 3)


def test_augmented_clips_are_normalised_and_differ():
    clips = place([tone(0, 0.5, 16000)] * 6, 9600, np.random.default_rng(0))
    heard = augment(torch.from_numpy(clips), 0.0, torch.Generator().manual_seed(0))
    assert heard.shape == (6, 9600)
    assert torch.allclose(heard.mean(dim=1), torch.zeros(6), atol=1e-4)
    assert torch.allclose(heard.std(dim=1), torch.ones(6), atol=1e-3)
    assert torch.corrcoef(heard).abs().triu(1).max() < 0.98


def test_formants_move_and_pitch_stays():
    """A buzz of 200 Hz through a resonance at 1 kHz: the harmonics stay, the resonance moves."""
    time = torch.arange(16000) / 16000
    harmonics = 200.0 * torch.arange(1, 35)
    gains = 1 / (1 + ((harmonics - 1000) / 150) ** 2)
    buzz = (gains[:, None] * torch.sin(2 * torch.pi * harmonics[:, None] * time)).sum(dim=0)
    warped = _warp_formants(buzz.repeat(12, 1), torch.Generator().manual_seed(1))
    spectra = torch.fft.rfft(warped[:, 4000:12000]).abs()  # 2 Hz a point
    assert spectra[:, ::100].square().sum(dim=1).div(spectra.square().sum(dim=1)).min() > 0.8
    centres = (spectra[:, ::100] * torch.arange(41) * 200).sum(dim=1) / spectra[:, ::100].sum(dim=1)
    assert centres.max() > 1.05 * centres.median()
    assert centres.min() < 0.97 * centres.median()


def test_a_words_parts_are_its_phonemes_and_their_neighbours():
    parts, num_parts = phoneme_pairs(torch.tensor([[1, 2, 0], [2, 1, 0], [1, 2, 3]]))
    rows = [set(row[row > 0].tolist()) for row in parts]
    assert [len(row) for row in rows] == [5, 5, 7]
    assert rows[0] & rows[1] == set(parts[0, :2].tolist())  # the phonemes, but no pair
    assert len(rows[0] & rows[2]) == 4  # two phonemes, the pairs (start, 1) and (1, 2)
    assert num_parts == len(set.union(*rows))


def test_the_words_of_a_phrase_can_be_told_from_the_sum_of_their_codes():
    rng = np.random.default_rng(0)
    spelling = torch.from_numpy(rng.integers(1, 30, (500, 6)))
    spelling[1] = spelling[0]
    spelling[1, 5] = spelling[0, 5] % 29 + 1
    codes = bag_codes(*phoneme_pairs(spelling), 128)
    assert torch.allclose(codes.norm(dim=1), torch.ones(500))
    assert (codes @ codes.T)[0].topk(2).indices.tolist() == [0, 1]  # the nearest word is the one that shares sounds
    phrase = [3, 70, 200, 411]
    assert set((codes @ codes[phrase].sum(dim=0)).topk(4).indices.tolist()) == set(phrase)


def test_word_and_bag_losses_fall_where_the_vectors_point_to_their_words():
    objectives = Objectives(32, torch.tensor([[1, 2], [2, 3], [3, 1], [2, 1]]))
    prior = torch.full((4,), -np.log(4.0))
    directions = objectives.word_directions().detach()
    words = torch.tensor([0, 2, 3])
    right = objectives.word_loss(directions[words], words, directions, prior)
    assert right < objectives.word_loss(directions[words.roll(1)], words, directions, prior)
    assert right > objectives.word_loss(directions[words], words, directions, prior, margin=0.0)

    with torch.no_grad():
        objectives.bag.weight.copy_(torch.eye(32))
        objectives.bag.bias.zero_()
    bags = torch.tensor([[0, 1], [2, -1]])
    codes = objectives.codes
    pooled = torch.stack([codes[0] + codes[1], codes[2]])
    assert objectives.bag_loss(pooled, bags, prior) < objectives.bag_loss(pooled.flip(0), bags, prior)


def test_both_orders_are_read_off_the_frames():
    """A frame for each symbol in order costs less than the same frames in another order."""
    torch.manual_seed(0)
    spelling = torch.tensor([[1, 2], [2, 3], [3, 1], [2, 1]])
    objectives = Objectives(32, spelling)
    with torch.no_grad():
        objectives.frame_words.weight.copy_(torch.eye(32))
        objectives.frame_words.bias.zero_()
        objectives.phonemes.weight.mul_(20)
    directions, prior, words = objectives.word_directions().detach(), torch.zeros(4), torch.tensor([[0, 2, 1]])
    frames = directions[words[0]][None]
    right = objectives.order_loss(frames, words, directions, prior)
    assert right < objectives.order_loss(frames.flip(1), words, directions, prior)
    heard = objectives.phonemes.weight[spelling[words[0]].flatten()][None]
    assert objectives.phoneme_loss(heard, words, spelling) < objectives.phoneme_loss(heard.flip(1), words, spelling)


def test_the_contrastive_loss_falls_where_voices_of_a_word_agree():
    torch.manual_seed(0)
    words = torch.tensor([0, 0, 1, 1])
    vectors = nn.functional.normalize(torch.randn(2, 16), dim=1)
    assert contrastive_loss(vectors[[0, 0, 1, 1]], words) < contrastive_loss(vectors[[0, 1, 0, 1]], words)
