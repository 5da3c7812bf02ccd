"""What the commands about runs do, between the typed words and the layers below."""

from __future__ import annotations

import re
import sys
import webbrowser
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

from harness import dispatch, job_commands, planning
from harness.errors import ConfigError, nearest
from harness.places import Places
from harness.progress import Progress, Silent, choose
from harness.report import joint, terminal
from harness.report.comparison import Pair
from harness.report.leaderboard import Table, setting_order, tables
from harness.report.rows import Row
from harness.runs import Precision, RunResult
from harness.store import Store, StoredRun

PRECISIONS = ("fp32", "bf16", "fp16")


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
        expected = job_commands.expectations(planned, store)
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
    ways = job_commands.ways(
        where, asked.executor, asked.device, asked.jobs, _slurm(asked), asked.shards, asked.snapshot
    )
    if asked.weights:
        from harness import weights

        weights.keep(asked.weights, where.cache)
    failed: list[RunResult] = []
    with open_store(where, create=True) as store:
        planned = dispatch.classify(specs, where, store, force=asked.force)
        known = [p for p in planned if p.state == "stored"]
        for p in known:
            sys.stderr.write(
                f"run {p.spec.id} is in the database already ({p.spec.method.name}, {p.spec.setting}, seed {p.spec.seed})\n"
            )
        new = [p for p in planned if p.state != "stored"]
        for result in job_commands.results(
            new, where, store, progress(), asked.executor, ways, force=asked.force
        ):
            if result.status == "failed":
                failed.append(result)
        ids = {spec.id for spec in specs}
        shown = [
            row
            for table in tables(store, list({s.setting for s in specs}))
            for row in table.rows
            if ids & {r.id for r in row.runs}
        ]
        shown.sort(key=lambda row: (setting_order(row.setting), -row.mean))
    return Outcome([row_as_json(row) for row in shown], shown, failed, len(known))


def show_plan(rows: list[dict[str, Any]]) -> None:
    """Print the plan."""
    columns = ("run", "state", "method", "setting", "seed", "backbone", "episodes", "fit")
    terminal.show_table(columns, [[str(row[c]) for c in columns] for row in rows], right=(4, 6))
    for row in rows:
        changed = {k: v for k, v in row["config"].items() if v["from"] != "default"}
        if changed:
            told = ", ".join(f"{k}={v['value']} ({v['from']})" for k, v in changed.items())
            sys.stdout.write(f"{row['run']}: {told}\n")
    sys.stdout.write(f"{job_commands.plan_summary(rows)}\n")


def show_outcome(outcome: Outcome) -> None:
    """Print the rows of the runs that were asked for, and why others failed."""
    if outcome.shown:
        terminal.leaderboard_rows(outcome.shown, with_setting=True)
    for result in outcome.failed:
        last = result.traceback.strip().splitlines()[-1]
        sys.stderr.write(
            f"fsbench: {result.spec.method.name} failed on {result.spec.setting} (run {result.spec.id}): {last}\n"
        )
    if outcome.failed:
        sys.stderr.write(f"`fsbench show {outcome.failed[0].spec.id}` prints the whole traceback.\n")


def leaderboard(store: Store, settings: Sequence[str] | None) -> list[dict[str, Any]]:
    """Every row of the leaderboard as JSON types."""
    return [row_as_json(row) for table in tables(store, settings) for row in table.rows]


def show_leaderboard(store: Store, settings: Sequence[str] | None) -> None:
    """Print one table per setting."""
    found: list[Table] = tables(store, settings)
    for table in found:
        terminal.leaderboard(table)
    if not found:
        sys.stdout.write("No runs yet. `fsbench run -m protonet -b glyphs-5w1s` makes one.\n")


def row_as_json(row: Row) -> dict[str, Any]:
    """A leaderboard row as JSON types; accuracies are fractions."""
    return {
        "setting": row.setting, "method": row.method, "backbone": row.backbone, "recipe": row.recipe,
        "config": row.config, "accuracy": row.mean, "half_width": row.half_width, "interval": row.interval.kind,
        "note": row.interval.note, "episodes": row.n_episodes, "seeds": list(row.seeds), "badges": list(row.badges),
        "seconds": row.seconds, "runs": [run.id for run in row.runs],
        **({"metric": row.metric, "metrics": dict(row.joint.means)} if row.joint else {}),
    }  # fmt: skip


def report(
    store: Store,
    target: Path,
    settings: Sequence[str] | None,
    form: str | None,
    port: int | None,
    is_opened: bool,
) -> None:
    """Write the pages, or print the tables in another form, or serve the pages on this machine."""
    from harness.report import render, serve

    def tell(address: str) -> None:
        sys.stdout.write(address + "\n")
        sys.stdout.flush()
        if is_opened:
            webbrowser.open(address)

    if form:
        sys.stdout.write(render.export(store, form, settings))
    elif port is not None:
        serve.serve(store, target, settings, port, tell)
    else:
        page = render.write(store, target, settings)
        tell(str(page))


def show(store: Store, run_id: str, by: str | None, as_json: bool) -> tuple[Any, bool, Callable[[Any], None]]:
    """One run whole, or by class: what to answer, in which form, and how to print it.

    Raises:
        ConfigError: when it can not be shown by that.
    """
    from harness.report import by_class

    if by is None:
        return run_as_json(store, run_id), as_json, lambda _: show_run(store, run_id)
    if by != "class":
        raise ConfigError(f"--by {by}: runs are shown by class, `fsbench show {run_id} --by class`.")
    lines = by_class.by_class(store, run_id)
    return by_class.as_json(lines), as_json, lambda _: by_class.show(lines)


def as_records(found: Sequence[Any]) -> list[dict[str, Any]]:
    """Dataclasses as JSON types."""
    return [asdict(entry) for entry in found]


def pair_as_json(pair: Pair) -> dict[str, Any]:
    """A paired comparison as JSON types."""
    return {
        "setting": pair.setting,
        "a": pair.a.label,
        "b": pair.b.label,
        **asdict(pair.comparison),
        "sentence": pair.sentence,
        "overlap": pair.overlap._asdict() if pair.overlap else None,
    }


def run_as_json(store: Store, prefix: str) -> dict[str, Any]:
    """A stored run as JSON types."""
    found = store.run(prefix)
    return {
        "id": found.id, "status": found.status, "replicates": list(found.replicates), "created": found.created,
        "badges": list(found.badges), "rechecks": [check._asdict() for check in found.rechecks],
        "spec": found.spec.to_json(), "provenance": {k: v for k, v in found.provenance.items() if k != "thumbnails"}, "curves": [dict(p) for p in found.curves],
        "traceback": found.traceback, "accuracy": _accuracy(store, found.pk, found.metrics),
        "class_means": _class_means(store, found),
    }  # fmt: skip


def show_run(store: Store, prefix: str) -> None:
    """Print all that is known of one run."""
    found = store.run(prefix)
    terminal.run_details(found, _accuracy(store, found.pk, found.metrics), _class_means(store, found))


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
    )  # fmt: skip
    return planning.plan(asked.methods, asked.settings, asked.seeds, options, where.data)


def _select_on(word: str) -> Literal["validation", "novel"]:
    if word not in ("validation", "novel"):
        raise ConfigError(f"--select-on {word}: weights are chosen on validation or on novel classes.")
    return "validation" if word == "validation" else "novel"


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
    from pathlib import Path

    if "://" not in where.db and not Path(where.db).exists():
        return None
    return Store.open(where.db)


def progress() -> Progress:
    """How this terminal is told how far it is."""
    import logging

    return (
        Silent()
        if not logging.getLogger("fsbench").isEnabledFor(logging.INFO)
        else choose(sys.stderr.isatty())
    )


def _class_means(store: Store, run: StoredRun) -> dict[str, float]:
    """Means over classes of the joint protocol's metrics; empty where there are none."""
    table = joint.class_table(store, run) if joint.is_joint(run) else None
    return {name: float(values.mean()) for name, values in (table or {}).items()}


def _accuracy(store: Store, pk: int, metrics: Sequence[str]) -> dict[str, float]:
    pairs = {name: store.counts(pk, name) for name in metrics}
    return {name: float((correct / asked).mean()) for name, (correct, asked) in pairs.items()}
