"""The files below a folder: links are followed, and what cannot be taken is counted."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from harness.images import account

_Key = tuple[int, int]  # device and inode: what a folder is, whatever it is called


class _Folder(NamedTuple):
    """A folder to be listed: where it is, its path below the root, and what lies above it."""

    place: Path
    relative: str
    above: frozenset[_Key]


def files(root: Path, skip: Callable[[str], bool]) -> Iterator[tuple[str, int, Path]]:
    """Iterate over the files below a folder, sorted by name within each folder, before its subfolders.

    A link to a folder is followed once, and never into a folder above itself. Broken links, folders that cannot be
    listed, folders without anything in them, and what is neither file nor folder go to the account.

    Args:
        root: the folder.
        skip: says of a folder's name that nothing in it is wanted; it is then not listed.

    Yields:
        path below the root with forward slashes, bytes, and where the file is.
    """
    followed: set[_Key] = set()
    waiting = [_Folder(root, "", frozenset([_key(root)]))]
    while waiting:
        folder = waiting.pop()
        below: list[_Folder] = []
        for entry in _listed(folder):
            relative = f"{folder.relative}{entry.name}"
            try:
                if entry.is_dir():
                    if not skip(entry.name) and (found := _entered(entry, folder, relative, followed)):
                        below.append(found)
                elif entry.is_file():
                    yield relative, entry.stat().st_size, Path(entry.path)
                else:
                    account.pass_over(relative, _why(entry))
            except OSError as error:
                account.pass_over(relative, f"that cannot be looked at ({error.strerror})")
        waiting += reversed(below)


def _listed(folder: _Folder) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder.place) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        account.pass_over(
            folder.relative or str(folder.place), f"folders that cannot be listed ({error.strerror})"
        )
        return []
    if not found:
        account.pass_over(folder.relative.rstrip("/") or str(folder.place), "folders with nothing in them")
    return found


def _entered(entry: os.DirEntry[str], folder: _Folder, relative: str, followed: set[_Key]) -> _Folder | None:
    """The folder behind an entry; None of a link that leads in a circle or was followed before."""
    place = Path(entry.path)
    key = _key(place)
    if entry.is_symlink():
        if key in folder.above:
            account.pass_over(relative, "links to a folder above themselves")
            return None
        if key in followed:
            account.pass_over(relative, "links to a folder that another link led to")
            return None
        followed.add(key)
    return _Folder(place, f"{relative}/", folder.above | {key})


def _key(place: Path) -> _Key:
    found = place.stat()
    return found.st_dev, found.st_ino


def _why(entry: os.DirEntry[str]) -> str:
    return "links that lead nowhere" if entry.is_symlink() else "that are neither files nor folders"
