"""How well one label's probabilities rank the examples, and how right they are: for a thousand resamples as for one.

Knows nothing of other labels, of decisions or of intervals: `several.py` does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from golem_ray.metrics.figures import NUM_BINS

BLOCK = 2**16
"""Examples times resamples that are measured at once: about what a processor's cache holds."""

_SIMULATIONS = 200
"""How often labels are drawn from the probabilities."""

_MOST_POINTS = 200
"""Of a curve."""


@dataclass(frozen=True)
class Ranking:
    """N examples from the least probable to have one label to the most: sorted once, measured for every resample.

    Examples of equal probability are a run.
    """

    order: np.ndarray
    """(N,) int64: the examples; all else is in this order."""
    probabilities: np.ndarray
    """(N,) float64."""
    gaps: np.ndarray
    """(N,) float64: the probability less 1 for an example that has the label, less 0 for another."""
    ends: np.ndarray
    """(N,) int64: where the run that each is in ends."""
    having: np.ndarray
    """(P,) int64: where the examples are that have the label."""
    runs: np.ndarray
    """(2, T) int64: where each run that holds such an example starts and ends."""
    edges: np.ndarray
    """(T + 1,) int64: how many such examples precede each of these runs; the last is P."""

    def measure(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Average precision, area under the ROC curve and calibration error, (B,) each, NaN where there is none.

        times: (B, N) float64, how often each example is in each of B resamples.
        """
        taken = times[:, self.order]
        before, having = _running(taken), _running(taken[:, self.having])[:, self.edges]
        total, positives = before[:, -1:], having[:, -1:]
        start, stop = before[:, self.runs[0]], before[:, self.runs[1]]
        inside, below = np.diff(having), having[:, :-1]
        precision = share(positives - below, total - start, otherwise=0.0)
        outranked = (start - below) + (stop - start - inside) / 2  # of those without the label; a tie is half of one
        pairs = positives * (total - positives)
        return (
            share((inside * precision).sum(axis=1), positives[:, 0]),
            share((inside * outranked).sum(axis=1), pairs[:, 0]),
            _error(taken * self.gaps, self._bins(before)) / total[:, 0],
        )

    def floor(self, rng: np.random.Generator) -> float:
        """What the calibration error would be, in the mean of 200 draws, if labels came from these probabilities."""
        number = len(self.order)
        bins, step, errors = self._bins(_running(np.ones((1, number)))), max(1, BLOCK // number), []
        for first in range(0, _SIMULATIONS, step):
            drawn = rng.random((min(step, _SIMULATIONS - first), number)) < self.probabilities
            errors.append(_error(self.probabilities - drawn, bins.repeat(len(drawn), axis=0)))
        return float(np.concatenate(errors).mean()) / number

    def _bins(self, before: np.ndarray) -> np.ndarray:
        """(B, 11) int64: where the ten bins start and end; before: (B, N + 1), how many examples precede each place.

        Bins hold as many examples each, save that a run stays whole, in the bin of its first: scikit-learn's bins
        between quantiles (`calibration_curve`), of which the upper one belongs to a bin.
        """
        rows, total = np.arange(len(before))[:, None], before[:, -1:]
        places = np.floor((total - 1) * np.arange(1, NUM_BINS) / NUM_BINS)
        shift = rows * (total.max() + 1)  # makes one ascending row of all, so that one search finds every place
        found = np.searchsorted((before[:, 1:] + shift).ravel(), (places + shift).ravel(), side="right")
        inner = self.ends[found.reshape(places.shape) - rows * len(self.order)]
        return np.hstack([np.zeros_like(rows), inner, np.full_like(rows, len(self.order))])


def rank(probabilities: np.ndarray, labels: np.ndarray) -> Ranking:
    """The ranking of N examples, N at least 1, by one label's probabilities (N,); labels: (N,) bool, who has it."""
    order = np.argsort(probabilities, kind="stable")
    ordered, true = probabilities[order], labels[order]
    starts = np.flatnonzero(np.append(True, np.diff(ordered) > 0))
    run = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(order)))
    stops = np.append(starts[1:], len(order))
    having = np.flatnonzero(true)
    holding, first = np.unique(run[having], return_index=True)
    return Ranking(
        order=order,
        probabilities=ordered,
        gaps=ordered - true,
        ends=stops[run],
        having=having,
        runs=np.stack([starts[holding], stops[holding]]),
        edges=np.append(first, len(having)),
    )


def share(part: np.ndarray, whole: np.ndarray, otherwise: float = np.nan) -> np.ndarray:
    """part / whole, and `otherwise` where the whole is 0: arrays of one shape, or of shapes that go together."""
    part, whole = np.broadcast_arrays(np.asarray(part, np.float64), whole)
    return np.divide(part, whole, out=np.full(part.shape, otherwise), where=whole != 0)


def _running(values: np.ndarray) -> np.ndarray:
    """(B, M) -> (B, M + 1) float64: the sums of all values before each, and of all."""
    sums = np.zeros((values.shape[0], values.shape[1] + 1))
    np.cumsum(values, axis=1, out=sums[:, 1:])
    return sums


def _error(gaps: np.ndarray, bins: np.ndarray) -> np.ndarray:
    """(B,): the sum over bins, (B, 11), of how far the sum of the gaps in each is from 0; gaps: (B, N)."""
    return np.abs(np.diff(np.take_along_axis(_running(gaps), bins, axis=1))).sum(axis=1)


def precision_recall(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and threshold of one label, (M,) float64 each, by ascending threshold: at most 200 points.

    probabilities: (N,); labels: (N,) bool, who has it. They are scikit-learn's `precision_recall_curve` where recall
    changes, and evenly many of these, without its last point, of which no threshold is. M is 0 if nobody has it.
    """
    from sklearn.metrics import precision_recall_curve

    if not labels.any():
        return np.zeros(0), np.zeros(0), np.zeros(0)
    precision, recall, thresholds = precision_recall_curve(labels, probabilities, drop_intermediate=True)
    kept = np.unique(np.linspace(0, len(thresholds) - 1, _MOST_POINTS).astype(np.int64))
    return precision[kept], recall[kept], thresholds[kept]


def reliability(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The mean probability, the share that has the label, and how many examples: of each bin of the calibration error.

    (B,) each, B at most 10, by ascending probability; probabilities: (N,), N at least 1; labels: (N,) bool.
    """
    ranking = rank(probabilities, labels)
    edges = np.unique(ranking._bins(_running(np.ones((1, len(labels))))))
    counts = np.diff(edges)
    said, gaps = (np.add.reduceat(each, edges[:-1]) / counts for each in (ranking.probabilities, ranking.gaps))
    return said, said - gaps, counts
