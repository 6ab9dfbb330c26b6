"""Workbooks (.xlsx) as manifests: which text their cells become, and what is refused."""

import datetime
import io
import sys
import zipfile

import pytest

from golem_ray.config import DatasetConfig
from golem_ray.data import columns_of, open_source
from golem_ray.data.files import open_paths
from golem_ray.errors import DataError
from golem_ray.speech import MODALITY
from tests.conftest import write_clips

openpyxl = pytest.importorskip("openpyxl", reason="openpyxl is not installed (the extra xlsx)")

OLD = bytes.fromhex("d0cf11e0a1b11ae1") + bytes(600)


def workbook(*rows, sheets=1) -> bytes:
    """A workbook whose first sheet has these rows."""
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    for number in range(1, sheets):
        book.create_sheet(f"more {number}").append(["file_name"])
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def opened(path):
    return open_source(DatasetConfig(name=str(path)), MODALITY.content, None)


def test_cells_are_read_as_a_csv_would_have_them(tmp_path):
    cells = [3, 4.0, 2.5, 0.1 + 0.2, True, datetime.date(2024, 1, 5), datetime.datetime(2024, 1, 5, 9, 30), "да", ""]
    rows = [[f"{number}.wav", cell] for number, cell in enumerate(cells)]
    (tmp_path / "m.xlsx").write_bytes(workbook(["file_name", "label"], *rows[:2], [None, None], *rows[2:]))
    source = opened(tmp_path / "m.xlsx")
    labels = [None if row is None else source.labels[row] for row in source.examples["label"].to_pylist()]
    assert labels == ["3", "4", "2.5", "0.3", "TRUE", "2024-01-05", "2024-01-05T09:30:00", "да", None]
    assert source.examples["path"].to_pylist() == [f"{tmp_path}/{number}.wav" for number in range(9)]


def test_metadata_of_a_folder_may_be_a_workbook(tmp_path, caplog):
    folder = write_clips(tmp_path / "set", ["b", "a"])
    expected = opened(folder)
    (folder / "metadata.csv").unlink()
    rows = [["file_name", "label"], ["clips/0.wav", "b"], ["clips/1.wav", "a"]]
    (folder / "metadata.xlsx").write_bytes(workbook(*rows, sheets=3))
    assert opened(folder).examples.equals(expected.examples)
    assert "metadata.xlsx has 3 sheets: the first is read, Sheet" in caplog.text
    columns = columns_of(DatasetConfig(), MODALITY.content, labelled=False)
    assert open_paths([str(folder / "metadata.xlsx")], columns).examples.num_rows == 2


def test_a_stray_cell_far_out_costs_nothing(tmp_path):
    book = openpyxl.load_workbook(io.BytesIO(workbook(["audio", "label"], ["a.wav", 1], ["b.wav", 2, "note"])))
    book.active.cell(200_000, 16_384, "stray")
    book.save(tmp_path / "m.xlsx")
    assert opened(tmp_path / "m.xlsx").labels == ("1", "2")


def test_a_sheet_is_read_whole_whatever_it_says_of_its_size(tmp_path):
    with (
        zipfile.ZipFile(io.BytesIO(workbook(["audio", "label"], ["a.wav", 1], ["b.wav", 2]))) as book,
        zipfile.ZipFile(tmp_path / "m.xlsx", "w") as other,
    ):
        for name in book.namelist():
            other.writestr(name, book.read(name).replace(b'<dimension ref="A1:B3"', b'<dimension ref="A1:A2"'))
    assert opened(tmp_path / "m.xlsx").labels == ("1", "2")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (workbook(), r"m.xlsx: expected names of columns in the first row of its first sheet \(Sheet\), found none"),
        (workbook([None, None], ["audio", "label"]), "expected names of columns in the first row"),
        (workbook(["audio", "label"]), "expected clips, found none"),
        (workbook(["audio", "label", "label"], ["a.wav", 1, 2]), "expected one column 'label' in .*, found several"),
        (workbook(["audio", "word"], ["a.wav", 1]), "none called 'intent_class'; it has audio, word"),
        (b"", "m.xlsx: expected an .xlsx workbook, found one that cannot be read"),
        (workbook(["audio", "label"])[:3000], r"cannot be read \(BadZipFile: "),
        (OLD, r"found an older one \(.xls\); save it as .xlsx without a password"),
        (OLD + "EncryptedPackage".encode("utf-16-le"), "found one with a password"),
    ],
)
def test_a_workbook_that_cannot_be_used_is_refused_in_words(tmp_path, content, words):
    (tmp_path / "m.xlsx").write_bytes(content)
    with pytest.raises(DataError, match=words):
        opened(tmp_path / "m.xlsx")


def test_without_openpyxl_the_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "m.xlsx").write_bytes(workbook(["audio", "label"], ["a.wav", 1]))
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(DataError, match=r"m.xlsx: expected openpyxl .* `pip install golem_ray\[xlsx\]`, or save"):
        opened(tmp_path / "m.xlsx")
