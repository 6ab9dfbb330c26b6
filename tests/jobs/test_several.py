"""Trainings on examples with several labels each, or none: what they save and say, however they are run."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

import golem_ray
from golem_ray import artifact
from golem_ray.errors import ConfigError, DataError
from tests.conftest import write_clips
from tests.jobs.several import NAMES, rows, run_on_texts, sidecar_of, write_texts


def as_table(labels: list[list[str]], names: tuple[str, ...] = NAMES) -> np.ndarray:
    return np.array([[name in each for name in names] for each in labels])


def test_the_sidecar_of_a_run_with_a_split_to_test_on(trained_on_several):
    _, path, result = trained_on_several
    sidecar, train = sidecar_of(path), as_table([row["label"] for row in rows(60, 1)])
    assert (sidecar["target"], sidecar["labels"], sidecar["modality"]) == ("multi-label", list(NAMES), "text")
    assert sidecar["clips"]["per_class"] == dict(zip(NAMES, train.sum(axis=0).tolist(), strict=True))
    assert sidecar["clips"]["used"] == sidecar["clips"]["total"] == 60  # also those without a label
    metrics = sidecar["metrics"]
    calibration = metrics["calibration"]
    assert calibration["num_clips"] == 60
    assert [len(calibration[key]) for key in ("slopes", "intercepts", "thresholds", "least")] == [3] * 4
    assert metrics["cross_validation"]["num_clips"] == 60
    assert set(metrics["cross_validation"]["figures"]) >= {"macro_f1", "mean_average_precision", "accuracy"}
    assert metrics["cross_validation"]["baseline"]["figures"].keys() == metrics["cross_validation"]["figures"].keys()
    assert metrics["largest_class"] == np.unique(train, axis=0, return_counts=True)[1].max() / 60
    scores = metrics["evaluation"]
    assert (scores["how"], scores["num_clips"], scores["num_also_trained_on"]) == ("test", 30, 0)
    assert list(scores["baselines"]) == ["always", "chance", "tf_idf", "at_half"]
    for plain in (scores["baselines"]["tf_idf"], metrics["cross_validation"]["baseline"]["figures"]):
        assert plain["macro_f1"]["value"] > 0.7  # the words tell, each text's its own
    assert [record["label"] for record in scores["per_class"]] == list(NAMES)
    saved = artifact.load(str(path))
    assert saved.target.name == "multi-label"
    for words in ("in 3 labels", "macro F1", "On the 30 texts of test", "TF-IDF"):
        assert words in result["summary"]
    assert "temperature" not in result["summary"]
    assert (path.parent / "report.html").stat().st_size > 1e6


def test_its_figures_are_those_of_what_it_predicts_and_plain_pytorch_predicts_the_same(trained_on_several):
    _, path, _ = trained_on_several
    sidecar, tested = sidecar_of(path), rows(30, 2)
    classifier = golem_ray.load(path)
    found = classifier.predict([row["text"] for row in tested])
    said, truth = as_table([each.labels for each in found]), as_table([row["label"] for row in tested])
    figures = sidecar["metrics"]["evaluation"]["figures"]
    assert figures["macro_f1"]["value"] == pytest.approx(f1_score(truth, said, average="macro"))
    assert figures["accuracy"]["value"] == pytest.approx((truth == said).all(axis=1).mean())
    half = sidecar["metrics"]["evaluation"]["baselines"]["at_half"]
    probabilities = np.array([[each.probabilities[name] for name in NAMES] for each in found])
    assert half["macro_f1"]["value"] == pytest.approx(f1_score(truth, probabilities >= 0.5, average="macro"))
    head, calibration = torch.nn.Linear(classifier.artifact.document["head"]["in_features"], 3), sidecar["metrics"]
    head.load_state_dict(torch.load(path, weights_only=True))
    logits = head(torch.tensor(classifier.embed([classifier._read(row["text"], {}) for row in tested])))
    least = calibration["calibration"]["least"]
    plain = [[name for name, logit, low in zip(NAMES, row, least, strict=True) if logit >= low] for row in logits]
    assert [sorted(each.labels) for each in found] == plain


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of one split of 40 texts."""
    return write_texts(tmp_path_factory.mktemp("texts") / "set", train=rows(40, 1))


def test_some_are_held_out_with_no_author_on_both_sides(texts, tmp_path):
    path = tmp_path / "v.pth"
    result = golem_ray.train(run_on_texts(texts, path, evaluation={"holdout": 10, "group_column": "author"}))
    scores = sidecar_of(path)["metrics"]["evaluation"]
    assert 5 <= scores["num_clips"] <= 15
    assert scores["num_of_groups_trained_on"] == 0
    assert "held out (no author of theirs was trained on)" in result["summary"]
    assert "no author on both sides of a fold" in result["summary"]
    plain = tmp_path / "plain.pth"
    golem_ray.train(run_on_texts(texts, plain, evaluation={"holdout": 10}))
    scores = sidecar_of(plain)["metrics"]["evaluation"]
    assert (scores["num_clips"], scores["how"]) == (10, "held out")
    assert sidecar_of(plain)["clips"]["used"] == 30
    assert list(scores["baselines"]) == ["always", "chance", "tf_idf", "at_half"]


def test_folds_keep_authors_together(texts, tmp_path, monkeypatch):
    seen: list[Any] = []
    from golem_ray.heads import cross_validate

    plain = cross_validate.validation_metrics
    monkeypatch.setattr(
        "golem_ray.heads.train_head.validation_metrics",
        lambda *given, **how: seen.append(given) or plain(*given, **how),
    )
    golem_ray.train(run_on_texts(texts, tmp_path / "v.pth", evaluation={"group_column": "author"}))
    (rounds, *_), authors = seen[0], np.array([row["author"] for row in rows(40, 1)])
    assert len(rounds.folds) == 5
    for train, test in rounds.folds:
        assert not {*authors[train]} & {*authors[test]}


def test_a_threshold_that_is_configured_and_at_least_one_are_recorded_and_kept_by_what_is_chosen(texts, tmp_path):
    head = {"kind": "auto", "threshold": 0.3, "atLeastOne": True}
    path = tmp_path / "v.pth"
    result = golem_ray.train(run_on_texts(texts, path, head=head))
    sidecar = sidecar_of(path)
    assert sidecar["metrics"]["calibration"]["thresholds"] == [0.3] * 3
    assert sidecar["metrics"]["calibration"]["at_least_one"] is True
    assert sidecar["config"]["head"]["kind"] in ("gradient", "logistic")
    assert (sidecar["config"]["head"]["threshold"], sidecar["config"]["head"]["at_least_one"]) == (0.3, True)
    choice = sidecar["metrics"]["choice"]
    assert choice["measure"] == "label ranking average precision"
    assert f"taken was {choice['chosen']}: cross-validated label ranking average precision" in result["summary"]
    found = golem_ray.load(path).predict([row["text"] for row in rows(30, 2)])
    assert all(each.labels for each in found)
    assert {len(each.labels) for each in found} > {1}


def test_every_way_to_say_the_labels_gives_the_same_classifier(texts, tmp_path):
    lines = rows(40, 1)
    ways = {
        "separated": (lambda each: {"label": ";".join(each)}, {"label_separator": ";"}),
        "bracketed": (lambda each: {"label": f"[{' '.join(each)}]"}, {}),
        "columns": (lambda each: {name: int(name in each) for name in NAMES}, {"label_columns": list(NAMES)}),
        "mapped": (
            lambda each: {"label": [f"_{name}" for name in each] + ["dull"]},
            {"label_map": {**{f"_{name}": name for name in NAMES}, "dull": ""}},
        ),
    }
    golem_ray.train(run_on_texts(texts, tmp_path / "v.pth"))
    expected = (tmp_path / "v.pth").read_bytes()
    for name, (cells, keys) in ways.items():
        table = [{"text": line["text"], **cells(line["label"])} for line in lines]
        place, path = tmp_path / f"{name}.csv", tmp_path / f"{name}.pth"
        if name == "mapped":
            place = write_texts(tmp_path / name, train=table)
        else:
            with place.open("w", newline="") as file:
                writer = csv.DictWriter(file, list(table[0]))
                writer.writeheader()
                writer.writerows(table)
        golem_ray.train(run_on_texts(place, path, dataset=keys))
        assert path.read_bytes() == expected, name
        assert sidecar_of(path)["labels"] == list(NAMES)


def test_a_run_is_made_again_from_its_sidecar(texts, tmp_path):
    head = {"hidden": [6, 4], "dropout": [0.2, 0.0], "normalization": "batch", "class_weights": [2.0, 0.5]}
    training = {"optimizer": "sgd", "batch_size": 16, "learning_rate": 0.1}
    path = tmp_path / "v.pth"
    dataset = {"label_map": {"anger": "bad", "fear": "bad", "joy": "good"}}
    golem_ray.train(run_on_texts(texts, path, head=head, training=training, dataset=dataset))
    sidecar, first = sidecar_of(path), path.read_bytes()
    assert sidecar["labels"] == ["bad", "good"]
    golem_ray.train(sidecar)
    assert path.read_bytes() == first
    assert sidecar["head"]["normalization"] == "batch"
    found = golem_ray.load(path).predict([row["text"] for row in rows(30, 2)])
    assert {name for each in found for name in each.labels} == {"bad", "good"}
    changed = write_texts(
        tmp_path / "changed", train=[{**row, "label": []} if n == 3 else row for n, row in enumerate(rows(40, 1))]
    )
    sidecar["config"]["dataset"]["name"] = str(changed)
    with pytest.raises(ConfigError, match="sha256"):
        golem_ray.train(sidecar)


def test_labels_that_are_not_known_are_no_labels_of_a_text_that_can_be_used(texts, tmp_path):
    lines = rows(40, 1)
    lines[3]["label"] = ["joy", None]
    folder = write_texts(tmp_path / "set", train=lines)
    with pytest.raises(
        DataError, match=r"at most 0 of 40 texts .*text 3: no label, or one that the source does not name"
    ):
        golem_ray.train(run_on_texts(folder, tmp_path / "v.pth"))
    golem_ray.train(run_on_texts(folder, tmp_path / "v.pth", processing={"max_bad_fraction": 0.1}))
    clips = sidecar_of(tmp_path / "v.pth")["clips"]
    assert (clips["used"], [each["id"] for each in clips["bad"]]) == (39, [3])


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (
            {"evaluation": {"reject": 0.9}},
            r"evaluation\.reject: expected none where an example may have several labels",
        ),
        ({"evaluation": {"reject": "unlike"}}, r"evaluation\.reject: expected none where an example may have several"),
        ({"head": {"class_weights": [1.0]}}, r"head\.class_weights: expected 3 numbers, one for each of anger, fear"),
    ],
    ids=["precision", "unlike", "weights"],
)
def test_what_does_not_go_with_several_labels_is_refused_before_the_work(texts, tmp_path, keys, said):
    with pytest.raises(ConfigError, match=said) as error:
        golem_ray.train(run_on_texts(texts, tmp_path / "v.pth", **keys))
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_run_goes_on_in_its_folder(texts, tmp_path):
    paths = {"run_dir": str(tmp_path / "run")}
    config = run_on_texts(texts, tmp_path / "v.pth", paths=paths)
    golem_ray.train(config)
    first = (tmp_path / "v.pth").read_bytes()
    assert sidecar_of(tmp_path / "v.pth")["timings"]["tokens_embedded"] > 0
    golem_ray.train(config)
    assert (tmp_path / "v.pth").read_bytes() == first
    assert sidecar_of(tmp_path / "v.pth")["timings"]["tokens_embedded"] == 0
    more = write_texts(tmp_path / "more", train=rows(41, 1))
    with pytest.raises(ConfigError, match=r"paths\.run_dir: "):
        golem_ray.train(run_on_texts(more, tmp_path / "v.pth", paths=paths))


def test_more_texts_than_are_gathered_give_the_same_head_and_figures(texts, tmp_path):
    found = []
    for number, limit in enumerate((1000, 20)):
        path = tmp_path / f"{number}.pth"
        changes = {"cluster": {"gather_limit": limit}, "evaluation": {"holdout": 10, "group_column": "author"}}
        golem_ray.train(run_on_texts(texts, path, paths={"run_dir": str(tmp_path / str(number))}, **changes))
        found.append((torch.load(path, weights_only=True), sidecar_of(path)["metrics"]))
    (one, gathered), (other, streamed) = found
    assert torch.allclose(one["weight"], other["weight"], atol=1e-5)
    for part in ("evaluation", "cross_validation"):
        for figure, value in gathered[part]["figures"].items():
            assert streamed[part]["figures"][figure]["value"] == pytest.approx(value["value"], abs=1e-3), figure
    assert streamed["calibration"]["thresholds"] == pytest.approx(gathered["calibration"]["thresholds"], abs=1e-3)


def test_texts_beyond_memory_train_a_head_with_dropout_and_batch_normalization(texts, tmp_path):
    head = {"hidden": [8], "dropout": 0.2, "normalization": "batch", "standardize": True}
    config = run_on_texts(texts, tmp_path / "t.pth", head=head, training={"batch_size": 32, "epochs": 20})
    config["cluster"]["gather_limit"] = 11
    config["paths"]["run_dir"] = str(tmp_path / "run")
    golem_ray.train(config)
    scores = sidecar_of(tmp_path / "t.pth")["metrics"]["cross_validation"]
    assert scores["figures"]["mean_average_precision"]["value"] > 0.7
    assert golem_ray.load(str(tmp_path / "t.pth")).predict("рад, радость, смех").labels == ("joy",)


def test_clips_may_have_several_labels_too(tmp_path, encoder_folder):
    labels = ["low;high", "low", "high", "", "low;high", "high"] * 5
    clips = write_clips(tmp_path / "set", labels, seconds=0.1)
    changes = {"dataset": {"label_separator": ";"}, "processing": {"max_samples": "all"}, "evaluation": {"holdout": 8}}
    config = run_on_texts(clips, tmp_path / "v.pth", **changes)
    del config["dataset"]["text_column"]
    config["model"]["feature_extractor_model"] = str(encoder_folder)
    golem_ray.train(config)
    sidecar = sidecar_of(tmp_path / "v.pth")
    assert (sidecar["target"], sidecar["labels"]) == ("multi-label", ["high", "low"])
    scores = sidecar["metrics"]["evaluation"]
    assert scores["num_clips"] == 8
    assert list(scores["baselines"]) == ["always", "chance", "log_mel", "at_half"]
    found = golem_ray.load(tmp_path / "v.pth").predict(clips / "clips" / "0.wav")
    assert set(found.labels) <= {"high", "low"}


def test_texts_in_memory_have_lists_tuples_or_sets_of_labels(texts, tmp_path):
    lines = rows(40, 1)
    quick = {"training": {"epochs": 40}, "evaluation": {"repeats": 1}}
    golem_ray.train(run_on_texts(texts, tmp_path / "v.pth"))
    given = [row["text"] for row in lines]
    for kind in (list, tuple, set):
        classifier = golem_ray.train(quick, texts=given, labels=[kind(row["label"]) for row in lines])
        assert classifier.artifact.weights == (tmp_path / "v.pth").read_bytes()
    found = classifier.evaluate([row["text"] for row in rows(30, 2)], [row["label"] for row in rows(30, 2)])
    assert found["num_clips"] == 30
    assert found["figures"]["macro_f1"]["value"] > 0.6
    with pytest.raises(ConfigError, match="labels: expected a list of names for each, found a str beside lists"):
        golem_ray.train(quick, texts=given, labels=["joy", *(row["label"] for row in lines[1:])])
