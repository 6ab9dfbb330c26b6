"""Each job on both engines, this process and Ray: the same bytes, with clips that end their reader and after a stop."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import golem_ray
from golem_ray import artifact
from golem_ray import engine as engine_module
from golem_ray.config import ClusterConfig, DatasetConfig, ExamplesConfig, GridConfig, HeadConfig, PredictConfig
from golem_ray.embedding.crash_notes import CRASHED
from golem_ray.embedding.embeddings import Intake
from golem_ray.jobs.compare import run as compare
from golem_ray.jobs.engines import HANDFUL
from golem_ray.jobs.evaluate import evaluate_artifact
from golem_ray.jobs.predict import predict, write_predictions
from tests.conftest import write_clips
from tests.jobs.runs import HERE, NAMES, ON_RAY, comparison_on, configuration, on
from tests.jobs.several import rows, run_on_texts, sidecar_of, write_texts

NUM_CLIPS, SECONDS = 16, 0.2
ENDS_ITS_READER = b"a file at which the decoder crashes"


def run_on(address: str, clips: Path, encoder: Path, folder: Path, **paths: str) -> dict[str, Any]:
    """A run whose artifact goes into the folder, on that engine, with every kind of figure that a sidecar has."""
    return configuration(
        clips,
        encoder,
        "",
        cluster={"address": address},
        processing={"max_bad_fraction": 0.2},
        training={"epochs": 20},
        evaluation={"repeats": 1, "holdout": 4},
        paths={"save_path": str(folder / "v.pth"), **paths},
    )


def saved(config: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
    """A run's weights, and its sidecar without what is the engine's own or a place."""
    path = Path(config["paths"]["save_path"])
    sidecar = json.loads(path.with_suffix(".json").read_text())
    for group in ("cluster", "paths"):
        del sidecar["config"][group]
    del sidecar["timings"], sidecar["device"]
    return path.read_bytes(), sidecar


def end_readers() -> None:
    """Have the decoder of this process end it, as a bug in a C library does, at a clip that is marked."""
    from golem_ray.speech import read

    decode = read.decode

    def deadly(data: bytes) -> Any:
        if data == ENDS_ITS_READER:
            os.kill(os.getpid(), signal.SIGKILL)
        return decode(data)

    read.decode = deadly


def on_workers(setup: Callable[[], None], pause_s: float = 0.0) -> type:
    """Ray's embedding actor, with a setup of its process, and a pause before each block but the first."""
    from golem_ray.cluster.workers import Embedder

    class Changed(Embedder):
        begun = False

        def __init__(self, *arguments: Any) -> None:
            setup()
            super().__init__(*arguments)

        def __call__(self, batch: Any) -> dict[str, Any]:
            if self.begun:
                time.sleep(pause_s)
            self.begun = True
            return super().__call__(batch)

    return Changed


def train_until_it_ends(config: dict[str, Any]) -> None:
    """What a process of its own does."""
    end_readers()
    golem_ray.train(config)


@pytest.mark.slow  # test_engine.py and test_crash_notes.py hold it in parts
def test_training_with_a_clip_that_ends_its_reader_leaves_the_same_artifact(
    shared_ray: None, encoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Ray the run goes on by itself; a process of its own ends, and the same command goes on with the same run."""
    clips = write_clips(tmp_path / "set", ["in", "out"] * (NUM_CLIPS // 2), SECONDS)
    (clips / "clips" / "5.wav").write_bytes(ENDS_ITS_READER)

    def setup(end: Callable[[], None] = end_readers) -> None:
        end()

    monkeypatch.setattr("golem_ray.cluster.embedding.Embedder", on_workers(setup))
    through_ray = run_on("auto", clips, encoder_folder, tmp_path / "ray", run_dir=str(tmp_path / "run of ray"))
    golem_ray.train(through_ray)

    here = run_on("none", clips, encoder_folder, tmp_path / "here", run_dir=str(tmp_path / "run"))
    context = multiprocessing.get_context("forkserver")  # forks of a process without threads
    context.set_forkserver_preload(["golem_ray.speech.encoders", "golem_ray.jobs.train", "golem_ray.heads.train_head"])
    ended = []
    for _ in range(4):
        process = context.Process(target=train_until_it_ends, args=(here,))
        process.start()
        process.join(100)
        ended.append(process.exitcode)
    assert ended == [-signal.SIGKILL] * 3 + [0]

    (weights, sidecar), (expected, said) = saved(here), saved(through_ray)
    assert weights == expected
    assert sidecar == said
    (bad,) = sidecar["clips"]["bad"]
    assert (bad["id"], bad["reason"]) == (5, CRASHED)


@pytest.fixture(scope="module")
def undisturbed(encoder_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[bytes, Any]]:
    """A folder of clips, and what a run on them leaves that nothing interrupts."""
    work = tmp_path_factory.mktemp("undisturbed")
    clips = write_clips(work / "set", ["in", "out"] * (NUM_CLIPS // 2), SECONDS)
    config = run_on("none", clips, encoder_folder, work)
    golem_ray.train(config)
    return clips, saved(config)


@pytest.mark.slow  # test_engine.py and test_resume.py hold it in parts
@pytest.mark.parametrize(("first", "second"), [("none", "auto"), ("auto", "none")])
def test_a_run_that_one_engine_began_the_other_goes_on_with(
    shared_ray: None,
    undisturbed: tuple[Path, tuple[bytes, Any]],
    encoder_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    first: str,
    second: str,
) -> None:
    clips, expected = undisturbed
    take, taken = Intake.take, []

    def stopped(self: Intake, done: dict[str, Any]) -> Any:
        taken.append(done)
        if len(taken) == 2:
            raise KeyboardInterrupt
        return take(self, done)

    run_dir = str(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(engine_module, "_BLOCK_ROWS", NUM_CLIPS // 4)  # as Ray's are for so few clips
        patch.setattr("golem_ray.cluster.embedding.Embedder", on_workers(lambda: None, pause_s=1.0))
        patch.setattr(Intake, "take", stopped)
        with pytest.raises(KeyboardInterrupt):
            golem_ray.train(run_on(first, clips, encoder_folder, tmp_path / "none", run_dir=run_dir))
    assert list(tmp_path.rglob("*.pth")) == []
    config = run_on(second, clips, encoder_folder, tmp_path / "out", run_dir=run_dir)
    golem_ray.train(config)
    assert saved(config) == expected
    timings = json.loads((tmp_path / "out" / "v.json").read_text())["timings"]
    embedded = round(timings["audio_seconds_embedded"] / SECONDS)
    assert 0 < embedded <= NUM_CLIPS // 2  # two blocks of four were kept


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More than a handful of clips, one of which is not audio, and one of which is missing."""
    folder = write_clips(tmp_path_factory.mktemp("mixed") / "set", NAMES * 9, seconds=0.1)
    assert len(NAMES * 9) > HANDFUL
    (folder / "clips" / "3.wav").write_bytes(b"noise")
    (folder / "clips" / "20.wav").unlink()
    return folder


def test_an_evaluation_finds_the_same(
    shared_ray: None, applied: tuple[Path, Path], mixed: Path, tmp_path: Path
) -> None:
    found, pages = [], []
    for number, keys in enumerate((HERE, ON_RAY)):
        report = tmp_path / str(number) / "report.html"
        allowing = ExamplesConfig(max_bad_fraction=0.1)
        figures = evaluate_artifact(
            artifact.load(str(applied[1])), on(mixed, report=str(report), processing=allowing, **keys)
        )
        assert figures.pop("reportPath") == str(report)
        found.append(json.dumps(figures))
        pages.append(report.read_bytes())
    assert found[0] == found[1]
    assert pages[0] == pages[1]
    assert [entry["clip"].split(" (")[0] for entry in json.loads(found[0])["bad"]] == ["clip 3", "clip 20"]


@pytest.mark.slow  # an evaluation goes the same way
def test_predictions_are_the_same_bytes(
    shared_ray: None, applied: tuple[Path, Path], mixed: Path, tmp_path: Path
) -> None:
    files = [str(mixed / "clips" / f"{row}.wav") for row in range(36)]
    written = []
    for number, keys in enumerate((HERE, ON_RAY)):
        rows = list(predict(artifact.load(str(applied[1])), files, PredictConfig(threshold=0.3, **keys)))
        assert [row["id"] for row in rows] == files
        places = [tmp_path / f"{number}{suffix}" for suffix in (".csv", ".jsonl", ".parquet")]
        for place in places:
            assert write_predictions(str(place), iter(rows)) == 36
        written.append([place.read_bytes() for place in places])
    assert written[0] == written[1]


@pytest.mark.slow  # test_engine.py has work side by side
def test_a_comparison_finds_the_same(
    shared_ray: None, encoder_folder: Path, undisturbed: tuple[Path, Any], tmp_path: Path
) -> None:
    grid = GridConfig(
        layers=(1, "last"), poolings=("mean",), heads={"linear": HeadConfig(), "small": HeadConfig(hidden=(4,))}
    )
    written = []
    for address in ("none", "auto"):
        cluster = {"address": address, "threads_per_worker": 1, "workers": 1}
        config = comparison_on(encoder_folder, undisturbed[0], cluster=cluster, training={"epochs": 5})
        found = compare(config, grid, str(tmp_path / address))
        assert found["bestPath"] == str(tmp_path / address / "best.toml")
        written.append([(tmp_path / address / name).read_bytes() for name in ("comparison.json", "best.toml")])
    assert written[0] == written[1]


def test_a_training_with_several_labels_finds_the_same(shared_ray: None, tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "set", train=rows(HANDFUL + 8, 1))
    found, said = [], []
    for address in ("none", "auto"):
        path, cluster, model = tmp_path / f"{address}.pth", {"address": address}, {"join_baseline": True}
        golem_ray.train(run_on_texts(texts, path, cluster=cluster, model=model, evaluation={"holdout": 8}))
        sidecar = sidecar_of(path)
        kept = {key: sidecar[key] for key in ("metrics", "clips", "summary", "data")}
        found.append((path.read_bytes(), kept, sidecar["joined"]["sha256"]))
        config = PredictConfig(dataset=DatasetConfig(text_column="text"), cluster=ClusterConfig(address=address))
        said.append(list(predict(artifact.load(path), [str(texts / "train.jsonl")], config)))
    assert found[0] == found[1]
    assert len(said[0]) == HANDFUL + 8
    assert said[0] == said[1]
