"""Which example ended its process: the notes by themselves, their stores, and the stages that keep them."""

from functools import partial

import pyarrow as pa
import pytest

from golem_ray import storage
from golem_ray.devices import Resources
from golem_ray.embedding import examples as examples_module
from golem_ray.embedding.crash_notes import CRASHED, CrashNotes, FolderStore, NoStore
from golem_ray.embedding.examples import group_examples, read_example, ungroup
from golem_ray.embedding.stage import EmbedBatch, EmbeddingTask
from tests.conftest import audio_bytes, speech_recipe, tone


class Kept(dict):
    """A store that outlives the `processes` of a test."""

    def get(self, key):
        return super().get(key, 0)

    def put(self, key, value):
        self[key] = value
        if not value:
            del self[key]

    def store(self):
        return self


class Killed(BaseException):
    """What ends a process: no `finally` of ours may see it, so the notes are put back as they were."""


def _freeze(frozen, kept):
    frozen.update(kept)


def attempts(work, kept):
    """What work() gives, begun anew after each death with what was kept at that moment; and how often it died."""
    deaths = 0
    while True:
        frozen = {}
        try:
            return work(partial(_freeze, frozen, kept)), deaths
        except Killed:
            deaths += 1
            kept.clear()
            kept.update(frozen)
            assert deaths < 20, "for ever"


def test_nothing_is_left_of_a_quiet_run():
    kept = Kept()
    notes = CrashNotes("embedding", kept)
    with notes.block([3, 4]) as suspicious:
        assert not suspicious
        assert kept == {"embedding/3+2": 1}
    assert not kept
    with pytest.raises(ValueError, match="a bug"), notes.block([3, 4]):
        raise ValueError("a bug")
    assert not kept  # it was no death


@pytest.mark.parametrize("poison", [[], [2], [0, 3], [4], [0, 1, 2, 3, 4]])
def test_exactly_the_examples_that_end_processes_are_left_out(poison):
    kept = Kept()
    notes = CrashNotes("embedding", kept)
    ids = range(5)

    def work(dies):
        with notes.block(ids) as suspicious:
            if not suspicious:
                if poison:
                    dies()
                    raise Killed
                return list(ids)
            done = []
            for example_id in ids:
                with notes.example(example_id) as crashes:
                    if crashes:
                        continue
                    if example_id in poison:
                        dies()
                        raise Killed
                    done.append(example_id)
            return done

    done, deaths = attempts(work, kept)
    assert done == [example_id for example_id in ids if example_id not in poison]
    assert deaths == (1 + 2 * len(poison) if poison else 0)
    assert sorted(kept) == [f"embedding/{example_id}" for example_id in poison]  # known, wherever they turn up again


def test_without_a_store_nothing_is_ever_suspicious():
    NoStore().put("embedding/3", 7)
    assert NoStore().get("embedding/3") == 0
    for _ in range(5):
        with CrashNotes().block([3]) as suspicious, CrashNotes().example(3) as crashes:
            assert not suspicious
            assert not crashes


@pytest.mark.parametrize("place", ["folder", "uri"])
def test_a_folder_keeps_notes_for_the_next_process(tmp_path, place):
    folder = str(tmp_path / "run" / "crashes") if place == "folder" else f"memory://bucket/{tmp_path.name}/crashes/"
    store = FolderStore(folder)
    assert store.get("embedding/3") == 0
    store.put("embedding/3", 0)  # nothing to remove
    store.put("embedding/3", 1)
    store.put("embedding/3", 2)
    store.put("embedding/3+2", 1)
    again = FolderStore(folder)
    assert (again.get("embedding/3"), again.get("embedding/3+2"), again.get("reading/3")) == (2, 1, 0)
    with CrashNotes("embedding", again).example(3) as crashes:
        assert crashes
    with CrashNotes("embedding", again).block([3, 4]) as suspicious:
        assert suspicious
    assert (store.get("embedding/3"), store.get("embedding/3+2")) == (2, 0)  # that block was worked through
    assert len(storage.list_folder(folder)) == 1
    again.put("embedding/3", 0)
    assert storage.list_folder(folder) == []


def test_a_folder_that_cannot_be_used_keeps_no_notes(tmp_path):
    (tmp_path / "file").write_text("in the way")
    store = FolderStore(str(tmp_path / "file" / "crashes"))
    store.put("embedding/3", 1)
    assert store.get("embedding/3") == 0
    (tmp_path / "embedding-4").write_text("no number")
    assert FolderStore(str(tmp_path)).get("embedding/4") == 0


def table(count):
    rows = [{"id": row, "bytes": audio_bytes(tone(row, 0.2)), "path": None, "label": 0} for row in range(count)]
    schema = pa.schema({"id": pa.int64(), "bytes": pa.large_binary(), "path": pa.string(), "label": pa.int64()})
    return pa.Table.from_pylist(rows, schema)


def test_an_example_that_ends_the_decoder_is_left_out(encoder_folder, monkeypatch):
    recipe, kept, state = speech_recipe(encoder_folder), Kept(), {}

    def deadly(row, recipe, baseline):
        if row["id"][0].as_py() == 1:
            state["dies"]()
            raise Killed
        return read_example(row, recipe, baseline)

    monkeypatch.setattr(examples_module, "read_example", deadly)

    def work(dies):
        state["dies"] = dies
        return list(group_examples(table(3), recipe, False, 60.0, CrashNotes("reading", kept)))

    groups, deaths = attempts(work, kept)
    examples = ungroup(pa.concat_tables(groups))
    assert deaths == 3
    assert [(example.id, example.reason) for example in examples] == [(0, ""), (1, CRASHED), (2, "")]


@pytest.mark.parametrize("store", ["memory", "folder"])
@pytest.mark.parametrize("gpu", [False, True])
def test_an_example_that_ends_the_worker_is_left_out_and_the_others_keep_their_vectors(
    encoder_folder, tmp_path, gpu, store
):
    recipe = speech_recipe(encoder_folder)
    task = EmbeddingTask(recipe=recipe)
    resources = Resources(workers=1, threads=1, cpus=1, gpu=gpu, backend="auto")
    batch = table(4)
    poison = float(read_example(batch.slice(2, 1), recipe, False).data[0])
    if gpu:  # one that PyTorch cannot use, but groups it gets
        batch = pa.concat_tables(list(group_examples(batch, recipe, False, 60.0)))
    quiet = EmbedBatch(task, resources)(batch)
    kept = Kept() if store == "memory" else FolderCopy(tmp_path)

    def work(dies):
        stage = EmbedBatch(task, resources, CrashNotes("embedding", kept.store()))
        embed = stage.encoder.embed

        def deadly(examples):
            if any(abs(float(wave[0]) - poison) < 1e-9 for wave in examples):
                dies()
                raise Killed
            return embed(examples)

        stage.encoder.embed = deadly
        return stage(batch)

    done, deaths = attempts(work, kept)
    assert deaths == 3
    assert done["reason"] == ["", "", CRASHED, ""]
    assert not done["vector"][2].any()
    for row in (0, 1, 3):
        assert done["vector"][row].tobytes() == quiet["vector"][row].tobytes()


class FolderCopy:
    """A folder's files, to be put back as they were when a `process` ended."""

    def __init__(self, folder):
        self.folder = folder

    def store(self):
        return FolderStore(str(self.folder))

    def keys(self):
        return [path.name for path in self.folder.iterdir()]

    def __getitem__(self, name):
        return (self.folder / name).read_bytes()

    def clear(self):
        for path in self.folder.iterdir():
            path.unlink()

    def update(self, files):
        for name, content in files.items():
            (self.folder / name).write_bytes(content)
