"""The rooms of the house: who may import whom, who knows Ray and audio, and where class scores are judged."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import golem_ray
from tests.conftest import ROOT

PACKAGE = Path(golem_ray.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

LEVELS = (
    {"errors", "locks", "sample"},
    {"storage", "progress"},
    {"config", "hub"},
    {"devices"},
    {"data"},
    {"metrics", "embedding"},
    {"heads", "speech", "text"},
    {"report", "artifact"},
    {"engine"},
    {"cluster"},
    {"jobs"},
    {"classifier"},
    {"estimator"},
    {"cli", ""},
    {"__main__"},
)
"""From the bottom up: a room imports from its own level's own room, or from levels below. `` is golem_ray itself."""

LEVEL = {room: number for number, rooms in enumerate(LEVELS) for room in rooms}

CONTRACT = {
    "config/groups.py": "the contract's keys",
    "config/jobs.py": "the contract's keys",
    "cli/flags.py": "the command line",
    "__init__.py": "what a caller in Python gives",
    "estimator.py": "what a caller in Python gives",
}
"""Files that may name a modality's own things."""


def room_of(file: Path) -> str:
    """`heads` for golem_ray/heads/fit.py, `engine` for golem_ray/engine.py, `` for golem_ray/__init__.py."""
    first = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def imports(tree: ast.AST) -> list[str]:
    """Every module that is imported, also inside functions."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_room_imports_only_from_rooms_below(file):
    room = room_of(file)
    for name in imports(ast.parse(file.read_text())):
        if name.split(".")[0] != "golem_ray" or name in ("golem_ray.__version__", "golem_ray"):
            continue
        other = name.split(".")[1]
        assert other in LEVEL, f"{name}: which level is that room on?"
        assert other == room or LEVEL[other] < LEVEL[room], f"{room or 'golem_ray'} imports {name}"


@pytest.mark.parametrize(
    ("libraries", "rooms"),
    [
        ({"ray"}, {"cluster"}),
        ({"torchaudio", "soundfile", "av"}, {"speech"}),
        ({"openpyxl"}, {"data"}),
        ({"transformers"}, {"speech", "text", "embedding"}),
        ({"plotly"}, {"report"}),
        ({"argparse"}, {"cli"}),
        ({"tqdm"}, {"progress"}),
    ],
    ids=lambda value: "-".join(sorted(value)),
)
def test_a_library_is_imported_in_its_room_only(libraries, rooms):
    found = {
        room_of(file)
        for file in FILES
        if libraries & {name.split(".")[0] for name in imports(ast.parse(file.read_text()))}
    }
    assert found <= rooms
    assert found


def test_heads_and_metrics_know_no_modality_and_modalities_no_heads():
    for file in FILES:
        others = {name.split(".")[1] for name in imports(ast.parse(file.read_text())) if name.startswith("golem_ray.")}
        if room_of(file) in ("heads", "metrics", "embedding"):
            assert not {"speech", "text"} & others, file
        if room_of(file) in ("heads", "metrics"):
            assert "embedding" not in others, file
        if room_of(file) in ("speech", "text", "embedding"):
            assert not others & {"heads", "metrics", "cluster", "engine", "jobs"}, file


TARGETS = [PACKAGE / "heads" / f"{name}.py" for name in ("single_label", "multi_label", "thresholds")]


def code_only(text: str) -> str:
    """The text without comments, docstrings and other strings: what it does, not what it says."""
    import io
    import tokenize

    kept = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.NAME:
            kept.append(token.string)
    return " ".join(kept)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_class_scores_are_judged_in_the_targets_files_only(file):
    if file in TARGETS:
        return
    names = set(code_only(file.read_text()).split())
    assert not names & {"softmax", "log_softmax", "cross_entropy", "CrossEntropyLoss", "logsumexp", "sigmoid"}


def test_the_targets_files_are_where_class_scores_are_judged():
    names = set(" ".join(code_only(file.read_text()) for file in TARGETS).split())
    assert {"argmax", "CrossEntropyLoss", "sigmoid"} <= names


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_only_speech_names_what_is_special_to_clips_of_speech(file):
    if room_of(file) == "speech" or str(file.relative_to(PACKAGE)) in CONTRACT:
        return
    names = code_only(file.read_text()).replace("config audio", "")  # the contract's key
    assert not re.findall(r"\w*(?:audio|log_?mel|waveform|sampling_rate|resampler)\w*", names, re.IGNORECASE)


def test_rooms_are_few_and_files_short():
    flat = [file.name for file in PACKAGE.glob("*.py")]
    assert len(flat) <= 12, flat
    long = {str(file.relative_to(PACKAGE)): lines for file in FILES if (lines := file.read_text().count("\n")) > 300}
    assert not long


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_words_that_nobody_would_look_for_are_not_used(file):
    assert not re.findall(r"\b(?:told|knock|lit|guilty)\b", file.read_text(), re.IGNORECASE)


def loaded_after(*modules: str) -> set[str]:
    """The top-level packages that a fresh process has loaded once it has imported the modules."""
    code = f"import importlib, sys\nfor name in {modules}: importlib.import_module(name)\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return {name.split(".")[0] for name in done.stdout.split()}


def module_name(file: Path) -> str:
    return ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def test_nothing_but_the_cluster_package_loads_ray():
    names = [module_name(file) for file in FILES]
    assert len(names) > 10
    assert "ray" not in loaded_after(*(name for name in names if not name.startswith("golem_ray.cluster")))
    assert "ray" in loaded_after("golem_ray.cluster")


def test_the_driver_never_loads_torch():
    drivers = [module_name(file) for file in FILES if room_of(file) in ("jobs", "cli", "engine", "cluster")]
    assert {"golem_ray.jobs.train", "golem_ray.cluster.engine", "golem_ray.engine"} <= set(drivers)
    assert not {"torch", "torchaudio", "transformers"} & loaded_after("golem_ray", *drivers)
