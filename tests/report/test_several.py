"""The report's page where an example may have several labels."""

import html
import json
import re

import numpy as np
import pytest

from golem_ray.config import NOUNS
from golem_ray.heads.multi_label import MULTI_LABEL
from golem_ray.metrics.figures import NUM_BINS
from golem_ray.metrics.several import FIGURES_OF_SEVERAL
from golem_ray.report.classifier import render
from golem_ray.report.drawings_of_several import (
    MOST_CURVES,
    MOST_TOGETHER,
    MOST_VISIBLE,
    draw_f1,
    draw_precision_recall,
    draw_reliability_of_several,
    draw_together,
)
from golem_ray.report.judged import MAX_MISTAKES, Column, moved_html
from golem_ray.report.several import worst_of_several
from tests.report.pages import HOSTILE, words_of
from tests.report.several import (
    NAMES,
    THRESHOLDS,
    document_of_several,
    judged_of_several,
    points_of_several,
    record,
)
from tests.report.test_classifier import Reader, drawn

NOUN_OF_TEXTS = NOUNS["text"]
DRAWINGS = ["labels", "together", "per-class", "precision-recall", "reliability", "loss", "map"]


@pytest.fixture(scope="module")
def which():
    return judged_of_several()


def page_of(which, described=None, **more):
    return render(described or document_of_several(which.names[: which.answers.num_classes]), which, None, **more)


def test_the_page_holds_every_figure_beside_its_interval_and_its_rivals(which):
    page = render(document_of_several(), which, points_of_several(which))
    rows = {row[0]: row[1:] for row in Reader(page).rows}
    assert rows[""] == [
        "Value",
        "95 % interval",
        "Every label always",
        "Each at random",
        "TF-IDF",
        "Thresholds of 0.5",
    ]
    for name, kind in FIGURES_OF_SEVERAL.items():
        title, figure = kind.title[0].upper() + kind.title[1:], which.figures[name]
        low, high = map(kind.shown, figure["interval_95"])
        row = rows[f"{title} ({kind.unit})" if kind.unit else title]
        assert row[:2] == [kind.shown(figure["value"]), f"{low} to {high}"]
        beside = [which.baselines[key].get(name) for key in ("always", "chance", "tf_idf", "at_half")]
        values = [each["value"] if isinstance(each, dict) else each for each in beside]
        assert row[2:] == ["" if value is None else kind.shown(value) for value in values]
    floor = f"{which.figures['calibration_error']['floor']:.1%}"
    others = [which.baselines[key]["calibration_error"]["floor"] for key in ("tf_idf", "at_half")]
    assert rows["Its floor"] == [floor, "", "", "", *(f"{each:.1%}" for each in others)]
    assert f"perfect probabilities too would show some {floor}, its floor" in page
    assert "every label right for 100.0% of what it was trained on" in page
    assert "in 5 folds over 50 texts, the thresholds of each chosen on the other folds" in page
    assert list(drawn(page)) == DRAWINGS
    assert "<title>Classifier of 4 labels</title>" in page
    assert page == render(document_of_several(), which, points_of_several(which))


def test_labels_are_counted_alone_and_together(which):
    found = drawn(page_of(which))
    counts, without = which.labels.sum(axis=0), int((~which.labels.any(axis=1)).sum())
    order = np.argsort(-counts, kind="stable").tolist()
    assert order != sorted(order)
    assert without
    bars = found["labels"]
    assert bars["data"][0]["x"] == [*counts[order].tolist(), without]
    assert bars["layout"]["yaxis"]["ticktext"] == [*(NAMES[each] for each in order), "(no label)"]
    table = found["together"]["data"][0]
    for row, first in enumerate(order):
        for column, second in enumerate(order):
            both = int((which.labels[:, first] & which.labels[:, second]).sum())
            assert table["text"][row][column] == str(both or "")
            share = 0 if row == column else both / counts[first]
            assert table["z"][row][column] == pytest.approx(share, abs=1e-4)
    assert table["zmax"] == pytest.approx(max(map(max, table["z"])), abs=1e-4)


def test_each_label_has_its_f1_and_interval_beside_that_of_giving_it_always(which):
    records = which.per_class[:2]
    bars, precision, recall, always = draw_f1(records, 200, NOUN_OF_TEXTS)["data"]
    for place, each in enumerate(records):
        low, high = each["f1"]["interval_95"]
        assert bars["x"][place] == each["f1"]["value"]
        assert bars["x"][place] - bars["error_x"]["arrayminus"][place] == pytest.approx(low)
        assert bars["x"][place] + bars["error_x"]["array"][place] == pytest.approx(high)
        assert precision["x"][place] == each["precision"]["value"]
        assert recall["x"][place] == each["recall"]["value"]
        share = each["num_clips"] / 200
        assert always["x"][place] == pytest.approx(2 * share / (1 + share))
    nobody = {"label": "x", "num_clips": 0, **dict.fromkeys(("precision", "recall", "f1"))}
    assert draw_f1([nobody], 200, NOUN_OF_TEXTS)["data"][0]["x"] == [None]


def test_a_mark_on_each_curve_is_what_its_threshold_gives(which):
    traces = draw_precision_recall(which.labels, which.answers, THRESHOLDS, NAMES)["data"]
    marks = {trace["name"]: trace for trace in traces if trace["mode"] == "markers"}
    for number, name in enumerate(NAMES):
        known = which.per_class[number]
        assert marks[name]["x"] == pytest.approx([known["recall"]["value"]], abs=1e-4)
        assert marks[name]["y"] == pytest.approx([known["precision"]["value"]], abs=1e-4)
        assert marks[name]["customdata"] == [THRESHOLDS[number]]
    lines = {trace["name"]: trace for trace in traces if trace["mode"] == "lines"}
    assert all(lines[name]["legendgroup"] == marks[name]["legendgroup"] for name in NAMES)  # they hide together
    assert len({trace["legendgroup"] for trace in lines.values()}) == len(NAMES)


def test_reliability_is_of_the_calibration_errors_bins(which):
    _, *lines = draw_reliability_of_several(which.labels, which.answers, NAMES, NOUN_OF_TEXTS)["data"]
    for line in lines:
        number = NAMES.index(line["name"])
        assert len(line["x"]) == NUM_BINS
        error = np.abs(np.array(line["x"]) - line["y"]).mean()  # of bins of 20 each
        assert error == pytest.approx(which.per_class[number]["calibration_error"]["value"], abs=1e-3)
    assert "<br>20 texts" in lines[0]["hovertext"][0]


def test_of_many_labels_the_most_frequent_are_drawn():
    names = [f"label {number}" for number in range(120)]
    many = judged_of_several(names, num_examples=60)
    page = page_of(many, document_of_several(names))
    found = drawn(page)
    assert len(found["together"]["data"][0]["z"]) == MOST_TOGETHER
    assert "text" not in found["together"]["data"][0]
    lines = [trace for trace in found["precision-recall"]["data"] if trace["mode"] == "lines"]
    assert len(lines) == MOST_CURVES
    assert [trace["visible"] for trace in lines] == [True] * MOST_VISIBLE + ["legendonly"] * (
        MOST_CURVES - MOST_VISIBLE
    )
    assert "Shown are the 100 most frequent of 120 labels." in page
    assert "At first the 12 most frequent labels are seen. Of the others there are 28 more." in page


def test_the_worst_mistakes_are_the_least_probable_and_show_what_differs():
    probabilities = np.array([[0.9, 0.1], [0.9, 0.2], [0.1, 0.8], [0.9, 0.3], [0.45, 0.1]])
    labels = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 1], [0, 0, 0], [1, 0, 0]], dtype=bool)
    answers = MULTI_LABEL.answers(probabilities)
    assert worst_of_several(labels, answers).tolist() == [1, 3, 4, 2]  # 0 is right; 2 lacks an unknown label
    assert len(worst_of_several(np.zeros((50, 2), bool), MULTI_LABEL.answers(np.full((50, 2), 0.6)))) == MAX_MISTAKES
    assert worst_of_several(labels[:1], answers.take(np.array([0]))).tolist() == []

    which = judged_of_several(["a", "b", "c"], known=2)
    which = judged_of_several(["a", "b", "c"], 2, labels=labels, answers=answers, per_class=which.per_class)
    page = page_of(which, document_of_several(["a", "b"]))
    rows = Reader(page).rows
    at = rows.index(["Text", "Labels", "Said", "Probabilities of what differs"])
    assert rows[at + 1 :] == [
        ["text 1", "b", "a", "missed: b 20.0%"],
        ["text 3", "none", "a", "wrong: a 90.0%"],
        ["text 4", "a", "none", "missed: a 45.0%"],
        ["text 2", "b, c", "b", "missed: c (not known to it)"],
    ]
    assert "<td>missed: b 20.0%<br>wrong: a 90.0%</td>" in page
    right = judged_of_several(
        labels=which.labels[:, :2], names=["a", "b"], answers=MULTI_LABEL.answers(labels[:, :2] * 1.0)
    )
    assert "None: every text has all of its labels and no other." in page_of(right, document_of_several(["a", "b"]))


def test_an_example_is_in_the_page_only_through_the_column(which):
    assert "What it says" not in page_of(which)
    page = page_of(which, columns=[Column(title="What it says", html=lambda row: f"<i>{row}</i>")])
    worst = worst_of_several(which.labels, which.answers).tolist()
    assert [f"<td><i>{row}</i></td>" in page for row in worst] == [True] * MAX_MISTAKES


def test_columns_stand_side_by_side_below_what_to_know_of_them(which):
    columns = [Column(title=title, html=lambda row: f"{row}", note=f"Of <{title}>.") for title in ("One", "Other")]
    page = page_of(which, columns=columns)
    assert "least probable as labelled. Of &lt;One&gt;. Of &lt;Other&gt;.</p>" in page
    assert "<th>One</th><th>Other</th></tr>" in page
    worst = worst_of_several(which.labels, which.answers).tolist()
    assert [f"<td>{row}</td><td>{row}</td></tr>" in page for row in worst] == [True] * MAX_MISTAKES


def test_words_that_moved_a_label_are_marked_have_signs_and_are_escaped():
    changes = {
        HOSTILE: [
            ("<script>", -0.25),
            ("a\u202eb", 0.09),
            ("w" * 50, 0.04),
            ("four", 0.01),
            ("five", 0.0051),
            ("x", 0.005),
        ],
        "joy": [("small", 0.004)],
        "fear": [],
    }
    found = moved_html(changes, {HOSTILE: "missed", "joy": "wrong", "fear": "wrong"}, "of its first 2 of <3> words")
    assert "<script>" not in found
    assert "<img" not in found
    first, joy, fear, remark = found.removesuffix("</div>").split("<br>")
    assert [words_of_html(line) for line in (joy, fear)] == [
        "wrong joy: no word moves it by .01",
        "wrong fear: no word can be left out",
    ]
    assert remark == "of its first 2 of &lt;3&gt; words"
    assert words_of_html(first) == (
        f"missed {HOSTILE}: <script> -.25, a\\u202eb +.09, {'w' * 40}\u2026 +.04, four +.01, five +.01"
    )
    backgrounds = re.findall(r"rgb\((\d+) \d+ \d+ / (\d+)%\)", found)
    assert backgrounds == [("255", "35"), ("31", "25"), ("31", "20"), ("31", "15"), ("31", "14")]
    assert moved_html({}, {}, "not explained") == '<div class="moved">not explained</div>'


def words_of_html(text):
    return html.unescape(re.sub("<[^>]*>", "", text)).replace("\xa0", " ")


def test_the_page_says_whose_thresholds_are_marked():
    plain, folds = judged_of_several(), judged_of_several(by_folds=True)
    assert "that of the finished classifier, since each fold had its own" in page_of(folds)
    assert "Thresholds are those of the finished classifier; each fold had its own." in page_of(folds)
    assert "finished classifier" not in page_of(plain)
    least = document_of_several()
    least["metrics"]["calibration"]["at_least_one"] = True
    assert "the label that it adds where none reaches its threshold is not counted in" in page_of(plain, least)
    assert "Calibrated by a slope and an intercept for each label (Platt scaling), from 50" in page_of(plain)
    least["metrics"]["calibration"]["num_clips"] = 0
    assert "Not calibrated, for want of cross-validated texts." in page_of(plain, least)


def test_the_map_names_the_rarest_label_and_those_without_any(which):
    page = render(document_of_several(), which, points_of_several(which))
    assert sorted(trace["name"] for trace in drawn(page)["map"]["data"]) == ["(no label)", *NAMES]
    assert "The colour is that of the rarest label of a text." in page
    assert "(no label)" in page_of(which)
    assert "(no label)" in render(document_of_several(), None, points_of_several(which))


def test_a_label_that_the_classifier_does_not_know_is_in_the_tables_alone():
    unknown = judged_of_several([*NAMES, "unknown"], known=4)
    page = page_of(unknown)
    assert "unknown" in drawn(page)["labels"]["layout"]["yaxis"]["ticktext"]
    assert "unknown" not in {trace.get("name") for trace in drawn(page)["precision-recall"]["data"]}
    (row,) = (row for row in Reader(page).rows if row[0] == "unknown")
    assert row[2:6] == ["not known", "", "0.0%", "0.0%"]


def test_a_page_without_tested_examples_and_one_without_labels_are_pages():
    page = render(document_of_several(), None, None)
    assert "No text was tested on that the head did not see." in page
    assert list(drawn(page)) == ["loss"]
    nothing = judged_of_several(labels=np.zeros((200, 4), bool))
    assert list(drawn(page_of(nothing))) == ["labels", "together", "per-class", "loss"]


def test_names_are_escaped_wherever_they_stand():
    names = [HOSTILE, "<b>bold</b>", "%{x}"]
    which = judged_of_several(names, num_examples=40, examples=[HOSTILE] * 40)
    page = render(document_of_several(names), which, points_of_several(which))
    assert "window.hacked = 1</script>" not in page.split("<body>")[1]
    assert "<img src=x" not in page.split("<body>")[1]
    assert "<b>" not in json.dumps(drawn(page))
    assert any(HOSTILE in row[1] for row in Reader(page).rows if len(row) > 1)


def test_candidates_are_compared_by_what_they_were_chosen_by(which):
    described = document_of_several()
    described["metrics"]["choice"] = {
        "candidates": [{"pooling": "mean", "head": "linear", "layer": n, "accuracy": 0.5} for n in range(2)]
    }
    page = page_of(which, described)
    assert "cross-validated label ranking average precision, on the texts" in page
    title = drawn(page)["layers"]["layout"]["yaxis"]["title"]["text"]
    assert title == "label ranking average precision"


def test_examples_are_called_what_they_are(which):
    page = page_of(which)
    assert "clip" not in words_of(page).lower()
    clips = page_of(which, document_of_several(modality="speech"))
    assert ["Clip", "Labels", "Said", "Probabilities of what differs"] in Reader(clips).rows
    assert "How many of the 200 clips have each label" in clips


def test_pairs_of_labels_that_nobody_has_are_drawn_as_none():
    found = draw_together(np.zeros((3, 2), bool), ["a", "b"], NOUN_OF_TEXTS)["data"][0]
    assert found["text"] == [["", ""], ["", ""]]
    assert record(2)["thresholds"] == THRESHOLDS[:2]
