"""The commands about what exists: methods, settings, images, lists, the machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.words import AsJson, answer, where
from harness.errors import ConfigError

app = typer.Typer()


@app.command()
def methods(
    name: Annotated[str | None, typer.Argument(help="Show one method's hyper-parameters.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the methods, or describe one."""
    from harness.cli import catalogue

    answer(
        *(
            (catalogue.method(name), as_json, catalogue.show_method)
            if name
            else (catalogue.methods(), as_json, catalogue.show_methods)
        )
    )


@app.command()
def benchmarks(as_json: AsJson = False) -> None:
    """List the settings: what is prepared, what is missing and how to get it."""
    from harness.cli import catalogue

    answer(catalogue.benchmarks(where()), as_json, catalogue.show_benchmarks)


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
    from harness.cli import catalogue

    if check:
        typer.echo(catalogue.check_lists())
    elif setting:
        answer(catalogue.episode_list(setting, n), as_json, catalogue.show_episode_list)
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
    from harness.cli import images

    for line in images.prepare(dataset, source or [], where(), accept_terms):
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
    from harness.cli import images

    for line in images.import_folder(source, name, splits, split, seed, queries, size, where()):
        typer.echo(line)


@app.command()
def verify(
    dataset: Annotated[str, typer.Argument(help="Name of a prepared data set.")], as_json: AsJson = False
) -> None:
    """Check a prepared data set: counts, digests, duplicates; repair what can be repaired."""
    from harness.cli import images

    findings = images.verify(dataset, where())
    answer(findings, as_json, images.show_findings)
    raise typer.Exit(3 if any(f["level"] == "error" for f in findings) else 0)


@app.command()
def check(method: Annotated[str, typer.Argument(help="Name or ./mine.py.")], as_json: AsJson = False) -> None:
    """Run the method contract: every promise with pass or fail."""
    from harness.cli import catalogue

    outcomes = catalogue.contract(method, where())
    answer(outcomes, as_json, catalogue.show_contract)
    raise typer.Exit(int(any(o["passed"] is False for o in outcomes)))


@app.command()
def new_method(name: Annotated[str, typer.Argument(help="Name of the method; the file is NAME.py.")]) -> None:
    """Write a method of your own that works, in at most 40 lines."""
    from harness.cli import catalogue

    typer.echo(catalogue.new_method(name, Path()))


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Show the state of everything: packages, devices, data, disk, SLURM, database."""
    from harness.cli import doctor

    answer(doctor.examine(where()), as_json, doctor.show)
