"""The grid of a comparison: which candidates it names, the presets that hold one, and what is refused."""

import pytest

from golem_ray.cli.flags import parse_compare, parse_train
from golem_ray.config import GridConfig, HeadConfig
from golem_ray.config.presets import config_from_dict, preset_text
from golem_ray.errors import ConfigError
from golem_ray.jobs.candidates import spell_out
from golem_ray.jobs.compare import run
from tests.conftest import write_clips, write_encoder
from tests.jobs.runs import comparison_on as base


def test_a_grid_is_spelled_out_with_the_configured_recipe_first_and_each_once(encoder_folder, tmp_path):
    other = str(write_encoder(tmp_path / "other", num_hidden_layers=1))
    grid = GridConfig(encoders=(str(encoder_folder), other), layers=("all", "last", 1), poolings=("mean", "mean+std"))
    spelled = spell_out(base(encoder_folder), grid)
    assert len(spelled.candidates) == (4 + 3) * 2 * 3  # layers of both encoders: 0 1 last mean, 0 last mean
    first = spelled.candidates[0]
    assert (first.encoder, first.layer, first.pooling, first.head) == (str(encoder_folder), "last", "mean", "linear")
    assert len(set(spelled.candidates)) == len(spelled.candidates)
    assert {recipe.layer for recipe in spelled.recipes.values()} == {"all"}
    assert {recipe.pooling for recipe in spelled.recipes.values()} == {"mean+std"}
    trained = spelled.config(base(encoder_folder), spelled.candidates[-1])
    assert (trained.model.feature_extractor_model, trained.model.pooling) == (other, "mean+std")
    assert trained.head == grid.heads["hidden"]

    one = spell_out(
        base(encoder_folder, head={"dropout": 0.1, "hidden": [4]}), GridConfig(layers=("last",), poolings=("mean",))
    )
    assert [each.head for each in one.candidates] == ["default", "linear", "logistic", "hidden"]
    assert (one.recipes[str(encoder_folder)].layer, one.recipes[str(encoder_folder)].pooling) == ("last", "mean")


def test_a_head_that_cannot_be_trained_as_configured_is_refused(encoder_folder):
    with pytest.raises(ConfigError, match=r"training\.batch_size: expected none for head\.kind 'logistic'"):
        spell_out(base(encoder_folder, training={"batch_size": 8}), GridConfig())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("grid = 3", "grid: expected a group of keys, got 3"),
        ("[grid]\nencoder = ['a']", "grid.encoder: expected one of encoders, layers, poolings, join_baseline, heads"),
        ("[grid]\nlayers = ['first']", "grid.layers: expected a list, each a whole number or"),
        ("[grid]\nlayers = [-1]", "grid.layers: expected 0 or more"),
        ("[grid]\njoin_baseline = [1]", "grid.join_baseline: expected a list, each true or false or none"),
        ("[grid]\njoin_baseline = []", "grid.join_baseline: expected one or more"),
        ("[grid]\nlayers = [true]", "grid.layers: expected a list, each a whole number or"),
        ("[grid]\nlayers = []", "grid.layers: expected one or more"),
        ("[grid]\nheads = 'linear'", "grid.heads: expected groups of keys"),
        ("[grid.heads.mine]\nhiden = [3]", "head.hiden: expected a key of the configuration"),
    ],
)
def test_a_wrong_grid_is_one_line(tmp_path, text, words):
    (tmp_path / "grid.toml").write_text(text)
    with pytest.raises(ConfigError) as error:
        parse_compare([str(tmp_path / "grid.toml")])
    assert str(error.value).startswith(words), str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "grid", "error", "words"),
    [
        ({"model": {"layer": "auto"}}, {}, ConfigError, r"model\.layer: expected something to compare with"),
        ({"model": {"layer": 9}}, {}, ConfigError, r"model\.layer: expected 0 to 2"),
        ({"model": {"classifier_input_features": 32}}, {}, ConfigError, r"classifier_input_features: expected 'auto'"),
        ({}, {"heads": {"default": HeadConfig(hidden=(3,))}}, ConfigError, r"grid\.heads: expected another name"),
        ({}, {"layers": (9,)}, ConfigError, r"grid\.layers: expected 0 to 2, .* got 9"),
        ({"evaluation": {"split": "test"}}, {}, ConfigError, r"evaluation\.split: expected none in a comparison"),
        ({"evaluation": {"reject": 0.9}}, {}, ConfigError, r"evaluation\.reject: expected none in a comparison"),
        ({"evaluation": {"repeats": 0}}, {}, ConfigError, r"evaluation\.repeats: expected 1 or more"),
    ],
)
def test_what_cannot_be_compared_is_one_line(clips_folder, encoder_folder, tmp_path, changes, grid, error, words):
    model = {"feature_extractor_model": str(encoder_folder), **changes.pop("model", {})}
    with pytest.raises(error, match=words):
        run(base(encoder_folder, clips_folder, model=model, **changes), GridConfig(**grid), str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("name", "content"), [("best.toml", "[head]\nhidden = [3]\n"), ("comparison.json", '{"mine": [1, 2]}')]
)
def test_what_lies_where_a_comparison_goes_is_kept_unless_it_is_ours(
    clips_folder, encoder_folder, tmp_path, name, content
):
    (tmp_path / name).write_text(content)
    grid = GridConfig(layers=("last",), poolings=("mean",), heads={"small": HeadConfig(hidden=(3,))})
    with pytest.raises(ConfigError, match=f"output: expected room for {name}, found another file at .*{name}; name"):
        run(base(encoder_folder, clips_folder, training={"epochs": 2}), grid, str(tmp_path))
    assert (tmp_path / name).read_text() == content


def test_the_place_of_a_comparison_has_no_password():
    with pytest.raises(ConfigError, match="output: .* password"):
        parse_compare(["--output", "s3://user:secret@bucket/x"])


def test_a_preset_says_what_differs_from_the_defaults(tmp_path):
    config = config_from_dict(
        {
            "dataset": {"name": "s3://b/clips", "name_alias": ""},
            "model": {"layer": 3, "pooling": "mean+std"},
            "head": {"hidden": [8, 4], "dropout": 0.25},
            "evaluation": {"group_column": 'a "speaker"'},
        }
    )
    (tmp_path / "best.toml").write_text(preset_text(config, ["The best."]))
    assert parse_train([str(tmp_path / "best.toml")]).config == config
    assert "learning_rate" not in (tmp_path / "best.toml").read_text()


def test_the_presets_beside_the_job_are_grids(tmp_path):
    command = parse_compare(["grid"])
    assert command.grid == GridConfig(encoders=("sample",), layers=("last", "mean"), poolings=("mean", "mean+std"))
    assert command.config == config_from_dict(
        {"dataset": {"name": "sample"}, "model": {"feature_extractor_model": "sample"}}
    )
    assert parse_compare([]).grid == GridConfig()
    best = parse_train(["best"]).config
    assert (best.model.layer, best.model.pooling, best.head) == ("mean", "mean+std", GridConfig().heads["hidden"])
    on_hub = parse_compare(["hub_grid", "--processing.max-samples", "100"])
    assert (len(on_hub.grid.encoders), list(on_hub.grid.heads)) == (7, ["linear", "logistic"])
    assert on_hub.config.processing.max_samples == 100


def test_datasets_beside_the_main_one_are_trained_on_by_every_candidate_and_are_in_the_best_ones_preset(
    clips_folder, encoder_folder, tmp_path
):
    more = write_clips(tmp_path / "more", ["east", "west"], seconds=0.1)  # of which north and south have none
    dataset = {"name": str(clips_folder), "label_column": "label"}
    dataset["extra"] = [{"name": str(more), "label_column": "label"}]
    small = {"small": HeadConfig(hidden=(3,))}
    config = base(encoder_folder, clips_folder, dataset=dataset, training={"epochs": 2})
    grid = GridConfig(layers=("last",), poolings=("mean",), heads=small)
    found = run(config, grid, str(tmp_path / "out"))
    assert (found["num_clips"], found["num_single_clip_classes"], found["largest_class"]) == (24, 0, 0.25)
    assert found["extra"] == [{"dataset": str(more), "split": "train", "num_clips": 2}]
    assert (
        f"2 candidates on 24 clips of {clips_folder}, split train (beside 2 of {more}, split train" in found["summary"]
    )
    assert parse_train([found["bestPath"]]).config.dataset == config.dataset
