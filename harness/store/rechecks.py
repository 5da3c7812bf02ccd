"""Episodes of a stored run counted again: who looked, at how many, and how many differed."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Select, and_, func, inspect, literal, select

from harness.errors import StoreError
from harness.runs.findings import Recheck
from harness.runs.schema import RECHECK, find_problem
from harness.store.models import recheck, recheck_prediction, run

_OWN = [column.name for column in recheck.c if column.name != "run_pk"]
_SHARED = ("run_pk", "checked", "device", "seed", "n_episodes")


def read_rechecks(connection: Connection, run_pk: int) -> tuple[Recheck, ...]:
    """The rechecks of a run, the newest last."""
    rows = connection.execute(_every(connection).where(recheck.c.run_pk == run_pk))
    return tuple(Recheck(*row[1:]) for row in rows if _is_one(Recheck(*row[1:])))


def every_recheck(connection: Connection) -> dict[int, tuple[Recheck, ...]]:
    """Key of a run → its rechecks, the newest last; runs without any are left out."""
    found: dict[int, tuple[Recheck, ...]] = {}
    for run_pk, *values in connection.execute(_every(connection)):
        if _is_one(Recheck(*values)):
            found[run_pk] = (*found.get(run_pk, ()), Recheck(*values))
    return found


def _every(connection: Connection) -> Select[Any]:
    """Rows of run and recheck, the newest last; predictions of those that compared some."""
    columns = [recheck.c[name] for name in _OWN]
    if not _has_predictions(connection):
        query = select(recheck.c.run_pk, *columns, literal(0), literal(0))
    else:
        numbers = (func.coalesce(recheck_prediction.c[name], 0) for name in ("n_predictions", "n_other"))
        same = and_(*(recheck_prediction.c[name] == recheck.c[name] for name in _SHARED))
        query = select(recheck.c.run_pk, *columns, *numbers).outerjoin_from(recheck, recheck_prediction, same)
    return query.order_by(*columns)


def _has_predictions(connection: Connection) -> bool:
    return recheck_prediction.name in inspect(connection).get_table_names()


def _is_one(check: Recheck) -> bool:
    """Whether a row is what a recheck writes; another is left out, since it may come from an edited database."""
    return not find_problem(RECHECK, check._asdict(), "recheck")


def keep_recheck(connection: Connection, run_id: str, replicate: str, check: Recheck) -> None:
    """Add a recheck to a stored result, once.

    Raises:
        StoreError: when there is no such result.
    """
    pk = connection.scalar(select(run.c.pk).where(run.c.id == run_id, run.c.replicate == replicate))
    if pk is None:
        raise StoreError(
            f"Run {run_id} with the counts {replicate[:12]}… is not stored, so it has no rechecks."
        )
    if check not in read_rechecks(connection, pk):
        row = {"run_pk": pk, **check._asdict()}
        connection.execute(recheck.insert().values({name: row[name] for name in ("run_pk", *_OWN)}))
        if check.n_predictions:
            recheck_prediction.create(connection, checkfirst=True)
            names = [column.name for column in recheck_prediction.c]
            connection.execute(recheck_prediction.insert().values({name: row[name] for name in names}))
