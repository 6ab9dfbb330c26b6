"""What the training job refuses before its work: one line each, exit status 2, and nothing is written."""

import os

import pyarrow as pa
import pytest

import golem_ray
from golem_ray.config import TrainConfig
from golem_ray.data import labels as data_labels
from golem_ray.data.table import Source
from golem_ray.errors import ConfigError, DataError
from tests.conftest import job
from tests.jobs.runs import configuration


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": {"classifier_output_classes": 14}}, "model.classifier_output_classes: expected 4, .* got 14"),
        ({"model": {"classifier_input_features": 768}}, "model.classifier_input_features: expected 32, .* got 768"),
        ({"processing": {"target_sampling_rate": 8000}}, "processing.target_sampling_rate: expected 16000"),
        ({"paths": {"save_path": "/proc/no/v.pth"}}, "paths.save_path: expected to be able to write"),
        ({"dataset": {"label_column": "intent"}}, "dataset.label_column: .* it has file_name, label"),
        ({"processing": {"max_samples": 1}}, "processing.max_samples: expected usable clips of at least two classes"),
    ],
)
def test_what_cannot_work_is_one_line_and_writes_nothing(clips_folder, encoder_folder, tmp_path, changes, words):
    with pytest.raises((ConfigError, DataError), match=words) as error:
        golem_ray.train(configuration(clips_folder, encoder_folder, tmp_path / "v.pth", **changes))
    assert "\n" not in str(error.value)
    assert os.listdir(tmp_path) == []


def test_one_class_is_nothing_to_learn():
    source = Source(examples=pa.table({"label": [0, 0]}), labels=("only",))
    with pytest.raises(DataError, match=r"expected at least two classes in .*, found 1 \(only\)"):
        data_labels.check_classes(TrainConfig(), source)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["absent.toml"], "error: absent.toml: expected a preset"),
        (["--training.epochs", "0"], "error: training.epochs: expected a positive number, got 0."),
        (["--dataset.name", "/no/folder", "--model.feature-extractor-model", "/no/encoder"], "error: model.feature"),
    ],
)
def test_a_wrong_command_ends_with_status_2_and_one_line(command, tmp_path, arguments, words):
    done = command("train", *arguments, "--paths.save-path", tmp_path / "v.pth")
    assert (done.status, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert line.startswith(words)
    assert os.listdir(tmp_path) == []


def test_a_layer_that_the_encoder_lacks_ends_the_job_before_it_embeds(clips_folder, tmp_path, encoder_folder):
    config = configuration(clips_folder, encoder_folder, tmp_path / "v.pth", model={"layer": 3})
    with pytest.raises(ConfigError, match=r"model\.layer: expected 0 to 2, the blocks of .*, got 3"):
        golem_ray.train(config)
    width = configuration(
        clips_folder, encoder_folder, "v.pth", model={"pooling": "mean+std", "classifier_input_features": 32}
    )
    with pytest.raises(ConfigError, match=r"model\.classifier_input_features: expected 64"):
        golem_ray.train(width)


def test_a_split_to_test_on_that_is_not_there_ends_the_job_before_it_embeds(clips_folder, tmp_path, encoder_folder):
    config = configuration(clips_folder, encoder_folder, tmp_path / "v.pth", evaluation={"split": "absent"})
    with pytest.raises(DataError, match=r"evaluation\.split.*'absent'"):
        golem_ray.train(config)


def test_more_workers_than_the_cluster_has_are_refused(shared_ray, clips_folder, encoder_folder, tmp_path):
    config = configuration(clips_folder, encoder_folder, tmp_path / "v.pth", cluster={"address": "auto", "workers": 9})
    with pytest.raises(ConfigError, match=r"cluster\.workers: expected at most 2") as error:
        golem_ray.train(config)
    assert "\n" not in str(error.value)
    assert os.listdir(tmp_path) == []


def test_the_commands_own_process_ends_with_status_2_and_one_line(clips_folder, encoder_folder, tmp_path):
    arguments = ["--cluster.address", "127.0.0.1:1", "--paths.save-path", tmp_path / "v.pth"]
    arguments += ["--dataset.name", clips_folder, "--dataset.label-column", "label"]
    done = job("train", *arguments, "--model.feature-extractor-model", encoder_folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.strip().splitlines()[-1].startswith("error: cluster.address: expected a Ray")
    assert "Traceback" not in done.stderr
    assert os.listdir(tmp_path) == []
