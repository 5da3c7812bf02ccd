"""How far a job has come, as a small file that others may read: ``progress.json`` in the run's partial folder."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.system.files import save_text
from harness.system.progress import Progress


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
            save_text(self.path, json.dumps({**self._stage, "written": time.time()}))


def seconds_left(told: Mapping[str, Any]) -> float | None:
    """Estimate the seconds until the stage ends; None before its first step."""
    came = told["done"] - told["first"]
    return (told["written"] - told["began"]) / came * (told["total"] - told["done"]) if came else None
