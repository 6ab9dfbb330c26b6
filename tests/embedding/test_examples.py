"""Reading on the workers: each example's file, digest and waveform, or the reason why it cannot be used."""

import hashlib

import numpy as np
import pyarrow as pa
import pytest

from golem_ray.embedding.examples import group_examples, hash_batch, read_example, rows_of, ungroup
from tests.conftest import audio_bytes, clips_table, speech_recipe, tone

GOOD = audio_bytes(tone(0, 0.2))


@pytest.fixture(scope="module")
def recipe(encoder_folder):
    return speech_recipe(encoder_folder)


def read_all(table, recipe, baseline):
    return [read_example(row, recipe, baseline) for row in rows_of(table)]


def test_a_bad_clip_gets_a_reason_and_its_neighbours_their_waveforms(recipe):
    table = clips_table((GOOD, None, 1), (b"noise", None, 1), (GOOD, None, None), (None, "/no/file", 0))
    found = read_all(table, recipe, baseline=False)
    assert [example.id for example in found] == [10, 11, 12, 13]
    assert found[0].reason == ""
    assert "not audio" in found[1].reason
    assert "no label" in found[2].reason
    assert found[3].reason == "missing file"
    assert [len(example.data) for example in found] == [3200, 0, 0, 0]
    assert [example.cost for example in found] == [0.2, 0, 0, 0]  # seconds
    assert {example.baseline.shape for example in found} == {(0,)}
    assert {example.baseline.shape for example in read_all(table, recipe, baseline=True)} == {(80,)}


def test_an_example_without_a_file_is_called_what_its_modality_calls_it(recipe):
    (found,) = read_all(clips_table((None, None, 0)), recipe, baseline=False)
    assert found.reason == "no audio"


def test_digests_are_of_the_files_and_zero_without_one(recipe):
    table = clips_table((GOOD, None, 1), (b"noise", None, 1), (None, "/no/file", 0))
    expected = [hashlib.sha256(GOOD).digest(), hashlib.sha256(b"noise").digest(), bytes(32)]
    assert hash_batch(table)["digest"] == expected
    assert [example.digest for example in read_all(table, recipe, baseline=False)] == expected


@pytest.mark.parametrize("baseline", [False, True])
def test_groups_are_bounded_and_hold_what_was_read(recipe, baseline):
    files = [audio_bytes(tone(row, seconds)) for row, seconds in enumerate((0.5, 0.3, 0.3, 2.0, 0.1, 0.4))]
    files.insert(4, b"noise")
    table = clips_table(*((file, None, 0) for file in files))
    groups = list(group_examples(table, recipe, baseline, most_cost=1.0))
    assert [group.num_rows for group in groups] == [1, 1, 1, 1]
    members = [ungroup(group) for group in groups]
    assert [[example.id for example in group] for group in members] == [[10, 11], [12], [13], [14, 15, 16]]
    together = ungroup(pa.concat_tables(groups))
    assert [example.id for example in together] == list(range(10, 17))
    for found, expected in zip(together, read_all(table, recipe, baseline), strict=True):
        assert np.array_equal(found.data, expected.data)
        assert np.array_equal(found.baseline, expected.baseline)
        same = ("id", "digest", "reason", "cost")
        assert [getattr(found, name) for name in same] == [getattr(expected, name) for name in same]
