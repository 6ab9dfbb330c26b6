"""The facts of every example of a source."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from golem_ray.config import DatasetConfig
from golem_ray.data import open_source
from golem_ray.embedding import facts
from golem_ray.embedding.facts import Tally, facts_of
from golem_ray.speech import MODALITY
from golem_ray.text import MODALITY as TEXTS
from tests.conftest import audio_bytes, tone


def test_each_row_has_the_facts_of_its_own_clip_also_from_shards(tmp_path):
    seconds = 0.05 + 0.001 * np.random.default_rng(0).permutation(150)  # more than two blocks, in no order
    clips = [audio_bytes(tone(row, length)) for row, length in enumerate(seconds)]
    clips[70] = b"noise"
    clips[149] = audio_bytes(tone(149, 0.1, 16000), 16000)
    table = pa.table({"audio": [{"bytes": clip, "path": None} for clip in clips], "label": ["a", "b"] * 75})
    pq.write_table(table, tmp_path / "train.parquet", row_group_size=40)
    dataset = DatasetConfig(name=str(tmp_path / "train.parquet"), label_column="label")
    found = facts_of(open_source(dataset, MODALITY.content, None), MODALITY)
    usable = [*range(70), *range(71, 149)]
    np.testing.assert_allclose(found.columns["duration"][usable], np.round(seconds * 8000)[usable] / 8000)
    assert (list(found.bad), np.isnan(found.columns["duration"][70]), found.columns["rate"][70]) == ([70], True, -1)
    assert "not audio" in found.bad[70]
    assert found.names["rate"] == {"8000": 0, "16000": 1}
    assert found.columns["rate"][148:].tolist() == [0, 1]
    assert len(np.unique(found.digests)) == 150
    assert np.flatnonzero(~found.good).tolist() == [70]


def test_counts_of_what_can_be_used_are_added_up(tmp_path):
    lines = ["text,label", *(f"{text},a" for text in ("ab", "bc!", "", "b" * 100_001))]
    (tmp_path / "set.csv").write_text("\n".join(lines) + "\n")
    dataset = DatasetConfig(name=str(tmp_path / "set.csv"), label_column="label", text_column="text")
    found = facts_of(open_source(dataset, TEXTS.content, None), TEXTS)
    assert found.tallies["letters"] == Tally(Counter("abbc!"), 0)
    assert (list(found.bad), "letters" in found.columns) == ([2, 3], False)
    assert found.columns["characters"][:2].tolist() == [2, 3]


def test_more_different_things_than_are_counted_apart_are_counted_together(monkeypatch):
    monkeypatch.setattr(facts, "MOST_THINGS", 3)
    tally = Tally()
    for text in ("aab", "bcd", "dda"):
        tally.add(Counter(text))
    assert tally == Tally(Counter(a=3, b=2, c=1), 3)
