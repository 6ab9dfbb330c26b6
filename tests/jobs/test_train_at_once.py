"""Two runs at once, and a cache that somebody deletes while a run is at work."""

import hashlib
import json
import os
import shutil
import threading

import pytest

import golem_ray
from golem_ray import engine
from golem_ray.embedding.cache import EmbeddingCache
from golem_ray.embedding.run_folder import embeddings
from golem_ray.errors import ConfigError
from golem_ray.jobs import outcome
from golem_ray.locks import locked
from tests.jobs.runs import configuration


@pytest.fixture
def quick(clips_folder, encoder_folder, tmp_path):
    """The configuration of a short run of 24 clips, in blocks of five."""

    def config(**groups):
        paths = {"save_path": str(tmp_path / "v.pth"), **groups.pop("paths", {})}
        changes = {"training": {"epochs": 2}, "evaluation": {"repeats": 0}, **groups}
        return configuration(clips_folder, encoder_folder, "", paths=paths, **changes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "_BLOCK_ROWS", 5)
        yield config


def test_two_runs_that_end_at_once_do_not_mix_their_artifacts(quick, kept, tmp_path, monkeypatch):
    both_trained, one_done, replaced = threading.Barrier(2, timeout=60), threading.Event(), []
    sidecar, replace = outcome.sidecar, os.replace

    def after_the_other_trained(run):
        document = sidecar(run)
        both_trained.wait()
        return document

    def after_the_other_saved(source, target):
        replace(source, target)
        if str(target) == str(tmp_path / "v.pth"):
            replaced.append(target)
            if len(replaced) == 1:
                one_done.wait(0.3)  # it cannot, for it waits for this one

    monkeypatch.setattr(outcome, "sidecar", after_the_other_trained)
    monkeypatch.setattr(os, "replace", after_the_other_saved)

    def train(seed):
        golem_ray.train(quick(training={"epochs": 2, "seed": seed}, paths={"embedding_cache": kept}))
        one_done.set()

    runs = [threading.Thread(target=train, args=(seed,)) for seed in (1, 2)]
    for run in runs:
        run.start()
    for run in runs:
        run.join(60)
    assert len(replaced) == 2
    found = json.loads((tmp_path / "v.json").read_text())["weights"]["sha256"]
    assert found == hashlib.sha256((tmp_path / "v.pth").read_bytes()).hexdigest()


def test_a_run_folder_is_for_one_run_at_a_time(quick, tmp_path):
    config = quick(paths={"run_dir": str(tmp_path / "run")})
    golem_ray.train(config)
    refused = pytest.raises(ConfigError, match=r"paths\.run_dir: expected no other run at work in \S+/run, found one;")
    with locked(embeddings(str(tmp_path / "run")), wait=False), refused:
        golem_ray.train(config)
    golem_ray.train(config)


def deleted_before_each_write(monkeypatch):
    add = EmbeddingCache.add

    def add_after_deleting(cache, *rows):
        shutil.rmtree(cache.folder.rpartition("/")[0], ignore_errors=True)
        return add(cache, *rows)

    monkeypatch.setattr(EmbeddingCache, "add", add_after_deleting)


def test_a_cache_that_is_deleted_meanwhile_changes_no_weights(quick, kept, tmp_path, monkeypatch):
    golem_ray.train(quick(paths={"embedding_cache": kept}))
    undisturbed = (tmp_path / "v.pth").read_bytes()
    deleted_before_each_write(monkeypatch)
    golem_ray.train(quick(paths={"embedding_cache": str(tmp_path / "cache")}))
    assert (tmp_path / "v.pth").read_bytes() == undisturbed


def test_embeddings_that_are_deleted_while_nothing_else_has_them_are_one_line(quick, tmp_path, monkeypatch):
    deleted_before_each_write(monkeypatch)
    config = quick(paths={"run_dir": str(tmp_path / "run")})
    config["cluster"]["gather_limit"] = 23
    with pytest.raises(ConfigError, match=r"expected the embeddings of 24 clips in \S+, found 4; were files removed\?"):
        golem_ray.train(config)
    monkeypatch.undo()
    golem_ray.train(config)
