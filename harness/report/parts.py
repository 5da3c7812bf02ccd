"""The pages of one setting and its runs, which need no other setting."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.report import exports, site
from harness.report.board.rows import headline_metric
from harness.report.board.tables import Evaluated, Whole, judged
from harness.report.formats import run_file, slug
from harness.report.pages import run_page, setting_page
from harness.report.pages.counts_script import counts_script
from harness.report.pages.setting_page import SettingPage
from harness.report.printing import print_page, print_text
from harness.report.workers import each
from harness.store import Store, StoredRun
from harness.system.progress import Progress, stage


class Made:
    """Pages that take long to make, and what each was made from; those of the last build are taken over unchanged.

    Attributes:
        folder: of this build.
        now: file → digest of what it is made from.
        of_run: digests of the runs, by their keys.
        found: digest of what is stored beside runs.
    """

    def __init__(self, folder: Path, old: Path, of_run: Mapping[int, str], found: str) -> None:
        self.folder, self.of_run, self.found = folder, of_run, found
        self.now: dict[str, str] = {}
        self._old, self._sizes = old, site.sizes(old)
        self._before: Mapping[str, str] = site.remembered(old).get("made", {})
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


def make(
    store: Store, made: Made, whole: Whole, found: list[Evaluated], shown: Progress
) -> list[SettingPage]:
    """Judge every setting and write what belongs to it alone: its page, scripts and exports, and those of its runs.

    Args:
        store: the database.
        made: of this build; told what was made.
        whole: what every table is judged with.
        found: the settings; emptied, so that what is judged elsewhere is not held here, too.
        shown: told how far it is.
    """
    n = len(found)
    first = {one.setting: i for i, one in reversed(list(enumerate(found)))}
    # the largest first, so that no process is left with one at the end
    order = sorted(range(n), key=lambda i: -len(found[i].rows))
    waiting = dict(enumerate(found))
    found.clear()
    parts = ((made, whole, one, first[one.setting] == i) for i in order for one in [waiting.pop(i)])
    pages: dict[int, SettingPage] = {}
    with stage(shown, "report", n, "settings") as progress:
        for i, (page, now) in zip(order, each(store, _make, parts, n, len(made.of_run)), strict=True):
            made.now |= now
            pages[i] = page
            progress.advance(1, page.table.name)
    return [pages[i] for i in range(n)]


def _make(
    store: Store, made: Made, whole: Whole, one: Evaluated, is_first: bool
) -> tuple[SettingPage, dict[str, str]]:
    """Make a setting and the pages of its runs, those of failed ones, which no list holds, with the first of theirs."""
    page = setting_page.build(store, judged(one, whole))
    _write_setting(store, made, page)
    _write_runs(store, made, page, (*one.spare, *(one.failed if is_first else ())))
    return page, made.now


def _write_setting(store: Store, made: Made, page: SettingPage) -> None:
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
        made.found,
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
    print_text(folder / f"{name}.js", counts_script(page))
    # a page opened from disk may not fetch, but it may load a script
    print_text(folder / f"picture-{name}.js", f"fsbench.picture({json.dumps([name, images or ''])});\n")
    for form in exports.FORMS:
        print_text(folder / f"{name}.{form}", exports.as_text([page], form))


def _write_runs(store: Store, made: Made, page: SettingPage, others: Sequence[StoredRun]) -> None:
    """One page per run, of those in no row too; what the setting's page has read already is not read again."""
    table_href = f"{slug(page.table.name)}.html"
    known = {run.pk: row.accuracy[i] for row in page.table.rows for i, run in enumerate(row.runs)}
    for run in (*(run for row in page.table.rows for run in row.runs), *others):
        episodes = page.episodes if run.status == "done" else None
        if not made.needs([run_file(run)], [made.of_run[run.pk], table_href, episodes is None]):
            continue
        metric = headline_metric(run) if run.metrics else ""
        of_run = run_page.build(store, run, metric, episodes, known.get(run.pk))
        print_page(made.folder / run_file(run), "run.html.j2", root="../", page=of_run, table_href=table_href)
