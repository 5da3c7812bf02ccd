"""Write the site: every page computed first, then printed by its template, aside, then swapped in; what is as it was is taken over."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from harness.errors import ConfigError, visible
from harness.images.augmentations import crops_told
from harness.report import exports, formats, prose, site
from harness.report.board.rows import Row, headline_metric
from harness.report.board.tables import each_table, stored_runs
from harness.report.formats import method_file, run_file, slug
from harness.report.pages import changes, family_page, index_page, method_page, run_page, setting_page
from harness.report.pages.changes import Changes
from harness.report.pages.counts_script import counts_script
from harness.report.pages.family_page import Family
from harness.report.pages.overview import Overview
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
    every = runs if settings is None else stored_runs(store)  # tables borrow from the whole database
    if not with_host:
        published = {run.pk: published_run(run) for run in every}
        runs, every = [published[run.pk] for run in runs], list(published.values())
    of_run = {run.pk: site.run_digest(run) for run in every}
    digest = site.fingerprint(store, of_run.values(), settings)
    if not site.is_current(target, digest):
        pages = [setting_page.build(store, table) for table in each_table(store, runs, every)]
        state, left = changes.State.of(pages, len(runs)), site.remembered(target)
        changed = changes.since(left, state)
        made = Made(target, site.sizes(target), left.get("made", {}), of_run)
        remembered = {**changes.as_json(state, changed), "made": made.now}
        with site.replaced(target, digest, remembered) as folder:
            made.folder = folder
            _write_all(store, made, runs, pages, changed)
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


class Made:
    """Pages that take long to make, and what each was made from; those of the last build are taken over unchanged.

    Attributes:
        folder: of this build.
        now: file → digest of what it is made from.
        of_run: digests of the runs, by their keys.
    """

    def __init__(
        self, old: Path, sizes: Mapping[str, int], before: Mapping[str, str], of_run: Mapping[int, str]
    ) -> None:
        self.folder, self.of_run = old, of_run
        self.now: dict[str, str] = {}
        self._old, self._sizes, self._before = old, sizes, before
        self._own = site.own_digest()

    def needs(self, names: Sequence[str], said: Any) -> bool:
        """Whether files must be made, all that decides what they say being given as JSON types; else they are there now."""
        digest = site.digest_of([self._own, said])
        self.now.update(dict.fromkeys(names, digest))
        return not all(
            self._before.get(name) == digest
            and site.taken_over(self._old, self.folder, name, self._sizes.get(name, -1))
            for name in names
        )


def _write_all(
    store: Store, made: Made, runs: Sequence[StoredRun], pages: Sequence[SettingPage], changed: Changes | None
) -> None:
    folder = made.folder
    methods = method_page.build(runs, pages)
    bibtex = exports.as_bibtex(methods)
    found = site.found_digest(store)
    for page in pages:
        _write_setting(store, made, page, found)
    _write_index(folder, pages, len(runs), bibtex, changed)
    for method in methods:
        print_page(folder / method_file(method.name), "method.html.j2", root="../", page=method)
    print_page(folder / "definitions.html", "definitions.html.j2", root="")
    _write_runs(store, made, runs, pages)
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
        _text(folder / "methods.bib", bibtex + "\n")


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
        _text(folder / f"family-{slug(family.name)}.{form}", write_as(family))
    for form, write_as in exports.BLOCK_FORMS.items() if family.blocks else ():
        _text(folder / f"blocks-{slug(family.name)}.{form}", write_as(family))


def _write_setting(store: Store, made: Made, page: SettingPage, found: str) -> None:
    """The page of a setting, its exports, and the scripts that bring its counts and its picture."""
    from harness.report.pages import figures

    name, folder = slug(page.table.name), made.folder
    files = [
        f"{name}.html",
        f"{name}.js",
        f"picture-{name}.js",
        *(f"{name}.{form}" for form in exports.FORMS),
    ]
    runs = [run for row in page.table.rows for run in row.runs] + list(page.table.failed)
    said = [
        page.table.name,
        [made.of_run[run.pk] for run in runs],
        repr((page.table.prior, page.table.moved)),
        page.episodes is None,
        found,
    ]
    if not made.needs(files, said):
        return
    page = setting_page.complete(store, page)
    images = figures.images(page)
    pictures = {
        "images": images,
        "costs": figures.costs(page),
        "classes": figures.classes(page),
        "hard": figures.hardness(page),
        "sweeps": [
            (found, figures.sweep(found, i)) for i, found in enumerate(page.sweeps[: figures.MAX_SWEEPS])
        ],
    }
    print_page(folder / f"{name}.html", "setting.html.j2", root="", page=page, **pictures)
    _text(folder / f"{name}.js", counts_script(page))
    # a page opened from disk may not fetch, but it may load a script
    _text(folder / f"picture-{name}.js", f"fsbench.picture({json.dumps([name, images or ''])});\n")
    for form in exports.FORMS:
        _text(folder / f"{name}.{form}", exports.as_text([page], form))


def _write_runs(store: Store, made: Made, runs: Sequence[StoredRun], pages: Sequence[SettingPage]) -> None:
    """One page per run; what the settings' pages have read already is not read again."""
    lists = {page.table.list_digest: page.episodes for page in pages}
    rows = [(page, row) for page in pages for row in page.table.rows]
    href = {run.pk: f"{slug(page.table.name)}.html" for page, row in rows for run in row.runs}
    of_setting = {page.table.setting: f"{slug(page.table.name)}.html" for page in reversed(pages)}
    known = {run.pk: row.accuracy[i] for _, row in rows for i, run in enumerate(row.runs)}
    for run in runs:
        episodes = lists.get(run.spec.episode_digest) if run.status == "done" else None
        table_href = href.get(run.pk, of_setting.get(run.spec.setting, ""))
        if not made.needs([run_file(run)], [made.of_run[run.pk], table_href, episodes is None]):
            continue
        metric = headline_metric(run) if run.metrics else ""
        page = run_page.build(store, run, metric, episodes, known.get(run.pk))
        print_page(made.folder / run_file(run), "run.html.j2", root="../", page=page, table_href=table_href)


def print_page(path: Path, template: str, **context: Any) -> None:
    """Write a page by its template."""
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
        method_file=method_file, p_value=formats.p_short, last_line=formats.last_line,
        polyline=polyline, flat=formats.flat, crops=crops_told, ends=formats.ends, seed_marks=seed_marks, square=setting_page.square, breakable=breakable, signed=formats.signed, inline=prose.inline,
        prose=prose.block,
    )  # fmt: skip
    return made


def polyline(curve: Curve, low: float | None = None, high: float | None = None) -> str:
    """Points of a curve in a box of 200 × 60, from the lowest value to the highest, its own unless given."""
    low, high = curve.low if low is None else low, curve.high if high is None else high
    first, last = curve.points[0][0], curve.points[-1][0]
    across, up = (last - first) or 1.0, (high - low) or 1.0
    return " ".join(
        f"{200 * (x - first) / across:.0f},{60 - 60 * (y - low) / up:.0f}" for x, y in curve.points
    )


def seed_marks(row: Row, scale: tuple[float, float]) -> Markup:
    """A dot for each training of a row on the scale of its bar; none where there is one."""
    means = row.accuracy.mean(axis=1) if len(row.seeds) > 1 else ()
    places = (formats.on_scale(mean, scale) for mean in means)
    return Markup("").join(Markup('<b style="--m:{}"></b>').format(f"{place:.0f}") for place in places)


def breakable(setting: str) -> Markup:
    """A name that may be broken after its dashes."""
    return Markup("-<wbr>").join(setting.split("-"))
