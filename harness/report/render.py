"""Write the site: every page computed first, then printed by its template, aside, then swapped in."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import ConfigError, visible
from harness.images.augmentations import crops_told
from harness.report import exports, formats, site
from harness.report.board.rows import headline_metric
from harness.report.board.tables import each_table, stored_runs
from harness.report.formats import method_file, run_file, slug
from harness.report.pages import index_page, method_page, run_page, setting_page
from harness.report.pages.counts_script import counts_script
from harness.report.pages.run_page import Curve
from harness.report.pages.setting_page import SettingPage
from harness.runs.publishing import published_run
from harness.store import Store, StoredRun

if TYPE_CHECKING:
    from jinja2 import Environment

STATIC = Path(__file__).resolve().parent / "static"


def write(
    store: Store, target: Path, settings: Sequence[str] | None = None, *, with_host: bool = False
) -> Path:
    """Bring a report up to date; nothing is written when it is.

    Args:
        store: the database.
        target: the folder; an old report there stays whole until the new one is.
        settings: only these; None for all.
        with_host: also the names and paths of the machines, which stay out of published pages otherwise.

    Returns:
        The index page.

    Raises:
        StoreError: when the database cannot be read or the folder cannot be written.
    """
    runs = stored_runs(store, settings)
    every = stored_runs(store)  # tables borrow from the whole database
    if not with_host:
        runs, every = [published_run(run) for run in runs], [published_run(run) for run in every]
    digest = site.fingerprint(store, every, settings)
    if not site.is_current(target, digest):
        pages = [setting_page.build(store, table) for table in each_table(store, runs)]
        with site.replaced(target, digest) as folder:
            _write_all(store, folder, runs, pages)
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
    written = (exports.BLOCK_FORMS[form](family) for family in index_page.build(pages, len(runs)).families)
    return "\n".join(filter(None, written))


def _write_all(store: Store, folder: Path, runs: Sequence[StoredRun], pages: Sequence[SettingPage]) -> None:
    methods = method_page.build(runs, pages)
    bibtex = exports.as_bibtex(methods)
    _write_index(folder, pages, len(runs), bibtex)
    for page in pages:
        _write_setting(folder, page)
    for method in methods:
        _print(folder / method_file(method.name), "method.html.j2", root="../", page=method)
    _print(folder / "definitions.html", "definitions.html.j2", root="")
    _write_runs(store, folder, runs, pages)
    shutil.copytree(STATIC, folder / "static")


def _write_index(folder: Path, pages: Sequence[SettingPage], n_runs: int, bibtex: str) -> None:
    from harness.report.pages import figures

    page = index_page.build(pages, n_runs)
    lines = [line for family in page.families for line in family.lines]
    filters = (
        ("family", "Benchmark", [family.name for family in page.families]),
        ("backbone", "Backbone", sorted({line.backbone for line in lines})),
        ("size", "Input", sorted({line.image_size for line in lines})),
    )
    _print(
        folder / "index.html", "index.html.j2", root="", page=page, filters=filters, has_bibtex=bool(bibtex),
        profiles=figures.profiles(page.across) if page.across else None,
    )  # fmt: skip
    for family in page.families:
        for form, write_as in exports.FAMILY_FORMS.items():
            _text(folder / f"family-{slug(family.name)}.{form}", write_as(family))
        for form, write_as in exports.BLOCK_FORMS.items() if family.blocks else ():
            _text(folder / f"blocks-{slug(family.name)}.{form}", write_as(family))
    if bibtex:
        _text(folder / "methods.bib", bibtex + "\n")


def _write_setting(folder: Path, page: SettingPage) -> None:
    from harness.report.pages import figures

    name = slug(page.table.name)
    pictures = {
        "forest": figures.forest(page) if page.entries else None,
        "costs": figures.costs(page),
        "classes": figures.classes(page),
        "hard": figures.hardness(page),
        "seeds": figures.seeds(page),
        "sweeps": [
            (found, figures.sweep(found, i)) for i, found in enumerate(page.sweeps[: figures.MAX_SWEEPS])
        ],
    }
    _print(folder / f"{name}.html", "setting.html.j2", root="", page=page, **pictures)
    _text(folder / f"{name}.js", counts_script(page))
    for form in exports.FORMS:
        _text(folder / f"{name}.{form}", exports.as_text([page], form))


def _write_runs(store: Store, folder: Path, runs: Sequence[StoredRun], pages: Sequence[SettingPage]) -> None:
    """One page per run; what the settings' pages have read already is not read again."""
    lists = {page.table.list_digest: page.episodes for page in pages}
    rows = [(page, row) for page in pages for row in page.table.rows]
    href = {run.pk: f"{slug(page.table.name)}.html" for page, row in rows for run in row.runs}
    of_setting = {page.table.setting: f"{slug(page.table.name)}.html" for page in reversed(pages)}
    known = {run.pk: row.accuracy[i] for _, row in rows for i, run in enumerate(row.runs)}
    for run in runs:
        episodes = lists.get(run.spec.episode_digest) if run.status == "done" else None
        metric = headline_metric(run) if run.metrics else ""
        page = run_page.build(store, run, metric, episodes, known.get(run.pk))
        _print(
            folder / run_file(run),
            "run.html.j2",
            root="../",
            page=page,
            table_href=href.get(run.pk, of_setting.get(run.spec.setting, "")),
        )


def _print(path: Path, template: str, **context: Any) -> None:
    _text(path, _environment().get_template(template).render(**context))


def _text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(visible(text, lines=True), encoding="utf-8", errors="backslashreplace", newline="\n")


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("harness.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        percent=formats.percent, duration=formats.duration, images=formats.images_text, rank=formats.rank_text, span=formats.span, slug=slug, run_file=run_file,
        method_file=method_file, p_value=formats.p_short, last_line=formats.last_line, paragraphs=formats.paragraphs,
        polyline=polyline, flat=formats.flat, crops=crops_told,
    )  # fmt: skip
    return made


def polyline(curve: Curve) -> str:
    """Points of a curve in a box of 200 × 60."""
    first, last = curve.points[0][0], curve.points[-1][0]
    across, up = (last - first) or 1.0, (curve.high - curve.low) or 1.0
    return " ".join(
        f"{200 * (x - first) / across:.0f},{60 - 60 * (y - curve.low) / up:.0f}" for x, y in curve.points
    )
