"""The commands that read results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.words import AsJson, SomeBenches, answer, progress, settings, stored, where

app = typer.Typer()


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
    from harness.cli import result_commands

    with stored() as store:
        target = out or where().reports
        result_commands.report(store, target, settings(bench, store), form, port if serve else None, open_)


@app.command()
def leaderboard(bench: SomeBenches = None, as_json: AsJson = False) -> None:
    """Print the leaderboard tables of the database."""
    from harness.cli import result_commands
    from harness.report.board.tables import tables

    with stored() as store:
        found = tables(store, settings(bench, store))
        rows = [result_commands.row_as_json(row) for table in found for row in table.rows]
        answer(rows, as_json, lambda _: result_commands.show_leaderboard(found))


@app.command()
def compare(
    a: Annotated[str, typer.Argument(help="Method, or the beginning of a run id.")],
    b: Annotated[str, typer.Argument(help="What it is compared with.")],
    bench: SomeBenches = None,
    margin: Annotated[
        float,
        typer.Option(
            help="Points: a difference shown to lie within ± this, and not significant, is called tied.",
            min=0.0,
        ),
    ] = 0.5,
    as_json: AsJson = False,
) -> None:
    """Pair two methods on the same episodes; exit 1 when B is significantly worse than A."""
    from harness.cli import result_commands, tables
    from harness.report.board import pairs

    with stored() as store:
        found = pairs.compare(store, a, b, settings(bench, store), margin / 100)
        answer(
            [result_commands.pair_as_json(pair) for pair in found],
            as_json,
            lambda _: tables.comparison(found),
        )
    raise typer.Exit(int(any(pair.comparison.verdict == "better" for pair in found)))


@app.command()
def hardness(
    setting: Annotated[str, typer.Argument(help="Whose episodes are measured, like glyphs-5w1s.")],
    from_: Annotated[
        str,
        typer.Option(
            "--from", help="The beginning of a run id: its features measure, for every method alike."
        ),
    ],
    episodes: Annotated[
        int | None, typer.Option(help="Only the first so many (default: the benchmark's count).")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the place of what another run measured.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Measure how hard each episode is to one extractor; pages then show accuracy against it."""
    from harness.jobs import hardness as measuring

    with stored() as store:
        found = measuring.measure(
            store, where(), setting, from_, episodes, device, progress(), replace=replace
        )
    typer.echo(
        f"{setting}: {len(found.omega):,} episodes, hardness {found.omega.min():.2f} to {found.omega.max():.2f} nats, "
        f"by {found.name}"
    )


@app.command()
def power(
    a: Annotated[str, typer.Argument(help="Method, or the beginning of a run id.")],
    b: Annotated[str, typer.Argument(help="What it is compared with.")],
    delta: Annotated[float, typer.Option(help="The true difference to be found, in points.", min=0.0)] = 0.5,
    bench: SomeBenches = None,
    as_json: AsJson = False,
) -> None:
    """Say how many episodes and seeds tell two methods apart."""
    from harness.cli import result_commands, tables
    from harness.report.board import power as planning

    with stored() as store:
        found = planning.power(store, a, b, delta / 100, settings(bench, store))
        answer(result_commands.as_records(found), as_json, lambda _: tables.power(found))


@app.command()
def show(
    run_id: Annotated[str, typer.Argument(help="The beginning of a run id.")],
    by: Annotated[str | None, typer.Option(help="class: one line per novel class.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show all that is known of one run: configuration with origins, provenance, accuracy."""
    from harness.cli import result_commands

    with stored() as store:
        answer(*result_commands.show(store, run_id, by, as_json))
