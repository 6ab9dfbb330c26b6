"""A classifier of several labels, made up, for the tests of what is said of it."""

import numpy as np

from golem_ray.heads.multi_label import MULTI_LABEL
from golem_ray.metrics.several import AT_HALF, evaluate
from golem_ray.report.drawings import Points
from golem_ray.report.judged import Judged
from golem_ray.text import MODALITY
from tests.report.pages import document

NAMES = ["anger", "fear", "joy", "sadness"]
THRESHOLDS = [0.4, 0.3, 0.45, 0.25]


def record(number=4, **changes):
    """A calibration of so many labels."""
    thresholds = (THRESHOLDS * number)[:number]
    return {
        "slopes": [1.0] * number,
        "intercepts": [0.0] * number,
        "thresholds": thresholds,
        "least": np.log(np.array(thresholds) / (1 - np.array(thresholds))).tolist(),
        "at_least_one": False,
        "num_clips": 50,
        **changes,
    }


def judged_of_several(names=NAMES, known=None, num_examples=200, seed=0, examples=None, **changes):
    """Some examples have no label; of the labels the first `known` are known to the classifier."""
    rng, known = np.random.default_rng(seed), len(names) if known is None else known
    rates = np.linspace(0.15, 0.4, len(names))  # the last ones are the most frequent
    labels = rng.random((num_examples, len(names))) < rates
    logits = (rng.standard_normal(labels.shape) + 3 * labels - 2)[:, :known]
    probabilities = MULTI_LABEL.probabilities(logits)
    answers = MULTI_LABEL.answers(probabilities, record(known))
    plain = MULTI_LABEL.answers(probabilities[:, ::-1], record(known))
    beside = {MODALITY.baseline.key: plain, AT_HALF: MULTI_LABEL.answers(probabilities)}
    found = evaluate(answers, labels, names, rates[:known], beside)
    fields = {
        "how": "The texts of test.",
        "example": lambda row: examples[row] if examples else f"text {row}",
        "labels": labels,
        "answers": answers,
        "names": names,
        "figures": found["figures"],
        "baselines": found["baselines"],
        "baseline": MODALITY.baseline,
        "per_class": found["per_class"],
    }
    return Judged(**{**fields, **changes})


def document_of_several(names=NAMES, which=None, **changes):
    figures = (which or judged_of_several()).figures
    described = {**document(names), "modality": "text", "target": "multi-label", **changes}
    described["metrics"] |= {"largest_class": 0.3, "mean_rate": 0.2, "calibration": record(len(names))}
    described["metrics"]["cross_validation"]["figures"] = figures
    return described


def points_of_several(which):
    vectors = np.random.default_rng(0).standard_normal((len(which.labels), 24)).astype(np.float32)
    strata = MULTI_LABEL.strata(which.labels)
    names = [which.example(row) for row in range(len(strata))]
    return Points(vectors=vectors, labels=strata, names=names, tested=strata % 2 == 0)
