"""cluster.yaml and runtime_env.yaml against Ray's own check and the package; deploy/ against both.

What Kubernetes and KubeRay make of deploy/ is not checked here: that needs a cluster.
"""

from __future__ import annotations

import copy
import re
import shlex
import tomllib
from pathlib import PurePosixPath
from typing import Any

import jsonschema
import pytest
import yaml
from packaging.specifiers import SpecifierSet
from ray.autoscaler._private.util import prepare_config, validate_config

from golem_ray.cli.flags import parse_train
from golem_ray.storage import STORAGE_ROOT_VARIABLE
from tests.conftest import ROOT

SECRET = re.compile(r"token|secret|password|passwd|credential|api_?key|access_?key|private_?key", re.IGNORECASE)


@pytest.fixture
def cluster() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


@pytest.fixture
def runtime_env() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "runtime_env.yaml").read_text())


@pytest.fixture
def rayjob() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "deploy" / "rayjob.yaml").read_text())


def check(cluster: dict[str, Any]) -> None:
    """Ray's own check, as `ray up` makes it; asks no cloud."""
    validate_config(prepare_config(copy.deepcopy(cluster)))


def keys_in(value: object) -> list[str]:
    """Every key of nested dictionaries."""
    if isinstance(value, dict):
        return [*value, *(key for inner in value.values() for key in keys_in(inner))]
    return [key for inner in value for key in keys_in(inner)] if isinstance(value, list) else []


def locked_ray() -> str:
    found = re.search(r"^ray==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert found
    return found[1]


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


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
    image = re.fullmatch(r"rayproject/ray:([\d.]+)-py3(\d+)-gpu", cluster["docker"]["image"])
    assert image
    assert image[1] == locked_ray()
    assert f"3.{image[2]}" in SpecifierSet(project()["requires-python"])
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
    deploy = sorted((ROOT / "deploy").iterdir())
    assert len(deploy) >= 3
    for file in (ROOT / "cluster.yaml", ROOT / "runtime_env.yaml", *deploy):
        text = file.read_text()
        assert not re.search(r"hf_[A-Za-z0-9]{10,}|AKIA[A-Z0-9]{12,}|-----BEGIN", text)


# --- deploy/ --------------------------------------------------------------------------------------------------

KIBI = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}


def num_bytes(quantity: str) -> int:
    return int(quantity[:-2]) * KIBI[quantity[-2:]]


def groups(rayjob: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The head's group, and those of the workers."""
    cluster = rayjob["spec"]["rayClusterSpec"]
    return cluster["headGroupSpec"], cluster["workerGroupSpecs"]


def pods(rayjob: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Every group's pod and its one container, the head's first."""
    head, workers = groups(rayjob)
    found = [group["template"]["spec"] for group in (head, *workers)]
    assert all(len(pod["containers"]) == 1 for pod in found)
    return [(pod, pod["containers"][0]) for pod in found]


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile and what follows them, continued lines joined."""
    lines = [line for line in dockerfile.splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(line.split()[0], " ".join(line.split()[1:])) for line in joined.splitlines() if line.strip()]


@pytest.fixture
def dockerfile() -> list[tuple[str, str]]:
    return instructions((ROOT / "deploy" / "Dockerfile").read_text())


def test_rayjob_ends_its_cluster_and_is_tried_again(rayjob: dict[str, Any]) -> None:
    assert (rayjob["apiVersion"], rayjob["kind"]) == ("ray.io/v1", "RayJob")
    spec = rayjob["spec"]
    assert spec["submissionMode"] == "K8sJobMode"
    assert spec["backoffLimit"] >= 1
    assert spec["shutdownAfterJobFinishes"] is True
    assert 0 < spec["ttlSecondsAfterFinished"] <= 600  # GPUs wait as long
    unknown = set(spec) - {
        "backoffLimit",
        "entrypoint",
        "rayClusterSpec",
        "runtimeEnvYAML",
        "shutdownAfterJobFinishes",
        "submissionMode",
        "ttlSecondsAfterFinished",
    }
    assert not unknown  # the API server drops a key that it does not know without a word


def test_entrypoint_is_a_training_run_that_the_package_understands(rayjob: dict[str, Any]) -> None:
    python, script, *flags = shlex.split(rayjob["spec"]["entrypoint"])
    assert (python, script) == ("python", "jobs/train.py")
    assert (ROOT / script).is_file()
    command = parse_train(flags)
    assert command.json
    assert command.config.device.backend == "cuda"


def test_rayjob_has_the_ray_and_the_image_of_this_version(rayjob: dict[str, Any]) -> None:
    assert rayjob["spec"]["rayClusterSpec"]["rayVersion"] == locked_ray()
    (image,) = {container["image"] for _, container in pods(rayjob)}
    name = image.partition("/")[2]
    assert name == f"golem-ray:{project()['version']}-ray{locked_ray()}"
    for file in ("deploy/Dockerfile", "docs/cluster.md"):  # where it is built and pushed
        assert f"REGISTRY/{name}" in (ROOT / file).read_text()


def test_head_takes_no_tasks(rayjob: dict[str, Any]) -> None:
    head, _ = groups(rayjob)
    assert head["rayStartParams"] == {"num-cpus": "0"}
    assert "nvidia.com/gpu" not in head["template"]["spec"]["containers"][0]["resources"]["limits"]


def test_workers_on_kubernetes_have_the_gpus_of_those_in_the_cluster_file(
    rayjob: dict[str, Any], cluster: dict[str, Any]
) -> None:
    (worker,) = (node for name, node in cluster["available_node_types"].items() if name != cluster["head_node_type"])
    (group,) = groups(rayjob)[1]
    resources = group["template"]["spec"]["containers"][0]["resources"]
    assert resources["limits"]["nvidia.com/gpu"] == worker["resources"]["GPU"]
    assert group["rayStartParams"] == {}  # KubeRay then tells Ray the limits
    assert group["replicas"] == worker["min_workers"]
    if not rayjob["spec"]["rayClusterSpec"]["enableInTreeAutoscaling"]:
        assert group["minReplicas"] == group["replicas"] == group["maxReplicas"]


def test_object_store_of_every_pod_fits_its_memory(rayjob: dict[str, Any]) -> None:
    for pod, container in pods(rayjob):
        resources = container["resources"]
        assert resources["limits"] == resources["requests"]  # no pod is evicted for memory that it was promised
        (name,) = (mount["name"] for mount in container["volumeMounts"] if mount["mountPath"] == "/dev/shm")
        (volume,) = (volume["emptyDir"] for volume in pod["volumes"] if volume["name"] == name)
        assert volume["medium"] == "Memory"
        memory = num_bytes(resources["limits"]["memory"])
        assert 0.3 * memory <= num_bytes(volume["sizeLimit"]) <= 0.5 * memory  # Ray takes 30 % for its objects


def test_every_pod_mounts_the_shared_volume_that_outputs_and_downloads_lie_on(rayjob: dict[str, Any]) -> None:
    claim = yaml.safe_load((ROOT / "deploy" / "storage.yaml").read_text())
    assert (claim["apiVersion"], claim["kind"]) == ("v1", "PersistentVolumeClaim")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    runtime_env = yaml.safe_load(rayjob["spec"]["runtimeEnvYAML"])
    root = PurePosixPath(runtime_env["env_vars"][STORAGE_ROOT_VARIABLE])
    for pod, container in pods(rayjob):
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
        (shared,) = (
            mount["mountPath"]
            for mount in container["volumeMounts"]
            if volumes[mount["name"]].get("persistentVolumeClaim") == {"claimName": claim["metadata"]["name"]}
        )
        hub = {variable["name"]: variable["value"] for variable in container["env"]}["HF_HOME"]
        for folder in (root, PurePosixPath(hub)):
            assert folder.is_relative_to(shared)
            assert folder != PurePosixPath(shared)


def test_every_pod_runs_as_the_user_of_the_image(rayjob: dict[str, Any], dockerfile: list[tuple[str, str]]) -> None:
    user, group = [rest for word, rest in dockerfile if word == "USER"][-1].split(":")
    assert int(user) != 0
    for pod, _ in pods(rayjob):
        context = pod["securityContext"]
        assert (context["runAsUser"], context["runAsGroup"]) == (int(user), int(group))
        assert context["runAsNonRoot"] is True
        assert context["fsGroup"] == int(group)


def test_pods_get_secrets_from_a_secret_and_jobs_get_none(rayjob: dict[str, Any]) -> None:
    assert set(yaml.safe_load(rayjob["spec"]["runtimeEnvYAML"])) == {"env_vars"}
    assert set(yaml.safe_load(rayjob["spec"]["runtimeEnvYAML"])["env_vars"]) == {STORAGE_ROOT_VARIABLE}
    for _, container in pods(rayjob):
        (source,) = container["envFrom"]
        assert source["secretRef"]["optional"] is True  # a run without secrets needs none
        assert not [variable["name"] for variable in container["env"] if SECRET.search(variable["name"])]


def test_image_is_built_on_that_of_the_cluster_file_with_the_lock_and_the_package(
    dockerfile: list[tuple[str, str]], cluster: dict[str, Any]
) -> None:
    stages = [rest.split(" AS ") for word, rest in dockerfile if word == "FROM"]
    names = {stage[1] for stage in stages if len(stage) == 2}
    assert [stage[0] for stage in stages if stage[0] not in names] == [cluster["docker"]["image"]]
    installs = [rest for word, rest in dockerfile if word == "RUN" and "pip install" in rest]
    lock, package = (command.partition("pip install ")[2].split() for command in installs)
    assert lock[-2] == "-r"
    assert f"requirements.lock {lock[-1]}" in [rest for word, rest in dockerfile if word == "COPY"]
    assert "--no-deps" in package
    assert package[-1].endswith(".whl")


def test_image_gets_what_it_copies(dockerfile: list[tuple[str, str]]) -> None:
    sources = {source for word, rest in dockerfile if word == "COPY" for source in rest.split()[:-1]}
    assert {"golem_ray", "jobs", "requirements.lock"} <= sources
    first, *others = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert first == "*"
    assert {line[1:] for line in others if line.startswith("!")} == sources
    assert all((ROOT / source).exists() for source in sources)
    assert ("COPY", "jobs jobs") in dockerfile[dockerfile.index(("WORKDIR", "/home/ray/job")) :]
