"""Which clips a report shows."""

import numpy as np
import pyarrow as pa

from golem_ray.config import TrainConfig
from golem_ray.data.split import Division
from golem_ray.data.table import Source
from golem_ray.heads.training_set import HeadSpec, TrainedHead
from golem_ray.jobs.outcome import Run, _tested
from golem_ray.jobs.usable import UsedExamples
from tests.conftest import speech_recipe

LOGITS = np.array([[2, 0], [0, 2], [np.nan, np.nan], [2, 0]], dtype=np.float32)


def run(unseen_rows, used):
    """A run on eight clips, whose labels take turns."""
    columns = {"id": range(8), "bytes": [None] * 8, "path": [None] * 8, "label": np.arange(8) % 2}
    source = Source(examples=pa.table(columns), labels=("a", "b"))
    return Run(
        config=TrainConfig(),
        division=Division(source=source, names=source.labels, tested=np.zeros(8, dtype=bool)),
        recipe=speech_recipe("sample"),
        digests=np.zeros(8, "S32"),
        cost=0.0,
        examples=UsedExamples(
            used=used, unseen=np.zeros(0, dtype=np.int64), num_also_trained_on=0, groups=None, bad=[]
        ),
        spec=HeadSpec(num_classes=2),
        head=TrainedHead(
            weights=b"",
            metrics={"calibration": None},
            drawn=np.zeros((0, 1)),
            unseen_logits=LOGITS,
            unseen_rows=unseen_rows,
        ),
        device="cpu",
        gpu=False,
    )


def test_a_report_without_tested_clips_shows_those_of_cross_validation():
    shown = _tested(run(None, np.array([0, 1, 2, 7])))
    assert [shown.example(row) for row in range(3)] == ["clip 0", "clip 1", "clip 7"]
    assert shown.labels.tolist() == [0, 1, 1]
    assert shown.how.startswith("The 3 clips of the first round")


def test_of_sampled_clips_it_shows_the_sampled_ones():
    shown = _tested(run(np.array([0, 2, 4, 5]), np.array([0, 1, 2, 4, 5, 6, 7])))
    assert [shown.example(row) for row in range(3)] == [
        "clip 0",
        "clip 2",
        "clip 6",
    ]  # rows 0, 2 and 5 of what was trained on
    assert shown.labels.tolist() == [0, 0, 0]
    assert shown.how.startswith("The 3 sampled clips of the first round")
