"""Rows of the database by what they are; and another name for one that was scored under a wrong one."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from harness.errors import ConfigError
from harness.exchange.scoring import check_name
from harness.report.wanted import is_among
from harness.runs import RunResult, folders
from harness.runs.findings import StoredRun
from harness.store import Store
from harness.store.tombstones import Tombstone
from harness.system.folders import Places

_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


@dataclass(frozen=True)
class Asked:
    """Which rows are asked for; an empty filter lets everything pass.

    Attributes:
        methods, settings: names or globs.
        status: "done" or "failed".
        badges: each of them is there; those of a run, not what only a row of a table has (tuned, partial).
        backbones: names or globs.
        seeds: run seeds.
        older, newer: than so long, by the time at which the database first saw it.
    """

    methods: Sequence[str] = ()
    settings: Sequence[str] = ()
    status: str = ""
    badges: Sequence[str] = ()
    backbones: Sequence[str] = ()
    seeds: Sequence[int] = ()
    older: timedelta | None = None
    newer: timedelta | None = None


def chosen(runs: Iterable[StoredRun], asked: Asked, now: datetime | None = None) -> list[StoredRun]:
    """Those of some runs that are asked for."""
    moment = now or datetime.now(UTC)
    return [run for run in runs if _passes(run, asked, age_of(run, moment))]


def age_of(run: StoredRun, now: datetime) -> timedelta | None:
    """How long the database has known a run; None where the time is no time."""
    try:
        return now - datetime.fromisoformat(run.created)
    except (ValueError, TypeError):
        return None


def read_age(text: str) -> timedelta:
    """Read ``12h``, ``30d`` or ``2w``.

    >>> read_age("2w")
    datetime.timedelta(days=14)

    Raises:
        ConfigError: for anything else.
    """
    found = re.fullmatch(r"(\d{1,6})([hdw])", text)
    if not found:
        raise ConfigError(f"`{text}` is no age; write hours, days or weeks, like 12h, 30d or 2w.")
    return int(found[1]) * _UNITS[found[2]]


def row_as_json(run: StoredRun) -> dict[str, Any]:
    """A row as JSON types."""
    return {
        "id": run.id, "replicate": run.replicate, "status": run.status, "method": run.spec.method.name,
        "setting": run.spec.setting, "seed": run.spec.seed, "changed": run.spec.changed, "episodes": run.spec.n_episodes,
        "badges": list(run.badges), "created": run.created,
    }  # fmt: skip


def rename(store: Store, places: Places, prefix: str, name: str) -> RunResult:
    """Give predictions that were scored under a wrong name another one: a run of its own; the old one is deleted, not lost.

    A method's name is part of what its runs are, down to the checkpoint, so that runs made here keep it.

    Raises:
        ConfigError: when no run fits, it was not scored, or the name is taken or unreadable.
    """
    run = store.run(prefix)
    if not run.spec.is_scored:
        raise ConfigError(
            f"Run {run.id} was made by the method {run.spec.method.name}, and its name is part of what the run is: only "
            f"predictions stored by `fsbench score` can be renamed. To take it out of the tables, type `fsbench runs delete {run.id}`."
        )
    check_name(name)
    result = store.result(run.pk)
    renamed = replace(result, spec=replace(result.spec, method=replace(result.spec.method, name=name)))
    if store.has(renamed.spec.id):
        raise ConfigError(
            f"{name} has a result on {run.spec.setting} with seed {run.spec.seed} already (run {renamed.spec.id}). Choose "
            "another name."
        )
    folders.mark_collected(renamed.save(places.runs), places.db)
    store.ingest(
        renamed
    )  # killed before the next line, both are there: typed again, the old one can be deleted
    store.delete_run(run.id, reason=f"renamed to {name}, run {renamed.spec.id}")
    return renamed


def purge(store: Store, places: Places) -> list[Tombstone]:
    """Delete for good what was deleted: rows and their run folders, which would bring them back.

    The folders go first: killed in between, the same call goes on.

    Raises:
        StoreError: when the database cannot be written.
    """
    for entry in store.tombstones():
        header = folders.outcome(places.runs, entry.run_id)
        if header is not None and header.get("digest") == entry.replicate:
            shutil.rmtree(places.runs / entry.run_id, ignore_errors=True)
    return store.purge()


def _passes(run: StoredRun, asked: Asked, age: timedelta | None) -> bool:
    spec = run.spec
    names = (
        (asked.methods, spec.method.name),
        (asked.settings, spec.setting),
        (asked.backbones, spec.shown_backbone),
    )
    if not all(is_among(name, globs) for globs, name in names if globs):
        return False
    if asked.seeds and spec.seed not in asked.seeds:
        return False
    if asked.status and run.status != asked.status:
        return False
    if not set(asked.badges) <= set(run.badges):
        return False
    is_young = asked.older is not None and (age is None or age <= asked.older)
    is_old = asked.newer is not None and (age is None or age >= asked.newer)
    return not is_young and not is_old
