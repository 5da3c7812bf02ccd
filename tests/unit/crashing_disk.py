"""A disk that loses power: what is written is recorded, and every state that a crash could have left is made again.

Two recorders see the same kinds of events: ``recorded_python`` those of Python's own file operations below a folder,
``recorded_sqlite`` those that SQLite asks of its virtual file system. ``states`` then gives, for every prefix of the
events, what a power cut may leave: everything that was written; only what was synced; the names but not the contents.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

Tree = dict[str, bytes | None]  # path below the folder → content, None for a folder


@dataclass
class Disk:
    """What is written, and of it what is synced.

    Attributes:
        names: what a reader sees: path → number of a file, below 0 for a folder.
        kept_names: the same, as a crash would leave it.
        contents: number of a file → its bytes.
        kept: number of a file → its bytes when it was synced last.
        states: after each event, (what happened, everything, synced alone, names ahead of contents).
    """

    names: dict[str, int] = field(default_factory=dict)
    kept_names: dict[str, int] = field(default_factory=dict)
    contents: dict[int, bytes] = field(default_factory=dict)
    kept: dict[int, bytes] = field(default_factory=dict)
    states: list[tuple[str, tuple[Tree, Tree, Tree]]] = field(default_factory=list)

    def sync_file(self, number: int) -> None:
        self.kept[number] = self.contents[number]

    def sync_folder(self, folder: str) -> None:
        """The entries of a folder are on disk, and no others are."""
        gone = [path for path in self.kept_names if _parent(path) == folder and path not in self.names]
        for path in gone:
            for below in [p for p in self.kept_names if p == path or p.startswith(path + "/")]:
                del self.kept_names[below]
        for path, number in self.names.items():
            if _parent(path) == folder and self.kept_names.get(path) != number:
                for below in [p for p in self.kept_names if p.startswith(path + "/")]:
                    del self.kept_names[below]  # of the folder that had this name before
                self.kept_names[path] = number
                if number < 0:
                    self._keep_what_was_synced_under_another_name(path)

    def _keep_what_was_synced_under_another_name(self, folder: str) -> None:
        """A renamed folder brings the entries that were synced in it; here, those whose files are synced."""
        for path, number in self.names.items():
            if path.startswith(folder + "/") and (number < 0 or number in self.kept):
                self.kept_names[path] = number

    def happened(self, what: str) -> None:
        everything = {path: self.contents.get(n) for path, n in self.names.items()}
        synced = {p: self.kept.get(n, b"") if n > 0 else None for p, n in self.kept_names.items()}
        ahead = {p: self.kept.get(n, self.contents[n][: len(self.contents[n]) // 2]) if n > 0 else None
                 for p, n in self.names.items()}  # fmt: skip
        self.states.append((what, (everything, synced, ahead)))


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def lay_out(tree: Tree, folder: Path) -> Path:
    """Write a state to a new folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path, content in sorted(tree.items()):
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            place.mkdir(exist_ok=True)
        else:
            place.write_bytes(content)
    return folder


@contextmanager
def recorded_python(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """Record what Python does below ``root``: after each change of a name and each fsync, the whole state."""
    disk = Disk()

    def look() -> None:
        """Read the tree as it is; contents are known by inode, so that a rename is not a new file."""
        disk.names.clear()
        for place in sorted(root.rglob("*")):
            number = place.stat().st_ino * (-1 if place.is_dir() else 1)
            disk.names[str(place.relative_to(root))] = number
            if number > 0:
                disk.contents[number] = place.read_bytes()

    look()
    disk.kept, disk.kept_names = dict(disk.contents), dict(disk.names)

    def watched(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(*arguments: Any, **more: Any) -> Any:
            look()
            disk.happened(f"before {name}")
            answer = real(*arguments, **more)
            look()
            if name == "fsync":
                place = Path(f"/proc/self/fd/{arguments[0]}").readlink()
                inside = place.is_relative_to(root)
                relative = str(place.relative_to(root)) if inside else ""
                if inside and place.is_dir():
                    disk.sync_folder("" if relative == "." else relative)
                elif inside:
                    disk.sync_file(disk.names[relative])
            disk.happened(f"{name} {arguments[0] if arguments else ''}")
            return answer

        return call

    with monkeypatch.context() as patched:
        for name in ("fsync", "rename", "replace", "unlink", "rmdir", "mkdir"):
            patched.setattr(os, name, watched(name))
        yield disk
    look()
    disk.happened("the end")


class _Methods(ctypes.Structure):
    """sqlite3_io_methods, version 1 (longer ones are copied whole)."""

    _fields_ = [("version", ctypes.c_int), *((name, ctypes.c_void_p) for name in (
        "close", "read", "write", "truncate", "sync", "size", "lock", "unlock", "reserved", "control", "sector",
        "device", "map", "shm_lock", "barrier", "unmap", "fetch", "unfetch",
    ))]  # fmt: skip


class _File(ctypes.Structure):
    _fields_ = [("methods", ctypes.POINTER(_Methods))]


class _Vfs(ctypes.Structure):
    _fields_ = [
        ("version", ctypes.c_int), ("file_size", ctypes.c_int), ("longest", ctypes.c_int), ("next", ctypes.c_void_p),
        ("name", ctypes.c_char_p), ("data", ctypes.c_void_p), ("open", ctypes.c_void_p), ("delete", ctypes.c_void_p),
        *((f"more_{i}", ctypes.c_void_p) for i in range(16)),
    ]  # fmt: skip


_int, _pointer = ctypes.c_int, ctypes.c_void_p
# names travel as addresses: SQLite keeps the one it is given
_OPEN = ctypes.CFUNCTYPE(_int, _pointer, _pointer, ctypes.POINTER(_File), _int, ctypes.POINTER(_int))
_DELETE = ctypes.CFUNCTYPE(_int, _pointer, ctypes.c_char_p, _int)
_WRITE = ctypes.CFUNCTYPE(_int, _pointer, _pointer, _int, ctypes.c_int64)
_TRUNCATE = ctypes.CFUNCTYPE(_int, _pointer, ctypes.c_int64)
_SYNC = ctypes.CFUNCTYPE(_int, _pointer, _int)


@contextmanager
def recorded_sqlite(root: Path) -> Iterator[Disk]:
    """Record what SQLite asks of the file system below ``root``, by a file system of ours in front of its own."""
    lib = ctypes.CDLL(ctypes.util.find_library("sqlite3"))
    lib.sqlite3_vfs_find.restype = ctypes.POINTER(_Vfs)
    real = lib.sqlite3_vfs_find(None)
    ours = _Vfs.from_buffer_copy(real.contents)
    ours.name = b"recorded"
    disk, kept_alive, open_files = Disk(), [], {}
    for place in root.iterdir():
        disk.names[place.name] = place.stat().st_ino
        disk.contents[place.stat().st_ino] = place.read_bytes()
    disk.kept, disk.kept_names = dict(disk.contents), dict(disk.names)

    def number_of(file: int) -> int:
        return open_files[file]

    def opened(_: int, name: int | None, file: Any, flags: int, out: Any) -> int:
        place = Path(os.fsdecode(ctypes.string_at(name))) if name else None
        is_new = place is not None and not place.exists()
        code = _OPEN(real.contents.open)(ctypes.addressof(real.contents), name, file, flags, out)
        if code or place is None or place.parent != root or not file.contents.methods:
            return code
        number = place.stat().st_ino
        if is_new:
            disk.names[place.name], disk.contents[number] = number, b""
            disk.kept.pop(number, None)
        open_files[ctypes.addressof(file.contents)] = number
        theirs = file.contents.methods.contents
        mine = _Methods.from_buffer_copy(theirs)

        def write(at: int, source: int, n: int, offset: int) -> int:
            number, data = number_of(at), ctypes.string_at(source, n)
            old = disk.contents[number].ljust(offset, b"\0")
            disk.contents[number] = old[:offset] + data + old[offset + n :]
            disk.happened(f"write {n} at {offset}")
            return _WRITE(theirs.write)(at, source, n, offset)

        def truncate(at: int, size: int) -> int:
            disk.contents[number_of(at)] = disk.contents[number_of(at)][:size]
            disk.happened(f"truncate {size}")
            return _TRUNCATE(theirs.truncate)(at, size)

        def sync(at: int, how: int) -> int:
            number = number_of(at)
            disk.sync_file(number)
            if (
                number not in disk.kept_names.values()
            ):  # SQLite syncs the folder with the first sync of a new file
                disk.sync_folder("")
            disk.happened("sync")
            return _SYNC(theirs.sync)(at, how)

        calls = (_WRITE(write), _TRUNCATE(truncate), _SYNC(sync))
        for name_of_call, call in zip(("write", "truncate", "sync"), calls, strict=True):
            setattr(mine, name_of_call, ctypes.cast(call, _pointer).value)
        kept_alive.extend((mine, calls))
        file.contents.methods = ctypes.pointer(mine)
        return code

    def deleted(_: int, name: bytes, is_synced: int) -> int:
        place = Path(os.fsdecode(name))
        if place.parent == root and disk.names.pop(place.name, None) is not None:
            disk.happened("unlink")
            if is_synced:
                disk.sync_folder("")
            disk.happened("unlink, synced" if is_synced else "unlink, not synced")
        return _DELETE(real.contents.delete)(ctypes.addressof(real.contents), name, is_synced)

    hooks = (_OPEN(opened), _DELETE(deleted))
    ours.open, ours.delete = (ctypes.cast(hook, _pointer).value for hook in hooks)
    lib.sqlite3_vfs_register(ctypes.byref(ours), 1)
    try:
        yield disk
    finally:
        lib.sqlite3_vfs_unregister(ctypes.byref(ours))
        lib.sqlite3_vfs_register(real, 1)
        disk.happened("the end")
