"""Files and folders that appear whole: written aside in the same folder, on disk before they are renamed, and after."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

_SYNCED_AT_ONCE = 16


@contextmanager
def aside(path: Path, *, is_durable: bool = True) -> Iterator[Path]:
    """Give a place to write to; it becomes ``path`` when the block ends well, and vanishes otherwise.

    Args:
        path: of the file.
        is_durable: whether it has to survive a power cut; what is written every second need not.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        _remove_left(path, "")
    temporary = _beside(path, "")
    try:
        yield temporary
        if is_durable:
            sync(temporary)
        temporary.replace(path)
        if is_durable:
            sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def save_array(path: Path, array: np.ndarray[Any, Any]) -> None:
    """Write a .npy file that is either the old one or the new one."""
    import numpy as np  # the words of the command line load none

    with aside(path) as temporary, temporary.open("wb") as file:
        np.save(file, array)


def save_text(path: Path, text: str, *, is_durable: bool = True) -> None:
    """Write a text file that is either the old one or the new one."""
    with aside(path, is_durable=is_durable) as temporary:
        temporary.write_text(text)


def sync(path: Path) -> None:
    """Have a file, or the names in a folder, on disk before anything else is done."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def state(path: Path) -> os.stat_result | None:
    """What the disk says of a file; None when it is gone, as what was listed a moment ago may be."""
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def newest_last(paths: Iterable[Path]) -> list[Path]:
    """Sort listed files by their time of change, equal ones by name; those that are gone by now are left out."""
    found = [(known.st_mtime_ns, path) for path in paths if (known := state(path))]
    return [path for _, path in sorted(found)]


@contextmanager
def replaced_folder(target: Path) -> Iterator[Path]:
    """Give an empty folder to write to; it becomes ``target`` when the block ends well, and vanishes otherwise.

    What killed processes of this host left beside it is removed first.

    Raises:
        OSError: with what was there in its place.
    """
    _remove_left(target, ".new")
    folder = _beside(target, ".new")
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        yield folder
        swap_folder(folder, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _beside(path: Path, end: str) -> Path:
    """Where this process writes what becomes ``path``, or puts what it was."""
    return path.with_name(f".{path.name}.{platform.node() or 'localhost'}-{os.getpid()}{end}")


def _remove_left(path: Path, end: str) -> None:
    """Remove what killed processes of this host wrote aside for a path."""
    start = f".{path.name}.{platform.node() or 'localhost'}-"
    for left in path.parent.iterdir() if path.parent.is_dir() else ():
        pid = left.name[len(start) : len(left.name) - len(end)]
        if left.name.startswith(start) and left.name.endswith(end) and pid.isdigit() and not _is_alive(pid):
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)


def _is_alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        pass  # somebody else's
    return True


def swap_folder(new: Path, target: Path) -> None:
    """Put a finished folder in the place of another one beside it.

    Its files are on disk before it has its name. A reader meets the old folder, the new one or, for a moment, none, never
    a mixture; when this is killed between its two renames, ``recover_folder`` puts the old one back.

    Raises:
        OSError: with the old folder in its place.
    """
    _sync_all(new)
    old = _beside(target, ".old")
    if target.exists():
        target.rename(old)
    try:
        new.rename(target)
    except OSError:
        if old.exists() and not target.exists():  # else somebody else was faster
            old.rename(target)
        raise
    finally:
        sync(target.parent)
        shutil.rmtree(old, ignore_errors=True)


def _sync_all(top: Path) -> None:
    """Have a folder and all in it on disk; several files at a time, which then share a write of the disk's journal."""
    from concurrent.futures import ThreadPoolExecutor  # the words of the command line need none

    found = [Path(folder, name) for folder, _, names in os.walk(top) for name in (*names, "")]
    with ThreadPoolExecutor(min(_SYNCED_AT_ONCE, 1 + len(found) // _SYNCED_AT_ONCE)) as pool:
        list(pool.map(sync, found))


def recover_folder(target: Path) -> None:
    """Undo a swap that was killed between its two renames.

    Raises:
        OSError: when the old folder cannot be put back; it stays where it is.
    """
    left = newest_last(target.parent.glob(f".{target.name}.*.old"))
    if left and not target.exists():
        newest = left.pop()
        try:
            newest.rename(target)
        except OSError:
            if not target.exists():  # else somebody else was faster
                raise
    for old in left:
        shutil.rmtree(old, ignore_errors=True)
