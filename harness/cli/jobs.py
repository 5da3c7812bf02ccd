"""The commands about jobs: where they stand, going on, ending them, bringing what they did to the database."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.words import AsJson, answer, open_store, where

if TYPE_CHECKING:
    from harness.jobs.status import FitStatus, RunStatus
    from harness.runs import RunResult
    from harness.system.folders import Places

app = typer.Typer()
SOME_FAILED = 4


@app.command()
def collect() -> None:
    """Ingest every folder of runs/ that the database does not know yet."""
    from harness.jobs import dispatch

    with open_store(where(), create=True) as store:
        outcomes = dispatch.collect(where(), store)
    typer.echo(", ".join(f"{n} {what}" for what, n in sorted(outcomes.items())) or "no run folders")


@app.command()
def status(as_json: AsJson = False) -> None:
    """Show where the runs given to jobs stand, from the files alone."""
    answer(status_rows(where()), as_json, _show)


@app.command()
def resume(
    method: Annotated[str, typer.Option(help="./mine.py, to name the file of the runs' method.")] = "",
) -> None:
    """Restart the jobs whose runs failed, were stopped or vanished, and wait for them."""
    from harness.jobs import dispatch

    outcomes: dict[str, int] = {}
    with open_store(where(), create=True) as store:
        for result in dispatch.resume(where(), store, method):
            outcomes[result.status] = outcomes.get(result.status, 0) + 1
            _tell_failure(result)
    typer.echo(", ".join(f"{n} {what}" for what, n in sorted(outcomes.items())) or "nothing to resume")
    raise typer.Exit(SOME_FAILED if "failed" in outcomes else 0)


@app.command()
def cancel(
    runs: Annotated[list[str] | None, typer.Argument(help="Beginnings of run ids (default: all).")] = None,
) -> None:
    """End jobs; what they did is saved, and `fsbench resume` goes on with it."""
    from harness.jobs import dispatch

    typer.echo(f"{dispatch.cancel(where(), runs or [])} runs cancelled")


def status_rows(where: Places) -> list[dict[str, Any]]:
    """Every dispatched run as JSON types, after the fits that runs are built on."""
    from harness.jobs.status import fit_statuses, statuses

    fits = [_fit_as_json(found) for found in fit_statuses(where.runs)]
    return [*fits, *(_as_json(found) for found in statuses(where.runs))]


def _tell_failure(result: RunResult) -> None:
    from harness.report.formats import last_line

    if result.status == "failed":
        spec = result.spec
        sys.stderr.write(
            f"fsbench: {spec.method.name} on {spec.setting}, seed {spec.seed} (run {spec.id}): "
            f"{last_line(result.traceback)}\n"
        )


def _show(rows: Sequence[dict[str, Any]]) -> None:
    """Print where runs stand, and the last words of those that failed."""
    if not rows:
        sys.stdout.write("No jobs yet. `fsbench run … --executor local` or `--executor slurm` makes some.\n")
        return
    from harness.cli import terminal
    from harness.jobs.status import UNFINISHED

    columns = ("run", "state", "method", "setting", "seed", "job", "stage", "progress", "left")
    terminal.show_table(
        columns, [[str(row[c]) for c in columns] for row in rows], right=(4,), less=("stage", "job", "seed")
    )
    for row in rows:
        if row["message"]:
            sys.stdout.write(f"{row['run']}: {row['message']}\n")
    runs = [row for row in rows if not row["run"].startswith("fit ")]
    if any(row["state"] in UNFINISHED for row in runs):
        sys.stdout.write("`fsbench resume` goes on with what is not finished.\n")
    if any(row["state"] == "done" for row in runs):
        sys.stdout.write("`fsbench collect` brings what is done to the database.\n")


def _as_json(found: RunStatus) -> dict[str, Any]:
    from harness.system.progress import clock

    left = found.seconds_left
    return {
        "run": found.spec.id, "state": found.state, "method": found.spec.method.name, "setting": found.spec.setting,
        "seed": found.spec.seed, "batch": found.batch.path.name, "executor": found.batch.executor, "job": found.job,
        "stage": found.stage, "done": found.done, "total": found.total, "unit": found.unit, "note": found.note,
        "progress": f"{found.done}/{found.total} {found.unit}" if found.total else "", "seconds_left": left,
        "left": "" if left is None else clock(left), "message": found.message,
    }  # fmt: skip


def _fit_as_json(found: FitStatus) -> dict[str, Any]:
    return {
        "run": f"fit {found.fit.fit_key}", "state": found.state, "method": found.fit.method.name,
        "setting": found.fit.benchmark, "seed": found.fit.seed, "batch": found.batch.path.name,
        "executor": found.batch.executor, "job": found.job, "stage": "train" if found.state == "running" else "",
        "done": 0, "total": 0, "unit": "", "note": "", "progress": "", "seconds_left": None, "left": "",
        "message": found.message,
    }  # fmt: skip
