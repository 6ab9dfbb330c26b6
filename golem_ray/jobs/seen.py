"""What an evaluation keeps of examples as their vectors come by. Does not know what is made of it."""

from __future__ import annotations

import dataclasses

import numpy as np

from golem_ray import artifact
from golem_ray.data import Source
from golem_ray.data.several import label_array
from golem_ray.data.split import drawn
from golem_ray.data.unusable import example_at
from golem_ray.embedding.embeddings import VectorBatch
from golem_ray.metrics.answers import Answers
from golem_ray.report.drawings import Points


def labels_of(source: Source, rows: np.ndarray) -> np.ndarray:
    """The labels of rows (M,), as `several.label_array` has them."""
    return label_array(source.examples["label"].take(rows), len(source.labels))


class Seen:
    """What is kept of each example as vectors come by: not the vectors, but for a few that the report maps."""

    def __init__(self, saved: artifact.Artifact, source: Source) -> None:
        num_examples = source.examples.num_rows
        self.saved, self.source = saved, source
        self.probabilities = np.zeros((num_examples, len(saved.labels)))
        self.good = np.zeros(num_examples, dtype=bool)
        self.digests = np.zeros(num_examples, dtype="S32")
        self.bad: dict[int, str] = {}
        self.unsure: np.ndarray | None = np.zeros(num_examples, dtype=bool)
        self._mapped = drawn(np.arange(num_examples))
        width = saved.document["head"]["in_features"]
        self._vectors = np.zeros((len(self._mapped), width), dtype=np.float32)  # at once: many small arrays leave gaps

    def take(self, batch: VectorBatch) -> None:
        """Some examples of the source."""
        assert batch.vectors is not None
        self.probabilities[batch.rows] = probabilities = self.saved.probabilities(batch.vectors)
        rejected = self.saved.unsure(batch.vectors, probabilities)
        if self.unsure is None or rejected is None:
            self.unsure = None
        else:
            self.unsure[batch.rows] = rejected
        self.digests[batch.rows] = batch.digests
        self.good[batch.rows] = [not reason for reason in batch.reasons]
        self.bad.update({int(row): why for row, why in zip(batch.rows, batch.reasons, strict=True) if why})
        mapped = np.isin(batch.rows, self._mapped)
        self._vectors[np.searchsorted(self._mapped, batch.rows[mapped])] = batch.vectors[mapped]

    def answers(self, rows: np.ndarray) -> Answers:
        """What the classifier says of those rows, (M,). What it says of others is dropped."""
        probabilities = self.probabilities[rows]
        del self.probabilities
        unsure = None if self.unsure is None else self.unsure[rows]
        return dataclasses.replace(self.saved.answers(probabilities), unsure=unsure)

    def points(self, rows: np.ndarray, trained: np.ndarray) -> Points:
        """What the report maps of the rows; trained: (N,) bool."""
        shown = rows[np.isin(rows, self._mapped)]
        return Points(
            vectors=self._vectors[np.searchsorted(self._mapped, shown)],
            labels=self.saved.target.strata(labels_of(self.source, shown)),
            names=[example_at(self.source, row) for row in shown],
            tested=~trained[shown],
        )
