"""Artifacts that several modules of job tests use, each made once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.conftest import write_clips
from tests.jobs.runs import NAMES, configuration
from tests.jobs.several import rows, run_on_texts, write_texts
from tests.jobs.texts import run_on, write_csv
from tests.text import write_text_encoder


@pytest.fixture(scope="session")
def fifty_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """50 clips of 13 labels; `solo` has one clip."""
    labels = [f"intent-{row % 12:02d}" for row in range(49)]
    return write_clips(tmp_path_factory.mktemp("fifty") / "set", [*labels, "solo"], seconds=0.15)


@pytest.fixture(scope="session")
def trained_on_fifty(
    fifty_clips: Path, encoder_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, str]]:
    """The artifact of a run on fifty clips, and what the call returned."""
    import golem_ray

    path = tmp_path_factory.mktemp("artifact") / "voice_classifier_knowledge.pth"
    config = configuration(fifty_clips, encoder_folder, path)
    config["dataset"]["labelColumn"] = config["dataset"].pop("label_column")  # either spelling
    return path, golem_ray.train(config)


class TestedOnItself(NamedTuple):
    """A run that was tested on the clips of `clips_folder`, on which it was trained."""

    __test__ = False  # no class of tests

    summary: str
    sidecar: dict[str, Any]
    cache: str


@pytest.fixture(scope="session")
def tested_on_itself(
    clips_folder: Path, encoder_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> TestedOnItself:
    """What such a run said, its sidecar, its cache."""
    import golem_ray

    work = tmp_path_factory.mktemp("kept")
    paths = {"save_path": str(work / "v.pth"), "embedding_cache": str(work / "cache")}
    config = configuration(clips_folder, encoder_folder, "", evaluation={"split": "train"}, paths=paths)
    result = golem_ray.train(config)
    return TestedOnItself(result["summary"], json.loads((work / "v.json").read_text()), paths["embedding_cache"])


@pytest.fixture
def kept(tested_on_itself: TestedOnItself) -> str:
    """A cache of the clips of `clips_folder`, for runs in which embedding them is not the subject."""
    return tested_on_itself.cache


@pytest.fixture(scope="session")
def applied_cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A cache of the clips of `applied`, so that each is embedded once."""
    return str(tmp_path_factory.mktemp("applied") / "cache")


@pytest.fixture(scope="session")
def applied(encoder_folder: Path, applied_cache: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of 60 clips, and a classifier that was trained on the first 40 of them."""
    import golem_ray

    work = tmp_path_factory.mktemp("apply")
    clips = write_clips(work / "set", NAMES * 15, seconds=0.15)
    path = work / "voice.pth"
    changes = {"processing": {"max_samples": 40}, "paths": {"embedding_cache": applied_cache}}
    golem_ray.train(configuration(clips, encoder_folder, path, **changes))
    return clips, path


@pytest.fixture(scope="session")
def text_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random BERT, 32 wide."""
    return write_text_encoder(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="session")
def trained_on_texts(text_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact of 48 texts, 9 of which were kept from training; its .pth. Beside it `train.csv` and `test.csv`."""
    import golem_ray

    work = tmp_path_factory.mktemp("trained")
    source = write_csv(work / "train.csv", 48)
    write_csv(work / "test.csv", 42, seed=1)
    golem_ray.train(run_on(source, text_encoder, work / "t.pth", evaluation={"holdout": 9}))
    return work / "t.pth"


@pytest.fixture(scope="session")
def trained_on_several(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, str]]:
    """A folder of 60 texts with several labels each and a split of 30 more; the artifact of a run that was trained on
    the first and tested on the others, and what the call returned.
    """
    import golem_ray

    work = tmp_path_factory.mktemp("several")
    folder = write_texts(work / "set", train=rows(60, 1), test=rows(30, 2))
    path = work / "v.pth"
    return folder, path, golem_ray.train(run_on_texts(folder, path, evaluation={"split": "test"}))
