"""What ``fsbench tune`` does between the typed words and the trials."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from harness.cli import tables
from harness.errors import ConfigError
from harness.jobs import tuning
from harness.report.formats import duration, percent
from harness.runs import planning
from harness.runs.findings import family_of
from harness.store import Store
from harness.system.folders import Places
from harness.system.progress import choose


def tune(store: Store, where: Places, method: str, bench: str, grid: Sequence[str], seeds: Sequence[int],
         options: planning.Options, device: str) -> dict[str, Any]:  # fmt: skip
    """Try the whole grid; every configuration, the best one and how to run it, as JSON types.

    Raises:
        ConfigError: when the grid is unreadable, or a value is given by --grid and by --set.
    """
    combinations = tuning.read_grid(grid)
    twice = sorted(set(combinations[0]) & set(options.overrides))
    if twice:
        raise ConfigError(f"{', '.join(twice)}: given by --grid and by --set; choose one.")
    specs = tuning.plan(method, bench, combinations, seeds, options, where.data)
    tried = list(tuning.tune(store, where, specs, combinations, device, choose(sys.stderr.isatty())))
    best = tuning.best(tried)
    return {
        "method": method, "bench": bench, "seeds": list(seeds), "tried": [_as_json(entry) for entry in tried],
        "best": dict(best.overrides) if best else None,
        "command": _command(method, bench, seeds, {**options.overrides, **best.overrides}, options) if best else None,
        "configurations": len(store.tried()[family_of(specs[0][0])]),
    }  # fmt: skip


def show(found: Mapping[str, Any]) -> None:
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
    tables.show_table(columns, rows, title=title, right=(n, n + 1))
    if found["command"]:
        tables.say(f"best: {found['command']}")
    tables.say(
        f"{found['configurations']} configurations of {found['method']} were tried; its row will say so."
    )


def _as_json(entry: tuning.Tried) -> dict[str, Any]:
    failed = [trial.traceback.strip().splitlines()[-1] for trial in entry.trials if trial.traceback]
    return {
        "config": dict(entry.overrides), "accuracy": entry.accuracy, "by_seed": [trial.accuracy for trial in entry.trials],
        "seconds": sum(trial.seconds for trial in entry.trials), "fits": [trial.spec.fit_key for trial in entry.trials],
        "failure": failed[0] if failed else "",
    }  # fmt: skip


def _command(
    method: str, bench: str, seeds: Sequence[int], overrides: Mapping[str, str], options: planning.Options
) -> str:
    """The run that the best configuration asks for; of a validation half, on the half for results."""
    target = bench.replace(f"-{tuning.VALIDATION_HALF}-n", "-n")
    words = ["fsbench", "run", "-m", method, "-b", target, "--seeds", ",".join(map(str, seeds))]
    words += [word for name, value in overrides.items() for word in ("--set", f"{name}={value}")]
    words += ["--backbone", options.backbone] if options.backbone else []
    words += ["--recipe", options.recipe] if options.recipe != "clean" else []
    words += ["--precision", options.precision] if options.precision != "fp32" else []
    words += ["--pipeline", options.pipeline] if options.pipeline else []
    return shlex.join(words)
