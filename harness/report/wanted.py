"""Which rows of a table are to be shown; apart, so that a command that remembers its answer need not load the tables."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from harness.report.board.rows import Row


class Wanted(NamedTuple):
    """Which rows of a table are to be shown; an empty filter lets everything pass.

    Attributes:
        methods, backbones: names or globs.
        badges: each of them is there, or is a mark of the row.
        seeds: one of them is among the row's.
    """

    methods: Sequence[str] = ()
    backbones: Sequence[str] = ()
    badges: Sequence[str] = ()
    seeds: Sequence[int] = ()

    def __bool__(self) -> bool:
        return any(self)

    def has(self, row: Row) -> bool:
        """Whether a row is among them."""
        return (
            (not self.methods or is_called(row, self.methods))
            and (not self.backbones or is_among(row.backbone, self.backbones))
            and set(self.badges) <= {*row.badges, *row.marks}
            and (not self.seeds or bool({run.spec.seed for run in row.runs} & set(self.seeds)))
        )


def is_called(row: Row, patterns: Sequence[str]) -> bool:
    """Whether a name, a glob, or a head with its features such as ``tim[softmax]`` and ``*[softmax]``, means a row."""
    globs = [p.replace("[", "[[]") if p.endswith("]") else p for p in patterns]
    return any(is_among(name, globs) for name in (row.method, row.called, row.spec.whole_name))


def is_among(name: str, globs: Sequence[str]) -> bool:
    """Whether a name is one of some names or globs."""
    return any(fnmatchcase(name, glob) for glob in globs)
