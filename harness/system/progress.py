"""How far long work has come: a live bar on a terminal, plain lines elsewhere, and a small file for others to read."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from harness.system.files import save_text

log = logging.getLogger("fsbench.progress")
_WINDOWS = 10  # how many times the stretch that tells the pace goes into a stage
_LEAST = 5.0  # seconds before a part of the first unit tells anything: what is told too low stands still


class TimeLeft:
    """Estimates when a stage ends, from the pace of about the last tenth of its work; it never grows.

    Where work slows down the estimate stands still until it is true again: a number that jumps up tells nobody when to
    come back.

    Args:
        total, done: units of the stage, and those that were there before it began.
        now: seconds of any clock.
    """

    def __init__(self, total: int, done: int, now: float) -> None:
        self._total, self._done, self._now = total, float(done), now
        self._whole = done
        self._pace: float | None = None  # seconds a unit
        self.seconds: float | None = None

    def advance(self, n: int, now: float, part: float = 0.0) -> None:
        """Come ``n`` units forward, and so far into the next (in [0, 1)); ``seconds`` is None before that."""
        self._whole += n
        n_units = self._whole + part - self._done
        is_early = self._pace is None and n == 0 and now - self._now < _LEAST
        if n_units <= 0 or is_early:
            return
        self._done += n_units
        pace = max(0.0, now - self._now) / n_units
        weight = 1.0 if self._pace is None else min(1.0, _WINDOWS * n_units / self._total)
        self._pace = pace if self._pace is None else self._pace + weight * (pace - self._pace)
        self._now = now
        left = self._pace * max(0, self._total - self._done)
        self.seconds = left if self.seconds is None else min(self.seconds, left)

    def __str__(self) -> str:
        """As h:mm:ss or m:ss; unknown before anything is done."""
        return "–:––" if self.seconds is None else clock(self.seconds)


def clock(seconds: float) -> str:
    """Write a length of time as m:ss, or h:mm:ss from an hour on; rounded up, so that 0:00 is the end.

    >>> clock(59.2), clock(3600)
    ('1:00', '1:00:00')
    """
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Progress(Protocol):
    """Told by whoever works: a stage begins, and comes forward."""

    def begin(self, stage: str, total: int, unit: str, done: int = 0) -> None:
        """Start a stage of ``total`` units, ``done`` of which are there already."""

    def advance(self, n: int, note: str = "", part: float = 0.0) -> None:
        """Come ``n`` units forward; ``note`` is shown beside (loss, accuracy, speed).

        ``part`` of the next unit is done, in [0, 1): time left is told of long units, too.
        """

    def end(self) -> None:
        """Close the stage."""


class Silent:
    """Says nothing."""

    def begin(self, stage: str, total: int, unit: str, done: int = 0) -> None:
        """Ignore."""

    def advance(self, n: int, note: str = "", part: float = 0.0) -> None:
        """Ignore."""

    def end(self) -> None:
        """Ignore."""


class Lines:
    """One log line when a stage begins and ends, and at most one every ``every`` seconds between."""

    def __init__(self, every: float = 10.0) -> None:
        self.every = every

    def begin(self, stage: str, total: int, unit: str, done: int = 0) -> None:
        """Start a stage."""
        self.stage, self.total, self.unit, self.done = stage, total, unit, done
        self.started, self.said, self.note = time.monotonic(), time.monotonic(), ""
        self.left = TimeLeft(total, done, self.started)

    def advance(self, n: int, note: str = "", part: float = 0.0) -> None:
        """Come forward."""
        self.done, self.note = self.done + n, note or self.note
        self.left.advance(n, time.monotonic(), part)
        if time.monotonic() - self.said >= self.every and self.done < self.total:
            self.said = time.monotonic()
            log.info("%s %d/%d %s%s, %s left", *self._where(), self.left)

    def end(self) -> None:
        """Say how long it took."""
        seconds = time.monotonic() - self.started
        log.info("%s %d/%d %s%s, %.1f s", *self._where(), seconds)

    def _where(self) -> tuple[str, int, int, str, str]:
        return self.stage, self.done, self.total, self.unit, f" ({self.note})" if self.note else ""


@contextmanager
def stage(progress: Progress, name: str, total: int, unit: str, done: int = 0) -> Iterator[Progress]:
    """Open a stage and close it, also when it is interrupted; of nothing to do nothing is shown."""
    progress = progress if total else Silent()
    progress.begin(name, total, unit, done)
    try:
        yield progress
    finally:
        progress.end()


class Live:
    """One bar on the terminal that is redrawn in place."""

    def begin(self, stage: str, total: int, unit: str, done: int = 0) -> None:
        """Start a bar."""
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeElapsedColumn,
        )
        from rich.progress import Progress as Bars

        self._bars = Bars(
            TextColumn("{task.description:>8}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeElapsedColumn(),
            TextColumn("left {task.fields[left]}"), TextColumn("{task.fields[note]}"), console=Console(stderr=True),
        )  # fmt: skip
        self._left = TimeLeft(total, done, time.monotonic())
        self._task = self._bars.add_task(stage, total=total, completed=done, note="", left=self._left)
        self._bars.start()

    def advance(self, n: int, note: str = "", part: float = 0.0) -> None:
        """Redraw."""
        self._left.advance(n, time.monotonic(), part)
        if note:
            self._bars.update(self._task, advance=n, note=note)
        else:
            self._bars.update(self._task, advance=n)

    def end(self) -> None:
        """Leave the bar as it stands."""
        self._bars.stop()


def choose(is_terminal: bool) -> Progress:
    """A live bar for a terminal, lines for everything else."""
    return Live() if is_terminal else Lines()


class Recorded:
    """Tells another Progress, and writes a file at most once a second."""

    def __init__(self, path: Path, inner: Progress) -> None:
        self.path, self._inner = path, inner
        self._written = 0.0

    def begin(self, stage: str, total: int, unit: str, done: int = 0) -> None:
        """Start a stage."""
        self._stage: dict[str, Any] = {
            "stage": stage, "total": total, "unit": unit, "done": done, "note": "", "seconds_left": None,
        }  # fmt: skip
        self._left = TimeLeft(total, done, time.monotonic())
        self._inner.begin(stage, total, unit, done)
        self._write()

    def advance(self, n: int, note: str = "", part: float = 0.0) -> None:
        """Come forward."""
        self._stage["done"] += n
        self._stage["note"] = note or self._stage["note"]
        self._left.advance(n, time.monotonic(), part)
        self._stage["seconds_left"] = self._left.seconds
        self._inner.advance(n, note, part)
        if time.monotonic() - self._written >= 1.0:
            self._write()

    def end(self) -> None:
        """Close the stage; the next one writes."""
        self._inner.end()

    def _write(self) -> None:
        self._written = time.monotonic()
        with suppress(OSError):  # a full disk is told by whoever writes results, not by whoever watches
            save_text(self.path, json.dumps(self._stage), is_durable=False)
