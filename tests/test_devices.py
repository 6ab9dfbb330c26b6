"""What a process computes on, and how it says so."""

import os

import pytest

from golem_ray.devices import Resources, describe_worker, pick_device, worker_record
from golem_ray.errors import ConfigError

CPU = Resources(workers=1, threads=1, cpus=1, gpu=False, backend="cpu")


def gpu(backend):
    return Resources(workers=1, threads=1, cpus=0, gpu=True, backend=backend)


def test_a_gpu_that_pytorch_cannot_use_is_an_error_only_if_demanded(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert pick_device(CPU) == "cpu"
    assert pick_device(gpu("auto")) == "cpu"
    with pytest.raises(ConfigError, match="device.backend: expected PyTorch to use the GPU"):
        pick_device(gpu("cuda"))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert pick_device(CPU) == "cpu"
    assert pick_device(gpu("cuda")) == "cuda"


def test_a_worker_says_what_it_works_on(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,3")
    assert worker_record(describe_worker(gpu("auto"), "cpu", "slow")) == {"device": "cpu", "gpus": ["1", "3"]}
    assert worker_record(describe_worker(CPU, "cpu")) == {"device": "cpu", "gpus": []}  # given to somebody else
    assert describe_worker(CPU, "cpu", "slow").split("|")[2:] == [str(os.getpid()), "slow"]
