"""The comparison job: what it finds and writes, and that it embeds a clip once for each encoder."""

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pytest

from golem_ray.cli.commands import compare
from golem_ray.cli.flags import parse_compare, parse_train
from golem_ray.config import GridConfig, HeadConfig
from golem_ray.config.presets import config_from_dict
from golem_ray.data import open_source
from golem_ray.data.split import Division
from golem_ray.data.table import Source
from golem_ray.embedding.embeddings import Embeddings
from golem_ray.errors import DataError
from golem_ray.jobs import compare as compare_job
from golem_ray.jobs.compare import run
from golem_ray.speech import MODALITY
from golem_ray.speech.encoders import SpeechEncoder
from tests.conftest import job, write_clips, write_encoder
from tests.jobs.runs import comparison_on, write_grid


def test_bad_clips_are_named_with_the_encoder_that_refused_them_and_end_a_comparison_of_one_class(caplog):
    paths = [f"{row}.wav" for row in range(12)]
    source = Source(examples=pa.table({"path": paths, "label": [0, 1] * 6}), labels=("a", "b"))
    division = Division(source=source, names=source.labels, tested=np.zeros(12, dtype=bool))

    def embedded(bad):
        vectors, digests = np.zeros((12, 2), dtype=np.float32), np.zeros(12, dtype="S32")
        return Embeddings(vectors=vectors, bad=dict.fromkeys(bad, "not audio"), digests=digests, baseline=None)

    config = config_from_dict({"processing": {"max_bad_fraction": 0.6}})
    both = {"one": embedded([1, 3]), "other": embedded([3, 4])}
    assert compare_job._usable(config, division, both).tolist() == [
        0,
        2,
        *range(5, 12),
    ]  # what all could embed
    for row, encoder in ((1, "one"), (3, "one"), (4, "other")):
        assert f"clip {row} ({row}.wav): not audio (encoder {encoder})" in caplog.text
    with pytest.raises(DataError, match="usable clips of at least two classes, found 1"):
        compare_job._usable(config, division, {"one": embedded(range(1, 12, 2))})


@pytest.fixture(scope="module")
def forwards():
    """How many clips the encoders of this process have been given since the first of these tests."""
    given, embed = [], SpeechEncoder.embed

    def counting(self, waveforms):
        given.append(len(waveforms))
        return embed(self, waveforms)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SpeechEncoder, "embed", counting)
        yield lambda: sum(given)


@pytest.fixture(scope="module")
def compared(forwards, encoder_folder, tmp_path_factory):
    """A comparison of two encoders, two layers and two heads: its folder, what it said, and what it found."""
    work = tmp_path_factory.mktemp("work")
    other = write_encoder(tmp_path_factory.mktemp("other"), seed=1)
    write_grid(work, encoder_folder, encoders=[str(encoder_folder), str(other)])
    before = forwards()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(work)
        *said, result = compare(["grid.toml", "--json"])
    assert forwards() - before == 2 * 18  # each clip once per encoder
    return work, "\n".join(said), json.loads(result)


def test_a_comparison_says_what_it_found(compared):
    work, said, found = compared
    assert found["num_clips"] == 18
    assert f"{len(found['candidates'])} candidates on 18 clips of" in said
    assert {(row["encoder"], row["layer"], row["head"]) for row in found["candidates"]} >= {
        (encoder, layer, "small")
        for encoder in {row["encoder"] for row in found["candidates"]}
        for layer in (1, "last")
    }
    assert "2 rounds of cross-validation with no who on both sides of a fold" in said
    assert f"To train with the best: golem-ray train {work / 'comparison' / 'best.toml'}" in said
    accuracies = [row["accuracy"]["value"] for row in found["candidates"]]
    assert accuracies == sorted(accuracies, reverse=True)
    assert sorted(path.name for path in (work / "comparison").iterdir()) == [
        "best.toml",
        "comparison.json",
        "embeddings",
        "report.html",
    ]


def test_the_best_of_a_comparison_is_a_preset(compared):
    work, _, found = compared
    best = parse_train([str(work / "comparison" / "best.toml")]).config
    chosen = json.loads((work / "comparison" / "comparison.json").read_text())["candidates"][0]
    assert chosen == found["candidates"][0]
    assert (best.model.feature_extractor_model, best.model.layer) == (chosen["encoder"], chosen["layer"])
    assert open_source(best.dataset, MODALITY.content, None).examples.num_rows == 18
    assert "Choosing anew in each fold" in (work / "comparison" / "best.toml").read_text()


def test_other_heads_are_compared_without_embedding_a_clip_again(compared, forwards):
    work, _, _ = compared
    command = parse_compare([str(work / "grid.toml"), "--output", str(work / "comparison")])
    before = forwards()
    again = run(
        command.config, dataclasses.replace(command.grid, heads={"wide": HeadConfig(hidden=(8,))}), command.output
    )
    assert {row["head"] for row in again["candidates"]} == {"default", "wide"}
    assert forwards() == before


def test_clips_that_cannot_be_cross_validated_are_not_compared(compared, tmp_path):
    work, _, _ = compared
    command = parse_compare(
        [str(work / "grid.toml"), "--output", str(tmp_path / "out"), "--processing.max-samples", "2"]
    )
    paths = dataclasses.replace(command.config.paths, embedding_cache=str(work / "comparison" / "embeddings"))
    with pytest.raises(DataError, match="a class with two clips, or two groups"):
        run(dataclasses.replace(command.config, paths=paths), command.grid, command.output)


@pytest.mark.slow
def test_three_encoders_and_four_heads_on_noise_are_at_chance(forwards, tmp_path, encoder_folder):
    rng = np.random.default_rng(0)
    names = rng.permutation(np.array(["a", "b", "c", "d"] * 125)).tolist()  # what is heard says nothing of them
    clips = write_clips(tmp_path / "clips", names, seconds=0.05)
    others = [str(write_encoder(tmp_path / f"encoder{seed}", seed=seed)) for seed in (1, 2)]
    heads = {
        "linear": HeadConfig(),
        "standardized": HeadConfig(standardize=True),
        "decayed": HeadConfig(weight_decay=0.1),
        "hidden": HeadConfig(hidden=(4,)),
    }
    grid = GridConfig(encoders=(str(encoder_folder), *others), layers=("last",), poolings=("mean",), heads=heads)
    before = forwards()
    found = run(comparison_on(encoder_folder, clips, training={"epochs": 3}), grid, str(tmp_path / "out"))
    assert forwards() - before == 3 * 500
    assert len(found["candidates"]) == 3 * 4
    low, high = found["nested"]["accuracy"]["interval_95"]
    assert low <= 0.25 <= high
    assert low > 0.15
    assert [len(curve["points"]) for curve in found["learning_curves"]] == [5] * len(found["learning_curves"])


def test_the_command_compares_and_trains_with_the_best(command, tmp_path, monkeypatch, encoder_folder):
    """The comparison is a process of its own."""
    write_grid(tmp_path, encoder_folder)
    traces = tmp_path / "ray"  # of a Ray, if one were started
    done = job("compare", "grid.toml", cwd=tmp_path, RAY_TMPDIR=str(traces))
    assert done.returncode == 0, done.stderr
    assert f"To train with the best: golem-ray train {tmp_path}/comparison/best.toml" in done.stdout
    assert "comparing: " in done.stderr
    assert "Traceback" not in done.stderr
    assert not traces.exists()
    monkeypatch.chdir(tmp_path)
    flags = ["--cluster.address", "none", "--cluster.threads-per-worker", "1"]  # a preset does not name a cluster
    assert command("train", "comparison/best.toml", *flags).status == 0
    assert (tmp_path / "voice_classifier_knowledge.pth").exists()
