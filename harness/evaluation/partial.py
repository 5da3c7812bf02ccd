"""Predictions of an unfinished run, in pieces: what was interrupted goes on, and shards come together."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from harness.errors import StoreError
from harness.system.files import aside
from harness.system.progress import Progress

_SAVE_EVERY_SECONDS = 10.0
Predictions = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Piece:
    """Predictions of the episodes from ``first`` on.

    Attributes:
        first: position in the run's list.
        predictions: (e, …) int64, of an episode as its list says (``predicted_shape``).
        seconds: that they took.
    """

    first: int
    predictions: Predictions
    seconds: float

    @property
    def episodes(self) -> range:
        """Positions in the run's list."""
        return range(self.first, self.first + len(self.predictions))


def save(folder: Path, piece: Piece) -> None:
    """Write ``predictions-<first>.npz``, replacing a shorter one.

    Raises:
        StoreError: when the disk is full or not writable.
    """
    path = folder / f"predictions-{piece.first}.npz"
    try:
        with aside(path) as temporary, temporary.open("wb") as file:
            np.savez(file, predictions=piece.predictions, seconds=np.float64(piece.seconds))
    except OSError as error:
        raise StoreError(
            f"{path} could not be written: {error.strerror or error}. Free some space, then type the same command "
            "again; it goes on from the last saved episode."
        ) from error


def load(folder: Path) -> list[Piece]:
    """Every piece of a folder, by position; a damaged one is as good as none."""
    pieces = []
    for path in folder.glob("predictions-*.npz"):
        try:
            with np.load(path, allow_pickle=False) as saved:
                pieces.append(
                    Piece(
                        int(path.stem.partition("-")[2]), saved["predictions"].copy(), float(saved["seconds"])
                    )
                )
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            path.unlink(missing_ok=True)
    return sorted(pieces, key=lambda piece: piece.first)


def missing(pieces: list[Piece], episodes: range) -> Iterator[range]:
    """Stretches of ``episodes`` that no piece holds, in order."""
    start = episodes.start
    for piece in sorted(pieces, key=lambda p: p.first):
        if piece.episodes.stop <= start:
            continue
        if piece.first >= episodes.stop:
            break
        if piece.first > start:
            yield range(start, piece.first)
        start = piece.episodes.stop
    if start < episodes.stop:
        yield range(start, episodes.stop)


def whole(pieces: list[Piece], n_episodes: int) -> Predictions | None:
    """(E, …) int64, or None while a stretch is missing."""
    if list(missing(pieces, range(n_episodes))):
        return None
    together = np.empty((n_episodes, *pieces[0].predictions.shape[1:]), dtype=np.int64)
    for piece in pieces:
        inside = piece.predictions[: max(0, n_episodes - piece.first)]  # a piece may lie beyond a shorter run
        together[piece.first : piece.first + len(inside)] = inside
    return together


class Growing:
    """Predictions of one stretch as they come, saved every few seconds and when the ``with`` block ends, however it ends.

    Attributes:
        n_done: episodes taken so far.
    """

    def __init__(self, folder: Path, stretch: range, shape: tuple[int, ...], shown: Progress) -> None:
        self._folder, self._first, self._shown = folder, stretch.start, shown
        self._predictions = np.zeros((len(stretch), *shape), dtype=np.int64)
        self._n_saved, self.n_done = 0, 0
        self._began = self._last_saved = time.monotonic()

    def __enter__(self) -> Growing:
        return self

    def __exit__(self, *error: object) -> None:
        self.save()

    def add(self, _start: int, given: Predictions) -> None:
        """Take the next batch, (e, *shape)."""
        self._predictions[self.n_done : self.n_done + len(given)] = given
        self.n_done += len(given)
        self._shown.advance(len(given))
        if time.monotonic() - self._last_saved > _SAVE_EVERY_SECONDS:
            self.save()

    def save(self) -> None:
        """Write what is new.

        Raises:
            StoreError: when the disk is full or not writable.
        """
        if self.n_done > self._n_saved:
            seconds = time.monotonic() - self._began
            save(self._folder, Piece(self._first, self._predictions[: self.n_done], seconds))
            self._n_saved, self._last_saved = self.n_done, time.monotonic()
