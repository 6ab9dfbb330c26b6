"""Recipes side by side: what is compared, what counts as better, and what choosing is worth."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
import torch
from compare import compare
from scipy import stats

from golem_ray.cli.flags import parse, parse_compare
from golem_ray.config import GridConfig, HeadConfig, TrainingConfig
from golem_ray.config.presets import config_from_dict, preset_text
from golem_ray.data import open_source
from golem_ray.data.folds import stratified_folds
from golem_ray.data.table import Source
from golem_ray.embedding.embeddings import Embeddings
from golem_ray.errors import ConfigError, DataError
from golem_ray.heads.rounds import play_fewer, play_round
from golem_ray.heads.select import score
from golem_ray.jobs import compare as compare_job
from golem_ray.jobs.candidates import spell_out
from golem_ray.jobs.compare import run
from golem_ray.metrics import comparison
from golem_ray.metrics.comparison import Score, best_candidate
from golem_ray.report.comparison import render_comparison
from tests.conftest import ROOT, ray_that_counts_forwards, write_clips, write_encoder


def played(embeddings, labels, repeats, *, epochs=10, groups=None):
    """The rounds of a linear head on (N, D)."""
    x, y, training = torch.tensor(embeddings), torch.tensor(labels), TrainingConfig(epochs=epochs)
    num_classes = int(labels.max()) + 1
    return [play_round(x, y, num_classes, HeadConfig(), training, groups, repeats, number) for number in range(repeats)]


def test_on_noise_choosing_is_worth_chance_although_the_best_looks_better():
    inside, worth, looks = 0, [], []
    for seed in range(1, 5):
        rng = np.random.default_rng(seed)
        labels = rng.permutation(np.arange(60) % 4)
        candidates = [rng.standard_normal((60, 6)).astype(np.float32) for _ in range(12)]
        rounds = [played(candidate, labels, 1) for candidate in candidates]
        found = comparison.compare(rounds, labels, 0, None)
        low, high = found["nested"]["accuracy"]["interval_95"]
        inside += low <= 0.25 <= high
        worth.append(found["nested"]["accuracy"]["value"])
        looks.append(found["candidates"][found["order"][0]]["accuracy"]["value"])
        assert sum(count for _, count in found["nested"]["chosen"]) == 5
    assert inside >= 3  # of four intervals of 95 %
    assert 0.2 < np.mean(worth) < 0.3 < np.mean(looks)


def test_the_better_recipe_is_found_and_its_gain_does_not_cover_zero():
    rng = np.random.default_rng(0)
    labels = np.arange(80) % 4
    noise = rng.standard_normal((80, 6)).astype(np.float32)
    good = (noise + 2 * rng.standard_normal((4, 6))[labels]).astype(np.float32)
    rounds = [played(each, labels, 2, epochs=40) for each in (noise, good, noise * 2)]
    found = comparison.compare(rounds, labels, 0, None)
    assert found["order"][0] == 1
    low, high = found["candidates"][1]["against_default"]["interval_95"]
    assert 0.2 < low < found["candidates"][1]["against_default"]["value"] < high
    assert found["candidates"][1]["against_best"] == {"value": 0.0, "interval_95": [0.0, 0.0]}
    assert found["candidates"][0]["against_best"]["value"] == -found["candidates"][1]["against_default"]["value"]
    assert found["nested"]["chosen"] == [[1, 10]]
    assert found["nested"]["accuracy"] == found["candidates"][1]["accuracy"]


def test_rounds_are_those_of_the_training_jobs_cross_validation():
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 4
    embeddings = (rng.standard_normal((40, 6)) + rng.standard_normal((4, 6))[labels]).astype(np.float32)
    rounds = played(embeddings, labels, 3)
    x, y = torch.tensor(embeddings), torch.tensor(labels)
    expected = score(x, y, 4, HeadConfig(), TrainingConfig(epochs=10), None, 3)
    assert np.mean([each.right for each in rounds]) == pytest.approx(expected.accuracy)
    assert np.mean([each.losses for each in rounds]) == pytest.approx(expected.log_loss, rel=1e-5)
    assert all(len(each.inner) == 5 for each in rounds)
    train, _ = stratified_folds(labels, 3, 0)[5]  # the first fold of the second round
    inner = score(x[train], y[train], 4, HeadConfig(), TrainingConfig(epochs=10), None, 1)
    assert rounds[1].inner[0][:2] == inner[:2]


def test_the_best_is_the_most_accurate_then_the_surest_then_the_first():
    assert best_candidate([Score(0.5, 1.0), None, Score(0.6, 3.0), Score(0.6, 2.0), Score(0.6, 2.0)]) == 3
    assert best_candidate([None, None]) is None


def test_a_paired_interval_is_nadeau_and_bengios():
    rng = np.random.default_rng(1)
    first, second = (rng.random((2, 3, 50)) < 0.6).astype(np.float32)
    found = comparison.paired(first, second, 5, None)
    differences = first - second
    variance = differences.var(axis=1, ddof=1).mean() / 50  # of one round's mean over 50 clips
    half = stats.t.ppf(0.975, 49) * np.sqrt(variance * (1 / 3 + 5 / 4))
    value = differences.mean()
    assert found["value"] == pytest.approx(value)
    assert found["interval_95"] == pytest.approx([value - half, value + half])


def test_intervals_of_equal_groups_are_students_over_their_means():
    rng = np.random.default_rng(2)
    right = (rng.random((1, 40)) < 0.5).astype(np.float32)
    groups = np.repeat([7, 3, 9, 1, 5], 8)
    means = right.reshape(5, 8).mean(axis=1)
    half = stats.t.ppf(0.975, 4) * stats.sem(means)
    low, high = comparison.accuracy_of(right, groups)["interval_95"]
    assert (low, high) == pytest.approx((means.mean() - half, means.mean() + half))
    low, high = comparison.paired(right, np.zeros((1, 40)), 5, groups)["interval_95"]
    half *= np.sqrt(1 + 5 / 4)
    assert (low, high) == pytest.approx((max(-1, means.mean() - half), min(1, means.mean() + half)))
    one = comparison.paired(right, 1 - right, 5, np.zeros(40))  # one person tells nothing
    assert one["interval_95"] == [-1.0, 1.0]


def test_intervals_between_equal_recipes_cover_zero_as_often_as_they_say(monkeypatch):
    monkeypatch.setattr("golem_ray.heads.select.score", lambda *arguments: None)
    misses = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        labels, centres = np.arange(50) % 5, rng.standard_normal((5, 6))
        embeddings = [(rng.standard_normal((50, 6)) + centres[labels]).astype(np.float32) for _ in range(2)]
        first, second = (np.stack([each.right for each in played(x, labels, 2, epochs=5)]) for x in embeddings)
        low, high = comparison.paired(first, second, 5, None)["interval_95"]
        misses += not low <= 0 <= high
    assert misses <= 4


def test_clips_that_were_not_tested_are_left_out():
    right = np.array([[1, np.nan, 0, np.nan], [1, 1, np.nan, np.nan]])
    assert comparison.accuracy_of(right, None)["value"] == pytest.approx(3 / 4)


def test_fewer_clips_are_some_of_the_more_and_all_of_them_are_the_round_itself():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    embeddings = (rng.standard_normal((60, 6)) + rng.standard_normal((3, 6))[labels]).astype(np.float32)
    x, y, training = torch.tensor(embeddings), torch.tensor(labels), TrainingConfig(epochs=60)
    right = play_fewer(x, y, 3, HeadConfig(), training, None, 1, 0, (1, 5, 1000))
    assert right.shape == (3, 60)
    assert np.array_equal(right[2], play_round(x, y, 3, HeadConfig(), training, None, 1, 0).right)
    assert right[0].mean() < right[2].mean()
    points = comparison.curve((1, 5), right[None, :2], right[None, 2], None)
    assert [point["clips_per_class"] for point in points] == [1, 5, "all"]
    assert [point["value"] for point in points] == pytest.approx(right.mean(axis=1).tolist())


def base(encoder, clips="clips", **changes):
    return config_from_dict(
        {
            "dataset": {"name": str(clips), "label_column": "label"},
            "model": {"feature_extractor_model": str(encoder)},
            "processing": {"max_samples": "all"},
            "device": {"backend": "cpu"},
            "cluster": {"threads_per_worker": 1, "workers": 1},
            "evaluation": {"repeats": 1},
            **changes,
        }
    )


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
        ("[grid]\nencoder = ['a']", "grid.encoder: expected one of encoders, layers, poolings, heads"),
        ("[grid]\nlayers = ['first']", "grid.layers: expected a list of"),
        ("[grid]\nlayers = [-1]", "grid.layers: expected 0 or more"),
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
        ({"model": {"layer": "auto"}}, {}, ConfigError, r"model\.layer: expected a layer to compare with"),
        ({"model": {"layer": 9}}, {}, ConfigError, r"model\.layer: expected 0 to 2"),
        ({"model": {"classifier_input_features": 32}}, {}, ConfigError, r"classifier_input_features: expected 'auto'"),
        ({}, {"heads": {"default": HeadConfig(hidden=(3,))}}, ConfigError, r"grid\.heads: expected another name"),
        ({}, {"layers": (9,)}, ConfigError, r"grid\.layers: expected 0 to 2, .* got 9"),
        ({"evaluation": {"split": "test"}}, {}, ConfigError, r"evaluation\.split: expected none in a comparison"),
        ({"evaluation": {"repeats": 0}}, {}, ConfigError, r"evaluation\.repeats: expected 1 or more"),
    ],
)
def test_what_cannot_be_compared_is_one_line(clips_folder, encoder_folder, tmp_path, changes, grid, error, words):
    model = {"feature_extractor_model": str(encoder_folder), **changes.pop("model", {})}
    with pytest.raises(error, match=words):
        run(base(encoder_folder, clips_folder, model=model, **changes), GridConfig(**grid), str(tmp_path / "out"))


def test_what_lies_where_the_winners_preset_goes_is_kept_unless_it_is_ours(clips_folder, encoder_folder, tmp_path):
    (tmp_path / "best.toml").write_text("[head]\nhidden = [3]\n")
    with pytest.raises(ConfigError, match=r"output: expected room for the winner's preset, found another"):
        run(base(encoder_folder, clips_folder), GridConfig(), str(tmp_path))
    with pytest.raises(ConfigError, match="output: .* password"):
        parse_compare(["--output", "s3://user:secret@bucket/x"])


def test_bad_clips_that_leave_one_class_end_the_comparison():
    paths = [f"{row}.wav" for row in range(12)]
    source = Source(examples=pa.table({"path": paths, "label": [0, 1] * 6}), labels=("a", "b"))

    def embedded(bad):
        vectors, digests = np.zeros((12, 2), dtype=np.float32), np.zeros(12, dtype="S32")
        return Embeddings(
            vectors=vectors, bad=dict.fromkeys(bad, "not audio"), digests=digests, log_mel=None, workers=()
        )

    config = config_from_dict({"processing": {"max_bad_fraction": 0.6}})
    both = {"one": embedded([1, 3]), "other": embedded([3, 4])}
    assert compare_job._usable(config, source, both).tolist() == [0, 2, *range(5, 12)]  # what every encoder could embed
    with pytest.raises(DataError, match="usable clips of at least two classes, found 1"):
        compare_job._usable(config, source, {"one": embedded(range(1, 12, 2))})


def test_the_table_tells_recipes_apart_however_long_the_encoders_path_is():
    result = comparison_result("/somewhere/in/a/rather/long/folder/of/encoders/wav2vec2-large-960h-lv60-self-trained")
    rows = [line for line in comparison.summary(result).splitlines() if " linear " in line]
    assert len(rows) == len({row[:60] for row in rows}) == 5
    assert [row for row in rows if row.startswith("*")] == [row for row in rows if " last " in row]
    result["candidates"] = result["candidates"][:3] * 10 + result["candidates"][3:]
    assert sum(line.startswith("* wav2vec2") for line in comparison.summary(result).splitlines()) == 1


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
    assert parse([str(tmp_path / "best.toml")]).config == config
    assert "learning_rate" not in (tmp_path / "best.toml").read_text()


def test_the_presets_beside_the_job_are_grids(tmp_path):
    command = parse_compare([str(ROOT / "jobs" / "presets" / "grid.toml")])
    assert command.grid == GridConfig(encoders=("sample",))
    assert command.config == config_from_dict(
        {"dataset": {"name": "sample"}, "model": {"feature_extractor_model": "sample"}}
    )
    assert parse_compare([]).grid == GridConfig()
    best = parse([str(ROOT / "jobs" / "presets" / "best.toml")]).config
    assert (best.model.layer, best.model.pooling, best.head) == ("mean", "mean+std", GridConfig().heads["hidden"])
    on_hub = parse_compare([str(ROOT / "jobs" / "presets" / "hub_grid.toml"), "--processing.max-samples", "100"])
    assert (len(on_hub.grid.encoders), list(on_hub.grid.heads)) == (7, ["linear", "logistic"])
    assert on_hub.config.processing.max_samples == 100


@pytest.fixture(scope="module")
def forwards(tmp_path_factory):
    """How many clips the encoders were given, on one Ray for these tests."""
    with ray_that_counts_forwards(tmp_path_factory.mktemp("forwards") / "log") as count:
        yield count


def write_grid(folder, encoder, **keys):
    """A grid.toml in the folder, on 18 clips of three speakers; `keys` go into [grid]."""
    clips = write_clips(folder / "clips", ["left", "right", "up"] * 6, seconds=0.1)
    lines = (clips / "metadata.csv").read_text().splitlines()
    rows = [f"{line},{'ann' if row < 6 else 'bob' if row < 12 else 'cleo'}" for row, line in enumerate(lines[1:])]
    (clips / "metadata.csv").write_text("\n".join([f"{lines[0]},who", *rows]) + "\n")
    grid = f"""
        [dataset]
        name = "{clips}"
        label_column = "label"
        [model]
        feature_extractor_model = "{encoder}"
        [training]
        epochs = 5
        [evaluation]
        repeats = 2
        group_column = "who"
        [cluster]
        workers = 1
        [grid]
        layers = [1, "last"]
        poolings = ["mean"]
    """
    lines = [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    (folder / "grid.toml").write_text("\n".join([grid, *lines, "[grid.heads.small]", "hidden = [4]"]))


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
    assert f"{len(found['candidates'])} recipes on 18 clips of" in said
    assert {(row["encoder"], row["layer"], row["head"]) for row in found["candidates"]} >= {
        (encoder, layer, "small")
        for encoder in {row["encoder"] for row in found["candidates"]}
        for layer in (1, "last")
    }
    assert "2 rounds of cross-validation with no who on both sides of a fold" in said
    assert f"To train with the best: python jobs/train.py {work / 'comparison' / 'best.toml'}" in said
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
    best = parse([str(work / "comparison" / "best.toml")]).config
    chosen = json.loads((work / "comparison" / "comparison.json").read_text())["candidates"][0]
    assert chosen == found["candidates"][0]
    assert (best.model.feature_extractor_model, best.model.layer) == (chosen["encoder"], chosen["layer"])
    assert open_source(best.dataset, None).examples.num_rows == 18
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
    found = run(base(encoder_folder, clips, training={"epochs": 3}), grid, str(tmp_path / "out"))
    assert forwards() - before == 3 * 500
    assert len(found["candidates"]) == 3 * 4
    low, high = found["nested"]["accuracy"]["interval_95"]
    assert low <= 0.25 <= high
    assert low > 0.15
    assert [len(curve["points"]) for curve in found["learning_curves"]] == [5] * len(found["learning_curves"])


@pytest.mark.slow
def test_the_command_compares_and_trains_with_the_best(tmp_path, encoder_folder):
    write_grid(tmp_path, encoder_folder)
    for job, *arguments in (("compare", "grid.toml"), ("train", "comparison/best.toml")):
        command = [sys.executable, str(ROOT / "jobs" / f"{job}.py"), *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
    assert (tmp_path / "voice_classifier_knowledge.pth").exists()


HOSTILE = "</script><script>window.hacked=1</script><img src=x onerror=alert(1)>"


def comparison_result(name="some/encoder"):
    figure = {"value": 0.5, "interval_95": [0.4, 0.6]}
    rows = [
        {
            "encoder": name,
            "layer": layer,
            "pooling": "mean",
            "head": "linear",
            "name": f"{name}, layer {layer}, mean, linear",
            "accuracy": figure,
            "log_loss": 1.0,
            "against_best": {"value": -0.1, "interval_95": [-0.2, 0.05]},
            "against_default": {"value": 0.1, "interval_95": [-0.05, 0.2]},
        }
        for layer in (3, 0, "mean", "last", 10)
    ]
    return {
        "dataset": name,
        "split": "train",
        "num_clips": 50,
        "num_classes": 4,
        "group_column": "speaker",
        "repeats": 5,
        "seed": 0,
        "chance": 0.25,
        "largest_class": 0.3,
        "num_single_clip_classes": 1,
        "default": rows[3]["name"],
        "best": rows[0]["name"],
        "candidates": rows,
        "nested": {
            "accuracy": figure,
            "against_default": {"value": 0.02, "interval_95": [-0.01, 0.05]},
            "chosen": [{"name": rows[0]["name"], "folds": 20}, {"name": rows[1]["name"], "folds": 5}],
        },
        "learning_curves": [
            {"name": row["name"], "points": [{"clips_per_class": size, **figure} for size in (1, 2, 5, 10, "all")]}
            for row in rows[:2]
        ],
    }


def test_the_page_of_a_comparison_holds_its_figures_and_no_foreign_code():
    page = render_comparison(comparison_result())
    for words in (
        "50.0% (95 % interval 40.0% to 60.0%)",
        "+10.0% (-5.0% to +20.0%)",
        "(default)",
        "mean, linear: 20; ",
    ):
        assert words in page
    figures = json.loads(page.split('id="figures">')[1].split("</script>")[0])
    assert figures["layers"]["data"][0]["x"] == ["0", "3", "10", "last", "mean"]
    assert figures["layers"]["layout"]["xaxis"]["categoryarray"] == ["0", "3", "10", "last", "mean"]
    assert figures["curve"]["layout"]["xaxis"]["categoryarray"] == ["1", "2", "5", "10", "all"]
    hostile = render_comparison(comparison_result(HOSTILE))
    assert HOSTILE not in hostile
    assert "<img" not in hostile.split("<script>")[0]
