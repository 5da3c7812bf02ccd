"""Rows that were deleted: they stay stored, out of every page, export and command, until they are restored or purged.

The table appears with the first deletion, so that a database without any is the file it was; an fsbench that does not know
the table shows the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Table,
    Text,
    and_,
    delete,
    false,
    inspect,
    select,
    true,
    tuple_,
)

from harness.errors import ConfigError, nearest
from harness.store.models import (
    episode_class,
    episode_list,
    list_class,
    optional,
    prediction,
    recheck,
    recheck_prediction,
    result,
    run,
)
from harness.store.shared import drop_shared
from harness.system.provenance import utc_now

tombstone = Table(
    "tombstone",
    optional,
    Column("run_id", Text, primary_key=True),
    Column("replicate", Text, primary_key=True),
    Column("deleted", Text, nullable=False),  # when, UTC
    Column("reason", Text, nullable=False),  # as it was given, or ""
)


class Tombstone(NamedTuple):
    """A deleted result: its run and the digest of its counts, when it was deleted (UTC), and why."""

    run_id: str
    replicate: str
    deleted: str
    reason: str


def is_deleted(connection: Connection) -> ColumnElement[bool]:
    """Condition on `run`: the row is deleted."""
    if not _has_table(connection):
        return false()
    same = and_(tombstone.c.run_id == run.c.id, tombstone.c.replicate == run.c.replicate)
    return select(tombstone.c.run_id).where(same).correlate(run).exists()


def is_shown(connection: Connection) -> ColumnElement[bool]:
    """Condition on `run`: the row is not deleted."""
    return ~is_deleted(connection) if _has_table(connection) else true()


def read_tombstones(connection: Connection) -> list[Tombstone]:
    """Every deletion, the oldest first."""
    if not _has_table(connection):
        return []
    order = (tombstone.c.deleted, tombstone.c.run_id, tombstone.c.replicate)
    return [Tombstone(*map(str, row)) for row in connection.execute(select(tombstone).order_by(*order))]


def delete_run(
    connection: Connection, run_id: str, replicates: Sequence[str], reason: str
) -> list[Tombstone]:
    """Take results of a run out of everything; nothing of them is lost."""
    tombstone.create(connection, checkfirst=True)
    known = {(kept.run_id, kept.replicate) for kept in read_tombstones(connection)}
    added = [Tombstone(run_id, each, utc_now(), reason) for each in replicates if (run_id, each) not in known]
    for entry in added:
        connection.execute(tombstone.insert().values(entry._asdict()))
    return added


def restore_run(connection: Connection, prefix: str) -> list[Tombstone]:
    """Bring every deleted result of a run back.

    Raises:
        ConfigError: when the prefix begins no id of a deleted run, or several.
    """
    every = read_tombstones(connection)
    found = [entry for entry in every if entry.run_id.startswith(prefix.lower())]
    ids = sorted({entry.run_id for entry in found})
    if len(ids) != 1:
        known = [entry.run_id for entry in every]
        told = f"begins {len(ids)}: {', '.join(ids)}" if ids else f"begins none.{nearest(prefix, known)}"
        raise ConfigError(
            f"One deleted run was to be restored, and `{prefix}` {told} `fsbench runs --deleted` lists them."
        )
    connection.execute(delete(tombstone).where(tombstone.c.run_id == ids[0]))
    return found


def purge(connection: Connection) -> list[Tombstone]:
    """Delete for good what was deleted: rows, counts, predictions, rechecks, the tombstones, and lists that no other row has."""
    every = read_tombstones(connection)
    if every:
        pks = connection.scalars(select(run.c.pk).where(is_deleted(connection))).all()
        lists = set(connection.scalars(select(run.c.episode_digest).where(run.c.pk.in_(pks))))
        drop_rows(connection, pks)
        for digest in sorted(lists - set(connection.scalars(select(run.c.episode_digest)))):
            drop_list(connection, digest)
        pairs = tuple_(tombstone.c.run_id, tombstone.c.replicate)
        connection.execute(delete(tombstone).where(pairs.in_([entry[:2] for entry in every])))
    return every


def drop_rows(connection: Connection, run_pks: Sequence[int]) -> None:
    """Take rows of `run` away, with all that hangs on them."""
    known = inspect(connection).get_table_names()
    beside = [recheck_prediction] if recheck_prediction.name in known else []
    for table in (result, prediction, recheck, *beside):
        connection.execute(delete(table).where(table.c.run_pk.in_(run_pks)))
    drop_shared(connection, run_pks)
    connection.execute(delete(run).where(run.c.pk.in_(run_pks)))


def drop_list(connection: Connection, digest: str) -> None:
    """Take a stored list away; the next result of it brings it again."""
    pk = connection.scalar(select(episode_list.c.pk).where(episode_list.c.digest == digest))
    for table in (episode_class, list_class):
        connection.execute(delete(table).where(table.c.list_pk == pk))
    connection.execute(delete(episode_list).where(episode_list.c.pk == pk))


def _has_table(connection: Connection) -> bool:
    return tombstone.name in inspect(connection).get_table_names()
