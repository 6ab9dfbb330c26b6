"""The embedding cache: what it gives back, what it notices, and that nothing is embedded twice."""

import dataclasses
import json
import logging
import multiprocessing
import shutil
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import golem_ray
from golem_ray import storage
from golem_ray.embedding import cache as cache_module
from golem_ray.embedding.cache import EmbeddingCache, describe
from golem_ray.embedding.recipe import EncoderInfo, Recipe
from golem_ray.errors import ConfigError
from golem_ray.speech.inspect import SpeechTraits
from tests.conftest import audio_bytes, speech_recipe, tone, write_clips, write_encoder


def digests(*numbers):
    """S32 digests; some end in zero bytes, which numpy drops."""
    return np.array([number.to_bytes(32, "little") for number in numbers], dtype="S32")


def entries(count, seed=0):
    rng = np.random.default_rng(seed)
    numbers = [int(number) for number in rng.integers(1, 2**60, size=count)]
    return digests(*numbers), rng.standard_normal((count, 4)).astype(np.float32)


def open_cache(folder, width=4, recipe=None, **options):
    return EmbeddingCache(str(folder), recipe or {"encoder": "some"}, width, 3, **options)


def rows(keys):
    return np.arange(len(keys))


def stored(folder, *parts):
    """A cache with one file for each of the parts."""
    cache = open_cache(folder)
    for keys, vectors in parts:
        assert cache.add(rows(keys), keys, vectors, None) == ""
    return cache


def look_up(cache, keys, with_baseline=False, width=4):
    """Vectors, the baseline's if asked for, and which are known."""
    vectors = np.zeros((len(keys), width), dtype=np.float32)
    baseline = np.zeros((len(keys), 3), dtype=np.float32) if with_baseline else None
    known = cache.look_up(keys, vectors=vectors, baseline=baseline, with_baseline=with_baseline)
    assert np.array_equal(cache.look_up(keys, vectors=None, baseline=None, with_baseline=with_baseline), known)
    return vectors, baseline, known


def test_what_was_added_comes_back_by_digest(tmp_path):
    keys, vectors = entries(10)
    cache = stored(tmp_path, (keys[:6], vectors[:6]), (keys[6:], vectors[6:]))
    asked = np.concatenate([keys[::-1], digests(0, 7), keys[:1]])
    found, baseline, known = look_up(open_cache(tmp_path), asked)
    assert known.tolist() == [True] * 10 + [False, False, True]
    assert np.array_equal(found[:10], vectors[::-1])
    assert np.array_equal(found[12], vectors[0])
    assert not found[10:12].any()
    assert baseline is None
    assert len(cache.files()) == 2
    assert (Path(cache.folder) / "recipe.json").read_text() == '{\n  "encoder": "some"\n}\n'
    assert not open_cache(tmp_path, recipe={"encoder": "other"}).files()


def test_a_baseline_is_found_only_where_it_was_kept(tmp_path):
    keys, vectors = entries(4)
    cache = stored(tmp_path, (keys, vectors))
    cache.add(rows(keys[2:]), keys[2:], vectors[2:], np.ones((2, 3), dtype=np.float32))
    found, baseline, known = look_up(cache, keys, with_baseline=True)
    assert known.tolist() == [False, False, True, True]
    assert np.array_equal(found[2:], vectors[2:])
    assert baseline.tolist() == [[0] * 3] * 2 + [[1] * 3] * 2
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
            patch.setattr(Path, "read_bytes", raises(problem))
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
    with pytest.raises(ConfigError, match=r"^paths\.run_dir: expected to be able to read and write"):
        open_cache(tmp_path / "file", key="paths.run_dir")
    open_cache(tmp_path / "not" / "there")
    assert not (tmp_path / "not").exists()


def test_a_write_that_fails_later_gives_its_reason(tmp_path):
    keys, vectors = entries(3)
    cache = open_cache(tmp_path)
    Path(cache.folder).write_text("in the way")
    assert "embeddings could not be kept" in cache.add(rows(keys), keys, vectors, None)


LIBRARIES = dict.fromkeys(("torch", "torchaudio", "transformers", "soundfile", "numpy"), "1.0")


@pytest.mark.parametrize(
    ("changes", "encoder", "described", "key"),
    [
        (
            {"window": 30.0, "layer": "all", "pooling": "mean+std"},
            {"revision": "c0ffee"},
            {
                "encoder": {"name": "a/b", "revision": "c0ffee"},
                "max_seconds": 30.0,
                "compiled": False,
                "layer": "all",
                "pooling": "mean+std",
                "device": "cpu",
            },
            "4db4766188b5dbafdd44d399",
        ),
        (
            {"compiled": True},
            {"sha256": "5" * 64},
            {
                "encoder": {"sha256": "5" * 64},
                "max_seconds": None,
                "compiled": True,
                "layer": "last",
                "pooling": "mean",
                "device": "cpu, 2 threads a clip",
            },
            "a022e5da7cb81638de712c6d",
        ),
    ],
    ids=["hub", "folder"],
)
def test_the_key_of_a_recipe_stays_what_it_was_in_version_1(tmp_path, monkeypatch, changes, encoder, described, key):
    """The keys are those that the code before modalities gave: with others, every old cache would be empty."""
    monkeypatch.setattr("importlib.metadata.version", lambda name: "1.0")
    plain = {"name": "a/b", "path": "a/b", "revision": None, "sha256": None, "model_type": "wav2vec2"}
    sizes = {"embedding_size": 768, "num_layers": 12, "exact_in_batches": True, "cached": False}
    traits = SpeechTraits(sampling_rate=16000, has_adapter=False, window_s=None, shortest_s=0.025)
    recipe = Recipe(modality="speech", encoder=EncoderInfo(**{**plain, **sizes, **encoder}, traits=traits), **changes)
    found = describe(recipe, gpu=False, threads=2)
    common = {"version": 1, "sampling_rate": 16000, "precision": "float32", "libraries": LIBRARIES}
    assert found == {**common, **described}
    assert open_cache(tmp_path, recipe=found).key == key


def write_version_1(cache, keys, vectors, log_mel):
    """A file as version 1 wrote it: no metadata, and the last column under the name that it had then."""
    table = pa.table(
        {
            "id": pa.array(rows(keys)),
            "digest": pa.array([key.ljust(32, b"\0") for key in keys.tolist()], pa.binary(32)),
            "vector": pa.array(vectors.tolist(), pa.list_(pa.float32(), 4)),
            "log_mel": pa.array(log_mel, pa.list_(pa.float32(), 3)),
        }
    )
    Path(cache.folder).mkdir(parents=True)
    pq.write_table(table, f"{cache.folder}/run-{'a' * 32}.parquet", compression="none", write_page_checksum=True)


def test_a_file_of_version_1_is_read(tmp_path, caplog):
    keys, vectors = entries(4)
    write_version_1(open_cache(tmp_path), keys, vectors, [None, None, [1, 2, 3], [4, 5, 6]])
    cache = open_cache(tmp_path, mark="run-")
    found, _, known = look_up(cache, keys)
    assert known.all()
    assert np.array_equal(found, vectors)
    found, baseline, known = look_up(cache, keys, with_baseline=True)
    assert known.tolist() == [False, False, True, True]
    assert np.array_equal(found[2:], vectors[2:])
    assert baseline[2:].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert cache.recorded(4).tolist() == keys.tolist()
    others, more = entries(2, seed=1)
    cache.add(rows(others), others, more, None)
    assert look_up(cache, np.concatenate([keys, others]))[2].all()  # beside files of version 2
    assert not caplog.text


@pytest.mark.parametrize("metadata", ['{"format_version": 2, "modality": "text"}', "[]"])
def test_a_file_of_another_modality_is_left_alone(tmp_path, caplog, metadata):
    keys, vectors = entries(3)
    cache = stored(tmp_path, (keys, vectors))
    (file,) = cache.files()
    written = pq.read_table(file)
    said = json.loads(written.schema.metadata[b"golem_ray"])
    assert said == {"format_version": 2, "modality": "speech"}
    pq.write_table(written.replace_schema_metadata({b"golem_ray": metadata.encode()}), file)
    content = Path(file).read_bytes()
    assert not look_up(cache, keys)[2].any()
    assert f"{file} has columns of another kind: left alone" in caplog.text
    assert Path(file).read_bytes() == content
    if "text" in metadata:
        assert look_up(open_cache(tmp_path, modality="text"), keys)[2].all()


def test_each_row_comes_once_also_where_several_files_have_its_digest(tmp_path):
    keys, vectors = entries(4)
    cache = stored(tmp_path, (keys, vectors), (keys[2:], vectors[2:]), (keys[[0, 3, 3]], vectors[[0, 3, 3]]))
    asked = np.concatenate([keys, keys[3:], digests(0, 5)])
    came = list(cache.known(asked, ["vector"]))
    assert sorted(np.concatenate([found for found, _ in came]).tolist()) == [0, 1, 2, 3, 4]
    expected = np.concatenate([vectors, vectors[3:]])
    for found, columns in came:
        assert found.dtype == np.int64
        assert list(columns) == ["vector", "remark"]
        assert np.array_equal(columns["vector"], expected[found])


def test_the_key_follows_everything_that_changes_a_vector(tmp_path, monkeypatch):
    def recipe(seed, **changes):
        folder = tmp_path / str(seed)
        if not folder.exists():
            write_encoder(folder, seed=seed)
        return speech_recipe(folder, **changes)

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
                {"window": 10.0},
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
    others.append(describe(Recipe(modality="speech", encoder=on_hub), gpu=False, threads=2))
    other_commit = Recipe(modality="speech", encoder=dataclasses.replace(on_hub, revision="2"))
    others.append(describe(other_commit, gpu=False, threads=2))
    assert len({str(other) for other in [first, *others]}) == len(others) + 1


def test_nothing_is_embedded_twice_nor_lost_to_a_bad_clip(forwards_here, tmp_path, encoder_folder, caplog):
    caplog.set_level(logging.INFO, logger="golem_ray")
    clips, artifact = write_clips(tmp_path / "clips", ["left", "right", "up"] * 6), tmp_path / "v.pth"
    config = {
        "dataset": {"name": str(clips), "label_column": "label"},
        "processing": {"max_samples": "all"},
        "model": {"feature_extractor_model": str(encoder_folder)},
        "training": {"epochs": 20},
        "evaluation": {"repeats": 0},
        "cluster": {"address": "none", "workers": 1, "threads_per_worker": 1},
        "paths": {"save_path": str(artifact), "embedding_cache": str(tmp_path / "cache")},
    }

    def train():
        before = forwards_here()
        golem_ray.train(config)
        return forwards_here() - before, artifact.read_bytes()

    (clips / "clips" / "3.wav").write_bytes(b"noise")
    artifact.write_bytes(b"old")
    for _ in range(2):  # bad the first time and again; the others are kept the first time
        with pytest.raises(golem_ray.errors.DataError, match=r"at most 0 of 18 .*clip 3 \(.*not audio"):
            golem_ray.train(config)
        assert forwards_here() == 17
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
