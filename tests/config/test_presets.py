import dataclasses
import io
import json

import pytest

from golem_ray.cli.flags import parse_compare, parse_train
from golem_ray.config import NOUNS, DatasetConfig, ExamplesConfig, ProcessingConfig, TrainConfig, as_extra, left_open
from golem_ray.config.presets import camel_case, config_from_dict, known_keys, preset_text, read_preset, recorded
from golem_ray.errors import ConfigError

CONTRACT = {
    "dataset": {"name": "clips", "name_alias": "de-DE", "split": "test", "trust_remote_code": False},
    "processing": {"target_sampling_rate": 8000, "max_samples": "all"},
    "device": {"backend": "cpu"},
    "model": {"feature_extractor_model": "enc", "classifier_input_features": 32, "classifier_output_classes": 3},
    "training": {"epochs": 7, "learning_rate": 0.5, "seed": 3},
    "paths": {"save_path": "x.pth"},
    "cluster": {"address": "local", "workers": 2, "threads_per_worker": 1},
}


def test_the_defaults_are_the_specifications():
    config = TrainConfig()
    assert (config.dataset.name, config.dataset.name_alias, config.dataset.split) == (
        "PolyAI/minds14",
        "en-US",
        "train",
    )
    assert (config.processing.target_sampling_rate, config.processing.max_samples) == (16000, 50)
    assert config.model.feature_extractor_model == "facebook/wav2vec2-base"
    assert (config.training.epochs, config.training.learning_rate) == (100, 0.01)
    assert config.paths.save_path == "voice_classifier_knowledge.pth"
    assert (config.device.backend, config.cluster.workers) == ("auto", "auto")


@pytest.mark.parametrize("spelling", ["snake", "camel", "toml", "flags"])
def test_the_contract_reads_the_same_from_every_spelling(spelling, tmp_path, monkeypatch):
    expected = config_from_dict(CONTRACT)
    assert expected != TrainConfig()
    if spelling == "flags":
        argv = [
            f"--{group}.{key.replace('_', '-')}={value}"
            for group, keys in CONTRACT.items()
            for key, value in keys.items()
            if key != "trust_remote_code"
        ]
        argv.append("--dataset.no-trust-remote-code")
    elif spelling == "toml":
        lines = [
            line
            for group, keys in CONTRACT.items()
            for line in (f"[{group}]", *(f"{key} = {json.dumps(value)}" for key, value in keys.items()))
        ]
        (tmp_path / "preset.toml").write_text("\n".join(lines))
        argv = [str(tmp_path / "preset.toml")]
    else:
        rename = camel_case if spelling == "camel" else str
        values = {group: {rename(key): value for key, value in keys.items()} for group, keys in CONTRACT.items()}
        (tmp_path / "stdin").write_text(json.dumps(values))
        monkeypatch.setattr("sys.stdin", (tmp_path / "stdin").open())
        argv = ["-"]
    assert parse_train(argv).config == expected


def test_flags_win_over_the_preset(tmp_path):
    (tmp_path / "p.toml").write_text("[training]\nepochs = 5\nseed = 9\n")
    config = parse_train([str(tmp_path / "p.toml"), "--training.epochs", "6"]).config
    assert (config.training.epochs, config.training.seed) == (6, 9)


def test_help_shows_every_key_with_its_default(capsys):
    with pytest.raises(SystemExit) as exit:
        parse_train(["--help"])
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert exit.value.code == 0
    for key in set(known_keys()) - {"dataset.extra", "dataset.label_map"}:  # of tables, which are no flags
        assert f"--{key.replace('_', '-')}" in text
    for default in ("(default: PolyAI/minds14)", "(default: 50)", "(default: 0.01)", "(default: auto)"):
        assert default in text


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"processing": {"max_sample": 3}}, ["processing.max_sample:", "did you mean processing.max_samples?"]),
        ({"procesing": {"maxSamples": 3}}, ["did you mean processing.max_samples?"]),
        ({"max_samples": 3}, ["did you mean processing.max_samples?"]),
        (
            {"processing": {"max_samples": "fifty"}},
            ["processing.max_samples", "a whole number or 'all'", "'fifty' (str)"],
        ),
        ({"training": {"epochs": True}}, ["training.epochs", "a whole number", "True (bool)"]),
        ({"training": {"learningRate": "fast"}}, ["training.learning_rate", "a number", "'fast'"]),
        ({"training": 3}, ["training", "group of keys"]),
        ({"dataset": {"nameAlias": "a", "name_alias": "b"}}, ["dataset.name_alias", "once"]),
        ({"processing": {"max_samples": 0}}, ["processing.max_samples", "got 0"]),
        ({"processing": {"max_bad_fraction": 1.5}}, ["processing.max_bad_fraction", "0 to 1", "1.5"]),
        ({"training": {"learning_rate": -1}}, ["training.learning_rate", "-1"]),
        ({"training": {"epochs": 0}}, ["training.epochs", "got 0"]),
        ({"training": {"seed": -1}}, ["training.seed"]),
        ({"training": {"batch_size": 0}}, ["training.batch_size", "1 or more", "got 0", "leave it out"]),
        (
            {"head": {"kind": "logistic"}, "training": {"batchSize": 8}},
            ["training.batch_size", "expected none", "'logistic'", "got 8", "leave it out"],
        ),
        ({"evaluation": {"repeats": -1}}, ["evaluation.repeats"]),
        ({"device": {"backend": "gpu"}}, ["device.backend", "'auto' or 'cuda' or 'cpu'", "'gpu'"]),
        ({"paths": {"save_path": "x.json"}}, ["paths.save_path", ".pth"]),
        ({"paths": {"save_path": "s3://user:secret@bucket/x.pth"}}, ["paths.save_path", "without a password"]),
        ({"dataset": {"name": "https://secret@host/x.csv"}}, ["dataset.name", "token"]),
        ({"dataset": {"name": "https://host/x.csv?signature=secret"}}, ["dataset.name", "query"]),
        ({"dataset": {"delimiter": ""}}, ["dataset.delimiter", "one character, such as ';', or 'tab'", "got ''"]),
        ({"dataset": {"delimiter": ";;"}}, ["got ';;'"]),
        ({"dataset": {"delimiter": "§"}}, ["got '§'"]),
        ({"dataset": {"delimiter": '"'}}, ["got '\"'"]),
        ({"dataset": {"delimiter": "\n"}}, [r"got '\n'"]),
        (
            {"dataset": {"encoding": "cp1251x"}},
            ["dataset.encoding", "an encoding of text", "cp1251 or utf-16", "cp1251x"],
        ),
        ({"dataset": {"encoding": "hex"}}, ["got 'hex'"]),
        ({"dataset": {"encoding": "utf\0"}}, [r"got 'utf\x00'"]),
        ({"training": {"learning_rate": 10**400}}, ["training.learning_rate", "above 0"]),
        ({"cluster": {"workers": 0}}, ["cluster.workers"]),
        ({"model": {"layer": -1}}, ["model.layer", "'last'"]),
        ({"model": {"layer": "first"}}, ["model.layer", "'last' or 'mean' or 'auto'", "'first'"]),
        ({"model": {"pooling": "max"}}, ["model.pooling", "'mean' or 'mean+std'"]),
        ({"cluster": {"threads_per_worker": 2**40}}, ["cluster.threads_per_worker", "1024"]),
    ],
)
def test_a_wrong_preset_gets_one_line_that_names_the_key(values, words):
    with pytest.raises(ConfigError) as error:
        config_from_dict(values)
    message = str(error.value)
    assert "\n" not in message
    assert "secret" not in message
    for word in words:
        assert word in message


def test_the_limit_of_examples_is_none_for_all():
    for groups in (ProcessingConfig, ExamplesConfig):
        assert (groups(max_samples=3).limit, groups(max_samples="all").limit) == (3, None)
    assert "limit" not in dataclasses.asdict(TrainConfig())["processing"]


def test_an_integer_is_a_float():
    assert config_from_dict({"training": {"learning_rate": 1}}).training.learning_rate == 1.0


def test_standard_input_must_hold_a_preset(monkeypatch):
    for stdin in (None, io.StringIO(" \n")):
        monkeypatch.setattr("sys.stdin", stdin)
        with pytest.raises(ConfigError, match="expected a preset on standard input, found nothing"):
            parse_train(["-"])


def test_a_byte_order_mark_does_no_harm(tmp_path):
    (tmp_path / "p.toml").write_text("[training]\nepochs = 3\n", encoding="utf-8-sig")
    assert parse_train([str(tmp_path / "p.toml")]).config.training.epochs == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [("[training", "TOML"), ("{'a'", "JSON"), ('{"a":' * 100_000, "JSON"), ("a = " + "9" * 5000, "TOML")],
)
def test_a_preset_that_cannot_be_read_says_why(tmp_path, text, words):
    (tmp_path / "p").write_text(text)
    with pytest.raises(ConfigError, match=words):
        parse_train([str(tmp_path / "p")])
    with pytest.raises(ConfigError, match="No such file"):
        parse_train([str(tmp_path / "absent.toml")])


def test_the_preset_of_the_default_job_spells_out_the_defaults():
    assert parse_train(["minds14"]).config == TrainConfig()


def test_bundled_requests_are_trained_on_by_the_defaults_and_digits_by_what_is_chosen():
    bundled = {"dataset": {"name": "sample"}, "model": {"featureExtractorModel": "sample"}}
    assert parse_train(["requests"]).config == config_from_dict({**bundled, "evaluation": {"split": "test"}})
    bundled |= {"dataset": {"name": "sample-digits"}, "evaluation": {"split": "test", "repeats": 1}}
    assert parse_train(["demo"]).config == left_open(config_from_dict(bundled), {"model.join_baseline"})


EXTRA = """
[dataset]
name = "recordings"
label_column = "label"
[[dataset.extra]]
name = "more.csv"
label_column = "emotion"
[[dataset.extra]]
name = "org/set"
nameAlias = ""
split = "validation"
revision = "abc"
"""


def test_datasets_beside_the_main_one_are_tables_of_the_same_keys_and_defaults():
    config = config_from_dict(read_preset(EXTRA, "p"))
    first, second = config.dataset.extra
    assert first == DatasetConfig(name="more.csv", label_column="emotion")
    assert second == DatasetConfig(name="org/set", name_alias="", split="validation", revision="abc")
    assert (second.label_column, second.extra) == (DatasetConfig().label_column, ())  # not that of the main dataset


def test_datasets_beside_the_main_one_are_kept_by_presets_sidecars_and_flags_for_other_keys(tmp_path, capsys):
    config = config_from_dict(read_preset(EXTRA, "p"))
    assert config_from_dict(json.loads(json.dumps(recorded(config)))) == config
    assert config_from_dict(read_preset(preset_text(config, []), "p")) == config
    minds = config_from_dict({"dataset": {"extra": [{"name": DatasetConfig().name}]}})  # a name that is the default
    assert config_from_dict(read_preset(preset_text(minds, []), "p")) == minds
    for nothing in (recorded(TrainConfig())["dataset"], recorded(config)["dataset"]["extra"][0]):
        assert "extra" not in nothing
    (tmp_path / "p.toml").write_text(EXTRA)
    flags = [str(tmp_path / "p.toml"), "--dataset.split", "test", "--training.epochs", "3"]
    for changed in (parse_train(flags).config, parse_compare(flags).config):
        assert changed.dataset == dataclasses.replace(config.dataset, split="test")
    with pytest.raises(SystemExit):
        parse_train([flags[0], "--help"])
    assert "--dataset.extra" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({"name": "x"}, "dataset.extra: expected a list of tables, each under [[dataset.extra]], found dict."),
        (["x.csv"], "dataset.extra: expected a list of tables"),
        ([{"split": "test"}], "dataset.extra[0].name: expected the name of a dataset, found none"),
        ([{"name": "x", "label_column": ""}], "dataset.extra[0].label_column: expected a name, found ''."),
        ([{"name": "a"}, {"name": "b", "split": 3}], "dataset.extra[1].split: expected text, got 3 (int)."),
        ([{"name": "a", "labl_column": "b"}], "did you mean dataset.extra[0].label_column?"),
        ([{"name": "a", "extra": []}], "dataset.extra[0].extra: expected no tables inside a table"),
        ([{"name": "a"}, {"name": "s3://me:secret@b/x"}], "dataset.extra[1].name: expected a URI without a password"),
    ],
)
def test_a_wrong_table_of_another_dataset_is_named(tables, words):
    with pytest.raises(ConfigError) as error:
        config_from_dict({"dataset": {"extra": tables}})
    assert words in str(error.value)
    assert "secret" not in str(error.value)


def test_messages_about_a_dataset_are_made_ones_of_the_table():
    message = "dataset.label_column: expected a column of dataset.csv, found none; name one by --dataset.label-column."
    assert as_extra(message, 2) == (
        "dataset.extra[2].label_column: expected a column of dataset.csv, found none; name one by "
        "dataset.extra[2].label_column."
    )


def test_a_column_of_texts_says_that_the_examples_are_texts():
    assert DatasetConfig().modality == "speech"
    assert DatasetConfig().noun == NOUNS["speech"] == ("clip", "clips")
    dataset = {"text_column": "body"}
    assert config_from_dict({"dataset": dataset}).dataset.modality == "text"
    assert config_from_dict({"dataset": dataset}).dataset.noun == ("text", "texts")
    for group, words in (
        ({"training": {"batch_size": 0}}, "leave it out for all texts at once"),
        ({"evaluation": {"holdout": 0}}, "expected a number of texts, or a share"),
    ):
        with pytest.raises(ConfigError, match=words):
            config_from_dict({"dataset": dataset, **group})
    with pytest.raises(ConfigError, match="dataset.text_column: expected a column, found ''"):
        config_from_dict({"dataset": {"text_column": ""}})


def test_records_name_a_column_of_texts_only_where_there_is_one():
    texts = {"name": "b.csv", "text_column": "body"}
    config = config_from_dict({"dataset": {"name": "a.csv", "extra": [texts]}})
    assert "text_column" not in recorded(config)["dataset"]
    assert recorded(config)["dataset"]["extra"][0]["text_column"] == "body"
    assert config_from_dict(json.loads(json.dumps(recorded(config)))) == config
