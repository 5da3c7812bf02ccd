"""The commands that read results: rows, pages, pairs and single runs, as JSON types and in print."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.words import (
    OUTPUT,
    AsJson,
    RowName,
    SomeBackbones,
    SomeBadges,
    SomeBenches,
    SomeMethods,
    SomeSeeds,
    WithHost,
    answer,
    progress,
    settings,
    split,
    stored,
    where,
)

if TYPE_CHECKING:
    from harness.report.board.power import Power
    from harness.report.wanted import Wanted
    from harness.store import Store, StoredRun

app = typer.Typer()


class Scope(StrEnum):
    """What a verdict is about."""

    TRAINING = "training"
    CHECKPOINTS = "checkpoints"


@app.command()
def report(
    bench: SomeBenches = None,
    out: Annotated[
        Path | None,
        typer.Option(*OUTPUT, help="Where to write the pages (default: reports/ in the home)."),
    ] = None,
    form: Annotated[
        str | None, typer.Option("--format", help="Print the tables as csv, json, md or tex instead.")
    ] = None,
    six_blocks: Annotated[
        bool,
        typer.Option(
            "--blocks", help="With --format md or tex: the six blocks of low-shot papers, of joint settings."
        ),
    ] = False,
    serve: Annotated[
        bool, typer.Option("--serve", help="Serve on this machine; rebuild and reload when results arrive.")
    ] = False,
    port: Annotated[int, typer.Option(help="Port of --serve; 0 takes a free one.", min=0, max=65535)] = 8000,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    with_host: WithHost = False,
) -> None:
    """Render the leaderboard pages and the exports beside them from the database."""
    from harness.report import upkeep

    with stored() as store:
        target, chosen = out or where().reports, settings(bench, store)
        if six_blocks or form:
            from harness.report import render
        if six_blocks:
            sys.stdout.write(render.blocks(store, form or "md", chosen))
        elif form:
            sys.stdout.write(render.export(store, form, chosen))
        elif serve:
            from harness.report import serve as server

            server.serve(
                store, target, chosen, port, lambda address: _tell(address, open_), with_host=with_host
            )
        else:
            made = upkeep.keep(where(), store, target, chosen, with_host=with_host, shown=progress())
            _tell(str(made), open_)


@app.command()
def leaderboard(
    bench: SomeBenches = None,
    method: SomeMethods = None,
    backbone: SomeBackbones = None,
    badge: SomeBadges = None,
    seed: SomeSeeds = None,
    as_json: AsJson = False,
) -> None:
    """Print the leaderboard tables of the database; ranks are those among all rows, also where only some are shown."""
    from harness.cli import tables
    from harness.report.remembered import remembered
    from harness.report.wanted import Wanted

    wanted = Wanted(split(method or []), split(backbone or []), split(badge or []), tuple(seed or ()))
    told = remembered(
        where(), ["leaderboard", *(bench or []), repr(wanted)], lambda: _leaderboard(bench, wanted)
    )
    answer(told["rows"], as_json, lambda _: tables.draw([tables.Drawn(*table) for table in told["tables"]]))
    if wanted and not told["rows"] and not as_json:
        tables.say("No row is like that. `fsbench leaderboard` shows them all.")
    elif not told["tables"] and not as_json:
        tables.say("No runs yet. `fsbench run -m protonet -b glyphs-5w1s` makes one.")


def _leaderboard(bench: list[str] | None, wanted: Wanted) -> dict[str, Any]:
    from harness.cli import tables
    from harness.report.board.rows import row_as_json
    from harness.report.board.tables import tables as read

    with stored() as store:
        found = read(store, settings(bench, store))
        if wanted:
            found = [table for table in (table.only(wanted.has) for table in found) if table.rows]
        rows = [row_as_json(row) for table in found for row in table.rows]
        return {"rows": rows, "tables": tables.leaderboards(found)}


@app.command()
def compare(
    a: RowName,
    b: Annotated[str, typer.Argument(help="What it is compared with.")],
    bench: SomeBenches = None,
    margin: Annotated[
        float,
        typer.Option(
            help="Points: a difference shown to lie within ± this, and not significant, is called tied.",
            min=0.0,
        ),
    ] = 0.5,
    scope: Annotated[
        Scope,
        typer.Option(
            help="training: would it hold if both were trained again; checkpoints: which of the trained models is better."
        ),
    ] = Scope.TRAINING,
    as_json: AsJson = False,
) -> None:
    """Say whether A is better than B, by how much, and what would decide it; exit 1 when B is worse than A."""
    from harness.cli import tables
    from harness.report.board import pairs

    with stored() as store:
        found = pairs.compare(store, a, b, settings(bench, store), margin / 100, scope.value)
        answer([pairs.pair_as_json(pair) for pair in found], as_json, lambda _: tables.comparison(found))
    raise typer.Exit(int(any(pair.verdict.word == "better" for pair in found)))


@app.command()
def query(
    sql: Annotated[str, typer.Argument(help='"SELECT … FROM runs" in SQLite\'s language.')],
    bench: SomeBenches = None,
    method: SomeMethods = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")] = False,
    as_json: AsJson = False,
) -> None:
    """Answer SQL over what the pages show: the tables runs, episodes, predictions and classes.

    runs: run, method, version, setting, backbone, recipe, seed, config, status, metric, accuracy, way, shot, queries,
    episodes, image_size, pipeline, fit_seconds, trained_on, badges, created.
    episodes: run, metric, episode, n_correct, n_query, accuracy.
    predictions: run, episode, query, true_class, predicted_class.
    classes: run, class, group, n_query, n_correct, accuracy, taken_for.

    -b and -m say whose rows they hold: predictions of many runs take minutes.
    """
    from harness.cli import terminal
    from harness.exchange import views

    with stored() as store:
        frame = views.query(store, sql, _runs(store, bench, method))
    if csv:
        sys.stdout.write(frame.to_csv(index=False))
        return
    right = [i for i, kind in enumerate(frame.dtypes) if kind.kind in "if"]
    answer(
        json.loads(frame.to_json(orient="records")),
        as_json,
        lambda _: terminal.show_table(
            [*map(str, frame.columns)],
            [[_cell(value) for value in row] for row in frame.itertuples(index=False)],
            right=right,
        ),
    )


def _runs(store: Store, bench: list[str] | None, method: list[str] | None) -> list[StoredRun]:
    """Runs whose settings and methods are asked for."""
    from harness.report.wanted import is_among

    chosen = store.stored_runs(**({"setting": found} if (found := settings(bench, store)) else {}))
    names = split(method or [])
    return [run for run in chosen if not names or is_among(run.spec.method.name, names)]


def _cell(value: Any) -> str:
    if value is None or value != value:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


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
    method: Annotated[str, typer.Option(help="./mine.py, to name the file of that run's method.")] = "",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Measure how hard each episode is to one extractor; pages then show accuracy against it."""
    from harness.jobs import hardness as measuring

    with stored() as store:
        found = measuring.measure(
            store, where(), setting, from_, episodes, device, progress(), replace=replace, named=method
        )
    typer.echo(
        f"{setting}: {len(found.omega):,} episodes, hardness {found.omega.min():.2f} to {found.omega.max():.2f} nats, "
        f"by {found.name}"
    )


@app.command()
def power(
    a: RowName,
    b: Annotated[str, typer.Argument(help="What it is compared with.")],
    delta: Annotated[float, typer.Option(help="The true difference to be found, in points.", min=0.0)] = 0.5,
    bench: SomeBenches = None,
    as_json: AsJson = False,
) -> None:
    """Plan by simulation: the trainings and episodes that tell two methods apart, and what can be told now."""
    from harness.cli import tables
    from harness.report.board import power as planning

    with stored() as store:
        found = planning.power(store, a, b, delta / 100, settings(bench, store))
        answer([_power_as_json(one) for one in found], as_json, lambda _: tables.power(found))


@app.command()
def show(
    run_id: Annotated[
        str, typer.Argument(help="The beginning of a run id, or a signature in quotation marks.")
    ],
    by: Annotated[str | None, typer.Option(help="class: one line per novel class.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show all that is known of one run: configuration with origins, provenance, accuracy; or what of a signature is here."""
    from harness.cli import tables
    from harness.errors import ConfigError
    from harness.runs import signature

    if signature.is_meant(run_id):
        from harness.exchange import signed

        with _stored_if_any() as store:
            found = signed.look(signature.read(run_id), store, where())
            answer(signed.as_json(found), as_json, lambda _: tables.signed(found))
        return
    if by not in (None, "class"):
        raise ConfigError(f"--by {by}: runs are shown by class, `fsbench show {run_id} --by class`.")
    with stored() as store:
        if by:
            from harness.report.board import by_class

            lines = by_class.by_class(store, run_id)
            answer(by_class.as_json(lines), as_json, lambda _: tables.by_class(lines))
        else:
            run = store.run(run_id)
            told = _run_as_json(store, run)
            answer(
                told,
                as_json,
                lambda _: tables.run_details(run, told["accuracy"], told["class_means"]),
            )


@contextmanager
def _stored_if_any() -> Iterator[Store | None]:
    """The database; None where there is none yet."""
    if "://" not in where().db and not Path(where().db).exists():
        yield None
        return
    with stored() as store:
        yield store


def _tell(address: str, is_opened: bool) -> None:
    import webbrowser

    sys.stdout.write(address + "\n")
    sys.stdout.flush()
    if is_opened:
        webbrowser.open(address)


def _power_as_json(found: Power) -> dict[str, Any]:
    """A plan as JSON types; differences are fractions."""
    from dataclasses import asdict

    plan = found.plan._asdict() if found.plan else None
    return {**asdict(found), "plan": plan, "sentence": found.sentence}


def _run_as_json(store: Store, run: StoredRun) -> dict[str, Any]:
    """A stored run as JSON types; ``class_means`` are of the joint protocol's metrics, empty where there are none."""
    from harness.evaluation.protocols import protocol_with
    from harness.report.board import joint
    from harness.runs.signature import signature

    counts = {name: store.counts(run.pk, name) for name in run.metrics}
    by_class = joint.class_table(store, run) if protocol_with(run.metrics).is_grouped else None
    return {
        "id": run.id, "signature": str(signature([run], run.spec.n_episodes)), "status": run.status, "replicates": list(run.replicates), "created": run.created,
        "badges": list(run.badges), "rechecks": [check._asdict() for check in run.rechecks],
        "spec": run.spec.to_json(), "provenance": dict(run.provenance),
        "curves": [dict(p) for p in run.curves], "traceback": run.traceback,
        "accuracy": {name: float((correct / asked).mean()) for name, (correct, asked) in counts.items()},
        "class_means": {name: float(values.mean()) for name, values in (by_class or {}).items()},
    }  # fmt: skip
