"""Where every dispatched run stands, told by the files alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness.jobs.batches import Batch, Group, JobState
from harness.jobs.endings import how_it_ended
from harness.runs import FitSpec, RunSpec, folders
from harness.system.locks import is_claimed

State = Literal[
    "not submitted", "queued", "running", "failed", "stopped", "vanished", "cancelled", "done", "collected"
]  # fmt: skip
UNFINISHED: tuple[State, ...] = ("not submitted", "failed", "stopped", "vanished", "cancelled")
_LAST_LINES = 5


@dataclass(frozen=True)
class FitStatus:
    """A fit that runs of a batch are built on.

    Attributes:
        fit: which.
        state: "not submitted", "queued", "running", "failed", "done", …
        batch, group, job: where it was given to a job.
        message: of a failed one, the last lines.
    """

    fit: FitSpec
    state: State
    batch: Batch
    group: int
    job: str
    message: str = ""


@dataclass(frozen=True)
class RunStatus:
    """One run of a batch.

    Attributes:
        spec: which run.
        state: "not submitted": no engine has it, or it took only a part; "queued"; "running"; "failed"; "stopped" by a signal with its work saved; "vanished": started, and
            no process is at it any more; "cancelled"; "done"; "collected": a database has it.
        batch, group: where it was given to a job; ``job`` is the engine's id, empty before it is submitted.
        stage, done, total, unit, note: of a running one.
        seconds_left: of its stage; None when it cannot be told.
        message: of a failed or vanished one, the last lines; of one not submitted, why.
    """

    spec: RunSpec
    state: State
    batch: Batch
    group: int
    job: str
    stage: str = ""
    done: int = 0
    total: int = 0
    unit: str = ""
    note: str = ""
    seconds_left: float | None = None
    message: str = ""


def statuses(runs: Path) -> list[RunStatus]:
    """Every run that was ever given to a job, as its newest batch has it, the oldest batch first.

    A run split over several jobs is one entry.
    """
    newest: dict[str, RunStatus] = {}
    for batch in Batch.every(runs):
        for status in _of_batch(runs, batch):
            newest.pop(status.spec.id, None)
            newest[status.spec.id] = status
    return list(newest.values())


def fit_statuses(runs: Path) -> list[FitStatus]:
    """Every fit that was given to a job of its own because runs are built on it, as its newest batch has it."""
    newest: dict[str, FitStatus] = {}
    for batch in Batch.every(runs):
        for number in batch.numbers:
            for fit in batch.group(number).fits:
                newest.pop(fit.fit_key, None)
                newest[fit.fit_key] = _of_fit(batch, number, fit)
    return list(newest.values())


def _of_fit(batch: Batch, number: int, fit: FitSpec) -> FitStatus:
    where = batch, number, batch.job(number)
    cache = batch.group(number).places.cache
    if folders.is_fitted(cache, fit.fit_key):
        return FitStatus(fit, "done", *where)
    if is_claimed(folders.fit_folder(cache, fit.fit_key) / "lock"):
        return FitStatus(fit, "running", *where)
    if batch.is_cancelled:
        return FitStatus(fit, "cancelled", *where)
    said = JobState.load(batch.group_path(number))
    if _is_unsubmitted(batch, number, said):
        return FitStatus(fit, "not submitted", *where, said.message if said else "")
    if said is None or said.state == "requeued":
        return FitStatus(fit, "queued", *where)
    state: State = (
        "failed" if said.state == "failed" else "stopped" if said.state == "stopped" else "vanished"
    )
    message = how_it_ended(batch, number) if state == "vanished" else _last_lines(said.message)
    return FitStatus(fit, state, *where, message)


def _of_batch(runs: Path, batch: Batch) -> Iterator[RunStatus]:
    shards: dict[str, list[int]] = {}
    groups = {number: batch.group(number) for number in batch.numbers}
    for number, group in groups.items():
        if not group.only_ready or not any(number in g.after for g in groups.values()):
            for spec in group.specs:
                shards.setdefault(spec.id, []).append(number)
    specs = {spec.id: spec for group in groups.values() for spec in group.specs}
    for run_id, numbers in shards.items():
        yield _of_run(runs, batch, specs[run_id], {n: groups[n] for n in numbers})


def _of_run(runs: Path, batch: Batch, spec: RunSpec, groups: dict[int, Group]) -> RunStatus:
    number = next(iter(groups))
    where: dict[str, Any] = {"spec": spec, "batch": batch, "group": number, "job": batch.job(number)}
    found = folders.outcome(runs, spec.id)
    if found and found["status"] == "done":
        return RunStatus(**where, state="collected" if folders.is_collected(runs, spec.id) else "done")
    if _is_running(runs, spec.id):
        return RunStatus(**where, state="running", **_progress(runs, spec.id))
    if batch.is_cancelled:
        return RunStatus(**where, state="cancelled")
    if found:
        return RunStatus(**where, state="failed", message=_last_lines(found["traceback"]))
    return RunStatus(**where, **_of_jobs(runs, batch, spec, list(groups)))


def _of_jobs(runs: Path, batch: Batch, spec: RunSpec, numbers: list[int]) -> dict[str, Any]:
    """Judge a run that nobody is at by what its jobs said last."""
    said = {n: JobState.load(batch.group_path(n)) for n in numbers}
    failed = next((s for s in said.values() if s and s.state == "failed"), None)
    if failed:
        log = folders.partial_folder(runs, spec.id) / "log.txt"
        return {"state": "failed", "message": _last_lines(failed.message or _text(log))}
    unsubmitted = [s for n, s in said.items() if _is_unsubmitted(batch, n, s)]
    if unsubmitted:
        return {"state": "not submitted", "message": next((s.message for s in unsubmitted if s), "")}
    if any(s is None or s.state == "requeued" or _is_at_another(runs, batch, n) for n, s in said.items()):
        return {"state": "queued"}
    if any(s and s.state == "stopped" for s in said.values()):
        return {"state": "stopped", "message": "saved by a signal"}
    words = [how_it_ended(batch, n) for n, s in said.items() if s and s.state == "started"][:1]
    last = _last_lines(_text(folders.partial_folder(runs, spec.id) / "log.txt"))
    return {"state": "vanished", "message": "\n".join([*words, last]).strip()}


def _is_unsubmitted(batch: Batch, number: int, said: JobState | None) -> bool:
    """Whether no engine has the job: refused, or its dispatcher ended before its turn came."""
    if said is not None:
        return said.state == "refused"
    return not batch.job(number) and not batch.is_attended


def _is_at_another(runs: Path, batch: Batch, number: int) -> bool:
    """Whether the job is alive, at another run of its group."""
    return any(_is_running(runs, spec.id) for spec in batch.group(number).specs)


def _is_running(runs: Path, run_id: str) -> bool:
    return any(is_claimed(lock) for lock in folders.partial_folder(runs, run_id).glob("lock-*"))


def _progress(runs: Path, run_id: str) -> dict[str, Any]:
    """Add up what the jobs at a run say, those of the earliest stage when they differ."""
    told = []
    for path in folders.partial_folder(runs, run_id).glob("progress*.json"):
        text = _text(path)
        told += [json.loads(text)] if text else []
    if not told:
        return {}
    stages = ["train", "embed", "evaluate"]
    first = min(told, key=lambda t: stages.index(t["stage"]) if t["stage"] in stages else 0)["stage"]
    told = [t for t in told if t["stage"] == first]
    left = [seconds for t in told if (seconds := t.get("seconds_left")) is not None]
    return {
        "stage": first, "done": sum(t["done"] for t in told), "total": sum(t["total"] for t in told),
        "unit": told[0]["unit"], "note": told[0]["note"], "seconds_left": max(left, default=None),
    }  # fmt: skip


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def _last_lines(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-_LAST_LINES:])
