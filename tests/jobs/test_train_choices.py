"""What a run may choose: the head, the layer, and where the report goes."""

import json
import os

import numpy as np
import pytest
import torch

import golem_ray
from golem_ray.errors import ConfigError
from tests.jobs.runs import configuration


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
