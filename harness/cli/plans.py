"""What the commands about runs do, between the typed words and the layers below."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from harness.cli import jobs, result_commands, tables
from harness.errors import ConfigError, nearest
from harness.jobs import dispatch
from harness.report.board import tables as board
from harness.report.board.rows import Row
from harness.runs import Precision, RunResult, planning
from harness.runs.spec import SelectionRole
from harness.store import Store
from harness.system.folders import Places
from harness.system.progress import Progress, Silent, choose

PRECISIONS = ("fp32", "bf16", "fp16")
SELECT_ON = ("validation", "novel")


@dataclass(frozen=True)
class Asked:
    """The words of ``fsbench run``."""

    methods: Sequence[str]
    settings: Sequence[str]
    seeds: Sequence[int]
    overrides: dict[str, str]
    episodes: int | None
    backbone: str | None
    recipe: str
    precision: str
    pipeline: str | None
    device: str
    force: bool
    executor: str = "inline"
    jobs: int = 1
    slurm: Sequence[str] = ()
    shards: int = 1
    snapshot: bool = False
    weights: Path | None = None
    seen: Sequence[str] = ()
    allow_leak: bool = False
    select_on: str = "validation"
    is_compiled: bool = False
    gpus: int = 1
    uses_stored_crops: bool = False


@dataclass(frozen=True)
class Outcome:
    """What a call of ``fsbench run`` came to."""

    rows: list[dict[str, Any]]
    shown: list[Row]
    failed: list[RunResult]
    n_known: int

    @property
    def exit_code(self) -> int:
        """0 when all is well, 1 when everything new failed, 4 when some did."""
        if not self.failed:
            return 0
        return 4 if self.shown else 1


def open_store(where: Places, *, create: bool) -> AbstractContextManager[Store]:
    """Open the database of a home; ``create`` makes it when it is not there."""
    if create and "://" not in where.db:
        where.home.mkdir(parents=True, exist_ok=True)
    return closing(Store.open(where.db, create=create))


def plan(asked: Asked, where: Places) -> list[dict[str, Any]]:
    """Resolve what was asked and say where each run stands; nothing is written."""
    specs = _specs(asked, where)
    store = _existing(where)
    try:
        planned = dispatch.classify(specs, where, store, force=asked.force)
        expected = jobs.expectations(planned, store)
    finally:
        if store:
            store.close()
    return [
        {
            "run": p.spec.id, "state": p.state, "method": p.spec.method.name, "setting": p.spec.setting,
            "seed": p.spec.seed, "backbone": p.spec.backbone, "episodes": p.spec.n_episodes, "fit": p.spec.fit_key,
            "config": {name: {"value": v.value, "from": v.origin} for name, v in p.spec.config.items()}, **more,
        }
        for p, more in zip(planned, expected, strict=True)
    ]  # fmt: skip


def run(asked: Asked, where: Places) -> Outcome:
    """Carry out what is new, collect what was only written, and read the rows of all."""
    specs = _specs(asked, where)
    ways = jobs.ways(
        where, asked.executor, asked.device, asked.jobs, _slurm(asked), asked.shards, asked.snapshot
    )
    if asked.weights:
        from harness.method import official_weights

        official_weights.keep(asked.weights, where.cache)
    failed: list[RunResult] = []
    with open_store(where, create=True) as store:
        planned = dispatch.classify(specs, where, store, force=asked.force)
        known = [p for p in planned if p.state == "stored"]
        for p in known:
            sys.stderr.write(
                f"run {p.spec.id} is in the database already ({p.spec.method.name}, {p.spec.setting}, seed {p.spec.seed})\n"
            )
        new = [p for p in planned if p.state != "stored"]
        for result in jobs.results(new, where, store, progress(), asked.executor, ways, force=asked.force):
            if result.status == "failed":
                failed.append(result)
        ids = {spec.id for spec in specs}
        shown = [
            row
            for table in board.tables(store, list({s.setting for s in specs}))
            for row in table.rows
            if ids & {r.id for r in row.runs}
        ]
        shown.sort(key=lambda row: (board.setting_order(row.setting), -row.mean))
    return Outcome([result_commands.row_as_json(row) for row in shown], shown, failed, len(known))


def show_plan(rows: list[dict[str, Any]]) -> None:
    """Print the plan."""
    columns = ("run", "state", "method", "setting", "seed", "backbone", "episodes", "fit")
    tables.show_table(columns, [[str(row[c]) for c in columns] for row in rows], right=(4, 6))
    for row in rows:
        changed = {k: v for k, v in row["config"].items() if v["from"] != "default"}
        if changed:
            told = ", ".join(f"{k}={v['value']} ({v['from']})" for k, v in changed.items())
            sys.stdout.write(f"{row['run']}: {told}\n")
    sys.stdout.write(f"{jobs.plan_summary(rows)}\n")


def show_outcome(outcome: Outcome) -> None:
    """Print the rows of the runs that were asked for, and why others failed."""
    if outcome.shown:
        tables.leaderboard_rows(outcome.shown, with_setting=True)
    for result in outcome.failed:
        last = result.traceback.strip().splitlines()[-1]
        sys.stderr.write(
            f"fsbench: {result.spec.method.name} failed on {result.spec.setting} (run {result.spec.id}): {last}\n"
        )
    if outcome.failed:
        sys.stderr.write(f"`fsbench show {outcome.failed[0].spec.id}` prints the whole traceback.\n")


def parse_seeds(text: str) -> list[int]:
    """Read ``0``, ``0-2`` or ``0,3-4``.

    >>> parse_seeds("0,3-4")
    [0, 3, 4]

    Raises:
        ConfigError: for anything else.
    """
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip())
        if not match:
            raise ConfigError(f"--seeds {text}: expected numbers like 0 or 0-2 or 0,3.")
        seeds += range(int(match[1]), int(match[2] or match[1]) + 1)
    if not seeds:
        raise ConfigError(f"--seeds {text} names no seed; a range goes up, like 0-2.")
    return list(dict.fromkeys(seeds))


def parse_overrides(texts: Sequence[str]) -> dict[str, str]:
    """Read ``key=value`` texts.

    Raises:
        ConfigError: for texts without "=".
    """
    wrong = [text for text in texts if "=" not in text]
    if wrong:
        raise ConfigError(f"--set {wrong[0]}: expected key=value, like --set lr=0.01.")
    return {key.strip(): value.strip() for key, _, value in (text.partition("=") for text in texts)}


def _specs(asked: Asked, where: Places) -> list[Any]:
    precision = _precision(asked.precision)
    options = planning.Options(
        asked.overrides, asked.recipe, asked.backbone, precision, asked.episodes, asked.pipeline, asked.weights,
        asked.seen, asked.allow_leak, _select_on(asked.select_on), asked.is_compiled, asked.gpus,
        asked.uses_stored_crops,
    )  # fmt: skip
    return planning.plan(asked.methods, asked.settings, asked.seeds, options, where.data)


def _select_on(word: str) -> SelectionRole:
    if word not in SELECT_ON:
        raise ConfigError(f"--select-on {word}: weights are chosen on validation or on novel classes.")
    return cast(SelectionRole, word)


def _slurm(asked: Asked) -> list[str]:
    """Options of SLURM, with as many GPUs as processes train together unless the user says otherwise."""
    needed = asked.executor == "slurm" and asked.gpus > 1 and asked.device != "cpu"
    return [*([f"gpus={asked.gpus}"] if needed else []), *asked.slurm]


def tuning_options(
    overrides: Sequence[str], backbone: str | None, recipe: str, precision: str, pipeline: str | None
) -> planning.Options:
    """The words of ``fsbench tune`` that it shares with ``fsbench run``."""
    chosen = _precision(precision)
    return planning.Options(parse_overrides(overrides), recipe, backbone, chosen, pipeline=pipeline)


def _precision(name: str) -> Precision:
    if name not in PRECISIONS:
        raise ConfigError(
            f"--precision {name}: known are {', '.join(PRECISIONS)}.{nearest(name, PRECISIONS)}"
        )
    return cast(Precision, name)


def _existing(where: Places) -> Store | None:
    """The database if there is one; a plan does not create it."""
    if "://" not in where.db and not Path(where.db).exists():
        return None
    return Store.open(where.db)


def progress() -> Progress:
    """How this terminal is told how far it is."""
    return (
        Silent()
        if not logging.getLogger("fsbench").isEnabledFor(logging.INFO)
        else choose(sys.stderr.isatty())
    )
