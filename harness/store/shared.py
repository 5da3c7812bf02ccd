"""What many runs show or say alike is stored once: thumbnails, and what a method says of itself.

In a `RunResult` and its folder both are entries of the provenance, thumbnails as base64 of a PNG by image row (as text).
Here they lie apart, so that a table of runs is read without pictures, and each text about a method once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, Text, bindparam, cast, delete, func, literal, select, update

from harness.errors import RecordError
from harness.store.models import insert_row, run_about, run_picture, shared

DAMAGED = "damaged"  # no JSON
_SHOWN = (
    select(run_picture.c.image, shared.c.content, shared.c.sha256)
    .join(shared, shared.c.pk == run_picture.c.shared_pk)
    .where(run_picture.c.run_pk == bindparam("run_pk"))
    .order_by(run_picture.c.image)
)


def keep_pictures(connection: Connection, run_pk: int, thumbnails: Mapping[str, str]) -> None:
    """Store the thumbnails of a run; of two sets the larger in order stays, so that the order of arrival does not matter."""
    stored = read_pictures(connection, run_pk)
    if not sorted(thumbnails.items()) > sorted(stored.items()):
        return
    if stored:
        drop_pictures(connection, run_pk)
    links = [
        {"run_pk": run_pk, "image": int(image), "shared_pk": _kept(connection, png)}
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
        if not _is_intact(png, sha256):
            raise RecordError(
                f"A picture of run number {run_pk} is not the one that was stored: the database was edited or damaged. "
                "`fsbench collect` with another --db rebuilds one from the run folders."
            )
        found[str(image)] = png
    return found


def picture_digests(connection: Connection, run_pk: int | None = None) -> dict[int, str]:
    """Key of a run → sha256 over which pictures it shows; runs without any are left out."""
    shown = cast(run_picture.c.image, Text) + literal(":") + func.substr(shared.c.sha256, 1, 16)
    query = (
        select(run_picture.c.run_pk, func.aggregate_strings(shown, ","))
        .join(shared, shared.c.pk == run_picture.c.shared_pk)
        .group_by(run_picture.c.run_pk)
    )
    if run_pk is not None:
        query = query.where(run_picture.c.run_pk == run_pk)
    rows = connection.execute(query).all()
    return {pk: _sha256(",".join(sorted(str(told).split(",")))) for pk, told in rows}


def keep_about(connection: Connection, run_pk: int, about: str) -> None:
    """Store what a method says of itself, a text of JSON, in place of what it said; an empty one is nothing."""
    stored = read_about(connection, run_pk).get(run_pk, "")
    if about == stored:
        return
    connection.execute(delete(run_about).where(run_about.c.run_pk == run_pk))
    if about:
        connection.execute(run_about.insert().values(run_pk=run_pk, shared_pk=_kept(connection, about)))
    if stored:
        _drop_unused(connection)


def read_about(connection: Connection, run_pk: int | None = None) -> dict[int, str]:
    """Key of a run → what its method says of itself, a text of JSON; runs without are left out.

    A text that is not the one that was stored becomes one that is no JSON, so that its rows alone are refused.
    """
    links = select(run_about.c.run_pk, run_about.c.shared_pk)
    links = links if run_pk is None else links.where(run_about.c.run_pk == run_pk)
    of_run = {row.run_pk: row.shared_pk for row in connection.execute(links)}
    used = shared.c.pk.in_(links.with_only_columns(run_about.c.shared_pk))
    rows = connection.execute(select(shared.c.pk, shared.c.content, shared.c.sha256).where(used))
    told = {pk: content if _is_intact(content, sha256) else DAMAGED for pk, content, sha256 in rows}
    return {pk: told.get(shared_pk, DAMAGED) for pk, shared_pk in of_run.items()}


def drop_pictures(connection: Connection, run_pk: int) -> None:
    """Let go of the thumbnails of a run."""
    connection.execute(delete(run_picture).where(run_picture.c.run_pk == run_pk))
    _drop_unused(connection)


def drop_shared(connection: Connection, run_pks: Sequence[int]) -> None:
    """Let go of all that these runs show and say, where no other run does."""
    for table in (run_picture, run_about):
        connection.execute(delete(table).where(table.c.run_pk.in_(run_pks)))
    _drop_unused(connection)


def _drop_unused(connection: Connection) -> None:
    used = select(run_picture.c.shared_pk).union(select(run_about.c.shared_pk))
    connection.execute(delete(shared).where(shared.c.pk.not_in(used)))


def _kept(connection: Connection, content: str) -> int:
    """The key of a content, stored now where it was not, and put right where it was edited since."""
    digest = _sha256(content)
    known = connection.execute(select(shared.c.pk, shared.c.content).where(shared.c.sha256 == digest)).first()
    if known is None:
        return insert_row(connection, shared, {"sha256": digest, "content": content})
    if known.content != content:
        connection.execute(update(shared).where(shared.c.pk == known.pk).values(content=content))
    return int(known.pk)


def _is_intact(content: object, sha256: object) -> bool:
    return isinstance(content, str) and _sha256(content) == sha256


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()
