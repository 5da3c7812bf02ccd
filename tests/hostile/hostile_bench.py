"""A bench for hostile input: a data home of its own, commands typed in this process, and what they left behind."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

import fsbench
from harness import benchmarks
from harness.errors import FsbenchError


class Bench:
    """Types commands in a home of its own."""

    def __init__(self, root: Path) -> None:
        self.root, self.data = root, root / "data"

    def type(self, *words: str) -> tuple[int, str]:
        """Exit code and what was said; an exception that is none of ours is a bug and is raised."""
        environment = {
            "FSBENCH_DATA": str(self.data),
            "FSBENCH_CACHE": str(self.root / "cache"),
            "COLUMNS": "300",
        }
        forget()
        typed = CliRunner(env=environment).invoke(fsbench.app, ["--home", str(self.root), *words])
        if isinstance(typed.exception, FsbenchError):
            return typed.exception.exit_code, f"{typed.output}{typed.exception}"
        if typed.exception is not None and not isinstance(typed.exception, SystemExit):
            raise typed.exception
        return typed.exit_code, typed.output

    def left(self) -> set[str]:
        """Everything below the data home but locks and empty folders."""
        return {
            str(p.relative_to(self.data)) for p in self.data.rglob("*") if p.is_file() and p.suffix != ".lock"
        }


def forget() -> None:
    """Drop what was read of benchmarks: another data home may have others."""
    benchmarks.every.cache_clear()
    benchmarks.locked_digests.cache_clear()
