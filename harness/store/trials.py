"""Configurations tried on the validation classes: the board tells how many stand behind a row."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, select

from harness.runs import RunSpec
from harness.store.models import trial


class Family(NamedTuple):
    """What is tuned together."""

    method: str
    benchmark: str
    backbone: str
    recipe: str


@dataclass(frozen=True)
class Trial:
    """One configuration tried.

    Attributes:
        spec: of the run that the configuration would make.
        n_correct, n_query: of the validation episodes together; both 0 when it failed.
        seconds: of its training.
        traceback: text of the failure, else empty.
        finished: when, UTC.
    """

    spec: RunSpec
    n_correct: int
    n_query: int
    seconds: int
    traceback: str
    finished: str

    @property
    def accuracy(self) -> float | None:
        """Mean accuracy in [0, 1] on the validation episodes; None when it failed."""
        return self.n_correct / self.n_query if self.n_query else None


def family_of(spec: RunSpec) -> Family:
    """The family of a run."""
    return Family(spec.method.name, spec.benchmark, spec.backbone, spec.recipe)


def config_text(spec: RunSpec) -> str:
    """Hyper-parameters as JSON; equal texts are equal configurations."""
    return json.dumps(spec.values(), sort_keys=True)


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
