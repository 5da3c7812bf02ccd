"""Make the file of a database as small as it gets, for who keeps it in a repository or sends it around."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from sqlalchemy import Connection, Engine, LargeBinary, Table, select, type_coerce, update

from harness.errors import RecordError
from harness.store.connection import as_store_error, write_transaction
from harness.store.models import PackedArray, episode_list, hardness, prediction
from harness.system.arrays import pack, unpack
from harness.system.progress import Progress, stage


def compact(engine: Engine, progress: Progress) -> None:
    """Pack every array again where that makes it smaller, in one transaction; then let SQLite give the room back.

    Readers see the same values before, meanwhile and afterwards. A server looks after its own files.

    Raises:
        RecordError: when an array is damaged; nothing is changed then.
    """
    with write_transaction(engine) as connection:
        keys = [
            (table, key) for table in (prediction, episode_list, hardness) for key in _keys(connection, table)
        ]
        with stage(progress, "pack", len(keys), "rows") as shown:
            for table, key in keys:
                _pack_again(connection, table, key)
                shown.advance(1)
    if engine.dialect.name == "sqlite":
        with as_store_error(engine), closing(engine.raw_connection()) as raw:
            assert raw.driver_connection is not None
            raw.driver_connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 1)  # the copy that SQLite makes
            raw.cursor().execute("VACUUM")


def _keys(connection: Connection, table: Table) -> list[tuple[object, ...]]:
    return [tuple(row) for row in connection.execute(select(*table.primary_key.columns))]


def _pack_again(connection: Connection, table: Table, key: tuple[object, ...]) -> None:
    here = [column == value for column, value in zip(table.primary_key.columns, key, strict=True)]
    packed = [column for column in table.columns if isinstance(column.type, PackedArray)]
    query = select(*(type_coerce(column, LargeBinary).label(column.name) for column in packed)).where(*here)
    stored = connection.execute(query).one()._asdict()
    smaller = {}
    for name, blob in stored.items():
        try:
            again = pack(unpack(blob), small=True)
        except (ValueError, TypeError) as error:
            raise RecordError(
                f"The database holds a damaged array ({error}), and was left as it is. `fsbench fsck` says which."
            ) from error
        if len(again) < len(blob):
            smaller[table.c[name]] = type_coerce(again, LargeBinary)
    if smaller:
        connection.execute(update(table).where(*here).values(smaller))
