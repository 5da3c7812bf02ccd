"""``fsbench features``: tables of features go out, and come in as an encoder of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli.words import stored, where

features = typer.Typer(help="Write the features of a run as a table; take a table of others as an encoder.")


@features.command()
def export(
    run: Annotated[str, typer.Argument(help="The beginning of a run id.")],
    file: Annotated[
        Path, typer.Argument(help="NAME.parquet, NAME.npz or NAME.npy (names beside it in NAME.txt).")
    ],
    role: Annotated[list[str], typer.Option(help="base, validation or novel; may be repeated.")] = ["novel"],  # noqa: B006 -- typer reads it
    method: Annotated[str, typer.Option(help="./mine.py, to name the file of that run's method.")] = "",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Write the features that a run reads, a row an image, called CLASS/FILE."""
    from typing import cast

    from harness.benchmarks import ROLES, RoleName
    from harness.cli.words import progress
    from harness.errors import ConfigError
    from harness.exchange import feature_tables
    from harness.method import registry
    from harness.system.process import choose_device
    from harness.training.build import Workplace

    if unknown := [name for name in role if name not in ROLES]:
        raise ConfigError(f"--role {unknown[0]}: known are {', '.join(ROLES)}.")
    with stored() as store:
        spec = store.run(run).spec
    if method:
        registry.vouch_for(method, spec.method, where().cache)
    at = Workplace(where(), choose_device(device), progress())
    written = feature_tables.export(spec, at, [cast("RoleName", name) for name in role], file)
    typer.echo(
        f"{file}: {len(written.names):,} images, {written.features.shape[1]:,} numbers each, by {spec.label}"
    )


@features.command("import")
def import_(
    table: Annotated[
        Path,
        typer.Argument(
            help="NAME.parquet, NAME.npz or NAME.npy (names beside it in NAME.txt), or a folder as export-features writes it."
        ),
    ],
    weights: Annotated[Path, typer.Argument(help="The file of weights to write, NAME.pt.")],
    bench: Annotated[
        str, typer.Option("--bench", "-b", help="Of a folder: the joint setting whose images these are.")
    ] = "",
) -> None:
    """Turn a table of features into weights of the method `table`, below which any head may stand.

    Images are called CLASS/FILE, as `fsbench features export` writes them. What made the features has seen something: the
    run asks for it with --seen.
    """
    from harness.exchange import feature_tables

    read = _of_folder(table, bench) if table.is_dir() else feature_tables.read(table)
    feature_tables.as_weights(read, weights)
    heads = "lowshot-logistic[table],lowshot-hallucination[table]" if bench else "table,centroid[table]"
    typer.echo(
        f"{weights}: {len(read.names):,} images, {read.features.shape[1]:,} numbers each\n"
        f"next: fsbench run -m '{heads}' -b {bench or 'SETTING'} --weights {weights} --seen WHAT"
    )


def _of_folder(folder: Path, bench: str) -> Any:
    """Two HDF5 files of the low-shot authors' layout as a table."""
    from harness import benchmarks
    from harness.errors import ConfigError
    from harness.exchange import saved_features

    if not bench:
        raise ConfigError(
            f"{folder} is a folder: say whose images its files are of, like --bench omniglot-small-lowshot-n1."
        )
    benchmark = benchmarks.load(bench).benchmark
    store = benchmark.open("novel", where().data, benchmark.pipeline, benchmark.image_size)
    return saved_features.import_features(folder, benchmark, store)
