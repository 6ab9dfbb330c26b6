"""What a run may choose: the head, the layer, and where the report goes."""

import json
import os

import numpy as np
import pytest
import torch

import golem_ray
from golem_ray import artifact
from golem_ray.artifact.model_card import model_card
from golem_ray.config import ClusterConfig, PredictConfig
from golem_ray.errors import ConfigError
from golem_ray.jobs.evaluate import evaluate_artifact
from golem_ray.jobs.predict import predict
from tests.conftest import audio_bytes
from tests.jobs.runs import configuration, on, write_splits


def test_the_report_is_written_beside_the_artifact_or_where_it_is_wanted(kept, clips_folder, tmp_path, encoder_folder):
    beside = {"embedding_cache": kept, "save_path": str(tmp_path / "a" / "v.pth")}
    golem_ray.train(configuration(clips_folder, encoder_folder, "", paths=beside))
    assert sorted(os.listdir(tmp_path / "a")) == ["report.html", "v.json", "v.pth"]
    elsewhere = {**beside, "save_path": str(tmp_path / "b" / "v.pth"), "report_path": str(tmp_path / "page.html")}
    golem_ray.train(configuration(clips_folder, encoder_folder, "", paths=elsewhere))
    assert sorted(os.listdir(tmp_path / "b")) == ["v.json", "v.pth"]
    assert (tmp_path / "page.html").read_bytes() == (tmp_path / "a" / "report.html").read_bytes()
    (tmp_path / "page.html").write_text("mine")
    with pytest.raises(ConfigError, match=r"paths\.report_path: expected room for the report, found another page"):
        golem_ray.train(configuration(clips_folder, encoder_folder, "", paths=elsewhere))


@pytest.mark.parametrize(
    "head",
    [{"kind": "logistic"}, {"hidden": [8, 4], "layerNorm": True, "dropout": 0.2, "activation": "gelu", "patience": 20}],
)
def test_other_heads_are_saved_described_made_again_and_used(kept, clips_folder, tmp_path, encoder_folder, head):
    paths = {"embedding_cache": kept}
    golem_ray.train(configuration(clips_folder, encoder_folder, tmp_path / "v.pth", head=head, paths=paths))
    sidecar = json.loads((tmp_path / "v.json").read_text())
    assert sidecar["head"]["kind"] == ("mlp" if "hidden" in head else "linear")
    first = (tmp_path / "v.pth").read_bytes()
    golem_ray.train(sidecar)
    assert (tmp_path / "v.pth").read_bytes() == first
    classifier = golem_ray.load(tmp_path / "v.pth")
    files = [clips_folder / "clips" / f"{row}.wav" for row in range(24)]
    right = [
        each.label == ("north", "east", "south", "west")[row % 4] for row, each in enumerate(classifier.predict(files))
    ]
    assert np.mean(right) == pytest.approx(sidecar["metrics"]["training_accuracy"])
    if "hidden" not in head:
        assert sorted(torch.load(tmp_path / "v.pth", weights_only=True)) == ["bias", "weight"]


def test_a_chosen_layer_is_recorded_made_again_and_used(clips_folder, tmp_path, encoder_folder, caplog):
    changes = {
        "model": {"layer": "auto", "pooling": "mean+std"},
        "evaluation": {"holdout": 4},
        "training": {"epochs": 20},
        "paths": {"embedding_cache": str(tmp_path / "cache")},
    }
    result = golem_ray.train(configuration(clips_folder, encoder_folder, tmp_path / "v.pth", **changes))
    sidecar = json.loads((tmp_path / "v.json").read_text())
    chosen = sidecar["encoder"]["layer"]
    scores = {each["layer"]: each["accuracy"] for each in sidecar["metrics"]["choice"]["candidates"]}
    assert set(scores) == {0, 1, "last", "mean"}
    assert scores[chosen] == max(scores.values()) or chosen == "last"
    taken = f"Of 4 candidates, taken was {encoder_folder}, layer {chosen}, mean+std, configured"
    assert f"{taken}: cross-validated accuracy {scores[chosen]:.1%}" in result["summary"]
    assert "the choice made anew in each" in result["summary"]
    assert sidecar["config"]["model"]["layer"] == chosen
    assert sidecar["head"]["in_features"] == 64
    assert '"layers": {"data"' in (tmp_path / "report.html").read_text()
    first = (tmp_path / "v.pth").read_bytes()
    golem_ray.train(sidecar)
    assert (tmp_path / "v.pth").read_bytes() == first

    classifier = golem_ray.load(tmp_path / "v.pth")
    files = [clips_folder / "clips" / f"{row}.wav" for row in range(24)]
    names = [each.label for each in classifier.predict(files)]
    right = np.array([name == ("north", "east", "south", "west")[row % 4] for row, name in enumerate(names)])
    accuracies = (
        sidecar["metrics"]["training_accuracy"],
        sidecar["metrics"]["evaluation"]["figures"]["accuracy"]["value"],
    )
    assert right.sum() == round(20 * accuracies[0] + 4 * accuracies[1])


@pytest.fixture
def tones(tmp_path):
    """Twelve clips each of four pitches to train on, and six to test on."""
    pitches = ["300", "600", "1200", "2400"]
    return write_splits(tmp_path / "tones", pitches * 12, pitches * 6)


def test_what_auto_chose_is_written_resolved_made_again_and_used(tones, tmp_path, encoder_folder):
    changes = {"evaluation": {"split": "test", "repeats": 1}, "training": {"epochs": 20}}
    config = configuration(tones, encoder_folder, tmp_path / "v.pth", **changes)
    result = golem_ray.train(config, auto=True)
    sidecar = json.loads((tmp_path / "v.json").read_text())
    assert '"auto"' not in json.dumps([sidecar["config"]["model"]["layer"], sidecar["config"]["head"]])
    choice = sidecar["metrics"]["choice"]
    assert choice["plain"] == f"{encoder_folder}, layer last, mean, linear"
    assert {row["head"] for row in choice["candidates"]} == {"linear", "logistic"}  # of so few clips
    assert {row["layer"] for row in choice["candidates"]} == {0, 1, "last", "mean"}
    assert {row["join_baseline"] for row in choice["candidates"]} == {False, True}
    assert choice["second"] in {row["name"] for row in choice["candidates"]} - {choice["chosen"]}
    assert f"taken was {choice['chosen']}" in result["summary"]
    assert sidecar["encoder"]["trim_silence"] is True
    assert sidecar["config"]["processing"]["trim_silence"] is True

    first = (tmp_path / "v.pth").read_bytes()
    assert "choice" not in json.loads(json.dumps(sidecar["config"]))
    golem_ray.train(sidecar)
    assert (tmp_path / "v.pth").read_bytes() == first
    accuracy = sidecar["metrics"]["evaluation"]["figures"]["accuracy"]["value"]
    found = golem_ray.load(tmp_path / "v.pth").predict([tones / "test" / f"{row}.wav" for row in range(24)])
    labels = ["300", "600", "1200", "2400"] * 6
    right = [each.label == label for each, label in zip(found, labels, strict=True)]
    assert np.mean(right) == pytest.approx(accuracy)


def test_flags_that_are_given_are_left_alone_by_auto(tones, tmp_path, encoder_folder):
    model = {"layer": 1, "join_baseline": True}
    config = configuration(tones, encoder_folder, tmp_path / "v.pth", model=model, training={"epochs": 5})
    golem_ray.train({**config, "head": {"kind": "logistic"}}, auto=True)
    rows = json.loads((tmp_path / "v.json").read_text())["metrics"]["choice"]["candidates"]
    assert {(row["layer"], row["join_baseline"], row["head"]) for row in rows} == {(1, True, "configured")}
    assert {row["pooling"] for row in rows} == {"mean", "mean+std"}


@pytest.mark.parametrize("wanted", [0.6, "unlike"])
def test_what_is_rejected_is_said_alike_by_every_way_to_use_a_classifier(tones, tmp_path, encoder_folder, wanted):
    changes = {"evaluation": {"split": "test", "repeats": 2, "reject": wanted}, "training": {"epochs": 20}}
    summary = golem_ray.train(configuration(tones, encoder_folder, tmp_path / "v.pth", **changes))["summary"]
    metrics = json.loads((tmp_path / "v.json").read_text())["metrics"]
    rejected, page = metrics["evaluation"]["rejected"], (tmp_path / "report.html").read_text()
    assert rejected["coverage"]["value"] > 0
    assert "is called `unsure`" in summary
    assert f"it names {rejected['coverage']['value']:.1%}" in summary
    assert ">If it may be unsure</h2>" in page
    assert '"coverage": {"data"' in page
    assert "is called `unsure`" in page

    saved, files = artifact.load(str(tmp_path / "v.pth")), [str(tones / "test" / f"{row}.wav") for row in range(24)]
    odd = tmp_path / "odd.wav"
    odd.write_bytes(audio_bytes(np.random.default_rng(0).standard_normal(4000).astype(np.float32) * 0.3))
    rows = list(predict(saved, [*files, str(odd)], PredictConfig(cluster=ClusterConfig(address="none"))))
    in_python = golem_ray.load(tmp_path / "v.pth").predict([*files, odd])
    assert [row["label"] == "unsure" for row in rows] == [each.unsure for each in in_python]
    assert [row["likeliest"] for row in rows] == [each.label for each in in_python]
    named = [not each.unsure for each in in_python[:24]]
    assert np.mean(named) == pytest.approx(rejected["coverage"]["value"])
    labels = ["300", "600", "1200", "2400"] * 6
    right = [each.label == label for each, label in zip(in_python, labels, strict=False)]
    assert np.mean([right[row] for row in range(24) if named[row]]) == pytest.approx(rejected["precision"]["value"])
    if wanted == "unlike":
        assert in_python[24].unsure
    freely = predict(saved, [*files, str(odd)], PredictConfig(threshold=0.0, cluster=ClusterConfig(address="none")))
    assert [row["label"] for row in freely] == [each.label for each in in_python]

    config = on(tones / "test", report=str(tmp_path / "e.html"), cluster=ClusterConfig(address="none"))
    found = evaluate_artifact(saved, config)
    assert found["rejected"] == rejected
    assert f"It names {rejected['coverage']['value']:.1%}" in found["summary"]
    for each in (page, (tmp_path / "e.html").read_text()):
        assert f"Of the clips of this page it names {rejected['coverage']['value']:.1%}" in each
    assert "`golem_ray` calls a clip `unsure`" in model_card(saved.document, "me/tones")


def test_a_precision_that_nothing_shows_leaves_every_clip_unsure(tones, tmp_path, encoder_folder):
    evaluation = {"repeats": 1, "reject": 0.99, "split": "test"}
    changes = {"evaluation": evaluation, "training": {"epochs": 1, "learning_rate": 1e-6}}
    summary = golem_ray.train(configuration(tones, encoder_folder, tmp_path / "v.pth", **changes))["summary"]
    assert "It is not known where 99% of the labels are right" in summary
    assert "It takes 268 cross-validated clips to show it" in summary
    assert (tmp_path / "report.html").read_text().count(", unsure</td>") > 1
    classifier = golem_ray.load(tmp_path / "v.pth")
    assert classifier.predict(tones / "test" / "0.wav").unsure
    assert "calls every clip `unsure`" in model_card(classifier.artifact.document, "me/tones")


@pytest.mark.parametrize(
    ("evaluation", "said"),
    [
        (
            {"reject": 1.5},
            r"evaluation\.reject: expected a precision between 0 and 1, such as 0\.9, or 'unlike', got 1\.5",
        ),
        ({"reject": "most"}, r"evaluation\.reject: expected .*'most'"),
        ({"reject": 0.9, "repeats": 0}, r"evaluation\.reject: expected rounds of cross-validation"),
    ],
)
def test_what_cannot_be_rejected_is_said_at_once(evaluation, said):
    with pytest.raises(ConfigError, match=said):
        golem_ray.train({"evaluation": evaluation})


def test_of_two_classes_none_can_be_unlike_and_that_is_said_before_any_work(tmp_path, encoder_folder):
    two = write_splits(tmp_path / "two", ["300", "600"] * 3, ["300"])
    config = configuration(two, encoder_folder, tmp_path / "v.pth", evaluation={"reject": "unlike"})
    with pytest.raises(ConfigError, match=r"reject: expected three classes or more for 'unlike'.* found 2"):
        golem_ray.train(config)
