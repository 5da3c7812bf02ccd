"""The generated site as a reader meets it: over file://, with and without scripts, light and dark, narrow and printed."""

from __future__ import annotations

import os
import re
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import made_up_results as made
import pytest
from watched import Watched, demand

from harness.report import serve
from harness.store import Store

SHOTS = os.environ.get("FSBENCH_TEST_SCREENSHOTS")  # a folder to keep the pictures in


def _column(page: Any, table: str, number: int) -> list[str]:
    cells = page.locator(f"{table} tbody tr:visible > :nth-child({number})").all_inner_texts()
    return [re.split(r"\s", cell.strip())[0] for cell in cells]


GLYPHS = "section[data-family=glyphs] table"


class _Links(HTMLParser):
    """Collects what a page refers to and the ids it has."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src", "data-counts") and value and tag != "use":
                self.targets.append(value)
            if name == "id" and value:
                self.ids.append(value)


def _parsed(path: Path) -> _Links:
    links = _Links()
    links.feed(path.read_text())
    return links


def test_every_link_leads_somewhere_and_ids_are_unique(site: Path) -> None:
    pages = {path: _parsed(path) for path in site.rglob("*.html")}
    assert len(pages) > 30
    for path, links in pages.items():
        assert len(links.ids) == len(set(links.ids)), path
        for target in links.targets:
            if target.startswith("data:image/png;base64,"):
                continue
            file, _, fragment = target.partition("#")
            there = (path.parent / unquote(file)).resolve() if file else path
            assert there.is_relative_to(site.resolve()) or there == path, f"{path}: {target}"
            assert there.is_file(), f"{path}: {target}"
            if fragment:
                assert fragment in pages[there].ids, f"{path}: {target}"


def test_no_page_refers_to_another_host(site: Path) -> None:
    for path in site.rglob("*.*"):
        text = path.read_text()
        outside = re.findall(r"https?://[^\s\"'<)]+", text)
        assert set(outside) <= {"http://www.w3.org/2000/svg"}, path  # a namespace, never fetched


@pytest.mark.parametrize("name", ["index.html", "glyphs-5w1s.html", "omniglot-5w1s.html", "definitions.html"])
def test_pages_open_without_a_complaint(tab: Watched, site: Path, name: str) -> None:
    page = tab.open(site / name)
    assert page.locator("h1").count() == 1


def test_run_and_method_pages_open_without_a_complaint(tab: Watched, site: Path) -> None:
    for path in [*sorted(site.glob("run/*.html"))[:3], *site.glob("method/*.html")]:
        assert tab.open(path).locator("h1").inner_text()


def test_thumbnails_are_drawn(tab: Watched, site: Path) -> None:
    path = next(p for p in site.glob("run/*.html") if "data:image/png" in p.read_text())
    page = tab.open(path)
    widths = page.evaluate(
        "[...document.querySelectorAll('.episode img')].map(picture => picture.naturalWidth)"
    )
    assert len(widths) >= 10 and set(widths) == {8}
    assert page.locator("img.wrong").first.get_attribute("title").startswith("taken for ")


def test_hostile_names_are_only_text(tab: Watched, site: Path) -> None:
    page = tab.open(site / "index.html")
    assert page.get_by_role("link", name="<script>alert(1)</script>").count() == 1
    page = tab.open(site / "glyphs-5w1s.html")
    assert page.locator("svg text", has_text="<script>alert(1)</script>").count() >= 1
    page.locator("[data-pairs] button").last.click()
    page.locator("#pair svg").first.wait_for()


def test_a_column_sorts_both_ways_and_holes_stay_last(tab: Watched, site: Path) -> None:
    page = tab.open(site / "index.html")
    head = page.locator(f"{GLYPHS} thead th").nth(2)
    assert head.locator("a").inner_text() == "glyphs-5w5s"
    for expected in (True, False):
        head.locator("button").click()
        values = _column(page, GLYPHS, 3)
        numbers = [float(value) for value in values if re.match(r"\d", value)]
        assert numbers == sorted(numbers, reverse=expected) and len(numbers) == 5
        assert set(values[len(numbers) :]) == {"·"}
    assert head.get_attribute("aria-sort") == "ascending"


def test_search_and_filters_hide_rows_and_live_in_the_address(tab: Watched, site: Path) -> None:
    page = tab.open(site / "index.html")
    page.keyboard.press("/")
    page.keyboard.type("method-2")
    assert _column(page, GLYPHS, 1) == ["method-2"]
    assert "q=method-2" in page.url
    page.keyboard.press("Escape")
    assert len(_column(page, GLYPHS, 1)) > 5
    page.get_by_label("inductive only").check()
    assert "method-2" not in _column(page, GLYPHS, 1)
    page.get_by_label("Benchmark").select_option("omniglot")
    assert not page.locator(GLYPHS).is_visible()
    kept = page.url.partition("#")[2]
    page = tab.open(site / "index.html", kept)
    assert page.get_by_label("inductive only").is_checked() and not page.locator(GLYPHS).is_visible()
    page.get_by_role("button", name="Reset").click()
    page.locator(GLYPHS).wait_for()
    assert page.url.endswith("index.html")


def test_columns_can_be_hidden_and_stay_hidden_by_permalink(tab: Watched, site: Path) -> None:
    page = tab.open(site / "index.html")
    page.locator("summary", has_text="Columns").click()
    page.locator("[data-chooser]").get_by_label("Backbone").uncheck()
    assert not page.locator(f"{GLYPHS} th", has_text="Backbone").is_visible()
    page = tab.open(site / "index.html", page.url.partition("#")[2])
    assert not page.locator(f"{GLYPHS} th", has_text="Backbone").is_visible()
    assert page.locator(f"{GLYPHS} th", has_text="Input").is_visible()


def test_published_values_come_on_demand_with_their_verdict(tab: Watched, site: Path) -> None:
    page = tab.open(site / "index.html")
    first = page.locator(".pub").first
    assert not first.is_visible()
    page.get_by_label("published values").check()
    assert first.is_visible() and re.search(
        "agrees|differs|not comparable|protocol unknown", first.inner_text()
    )


def test_a_pair_shows_its_episodes_and_has_a_permalink(tab: Watched, site: Path) -> None:
    page = tab.open(site / "glyphs-5w1s.html")
    assert not page.locator("#pair").is_visible()
    button = page.locator("[data-pairs] button").nth(1)
    button.focus()
    page.keyboard.press("Enter")
    page.locator("#pair svg").first.wait_for()
    said = page.locator("#pair p").inner_text()
    effect = button.inner_text().split()[0]
    won, lost, equal = map(int, re.search(r"(\d+) won, (\d+) lost, (\d+) equal", said).groups())
    assert said.startswith(effect) and won + lost + equal == 300 and won > lost
    points = page.locator("#pair circle title").all_text_contents()
    assert sum(int(re.search(r"(\d+) episodes", text)[1]) for text in points) == 300
    bars = page.locator("#pair rect title").all_text_contents()
    assert sum(int(re.search(r"(\d+) episodes", text)[1]) for text in bars) == 300
    page = tab.open(site / "glyphs-5w1s.html", page.url.partition("#")[2])
    page.locator("#pair svg").first.wait_for()
    assert page.locator("#pair p").inner_text() == said


def test_the_pages_read_without_a_script(chromium: Any, site: Path) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((site / "index.html").as_uri())
    assert (
        page.locator(f"{GLYPHS} tbody tr").count() == 9 and not page.locator("[data-controls]").is_visible()
    )
    page.goto((site / "glyphs-5w1s.html").as_uri())
    assert (
        page.locator("[data-pairs] td.better").count() > 0
        and page.locator("[data-pairs] button").count() == 0
    )
    context.close()


def test_dark_mode_changes_page_and_figures(chromium: Any, site: Path) -> None:
    seen = {}
    for scheme in ("light", "dark"):
        context = chromium.new_context(color_scheme=scheme)
        page = context.new_page()
        page.goto((site / "glyphs-5w1s.html").as_uri())
        seen[scheme] = [
            page.evaluate("getComputedStyle(document.body).backgroundColor"),
            page.evaluate("getComputedStyle(document.querySelector('svg.figure text')).fill"),
        ]
        context.close()
    assert seen["light"][0] == "rgb(255, 255, 255)" and seen["dark"][0] != seen["light"][0]
    assert seen["dark"][1] != seen["light"][1]


@pytest.mark.parametrize("width", [320, 1200])
def test_nothing_but_tables_and_figures_scrolls_sideways(chromium: Any, site: Path, width: int) -> None:
    """320 pixels are a 1280-pixel window at 400% zoom."""
    context = chromium.new_context(viewport={"width": width, "height": 800})
    page = context.new_page()
    for path in (
        site / "index.html",
        site / "glyphs-5w1s.html",
        next(site.glob("run/*.html")),
        site / "definitions.html",
    ):
        page.goto(path.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(chromium: Any, site: Path, scheme: str) -> None:
    try:
        from axe_playwright_python.sync_playwright import Axe
    except ModuleNotFoundError:
        demand("the Python package axe-playwright-python is not installed")
    context = chromium.new_context(color_scheme=scheme)
    page = context.new_page()
    run, method = next(site.glob("run/*.html")), next(site.glob("method/*.html"))
    for path in (site / "index.html", site / "glyphs-5w1s.html", site / "definitions.html", run, method):
        page.goto(path.as_uri())
        if path.name == "glyphs-5w1s.html":
            page.locator("[data-pairs] button").first.click()
            page.locator("#pair svg").first.wait_for()
        answer = Axe().run(page).response
        found = answer["violations"]
        assert len(answer["passes"]) > 10, "axe looked at nothing"
        serious = [
            (path.name, fault["id"], fault["nodes"][0]["html"][:200], fault["nodes"][0]["failureSummary"])
            for fault in found if fault["impact"] in ("serious", "critical")
        ]  # fmt: skip
        assert serious == []
    context.close()


@pytest.mark.parametrize(
    ("name", "scheme", "width"), [("light", "light", 1200), ("dark", "dark", 1200), ("narrow", "light", 375)]
)
def test_screenshots_show_more_than_one_colour(
    chromium: Any, site: Path, tmp_path: Path, name: str, scheme: str, width: int
) -> None:
    """The pictures are kept in FSBENCH_TEST_SCREENSHOTS, for people; an empty page would be one colour."""
    from PIL import Image

    context = chromium.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
    page = context.new_page()
    folder = Path(SHOTS) if SHOTS else tmp_path
    for target in ("index.html", "glyphs-5w1s.html#pair=1-3"):
        page.goto(f"{site.as_uri()}/{target}")
        if "#" in target:
            page.locator("#pair svg").first.wait_for()
        path = folder / f"{target.partition('.')[0]}-{name}.png"
        page.screenshot(path=path, full_page=True)
        assert len(Image.open(path).convert("RGB").getcolors(1 << 20)) > 20
    context.close()


def test_serving_reloads_the_page_when_a_result_arrives(chromium: Any, tmp_path: Path) -> None:
    context = chromium.new_context()
    tab = Watched(context)
    with Store.open(tmp_path / "results.db", create=True) as store:
        store.ingest(made.result("first"))
        with serve.running(store, tmp_path / "reports", None) as address:
            tab.page.goto(address)
            assert tab.page.get_by_role("link", name="first").count() == 1
            store.ingest(made.result("second"))
            deadline = time.monotonic() + 60
            while not tab.page.get_by_role("link", name="second").count():
                assert time.monotonic() < deadline, "the page did not reload"
                tab.page.wait_for_timeout(200)
            outcome = context.request.get(address, headers={"Host": "evil.example"})
            assert outcome.status == 403
            tab.page.goto("about:blank")
    context.close()
    assert [
        text for text in tab.problems if "ERR_ABORTED" not in text and not text.startswith("failed")
    ] == []
