"""An artifact on the Hub: pushed by the job and fetched again over HTTP, and each way in which that fails."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import golem_ray
from golem_ray import artifact, speech
from golem_ray.artifact import sharing
from golem_ray.artifact.model_card import model_card
from golem_ray.artifact.published import published, published_report
from golem_ray.embedding.modality import MODALITIES
from tests import warm
from tests.conftest import ROOT, job, write_clips
from tests.hub_server import HubServer, Repository
from tests.jobs.runs import configuration

TOKEN, READER, EXPIRED, STORED = "hf_WriterNotToBeSeen", "hf_ReaderNotToBeSeen", "hf_ExpiredNotToBeSeen", "hf_Stored"
LABELS = ["abroad", "pay *bill*", "a: - `b`\n# c", "<b>d</b>"]
SECRET_FOLDER = "/home/someone/secret project"
COMMIT = "c" * 40


def sidecar(encoder: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """What a run records, of clips in a local folder with an encoder of the Hub."""
    dataset, cached = f"{SECRET_FOLDER}/recordings", f"{SECRET_FOLDER}/cache"
    encoder = encoder or {"name": "facebook/wav2vec2-base", "revision": COMMIT, "sha256": None}
    bad = {"split": "train", "id": 3, "clip": f"clip 3 ({SECRET_FOLDER}/other/3.wav)", "reason": "missing file"}
    worse = {"split": "train", "id": 4, "clip": "clip 4 (yes/4.wav)", "reason": f"OSError: '{SECRET_FOLDER}/4.wav'"}
    return {
        "summary": f"Trained on 18 clips of {dataset} (2 skipped) in 4 classes, with {encoder['name']} on cpu.",
        "encoder": {**encoder, "model_type": "wav2vec2", "sampling_rate": 16000, "layer": "last", "pooling": "mean"},
        "data": {"revision": None, "sha256": "d" * 64},
        "versions": artifact.library_versions(speech.MODALITY),
        "labels": LABELS,
        "head": {"kind": "linear", "in_features": 3, "out_features": len(LABELS)},
        "clips": {"total": 20, "used": 18, "bad": [bad, worse], "per_class": dict.fromkeys(LABELS, 4)},
        "metrics": {
            "training_accuracy": 1.0,
            "chance": 0.25,
            "largest_class": 0.28,
            "cross_validation": {
                "accuracy": 0.611,
                "interval_95": [0.386, 0.797],
                "folds": 3,
                "repeats": 5,
                "num_clips": 18,
            },
            "calibration": {"temperature": 1.75, "num_clips": 18},
        },
        "config": {
            "dataset": {"name": dataset, "name_alias": "en-US", "split": "train"},
            "model": {"feature_extractor_model": encoder["name"]},
            "paths": {
                "save_path": f"{SECRET_FOLDER}/my.pth",
                "storage_root": SECRET_FOLDER,
                "embedding_cache": cached,
            },
            "cluster": {"address": "ray://head.inside:10001"},
        },
        **changes,
    }


def write_artifact(folder: Path, **changes: Any) -> Path:
    """An artifact of three features and four classes. Returns the .pth's path."""
    buffer = io.BytesIO()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        torch.save(torch.nn.Linear(3, len(LABELS)).state_dict(), buffer)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "my.pth"
    artifact.save(str(path), buffer.getvalue(), sidecar(**changes))
    return path


def files_in(path: Path) -> dict[str, bytes]:
    """The artifact as it lies in a repository."""
    return {sharing.WEIGHTS: path.read_bytes(), sharing.SIDECAR: path.with_suffix(".json").read_bytes()}


@pytest.fixture
def hub() -> Iterator[HubServer]:
    server = HubServer(
        {
            "models/someone/bare": Repository({COMMIT: {"README.md": b"# Soon\n"}}),
            "models/someone/half": Repository({COMMIT: {sharing.SIDECAR: b"{}"}}),
            "models/someone/locked": Repository({COMMIT: {"README.md": b"# Ask first\n"}}, gated=True),
            "models/me/open": Repository({COMMIT: {"README.md": b"# For all\n"}}),
        },
        writers={TOKEN: "me"},
        refused_token=EXPIRED,
    )
    with server:
        yield server


@pytest.fixture
def closed_port() -> str:
    """An address at which nobody answers."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{one.getsockname()[1]}"


def online(url: str, home: Path, token: str | None = None) -> dict[str, str]:
    """The environment of a process for which the Hub is at url, with a cache and a home of its own."""
    known = {"HF_ENDPOINT": url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    return {**known, "HF_TOKEN": token} if token else known


def push(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run jobs/push.py as a user would; no token may show in what it says."""
    done = job("push", *arguments, **environment)
    for token in (TOKEN, READER, EXPIRED, STORED):
        assert token not in done.stdout + done.stderr
    return done


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """The one line in which a job says what the user can mend."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    *before, last = done.stderr.splitlines()
    assert last.startswith("error: ")
    assert not [line for line in before if line.startswith(("error", "Traceback"))]
    return last.removeprefix("error: ")


_PROBE = """
import json, sys
from golem_ray import artifact, hub

places, hub.TIMEOUT_S = json.load(sys.stdin)
answers = []
for place in places:
    try:
        found = artifact.load(place)
        answers.append(["found", found.place, found.weights.hex(), found.head.weight.tolist(), found.labels])
    except Exception as error:
        answers.append([type(error).__name__, str(error)])
print(json.dumps(answers))
"""


def load(*places: str, **environment: str) -> list[list[Any]]:
    """What a process of its own loads from each place: ["found", place, ...] or [the exception's name, message]."""
    done = warm.run(["-c", _PROBE], cwd=ROOT, env={**os.environ, **environment}, input=json.dumps([places, 5.0]))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def files_of(hub: HubServer, repo_id: str) -> dict[str, bytes]:
    """The newest commit's files."""
    return list(hub.repositories[f"models/{repo_id}"].commits.values())[-1]


def weights_sha256(path: Path) -> str:
    """What the sidecar says of the weights."""
    return json.loads(path.with_suffix(".json").read_text())["weights"]["sha256"]


def front_matter(card: str) -> dict[str, Any]:
    """What the YAML at a card's top says."""
    _, front, _ = card.split("---\n", 2)
    return yaml.safe_load(front)


def test_pushed_artifact_is_fetched_again_and_then_found_without_the_hub(
    hub: HubServer, closed_port: str, tmp_path: Path
) -> None:
    path = write_artifact(tmp_path)
    done = push(path, "me/voice", **online(hub.url, tmp_path / "pusher", TOKEN))
    assert done.returncode == 0, done.stderr

    repository = hub.repositories["models/me/voice"]
    _, commit = repository.commits
    assert not repository.private
    assert f"{hub.url}/me/voice\n" in done.stdout
    assert f"{hub.url}/me/voice/commit/{commit}" in done.stdout
    assert all(name in done.stdout for name in (sharing.WEIGHTS, sharing.SIDECAR, "README.md"))
    files = repository.commits[commit]
    assert set(files) == {".gitattributes", sharing.WEIGHTS, sharing.SIDECAR, "README.md"}
    assert files[sharing.WEIGHTS] == path.read_bytes()
    assert list(hub.stored.values()) == [path.read_bytes()], "the weights go through LFS, and nothing else does"

    local = artifact.load(str(path))
    expected = [path.read_bytes().hex(), local.head.weight.tolist(), LABELS]
    place = f"me/voice@{commit[:12]}/{sharing.WEIGHTS}"
    assert load("me/voice", **online(hub.url, tmp_path / "hf")) == [["found", place, *expected]]

    num_requests = len(hub.requests)
    offline = {**online(hub.url, tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    assert load("me/voice", **offline) == [["found", place, *expected]]
    assert len(hub.requests) == num_requests
    assert load("me/voice", **online(closed_port, tmp_path / "hf")) == [["found", place, *expected]]


def test_weights_are_asked_for_by_the_commit_that_the_sidecar_came_from(hub: HubServer, tmp_path: Path) -> None:
    first, second = (files_in(write_artifact(tmp_path / run, summary=run)) for run in ("first", "second"))
    hub.repositories["models/me/voice"] = Repository({COMMIT: first, "d" * 40: second})
    [found] = load("me/voice", **online(hub.url, tmp_path / "hf"))
    assert found[1] == f"me/voice@dddddddddddd/{sharing.WEIGHTS}"
    asked = {path for path in hub.paths() if path.endswith(sharing.WEIGHTS)}
    assert asked == {f"/me/voice/resolve/{'d' * 40}/{sharing.WEIGHTS}"}


@pytest.mark.slow
def test_second_push_replaces_what_changed_and_keeps_other_files(hub: HubServer, tmp_path: Path) -> None:
    path = write_artifact(tmp_path)
    done = push(path, "me/open", **online(hub.url, tmp_path / "hf", TOKEN))
    assert done.returncode == 0, done.stderr
    (tmp_path / "report.html").write_text("<p>report</p>")
    done = push(path, "me/open", "--report", **online(hub.url, tmp_path / "hf", TOKEN))
    assert done.returncode == 0, done.stderr
    assert "report.html" in done.stdout
    assert len(hub.repositories["models/me/open"].commits) == 3
    files = files_of(hub, "me/open")
    assert files["report.html"] == b"<p>report</p>"
    assert files["README.md"].startswith(b"---\n")
    assert files[sharing.WEIGHTS] == path.read_bytes()


@pytest.mark.slow
def test_private_repository_is_for_its_owner_alone(hub: HubServer, tmp_path: Path) -> None:
    path = write_artifact(tmp_path)
    assert push(path, "me/hidden", "--private", **online(hub.url, tmp_path / "a", TOKEN)).returncode == 0
    assert hub.repositories["models/me/hidden"].private
    assert load("me/hidden", **online(hub.url, tmp_path / "b", TOKEN))[0][0] == "found"
    [answer] = load("me/hidden", **online(hub.url, tmp_path / "c"))
    assert re.fullmatch(
        r"artifact: expected .* found none called 'me/hidden'; .* HF_TOKEN if it is private\.", answer[1]
    )

    said = refusal(push(path, "me/open", "--private", **online(hub.url, tmp_path / "a", TOKEN)))
    assert said.startswith("private: expected me/open to be private, found it public;")
    assert len(hub.repositories["models/me/open"].commits) == 1


def test_pushing_uses_the_environments_token_alone(hub: HubServer, tmp_path: Path) -> None:
    path, home = write_artifact(tmp_path), tmp_path / "hf"
    home.mkdir()
    (home / "token").write_text(STORED)
    hub.writers[STORED] = "me"

    said = refusal(push(path, "me/voice", **online(hub.url, home)))
    assert re.match(r"HF_TOKEN: expected a token with write access in the environment, found none; ", said)
    assert hub.requests == []

    assert push(path, "me/voice", **online(hub.url, home, TOKEN)).returncode == 0
    assert {request.authorization for request in hub.requests} == {f"Bearer {TOKEN}", None}
    assert [request.path for request in hub.requests if request.authorization is None] == [
        f"/lfs-storage/{weights_sha256(path)}"
    ]


def test_push_that_the_hub_refuses_says_why_and_leaves_nothing(hub: HubServer, tmp_path: Path) -> None:
    may_not = "HF_TOKEN: expected a token that may write to {}, found one that may not; .*"
    cases = [
        (EXPIRED, "me/voice", "HF_TOKEN: expected the Hub to accept the token, found it refused; renew it."),
        (READER, "me/voice", may_not.format("me/voice")),
        (READER, "me/open", may_not.format("me/open")),
        (TOKEN, "other/voice", may_not.format("other/voice")),
        (
            "hf NotToBeSeen é",
            "me/voice",
            "HF_TOKEN: expected a token as the Hub gives it out, found other characters.*",
        ),
        (TOKEN, "voice", "repo: expected a repository of the Hub as user/name, got 'voice'."),
        (TOKEN, "me/a--b", "repo: expected a name that the Hub allows, got 'me/a--b'; choose another."),
    ]
    before = {name: list(repository.commits) for name, repository in hub.repositories.items()}
    path = write_artifact(tmp_path)
    for token, repo, pattern in cases:
        done = push(path, repo, **online(hub.url, tmp_path / "hf", token))
        assert re.fullmatch(pattern, refusal(done))
        assert "NotToBeSeen" not in done.stderr
    assert {name: list(repository.commits) for name, repository in hub.repositories.items()} == before


def test_push_that_breaks_leaves_no_repository_that_was_not_there(hub: HubServer, tmp_path: Path) -> None:
    path, environment = write_artifact(tmp_path), online(hub.url, tmp_path / "hf", TOKEN)
    before = {name: list(repository.commits) for name, repository in hub.repositories.items()}
    hub.refuses_commits = True
    for repo in ("me/voice", "me/open"):
        said = refusal(push(path, repo, **environment))
        assert re.match(f"repo: expected to upload to {repo}, but HfHubHTTPError: .*500", said)
        assert {name: list(repository.commits) for name, repository in hub.repositories.items()} == before
    hub.refuses_removals = True
    said = push(path, "me/voice", **environment).stderr
    assert "me/voice was made for this upload and could not be removed again (HfHubHTTPError)" in said


def test_push_without_the_hub_says_so(hub: HubServer, closed_port: str, tmp_path: Path) -> None:
    path = write_artifact(tmp_path)
    said = refusal(push(path, "me/voice", **online(closed_port, tmp_path / "hf", TOKEN)))
    assert re.fullmatch(r"repo: expected to upload to me/voice, but ConnectError: .*; check the connection .*", said)

    offline = {**online(hub.url, tmp_path / "hf", TOKEN), "HF_HUB_OFFLINE": "1"}
    said = refusal(push(path, "me/voice", **offline))
    assert said.startswith("HF_HUB_OFFLINE: expected to reach the Hub, found it set to stay offline;")
    assert hub.requests == []


def test_artifact_that_is_damaged_or_lacks_its_report_is_not_pushed(hub: HubServer, tmp_path: Path) -> None:
    path = write_artifact(tmp_path)
    environment = online(hub.url, tmp_path / "hf", TOKEN)
    said = refusal(push(path, "me/voice", "--report", **environment))
    assert re.fullmatch(r"report: expected .*/report\.html beside the artifact, but FileNotFoundError; .*", said)

    path.write_bytes(path.read_bytes()[:-1])
    said = refusal(push(path, "me/voice", **environment))
    assert re.match(r".*my\.pth: expected the weights that its sidecar was written for", said)
    assert hub.requests == []


def test_each_repository_without_an_artifact_is_named_with_a_remedy(
    hub: HubServer, closed_port: str, tmp_path: Path
) -> None:
    nothing, bare, half, locked = load(
        *("someone/nothing", "someone/bare", "someone/half", "someone/locked"), **online(hub.url, tmp_path / "hf")
    )
    assert nothing == [
        "ConfigError",
        "artifact: expected a model on the Hub, or a file ending in .pth, found none called 'someone/nothing'; check "
        "the spelling, or set HF_TOKEN if it is private.",
    ]
    wanted = f"artifact: expected {sharing.WEIGHTS} and {sharing.SIDECAR} in someone"
    assert bare == [
        "ConfigError",
        f"{wanted}/bare, found no {sharing.SIDECAR}; name a repository that golem-ray push wrote.",
    ]
    assert half == [
        "ConfigError",
        f"{wanted}/half, found no {sharing.WEIGHTS}; name a repository that golem-ray push wrote.",
    ]
    assert locked[0] == "ConfigError"
    assert "found someone/locked gated: accept its conditions on the Hub and set HF_TOKEN" in locked[1]

    [refused] = load("someone/bare", **online(hub.url, tmp_path / "hf", EXPIRED))
    assert re.match("artifact: expected the Hub to accept this account's token, found it refused; renew", refused[1])
    away = [online(closed_port, tmp_path / "a"), {**online(hub.url, tmp_path / "b"), "HF_HUB_OFFLINE": "1"}]
    for environment in away:
        [answer] = load("someone/half", **environment)
        assert answer[0] == "ConfigError"
        assert re.fullmatch(
            "artifact: expected to reach the Hub for someone/half, but it cannot be reached and there is no cached "
            r"copy; give the path of a \.pth file, or run once with a connection so that it is cached\.",
            answer[1],
        )


def test_weights_that_are_others_are_reported(hub: HubServer, tmp_path: Path) -> None:
    files = files_in(write_artifact(tmp_path))
    changed = {**files, sharing.WEIGHTS: files[sharing.WEIGHTS][:-1] + b"?"}
    hub.repositories["models/me/changed"] = Repository({COMMIT: changed})
    [answer] = load("me/changed", **online(hub.url, tmp_path / "hf"))
    place = f"me/changed@{COMMIT[:12]}/{sharing.WEIGHTS}"
    assert answer[0] == "ConfigError"
    assert answer[1].startswith(f"{place}: expected the weights that its sidecar was written for")


@pytest.mark.slow  # the Hub's library tries again for five seconds
def test_weights_that_do_not_arrive_are_reported(hub: HubServer, tmp_path: Path) -> None:
    files = files_in(write_artifact(tmp_path))
    hub.repositories["models/me/voice"], hub.hangs_up_on = Repository({COMMIT: files}), sharing.WEIGHTS
    [answer] = load("me/voice", **online(hub.url, tmp_path / "hf"))
    assert answer[0] == "ConfigError"
    assert re.match(f"artifact: expected to read {sharing.WEIGHTS} of me/voice, but RemoteProtocolError: ", answer[1])


def test_nothing_that_is_pushed_says_where_things_lay(hub: HubServer, tmp_path: Path) -> None:
    encoder = {"name": f"{SECRET_FOLDER}/my encoder/", "revision": None, "sha256": "e" * 64}
    path = write_artifact(tmp_path, encoder=encoder)
    clips = (f"{SECRET_FOLDER}/recordings/yes/1.wav", f"{SECRET_FOLDER}/(elsewhere)/2.wav", "yes/3.wav")
    listed = "".join(f"<td>clip {row} ({clip})</td>" for row, clip in enumerate(clips))
    page = f"<p>{SECRET_FOLDER}/recordings, {SECRET_FOLDER}/my encoder/</p>{listed}"
    (tmp_path / "report.html").write_text(page + json.dumps([f"clip 0 ({clips[0]})", f"clip 1 ({clips[1]})"]))
    done = push(path, "me/voice", "--report", **online(hub.url, tmp_path / "hf", TOKEN))
    assert done.returncode == 0, done.stderr
    files = files_of(hub, "me/voice")
    for content in files.values():
        for part in (b"someone", b"secret", b"head.inside", str(tmp_path).encode()):
            assert part not in content

    before, after = json.loads(path.with_suffix(".json").read_text()), json.loads(files[sharing.SIDECAR])
    assert after["config"]["dataset"]["name"] == "recordings"
    assert after["config"]["model"]["feature_extractor_model"] == after["encoder"]["name"] == "my encoder"
    assert after["config"]["paths"] == {"save_path": "my.pth", "storage_root": None, "embedding_cache": "cache"}
    assert [(bad["clip"], bad["reason"]) for bad in after["clips"]["bad"]] == [
        ("clip 3 (3.wav)", "missing file"),
        ("clip 4 (4.wav)", "OSError: '4.wav'"),
    ]
    assert after["summary"] == "Trained on 18 clips of recordings (2 skipped) in 4 classes, with my encoder on cpu."
    assert {key for key in before if before[key] != after[key]} == {"summary", "encoder", "clips", "config", "weights"}
    assert after["weights"] == {**before["weights"], "file": sharing.WEIGHTS}

    assert files["report.html"].decode() == (
        "<p>recordings, my encoder</p>"
        "<td>clip 0 (1.wav)</td><td>clip 1 (2.wav)</td><td>clip 2 (3.wav)</td>"
        '["clip 0 (1.wav)", "clip 1 (2.wav)"]'
    )
    card = files["README.md"].decode()
    assert "base_model" not in front_matter(card)
    assert 'golem_ray.load("me/voice", encoder="folder")' in card
    assert f"sha256 `{'e' * 64}`" in card


def test_no_folder_of_a_run_leaves_the_machine(hub: HubServer, encoder_folder: Path, tmp_path: Path) -> None:
    clips = write_clips(tmp_path / "patients" / "ivanov", ["a", "b"] * 4, seconds=0.1)
    metadata = (clips / "metadata.csv").read_text().replace("clips/", "smirnova/")
    (clips / "metadata.csv").write_text(f"{metadata}smirnova/gone.wav,a\nhttp://127.0.0.1:1/smirnova/x.wav?sig=k,b\n")
    (clips / "clips").rename(clips / "smirnova")
    path = tmp_path / "patients" / "voice.pth"
    changes = {"processing": {"max_bad_fraction": 0.5}, "training": {"epochs": 5}}
    golem_ray.train(configuration(clips, encoder_folder, path, **changes))
    bad = json.loads(path.with_suffix(".json").read_text())["clips"]["bad"]
    assert [record["clip"].rpartition("/")[0].rpartition("/")[2] for record in bad] == ["smirnova"] * 2
    done = push(path, "me/voice", "--report", **online(hub.url, tmp_path / "hf", TOKEN))
    assert done.returncode == 0, done.stderr
    files = files_of(hub, "me/voice")
    assert {"report.html", "README.md", sharing.SIDECAR} < set(files)
    for name, content in files.items():
        for part in (b"smirnova", b"patients", b"sig=k", str(tmp_path).encode(), str(encoder_folder.parent).encode()):
            assert part not in content, name
    shown = json.loads(files[sharing.SIDECAR])["clips"]["bad"]
    assert [record["clip"] for record in shown] == ["clip 8 (gone.wav)", "clip 9 (x.wav)"]


def test_what_will_be_uploaded_is_listed_before_it_is(hub: HubServer, tmp_path: Path) -> None:
    path = write_artifact(tmp_path)
    for repo, more, which in (("me/open", [], "public"), ("me/new", ["--private"], "new private")):
        done = push(path, repo, *more, **online(hub.url, tmp_path / "hf", TOKEN))
        listed = f"uploading to the {which} repository {repo}: {sharing.WEIGHTS} ({path.stat().st_size:,} bytes), "
        assert listed in done.stderr
        assert "README.md (" in done.stderr
    hub.writers.clear()
    assert (
        "uploading to the public repository me/open: "
        in push(path, "me/open", **online(hub.url, tmp_path, TOKEN)).stderr
    )


def test_names_that_others_can_use_are_published_as_they_are() -> None:
    document = sidecar({"name": "sample", "revision": None, "sha256": "e" * 64})
    document["data"]["revision"] = COMMIT
    document["config"]["dataset"]["name"] = "PolyAI/minds14"
    document["config"]["paths"] = {"save_path": "voice.pth", "storage_root": None}
    document["config"]["cluster"] = {"address": "local"}
    document["summary"] = "Trained on 18 clips of PolyAI/minds14, with sample."
    document["clips"]["bad"] = []
    untouched = copy.deepcopy(document)
    assert published(document) == untouched
    assert document == untouched

    document["config"]["dataset"]["name"] = "https://me:password@host/clips.csv?token=1"
    document["data"]["revision"] = None
    assert published(document)["config"]["dataset"]["name"] == "clips.csv"
    document["config"]["dataset"]["name"] = "file:///home/someone/clips"
    assert published(document)["config"]["dataset"]["name"] == "clips"


def test_datasets_beside_the_main_one_are_published_without_folders_and_named_in_the_card() -> None:
    document = sidecar()
    document["config"]["dataset"]["extra"] = [{"name": f"{SECRET_FOLDER}/more.csv"}, {"name": "org/set"}]
    document["data"]["extra_revisions"] = [None, COMMIT]
    document["clips"]["extra"] = [{"total": 3, "used": 2, "left_out": 1}, {"total": 5, "used": 5, "left_out": 0}]
    document["summary"] += f" And 2 of {SECRET_FOLDER}/more.csv."
    shown = published(document)
    assert [each["name"] for each in shown["config"]["dataset"]["extra"]] == ["more.csv", "org/set"]
    assert SECRET_FOLDER not in json.dumps(shown["config"]["dataset"]) + shown["summary"]
    card = model_card(shown, "me/voice")
    assert "11 of 12 clips of `recordings`" in card
    assert "and 2 of 3 clips of `more.csv`, and 5 clips of `org/set`" in card
    assert "- org/set" in card.split("---")[1]


def test_report_is_cleared_of_folders_but_not_of_what_looks_like_one() -> None:
    document = sidecar()
    document["config"]["dataset"]["name"] = "/"
    page = "<td>clip 1 ({}1.wav)</td><a href='https://x/y'>1/2</a></p>"
    assert published_report(page.format("s3://bucket/yes/"), document) == page.format("")
    document["config"]["dataset"]["name"] = "/home/me & you/clips"
    assert published_report("<b>/home/me &amp; you/clips</b>", document) == "<b>clips</b>"


def test_reasons_are_cleared_of_the_folders_that_storage_names() -> None:
    document = sidecar()
    bad = [
        {"id": 3, "clip": "clip 3 (s3://bucket/p/ivanov/3.wav)", "reason": "OSError: bucket/p/ivanov/3.wav: timeout"},
        {"id": 4, "clip": "clip 4", "reason": "shard patients/ivanov/x.parquet is bad (1/2)"},
    ]
    document.setdefault("clips", {})["bad"] = bad
    shown = [(each["clip"], each["reason"]) for each in published(document)["clips"]["bad"]]
    assert shown == [("clip 3 (3.wav)", "OSError: 3.wav: timeout"), ("clip 4", "shard x.parquet is bad (2)")]


def test_card_says_the_figures_as_they_are() -> None:
    card = model_card(published({**sidecar(), "weights": {"file": "my.pth"}}), "me/voice")
    assert front_matter(card) == {
        "library_name": "golem_ray",
        "pipeline_tag": "audio-classification",
        "base_model": "facebook/wav2vec2-base",
        "tags": ["audio-classification", "speech", "linear-probe"],
    }
    assert "Training accuracy: 100.0%, on the clips that it was trained on" in card
    assert "chance is 25.0%, always naming the largest class 28.0%" in card
    assert "61.1% (95 % interval 38.6% to 79.7%), over 18 clips" in card
    assert "temperature of 1.75" in card
    assert "18 of 20 clips of `recordings`, which is not on the Hub" in card
    assert 'golem_ray.load("me/voice").predict("clip.wav")' in card
    assert f"facebook/wav2vec2-base` at commit `{COMMIT}`" in card


def test_card_takes_what_is_bundled_for_known_to_everyone() -> None:
    document = sidecar({"name": "sample", "revision": None, "sha256": "e" * 64})
    document["config"]["dataset"]["name"] = "sample-digits"
    card = model_card(published(document), "me/voice")
    assert "18 of 20 clips of `sample-digits`.\n" in card
    assert "not on the Hub" not in card


def test_card_of_an_evaluated_artifact_has_its_figures_for_readers_and_for_the_hub() -> None:
    document = sidecar()
    document["data"]["revision"] = COMMIT
    document["config"]["dataset"]["name"] = "PolyAI/minds14"
    document["metrics"]["evaluation"] = {
        "how": "test",
        "num_clips": 336,
        "figures": {
            "accuracy": {"value": 0.321, "interval_95": [0.274, 0.373]},
            "log_loss": {"value": 2.25, "interval_95": [2.0, 2.5]},
        },
        "baselines": {"chance": {"accuracy": 0.071}},
    }
    card = model_card(document, "me/voice")
    assert "On the 336 clips of the split `test`, which it was not trained on" in card
    assert "* accuracy: 32.1% (95 % interval 27.4% to 37.3%); chance is 7.1%" in card
    assert "* log-loss: 2.250 (95 % interval 2.000 to 2.500)" in card
    front = front_matter(card)
    assert front["datasets"] == ["PolyAI/minds14"]
    [model] = front["model-index"]
    [result] = model["results"]
    assert result["dataset"]["split"] == "test"
    assert result["metrics"] == [{"type": "accuracy", "value": 0.321}]


def test_texts_are_called_texts_in_the_card_and_cleared_of_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    figure = {"value": 0.5, "interval_95": [0.25, 0.75]}
    document = sidecar(modality="text")
    document["metrics"]["evaluation"] = {"how": "held out", "num_clips": 8, "figures": {"accuracy": figure}}
    document["clips"]["bad"] = [{"clip": f"text 3 ({SECRET_FOLDER}/3.txt)", "reason": "missing file"}]
    assert published(document)["clips"]["bad"][0]["clip"] == "text 3 (3.txt)"
    page = f"<td>text 3 ({SECRET_FOLDER}/3.txt)</td><p>The 8 texts of {SECRET_FOLDER}/others, split"
    assert published_report(page, document) == "<td>text 3 (3.txt)</td><p>The 8 texts of others, split"

    card_of_texts = dataclasses.replace(speech.MODALITY.card, examples="texts", shown="It rained.")
    monkeypatch.setattr(speech, "MODALITY", dataclasses.replace(speech.MODALITY, card=card_of_texts))
    monkeypatch.setitem(MODALITIES, "text", "golem_ray.speech")
    for record in ({"by": "unlike", "kept": figure, "refused": figure}, {"by": "precision", "precision": 0.9}):
        for threshold in (0.5, None):
            document["metrics"]["reject"] = {**record, "threshold": threshold}
            card = model_card(document, "me/mail")
            assert "clip" not in card.lower()
    assert "18 of 20 texts of `recordings`" in model_card(published(document), "me/mail")


def test_card_claims_nothing_that_was_not_measured() -> None:
    metrics = {"training_accuracy": 1.0, "cross_validation": None, "calibration": None, "evaluation": {"num_clips": 0}}
    card = model_card(sidecar(metrics=metrics), "me/voice")
    assert "Cross-validated accuracy: none was measured." in card
    assert "Probabilities are not calibrated" in card
    assert "clips of the split" not in card
    assert "model-index" not in card


def test_card_says_what_was_cross_validated() -> None:
    metrics = sidecar()["metrics"]
    assert ", over 18 clips.\n" in model_card(sidecar(), "me/voice")
    metrics["cross_validation"]["sampled"] = True
    card = model_card(sidecar(metrics=metrics), "me/voice")
    assert ", over 18 sampled clips, on which alone those heads were trained.\n" in card


def test_card_shows_untrusted_names_as_mere_text() -> None:
    names = ["---\nlicense: mit", "``tick`", "[click](javascript:x)", "<script>", "x" * 500]
    document = sidecar({"name": "a: b\n- c", "revision": COMMIT, "sha256": None}, labels=names + ["more"] * 60)
    card = model_card(document, "me/voice")
    assert "license" not in front_matter(card)
    assert "base_model" not in front_matter(card)
    lines = card.splitlines()
    [labels] = [line for line in lines if "javascript" in line]
    assert labels.startswith("`--- license: mit`, ``` ``tick` ```, `[click](javascript:x)`, `<script>`, `xxx")
    assert labels.endswith(", and 15 more.")
    assert max(map(len, lines)) < 1500


def test_sharing_needs_neither_ray_nor_pytorch() -> None:
    probe = "import sys, golem_ray.jobs.push; print({'ray', 'torch'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
