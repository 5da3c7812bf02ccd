"""`fsbench run` and `fsbench tune`: from typed words to rows of the database."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.asking import asks
from harness.cli.words import (
    AsJson,
    answer,
    methods_beginning,
    open_store,
    progress,
    settings_beginning,
    split,
    where,
)
from harness.errors import ConfigError

if TYPE_CHECKING:
    from harness.report.board.rows import Row
    from harness.runs import RunResult, RunSpec
    from harness.runs.experiment import Asked
    from harness.runs.request import Request

app = typer.Typer()
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
SOME_FAILED = 4


@app.command()
@asks
def run(
    *,
    experiment: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE.toml]",
            help="An experiment file; -m and -b then choose among its runs, other options take the place of its words.",
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            "-m",
            help="Name, glob, ./mine.py or ./mine.py:Mine; may be repeated or comma-separated.",
            autocompletion=methods_beginning,
        ),
    ] = None,
    bench: Annotated[
        list[str] | None,
        typer.Option(
            "--bench",
            "-b",
            help="Setting or glob, like glyphs-5w1s or 'glyphs-*'.",
            autocompletion=settings_beginning,
        ),
    ] = None,
    request: Request,
    seeds: Annotated[str | None, typer.Option(help="Run seeds, like 0 or 0-2 or 0,3 (default: 0).")] = None,
    device: Device = "auto",
    force: Annotated[
        bool, typer.Option("--force", help="Train, embed and evaluate anew what is known.")
    ] = False,
    executor: Annotated[
        str, typer.Option(help="inline (this process), local (processes of this machine) or slurm.")
    ] = "inline",
    jobs: Annotated[int, typer.Option(help="Processes at a time, with --executor local.", min=1)] = 1,
    slurm: Annotated[
        list[str] | None,
        typer.Option("--slurm", help="key=value for the jobs, like partition=gpu; may be repeated."),
    ] = None,
    shards: Annotated[int, typer.Option(help="Split each evaluation over so many jobs.", min=1)] = 1,
    snapshot: Annotated[
        bool, typer.Option("--snapshot", help="Let jobs use a copy of ./mine.py, so that you may edit it.")
    ] = False,
    deterministic: Annotated[
        bool,
        typer.Option(
            "--deterministic",
            help="Same bits at any number of threads: deterministic kernels and one thread.",
        ),
    ] = False,
    tracker: Annotated[
        list[str] | None,
        typer.Option(
            help="Send training curves there, too: tensorboard, wandb or mlflow (extras of fsbench)."
        ),
    ] = None,
    with_pictures: Annotated[
        bool | None,
        typer.Option(
            "--with-pictures/--no-pictures",
            help="Store thumbnails of extreme episodes (up to 24 kB a run, in colour 120 kB; without either, where the images' terms allow it).",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train and evaluate methods on settings; every episode goes to the database."""
    from harness.cli import plans
    from harness.jobs import dispatch, packing
    from harness.report.board.tables import rows_of
    from harness.runs import planning
    from harness.system import process, trackers

    asked = _asked(experiment, method, bench, seeds, request)
    surveys = [
        planning.survey(one.methods, one.settings, one.seeds, one.request, where().data) for one in asked
    ]
    specs = list({spec.id: spec for found in surveys for spec in found.specs}.values())
    left_out = [entry for found in surveys for entry in found.left_out]
    process.ask(is_deterministic=deterministic, with_pictures=with_pictures)
    trackers.ask(split(tracker or []), where().home / "trackers")
    if dry_run:
        rows = [*plans.plan(specs, where(), force=force), *plans.passed_over(left_out)]
        answer(rows, as_json, plans.show_plan)
        return
    if not specs:
        raise left_out[0].error
    ways = packing.read_ways(
        where().home, executor=executor, device=device, jobs=jobs, slurm=slurm or [], shards=shards,
        snapshot=snapshot, gpus=_gpus(asked, executor),
    )  # fmt: skip
    for one in asked:
        _keep_weights(one.request)
    with open_store(where(), create=True) as store:
        planned = dispatch.classify(specs, where(), store, force=force)
        deleted = {entry.run_id for entry in store.tombstones()}
        _tell_known(
            [entry.spec for entry in planned if entry.state == "stored" and entry.spec.id not in deleted]
        )
        _tell_deleted([spec.id for spec in specs if spec.id in deleted])
        if ways.executor == "inline":
            made = dispatch.run_inline(planned, where(), store, progress(), device=device, force=force)
        else:
            made = dispatch.run_jobs(planned, where(), store, ways, force=force)
        failed = [result for result in made if result.status == "failed"]
        made_rows = rows_of(specs, store)
    _answer(made_rows, failed, as_json=as_json)
    aside = plans.passed_over(left_out)
    sys.stderr.write("".join(f"{line}\n" for line in plans.why_passed_over(aside)))
    if failed:
        raise typer.Exit(SOME_FAILED if made_rows else 1)
    if any(row["state"] == plans.NOT_PREPARED for row in aside):
        raise typer.Exit(SOME_FAILED)


@app.command()
@asks
def tune(
    method: Annotated[str, typer.Argument(help="Name or ./mine.py.")],
    bench: Annotated[
        str, typer.Option("--bench", "-b", help="Setting whose validation classes decide, like glyphs-5w1s.")
    ],
    grid: Annotated[
        list[str], typer.Option("--grid", help="key=value,value (or value;value); may be repeated.")
    ],
    request: Request,
    seeds: Annotated[str, typer.Option(help="Run seeds, like 0 or 0-2; their mean decides.")] = "0",
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Try hyper-parameters on validation classes; every try is stored, and the row says how many there were."""
    from harness.cli import plans
    from harness.runs.experiment import parse_seeds

    _keep_weights(request)
    with open_store(where(), create=True) as store:
        found = plans.tune(store, where(), method, bench, grid, parse_seeds(seeds), request, device)
        answer(found, as_json, plans.show_tuned)
    raise typer.Exit(0 if found["best"] else 1)


def _asked(
    experiment: Path | None,
    method: list[str] | None,
    bench: list[str] | None,
    seeds: str | None,
    request: Request,
) -> list[Asked]:
    """What was typed, or what an experiment file holds of it.

    Raises:
        ConfigError: when it is not said what to run.
    """
    from harness.runs.experiment import Asked, parse_seeds, read

    typed = Asked(
        tuple(split(method or [])),
        tuple(split(bench or [])),
        tuple(parse_seeds(seeds)) if seeds else (),
        request,
    )
    if experiment:
        return read(experiment, typed)
    if not typed.methods or not typed.settings:
        raise ConfigError(
            "Say what to run: a method and a setting, such as `fsbench run -m protonet -b glyphs-5w1s`, or an experiment "
            "file. `fsbench methods` and `fsbench benchmarks` list what there is."
        )
    return [typed._replace(seeds=typed.seeds or (0,))]


def _gpus(asked: Sequence[Asked], executor: str) -> int:
    """Processes of one training, alike in all jobs of a batch."""
    found = {one.request.world_size for one in asked}
    if len(found) > 1 and executor != "inline":
        raise ConfigError(
            f"Runs of {' and '.join(map(str, sorted(found)))} GPUs cannot share jobs; choose some with -m or -b."
        )
    return max(found)


def _keep_weights(request: Request) -> None:
    """Copy imported weights to where jobs find them."""
    if request.weights:
        from harness.method import official_weights

        for path in request.weights:
            official_weights.keep(path, where().cache)


def _tell_known(specs: Sequence[RunSpec]) -> None:
    for spec in specs:
        sys.stderr.write(
            f"run {spec.id} is in the database already ({spec.method.name}, {spec.setting}, seed {spec.seed})\n"
        )


def _tell_deleted(run_ids: Sequence[str]) -> None:
    for run_id in run_ids:
        sys.stderr.write(f"run {run_id} was deleted; `fsbench runs restore {run_id}` brings it back\n")


def _answer(rows: Sequence[Row], failed: Sequence[RunResult], *, as_json: bool) -> None:
    """Print the rows of the runs that were asked for, and why others failed."""
    from harness.cli import tables
    from harness.report.board.rows import row_as_json
    from harness.report.formats import last_line

    def show(_: Any) -> None:
        if rows:
            tables.draw(tables.leaderboard_rows(rows, with_setting=True))

    answer([row_as_json(row) for row in rows], as_json, show)
    for result in failed:
        spec = result.spec
        sys.stderr.write(
            f"fsbench: {spec.method.name} failed on {spec.setting} (run {spec.id}): {last_line(result.traceback)}\n"
        )
    recorded = [result.spec.id for result in failed if (where().runs / result.spec.id).is_dir()]
    if recorded:  # the others have left nothing but their jobs' words
        sys.stderr.write(f"`fsbench show {recorded[0]}` prints the whole traceback.\n")
