"""Plan → run → collect: what is already known is skipped, what was written is ingested exactly once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harness import planning
from harness.places import Places
from harness.runs import RunResult, RunSpec

if TYPE_CHECKING:
    from harness.progress import Progress
    from harness.store import Store

State = Literal["stored", "written", "new"]


@dataclass(frozen=True)
class Planned:
    """A run and where it stands: in the database, in ``runs/`` only, or still to do."""

    spec: RunSpec
    state: State


def classify(
    specs: Sequence[RunSpec], places: Places, store: Store | None, *, force: bool = False
) -> list[Planned]:
    """Tell which specs are in the database or in ``runs/`` already; with ``force`` all are new."""
    stored = store.known_ids([s.id for s in specs]) if store and not force else set()

    def state(spec: RunSpec) -> State:
        if spec.id in stored:
            return "stored"
        return "written" if not force and _is_done(places.runs / spec.id) else "new"

    return [Planned(spec, state(spec)) for spec in specs]


def run_inline(planned: Sequence[Planned], places: Places, store: Store, progress: Progress, *, device: str = "auto",
               force: bool = False) -> Iterator[RunResult]:  # fmt: skip
    """Carry out what is new in this process, ingest it as it ends, and collect what was only written.

    Yields:
        Results in the order in which they reach the database.
    """
    for entry in planned:
        if entry.state == "written":
            yield _ingest(RunResult.load(places.runs / entry.spec.id), store)
    todo = [entry.spec for entry in planned if entry.state == "new"]
    for group in planning.grouped(todo):
        from harness import worker

        for result in worker.carry_out(group, places, device, progress, force=force):
            yield _ingest(result, store)


def collect(places: Places, store: Store) -> dict[str, int]:
    """Ingest every run folder; known ones change nothing.

    Returns:
        How many were "new", "known", "replicate" or "replaced".
    """
    outcomes: dict[str, int] = {}
    for folder in run_folders(places.runs):
        outcome = store.ingest(RunResult.load(folder))
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    return outcomes


def run_folders(runs: Path) -> list[Path]:
    """Complete run folders, sorted by id."""
    return sorted(p.parent for p in runs.glob("[0-9a-f]*/run.json")) if runs.is_dir() else []


def _ingest(result: RunResult, store: Store) -> RunResult:
    store.ingest(result)
    return result


def _is_done(folder: Path) -> bool:
    return (folder / "run.json").exists() and RunResult.load(folder).status == "done"
