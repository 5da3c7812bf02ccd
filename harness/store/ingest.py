"""Put one result into the database, so that the order and the number of times results arrive do not matter.

What is stored for a run id is the union of its done results, one row per digest. A failure is kept only while
there is no done result. Where one digest arrives twice, everything beside the counts (provenance, curves, predictions, …)
is taken from what was made here, if any was; among equals from the one that finished last, ties broken by the text, so that
any two databases merge to the same. What somebody reports never changes what is said of a run made here.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from sqlalchemy import Connection, delete, select, update

from harness.errors import RecordError, visible
from harness.runs import REPORTED_BY, SELF_REPORTED, THUMBNAILS, RunResult
from harness.runs.agreement import find_problems
from harness.store import models
from harness.store.lists import keep_list
from harness.store.models import IntArray, insert_columns, insert_row, spec_columns
from harness.store.shared import DAMAGED, drop_pictures, keep_about, keep_pictures, read_about
from harness.store.tombstones import drop_rows
from harness.system.secrets import all_without_credentials, without_credentials

ABOUT = "about"  # of a provenance
_APART = (SELF_REPORTED, THUMBNAILS)  # of a provenance: they have a column and tables of their own
Outcome = Literal["new", "known", "replicate", "replaced"]


def ingest_result(connection: Connection, result: RunResult, created: str) -> Outcome:
    """Store a result inside the caller's transaction.

    Args:
        connection: of a writing transaction.
        result: what to store.
        created: UTC time at which a database first saw it; the earlier one is kept.

    Returns:
        "new" for the first result of its id, "known" when it adds no counts, "replicate" beside another result
        of the same id, "replaced" when it takes the place of a failure.

    Raises:
        StoreError: when it contradicts itself or the stored episode list.
    """
    result = replace(result, traceback=visible(result.traceback, lines=True))
    refuse_inconsistent(result)
    run = models.run
    query = select(run.c.pk, run.c.replicate, run.c.status).where(run.c.id == result.spec.id)
    kept = {row.replicate: row for row in connection.execute(query)}
    is_done = any(row.status == "done" for row in kept.values())
    if result.status == "failed" and is_done:
        return "known"
    if result.episodes is not None:
        keep_list(connection, result.spec, result.episodes)
    if result.digest in kept:
        _renew(connection, kept[result.digest].pk, result, created)
        return "known"
    if kept and not is_done:  # failures alone
        drop_rows(connection, [row.pk for row in kept.values()])
    _insert(connection, result, created)
    if is_done:
        return "replicate"
    return "replaced" if kept else "new"


def refuse_inconsistent(result: RunResult) -> None:
    """Check that a result says what its spec promises.

    Raises:
        RecordError: naming everything that does not fit.
    """
    spec, problems = result.spec, find_problems(result)
    if problems:
        raise RecordError(
            f"Run {spec.id} ({spec.method.name} on {spec.setting}, {spec.n_episodes} episodes) was not stored: "
            f"{'; '.join(problems)}. Delete runs/{spec.id} and run again."
        )


def _insert(connection: Connection, result: RunResult, created: str) -> None:
    row = {
        **spec_columns(result.spec),
        "replicate": result.digest,
        "status": result.status,
        "created": created,
        "self_reported": _self_reported(result),
    }
    columns, about = _apart(_beside_counts(result))
    pk = insert_row(connection, models.run, {**row, **columns})
    keep_about(connection, pk, about)
    for name, counts in sorted(result.counts.items()):
        metric_pk = _metric_pk(connection, name)
        n = len(counts.n_correct)
        cells = (range(n), counts.n_correct.tolist(), counts.n_query.tolist())
        insert_columns(connection, models.result, [pk] * n, [metric_pk] * n, *cells)
        _keep_predictions(connection, pk, metric_pk, result, name)
    keep_pictures(connection, pk, result.provenance.get(THUMBNAILS, {}))


def _self_reported(result: RunResult) -> int:
    return int(bool(result.provenance.get(SELF_REPORTED)))


def _beside_counts(result: RunResult) -> dict[str, str]:
    """Columns that may differ between two results of the same digest; who reported it has a column of its own."""
    return {
        "finished": str(result.provenance.get("finished", "")),
        "provenance": _json(
            all_without_credentials({k: v for k, v in result.provenance.items() if k not in _APART})
        ),
        "spec": _json(result.spec.to_json()),
        "curves": _json([dict(point) for point in result.curves]),
        "traceback": without_credentials(result.traceback),
    }


def _apart(said: dict[str, str]) -> tuple[dict[str, str], str]:
    """Columns of `run`, and what the method says of itself, which has a table of its own."""
    told = json.loads(said["provenance"])
    about = told.pop(ABOUT, None)
    return {**said, "provenance": _json(told)}, "" if about is None else _json(about)


def _together(said: dict[str, str], about: str) -> dict[str, str]:
    """The inverse of ``_apart``."""
    told = json.loads(said["provenance"])
    return {**said, "provenance": _json({**told, ABOUT: json.loads(about)})} if about else said


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _renew(connection: Connection, pk: int, result: RunResult, created: str) -> None:
    """Join a result of a known digest with what is stored; writes only what changes."""
    run, mine = models.run, _beside_counts(result)
    columns = [run.c[name] for name in mine]
    query = select(*columns, run.c.created, run.c.self_reported).where(run.c.pk == pk)
    kept = connection.execute(query).one()._asdict()
    first_seen, was_reported = kept.pop("created"), bool(kept.pop("self_reported"))
    about = read_about(connection, pk).get(pk, "")
    kept = _together(kept, _apart(mine)[1] if about == DAMAGED else about)
    change = update(run).where(run.c.pk == pk)
    if created < first_seen:
        connection.execute(change.values(created=created))
    is_reported = bool(_self_reported(result))
    if is_reported and not was_reported:
        return  # what was made here is not changed by what somebody says of it
    if was_reported and not is_reported:  # somebody made it with this harness, after all
        _say(connection, pk, mine)
        connection.execute(change.values(self_reported=0))
        connection.execute(delete(models.prediction).where(models.prediction.c.run_pk == pk))
        drop_pictures(connection, pk)
    else:
        newest = max(kept, mine, key=_rank)
        if newest != kept or about == DAMAGED:
            _say(connection, pk, newest)
    for name in result.counts:
        _keep_predictions(connection, pk, _metric_pk(connection, name), result, name)
    keep_pictures(connection, pk, result.provenance.get(THUMBNAILS, {}))


def _say(connection: Connection, pk: int, said: dict[str, str]) -> None:
    columns, about = _apart(said)
    connection.execute(update(models.run).where(models.run.c.pk == pk).values(columns))
    keep_about(connection, pk, about)


def _rank(row: dict[str, str]) -> tuple[str, ...]:
    """Order of what is said beside the counts: who finished last, then the text; who reported it only at the very end."""
    said = json.loads(row["provenance"])
    origin = str(said.pop(REPORTED_BY, ""))
    return row["finished"], _json(said), row["spec"], row["curves"], row["traceback"], origin


def _keep_predictions(connection: Connection, pk: int, metric_pk: int, result: RunResult, name: str) -> None:
    """Store the predictions; of two that give the same counts, the larger in byte order stays."""
    predictions = result.counts[name].predictions
    if predictions is None:
        return
    table = models.prediction
    here = (table.c.run_pk == pk) & (table.c.metric_pk == metric_pk)
    labels: IntArray = predictions.astype(np.uint8 if result.spec.n_way <= 256 else np.uint16)
    stored: IntArray | None = connection.scalar(select(table.c.labels).where(here))
    if stored is None:
        row = {"run_pk": pk, "metric_pk": metric_pk, "labels": labels}
        connection.execute(table.insert().values(row))
    elif _order(labels) > _order(stored):
        connection.execute(update(table).where(here).values(labels=labels))


def _order(labels: IntArray) -> tuple[tuple[int, ...], bytes]:
    return labels.shape, labels.tobytes()


def _metric_pk(connection: Connection, name: str) -> int:
    table = models.metric
    pk = connection.scalar(select(table.c.pk).where(table.c.name == name))
    if pk is None:
        return insert_row(connection, table, {"name": name})
    return int(pk)
