"""The commands about images: prepare a data set, make a benchmark of a folder, verify what is there."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.words import AsJson, answer, where
from harness.errors import ConfigError, DataError, FsbenchError
from harness.images.account import shown

if TYPE_CHECKING:
    from harness.benchmarks import own
    from harness.images.prepare import Prepared
    from harness.images.sources.folder import Survey
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
        Path | None,
        typer.Option(
            help="Table of class and role (base, validation, novel), or of filename, label and perhaps role."
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="Deal the classes at random in these proportions, like 64/16/20; default: as suits the folder."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the deal and of the episode lists.", min=0)] = 0,
    queries: Annotated[
        int | None, typer.Option(help="Queries per class; default: 15, or fewer in a small folder.", min=1)
    ] = None,
    size: Annotated[int, typer.Option(help="Pixels of a side.", min=8)] = 84,
    merge_roles: Annotated[
        bool, typer.Option("--merge-roles", help="Make one class of equal names below train, val and test.")
    ] = False,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Leave broken pictures out, and record which.")
    ] = False,
    as_stored: Annotated[
        bool, typer.Option("--as-stored", help="Do not turn pictures as their EXIF orientation says.")
    ] = False,
) -> None:
    """Make a benchmark of your own pictures, with locked episode lists; say what was taken and what was not."""
    asked = FolderRequest(
        source=source, name=name, splits=splits, ratio=split, seed=seed, n_query=queries, size=size,
        merge_roles=merge_roles, keep_going=keep_going, as_stored=as_stored,
    )  # fmt: skip
    for line in imported_folder(asked, where()):
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
        yield from done.account.lines()


@dataclass(frozen=True)
class FolderRequest:
    """What ``fsbench import-folder`` was asked.

    Attributes:
        source: folder or archive.
        name: of the set and benchmark.
        splits: a table of classes and roles, or of pictures and labels.
        ratio: proportions of a random deal, like "64/16/20"; None for one that suits the folder.
        seed: of the deal and the episode lists.
        n_query: queries per class; None for as many as the folder allows, at most 15.
        size: pixels of a side.
        merge_roles: whether classes of equal name in several roles are one.
        keep_going: whether broken pictures are left out.
        as_stored: whether pictures are not turned as their EXIF orientation says.
    """

    source: Path
    name: str
    splits: Path | None = None
    ratio: str | None = None
    seed: int = 0
    n_query: int | None = None
    size: int = 84
    merge_roles: bool = False
    keep_going: bool = False
    as_stored: bool = False

    @property
    def to_keep_going(self) -> str:
        """The command that leaves broken pictures out, as it is to be typed."""
        words = ["fsbench", "import-folder", str(self.source), "--name", self.name]
        words += ["--splits", str(self.splits)] if self.splits else []
        words += ["--split", self.ratio] if self.ratio else []
        words += ["--seed", str(self.seed)] if self.seed else []
        words += ["--queries", str(self.n_query)] if self.n_query else []
        words += ["--size", str(self.size)] if self.size != type(self).size else []
        words += ["--merge-roles"] if self.merge_roles else []
        words += ["--as-stored"] if self.as_stored else []
        return shlex.join([*words, "--keep-going"])


def imported_folder(asked: FolderRequest, where: Places) -> Iterator[str]:
    """Prepare a folder of pictures and make it a benchmark; one that fsbench ships keeps its own split.

    Everything that was asked is checked before a picture is prepared, and what fails leaves nothing behind.
    """
    import shutil

    from harness import benchmarks as known
    from harness.benchmarks import own
    from harness.images.sources import folder

    folder.check_name(asked.name)
    labels = own.read_labels(asked.splits) if asked.splits and own.is_list(asked.splits) else None
    looked = folder.survey(asked.source, labels, asked.merge_roles)
    shipped = [
        s.name
        for b in known.every()
        if b.folder == known.FOLDER and b.key == asked.name
        for s in b.settings()
    ]
    if shipped:
        yield from _prepared(asked, looked, where)
        yield f"its split comes with fsbench: {', '.join(shipped)}"
        return
    there = own.standing(asked.name, asked.seed, asked.n_query)
    if there and not (asked.splits or asked.ratio):
        if not asked.keep_going:  # what is broken is known only afterwards
            own.refuse_other_pictures(there, looked.counts)
        yield from _prepared(asked, looked, where)
        names = ", ".join(s.name for s in there.settings())
        yield f"its benchmark is there already and stays as it is: {names}"
        return
    if there:
        asked = replace(asked, seed=there.seed, n_query=there.n_query)
    roles = _roles(asked, looked)
    what = own.asked(looked.counts, roles, asked.n_query)
    own.refuse_another_split(asked.name, looked.counts, roles)
    done = _prepare(asked, looked, where)
    yield from _report(asked, looked, done)
    try:
        yield from _benchmark(asked, looked, done, roles, what)
    except FsbenchError:
        if done.change == "new":
            shutil.rmtree(done.dataset.folder)
        raise


def _benchmark(
    asked: FolderRequest, looked: Survey, done: Prepared, roles: own.Roles, what: own.Asked
) -> Iterator[str]:
    """Write the benchmark, of what is left where broken pictures were left out, and say what it asks."""
    from harness import benchmarks as known
    from harness.benchmarks import own

    counts = dict(zip(done.dataset.class_names, done.dataset.counts.tolist(), strict=True))
    roles = {role: [c for c in names if c in counts] for role, names in roles.items()}
    if counts != looked.counts:
        if problems := own.too_few(roles):
            raise DataError(
                f"Without its broken pictures {asked.name} has too few classes: {' '.join(problems)}"
            )
        what = own.asked(counts, roles, asked.n_query)
    settings = own.write_benchmark(done.dataset, roles, asked.seed, what, asked.size, "easyfsl")
    unused = [c for c in counts if not any(c in names for names in roles.values())]
    if unused:
        yield f"without a role, and not used: {shown(unused)}"
    yield (
        ", ".join(f"{len(roles.get(role, ()))} {role}" for role in known.ROLES)
        + f" classes, {what.n_query} queries a class, in {known.user_folder()}"
    )
    yield f"settings: {', '.join(settings)}"
    yield f"next: fsbench run -m nearest-mean,pixels -b {settings[0]}"


def _roles(asked: FolderRequest, looked: Survey) -> own.Roles:
    """Who is base, validation and novel: as the table, the folders or the proportions say, else as suits the folder."""
    from harness.benchmarks import own

    is_given = bool(looked.roles or (asked.splits and not own.is_list(asked.splits)))
    if asked.ratio and is_given:
        raise ConfigError(
            f"--split {asked.ratio}: the roles are given already, by folders or a table. Leave it out."
        )
    if asked.splits and not own.is_list(asked.splits):
        return own.read_splits(asked.splits, list(looked.counts))
    if looked.roles:
        if problems := own.too_few(looked.roles):
            raise DataError(
                f"{asked.source}: {' '.join(problems)} Roles are base or train, validation or val, novel or test."
            )
        return looked.roles
    if asked.ratio:
        return own.split_by_ratio(list(looked.counts), asked.ratio, asked.seed)
    return own.deal(looked.counts, asked.seed, asked.n_query)


def _prepare(asked: FolderRequest, looked: Survey, where: Places) -> Prepared:
    from harness.images import prepare as preparing
    from harness.images.sources import folder

    steps = _Steps()
    plan = replace(
        folder.plan(asked.name, looked, "easyfsl", asked.size),
        is_upright=not asked.as_stored,
        keeps_going=asked.keep_going,
        remedy=f"Mend or remove them, or type `{asked.to_keep_going}` to leave them out.",
    )
    where.data.mkdir(parents=True, exist_ok=True)
    try:
        return preparing.write(plan, where.data, steps.advance)
    finally:
        steps.end()


def _prepared(asked: FolderRequest, looked: Survey, where: Places) -> Iterator[str]:
    yield from _report(asked, looked, _prepare(asked, looked, where))


def _report(asked: FolderRequest, looked: Survey, done: Prepared) -> Iterator[str]:
    """What was taken, what was not, and what is known of the pictures."""
    from harness.images.verify import duplicates

    card = done.dataset.manifest
    yield f"{asked.name} is ready ({done.change}): {len(card.classes)} classes, {card.n_images:,} images"
    yield from looked.lines()
    yield f"pictures are {'turned as their EXIF orientation says' if card.is_upright else 'taken as they are stored'}"
    if card.left_out:
        yield f"left out, {len(card.left_out):,} broken pictures: {shown(card.left_out)}"
    if (found := duplicates(done.dataset)).level != "ok":
        yield f"equal pictures: {found.detail}"


def findings(dataset: str, where: Places) -> list[dict[str, str]]:
    """Check a prepared data set."""
    from harness import benchmarks as known
    from harness.images import verify as verifying

    return [finding._asdict() for finding in verifying.verify(dataset, where.data, known.roles_of(dataset))]


def show_findings(findings: Sequence[dict[str, str]]) -> None:
    """Print them."""
    from harness.cli import terminal

    terminal.show_table(("", "check", "found"), [(f["level"], f["check"], f["detail"]) for f in findings])


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
