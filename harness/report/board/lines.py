"""Which rows of several settings are one line: the same method, configured alike, each as its benchmark asks."""

from __future__ import annotations

from collections.abc import Sequence

from harness.runs import RunSpec
from harness.runs.request import usual

Line = dict[int, int]  # column → position in it


def lines(columns: Sequence[Sequence[RunSpec]]) -> list[Line]:
    """Arrange rows as lines over columns; no row is lost.

    Rows are one line when all but what a benchmark gives is equal (``RunSpec.line_key``). Where that would put two rows of
    one column on a line, its rows are told apart by everything that makes a row.

    Args:
        columns: for each setting a specification of each row, a row that counts before a failure of the same row.

    Returns:
        Lines in the order in which they first appear.
    """
    groups: dict[str, dict[str, Line]] = {}  # line key → row key → where
    for column, specs in enumerate(columns):
        for i, spec in enumerate(specs):
            known = usual(spec)
            same = groups.setdefault(spec.line_key(known.image_size, known.pipeline), {})
            same.setdefault(spec.row_key, {}).setdefault(column, i)
    found: list[Line] = []
    for rows in groups.values():
        whole: Line = {}
        for line in rows.values():
            whole |= line
        is_one = len(whole) == sum(map(len, rows.values()))
        found += [whole] if is_one else list(rows.values())
    return found
