"""Where outputs go, how files are written whole, what is tried again and what is not, and what a failure says."""

import os
import pickle

import fsspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from golem_ray import storage
from golem_ray.config import PathsConfig
from golem_ray.errors import ConfigError, DataError, StorageError


class Refused(Exception):
    """As an HTTP library has it."""

    status = 404


class Busy(Exception):
    status = 503


def not_found(cause):
    error = FileNotFoundError("s3://bucket/clip")
    error.__cause__ = cause
    return error


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
    """The pauses that were taken, without taking them."""
    taken = []
    monkeypatch.setattr(storage.time, "sleep", taken.append)
    return taken


def failing(error, times):
    """A call that fails so often, and the number of times that it was made."""
    calls = []

    def call():
        calls.append(1)
        if len(calls) <= times:
            raise error
        return "content"

    return call, calls


@pytest.mark.parametrize(
    "error", [OSError("reset"), ConnectionError(), TimeoutError(), not_found(Busy()), RuntimeError("a store's own")]
)
def test_what_may_pass_is_tried_again_a_few_times_and_ever_later(error, pauses):
    call, calls = failing(error, 3)
    assert storage.retried(call) == "content"
    assert len(calls) == 4
    assert 0.1 <= pauses[0] <= 0.3 < 0.5 <= pauses[1] <= 1.5 < 2 <= pauses[2] <= 6
    call, calls = failing(error, 99)
    with pytest.raises(type(error)):
        storage.retried(call)
    assert len(calls) == 4


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(),
        not_found(Refused()),
        not_found(KeyError("clip")),
        PermissionError(),
        IsADirectoryError(),
        ValueError("a URI"),
    ],
)
def test_what_will_not_pass_is_not_tried_again(error, pauses):
    call, calls = failing(error, 1)
    with pytest.raises(type(error)):
        storage.retried(call)
    assert (len(calls), pauses) == (1, [])


def test_a_uri_of_no_known_kind_is_not_tried_again(pauses):
    with pytest.raises(StorageError, match="nosuchkind"):
        storage.read("nosuchkind://host/a.wav")
    assert pauses == []


def resolve(save_path: str = "v.pth", storage_root: str | None = None) -> str:
    place = storage.resolve("paths.save_path", save_path, storage_root)
    assert PathsConfig(save_path=save_path, storage_root=storage_root).place("save_path") == place
    return place


def test_where_a_save_path_leads(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve("out/v.pth") == str(tmp_path / "out/v.pth")
    assert resolve("/abs/v.pth", "/root") == "/abs/v.pth"
    assert resolve("s3://bucket/v.pth") == "s3://bucket/v.pth"
    assert resolve("file:///abs/v.pth") == "/abs/v.pth"
    assert resolve("v.pth", "s3://bucket/runs/") == "s3://bucket/runs/v.pth"
    assert resolve("v.pth", "/root") == resolve("v.pth", "file:///root") == "/root/v.pth"
    with pytest.raises(ConfigError, match="no home folder"):
        resolve("~nobody-of-that-name/v.pth")
    monkeypatch.setenv("GOLEM_RAY_STORAGE_ROOT", "/shared")
    assert resolve() == "/shared/v.pth"
    assert resolve("v.pth", "/root") == "/root/v.pth"


def test_a_job_refuses_a_relative_path_without_a_storage_root(monkeypatch):
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    for root in (None, "relative"):
        with pytest.raises(ConfigError, match="would vanish with the job's folder; set .GOLEM_RAY_STORAGE_ROOT"):
            resolve("v.pth", root)
    assert resolve("/abs/v.pth") == "/abs/v.pth"
    monkeypatch.setenv("GOLEM_RAY_STORAGE_ROOT", "/shared")
    assert resolve() == "/shared/v.pth"


@pytest.fixture(params=["local", "memory"])
def root(request, tmp_path):
    """A folder on this machine, or in a store."""
    if request.param == "local":
        yield str(tmp_path)
        return
    yield "memory://storage"
    fs = fsspec.filesystem("memory")
    if fs.exists("/storage"):
        fs.rm("/storage", recursive=True)


def test_what_is_written_is_listed_read_and_removed(root):
    assert storage.list_folder(f"{root}/new") == []
    storage.write_all({f"{root}/new/b": b"second", f"{root}/new/a": b"first"})
    assert storage.list_folder(f"{root}/new/") == [f"{root}/new/a", f"{root}/new/b"]
    assert (storage.read(f"{root}/new/b"), storage.read_head(f"{root}/new/b", 3)) == (b"second", b"sec")
    assert (storage.exists(f"{root}/new/a"), storage.exists(f"{root}/new/c")) == (True, False)
    storage.remove(f"{root}/new/a")
    assert storage.list_folder(f"{root}/new") == [f"{root}/new/b"]


def test_of_several_files_none_is_written_where_one_cannot_be(tmp_path):
    storage.write(str(tmp_path / "a"), b"old")
    (tmp_path / "folder").write_text("a file")
    with pytest.raises(StorageError):
        storage.write_all({str(tmp_path / "a"): b"new", str(tmp_path / "folder" / "b"): b"new"})
    assert storage.read(str(tmp_path / "a")) == b"old"
    assert sorted(os.listdir(tmp_path)) == ["a", "folder"]


def test_a_file_written_in_parts_is_there_whole_or_not_at_all(root):
    path = f"{root}/new/table"
    with storage.writing(path) as file:
        file.write(b"one ")
        assert not storage.exists(path)
        storage.write(f"{root}/new/other", b"of the same process")
        assert storage.exists(f"{root}/new/other")
        file.write(b"two")
    assert storage.read(path) == b"one two"

    def half(error):
        with storage.writing(path) as file:
            file.write(b"half")
            raise error

    for error in (KeyError("a bug"), DataError("the user's"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            half(error)
        assert storage.read(path) == b"one two"
        assert storage.list_folder(f"{root}/new") == [f"{root}/new/other", path]


def test_arrow_writes_into_a_file_written_in_parts(root):
    table = pa.table({"a": [1, 2, 3]})
    with storage.writing(f"{root}/t.csv") as file, pa.csv.CSVWriter(file, table.schema) as writer:
        writer.write_table(table)
        writer.write_table(table)
    assert storage.read(f"{root}/t.csv") == b'"a"\n1\n2\n3\n1\n2\n3\n'
    with storage.writing(f"{root}/t.parquet") as file, pa.parquet.ParquetWriter(file, table.schema) as writer:
        writer.write_table(table)
    assert pa.parquet.read_table(pa.BufferReader(storage.read(f"{root}/t.parquet"))) == table


def test_a_full_disk_is_a_storage_error_in_every_way_of_writing(tmp_path, monkeypatch):
    path = str(tmp_path / "a")
    storage.write(path, b"old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(StorageError, match="No space left"):
        storage.write(path, b"new")
    with pytest.raises(StorageError, match="No space left"), storage.writing(path) as file:
        file.write(b"new")
    assert (storage.read(path), os.listdir(tmp_path)) == (b"old", ["a"])


def test_a_store_that_refuses_a_part_is_a_storage_error(monkeypatch):
    def refuse(file, data):
        raise Refused("not allowed,\nat all")

    monkeypatch.setattr("fsspec.implementations.memory.MemoryFile.write", refuse)
    with (
        pytest.raises(StorageError, match="^not allowed, at all$") as error,
        storage.writing("memory://parts/a") as file,
    ):
        file.write(b"new")
    assert error.value.kind == "Refused"
    assert not storage.exists("memory://parts/a")


def test_a_failure_says_what_the_filesystem_said(tmp_path):
    with pytest.raises(StorageError, match="No such file") as error:
        storage.read(str(tmp_path / "absent"))
    assert (error.value.kind, error.value.missing) == ("FileNotFoundError", True)
    assert isinstance(error.value, FileNotFoundError)
    assert error.value.__cause__ is None
    with pytest.raises(StorageError, match="Is a directory") as error:
        storage.read(str(tmp_path))
    sent = pickle.loads(pickle.dumps(error.value))
    assert (str(sent), sent.kind, sent.missing) == (str(error.value), "IsADirectoryError", False)
    for call in (storage.read, storage.exists, storage.list_folder, storage.remove, storage.check_folder):
        with pytest.raises(StorageError, match="Protocol not known"):
            call("nosuchprotocol://bucket/x")


def test_a_failed_request_is_the_cause_of_what_was_not_found(monkeypatch):
    def refuse(self, path, **options):
        raise FileNotFoundError(path) from Refused("404")

    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.cat_file", refuse)
    with pytest.raises(StorageError) as error:
        storage.read("memory://bucket/clip")
    assert error.value.missing
    assert isinstance(error.value.__cause__, Refused)


def test_a_check_leaves_nothing_behind(root, tmp_path):
    storage.check_folder(f"{root}/new")
    storage.check_file(f"{root}/new/a")
    assert storage.list_folder(f"{root}/new") == []
    (tmp_path / "folder").mkdir()
    for path, words in ((tmp_path / "folder", "is a folder"), (tmp_path / ("x" * 300), "its name is too long")):
        with pytest.raises(StorageError, match=words):
            storage.check_file(str(path))
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"^NotADirectoryError: .*/\.\.\.'$"):
        storage.check_folder(str(tmp_path / "file" / "below"))
