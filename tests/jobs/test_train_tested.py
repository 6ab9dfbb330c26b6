"""What a head is tested on: another split, clips that are held out, or nothing new."""

import json
import shutil

import pytest

import golem_ray
from golem_ray.config.presets import config_from_dict
from golem_ray.errors import ConfigError, DataError
from golem_ray.jobs import train as train_job
from tests.conftest import write_clips
from tests.jobs.runs import configuration, write_splits


def test_the_head_is_tested_on_another_split(tmp_path, encoder_folder):
    """Labels by name, not by number; a class that was not trained on is missed; a clip that was, left out."""
    folder = write_splits(tmp_path / "set", ["200", "800"] * 6, ["100", "800", "200", "800", "200"])
    shutil.copy(folder / "train" / "3.wav", folder / "test" / "3.wav")
    paths = {"embedding_cache": str(tmp_path / "cache")}  # the second run and the third embed nothing
    evaluated = configuration(folder, encoder_folder, tmp_path / "v.pth", evaluation={"split": "test"}, paths=paths)
    result = golem_ray.train(evaluated)
    plain = golem_ray.train(configuration(folder, encoder_folder, tmp_path / "plain.pth", paths=paths))
    assert (tmp_path / "v.pth").read_bytes() == (tmp_path / "plain.pth").read_bytes()
    assert result["summary"].splitlines()[1] == plain["summary"].splitlines()[1]

    sidecar = json.loads((tmp_path / "v.json").read_text())
    scores = sidecar["metrics"]["evaluation"]
    assert (scores["how"], scores["num_clips"], scores["num_also_trained_on"]) == ("test", 4, 1)
    assert scores["figures"]["accuracy"]["value"] == scores["baselines"]["log_mel"]["accuracy"]["value"] == 0.75
    assert scores["unknown_labels"] == {"100": 1}
    assert sidecar["clips"]["total"] == 12
    assert sidecar["labels"] == ["200", "800"]
    assert "Accuracy on the 4 clips of test that were not trained on (1 were) 75.0%" in result["summary"]
    assert "log-mel statistics 75.0%" in result["summary"]

    again = config_from_dict(sidecar["config"])
    train_job.run(again, sidecar=sidecar)  # nothing differs
    shutil.copy(folder / "test" / "1.wav", folder / "test" / "2.wav")
    with pytest.raises(ConfigError, match=r"data\.evaluation_sha256"):
        train_job.run(again, sidecar=sidecar)


def test_nothing_new_to_test_on_still_saves_the_head(tested_on_itself):
    summary, sidecar, _ = tested_on_itself
    assert "Accuracy on the 0 clips of train that were not trained on (24 were): none" in summary
    assert sidecar["metrics"]["evaluation"]["num_clips"] == 0


def test_clips_are_held_out_by_speaker_and_the_sidecar_makes_the_same_head_again(kept, tmp_path, encoder_folder):
    folder = write_clips(tmp_path / "set", ["north", "east"] * 12)  # the files of clips_folder
    lines = (folder / "metadata.csv").read_text().splitlines()
    speakers = [f"speaker-{row // 4}" for row in range(24)]
    rows = [f"{line},{speaker}" for line, speaker in zip(lines[1:], speakers, strict=True)]
    (folder / "metadata.csv").write_text("\n".join([f"{lines[0]},who", *rows]) + "\n")
    evaluation = {"holdout": 8, "group_column": "who"}
    paths = {"embedding_cache": kept}
    result = golem_ray.train(
        configuration(folder, encoder_folder, tmp_path / "v.pth", evaluation=evaluation, paths=paths)
    )
    sidecar = json.loads((tmp_path / "v.json").read_text())
    scores = sidecar["metrics"]["evaluation"]
    assert (scores["how"], scores["num_clips"], sidecar["clips"]["used"]) == ("held out", 8, 16)
    assert "Accuracy on the 8 clips held out (no who of theirs was trained on) " in result["summary"]
    assert "2 x 4 folds over 16 clips, no who on both sides of a fold);" in result["summary"]
    assert "folds over 16 clips, no who on both sides of a fold)" in (tmp_path / "report.html").read_text()
    assert sidecar["metrics"]["cross_validation"]["folds"] == 4  # of the four speakers that are left
    first = (tmp_path / "v.pth").read_bytes()
    assert "v.pth" in golem_ray.train(sidecar)["savedArtifactPath"]
    assert (tmp_path / "v.pth").read_bytes() == first

    plain = configuration(folder, encoder_folder, tmp_path / "plain.pth", evaluation={"group_column": "nobody"})
    with pytest.raises(DataError, match=r"evaluation\.group_column: expected a column .* none called 'nobody'"):
        golem_ray.train(plain)
