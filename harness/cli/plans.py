"""What `run` and `tune` do between typed words and the rooms below: plans with their costs, trials and the best of them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli import tables, terminal
from harness.cli.words import progress
from harness.errors import ConfigError, DataError
from harness.images.augmentations import crops_told
from harness.jobs import dispatch
from harness.method import CLEAN
from harness.report.formats import duration, last_line, percent
from harness.runs import RunSpec, estimates, planning
from harness.runs.findings import family_of
from harness.runs.folders import is_fitted
from harness.runs.request import Request, run_command
from harness.store import Store
from harness.system.folders import Places

if TYPE_CHECKING:
    from harness.jobs import tuning

NOT_PREPARED, MISFIT = "not prepared", "does not fit"


def plan(specs: Sequence[RunSpec], where: Places, *, force: bool) -> list[dict[str, Any]]:
    """Say where each run stands and what it will cost, as JSON types; nothing is written."""
    is_there = "://" in where.db or Path(where.db).exists()
    store = Store.open(where.db) if is_there else None  # a plan does not create it
    try:
        planned = dispatch.classify(specs, where, store, force=force)
        expected = _expectations(planned, store)
    finally:
        if store:
            store.close()
    return [
        {
            "run": p.spec.id, "state": p.state, "method": p.spec.method.name, "setting": p.spec.setting,
            "seed": p.spec.seed, "backbone": p.spec.shown_backbone, "episodes": p.spec.n_episodes, "fit": p.spec.fit_key,
            "config": {name: {"value": v.value, "from": v.origin} for name, v in p.spec.config.items()},
            "recipe": p.spec.recipe, "conditions": _conditions(p.spec),
            "requires": {
                need: {"fit": fit.fit_key, "state": "done" if is_fitted(where.cache, fit.fit_key) else "first"}
                for need, fit in p.spec.required.items()
            }, "reason": "", **more,
        }
        for p, more in zip(planned, expected, strict=True)
    ]  # fmt: skip


def _conditions(spec: RunSpec) -> dict[str, Any]:
    """What a run rests on beside its hyper-parameters, in words."""
    return {
        "pipeline": spec.pipeline,
        "augmentation": spec.augmentation or "the pipeline's",
        "image size": spec.image_size,
        "training crops from": crops_told(spec.cut_from),
        "training images": spec.budget or "as many as it asks for",
        "selected on": spec.select_on,
        "queries": spec.n_query,
    }


def passed_over(left_out: Sequence[planning.LeftOut]) -> list[dict[str, Any]]:
    """What globs named and cannot be run here, with the keys of ``plan``."""
    return [
        {
            "run": None, "state": NOT_PREPARED if isinstance(entry.error, DataError) else MISFIT,
            "method": entry.method, "setting": entry.setting, "seed": None, "backbone": None, "episodes": None,
            "fit": None, "config": {}, "recipe": None, "conditions": {}, "requires": {}, "reason": str(entry.error), "job": None,
            "expected_seconds": None, "expected_bytes": 0,
        }
        for entry in left_out
    ]  # fmt: skip


def why_passed_over(rows: Sequence[dict[str, Any]]) -> list[str]:
    """A line for each set that is not prepared, and one for each method that does not fit, with the first reason."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        if row["reason"]:
            by = row["reason"] if row["state"] == NOT_PREPARED else row["method"]
            found.setdefault((row["state"], by), []).append(row)
    return [
        f"{state}: {f'{by} on ' if state == MISFIT else ''}{', '.join(dict.fromkeys(r['setting'] for r in alike))}. "
        f"{alike[0]['reason']}"
        for (state, by), alike in found.items()
    ]


def show_plan(rows: Sequence[dict[str, Any]]) -> None:
    """Print the plan, and after it what globs named and is not in it."""
    aside = why_passed_over(rows)
    rows = [row for row in rows if not row["reason"]]
    columns = ("run", "state", "method", "setting", "seed", "backbone", "episodes", "fit")
    terminal.show_table(
        columns,
        [[str(row[c]) for c in columns] for row in rows],
        right=(4, 6),
        less=("episodes", "backbone", "fit"),
    )
    for row in rows:
        changed = {k: v for k, v in row["config"].items() if v["from"] != "default"}
        if changed:
            told = ", ".join(f"{k}={v['value']} ({v['from']})" for k, v in changed.items())
            sys.stdout.write(f"{row['run']}: {told}\n")
        if row["recipe"] != CLEAN:
            told = ", ".join(f"{name} {value}" for name, value in row["conditions"].items())
            sys.stdout.write(f"{row['run']} by {row['recipe']}: {told}\n")
        for need, fit in row["requires"].items():
            sys.stdout.write(f"{row['run']} is built on {need}: fit {fit['fit']}, {fit['state']}\n")
    sys.stdout.write("".join(f"{line}\n" for line in [_summary(rows), *aside]))


def tune(store: Store, where: Places, method: str, bench: str, grid: Sequence[str], seeds: Sequence[int],
         request: Request, device: str) -> dict[str, Any]:  # fmt: skip
    """Try the whole grid; every configuration, the best one and how to run it, as JSON types.

    Raises:
        ConfigError: when the grid is unreadable, or a value is given by --grid and by --set.
    """
    from harness.jobs import tuning

    combinations = tuning.read_grid(grid)
    twice = sorted(set(combinations[0]) & set(request.overrides))
    if twice:
        raise ConfigError(f"{', '.join(twice)}: given by --grid and by --set; choose one.")
    specs = tuning.plan(method, bench, combinations, seeds, request, where.data)
    tried = list(tuning.tune(store, where, specs, combinations, device, progress()))
    best = tuning.best(tried)
    return {
        "method": method, "bench": bench, "seeds": list(seeds), "tried": [_as_json(entry) for entry in tried],
        "best": dict(best.overrides) if best else None,
        "command": _best_command(method, bench, seeds, request, best.overrides) if best else None,
        "configurations": len(store.tried()[family_of(specs[0][0])]),
    }  # fmt: skip


def show_tuned(found: Mapping[str, Any]) -> None:
    """Print the configurations, the best first, and the command that runs it."""
    names = list(found["tried"][0]["config"])
    ordered = sorted(found["tried"], key=lambda entry: -(entry["accuracy"] or -1.0))
    rows = [
        (
            *(entry["config"][name] for name in names), percent(entry["accuracy"]),
            duration(entry["seconds"]), ", ".join(entry["fits"]), entry["failure"],
        )
        for entry in ordered
    ]  # fmt: skip
    n = len(names)
    title = f"{found['method']} on the validation classes of {found['bench']}"
    columns = (*names, "accuracy %", "fit", "checkpoint", "failure")
    terminal.show_table(columns, rows, title=title, right=(n, n + 1), less=("fit", "checkpoint"))
    if found["command"]:
        tables.say(f"best: {found['command']}")
    tables.say(
        f"{found['configurations']} configurations of {found['method']} were tried; its row will say so."
    )


def _as_json(entry: tuning.Tried) -> dict[str, Any]:
    failed = [last_line(trial.traceback) for trial in entry.trials if trial.traceback]
    return {
        "config": dict(entry.overrides), "accuracy": entry.accuracy, "by_seed": [trial.accuracy for trial in entry.trials],
        "seconds": sum(trial.seconds for trial in entry.trials), "fits": [trial.spec.fit_key for trial in entry.trials],
        "failure": failed[0] if failed else "",
    }  # fmt: skip


def _best_command(
    method: str, bench: str, seeds: Sequence[int], request: Request, best: Mapping[str, str]
) -> str:
    """The run that the best configuration asks for; of a validation half, on the half for results."""
    from harness.jobs import tuning

    target = bench.replace(f"-{tuning.VALIDATION_HALF}-n", "-n")
    return run_command(method, target, seeds, replace(request, overrides={**request.overrides, **best}))


def _expectations(planned: Sequence[dispatch.Planned], store: Store | None) -> list[dict[str, Any]]:
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


def _summary(rows: Sequence[dict[str, Any]]) -> str:
    """Say in a line what a plan costs."""
    new = [row for row in rows if row["state"] == "new"]
    known = [row["expected_seconds"] for row in new if row["expected_seconds"] is not None]
    n_jobs = len({row["job"] for row in new})
    text = f"{len(rows)} runs, {len(new)} to do in {n_jobs} jobs"
    first = {fit["fit"] for row in new for fit in row["requires"].values() if fit["state"] == "first"}
    text += f", after {len(first)} fits that they are built on" if first else ""
    if known:
        text += f"; about {sum(known) / 3600:.2f} hours of one device"
    if len(known) < len(new):
        text += f"; {len(new) - len(known)} runs are of a kind that never ran here, so their time is unknown"
    n_bytes = sum(row["expected_bytes"] for row in new)
    return text + (f"; up to {n_bytes / 1e6:,.0f} MB of results and checkpoints" if n_bytes else "")
