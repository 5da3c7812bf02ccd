"""The version of a database: refuse what is not ours, create what is empty, lift what is older."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, inspect, select, text, update

from harness.errors import StoreError, visible
from harness.store.connection import engine_for, name_of, read_transaction, sqlite_path, write_transaction
from harness.store.models import CREATE_EPISODE_ACCURACY, episode_accuracy, fsbench_schema, metadata, optional

VERSION = 5

# STEPS[n] lifts a database of version n - 1 to n. A change of models.py raises VERSION and adds its step here; a
# step says what it does in SQL of its own, since models.py will have moved on.
STEPS: Mapping[int, Callable[[Connection], None]] = {
    2: lambda connection: _run_each(connection, _TRUST_AND_TRIALS),
    3: lambda connection: _run_each(connection, _HARDNESS[connection.dialect.name]),
    4: lambda connection: _shared_apart(connection),
    5: lambda connection: None,  # arrays may be packed by xz, which version 4 takes for damaged
}
_TRUST_AND_TRIALS = """
ALTER TABLE run ADD COLUMN self_reported INTEGER DEFAULT 0 NOT NULL;
CREATE TABLE recheck (
    run_pk INTEGER NOT NULL REFERENCES run (pk), checked TEXT NOT NULL, device TEXT NOT NULL, seed BIGINT NOT NULL,
    n_episodes INTEGER NOT NULL, n_differing INTEGER NOT NULL,
    PRIMARY KEY (run_pk, checked, device, seed, n_episodes, n_differing));
CREATE TABLE trial (
    id TEXT NOT NULL PRIMARY KEY, method TEXT NOT NULL, benchmark TEXT NOT NULL, setting TEXT NOT NULL,
    backbone TEXT NOT NULL, recipe TEXT NOT NULL, config TEXT NOT NULL, spec TEXT NOT NULL,
    n_correct INTEGER NOT NULL, n_query INTEGER NOT NULL, seconds INTEGER NOT NULL, traceback TEXT NOT NULL,
    finished TEXT NOT NULL)
"""
_HARDNESS: Mapping[str, str] = {
    dialect: f"""
CREATE TABLE hardness (
    episode_digest TEXT NOT NULL, novel_digest TEXT NOT NULL, extractor TEXT NOT NULL, n_episodes INTEGER NOT NULL,
    omega {binary} NOT NULL, PRIMARY KEY (episode_digest, novel_digest))
"""
    for dialect, binary in (("sqlite", "BLOB"), ("postgresql", "BYTEA"))
}
_SHARED: Mapping[str, str] = {
    dialect: f"""
CREATE TABLE shared (pk {key}, sha256 TEXT NOT NULL, content TEXT NOT NULL, UNIQUE (sha256));
CREATE TABLE run_picture (
    run_pk INTEGER NOT NULL REFERENCES run (pk), image INTEGER NOT NULL,
    shared_pk INTEGER NOT NULL REFERENCES shared (pk), PRIMARY KEY (run_pk, image)){clustered};
CREATE TABLE run_about (
    run_pk INTEGER NOT NULL REFERENCES run (pk), shared_pk INTEGER NOT NULL REFERENCES shared (pk),
    PRIMARY KEY (run_pk)){clustered}
"""
    for dialect, key, clustered in (
        ("sqlite", "INTEGER NOT NULL PRIMARY KEY", " WITHOUT ROWID"),
        ("postgresql", "SERIAL PRIMARY KEY", ""),
    )
}


def open_engine(location: str | Path, *, create: bool) -> Engine:
    """Open a database at the current version.

    Args:
        location: path of a SQLite file, or a SQLAlchemy URL.
        create: make an empty one where there is none.

    Raises:
        StoreError: when it is absent and ``create`` is false, or is not a database, not ours, or newer than this
            fsbench; it is left untouched.
    """
    engine = engine_for(location)
    if _is_absent(engine):
        if not create:
            raise _absent(engine)
        _make_folder(engine)
    with read_transaction(engine) as connection:
        version = _version(connection)
        _refuse_foreign(connection, version)
    if version == 0 and not create:
        raise _absent(engine)
    if version < VERSION:
        with write_transaction(engine) as connection:
            _lift(connection)
    return engine


def stored_version(location: str | Path) -> int:
    """The version of a database as it lies there, which is left as it is; 0 when there is nothing.

    Raises:
        StoreError: when it is not a database, not ours, or newer than this fsbench.
    """
    engine = engine_for(location)
    if _is_absent(engine):
        return 0
    with read_transaction(engine) as connection:
        version = _version(connection)
        _refuse_foreign(connection, version)
        return version


def _version(connection: Connection) -> int:
    """The version of what is stored; 0 when there is nothing at all."""
    where = name_of(connection.engine)
    tables = set(inspect(connection).get_table_names())
    if not tables:
        return 0
    version = connection.scalar(select(fsbench_schema.c.version)) if fsbench_schema.name in tables else None
    if type(version) is not int or version < 1:
        told = visible(", ".join(sorted(tables)[:5]))[:300]
        raise StoreError(
            f"{where} is a database of something else (its tables: {told}). "
            "It was left as it is. Choose another place with --db."
        )
    if version > VERSION:
        raise StoreError(
            f"{where} was written by a newer fsbench (schema {version}; this one knows up to {VERSION}). It was "
            "left as it is. Type `pip install --upgrade fsbench`, or choose another place with --db."
        )
    return int(version)


def _refuse_foreign(connection: Connection, version: int) -> None:
    """Refuse a SQLite file in which a name of ours stands for something else: a view, a virtual table, other columns.

    Tables and views of other names are the user's own and are never read.

    Raises:
        StoreError: naming the first of them.
    """
    if connection.dialect.name != "sqlite" or version == 0:
        return
    known = {**metadata.tables, **optional.tables}
    master = text("SELECT type, name, tbl_name, sql FROM sqlite_master")
    for kind, name, table_name, sql in connection.execute(master).all():
        ours = known.get(str(name).lower())
        is_virtual = " ".join(str(sql).split()[:2]).upper() == "CREATE VIRTUAL"
        problem = ""
        if kind == "trigger" and str(table_name).lower() in known:
            problem = f"a trigger stands on its table {table_name}"
        elif ours is not None and (kind != "table" or is_virtual):
            problem = f"its {name} is {'a virtual table' if is_virtual else f'a {kind}'}"
        elif (
            ours is not None
            and version == VERSION
            and _columns(connection, ours.name) != [c.name for c in ours.c]
        ):
            problem = f"its table {name} has other columns"
        elif (
            kind == "view"
            and name == episode_accuracy.name
            and str(sql).split() != CREATE_EPISODE_ACCURACY.split()
        ):
            problem = f"its view {name} asks something else"
        if problem:
            raise StoreError(
                f"{name_of(connection.engine)} is no database that fsbench wrote: {visible(problem)[:200]}. Nothing in it was "
                "run, and it was left as it is. Choose another with --db."
            )


def _columns(connection: Connection, table: str) -> list[str]:
    """Columns of a table, hidden and generated ones marked, so that they are none of ours."""
    rows = connection.execute(text(f"SELECT name, hidden FROM pragma_table_xinfo('{table}')"))
    return [f"{name} (generated)" if hidden else str(name) for name, hidden in rows]


def _lift(connection: Connection) -> None:
    """Bring a database to VERSION inside the caller's transaction; another process may have just done so."""
    version = _version(connection)
    if version == 0:
        metadata.create_all(connection)
        connection.execute(text(CREATE_EPISODE_ACCURACY))
        connection.execute(fsbench_schema.insert().values(version=VERSION))
        return
    for step in range(version + 1, VERSION + 1):
        STEPS[step](connection)
    connection.execute(update(fsbench_schema).values(version=VERSION))


def _run_each(connection: Connection, statements: str) -> None:
    for statement in statements.split(";"):
        connection.execute(text(statement))


def _shared_apart(connection: Connection) -> None:
    """Move thumbnails, and what methods say of themselves, out of the provenance of each run, equal ones to one place."""
    _run_each(connection, _SHARED[connection.dialect.name])
    known: dict[str, int] = {}

    def shared(content: str) -> int:
        sha256 = hashlib.sha256(content.encode("utf-8", "backslashreplace")).hexdigest()
        if sha256 not in known:
            known[sha256] = len(known) + 1
            row = {"pk": known[sha256], "sha256": sha256, "content": content}
            connection.execute(
                text("INSERT INTO shared (pk, sha256, content) VALUES (:pk, :sha256, :content)"), row
            )
        return known[sha256]

    for run_pk in connection.scalars(text("SELECT pk FROM run ORDER BY pk")).all():
        provenance = _object(
            connection.scalar(text("SELECT provenance FROM run WHERE pk = :pk"), {"pk": run_pk})
        )
        pictures, about = provenance.pop("thumbnails", None), provenance.pop("about", None)
        if pictures is None and about is None:
            continue
        if isinstance(about, dict):
            link = {"run_pk": run_pk, "shared_pk": shared(json.dumps(about, sort_keys=True))}
            connection.execute(text("INSERT INTO run_about VALUES (:run_pk, :shared_pk)"), link)
        for image, png in pictures.items() if isinstance(pictures, dict) else ():
            if _is_row(image) and isinstance(png, str):
                link = {"run_pk": run_pk, "image": int(image), "shared_pk": shared(png)}
                connection.execute(text("INSERT INTO run_picture VALUES (:run_pk, :image, :shared_pk)"), link)
        left = {"pk": run_pk, "left": json.dumps(provenance, sort_keys=True)}
        connection.execute(text("UPDATE run SET provenance = :left WHERE pk = :pk"), left)
    if connection.dialect.name == "postgresql":
        connection.execute(
            text("SELECT setval('shared_pk_seq', (SELECT coalesce(max(pk), 0) + 1 FROM shared), false)")
        )


def _is_row(image: str) -> bool:
    return image.isdecimal() and len(image) < 10 and image == str(int(image))


def _object(told: Any) -> dict[str, Any]:
    """What a text of JSON says; empty where it is no object."""
    try:
        found = json.loads(told)
    except (TypeError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_absent(engine: Engine) -> bool:
    path = sqlite_path(engine)
    return path is not None and not path.exists()


def _make_folder(engine: Engine) -> None:
    path = sqlite_path(engine)
    if path is not None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"{path} was to be created, but its folder cannot be: {error.strerror}. "
                "Choose another place with --db."
            ) from error


def _absent(engine: Engine) -> StoreError:
    return StoreError(
        f"There are no results yet: {name_of(engine)} does not exist or is empty. Run something first, such as "
        "`fsbench run --method protonet --bench glyphs-5w1s`, or name another database with --db."
    )
