"""What is left to be chosen, or compared, of encoders of texts: only what each of them can give."""

from __future__ import annotations

from pathlib import Path

import pytest

import golem_ray
from golem_ray.config import GridConfig, HeadConfig
from golem_ray.config.presets import config_from_dict
from golem_ray.errors import ConfigError
from golem_ray.jobs.candidates import spell_out
from tests.jobs.texts import run_on, sidecar, write_csv
from tests.text import write_text_encoder

HEAD = {"linear": HeadConfig()}


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text_encoder(tmp_path_factory.mktemp("t5"), "t5")


@pytest.mark.parametrize(
    ("encoder", "layers", "poolings"),
    [
        ("bert", {0, 1, "last", "mean"}, {"mean", "cls"}),
        ("t5", {0, 1, "last", "mean"}, {"mean"}),
        ("ngrams", {"last"}, {"mean"}),
    ],
)
def test_auto_chooses_among_what_the_encoder_has(text_encoder, t5, tmp_path, encoder, layers, poolings):
    folder = {"bert": text_encoder, "t5": t5}.get(encoder, encoder)
    config = run_on(write_csv(tmp_path / "train.csv", 24), folder, tmp_path / "t.pth", evaluation={"repeats": 1})
    config["model"] |= {"layer": "auto", "pooling": "auto", "join_baseline": "auto"}
    config["training"] = {"epochs": 5}
    golem_ray.train(config)
    document = sidecar(tmp_path / "t.pth")
    rows = document["metrics"]["choice"]["candidates"]
    assert {row["layer"] for row in rows} == layers
    assert {row["pooling"] for row in rows} == poolings
    assert len(rows) == len({row["name"] for row in rows}) == 2 * len(layers) * len(poolings)
    assert {row["join_baseline"] for row in rows} == {False, True}
    found = golem_ray.load(str(tmp_path / "t.pth"))
    assert found.recipe.vector_size == document["head"]["in_features"]
    assert found.predict("ура, здорово").label in found.labels


@pytest.mark.parametrize(("encoder", "pooling"), [("t5", "cls"), ("ngrams", "cls"), ("ngrams", "mean+std")])
def test_a_comparison_with_a_pooling_that_an_encoder_lacks_is_refused(text_encoder, t5, encoder, pooling):
    folder = str({"t5": t5}.get(encoder, encoder))
    base = config_from_dict(run_on("train.csv", text_encoder, "t.pth"))
    grid = GridConfig(encoders=(str(text_encoder), folder), layers=("last",), poolings=("mean", pooling), heads=HEAD)
    with pytest.raises(ConfigError, match=r"model\.pooling: expected 'mean' for "):
        spell_out(base, grid)
