"""What runs inside a job: read the group, carry it out, save on a signal and be requeued.

The class below is all that is pickled, by name; it holds nothing.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import platform
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from harness.errors import FsbenchError
from harness.jobs.batches import Group, JobState
from harness.system import process
from harness.system.secrets import without_credentials

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

log = logging.getLogger("fsbench.job")
REQUEUE = signal.SIGUSR2  # what SLURM sends before a time limit, and what submitit listens to


class Stopped(BaseException):
    """A signal asked the job to save and stop; no ``except Exception`` of a plugin swallows it."""


class GroupJob:
    """The callable that submitit submits; its argument is the path of a group."""

    def __call__(self, path: str) -> None:
        """Carry a group out."""
        faulthandler.enable()  # a death that is not by signal 9 leaves a word in the log
        process.log_to_stderr(logging.INFO, "%(asctime)s %(message)s")
        group_path = Path(path)
        group = Group.load(group_path)
        signals = _Signals()
        try:
            signals.install()
            _tell(group_path, "started")
            _carry_out(group)
            _tell(group_path, "ended")
        except Stopped:
            wants_more = signals.want_more() and not (group_path.parent / "cancelled").exists()
            _tell(group_path, "requeued" if wants_more else "stopped")
            signals.leave(wants_more=wants_more)
        except FsbenchError as error:
            _tell(group_path, "failed", str(error))
            raise
        except Exception:
            _tell(group_path, "failed", traceback.format_exc())
            raise

    def checkpoint(self, path: str) -> DelayedSubmission:
        """What is to be done after a requeue: the same, from the files."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, path)


def _carry_out(group: Group) -> None:
    if group.folder:
        os.chdir(group.folder)
    group.check()
    from harness.jobs import worker
    from harness.system.progress import Lines

    if group.fits:
        worker.fit_only(group.fits, group.places, group.device, Lines(), group.sources)
        return
    if group.only_ready:
        worker.prepare(group.specs, group.places, group.device, Lines(), group.sources)
        return
    episodes = range(*group.episodes) if group.episodes else None
    for result in worker.carry_out(
        group.specs, group.places, group.device, Lines(), episodes=episodes, sources=group.sources
    ):
        log.info("run %s: %s", result.spec.id, result.status)


def _tell(group_path: Path, state: Any, message: str = "") -> None:
    JobState(state, platform.node(), os.getpid(), without_credentials(message)).save(group_path)


class _Signals:
    """Turn signals into ``Stopped`` once, and let submitit requeue afterwards: first save, then leave."""

    def __init__(self) -> None:
        self._received = 0
        self._requeue: Callable[[int, FrameType | None], Any] | int | None = None

    def install(self) -> None:
        """Replace submitit's handlers (it ignores SIGTERM, and requeues before anything is saved)."""
        self._requeue = signal.getsignal(REQUEUE)
        for number in (signal.SIGTERM, REQUEUE):
            signal.signal(number, self._stop)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if not self._received:  # a second signal must not interrupt the saving
            self._received = number
            raise Stopped

    def want_more(self) -> bool:
        """Whether a time limit or a pre-emption ended the work, and not a person."""
        return callable(self._requeue) and (self._received == REQUEUE or _is_preempted())

    def leave(self, *, wants_more: bool) -> None:
        """End the process, asking for a requeue or not."""
        if wants_more and callable(self._requeue):
            self._requeue(REQUEUE, None)  # writes the same call again, requeues, and exits
        log.info("stopped by %s; `fsbench resume` goes on", signal.Signals(self._received).name)
        sys.exit(128 + self._received)


def _is_preempted() -> bool:
    """Whether SLURM, and not a person, ended this job: a cancelled one must not come back."""
    job = os.environ.get("SLURM_JOB_ID")
    if not job or shutil.which("scontrol") is None:
        return False
    answer = subprocess.run(["scontrol", "--oneliner", "show", "job", job], capture_output=True, text=True)
    return any(f"JobState={state}" in answer.stdout for state in ("PREEMPTED", "TIMEOUT"))
