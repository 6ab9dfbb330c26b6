"""Pretrain the bundled speech encoder from nothing, on synthetic speech that it makes first.

    python tools/pretrain.py --corpus .cache/corpus --out golem_ray/sample/encoder

Needs espeak-ng, flite, festival with its ked and slt-hts voices, a list of English words (Debian:
espeak-ng flite festival festvox-kdlpc16k festvox-us-slt-hts wamerican), and SVOX Pico and word
frequencies (PyPI: ttspico wordfreq). Takes a GPU where there is one.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
import time
from pathlib import Path

import torch
from pretraining.batches import Batch, phrase_batches, word_batches
from pretraining.corpus import Clips, CorpusConfig, load_clips, make_corpus
from pretraining.export import export
from pretraining.objectives import Objectives, contrastive_loss
from pretraining.validation import few_shot_accuracy, validation_clips
from torch import Tensor, distributed, multiprocessing, nn
from transformers import Wav2Vec2Config, Wav2Vec2Model


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, default=Path(".cache/corpus"))
    parser.add_argument("--dictionary", type=Path, default=Path("/usr/share/dict/words"))
    parser.add_argument("--out", type=Path, default=Path("golem_ray/sample/encoder"))
    parser.add_argument("--checkpoint", type=Path, default=Path(".cache/pretrain.pt"))
    parser.add_argument("--steps", type=int, default=7700)
    parser.add_argument("--decay", type=float, default=0.3, help="last share of the steps")
    parser.add_argument("--learning-rate", type=float, default=1.5e-3)
    parser.add_argument("--word-seconds", type=float, default=26, help="of single words in a batch")
    parser.add_argument("--voices", type=int, default=2, help="clips of each word in a batch")
    parser.add_argument("--phrase-seconds", type=float, default=20, help="of phrases in a batch")
    parser.add_argument("--processes", type=int, default=2, help="that make the corpus and, on CPU, train")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(argv)


def encoder_config() -> Wav2Vec2Config:
    """The family of facebook/wav2vec2-base, small."""
    return Wav2Vec2Config(
        hidden_size=256,
        num_hidden_layers=5,
        num_attention_heads=4,
        intermediate_size=384,
        conv_dim=(32, 64, 96, 96, 128, 128, 128),
        num_conv_pos_embeddings=64,
        num_conv_pos_embedding_groups=16,
        feat_extract_norm="group",
        hidden_dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        feat_proj_dropout=0.0,
        layerdrop=0.0,
        mask_time_prob=0.08,
        mask_time_length=3,
        mask_time_min_masks=0,
    )


def load_spelling(corpus: Path) -> Tensor:
    """Phoneme numbers of every word from 1 up, filled with 0: (words, most phonemes)."""
    vocabulary: dict[str, list[str]] = json.loads((corpus / "vocabulary.json").read_text())
    symbols = sorted({symbol for spoken in vocabulary.values() for symbol in spoken})
    numbers = {symbol: number for number, symbol in enumerate(symbols, start=1)}
    longest = max(len(spoken) for spoken in vocabulary.values())
    rows = [[numbers[symbol] for symbol in spoken] for spoken in vocabulary.values()]
    return torch.tensor([row + [0] * (longest - len(row)) for row in rows])


def learning_rate(step: int, args: argparse.Namespace) -> float:
    """The factor at a step: a short rise, a plateau, a cosine to nothing."""
    rise = min(1.0, (step + 1) / 300)
    left = (args.steps - step) / (args.decay * args.steps)
    return rise * (0.5 - 0.5 * math.cos(math.pi * min(1.0, left)))


def word_weight(step: int) -> float:
    """The share of the word objectives: nothing until the phonemes have a hold, then rising."""
    return min(1.0, max(0.0, (step - 200) / 600))


def word_priors(clips: Clips, num_words: int) -> Tensor:
    """The logarithm of each word's share of the clips' words: (words,)."""
    spoken = torch.from_numpy(clips.words[(clips.words >= 0) & (clips.words < num_words)]).long()
    counts = torch.bincount(spoken, minlength=num_words).clamp(min=1).float()
    return torch.log(counts / counts.sum())


def losses(
    encoder: nn.Module,
    objectives: Objectives,
    batches: dict[str, Batch],
    spelling: Tensor,
    priors: dict[str, Tensor],
) -> dict[str, Tensor]:
    """Every objective of a batch of words and a batch of phrases, by name."""
    device = spelling.device
    words = {kind: torch.from_numpy(batch.words).long() for kind, batch in batches.items()}
    words = {kind: numbers.to(device) for kind, numbers in words.items()}
    directions = objectives.word_directions()
    pooled, found = [], {}
    for kind, batch in batches.items():
        with torch.autocast(device.type, torch.bfloat16):
            waveforms = torch.from_numpy(batch.waveforms).to(device)
            heard = encoder(waveforms, output_hidden_states=True)
        lower, upper = heard.hidden_states[-3].float(), heard.hidden_states[-2].float()
        found[f"{kind} phoneme"] = objectives.phoneme_loss(lower, words[kind], spelling)
        if kind == "phrases":
            found["order"] = objectives.order_loss(upper, words[kind], directions, priors[kind])
        pooled.append(heard.last_hidden_state.float().mean(dim=1))
    alone, phrases = objectives.norm(torch.cat(pooled)).split([len(vectors) for vectors in pooled])
    found["word"] = objectives.word_loss(alone, words["words"][:, 0], directions, priors["words"])
    found["contrast"] = contrastive_loss(alone, words["words"][:, 0])
    found["bag"] = 3.0 * objectives.bag_loss(phrases, words["phrases"], priors["phrases"])
    return found


def train_step(
    encoder: nn.Module,
    objectives: Objectives,
    optimizer: torch.optim.Optimizer,
    batches: dict[str, Batch],
    spelling: Tensor,
    priors: dict[str, Tensor],
    words_share: float,
) -> dict[str, float]:
    """One update; returns each loss."""
    optimizer.zero_grad()
    found = losses(encoder, objectives, batches, spelling, priors)
    weights = {name: 1.0 if "phoneme" in name else words_share for name in found}
    torch.stack([loss * weights[name] for name, loss in found.items()]).sum().backward()
    _average_gradients(optimizer)
    nn.utils.clip_grad_norm_([*encoder.parameters(), *objectives.parameters()], 1.0)
    optimizer.step()
    return {name: loss.item() for name, loss in found.items()}


def _average_gradients(optimizer: torch.optim.Optimizer) -> None:
    """Give every process the mean of all gradients."""
    if distributed.is_initialized():
        gradients = [parameter.grad for group in optimizer.param_groups for parameter in group["params"]]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        flat /= distributed.get_world_size()
        for gradient, mean in zip(gradients, flat.split([grad.numel() for grad in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))


def train(args: argparse.Namespace, rank: int = 0) -> tuple[Wav2Vec2Model, nn.BatchNorm1d]:
    """The encoder after every step and its vectors' statistics; resumes from a checkpoint.

    With several processes, each has batches of its own (by rank) and all make the same updates.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(args.seed)
    words, phrases = load_clips(args.corpus, "words"), load_clips(args.corpus, "phrases")
    spelling = load_spelling(args.corpus).to(device)
    num_words = len(spelling) - CorpusConfig().held_out_words
    held_out = validation_clips(words, first_word=num_words)
    encoder = Wav2Vec2Model(encoder_config())
    encoder.set_attn_implementation("eager")  # on CPU and clips this short twice as fast
    nn.Module.to(encoder, device)
    objectives = Objectives(encoder.config.hidden_size, spelling[:num_words]).to(device)
    parameters = [*encoder.parameters(), *objectives.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=args.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    done = _resume(args.checkpoint, encoder, objectives, optimizer)
    seed = args.seed + 1000 * rank
    torch.manual_seed(seed + done)
    batches = zip(
        word_batches(words, num_words, args.word_seconds, args.voices, seed, done),
        phrase_batches(phrases, args.phrase_seconds, seed, done),
        strict=True,
    )
    clips = {"words": words, "phrases": phrases}
    priors = {kind: word_priors(heard, num_words).to(device) for kind, heard in clips.items()}
    started, heard_s = time.monotonic(), 0.0
    for step in range(done, args.steps):
        for group in optimizer.param_groups:
            group["lr"] = args.learning_rate * learning_rate(step, args)
        encoder.train()
        pair = dict(zip(priors, next(batches), strict=True))
        heard_s += sum(batch.waveforms.size for batch in pair.values()) / 16_000
        share = word_weight(step)
        report = train_step(encoder, objectives, optimizer, pair, spelling, priors, share)
        if step % 100 == 0 and rank == 0:
            spent = f"{time.monotonic() - started:.0f} s  {heard_s:.0f} s heard"
            print(step, spent, *(f"{k} {v:.2f}" for k, v in report.items()), sep="  ", flush=True)
        if rank == 0 and ((step + 1) % 500 == 0 or step + 1 == args.steps):
            accuracies = few_shot_accuracy(encoder, held_out)
            print(f"{step}  new words by layer:", *(f"{a:.3f}" for a in accuracies), flush=True)
            _save(args.checkpoint, step + 1, encoder, objectives, optimizer)
    return encoder, objectives.norm


def _resume(path: Path, encoder: nn.Module, objectives: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    if not path.exists():
        return 0
    saved = torch.load(path, weights_only=True)
    encoder.load_state_dict(saved["encoder"])
    objectives.load_state_dict(saved["objectives"])
    optimizer.load_state_dict(saved["optimizer"])
    return saved["step"]


def _save(path: Path, step: int, encoder: nn.Module, objectives: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    state = {"step": step, "encoder": encoder.state_dict()}
    state |= {"objectives": objectives.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(state, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


def main() -> None:
    """Make the corpus, train, and write the encoder."""
    args = parse()
    for variable in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(variable, "20000")  # else kernels are made anew for every other shape
    make_corpus(CorpusConfig(), args.dictionary, args.corpus, args.processes)
    if torch.cuda.is_available() or args.processes == 1:
        export(*train(args), args.out)
    else:
        multiprocessing.spawn(_train_together, (args, tempfile.mkdtemp()), args.processes)


def _train_together(rank: int, args: argparse.Namespace, meeting: str) -> None:
    """One of several processes of one thread each: faster than as many threads of one process."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{meeting}/all", rank=rank, world_size=args.processes)
    trained = train(args, rank)
    if rank == 0:
        export(*trained, args.out)
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
