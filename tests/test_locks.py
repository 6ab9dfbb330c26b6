"""Locks of folders: who is kept out, and that nothing is left of them."""

import logging
import multiprocessing
import os
import signal

import pytest

from golem_ray.locks import locked


def test_a_folder_is_made_and_held_by_one_at_a_time(tmp_path):
    folder = str(tmp_path / "new" / "folder")
    with locked(folder, wait=False) as free:
        assert free
        with locked(folder, wait=False) as also_free:
            assert not also_free
        with locked(str(tmp_path), wait=False) as others_are:
            assert others_are
    with locked(folder, wait=True) as free:
        assert free
    assert os.listdir(folder) == []


def hold(folder, held):
    with locked(folder, wait=True):
        held.set()
        signal.pause()


def test_a_killed_process_leaves_no_lock(tmp_path):
    context = multiprocessing.get_context("fork")
    held = context.Event()
    holder = context.Process(target=hold, args=(str(tmp_path), held))
    holder.start()
    assert held.wait(30)
    with locked(str(tmp_path), wait=False) as free:
        assert not free
    holder.kill()
    holder.join(30)
    with locked(str(tmp_path), wait=False) as free:
        assert free


def test_who_stands_still_is_not_waited_for_for_ever(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO, logger="golem_ray")
    monkeypatch.setattr("golem_ray.locks.WAIT_S", 0.1)
    with locked(str(tmp_path), wait=True) as free, locked(str(tmp_path), wait=True) as also_free:
        assert free
        assert not also_free
    assert f"waiting for another process to let go of {tmp_path}" in caplog.text


def no_locks(descriptor, operation):
    raise OSError(38, "Function not implemented")


@pytest.mark.parametrize("wait", [True, False])
def test_where_there_are_no_locks_nobody_is_kept_out(tmp_path, monkeypatch, wait):
    (tmp_path / "file").write_text("")
    for place in ("memory://bucket/folder", str(tmp_path / "file" / "below"), str(tmp_path / "file")):
        with locked(place, wait=wait) as free:
            assert free
    monkeypatch.setattr("fcntl.flock", no_locks)
    with locked(str(tmp_path), wait=wait) as free, locked(str(tmp_path), wait=wait) as also_free:
        assert free
        assert also_free


def test_what_goes_wrong_inside_passes_and_lets_go(tmp_path):
    with pytest.raises(OSError, match="mine"), locked(str(tmp_path), wait=True):
        raise OSError("mine")
    with locked(str(tmp_path), wait=False) as free:
        assert free
