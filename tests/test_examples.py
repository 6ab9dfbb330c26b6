"""The examples, run as their docstrings say."""

import os

import pyarrow.parquet as pq
import pytest

from golem_ray.sample import DATASETS
from tests import warm
from tests.conftest import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.fixture
def material(tmp_path):
    """Four clips of each of two digits, and one more."""
    counts = {"one": 0, "two": 0}
    for row in pq.read_table(DATASETS["sample-digits"] / "train.parquet").to_pylist():
        said = row["transcription"]
        if counts.get(said, 4) < 4:
            counts[said] += 1
            (tmp_path / "recordings" / said).mkdir(parents=True, exist_ok=True)
            (tmp_path / "recordings" / said / f"{counts[said]}.ogg").write_bytes(row["audio"]["bytes"])
            (tmp_path / "clip.ogg").write_bytes(row["audio"]["bytes"])
    return tmp_path


WORDS = {
    "own_folder": "Trained on 8 clips of those given",
    "python_only": "chosen: {'layer':",
    "on_a_cluster": "Trained on 50 clips of sample-digits",
}


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_each_example_runs(example, material):
    arguments = ["recordings", "clip.ogg"] if example.stem == "own_folder" else []
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = warm.run([str(example), *arguments], cwd=material, env=environment, timeout=200)
    assert done.returncode == 0, done.stderr
    assert WORDS[example.stem] in done.stdout
