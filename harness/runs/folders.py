"""Which folders of ``runs/`` are complete, unfinished, or to be done anew.

``<id>/`` is complete (it appeared by rename), ``.partial-<id>/`` belongs to an unfinished run, ``.jobs/`` to the jobs.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.runs.spec import RunSpec
from harness.system.folders import Places
from harness.system.secrets import without_credentials

_FORCED = "forced"  # empty while the old features are there
COLLECTED = "collected"  # in a run folder: the database that has it


def fit_folder(cache: Path, fit_key: str) -> Path:
    """Where a training keeps its state, its log of losses and, in the end, the fitted weights."""
    return cache / "fits" / fit_key


def is_fitted(cache: Path, fit_key: str) -> bool:
    """Whether a training has ended."""
    return (fit_folder(cache, fit_key) / "fit.json").exists()


def partial_folder(runs: Path, run_id: str) -> Path:
    """Where an unfinished run keeps its log, its locks and its predictions so far."""
    return runs / f".partial-{run_id}"


def lock_of(runs: Path, run_id: str, part: str) -> Path:
    """The lock of whoever is at a part of a run: its first episode, "ready" before them, "merge" after them."""
    return partial_folder(runs, run_id) / f"lock-{part}"


def complete(runs: Path) -> list[Path]:
    """Complete run folders, sorted by id."""
    return sorted(p.parent for p in runs.glob("[0-9a-f]*/run.json")) if runs.is_dir() else []


def outcome(runs: Path, run_id: str) -> dict[str, Any] | None:
    """The ``run.json`` of a complete run, None while there is none that counts; one that is rotten does not."""
    if (partial_folder(runs, run_id) / _FORCED).exists():
        return None
    try:
        found = json.loads((runs / run_id / "run.json").read_text())
    except (OSError, ValueError, RecursionError):
        return None
    is_told = isinstance(found, dict) and isinstance(found.get("traceback"), str)
    return found if is_told and found.get("status") in ("done", "failed") else None


def is_done(runs: Path, run_id: str) -> bool:
    """Whether a run has ended well."""
    found = outcome(runs, run_id)
    return found is not None and found.get("status") == "done"


def start_over(specs: Sequence[RunSpec], places: Places) -> None:
    """Forget the fits and unfinished work of some runs; older results do not count until new ones are there."""
    for spec in specs:
        shutil.rmtree(fit_folder(places.cache, spec.fit_key), ignore_errors=True)
        partial = partial_folder(places.runs, spec.id)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        (partial / _FORCED).touch()


def wants_new_features(runs: Path, run_id: str) -> bool:
    """Whether the old features are still to be thrown away; asks once, a second start keeps what the first made."""
    marker = partial_folder(runs, run_id) / _FORCED
    if not marker.exists() or marker.stat().st_size:
        return False
    marker.write_text("the features are new")
    return True


def clear(runs: Path, run_id: str) -> None:
    """Remove what an ended run left behind, also when it was killed between two renames."""
    shutil.rmtree(partial_folder(runs, run_id), ignore_errors=True)
    for left in (*runs.glob(f".{run_id}.*.new"), *runs.glob(f".{run_id}.*.old")):
        shutil.rmtree(left, ignore_errors=True)


def mark_collected(folder: Path, db: str) -> None:
    """Note in a run folder which database has it; only ``fsbench status`` reads this."""
    with suppress(OSError):  # a folder of somebody else's may be read only
        (folder / COLLECTED).write_text(without_credentials(db))


def is_collected(runs: Path, run_id: str) -> bool:
    """Whether a database has this result."""
    return (runs / run_id / COLLECTED).exists()
