"""cluster.yaml and runtime_env.yaml against Ray's own check and against the package, and who imports what."""

from __future__ import annotations

import ast
import copy
import re
import subprocess
import sys
import tomllib
from pathlib import Path, PurePosixPath
from typing import Any

import jsonschema
import pytest
import yaml
from packaging.specifiers import SpecifierSet
from ray.autoscaler._private.util import prepare_config, validate_config

from golem_ray.storage import STORAGE_ROOT_VARIABLE
from tests.conftest import ROOT

SECRET = re.compile(r"token|secret|password|passwd|credential|api_?key|access_?key|private_?key", re.IGNORECASE)


@pytest.fixture
def cluster() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


@pytest.fixture
def runtime_env() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "runtime_env.yaml").read_text())


def check(cluster: dict[str, Any]) -> None:
    """Ray's own check, as `ray up` makes it; asks no cloud."""
    validate_config(prepare_config(copy.deepcopy(cluster)))


def keys_in(value: object) -> list[str]:
    """Every key of nested dictionaries."""
    if isinstance(value, dict):
        return [*value, *(key for inner in value.values() for key in keys_in(inner))]
    return [key for inner in value for key in keys_in(inner)] if isinstance(value, list) else []


# --- cluster.yaml ---------------------------------------------------------------------------------------------


def test_cluster_file_passes_rays_check(cluster: dict[str, Any]) -> None:
    check(cluster)


def test_cluster_file_with_an_unknown_key_fails_rays_check(cluster: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError, match="setup_comands"):
        check({**cluster, "setup_comands": []})


def test_cluster_file_with_an_unknown_head_fails_rays_check(cluster: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="head_node_type"):
        check({**cluster, "head_node_type": "nobody"})


def test_workers_have_gpus_and_are_there_from_the_start(cluster: dict[str, Any]) -> None:
    types = dict(cluster["available_node_types"])
    types.pop(cluster["head_node_type"])
    assert types
    for worker in types.values():
        assert worker["resources"]["GPU"] >= 1
        assert 1 <= worker["min_workers"] <= worker["max_workers"]
    assert sum(worker["min_workers"] for worker in types.values()) <= cluster["max_workers"]


def test_every_node_installs_the_lock_and_then_the_package(cluster: dict[str, Any]) -> None:
    ((checkout, local),) = cluster["file_mounts"].items()
    assert local == "."
    assert ".gitignore" in cluster["rsync_filter"]
    lock, package = cluster["setup_commands"]
    assert lock.split()[:2] == package.split()[:2] == ["pip", "install"]
    assert lock.endswith(f" -r {checkout}/requirements.lock")
    assert "--no-deps" in package.split()
    assert package.split()[-1] == checkout
    for worker in cluster["available_node_types"].values():
        assert "worker_setup_commands" not in worker  # they would take the place of setup_commands


def test_container_has_the_ray_and_the_python_of_the_lock(cluster: dict[str, Any]) -> None:
    locked = re.search(r"^ray==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    image = re.fullmatch(r"rayproject/ray:([\d.]+)-py3(\d+)-gpu", cluster["docker"]["image"])
    assert locked
    assert image
    assert image[1] == locked[1]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"3.{image[2]}" in SpecifierSet(project["requires-python"])
    assert not {"head_image", "worker_image"} & set(cluster["docker"])


def test_every_node_has_an_image_of_its_own_choosing(cluster: dict[str, Any]) -> None:
    """Where a node names none, Ray takes one whose driver is too old for the lock's PyTorch."""
    images = [node["node_config"]["ImageId"] for node in cluster["available_node_types"].values()]
    assert all(image.startswith("ami-") for image in images)


def test_dashboard_listens_on_loopback_only(cluster: dict[str, Any]) -> None:
    (start,) = [command for command in cluster["head_start_ray_commands"] if "ray start" in command]
    assert "--dashboard-host=127.0.0.1" in start


# --- runtime_env.yaml -----------------------------------------------------------------------------------------


def test_runtime_env_names_the_shared_storage_of_the_cluster(
    cluster: dict[str, Any], runtime_env: dict[str, Any]
) -> None:
    root = PurePosixPath(runtime_env["env_vars"][STORAGE_ROOT_VARIABLE])
    assert root.is_absolute()
    (mount,) = [command for command in cluster["initialization_commands"] if "sudo mount " in command]
    mounted = mount.split()[-1]
    assert root.is_relative_to(mounted)
    assert f"-v {mounted}:{mounted}" in cluster["docker"]["run_options"]
    for verb in ("mkdir", "chown"):  # a folder that jobs may write to
        assert [c for c in cluster["initialization_commands"] if f"{verb} " in c and str(root) in c.split()]


def test_runtime_env_leaves_the_working_folder_to_the_command_line(runtime_env: dict[str, Any]) -> None:
    """--working-dir would win over it without a word."""
    assert set(runtime_env) == {"env_vars"}


def test_files_hold_no_secrets(cluster: dict[str, Any], runtime_env: dict[str, Any]) -> None:
    assert not [key for key in [*keys_in(cluster), *keys_in(runtime_env)] if SECRET.search(key)]
    for text in ((ROOT / "cluster.yaml").read_text(), (ROOT / "runtime_env.yaml").read_text()):
        assert not re.search(r"hf_[A-Za-z0-9]{10,}|AKIA[A-Z0-9]{12,}|-----BEGIN", text)


# --- who imports what -----------------------------------------------------------------------------------------

PACKAGE = sorted((ROOT / "golem_ray").rglob("*.py"))


def module_name(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(file: Path) -> set[str]:
    """The top-level packages that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


def loaded_after(*modules: str) -> set[str]:
    """The top-level packages that a fresh process has loaded once it has imported the modules."""
    code = f"import importlib, sys\nfor name in {modules}: importlib.import_module(name)\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return {name.split(".")[0] for name in done.stdout.split()}


def test_only_the_cluster_package_names_ray() -> None:
    named = [module_name(file) for file in PACKAGE if "ray" in imports(file)]
    assert named
    assert all(name.startswith("golem_ray.cluster.") for name in named)


ON_RAY = ("golem_ray.train_job", "golem_ray.compare_job")


def test_nothing_but_the_cluster_package_and_the_jobs_on_it_loads_ray() -> None:
    names = [module_name(file) for file in PACKAGE]
    assert len(names) > 10
    others = [name for name in names if not name.startswith("golem_ray.cluster") and name not in ON_RAY]
    assert "ray" not in loaded_after(*others)
    assert "ray" in loaded_after("golem_ray.cluster")


def test_driver_never_loads_torch() -> None:
    assert not {"torch", "torchaudio", "transformers"} & loaded_after("golem_ray", *ON_RAY)
