"""Describing a dataset whose examples may have several labels, or none, on texts whose figures are known."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from golem_ray.config import DatasetConfig, DescribeConfig
from golem_ray.jobs.describe import _telling, describe
from golem_ray.jobs.labelled import MOST_TOGETHER, labelled, together

TEXTS = [  # text, labels, author; 10 can be used, and of one it is not known what labels it has
    ("радость раз", "joy;love", "anna"),
    ("радость и два", "joy;love", "anna"),
    ("радость или всё же три", "joy", "boris"),
    ("гнев", "anger", "boris"),
    ("Гнев!", "anger;joy", "boris"),
    ("ничего", "", "anna"),
    ("ничего такого", "", "anna"),
    ("повтор", "anger;joy", "boris"),
    ("повтор", "joy;anger", "boris"),
    ("страх", "fear", "anna"),
    ("чужое", "odd", "anna"),
    ("   ", "joy", "anna"),
]

NAMED = {name: name for name in ("joy", "love", "anger", "fear")}


def write(path, rows, columns=("text", "labels", "author")):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def about(path, output=None, **dataset):
    keys = {"label_column": "labels", "label_separator": ";", **dataset}
    return describe(DescribeConfig(dataset=DatasetConfig(name=str(path), text_column="text", **keys), output=output))


def advice_of(found):
    return "\n".join(f"{each['finding']}: {each['advice']}" for each in found["findings"])


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("several")
    return about(write(folder / "set.csv", TEXTS), str(folder / "page.html"), label_map=NAMED)


def test_an_example_counts_for_each_of_its_labels_and_without_any_can_be_used(found):
    assert (found["num_clips"], found["num_usable"], found["num_without_label"]) == (12, 10, 1)
    assert {each["label"]: (each["num_clips"], each["num_bad"]) for each in found["labels"]} == {
        "joy": (6, 1),
        "love": (2, 0),
        "anger": (4, 0),
        "fear": (1, 0),
    }
    assert found["several"]["per_example"] == [2, 3, 5]
    assert [each["words"]["median"] for each in found["labels"]] == [1.5, 2.5, 1.0, 1.0]  # joy: 2, 3, 5, 1, 1, 1
    assert found["groups"]["per_label"] == [2, 1, 1, 1]
    assert found["groups"]["largest"] == {"anna": 6, "boris": 5}
    assert found["groups"]["crossed"] == [[2, 4], [2, 0], [0, 4], [1, 0]]
    assert found["groups"]["one_group"] == {"love": "anna", "anger": "boris"}


def test_labels_that_come_together_stand_beside_chance(found):
    several = found["several"]
    assert several["num_pairs"] == 2
    assert several["pairs"] == [
        {"labels": ["joy", "anger"], "num_clips": 3, "by_chance": 6 * 4 / 10, "lift": pytest.approx(3 / 2.4)},
        {"labels": ["joy", "love"], "num_clips": 2, "by_chance": 6 * 2 / 10, "lift": pytest.approx(2 / 1.2)},
    ]
    assert several["counts"]["labels"] == ["joy", "anger", "love", "fear"]
    assert several["counts"]["together"] == [[6, 3, 2, 0], [3, 4, 0, 0], [2, 0, 2, 0], [0, 0, 0, 1]]


def test_copies_contradict_each_other_where_not_all_labels_are_the_same(found):
    assert [each["label_sets"] for each in found["equal_files"]["sets"]] == [[["joy", "anger"]]]
    (words,) = found["equal_content"]
    assert [each["label_sets"] for each in words["sets"]] == [[["anger"], ["joy", "anger"]]]
    assert words["sets"][0]["labels"] == ["joy", "anger"]
    assert found["num_under_two_labels"] == 2


def test_copies_that_contradict_each_other_come_first(tmp_path):
    rows = [("а", "joy;love", ""), ("а", "love;joy", ""), ("б", "joy;love", ""), ("б", "joy", ""), ("в", "", "")]
    found = about(write(tmp_path / "set.csv", rows))
    assert [each["label_sets"] for each in found["equal_files"]["sets"]] == [
        [["joy", "love"], ["joy"]],
        [["joy", "love"]],
    ]


def test_the_summary_and_the_page_say_so(found):
    lines = found["summary"].split("\n")
    page = Path(found["reportPath"]).read_text(encoding="utf-8")
    assert "Labels:      4, of which a text has 1.30 on average (0 to 2)" in lines
    assert "labels of a text         none (2), 1 (3), 2 (5)" in lines
    assert f"{'joy + anger':40} {3:8} {2.4:10.1f} {1.25:14.2f}" in lines
    for words in ("by their number of labels: none (2), 1 (3), 2 (5).", "anger / joy, anger", "<td>joy + love</td>"):
        assert words in page
    assert "Numbers are texts with both labels" in page
    figures = json.loads(page.split('id="figures">')[1].split("</script>")[0])
    drawn = figures["together"]["data"][0]
    assert drawn["text"][0] == ["6", "3", "2", ""]
    assert drawn["z"][:2] == [[0, 0.5, 0.333, 0], [0.75, 0, 0, 0]]
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_findings_are_of_what_applies(found):
    said = advice_of(found)
    for words in (
        "2 of 12 texts cannot be used (1 empty text; 1 whose labels are not known)",
        "4 labels are of fewer than 10 texts ('fear', 'love', 'anger', 'joy')",
        "Labels are uneven, from 1 of 'fear' to 6 texts of 'joy': --head.class-weights",
        "read macro F1",
        "2 of 10 texts have no label (20%)",
        "2 texts are there under other labels too: decide on the labels of each",
    ):
        assert words in said
    for words in ("always come", "never comes", "balanced accuracy", "exactly one label"):
        assert words not in said


def rows_with(*sets):
    return [(f"слово {'да' * (number + 1)}", ";".join(names), "me") for number, names in enumerate(sets)]


def test_labels_that_never_come_alone_are_named_and_not_those_that_may_by_chance(tmp_path):
    sets = [("a", "b")] * 12 + [("c", "d")] * 10 + [("d",)] * 20 + [("e", "f")] + [("f",)] * 40
    found = about(write(tmp_path / "set.csv", rows_with(*sets)))
    assert found["several"]["tied"] == [
        {"label": "a", "other": "b", "num_clips": 12, "is_mutual": True},
        {"label": "c", "other": "d", "num_clips": 10, "is_mutual": False},
    ]
    said = advice_of(found)
    assert "Labels 'a' and 'b' always come together (12 texts): make them one" in said
    assert "Label 'c' never comes without 'd' (10 texts)" in said
    assert "'e' never" not in said


def test_one_label_for_each_is_named(tmp_path):
    found = about(write(tmp_path / "set.csv", rows_with(*([("a",)] * 12 + [("b",)] * 12))))
    assert "Each text has exactly one label, though it may have several" in advice_of(found)
    assert "have no label" not in advice_of(found)
    assert "labels that come together" not in found["summary"]


def test_what_tells_a_label_is_said_of_the_larger_of_two_that_come_together():
    values = np.array([0] * 20 + [1] * 60)
    rows = [np.arange(20), np.arange(5, 20), np.arange(20, 80), np.arange(20, 32)]
    assert _telling(rows, values, np.bincount(values)) == [(0, 0)]
    assert _telling(rows[1:], values, np.bincount(values)) == [(0, 0)]


def test_of_many_labels_those_of_most_examples_are_crossed(tmp_path):
    from golem_ray.data import open_source
    from golem_ray.text import MODALITY

    sets = [[f"l{number}", "all"] for number in range(MOST_TOGETHER + 20)]
    path = write(tmp_path / "set.csv", rows_with(*sets, *sets[30:]))
    dataset = DatasetConfig(name=str(path), text_column="text", label_column="labels", label_separator=";")
    found = labelled(open_source(dataset, MODALITY.content, None))
    counts = together(found, np.ones(len(found.known), dtype=bool))["counts"]
    assert counts["labels"][0] == "all"
    assert len(counts["labels"]) == len(counts["together"]) == MOST_TOGETHER
    assert counts["together"][0][:31] == [90] + [2] * 30
    page = tmp_path / "page.html"
    assert about(path, str(page))["reportPath"]
    text = page.read_text(encoding="utf-8")
    assert f"The {MOST_TOGETHER} labels of most texts, of {MOST_TOGETHER + 21}." in text
    assert "Numbers are texts" not in text


def test_no_text_is_said_and_names_of_labels_do_nothing(tmp_path, command):
    evil = "</script><b>\x1b[31m"
    path = write(tmp_path / "set.csv", [(f"неповторимо{row}", f"{evil};b", "me") for row in range(4)])
    keys = ("--dataset.text-column", "text", "--dataset.label-column", "labels", "--dataset.label-separator", ";")
    done = command("describe", path, *keys, "--output", tmp_path / "page.html")
    assert done.status == 0, done.err
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "\x1b" not in done.out
    assert evil not in page
    assert "неповторимо" not in done.out + done.err + page


def test_a_preset_says_how_the_dataset_is_read(tmp_path, command):
    path = write(tmp_path / "set.csv", TEXTS)
    preset = tmp_path / "p.toml"
    lines = [
        "[dataset]",
        f'name = "{path}"',
        'text_column = "text"',
        'label_column = "labels"',
        'label_separator = ";"',
    ]
    lines += ["[dataset.label_map]", 'joy = "good"', 'love = "good"', 'anger = "bad"', 'fear = ""', "[processing]"]
    preset.write_text("\n".join([*lines, "max_samples = 3", "max_bad_fraction = 0.5"]))
    done = command("describe", "--preset", preset, "--json")
    assert done.status == 0, done.err
    found = json.loads(done.out.splitlines()[-1])
    assert {each["label"]: each["num_clips"] for each in found["labels"]} == {"good": 6, "bad": 4}
    assert found["several"]["per_example"] == [3, 4, 3]
    assert "max-bad-fraction" not in done.out
    assert "A training takes the first 3 of 12 texts" in done.out
    other = command("describe", write(tmp_path / "other.csv", TEXTS[:3]), "--preset", preset)
    assert "other.csv" in other.out.splitlines()[0]
    assert "Texts:       3, 3 can be used" in other.out
    for arguments in ((path, "--dataset.name", path), ()):
        assert "expected a dataset, found" in command("describe", *arguments).err
    assert "expected a dataset, found two" in command("describe", path, "--preset", preset, "--dataset.name", path).err
