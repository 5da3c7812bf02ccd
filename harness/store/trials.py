"""Configurations tried on the validation classes: the board tells how many stand behind a row."""

from __future__ import annotations

import json
import logging
from typing import Any

from sqlalchemy import Connection, Row, delete, select

from harness.errors import RecordError, StoreError, visible
from harness.runs import RunSpec
from harness.runs.findings import Family, Trial, config_text, family_of
from harness.runs.schema import LARGEST_JSON, TRIAL, find_problem
from harness.store.models import trial
from harness.system.records import load_json

log = logging.getLogger("fsbench.store")


def keep_trial(connection: Connection, tried: Trial) -> None:
    """Store a trial; of two of one id the one that finished last stays, ties broken by the text."""
    row = _row(tried)
    kept = connection.execute(select(trial).where(trial.c.id == row["id"])).first()
    if kept is not None:
        if _order(kept._asdict()) >= _order(row):
            return
        connection.execute(delete(trial).where(trial.c.id == row["id"]))
    connection.execute(trial.insert().values(row))


def read_trials(connection: Connection) -> list[Trial]:
    """Every trial, in the order of ids; one that is not what tuning writes is named in a warning and left out."""
    found = []
    for row in connection.execute(select(trial).order_by(trial.c.id)):
        try:
            found.append(_read(row))
        except StoreError as error:
            log.warning("left out: trial %s: %s", visible(str(row.id))[:30], visible(str(error)))
    return found


def _read(row: Row[Any]) -> Trial:
    told = {name: row._mapping[name] for name in ("n_correct", "n_query", "seconds", "traceback", "finished")}
    if problem := find_problem(TRIAL, told, "trial"):
        raise RecordError(f"{problem}.")
    try:
        spec = RunSpec.from_json(load_json(row.spec, LARGEST_JSON))
    except (ValueError, TypeError) as error:
        raise RecordError(f"its specification cannot be read ({error}).") from error
    if spec.id != row.id or row.n_correct > row.n_query:
        raise RecordError("it contradicts itself.")
    return Trial(
        spec, row.n_correct, row.n_query, row.seconds, visible(row.traceback, lines=True), row.finished
    )


def read_tried(connection: Connection) -> dict[Family, set[str]]:
    """Family → the configurations that were tried in it."""
    found: dict[Family, set[str]] = {}
    columns = [trial.c[name] for name in Family._fields]
    for *names, config in connection.execute(select(*columns, trial.c.config)):
        if all(isinstance(value, str) for value in (*names, config)):
            found.setdefault(Family(*map(visible, names)), set()).add(config)
    return found


def _row(tried: Trial) -> dict[str, Any]:
    spec = tried.spec
    return {
        "id": spec.id,
        **family_of(spec)._asdict(),
        "setting": spec.setting,
        "config": config_text(spec),
        "spec": json.dumps(spec.to_json(), sort_keys=True),
        "n_correct": tried.n_correct,
        "n_query": tried.n_query,
        "seconds": tried.seconds,
        "traceback": tried.traceback,
        "finished": tried.finished,
    }


def _order(row: dict[str, Any]) -> tuple[str, str]:
    return row["finished"], json.dumps(row, sort_keys=True)
