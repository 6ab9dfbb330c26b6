import json

from golem_ray import speech, text
from golem_ray.report.describe import render_description, summary
from tests.report.pages import HOSTILE, description, words_of


def figures_of(page):
    return json.loads(page.split('id="figures">')[1].split("</script>")[0])


def test_the_page_of_a_description_holds_its_figures():
    page = render_description(description(), speech.MODALITY)
    for words in (
        "30, 28 can be used",
        "10.5 min in all",
        "<li>2 clips are odd: listen to them.</li>",
        "Clips that are odd: 60",
        "<p>And 58 more.</p>",
        "The last bar holds also what lies beyond.",
        "one (20), two (8)",
        "<h2>Contents</h2>",
        "<td>recordings</td>",
        "<h2>Who speaks</h2>",
        "<h2>Equal files</h2>",
        "<h2>Different files that have equal content</h2>",
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
    page = render_description(found, speech.MODALITY)
    assert "The 100 largest of 150 labels." in page
    figures = figures_of(page)
    assert figures["labels"]["data"][0]["x"] == [*range(149, 49, -1)]
    assert "size-labels" not in figures
    assert figures["groups"]["data"][0]["x"] == [24, 4]
    assert "The 2 with most clips." in page
    assert "and 142 more labels, down to 0 of 'label 0'" in summary(found, speech.MODALITY)


def test_hostile_names_do_nothing():
    page = render_description(description(HOSTILE), speech.MODALITY)
    assert HOSTILE not in page
    assert "<img" not in page.split("<script>")[0]
    assert "\x1b" not in summary(description("\x1b[31m"), speech.MODALITY)


def test_texts_are_called_texts():
    found = description()
    found["findings"] = []
    for crossed in (None, found["groups"]["crossed"]):
        found["groups"] |= {"crossed": crossed, "num_without": 3, "num_groups": 70}
        assert "clip" not in words_of(render_description(found, text.MODALITY)).lower()
    assert "Texts that cannot be used: 2" in render_description(found, text.MODALITY)
    assert "clip" not in summary(found, text.MODALITY).lower()


def test_texts_are_spoken_of_as_texts():
    found = description()
    found["equal_content"][0]["title"] = "the same words"
    page = render_description(found, text.MODALITY)
    for words in (
        "<h2>Equal texts</h2>",
        "Different texts that have the same words</h2>",
        "emoji do.</p>",
        "<h2>Origin</h2>",
    ):
        assert words in page
    for said in (words_of(page), summary(found, text.MODALITY)):
        assert "files" not in said
        assert "speaks" not in said
    assert "Origin:      2 values of the column 'speaker', a guess" in summary(found, text.MODALITY)
    size = found["facts"][0]
    size["unit"] = ""
    assert "1 to 500, half of the texts from 10 to 20, median 15." in render_description(found, text.MODALITY)


def test_what_is_counted_stands_behind_the_kinds():
    lines = summary(description(), speech.MODALITY).split("\n")
    at = lines.index("contents                 2 different things")
    assert lines[at - 1].startswith("kind ")
    assert lines[at + 1].strip() == "recordings (4), < (1)"
