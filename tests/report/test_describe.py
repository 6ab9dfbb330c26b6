import json

from golem_ray.config import NOUNS
from golem_ray.report.describe import render_description, summary
from tests.report.pages import HOSTILE, description, words_of


def figures_of(page):
    return json.loads(page.split('id="figures">')[1].split("</script>")[0])


def test_the_page_of_a_description_holds_its_figures():
    page = render_description(description(), NOUNS["speech"])
    for words in (
        "30, 28 can be used",
        "10.5 min in all",
        "<li>2 clips are odd: listen to them.</li>",
        "Clips that are odd: 60",
        "<p>And 58 more.</p>",
        "The last bar holds also what lies beyond.",
        "one (20), two (8)",
        "2 values of the column &#x27;speaker&#x27;, a guess",
    ):
        assert words in page
    figures = figures_of(page)
    assert figures["labels"]["data"][0]["x"] == [20, 8]
    assert figures["size-all"]["data"][0]["y"] == [1, 2, 25]
    assert figures["size-all"]["data"][0]["x"] == [5, 15, 25]
    assert figures["size-labels"]["data"][0]["q3"] == [20, 20]
    assert figures["groups"]["data"][0]["z"] == [[20, 0], [4, 4]]


def test_many_labels_and_groups_are_not_all_drawn():
    found = description()
    found["labels"] = [{**found["labels"][0], "label": f"label {n}", "num_clips": n} for n in range(150)]
    found["groups"] |= {"crossed": None, "num_groups": 70, "per_label": [3] * 150}
    page = render_description(found, NOUNS["speech"])
    assert "The 100 largest of 150 labels." in page
    figures = figures_of(page)
    assert figures["labels"]["data"][0]["x"] == [*range(149, 49, -1)]
    assert "size-labels" not in figures
    assert figures["groups"]["data"][0]["x"] == [24, 4]
    assert "The 2 with most clips." in page
    assert "and 142 more labels, down to 0 of 'label 0'" in summary(found, NOUNS["speech"])


def test_hostile_names_do_nothing():
    page = render_description(description(HOSTILE), NOUNS["speech"])
    assert HOSTILE not in page
    assert "<img" not in page.split("<script>")[0]
    assert "\x1b" not in summary(description("\x1b[31m"), NOUNS["speech"])


def test_texts_are_called_texts():
    found = description()
    found["findings"] = []
    for crossed in (None, found["groups"]["crossed"]):
        found["groups"] |= {"crossed": crossed, "num_without": 3, "num_groups": 70}
        assert "clip" not in words_of(render_description(found, NOUNS["text"])).lower()
    assert "Texts that cannot be used: 2" in render_description(found, NOUNS["text"])
    assert "clip" not in summary(found, NOUNS["text"]).lower()
