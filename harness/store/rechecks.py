"""Episodes of a stored run counted again: who looked, at how many, and how many differed."""

from __future__ import annotations

from sqlalchemy import Connection, select

from harness.errors import StoreError
from harness.runs.findings import Recheck
from harness.runs.schema import RECHECK, find_problem
from harness.store.models import recheck, run


def read_rechecks(connection: Connection, run_pk: int) -> tuple[Recheck, ...]:
    """The rechecks of a run, the newest last."""
    columns = [recheck.c[name] for name in Recheck._fields]
    rows = connection.execute(select(*columns).where(recheck.c.run_pk == run_pk).order_by(*columns))
    return tuple(Recheck(*row) for row in rows if _is_one(Recheck(*row)))


def every_recheck(connection: Connection) -> dict[int, tuple[Recheck, ...]]:
    """Key of a run → its rechecks, the newest last; runs without any are left out."""
    columns = [recheck.c[name] for name in Recheck._fields]
    found: dict[int, tuple[Recheck, ...]] = {}
    for run_pk, *values in connection.execute(select(recheck.c.run_pk, *columns).order_by(*columns)):
        if _is_one(Recheck(*values)):
            found[run_pk] = (*found.get(run_pk, ()), Recheck(*values))
    return found


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
        connection.execute(recheck.insert().values(run_pk=pk, **check._asdict()))
