"""How long earlier runs took, for plans."""

from __future__ import annotations

import json
from collections.abc import Collection

from sqlalchemy import JSON, ColumnElement, Connection, Text, cast, select, type_coerce

from harness.runs.estimates import Past
from harness.store.models import run


def read_durations(connection: Connection, methods: Collection[str]) -> list[Past]:
    """Seconds by stage and parameters of every done run of the named methods."""
    is_sqlite = connection.dialect.name == "sqlite"
    facts = type_coerce(run.c.provenance, JSON) if is_sqlite else cast(run.c.provenance, JSON)

    def fact(name: str) -> ColumnElement[str]:
        return cast(facts[name], Text).label(name)

    columns = run.c.method, run.c.backbone, run.c.benchmark, run.c.setting, run.c.n_episodes
    query = select(*columns, fact("seconds"), fact("parameters")).where(
        run.c.status == "done", run.c.method.in_(sorted(methods))
    )
    return [
        Past(
            method=row.method,
            backbone=row.backbone,
            benchmark=row.benchmark,
            setting=row.setting,
            n_episodes=row.n_episodes,
            seconds=json.loads(row.seconds or "null") or {},
            parameters=json.loads(row.parameters or "null") or 0,
        )
        for row in connection.execute(query)
    ]
