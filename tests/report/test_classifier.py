"""The report: what is in the page."""

import dataclasses
import json
import re
from html.parser import HTMLParser

import numpy as np

from golem_ray.heads.single_label import SINGLE_LABEL
from golem_ray.metrics.figures import FIGURES, MOST_CONFUSED
from golem_ray.report.classifier import MAX_LEFT_OUT, render, worst_mistakes
from golem_ray.report.judged import Column
from golem_ray.speech.player import player
from tests.conftest import audio_bytes, tone
from tests.report.pages import HOSTILE, INTENTS, document, judged, points, words_of


class Reader(HTMLParser):
    """The cells of the page's tables, and its headings."""

    def __init__(self, page):
        super().__init__()
        self.rows, self.headings, self.players, self.inside = [], [], [], None
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.inside = tag
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")
        if tag == "audio":
            self.players.append(dict(attributes)["src"])

    def handle_data(self, data):
        if self.inside in ("th", "td"):
            self.rows[-1][-1] += data
        if self.inside == "h2":
            self.headings.append(data.strip())

    def handle_endtag(self, tag):
        self.inside = None


def drawn(page):
    """The figures that the page hands to Plotly."""
    return json.loads(re.search(r'<script type="application/json" id="figures">(.*?)</script>', page)[1])


def test_the_page_holds_every_figure_beside_its_interval_and_its_rivals():
    which = judged(INTENTS)
    page = render(document(INTENTS), which, points(which))
    rows = {row[0]: row[1:] for row in Reader(page).rows if row and len(row) == 6}
    accuracy = which.figures["accuracy"]
    low, high = accuracy["interval_95"]
    assert rows[""] == ["Value", "95 % interval", "Even guess", "Largest class", "Head on log-mel"]
    assert rows["Accuracy"][:3] == [f"{accuracy['value']:.1%}", f"{low:.1%} to {high:.1%}", "7.1%"]
    assert rows["Log-loss (nats)"][2] == f"{np.log(14):.3f}"
    assert len(rows) == len(FIGURES) + 1
    for words in ("Training accuracy, which says what the head knows by heart: 100.0%; chance is 7.1%", "2 x 5 folds"):
        assert words in page
    assert list(drawn(page)) == ["confusion", "per-class", "reliability", "coverage", "loss", "map"]
    assert len(page) < 5_200_000
    assert page == render(document(INTENTS), which, points(which))
    assert not re.search(r'(?:src|href)="(?!data:)', page.split("<script>")[0])  # nothing is fetched


def test_confusions_of_very_many_classes_are_left_out():
    names = [str(number) for number in range(MOST_CONFUSED + 1)]
    which = judged(names, num_examples=20)
    page = render(document(names), which, points(which))
    assert list(drawn(page)) == ["per-class", "reliability", "coverage", "loss", "map"]
    assert "Left out: too many classes" in page


def test_a_page_without_tested_clips_says_so():
    page = render(document(["a", "b"], [{"clip": f"clip {row}", "reason": "empty"} for row in range(60)]), None, None)
    assert "No clip was tested on that the head did not see." in page
    assert list(drawn(page)) == ["loss"]
    assert len([row for row in Reader(page).rows if row[1:] == ["empty"]]) == MAX_LEFT_OUT
    assert "And 10 more." in page


def test_the_page_says_what_was_cross_validated():
    described = document(["a", "b"])
    assert "2 x 5 folds over 50 clips)." in render(described, None, None)
    described["metrics"]["cross_validation"]["sampled"] = True
    assert "over 50 sampled clips, of heads trained on these alone)." in render(described, None, None)


def test_the_worst_mistakes_are_the_surest_that_are_wrong():
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]])
    answers = SINGLE_LABEL.answers(probabilities)
    assert worst_mistakes(np.array([0, 1, 0, 0]), answers).tolist() == [1, 2, 3]
    assert worst_mistakes(np.array([0, 0, 1, 1]), answers).tolist() == []
    assert len(worst_mistakes(np.zeros(50, dtype=int), SINGLE_LABEL.answers(np.tile([[0.4, 0.6]], (50, 1))))) == 20


def test_a_mistake_that_is_unsure_is_marked():
    tested = judged(INTENTS)
    unsure = np.zeros(len(tested.labels), dtype=bool)
    unsure[worst_mistakes(tested.labels, tested.answers)[0]] = True
    tested = dataclasses.replace(tested, answers=dataclasses.replace(tested.answers, unsure=unsure))
    rows = Reader(render(document(INTENTS), tested, None)).rows
    said = [row[2] for row in rows[rows.index(["Clip", "Label", "Said", "Probability"]) + 1 :]]
    assert said[0].endswith(", unsure")
    assert not any(each.endswith(", unsure") for each in said[1:])


def test_names_are_escaped_wherever_they_stand():
    names = [HOSTILE, "<b>bold</b>"]
    which = judged(names, num_examples=30, examples=[HOSTILE] * 30)
    page = render(document(names, [{"clip": HOSTILE, "reason": HOSTILE}]), which, points(which))
    body = page.split("<body>")[1]
    assert "window.hacked = 1</script>" not in body
    assert "<img src=x" not in body
    assert "<b>" not in json.dumps(drawn(page))
    assert any(HOSTILE in row for row in Reader(page).rows)  # read as HTML, it is the name again


def test_no_name_turns_its_neighbours_round():
    names = ["left\u202eright", "\u2066other"]
    which = judged(names, num_examples=30, examples=["a\u202evaw.mp3"] * 30)
    page = render(document(names, [{"clip": "b\u202e", "reason": "c\n\u202b"}]), which, points(which))
    assert not re.search(
        "[\u202a-\u202e\u2066-\u2069]", page.split("<script")[0] + json.dumps(drawn(page), ensure_ascii=False)
    )
    assert [r"b\u202e", r"c\n\u202b"] in Reader(page).rows
    assert r"left\u202eright" in drawn(page)["per-class"]["layout"]["yaxis"]["ticktext"]


def test_audio_is_in_the_page_only_when_asked_for():
    which = judged(["a", "b"], num_examples=30)
    wrong = worst_mistakes(which.labels, which.answers)
    assert len(wrong) >= 2
    assert "<audio" not in render(document(["a", "b"]), which, None)
    content = {int(wrong[0]): audio_bytes(tone(0)), int(wrong[1]): audio_bytes(tone(0), format="FLAC")}
    column = Column(title="Audio", html=lambda row: player(content.get(row)))
    players = Reader(render(document(["a", "b"]), which, None, columns=[column])).players
    assert [player[:15] for player in players] == ["data:audio/wav;", "data:audio/flac"]


def test_columns_stand_side_by_side_below_what_to_know_of_them():
    which = judged(["a", "b"], num_examples=30)
    columns = [Column(title="One", html=str), Column(title="Other", html=lambda row: f"-{row}", note="Of <it>.")]
    page = render(document(["a", "b"]), which, None, columns=columns)
    assert '<h2>Worst mistakes</h2>\n<p class="note">Of &lt;it&gt;.</p>\n<div' in page
    assert "<th>Probability</th><th>One</th><th>Other</th></tr>" in page
    assert all(f"<td>{row}</td><td>-{row}</td></tr>" in page for row in worst_mistakes(which.labels, which.answers))


def test_what_a_mistake_misses_and_what_is_wrong_are_one_class_each():
    which = judged(["a", "b", "c"], num_examples=30)
    for row in range(30):
        label, said = int(which.labels[row]), int(which.answers.decisions[row])
        assert which.differing(row) == (([], []) if label == said else ([label], [said]))


def test_what_to_do_stands_below_the_figures_and_is_escaped():
    which = judged(INTENTS, num_examples=60)
    page = render(document(INTENTS), which, points(which), advice=["Try another <encoder>.", "More clips."])
    assert "<b>Try another &lt;encoder&gt;.</b></p>\n<p><b>More clips.</b>" in page
    assert page.index("<b>More clips.") < page.index("<h2>Confusions")
    assert "<b>" not in render(document(INTENTS), which, points(which)).split("<script")[0]


def test_texts_are_called_texts():
    bad = [{"clip": "text 3", "reason": "empty"}]
    which = dataclasses.replace(judged(INTENTS, examples=["a text"] * 336), how="The texts of test.")
    described = {**document(INTENTS, bad), "modality": "text"}
    described["metrics"]["choice"] = {
        "candidates": [{"pooling": "mean", "head": "linear", "layer": n, "accuracy": 0.5} for n in range(2)]
    }
    described["metrics"]["reject"] = {"by": "unlike", "threshold": None}
    pages = [render(described, which, points(which)), render(described, None, None)]
    right = dataclasses.replace(which, labels=which.answers.decisions)
    pages.append(render({**described, "metrics": {}}, right, None))
    for page in pages:
        assert "clip" not in words_of(page).lower()
    assert "<h2>Texts that could not be used</h2>" in pages[0]
    assert ["Text", "Label", "Said", "Probability"] in Reader(pages[0]).rows
    assert "No text was tested on" in pages[1]
    assert "None: every text was recognised." in pages[2]
