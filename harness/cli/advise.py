"""``fsbench advise``: which encoder and head suit a folder of pictures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli.words import AsJson, answer, progress, where

app = typer.Typer()
_SHOWN = 15


@app.command()
def advise(
    source: Annotated[
        Path, typer.Argument(help="A folder or archive with a folder of pictures for each class.")
    ],
    encoder: Annotated[
        list[str] | None,
        typer.Option(help="BACKBONE=FILE, like torchvision:resnet18=weights.pth; may be repeated."),
    ] = None,
    shot: Annotated[int, typer.Option(help="Pictures shown of each class.", min=1)] = 5,
    episodes: Annotated[int, typer.Option(help="Draws of the cross-validation.", min=2)] = 200,
    seed: Annotated[int, typer.Option(help="Of the draws.", min=0)] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Say which of the encoders and heads at hand does best on a folder, by cross-validation over its own classes alone.

    At hand are the networks named with --encoder, those that were trained here on colour pictures, and raw pixels; heads are
    those that need no base images. Nothing is trained, and no benchmark's novel class is looked at.
    """
    from harness.jobs import advise as advising
    from harness.store import Store
    from harness.system.process import choose_device
    from harness.training.build import Workplace

    at = Workplace(where(), choose_device(device), progress())
    encoders = [advising.of_weights(text, at.device) for text in encoder or ()]
    if "://" in where().db or Path(where().db).exists():
        with Store.open(where().db, create=False) as store:
            runs = [
                run.spec for run in store.stored_runs() if run.status == "done" and not run.spec.is_scored
            ]
        encoders += advising.of_fits(
            [fit for spec in runs for fit in (spec.fit, *spec.required.values())], at
        )
    found = advising.advise(source, encoders, at, shot=shot, n_episodes=episodes, seed=seed)
    answer({**found._asdict(), "advice": [one._asdict() for one in found.advice]}, as_json, show_advice)


def show_advice(found: dict[str, Any]) -> None:
    """Print the pairs, the best first, and what to type."""
    from harness.cli import terminal
    from harness.report.formats import percent

    columns = ("encoder", "head", "accuracy %", "±", "", "embed ms/image", "ms/episode")
    terminal.show_table(
        columns,
        [
            (
                one["encoder"], one["head"], percent(one["accuracy"]), percent(one["half_width"]),
                "best" if one["is_best"] else "", f"{one['embed_ms']:.1f}", f"{one['episode_ms']:.1f}",
            )
            for one in found["advice"][:_SHOWN]
        ],
        right=(2, 3, 5, 6),
    )  # fmt: skip
    sys.stdout.write(
        f"{found['n_episodes']:,} draws of {found['way']} classes, {found['shot']} pictures shown and {found['n_query']} asked of each; "
        "± over draws. Pairs marked best are not told apart.\n"
    )
    for text in found["left_out"]:
        sys.stdout.write(f"not tried: {text}\n")
    command = next((one["command"] for one in found["advice"] if one["command"]), "")
    if command:
        sys.stdout.write(f"to go on with the best network: {command}\n")
