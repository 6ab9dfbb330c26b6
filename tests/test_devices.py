"""What a process computes on, and how it says so."""

import contextlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from golem_ray.devices import Resources, describe_worker, pick_device, tf32, worker_record
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


def arithmetic():
    """What PyTorch does on a GPU, by all names that do not contradict each other."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    try:
        older = [matmul.allow_tf32, cudnn.allow_tf32]
    except RuntimeError:
        older = []
    return [*older, matmul.fp32_precision, cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision]


def test_tf32_is_as_wanted_in_the_block_and_as_it_was_after_it():
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    plain = arithmetic()

    def check():
        before = arithmetic()
        for wanted in (True, False):
            with tf32(wanted):
                assert [matmul.allow_tf32, cudnn.allow_tf32] == [wanted, wanted]
            assert arithmetic()[-3:] == before[-3:]
            with pytest.raises(MemoryError), tf32(wanted):
                raise MemoryError
            assert arithmetic()[-3:] == before[-3:]
        return before

    assert check() == arithmetic() == plain
    try:
        matmul.allow_tf32, cudnn.allow_tf32 = True, False
        assert check() == arithmetic() == [True, False, "tf32", "none", "none"]
        matmul.allow_tf32 = False
        matmul.fp32_precision = "tf32"  # by the newer name alone: reading the older ones fails now
        check()
    finally:
        matmul.allow_tf32 = cudnn.allow_tf32 = False
        matmul.fp32_precision, cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision = plain[-3:]
        cudnn.allow_tf32 = plain[1]
    assert arithmetic() == plain


def test_threads_of_different_precisions_do_not_mix():
    before, both = arithmetic(), threading.Barrier(2)

    def launch(wanted):
        with tf32(wanted):
            with contextlib.suppress(threading.BrokenBarrierError):
                both.wait(0.3)  # for the other thread to come in too
            found = torch.backends.cuda.matmul.allow_tf32
            with contextlib.suppress(threading.BrokenBarrierError):
                both.wait(0.3)  # before either leaves
            return found

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(launch, [True, False])) == [True, False]
    assert arithmetic() == before
