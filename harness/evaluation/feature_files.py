"""A feature table on disk: rows, which of them are there, and a checksum of each, so that no count comes from a rotten row.

``table.f32`` (N, *F) float32; ``done.npy`` (N,) bool; ``crc32.npy`` (N,) uint32, of the bytes of each row that is there;
``shape.json`` *F; ``of.json`` whose features these are.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.system.files import save_array, save_text

Rows = np.memmap[Any, np.dtype[np.float32]]
Sums = npt.NDArray[np.uint32]
_MOST_DIMENSIONS = 8


class RottenTableError(ValueError):
    """What is wrong with a table, as the end of a sentence that begins with its name."""


@dataclass
class FeatureFiles:
    """An open table.

    Attributes:
        folder: where it is.
        rows: (N, *F) float32, memory-mapped; only those of ``done`` hold features.
        done: (N,) bool.
        sums: (N,) uint32, CRC-32 of each row that is done.
    """

    folder: Path
    rows: Rows
    done: npt.NDArray[np.bool_]
    sums: Sums

    @classmethod
    def create(cls, folder: Path, n: int, shape: tuple[int, ...], of: Mapping[str, Any]) -> None:
        """Make an empty table of n rows; a full disk is met here, as an error.

        Raises:
            OSError: when it cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "table.f32").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, n * 4 * int(np.prod(shape)))
        save_array(folder / "crc32.npy", np.zeros(n, np.uint32))
        save_array(folder / "done.npy", np.zeros(n, dtype=bool))
        save_text(folder / "of.json", json.dumps(dict(of)))
        save_text(folder / "shape.json", json.dumps(list(shape)))  # last: a table is there when this is

    @classmethod
    def open(cls, folder: Path, *, is_writable: bool = True) -> FeatureFiles:
        """Open a table; its rows are not looked at.

        Raises:
            RottenTableError: when its files do not fit together, or one is gone.
        """
        try:
            shape = tuple(json.loads((folder / "shape.json").read_text()))
            done = np.load(
                folder / "done.npy", allow_pickle=False
            )  # before the sums: they are written in this order
            sums = np.load(folder / "crc32.npy", allow_pickle=False)
            _refuse_misfits(folder, shape, done, sums)
            mode: Any = "r+" if is_writable else "r"
            rows = np.memmap(folder / "table.f32", dtype=np.float32, mode=mode, shape=(len(done), *shape))
        except FileNotFoundError as error:
            raise RottenTableError(f"is incomplete ({error.filename} is gone)") from error
        except (ValueError, TypeError, EOFError) as error:
            raise RottenTableError(f"cannot be read ({error})") from error
        return cls(folder, rows, done, sums)

    def put(self, rows: npt.NDArray[np.integer[Any]], features: npt.NDArray[np.float32]) -> None:
        """Write some rows; they count when ``record`` has been called.

        Args:
            rows: (n,) numbers.
            features: (n, *F) float32.
        """
        self.rows[rows] = features
        self.sums[rows] = checksums(features)  # of what was meant, not of what the disk made of it
        self.done[rows] = True

    def record(self) -> None:
        """Say which rows are there, after they are on disk."""
        self.rows.flush()
        save_array(self.folder / "crc32.npy", self.sums)
        save_array(self.folder / "done.npy", self.done)

    def check(self, rows: npt.NDArray[np.integer[Any]]) -> None:
        """Compare the rows of these that are done with their checksums.

        Raises:
            RottenTableError: when one is not what was written.
        """
        there = rows[self.done[rows]]
        plain = np.asarray(self.rows)
        found = np.fromiter((zlib.crc32(plain[row]) for row in there.tolist()), np.uint32, len(there))
        n_wrong = int((found != self.sums[there]).sum())
        if n_wrong:
            raise RottenTableError(
                f"is not what was written: {n_wrong:,} of {len(there):,} rows have other bytes"
            )


def checksums(features: npt.NDArray[np.float32]) -> Sums:
    """CRC-32 of the bytes of each row: (n, *F) float32 → (n,) uint32.

    >>> checksums(np.zeros((2, 3), np.float32))
    array([2077607535, 2077607535], dtype=uint32)
    """
    rows = np.ascontiguousarray(features)
    return np.fromiter((zlib.crc32(row) for row in rows), np.uint32, len(rows))


def is_table(folder: Path) -> bool:
    """Whether a table is there; one that was killed while it was made is none."""
    return (folder / "shape.json").exists()


def has_checksums(folder: Path) -> bool:
    """Whether its rows can be checked; those of older versions cannot."""
    return (folder / "crc32.npy").exists()


def made_of(folder: Path) -> dict[str, Any]:
    """Whose features these are, as ``create`` was told; empty where it was not."""
    try:
        told = json.loads((folder / "of.json").read_text())
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _refuse_misfits(folder: Path, shape: tuple[Any, ...], done: Any, sums: Any) -> None:
    if len(shape) > _MOST_DIMENSIONS or not all(type(size) is int and size > 0 for size in shape):
        raise ValueError(f"shape.json has {shape!a:.60}")
    n_bytes, found = len(done) * 4 * int(np.prod(shape)), (folder / "table.f32").stat().st_size
    if done.dtype != bool or sums.dtype != np.uint32 or done.ndim != 1 or sums.shape != done.shape:
        raise ValueError("done.npy and crc32.npy do not belong together")
    if found != n_bytes:  # a map of a short file would be filled up with zeros
        raise ValueError(f"table.f32 has {found:,} bytes, and {n_bytes:,} are recorded")
