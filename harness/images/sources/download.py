"""Fetch one public file: resumable, checked before it is kept."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO

from harness.errors import DataError
from harness.images.sources.archives import md5, sniff

_PIECE = 1 << 18
_TIMEOUT_SECONDS = 60


def download(
    url: str,
    target: Path,
    *,
    expected_md5: str | None,
    n_bytes: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Fetch a file; what an interrupted call left beside it, ``<name>.part``, is continued.

    Args:
        url: address.
        target: where it goes, and what is returned; a file of the right md5 there is kept.
        expected_md5: of the whole file; None where none is published, so that what is in it has to be checked.
        n_bytes: its size, where known.
        progress: told (bytes done, bytes in all).

    Raises:
        DataError: no connection, an error answer, a web page or another size than expected (nothing is saved
            then), or a wrong md5 (the file is removed).
    """
    if target.exists() and expected_md5 in (None, md5(target)):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    remedy = f"Or fetch {url} by other means and give it as --source."
    try:
        _fetch(url, part, n_bytes, progress)
    except (OSError, http.client.HTTPException) as error:
        raise DataError(
            f"{url} could not be downloaded: {error}. Type the same again to go on where it stopped. {remedy}"
        ) from error
    if expected_md5 not in (None, found := md5(part)):
        kind = sniff(part)
        part.unlink()
        raise DataError(f"{url} gave md5 {found} ({kind}), {expected_md5} was expected. {remedy}")
    return part.replace(target)


def _fetch(url: str, part: Path, n_bytes: int | None, progress: Callable[[int, int], None] | None) -> None:
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "fsbench"})
    if done:
        request.add_header("Range", f"bytes={done}-")
    try:
        answer = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == 416 and done:  # nothing is left to fetch; the md5 decides
            return
        raise
    with answer:
        if answer.status != 206:
            done = 0
        total = _check(url, answer.headers, done, n_bytes)
        with part.open("ab" if done else "wb") as stream:
            _copy(answer, stream, done, total, progress)


def _check(url: str, headers: http.client.HTTPMessage, done: int, n_bytes: int | None) -> int:
    """Size of the whole file as announced; refuse what cannot be the file before a byte is saved."""
    kind = headers.get_content_type()
    if kind.startswith("text/html"):
        raise DataError(f"{url} answered with a web page ({kind}) where an archive was expected.")
    announced = headers.get("Content-Length")
    if announced is None or not announced.isdigit():
        raise DataError(f"{url} does not say how large it is, so it cannot be checked.")
    total = done + int(announced)
    if n_bytes is not None and total != n_bytes:
        raise DataError(f"{url} announced {total:,} bytes, {n_bytes:,} were expected.")
    return total


def _copy(
    answer: IO[bytes], stream: IO[bytes], done: int, total: int, progress: Callable[[int, int], None] | None
) -> None:
    while piece := answer.read(_PIECE):
        stream.write(piece)
        done += len(piece)
        if progress is not None:
            progress(done, total)
    if done != total:
        raise OSError(f"the connection ended after {done:,} of {total:,} bytes")
