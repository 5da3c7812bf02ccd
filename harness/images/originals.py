"""The source bytes of a prepared set's images: one file of bytes and an index, written in any order, resumable."""

from __future__ import annotations

import csv
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from io import BufferedWriter
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np
import numpy.typing as npt

from harness.errors import DataError
from harness.images.datasets import how_to_prepare
from harness.images.pipelines import extent

BYTES, INDEX, CARDS = "originals.bin", "originals.npy", "images.csv"
JOURNAL = "journal.jsonl"
_FLUSH_EVERY = 256
_N_COLUMNS = 5  # offset, length, CRC-32, height, width


class Picture(NamedTuple):
    """One picture on its way into a prepared set.

    Attributes:
        class_name: the class it belongs to.
        file: its name at the source, unique within its class.
        read: gives the encoded bytes; called once, before the next picture is taken.
        group: what its class belongs to (alphabet, superclass).
        author: who drew or took it, empty when unknown.
        order: its place within the class; pictures of equal order are sorted by ``file``.
        path: where it is at the source, for messages; empty where its class and file say it.
    """

    class_name: str
    file: str
    read: Callable[[], bytes]
    group: str = ""
    author: str = ""
    order: int = 0
    path: str = ""


class Entry(NamedTuple):
    """A picture already written: its description, and where its bytes are."""

    class_name: str
    group: str
    order: int
    file: str
    author: str
    offset: int
    length: int
    crc32: int
    height: int
    width: int
    path: str = ""

    @property
    def own_path(self) -> str:
        """What a user knows the picture by."""
        return self.path or f"{self.class_name}/{self.file}"


class OriginalsWriter:
    """Appends pictures to ``originals.bin`` and says so in a journal, so that a killed run goes on where it was.

    Args:
        folder: exists; what an earlier run left in it is taken up.
        is_upright: whether pictures are measured as their EXIF orientation turns them.
    """

    def __init__(self, folder: Path, is_upright: bool = False) -> None:
        self._folder, self._is_upright = folder, is_upright
        self.entries: dict[tuple[str, str], Entry] = {(e.class_name, e.file): e for e in _journal(folder)}
        self._end = max((e.offset + e.length for e in self.entries.values()), default=0)
        self._waiting: list[Entry] = []

    def __enter__(self) -> OriginalsWriter:
        path = self._folder / BYTES
        path.touch()
        os.truncate(path, self._end)
        _rewrite_journal(self._folder, self.entries.values())
        self._bytes: BufferedWriter = path.open("ab")
        self._lines: TextIO = (self._folder / JOURNAL).open("a", encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._flush()
        finally:
            self._bytes.close()
            self._lines.close()

    def add(self, picture: Picture) -> None:
        """Append one picture; one that is there already is skipped without reading it."""
        key = (picture.class_name, picture.file)
        if key in self.entries:
            return
        content = picture.read()
        entry = Entry(
            picture.class_name,
            picture.group,
            picture.order,
            picture.file,
            picture.author,
            self._end,
            len(content),
            zlib.crc32(content),
            *extent(content, self._is_upright),
            picture.path,
        )
        self._bytes.write(content)
        self.entries[key] = entry
        self._end += len(content)
        self._waiting.append(entry)
        if len(self._waiting) >= _FLUSH_EVERY:
            self._flush()

    def _flush(self) -> None:
        self._bytes.flush()  # the bytes first: the journal never names what is not there
        self._lines.writelines(json.dumps(entry) + "\n" for entry in self._waiting)
        self._lines.flush()
        self._waiting.clear()


def write_index(folder: Path, entries: list[Entry]) -> None:
    """Write the index and the cards of the pictures, given in row order."""
    index = np.array([(e.offset, e.length, e.crc32, e.height, e.width) for e in entries], dtype=np.int64)
    np.save(folder / INDEX, index)
    with (folder / CARDS).open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["class", "file", "author"])
        table.writerows((e.class_name, e.file, e.author) for e in entries)


class Originals:
    """Reads the source bytes of a prepared set by row.

    Raises:
        DataError: when the files are absent or do not fit each other.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self.index: npt.NDArray[np.int64] = np.load(folder / INDEX)
            self._file = (folder / BYTES).open("rb")
        except (OSError, ValueError) as error:
            raise DataError(
                f"The originals of {folder.name} cannot be read: {error}. {_remedy(folder)}"
            ) from error
        size = os.fstat(self._file.fileno()).st_size
        if self.index.ndim != 2 or (self.index[:, :2].sum(axis=1) > size).any():
            raise DataError(f"{folder / BYTES} is truncated ({size:,} bytes). {_remedy(folder)}")

    def __enter__(self) -> Originals:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def extents(self) -> npt.NDArray[np.int64]:
        """(N, 2) int64 height and width of each picture in pixels."""
        if self.index.shape[1] == _N_COLUMNS:
            return self.index[:, 3:]
        rows = range(len(self.index))  # a set that was prepared before they were recorded
        return np.array([extent(self.read(row)) for row in rows], dtype=np.int64).reshape(
            -1, 2
        )  # none is turned

    def read(self, row: int) -> bytes:
        """Source bytes of one image; may be called from several threads."""
        offset, length = self.index[row, :2]
        return os.pread(self._file.fileno(), int(length), int(offset))

    def is_intact(self, row: int) -> bool:
        """Whether the bytes are those that were prepared."""
        return zlib.crc32(self.read(row)) == int(self.index[row, 2])


def cards(folder: Path) -> Iterator[tuple[str, str, str]]:
    """(class, file, author) of each image, in row order."""
    with (folder / CARDS).open(newline="", encoding="utf-8") as stream:
        rows = csv.reader(stream)
        next(rows, None)
        yield from ((name, file, author) for name, file, author in rows)


def _journal(folder: Path) -> Iterator[Entry]:
    try:
        lines = (folder / JOURNAL).read_text(encoding="utf-8").splitlines(keepends=True)
        size = (folder / BYTES).stat().st_size
    except FileNotFoundError:
        return
    for line in lines:
        if not line.endswith("\n"):  # the line that the kill cut
            return
        entry = Entry(*json.loads(line))
        if entry.offset + entry.length <= size:
            yield entry


def _rewrite_journal(folder: Path, entries: Iterable[Entry]) -> None:
    (folder / JOURNAL).write_text("".join(json.dumps(e) + "\n" for e in entries), encoding="utf-8")


def _remedy(folder: Path) -> str:
    return f"Remove {folder} and prepare it again. {how_to_prepare(folder.name)}"
