"""Write the site aside, then swap it in: every setting with its runs, then what is about several; what is as it was is taken over."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.errors import ConfigError
from harness.report import exports, parts, site, workers
from harness.report.board.tables import each_table, read, stored_runs
from harness.report.formats import method_file, slug
from harness.report.pages import changes, family_page, index_page, method_page, setting_page
from harness.report.pages.changes import Changes
from harness.report.pages.family_page import Family
from harness.report.pages.overview import Overview
from harness.report.pages.setting_page import SettingPage
from harness.report.printing import print_page, print_text
from harness.runs.publishing import published_run
from harness.store import Store, StoredRun
from harness.system.progress import Progress, Silent

STATIC = Path(__file__).resolve().parent / "static"


def write(
    store: Store, target: Path, settings: Sequence[str] | None = None, *, with_host: bool = False,
    shown: Progress | None = None,
) -> Path:  # fmt: skip
    """Bring a report up to date; nothing is written when it is.

    Args:
        store: the database.
        target: the folder; an old report there stays whole until the new one is.
        settings: only these; None for all.
        with_host: also the names and paths of the machines, which stay out of published pages otherwise.
        shown: told how far it is.

    Returns:
        The index page.

    Raises:
        StoreError: when the database cannot be read or the folder cannot be written.
    """
    runs = stored_runs(store, settings)
    every = runs if settings is None else stored_runs(store)
    if not with_host:
        published = {run.pk: published_run(run) for run in every}
        runs, every = [published[run.pk] for run in runs], list(published.values())
    of_run = {run.pk: site.run_digest(run) for run in every}
    digest = site.fingerprint(store, of_run.values(), settings)
    if not site.is_current(target, digest):
        last, left = site.remembered(target), dict[str, Any]()
        with site.replaced(target, digest, left) as folder:
            made = parts.Made(folder, target, of_run, site.found_digest(store))
            found, whole = read(store, runs, every)  # tables borrow from the whole database
            pages = parts.make(store, made, whole, found, shown or Silent())
            workers.end()
            state = changes.State.of(pages, len(runs))
            changed = changes.since(last, state)
            left |= {**changes.as_json(state, changed), "made": made.now}
            _write_rest(folder, runs, pages, changed)
    return target / "index.html"


def export(store: Store, form: str, settings: Sequence[str] | None = None) -> str:
    """Write the tables in one form: "csv", "json", "md" or "tex".

    Raises:
        ConfigError: for another form.
    """
    exports.check_form(form)
    runs = stored_runs(store, settings)
    return exports.as_text([setting_page.build(store, table) for table in each_table(store, runs)], form)


def blocks(store: Store, form: str, settings: Sequence[str] | None = None) -> str:
    """Write the six blocks of low-shot papers, of every joint benchmark, in one form: "md" or "tex".

    Raises:
        ConfigError: for another form.
    """
    if form not in exports.BLOCK_FORMS:
        raise ConfigError(
            f"--format {form}: the six blocks are written as {' and '.join(exports.BLOCK_FORMS)}."
        )
    runs = stored_runs(store, settings)
    pages = [setting_page.build(store, table) for table in each_table(store, runs)]
    written = (exports.BLOCK_FORMS[form](family) for family in family_page.build(pages))
    return "\n".join(filter(None, written))


def _write_rest(
    folder: Path, runs: Sequence[StoredRun], pages: Sequence[SettingPage], changed: Changes | None
) -> None:
    """What is about several settings."""
    methods = method_page.build(runs, pages)
    bibtex = exports.as_bibtex(methods)
    _write_index(folder, pages, len(runs), bibtex, changed)
    for method in methods:
        print_page(folder / method_file(method.name), "method.html.j2", root="../", page=method)
    print_page(folder / "definitions.html", "definitions.html.j2", root="")
    shutil.copytree(STATIC, folder / "static")


def _write_index(
    folder: Path, pages: Sequence[SettingPage], n_runs: int, bibtex: str, changed: Changes | None
) -> None:
    from harness.report.pages import figures

    page = index_page.build(pages, n_runs)
    picture = figures.images(page.overview.pages[page.overview.chosen]) if pages else None
    print_page(
        folder / "index.html", "index.html.j2", root="", page=page, filters=_filters(page.overview), has_bibtex=bool(bibtex),
        changes=changed, picture=picture, kinds=json.dumps(page.overview.kinds, separators=(",", ":")),
    )  # fmt: skip
    for family in page.families:
        _write_family(folder, family)
    if page.across:
        told = figures.profiles(page.across)
        print_page(folder / "across.html", "across.html.j2", root="", across=page.across, profiles=told)
    if bibtex:
        print_text(folder / "methods.bib", bibtex + "\n")


def _filters(overview: Overview) -> tuple[tuple[str, str, list[Any]], ...]:
    """What the front page can be narrowed to: name, label, values."""
    return (
        ("family", "Benchmark", sorted({page.family for page in overview.pages})),
        ("shot", "Shots", sorted({page.shot for page in overview.pages if page.shot is not None})),
        ("backbone", "Backbone", sorted({kind.backbone for kind in overview.kinds})),
        ("size", "Input", sorted({kind.image_size for kind in overview.kinds})),
        ("trained", "Trained", sorted({kind.trained for kind in overview.kinds})),
    )


def _write_family(folder: Path, family: Family) -> None:
    print_page(folder / f"family-{slug(family.name)}.html", "family.html.j2", root="", family=family)
    for form, write_as in exports.FAMILY_FORMS.items():
        print_text(folder / f"family-{slug(family.name)}.{form}", write_as(family))
    for form, write_as in exports.BLOCK_FORMS.items() if family.blocks else ():
        print_text(folder / f"blocks-{slug(family.name)}.{form}", write_as(family))
