"""The first sheet of an .xlsx workbook as a table of text, as if it had been saved as a CSV.

Read by openpyxl, an extra of the package: row by row, so that a stray cell far out costs no memory. Knows nothing of
what the columns hold, nor of how cells are formatted: 7 shown as 007 is 7.
"""

from __future__ import annotations

import datetime
import io
import logging
import math
import warnings
from typing import Any

import pyarrow as pa

from golem_ray.errors import DataError, one_line, printable

log = logging.getLogger(__name__)

_OLD = bytes.fromhex("d0cf11e0a1b11ae1")
"""Begins an .xls, and a workbook with a password, whose content then is called `EncryptedPackage`."""


def read_workbook(fs: Any, file: str) -> pa.Table:
    """The rows below the first one, which names the columns; rows without a cell are left out, empty cells null.

    Raises DataError if openpyxl is missing, if the file is no such workbook, or if the first row is empty.
    """
    name = file.rsplit("/", 1)[-1]
    try:
        import openpyxl
    except ModuleNotFoundError:
        raise DataError(
            f"{name}: expected openpyxl to read it by, found none; `pip install golem_ray[xlsx]`, or save the sheet as "
            "a CSV in UTF-8."
        ) from None
    with fs.open(file, "rb") as stream:
        content = stream.read()
    if content.startswith(_OLD):
        found = "one with a password" if "EncryptedPackage".encode("utf-16-le") in content else "an older one (.xls)"
        raise DataError(f"{name}: expected an .xlsx workbook, found {found}; save it as .xlsx without a password.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of styles and drawings that it does not read
            book = openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=True)
            return _table(name, book)
    except DataError:
        raise
    except Exception as error:  # of whichever part is broken: the archive's, the parser's, openpyxl's own
        raise DataError(
            f"{name}: expected an .xlsx workbook, found one that cannot be read ({type(error).__name__}: "
            f"{one_line(error)}); save it anew."
        ) from None


def _table(name: str, book: Any) -> pa.Table:
    if not book.worksheets:
        raise DataError(f"{name}: expected a sheet of cells, found none.")
    sheet = book.worksheets[0]
    if len(book.worksheets) > 1:
        log.warning("%s has %d sheets: the first is read, %s", name, len(book.worksheets), printable(sheet.title))
    sheet.reset_dimensions()  # which some programs write wrongly
    header = [_text(cell) for cell in next(sheet.iter_rows(values_only=True), ())]
    while header and header[-1] is None:
        header.pop()
    if not header:
        raise DataError(
            f"{name}: expected names of columns in the first row of its first sheet ({printable(sheet.title)}), found "
            "none; put them there."
        )
    rows = sheet.iter_rows(min_row=2, max_col=len(header), values_only=True)
    texts = ([_text(cell) for cell in row] for row in rows if any(cell not in (None, "") for cell in row))
    padded = [(*row, *[None] * (len(header) - len(row))) for row in texts]
    columns = list(zip(*padded, strict=True)) or [()] * len(header)
    return pa.table([pa.array(cells, pa.string()) for cells in columns], names=[each or "" for each in header])


def _text(cell: Any) -> str | None:
    """A cell as Excel's CSV has it, but dates in ISO 8601 and numbers by their value; None for an empty one."""
    if cell is None or cell == "":
        return None
    if isinstance(cell, bool):
        return str(cell).upper()
    if isinstance(cell, float) and math.isfinite(cell):
        return str(int(cell)) if cell.is_integer() and abs(cell) < 1e15 else f"{cell:.15g}"
    if isinstance(cell, datetime.datetime) and cell.time() == datetime.time():
        return cell.date().isoformat()
    if isinstance(cell, datetime.datetime | datetime.date | datetime.time):
        return cell.isoformat()
    return str(cell)
