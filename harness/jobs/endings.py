"""How a job ended that could not say so itself: what SLURM wrote into its log, or that nothing was written at all."""

from __future__ import annotations

import re
from pathlib import Path

from harness.jobs.batches import Batch

_TAIL_BYTES = 64_000
_ENGINE = re.compile(r"^(?:srun|slurmstepd): error: (.+)$", re.MULTILINE)
_MEMORY = re.compile(r"oom[-_ ]?kill|out of memory", re.IGNORECASE)
_FATAL = re.compile(r"^Fatal Python error: (.+)$", re.MULTILINE)  # what faulthandler writes of other signals
_SMALLER = {
    "slurm": "ask for more with --slurm mem=32G",
    "local": "let fewer run at a time with --jobs",
}


def how_it_ended(batch: Batch, number: int) -> str:
    """Say what ended a started job that wrote neither an end nor a failure, in one sentence or two."""
    text = _tail(batch.path / "log" / f"{batch.job(number)}_0_log.err")
    text = text.rpartition("Requeued job")[2]  # what was said before is of an earlier start
    said = [*_ENGINE.findall(text), *(f"Fatal Python error: {what}" for what in _FATAL.findall(text))]
    told = f" ({said[-1].strip(' *')})" if said else ""
    smaller = _SMALLER.get(batch.executor, "")
    if any(_MEMORY.search(line) for line in said):
        return f"memory ran out, and the kernel killed its job{told}; {smaller}."
    if any("Killed" in line for line in said):
        return f"its job was killed by signal 9{told}, as the kernel does when memory runs out; if so, {smaller}."
    if said:
        return f"its job was ended from outside{told}."
    return (
        f"its process ended without a word, as one does that is killed by signal 9: by the kernel when memory runs out "
        f"(if so, {smaller}), by a person, or with its machine (logs: {batch.path}/log)."
    )


def _tail(path: Path) -> str:
    """The last part of a log; empty when there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            return file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
