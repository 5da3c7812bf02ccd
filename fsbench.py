"""The command line: what can be typed, what is answered, and the exit codes. No logic lives here."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from harness import threads
from harness.errors import ConfigError, FsbenchError
from harness.places import Places, places

if TYPE_CHECKING:
    from harness.store import Store

app = typer.Typer(
    help="A trustworthy number for a few-shot method: fixed episodes, per-episode results, paired statistics.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
Methods = Annotated[
    list[str],
    typer.Option(
        "--method", "-m", help="Name, glob, ./mine.py or ./mine.py:Mine; may be repeated or comma-separated."
    ),
]
Benches = Annotated[
    list[str], typer.Option("--bench", "-b", help="Setting or glob, like glyphs-5w1s or 'glyphs-*'.")
]
SomeBenches = Annotated[
    list[str] | None, typer.Option("--bench", "-b", help="Only these settings (names or globs).")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
INTERRUPTED = 130
_where: list[Places] = []


@app.callback()
def common(
    home: Annotated[
        Path | None,
        typer.Option(help="Holds results.db, runs/ and reports/ (or FSBENCH_HOME; default: here)."),
    ] = None,
    db: Annotated[str | None, typer.Option(help="Another database: a path or a SQLAlchemy URL.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Remember where things are; prepared data are in FSBENCH_DATA, checkpoints and features in FSBENCH_CACHE."""
    _where[:] = [places(home, db)]
    threads.settle()
    logging.basicConfig(
        level=logging.WARNING if quiet else logging.INFO, format="%(message)s", stream=sys.stderr
    )


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
    snapshot: Annotated[
        bool, typer.Option("--snapshot", help="Let jobs use a copy of ./mine.py, so that you may edit it.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train and evaluate methods on settings; every episode goes to the database."""
    from harness import commands

    asked = commands.Asked(
        _split(method), _split(bench), commands.parse_seeds(seeds), commands.parse_overrides(set_ or []),
        episodes, backbone, recipe, precision, pipeline, device, force, executor, jobs, slurm or [], shards, snapshot,
    )  # fmt: skip
    if dry_run:
        _answer(commands.plan(asked, _where[0]), as_json, commands.show_plan)
    else:
        outcome = commands.run(asked, _where[0])
        _answer(outcome.rows, as_json, lambda _: commands.show_outcome(outcome))
        raise typer.Exit(outcome.exit_code)


@app.command()
def report(
    bench: SomeBenches = None,
    out: Annotated[
        Path | None, typer.Option(help="Where to write the pages (default: reports/ in the home).")
    ] = None,
    form: Annotated[
        str | None, typer.Option("--format", help="Print the tables as csv, json, md or tex instead.")
    ] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Serve on this machine; rebuild and reload when results arrive.")
    ] = False,
    port: Annotated[int, typer.Option(help="Port of --serve; 0 takes a free one.", min=0, max=65535)] = 8000,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Render the leaderboard pages and the exports beside them from the database."""
    from harness import commands

    with _store() as store:
        target = out or _where[0].reports
        commands.report(store, target, _settings(bench), form, port if serve else None, open_)


@app.command()
def compare(
    a: Annotated[str, typer.Argument(help="Method, or the beginning of a run id.")],
    b: Annotated[str, typer.Argument(help="What it is compared with.")],
    bench: SomeBenches = None,
    margin: Annotated[
        float, typer.Option(help="Differences within ± so many points are tied.", min=0.0)
    ] = 0.5,
    as_json: AsJson = False,
) -> None:
    """Pair two methods on the same episodes; exit 1 when B is significantly worse than A."""
    from harness import commands
    from harness.report import comparison, terminal

    with _store() as store:
        pairs = comparison.compare(store, a, b, _settings(bench), margin / 100)
        _answer(
            [commands.pair_as_json(pair) for pair in pairs], as_json, lambda _: terminal.comparison(pairs)
        )
    raise typer.Exit(int(any(pair.comparison.verdict == "better" for pair in pairs)))


@app.command()
def power(
    a: Annotated[str, typer.Argument(help="Method, or the beginning of a run id.")],
    b: Annotated[str, typer.Argument(help="What it is compared with.")],
    delta: Annotated[float, typer.Option(help="The true difference to be found, in points.", min=0.0)] = 0.5,
    bench: SomeBenches = None,
    as_json: AsJson = False,
) -> None:
    """Say how many episodes and seeds tell two methods apart."""
    from harness import commands
    from harness.report import power as planning

    with _store() as store:
        found = planning.power(store, a, b, delta / 100, _settings(bench))
        _answer(commands.as_records(found), as_json, lambda _: planning.show(found))


@app.command()
def show(
    run_id: Annotated[str, typer.Argument(help="The beginning of a run id.")],
    by: Annotated[str | None, typer.Option(help="class: one line per novel class.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show all that is known of one run: configuration with origins, provenance, accuracy."""
    from harness import commands

    with _store() as store:
        _answer(*commands.show(store, run_id, by, as_json))


@app.command()
def leaderboard(bench: SomeBenches = None, as_json: AsJson = False) -> None:
    """Print the leaderboard tables of the database."""
    from harness import commands

    with _store() as store:
        _answer(
            commands.leaderboard(store, _settings(bench)),
            as_json,
            lambda _: commands.show_leaderboard(store, _settings(bench)),
        )


@app.command()
def collect() -> None:
    """Ingest every folder of runs/ that the database does not know yet."""
    from harness import commands, dispatch

    with commands.open_store(_where[0], create=True) as store:
        outcomes = dispatch.collect(_where[0], store)
    typer.echo(", ".join(f"{n} {what}" for what, n in sorted(outcomes.items())) or "no run folders")


@app.command()
def status(as_json: AsJson = False) -> None:
    """Show where the runs given to jobs stand, from the files alone."""
    from harness import job_commands

    _answer(job_commands.status_rows(_where[0]), as_json, job_commands.show_status)


@app.command()
def resume() -> None:
    """Restart the jobs whose runs failed, were stopped or vanished, and wait for them."""
    from harness import commands, job_commands

    with commands.open_store(_where[0], create=True) as store:
        outcomes = job_commands.resume(_where[0], store)
    typer.echo(", ".join(f"{n} {what}" for what, n in sorted(outcomes.items())) or "nothing to resume")
    raise typer.Exit(4 if "failed" in outcomes else 0)


@app.command()
def cancel(
    runs: Annotated[list[str] | None, typer.Argument(help="Beginnings of run ids (default: all).")] = None,
) -> None:
    """End jobs; what they did is saved, and `fsbench resume` goes on with it."""
    from harness import dispatch

    typer.echo(f"{dispatch.cancel(_where[0], runs or [])} runs cancelled")


@app.command()
def methods(
    name: Annotated[str | None, typer.Argument(help="Show one method's hyper-parameters.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the methods, or describe one."""
    from harness import catalogue

    _answer(
        *(
            (catalogue.method(name), as_json, catalogue.show_method)
            if name
            else (catalogue.methods(), as_json, catalogue.show_methods)
        )
    )


@app.command()
def benchmarks(as_json: AsJson = False) -> None:
    """List the settings: what is prepared, what is missing and how to get it."""
    from harness import catalogue

    _answer(catalogue.benchmarks(_where[0]), as_json, catalogue.show_benchmarks)


@app.command()
def episodes(
    setting: Annotated[str | None, typer.Argument(help="A setting, like glyphs-5w1s.")] = None,
    n: Annotated[
        int | None,
        typer.Option("--episodes", help="Only the first so many (default: the benchmark's count)."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Draw every locked list and compare digests.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Export a fixed episode list, or check all of them."""
    from harness import catalogue

    if check:
        typer.echo(catalogue.check_lists())
    elif setting:
        _answer(catalogue.episode_list(setting, n), as_json, catalogue.show_episode_list)
    else:
        raise ConfigError(
            "Which setting? `fsbench episodes glyphs-5w1s --json` exports a list, `--check` checks all."
        )


@app.command()
def prepare(
    dataset: Annotated[str, typer.Argument(help="Name of the data set, like omniglot.")],
    source: Annotated[
        list[Path] | None, typer.Option("--source", help="Archive or folder; may be repeated.")
    ] = None,
    accept_terms: Annotated[
        bool, typer.Option("--accept-terms", help="Accept the data set's terms of use.")
    ] = False,
) -> None:
    """Bring a data set from what you have into the form that runs read."""
    from harness import catalogue

    for line in catalogue.prepare(dataset, source or [], _where[0], accept_terms):
        typer.echo(line)


@app.command()
def import_folder(
    source: Annotated[Path, typer.Argument(help="Folder or archive with a subfolder for each class.")],
    name: Annotated[str, typer.Option(help="Name of the benchmark: small letters, digits and dashes.")],
    splits: Annotated[
        Path | None, typer.Option(help="CSV with the columns class and role (base, validation, novel).")
    ] = None,
    split: Annotated[
        str, typer.Option(help="Without --splits: deal the classes at random in these proportions.")
    ] = "64/16/20",
    seed: Annotated[int, typer.Option(help="Of the deal and of the episode lists.", min=0)] = 0,
    queries: Annotated[int, typer.Option(help="Queries per class.", min=1)] = 15,
    size: Annotated[int, typer.Option(help="Pixels of a side.", min=8)] = 84,
) -> None:
    """Make a benchmark of your own pictures, with locked episode lists."""
    from harness import catalogue

    for line in catalogue.import_folder(source, name, splits, split, seed, queries, size, _where[0]):
        typer.echo(line)


@app.command()
def verify(
    dataset: Annotated[str, typer.Argument(help="Name of a prepared data set.")], as_json: AsJson = False
) -> None:
    """Check a prepared data set: counts, digests, duplicates; repair what can be repaired."""
    from harness import catalogue

    findings = catalogue.verify(dataset, _where[0])
    _answer(findings, as_json, catalogue.show_findings)
    raise typer.Exit(3 if any(f["level"] == "error" for f in findings) else 0)


@app.command()
def check(method: Annotated[str, typer.Argument(help="Name or ./mine.py.")], as_json: AsJson = False) -> None:
    """Run the method contract: every promise with pass or fail."""
    from harness import catalogue

    outcomes = catalogue.contract(method)
    _answer(outcomes, as_json, catalogue.show_contract)
    raise typer.Exit(int(any(o["passed"] is False for o in outcomes)))


@app.command()
def new_method(name: Annotated[str, typer.Argument(help="Name of the method; the file is NAME.py.")]) -> None:
    """Write a method of your own that works, in at most 40 lines."""
    from harness import catalogue

    typer.echo(catalogue.new_method(name, Path()))


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Show the state of everything: packages, devices, data, disk, SLURM, database."""
    from harness import health

    _answer(health.examine(_where[0]), as_json, health.show)


def _split(texts: list[str]) -> list[str]:
    return [part for text in texts for part in text.split(",") if part]


def _settings(patterns: list[str] | None) -> list[str] | None:
    from harness import benchmarks as known

    return [s.name for p in _split(patterns) for s in known.expand(p)] if patterns else None


def _store() -> Store:
    from harness import commands

    return commands.open_store(_where[0], create=False)


def _answer(value: Any, as_json: bool, show: Any) -> None:
    if as_json:
        typer.echo(json.dumps(value, indent=1))
    else:
        show(value)


def _interrupted() -> NoReturn:
    sys.stderr.write("\nfsbench: interrupted; the same command goes on where it stopped.\n")
    sys.exit(INTERRUPTED)


def main() -> None:
    """Run the command line; only our own errors are turned into messages."""
    try:
        code = app(standalone_mode=False) or 0
        if code == INTERRUPTED:  # the parser's answer to Ctrl-C
            _interrupted()
        sys.exit(code)
    except FsbenchError as error:
        sys.stderr.write(f"fsbench: {error}\n")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        _interrupted()
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # the parser's own usage errors
            error.show()
            sys.exit(error.exit_code)
        if type(error).__name__ == "Abort":  # the answer of older parsers
            _interrupted()
        raise


if __name__ == "__main__":
    main()
