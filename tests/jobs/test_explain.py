"""Which words moved a decision, with heads made by hand on hashed n-grams, in which single words decide."""

import csv
import html
import io
import json
import logging
import re

import numpy as np
import pytest
import torch

import golem_ray
from golem_ray import artifact
from golem_ray.config import DatasetConfig, EvaluateConfig, ExamplesConfig, HeadConfig, PredictConfig
from golem_ray.errors import ConfigError, DataError, ExampleError
from golem_ray.heads.multi_label import MULTI_LABEL
from golem_ray.jobs import explain as explaining
from golem_ray.jobs.evaluate import evaluate_artifact
from golem_ray.jobs.explain import MOST_EXPLAINED, MOST_WORDS, explanation_line
from golem_ray.jobs.predict import predict, write_predictions
from golem_ray.report.judged import MAX_MISTAKES, moving_words, signed
from golem_ray.text import MODALITY
from golem_ray.text.ngrams import hashed
from tests.jobs.runs import HERE, NAMES, ON_RAY, on
from tests.text import text_recipe, write_text_encoder

OF_TEXTS = {"dataset": DatasetConfig(text_column="text")}

DECIDING = {"anger": "ненавижу", "joy": "люблю", "fear": "страшно"}


def save_by_hand(path, target="single-label", encoder="ngrams", weights=None):
    """A classifier of DECIDING's labels, the word of each of which decides. Returns its path as a string."""
    if weights is None:
        weights = 8 * hashed(list(DECIDING.values()))
    buffer = io.BytesIO()
    bias = torch.full((3,), -4.0 if target == "multi-label" else 0.0)
    torch.save({"weight": torch.tensor(weights), "bias": bias}, buffer)
    uncalibrated = MULTI_LABEL.calibrate(np.zeros((0, 3)), np.zeros((0, 3), dtype=bool), 0, HeadConfig())
    document = {
        "modality": "text",
        "target": target,
        "labels": list(DECIDING),
        "encoder": MODALITY.provenance(text_recipe(encoder)),
        "head": {"kind": "linear", "in_features": weights.shape[1], "out_features": 3},
        "data": {},
        "versions": {},
        "config": {"dataset": {"text_column": "text"}},
        "clips": {"per_class": dict.fromkeys(DECIDING, 1), "digests": ""},
        "metrics": {"calibration": uncalibrated} if target == "multi-label" else {},
    }
    artifact.save(str(path), buffer.getvalue(), document)
    return str(path)


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    return save_by_hand(tmp_path_factory.mktemp("one") / "v.pth")


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    return save_by_hand(tmp_path_factory.mktemp("several") / "v.pth", "multi-label")


def write(path, *texts):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["text"], *([text] for text in texts)])
    return str(path)


def test_the_word_that_decides_comes_first_as_it_is_written(single):
    found = golem_ray.load(single).explain("Я вас просто НЕНАВИЖУ, да!")
    ((label, changes),) = found.changes.items()
    assert label == "anger"
    assert changes[0][0] == "НЕНАВИЖУ"
    assert changes[0][1] > 0.3
    assert sorted(word for word, _ in changes) == sorted(["Я", "вас", "просто", "НЕНАВИЖУ", "да"])
    assert (found.num_tried, found.num_words, found.remark) == (5, 5, "")


def test_a_change_is_the_probability_with_the_word_less_that_without_it(single):
    classifier = golem_ray.load(single)
    text = "ненавижу, но люблю тебя"
    ((label, changes),) = classifier.explain(text).changes.items()
    before = classifier.predict(text).probabilities[label]
    for word, change in changes:
        without = classifier.predict(text.replace(word, "")).probabilities[label]
        assert change == pytest.approx(before - without, abs=1e-5)
    other = {"anger": "люблю", "joy": "ненавижу"}[label]
    assert dict(changes)[DECIDING[label]] > 0 > dict(changes)[other]
    sizes = [abs(change) for _, change in changes]
    assert sizes == sorted(sizes, reverse=True)


def test_of_several_labels_each_that_is_given_is_explained_or_the_likeliest(several):
    classifier = golem_ray.load(several)
    found = classifier.explain("ненавижу и люблю").changes
    assert list(found) == list(classifier.predict("ненавижу и люблю").labels)
    assert {label: changes[0][0] for label, changes in found.items()} == {"anger": "ненавижу", "joy": "люблю"}
    assert dict(found["anger"])["люблю"] < 0
    nothing = classifier.predict("вот и всё")
    assert nothing.labels == ()
    assert list(classifier.explain("вот и всё").changes) == [next(iter(nothing.probabilities))]


def test_an_explanation_is_the_same_whatever_runs_beside_it(tmp_path):
    encoder = write_text_encoder(tmp_path / "encoder")
    rng = np.random.default_rng(0)
    path = save_by_hand(tmp_path / "v.pth", "multi-label", encoder, rng.standard_normal((3, 32)).astype(np.float32))
    texts = ["Какой прекрасный день!", "ну и ладно", "Я очень зол, и мне грустно."]
    saved, manifest = artifact.load(path), write(tmp_path / "texts.csv", *texts)
    explained = [
        row["explanation"] for row in predict(saved, [manifest], PredictConfig(explain=True, **OF_TEXTS, **HERE))
    ]
    again = [row["explanation"] for row in predict(saved, [manifest], PredictConfig(explain=True, **OF_TEXTS, **HERE))]
    assert explained == again
    classifier = golem_ray.load(path)
    for text, found in zip(texts, explained, strict=True):
        alone = classifier.explain(text).changes
        assert {label: [tuple(pair) for pair in changes] for label, changes in json.loads(found).items()} == alone


def test_all_variants_of_a_text_go_through_the_encoder_in_one_call(single, monkeypatch):
    classifier, calls = golem_ray.load(single), []
    whole = type(classifier).embed
    monkeypatch.setattr(type(classifier), "embed", lambda self, each: calls.append(len(each)) or whole(self, each))
    classifier.explain("люблю я вас")
    assert calls == [4]


def test_what_cannot_be_left_out_and_what_is_too_much_is_said(single):
    classifier = golem_ray.load(single)
    assert classifier.explain("люблю!").changes == {"joy": [("люблю", pytest.approx(0.98, abs=0.7))]}
    assert classifier.explain("люблю").changes == {"joy": []}
    long = classifier.explain("слово " * (MOST_WORDS + 15))
    assert len(next(iter(long.changes.values()))) == MOST_WORDS
    assert long.remark == f"explained by its first {MOST_WORDS} of {MOST_WORDS + 15} words"
    with pytest.raises(DataError, match="the text: expected a text that can be used, found empty text"):
        classifier.explain("  ")
    assert explanation_line('{"joy": []}') == "    joy: no word can be left out"


def test_predictions_are_explained(single, tmp_path):
    texts = [*(f"{word} номер {number}" for number in range(14) for word in DECIDING.values()), ""]
    manifest = write(tmp_path / "texts.csv", *texts)
    rows = list(predict(artifact.load(single), [manifest], PredictConfig(explain=True, **OF_TEXTS, **HERE)))
    assert len(rows) == 43
    assert rows[-1]["explanation"] is None
    for row, text in zip(rows[:-1], texts, strict=False):
        ((label, changes),) = json.loads(row["explanation"]).items()
        assert (label, changes[0][0]) == (row["label"], text.split()[0])
    plain = list(predict(artifact.load(single), [manifest], PredictConfig(**OF_TEXTS, **HERE)))
    assert plain == [{key: value for key, value in row.items() if key != "explanation"} for row in rows]


@pytest.mark.slow  # the engine is gone before the first is explained
def test_predictions_by_ray_are_explained_alike(single, tmp_path, shared_ray):
    manifest = write(tmp_path / "texts.csv", *(f"люблю номер {number}" for number in range(40)))
    here, on_ray = (
        list(predict(artifact.load(single), [manifest], PredictConfig(explain=True, **OF_TEXTS, **engine)))
        for engine in (HERE, ON_RAY)
    )
    assert here == on_ray


@pytest.mark.slow  # the engine is gone before the first is explained
def test_a_report_explains_alike_after_ray(several, tmp_path, shared_ray):
    labelled = [(f"люблю номер {number}", "anger" if number % 2 else "joy") for number in range(40)]
    pages = [page_of_texts(several, tmp_path, labelled, ";", texts=True, **engine) for engine in (HERE, ON_RAY)]
    assert pages[0] == pages[1]
    assert len(moved_words(pages[0])) == MAX_MISTAKES


def test_a_threshold_decides_what_is_explained(single, several, tmp_path):
    manifest = write(tmp_path / "texts.csv", "ненавижу и люблю люблю")
    (row,) = predict(artifact.load(single), [manifest], PredictConfig(explain=True, threshold=1.0, **OF_TEXTS, **HERE))
    assert row["label"] == "unsure"
    assert list(json.loads(row["explanation"])) == [row["likeliest"]]
    (row,) = predict(artifact.load(several), [manifest], PredictConfig(explain=True, threshold=0.0, **OF_TEXTS, **HERE))
    assert set(json.loads(row["explanation"])) == set(DECIDING)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_explanations_are_a_column_of_json(several, tmp_path, suffix):
    import pyarrow.parquet as pq

    manifest = write(tmp_path / "texts.csv", 'Ненавижу "вас"', "слово " * 70)
    output = str(tmp_path / f"out{suffix}")
    write_predictions(
        output, predict(artifact.load(several), [manifest], PredictConfig(explain=True, **OF_TEXTS, **HERE))
    )
    with open(output, encoding="utf-8", newline="") as file:
        if suffix == ".csv":
            rows = list(csv.DictReader(file))
        else:
            rows = pq.read_table(output).to_pylist() if suffix == ".parquet" else [json.loads(line) for line in file]
    assert "Ненавижу" in rows[0]["explanation"]
    changes = json.loads(rows[0]["explanation"])["anger"]
    assert changes[0][0] == "Ненавижу"
    assert rows[1]["remark"] == "explained by its first 60 of 70 words"


def test_the_terminal_shows_the_few_words_that_moved_it_most(single, tmp_path, command, caplog):
    manifest = write(tmp_path / "texts.csv", "Я вас НЕНАВИЖУ", "   ")
    caplog.set_level(logging.DEBUG)
    done = command("predict", single, manifest, "--explain", "--cluster.address", "none")
    assert done.status == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].startswith("0  anger  (")
    assert lines[1].startswith("    anger: НЕНАВИЖУ +.")
    assert len(lines) == 3
    for said in (done.err, caplog.text):
        assert "НЕНАВИЖУ" not in said
    plain = command("predict", single, manifest, "--cluster.address", "none")
    assert plain.out.splitlines() == [lines[0], lines[2]]


def test_a_line_has_both_signs_and_no_more_than_five_words():
    changes = [["a", -0.411], ["b\x1b", 0.3], ["c", 1.0], ["d", 0.2], ["e", 0.1], ["f", 0.1], ["g", 0.001]]
    shown = "x: a -.41, b\\x1b +.30, c +1.00, d +.20, e +.10"
    assert explanation_line(json.dumps({"x": changes, "y": changes[-1:]})) == f"    {shown}; y: no word moves it by .01"


def test_clips_and_too_many_texts_are_refused_before_the_work(applied, single, tmp_path):
    clips, path = applied
    with pytest.raises(ConfigError, match=r"explain: expected examples of which words can be left out, found clips;"):
        predict(artifact.load(str(path)), [str(clips / "clips" / "0.wav")], PredictConfig(explain=True, **HERE))
    with pytest.raises(ConfigError, match="found clips"):
        golem_ray.load(str(path)).explain(str(clips / "clips" / "0.wav"))
    manifest = write(tmp_path / "many.csv", *(f"текст {row}" for row in range(MOST_EXPLAINED + 1)))
    with pytest.raises(ConfigError, match=r"explain: expected at most 1000 texts, .* found 1001; .*max-samples 1000"):
        predict(artifact.load(single), [manifest], PredictConfig(explain=True, **OF_TEXTS, **HERE))
    few = PredictConfig(explain=True, processing=ExamplesConfig(max_samples=1), **OF_TEXTS, **HERE)
    assert len(list(predict(artifact.load(single), [manifest], few))) == 1


def page_of_texts(path, tmp_path, labelled, separator=None, **more):
    """The page of an evaluation on texts and their labels."""
    with (tmp_path / "labelled.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["text", "label"], *labelled])
    dataset = DatasetConfig(
        name=str(tmp_path / "labelled.csv"), text_column="text", label_column="label", label_separator=separator
    )
    report = tmp_path / "evaluation.html"
    evaluate_artifact(artifact.load(path), EvaluateConfig(dataset=dataset, report=str(report), **{**HERE, **more}))
    return report.read_text()


def moved_words(page):
    """Each text of the worst mistakes -> the lines beside it."""
    cells = re.findall(r'<td><div class="text">(.*?)</div></td><td><div class="moved">(.*?)</div></td></tr>', page)
    assert len(cells) == page.count('class="moved"')
    plain = {html.unescape(text): re.sub("<(?!br)[^>]*>", "", moved).split("<br>") for text, moved in cells}
    return {text: [html.unescape(line).replace("\xa0", " ") for line in lines] for text, lines in plain.items()}


def shown(changes):
    return ", ".join(f"{word} {signed(change)}" for word, change in moving_words(changes)[0])


def test_a_report_says_which_words_moved_what_is_missed_and_what_is_wrong(several, tmp_path):
    loved, feared, nothing = "я НЕНАВИЖУ вас и <b>люблю</b>", "страшно, страшно и темно", "вот и всё"
    labelled = [(loved, "anger"), (feared, "joy;anger;unknown"), (nothing, "unknown"), ("люблю вас", "joy")]
    labelled.insert(0, ("", "joy"))  # cannot be used
    bad = ExamplesConfig(max_bad_fraction=0.5)
    found = moved_words(page_of_texts(several, tmp_path, labelled, ";", texts=True, processing=bad))
    classifier = golem_ray.load(several)
    assert set(found) == {loved, feared, nothing}
    assert found[loved] == [f"wrong joy: {shown(classifier.explain(loved).changes['joy'])}"]
    assert found[loved][0].startswith("wrong joy: люблю +.")
    assert [line.split(":")[0] for line in found[feared]] == ["missed anger", "missed joy", "wrong fear"]
    assert found[feared][2] == f"wrong fear: {shown(classifier.explain(feared).changes['fear'])}"
    assert found[feared][2].startswith("wrong fear: страшно +.")
    assert found[nothing] == ["not explained: it knows no label that differs"]


def test_a_report_explains_both_labels_where_a_text_has_one(single, tmp_path):
    loved, unknown = "люблю люблю, и не ненавижу", f"страшно {'вот ' * MOST_WORDS}".strip()
    page = page_of_texts(single, tmp_path, [(loved, "anger"), (unknown, "surprise"), ("люблю", "joy")], texts=True)
    found = moved_words(page)
    assert set(found) == {loved, unknown}
    missed, wrong = found[loved]
    assert re.match(r"missed anger: (ненавижу \+|люблю -)", missed)
    assert wrong == f"wrong joy: {shown(golem_ray.load(single).explain(loved).changes['joy'])}"
    assert found[unknown][0].startswith("wrong fear: страшно +")
    assert found[unknown][1:] == ["explained by its first 60 of 61 words"]
    assert "Each of the first 60 words of a text was left out in turn" in page


def test_of_many_labels_the_worst_are_explained(tmp_path, monkeypatch):
    monkeypatch.setattr(explaining, "_MOST_LABELS", 1)
    path = save_by_hand(tmp_path / "v.pth", "multi-label")
    text = "люблю люблю, страшно"
    chances = golem_ray.load(path).predict(text).probabilities
    page = page_of_texts(path, tmp_path, [(text, "anger"), ("ненавижу", "anger")], ";", texts=True)
    worst = max("joy", "fear", key=chances.__getitem__)
    assert [line.split(":")[0] for line in moved_words(page)[text]] == ["missed anger", f"wrong {worst}"]


def test_only_the_mistakes_that_are_shown_are_explained_and_none_without_their_texts(single, tmp_path, monkeypatch):
    calls = []
    whole = explaining.explain
    monkeypatch.setattr(explaining, "explain", lambda *each: calls.append(each) or whole(*each))
    labelled = [(f"люблю номер {row}", "anger" if row % 2 else "joy") for row in range(60)]
    page = page_of_texts(single, tmp_path, labelled)
    assert calls == []
    assert not any(word in page for word in ("люблю", "номер", "Words that moved it", 'class="moved"'))
    page = page_of_texts(single, tmp_path, labelled, texts=True)
    assert len(calls) == len(moved_words(page)) == MAX_MISTAKES


def test_a_mistake_that_cannot_be_explained_says_why_and_costs_no_other(single, tmp_path, monkeypatch, caplog):
    labelled = [("люблю я вас", "anger"), ("люблю я тебя", "anger")]

    def read(content, path, what):
        if "тебя" in content.decode():
            raise ExampleError("missing file")
        return content

    monkeypatch.setattr(explaining, "read_content", read)
    found = moved_words(page_of_texts(single, tmp_path, labelled, texts=True))
    assert found["люблю я тебя"] == ["not explained: missing file"]
    assert found["люблю я вас"][1].startswith("wrong joy: люблю +")

    def missing(*_):
        raise ConfigError("model: expected an <encoder> here, found none.")

    monkeypatch.setattr(explaining, "encoder_here", missing)
    found = moved_words(page_of_texts(single, tmp_path, labelled, texts=True))
    assert list(found.values()) == [["not explained: model: expected an <encoder> here, found none."]] * 2
    assert "the worst mistakes are not explained: model: expected" in caplog.text
    assert "люблю" not in caplog.text


def test_a_report_explains_no_clips(applied, applied_cache, tmp_path):
    clips, path = applied
    lines = [f"{clips / 'clips' / f'{row}.wav'},{NAMES[(row + 1) % 4]}" for row in range(40, 60)]  # all of them wrong
    (tmp_path / "wrong.csv").write_text("\n".join(["file_name,label", *lines]))
    report = tmp_path / "evaluation.html"
    config = on(tmp_path / "wrong.csv", audio=True, report=str(report), embedding_cache=applied_cache, **HERE)
    evaluate_artifact(artifact.load(str(path)), config)
    page = report.read_text()
    assert page.count("<audio") > 0
    assert "Words that moved it" not in page
