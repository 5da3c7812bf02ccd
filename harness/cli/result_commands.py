"""What the commands that read results do: rows, pages and single runs, as JSON types and in print."""

from __future__ import annotations

import sys
import webbrowser
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.cli import tables
from harness.errors import ConfigError
from harness.report.board import joint
from harness.report.board.pairs import Pair
from harness.report.board.rows import Row
from harness.report.board.tables import Table
from harness.store import Store, StoredRun


def show_leaderboard(found: Sequence[Table]) -> None:
    """Print one table per setting."""
    for table in found:
        tables.leaderboard(table)
    if not found:
        sys.stdout.write("No runs yet. `fsbench run -m protonet -b glyphs-5w1s` makes one.\n")


def row_as_json(row: Row) -> dict[str, Any]:
    """A leaderboard row as JSON types; accuracies are fractions."""
    return {
        "setting": row.setting, "method": row.method, "backbone": row.backbone, "recipe": row.recipe,
        "config": row.config, "accuracy": row.mean, "half_width": row.half_width, "interval": row.interval.kind,
        "note": row.interval.note, "episodes": row.n_episodes, "seeds": list(row.seeds), "badges": list(row.badges),
        "seconds": row.seconds, "runs": [run.id for run in row.runs],
        **({"metric": row.metric, "metrics": dict(row.joint.means)} if row.joint else {}),
    }  # fmt: skip


def report(
    store: Store,
    target: Path,
    settings: Sequence[str] | None,
    form: str | None,
    port: int | None,
    is_opened: bool,
) -> None:
    """Write the pages, or print the tables in another form, or serve the pages on this machine."""
    from harness.report import render, serve

    def tell(address: str) -> None:
        sys.stdout.write(address + "\n")
        sys.stdout.flush()
        if is_opened:
            webbrowser.open(address)

    if form:
        sys.stdout.write(render.export(store, form, settings))
    elif port is not None:
        serve.serve(store, target, settings, port, tell)
    else:
        page = render.write(store, target, settings)
        tell(str(page))


def show(store: Store, run_id: str, by: str | None, as_json: bool) -> tuple[Any, bool, Callable[[Any], None]]:
    """One run whole, or by class: what to answer, in which form, and how to print it.

    Raises:
        ConfigError: when it can not be shown by that.
    """
    from harness.report.board import by_class

    if by is None:
        return run_as_json(store, run_id), as_json, lambda _: show_run(store, run_id)
    if by != "class":
        raise ConfigError(f"--by {by}: runs are shown by class, `fsbench show {run_id} --by class`.")
    lines = by_class.by_class(store, run_id)
    return by_class.as_json(lines), as_json, lambda _: tables.by_class(lines)


def as_records(found: Sequence[Any]) -> list[dict[str, Any]]:
    """Dataclasses as JSON types."""
    return [asdict(entry) for entry in found]


def pair_as_json(pair: Pair) -> dict[str, Any]:
    """A paired comparison as JSON types."""
    return {
        "setting": pair.setting,
        "a": pair.a.label,
        "b": pair.b.label,
        **asdict(pair.comparison),
        "sentence": pair.sentence,
        "overlap": pair.overlap._asdict() if pair.overlap else None,
    }


def run_as_json(store: Store, prefix: str) -> dict[str, Any]:
    """A stored run as JSON types."""
    found = store.run(prefix)
    return {
        "id": found.id, "status": found.status, "replicates": list(found.replicates), "created": found.created,
        "badges": list(found.badges), "rechecks": [check._asdict() for check in found.rechecks],
        "spec": found.spec.to_json(), "provenance": {k: v for k, v in found.provenance.items() if k != "thumbnails"}, "curves": [dict(p) for p in found.curves],
        "traceback": found.traceback, "accuracy": _accuracy(store, found.pk, found.metrics),
        "class_means": _class_means(store, found),
    }  # fmt: skip


def show_run(store: Store, prefix: str) -> None:
    """Print all that is known of one run."""
    found = store.run(prefix)
    tables.run_details(found, _accuracy(store, found.pk, found.metrics), _class_means(store, found))


def _class_means(store: Store, run: StoredRun) -> dict[str, float]:
    """Means over classes of the joint protocol's metrics; empty where there are none."""
    table = joint.class_table(store, run) if joint.is_joint(run) else None
    return {name: float(values.mean()) for name, values in (table or {}).items()}


def _accuracy(store: Store, pk: int, metrics: Sequence[str]) -> dict[str, float]:
    pairs = {name: store.counts(pk, name) for name in metrics}
    return {name: float((correct / asked).mean()) for name, (correct, asked) in pairs.items()}
