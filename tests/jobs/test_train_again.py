"""An artifact that is made again by its sidecar: the same bytes, or a word on what differs."""

import copy
import dataclasses
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

import golem_ray
from golem_ray.config import TrainConfig
from golem_ray.config.presets import config_from_dict
from golem_ray.errors import ConfigError
from golem_ray.jobs.origin import Origin
from tests.conftest import write_encoder


@pytest.mark.parametrize("address", ["none", pytest.param("auto", marks=pytest.mark.slow)])
def test_the_sidecar_makes_the_same_bytes_again_and_so_do_two_actors(
    request, trained_on_fifty, fifty_clips, encoder_folder, tmp_path, address
):
    if address == "auto":
        request.getfixturevalue("shared_ray")
    path, _ = trained_on_fifty
    sidecar = json.loads(path.with_suffix(".json").read_text())
    again = copy.deepcopy(sidecar)
    moved, encoder = shutil.copytree(fifty_clips, tmp_path / "moved"), shutil.copytree(encoder_folder, tmp_path / "enc")
    again["config"]["dataset"]["name"] = str(moved)  # the same files elsewhere are the same input
    again["config"]["model"]["feature_extractor_model"] = str(encoder)
    again["config"]["cluster"] |= {"address": address, "workers": 2}
    again["config"]["paths"]["save_path"] = str(tmp_path / "out" / path.name)
    golem_ray.train(again)
    assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
    found = json.loads((tmp_path / "out" / path.name).with_suffix(".json").read_text())
    assert found["config"] == again["config"]
    back = json.dumps(found).replace(str(moved), str(fifty_clips)).replace(str(encoder), str(encoder_folder))
    expected = {**sidecar, "config": None, "timings": None}
    assert {**json.loads(back), "config": None, "timings": None} == expected


def test_an_artifact_is_not_made_again_from_other_things_unless_that_is_allowed(
    tested_on_itself, clips_folder, encoder_folder, tmp_path
):
    sidecar = copy.deepcopy(tested_on_itself.sidecar)
    sidecar["config"]["evaluation"]["split"] = None
    del sidecar["data"]["evaluation_sha256"]
    sidecar["config"]["paths"]["save_path"] = str(tmp_path / "again.pth")
    clips = shutil.copytree(clips_folder, tmp_path / "set")
    shutil.move(clips / "clips" / "3.wav", clips / "clips" / "4.wav")
    shutil.copy(clips / "clips" / "0.wav", clips / "clips" / "3.wav")
    sidecar["config"]["dataset"]["name"] = str(clips)
    sidecar["config"]["model"]["feature_extractor_model"] = str(write_encoder(tmp_path / "enc", seed=1))
    sidecar["versions"]["torch"] = "1.0"
    with pytest.raises(ConfigError) as error:
        golem_ray.train(sidecar)
    for words in ("versions.torch: '1.0' then", "encoder.sha256:", "data.sha256:", "--allow-drift"):
        assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "again.pth").exists()
    sidecar["config"]["model"]["feature_extractor_model"] = str(encoder_folder)  # whose vectors are kept
    golem_ray.train(sidecar, allow_drift=True)
    drifted = json.loads((tmp_path / "again.json").read_text())
    assert drifted["weights"]["sha256"] != sidecar["weights"]["sha256"]
    assert drifted["data"]["sha256"] != sidecar["data"]["sha256"]


def test_an_artifact_is_made_again_from_the_commits_that_it_records():
    config = config_from_dict({"model": {"revision": "mine"}})
    sidecar = {
        "config": dataclasses.asdict(TrainConfig()),
        "data": {"revision": "d" * 40},
        "encoder": {"revision": "e" * 40},
    }
    pinned = Origin(sidecar, False).pinned(config)
    assert (pinned.dataset.revision, pinned.model.revision) == ("d" * 40, "mine")
    assert Origin(sidecar, False).pinned(TrainConfig()).model.revision == "e" * 40
    other = config_from_dict({"dataset": {"name": "other/set"}})
    assert Origin(sidecar, False).pinned(other).dataset.revision is None


def test_another_kind_of_processor_is_named(monkeypatch):
    recorded = {"encoder": {"sha256": "e"}, "data": {}, "versions": {}, "gpu": True}
    current = {"encoder": {"name": "moved", "sha256": "e"}}
    monkeypatch.setattr("golem_ray.jobs.origin.provenance", lambda *arguments: copy.deepcopy(current))

    def check(gpu: bool) -> None:
        Origin(recorded, allow_drift=False).check(SimpleNamespace(), SimpleNamespace(), np.zeros(0, "S32"), gpu)

    check(gpu=True)
    with pytest.raises(ConfigError, match=r"\(gpu: True then, False now\)"):
        check(gpu=False)
