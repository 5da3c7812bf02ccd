"""Wait for the jobs of a batch, and say which runs have ended, from the run folders and what the engine says."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence

from harness.errors import DispatchError
from harness.jobs.batches import Batch, JobState
from harness.jobs.endings import how_it_ended
from harness.jobs.executors import Engine
from harness.runs import RunResult, RunSpec, folders
from harness.system.folders import Places

log = logging.getLogger("fsbench.dispatch")
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0
_GRACE_SECONDS = 10.0  # until a folder written on another host is believed to be missing


class Waiting:
    """The runs of some groups that have not ended yet."""

    def __init__(self, batch: Batch, numbers: Sequence[int], engine: Engine, places: Places) -> None:
        self._batch, self._engine, self._places = batch, engine, places
        self._pending: dict[str, RunSpec] = {}
        self._groups: dict[str, list[int]] = {}
        for number in numbers:
            for spec in batch.group(number).specs:
                self._pending[spec.id] = spec
                self._groups.setdefault(spec.id, []).append(number)
        self._alive: dict[int, str] = dict.fromkeys(numbers, "submitted")
        self._told: dict[int, str] = {}

    def results(self) -> Iterator[RunResult]:
        """Results as their folders appear; in the end a failed one, in no folder, for each run without."""
        pause, quiet_since = _FIRST_PAUSE, time.monotonic()
        grace = _GRACE_SECONDS if self._batch.executor == "slurm" else 0.0
        while self._pending:
            self._look()  # before the folders: who has ended has written
            ended = [run_id for run_id in self._pending if self._has_ended(run_id)]
            for run_id in ended:
                del self._pending[run_id]
                yield RunResult.load(self._places.runs / run_id)
            if self._alive:
                quiet_since = time.monotonic()
            elif time.monotonic() - quiet_since > grace:
                break
            pause = _FIRST_PAUSE if ended else min(1.2 * pause, _LONGEST_PAUSE)
            if self._pending:
                time.sleep(pause)
        for spec in self._pending.values():
            yield RunResult(spec, "failed", traceback=self._why_lost(spec.id))

    def _look(self) -> None:
        """Ask the engine; while it does not answer, what it said last is believed."""
        self._engine.advance(self._batch)
        try:
            self._alive = self._engine.alive(self._batch)
        except DispatchError as error:
            log.warning("%s", error)
        for number, state in self._alive.items():
            if self._told.get(number) != state:
                log.info("job %d: %s", number, state.lower())
                self._told[number] = state

    def _has_ended(self, run_id: str) -> bool:
        """Whether a folder is what these jobs leave; a failed one may be older while they are alive."""
        outcome = folders.outcome(self._places.runs, run_id)
        if outcome is None or outcome.get("status") == "done":
            return outcome is not None
        return not any(number in self._alive for number in self._groups[run_id])

    def _why_lost(self, run_id: str) -> str:
        said = [JobState.load(self._batch.group_path(number)) for number in self._groups[run_id]]
        messages = [state.message for state in said if state and state.message]
        if messages:
            return messages[-1]
        numbers = self._groups[run_id]
        killed = [number for number, s in zip(numbers, said, strict=True) if s and s.state == "started"]
        if killed and not self._batch.is_cancelled:
            return f"{how_it_ended(self._batch, killed[0])} `fsbench resume` goes on with it."
        if self._batch.is_cancelled:
            return "its job was cancelled; `fsbench resume` goes on with it."
        if all(state is None for state in said):
            return (
                f"its job ended before it started; is {self._batch.path} on a file system that the cluster shares? "
                "`fsbench resume` starts it again."
            )
        return f"its job ended without a result (logs: {self._batch.path}/log); `fsbench resume` goes on with it."
