"""Bring the results of one database into another; in whatever order this is done, the same content comes out.

Another database is somebody's word: every result of it is stored as self-reported from that database, whatever it says of
its own origin, and its rechecks stay there. What was made here stays so.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from sqlalchemy import Connection, Engine, select

from harness.errors import RecordError
from harness.runs import REPORTED_BY, SELF_REPORTED, RunResult
from harness.runs.agreement import differs_from_ours
from harness.store.connection import name_of, read_transaction
from harness.store.hardness import every_hardness, keep_hardness
from harness.store.ingest import Outcome, ingest_result
from harness.store.models import run
from harness.store.reading import read_result
from harness.store.tombstones import is_shown
from harness.store.trials import keep_trial, read_trials


def merge_all(source: Engine, target: Connection, origin: str) -> Counter[Outcome]:
    """Store every result of ``source`` inside the caller's transaction.

    Merging is commutative, associative and idempotent, because storing one result is. The source is read one run
    at a time, so that two databases can be merged into each other at once without waiting for one another.

    Args:
        source: the other database.
        target: of a writing transaction.
        origin: what to call the other database.

    Returns:
        How many results had which outcome.

    Raises:
        StoreError: when a record is not what it should be, the counts of a replicate are not those of its digest, or two
            episode lists contradict.
    """
    outcomes: Counter[Outcome] = Counter()
    with read_transaction(source) as connection:
        run_ids = connection.scalars(
            select(run.c.id).where(is_shown(connection)).distinct().order_by(run.c.id)
        ).all()
    for run_id in run_ids:
        with read_transaction(source) as connection:
            results = _results_of(connection, run_id)
        for result, created in results:
            told = {**result.provenance, SELF_REPORTED: True, REPORTED_BY: origin}
            outcomes[ingest_result(target, replace(result, provenance=told), created)] += 1
    with read_transaction(source) as connection:
        trials, measured = read_trials(connection), every_hardness(connection)
    for trial in trials:
        keep_trial(target, trial)
    for entry in measured:
        keep_hardness(target, entry)
    return outcomes


def _results_of(connection: Connection, run_id: str) -> list[tuple[RunResult, str]]:
    """The replicates of a run, each with the time at which it was first stored."""
    query = select(run.c.pk, run.c.replicate, run.c.created).where(run.c.id == run_id, is_shown(connection))
    results = []
    for row in connection.execute(query.order_by(run.c.replicate)).all():
        result = read_result(connection, row.pk)
        where = name_of(connection.engine)
        if result.digest != row.replicate:
            raise RecordError(
                f"Run {run_id} of {where} does not have the counts that its digest "
                f"{row.replicate[:12]}… promises: that database was edited or damaged. Nothing was merged. Merge "
                "from an intact copy, or collect its run folders instead."
            )
        problem = differs_from_ours(result)
        if problem or result.spec.id != run_id:
            raise RecordError(
                f"Run {run_id} of {where} is not what it says: {problem or f'its specification is {result.spec.id}'}. "
                "Nothing was merged. Merge from an intact copy, or collect its run folders instead."
            )
        results.append((result, row.created))
    return results
