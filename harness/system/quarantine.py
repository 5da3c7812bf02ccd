"""Where rotten things go: aside, never away."""

from __future__ import annotations

import itertools
from pathlib import Path

from harness.errors import StoreError
from harness.system.files import sync

QUARANTINE = "quarantine"


def set_aside(path: Path, root: Path) -> Path:
    """Move a file or a folder to ``root/quarantine``, under the names of the folders between, by one rename.

    Args:
        path: what is rotten, somewhere below ``root``.
        root: the home or the cache.

    Returns:
        Where it is now; a number is added where something of this name lies there already.

    Raises:
        StoreError: when it cannot be moved; it is where it was.
    """
    wanted = root / QUARANTINE / path.relative_to(root)
    try:
        wanted.parent.mkdir(parents=True, exist_ok=True)
        place = free_name(wanted)
        path.rename(place)
        sync(place.parent)
        sync(path.parent)
    except OSError as error:
        raise StoreError(
            f"{path} could not be moved to {wanted.parent}: {error.strerror or error}. It is where it was; make both folders "
            "writable, then type the same command again."
        ) from error
    return place


def free_name(wanted: Path) -> Path:
    """The path itself, or the first of ``path.1``, ``path.2``, … that is free."""
    numbered = (wanted.with_name(f"{wanted.name}.{n}") for n in itertools.count(1))
    return next(path for path in itertools.chain([wanted], numbered) if not path.exists())
