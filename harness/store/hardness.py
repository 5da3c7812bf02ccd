"""How hard the episodes of a list are to one fixed extractor: measured once, the same for every method."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from sqlalchemy import Connection, Row, select

from harness.errors import RecordError, visible
from harness.runs.findings import Hardness
from harness.runs.schema import EXTRACTOR, LARGEST_JSON
from harness.store.models import hardness
from harness.system.records import load_json
from harness.system.text import all_visible

log = logging.getLogger("fsbench.store")

MICRO = 1e6  # stored in millionths, so that every database has the same whole numbers


def keep_hardness(connection: Connection, measured: Hardness, *, replace: bool = False) -> bool:
    """Store the hardness of a list; of two the longer one stays, of equal length the one whose text comes first.

    Args:
        connection: of a writing transaction.
        measured: what was measured.
        replace: put it in the place of what is there.

    Returns:
        Whether it is what is stored now.
    """
    row = _row(measured)
    kept = _find(connection, measured.episode_digest, measured.novel_digest)
    if kept is not None:
        if not replace and _order(kept._asdict()) <= _order(row):
            return _order(kept._asdict()) == _order(row)
        connection.execute(hardness.delete().where(*_is(measured.episode_digest, measured.novel_digest)))
    connection.execute(hardness.insert().values(row))
    return True


def read_hardness(connection: Connection, episode_digest: str, novel_digest: str) -> Hardness | None:
    """The hardness of a list over these images; None where none was measured, or what is stored cannot be read."""
    try:
        row = _find(connection, episode_digest, novel_digest)
        return None if row is None else _read(row)
    except (RecordError, ValueError, TypeError) as error:
        log.warning(
            "left out: the hardness of the list %s: %s",
            visible(str(episode_digest))[:12],
            visible(str(error)),
        )
        return None


def every_hardness(connection: Connection) -> list[Hardness]:
    """All that is stored and readable, in the order of digests."""
    order = (hardness.c.episode_digest, hardness.c.novel_digest)
    keys = connection.execute(select(*order).order_by(*order)).all()
    found = (read_hardness(connection, *key) for key in keys)
    return [measured for measured in found if measured is not None]


def _is(episode_digest: str, novel_digest: str) -> tuple[Any, ...]:
    return hardness.c.episode_digest == episode_digest, hardness.c.novel_digest == novel_digest


def _find(connection: Connection, episode_digest: str, novel_digest: str) -> Row[Any] | None:
    return connection.execute(select(hardness).where(*_is(episode_digest, novel_digest))).first()


def _row(measured: Hardness) -> dict[str, Any]:
    return {
        "episode_digest": measured.episode_digest,
        "novel_digest": measured.novel_digest,
        "extractor": json.dumps(dict(measured.extractor), sort_keys=True),
        "n_episodes": len(measured.omega),
        "omega": np.rint(measured.omega * MICRO).astype(np.int32),
    }


def _read(row: Row[Any]) -> Hardness:
    """A row as what was measured.

    Raises:
        ValueError: when it is not what a measurement writes.
    """
    extractor = load_json(row.extractor, LARGEST_JSON)
    EXTRACTOR(extractor, "extractor")
    omega = row.omega.astype(np.float64) / MICRO
    if omega.shape != (row.n_episodes,) or np.any(omega < 0):
        raise ValueError(f"it has the shape {omega.shape} for {row.n_episodes} episodes, or is negative")
    return Hardness(row.episode_digest, row.novel_digest, all_visible(extractor), omega)


def _order(row: Mapping[str, Any]) -> tuple[int, str, bytes]:
    return -row["n_episodes"], row["extractor"], row["omega"].astype("<i4").tobytes()
