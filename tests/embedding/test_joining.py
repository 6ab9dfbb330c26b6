"""Joining a run's small files: nothing is lost, wherever it ends, and nobody else's files are touched."""

import contextlib
import logging

import fsspec
import numpy as np
import pytest

from golem_ray import storage
from golem_ray.embedding import joining
from golem_ray.embedding.joining import join_files
from tests.embedding.test_cache import entries, look_up, open_cache

NUM_FILES, ROWS = 40, 5
KEYS, VECTORS = entries(NUM_FILES * ROWS)


class Killed(BaseException):
    """The process ends: no code of ours handles it."""


@pytest.fixture(params=["local", "memory"])
def small(request, tmp_path):
    """A run's cache of 40 small files, at a path or a URI."""
    root = {"local": str(tmp_path / "run"), "memory": "memory://joining"}[request.param]
    cache = open_cache(root, mark="run-")
    for row in range(0, len(KEYS), ROWS):
        part = slice(row, row + ROWS)
        baseline = np.full((ROWS, 3), row, dtype=np.float32) if row else None
        remarks = ["", "", f"silent {row}", "", ""] if row % 3 == 0 else ()
        assert cache.add(np.arange(row, row + ROWS), KEYS[part], VECTORS[part], baseline, remarks) == ""
    yield cache
    fs = fsspec.filesystem("memory")
    if fs.exists("/joining"):
        fs.rm("/joining", recursive=True)


def check_whole(cache):
    vectors, _, known = look_up(cache, KEYS)
    assert known.all()
    assert (vectors == VECTORS).all()
    _, baseline, known = look_up(cache, KEYS, with_baseline=True)
    assert known.tolist() == [False] * ROWS + [True] * (len(KEYS) - ROWS)
    assert baseline[ROWS:, 0].tolist() == [row // ROWS * ROWS for row in range(ROWS, len(KEYS))]
    assert cache.recorded(len(KEYS)).tolist() == KEYS.tolist()
    said: dict[int, str] = {}
    for rows, found in cache.known(KEYS, []):
        said |= zip(rows.tolist(), found["remark"].tolist(), strict=True)
    wanted = {row + 2: f"silent {row}" for row in range(0, len(KEYS), ROWS) if row % 3 == 0}
    assert {row: remark for row, remark in said.items() if remark} == wanted


def test_small_files_become_few_that_hold_the_same(small, caplog, monkeypatch):
    other = open_cache(small.folder.rsplit("/", 1)[0])  # of another run, without a mark, in the same folder
    others_keys, others_vectors = entries(1, seed=1)
    other.add(np.arange(1), others_keys, others_vectors, None)
    monkeypatch.setattr(joining, "FILE_BYTES", 4000)
    with caplog.at_level(logging.INFO):
        join_files(small)
    assert f"joining {NUM_FILES} files of embeddings in {small.folder} into larger ones" in caplog.text
    files = small.own_files()
    assert 3 <= len(files) <= 8  # of some 68 bytes a row
    assert len(small.files()) == len(files) + 1
    assert look_up(other, others_keys)[2].all()
    check_whole(small)
    join_files(small)
    assert small.own_files() == files


def test_a_handful_of_files_and_a_shared_cache_are_left_alone(small, tmp_path, monkeypatch):
    monkeypatch.setattr(joining, "FEWEST", NUM_FILES + 1)
    before = small.files()
    join_files(small)
    assert small.files() == before
    monkeypatch.setattr(joining, "FEWEST", 2)
    shared = open_cache(small.folder.rsplit("/", 1)[0])
    join_files(shared)
    assert small.files() == before
    join_files(small)
    assert len(small.files()) == 1


@pytest.mark.parametrize("when", [0, 1, 2, 30])
@pytest.mark.parametrize("after", [False, True], ids=["before it is done", "after it is done"])
def test_nothing_is_lost_wherever_joining_is_killed(small, monkeypatch, when, after):
    """At the first write, or at one of the removals behind it."""
    done = []

    def ending(call):
        def run(*arguments):
            done.append(call)
            if len(done) > when and not after:
                raise Killed
            call(*arguments)
            if len(done) > when:
                raise Killed

        return run

    with monkeypatch.context() as patch, contextlib.suppress(Killed):
        patch.setattr(storage, "write", ending(storage.write))
        patch.setattr(storage, "remove", ending(storage.remove))
        join_files(small)
    check_whole(small)
    join_files(small)
    check_whole(small)


def test_what_cannot_be_joined_stays_small_and_is_a_warning(small, caplog, monkeypatch):
    def refuse(*_):
        raise storage.StorageError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(storage, "write", refuse)
        join_files(small)
    assert "could not all be joined (No space left on device): they stay small" in caplog.text
    assert len(small.files()) == NUM_FILES
    with monkeypatch.context() as patch:
        patch.setattr(storage, "remove", refuse)
        join_files(small)
    assert len(small.files()) == NUM_FILES + 1
    check_whole(small)
