"""What the commands about jobs do: the results of a plan by whichever executor, status, resume and cancel."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, cast

from harness.cli import tables
from harness.errors import ConfigError, nearest
from harness.jobs import dispatch, slurm_options, status
from harness.jobs.batches import Executor
from harness.jobs.packing import Ways
from harness.jobs.status import RunStatus
from harness.runs import RunResult, RunSpec, estimates, planning
from harness.store import Store
from harness.system.folders import Places
from harness.system.progress import Progress

EXECUTORS = ("inline", "local", "slurm")


def results(planned: Sequence[dispatch.Planned], where: Places, store: Store, progress: Progress, executor: str,
            ways: Ways, *, force: bool) -> Iterator[RunResult]:  # fmt: skip
    """Carry out a plan here, or have jobs do it, and yield each result as it is stored."""
    if executor == "inline":
        return dispatch.run_inline(planned, where, store, progress, device=ways.device, force=force)
    return dispatch.run_jobs(planned, where, store, ways, force=force)


def ways(where: Places, executor: str, device: str, jobs: int, slurm: Sequence[str], shards: int,
         snapshot: bool) -> Ways:  # fmt: skip
    """Read the options of jobs.

    Raises:
        ConfigError: for an unknown executor, unreadable options, or options of another executor.
    """
    if executor not in EXECUTORS:
        raise ConfigError(
            f"--executor {executor}: known are {', '.join(EXECUTORS)}.{nearest(executor, EXECUTORS)}"
        )
    misplaced = [
        text
        for text, is_given, of in (
            ("--jobs", jobs != 1, "local"),
            ("--slurm", bool(slurm), "slurm"),
            ("--shards", shards != 1, "local slurm"),
            ("--snapshot", snapshot, "local slurm"),
        )
        if is_given and executor not in of.split()
    ]
    if misplaced:
        raise ConfigError(
            f"{' and '.join(misplaced)} with --executor {executor} would do nothing; choose another executor."
        )
    options = slurm_options.read(where.home, slurm) if executor == "slurm" else {}
    return Ways(cast(Executor, executor), device, jobs, options, shards, snapshot)


def expectations(planned: Sequence[dispatch.Planned], store: Store | None) -> list[dict[str, Any]]:
    """For each planned run: its job, expected seconds (None where no earlier run tells) and bytes."""
    specs = [entry.spec for entry in planned]
    groups = planning.grouped(entry.spec for entry in planned if entry.state == "new")
    job_of = {spec.id: number for number, group in enumerate(groups) for spec in group}
    past = store.durations({spec.method.name for spec in specs}) if store else []
    expected = estimates.expect(groups, past)
    nothing = estimates.Expectation(0.0, 0)
    return [
        {
            "job": job_of.get(run_id),
            "expected_seconds": expected.get(run_id, nothing).seconds,
            "expected_bytes": expected.get(run_id, nothing).n_bytes,
        }
        for run_id in (spec.id for spec in specs)
    ]


def plan_summary(rows: Sequence[dict[str, Any]]) -> str:
    """Say in a line what a plan costs."""
    new = [row for row in rows if row["state"] == "new"]
    known = [row["expected_seconds"] for row in new if row["expected_seconds"] is not None]
    n_jobs = len({row["job"] for row in new})
    text = f"{len(rows)} runs, {len(new)} to do in {n_jobs} jobs"
    if known:
        text += f"; about {sum(known) / 3600:.2f} hours of one device"
    if len(known) < len(new):
        text += f"; {len(new) - len(known)} runs are of a kind that never ran here, so their time is unknown"
    n_bytes = sum(row["expected_bytes"] for row in new)
    return text + (f"; up to {n_bytes / 1e6:,.0f} MB of results and checkpoints" if n_bytes else "")


def status_rows(where: Places) -> list[dict[str, Any]]:
    """Every dispatched run as JSON types."""
    return [_as_json(found) for found in status.statuses(where.runs)]


def show_status(rows: Sequence[dict[str, Any]]) -> None:
    """Print where runs stand, and the last words of those that failed."""
    if not rows:
        sys.stdout.write("No jobs yet. `fsbench run … --executor local` or `--executor slurm` makes some.\n")
        return
    columns = ("run", "state", "method", "setting", "seed", "job", "stage", "progress", "left")
    tables.show_table(columns, [[str(row[c]) for c in columns] for row in rows], right=(4,))
    for row in rows:
        if row["message"]:
            sys.stdout.write(f"{row['run']}: {row['message']}\n")
    if any(row["state"] in status.UNFINISHED for row in rows):
        sys.stdout.write("`fsbench resume` goes on with what is not finished.\n")
    if any(row["state"] == "done" for row in rows):
        sys.stdout.write("`fsbench collect` brings what is done to the database.\n")


def resume(where: Places, store: Store) -> dict[str, int]:
    """Restart what is lost and wait for it; how many runs ended how."""
    outcomes: dict[str, int] = {}
    for result in dispatch.resume(where, store):
        outcomes[result.status] = outcomes.get(result.status, 0) + 1
        if result.status == "failed":
            sys.stderr.write(
                f"fsbench: {describe(result.spec)}: {result.traceback.strip().splitlines()[-1]}\n"
            )
    return outcomes


def describe(spec: RunSpec) -> str:
    """Name a run in a sentence."""
    return f"{spec.method.name} on {spec.setting}, seed {spec.seed} (run {spec.id})"


def _as_json(found: RunStatus) -> dict[str, Any]:
    left = found.seconds_left
    return {
        "run": found.spec.id, "state": found.state, "method": found.spec.method.name, "setting": found.spec.setting,
        "seed": found.spec.seed, "batch": found.batch.path.name, "executor": found.batch.executor, "job": found.job,
        "stage": found.stage, "done": found.done, "total": found.total, "unit": found.unit, "note": found.note,
        "progress": f"{found.done}/{found.total} {found.unit}" if found.total else "", "seconds_left": left,
        "left": "" if left is None else time.strftime("%H:%M:%S", time.gmtime(left)), "message": found.message,
    }  # fmt: skip
