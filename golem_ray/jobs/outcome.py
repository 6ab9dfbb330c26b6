"""What a training run leaves behind, besides the weights: the sidecar's entries, a summary in words, the report."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from golem_ray import artifact
from golem_ray.artifact.provenance import provenance
from golem_ray.config import HeadConfig, PathsConfig, TrainConfig
from golem_ray.config.presets import recorded
from golem_ray.data.extra import listed
from golem_ray.data.several import counts_of
from golem_ray.data.split import HELD_OUT, Division
from golem_ray.embedding.modality import Modality, modality_named
from golem_ray.embedding.recipe import Recipe
from golem_ray.errors import printable
from golem_ray.heads.training_set import HeadSpec, TrainedHead
from golem_ray.jobs import choice
from golem_ray.jobs.candidates import Candidate
from golem_ray.jobs.usable import UsedExamples
from golem_ray.metrics.answers import Answers
from golem_ray.metrics.several import AT_HALF
from golem_ray.report import words, words_of_several
from golem_ray.report.advice import advice
from golem_ray.report.classifier import render
from golem_ray.report.drawings import Points
from golem_ray.report.judged import Judged
from golem_ray.report.words import choice_line, left_out_line, rejection_line


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run whose head is trained."""

    config: TrainConfig
    """With what was chosen in place of every `auto`."""
    division: Division
    recipe: Recipe
    candidates: tuple[Candidate, ...] = ()
    """What was chosen from."""
    digests: np.ndarray
    """(N,) S32: as Embeddings has them."""
    cost: float
    """As Embeddings.cost."""
    examples: UsedExamples
    spec: HeadSpec
    head: TrainedHead
    device: str
    """What the head was trained on."""
    gpu: bool
    """Whether it had a GPU."""
    timings: dict[str, float] = field(default_factory=dict)
    """Seconds that each stage took."""

    @property
    def modality(self) -> Modality:
        """Of its examples."""
        return modality_named(self.recipe.modality)

    @cached_property
    def labels(self) -> np.ndarray:
        """(N,) int64, or (N, K) bool, of the examples that were trained on."""
        return self.division.labels_of(self.examples.used)

    @cached_property
    def counts(self) -> np.ndarray:
        """(K,) int64: how many of these have each label."""
        return counts_of(self.labels, len(self.division.source.labels))

    @cached_property
    def choice(self) -> dict[str, Any] | None:
        """The record of what was chosen; None where nothing was to be chosen."""
        if self.head.chosen is None:
            return None
        return choice.record(
            self.candidates, self.head.chosen, self.head.metrics["candidates"], self.spec.target.measure
        )

    def answers(self, logits: np.ndarray) -> Answers:
        """What the head says, from its logits (M, K), with calibrated probabilities."""
        target, calibration = self.spec.target, self.head.metrics["calibration"]
        return target.answers(target.probabilities(logits, calibration), calibration)

    @cached_property
    def evaluation(self) -> dict[str, Any] | None:
        """How the head does on the examples to test on; None without any such."""
        if self.division.how is None:
            return None
        found = {
            "how": self.division.how,
            "group_column": self.config.evaluation.group_column,
            "num_clips": len(self.examples.unseen),
            "num_also_trained_on": self.examples.num_also_trained_on,
        }
        groups = self.division.groups
        if groups is not None:
            shared = np.isin(groups[self.examples.unseen], groups[self.examples.used])
            found["num_of_groups_trained_on"] = int(shared.sum())
        if self.head.held_out_logits is None or self.head.baseline_logits is None:
            return found
        target, beside = self.spec.target, self.head.baseline_calibration if self.division.several else None
        plain = target.answers(target.probabilities(self.head.baseline_logits, beside), beside)
        baselines = {self.modality.baseline.key: plain}
        if self.division.several:
            probabilities = target.probabilities(self.head.held_out_logits, self.head.metrics["calibration"])
            baselines[AT_HALF] = target.answers(probabilities)
        answers = dataclasses.replace(self.answers(self.head.held_out_logits), unsure=self.head.held_out_unsure)
        return found | self._evaluate(self.examples.unseen, answers, baselines)

    def _evaluate(
        self, rows: np.ndarray, answers: Answers, baselines: dict[str, Answers] | None = None
    ) -> dict[str, Any]:
        names = self.division.names
        labels = self.division.labels_of(rows, names)
        groups = None if self.division.groups is None else self.division.groups[rows]
        return self.spec.target.evaluate(answers, labels, names, self.counts, len(self.labels), baselines, groups)


def sidecar(run: Run) -> dict[str, Any]:
    """What the sidecar says of the run."""
    source, metrics = run.division.source, dict(run.head.metrics)
    if run.choice is not None:
        metrics["choice"] = run.choice
    metrics.pop("candidates", None)
    if run.evaluation is not None:
        metrics["evaluation"] = run.evaluation
    return {
        "summary": summary(run),
        "modality": run.modality.name,
        "target": run.spec.target.name,
        **provenance(run.division, run.recipe, run.digests),
        "labels": list(source.labels),
        "head": _described(run.config.head, run.recipe.vector_size, len(source.labels)),
        "clips": {
            "total": int((~run.division.tested).sum()),
            "used": len(run.labels),
            "bad": run.examples.bad,
            "remarks": run.examples.remarks,
            "per_class": dict(zip(source.labels, run.counts.tolist(), strict=True)),
            "num_under_two_labels": run.examples.num_under_two_labels,
            "digests": artifact.pack_digests(run.digests[run.examples.used]),
            **_groups(run),
            **_extra(run),
        },
        "metrics": metrics,
        "config": recorded(dataclasses.replace(run.config, paths=_without_run_dir(run.config))),
        "device": run.device,
        "gpu": run.gpu,
        "timings": {
            "seconds": {stage: round(seconds, 3) for stage, seconds in run.timings.items()},
            f"{run.modality.unit}_embedded": round(run.cost, 3),
        },
    }


def _groups(run: Run) -> dict[str, Any]:
    """The groups that were trained on, where there are any."""
    digests = artifact.group_digests(run.division.source.examples)
    if digests is None:
        return {}
    groups = np.unique(digests[run.examples.used])
    return {"groups": artifact.pack_digests(groups[groups != b""])}


def _extra(run: Run) -> dict[str, Any]:
    """How many examples of each dataset of `dataset.extra` were used, where there are any."""
    beside = run.division.beside
    if not beside:
        return {}
    used, left_out = (run.division.counts(rows)[1:] for rows in (run.examples.used, run.examples.left_out))
    rows = zip(beside, used, left_out, strict=True)
    return {"extra": [{"total": len(each.rows), "used": here, "left_out": away} for each, here, away in rows]}


def _without_run_dir(config: TrainConfig) -> PathsConfig:
    """Another run by this sidecar is not that run."""
    return dataclasses.replace(config.paths, run_dir=None)


def _described(head: HeadConfig, in_features: int, num_classes: int) -> dict[str, Any]:
    """The head's shape: with the weights, all that heads.load_head needs."""
    shape = {"in_features": in_features, "out_features": num_classes}
    if not head.hidden:
        return {"kind": "linear", **shape}
    return {
        "kind": "mlp",
        **shape,
        "hidden": list(head.hidden),
        "activation": head.activation,
        **({"normalization": "batch"} if head.norm == "batch" else {"layer_norm": head.norm == "layer"}),
    }


def summary(run: Run) -> str:
    """The run in words, its accuracies beside chance and with their intervals."""
    metrics, num_classes = run.head.metrics, len(run.division.source.labels)
    judged, noun = run.config.evaluation, run.recipe.noun
    said = words_of_several if run.division.several else words
    classes = f"{num_classes} {'labels' if run.division.several else 'classes'}"
    if metrics["num_classes_with_clips"] < num_classes:
        classes += f" ({metrics['num_classes_with_clips']} with {noun.many})"
    left_out, beside = len(run.examples.left_out), [printable(each.name) for each in run.config.dataset.extra]
    skipped = f"{int((~run.division.tested).sum()) - len(run.labels) - left_out} skipped"
    (used, *more), total = run.division.counts(run.examples.used), run.division.source.total
    main, trained = printable(run.config.dataset.name), str(used)
    limit = run.config.processing.limit
    if limit is not None and total is not None and total > limit:
        trained, skipped = f"{trained} of {total}", f"{skipped}; --processing.max-samples all takes all"
    parts = [f"{trained} {noun.many} of {main}", *(f"{n} of {name}" for n, name in zip(more, beside, strict=True))]
    alone = f" (of the {noun.many} of {main}, which alone are tested)" if beside else ""
    joined = f", joined with {run.modality.baseline.name}," if run.recipe.joined else ""
    lines = [
        f"Trained on {listed(parts)} ({skipped}) in {classes}, with "
        f"{printable(run.recipe.encoder.name)}{joined} on {run.device}. Final loss {metrics['final_loss']:.4f}, "
        f"{said.guessing_words(metrics)}{alone}.",
        said.cross_validation_line(
            metrics["cross_validation"], judged.repeats, noun, judged.group_column, run.modality.baseline
        ),
    ]
    if run.examples.num_under_two_labels:
        contradicted = f"{run.examples.num_under_two_labels} of these {noun.many}"
        lines.insert(1, f"{contradicted} are equal files under different labels.")
    if left_out:
        lines.insert(1, left_out_line(left_out, listed(beside), noun, judged.group_column))
    if run.choice is not None:
        lines.insert(1, choice_line(run.choice, noun))
    if run.evaluation is not None:
        lines.append(said.evaluation_line(run.evaluation, run.modality.baseline, noun))
    lines.append(said.calibration_line(metrics["calibration"], noun))
    if "reject" in metrics:
        lines.append(rejection_line(metrics["reject"], noun))
    return "\n".join([*lines, *advised(run)])


def advised(run: Run) -> list[str]:
    """What to do where the figures do not show that the classifier is worth something."""
    metrics = run.head.metrics if run.evaluation is None else {**run.head.metrics, "evaluation": run.evaluation}
    modality, encoder, is_chosen = run.modality, run.recipe.encoder.name, run.choice is not None
    return advice(metrics, modality.baseline, modality.encoders, run.recipe.noun, encoder=encoder, is_chosen=is_chosen)


def report(run: Run, document: dict[str, Any]) -> str:
    """The HTML report; `document` is the run's sidecar."""
    rows = run.examples.rows[run.examples.drawn]
    points = Points(
        vectors=run.head.drawn,
        labels=run.spec.target.strata(run.division.labels_of(rows, run.division.names)),
        names=[run.division.name(row) for row in rows],
        tested=run.division.tested[rows],
    )
    return render(document, _tested(run), points, advice=advised(run))


def _tested(run: Run) -> Judged | None:
    """What the report shows: the examples to test on, else those of the first cross-validation."""
    many, by_folds = run.recipe.noun.many, False
    if run.evaluation is not None and run.head.held_out_logits is not None:
        scores, rows, logits = run.evaluation, run.examples.unseen, run.head.held_out_logits
        answers, unsure = run.answers(logits), run.head.held_out_unsure
        which = "held out from training" if run.division.how == HELD_OUT else f"of {run.division.how}"
        how = f"The {len(rows)} {many} {which}, which the head did not see."
    else:
        scored, sampled = np.isfinite(run.head.unseen_logits).all(axis=1), run.head.unseen_rows
        judged = run.examples.used if sampled is None else run.examples.used[sampled]
        rows, logits = judged[scored], run.head.unseen_logits[scored]
        if not len(rows):
            return None
        found, unsure = run.head.unseen_answers, None
        fitted = f"the temperature of its probabilities was fitted on these {many}"
        answers = run.answers(logits) if found is None else found.take(np.flatnonzero(scored))
        if by_folds := found is not None:
            fitted = "its calibration and its thresholds follow from these too"
            scores = run._evaluate(rows, answers, {AT_HALF: run.spec.target.answers(answers.probabilities)})
            if plain := run.head.metrics["cross_validation"].get("baseline"):
                scores["baselines"][run.modality.baseline.key] = plain["figures"]
        else:
            scores = run._evaluate(rows, answers)
        how = (
            f"The {len(rows)} {'' if sampled is None else 'sampled '}{many} of the first round of cross-validation, "
            f"each judged by a head that was trained on the other folds ({fitted})."
        )
    return Judged(
        how=how,
        example=lambda index: run.division.name(rows[index]),
        labels=run.division.labels_of(rows, run.division.names),
        answers=dataclasses.replace(answers, unsure=unsure),
        names=run.division.names,
        figures=scores["figures"],
        baselines=scores["baselines"],
        rejected=scores.get("rejected"),
        baseline=run.modality.baseline,
        per_class=scores["per_class"],
        by_folds=by_folds,
    )
