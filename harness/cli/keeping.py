"""The commands that look after what is kept: rows that are listed, deleted, restored; everything recomputed and repaired."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.words import (
    AsJson,
    SomeBackbones,
    SomeBadges,
    SomeBenches,
    SomeMethods,
    SomeSeeds,
    answer,
    progress,
    split,
    stored,
    where,
)
from harness.errors import ConfigError

if TYPE_CHECKING:
    from harness.keeping.findings import Finding
    from harness.keeping.repair import Repaired
    from harness.store.tombstones import Tombstone
    from harness.system.folders import Places

app = typer.Typer()
runs = typer.Typer(
    help="List the rows of the database; delete, restore or rename some.", invoke_without_command=True
)
ROTTEN = 3  # the code of data that are missing or corrupt
SomeRuns = Annotated[list[str], typer.Argument(help="Beginnings of run ids.")]


@runs.callback()
def list_(
    context: typer.Context,
    method: SomeMethods = None,
    bench: SomeBenches = None,
    status: Annotated[str, typer.Option(help="done or failed.")] = "",
    badge: SomeBadges = None,
    backbone: SomeBackbones = None,
    seed: SomeSeeds = None,
    older: Annotated[str, typer.Option(help="Stored longer ago than 12h, 30d or 2w.")] = "",
    newer: Annotated[str, typer.Option(help="Stored since then.")] = "",
    deleted: Annotated[
        bool, typer.Option("--deleted", help="Those that were deleted, when and why.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the rows of the database; delete, restore or rename some."""
    if context.invoked_subcommand:
        return
    from harness.keeping import rows

    if status not in ("", "done", "failed"):
        raise ConfigError(f"--status {status}: a run is done or failed.")
    asked = rows.Asked(
        methods=split(method or []), settings=split(bench or []), status=status, badges=split(badge or []),
        backbones=split(backbone or []), seeds=tuple(seed or ()),
        older=rows.read_age(older) if older else None, newer=rows.read_age(newer) if newer else None,
    )  # fmt: skip
    with stored() as store:
        found = rows.chosen(store.deleted_runs() if deleted else store.stored_runs(), asked)
        listed = [rows.row_as_json(run) for run in found]
        if deleted:
            _add_reasons(listed, store.tombstones())
    answer(listed, as_json, _show_rows)


@runs.command()
def delete(
    run: SomeRuns,
    replicate: Annotated[
        str, typer.Option(help="The beginning of a digest: only this one of several results of a run.")
    ] = "",
    because: Annotated[str, typer.Option(help="Why; `fsbench runs --deleted` shows it.")] = "",
) -> None:
    """Take rows out of every page, export and command; `restore` brings them back until `fsbench fsck --purge`."""
    with stored() as store:
        ids = [store.run(prefix, replicate).id for prefix in run]  # all are found before any is deleted
        gone = [entry for run_id in ids for entry in store.delete_run(run_id, replicate, because)]
    for entry in gone:
        sys.stdout.write(f"{entry.run_id} ({entry.replicate[:8]}) is deleted\n")
    sys.stdout.write(f"`fsbench runs restore {' '.join(dict.fromkeys(ids))}` brings them back.\n")


@runs.command()
def restore(run: SomeRuns) -> None:
    """Bring deleted rows back."""
    with stored() as store:
        back = [entry for prefix in run for entry in store.restore_run(prefix)]
    for entry in back:
        sys.stdout.write(f"{entry.run_id} ({entry.replicate[:8]}) is back\n")


@runs.command()
def rename(
    run: Annotated[str, typer.Argument(help="The beginning of the id of a run that `fsbench score` stored.")],
    name: Annotated[str, typer.Argument(help="What its row is to be called.")],
) -> None:
    """Give predictions scored under a wrong name another one."""
    from harness.keeping import rows

    with stored() as store:
        renamed = rows.rename(store, where(), run, name)
    sys.stdout.write(f"run {renamed.spec.id}: {name} on {renamed.spec.setting}, seed {renamed.spec.seed}\n")


@app.command()
def fsck(
    repair: Annotated[
        bool,
        typer.Option(
            "--repair", help="Move aside what is rotten or left over, to quarantine/; nothing is deleted."
        ),
    ] = False,
    purge: Annotated[
        bool, typer.Option("--purge", help="Delete for good what `fsbench runs delete` took out.")
    ] = False,
    compact: Annotated[
        bool, typer.Option("--compact", help="Make the database file as small as it gets, values unchanged.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Recompute everything kept: digests, counts from predictions, ids, lists, what is left over; exit 3 where it is rotten."""
    from harness.keeping import fsck as checking
    from harness.keeping import repair as mending
    from harness.keeping import rows

    if purge and where().has_database:
        with stored() as store:
            gone = rows.purge(store, where())
        sys.stderr.write(f"{len(gone)} deleted results are purged\n")
    if compact and where().has_database:
        _compact(where())
    found = checking.check(where(), progress())
    done = list(mending.repair(found, where())) if repair else []
    answer(_fsck_as_json(found, done), as_json, lambda _: _show_findings(found, done))
    is_rotten = any(finding.level == "rotten" for finding in found)
    is_mended = repair and all(entry.is_mended for entry in done)
    raise typer.Exit(ROTTEN if is_rotten and not is_mended else 0)


def _compact(places: Places) -> None:
    files = [] if "://" in places.db else [Path(places.db)]
    sizes = [path.stat().st_size for path in files]
    with stored() as store:
        store.compact(progress())
    for path, size in zip(files, sizes, strict=True):
        sys.stderr.write(f"{path}: {size / 1e6:,.2f} MB before, {path.stat().st_size / 1e6:,.2f} MB now\n")


def _fsck_as_json(found: Sequence[Finding], done: Sequence[Repaired]) -> list[dict[str, Any]]:
    told = {id(entry.finding): entry.done for entry in done}
    return [{**finding.as_json(), "repaired": told.get(id(finding), "")} for finding in found]


def _show_findings(found: Sequence[Finding], done: Sequence[Repaired]) -> None:
    """Print what was found, what was done, and what to type."""
    from harness.cli import terminal

    if found:
        terminal.show_table(
            ("", "what", "which", "found"), [(f.level, f.kind, f.name, f.problem) for f in found]
        )
    for entry in done:
        sys.stdout.write(f"{entry.finding.kind} {entry.finding.name}: {entry.done}\n")
    again = dict.fromkeys(f.again for f in found if f.again and f.level == "rotten")
    if again:
        sys.stdout.write("To make it again:\n" + "".join(f"  {command}\n" for command in again))
    if not done and any(f.level != "note" for f in found):
        sys.stdout.write(
            "`fsbench fsck --repair` moves aside what is rotten or left over; nothing is deleted.\n"
        )
    if not any(f.level == "rotten" for f in found):
        sys.stdout.write("all that is kept is what was written\n")


def _add_reasons(listed: Sequence[dict[str, Any]], tombstones: Sequence[Tombstone]) -> None:
    told = {(entry.run_id, entry.replicate): entry for entry in tombstones}
    for row in listed:
        entry = told[row["id"], row["replicate"]]
        row.update(deleted=entry.deleted, reason=entry.reason)


def _show_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    from harness.cli import terminal

    if not rows:
        sys.stdout.write("no such runs\n")
        return
    columns = [
        "id",
        "replicate",
        "status",
        "method",
        "setting",
        "seed",
        "changed",
        "episodes",
        "badges",
        "created",
    ]
    columns += ["deleted", "reason"] if "deleted" in rows[0] else []
    lines = [[_cell(name, row[name]) for name in columns] for row in rows]
    terminal.show_table(
        tuple(columns),
        lines,
        right=(5, 7),
        less=("replicate", "created", "episodes", "status", "badges", "changed"),
    )


def _cell(name: str, value: Any) -> str:
    if name == "badges":
        return ", ".join(value)
    return str(value)[: {"replicate": 8, "created": 16, "deleted": 16}.get(name)]
