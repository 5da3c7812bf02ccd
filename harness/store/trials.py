"""Configurations tried on the validation classes: the board tells how many stand behind a row."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, delete, select

from harness.runs import RunSpec
from harness.runs.findings import Family, Trial, config_text, family_of
from harness.store.models import trial


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
    """Every trial, in the order of ids."""
    rows = connection.execute(select(trial).order_by(trial.c.id))
    return [
        Trial(
            RunSpec.from_json(json.loads(r.spec)), r.n_correct, r.n_query, r.seconds, r.traceback, r.finished
        )
        for r in rows
    ]


def read_tried(connection: Connection) -> dict[Family, set[str]]:
    """Family → the configurations that were tried in it."""
    found: dict[Family, set[str]] = {}
    columns = [trial.c[name] for name in Family._fields]
    for *names, config in connection.execute(select(*columns, trial.c.config)):
        found.setdefault(Family(*names), set()).add(config)
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
