"""The embedding cache: what it gives back, what it notices, and that nothing is embedded twice."""

import dataclasses
import logging
import multiprocessing
import shutil
from pathlib import Path

import fsspec
import numpy as np
import pytest

import golem_ray
from golem_ray import storage
from golem_ray.config import ModelConfig
from golem_ray.embedding import cache as cache_module
from golem_ray.embedding.cache import EmbeddingCache, describe
from golem_ray.embedding.recipe import Recipe
from golem_ray.errors import ConfigError
from golem_ray.speech.inspect import inspect_encoder
from tests.conftest import audio_bytes, tone, write_clips, write_encoder


def digests(*numbers):
    """S32 digests; some end in zero bytes, which numpy drops."""
    return np.array([number.to_bytes(32, "little") for number in numbers], dtype="S32")


def entries(count, seed=0):
    rng = np.random.default_rng(seed)
    numbers = [int(number) for number in rng.integers(1, 2**60, size=count)]
    return digests(*numbers), rng.standard_normal((count, 4)).astype(np.float32)


def open_cache(folder, width=4, recipe=None):
    return EmbeddingCache(str(folder), recipe or {"encoder": "some"}, width, 3)


def rows(keys):
    return np.arange(len(keys))


def stored(folder, *parts):
    """A cache with one file for each of the parts."""
    cache = open_cache(folder)
    for keys, vectors in parts:
        assert cache.add(rows(keys), keys, vectors, None) == ""
    return cache


def look_up(cache, keys, log_mel=False, width=4):
    """Vectors, log-mel statistics if asked for, and which are known."""
    vectors = np.zeros((len(keys), width), dtype=np.float32)
    mel = np.zeros((len(keys), 3), dtype=np.float32) if log_mel else None
    known = cache.look_up(keys, vectors=vectors, log_mel=mel, baseline=log_mel)
    assert np.array_equal(cache.look_up(keys, vectors=None, log_mel=None, baseline=log_mel), known)
    return vectors, mel, known


def test_what_was_added_comes_back_by_digest(tmp_path):
    keys, vectors = entries(10)
    cache = stored(tmp_path, (keys[:6], vectors[:6]), (keys[6:], vectors[6:]))
    asked = np.concatenate([keys[::-1], digests(0, 7), keys[:1]])
    found, log_mel, known = look_up(open_cache(tmp_path), asked)
    assert known.tolist() == [True] * 10 + [False, False, True]
    assert np.array_equal(found[:10], vectors[::-1])
    assert np.array_equal(found[12], vectors[0])
    assert not found[10:12].any()
    assert log_mel is None
    assert len(cache.files()) == 2
    assert (Path(cache.folder) / "recipe.json").read_text() == '{\n  "encoder": "some"\n}\n'
    assert not open_cache(tmp_path, recipe={"encoder": "other"}).files()


def test_a_baseline_is_found_only_where_it_was_kept(tmp_path):
    keys, vectors = entries(4)
    cache = stored(tmp_path, (keys, vectors))
    cache.add(rows(keys[2:]), keys[2:], vectors[2:], np.ones((2, 3), dtype=np.float32))
    found, log_mel, known = look_up(cache, keys, log_mel=True)
    assert known.tolist() == [False, False, True, True]
    assert np.array_equal(found[2:], vectors[2:])
    assert log_mel.tolist() == [[0] * 3] * 2 + [[1] * 3] * 2
    assert look_up(cache, keys)[2].all()


def test_what_each_row_was_is_recorded(tmp_path):
    keys, vectors = entries(6)
    cache = open_cache(tmp_path)
    cache.add(np.array([4, 1]), keys[:2], vectors[:2], None)
    cache.add(np.array([9, 0]), keys[2:4], vectors[2:4], None)  # a row that the run has no more
    assert cache.recorded(5).tolist() == [keys[3], keys[1], b"", b"", keys[0]]


def flip(content: bytes) -> bytes:
    middle = content.index(np.float32(1.0).tobytes() * 4)  # inside a vector
    return content[: middle + 2] + b"\x00" + content[middle + 3 :]


@pytest.mark.parametrize(
    "damage",
    [lambda content: b"", lambda content: content[: len(content) // 2], lambda content: b"noise" * 100, flip],
    ids=["empty", "truncated", "other", "flipped"],
)
def test_a_damaged_file_is_noticed_removed_and_costs_only_its_own_entries(tmp_path, caplog, damage):
    keys, vectors = entries(6)
    vectors[4] = 1.0
    cache = stored(tmp_path, (keys[:3], vectors[:3]), (keys[3:], vectors[3:]))
    (path,) = (path for path in map(Path, cache.files()) if keys[4] in path.read_bytes())
    path.write_bytes(damage(path.read_bytes()))
    found, _, known = look_up(cache, keys)
    assert known.tolist() == [True] * 3 + [False] * 3
    assert np.array_equal(found[:3], vectors[:3])
    assert f"{path} is damaged: its clips are embedded again" in caplog.text
    assert not path.exists()
    cache.add(rows(keys[3:]), keys[3:], vectors[3:], None)
    assert np.array_equal(look_up(cache, keys)[0], vectors)


def test_vectors_of_another_width_are_not_taken(tmp_path):
    keys, vectors = entries(3)
    cache = stored(tmp_path, (keys, vectors))
    wider = open_cache(tmp_path, width=5)
    assert wider.folder == cache.folder  # by mistake: the same recipe
    assert not look_up(wider, keys)[2].any()
    assert look_up(cache, keys)[2].all()  # and they are left alone


def test_what_could_not_be_read_is_left_alone(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(storage, "RETRY_AFTER_S", (0.0,))
    keys, vectors = entries(3)
    cache = stored(tmp_path, (keys, vectors))
    for problem in (ConnectionError("down"), MemoryError()):
        with monkeypatch.context() as patch:
            patch.setattr("fsspec.implementations.local.LocalFileSystem.cat_file", raises(problem))
            assert not look_up(cache, keys)[2].any()
        assert f"cannot be read ({type(problem).__name__})" in caplog.text
    with monkeypatch.context() as patch:
        patch.setattr("fsspec.implementations.local.LocalFileSystem.ls", raises(PermissionError("no listing")))
        assert not look_up(cache, keys)[2].any()
        with pytest.raises(ConfigError, match="expected to be able to read and write .*no listing"):
            open_cache(tmp_path)
    assert look_up(cache, keys)[2].all()


def raises(problem):
    def call(*arguments, **options):
        raise problem

    return call


def test_a_folder_may_have_any_name(tmp_path):
    keys, vectors = entries(3)
    stored(tmp_path / "run::1", (keys, vectors))
    assert look_up(open_cache(tmp_path / "run::1"), keys)[2].all()


def write_many(folder, seed):
    cache_module.log.warning = raises(AssertionError("a file was taken for damaged"))
    cache = open_cache(folder)
    keys, vectors = entries(40, seed)
    for start in range(0, 40, 4):
        cache.add(rows(keys[start : start + 4]), keys[start : start + 4], vectors[start : start + 4], None)
        look_up(cache, keys)


def test_several_writers_at_once_lose_nothing(tmp_path):
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write_many, args=(tmp_path, seed)) for seed in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    for seed in range(4):
        keys, vectors = entries(40, seed)
        assert np.array_equal(look_up(open_cache(tmp_path), keys)[0], vectors)
    left = {path.suffix for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {".parquet", ".json"}  # nothing half written


def test_a_cache_may_lie_at_a_uri():
    keys, vectors = entries(5)
    stored("memory://bucket/cache", (keys, vectors))
    assert np.array_equal(look_up(open_cache("memory://bucket/cache/"), keys)[0], vectors)
    assert fsspec.filesystem("memory").exists("/bucket/cache")


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="paths.embedding_cache: expected to be able to read and write"):
        open_cache(tmp_path / "file")
    open_cache(tmp_path / "not" / "there")
    assert not (tmp_path / "not").exists()


def test_a_write_that_fails_later_is_told(tmp_path):
    keys, vectors = entries(3)
    cache = open_cache(tmp_path)
    Path(cache.folder).write_text("in the way")
    assert "embeddings could not be kept" in cache.add(rows(keys), keys, vectors, None)


def test_the_key_follows_everything_that_changes_a_vector(tmp_path, monkeypatch):
    def recipe(seed, **changes):
        folder = tmp_path / str(seed)
        if not folder.exists():
            write_encoder(folder, seed=seed)
        return Recipe(encoder=inspect_encoder(ModelConfig(feature_extractor_model=str(folder))), **changes)

    first = describe(recipe(0), gpu=False, threads=2)
    shutil.copytree(tmp_path / "0", tmp_path / "copy")
    assert describe(recipe("copy"), gpu=False, threads=2) == first  # where it lies does not matter
    others = [
        describe(recipe(1), gpu=False, threads=2),
        describe(recipe(0), gpu=True, threads=2),
        *(
            describe(dataclasses.replace(recipe(0), **changes), gpu=False, threads=2)
            for changes in (
                {"precision": "float16"},
                {"max_seconds": 10.0},
                {"layer": "6"},
                {"pooling": "mean+std"},
                {"compiled": True},
            )
        ),
    ]
    monkeypatch.setattr("importlib.metadata.version", lambda name: "another")
    others.append(describe(recipe(0), gpu=False, threads=2))
    assert describe(recipe(0), gpu=False, threads=1) == others[-1]  # but for compiled passes
    others.append(describe(recipe(0, compiled=True), gpu=False, threads=1))
    others.append(describe(recipe(0, compiled=True), gpu=False, threads=2))
    on_hub = dataclasses.replace(recipe(0).encoder, sha256=None, name="a/b", revision="1")
    others.append(describe(Recipe(encoder=on_hub), gpu=False, threads=2))
    others.append(describe(Recipe(encoder=dataclasses.replace(on_hub, revision="2")), gpu=False, threads=2))
    assert len({str(other) for other in [first, *others]}) == len(others) + 1


def test_nothing_is_embedded_twice_nor_lost_to_a_bad_clip(counted_forwards, tmp_path, encoder_folder, caplog):
    caplog.set_level(logging.INFO, logger="golem_ray")
    clips, artifact = write_clips(tmp_path / "clips", ["left", "right", "up"] * 6), tmp_path / "v.pth"
    config = {
        "dataset": {"name": str(clips), "label_column": "label"},
        "processing": {"max_samples": "all"},
        "model": {"feature_extractor_model": str(encoder_folder)},
        "training": {"epochs": 20},
        "evaluation": {"repeats": 0},
        "cluster": {"workers": 1, "threads_per_worker": 1},
        "paths": {"save_path": str(artifact), "embedding_cache": str(tmp_path / "cache")},
    }

    def train():
        before = counted_forwards()
        golem_ray.train(config)
        return counted_forwards() - before, artifact.read_bytes()

    (clips / "clips" / "3.wav").write_bytes(b"noise")
    artifact.write_bytes(b"old")
    for _ in range(2):  # bad the first time and again; the others are kept the first time
        with pytest.raises(golem_ray.errors.DataError, match=r"at most 0 of 18 .*clip 3 \(.*not audio"):
            golem_ray.train(config)
        assert counted_forwards() == 17
        assert artifact.read_bytes() == b"old"

    (clips / "clips" / "3.wav").write_bytes(audio_bytes(tone(99, 0.3)))
    with (clips / "metadata.csv").open("a") as file:
        file.write("clips/0.wav,up\n")  # known by another row
    num_embedded, weights = train()
    assert num_embedded == 1
    num_embedded, again = train()
    assert num_embedded == 0
    assert "19 of 19 clips are in the embedding cache" in caplog.text
    assert again == weights
    shutil.rmtree(tmp_path / "cache")
    num_embedded, afresh = train()
    assert num_embedded == 19
    assert afresh == weights
