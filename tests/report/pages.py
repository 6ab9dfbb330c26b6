import numpy as np

from golem_ray.heads.single_label import SINGLE_LABEL
from golem_ray.metrics.figures import figures, guesses
from golem_ray.report.drawings import Points
from golem_ray.report.judged import Judged
from golem_ray.speech import MODALITY


def comparison_result(name="some/encoder"):
    figure = {"value": 0.5, "interval_95": [0.4, 0.6]}
    rows = [
        {
            "encoder": name,
            "layer": layer,
            "pooling": "mean",
            "head": "linear",
            "name": f"{name}, layer {layer}, mean, linear",
            "accuracy": figure,
            "log_loss": 1.0,
            "against_best": {"value": -0.1, "interval_95": [-0.2, 0.05]},
            "against_default": {"value": 0.1, "interval_95": [-0.05, 0.2]},
        }
        for layer in (3, 0, "mean", "last", 10)
    ]
    return {
        "dataset": name,
        "split": "train",
        "num_clips": 50,
        "num_classes": 4,
        "group_column": "speaker",
        "repeats": 5,
        "seed": 0,
        "chance": 0.25,
        "largest_class": 0.3,
        "num_single_clip_classes": 1,
        "default": rows[3]["name"],
        "best": rows[0]["name"],
        "candidates": rows,
        "nested": {
            "accuracy": figure,
            "against_default": {"value": 0.02, "interval_95": [-0.01, 0.05]},
            "chosen": [{"name": rows[0]["name"], "folds": 20}, {"name": rows[1]["name"], "folds": 5}],
        },
        "learning_curves": [
            {"name": row["name"], "points": [{"clips_per_class": size, **figure} for size in (1, 2, 5, 10, "all")]}
            for row in rows[:2]
        ],
    }


def description(name="recordings"):
    """Of 30 examples, one of which is a giant, whose facts are a size, a kind, a flag and contents."""
    quantiles = {"min": 1.0, "q1": 10.0, "median": 15.0, "q3": 20.0, "max": 500.0, "total": 630.0}
    plain = {"how": "", "advice": "", "unit": "", "is_size": False}
    copies = {"num_clips": 2, "num_sets": 1, "sets": [{"num_clips": 2, "clips": [name, "other"], "labels": [name]}]}
    return {
        "dataset": name,
        "split": "train",
        "other_splits": ["test"],
        "num_clips": 30,
        "num_usable": 28,
        "num_without_label": 0,
        "total": 30,
        "no_labels": "",
        "labels": [
            {"label": name, "num_clips": 20, "num_bad": 2, "size": quantiles},
            {"label": "b", "num_clips": 8, "num_bad": 0, "size": quantiles},
        ],
        "facts": [
            {
                **plain,
                "key": "size",
                "title": "size",
                "kind": "number",
                "unit": "s",
                "is_size": True,
                "quantiles": quantiles,
                "histogram": {"counts": [1, 2, 25], "edges": [0.0, 10.0, 20.0, 30.0]},
            },
            {**plain, "key": "kind", "title": "kind", "kind": "category", "counts": {"one": 20, "two": 8}},
            {**plain, "key": "odd", "title": "odd", "kind": "flag", "num_clips": 60, "clips": [name, "x"]},
            {**plain, "key": "contents", "title": "contents", "kind": "counts", "unit": "things"}
            | {"counts": {name: 4, "<": 1}, "rest": 0},
        ],
        "groups": {
            "column": "speaker",
            "is_guess": True,
            "num_groups": 2,
            "num_without": 0,
            "largest": {name: 24, "bob": 4},
            "per_label": [1, 2],
            "one_group": {},
            "crossed": [[20, 0], [4, 4]],
        },
        "num_under_two_labels": 0,
        "equal_files": copies,
        "equal_content": [{"title": "equal content", **copies}],
        "bad": [{"clip": name, "reason": "broken"}, {"clip": "y", "reason": name}],
        "findings": [{"finding": "2 clips are odd", "advice": "listen to them"}],
    }


INTENTS = [f"intent_number_{number:02d}" for number in range(14)]


HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"


def document(labels, bad=()):
    return {
        "labels": list(labels),
        "summary": "",
        "encoder": {"name": "some/encoder", "revision": "abc", "layer": "last", "pooling": "mean"},
        "head": {"kind": "linear"},
        "clips": {"total": 50, "used": 50 - len(bad), "bad": list(bad)},
        "config": {"dataset": {"name": "recordings", "split": "train"}, "training": {"seed": 0}},
        "metrics": {
            "training_accuracy": 1.0,
            "chance": 1 / len(labels),
            "loss_history": [{"epoch": 10, "loss": 0.5}, {"epoch": 20, "loss": 0.25}],
            "cross_validation": {
                "accuracy": 0.5,
                "interval_95": [0.4, 0.6],
                "folds": 5,
                "repeats": 2,
                "num_clips": 50,
            },
            "calibration": {"temperature": 2.0, "num_clips": 50},
        },
    }


def judged(names, num_examples=336, seed=0, examples=None):
    rng = np.random.default_rng(seed)
    labels = rng.integers(len(names), size=num_examples)
    answers = SINGLE_LABEL.answers(
        SINGLE_LABEL.probabilities(rng.standard_normal((num_examples, len(names))) + 2 * np.eye(len(names))[labels])
    )
    plain = SINGLE_LABEL.answers(answers.probabilities[:, ::-1])
    return Judged(
        how="The clips of test.",
        example=lambda row: examples[row] if examples else f"test clip {row} (recordings/test/{row:04d}.ogg)",
        labels=labels,
        answers=answers,
        names=names,
        figures=figures(answers, labels),
        baselines={**guesses(labels, len(names), 0), MODALITY.baseline.key: figures(plain, labels)},
        baseline=MODALITY.baseline,
    )


def points(which, seed=0):
    vectors = np.random.default_rng(seed).standard_normal((len(which.labels), 24)).astype(np.float32)
    vectors[:, :2] *= 8
    names = [which.example(row) for row in range(len(which.labels))]
    return Points(vectors=vectors, labels=which.labels, names=names, tested=which.labels % 2 == 0)


def words_of(page):
    """What a page says and draws, without its style and the library that draws."""
    before, _, after = page.partition("<style>")
    shown, _, scripts = after.partition("</style>")[2].partition("<script")
    return before + shown + scripts.partition('id="figures">')[2].partition("</script>")[0]
