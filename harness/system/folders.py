"""Where things live: results in a home, prepared images in DATA, checkpoints and features in CACHE."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Places:
    """The folders of one invocation; nothing is created here.

    Attributes:
        home: holds ``results.db``, ``runs/`` and ``reports/``.
        data: prepared datasets.
        cache: checkpoints by fit key, feature tables.
        db: location of the database, a path or a SQLAlchemy URL.
    """

    home: Path
    data: Path
    cache: Path
    db: str = field(repr=False)  # it may hold a password

    @property
    def runs(self) -> Path:
        """Run folders."""
        return self.home / "runs"

    @property
    def reports(self) -> Path:
        """The generated site."""
        return self.home / "reports"

    @property
    def has_database(self) -> bool:
        """Whether there may be a database: a file that is there, or an address."""
        return "://" in self.db or Path(self.db).exists()


def places(home: Path | None = None, db: str | None = None) -> Places:
    """Resolve ``--home`` / FSBENCH_HOME (default: the current directory), FSBENCH_DATA and FSBENCH_CACHE."""
    chosen = home or Path(os.environ.get("FSBENCH_HOME", "."))
    data = os.environ.get("FSBENCH_DATA") or _xdg("XDG_DATA_HOME", ".local/share")
    cache = os.environ.get("FSBENCH_CACHE") or _xdg("XDG_CACHE_HOME", ".cache")
    return Places(chosen, Path(data), Path(cache), db or str(chosen / "results.db"))


def benchmarks_folder() -> Path:
    """Where settings and splits are: ``benchmarks/`` of the checkout, or FSBENCH_BENCHMARKS (for rehearsals)."""
    return Path(os.environ.get("FSBENCH_BENCHMARKS") or Path(__file__).resolve().parents[2] / "benchmarks")


def is_rehearsal() -> bool:
    """Whether the splits are a rehearsal's, for made-up images: a file called ``rehearsal`` lies beside them.

    Then every digest of images has ``-rehearsal-`` in it, so that no row can be taken for a result.
    """
    return (benchmarks_folder() / "rehearsal").exists()


def _xdg(variable: str, default: str) -> Path:
    return Path(os.environ.get(variable) or Path.home() / default) / "fsbench"
