"""The commands about images: prepare a data set, make a benchmark of a folder, verify what is there."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.words import AsJson, answer, where

if TYPE_CHECKING:
    from harness.system.folders import Places

app = typer.Typer()


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
    for line in prepared(dataset, source or [], where(), accept_terms):
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
    for line in imported_folder(source, name, splits, split, seed, queries, size, where()):
        typer.echo(line)


@app.command()
def verify(
    dataset: Annotated[str, typer.Argument(help="Name of a prepared data set.")], as_json: AsJson = False
) -> None:
    """Check a prepared data set: counts, digests, duplicates; repair what can be repaired."""
    found = findings(dataset, where())
    answer(found, as_json, show_findings)
    raise typer.Exit(3 if any(f["level"] == "error" for f in found) else 0)


def prepared(dataset: str, sources: Sequence[Path], where: Places, accept_terms: bool) -> Iterator[str]:
    """Prepare a data set; say what it needs before and what there is after."""
    import shutil

    from harness.images import prepare as preparing

    shown = _Steps()
    plans = preparing.plans(dataset, sources, where.data, accept_terms, shown.advance)
    where.data.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(where.data).free
    for plan in plans:
        yield f"{plan.dataset}: {plan.n_images:,} images, needs {plan.disk_bytes / 1e6:,.0f} MB of {free / 1e9:,.0f} GB free in {where.data}"
        done = preparing.write(plan, where.data, shown.advance)
        shown.end()
        manifest = done.dataset.manifest
        yield f"{plan.dataset} is ready ({done.change}): {len(done.dataset.class_names)} classes, population {manifest.population}"


def imported_folder(
    source: Path,
    name: str,
    splits: Path | None,
    ratio: str,
    seed: int,
    n_query: int,
    size: int,
    where: Places,
) -> Iterator[str]:
    """Prepare a folder of pictures and make it a benchmark; one that fsbench ships keeps its own split."""
    from harness import benchmarks as known
    from harness.benchmarks import own
    from harness.images import prepare as preparing

    shown = _Steps()
    where.data.mkdir(parents=True, exist_ok=True)
    done = preparing.import_folder(
        name, source, where.data, pipeline="easyfsl", size=size, progress=shown.advance
    )
    shown.end()
    prepared = done.dataset
    yield f"{name} is ready ({done.change}): {len(prepared.class_names)} classes, {prepared.manifest.n_images:,} images"
    shipped = [
        s.name for b in known.every() if b.folder == known.FOLDER and b.key == name for s in b.settings()
    ]
    if shipped:
        yield f"its split comes with fsbench: {', '.join(shipped)}"
        return
    classes = list(prepared.class_names)
    roles = own.read_splits(splits, classes) if splits else own.split_by_ratio(classes, ratio, seed)
    settings = own.write_benchmark(prepared, roles, seed, n_query, size, "easyfsl")
    yield (
        ", ".join(f"{len(roles[role])} {role}" for role in known.ROLES)
        + f" classes, in {known.user_folder()}"
    )
    yield f"settings: {', '.join(settings) or 'none of the standard ones can be drawn; choose --queries or another split'}"


def findings(dataset: str, where: Places) -> list[dict[str, str]]:
    """Check a prepared data set."""
    from harness import benchmarks
    from harness.images import verify as verifying

    return [
        finding._asdict() for finding in verifying.verify(dataset, where.data, benchmarks.roles_of(dataset))
    ]


def show_findings(findings: Sequence[dict[str, str]]) -> None:
    """Print them."""
    from harness.cli import tables

    tables.show_table(("", "check", "found"), [(f["level"], f["check"], f["detail"]) for f in findings])


class _Steps:
    """Feeds (done, total) steps to a progress bar that opens at the first step."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._done = 0

    def advance(self, done: int, total: int) -> None:
        """Show how far it is."""
        from harness.system.progress import choose

        if self._bar is None:
            self._bar = choose(sys.stderr.isatty())
            self._bar.begin("prepare", total, "steps")
            self._done = 0
        self._bar.advance(done - self._done)
        self._done = done

    def end(self) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.end()
            self._bar = None
