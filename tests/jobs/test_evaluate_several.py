"""A saved classifier of texts with several labels on labelled texts: its figures, and what its report shows."""

from pathlib import Path

import numpy as np
import pytest

import golem_ray
from golem_ray import artifact
from golem_ray.config import ClusterConfig, DatasetConfig, EvaluateConfig
from golem_ray.errors import ConfigError
from golem_ray.jobs.evaluate import evaluate_artifact
from tests.jobs.runs import HERE, on

WORDS = {"joy": "wonderful sunshine", "fear": "terrible darkness", "anger": "outrageous noise"}


def text_of(row: int, labels: list[str]) -> str:
    return f"posting{row} <i>& so on: " + ", ".join(WORDS[label] for label in labels)


def write_texts(folder: Path) -> Path:
    """Texts with one label, two labels and none, to train on and to test on."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for split, start, number in (("train", 0, 60), ("test", 60, 40)):
        lines = ["text,label"]
        for row in range(start, start + number):
            own = [label for label in WORDS if rng.random() < 0.4]
            said = own if row % 4 else own[1:]  # some cannot be right
            lines.append(f'"{text_of(row, said)}",{";".join(own)}')
        (folder / f"{split}.csv").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folder of texts, and a classifier that was trained on them."""
    work = tmp_path_factory.mktemp("several")
    texts, path = write_texts(work / "texts"), work / "mail.pth"
    golem_ray.train(
        {
            "dataset": {"name": str(texts), "text_column": "text", "label_separator": ";"},
            "model": {"feature_extractor_model": "ngrams"},
            "training": {"epochs": 20},
            "evaluation": {"repeats": 1},
            "cluster": {"address": "none"},
            "paths": {"save_path": str(path)},
        }
    )
    return texts, path


def evaluating(folder: Path, **more: object) -> EvaluateConfig:
    dataset = DatasetConfig(name=str(folder), split="test", text_column="text", label_separator=";")
    return EvaluateConfig(dataset=dataset, cluster=ClusterConfig(address="none"), **more)  # type: ignore[arg-type]


def test_texts_are_in_the_report_only_where_they_are_asked_for(trained: tuple[Path, Path], tmp_path: Path) -> None:
    texts, path = trained
    saved, report = artifact.load(str(path)), tmp_path / "report.html"
    found = evaluate_artifact(saved, evaluating(texts, report=str(report)))
    page = report.read_text()
    assert found["num_clips"] == 40
    assert found["figures"]["macro_f1"]["value"] > found["baselines"]["always"]["macro_f1"]
    assert set(found["baselines"]) == {"always", "chance", "at_half"}
    assert "Thresholds of 0.5" in page
    for hidden in (page, (path.parent / "report.html").read_text(), path.with_suffix(".json").read_text()):
        assert "posting" not in hidden
    assert "What it says" not in page

    again = evaluate_artifact(saved, evaluating(texts, report=str(report), texts=True))
    page = report.read_text()
    assert again["figures"] == found["figures"]
    assert "<th>What it says</th>" in page
    assert 1 <= page.count("&lt;i&gt;&amp; so on: ") <= 20
    assert "<i>& so on" not in page


def test_examples_of_the_other_modality_are_refused_before_any_is_read(
    trained: tuple[Path, Path], applied: tuple[Path, Path]
) -> None:
    _, path = trained
    with pytest.raises(ConfigError, match=r"^audio: expected a classifier of clips, found one of texts; take --texts "):
        evaluate_artifact(artifact.load(str(path)), evaluating(Path("/nowhere"), audio=True))
    clips, path = applied
    with pytest.raises(ConfigError, match=r"^texts: expected a classifier of texts, found one of clips; take --audio "):
        evaluate_artifact(artifact.load(str(path)), on(clips, texts=True, **HERE))


def test_the_report_of_a_training_without_texts_to_test_on_shows_its_folds(trained: tuple[Path, Path]) -> None:
    _, path = trained
    page = (path.parent / "report.html").read_text()
    assert "each judged by a head that was trained on the other folds (its calibration and its thresholds" in page
    assert "that of the finished classifier, since each fold had its own" in page
    assert "<th>TF-IDF</th><th>Thresholds of 0.5</th>" in page
    assert "(no label)" in page
