import re
import shutil
import time

import pytest

from golem_ray.config import NOUNS
from golem_ray.report.classifier import render
from golem_ray.report.comparison import render_comparison
from golem_ray.report.describe import render_description
from golem_ray.report.judged import Column, moved_html
from golem_ray.speech import MODALITY
from tests.report.pages import HOSTILE, INTENTS, comparison_result, description, document, judged, points
from tests.report.several import document_of_several, judged_of_several, points_of_several


@pytest.fixture(scope="module")
def browse(tmp_path_factory):
    """A function that opens a page at a width and height, in a Chromium without a network."""
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            pytest.skip(f"no {program} here: install Debian's chromium and chromium-driver, or its like")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    drivers = {}  # by size: starting one takes seconds

    def start(width, height):
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium")
        flags = ["headless=new", "no-sandbox", "disable-gpu", "no-first-run", "disable-background-networking"]
        flags += ["disable-component-update", "disable-sync", f"user-data-dir={tmp_path_factory.mktemp('chromium')}"]
        for flag in [*flags, f"window-size={width},{height}"]:
            options.add_argument(f"--{flag}")
        if width < 500:  # a window of its own cannot be as narrow as a phone
            metrics = {"width": width, "height": height, "pixelRatio": 1}
            options.add_experimental_option("mobileEmulation", {"deviceMetrics": metrics})
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        return webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))

    def open_page(path, width, height, drawings=6):
        if (width, height) not in drivers:
            drivers[width, height] = start(width, height)
        driver = drivers[width, height]
        driver.get_log("browser")  # what was said of earlier pages
        driver.get(path.as_uri())
        for _ in range(100):
            if driver.execute_script("return document.querySelectorAll('.js-plotly-plot').length") == drawings:
                return driver
            time.sleep(0.1)
        raise AssertionError(f"expected {drawings} drawings within ten seconds")

    yield open_page
    for driver in drivers.values():
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
    assert [box[0] for box in boxes] == ["confusion", "per-class", "reliability", "coverage", "loss", "map"]
    assert all(box[1] >= 1 and all(box[2:]) for box in boxes)
    narrowest = "return Math.min(...[...document.querySelectorAll('td')].map(cell => cell.clientWidth))"
    assert driver.execute_script(narrowest) > 60  # no column of single letters


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 900)])
def test_a_browser_shows_a_comparison_without_an_error(browse, tmp_path, width, height):
    (tmp_path / "report.html").write_text(render_comparison(comparison_result(), NOUNS["speech"]))
    driver = browse(tmp_path / "report.html", width, height, drawings=2)
    assert driver.get_log("browser") == []
    assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    assert driver.execute_script("return document.querySelectorAll('.js-plotly-plot .main-svg').length") >= 2


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 900)])
def test_a_browser_shows_a_description_and_runs_nothing_of_its_names(browse, tmp_path, width, height):
    (tmp_path / "describe.html").write_text(render_description(description(HOSTILE), MODALITY))
    driver = browse(tmp_path / "describe.html", width, height, drawings=4)
    assert driver.get_log("browser") == []
    assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    drawn = "return [...document.querySelectorAll('.js-plotly-plot')].map(drawing => drawing.id)"
    assert driver.execute_script(drawn) == ["labels", "size-all", "size-labels", "groups"]
    assert driver.execute_script("return window.hacked") is None


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 900)])
def test_a_browser_shows_several_labels_and_hides_a_curve_that_is_clicked_on(browse, tmp_path, width, height):
    which = judged_of_several([HOSTILE, "%{x}", "joy", "fear"], examples=[HOSTILE] * 200)
    moved = moved_html({HOSTILE: [(HOSTILE, 0.41), ("w" * 400, -0.2)]}, {HOSTILE: "wrong"}, HOSTILE)
    columns = [
        Column(title="What it says", html=lambda row: f"{row} words"),
        Column(title="Words that moved it", html=lambda row: moved),
    ]
    page = render(document_of_several(which.names), which, points_of_several(which), columns=columns)
    (tmp_path / "report.html").write_text(page)
    driver = browse(tmp_path / "report.html", width, height, drawings=7)
    assert driver.get_log("browser") == []
    assert driver.execute_script("return window.hacked") is None
    assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    widest = "return Math.max(...[...document.querySelectorAll('.moved')].map(cell => cell.clientWidth))"
    assert 190 <= driver.execute_script(widest) <= 400  # a long word is wrapped
    names = "return [...document.querySelectorAll('.js-plotly-plot')].map(drawing => drawing.id)"
    assert driver.execute_script(names) == [
        *("labels", "together", "per-class", "precision-recall", "reliability", "loss", "map")
    ]
    hidden = "return document.getElementById('precision-recall').data.filter(t => t.visible === 'legendonly').length"
    assert driver.execute_script(hidden) == 0
    driver.execute_script("document.getElementById('precision-recall').scrollIntoView({block: 'center'})")
    driver.find_element("css selector", "#precision-recall .legendtoggle").click()
    for _ in range(50):
        if driver.execute_script(hidden):
            break
        time.sleep(0.1)
    assert driver.execute_script(hidden) == 2  # the curve and its mark


def test_a_pointer_on_the_map_shows_the_clips_name(browse, tmp_path):
    from selenium.webdriver.common.action_chains import ActionChains

    which = judged(INTENTS, num_examples=40)
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


def test_a_browser_shows_labels_as_they_are(browse, tmp_path):
    names = ['R&B "loud" <b>', "it's &amp;"]
    which = judged(names, num_examples=40)
    (tmp_path / "report.html").write_text(render(document(names), which, points(which)))
    driver = browse(tmp_path / "report.html", 1280, 900)
    ticks = "return [...document.querySelectorAll('#per-class .ytick text')].map(text => text.textContent)"
    assert driver.execute_script(ticks) == names


def test_hostile_names_do_nothing_in_a_browser(browse, tmp_path):
    names = [HOSTILE, "<a href='javascript:window.hacked=1'>x</a>", *INTENTS[:5]]
    which = judged(names, num_examples=60, examples=[HOSTILE] * 60)
    (tmp_path / "report.html").write_text(render(document(names), which, points(which)))
    driver = browse(tmp_path / "report.html", 1280, 900)
    assert driver.get_log("browser") == []
    assert driver.execute_script("return window.hacked") is None
    assert driver.execute_script("return document.querySelectorAll('.js-plotly-plot').length") == 6
    assert driver.execute_script("return document.querySelectorAll('.js-plotly-plot a, body img').length") == 0
