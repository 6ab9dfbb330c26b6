"""The report: what is in the page, and the page in a real browser."""

import json
import re
import shutil
import tempfile
import time
from html.parser import HTMLParser

import numpy as np
import pytest

from golem_ray.heads.target import softmax
from golem_ray.metrics.figures import baselines, figures
from golem_ray.metrics.intervals import wilson_interval
from golem_ray.report.classifier import MAX_LEFT_OUT, Judged, render, worst_mistakes
from golem_ray.report.comparison import render_comparison
from golem_ray.report.drawings import Points, draw_confusion, draw_per_class, project, reliability
from tests.conftest import audio_bytes, tone
from tests.test_compare import comparison_result

INTENTS = [f"intent_number_{number:02d}" for number in range(14)]
HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"


def document(labels, bad=()):
    return {
        "labels": list(labels),
        "summary": "",
        "encoder": {"name": "some/encoder", "revision": "abc", "layer": "last", "pooling": "mean"},
        "head": {"kind": "linear"},
        "clips": {"total": 50, "used": 50 - len(bad), "bad": list(bad)},
        "config": {"dataset": {"name": "recordings", "split": "train"}, "training": {"seed": 0}},
        "metrics": {
            "training_accuracy": 1.0,
            "chance": 1 / len(labels),
            "loss_history": [{"epoch": 10, "loss": 0.5}, {"epoch": 20, "loss": 0.25}],
            "cross_validation": {
                "accuracy": 0.5,
                "interval_95": [0.4, 0.6],
                "folds": 5,
                "repeats": 2,
                "num_clips": 50,
            },
            "calibration": {"temperature": 2.0, "num_clips": 50},
        },
    }


def judged(names, num_clips=336, seed=0, clips=None):
    rng = np.random.default_rng(seed)
    labels = rng.integers(len(names), size=num_clips)
    probabilities = softmax(rng.standard_normal((num_clips, len(names))) + 2 * np.eye(len(names))[labels])
    return Judged(
        how="The clips of test.",
        clips=clips or [f"test clip {row} (recordings/test/{row:04d}.ogg)" for row in range(num_clips)],
        labels=labels,
        probabilities=probabilities,
        names=names,
        figures=figures(probabilities, labels),
        baselines={**baselines(labels, len(names), 0), "log_mel": figures(probabilities[:, ::-1], labels)},
    )


def points(which, seed=0):
    vectors = np.random.default_rng(seed).standard_normal((len(which.labels), 24)).astype(np.float32)
    vectors[:, :2] *= 8
    return Points(vectors=vectors, labels=which.labels, clips=which.clips, tested=which.labels % 2 == 0)


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
    assert len(rows) == 8
    for words in ("Training accuracy, which says what the head knows by heart: 100.0%; chance is 7.1%", "2 x 5 folds"):
        assert words in page
    assert list(drawn(page)) == ["confusion", "per-class", "reliability", "loss", "map"]
    assert len(page) < 5_200_000
    assert page == render(document(INTENTS), which, points(which))
    assert not re.search(r'(?:src|href)="(?!data:)', page.split("<script>")[0])  # nothing is fetched


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
    assert worst_mistakes(np.array([0, 1, 0, 0]), probabilities).tolist() == [1, 2, 3]
    assert worst_mistakes(np.array([0, 0, 1, 1]), probabilities).tolist() == []
    assert len(worst_mistakes(np.zeros(50, dtype=int), np.tile([[0.4, 0.6]], (50, 1)))) == 20


def test_reliability_is_how_often_it_is_right_by_how_sure_it_is():
    probabilities = np.array([[0.65, 0.35], [0.69, 0.31], [0.05, 0.95], [0.02, 0.98]])
    found = reliability(np.array([0, 1, 1, 1]), probabilities)
    assert found == [pytest.approx((0.67, 0.5, 2)), pytest.approx((0.965, 1.0, 2))]


def test_each_class_has_its_recall_with_wilsons_interval():
    figure = draw_per_class(np.array([0, 0, 2, 2]), np.array([0, 1, 2, 2]), ["a", "b", "c"])
    (bars,) = figure["data"]
    assert bars["x"] == [0.5, 1.0]  # of the class without clips nothing can be said
    assert figure["layout"]["yaxis"]["ticktext"] == ["a", "c"]
    assert bars["x"][0] - bars["error_x"]["arrayminus"][0] == pytest.approx(wilson_interval(0.5, 2)[0])
    counts = draw_confusion(np.array([0, 0, 2]), np.array([0, 1, 2]), ["a", "b", "c"])["data"][0]
    assert counts["z"] == [[0.5, 0.5, 0], [0, 0, 0], [0, 0, 1]]
    assert counts["text"][0] == ["1", "1", ""]


@pytest.mark.parametrize("shape", [(40, 5), (5, 40)])
def test_the_map_is_of_the_two_widest_directions(shape):
    """Against a singular value decomposition, up to the sign."""
    vectors = np.random.default_rng(0).standard_normal(shape).astype(np.float32) + 3
    centred = vectors.astype(np.float64) - vectors.mean(axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    where, share = project(vectors)
    assert np.allclose(np.abs(where), np.abs(left[:, :2] * values[:2]), atol=1e-5)
    assert share == pytest.approx((values[:2] ** 2).sum() / (values**2).sum(), abs=1e-6)
    assert (where[np.abs(where).argmax(axis=0), [0, 1]] > 0).all()


def test_names_are_escaped_wherever_they_stand():
    names = [HOSTILE, "<b>bold</b>"]
    which = judged(names, num_clips=30, clips=[HOSTILE] * 30)
    page = render(document(names, [{"clip": HOSTILE, "reason": HOSTILE}]), which, points(which))
    body = page.split("<body>")[1]
    assert "window.hacked = 1</script>" not in body
    assert "<img src=x" not in body
    assert "<b>" not in json.dumps(drawn(page))
    assert any(HOSTILE in row for row in Reader(page).rows)  # read as HTML, it is the name again


def test_audio_is_in_the_page_only_when_asked_for():
    which = judged(["a", "b"], num_clips=30)
    wrong = worst_mistakes(which.labels, which.probabilities)
    assert len(wrong) >= 2
    assert "<audio" not in render(document(["a", "b"]), which, None)
    content = {int(wrong[0]): audio_bytes(tone(0)), int(wrong[1]): audio_bytes(tone(0), format="FLAC")}
    players = Reader(render(document(["a", "b"]), which, None, audio=content.get)).players
    assert [player[:15] for player in players] == ["data:audio/wav;", "data:audio/flac"]


@pytest.fixture(scope="module")
def browse():
    """A function that opens a page at a width and height, in a Chromium without a network."""
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            pytest.skip(f"no {program} here: install Debian's chromium and chromium-driver, or its like")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    drivers = []

    def open_page(path, width, height, drawings=5):
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium")
        flags = ["headless=new", "no-sandbox", "disable-gpu", "no-first-run", "disable-background-networking"]
        flags += ["disable-component-update", "disable-sync", f"user-data-dir={tempfile.mkdtemp(dir=path.parent)}"]
        for flag in [*flags, f"window-size={width},{height}"]:
            options.add_argument(f"--{flag}")
        if width < 500:  # a window of its own cannot be as narrow as a phone
            metrics = {"width": width, "height": height, "pixelRatio": 1}
            options.add_experimental_option("mobileEmulation", {"deviceMetrics": metrics})
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        drivers.append(driver)
        driver.get(path.as_uri())
        for _ in range(100):
            if driver.execute_script("return document.querySelectorAll('.js-plotly-plot').length") == drawings:
                break
            time.sleep(0.1)
        return driver

    yield open_page
    for driver in drivers:
        driver.quit()


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 900)])
def test_a_browser_shows_the_page_without_an_error(browse, tmp_path, width, height):
    which = judged(INTENTS)
    (tmp_path / "report.html").write_text(render(document(INTENTS), which, points(which)))
    driver = browse(tmp_path / "report.html", width, height)
    assert driver.get_log("browser") == []
    assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    boxes = driver.execute_script(
        "return [...document.querySelectorAll('.js-plotly-plot')].map(p => {const b = p.getBoundingClientRect();"
        "return [p.id, p.querySelectorAll('.main-svg').length, b.left >= 0, b.right <= innerWidth, b.height > 200]})"
    )
    assert [box[0] for box in boxes] == ["confusion", "per-class", "reliability", "loss", "map"]
    assert all(box[1] >= 1 and all(box[2:]) for box in boxes)
    narrowest = "return Math.min(...[...document.querySelectorAll('td')].map(cell => cell.clientWidth))"
    assert driver.execute_script(narrowest) > 60  # no column of single letters


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 900)])
def test_a_browser_shows_a_comparison_without_an_error(browse, tmp_path, width, height):
    (tmp_path / "report.html").write_text(render_comparison(comparison_result()))
    driver = browse(tmp_path / "report.html", width, height, drawings=2)
    assert driver.get_log("browser") == []
    assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    assert driver.execute_script("return document.querySelectorAll('.js-plotly-plot .main-svg').length") >= 2


def test_a_pointer_on_the_map_shows_the_clips_name(browse, tmp_path):
    from selenium.webdriver.common.action_chains import ActionChains

    which = judged(INTENTS, num_clips=40)
    (tmp_path / "report.html").write_text(render(document(INTENTS), which, points(which)))
    driver = browse(tmp_path / "report.html", 1280, 900)
    driver.execute_script("document.getElementById('map').scrollIntoView({block: 'center'})")
    point = driver.execute_script("return document.querySelector('#map .scatterlayer .point')")
    ActionChains(driver).move_to_element(point).perform()
    shown = ""
    for _ in range(50):
        shown = driver.execute_script(
            "return [...document.querySelectorAll('#map .hoverlayer text')].map(text => text.textContent).join(' ')"
        )
        if shown:
            break
        time.sleep(0.1)
    assert re.search(r"test clip \d+ \(recordings/test/\d{4}\.ogg\)\s*intent_number_\d\d", shown)


def test_hostile_names_do_nothing_in_a_browser(browse, tmp_path):
    names = [HOSTILE, "<a href='javascript:window.hacked=1'>x</a>", *INTENTS[:5]]
    which = judged(names, num_clips=60, clips=[HOSTILE] * 60)
    (tmp_path / "report.html").write_text(render(document(names), which, points(which)))
    driver = browse(tmp_path / "report.html", 1280, 900)
    assert driver.get_log("browser") == []
    assert driver.execute_script("return window.hacked") is None
    assert driver.execute_script("return document.querySelectorAll('.js-plotly-plot').length") == 5
    assert driver.execute_script("return document.querySelectorAll('.js-plotly-plot a, body img').length") == 0
