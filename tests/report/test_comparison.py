import json

from golem_ray.config import NOUNS
from golem_ray.report.comparison import render_comparison
from tests.report.pages import comparison_result, words_of

HOSTILE = "</script><script>window.hacked=1</script><img src=x onerror=alert(1)>"


def test_the_page_of_a_comparison_holds_its_figures_and_no_foreign_code():
    page = render_comparison(comparison_result(), NOUNS["speech"])
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
    hostile = render_comparison(comparison_result(HOSTILE), NOUNS["speech"])
    assert HOSTILE not in hostile
    assert "<img" not in hostile.split("<script>")[0]


def test_texts_are_called_texts():
    page = words_of(render_comparison(comparison_result(), NOUNS["text"]))
    assert "<dt>Texts</dt><dd>50 texts (1 more" in page
    assert "clip" not in page.lower()
