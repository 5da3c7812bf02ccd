"""The commands that bring results together, carry them between labs, and look at them again."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.words import OUTPUT, AsJson, WithHost, answer, open_store, stored, where

if TYPE_CHECKING:
    from harness.store import Store
    from harness.system.folders import Places

app = typer.Typer()
ALL = "all"


@app.command()
def merge(
    others: Annotated[list[str], typer.Argument(help="Databases: paths or SQLAlchemy URLs.")],
    as_json: AsJson = False,
) -> None:
    """Bring everything of other databases into this one; results that disagree are all kept and shown."""
    with open_store(where(), create=True) as store:
        answer(merged(store, others), as_json, show_merged)


@app.command()
def export(
    runs: Annotated[list[str], typer.Argument(help="Beginnings of run ids, or `all`.")],
    bundle: Annotated[Path, typer.Argument(help="NAME.tar.zst or NAME.tar.gz; with --parquet a folder.")],
    with_fits: Annotated[
        bool, typer.Option("--with-fits", help="Also the checkpoints, so that others can `fsbench recheck`.")
    ] = False,
    with_host: WithHost = False,
    parquet: Annotated[
        bool,
        typer.Option(
            "--parquet", help="As tables for other programs: those of `fsbench query`, a file each."
        ),
    ] = False,
) -> None:
    """Write runs into one archive, for `fsbench import` in another home; or as tables."""
    with stored() as store:
        if parquet:
            typer.echo(exported_tables(store, runs, bundle))
            return
        typer.echo(exported(store, where(), runs, bundle, with_fits=with_fits, with_host=with_host))


@app.command("import")
def import_(bundle: Annotated[Path, typer.Argument(help="What `fsbench export` wrote.")]) -> None:
    """Take in the runs of an archive; they are self-reported until `fsbench recheck`."""
    with open_store(where(), create=True) as store:
        typer.echo(taken_in(store, where(), bundle))


@app.command()
def publish(
    target: Annotated[str, typer.Argument(help="A folder, or the address of a git repository.")],
    branch: Annotated[str, typer.Option(help="Of the repository.")] = "gh-pages",
    url: Annotated[str, typer.Option(help="Where the site will be, like https://lab.example/board.")] = "",
) -> None:
    """Write the report as a site for any static host: relative links, permanent addresses, a feed of new rows, a 404 page."""
    from harness.exchange import publishing

    with stored() as store:
        found = publishing.publish(store, where(), target, branch=branch, url=url)
    typer.echo(f"{found.target}: {found.n_files:,} files" + ("" if found.is_new else ", nothing new"))


@app.command()
def submit(
    runs: Annotated[list[str], typer.Argument(help="Beginnings of run ids.")],
    out: Annotated[Path, typer.Option(*OUTPUT, help="The folder that gets one for each run.")] = Path(
        "submissions"
    ),
) -> None:
    """Write runs as folders for somebody else's repository, and the text of a pull request."""
    from harness.exchange import submissions

    with stored() as store:
        chosen = [store.run(prefix) for prefix in runs]
        typer.echo(submissions.submit(store, where(), chosen, out))


@app.command()
def accept(
    folder: Annotated[
        Path, typer.Argument(help="Holds what `fsbench submit` wrote, or is one of its folders.")
    ],
    episodes: Annotated[int, typer.Option(help="How many to count again.", min=1)] = 50,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Check submissions and take in what holds; exit 1 when one is refused or disputed. For the CI of who receives them."""
    from harness.cli import tables
    from harness.cli.words import progress
    from harness.exchange import submissions

    with open_store(where(), create=True) as store:
        found = submissions.accept(store, where(), folder, device, progress(), episodes)
        told = [
            {"name": one.name, "accepted": one.is_accepted, "problem": one.problem, "badges": list(one.badges),
             "recheck": one.check.word if one.check else None, "why_not": one.why_not}
            for one in found
        ]  # fmt: skip
        answer(told, as_json, lambda _: tables.say("\n".join(submissions.told(found))))
    raise typer.Exit(int(not all(one.is_accepted for one in found)))


@app.command()
def export_features(
    run: Annotated[str, typer.Argument(help="The beginning of the id of a run on a joint setting.")],
    folder: Annotated[Path, typer.Argument(help="Where train.hdf5, val.hdf5 and their indices go.")],
    method: Annotated[str, typer.Option(help="./mine.py, to name the file of that run's method.")] = "",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Write the features of a run in the HDF5 layout of the low-shot benchmark's authors, for other programs."""
    from harness.cli.words import progress
    from harness.exchange import saved_features
    from harness.method import registry
    from harness.system.process import choose_device
    from harness.training.build import Workplace

    with stored() as store:
        spec = store.run(run).spec
    if method:
        registry.vouch_for(method, spec.method, where().cache)
    at = Workplace(where(), choose_device(device), progress())
    written = saved_features.export_features(spec, at, folder)
    typer.echo(f"{folder}: features of {len(written.names):,} classes, by {spec.label}, seed {spec.seed}")


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
            help="./theirs.py, to name the file of the run's method; its sha256 must be that of the run."
        ),
    ] = "",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Count a sample of a run's episodes again from its checkpoint: same counts, same up to hardware, or different (exit 1).

    Same up to hardware: at most 1 of 10,000 predictions of the stored fit is another one.
    """
    from harness.runs.findings import DIFFERENT

    with stored() as store:
        found = rechecked(store, where(), run, replicate, episodes, seed, device, method)
        answer(found, as_json, show_rechecked)
    raise typer.Exit(int(found["word"] == DIFFERENT))


@app.command()
def score(
    file: Annotated[Path, typer.Argument(help="predictions.npz, .json or .csv")],
    bench: Annotated[str, typer.Option("--bench", "-b", help="The setting whose list was answered.")],
    name: Annotated[str, typer.Option(help="Of the method, as its row shows it.")],
    seed: Annotated[int, typer.Option(help="Of the training; seeds of one name are pooled.", min=0)] = 0,
    external: Annotated[
        bool,
        typer.Option(
            "--external", help="The list is not one of fsbench; its digest tells which rows are comparable."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Store predictions made elsewhere on an exported list; the row says self-reported.

    FILE holds `digest`, that of the list, and `predictions`: one label in 0 to way - 1 for each query, in rows of
    way × queries, a row per episode from the first on. A harness that keeps no labels gives `n_correct` or `accuracy` (a
    fraction) per episode, with `n_query`, the queries of an episode; the row then says `accuracies alone`. `fsbench episodes SETTING --json` exports digest and episodes;
    queries are asked in its order: all of label 0, then all of label 1, and so on.

    .npz: arrays digest (text) and predictions. .json: {"digest": "…", "predictions": [[0, 3, …], …]}.
    .csv: a first line `# digest …`, then a line of labels for each episode, or a table with the columns episode (from 0),
    n_correct or accuracy, and n_query.

    --external stores answers to a list of images that are not here, called NAME-<way>w<shot>s with -b, among themselves.
    """
    with open_store(where(), create=True) as store:
        answer(
            scored(store, where(), file, bench, name, seed, external),
            as_json,
            show_scored,
        )


def merged(store: Store, others: Sequence[str]) -> dict[str, Any]:
    """Merge, and say what came and which results disagree, as JSON types."""
    from harness.store import merging
    from harness.system.secrets import without_credentials

    outcomes = merging.merge(store, others)
    return {
        "merged": {without_credentials(location): dict(counts) for location, counts in outcomes.items()},
        "disagreements": [
            {
                "run": found.spec.id, "method": found.spec.method.name, "setting": found.spec.setting, "seed": found.spec.seed,
                "metric": found.metric, "episodes": found.spec.n_episodes, "differing": found.n_differing,
                "results": [
                    {"digest": digest, "device": device, "accuracy": accuracy}
                    for digest, device, accuracy in zip(found.replicates, found.devices, found.accuracies, strict=True)
                ],
            }
            for found in merging.disagreements(store)
        ],
    }  # fmt: skip


def show_merged(found: Mapping[str, Any]) -> None:
    """Print what came, and the runs whose results disagree."""
    from harness.cli import tables, terminal
    from harness.report.formats import percent

    for location, counts in found["merged"].items():
        tables.say(f"{location}: {_counted(counts) or 'no runs'}")
    rows = [
        (
            entry["run"], entry["method"], entry["setting"], str(entry["seed"]), f"{entry['differing']} of {entry['episodes']}",
            " | ".join(f"{percent(r['accuracy'])} ({r['digest'][:8]}, {r['device'] or 'device unknown'})" for r in entry["results"]),
        )
        for entry in found["disagreements"]
    ]  # fmt: skip
    if rows:
        columns = ("run", "method", "setting", "seed", "episodes that differ", "accuracy % of each result")
        terminal.show_table(columns, rows, title="Several results of one run", right=(3, 4))


def exported(store: Store, where: Places, prefixes: Sequence[str], bundle: Path, *, with_fits: bool,
             with_host: bool = False) -> str:  # fmt: skip
    """Export, and say what was written.

    Raises:
        ConfigError: when a run failed: there is no result to export.
    """
    from harness.errors import ConfigError
    from harness.exchange import bundles

    every = store.column("id", status="done") if ALL in prefixes else []
    chosen = sorted({*every, *(store.run(prefix).id for prefix in prefixes if prefix != ALL)})
    failed = [run_id for run_id in chosen if store.run(run_id).status == "failed"]
    if failed:
        raise ConfigError(f"{', '.join(failed)} failed; only results can be exported.")
    written = bundles.export(store, where, chosen, bundle, with_fits=with_fits, with_host=with_host)
    text = f"{bundle}: {written.n_runs} results, {written.n_fits} checkpoints, {bundle.stat().st_size / 1e6:.1f} MB"
    if written.without_fit:
        text += f"\nno checkpoint in {where.cache} for {', '.join(written.without_fit)}"
    return text


def exported_tables(store: Store, prefixes: Sequence[str], folder: Path) -> str:
    """Export tables, and say what was written."""
    from harness.exchange import views

    chosen = (
        store.stored_runs(status="done") if ALL in prefixes else [store.run(prefix) for prefix in prefixes]
    )
    written = views.write_parquet(store, folder, chosen)
    return "\n".join(f"{folder / name}.parquet: {n:,} rows" for name, n in written.items() if n)


def taken_in(store: Store, where: Places, bundle: Path) -> str:
    """Import, and say what came."""
    from harness.exchange import bundles

    return f"{bundle}: {_counted(bundles.take_in(store, where, bundle)) or 'no runs'}"


def rechecked(store: Store, where: Places, prefix: str, replicate: str, n: int, seed: int, device: str,
            source: str) -> dict[str, Any]:  # fmt: skip
    """Recheck, and say what was found, as JSON types."""
    from harness.jobs import rechecks
    from harness.system.progress import choose

    looked = rechecks.recheck(
        store, where, prefix, replicate, n, seed, device, choose(sys.stderr.isatty()), source
    )
    return {
        "run": looked.run.id, "replicate": looked.run.replicate, "badges": list(looked.run.badges), **looked.check._asdict(),
        "word": looked.check.word, "apart": dict(looked.apart), "differing": [episode._asdict() for episode in looked.differing],
    }  # fmt: skip


def show_rechecked(found: Mapping[str, Any]) -> None:
    """Print the episodes that gave other counts, and the verdict."""
    from harness.cli import tables, terminal

    if found["differing"]:
        rows = [tuple(str(value) for value in episode.values()) for episode in found["differing"]]
        terminal.show_table(("episode", "metric", "stored", "counted again"), rows, right=(0, 2, 3))
    text = f"run {found['run']}: {found['n_episodes']} episodes counted again, {found['n_differing']} differ"
    if found["n_other"]:
        text += f", {found['n_other']} of {found['n_predictions']:,} predictions are others"
    tables.say(f"{text}: {found['word']}; badges: {', '.join(found['badges']) or 'none'}")
    if found["n_differing"] and found["apart"]:
        told = "; ".join(f"{name} {there}, here {here}" for name, (there, here) in found["apart"].items())
        tables.say(
            f"It was made with other hardware or libraries, by which sums are rounded otherwise: {told}."
        )


def scored(
    store: Store, where: Places, file: Path, bench: str, name: str, seed: int, is_external: bool = False
) -> dict[str, Any]:
    """Score, store, and say what it came to, as JSON types.

    Raises:
        ConfigError: when other predictions are stored under this name and seed.
    """
    from harness.errors import ConfigError
    from harness.exchange import scoring
    from harness.runs import folders

    result, warning = (
        scoring.score_external(file, bench, name, seed)
        if is_external
        else scoring.score(file, bench, name, seed, where)
    )
    if store.has(result.spec.id) and result.digest not in store.run(result.spec.id).replicates:
        raise ConfigError(
            f"{name} has other predictions on {bench} with seed {seed} already (run {result.spec.id}). Choose another "
            "--name, or another --seed for another training."
        )
    outcome = store.ingest(result)
    if not folders.is_done(where.runs, result.spec.id):
        folders.mark_collected(result.save(where.runs), where.db)
    counts = result.counts["top1"]
    return {
        "run": result.spec.id, "outcome": outcome, "method": name, "setting": bench, "seed": seed,
        "episodes": result.spec.n_episodes, "accuracy": float((counts.n_correct / counts.n_query).mean()),
        "badges": ["self-reported", *result.provenance["badges"]], "warning": warning,
    }  # fmt: skip


def show_scored(found: Mapping[str, Any]) -> None:
    """Print what was stored."""
    from harness.cli import tables
    from harness.report.formats import percent

    tables.say(
        f"run {found['run']} ({found['outcome']}): {found['method']} on {found['setting']}, seed {found['seed']}, "
        f"{percent(found['accuracy'])} % over {found['episodes']:,} episodes, {', '.join(found['badges'])}"
    )
    if found["warning"]:
        tables.say(f"Warning: {found['warning']}")


def _counted(outcomes: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {what}" for what, n in sorted(outcomes.items()))
