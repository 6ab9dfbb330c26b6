"""Texts on CPUs, where examples of like costs go in batches: the vectors, reasons and notes are those of one by one."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from golem_ray.devices import Resources
from golem_ray.embedding.cache import open_cache
from golem_ray.embedding.crash_notes import CRASHED, CrashNotes, FolderStore
from golem_ray.embedding.examples import group_examples
from golem_ray.embedding.stage import EmbedBatch, EmbeddingTask
from golem_ray.text.baseline import count_terms
from golem_ray.text.encoders import TextEncoder
from golem_ray.text.read import tokens_of
from tests.text import TEXTS, text_recipe, texts_table, write_text_encoder

GPU = Resources(workers=1, threads=1, cpus=0, gpu=True, backend="auto")  # one that PyTorch cannot use

ROWS: tuple[tuple[bytes | str | None, int | None], ...] = (
    (TEXTS[3] * 20, 0),  # of more tokens than the encoder takes
    *((text, 0) for text in TEXTS),
    (None, 0),
    ("привет".encode("cp1251"), 0),
    (" ", 0),
    ("без метки", None),
    *((text * 3, 1) for text in TEXTS),
)

REASONS = [
    *[""] * 9,
    "no text",
    "not UTF-8 (it looks like cp1251)",
    "empty text",
    "no label, or one that the source does not name",
    *[""] * 8,
]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text_encoder(tmp_path_factory.mktemp("bert"))


def cpu(threads: int = 1) -> Resources:
    return Resources(workers=1, threads=threads, cpus=threads, gpu=False, backend="cpu")


def stage(encoder: object, resources: Resources | None = None, **task: Any) -> EmbedBatch:
    return EmbedBatch(EmbeddingTask(recipe=text_recipe(encoder), **task), resources or cpu())


@pytest.fixture(scope="module")
def expected(bert: Path) -> np.ndarray:
    """The vectors one by one, through the model's own forward pass."""
    recipe, vectors = text_recipe(bert), np.zeros((len(ROWS), 32), dtype=np.float32)
    encoder = TextEncoder(recipe, "cpu")
    for row, (text, _) in enumerate(ROWS):
        if not REASONS[row]:
            assert isinstance(text, str)
            vectors[row] = encoder.embed([tokens_of(text.encode(), recipe)])[0]
    return vectors


def error(found: np.ndarray, wanted: np.ndarray) -> float:
    good = np.array([not reason for reason in REASONS])
    return float((np.linalg.norm(found - wanted, axis=1)[good] / np.linalg.norm(wanted, axis=1)[good]).max())


@pytest.mark.parametrize(("size", "threads", "most"), [(1, 1, 1024.0), (4, 2, 1024.0), (50, 3, 100.0), (50, 1, 1024.0)])
def test_in_blocks_of_any_size_vectors_and_reasons_are_those_of_one_by_one(bert, expected, size, threads, most):
    embed = stage(bert, cpu(threads))
    assert embed.packed == 1024.0
    embed.packed = most
    shapes, forward = [], embed.encoder._forward
    embed.encoder._forward = lambda model, numbers, lengths: (
        shapes.append(numbers.shape) or forward(model, numbers, lengths)
    )
    table = texts_table(*ROWS)
    done = [embed(table.slice(start, size)) for start in range(0, len(ROWS), size)]
    assert [each for part in done for each in part["id"].tolist()] == table["id"].to_pylist()
    assert [each for part in done for each in part["reason"]] == REASONS
    vectors = np.concatenate([part["vector"] for part in done])
    assert error(vectors, expected) <= 1e-5
    assert not vectors[9:13].any()
    costs = np.concatenate([part["cost"] for part in done])
    assert (costs > 0).tolist() == [not reason for reason in REASONS]
    remarks = [each for part in done for each in part["remark"]]
    assert [row for row, remark in enumerate(remarks) if remark] == [0, 19]
    assert remarks[0] == "read up to 130 tokens"
    assert all(rows * width <= most or rows == 1 for rows, width in shapes)
    assert (len(shapes) == 17) if size == 1 else (len(shapes) < 12)  # they went together


def test_other_threads_and_an_accelerator_that_is_none_give_the_same(bert, expected):
    table = texts_table(*ROWS)
    one, three = stage(bert)(table), stage(bert, cpu(3))(table)
    assert one["vector"].tobytes() == three["vector"].tobytes()
    (group,) = group_examples(table, text_recipe(bert), baseline=True, most_cost=1e6)
    grouped = stage(bert, GPU, baseline=True)(group)
    assert grouped["reason"] == REASONS
    assert error(grouped["vector"], expected) <= 1e-5
    assert grouped["baseline"].shape == (len(ROWS), 0)  # which is counted where the head is trained


def test_what_the_baseline_says_goes_with_each_text_on_either_device(bert):
    class Fitted:
        sha256, size = "0" * 64, 2

        def scores(self, counts):
            return np.stack([np.asarray(counts.sum(axis=1)).ravel(), counts.getnnz(axis=1)], axis=1).astype(np.float32)

    recipe = dataclasses.replace(text_recipe(bert), joined=2, fitted=Fitted())
    table = texts_table(*ROWS)
    here = EmbedBatch(EmbeddingTask(recipe=recipe), cpu())(table)
    (group,) = group_examples(table, recipe, baseline=True, most_cost=1e6)
    grouped = EmbedBatch(EmbeddingTask(recipe=recipe), GPU)(group)
    counts = count_terms([TEXTS[2].encode()], recipe)
    for found in (here, grouped):
        assert found["vector"].shape == (len(ROWS), 34)
        assert found["vector"][3, 32:].tolist() == [counts.sum(), counts.nnz]
        assert not found["vector"][9:13].any()
        assert found["reason"] == REASONS
    assert np.array_equal(here["vector"][:, 32:], grouped["vector"][:, 32:])


def test_the_encoder_without_training_goes_the_same_way():
    found = stage("ngrams", cpu(2))(texts_table(*ROWS))
    assert found["reason"] == REASONS
    recipe = text_recipe("ngrams")
    alone = stage("ngrams").encoder.embed([tokens_of(TEXTS[2].encode(), recipe)])
    assert np.array_equal(found["vector"][3], alone[0])
    assert found["remark"] == [""] * len(ROWS)


def test_without_one_usable_text_nothing_is_run(bert):
    embed = stage(bert)
    embed.encoder.embed = lambda texts: pytest.fail("there is nothing to embed")
    found = embed(texts_table(*ROWS[9:13]))
    assert found["reason"] == REASONS[9:13]
    assert not found["vector"].any()


def test_texts_that_do_not_fit_into_memory_go_in_smaller_batches_and_one_that_never_does_has_a_reason(bert, expected):
    embed = stage(bert)
    fits = embed.encoder.embed

    def limited(texts: list[np.ndarray]) -> np.ndarray:
        if sum(map(len, texts)) > 100:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")
        return fits(texts)

    embed.encoder.embed = limited
    done = embed(texts_table(*ROWS))
    assert done["reason"][0] == "its 130 tokens do not fit into the memory: see processing.max_tokens"
    large = [row for row, why in enumerate(done["reason"]) if "fit into" in why]
    assert 0 < len(large) < 4
    kept = np.where(np.isin(np.arange(len(ROWS)), large)[:, None], expected, done["vector"])
    assert error(kept, expected) <= 1e-5


@pytest.mark.parametrize("encoder", ["bert", "ngrams"])
def test_a_text_that_ends_its_process_is_found_by_the_notes_and_the_others_keep_their_vectors(bert, tmp_path, encoder):
    name = bert if encoder == "bert" else encoder
    store, table = FolderStore(str(tmp_path / "crashes")), texts_table(*ROWS)
    quiet = stage(name)(table)
    key = f"embedding/{table['id'][0].as_py()}+{len(ROWS)}"

    class Killed(BaseException):
        pass

    poison = tokens_of(TEXTS[0].encode(), text_recipe(name)).tobytes()
    deaths = 0
    while True:
        frozen: dict[Path, bytes] = {}
        embed = EmbedBatch(EmbeddingTask(recipe=text_recipe(name)), cpu(), CrashNotes("embedding", store))
        fits = embed.encoder.embed

        def deadly(texts: list[np.ndarray], fits: Any = fits, frozen: Any = frozen) -> np.ndarray:
            if any(text.tobytes() == poison for text in texts):
                frozen.update({file: file.read_bytes() for file in (tmp_path / "crashes").iterdir()})
                raise Killed
            return fits(texts)

        embed.encoder.embed = deadly
        try:
            done = embed(table)
            break
        except Killed:
            deaths += 1
            assert deaths < 9
            for file, note in frozen.items():
                file.write_bytes(note)  # as a process leaves them that has no `finally`
    assert deaths == 3
    assert store.get(key) == 0
    assert done["reason"] == ["", CRASHED, *REASONS[2:]]
    for row in (0, *range(2, len(ROWS))):
        difference = np.linalg.norm(done["vector"][row] - quiet["vector"][row])
        assert difference <= 1e-5 * max(np.linalg.norm(quiet["vector"][row]), 1e-9)


def test_what_the_cache_keeps_is_what_comes_back(bert, tmp_path):
    cache = open_cache(str(tmp_path), text_recipe(bert), cpu())
    done = stage(bert, cache=cache)(texts_table(*ROWS))
    digests = np.array(done["digest"], dtype="S32")
    vectors = np.zeros((len(ROWS), 32), np.float32)
    known = cache.look_up(digests, vectors=vectors, baseline=None, with_baseline=False)
    assert known.tolist() == [not reason for reason in REASONS]
    assert np.array_equal(vectors, done["vector"])
    ((rows, columns),) = cache.known(digests[:2], ["vector"])
    remarks = dict(zip(rows.tolist(), columns["remark"], strict=True))
    assert remarks == {0: "read up to 130 tokens", 1: ""}


def test_texts_of_a_shard_that_is_gone_have_a_reason(bert, tmp_path):
    table = texts_table(*ROWS[1:3])
    shard = {"shard": pa.array([str(tmp_path / "gone.parquet")] * 2), "column": pa.array(["text"] * 2)}
    table = pa.table({**{name: table[name] for name in table.column_names}, **shard, "at": pa.array([0, 1])})
    table = table.set_column(1, "bytes", pa.nulls(2, pa.large_binary()))
    done = stage(bert)(table)
    assert all(why.startswith("cannot be read (") for why in done["reason"])
