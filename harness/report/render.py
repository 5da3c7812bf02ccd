"""Write the page: one static folder that opens from disk, with a CSV beside each table."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from harness import benchmarks
from harness.errors import StoreError
from harness.report import terminal
from harness.report.leaderboard import Row, Table, tables
from harness.store import Store

COLUMNS = ("method", "backbone", "recipe", "config", "accuracy", "half_width_95", "interval", "episodes", "seeds", "badges", "fit_seconds", "runs")  # fmt: skip


def write(store: Store, target: Path, settings: Sequence[str] | None = None) -> Path:
    """Render every table of the database aside, then swap it in; an old report stays whole until then.

    Returns:
        The index page.

    Raises:
        StoreError: when the folder cannot be written.
    """
    found = tables(store, settings)
    aside = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        (aside / "index.html").write_text(_page(found))
        for table in found:
            _write_csv(aside / f"{_file_name(table)}.csv", table)
        _swap(aside, target)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise StoreError(
            f"The report could not be written to {target}: {error.strerror or error}. Choose another folder with --out."
        ) from error
    return target / "index.html"


def _page(found: Sequence[Table]) -> str:
    environment = Environment(
        loader=PackageLoader("harness.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=terminal.percent, duration=terminal.duration)
    about = {s.name: b for b in benchmarks.every() for s in b.settings()}
    return environment.get_template("index.html.j2").render(tables=found, about=about, file_name=_file_name)


def _write_csv(path: Path, table: Table) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(_record(row) for row in table.rows)


def _record(row: Row) -> tuple[object, ...]:
    return (
        row.method, row.backbone, row.recipe, row.config, row.mean, row.half_width, row.interval.kind, row.n_episodes,
        " ".join(map(str, row.seeds)), " ".join(row.badges), round(row.seconds["fit"], 1), " ".join(r.id for r in row.runs),
    )  # fmt: skip


def _file_name(table: Table) -> str:
    return "-".join(filter(None, (table.setting, table.note.replace(", ", "-").replace(" ", "-"))))


def _swap(new: Path, target: Path) -> None:
    if target.exists():
        old = target.with_name(f".{target.name}.{os.getpid()}.old")
        target.rename(old)
        new.rename(target)
        shutil.rmtree(old)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        new.rename(target)
