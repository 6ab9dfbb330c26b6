"""What flags make of the configuration that they change."""

import dataclasses
import json
from pathlib import Path

import pytest

from golem_ray.cli.flags import parse_compare, parse_evaluate, parse_predict, parse_train
from golem_ray.config import DatasetConfig, ModelConfig, TrainConfig
from golem_ray.errors import ConfigError

TRAINED_ON = DatasetConfig(name="me/calls", name_alias="fr-FR", split="test", revision="abc", label_column="label")
ENCODER = ModelConfig(feature_extractor_model="me/encoder", revision="def", layer=3)


@pytest.fixture
def sidecar(tmp_path):
    """An artifact's sidecar, as a preset."""
    config = dataclasses.asdict(TrainConfig(dataset=TRAINED_ON, model=ENCODER))
    document = {"format": "golem_ray.artifact", "format_version": 1, "config": config}
    (tmp_path / "v.json").write_text(json.dumps({**document, "data": {}, "encoder": {}, "versions": {}}))
    return str(tmp_path / "v.json")


@pytest.mark.parametrize("command", ["evaluate", "predict", "train", "compare"])
def test_a_revision_of_one_dataset_does_not_go_along_to_another(command, sidecar, tmp_path):
    grid = str(tmp_path / "grid.json")
    Path(grid).write_text(json.dumps({"dataset": dataclasses.asdict(TRAINED_ON)}))

    def parsed(*flags):
        if command == "train":
            return parse_train([sidecar, *flags]).config.dataset
        if command == "compare":
            return parse_compare([grid, *flags]).config.dataset
        return {"evaluate": parse_evaluate, "predict": parse_predict}[command](
            ["v.pth", *flags], TRAINED_ON
        ).config.dataset

    assert parsed("--dataset.split", "test") == TRAINED_ON
    assert parsed("--dataset.name", "me/calls") == TRAINED_ON
    other = dataclasses.replace(TRAINED_ON, name="me/other", revision=None)
    assert parsed("--dataset.name", "me/other") == parsed("--dataset.name=me/other") == other
    for revision in ("abc", "v2"):
        given = dataclasses.replace(other, revision=revision)
        assert parsed("--dataset.name", "me/other", "--dataset.revision", revision) == given


def test_a_flag_that_people_try_is_answered_with_the_one_that_there_is():
    with pytest.raises(ConfigError, match=r"--encoder: .* did you mean --model\.feature-extractor-model\?"):
        parse_train(["--encoder", "sample"])
    assert parse_predict(["v.pth", "a.wav", "--encoder", "x"], TRAINED_ON).config.encoder == "x"


def test_a_folder_is_no_preset(tmp_path):
    with pytest.raises(ConfigError, match=f"it is a folder; for one of clips: --dataset.name {tmp_path}"):
        parse_train([str(tmp_path)])


def test_a_revision_of_one_encoder_does_not_go_along_to_another(sidecar):
    def parsed(*flags):
        return parse_train([sidecar, *flags]).config.model

    assert parsed("--dataset.name", "me/other") == ENCODER
    other = dataclasses.replace(ENCODER, feature_extractor_model="me/larger", revision=None)
    assert parsed("--model.feature-extractor-model", "me/larger") == other
    given = dataclasses.replace(other, revision="def")
    assert parsed("--model.feature_extractor_model", "me/larger", "--model.revision", "def") == given


def test_auto_and_reject_are_short_for_keys_and_leave_what_is_given():
    plain = parse_train([]).config
    config = parse_train(["--auto", "--reject", "0.9", "--model.layer", "2"]).config
    assert (config.model.layer, config.model.pooling, config.model.join_baseline) == (2, "auto", "auto")
    assert (config.head.kind, config.evaluation.reject) == ("auto", 0.9)
    assert (plain.model.layer, plain.head.kind, plain.evaluation.reject) == ("last", "gradient", None)
    assert parse_train(["--reject", "unlike"]).config.evaluation.reject == "unlike"
    assert parse_train(["--auto", "--head.hidden", "8"]).config.head.hidden == (8,)
    with pytest.raises(ConfigError, match=r"reject: expected a number or 'unlike' or none, got 'surely'"):
        parse_train(["--reject", "surely"])
    with pytest.raises(ConfigError, match=r"--reject: expected either this or --evaluation\.reject"):
        parse_train(["--reject", "0.9", "--evaluation.reject", "unlike"])


def test_a_column_of_texts_may_stand_beside_files():
    command = parse_predict(["v.pth", "mails.csv", "--dataset.text-column", "body"], DatasetConfig())
    assert command.config.dataset.text_column == "body"
