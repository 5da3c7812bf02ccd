"""Plan → run → collect: what is already known is skipped, what was written is ingested exactly once.

Jobs write folders; this side alone opens the database. It may die at any moment: the folders stay, and ``collect``,
``status`` and ``resume`` need nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.errors import ConfigError, DispatchError, RecordError, visible
from harness.jobs import executors, status
from harness.jobs.batches import Batch
from harness.jobs.packing import Ways, pack
from harness.jobs.waiting import Waiting
from harness.method import registry
from harness.runs import RunResult, RunSpec, agreement, folders, planning
from harness.runs.keeper import Keeper
from harness.system.folders import Places
from harness.system.progress import Progress
from harness.system.quarantine import set_aside

log = logging.getLogger("fsbench.dispatch")
State = Literal["stored", "written", "new"]


@dataclass(frozen=True)
class Planned:
    """A run and where it stands: in the database, in ``runs/`` only, or still to do."""

    spec: RunSpec
    state: State


def classify(
    specs: Sequence[RunSpec], places: Places, store: Keeper | None, *, force: bool = False
) -> list[Planned]:
    """Tell which specs are in the database or in ``runs/`` already; with ``force`` all are new."""
    ids = [spec.id for spec in specs]
    stored = store.known_ids(ids) if store and not force else set()

    def state(run_id: str) -> State:
        if run_id in stored:
            return "stored"
        return "written" if not force and folders.is_done(places.runs, run_id) else "new"

    return [Planned(spec, state(run_id)) for spec, run_id in zip(specs, ids, strict=True)]


def run_inline(planned: Sequence[Planned], places: Places, store: Keeper, progress: Progress, *, device: str = "auto",
               force: bool = False) -> Iterator[RunResult]:  # fmt: skip
    """Carry out what is new in this process, ingest it as it ends, and collect what was only written.

    Yields:
        Results in the order in which they reach the database.
    """
    rotten: list[RunSpec] = []
    yield from _collect_written(planned, places, store, rotten)
    todo = [entry.spec for entry in planned if entry.state == "new"] + rotten
    if force:
        folders.start_over(todo, places)
    _vouch(todo, places)
    for group in planning.grouped(todo):
        from harness.jobs import worker

        for result in worker.carry_out(group, places, device, progress):
            yield _ingest(result, places, store)


def run_jobs(planned: Sequence[Planned], places: Places, store: Keeper, ways: Ways, *,
             force: bool = False) -> Iterator[RunResult]:  # fmt: skip
    """Give what is new to jobs, wait, and ingest each result as its folder appears.

    Yields:
        Results in the order in which they reach the database; a job that ended without one gives a failed result
        that is in no database.

    Raises:
        DispatchError: when the engine does not take the jobs.
    """
    rotten: list[RunSpec] = []
    yield from _collect_written(planned, places, store, rotten)
    todo = [entry.spec for entry in planned if entry.state == "new"] + rotten
    if not todo:
        return
    if force:
        folders.start_over(todo, places)
    for folder in (places.runs, places.data, places.cache):
        folder.mkdir(parents=True, exist_ok=True)
    _vouch(todo, places)
    options = {"jobs": ways.jobs, "slurm": dict(ways.slurm)}
    batch = Batch.create(places.runs, ways.executor, pack(todo, places, ways), options)
    with batch.attend():
        yield from _submit_and_wait(batch, batch.numbers, places, store)


def resume(places: Places, store: Keeper, named: str = "") -> Iterator[RunResult]:
    """Give to jobs again what failed, was stopped or vanished, in the batches as they were planned.

    Args:
        places: where results and caches are.
        store: takes the results.
        named: the file of the runs' method, as the user names it; else empty.

    Yields:
        Results as ``run_jobs`` does.

    Raises:
        ConfigError: when a run was made by a file that the user never named here.
        DispatchError: after all results, when an engine took none of a batch's jobs.
    """
    collect(places, store)
    waiting: list[Iterator[RunResult]] = []
    refusals: list[DispatchError] = []
    with ExitStack() as attended:
        for batch in Batch.every(places.runs):
            if batch.is_attended:
                log.warning("the jobs of %s are left to the command that is at them", batch.path)
                continue
            numbers = lost_groups(batch, places)
            if not numbers:
                continue
            _refuse_unnamed(batch, numbers, places, named)
            for number in numbers:
                batch.forget(number)
            (batch.path / "cancelled").unlink(missing_ok=True)
            attended.enter_context(batch.attend())
            try:
                waiting.append(_submit_and_wait(batch, numbers, places, store))
            except DispatchError as error:
                refusals.append(error)
        for results in waiting:
            yield from results
    if refusals:
        raise refusals[0]


def _refuse_unnamed(batch: Batch, numbers: Sequence[int], places: Places, named: str) -> None:
    """A home may come from elsewhere, jobs and all: their files run only once the user has named them."""
    groups = [batch.group(number) for number in numbers]
    for method in planning.methods_of(spec for group in groups for spec in (*group.specs, *group.fits)):
        if named and method.source_sha256:
            registry.vouch_for(named, method, places.cache)
        registry.refuse_unnamed(method, places.cache)


def lost_groups(batch: Batch, places: Places) -> list[int]:
    """Groups of a batch with runs that are not done and no job that is alive."""
    mine = {
        s.spec.id
        for s in status.statuses(places.runs)
        if s.batch == batch and s.state in (*status.UNFINISHED, "queued")
    }
    if not mine:
        return []
    alive = executors.engine(batch).alive(batch)
    groups = {n: batch.group(n) for n in batch.numbers}
    lost = {n for n, group in groups.items() if n not in alive and mine & {spec.id for spec in group.specs}}
    below = {n for number in lost for n in groups[number].after if groups[n].fits}
    unmade = {
        n for n in below if not all(folders.is_fitted(places.cache, fit.fit_key) for fit in groups[n].fits)
    }
    return sorted(lost | (unmade - set(alive)))


def cancel(places: Places, prefixes: Sequence[str] = ()) -> int:
    """End the jobs of every batch that is not finished, or of those that hold the named runs.

    Returns:
        The number of runs given up; their work is saved, and ``resume`` goes on with it.

    Raises:
        ConfigError: when no such run was given to jobs.
    """
    n = 0
    known = [s.spec.id for s in status.statuses(places.runs)]
    unknown = [p for p in prefixes if not any(run_id.startswith(p) for run_id in known)]
    if unknown:
        raise ConfigError(
            f"No run that was given to jobs has an id that begins with `{'`, `'.join(unknown)}`."
        )
    found = [s for s in status.statuses(places.runs) if s.state in ("not submitted", "queued", "running")]
    chosen = [s for s in found if not prefixes or any(s.spec.id.startswith(p) for p in prefixes)]
    for batch in {s.batch.path: s.batch for s in chosen}.values():
        batch.cancel()
        executors.engine(batch).cancel(batch)
        n += sum(s.batch == batch for s in found)
    return n


def collect(places: Places, store: Keeper) -> dict[str, int]:
    """Ingest every run folder; known ones change nothing, and one that is rotten is named and left out.

    Returns:
        How many were "new", "known", "replicate", "replaced" or "skipped".
    """
    outcomes: dict[str, int] = {}
    for folder in folders.complete(places.runs):
        try:
            outcome = store.ingest(_loaded(folder))
        except RecordError as error:
            log.warning("skipped: %s `fsbench run …` with the same words makes it anew.", visible(str(error)))
            outcome = "skipped"
        else:
            folders.mark_collected(folder, places.db)
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    return outcomes


def _loaded(folder: Path) -> RunResult:
    """A run folder that has the name of its run and, where its setting is known, shows that setting's episodes.

    Raises:
        RecordError: when it is not.
    """
    result = RunResult.load(folder)
    problem = agreement.differs_from_ours(result)
    if folder.name != result.spec.id:
        problem = f"it holds the run {result.spec.id}"
    if problem:
        raise RecordError(f"{folder} is not what its name says: {problem}. Move it away.")
    return result


def _vouch(specs: Sequence[RunSpec], places: Places) -> None:
    """The methods of a plan are what the user has just typed."""
    for method in planning.methods_of(specs):
        registry.vouch(method, places.cache)


def _collect_written(planned: Sequence[Planned], places: Places, store: Keeper,
                     rotten: list[RunSpec]) -> Iterator[RunResult]:  # fmt: skip
    """Ingest what only lies in ``runs/``; what cannot be read is moved aside and added to ``rotten``, to be made anew."""
    for entry in planned:
        if entry.state == "written":
            try:
                result = _ingest(_loaded(places.runs / entry.spec.id), places, store)
            except RecordError as error:
                place = set_aside(places.runs / entry.spec.id, places.home)
                log.warning("%s It was moved to %s, and the run is made anew.", visible(str(error)), place)
                rotten.append(entry.spec)
            else:
                yield result


def _ingest(result: RunResult, places: Places, store: Keeper) -> RunResult:
    if store.ingest(result) == "replicate":
        log.warning(
            "run %s is in the database with other counts; both are kept, and `fsbench show %s` lists them",
            result.spec.id,
            result.spec.id,
        )
    folders.mark_collected(places.runs / result.spec.id, places.db)
    return result


def _submit_and_wait(
    batch: Batch, numbers: Sequence[int], places: Places, store: Keeper
) -> Iterator[RunResult]:
    """Submit groups at once; the iterator returned waits for them and ingests what they leave."""
    engine = executors.engine(batch)
    waiting = Waiting(batch, numbers, engine, places)
    engine.submit(batch, numbers)
    log.info("%d jobs given to %s (%s)", len(numbers), batch.executor, batch.path)
    return _stored(waiting, places, store)


def _stored(waiting: Waiting, places: Places, store: Keeper) -> Iterator[RunResult]:
    for result in waiting.results():
        has_folder = (places.runs / result.spec.id).is_dir()
        yield _ingest(result, places, store) if result.status == "done" or has_folder else result
