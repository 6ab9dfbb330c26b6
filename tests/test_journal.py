"""Which clip ended its process: the journal by itself, and in the stages that keep one."""

from functools import partial

import pyarrow as pa
import pytest

from golem_ray.config import ModelConfig
from golem_ray.devices import Resources
from golem_ray.embedding import examples as reading
from golem_ray.embedding.crash_notes import GUILTY, Journal
from golem_ray.embedding.examples import group_clips, ungroup
from golem_ray.embedding.recipe import Recipe
from golem_ray.embedding.stage import EmbedBatch
from golem_ray.speech.inspect import inspect_encoder
from tests.conftest import audio_bytes, tone


class Notes(dict):
    """A store that outlives the `processes` of a test."""

    def get(self, key):
        return super().get(key, 0)

    def put(self, key, value):
        self[key] = value
        if not value:
            del self[key]


class Killed(BaseException):
    """What ends a process: no `finally` of ours may see it, so the notes are put back as they were."""


def _freeze(frozen, notes):
    frozen.update(notes)


def attempts(work, notes):
    """What work() gives, begun anew after each death with the notes of that moment; and how often it died."""
    deaths = 0
    while True:
        frozen = {}
        try:
            return work(partial(_freeze, frozen, notes)), deaths
        except Killed:
            deaths += 1
            notes.clear()
            notes.update(frozen)
            assert deaths < 20, "for ever"


def test_nothing_is_left_of_a_quiet_run():
    notes = Notes()
    journal = Journal("embedding", notes)
    with journal.block([3, 4]) as suspicious:
        assert not suspicious
        assert notes == {"embedding/3+2": 1}
    assert not notes
    with pytest.raises(ValueError, match="a bug"), journal.block([3, 4]):
        raise ValueError("a bug")
    assert not notes  # it was no death


@pytest.mark.parametrize("poison", [[], [2], [0, 3], [4], [0, 1, 2, 3, 4]])
def test_exactly_the_clips_that_end_processes_are_left_out(poison):
    notes = Notes()
    journal = Journal("embedding", notes)
    ids = range(5)

    def work(dies):
        with journal.block(ids) as suspicious:
            if not suspicious:
                if poison:
                    dies()
                    raise Killed
                return list(ids)
            done = []
            for clip_id in ids:
                with journal.clip(clip_id) as guilty:
                    if guilty:
                        continue
                    if clip_id in poison:
                        dies()
                        raise Killed
                    done.append(clip_id)
            return done

    done, deaths = attempts(work, notes)
    assert done == [clip_id for clip_id in ids if clip_id not in poison]
    assert deaths == (1 + 2 * len(poison) if poison else 0)
    assert sorted(notes) == [f"embedding/{clip_id}" for clip_id in poison]  # known, wherever they turn up again


def table(count):
    rows = [{"id": row, "bytes": audio_bytes(tone(row, 0.2)), "path": None, "label": 0} for row in range(count)]
    schema = pa.schema({"id": pa.int64(), "bytes": pa.large_binary(), "path": pa.string(), "label": pa.int64()})
    return pa.Table.from_pylist(rows, schema)


def test_a_clip_that_ends_the_decoder_is_left_out(monkeypatch):
    notes = Notes()
    read_clip, state = reading.read_clip, {}

    def deadly(row, rate, baseline):
        if row["id"][0].as_py() == 1:
            state["dies"]()
            raise Killed
        return read_clip(row, rate, baseline)

    monkeypatch.setattr(reading, "read_clip", deadly)

    def work(dies):
        state["dies"] = dies
        return list(group_clips(table(3), 16000, False, 60.0, Journal("reading", notes)))

    groups, deaths = attempts(work, notes)
    clips = ungroup(pa.concat_tables(groups), 16000)
    assert deaths == 3
    assert [(clip.id, clip.reason) for clip in clips] == [(0, ""), (1, GUILTY), (2, "")]


@pytest.mark.parametrize("gpu", [False, True])
def test_a_clip_that_ends_the_actor_is_left_out_and_the_others_keep_their_vectors(encoder_folder, gpu):
    recipe = Recipe(encoder=inspect_encoder(ModelConfig(feature_extractor_model=str(encoder_folder))))
    resources = Resources(workers=1, threads=1, cpus=1, gpu=gpu, backend="auto")
    batch = table(4)
    if gpu:  # one that PyTorch cannot use, but groups it gets
        batch = pa.concat_tables(list(group_clips(batch, 16000, False, 60.0)))
    quiet = EmbedBatch(recipe, resources)(batch)
    notes = Notes()

    def work(dies):
        stage = EmbedBatch(recipe, resources, journal=Journal("embedding", notes))
        embed = stage.encoder.embed

        def deadly(waveforms):
            if any(abs(float(wave[0]) - poison) < 1e-9 for wave in waveforms):
                dies()
                raise Killed
            return embed(waveforms)

        stage.encoder.embed = deadly
        return stage(batch)

    waveform = reading.read_clip(table(4).slice(2, 1), 16000, False).waveform
    poison = float(waveform[0])
    done, deaths = attempts(work, notes)
    assert deaths == 3
    assert done["reason"] == ["", "", GUILTY, ""]
    assert not done["vector"][2].any()
    for row in (0, 1, 3):
        assert done["vector"][row].tobytes() == quiet["vector"][row].tobytes()
