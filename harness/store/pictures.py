"""Thumbnails of runs: a picture is stored once, however many runs show it.

In a `RunResult` and its folder they are an entry of the provenance, base64 of a PNG by image row (as text); here they lie
apart, so that a table of runs is read without them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, Text, bindparam, cast, delete, func, literal, select

from harness.errors import RecordError
from harness.store.models import insert_row, picture, run_picture

_SHOWN = (
    select(run_picture.c.image, picture.c.png, picture.c.sha256)
    .join(picture, picture.c.pk == run_picture.c.picture_pk)
    .where(run_picture.c.run_pk == bindparam("run_pk"))
    .order_by(run_picture.c.image)
)


def keep_pictures(connection: Connection, run_pk: int, thumbnails: Mapping[str, str]) -> None:
    """Store the thumbnails of a run; of two sets the larger in order stays, so that the order of arrival does not matter."""
    stored = read_pictures(connection, run_pk)
    if not sorted(thumbnails.items()) > sorted(stored.items()):
        return
    if stored:
        drop_pictures(connection, [run_pk])
    links = [
        {"run_pk": run_pk, "image": int(image), "picture_pk": _kept(connection, png)}
        for image, png in thumbnails.items()
    ]
    connection.execute(run_picture.insert(), links)


def read_pictures(connection: Connection, run_pk: int) -> dict[str, str]:
    """The thumbnails of a run: base64 of a PNG by image row (as text).

    Raises:
        RecordError: when a picture is not the one that was stored.
    """
    found = {}
    for image, png, sha256 in connection.execute(_SHOWN, {"run_pk": run_pk}):
        if not (isinstance(image, int) and isinstance(png, str) and _sha256(png) == sha256):
            raise RecordError(
                f"A picture of run number {run_pk} is not the one that was stored: the database was edited or damaged. "
                "`fsbench collect` with another --db rebuilds one from the run folders."
            )
        found[str(image)] = png
    return found


def picture_digests(connection: Connection, run_pk: int | None = None) -> dict[int, str]:
    """Key of a run → sha256 over which pictures it shows; runs without any are left out."""
    shown = cast(run_picture.c.image, Text) + literal(":") + func.substr(picture.c.sha256, 1, 16)
    query = (
        select(run_picture.c.run_pk, func.aggregate_strings(shown, ","))
        .join(picture, picture.c.pk == run_picture.c.picture_pk)
        .group_by(run_picture.c.run_pk)
    )
    if run_pk is not None:
        query = query.where(run_picture.c.run_pk == run_pk)
    rows = connection.execute(query).all()
    return {pk: _sha256(",".join(sorted(str(told).split(",")))) for pk, told in rows}


def drop_pictures(connection: Connection, run_pks: Sequence[int]) -> None:
    """Let go of the thumbnails of runs, and of every picture that no run shows any more."""
    connection.execute(delete(run_picture).where(run_picture.c.run_pk.in_(run_pks)))
    connection.execute(delete(picture).where(picture.c.pk.not_in(select(run_picture.c.picture_pk))))


def _kept(connection: Connection, png: str) -> int:
    """The key of a picture, stored now where it was not."""
    digest = _sha256(png)
    pk = connection.scalar(select(picture.c.pk).where(picture.c.sha256 == digest))
    return insert_row(connection, picture, {"sha256": digest, "png": png}) if pk is None else int(pk)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
