"""Training and evaluating from Python, on clips that the caller has."""

import json
import os
from collections import OrderedDict

import numpy as np
import pandas as pd
import pytest
import soundfile

import golem_ray
from golem_ray.errors import ConfigError, DataError
from golem_ray.jobs import memory
from tests import warm
from tests.conftest import ROOT, tone
from tests.jobs.texts import texts

LABELS = ["low", "high"] * 6


def clip(row):
    """(3200,) at 8 kHz: a hum or a whistle, each another one."""
    rng = np.random.default_rng(row)
    pitch = (200 if row % 2 == 0 else 2000) * rng.uniform(0.9, 1.1)
    wave = 0.4 * np.sin(2 * np.pi * pitch * np.arange(3200) / 8000)
    return (wave + 0.01 * rng.standard_normal(3200)).astype(np.float32)


CLIPS = [clip(row) for row in range(12)]


QUICK = {"training": {"epochs": 30}, "evaluation": {"repeats": 1}}


@pytest.fixture
def small(encoder_folder):
    """What a training needs besides clips and labels."""
    return {"encoder": str(encoder_folder), "sampling_rate": 8000}


@pytest.fixture
def trained(small):
    return golem_ray.train(QUICK, clips=CLIPS, labels=LABELS, **small)


def test_arrays_bytes_and_paths_give_the_same_classifier(small, trained, tmp_path):
    """Which needs no file to be used, and is the same once it is saved."""
    files = []
    for row, samples in enumerate(CLIPS):
        files.append(tmp_path / f"{row}.wav")
        soundfile.write(files[-1], samples, 8000, subtype="FLOAT")
    weights = trained.artifact.weights
    assert golem_ray.train(QUICK, clips=files, labels=LABELS, **small).artifact.weights == weights
    assert (
        golem_ray.train(QUICK, clips=[file.read_bytes() for file in files], labels=LABELS, **small).artifact.weights
        == weights
    )
    assert trained.labels == ["high", "low"]
    assert repr(trained).startswith("<TrainedClassifier of 2 classes (high, low) with ")
    assert trained.predict(clip(20), sampling_rate=8000).label == "low"
    found = trained.predict([str(files[1]), b"noise"])
    assert (found[0].label, found[1].label) == ("high", None)
    place = trained.save(tmp_path / "new" / "voice.pth")
    assert place == str(tmp_path / "new" / "voice.pth")
    again = golem_ray.load(place)
    assert again.predict(clip(20), sampling_rate=8000) == trained.predict(clip(20), sampling_rate=8000)
    assert b"golem_ray" in (tmp_path / "new" / "report.html").read_bytes()[:500]
    assert json.loads((tmp_path / "new" / "voice.json").read_text())["weights"]["file"] == "voice.pth"
    assert again.save(tmp_path / "copy.pth") == str(tmp_path / "copy.pth")
    assert (tmp_path / "copy.pth").read_bytes() == weights


def test_its_summary_has_chance_and_a_cross_validated_figure(trained):
    assert "Trained on 12 clips of those given (0 skipped) in 2 classes" in trained.summary
    assert "chance is 50.0%" in trained.summary
    assert "Cross-validated accuracy" in trained.summary


def test_no_clip_is_embedded_twice(small, trained, forwards_here):
    golem_ray.train({**QUICK, "head": {"kind": "logistic"}}, clips=CLIPS, labels=LABELS, **small)
    assert forwards_here() == 0
    golem_ray.train(QUICK, clips=[*CLIPS, tone(99)], labels=[*LABELS, "low"], **small)
    assert forwards_here() == 1
    golem_ray.train({**QUICK, "model": {"pooling": "mean+std"}}, clips=CLIPS, labels=LABELS, **small)
    assert forwards_here() == 13


def test_an_evaluation_leaves_out_what_was_trained_on(trained):
    others = [clip(row) for row in range(30, 36)]
    found = trained.evaluate([*others, CLIPS[0]], ["low", "high"] * 3 + ["high"], sampling_rate=8000)
    assert (found["num_clips"], found["num_also_trained_on"]) == (6, 1)
    assert found["figures"]["accuracy"]["value"] == 1
    assert "on 6 clips of those given (1 that were trained on left out): accuracy 100.0%" in found["summary"]
    counted = trained.evaluate(
        [*others, CLIPS[0]], ["low", "high"] * 3 + ["high"], include_trained=True, sampling_rate=8000
    )
    assert counted["num_clips"] == 7
    assert counted["figures"]["accuracy"]["value"] == pytest.approx(6 / 7)


def test_groups_are_kept_together_and_left_out(small):
    groups = ["ann", "ann", "bob", "bob", "cy", "cy"] * 2
    trained = golem_ray.train(QUICK, clips=CLIPS, labels=LABELS, groups=groups, **small)
    assert "3 x" not in trained.summary
    assert trained.artifact.document["metrics"]["cross_validation"]["folds"] == 3
    found = trained.evaluate([clip(40), clip(41)], ["low", "high"], groups=["ann", "dan"], sampling_rate=8000)
    assert (found["num_clips"], found["num_of_groups_trained_on"]) == (1, 1)


def test_a_holdout_has_the_baseline_beside_it(small):
    trained = golem_ray.train(
        {**QUICK, "evaluation": {"holdout": 4, "repeats": 0}}, clips=CLIPS, labels=LABELS, **small
    )
    assert "Accuracy on the 4 clips held out" in trained.summary
    assert "log-mel" in trained.summary


@pytest.mark.parametrize(
    ("config", "given", "words"),
    [
        ({}, {"labels": LABELS[:3]}, "labels: expected one for each of the 12 clips, found 3."),
        ({}, {"labels": None}, "labels: expected one for each clip, found none."),
        ({}, {"groups": [1]}, "groups: expected one for each of the 12 clips, found 1."),
        ({}, {"labels": ["low"] * 12}, "expected at least two classes in those given, found 1"),
        ({}, {"labels": [object()] * 12}, "labels: expected names or numbers, found a object."),
        (
            {},
            {"clips": [*CLIPS[:11], np.zeros((2, 400))]},
            r"clip 11: expected a clip that can be used, found samples of",
        ),
        (
            {},
            {"clips": [*CLIPS[:11], b"x"]},
            "expected at most 0 of 12 clips to be unusable, found 1 or more .clip 11: not",
        ),
        ({}, {"clips": [], "labels": []}, "clips: expected some, found none."),
        ({}, {"sampling_rate": 0.5}, "sampling_rate: expected a positive number of Hz, got 0.5."),
        ({"dataset": {"extra": [{"name": "more.csv"}]}}, {}, "dataset.extra: expected none for clips that are given"),
        ({"evaluation": {"split": "test"}}, {}, "evaluation.split: expected none for clips that are given, got 'test'"),
        ({"paths": {"save_path": "x.pth"}}, {}, "paths.save_path: expected none for clips that are given, got 'x.pth'"),
    ],
)
def test_what_cannot_be_is_said(small, config, given, words):
    with pytest.raises((ConfigError, DataError), match=words):
        golem_ray.train({**QUICK, **config}, **{"clips": CLIPS, "labels": LABELS, **small, **given})


def test_a_folder_is_no_configuration_and_one_clip_no_list():
    with pytest.raises(ConfigError, match="config: expected a dictionary with groups of keys, got 'folder'"):
        golem_ray.train("folder")
    with pytest.raises(ConfigError, match="clips: expected a list of clips, found one"):
        golem_ray.train(clips="folder", labels=["a"])


def test_labels_without_clips_are_refused():
    with pytest.raises(ConfigError, match="clips: expected those that labels, groups or sampling_rate are of"):
        golem_ray.train(labels=["a"])


def test_texts_are_given_in_place_of_clips(monkeypatch):
    def said(config, examples, labels, groups, how):
        raise ConfigError(f"{len(examples)} {config.dataset.noun.many} of {config.dataset.text_column}")

    monkeypatch.setattr(memory, "train", said)
    for dataset, column in (({}, "text"), ({"text_column": "body"}, "body")):
        with pytest.raises(ConfigError, match=f"2 texts of {column}"):
            golem_ray.train({"dataset": dataset}, texts=["yes", "no"], labels=["a", "b"])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"texts": ["yes"], "clips": CLIPS}, "clips: expected either clips or texts, found both"),
        ({"texts": ["yes"], "labels": None}, "labels: expected one for each text, found none."),
        ({"texts": ["yes"], "sampling_rate": 8000}, "sampling_rate: expected none for texts, got 8000"),
        ({"texts": "yes"}, "texts: expected a list of texts, found one"),
        ({}, "texts: expected those that labels, groups or sampling_rate are of, found none."),
        ({"clips": CLIPS}, "dataset.text_column: expected none for clips, got 'body'; give texts"),
    ],
)
def test_what_cannot_be_is_said_of_texts_too(given, words):
    with pytest.raises(ConfigError, match=words):
        golem_ray.train({"dataset": {"text_column": "body"}}, **{"labels": ["a"], **given})


def test_labels_are_a_matrix_or_a_table_of_0_and_1():
    """Whose columns are labels, also where nothing has one."""
    said, names = texts(12)
    matrix = np.array([[name == "fear", name == "joy", False] for name in names])
    trained = golem_ray.train(QUICK, texts=said, labels=matrix)
    assert trained.labels == ["0", "1", "2"]
    table = pd.DataFrame(matrix.astype(int), columns=["fear", "joy", "shame"])
    named = golem_ray.train(QUICK, texts=said, labels=table)
    assert named.labels == ["fear", "joy", "shame"]
    assert named.artifact.weights == trained.artifact.weights
    found = named.evaluate(said, table[["shame", "joy", "fear"]], include_trained=True)
    assert found == named.evaluate(said, [[name] if name != "anger" else [] for name in names], include_trained=True)
    for other in (matrix * 2.5, matrix[:, :1], np.array([["a", "b"]] * 12), matrix[..., None]):
        with pytest.raises(ConfigError, match="labels: expected a matrix .N, K. of 0 and 1 with two columns or more"):
            golem_ray.train(QUICK, texts=said, labels=other)


def test_memory_is_bounded(small, monkeypatch):
    monkeypatch.setattr(memory, "_MOST_KEPT", 5)
    monkeypatch.setattr(memory, "_kept", OrderedDict())
    golem_ray.train(QUICK, clips=CLIPS, labels=LABELS, **small)
    assert len(memory._kept) == 5


def test_a_few_clips_need_no_ray(encoder_folder):
    code = (
        "import sys, numpy as np, golem_ray\n"
        "clips = [np.random.default_rng(row).normal(size=4000) / 10 for row in range(8)]\n"
        f"trained = golem_ray.train({QUICK}, clips=clips, labels=[0, 1] * 4, encoder={str(encoder_folder)!r})\n"
        "assert 'ray' not in sys.modules\n"
        "print(trained.predict(clips[0]).label)"
    )
    done = warm.run(["-c", code], cwd=ROOT, env=dict(os.environ))
    assert (done.returncode, done.stdout in ("0\n", "1\n")) == (0, True), done.stderr


def test_a_page_of_somebody_elses_is_seen_before_anything_is_saved(trained, tmp_path):
    (tmp_path / "report.html").write_text("mine")
    with pytest.raises(ConfigError, match="expected room for the report, found another page"):
        trained.save(tmp_path / "voice.pth")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
