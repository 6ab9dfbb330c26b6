"""The documentation: its commands are run, its links lead somewhere, and the reference says what the code says."""

import os
import re
import shlex
import subprocess

import pyarrow.parquet as pq
import pytest
import reference
import soundfile

from golem_ray.cli import flags
from golem_ray.config import DatasetConfig
from golem_ray.sample import DATASETS
from tests import warm
from tests.conftest import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def name_of(page):
    return str(page.relative_to(ROOT))


def blocks(page, *languages):
    """(language, text) of the page's blocks in those languages."""
    return [found for found in BLOCK.findall(page.read_text()) if found[0] in languages]


def is_run(text):
    return not text.startswith("# not run: ")


def commands(text):
    """The lines of a shell block, continued ones joined and here-documents with the command that they belong to."""
    joined = re.sub(r"\\\n\s*", "", text)
    return re.findall(r"(?m)^(cat > \S+ <<END\n(?:.*\n)*?END|[^\s#].*)$", joined)


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """What the pages speak of: clips in a folder per label, others, one that is broken, and tables."""
    folder = tmp_path_factory.mktemp("material")
    rows = pq.read_table(DATASETS["sample-digits"] / "train.parquet").to_pylist()
    for number, row in enumerate(rows):
        label = row["transcription"]
        if label not in ("one", "two", "three"):
            continue
        place = folder / "recordings" / label
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.ogg").write_bytes(row["audio"]["bytes"])
    (folder / "new").mkdir()
    for number, row in enumerate(pq.read_table(DATASETS["sample-digits"] / "test.parquet").slice(0, 5).to_pylist()):
        (folder / "new" / f"{number}.ogg").write_bytes(row["audio"]["bytes"])
    soundfile.write(folder / "clip.wav", *soundfile.read(folder / "new" / "0.ogg"))
    (folder / "broken.wav").write_bytes(b"RIFF")
    clips = sorted(path.relative_to(folder) for path in (folder / "recordings").rglob("*.ogg"))
    lines = [f"{path};{path.parts[1]};{'ab'[number % 2]}" for number, path in enumerate(clips)]
    (folder / "calls.csv").write_text("\n".join(["file_name;emotion;speaker", *lines]), encoding="cp1251")
    return folder


@pytest.mark.slow
@pytest.mark.timeout(900)  # a page may train or compare several times
@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(is_run(text) for _, text in blocks(page, "sh", "python"))], ids=name_of
)
def test_what_a_page_tells_to_run_runs(page, material, command, tmp_path, monkeypatch):
    """In a folder of its own: shell blocks in their order, then all Python as a script. `make` is for .ci/run.

    Commands run in this process, whose imports take longer than they do, and without a Ray, whose start does: other
    tests have them in processes of their own, and the same bytes on Ray (test_wheel.py, test_both_engines.py).
    """
    subprocess.run(["cp", "-r", f"{material}/.", tmp_path], check=True)
    monkeypatch.chdir(tmp_path)
    for _, text in blocks(page, "sh"):
        for line in commands(text) if is_run(text) else []:
            program, *arguments = shlex.split(line.partition("\n")[0], comments=True)
            if program == ".":
                continue  # the commands are on the path
            if program == "make":
                assert f"\n{arguments[0]}: setup\n" in (ROOT / "Makefile").read_text()
            elif program == "golem-ray":
                alone = ["--cluster.address", "none", "--cluster.threads-per-worker", "1"]
                alone = alone if arguments[0] in ("train", "compare", "evaluate", "predict") else []
                said = command(*arguments, *alone)
                assert said.status == 0, f"{line}\n{said.err}"
            else:
                subprocess.run(["sh", "-ec", line], check=True)
    code = "\n".join(text for _, text in blocks(page, "python") if is_run(text))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = warm.run(["-c", code], cwd=tmp_path, env=environment, timeout=200)
    assert done.returncode == 0, f"{code}\n{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_each_command_is_one_that_there_is(page):
    """Also where it is not run."""
    parsers = {
        "describe": flags.parse_describe,
        "train": flags.parse_train,
        "compare": flags.parse_compare,
        "push": flags.parse_push,
        "evaluate": lambda argv: flags.parse_evaluate(argv, DatasetConfig()),
        "predict": lambda argv: flags.parse_predict(argv, DatasetConfig()),
    }
    for _, text in blocks(page, "sh"):
        for command in commands(text):
            program, *arguments = shlex.split(command.partition("\n")[0], comments=True)
            if program != "golem-ray":
                continue
            name, *argv = arguments
            if argv and argv[0].endswith(".toml"):
                argv = argv[1:]  # a file that the page has written before
            if "--resume" in argv:
                continue
            parsers[name](argv)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    for place in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in place:
            continue
        path, _, anchor = place.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), place
        if anchor:
            titles = re.findall(r"(?m)^#+ (.*)$", file.read_text())
            assert anchor in [re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles]


def test_the_reference_says_what_the_code_says():
    for path, text in reference.pages().items():
        assert path.read_text() == text, f"{path.name}: run `python tools/reference.py`"


def test_the_readme_is_one_page():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
