"""Classifiers of several labels in use: predictions, evaluations and comparisons."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import f1_score, label_ranking_average_precision_score

import golem_ray
from golem_ray import artifact
from golem_ray.cli.flags import parse_compare, parse_train
from golem_ray.config import DatasetConfig, EvaluateConfig, ExamplesConfig, PredictConfig
from golem_ray.errors import ConfigError, DataError
from golem_ray.heads.target import NOTHING
from golem_ray.jobs.compare import run as compare
from golem_ray.jobs.evaluate import evaluate_artifact
from golem_ray.jobs.predict import as_text, predict, write_predictions
from tests.jobs.runs import HERE, artifact_beside
from tests.jobs.several import NAMES, rows, run_on_texts, sidecar_of, write_texts

TESTED = rows(30, 2)


@pytest.fixture(scope="module")
def saved(trained_on_several):
    """The artifact, whose labels of TESTED are none, one or more."""
    loaded = artifact.load(str(trained_on_several[1]))
    said = golem_ray.load(trained_on_several[1]).predict([row["text"] for row in TESTED])
    assert {len(each.labels) for each in said} >= {0, 1, 2}
    return loaded


@pytest.fixture(scope="module")
def said(saved, trained_on_several):
    """What it says of TESTED, from Python."""
    return golem_ray.load(trained_on_several[1]).predict([row["text"] for row in TESTED])


def predicted(saved, folder, **keys):
    config = PredictConfig(dataset=DatasetConfig(text_column="text"), **HERE, **keys)
    return list(predict(saved, [str(folder / "test.jsonl")], config))


def test_predictions_have_all_labels_and_the_probability_of_each(saved, said, trained_on_several):
    found = predicted(saved, trained_on_several[0])
    for record, each in zip(found, said, strict=True):
        assert list(record) == ["id", "labels", *(f"probability_{name}" for name in NAMES), "problem", "remark"]
        assert tuple(record["labels"]) == each.labels
        assert {name: record[f"probability_{name}"] for name in NAMES} == pytest.approx(each.probabilities)
        likely = [each.probabilities[name] for name in each.labels]
        assert likely == sorted(likely, reverse=True)


def test_from_python_an_example_has_its_likeliest_label_or_none(said):
    for each in said:
        assert list(each.probabilities) == sorted(each.probabilities, key=lambda name: -each.probabilities[name])
        assert (each.label, each.probability) == (
            (each.labels[0], each.probabilities[each.labels[0]]) if each.labels else (NOTHING, 0.0)
        )
        assert not each.unsure


def test_a_threshold_gives_what_has_as_much_in_place_of_the_trained_ones(saved, said, trained_on_several):
    for threshold in (0.0, 0.6, 1.0):
        for record, each in zip(predicted(saved, trained_on_several[0], threshold=threshold), said, strict=True):
            wanted = [name for name, chance in each.probabilities.items() if chance >= threshold]
            assert record["labels"] == wanted
            assert "likeliest" not in record


def test_the_terminal_names_all_that_are_given_and_none(saved, said, trained_on_several):
    found = predicted(saved, trained_on_several[0])
    for top_k in (1, 3):
        for number, (line, each) in enumerate(zip(as_text(found, top_k), said, strict=True)):
            row, named, chances = line.split("  ")
            assert (row, named) == (str(number), ", ".join(each.labels) or "none")
            assert len(chances.split("; ")) == max(top_k, len(each.labels))
            first, chance = next(iter(each.probabilities.items()))
            assert chances.startswith(f"({first} {chance:.1%}")


def test_a_text_that_cannot_be_used_has_no_labels(saved, tmp_path):
    (tmp_path / "a.csv").write_text('text\n"радость"\n" "\n')
    config = PredictConfig(dataset=DatasetConfig(text_column="text"), **HERE)
    found = list(predict(saved, [str(tmp_path / "a.csv")], config))
    assert (found[1]["labels"], found[1]["probability_joy"]) == (None, None)
    assert list(as_text(found))[1].startswith("1  -  ")
    for suffix in (".csv", ".jsonl", ".parquet"):
        write_predictions(str(tmp_path / f"out{suffix}"), iter(found))
    assert pq.read_table(tmp_path / "out.parquet")["labels"].to_pylist()[1] is None
    assert pyarrow.csv.read_csv(tmp_path / "out.csv")["labels"].to_pylist()[1] in ("", None)
    assert json.loads((tmp_path / "out.jsonl").read_text().splitlines()[1])["labels"] is None


def test_files_of_predictions_have_lists_and_in_a_csv_semicolons(saved, said, trained_on_several, tmp_path):
    found = predicted(saved, trained_on_several[0])
    for suffix in (".csv", ".jsonl", ".parquet"):
        assert write_predictions(str(tmp_path / f"out{suffix}"), iter(found)) == 30
    labels = [list(each.labels) for each in said]
    table = pq.read_table(tmp_path / "out.parquet")
    assert table["labels"].to_pylist() == labels
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert lines == table.to_pylist() == found
    read = pyarrow.csv.read_csv(tmp_path / "out.csv")
    assert [[] if each in ("", None) else each.split(";") for each in read["labels"].to_pylist()] == labels
    assert read["probability_joy"].to_pylist() == pytest.approx(table["probability_joy"].to_pylist())


def on_texts(place, **keys):
    """An evaluation on a folder's texts to test on."""
    dataset = DatasetConfig(name=str(place), split="test", text_column="text", label_column="label", **keys)
    return EvaluateConfig(dataset=dataset, processing=ExamplesConfig(max_samples="all"), **HERE)


def evaluated(trained_on_several, work, lines, **keys):
    """What an evaluation finds on texts of these lines, its report beside a copy of the artifact."""
    copy = artifact_beside(trained_on_several[1], work)
    place = write_texts(work / "set", test=lines)
    return evaluate_artifact(artifact.load(str(copy)), on_texts(place, **keys))


def test_an_evaluation_finds_what_the_training_found(trained_on_several, tmp_path):
    found = evaluated(trained_on_several, tmp_path, TESTED)
    trained = sidecar_of(trained_on_several[1])["metrics"]["evaluation"]
    for figure, value in trained["figures"].items():
        assert found["figures"][figure]["value"] == pytest.approx(value["value"], abs=1e-6), figure
    assert found["baselines"]["always"] == trained["baselines"]["always"]
    assert found["baselines"]["chance"] == pytest.approx(trained["baselines"]["chance"])
    assert found["confusion"] is None
    assert f"macro F1 {found['figures']['macro_f1']['value']:.3f}" in found["summary"]
    assert f"{sum(not row['label'] for row in TESTED)} texts without any label" in found["summary"]
    assert Path(found["reportPath"]).stat().st_size > 1e6


def test_those_that_were_trained_on_are_left_out(trained_on_several, tmp_path):
    found = evaluated(trained_on_several, tmp_path, [*rows(60, 1)[:5], *TESTED])
    assert (found["num_also_trained_on"], found["num_clips"]) == (5, 30)


def test_labels_that_it_does_not_know_are_missed_and_named(trained_on_several, tmp_path):
    lines = [
        {**row, "label": [*row["label"], "envy"] if number < 4 else row["label"]} for number, row in enumerate(TESTED)
    ]
    found = evaluated(trained_on_several, tmp_path, lines)
    assert found["unknown_labels"] == {"envy": 4}
    assert "Labels that the artifact does not know, counted as missed: envy (4)." in found["summary"]
    assert [record["label"] for record in found["per_class"]] == [*NAMES, "envy"]
    assert found["per_class"][3]["f1"]["value"] == 0
    known = evaluated(trained_on_several, tmp_path / "known", TESTED)
    assert found["figures"]["macro_f1"]["value"] == pytest.approx(known["figures"]["macro_f1"]["value"] * 3 / 4)
    only = [{**row, "label": ["envy"]} for row in TESTED]
    with pytest.raises(DataError, match=r"expected labels that .* knows \(anger, fear, joy\), found none among envy"):
        evaluated(trained_on_several, tmp_path / "only", only)


def test_one_label_each_is_taken_for_that_one_alone(trained_on_several, tmp_path):
    lines = [{**row, "label": row["label"][0]} for row in TESTED if row["label"]]
    found = evaluated(trained_on_several, tmp_path, lines)
    said = golem_ray.load(trained_on_several[1]).predict([row["text"] for row in lines])
    truth = np.array([[name == row["label"] for name in NAMES] for row in lines])
    given = np.array([[name in each.labels for name in NAMES] for each in said])
    assert found["num_without_label"] == 0
    assert found["figures"]["macro_f1"]["value"] == pytest.approx(f1_score(truth, given, average="macro"))
    separated = evaluated(
        trained_on_several,
        tmp_path / "separated",
        [{**row, "label": ";".join(row["label"])} for row in TESTED],
        label_separator=";",
    )
    assert separated["num_clips"] == 30


def test_texts_of_which_none_has_a_label_say_how_often_it_gives_one(trained_on_several, tmp_path):
    found = evaluated(trained_on_several, tmp_path, [*({**row, "label": []} for row in TESTED[1:]), TESTED[0]])
    assert found["num_without_label"] == 29
    said = golem_ray.load(trained_on_several[1]).predict([row["text"] for row in TESTED])
    assert TESTED[0]["label"]
    right = [
        set(each.labels) == (set(row["label"]) if row is TESTED[0] else set())
        for each, row in zip(said, TESTED, strict=True)
    ]
    assert found["figures"]["accuracy"]["value"] == pytest.approx(np.mean(right))


def test_a_classifier_of_one_label_refuses_lists(tmp_path):
    lines = [{**row, "label": row["label"][0]} for row in rows(40, 1) if row["label"]]
    golem_ray.train(run_on_texts(write_texts(tmp_path / "set", train=lines), tmp_path / "v.pth"))
    place = write_texts(tmp_path / "other", test=TESTED)
    with pytest.raises(DataError, match=r"^dataset\.label_column: expected one label for each text, .* found lists"):
        evaluate_artifact(artifact.load(str(tmp_path / "v.pth")), on_texts(place))


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A comparison of two heads on 40 texts: its folder, and what it found."""
    work = tmp_path_factory.mktemp("compared")
    texts = write_texts(work / "set", train=rows(40, 1))
    (work / "grid.toml").write_text(
        f"""
        [dataset]
        name = "{texts}"
        text_column = "text"
        label_column = "label"
        [processing]
        max_samples = "all"
        [model]
        feature_extractor_model = "ngrams"
        [head]
        threshold = 0.4
        [training]
        epochs = 10
        [evaluation]
        repeats = 2
        [cluster]
        address = "none"
        threads_per_worker = 1
        workers = 1
        [grid]
        layers = ["last"]
        poolings = ["mean"]
        [grid.heads.linear]
        [grid.heads.small]
        hidden = [4]
        """
    )
    command = parse_compare([str(work / "grid.toml"), "--output", str(work / "out")])
    return work, compare(command.config, command.grid, command.output)


def test_candidates_are_compared_by_how_they_rank_labels(compared):
    found = compared[1]
    assert found["measure"] == "label ranking average precision"
    assert (found["num_clips"], found["num_single_clip_classes"], found["num_classes"]) == (40, 0, 3)
    assert sorted(row["head"] for row in found["candidates"]) == ["linear", "small"]
    values = [row["accuracy"]["value"] for row in found["candidates"]]
    assert values == sorted(values, reverse=True)
    labels = np.array([[name in row["label"] for name in NAMES] for row in rows(40, 1)])
    has, rng = labels[labels.any(axis=1)], np.random.default_rng(0)
    drawn = np.mean([label_ranking_average_precision_score(has, rng.uniform(size=has.shape)) for _ in range(400)])
    assert found["chance"] == pytest.approx(drawn, abs=0.01)
    by_frequency = label_ranking_average_precision_score(has, np.tile(labels.sum(axis=0), (len(has), 1)))
    assert found["largest_class"] == pytest.approx(by_frequency)
    assert values[0] > by_frequency


def test_a_comparison_says_what_it_measured(compared):
    work, found = compared
    said = (
        f"They are compared by label ranking average precision (LRAP): ranking the labels at random gives "
        f"{found['chance']:.1%}, by how frequent they are {found['largest_class']:.1%}."
    )
    page, preset = (work / "out" / "report.html").read_text(), (work / "out" / "best.toml").read_text()
    assert said in found["summary"]
    assert said in page
    assert "in 3 labels; 2 rounds" in found["summary"]
    assert "head             LRAP  95 %" in found["summary"]
    assert "<th>Label ranking average precision</th>" in page
    assert "Label ranking average precision with at most so many texts of each label" in page
    assert "# Cross-validated label ranking average precision " in preset
    for text in (found["summary"], preset, page.split("<script")[0]):
        assert "ccuracy" not in text
        assert "class" not in text.lower().replace('class="', "").replace("class of", "")


def test_the_best_keeps_how_to_decide(compared):
    work, found = compared
    best = parse_train([str(work / "out" / "best.toml")]).config
    assert best.head.threshold == 0.4
    assert best.head.hidden == ((4,) if found["candidates"][0]["head"] == "small" else ())


def test_a_comparison_refuses_to_reject(compared, tmp_path):
    flags = ["--output", str(tmp_path / "out"), "--evaluation.reject", "0.9"]
    command = parse_compare([str(compared[0] / "grid.toml"), *flags])
    with pytest.raises(ConfigError, match=r"^evaluation\.reject: expected none in a comparison"):
        compare(command.config, command.grid, command.output)
