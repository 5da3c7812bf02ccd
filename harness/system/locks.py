"""Who is at it: a lock on a file, held by a living process and freed by the kernel when that process ends."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import StoreError

log = logging.getLogger("fsbench.claims")
_UNSUPPORTED = {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS}


@contextmanager
def claim(path: Path, what: str) -> Iterator[None]:
    """Hold a file's lock; wait while another process, here or on another host, holds it.

    Args:
        path: of the lock file; made when it is not there, never deleted here.
        what: named in the message when there is something to wait for.

    On a file system without locks a warning says so, and nothing keeps two processes apart.

    Raises:
        StoreError: when the file cannot be made.
    """
    try:
        descriptor = _lock(path, what)
    except OSError as error:
        raise StoreError(
            f"{path} could not be written: {error.strerror}. Free some space or make the folder writable, then type "
            "the same command again."
        ) from error
    yield from _until_done(descriptor)


@contextmanager
def held(path: Path, what: str) -> Iterator[None]:
    """Hold a file's lock as ``claim`` does, for callers that say themselves what could not be written (OSError)."""
    yield from _until_done(_lock(path, what))


def _until_done(descriptor: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(descriptor)


def is_claimed(path: Path) -> bool:
    """Whether a living process holds the lock."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _UNSUPPORTED
    finally:
        os.close(descriptor)
    return False


def _lock(path: Path, what: str) -> int:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            continue  # its folder was removed just now, by whoever finished
        try:
            _wait(descriptor, what)
            if _is_still(path, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the file was removed while we waited: another one counts now


def _wait(descriptor: int, what: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.info("another process is at %s; waiting for it", what)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        log.warning("this file system has no locks; do not start %s twice at once", what)


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
