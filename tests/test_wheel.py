"""The package as people get it: a wheel, installed beside its dependencies, in a folder where there is nothing else."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.hub_server import HubServer

TOKEN = "hf_of_this_test_alone"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the package in it, installed from a wheel that was built from the files that git knows."""
    tree, place = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("installed")
    for name in ("golem_ray", "pyproject.toml", "README.md", "LICENSE"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tree)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]
    offline = ["--no-deps", "--no-index"]
    subprocess.run([*pip, "wheel", *offline, "--no-build-isolation", "-w", tree, tree], check=True, timeout=200)
    (wheel,) = tree.glob("*.whl")
    assert wheel.stat().st_size < 15e6
    subprocess.run([*pip, "install", *offline, "--target", place, wheel], check=True, timeout=200)
    return place


@pytest.fixture(scope="module")
def golem_ray(installed, tmp_path_factory):
    """Runs `golem-ray` with arguments in an empty folder, always the same."""
    folder = tmp_path_factory.mktemp("empty")

    def run(*arguments, program=(str(installed / "bin" / "golem-ray"),), **environment):
        command = [program[0], *program[1:], *map(str, arguments)]
        if program[0].endswith("golem-ray"):  # whose first line names the interpreter, as pip found it
            command = [sys.executable, *command]
        env = {**os.environ, "PYTHONPATH": str(installed), **environment}
        return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=200)

    return run


def done(process):
    """What a command printed; it has ended well."""
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.mark.slow
def test_the_wheel_does_all_that_a_checkout_does(golem_ray, installed):
    where = golem_ray("-c", "import golem_ray; print(golem_ray.__file__)", program=(sys.executable,))
    assert done(where).startswith(str(installed))
    small, artifact = ["--cluster.address", "none"], "voice_classifier_knowledge.pth"
    said = done(
        golem_ray(
            "train",
            "requests",
            "--processing.max-samples",
            "14",
            "--evaluation.repeats",
            "0",
            *small,
            "--evaluation.split",
            "none",
        )
    )
    assert "Trained on 14 of 336 clips of sample" in said
    last = ["--dataset.split", "test", "--processing.max-samples", "14"]
    assert "on 14 clips of sample, split 'test': accuracy" in done(golem_ray("evaluate", artifact, *last))
    three = ["--dataset.name", "sample", "--processing.max-samples", "3"]
    said = done(golem_ray("-m", "golem_ray", "predict", artifact, *three, program=(sys.executable,)))
    assert [line.split()[0] for line in said.splitlines()] == [f"train/000{number}.ogg" for number in range(3)]
    said = done(golem_ray("compare", "grid", "--processing.max-samples", "28", "--evaluation.repeats", "1", *small))
    assert "12 candidates on 28 clips of sample" in said
    assert "comparison/best.toml" in said
    with HubServer({}, writers={TOKEN: "me"}) as hub:
        online = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
        said = done(golem_ray("push", artifact, "me/voice", **online, HF_TOKEN=TOKEN))
    assert said.startswith("Pushed voice_classifier_knowledge.pth")
    (*_, newest) = hub.repositories["models/me/voice"].commits.values()
    assert artifact in newest
