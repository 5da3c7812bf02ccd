"""How far long work has come: a live bar on a terminal, plain lines elsewhere, and a small file for others to read."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from harness.system.files import save_text

log = logging.getLogger("fsbench.progress")


class Progress(Protocol):
    """Told by whoever works: a stage begins, and comes forward."""

    def begin(self, stage: str, total: int, unit: str, done: int = 0) -> None:
        """Start a stage of ``total`` units, ``done`` of which are there already."""

    def advance(self, n: int, note: str = "") -> None:
        """Come ``n`` units forward; ``note`` is shown beside (loss, accuracy, speed)."""

    def end(self) -> None:
        """Close the stage."""


class Silent:
    """Says nothing."""

    def begin(self, stage: str, total: int, unit: str, done: int = 0) -> None:
        """Ignore."""

    def advance(self, n: int, note: str = "") -> None:
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
        self.first, self.started, self.said, self.note = done, time.monotonic(), time.monotonic(), ""

    def advance(self, n: int, note: str = "") -> None:
        """Come forward."""
        self.done, self.note = self.done + n, note or self.note
        if time.monotonic() - self.said >= self.every and self.done < self.total:
            self.said = time.monotonic()
            log.info("%s %d/%d %s%s, %s left", *self._where(), remaining(self))

    def end(self) -> None:
        """Say how long it took."""
        seconds = time.monotonic() - self.started
        log.info("%s %d/%d %s%s, %.1f s", *self._where(), seconds)

    def _where(self) -> tuple[str, int, int, str, str]:
        return self.stage, self.done, self.total, self.unit, f" ({self.note})" if self.note else ""


def remaining(lines: Lines) -> str:
    """Estimate the time left as m:ss, unknown before the first step."""
    elapsed, came = time.monotonic() - lines.started, lines.done - lines.first
    if not came:
        return "–:––"
    seconds = int(elapsed / came * (lines.total - lines.done))
    return f"{seconds // 60}:{seconds % 60:02d}"


@contextmanager
def stage(progress: Progress, name: str, total: int, unit: str, done: int = 0) -> Iterator[Progress]:
    """Open a stage and close it, also when it is interrupted."""
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
            TimeRemainingColumn,
        )
        from rich.progress import Progress as Bars

        self._bars = Bars(
            TextColumn("{task.description:>8}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeElapsedColumn(),
            TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[note]}"), console=Console(stderr=True),
        )  # fmt: skip
        self._task = self._bars.add_task(stage, total=total, completed=done, note="")
        self._bars.start()

    def advance(self, n: int, note: str = "") -> None:
        """Redraw."""
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
            "stage": stage, "total": total, "unit": unit, "first": done, "done": done, "note": "", "began": time.time(),
        }  # fmt: skip
        self._inner.begin(stage, total, unit, done)
        self._write()

    def advance(self, n: int, note: str = "") -> None:
        """Come forward."""
        self._stage["done"] += n
        self._stage["note"] = note or self._stage["note"]
        self._inner.advance(n, note)
        if time.monotonic() - self._written >= 1.0:
            self._write()

    def end(self) -> None:
        """Close the stage; the next one writes."""
        self._inner.end()

    def _write(self) -> None:
        self._written = time.monotonic()
        with suppress(OSError):  # a full disk is told by whoever writes results, not by whoever watches
            save_text(self.path, json.dumps({**self._stage, "written": time.time()}), is_durable=False)


def seconds_left(told: Mapping[str, Any]) -> float | None:
    """Estimate the seconds until the stage ends; None before its first step."""
    came = told["done"] - told["first"]
    return (told["written"] - told["began"]) / came * (told["total"] - told["done"]) if came else None
