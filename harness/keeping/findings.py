"""What `fsbench fsck` finds: what it is, what is wrong with it, and how to make it again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Level = Literal["rotten", "left over", "note"]
Kind = Literal[
    "database", "row", "list", "lock", "run folder", "checkpoint", "feature table", "jobs", "unfinished run", "temporary", "swap", "secret"
]  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it was written.

    Attributes:
        level: "rotten" is not what was written; "left over" belongs to nothing any more; a "note" is no fault.
        kind: what it is.
        name: which one.
        problem: what is wrong with it.
        again: how to make it again: a command that works, or what happens by itself.
        path: the file or folder to move aside; None where there is none.
        root: the home or the cache that it lies in.
        key: of the row or the list in the database.
    """

    level: Level
    kind: Kind
    name: str
    problem: str
    again: str = ""
    path: Path | None = None
    root: Path | None = None
    key: int | str | None = None

    def as_json(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "level": self.level, "kind": self.kind, "name": self.name, "problem": self.problem, "again": self.again,
            "path": str(self.path) if self.path else "",
        }  # fmt: skip
