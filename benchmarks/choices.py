"""What a layer, a pooling and a head are worth on the bundled encoder, against the default, and how many clips are.

    OMP_NUM_THREADS=1 python benchmarks/choices.py [--fsdd path/to/fsdd] [--seeds 20]

Each seed draws clips to train on; every choice is trained on the same ones and tested on the same others: the sample's
`test` split (other voices, other phrasings), or digits by a person who was left out. Means with Student's 95 %
intervals over seeds (where all clips are taken, those vary the head and the folds alone, and 5 will do for the learning
curve); the gain over the default also with an interval over the tested clips, each clip's a mean over seeds. What
`--auto` chooses: auto.py.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from golem_ray.config import GridConfig, HeadConfig, ModelConfig, TrainingConfig
from golem_ray.embedding.recipe import Recipe, part_of
from golem_ray.heads.examples import Examples
from golem_ray.heads.fit import fit, logits_of
from golem_ray.heads.single_label import SINGLE_LABEL
from golem_ray.heads.training_set import HeadSpec
from golem_ray.metrics.intervals import mean_and_error
from golem_ray.sample import SAMPLE
from golem_ray.speech.encoders import SpeechEncoder
from golem_ray.speech.inspect import recipe_for
from golem_ray.speech.read import load_clip

HEADS = GridConfig().heads
CHOICES = {
    "default": ("last", "mean", "linear"),
    "mean of layers": ("mean", "mean", "linear"),
    "mean+std": ("last", "mean+std", "linear"),
    "logistic": ("last", "mean", "logistic"),
    "hidden": ("last", "mean", "hidden"),
    "logistic, mean+std": ("last", "mean+std", "logistic"),
    "hidden, mean+std": ("last", "mean+std", "hidden"),
    "best.toml": ("mean", "mean+std", "hidden"),
}
SIZES = (1, 2, 5, 10, "all")


@dataclass(frozen=True)
class Task:
    """Clips, embedded by all layers: some to draw from, others to test on."""

    vectors: np.ndarray
    labels: np.ndarray
    people: np.ndarray | None
    tested: list[np.ndarray]
    """Masks of the clips to test on, one after another; the others may be trained on."""


def embed(recipe: Recipe, files: list[bytes]) -> np.ndarray:
    """(N, vector_size)."""
    encoder = SpeechEncoder(recipe, "cpu")
    return np.concatenate([encoder.embed([load_clip(file, 16_000)]) for file in files])


def sample(recipe: Recipe) -> Task:
    """The bundled clips."""
    files, labels, sizes = [], [], []
    for split in ("train", "test"):
        rows = pq.read_table(SAMPLE / f"{split}.parquet").to_pylist()
        files += [row["audio"]["bytes"] for row in rows]
        labels += [row["intent_class"] for row in rows]
        sizes.append(len(rows))
    return Task(embed(recipe, files), np.array(labels), None, [np.arange(sum(sizes)) >= sizes[0]])


def digits(recipe: Recipe, folder: Path) -> Task:
    """FSDD, each person left out in turn."""
    with open(folder / "metadata.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    names = sorted({row["label"] for row in rows})
    people = np.array([row["speaker"] for row in rows])
    vectors = embed(recipe, [(folder / row["file_name"]).read_bytes() for row in rows])
    labels = np.array([names.index(row["label"]) for row in rows])
    return Task(vectors, labels, people, [people == person for person in np.unique(people)])


def of_each_class(most: int | str, labels: np.ndarray, pool: np.ndarray, seed: int) -> np.ndarray:
    """So many rows of each class among the pool's."""
    if most == "all":
        return pool
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.permutation(pool[labels[pool] == label])[:most] for label in np.unique(labels)])


def any_of(number: int, labels: np.ndarray, pool: np.ndarray, seed: int) -> np.ndarray:
    """So many rows of the pool, of whatever class."""
    return np.random.default_rng(seed).permutation(pool)[:number]


Draw = Callable[[np.ndarray, np.ndarray, int], np.ndarray]


def measure(task: Task, recipe: Recipe, choice: tuple[int | str, str, str], draw: Draw, seed: int) -> np.ndarray:
    """Which clips to test on are recognised, (M,) bool, each by a head of the draw that left it out."""
    layer, pooling, head = choice
    found = []
    for tested in task.tested:
        rows = draw(task.labels, np.flatnonzero(~tested), seed)
        x = torch.tensor(part_of(task.vectors, recipe, layer, pooling))
        examples = Examples(x[rows], torch.tensor(task.labels[rows]), groups(task, rows))
        fitted = fit(examples, spec(task, HEADS[head], seed))
        found.append(SINGLE_LABEL.right(logits_of(fitted, x[tested]), task.labels[tested]))
    return np.concatenate(found)


def spec(task: Task, head: HeadConfig, seed: int) -> HeadSpec:
    """How the head is fitted."""
    return HeadSpec(num_classes=int(task.labels.max()) + 1, head=head, training=TrainingConfig(seed=seed))


def groups(task: Task, rows: np.ndarray) -> np.ndarray | None:
    """The rows' people, by number."""
    return None if task.people is None else np.unique(task.people[rows], return_inverse=True)[1]


def shown(values: np.ndarray, sign: str = "") -> str:
    """`mean +- half of Student's 95 % interval`."""
    mean, error, count = mean_and_error(values)
    return f"{mean:{sign}.3f} +- {stats.t.ppf(0.975, count - 1) * error:.3f}"


def table(name: str, task: Task, recipe: Recipe, draw: Draw, choices: list[str], seeds: int) -> None:
    """Print the default and each choice, with what it gains over the default."""
    print(f"\n{name}", flush=True)
    default = np.zeros(0)
    for choice in dict.fromkeys(["default", *choices]):
        work = partial(measure, task, recipe, CHOICES[choice], draw)
        right = np.array(list(POOL.map(work, range(seeds))), dtype=np.float64)
        default = right if choice == "default" else default
        gain = right - default
        cells = [shown(right.mean(axis=1)), shown(gain.mean(axis=1), "+"), shown(gain.mean(axis=0), "+")]
        print(f"  {choice:20} {'   '.join(cells[: 1 if choice == 'default' else 3])}", flush=True)


def learning_curve(name: str, task: Task, recipe: Recipe, choices: list[str], seeds: int) -> None:
    """Print accuracy by clips per class."""
    print(f"\n{name}, by clips per class: {', '.join(map(str, SIZES))}", flush=True)
    for choice in choices:
        cells = []
        for size in SIZES:
            work = partial(measure, task, recipe, CHOICES[choice], partial(of_each_class, size))
            right = np.array(list(POOL.map(work, range(seeds if size != "all" else 5))))
            cells.append(shown(right.mean(axis=1)))
        print(f"  {choice:20} {'  '.join(cells)}", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fsdd", type=Path, help="folder with metadata.csv and clips/")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--choices", nargs="+", default=list(CHOICES), choices=list(CHOICES))
    parser.add_argument("--curves", nargs="*", default=["default", "hidden", "best.toml"], choices=list(CHOICES))
    args = parser.parse_args()
    model = ModelConfig(feature_extractor_model="sample", layer="auto", pooling="mean+std")
    recipe = recipe_for(model)
    clips = sample(recipe)
    table("sample, 50 clips", clips, recipe, partial(any_of, 50), args.choices, args.seeds)
    table("sample, all 336", clips, recipe, partial(any_of, 336), args.choices, args.seeds)
    learning_curve("sample", clips, recipe, args.curves, args.seeds)
    if args.fsdd:
        people = digits(recipe, args.fsdd)
        table(
            "digits, people apart, five clips a digit",
            people,
            recipe,
            partial(of_each_class, 5),
            args.choices,
            args.seeds,
        )
        learning_curve("digits, people apart", people, recipe, args.curves, args.seeds)


if __name__ == "__main__":
    with ProcessPoolExecutor(initializer=torch.set_num_threads, initargs=(1,)) as POOL:
        main()
