"""How long earlier runs took, for plans."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from sqlalchemy import JSON, ColumnElement, Connection, Text, case, cast, func, select, type_coerce

from harness.runs.estimates import Past
from harness.runs.schema import PROVENANCE, find_problem
from harness.store.models import run
from harness.store.tombstones import is_shown


def read_durations(connection: Connection, methods: Collection[str]) -> list[Past]:
    """Seconds by stage and parameters of every done run of the named methods."""
    columns = run.c.method, run.c.backbone, run.c.benchmark, run.c.setting, run.c.n_episodes
    query = select(*columns, *_facts(connection)).where(
        run.c.status == "done", run.c.method.in_(sorted(methods)), is_shown(connection)
    )
    found: list[Past] = []
    for row in connection.execute(query):
        seconds, parameters = (
            json.loads(row.seconds or "null") or {},
            json.loads(row.parameters or "null") or 0,
        )
        told = {"seconds": seconds, "parameters": parameters}
        if not find_problem(PROVENANCE, told, "provenance") and type(row.n_episodes) is int:
            names = (row.method, row.backbone, row.benchmark, row.setting)
            found.append(Past(*names, row.n_episodes, seconds, parameters))
    return found


def _facts(connection: Connection) -> tuple[ColumnElement[str], ColumnElement[str]]:
    """Seconds and parameters as JSON texts; empty where a provenance is no JSON."""
    if connection.dialect.name == "sqlite":
        valid = case((func.json_valid(run.c.provenance) == 1, run.c.provenance), else_="{}")
        facts: ColumnElement[Any] = type_coerce(valid, JSON)
    else:
        facts = cast(run.c.provenance, JSON)
    return cast(facts["seconds"], Text).label("seconds"), cast(facts["parameters"], Text).label("parameters")
