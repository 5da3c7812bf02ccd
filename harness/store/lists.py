"""Episode lists in the database: each kept once per digest, as long as the longest prefix any run evaluated."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
from sqlalchemy import Connection, Row, select, update

from harness.errors import RecordError, StoreError, visible
from harness.runs import EpisodeTable, RunSpec
from harness.store.models import IntArray, episode_class, episode_list, insert_columns, insert_row, list_class


def keep_list(connection: Connection, spec: RunSpec, table: EpisodeTable) -> None:
    """Store the episodes of a run, or extend the stored prefix; nothing is written when they are known.

    Raises:
        StoreError: when the stored list says otherwise.
    """
    known = episode_list.c
    query = select(known.pk, known.setting, known.n_stored, known.stored_sha256)
    kept = connection.execute(query.where(known.digest == spec.episode_digest)).first()
    if kept is None:
        _insert(connection, spec, table)
        return
    sha256 = list_sha256(table)
    if kept.stored_sha256 != sha256:
        stored = read_list(connection, spec.episode_digest)
        _refuse_contradiction(spec, stored, table)
        if len(table.classes) > kept.n_stored:
            _extend(connection, kept.pk, kept.n_stored, table)
    if spec.setting < kept.setting:
        change = update(episode_list).values(setting=spec.setting)
        connection.execute(change.where(known.pk == kept.pk))


def read_list(connection: Connection, digest: str) -> EpisodeTable:
    """Everything stored of a list.

    Raises:
        StoreError: when no run has brought it.
    """
    row = connection.execute(select(episode_list).where(episode_list.c.digest == digest)).first()
    if row is None:
        raise StoreError(
            f"No stored run evaluated the episode list {digest[:12]}…, so it is not in this database. "
            "Type `fsbench run … --bench SETTING` with its setting first."
        )
    try:
        return _table(connection, row)
    except (ValueError, TypeError, IndexError, OverflowError) as error:
        raise RecordError(
            f"The stored episode list {digest[:12]!a}… cannot be read ({error}): the database was edited or damaged. Move the "
            "file away and type `fsbench collect`, which rebuilds results.db from the run folders."
        ) from error


def _table(connection: Connection, row: Row[Any]) -> EpisodeTable:
    """A row as a list.

    Raises:
        ValueError: when its parts do not fit together.
    """
    names = select(list_class.c.name, list_class.c.class_group).where(list_class.c.list_pk == row.pk)
    classes = connection.execute(names.order_by(list_class.c.class_id)).all()
    table = EpisodeTable(
        classes=_classes(connection, row),
        support=row.support.astype(np.int32),
        query=row.query.astype(np.int32),
        class_names=tuple(visible(c.name) for c in classes),
        class_groups=tuple(visible(c.class_group) for c in classes),
    )
    n, n_way = row.n_stored, row.n_way
    is_uneven = table.query.min(initial=0) < 0  # places without a query
    n_places = table.query.shape[2] if is_uneven else row.n_query
    if table.query.shape != (n, n_way, n_places) or table.support.shape[::2] != (n, row.shot):
        raise ValueError(f"its images have the shapes {table.support.shape} and {table.query.shape}")
    if table.support.shape[1] > n_way or not (
        0 <= table.classes.min(initial=0) <= table.classes.max(initial=0) < len(classes)
    ):
        raise ValueError(f"its episodes name classes outside the {len(classes)} listed")
    return table


def list_sha256(table: EpisodeTable) -> str:
    """sha256 over episodes, images and class names of a stored prefix."""
    digest = hashlib.sha256(json.dumps([table.class_names, table.class_groups]).encode())
    for rows in (table.classes, table.support, table.query):
        digest.update(json.dumps(rows.shape).encode())
        digest.update(np.ascontiguousarray(rows, "<i4").tobytes())
    return digest.hexdigest()


def _insert(connection: Connection, spec: RunSpec, table: EpisodeTable) -> None:
    row = {
        "digest": spec.episode_digest,
        "setting": spec.setting,
        "n_way": table.classes.shape[1],
        "shot": spec.shot,
        "n_query": spec.n_query,
        **_stored(table),
    }
    pk = insert_row(connection, episode_list, row)
    n = len(table.class_names)
    insert_columns(connection, list_class, [pk] * n, range(n), table.class_names, table.class_groups)
    _insert_classes(connection, pk, table, first=0)


def _extend(connection: Connection, pk: int, n_stored: int, table: EpisodeTable) -> None:
    connection.execute(update(episode_list).where(episode_list.c.pk == pk).values(_stored(table)))
    _insert_classes(connection, pk, table, first=n_stored)


def _stored(table: EpisodeTable) -> dict[str, Any]:
    return {
        "n_stored": len(table.classes),
        "stored_sha256": list_sha256(table),
        "support": _narrow(table.support),
        "query": _narrow(table.query),
    }


def _narrow(rows: IntArray) -> IntArray:
    """The same row numbers in the fewest bytes each."""
    ends = (np.min_scalar_type(int(end)) for end in (rows.min(initial=0), rows.max(initial=0)))
    return rows.astype(np.result_type(*ends))


def _insert_classes(connection: Connection, pk: int, table: EpisodeTable, first: int) -> None:
    n_episodes, n_way = table.classes.shape
    episodes = np.repeat(np.arange(first, n_episodes), n_way).tolist()
    labels = list(range(n_way)) * (n_episodes - first)
    classes = table.classes[first:].ravel().tolist()
    insert_columns(connection, episode_class, [pk] * len(classes), episodes, labels, classes)


def _classes(connection: Connection, row: Row[Any]) -> np.ndarray[Any, np.dtype[np.int32]]:
    query = select(episode_class.c.class_id).where(episode_class.c.list_pk == row.pk)
    flat = connection.scalars(query.order_by(episode_class.c.episode, episode_class.c.label))
    return np.fromiter(flat, np.int32).reshape(row.n_stored, row.n_way)  # (E, W)


def _refuse_contradiction(spec: RunSpec, stored: EpisodeTable, table: EpisodeTable) -> None:
    shared = min(len(stored.classes), len(table.classes))
    parts = {
        "classes": (stored.classes[:shared], table.classes[:shared]),
        "support images": (stored.support[:shared], table.support[:shared]),
        "query images": (stored.query[:shared], table.query[:shared]),
    }
    differing = [name for name, (a, b) in parts.items() if not np.array_equal(a, b)]
    if (stored.class_names, stored.class_groups) != (table.class_names, table.class_groups):
        differing.append("class names")
    if differing:
        raise RecordError(
            f"Run {spec.id} ({spec.setting}) brings the episode list {spec.episode_digest[:12]}…, but its "
            f"{' and '.join(differing)} differ from those stored under this digest. Nothing was stored. One of "
            f"the two is damaged: delete runs/{spec.id} and run again; if the message comes back, the database "
            "is the damaged one."
        )
