"""CSV, TSV and JSON Lines as tables, and in words what is wrong with those that other programs wrote otherwise.

Cells of a CSV are text, empty ones null. Knows nothing of what the columns hold.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from golem_ray.data.encodings import canonical, likely_encoding, marked
from golem_ray.errors import DataError, printable

_SEPARATORS = {";": "semicolons", "\t": "tabs", ",": "commas", "|": "bars"}


@dataclass(frozen=True)
class TextFile:
    """A file of text, how its columns are separated, if it has any, and its encoding."""

    fs: Any
    path: str
    delimiter: str | None
    """None for JSON Lines."""
    encoding: str

    @classmethod
    def of(cls, fs: Any, path: str, delimiter: str, encoding: str) -> TextFile:
        """A .csv as it is said to be; a .tsv has tabs, and a .jsonl is in UTF-8."""
        suffix = path.lower().rsplit(".", 1)[-1]
        if suffix == "jsonl":
            return cls(fs, path, None, "utf-8")
        return cls(fs, path, "\t" if suffix == "tsv" else delimiter, canonical(encoding))

    @property
    def name(self) -> str:
        """Without folders."""
        return self.path.rsplit("/", 1)[-1]

    @cached_property
    def head(self) -> bytes:
        """The first 64 KiB."""
        with self.fs.open(self.path, "rb") as stream:
            return stream.read(1 << 16)


def read_text_table(file: TextFile) -> pa.Table:
    """The table. Raises DataError, with the line and what to say instead, for another separator or encoding."""
    _check_mark(file)
    if file.delimiter is not None:
        _check_separator(file, file.delimiter)
    try:
        with in_its_encoding(file):
            return _parsed(file)
    except pa.ArrowInvalid as error:
        found = re.search(r"(?:Row #(\d+): )?Expected (\d+) columns, got (\d+)", str(error))
        if found is None:
            raise
        row, wanted, got = found.groups()  # without the row, which follows: it is not to be shown
        raise DataError(
            f"{file.name}: expected {wanted} columns, found {got} in {f'row {row}' if row else 'a row'}; put cells "
            "that hold what separates columns, or a line's end, into double quotes."
        ) from None


@contextmanager
def in_its_encoding(file: TextFile) -> Iterator[None]:
    """Where what is read inside fails and the file is in another encoding, raise DataError that says so."""
    try:
        yield
    except (pa.ArrowInvalid, UnicodeError) as error:
        found = _undecodable(file)
        if found is None:
            raise
        raise DataError(_in_words(file, *found)) from error


def _check_mark(file: TextFile) -> None:
    """Raise DataError where the file's beginning says that it is in another encoding."""
    found, wide = marked(file.head), file.encoding.startswith(("utf-16", "utf-32"))
    if found is None and wide and file.head and b"\0" not in file.head:
        raise DataError(f"{_expected(file)}, found none of its null bytes; {_say(file, 'utf-8')}.")
    if found is not None and not file.encoding.startswith(found[:6]):
        raise DataError(f"{_expected(file)}, found {found} by its first bytes; {_say(file, found)}.")


def _expected(file: TextFile) -> str:
    if file.delimiter is None:
        return f"{file.name}: expected text in {file.encoding}"
    return f"dataset.encoding: expected {file.name} in {file.encoding}"


def _say(file: TextFile, encoding: str) -> str:
    """What to do about a file in that encoding."""
    if file.delimiter is None:
        return f"save it as UTF-8, for example by `iconv -f {encoding} -t utf-8 {file.name}`"
    return f"say --dataset.encoding {encoding}"


def _check_separator(file: TextFile, wanted: str) -> None:
    """Raise DataError for a header with another separator."""
    text = codecs.getincrementaldecoder(file.encoding)("replace").decode(file.head)
    header = text.removeprefix("\ufeff").split("\n", 1)[0].strip("\r")
    other = next((each for each in _SEPARATORS if each in header), None)
    if wanted in header or other is None:
        return
    remedy = "call it .csv, and " if file.path.lower().endswith(".tsv") else ""
    remedy += f"say --dataset.delimiter {'tab' if other == chr(9) else repr(other)}"
    raise DataError(
        f"dataset.delimiter: expected columns of {file.name} separated by {_SEPARATORS.get(wanted, repr(wanted))}, "
        f"found {_SEPARATORS[other]} in line 1 ({printable(header[:100])}); {remedy}."
    )


def _undecodable(file: TextFile) -> tuple[int, int, bool] | None:
    """The first line, from 1, with bytes that are not in the encoding; where these stand; whether all before is ASCII.

    None if the whole file is in it.
    """
    decoder, line, place, plain = codecs.getincrementaldecoder(file.encoding)(), 1, 0, True
    with file.fs.open(file.path, "rb") as stream:
        while True:
            chunk, state = stream.read(1 << 16), decoder.getstate()
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeError:
                break
            line, plain = line + text.count("\n"), plain and text.isascii()
            place += len(chunk)
            if not chunk:
                return None
    decoder.setstate(state)
    for number in range(len(chunk)):
        try:
            text = decoder.decode(chunk[number : number + 1])
        except UnicodeError:
            return line, place + number, plain
        line, plain = line + text.count("\n"), plain and text.isascii()
    return line, place + len(chunk), plain  # it ends within a character


def _in_words(file: TextFile, line: int, place: int, plain: bool) -> str:
    said = f"{_expected(file)}, found other bytes in line {line}"
    with file.fs.open(file.path, "rb") as stream:
        stream.seek(max(0, place - 1000))
        sample = stream.read(1 << 16)
    guess = likely_encoding(sample[sample.rfind(b"\n", 0, min(place, 1000)) + 1 :])
    if (file.encoding == "utf-8" and not plain) or (guess and canonical(guess[0]) == file.encoding):
        return f"{said}, though others are in it; mend that line."
    if guess is None:
        return f"{said}; save it as UTF-8" + ("." if file.delimiter is None else ", or say --dataset.encoding.")
    encoding, word = guess
    return f"{said}, which read as {encoding} would be {printable(word[:20])!r}; {_say(file, encoding)}."


def _parsed(file: TextFile) -> pa.Table:
    import pyarrow.csv
    import pyarrow.json

    with file.fs.open(file.path, "rb") as stream:
        if file.delimiter is None:
            return pyarrow.json.read_json(stream, pyarrow.json.ReadOptions(block_size=16 << 20))
        reading = pyarrow.csv.ReadOptions(encoding="utf8" if file.encoding == "utf-8" else file.encoding)
        parsing = pyarrow.csv.ParseOptions(delimiter=file.delimiter, newlines_in_values=True)
        header = pyarrow.csv.open_csv(stream, reading, parsing).schema.names
    with file.fs.open(file.path, "rb") as stream:
        return pyarrow.csv.read_csv(
            stream,
            reading,
            parsing,
            pyarrow.csv.ConvertOptions(
                column_types={name: pa.string() for name in header}, strings_can_be_null=True, null_values=[""]
            ),
        )
