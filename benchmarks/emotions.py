"""Several emotions in Russian messages: TF-IDF held to scikit-learn's own pipeline, tuned thresholds against .5, and
calibration against the error that perfect probabilities have.

    python benchmarks/emotions.py ../shared/data/emotions [--texts 1000] [--draws 5] [--encoder ngrams] [--joined]

`ru_goemotions_validation.csv` is cut in two halves by a seed for each draw: one to train on, or as many texts of it as
`--texts` says, and one to test on. Nothing is chosen on the half that is tested: strengths, calibration and thresholds
follow from folds of the other, for both sides alike.

With `--joined` heads are logistic: on the encoder's vector, on that with TF-IDF joined, on what cross-validation
chooses of the two, and on TF-IDF reduced to 256 numbers beside the vector.

    python benchmarks/emotions.py ../shared/data/emotions --texts 1000 --draws 3 --spreads 1 2 4 8

With `--spreads` the joined ones have other values of `fit.JOINED_SPREAD`, are trained on texts of `izard_train.csv` and
tested on `izard_val.csv`: what is chosen there is not chosen on what the others are tested on.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from golem_ray.config import HeadConfig, ModelConfig, ProcessingConfig
from golem_ray.config.presets import bundled_presets
from golem_ray.heads import fit
from golem_ray.heads.baselines import STRENGTHS
from golem_ray.heads.multi_label import MULTI_LABEL
from golem_ray.heads.terms import values_of, vocabulary
from golem_ray.heads.train_head import train_head
from golem_ray.heads.training_set import HeadCandidate, HeadSpec, TrainedHead, TrainingSet
from golem_ray.metrics.answers import Answers
from golem_ray.metrics.several import figures, paired_f1
from golem_ray.text import MODALITY

SHOWN = ("weighted_f1", "macro_f1", "mean_average_precision", "calibration_error")


def messages(folder: Path) -> tuple[list[str], np.ndarray]:
    """Texts and their labels (N, 7) bool, by the bundled preset's map."""
    label_map = tomllib.loads(bundled_presets()["emotions"].read_text())["dataset"]["label_map"]
    names = list(dict.fromkeys(label_map.values()))
    with (folder / "ru_goemotions_validation.csv").open() as file:
        rows = list(csv.DictReader(file))
    labels = np.zeros((len(rows), len(names)), dtype=bool)
    for number, row in enumerate(rows):
        for label in re.findall(r"\d+", row["labels"]):
            labels[number, names.index(label_map[label])] = True
    return [row["ru_text"] for row in rows], labels


def izard(folder: Path) -> tuple[list[str], np.ndarray, int]:
    """Texts of izard's training and validation splits, their labels (N, 10) bool, and how many are of the first."""
    rows, sizes = [], []
    for split in ("train", "val"):
        with (folder / f"izard_{split}.csv").open() as file:
            rows += list(csv.DictReader(file))
        sizes.append(len(rows))
    names = [name for name in rows[0] if name not in ("text", "near_goemotions")]
    return [row["text"] for row in rows], np.array([[row[name] == "1" for name in names] for row in rows]), sizes[0]


def spread(given: argparse.Namespace) -> None:
    """Print what joined heads reach with each spread of what is joined."""
    texts, labels, num_train = izard(given.folder)
    vectors, terms = embedded(texts, given.encoder)
    spec = HeadSpec(num_classes=labels.shape[1], target=MULTI_LABEL, head=HeadConfig(kind="logistic"), joined=True)
    found: dict[float, list[float]] = {value: [] for value in given.spreads}
    test = np.arange(num_train, len(texts))
    for draw in range(given.draws):
        train = np.sort(np.random.default_rng(draw).permutation(num_train)[: given.texts])
        data = training_set(vectors, labels, terms, train, test)
        for value in given.spreads:
            fit.JOINED_SPREAD = value
            answers = answered(train_head(data, spec, repeats=0))
            found[value].append(figures(answers, labels[test])["mean_average_precision"]["value"])
    print(f"{len(train)} texts of izard to train on, {len(test)} to test on, means of {given.draws} draws")
    for value, each in found.items():
        print(f"spread {value:g}: mean average precision {np.mean(each):.4f}")


def embedded(texts: list[str], encoder: str) -> tuple[np.ndarray, Any]:
    """Vectors (N, D) of texts, and the terms in them, (N, T) in CSR form."""
    recipe = MODALITY.recipe(ModelConfig(feature_extractor_model=encoder), ProcessingConfig(emoji_language="ru"))
    contents = [text.encode() for text in texts]
    assert MODALITY.terms is not None
    loaded = MODALITY.load_encoder(recipe, "cpu", MODALITY.cpu_batch)
    return loaded.embed([MODALITY.read(content, recipe) for content in contents]), MODALITY.terms(contents, recipe)


def training_set(
    vectors: np.ndarray, labels: np.ndarray, terms: Any, train: np.ndarray, test: np.ndarray
) -> TrainingSet:
    """Rows to train on, (N,), and rows to test on, (M,)."""
    return TrainingSet(
        embeddings=vectors[train],
        labels=labels[train],
        held_out=vectors[test],
        terms=terms[train],
        held_out_terms=terms[test],
    )


def by_scikit_learn(texts: list[str], labels: np.ndarray, tested: list[str], spec: HeadSpec) -> Answers:
    """TF-IDF under a logistic regression for each label, by scikit-learn alone, its strength by the same folds."""
    folds = MULTI_LABEL.folds(labels, 1, spec.training.seed)
    best: tuple[float, float, np.ndarray] = (np.inf, 0.0, np.zeros(0))
    for strength in STRENGTHS:
        logits = np.full(labels.shape, np.nan)
        for train, test in folds:
            some = [texts[row] for row in train]
            logits[test] = _logits(some, labels[train], [texts[row] for row in test], strength)
        loss = float(np.mean(np.logaddexp(0, logits) - labels * logits))
        best = min(best, (loss, strength, logits), key=lambda each: each[0])
    calibration = MULTI_LABEL.calibrate(best[2], labels, len(labels), spec.head)
    logits = _logits(texts, labels, tested, best[1])
    return MULTI_LABEL.answers(MULTI_LABEL.probabilities(logits, calibration), calibration)


def _logits(texts: list[str], labels: np.ndarray, tested: list[str], strength: float) -> np.ndarray:
    logits = np.full((len(tested), labels.shape[1]), -100.0)
    for number in np.flatnonzero(labels.any(axis=0)):
        vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
        pipeline = make_pipeline(vectorizer, LogisticRegression(C=strength, solver="liblinear"))
        logits[:, number] = pipeline.fit(texts, labels[:, number]).decision_function(tested)
    return logits


def reduced(terms: Any, tested: Any) -> tuple[np.ndarray, np.ndarray]:
    """TF-IDF of texts to train on and to test on, (N, 256) and (M, 256), by the SVD of the first, whose scale is kept.

    In a random basis: a head that standardises columns would else give the least of them the weight of the first.
    """
    known = vocabulary(terms)
    x, other = (values_of(each, *known) for each in (terms, tested))
    svd = TruncatedSVD(min(256, x.shape[0] - 1), random_state=0).fit(x)
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(svd.n_components, svd.n_components)))
    return (svd.transform(x) @ turn).astype(np.float32), (svd.transform(other) @ turn).astype(np.float32)


def joined(data: TrainingSet, spec: HeadSpec) -> dict[str, Answers]:
    """What heads say of the examples held out that take the encoder's vector, TF-IDF, or both."""
    logistic = dataclasses.replace(spec, head=HeadConfig(kind="logistic"))
    whole = HeadCandidate(columns=((0, data.embeddings.shape[1]),), head=logistic.head)
    both = (whole, dataclasses.replace(whole, joined=True))
    small, held_out = reduced(data.terms, data.held_out_terms)
    assert data.held_out is not None
    beside = dataclasses.replace(
        data,
        embeddings=np.concatenate([data.embeddings, small], axis=1),
        held_out=np.concatenate([data.held_out, held_out], axis=1),
    )
    found = {
        "encoder": train_head(data, logistic, repeats=1),
        "joined": train_head(data, dataclasses.replace(logistic, joined=True), repeats=1),
        "chosen": train_head(dataclasses.replace(data, candidates=both), logistic, repeats=1),
        "with SVD": train_head(beside, logistic, repeats=1),
    }
    return {name: answered(head) for name, head in found.items()} | {"TF-IDF": of_baseline(found["encoder"])}


def answered(head: TrainedHead) -> Answers:
    """What a head says of the examples held out."""
    assert head.held_out_logits is not None
    record = head.metrics["calibration"]
    return MULTI_LABEL.answers(MULTI_LABEL.probabilities(head.held_out_logits, record), record)


def of_baseline(head: TrainedHead) -> Answers:
    """What TF-IDF says of them."""
    assert head.baseline_logits is not None
    record = head.baseline_calibration
    return MULTI_LABEL.answers(MULTI_LABEL.probabilities(head.baseline_logits, record), record)


def main() -> None:
    """Measure each draw, and print the means."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--texts", type=int, default=10**9)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--encoder", default="ngrams")
    parser.add_argument("--joined", action="store_true", help="hold TF-IDF joined to the vectors to each alone")
    parser.add_argument("--spreads", type=float, nargs="+", help="of what is joined, on izard's texts")
    parser.add_argument("--sklearn", action="store_true", help="hold TF-IDF to scikit-learn's own pipeline too")
    given = parser.parse_args()
    if given.spreads:
        spread(given)
        return
    texts, labels = messages(given.folder)
    vectors, terms = embedded(texts, given.encoder)
    spec = HeadSpec(num_classes=labels.shape[1], target=MULTI_LABEL)
    found: list[dict[str, Any]] = []
    for draw in range(given.draws):
        order = np.random.default_rng(draw).permutation(len(texts))
        train, test = np.split(order, [len(order) // 2])
        train = np.sort(train[: given.texts])
        data = training_set(vectors, labels, terms, train, test)
        if given.joined:
            answers = joined(data, spec)
            found.append({name: figures(each, labels[test]) for name, each in answers.items()})
            continue
        head = train_head(data, spec, repeats=1)
        tuned, tf_idf = answered(head), of_baseline(head)
        half, tf_idf_half = (MULTI_LABEL.answers(each.probabilities) for each in (tuned, tf_idf))
        answers = {"head": tuned, "head at .5": half, "TF-IDF": tf_idf, "TF-IDF at .5": tf_idf_half}
        if given.sklearn:
            some, others = [texts[row] for row in train], [texts[row] for row in test]
            answers["scikit-learn"] = by_scikit_learn(some, labels[train], others, spec)
        measured = {name: figures(each, labels[test]) for name, each in answers.items()}
        gains = {
            "head, tuned - .5": paired_f1(tuned, half, labels[test]),
            "TF-IDF, tuned - .5": paired_f1(tf_idf, tf_idf_half, labels[test]),
        }
        for name, gain in gains.items():
            assert gain is not None
            print(
                f"draw {draw}: {name}: macro F1 {gain['value']:+.3f} ({gain['interval_95'][0]:+.3f} and up)", flush=True
            )
        found.append(measured)
    print(f"{len(train)} texts to train on, {len(test)} to test on, means of {given.draws} draws")
    for name in found[0]:
        values = [np.mean([each[name][figure]["value"] for each in found]) for figure in SHOWN]
        floor = np.mean([each[name]["calibration_error"]["floor"] for each in found])
        shown = ", ".join(f"{figure} {value:.4f}" for figure, value in zip(SHOWN, values, strict=True))
        print(f"{name:14} {shown} (floor {floor:.4f}, {values[-1] - floor:+.4f})")


if __name__ == "__main__":
    main()
