"""A saved classifier on labelled clips: its figures, what it leaves out, and the report."""

import logging
import shutil
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import sklearn.metrics

import golem_ray
from golem_ray import artifact
from golem_ray.config import ExamplesConfig, GroupsConfig
from golem_ray.data import Source
from golem_ray.embedding.embeddings import VectorBatch
from golem_ray.errors import ConfigError, DataError
from golem_ray.heads.single_label import SINGLE_LABEL
from golem_ray.jobs.evaluate import evaluate_artifact
from golem_ray.jobs.seen import Seen
from golem_ray.metrics.intervals import share_interval
from tests.conftest import audio_bytes, tone, write_clips
from tests.jobs.runs import HERE, NAMES, configuration, on


def test_evaluating_leaves_out_what_was_trained_on_and_gives_scikit_learns_figures(
    applied, applied_cache, caplog, tmp_path
):
    clips, path = applied
    report = tmp_path / "report.html"
    config = on(clips, report=str(report), embedding_cache=applied_cache, **HERE)
    with caplog.at_level(logging.WARNING):
        found = evaluate_artifact(artifact.load(str(path)), config)
    assert (found["num_clips"], found["num_also_trained_on"]) == (20, 40)
    assert "40 of 60 clips were trained on: clip 0 (" in caplog.text
    assert "and 20 more" in caplog.text

    labels = [NAMES[row % 4] for row in range(40, 60)]
    predictions = golem_ray.load(str(path)).predict([clips / "clips" / f"{row}.wav" for row in range(40, 60)])
    said = [prediction.label for prediction in predictions]
    figures = {name: figure["value"] for name, figure in found["figures"].items()}
    assert figures["accuracy"] == pytest.approx(sklearn.metrics.accuracy_score(labels, said))
    assert figures["balanced_accuracy"] == pytest.approx(sklearn.metrics.balanced_accuracy_score(labels, said))
    assert figures["macro_f1"] == pytest.approx(sklearn.metrics.f1_score(labels, said, average="macro"))
    probabilities = np.array([[prediction.probabilities[name] for name in sorted(NAMES)] for prediction in predictions])
    assert figures["log_loss"] == pytest.approx(sklearn.metrics.log_loss(labels, probabilities), abs=1e-5)
    expected = sklearn.metrics.confusion_matrix(labels, said, labels=sorted(NAMES))
    assert found["confusion"] == expected.tolist()
    assert found["baselines"]["chance"]["accuracy"] == 0.25
    assert f"accuracy {figures['accuracy']:.1%} (95 % interval" in found["summary"]
    assert "40 that were trained on left out" in found["summary"]
    page = report.read_text()
    assert "clip 59" in page
    assert "clip 39" not in page


def test_clips_of_a_group_that_was_trained_on_are_left_out_and_intervals_go_over_groups(
    applied, applied_cache, encoder_folder, tmp_path
):
    """Ten clips each of six speakers, of which the first three and a half were trained on."""
    plain, _ = applied
    clips, path = write_clips(tmp_path / "set", NAMES * 15, seconds=0.15), tmp_path / "voice.pth"  # the same files
    head, *lines = (clips / "metadata.csv").read_text().splitlines()
    rows = [f"{line},speaker-{row // 10}" for row, line in enumerate(lines)]
    (clips / "metadata.csv").write_text("\n".join([f"{head},who", *rows]))
    changes = {"processing": {"max_samples": 35}, "paths": {"embedding_cache": applied_cache}}
    golem_ray.train(configuration(clips, encoder_folder, path, evaluation={"group_column": "who"}, **changes))
    saved, keys = artifact.load(str(path)), {"report": str(tmp_path / "r.html"), "embedding_cache": applied_cache}

    found = evaluate_artifact(saved, on(clips, **keys, **HERE))
    assert (found["num_clips"], found["num_also_trained_on"], found["num_of_groups_trained_on"]) == (20, 35, 5)
    assert "on 20 clips" in found["summary"]
    assert "(35 that were trained on and 5 more of a who that was trained on left out)" in found["summary"]
    labels, page = [NAMES[row % 4] for row in range(40, 60)], (tmp_path / "r.html").read_text()
    answers = golem_ray.load(str(path)).predict([clips / "clips" / f"{row}.wav" for row in range(40, 60)])
    right = np.array([answer.label == label for answer, label in zip(answers, labels, strict=True)], dtype=float)
    assert found["figures"]["accuracy"]["interval_95"] == list(
        share_interval(right.mean(), right, np.repeat([0, 1], 10))
    )
    assert "none of which was trained on, nor others of the same who" in page

    everything = evaluate_artifact(saved, on(clips, include_trained=True, **keys, **HERE))
    assert everything["num_clips"] == 60
    elsewhere = evaluate_artifact(saved, on(plain, **keys, **HERE))  # there nobody says who speaks
    assert elsewhere["num_clips"] == 25
    assert "These clips have no column 'who', by which the training kept clips apart" in elsewhere["summary"]
    flag = {"evaluation": GroupsConfig(group_column="who")}
    with pytest.raises(DataError, match=r"evaluation\.group_column: expected a column .*none called 'who'"):
        evaluate_artifact(saved, on(plain, **flag, **keys, **HERE))
    none = {"evaluation": GroupsConfig(group_column="")}
    assert evaluate_artifact(saved, on(clips, **none, **keys, **HERE))["num_clips"] == 25
    renamed = tmp_path / "renamed"
    shutil.copytree(clips, renamed)
    others = [line.replace("speaker-", "session-") for line in rows[40:]]
    (renamed / "metadata.csv").write_text("\n".join([f"{head},session", *others]))
    sessions = evaluate_artifact(saved, on(renamed, evaluation=GroupsConfig(group_column="session"), **keys, **HERE))
    assert "does not say which session it was trained on" in sessions["summary"]  # these are no speakers
    del saved.document["clips"]["groups"]  # as older ones are
    older = evaluate_artifact(saved, on(clips, **flag, **keys, **HERE))
    assert (older["num_clips"], older["num_of_groups_trained_on"]) == (20, 5)  # of whom other clips were trained on
    assert "does not say which who it was trained on: clips of the same may be among these" in older["summary"]


def test_clips_that_were_trained_on_count_only_when_asked_for(applied, applied_cache, tmp_path):
    clips, path = applied
    saved, keys = artifact.load(str(path)), {"report": str(tmp_path / "report.html"), "embedding_cache": applied_cache}
    found = evaluate_artifact(saved, on(clips, include_trained=True, **keys, **HERE))
    assert (found["num_clips"], found["num_also_trained_on"]) == (60, 40)
    assert "no honest figure" in found["summary"]
    few = on(clips, processing=ExamplesConfig(max_samples=40), **keys, **HERE)
    with pytest.raises(DataError, match="expected clips that .*voice.pth was not trained on, found none among the 40"):
        evaluate_artifact(saved, few)


def test_unknown_labels_are_counted_as_missed_and_bad_clips_named(applied, tmp_path):
    _, path = applied
    clips = write_clips(tmp_path / "new", ["north", "up", "up", "east"], seconds=0.2)
    for row in range(4):
        (clips / "clips" / f"{row}.wav").write_bytes(audio_bytes(tone(100 + row, 0.2)))
    saved, report = artifact.load(str(path)), str(tmp_path / "report.html")
    found = evaluate_artifact(saved, on(clips, report=report))
    assert found["unknown_labels"] == {"up": 2}
    assert "does not know, counted as missed: up (2)" in found["summary"]
    assert found["figures"]["accuracy"]["value"] <= 0.5
    only_unknown = write_clips(tmp_path / "unknown", ["NORTH", "up"], seconds=0.21)
    with pytest.raises(DataError, match=r"expected labels that .* knows \(east, north, .* found none among NORTH, up"):
        evaluate_artifact(saved, on(only_unknown, report=report))
    (clips / "clips" / "1.wav").write_bytes(b"noise")
    with pytest.raises(DataError, match=r"at most 0 of 4 clips to be unusable, found 1 .*1\.wav\): not audio"):
        evaluate_artifact(saved, on(clips, report=report))
    allowing = on(clips, report=report, processing=ExamplesConfig(max_bad_fraction=0.3))
    assert evaluate_artifact(saved, allowing)["num_clips"] == 3
    assert "clip 1 (" in (tmp_path / "report.html").read_text()  # among those that could not be used


def test_an_artifact_that_does_not_say_what_it_was_trained_on_is_not_believed(applied, tmp_path, caplog):
    clips, path = applied
    saved = artifact.load(str(path))
    saved.document["clips"]["digests"] = None
    report = tmp_path / "report.html"
    found = evaluate_artifact(saved, on(clips, report=str(report), processing=ExamplesConfig(max_samples=3)))
    assert found["num_clips"] == 3
    assert "does not say which clips it was trained on" in caplog.text
    assert "of which the artifact does not say whether they were trained on" in report.read_text()


def test_a_report_does_not_replace_another_page(applied, tmp_path):
    clips, path = applied
    (tmp_path / "report.html").write_text("<html>mine</html>")
    with pytest.raises(ConfigError, match="report: expected room for the report, found another page"):
        evaluate_artifact(artifact.load(str(path)), on(clips, report=str(tmp_path / "report.html")))
    assert (tmp_path / "report.html").read_text() == "<html>mine</html>"


def test_the_map_shows_the_vectors_of_its_own_examples_in_whatever_order_they_came():
    count = 4500  # of which 2,000 are shown
    table = pa.table({"path": [f"{row}.wav" for row in range(count)], "label": [0] * count})
    source = Source(examples=table, labels=("a",))
    saved = SimpleNamespace(
        labels=["a"],
        target=SINGLE_LABEL,
        document={"head": {"in_features": 2}},
        probabilities=lambda vectors: np.ones((len(vectors), 1)),
        unsure=lambda vectors, probabilities: None,
    )
    seen = Seen(saved, source)
    for rows in np.array_split(np.random.default_rng(0).permutation(count), 40):
        vectors = np.stack([rows, -rows], axis=1).astype(np.float32)
        seen.take(VectorBatch(rows, vectors, None, np.zeros(len(rows), dtype="S32"), [""] * len(rows)))
    points = seen.points(np.arange(1, count), np.arange(count) < 100)  # the first of all is left out
    shown = [int(name.split()[1]) for name in points.names]
    assert len(set(shown)) == 1999
    assert points.vectors.tolist() == [[row, -row] for row in shown]
    assert points.tested.tolist() == [row >= 100 for row in shown]
