"""The commands that bring results together, carry them between labs, and look at them again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.words import AsJson, answer, open_store, stored, where

app = typer.Typer()


@app.command()
def merge(
    others: Annotated[list[str], typer.Argument(help="Databases: paths or SQLAlchemy URLs.")],
    as_json: AsJson = False,
) -> None:
    """Bring everything of other databases into this one; results that disagree are all kept and shown."""
    from harness.cli import sharing_commands

    with open_store(where(), create=True) as store:
        answer(sharing_commands.merge(store, others), as_json, sharing_commands.show_merge)


@app.command()
def export(
    runs: Annotated[list[str], typer.Argument(help="Beginnings of run ids, or `all`.")],
    bundle: Annotated[Path, typer.Argument(help="NAME.tar.zst or NAME.tar.gz.")],
    with_fits: Annotated[
        bool, typer.Option("--with-fits", help="Also the checkpoints, so that others can `fsbench recheck`.")
    ] = False,
) -> None:
    """Write runs into one archive, for `fsbench import` in another home."""
    from harness.cli import sharing_commands

    with stored() as store:
        typer.echo(sharing_commands.export(store, where(), runs, bundle, with_fits=with_fits))


@app.command("import")
def import_(bundle: Annotated[Path, typer.Argument(help="What `fsbench export` wrote.")]) -> None:
    """Take in the runs of an archive; they are self-reported until `fsbench recheck`."""
    from harness.cli import sharing_commands

    with open_store(where(), create=True) as store:
        typer.echo(sharing_commands.take_in(store, where(), bundle))


@app.command()
def recheck(
    run: Annotated[str, typer.Argument(help="The beginning of a run id.")],
    episodes: Annotated[int, typer.Option(help="How many to count again.", min=1)] = 50,
    seed: Annotated[int, typer.Option(help="Of the sample.", min=0)] = 0,
    replicate: Annotated[
        str, typer.Option(help="The beginning of a digest, where a run has several results.")
    ] = "",
    method: Annotated[
        str,
        typer.Option(
            help="./theirs.py, when the method's file is not where it was; its text must be the same."
        ),
    ] = "",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Count a sample of a run's episodes again from its checkpoint; exit 1 when one gives another count."""
    from harness.cli import sharing_commands

    with stored() as store:
        found = sharing_commands.recheck(store, where(), run, replicate, episodes, seed, device, method)
        answer(found, as_json, sharing_commands.show_recheck)
    raise typer.Exit(int(bool(found["differing"])))


@app.command()
def score(
    file: Annotated[Path, typer.Argument(help="predictions.npz, .json or .csv")],
    bench: Annotated[str, typer.Option("--bench", "-b", help="The setting whose list was answered.")],
    name: Annotated[str, typer.Option(help="Of the method, as its row shows it.")],
    seed: Annotated[int, typer.Option(help="Of the training; seeds of one name are pooled.", min=0)] = 0,
    as_json: AsJson = False,
) -> None:
    """Store predictions made elsewhere on an exported list; the row says self-reported.

    FILE holds `digest`, that of the list, and `predictions`: one label in 0 to way - 1 for each query, in rows of
    way × queries, a row per episode from the first on. `fsbench episodes SETTING --json` exports digest and episodes;
    queries are asked in its order: all of label 0, then all of label 1, and so on.

    .npz: arrays digest (text) and predictions. .json: {"digest": "…", "predictions": [[0, 3, …], …]}.
    .csv: a first line `# digest …`, then a line of labels for each episode.
    """
    from harness.cli import sharing_commands

    with open_store(where(), create=True) as store:
        answer(
            sharing_commands.score(store, where(), file, bench, name, seed),
            as_json,
            sharing_commands.show_score,
        )
