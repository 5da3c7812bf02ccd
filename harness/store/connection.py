"""Reach a database: SQLite file or PostgreSQL server, one kind of transaction to read and one to write."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, ExceptionContext, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, InternalError, OperationalError
from sqlalchemy.pool import NullPool

from harness.errors import ConfigError, StoreError, visible

_KNOWN = "Give the path of a SQLite file, such as results.db, or postgresql+psycopg://user@host/database."
BUSY_SECONDS = 30
_LONGEST_VALUE = 256 << 20  # bytes of one text or blob
_STEPS = 100_000  # of SQLite's machine between two looks at Ctrl-C: some milliseconds
_ADVISORY_LOCK = 0x66736265  # "fsbe": any number that every fsbench agrees on

# What the drivers say (lower case) → what it means and what to type.
_CAUSES = (
    (
        ("disk is full", "no space left", "could not extend file"),
        "the disk is full. Nothing of this change was kept. Free some space, then type the same command again.",
    ),
    (
        ("readonly database", "read-only transaction", "permission denied"),
        "it is read-only for you. Nothing was changed. Make it writable (chmod u+w, on its folder too) or choose "
        "another with --db.",
    ),
    (
        ("database is locked", "lock timeout"),
        f"another process has been writing to it for more than {BUSY_SECONDS} seconds. Nothing was changed. "
        "Wait until it ends, then type the same command again.",
    ),
    (
        ("not a database", "malformed", "unsupported file format", "too big", "unsafe use of"),
        "it is not a database, or a damaged one (truncated copy?). It was left as it is. Move it away and type "
        "`fsbench collect`, which rebuilds results.db from the run folders.",
    ),
    (
        ("unable to open database file",),
        "it cannot be opened. Nothing was changed. Check that its folder exists and is writable for you, or "
        "choose another with --db.",
    ),
)


def engine_for(location: str | Path) -> Engine:
    """Make the engine of a SQLite path or a SQLAlchemy URL; connects to nothing yet.

    Raises:
        StoreError: when the URL is not one of SQLite or PostgreSQL, or the driver is not installed.
    """
    place = str(location)
    try:
        url = make_url(place) if "://" in place else URL.create("sqlite", database=place)
        if url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:"):
            return _sqlite_engine(url)
        if url.get_backend_name() == "postgresql":
            return _postgresql_engine(url)
    except ArgumentError as error:
        kind = place.partition("://")[0]  # what follows may hold a password
        raise ConfigError(f"`{kind}://…` is not the address of a database. {_KNOWN}") from error
    except ModuleNotFoundError as error:
        raise StoreError(
            f"A database at {url.get_backend_name()} needs the Python package {error.name}, which is not installed. "
            "Type `pip install 'psycopg[binary]'` and write the address as postgresql+psycopg://…"
        ) from error
    raise ConfigError(f"A database of kind {url.drivername} cannot hold results. {_KNOWN}")


def name_of(engine: Engine) -> str:
    """What to call the database in a message: the path of a file, or the URL without its password."""
    path = sqlite_path(engine)
    return str(path) if path else engine.url.render_as_string(hide_password=True)


def sqlite_path(engine: Engine) -> Path | None:
    """The file of a SQLite engine; None for a server."""
    return Path(engine.url.database or "") if engine.dialect.name == "sqlite" else None


@contextmanager
def read_transaction(engine: Engine) -> Iterator[Connection]:
    """One transaction that only reads and never waits for writers longer than their commit."""
    with as_store_error(engine), engine.connect() as connection:
        yield connection


@contextmanager
def write_transaction(engine: Engine) -> Iterator[Connection]:
    """One transaction that writes: kept whole at the end, or not at all; writers take turns."""
    with as_store_error(engine), engine.execution_options(is_writing=True).begin() as connection:
        yield connection


@contextmanager
def as_store_error(engine: Engine) -> Iterator[None]:
    """Turn what a driver reports about the disk, the file or the server into a StoreError."""
    try:
        yield
    except OverflowError as error:
        raise StoreError(
            f"The database {name_of(engine)} holds a number that is too large ({error})."
        ) from error
    except DBAPIError as error:
        text = visible(str(error.orig).strip())
        if text == "interrupted":  # by the handler of `_distrust`, in which Ctrl-C arrived
            raise KeyboardInterrupt from error
        causes = [advice for phrases, advice in _CAUSES if any(phrase in text.lower() for phrase in phrases)]
        about_surroundings = (
            isinstance(error, OperationalError | InternalError) or type(error) is DatabaseError
        )
        if not causes and not about_surroundings:
            raise  # a broken constraint or statement is a mistake of ours
        cause = causes[0] if causes else "it does not answer as it should. Check the address given with --db."
        raise StoreError(
            f"The database {name_of(engine)} cannot be used: {cause} (It said: {text})"
        ) from error


def _sqlite_engine(url: URL) -> Engine:
    # The journal stays a rollback journal: WAL needs shared memory, which network file systems lack. Without a
    # pool no file handle outlives its transaction. isolation_level None leaves BEGIN to us.
    arguments = {"timeout": BUSY_SECONDS, "isolation_level": None}
    engine = create_engine(url, poolclass=NullPool, connect_args=arguments)

    @event.listens_for(engine, "connect")
    def _settle(driver_connection: Any, _record: Any) -> None:
        _distrust(driver_connection)
        driver_connection.execute("PRAGMA foreign_keys = ON")
        _survive_power_cuts(driver_connection)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # IMMEDIATE takes the write lock at once: a transaction that reads first and writes later could not
        # wait for another writer without the risk of a deadlock, so SQLite would fail it.
        is_writing = connection.get_execution_options().get("is_writing", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writing else "BEGIN")

    @event.listens_for(engine, "handle_error")
    def _stay_connected(context: ExceptionContext) -> None:
        # After Ctrl-C SQLAlchemy takes a connection for lost and skips the rollback that frees the write lock.
        context.is_disconnect = False

    return engine


def _survive_power_cuts(connection: sqlite3.Connection) -> None:
    """Have a commit on disk before it returns.

    EXTRA is FULL and also syncs the folder after the journal is unlinked, which is the commit of a rollback journal: with
    FULL the journal may be back after a power cut, and undoes a row that was said to be stored.
    """
    connection.execute("PRAGMA synchronous = EXTRA")
    connection.execute("PRAGMA fullfsync = ON")  # where fsync alone leaves it in the drive: macOS


def _distrust(connection: sqlite3.Connection) -> None:
    """Read a file as one that somebody may have prepared: nothing in it is run, and nothing of it takes all memory."""
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    connection.execute("PRAGMA mmap_size = 0")
    defensive = getattr(sqlite3, "SQLITE_DBCONFIG_DEFENSIVE", None)
    if defensive is not None:  # from Python 3.12 on
        connection.setconfig(defensive, True)  # type: ignore[attr-defined,unused-ignore]
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_VALUE)
    connection.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, 1 << 20)
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    connection.text_factory = lambda text: text.decode("utf-8", "backslashreplace")
    # Without a look now and then, Ctrl-C would wait for the end of the statement; an error in the handler ends it.
    connection.set_progress_handler(lambda: 0, _STEPS)


def _postgresql_engine(url: URL) -> Engine:
    engine = create_engine(url)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # Writers take turns, as they do on SQLite; what a reader sees does not change under it.
        if connection.get_execution_options().get("is_writing", False):
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
        else:
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")

    return engine
