"""Where jobs run: processes of this machine, or SLURM; both through submitit."""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from harness.errors import DispatchError
from harness.jobs.batches import Batch, JobState
from harness.jobs.entry import GroupJob
from harness.jobs.slurm_options import submitit_parameters
from harness.system.process import n_cpus

log = logging.getLogger("fsbench.executors")
MAX_REQUEUES = 50  # after time limits; each one goes on from the last epoch or piece
_FOREVER_MINUTES = 60 * 24 * 365


class Engine(Protocol):
    """Starts jobs and knows which are alive."""

    def submit(self, batch: Batch, numbers: Sequence[int]) -> None:
        """Take groups of a batch; those that must wait for others come after them."""

    def advance(self, batch: Batch) -> None:
        """Start what may start by now; called every now and then by the waiting dispatcher."""

    def alive(self, batch: Batch) -> dict[int, str]:
        """Group number → what the engine says of its job, for those that have not ended."""

    def cancel(self, batch: Batch) -> None:
        """End the jobs of a batch."""


def engine(batch: Batch) -> Engine:
    """The engine that a batch was given to.

    Raises:
        DispatchError: when it is SLURM and this machine has no sbatch.
    """
    options = batch.options
    if batch.executor == "slurm":
        return Slurm(options.get("slurm", {}))
    return LocalProcesses(options.get("jobs", 1))


@dataclass
class LocalProcesses:
    """Processes of this machine, so many at a time; processors and GPUs are divided among them.

    A process survives its dispatcher; what the dispatcher had not yet started waits for ``fsbench resume``.
    """

    jobs: int
    _queue: list[int] = field(default_factory=list)
    _started: dict[int, Any] = field(default_factory=dict)

    def submit(self, batch: Batch, numbers: Sequence[int]) -> None:
        """Queue the groups and start the first ones."""
        self._queue += numbers
        self.advance(batch)

    def advance(self, batch: Batch) -> None:
        """Start queued groups while there is room and what they wait for has ended; none once it was cancelled."""
        if batch.is_cancelled:  # by another process, which does not have this queue
            self._queue.clear()
        alive = self.alive(batch)
        for number in list(self._queue):
            busy = sum(state == "running" for state in alive.values())
            if busy >= self.jobs:
                return
            if not any(earlier in alive for earlier in batch.group(number).after):
                self._queue.remove(number)
                self._start(batch, number)
                alive[number] = "running"

    def alive(self, batch: Batch) -> dict[int, str]:
        """Which groups run or wait here."""
        waiting = dict.fromkeys(self._queue, "waiting")
        running = {n: "running" for n in batch.numbers if n not in waiting and self._is_running(batch, n)}
        return running | waiting

    def cancel(self, batch: Batch) -> None:
        """Forget what waits and ask what runs to save and end."""
        self._queue.clear()
        for number in batch.numbers:
            if self._is_running(batch, number):
                with suppress(ProcessLookupError):
                    os.kill(int(batch.job(number)), signal.SIGTERM)

    def _start(self, batch: Batch, number: int) -> None:
        import submitit

        executor = submitit.LocalExecutor(batch.path / "log", max_num_timeout=MAX_REQUEUES)
        gpus = self._gpus(number)
        executor.update_parameters(
            timeout_min=_FOREVER_MINUTES, gpus_per_node=len(gpus), visible_gpus=tuple(gpus)
        )
        threads = str(max(1, n_cpus() // self.jobs))
        with _environment(OMP_NUM_THREADS=threads, MKL_NUM_THREADS=threads):
            job = executor.submit(GroupJob(), str(batch.group_path(number)))
        self._started[number] = job
        batch.note_job(number, str(job.job_id))

    def _gpus(self, number: int) -> list[int]:
        """This job's part of the visible GPUs: as many as there are jobs share them, or one in turn."""
        visible = [int(i) for i in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if i.isdigit()]
        visible = visible or list(range(_n_gpus()))
        if not visible:
            return []
        per_job = max(1, len(visible) // self.jobs)
        first = number * per_job % len(visible)
        return visible[first : first + per_job]

    def _is_running(self, batch: Batch, number: int) -> bool:
        if number in self._started:
            return not self._started[number].done()
        job = batch.job(number)
        return bool(job) and str(batch.path) in _command_line(job)


@dataclass(frozen=True)
class Slurm:
    """SLURM, through job arrays; job states come from squeue, since not every cluster keeps accounts for sacct.

    Attributes:
        options: as typed or written in fsbench.toml.
    """

    options: Mapping[str, str]

    def __post_init__(self) -> None:
        if shutil.which("sbatch") is None:
            raise DispatchError(
                "--executor slurm needs sbatch, which this machine does not have. Type the command on a login node "
                "of the cluster, or use --executor local."
            )
        submitit_parameters(self.options)

    def submit(self, batch: Batch, numbers: Sequence[int]) -> None:
        """Job arrays for the groups that wait for nothing, then for those that wait for these.

        What SLURM took before it refused some goes on; the others are marked as refused.

        Raises:
            DispatchError: when it took none, with what it said.
        """
        after = {number: batch.group(number).after for number in numbers}
        submitted: set[int] = set()
        try:
            while after:
                ready = [n for n, earlier in after.items() if not set(earlier) & set(after)]
                waits_for = {e for n in ready for e in after[n]} & submitted
                self._submit_level(batch, ready, sorted({batch.job(n) for n in waits_for}))
                submitted.update(ready)
                after = {n: earlier for n, earlier in after.items() if n not in ready}
        except DispatchError as error:
            _mark_refused(batch, numbers, error)

    def advance(self, batch: Batch) -> None:
        """SLURM does that."""

    def alive(self, batch: Batch) -> dict[int, str]:
        """Groups whose job SLURM has not ended."""
        states = _squeue()
        return {n: states[job] for n in batch.numbers if (job := batch.job(n)) in states}

    def cancel(self, batch: Batch) -> None:
        """Cancel every job of the batch that is left.

        Raises:
            DispatchError: with what SLURM says.
        """
        jobs = sorted({batch.job(number) for number in self.alive(batch)})
        if jobs:
            _ask("scancel", *jobs)

    @cached_property
    def _largest_array(self) -> int | None:
        """How many jobs an array may have here; None when SLURM does not say."""
        try:
            found = re.search(r"^MaxArraySize\s*=\s*(\d+)", _ask("scontrol", "show", "config"), re.MULTILINE)
        except DispatchError as error:
            log.warning("%s Arrays are made smaller if SLURM does not take them.", error)
            return None
        return max(1, int(found[1])) if found else None  # 0: this site has no arrays

    def _submit_level(self, batch: Batch, numbers: Sequence[int], after: Sequence[str]) -> None:
        """One array, or as many as the limits of the site make of it; what exceeds them is tried in halves.

        Where ``array_parallelism`` is asked, each array waits for the one before it, so that the number holds for all.
        """
        size = min(self._largest_array or len(numbers), len(numbers))
        parts = deque(numbers[first : first + size] for first in range(0, len(numbers), size))
        before: list[str] = []
        while parts:
            part = parts.popleft()
            try:
                self._submit_array(batch, part, [*after, *before])
            except DispatchError as error:
                if len(part) == 1 or not _is_limit(error):
                    raise
                half = len(part) // 2
                parts.extendleft([part[half:], part[:half]])
            else:
                before = [batch.job(n) for n in part] if "array_parallelism" in self.options else []

    def _submit_array(self, batch: Batch, numbers: Sequence[int], after: Sequence[str]) -> None:
        import submitit
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        parameters = submitit_parameters(self.options)
        if after:
            parameters["dependency"] = "afterany:" + ":".join(after)
        try:
            executor = submitit.SlurmExecutor(batch.path / "log", max_num_timeout=MAX_REQUEUES)
            executor.update_parameters(**parameters)
            jobs = executor.map_array(GroupJob(), [str(batch.group_path(n)) for n in numbers])
        except (FailedJobError, FailedSubmissionError, RuntimeError) as error:
            said = re.findall(r"sbatch: error: (.+)", str(error)) or str(error).strip().splitlines()[-1:]
            raise DispatchError("; ".join(said)) from error
        for number, job in zip(numbers, jobs, strict=True):
            batch.note_job(number, str(job.job_id))


def _is_limit(error: DispatchError) -> bool:
    """Whether fewer jobs, or later ones, would be taken: limits of arrays, associations and qualities of service."""
    return bool(
        re.search(r"job array specification|submit ?(job)? ?limit|MaxSubmit", str(error), re.IGNORECASE)
    )


def _mark_refused(batch: Batch, numbers: Sequence[int], error: DispatchError) -> None:
    """Note what SLURM did not take and why; raise where that is everything."""
    refused = [n for n in numbers if not batch.job(n)]
    what_to_do = (
        "`fsbench resume` submits them when there is room."
        if _is_limit(error)
        else "Change what it names (--slurm key=value, or fsbench.toml) and type the same command again."
    )
    message = f"SLURM did not take {len(refused)} of {len(numbers)} jobs. It said: {error}. {what_to_do}"
    for number in refused:
        JobState("refused", message=message).save(batch.group_path(number))
    if len(refused) == len(numbers):
        raise DispatchError(message) from error
    log.warning("%s", message)


def _squeue() -> dict[str, str]:
    """Map the jobs of this user that have not ended to "PENDING (reason)", "RUNNING" or the like."""
    answer = _ask("squeue", "--me", "--array", "--noheader", "--format=%F|%K|%T|%r")
    states = {}
    for line in answer.splitlines():
        job, index, state, reason = line.strip().split("|", 3)
        name = job if index in ("N/A", "") else f"{job}_{index}"
        states[name] = f"{state} ({reason})" if reason not in ("None", "") else state
    return states


def _ask(*words: str) -> str:
    try:
        answer = subprocess.run(words, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DispatchError(f"{words[0]} does not answer: {error}.") from error
    if answer.returncode:
        raise DispatchError(f"{' '.join(words)} failed. It said: {answer.stderr.strip()}")
    return answer.stdout


def _command_line(pid: str) -> str:
    """How a process was started; empty when there is none."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def _n_gpus() -> int:
    """GPUs of this machine, without loading torch."""
    return len(list(Path("/proc/driver/nvidia/gpus").glob("*")))


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Let the processes started meanwhile see other values."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
