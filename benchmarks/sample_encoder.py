"""What the bundled encoder and sample sets are worth, beside chance, simple features and an oracle.

    python benchmarks/sample_encoder.py --fsdd path/to/fsdd

FSDD's spoken digits are real people, five clips a digit, each person left out in turn; the sample's `test`
split has other voices and other phrasings than its `train`, the bundled digits' `test` other voices. Means
over seeds with a 95 % interval.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import soundfile
import torch
import torchaudio
from scipy import stats
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from transformers import Wav2Vec2Config, Wav2Vec2Model

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import golem_ray
from golem_ray.speech.baseline import log_mel_statistics

SAMPLE = Path(golem_ray.__file__).parent / "sample"
ENCODER_HZ = 16_000
Features = Callable[[Tensor], np.ndarray]
"""A waveform (T,) at 16 kHz to one vector (D,)."""
Head = Callable[[np.ndarray, np.ndarray, np.ndarray, int], np.ndarray]
"""Vectors, labels and vectors to judge, and a seed, to the labels judged."""


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fsdd", type=Path, help="folder with metadata.csv and clips/")
    parser.add_argument("--sample", type=Path, default=SAMPLE)
    parser.add_argument("--encoder", type=Path, default=SAMPLE / "encoder")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--layers", action="store_true", help="the digits layer by layer too")
    return parser.parse_args(argv)


def read_waveform(source: Path | io.BytesIO) -> Tensor:
    """A sound file as (T,) float32 at 16 kHz."""
    samples, rate = soundfile.read(source, dtype="float32")
    return torchaudio.functional.resample(torch.from_numpy(samples), rate, ENCODER_HZ)


def encoder_features(encoder: Wav2Vec2Model, layer: int = -1) -> Features:
    """The mean over time of a layer's output, clip by clip."""

    @torch.inference_mode()
    def features(waveform: Tensor) -> np.ndarray:
        scaled = (waveform - waveform.mean()) / torch.sqrt(waveform.var(correction=0) + 1e-7)
        states = encoder(scaled[None], output_hidden_states=True).hidden_states
        return states[layer][0].mean(dim=0).numpy()

    return features


def log_mel_features(waveform: Tensor) -> np.ndarray:
    """The job's own baseline: (T,) -> (80,)."""
    return log_mel_statistics(waveform.numpy(), ENCODER_HZ)


def standardised_logistic(vectors: np.ndarray, labels: np.ndarray, judged: np.ndarray, seed: int) -> np.ndarray:
    """Logistic regression on standardised vectors."""
    head = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return head.fit(vectors, labels).predict(judged)


def default_head(vectors: np.ndarray, labels: np.ndarray, judged: np.ndarray, seed: int) -> np.ndarray:
    """The job's default: a linear layer, raw vectors, Adam at 0.01, 100 full-batch epochs."""
    torch.manual_seed(seed)
    inputs, targets = torch.from_numpy(vectors), torch.from_numpy(labels)
    head = nn.Linear(inputs.shape[1], int(labels.max()) + 1)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.01)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(head(inputs), targets).backward()
        optimizer.step()
    with torch.inference_mode():
        return head(torch.from_numpy(judged)).argmax(dim=1).numpy()


def tfidf_oracle(texts: np.ndarray, labels: np.ndarray, judged: np.ndarray, seed: int) -> np.ndarray:
    """Logistic regression on TF-IDF of the true transcripts."""
    head = make_pipeline(TfidfVectorizer(), LogisticRegression(C=10, max_iter=1000))
    return head.fit(texts, labels).predict(judged)


def interval(values: list[float]) -> str:
    """`mean +- half` of the 95 % interval of the mean over seeds, by Student's t."""
    if len(values) == 1:
        return f"{values[0]:.3f}"
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return f"{np.mean(values):.3f} +- {half:.3f}"


def draw(labels: np.ndarray, pool: np.ndarray, shots: int, seed: int) -> np.ndarray:
    """`shots` row numbers of each label among the pool's rows."""
    rng = np.random.default_rng(seed)
    rows = [rng.choice(pool[labels[pool] == label], shots, replace=False) for label in np.unique(labels)]
    return np.concatenate(rows)


def digits_by_person(
    vectors: np.ndarray, labels: np.ndarray, people: np.ndarray, head: Head, seeds: int
) -> dict[str, list[float]]:
    """Accuracy on each person, left out of training, for every seed."""
    accuracies: dict[str, list[float]] = {}
    for person in np.unique(people):
        tested = people == person
        accuracies[person] = []
        for seed in range(seeds):
            rows = draw(labels, np.flatnonzero(~tested), 5, seed)
            judged = head(vectors[rows], labels[rows], vectors[tested], seed)
            accuracies[person].append(float((judged == labels[tested]).mean()))
    return accuracies


def measure_digits(folder: Path, encoders: dict[str, Features], seeds: int) -> None:
    """Print the digits' table: one line for each kind of features and head."""
    with open(folder / "metadata.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    names = sorted({row["label"] for row in rows})
    labels = np.array([names.index(row["label"]) for row in rows])
    people = np.array([row["speaker"] for row in rows])
    waveforms = [read_waveform(folder / row["file_name"]) for row in rows]
    print(f"digits: {len(rows)} clips, {len(np.unique(people))} people, five clips a digit")
    for name, features in encoders.items():
        vectors = np.stack([features(waveform) for waveform in waveforms])
        for head in (standardised_logistic, default_head):
            found = digits_by_person(vectors, labels, people, head, seeds)
            means = list(np.mean(list(found.values()), axis=0))
            each = "  ".join(f"{person} {np.mean(values):.3f}" for person, values in found.items())
            print(f"  {name:20} {head.__name__:22} {interval(means)}   {each}", flush=True)


def read_split(path: Path, column: str = "intent_class") -> tuple[list[Tensor], np.ndarray, np.ndarray]:
    """Waveforms, labels (N,) and transcripts (N,) of one split of a bundled set."""
    rows = pq.read_table(path).to_pylist()
    waveforms = [read_waveform(io.BytesIO(row["audio"]["bytes"])) for row in rows]
    texts = np.array([row["transcription"] for row in rows])
    return waveforms, np.array([row[column] for row in rows]), texts


def sample_accuracies(
    train: np.ndarray,
    labels: np.ndarray,
    test: np.ndarray,
    truth: np.ndarray,
    head: Head,
    seeds: int,
) -> tuple[list[float], list[float]]:
    """Accuracies with 50 clips drawn anew per seed, and with all of them (seeding the head)."""
    few, whole = [], []
    for seed in range(seeds):
        rows = np.random.default_rng(seed).permutation(len(labels))[:50]
        few.append(float((head(train[rows], labels[rows], test, seed) == truth).mean()))
        if head is default_head or seed == 0:
            whole.append(float((head(train, labels, test, seed) == truth).mean()))
    return few, whole


def measure_sample(folder: Path, encoders: dict[str, Features], seeds: int) -> None:
    """Print the sample's table: 50 clips and all of them, tested on the other split."""
    waveforms, labels, texts = read_split(folder / "train.parquet")
    others, truth, other_texts = read_split(folder / "test.parquet")
    print(f"sample: {len(labels)} clips to train, {len(truth)} to test; 50 clips | all of them")
    print(f"  {'chance':43} {1 / len(np.unique(labels)):.3f}")
    for name, features in encoders.items():
        train = np.stack([features(waveform) for waveform in waveforms])
        test = np.stack([features(waveform) for waveform in others])
        for head in (default_head, standardised_logistic):
            few, whole = sample_accuracies(train, labels, test, truth, head, seeds)
            line = f"{interval(few)} | {interval(whole)}"
            print(f"  {name:20} {head.__name__:22} {line}", flush=True)
    few, whole = sample_accuracies(texts, labels, other_texts, truth, tfidf_oracle, seeds)
    print(f"  {'true transcripts':20} {'tfidf_oracle':22} {interval(few)} | {interval(whole)}")


def measure_bundled_digits(folder: Path, encoders: dict[str, Features], seeds: int) -> None:
    """Print the bundled digits' table: trained on all clips of `train`, tested on the other voices of `test`."""
    waveforms, labels, _ = read_split(folder / "train.parquet", "label")
    others, truth, _ = read_split(folder / "test.parquet", "label")
    print(f"bundled digits: {len(labels)} clips to train, {len(truth)} to test")
    for name, features in encoders.items():
        train = np.stack([features(waveform) for waveform in waveforms])
        test = np.stack([features(waveform) for waveform in others])
        for head in (default_head, standardised_logistic):
            drawn = range(seeds if head is default_head else 1)
            found = [float((head(train, labels, test, seed) == truth).mean()) for seed in drawn]
            print(f"  {name:20} {head.__name__:22} {interval(found)}", flush=True)


def main() -> None:
    """Print the tables."""
    args = parse()
    trained = Wav2Vec2Model.from_pretrained(args.encoder).eval()
    torch.manual_seed(0)
    untrained = Wav2Vec2Model(Wav2Vec2Config.from_pretrained(args.encoder)).eval()
    encoders = {
        "encoder": encoder_features(trained),
        "untrained encoder": encoder_features(untrained),
        "log-mel statistics": log_mel_features,
    }
    layers = {
        f"encoder, layer {layer}": encoder_features(trained, layer)
        for layer in range(1, trained.config.num_hidden_layers)
    }
    if (args.sample / "test.parquet").exists():
        measure_sample(args.sample, encoders, args.seeds)
    if (args.sample / "digits" / "test.parquet").exists():
        measure_bundled_digits(args.sample / "digits", encoders, args.seeds)
    if args.fsdd:
        measure_digits(args.fsdd, encoders | (layers if args.layers else {}), args.seeds)


if __name__ == "__main__":
    main()
