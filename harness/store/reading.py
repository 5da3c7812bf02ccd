"""What the database answers, as arrays and frames; every function takes the connection of a reading transaction."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Double,
    Row,
    Select,
    Text,
    bindparam,
    cast,
    func,
    select,
    tuple_,
)

from harness.errors import ConfigError, RecordError, StoreError, nearest, visible
from harness.runs import SELF_REPORTED, THUMBNAILS, Counts, EpisodeTable, RunResult, RunSpec
from harness.runs.findings import Recheck, StoredRun
from harness.runs.schema import CURVES, LARGEST_JSON, PROVENANCE, find_problem
from harness.store.lists import read_list
from harness.store.models import episode_accuracy, episode_list, metric, prediction, result, run
from harness.store.rechecks import every_recheck, read_rechecks
from harness.store.shared import picture_digests, read_about, read_pictures
from harness.store.tombstones import is_deleted, is_shown, read_tombstones
from harness.system.records import load_json
from harness.system.text import all_visible

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("fsbench.store")
LONG_TEXTS = ("spec", "provenance", "curves", "traceback")
Int64 = npt.NDArray[np.int64]
Lists = dict[str, EpisodeTable | None]
_FIRST_SEEN = (run.c.id, run.c.self_reported, run.c.created, run.c.replicate)  # made here before reported
# As one text a column: numbers that come as rows take Python twice the time, and a leaderboard reads many.
_COUNTS = (
    select(*(func.aggregate_strings(cast(result.c[name], Text), ",") for name in ("episode", "n_correct", "n_query")))
    .join(metric)
    .where(result.c.run_pk == bindparam("run_pk"), metric.c.name == bindparam("metric"))
)  # fmt: skip


def runs_frame(connection: Connection, metrics: Sequence[str], filters: Mapping[str, Any]) -> pd.DataFrame:
    """One row per run and replicate: keys, columns of the spec, and the mean accuracy of each metric.

    Raises:
        StoreError: when a filter is not a column.
    """
    columns = [column for column in run.c if column.name not in LONG_TEXTS]
    query = _chosen(select(*columns, *(_mean_accuracy(name) for name in metrics)), filters)
    query = query.where(is_shown(connection))
    names = [column.name for column in columns]
    kinds = [str if isinstance(column.type, Text) else int for column in columns]
    rows = [
        row
        for row in connection.execute(query).all()
        if all(
            isinstance(value, kind) for value, kind in zip(row, kinds, strict=False)
        )  # metrics come after them
    ]
    return _frame(rows, [*names, *metrics], metrics)


def run_column(connection: Connection, name: str, filters: Mapping[str, Any]) -> list[Any]:
    """One column of ``runs_frame``, without the frame.

    Raises:
        StoreError: when a filter is not a column.
    """
    return list(connection.scalars(_chosen(select(run.c[name]), filters).where(is_shown(connection))))


def stored_runs(
    connection: Connection, filters: Mapping[str, Any], *, deleted: bool = False
) -> list[StoredRun]:
    """Every run and replicate that passes the filters, in the order of ``runs_frame``, in a handful of queries.

    Those that were deleted are left out, or with ``deleted`` given alone.

    A row that is not what a run writes is named in a warning and left out.

    Raises:
        StoreError: when a filter is not a column.
    """
    replicates: dict[str, tuple[str, ...]] = {}
    asked = is_deleted(connection) if deleted else is_shown(connection)
    ordered = select(run.c.id, run.c.replicate).where(asked).order_by(*_FIRST_SEEN)
    for run_id, replicate in connection.execute(ordered):
        replicates[run_id] = (*replicates.get(run_id, ()), replicate)
    chosen = _chosen(select(run), filters).where(asked)
    counted = _counted(connection, chosen if filters else None)  # of all, without asking of each which it is
    rechecks, pictures, about = every_recheck(connection), picture_digests(connection), read_about(connection)
    found = []
    for row in connection.execute(chosen):
        try:
            metrics = counted.get(row.pk, ())
            beside = _Beside(rechecks.get(row.pk, ()), about.get(row.pk, ""), pictures.get(row.pk, ""))
            found.append(_stored_run(row, replicates[row.id], metrics, beside))
        except RecordError as error:
            log.warning("left out: %s", error)
    return found


class _Counted(NamedTuple):
    """What the rows of one metric of a run come to."""

    name: str
    n: int
    first: int
    last: int
    n_correct: int
    n_wrong: int
    n_query: int

    def problem(self, spec: RunSpec) -> str:
        """What is wrong with them; empty when nothing is."""
        if not all(type(value) is int for value in self[1:]) or not isinstance(self.name, str):
            return "counts that are not whole numbers"
        if (self.n, self.first, self.last) != (spec.n_episodes, 0, spec.n_episodes - 1):
            return f"{self.n:,} counts of {self.name} for {spec.n_episodes:,} episodes"
        most = spec.n_way * spec.n_query
        is_possible = self.n_correct >= 0 and self.n_wrong >= 0 and self.n_query <= most
        return "" if is_possible else f"counts of {self.name} that cannot be"


def _counted(connection: Connection, chosen: Select[Any] | None) -> dict[int, tuple[_Counted, ...]]:
    """Key of each chosen run → its metrics, by name; of every run where none is chosen."""
    low, high = func.min, func.max
    columns = (
        func.count(), low(result.c.episode), high(result.c.episode), low(result.c.n_correct),
        low(result.c.n_query - result.c.n_correct), high(result.c.n_query),
    )  # fmt: skip
    query = select(result.c.run_pk, result.c.metric_pk, *columns).group_by(
        result.c.run_pk, result.c.metric_pk
    )
    if chosen is not None:
        query = query.where(result.c.run_pk.in_(chosen.with_only_columns(run.c.pk).order_by(None)))
    names = {row.pk: row.name for row in connection.execute(select(metric.c.pk, metric.c.name))}
    found: dict[int, list[_Counted]] = {}
    for pk, metric_pk, *values in connection.execute(query):
        found.setdefault(pk, []).append(_Counted(names.get(metric_pk, ""), *values))
    return {pk: tuple(sorted(entries, key=lambda entry: str(entry.name))) for pk, entries in found.items()}


def _one(run_pk: int) -> Select[Any]:
    return select(run).where(run.c.pk == run_pk)


def find_run(connection: Connection, prefix: str, replicate: str) -> StoredRun:
    """The run whose id and replicate start as given; of several replicates the one seen first.

    Raises:
        StoreError: when no id, or more than one, starts like this.
    """
    query = select(run).where(run.c.id.startswith(prefix.lower(), autoescape=True))
    rows = connection.execute(query.where(is_shown(connection)).order_by(*_FIRST_SEEN)).all()
    by_id = {row.id: row for row in reversed(rows)}
    if len(by_id) > 1:
        listed = [f"{r.id} ({r.method}, {r.setting}, seed {r.seed})" for r in list(by_id.values())[:-11:-1]]
        raise ConfigError(f"`{prefix}` begins {len(by_id)} run ids; type more of it: {', '.join(listed)}, …")
    chosen = [row for row in rows if row.replicate.startswith(replicate)]
    if not rows:
        _refuse_deleted(connection, prefix)
        known = connection.scalars(select(run.c.id)).all()
        raise ConfigError(f"No stored run has an id that begins with `{prefix}`.{nearest(prefix, known)}")
    if not chosen:
        kept = ", ".join(row.replicate[:12] for row in rows)
        raise ConfigError(f"Run {rows[0].id} has no replicate `{replicate}`; it has {kept}.")
    first, replicates = chosen[0], tuple(row.replicate for row in rows)
    counted = _counted(connection, _one(first.pk)).get(first.pk, ())
    about, pictures = (read(connection, first.pk).get(first.pk, "") for read in (read_about, picture_digests))
    beside = _Beside(read_rechecks(connection, first.pk), about, pictures)
    return _stored_run(first, replicates, counted, beside)


def _refuse_deleted(connection: Connection, prefix: str) -> None:
    for entry in read_tombstones(connection):
        if entry.run_id.startswith(prefix.lower()):
            why = f" ({visible(entry.reason)})" if entry.reason else ""
            raise ConfigError(
                f"Run {entry.run_id} was deleted on {entry.deleted[:10]}{why}. `fsbench runs restore {entry.run_id}` brings it "
                "back."
            )


def read_counts(connection: Connection, run_pk: int, metric_name: str) -> tuple[Int64, Int64]:
    """Correct predictions and queries per episode, in the order of the list.

    Returns:
        n_correct, n_query: (E,) int64.

    Raises:
        StoreError: when the run has no such metric.
    """
    texts = connection.execute(_COUNTS, {"run_pk": run_pk, "metric": metric_name}).one()
    if texts[0] is None:
        known = metric_names(connection, run_pk)
        raise StoreError(
            f"Run number {run_pk} has no metric `{metric_name}`.{nearest(metric_name, known)} "
            f"It has: {', '.join(known) or 'none'}."
        )
    try:
        episode, n_correct, n_query = (_whole_numbers(text) for text in texts)
    except ValueError as error:
        raise RecordError(
            f"Run number {run_pk} has counts of {metric_name!a} that are not whole numbers."
        ) from error
    order = np.argsort(episode, kind="stable")  # databases promise none inside a text
    return n_correct[order], n_query[order]


def _whole_numbers(text: str) -> Int64:
    """Read numbers of at most 18 digits with commas between them.

    Raises:
        ValueError: when anything else is in there.
    """
    if text.encode().translate(None, b"0123456789,") or ",," in f",{text},":
        raise ValueError("not whole numbers")
    found = np.fromstring(text, np.int64, sep=",")
    if len(found) and found.max() >= 10**18:
        raise ValueError("too large")
    return found


def accuracy_matrix(
    connection: Connection, run_pks: Sequence[int], metric_name: str
) -> tuple[list[str], npt.NDArray[np.float64]]:
    """Accuracies of several runs on the episodes they share, the first of one list.

    Returns:
        The run ids, and (R, E) float64 fractions in [0, 1]; NaN where an episode asks no query of this metric.

    Raises:
        StoreError: when the runs are of different lists, or one lacks the metric.
    """
    query = select(run.c.pk, run.c.id, run.c.setting, run.c.episode_digest).where(run.c.pk.in_(run_pks))
    found = {row.pk: row for row in connection.execute(query)}
    if missing := [str(pk) for pk in run_pks if pk not in found]:
        raise StoreError(f"There is no run number {', '.join(missing)} in this database.")
    if len({row.episode_digest for row in found.values()}) > 1:
        lists = ", ".join(f"{r.id} on {r.setting} ({r.episode_digest[:12]}…)" for r in found.values())
        raise StoreError(
            f"These runs were not evaluated on the same episodes, so they cannot be paired: {lists}. "
            "Choose runs of one setting."
        )
    rows = [_accuracy(*read_counts(connection, pk, metric_name)) for pk in run_pks]
    n_shared = min((len(row) for row in rows), default=0)
    matrix = np.stack([row[:n_shared] for row in rows]) if rows else np.empty((0, 0))  # (R, E)
    return [found[pk].id for pk in run_pks], matrix


def read_predictions(
    connection: Connection, run_pk: int, metric_name: str
) -> npt.NDArray[np.unsignedinteger[Any]] | None:
    """Predicted label per query, (E, n_query) uint8 or uint16; None when the run kept none for this metric."""
    query = select(prediction.c.labels).join(metric)
    labels = connection.scalar(query.where(prediction.c.run_pk == run_pk, metric.c.name == metric_name))
    n_way, n_episodes = connection.execute(
        select(run.c.n_way, run.c.n_episodes).where(run.c.pk == run_pk)
    ).one()
    if labels is None or (labels.ndim == 2 and len(labels) == n_episodes and labels.max(initial=0) < n_way):
        return labels
    raise RecordError(
        f"The predictions of run number {run_pk} are not {n_episodes} rows of labels below {n_way}: the database was edited "
        "or damaged. Move the file away and type `fsbench collect`, which rebuilds results.db from the run folders."
    )


def metric_names(connection: Connection, run_pk: int) -> tuple[str, ...]:
    """Metrics of a run, sorted."""
    has_rows = select(result.c.episode).where(result.c.run_pk == run_pk, result.c.metric_pk == metric.c.pk)
    return tuple(sorted(connection.scalars(select(metric.c.name).where(has_rows.exists()))))


def episodes_frame(connection: Connection, run_ids: Collection[str]) -> pd.DataFrame:
    """Long table of the view `episode_accuracy` for the given run ids, ordered."""
    view = episode_accuracy
    order = (view.c.run_id, view.c.replicate, view.c.metric, view.c.episode)
    columns = (*order, view.c.n_correct, view.c.n_query, view.c.accuracy)
    gone = [tuple(entry[:2]) for entry in read_tombstones(connection)]
    query = select(*columns).where(view.c.run_id.in_(list(run_ids))).order_by(*order)
    query = query.where(tuple_(view.c.run_id, view.c.replicate).not_in(gone)) if gone else query
    return _frame(connection.execute(query).all(), [column.name for column in columns], ["accuracy"])


def read_result(connection: Connection, run_pk: int, lists: Lists | None = None) -> RunResult:
    """Put a run back together as its folder had it.

    Args:
        connection: of a reading transaction.
        run_pk: which.
        lists: by digest, those that were read before, None for one that is to be left out; one that is read here is added.

    Raises:
        RecordError: when the row is not what a run writes.
    """
    row = connection.execute(select(run).where(run.c.pk == run_pk)).one()
    counted = _counted(connection, _one(run_pk)).get(run_pk, ())
    beside = _Beside(about=read_about(connection, run_pk).get(run_pk, ""))
    told = _stored_run(row, (row.replicate,), counted, beside)
    counts = {
        name: Counts(*read_counts(connection, run_pk, name), read_predictions(connection, run_pk, name))
        for name in told.metrics
    }
    apart = {SELF_REPORTED: bool(row.self_reported), THUMBNAILS: read_pictures(connection, run_pk)}
    return RunResult(
        spec=told.spec,
        status=told.status,
        counts=counts,
        episodes=_evaluated(connection, row, {} if lists is None else lists) if counts else None,
        provenance={**told.provenance, **{name: value for name, value in apart.items() if value}},
        curves=told.curves,
        traceback=row.traceback,
    )


def _frame(rows: Sequence[Sequence[Any]], columns: Sequence[str], accuracies: Sequence[str]) -> pd.DataFrame:
    import pandas as pd

    frame = pd.DataFrame.from_records([tuple(row) for row in rows], columns=list(columns))
    return frame.astype(dict.fromkeys(accuracies, "float64"))  # NULL becomes NaN, also in an empty column


def _mean_accuracy(metric_name: str) -> ColumnElement[float]:
    per_episode = cast(result.c.n_correct, Double) / func.nullif(result.c.n_query, 0)
    query = select(func.avg(per_episode)).join(metric, metric.c.pk == result.c.metric_pk)
    query = query.where(result.c.run_pk == run.c.pk, metric.c.name == metric_name)
    return query.correlate(run).scalar_subquery().label(metric_name)


def _matches(column: Column[Any], value: Any) -> ColumnElement[bool]:
    is_several = isinstance(value, Iterable) and not isinstance(value, str)
    return column.in_(list(value)) if is_several else column == value


def _chosen(query: Select[Any], filters: Mapping[str, Any]) -> Select[Any]:
    """Add the filters, column → value or values, and the order in which runs are listed."""
    names = [column.name for column in run.c if column.name not in LONG_TEXTS]
    for name, value in filters.items():
        if name not in names:
            raise StoreError(
                f"Runs cannot be filtered by `{name}`.{nearest(name, names)} Columns: {', '.join(names)}."
            )
        query = query.where(_matches(run.c[name], value))
    return query.order_by(run.c.setting, run.c.method, run.c.seed, run.c.id, run.c.replicate)


class _Beside(NamedTuple):
    """What other tables say of a run: rechecks, what its method says of itself (JSON or ""), digest of its pictures."""

    rechecks: tuple[Recheck, ...] = ()
    about: str = ""
    pictures: str = ""


def _stored_run(
    row: Row[Any], replicates: tuple[str, ...], counted: tuple[_Counted, ...], beside: _Beside
) -> StoredRun:
    """A row as a run; what it says is checked as if somebody had sent it.

    Raises:
        RecordError: when it is not what a run writes.
    """
    told = _texts(row)
    spec = RunSpec.from_json(told["spec"])
    of_method, problem = _said_of_method(beside.about)
    problems = [
        problem,
        find_problem(PROVENANCE, told["provenance"], "provenance"),
        find_problem(CURVES, told["curves"], "curves"),
        "" if row.id == spec.id else f"it has the id {row.id!a:.30}, and its specification {spec.id}",
        "" if row.status in ("done", "failed") else "its status is neither done nor failed",
        "" if row.status == "failed" or counted else "it has no counts",
        *(entry.problem(spec) for entry in counted),
    ]
    if any(problems):
        raise _bad_row(row, "; ".join(filter(None, problems)))
    return StoredRun(
        pk=row.pk,
        id=row.id,
        replicate=row.replicate,
        replicates=replicates,
        status=row.status,
        spec=spec,
        provenance={**all_visible(told["provenance"]), **of_method},
        curves=tuple(all_visible(told["curves"])),
        traceback=visible(row.traceback, lines=True),
        metrics=tuple(visible(entry.name) for entry in counted),
        created=row.created,
        self_reported=bool(row.self_reported),
        rechecks=beside.rechecks,
        pictures=beside.pictures,
    )


@lru_cache(maxsize=1024)
def _said_of_method(about: str) -> tuple[Mapping[str, Any], str]:
    """The entry of the provenance that a text makes, and what is wrong with it; runs of a method have the same text."""
    if not about:
        return {}, ""
    try:
        told = {"about": load_json(about, LARGEST_JSON)}
    except ValueError as error:
        return {}, f"what its method says of itself cannot be read ({error})"
    return all_visible(told), find_problem(PROVENANCE, told, "provenance")


def _texts(row: Row[Any]) -> dict[str, Any]:
    """The columns of a row that are JSON, read; those that are text, known to be."""
    wrong = [
        column.name
        for column in run.c
        if isinstance(column.type, Text) and not isinstance(row._mapping[column.name], str)
    ]
    if wrong:
        raise _bad_row(row, f"its {', '.join(wrong)} is no text")
    try:
        return {
            name: load_json(row._mapping[name], LARGEST_JSON) for name in ("spec", "provenance", "curves")
        }
    except ValueError as error:
        raise _bad_row(row, f"it holds what cannot be read ({error})") from error


def _bad_row(row: Row[Any], problem: str) -> RecordError:
    return RecordError(
        f"Run {visible(str(row.id))[:30]} is stored in a way that no run writes: {visible(problem)}. The database was edited or "
        "damaged; `fsbench collect` with another --db rebuilds one from the run folders."
    )


def _accuracy(n_correct: Int64, n_query: Int64) -> npt.NDArray[np.float64]:
    return np.divide(n_correct, n_query, out=np.full(len(n_query), np.nan), where=n_query > 0)


def _evaluated(connection: Connection, row: Row[Any], lists: Lists) -> EpisodeTable | None:
    """The episodes of one run: a prefix of the stored list; None when no run brought so much of it."""
    if row.episode_digest not in lists:
        is_stored = select(episode_list.c.pk).where(episode_list.c.digest == row.episode_digest)
        if connection.scalar(is_stored) is None:
            return None
        lists[row.episode_digest] = read_list(connection, row.episode_digest)
    table = lists[row.episode_digest]
    if table is None or len(table.classes) < row.n_episodes:
        return None
    parts = {name: getattr(table, name)[: row.n_episodes] for name in ("classes", "support", "query")}
    return replace(table, **parts)
