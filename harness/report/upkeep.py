"""A folder kept up to date with a database: nothing is read while neither the database nor anything that makes pages changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.report import site
from harness.report.remembered import remembered
from harness.store import Store
from harness.system.folders import Places
from harness.system.progress import Progress


def keep(
    places: Places, store: Store, target: Path, settings: Sequence[str] | None, *, with_host: bool = False,
    shown: Progress | None = None,
) -> Path:  # fmt: skip
    """Bring a report up to date as ``render.write`` does, and give its index page.

    Args:
        places: of the database, and of the cache that remembers what was made.
        store: the database.
        target, settings, with_host, shown: as of ``render.write``.
    """

    def write() -> str:
        from harness.report import render

        render.write(store, target, settings, with_host=with_host, shown=shown)
        return site.made_fingerprint(target)

    asked = ["report", str(target.resolve()), repr(settings), str(with_host)]
    if not site.is_current(target, remembered(places, asked, write)):
        write()  # it was there, and somebody touched it
    return target / "index.html"
