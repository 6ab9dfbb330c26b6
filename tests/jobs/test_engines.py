"""Which engine a job runs on, and what is said of it."""

import dataclasses
import logging

import pytest

from golem_ray.config import NOUNS, ClusterConfig, DeviceConfig
from golem_ray.devices import Resources
from golem_ray.embedding.modality import modality_named
from golem_ray.engine import LocalEngine
from golem_ray.jobs.engines import HANDFUL, announce, opened
from tests.conftest import speech_recipe, write_encoder


def test_an_encoder_that_is_not_exact_in_batches_is_named_on_gpus(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="golem_ray")
    changes = {"num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 3}
    encoder = speech_recipe(write_encoder(tmp_path / "enc", family="data2vec-audio", **changes)).encoder
    resources = Resources(workers=2, threads=1, cpus=0, gpu=True, backend="auto")
    announce("some", 24, encoder, resources, NOUNS["speech"])
    assert caplog.text.count("(data2vec-audio) is not exact in batches: one clip at a time") == 1
    caplog.clear()
    announce("some", 24, encoder, dataclasses.replace(resources, gpu=False), NOUNS["speech"])
    assert "exact" not in caplog.text


@pytest.mark.parametrize(
    ("address", "num_examples", "handful", "variable", "local"),
    [
        ("none", 10**6, 0, None, True),
        ("none", 10**6, 0, "10.0.0.1:6379", True),
        ("auto", HANDFUL, HANDFUL, None, True),
        ("auto", HANDFUL + 1, HANDFUL, None, False),
        ("auto", 1, 0, None, False),
        ("auto", 1, HANDFUL, "10.0.0.1:6379", False),
        ("local", 1, HANDFUL, None, False),
    ],
)
def test_an_engine_is_chosen_by_address_and_number(monkeypatch, address, num_examples, handful, variable, local):
    started = []

    def no_ray(*arguments, **options):
        started.append(options)
        raise InterruptedError

    monkeypatch.setattr("golem_ray.cluster.ray_engine", no_ray)
    if variable:
        monkeypatch.setenv("RAY_ADDRESS", variable)
    outputs = (("paths.run_dir", "/somewhere"),)
    try:
        cluster = ClusterConfig(address=address)
        with opened(
            cluster, DeviceConfig(), modality_named("speech"), num_examples, outputs=outputs, handful=handful
        ) as engine:
            assert isinstance(engine, LocalEngine)
    except InterruptedError:
        assert started == [{"outputs": outputs}]
    assert bool(started) != local
