"""Describing a dataset of texts whose figures are known; of none of them is a word in what is said."""

import csv
import json
import re
from pathlib import Path

import pytest

from golem_ray.config import DatasetConfig, DescribeConfig
from golem_ray.jobs.describe import describe

TEXTS = [  # text, label, author
    ("Превосходно, сударыня!", "joy", "anna"),
    ("превосходно сударыня", "anger", "boris"),
    ("Отвратительно", "anger", "anna"),
    ("Отвратительно", "anger", ""),
    ("КОШМАРИЩЕ КАКОЕ", "anger", "boris"),
    ("<b>Замечательно</b>", "joy", "anna"),
    ("Недоста\ufffdки", "joy", "boris"),
    ("Восхищение".encode().decode("cp1251", "ignore"), "joy", "anna"),
    ("🙂🙂", "joy", "anna"),
    ("Невидимка\u200bтут\u202e", "joy", "anna"),
    ("многословность " * 351, "joy", "anna"),
    ("   ", "joy", "anna"),
    ("неисчислимость" * 8000, "anger", "boris"),
]

CLEAN = [(f"слово {'да' * row}", "ab"[row % 2], f"p{row // 2}") for row in range(10)]


def write_texts(path, rows, columns=("text", "label", "author")):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def about(path, **keys):
    dataset = DatasetConfig(name=str(path), text_column="text", label_column="label")
    return describe(DescribeConfig(dataset=dataset, **keys))


@pytest.fixture(scope="module")
def mess(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    return about(write_texts(folder / "set.csv", TEXTS), output=str(folder / "page.html"))


def test_the_figures_of_texts(mess):
    facts = {fact["key"]: fact for fact in mess["facts"]}
    assert (mess["num_clips"], mess["num_usable"]) == (13, 11)
    assert [record["reason"] for record in mess["bad"]] == ["empty text", "112000 characters, more than 100000"]
    assert facts["characters"]["quantiles"]["min"] == 2
    assert [facts["words"]["quantiles"][key] for key in ("min", "max")] == [0, 351]
    assert sum(facts["words"]["histogram"]["counts"]) == 11
    assert mess["labels"][0]["words"]["median"] == 1.5  # of anger: 1, 1, 2, 2
    assert facts["script"]["counts"] == {"Cyrillic": 8, "mixed": 2, "none": 1}  # the tags, and µ in what is garbled
    assert {key: fact["clips"] for key, fact in facts.items() if fact["kind"] == "flag"} == {
        "no_letters": ["text 8"],
        "long": ["text 10"],
        "markup": ["text 5"],
        "capitals": ["text 4"],
        "lost": ["text 6"],
        "garbled": ["text 7"],
    }


def test_all_characters_are_counted_the_most_frequent_first(mess):
    (fact,) = (fact for fact in mess["facts"] if fact["kind"] == "counts")
    expected = "".join(text for text, _, _ in TEXTS[:11])
    assert fact["counts"] == {character: expected.count(character) for character in set(expected)}
    assert fact["rest"] == 0
    counts = list(fact["counts"].items())
    assert counts == sorted(counts, key=lambda pair: (-pair[1], pair[0]))
    assert f"alphabet                 {len(counts)} different characters\n" in mess["summary"]
    assert "ZERO WIDTH SPACE (1)" in mess["summary"]


def test_copies_of_texts_are_found_by_their_words(mess):
    assert (mess["equal_files"]["num_clips"], mess["equal_files"]["num_sets"]) == (2, 1)
    assert [(each["title"], each["num_clips"]) for each in mess["equal_content"]] == [("the same words", 2)]
    assert mess["num_under_two_labels"] == 2


def test_findings_about_texts_are_in_their_own_words(mess, tmp_path):
    said = "\n".join(f"{each['finding']}: {each['advice']}" for each in mess["findings"])
    for words in (
        "2 of 13 texts cannot be used (1 empty text; 1 112000 characters",
        "2 texts are equal (1 different ones)",
        "2 texts that differ have the same words (1 different ones)",
        "2 texts are there under another label too",
        "The column 'author' has 2 values, which may be authors or sources: --evaluation.group-column author",
        "1 texts have no author",
        "1 of 13 texts is without a letter, text 8",
        "1 of 13 texts is longer than 350 words (some 512 tokens), text 10",
        "1 of 13 texts is marked up in HTML, text 5",
        "1 of 13 texts is in capitals alone, text 4",
        "1 of 13 texts is short of characters that were lost in decoding (U+FFFD), text 6",
        "1 of 13 texts is garbled, text 7",
    ):
        assert words in said
    clean = about(write_texts(tmp_path / "clean.csv", CLEAN, ("text", "label", "somebody")))
    assert [each["finding"] for each in clean["findings"]] == ["No column says which author or source a text is of"]


def test_a_script_that_tells_the_label_is_named(tmp_path):
    rows = [("привет" if row % 2 else "hello", "ab"[row % 2]) for row in range(20)]
    found = about(write_texts(tmp_path / "set.csv", rows, ("text", "label")))
    said = str(found["findings"])
    assert "All texts of 'b' have the script Cyrillic, most others have not" in said
    assert "take the texts of all labels from like authors and sources" in said


def test_no_word_of_a_text_is_in_what_is_said_or_written(command, tmp_path):
    path, page = write_texts(tmp_path / "set.csv", TEXTS), tmp_path / "page.html"
    keys = ("--dataset.text-column", "text", "--dataset.label-column", "label")
    done = command("describe", path, *keys, "--output", page, "--json")
    assert done.status == 0, done.err
    assert json.loads(done.out.splitlines()[-1])["num_usable"] == 11
    figures = json.dumps(json.loads(done.out.splitlines()[-1]), ensure_ascii=False)
    words = {word for text, _, _ in TEXTS for word in re.findall(r"\w{3,}", text)}
    assert len(words) > 9
    for said in (done.out, done.err, figures, Path(page).read_text(encoding="utf-8")):
        assert not [word for word in words if word in said]
        assert "\u202e" not in said.replace(figures, "")
