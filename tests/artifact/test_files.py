import contextlib
import json
import os
import re
import tempfile
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from golem_ray import artifact, storage
from golem_ray.config.presets import split_sidecar
from golem_ray.errors import ConfigError
from tests.test_classifier import save_artifact


def test_save_writes_both_files_and_nothing_else(tmp_path):
    path = tmp_path / "new" / "folder" / "v.pth"
    artifact.check_writable(str(path))
    assert not (tmp_path / "new").exists()
    artifact.save(str(path), b"weights", {"labels": ["ä"]})
    assert sorted(os.listdir(path.parent)) == ["v.json", "v.pth"]
    assert path.read_bytes() == b"weights"
    sidecar = json.loads(path.with_suffix(".json").read_text())
    assert sidecar["labels"] == ["ä"]
    assert sidecar["format_version"] == 1
    assert sidecar["weights"]["file"] == "v.pth"
    assert len(sidecar["weights"]["sha256"]) == 64
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()


def test_a_name_that_is_no_utf_8_is_in_the_sidecar(tmp_path):
    config = {"dataset": {"name": "caf\udce9"}}  # as Python has the bytes of a folder's name
    artifact.save(str(tmp_path / "v.pth"), b"weights", {"config": config})
    assert json.loads((tmp_path / "v.json").read_text(encoding="utf-8"))["config"] == config


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_failed_save_leaves_the_previous_artifact(tmp_path, monkeypatch):
    path = str(tmp_path / "v.pth")
    artifact.save(path, b"old", {"labels": ["old"]})
    with pytest.raises(ValueError, match="JSON"):
        artifact.save(path, b"new", {"labels": float("nan")})

    fill_the_disk(monkeypatch)
    with pytest.raises(
        ConfigError, match=r"write \S+/v\.pth, but .*No space.*; nor is there room for it in .*run again\.$"
    ):
        artifact.save(path, b"new", {"labels": ["new"]})
    assert Path(path).read_bytes() == b"old"
    assert json.loads((tmp_path / "v.json").read_text())["labels"] == ["old"]
    assert sorted(os.listdir(tmp_path)) == ["v.json", "v.pth"]


def fill_the_disk(monkeypatch, times=None):
    """The next so many writes fail; None: all."""
    fsync, left = os.fsync, [times]

    def full_disk(descriptor: int) -> None:
        if left[0] == 0:
            return fsync(descriptor)
        left[0] = None if left[0] is None else left[0] - 1
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)


def test_an_artifact_that_its_place_does_not_take_is_kept_aside(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    fill_the_disk(monkeypatch, times=1)
    with pytest.raises(ConfigError, match=r"paths\.save_path: .*No space") as error:
        artifact.save(str(tmp_path / "there" / "v.pth"), b"weights", {"labels": ["a", "b"]})
    (place,) = re.findall(r"it is in (\S+) instead", str(error.value))
    assert Path(place).read_bytes() == b"weights"
    sidecar = json.loads(Path(place).with_suffix(".json").read_text())
    assert (sidecar["weights"]["file"], sidecar["labels"]) == ("v.pth", ["a", "b"])
    assert not os.listdir(tmp_path / "there")


def test_save_and_check_work_on_other_filesystems():
    fs = fsspec.filesystem("memory")
    artifact.check_writable("memory://artifact-files/v.pth")
    assert fs.find("/artifact-files") == []
    artifact.save("memory://artifact-files/v.pth", b"weights", {"labels": []})
    assert fs.find("/artifact-files") == ["/artifact-files/v.json", "/artifact-files/v.pth"]
    assert fs.cat("/artifact-files/v.pth") == b"weights"


class Killed(BaseException):
    """The process ends: no code of ours handles it."""


@pytest.fixture(params=["local", "memory"])
def steps(request, tmp_path, monkeypatch):
    """An artifact's place in an empty folder, and `fail(error, at, after, lasting)`.

    That lets the `at`-th change of the filesystem from now on raise the error, once it is done if `after`; with
    `lasting`, everything that comes behind raises it too.
    """
    monkeypatch.setattr(storage.time, "sleep", lambda _: None)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    places = {"local": str(tmp_path / "there" / "v.pth"), "memory": "memory://artifact-steps/v.pth"}
    changes = {
        "local": [(os, "replace"), (LocalFileSystem, "rm_file")],
        "memory": [(MemoryFileSystem, "pipe_file"), (MemoryFileSystem, "rm_file")],
    }[request.param]
    reads = {"local": [(Path, "read_bytes")], "memory": [(MemoryFileSystem, "cat_file")]}[request.param]

    def fail(patch, error, at, *, after=False, lasting=False):
        done = []

        def failing(call, counts):
            def run(*arguments, **options):
                dead = lasting and len(done) >= at
                if counts and not dead:
                    done.append(call.__name__)
                if dead or (counts and len(done) == at and not after):
                    raise error
                result = call(*arguments, **options)
                if counts and len(done) == at:
                    raise error
                return result

            return run

        for owner, name in changes:
            patch.setattr(owner, name, failing(getattr(owner, name), True))
        for owner, name in reads:
            patch.setattr(owner, name, failing(getattr(owner, name), False))

    yield places[request.param], fail
    fs = fsspec.filesystem("memory")
    if fs.exists("/artifact-steps"):
        fs.rm("/artifact-steps", recursive=True)


OLD, NEW = ["old", "older"], ["new", "newer", "newest"]


@pytest.mark.parametrize("before", [OLD, None], ids=["over an old one", "first"])
@pytest.mark.parametrize("lasting", [False, True], ids=["for a moment", "for good"])
def test_a_save_that_fails_at_any_step_leaves_what_was_there(steps, encoder_folder, before, lasting):
    place, fail = steps
    for at in (1, 2, 3):
        if before:
            save_artifact(place, encoder_folder, labels=before)
        with pytest.MonkeyPatch.context() as patch:
            fail(patch, PermissionError("no"), at, lasting=lasting)
            with pytest.raises(ConfigError, match="but no; "):
                save_artifact(place, encoder_folder, labels=NEW)
        if before is None and not (lasting and at == 3):
            with pytest.raises(ConfigError, match="expected the artifact, found no such file"):
                artifact.load(place)
            continue
        assert artifact.load(place).labels == (NEW if lasting and at == 3 else before)  # a pair that fits
    save_artifact(place, encoder_folder, labels=NEW)
    assert artifact.load(place).labels == NEW
    assert [each.rsplit("/")[-1] for each in storage.list_folder(place.rpartition("/")[0])] == ["v.json", "v.pth"]


def test_a_save_that_is_killed_at_any_step_leaves_the_old_artifact_or_the_new_one(steps, encoder_folder):
    place, fail = steps
    found = []
    for after in (False, True):
        for at in range(1, 6):
            save_artifact(place, encoder_folder, labels=OLD)
            with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Killed):
                fail(patch, Killed(), at, after=after, lasting=True)
                save_artifact(place, encoder_folder, labels=NEW)
            found.append(artifact.load(place).labels[0])
            with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Killed):  # and the next one too
                fail(patch, Killed(), at, after=after, lasting=True)
                save_artifact(place, encoder_folder, labels=["next", *"abc"])
            assert artifact.load(place).labels[0] in (found[-1], "next")
    assert found == ["old", "old", "new", "new", "new", "old", "new", "new", "new", "new"]


@pytest.mark.parametrize("place", ["a-file/v.pth", "a-folder.pth", "blocked.pth"])
def test_a_path_that_cannot_be_written_is_refused_before_the_work(tmp_path, place):
    (tmp_path / "a-file").write_text("")
    (tmp_path / "a-folder.pth").mkdir()
    (tmp_path / "blocked.json").mkdir()
    with pytest.raises(ConfigError, match="paths.save_path: expected to be able to write"):
        artifact.check_writable(str(tmp_path / place))
    assert sorted(os.listdir(tmp_path)) == ["a-file", "a-folder.pth", "blocked.json"]


def test_a_file_that_is_no_sidecar_is_not_overwritten(tmp_path):
    (tmp_path / "mine.json").write_text('{"dataset": {}}')
    with pytest.raises(ConfigError, match=r"expected room for the sidecar, found another file at .*mine.json"):
        artifact.check_writable(str(tmp_path / "mine.pth"))
    artifact.save(str(tmp_path / "v.pth"), b"", {})
    artifact.check_writable(str(tmp_path / "v.pth"))
    storage.write("memory://artifact-guard/mine.json", b'{"dataset": {}}')
    with pytest.raises(ConfigError, match=r"expected room for the sidecar, found another file at memory:.*mine.json"):
        artifact.check_writable("memory://artifact-guard/mine.pth")


def test_a_name_that_leaves_no_room_for_a_sidecar_is_refused(tmp_path):
    artifact.save(str(tmp_path / f"{'v' * 240}.pth"), b"", {})
    artifact.check_writable(str(tmp_path / f"{'v' * 240}.pth"))
    with pytest.raises(ConfigError, match="too long"):
        artifact.check_writable(str(tmp_path / f"{'v' * 251}.pth"))


def test_a_filesystem_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match="paths.save_path"):
        artifact.check_writable("nosuchprotocol://bucket/v.pth")


def test_differences_name_what_changed():
    recorded = {"versions": {"torch": "1", "ray": "2"}, "data": {"sha256": "a"}}
    assert artifact.differences(recorded, recorded) == []
    current = {"versions": {"torch": "3", "ray": "2"}, "data": {"sha256": "b"}}
    assert artifact.differences(recorded, current) == [
        "versions.torch: '1' then, '3' now",
        "data.sha256: 'a' then, 'b' now",
    ]
    then, extra = ({"versions": {"torch": "1", "av": version}} for version in ("17", "18"))
    assert artifact.differences(recorded, extra) == []  # no example needed it then
    assert artifact.differences(then, extra) == ["versions.av: '17' then, '18' now"]
    assert artifact.differences(then, {"versions": {"torch": "1"}}) == []


def test_a_sidecar_of_another_format_version_is_refused():
    sidecar = {"format": "golem_ray.artifact", "format_version": 1}
    sidecar |= {group: {} for group in ("config", "data", "encoder", "versions")}
    assert split_sidecar(sidecar) == ({}, sidecar)
    with pytest.raises(ConfigError, match="expected a group 'versions', found 'x'"):
        split_sidecar({**sidecar, "versions": "x"})
    with pytest.raises(ConfigError, match="expected format_version 1, found 2"):
        split_sidecar({**sidecar, "format_version": 2, "config": {"a group of the future": {}}})
