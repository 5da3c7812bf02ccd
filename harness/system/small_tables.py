"""Small tables that people make: splits, lists, scores, out of editors and spreadsheets of any kind.

Read are UTF-8 and UTF-16 with or without a byte order mark; cells parted by commas, semicolons, tabs or bars; quoted
cells, spaces around cells, any end of line, empty rows and empty cells at the end of rows.
"""

from __future__ import annotations

import codecs
import csv
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from harness.errors import ConfigError, DataError

_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_OTHERS = {b"PK\x03\x04": "a zip or a spreadsheet (.xlsx, .ods)", b"\xd0\xcf\x11\xe0": "an old spreadsheet (.xls)",
           b"%PDF": "a PDF", b"\x1f\x8b": "compressed (.gz)"}  # fmt: skip
_DELIMITERS = ",;\t|"
_MOST_BYTES = 256 << 20


class Table(NamedTuple):
    """A table with named columns.

    Attributes:
        columns: the names that were asked for and are there.
        rows: number of the line (from 1), and the cells of those columns.
    """

    columns: tuple[str, ...]
    rows: list[tuple[int, tuple[str, ...]]]


def text(path: Path) -> str:
    """Read a text file of a person.

    Raises:
        ConfigError: when it is not there.
        DataError: when it is too large, or neither UTF-8 nor UTF-16; says how to save it.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise DataError(f"{path} has {path.stat().st_size / 1e6:,.0f} MB; a table has at most 256.")
        content = path.read_bytes()
        if kind := next((kind for magic, kind in _OTHERS.items() if content.startswith(magic)), ""):
            raise DataError(f"{path} is {kind}, not a table of text. Save it as `CSV UTF-8`.")
        return decoded(content)
    except FileNotFoundError as error:
        raise ConfigError(f"There is no file {path}.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is neither UTF-8 nor UTF-16: it has the byte 0x{error.object[error.start]:02x} at {error.start:,}. "
            "Save it as UTF-8 (in a spreadsheet: `CSV UTF-8`)."
        ) from error


def decoded(content: bytes) -> str:
    r"""Text of UTF-8 or UTF-16, composed (NFC), with ``\n`` at the ends of lines.

    >>> decoded("é;1\r\n".encode("utf-16"))
    'é;1\n'
    """
    coding = next((c for mark, c in _MARKS.items() if content.startswith(mark)), "")
    if not coding and b"\0" in content[:64]:
        coding = "utf-16-le" if content[1:2] == b"\0" else "utf-16-be"
    found = unicodedata.normalize("NFC", content.decode(coding or "utf-8"))
    return found.replace("\r\n", "\n").replace("\r", "\n")


def cells(content: str) -> list[tuple[int, list[str]]]:
    r"""Number (from 1) and cells of each line that has any.

    >>> cells("a; b;\n;;\n\n1;2;\n")
    [(1, ['a', 'b']), (4, ['1', '2'])]
    """
    lines = [line for line in content.split("\n") if line.strip()]
    most = max(_DELIMITERS, key=lambda mark: lines[0].count(mark) if lines else 0)
    found = []
    reader = csv.reader(content.split("\n"), delimiter=most, skipinitialspace=True)
    try:
        for row in reader:
            stripped = [cell.strip() for cell in row]
            while stripped and not stripped[-1]:
                stripped.pop()
            if stripped:
                found.append((reader.line_num, stripped))
    except csv.Error as error:
        raise DataError(f"line {reader.line_num} cannot be taken apart: {error}.") from error
    return found


def read(path: Path, required: Mapping[str, Sequence[str]], optional: Mapping[str, Sequence[str]]) -> Table:
    """Read a table by the names of its columns, in any order and in capitals or not.

    Args:
        path: the file.
        required: columns that must be there: name → other words for it.
        optional: columns that may be.

    Raises:
        DataError: as ``text``, or when the table is empty, a column is missing or named twice, or a row lacks a cell.
    """
    content = text(path)
    try:
        rows = cells(content)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    return named(rows, str(path), required, optional)


def named(
    numbered: Sequence[tuple[int, list[str]]],
    path: str,
    required: Mapping[str, Sequence[str]],
    optional: Mapping[str, Sequence[str]],
) -> Table:
    """Find columns by the names in the first row; as ``read``, of rows that are there already.

    Raises:
        DataError: when the table is empty, a column is missing or named twice, or a row lacks a cell.
    """
    (_, header), *rows = numbered or [(0, [])]
    places = {name: _places(header, name, words) for name, words in {**required, **optional}.items()}
    lacking = [name for name in required if not places[name]]
    twice = [name for name, found in places.items() if len(found) > 1]
    if lacking or twice:
        problem = (
            f"no column {' and no column '.join(lacking)}"
            if lacking
            else f"two columns for {', '.join(twice)}"
        )
        raise DataError(
            f"{path} has {problem}; its first line is `{' | '.join(header) or '(empty)'}`. Expected: "
            f"{', '.join(required)}{f', and perhaps {chr(44).join(optional)}' if optional else ''}."
        )
    columns = {name: found[0] for name, found in places.items() if found}
    short = [
        number
        for number, row in rows
        if not all(row[i : i + 1] != [""] and i < len(row) for i in columns.values())
    ]
    if short:
        raise DataError(
            f"{path}: {len(short)} rows lack a cell of {', '.join(columns)}; the first is line {short[0]}."
        )
    return Table(tuple(columns), [(number, tuple(row[i] for i in columns.values())) for number, row in rows])


def _places(header: Sequence[str], name: str, words: Sequence[str]) -> list[int]:
    known = {name, *words}
    return [i for i, cell in enumerate(header) if cell.lower().replace(" ", "_") in known]
