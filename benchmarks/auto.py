"""What `--auto`, `--reject` and trimming are worth, on draws of clips to train on, tested on others.

    python benchmarks/auto.py pairs TASK SIZE [--draws 20] [--fsdd FOLDER]    # --auto against the default
    python benchmarks/auto.py noise TASK SIZE                # whether figures of random labels hold chance
    python benchmarks/auto.py reject TASK SIZE [--precision 0.9]    # what a threshold keeps of what it promises
    python benchmarks/auto.py trimming TASK SIZE             # the default, trimmed and not, and padded clips
    python benchmarks/auto.py speed                          # 28 candidates x 5 x 5 folds on 535 vectors

TASK is `intents` or `digits` (bundled; tested on `test`), `fsdd` (a folder of FSDD's clips with its metadata.csv: each
speaker is tested by heads of the others, SIZE clips of each digit), `style` or `question` (made by espeak-ng: a phrase
plain, slow, high or whispered, or as a statement or a question; four of twelve voices are tested). Where SIZE is all of
`train`, draws differ by the seed of folds and heads alone. Vectors are the bundled encoder's, and stay in --cache.
"""

import argparse
import dataclasses
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from draws import LAST, SIZE, draws, groups_of, material
from material import machine

from golem_ray.config import HeadConfig, TrainingConfig
from golem_ray.config.grid import HEADS
from golem_ray.heads.examples import Examples
from golem_ray.heads.many import unseen_logits
from golem_ray.heads.select import choose
from golem_ray.heads.single_label import SINGLE_LABEL
from golem_ray.heads.train_head import train_head
from golem_ray.heads.training_set import HeadCandidate, HeadSpec, TrainingSet
from golem_ray.metrics.intervals import students_half


def candidates(joined: tuple[bool, ...] = (False, True), heads: tuple[str, ...] = tuple(HEADS)) -> list[HeadCandidate]:
    """As `--auto` has them, on vectors as `flat` lays them out."""
    found = []
    for name in heads:
        for join in joined:
            for parts in (1, 2):
                for layer in (LAST, 0, 1, 2, 3, 4, 6):
                    start = layer * 2 * SIZE
                    beside = ((7 * 2 * SIZE, 7 * 2 * SIZE + 80),) if join else ()
                    found.append(HeadCandidate(columns=((start, start + parts * SIZE), *beside), head=HEADS[name]))
    return found


def flat(found: dict[str, np.ndarray], kind: str, rows: np.ndarray) -> np.ndarray:
    """All layers, mean and deviation, and the baseline's vector behind them."""
    return np.concatenate([found[kind][rows].reshape(len(rows), -1), found[f"{kind}_mel"][rows]], axis=1)


def tested(
    x: np.ndarray, y: np.ndarray, g: np.ndarray | None, cut: int, one: HeadCandidate, spec: HeadSpec
) -> np.ndarray:
    """What a head of the first `cut` rows takes the others for."""
    examples = Examples(torch.tensor(x), torch.tensor(y), g).of_columns(one.columns)
    spec = dataclasses.replace(spec, head=one.head)
    (unseen,) = unseen_logits(examples, [(np.arange(cut), np.arange(cut, len(y)))], spec)
    return unseen.tested.argmax(axis=1)


def pair(task: str, place: Path, seed: int, train: np.ndarray, test: np.ndarray) -> tuple[int, float, float, str]:
    """Accuracy of `--auto` and of the default, and what was chosen."""
    torch.set_num_threads(1)
    found, rows, every = dict(np.load(place)), np.concatenate([train, test]), candidates()
    y, groups = found["y"], groups_of(task, found)
    spec = HeadSpec(num_classes=int(y.max()) + 1, training=TrainingConfig(seed=seed))
    g = None if groups is None else groups[rows]
    x = flat(found, "trim", rows)
    own = Examples(torch.tensor(x[: len(train)]), torch.tensor(y[train]), None if g is None else g[: len(train)])
    (choice,) = choose(own, every, spec, [np.arange(len(train))], lambda progress: None)
    chosen = tested(x, y[rows], g, len(train), every[choice.number], spec)
    plain = tested(flat(found, "plain", rows), y[rows], g, len(train), every[0], spec)
    return seed, float((chosen == y[test]).mean()), float((plain == y[test]).mean()), str(choice.number)


def noise(task: str, place: Path, seed: int, train: np.ndarray, test: np.ndarray) -> tuple[int, float, float, float]:
    """The nested figure of random labels, as many of each, and its interval."""
    torch.set_num_threads(1)
    found = dict(np.load(place))
    classes = int(found["y"].max()) + 1
    labels, groups = (
        np.random.default_rng(seed + 100).permutation(np.arange(len(train)) % classes),
        groups_of(task, found),
    )
    data = TrainingSet(
        embeddings=flat(found, "trim", train),
        labels=labels,
        groups=None if groups is None else groups[train],
        candidates=tuple(candidates()),
    )
    head = train_head(data, HeadSpec(num_classes=classes), repeats=5)
    scores = head.metrics["cross_validation"]
    return seed, scores["accuracy"], *scores["interval_95"]


def reject(
    task: str,
    place: Path,
    seed: int,
    train: np.ndarray,
    test: np.ndarray,
    precision: float,
    one: HeadCandidate,
    kind: str,
) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    """Of each tested clip whether it is named, whether that is right, and how sure the head is."""
    torch.set_num_threads(1)
    found, groups = dict(np.load(place)), None
    if groups_of(task, found) is not None:
        groups = found["g"][train]
    x, classes = flat(found, kind, np.concatenate([train, test])), int(found["y"].max()) + 1
    x = np.concatenate([x[:, start:stop] for start, stop in one.columns], axis=1)
    mel = found[f"{kind}_mel"]
    data = TrainingSet(
        embeddings=x[: len(train)],
        labels=found["y"][train],
        groups=groups,
        baseline=mel[train],
        held_out=x[len(train) :],
        held_out_baseline=mel[test],
    )
    head = train_head(data, HeadSpec(num_classes=classes, head=one.head, reject=precision), repeats=5)
    assert head.held_out_logits is not None
    assert head.held_out_unsure is not None
    probabilities = SINGLE_LABEL.probabilities(head.held_out_logits, head.metrics["calibration"])
    answers = SINGLE_LABEL.answers(probabilities)
    return seed, ~head.held_out_unsure, answers.decisions == found["y"][test], answers.confidence


def mean_and_lower(values: np.ndarray) -> str:
    """The mean of draws, and the lower end of its 95 % interval."""
    half = students_half(values.std(ddof=1) / len(values) ** 0.5, len(values)) if len(values) > 1 else 0.0
    return f"{values.mean():+.4f} (lower end {values.mean() - half:+.4f})"


def by_seed(seeds: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Means over the draws of a seed: people who are tested in turn are one draw."""
    return np.array([values[seeds == seed].mean() for seed in np.unique(seeds)])


def report_pairs(done: list[tuple[int, float, float, str]]) -> None:
    """Print the paired differences."""
    seeds = np.array([seed for seed, *_ in done])
    auto, plain = (by_seed(seeds, np.array([row[place] for row in done])) for place in (1, 2))
    others = sum(number != "0" for *_, number in done)
    print(f"--auto {auto.mean():.4f}, default {plain.mean():.4f}, difference {mean_and_lower(auto - plain)}")
    print(f"chosen: another than the default in {others} of {len(done)}")


def report_reject(done: list[tuple[int, np.ndarray, np.ndarray, np.ndarray]], precision: float) -> None:
    """Print in how many draws the precision holds, and the coverage beside that of hindsight."""
    holds, coverage, best = [], [], []
    for seed in sorted({seed for seed, *_ in done}):
        named, right, sure = (np.concatenate([row[place] for row in done if row[0] == seed]) for place in (1, 2, 3))
        order = np.argsort(-sure, kind="stable")
        shares = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
        enough = np.flatnonzero(shares >= precision)
        best.append((enough[-1] + 1) / len(order) if len(enough) else 0.0)
        holds.append(not named.any() or right[named].mean() >= precision)
        coverage.append(named.mean())
    print(f"holds in {sum(holds)} of {len(holds)}; nothing named in {sum(share == 0 for share in coverage)}")
    print(
        f"coverage {np.mean(coverage):.3f}, with hindsight {np.mean(best):.3f}: {np.mean(coverage) / np.mean(best):.2f}"
    )


def report_trimming(task: str, found: dict[str, np.ndarray], size: int, number: int) -> None:
    """Print accuracies of the default with and without, on clips as they are and on padded ones."""
    y, one, rows = found["y"], candidates()[0], []
    spec = HeadSpec(num_classes=int(y.max()) + 1)
    for seed, train, test in draws(task, found, size, number):
        record = [seed]
        for kind, padded in (("plain", "pad"), ("trim", "padtrim")):
            x = np.concatenate([flat(found, kind, train), flat(found, kind, test), flat(found, padded, test)])
            said = tested(x, np.concatenate([y[train], y[test], y[test]]), None, len(train), one, spec)
            clean, other = said[: len(test)], said[len(test) :]
            record += [(clean == y[test]).mean(), (other == y[test]).mean(), (clean == other).mean()]
        rows.append(record)
    table = np.array(rows)
    of_draws = [by_seed(table[:, 0], table[:, column]) for column in range(1, 7)]
    for name, (clean, other, agree) in (("untrimmed", of_draws[:3]), ("trimmed", of_draws[3:])):
        print(f"{name:10} clean {clean.mean():.3f}, padded {other.mean():.3f}, same label {agree.mean():.3f}")
    print(f"trimmed less untrimmed: {mean_and_lower(of_draws[3] - of_draws[0])}")


def report_speed() -> None:
    """Time the nested choice among 28 candidates, all layers, both poolings, linear and logistic."""
    torch.set_num_threads(2)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 7, 535)
    centres = rng.standard_normal((7, 7 * 2 * SIZE)).astype(np.float32)
    x = (rng.standard_normal((535, 7 * 2 * SIZE)) + 0.15 * centres[labels]).astype(np.float32)
    every = tuple(candidates((False,), ("linear", "logistic")))
    start = time.perf_counter()
    train_head(TrainingSet(embeddings=x, labels=labels, candidates=every), HeadSpec(num_classes=7), repeats=5)
    print(f"{time.perf_counter() - start:.1f} s: {len(every)} candidates, nested in 5 x 5 folds of 535 vectors")


def main() -> None:
    """Make the draws of one kind and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["pairs", "noise", "reject", "trimming", "speed"])
    parser.add_argument(
        "task", nargs="?", choices=["intents", "digits", "fsdd", "style", "question"], default="intents"
    )
    parser.add_argument("size", nargs="?", type=int, default=50)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--precision", type=float, default=0.9)
    parser.add_argument(
        "--layer", type=int, default=LAST, help="of reject: the layer, mean+std where it is not the last"
    )
    parser.add_argument("--fsdd", type=Path)
    parser.add_argument("--cache", type=Path, default=Path("benchmark-vectors"))
    given = parser.parse_args()
    print(machine())
    if given.what == "speed":
        report_speed()
        return
    found = material(given.task, given.fsdd, given.cache)
    if given.what == "trimming":
        report_trimming(given.task, found, given.size, given.draws)
        return
    place = given.cache / f"{given.task}.npz"
    every = list(draws(given.task, found, given.size, given.draws))
    one = candidates()[0]
    if given.layer != LAST:
        start = given.layer * 2 * SIZE
        one = dataclasses.replace(one, columns=((start, start + 2 * SIZE),), head=HeadConfig(kind="logistic"))
    with ProcessPoolExecutor() as pool:
        if given.what == "pairs":
            report_pairs([each.result() for each in [pool.submit(pair, given.task, place, *draw) for draw in every]])
        elif given.what == "noise":
            done = [each.result() for each in [pool.submit(noise, given.task, place, *draw) for draw in every]]
            chance = 1 / (int(found["y"].max()) + 1)
            held = sum(low <= chance <= high for _, _, low, high in done)
            print(
                f"the nested figure's interval holds chance in {held} of {len(done)}; its mean is "
                f"{np.mean([row[1] for row in done]):.4f}"
            )
        else:
            more = (given.precision, one, "plain")
            tasks = [pool.submit(reject, given.task, place, *draw, *more) for draw in every]
            report_reject([each.result() for each in tasks], given.precision)


if __name__ == "__main__":
    main()
