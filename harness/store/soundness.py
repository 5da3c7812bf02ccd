"""Whether the database still holds what was stored in it; and how a row that does not is written out and taken away."""

from __future__ import annotations

import base64
import json
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, func, select, text

from harness.errors import FsbenchError
from harness.runs import Counts, RunSpec
from harness.runs.agreement import differs_from_ours, find_problems
from harness.runs.result import digest_of
from harness.store.lists import list_sha256, read_list
from harness.store.models import (
    episode_class,
    episode_list,
    list_class,
    prediction,
    recheck,
    result,
    run,
    spec_columns,
)
from harness.store.reading import Lists, metric_names, read_counts, read_result
from harness.store.tombstones import drop_list, drop_rows

_NOT_ITS_COUNTS = "its counts are not those of its digest: they were edited or damaged"


class Looked(NamedTuple):
    """A row of `run`, looked at.

    Attributes:
        pk, run_id, replicate: which.
        spec: what was run; None where that cannot be read.
        problem: what is wrong with it; empty when nothing is.
    """

    pk: int
    run_id: str
    replicate: str
    spec: RunSpec | None
    problem: str


def is_damaged(path: Path) -> bool:
    """Whether a file is no database any more, as SQLite sees it; not when it is locked, foreign or not readable for us."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            return connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",)
    except sqlite3.OperationalError:
        return False
    except sqlite3.DatabaseError:
        return True


def file_problems(connection: Connection, *, is_quick: bool) -> list[str]:
    """What SQLite says of its own pages and indices; a server looks after its own."""
    if connection.dialect.name != "sqlite":
        return []
    pragma = "quick_check" if is_quick else "integrity_check"
    told = [str(row[0]) for row in connection.execute(text(f"PRAGMA {pragma}(20)"))]
    return [line for line in told if line != "ok"]


def lost_rows(connection: Connection) -> list[str]:
    """Rows that belong to no run or list any more, by table, in words; nothing reads them."""
    if connection.dialect.name != "sqlite":
        return []
    pairs = Counter(
        (str(row[0]), str(row[2])) for row in connection.execute(text("PRAGMA foreign_key_check"))
    )
    return [
        f"{n:,} rows of `{table}` belong to no row of `{parent}`"
        for (table, parent), n in sorted(pairs.items())
    ]


def count_rows(connection: Connection) -> int:
    """How many rows ``look_at_rows`` looks at."""
    return int(connection.scalar(select(func.count()).select_from(run)) or 0)


def look_at_rows(
    connection: Connection, *, is_quick: bool, rotten_lists: Collection[str] = ()
) -> Iterator[Looked]:
    """Recompute every row, deleted ones too.

    Args:
        connection: of a reading transaction.
        is_quick: only whether the counts are those of the row's digest; else also the id, the columns beside the
            specification, the counts from the predictions, and the episodes of the setting, drawn again.
        rotten_lists: digests of lists that are not to be believed; what runs on them counted may be right.
    """
    lists: Lists = dict.fromkeys(rotten_lists)
    for row in connection.execute(select(run).order_by(run.c.id, run.c.replicate)).all():
        spec, problem = _spec_of(row), ""
        try:
            problem = _quick_problem(connection, row) if is_quick else _problem(connection, row, lists)
        except (FsbenchError, ValueError, TypeError, OverflowError) as error:
            problem = str(error)
        yield Looked(row.pk, str(row.id), str(row.replicate), spec, problem)


def look_at_lists(connection: Connection) -> Iterator[tuple[str, str, str]]:
    """Digest and setting of every stored list, and what is wrong with it; empty when nothing is."""
    for row in connection.execute(
        select(episode_list).order_by(episode_list.c.setting, episode_list.c.digest)
    ).all():
        try:
            is_same = list_sha256(read_list(connection, row.digest)) == row.stored_sha256
            problem = "" if is_same else "its episodes are not those of its digest"
        except (FsbenchError, ValueError, TypeError) as error:
            problem = str(error)
        yield str(row.digest), str(row.setting), problem


def write_out(connection: Connection, pk: int) -> dict[str, Any]:
    """Everything a row of `run` has, as JSON types, whatever it is."""
    tables = {"run": (run, run.c.pk), **{t.name: (t, t.c.run_pk) for t in (result, prediction, recheck)}}
    return {name: _raw_rows(connection, f"SELECT * FROM {table.name} WHERE {key.name} = :pk", pk=pk)
            for name, (table, key) in tables.items()}  # fmt: skip


def write_out_list(connection: Connection, digest: str) -> dict[str, Any]:
    """Everything of a stored list, as JSON types, whatever it is."""
    found = {
        "episode_list": _raw_rows(
            connection, "SELECT * FROM episode_list WHERE digest = :digest", digest=digest
        )
    }
    [pk] = [row["pk"] for row in found["episode_list"]]
    for table in (episode_class, list_class):
        found[table.name] = _raw_rows(connection, f"SELECT * FROM {table.name} WHERE list_pk = :pk", pk=pk)
    return found


def take_away(connection: Connection, pk: int) -> None:
    """Take a row of `run` away, with all that hangs on it."""
    drop_rows(connection, [pk])


def take_list_away(connection: Connection, digest: str) -> None:
    """Take a stored list away; the next result of it brings it again."""
    drop_list(connection, digest)


def _quick_problem(connection: Connection, row: Row[Any]) -> str:
    counts = {
        name: Counts(*read_counts(connection, row.pk, name)) for name in metric_names(connection, row.pk)
    }
    return "" if digest_of(row.status, counts) == row.replicate else _NOT_ITS_COUNTS


def _problem(connection: Connection, row: Row[Any], lists: Lists) -> str:
    found = read_result(connection, row.pk, lists)
    if found.digest != row.replicate:
        return _NOT_ITS_COUNTS
    columns = {name: value for name, value in spec_columns(found.spec).items() if getattr(row, name) != value}
    told = [
        f"its column {name} is {getattr(row, name)!a:.60}, and its specification says {value}"
        for name, value in columns.items()
    ]
    return "; ".join([*told, *find_problems(found), *filter(None, [differs_from_ours(found)])])


def _spec_of(row: Row[Any]) -> RunSpec | None:
    try:
        return RunSpec.from_json(json.loads(row.spec))
    except (FsbenchError, ValueError, TypeError, RecursionError):
        return None


def _raw_rows(connection: Connection, statement: str, **values: Any) -> list[dict[str, Any]]:
    rows = connection.execute(text(statement), values).mappings()
    return [{name: _raw(value) for name, value in row.items()} for row in rows]


def _raw(value: Any) -> Any:
    if isinstance(value, bytes | memoryview):
        return {"base64": base64.b64encode(bytes(value)).decode()}
    return value if isinstance(value, str | int | float | None) else str(value)
