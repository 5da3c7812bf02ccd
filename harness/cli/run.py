"""The commands that make runs and watch them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.words import AsJson, answer, split, where

app = typer.Typer()
Methods = Annotated[
    list[str],
    typer.Option(
        "--method", "-m", help="Name, glob, ./mine.py or ./mine.py:Mine; may be repeated or comma-separated."
    ),
]
Benches = Annotated[
    list[str], typer.Option("--bench", "-b", help="Setting or glob, like glyphs-5w1s or 'glyphs-*'.")
]


@app.command()
def run(
    method: Methods,
    bench: Benches,
    seeds: Annotated[str, typer.Option(help="Run seeds, like 0 or 0-2 or 0,3.")] = "0",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Hyper-parameter: key=value; may be repeated.")
    ] = None,
    episodes: Annotated[
        int | None, typer.Option(help="Only the first so many episodes (default: the benchmark's count).")
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="Another backbone than the benchmark's.")] = None,
    recipe: Annotated[str, typer.Option(help="clean, or as-published where a method has it.")] = "clean",
    precision: Annotated[str, typer.Option(help="fp32, bf16 or fp16, of training and embedding.")] = "fp32",
    pipeline: Annotated[str | None, typer.Option(help="Another image pipeline than the benchmark's.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
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
    gpus: Annotated[
        int,
        typer.Option(
            help="Train in so many processes, a GPU each: divides batches, part of what a run is.", min=1
        ),
    ] = 1,
    snapshot: Annotated[
        bool, typer.Option("--snapshot", help="Let jobs use a copy of ./mine.py, so that you may edit it.")
    ] = False,
    weights: Annotated[
        Path | None, typer.Option(help="Official checkpoint to import in place of a training; needs --seen.")
    ] = None,
    seen: Annotated[
        list[str] | None,
        typer.Option(
            "--seen", help="What --weights were trained on: mini, tiered:validation, imagenet, …, or unknown."
        ),
    ] = None,
    allow_leak: Annotated[
        bool,
        typer.Option("--allow-leak", help="Run although novel classes were seen in training; gives a badge."),
    ] = False,
    select_on: Annotated[
        str,
        typer.Option(
            help="novel chooses the checkpoint as some papers did; the row is badged test-selected."
        ),
    ] = "validation",
    compile_: Annotated[
        bool, typer.Option("--compile", help="Pass the backbone through torch.compile; pays on a GPU.")
    ] = False,
    stored_crops: Annotated[
        bool,
        typer.Option(
            "--stored-crops",
            help="Cut random training crops from the stored squares, not from whole pictures of twice the size: less disk.",
        ),
    ] = False,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="Only deterministic kernels: slower on a GPU.")
    ] = False,
    tensorboard: Annotated[Path | None, typer.Option(help="Also write training curves there.")] = None,
    with_pictures: Annotated[
        bool,
        typer.Option(
            "--with-pictures",
            help="Store thumbnails of extreme episodes of any images; those whose terms allow it have them anyway.",
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train and evaluate methods on settings; every episode goes to the database."""
    from harness.cli import plans
    from harness.system import process

    asked = plans.Asked(
        split(method), split(bench), plans.parse_seeds(seeds), plans.parse_overrides(set_ or []),
        episodes, backbone, recipe, precision, pipeline, device, force, executor, jobs, slurm or [], shards, snapshot,
        weights, split(seen or []), allow_leak, select_on, compile_, gpus, stored_crops,
    )  # fmt: skip
    process.ask(is_deterministic=deterministic, tensorboard=tensorboard, with_pictures=with_pictures)
    if dry_run:
        answer(plans.plan(asked, where()), as_json, plans.show_plan)
    else:
        outcome = plans.run(asked, where())
        answer(outcome.rows, as_json, lambda _: plans.show_outcome(outcome))
        raise typer.Exit(outcome.exit_code)


@app.command()
def tune(
    method: Annotated[str, typer.Argument(help="Name or ./mine.py.")],
    bench: Annotated[
        str, typer.Option("--bench", "-b", help="Setting whose validation classes decide, like glyphs-5w1s.")
    ],
    grid: Annotated[
        list[str], typer.Option("--grid", help="key=value,value (or value;value); may be repeated.")
    ],
    seeds: Annotated[str, typer.Option(help="Run seeds, like 0 or 0-2; their mean decides.")] = "0",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Hyper-parameter of every configuration: key=value.")
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="Another backbone than the benchmark's.")] = None,
    recipe: Annotated[str, typer.Option(help="clean, or as-published where a method has it.")] = "clean",
    precision: Annotated[str, typer.Option(help="fp32, bf16 or fp16, of training and embedding.")] = "fp32",
    pipeline: Annotated[str | None, typer.Option(help="Another image pipeline than the benchmark's.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Try hyper-parameters on validation classes; every try is stored, and the row says how many there were."""
    from harness.cli import plans, tune_command

    options = plans.tuning_options(set_ or [], backbone, recipe, precision, pipeline)
    with plans.open_store(where(), create=True) as store:
        found = tune_command.tune(
            store, where(), method, bench, grid, plans.parse_seeds(seeds), options, device
        )
        answer(found, as_json, tune_command.show)
    raise typer.Exit(0 if found["best"] else 1)


@app.command()
def collect() -> None:
    """Ingest every folder of runs/ that the database does not know yet."""
    from harness.cli import plans
    from harness.jobs import dispatch

    with plans.open_store(where(), create=True) as store:
        outcomes = dispatch.collect(where(), store)
    typer.echo(", ".join(f"{n} {what}" for what, n in sorted(outcomes.items())) or "no run folders")


@app.command()
def status(as_json: AsJson = False) -> None:
    """Show where the runs given to jobs stand, from the files alone."""
    from harness.cli import jobs

    answer(jobs.status_rows(where()), as_json, jobs.show_status)


@app.command()
def resume() -> None:
    """Restart the jobs whose runs failed, were stopped or vanished, and wait for them."""
    from harness.cli import jobs, plans

    with plans.open_store(where(), create=True) as store:
        outcomes = jobs.resume(where(), store)
    typer.echo(", ".join(f"{n} {what}" for what, n in sorted(outcomes.items())) or "nothing to resume")
    raise typer.Exit(4 if "failed" in outcomes else 0)


@app.command()
def cancel(
    runs: Annotated[list[str] | None, typer.Argument(help="Beginnings of run ids (default: all).")] = None,
) -> None:
    """End jobs; what they did is saved, and `fsbench resume` goes on with it."""
    from harness.jobs import dispatch

    typer.echo(f"{dispatch.cancel(where(), runs or [])} runs cancelled")
