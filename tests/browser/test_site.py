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
from absent import absent
from watched import Watched

from harness.report import render, serve
from harness.runs import ConfigValue
from harness.store import Store

SHOTS = os.environ.get("FSBENCH_TEST_SCREENSHOTS")  # a folder to keep the pictures in


TABLE = "table.overview"


def _shown(page: Any, column: int) -> list[str]:
    """What the first rows of the methods that are shown say in a column."""
    cells = page.locator(f"{TABLE} tbody:visible tr:first-child > :nth-child({column})").all_inner_texts()
    return [re.split(r"\s", cell.strip())[0] for cell in cells]


def _number_of(page: Any, setting: str) -> int:
    """The place of a setting among the columns, from 1."""
    heads = page.locator(f"{TABLE} thead th").all_inner_texts()
    return 1 + next(i for i, head in enumerate(heads) if setting in head)


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
    options = page.locator("select[name=b] option").all_inner_texts()
    page.locator("select[name=b]").select_option(next(text for text in options if "<script>" in text))
    page.locator(".drawn svg").first.wait_for()
    assert "<script>alert(1)</script>" in page.locator(".verdict").inner_text()


def test_the_overview_is_sorted_by_the_column_that_says_so(tab: Watched, site: Path) -> None:
    page = tab.open(site / "index.html")
    column = _number_of(page, "glyphs-5w1s")
    values = [float(value) for value in _shown(page, column) if re.match(r"\d", value)]
    assert values == sorted(values, reverse=True) and len(values) == 8
    assert page.locator(f"{TABLE} thead th[aria-sort=descending]").inner_text().count("glyphs-5w1s") == 1


def test_a_column_sorts_both_ways_and_holes_stay_last(tab: Watched, site: Path) -> None:
    page = tab.open(site / "index.html")
    column = _number_of(page, "glyphs-5w5s")
    head = page.locator(f"{TABLE} thead th").nth(column - 1)
    for expected in (True, False):
        head.locator("button").click()
        values = _shown(page, column)
        numbers = [float(value) for value in values if re.match(r"\d", value)]
        assert numbers == sorted(numbers, reverse=expected) and len(numbers) == 5
        assert set(values[len(numbers) :]) == {"·"}
    assert head.get_attribute("aria-sort") == "ascending"
    assert _shown(tab.open(site / "index.html", page.url.partition("#")[2]), column) == values


def test_search_and_filters_hide_rows_and_columns_and_live_in_the_address(tab: Watched, site: Path) -> None:
    page = tab.open(site / "index.html")
    page.keyboard.press("/")
    page.keyboard.type("method-2")
    assert _shown(page, 1) == ["method-2"]
    assert "q=method-2" in page.url
    page.keyboard.press("Escape")
    assert len(_shown(page, 1)) > 5
    page.get_by_label("inductive only").check()
    assert "method-2" not in _shown(page, 1)
    page.get_by_label("3 seeds or more").check()
    assert "partial" not in _shown(page, 1) and "method-3" in _shown(page, 1)
    page.locator("select[name=family]").select_option("omniglot")
    assert page.locator(f"{TABLE} thead th:visible").all_inner_texts()[3:] != []
    assert all("omniglot" in head for head in page.locator(f"{TABLE} thead th:visible").all_inner_texts()[3:])
    kept, seen = page.url.partition("#")[2], _shown(page, 1)
    page = tab.open(site / "index.html", kept)
    assert page.get_by_label("inductive only").is_checked() and _shown(page, 1) == seen
    page.get_by_role("button", name="Reset").click()
    page.locator(f"{TABLE} thead th", has_text="glyphs").first.wait_for()
    assert page.url.endswith("index.html")


def test_variants_fold_under_their_method(chromium: Any, tmp_path: Path) -> None:
    with Store.open(tmp_path / "results.db", create=True) as store:
        store.ingest(made.result("a", n_episodes=30))
        for lr in (0.2, 0.3):
            late = {"lr": ConfigValue(lr, "--set")}
            store.ingest(made.result("a", n_episodes=30, changes={"config": late}))
        render.write(store, tmp_path / "reports")
    context = chromium.new_context()
    tab = Watched(context)
    page = tab.open(tmp_path / "reports" / "index.html")
    fold, variants = page.get_by_role("button", name="2 variants"), page.locator("tr.variant")
    assert fold.get_attribute("aria-expanded") == "false" and not variants.first.is_visible()
    fold.focus()
    page.keyboard.press("Enter")
    assert fold.get_attribute("aria-expanded") == "true" and variants.first.is_visible()
    page.get_by_role("button", name="All variants").click()
    page = tab.open(tmp_path / "reports" / "index.html", page.url.partition("#")[2])
    assert page.locator("tr.variant").first.is_visible()
    context.close()
    plain = chromium.new_context(java_script_enabled=False)
    page = plain.new_page()
    page.goto((tmp_path / "reports" / "index.html").as_uri())
    assert page.locator("tr.variant:visible").count() == 2 and not page.locator(".fold").is_visible()
    plain.close()
    assert tab.problems == []


def test_the_picture_of_another_benchmark_comes_when_it_is_chosen(tab: Watched, site: Path) -> None:
    page = tab.open(site / "index.html")
    figure = page.locator("[data-picture-place] svg")
    assert "on glyphs-5w1s" in figure.get_attribute("aria-label")
    page.locator("[data-picture]").select_option("glyphs-5w5s")
    page.locator("[data-picture-place] svg[aria-label*=glyphs-5w5s]").wait_for()
    assert page.locator("[data-picture-link]").get_attribute("href") == "glyphs-5w5s.html"
    page = tab.open(site / "index.html", page.url.partition("#")[2])
    page.locator("[data-picture-place] svg[aria-label*=glyphs-5w5s]").wait_for()


def test_published_values_stand_apart_with_one_of_three_words(tab: Watched, site: Path) -> None:
    page = tab.open(site / "omniglot-5w1s.html")
    said = page.locator("[aria-labelledby=published] > .scroll tbody td:nth-child(2)").all_inner_texts()
    assert said and set(said) <= {"agrees", "differs", "not comparable"}
    assert "queries" in page.locator("[aria-labelledby=published] > .scroll tbody td").last.inner_text()


def test_two_methods_are_compared_by_choosers_and_by_a_permalink(tab: Watched, site: Path) -> None:
    page = tab.open(site / "glyphs-5w1s.html")
    page.locator(".drawn svg").first.wait_for()
    best = [option.split(" (")[0] for option in page.locator("select[name=a] option").all_inner_texts()[:2]]
    assert f"{best[0]} − {best[1]} = " in page.locator(".verdict").inner_text()
    assert (
        "What would decide it" in page.locator("[data-verdict]").inner_text()
        or "would decide" in page.locator("[data-verdict]").inner_text()
    )
    page.locator("select[name=b]").focus()
    page.keyboard.press("ArrowDown")
    page.locator("[data-verdict] code").wait_for()
    cell = page.locator("[data-pairs] tbody tr").nth(0).locator("td").nth(2)
    effect = cell.inner_text().split()[0]
    said = page.locator(".verdict").inner_text()
    assert f"= {effect} points" in said
    assert cell.get_attribute("title").split(":")[0] in said and "chosen" in cell.get_attribute("class")
    told = page.locator(".drawn p").inner_text()
    won, lost, equal = map(int, re.search(r"(\d+) won, (\d+) lost, (\d+) equal", told).groups())
    assert won + lost + equal == 300 and won > lost
    for mark in ("circle", "rect"):
        points = page.locator(f".drawn {mark} title").all_text_contents()
        assert sum(int(re.search(r"(\d+) episodes", text)[1]) for text in points) == 300
    page.get_by_role("button", name="Swap").click()
    assert page.locator(".verdict").inner_text().count(" = −" if effect[0] == "+" else " = +") == 1
    swapped = page.locator(".verdict").inner_text()
    page = tab.open(site / "glyphs-5w1s.html", page.url.partition("#")[2])
    page.locator("[data-verdict] code").wait_for()
    assert page.locator(".verdict").inner_text() == swapped
    page.locator("[data-pairs] tbody tr").nth(4).locator("td").nth(1).click()
    assert (
        page.locator("select[name=a]").input_value() == "4"
        and page.locator("select[name=b]").input_value() == "1"
    )


def test_the_matrix_scrolls_in_itself_under_its_heads_and_shows_the_nearest(
    chromium: Any, tmp_path: Path
) -> None:
    with Store.open(tmp_path / "results.db", create=True) as store:
        for i in range(14):
            store.ingest(made.result(f"method-{i:02d}", skill=0.3 + 0.03 * i, n_episodes=30))
        render.write(store, tmp_path / "reports")
    context = chromium.new_context(viewport={"width": 500, "height": 500})
    tab = Watched(context)
    page = tab.open(tmp_path / "reports" / "glyphs-5w1s.html")
    page.locator(".drawn svg").first.wait_for()
    place = page.locator(".grid").first
    before = place.locator("thead th").first.bounding_box()
    place.evaluate("box => box.scrollTo(200, 200)")
    assert (
        place.locator("thead th").first.bounding_box() == before
        and place.evaluate("box => box.scrollTop") == 200
    )
    page.get_by_label("ten rows nearest").check()
    assert page.locator("[data-pairs] tbody tr:visible").count() == 11
    shown = page.locator("[data-pairs] tbody th:visible").all_inner_texts()
    assert shown == [f"method-{i:02d}" for i in range(13, 2, -1)]
    assert page.locator("[data-pairs] thead th:visible").count() == 12
    page = tab.open(tmp_path / "reports" / "glyphs-5w1s.html", page.url.partition("#")[2])
    page.locator(".drawn svg").first.wait_for()
    assert page.locator("[data-pairs] tbody tr:visible").count() == 11
    context.close()
    assert tab.problems == []


def test_the_pages_read_without_a_script(chromium: Any, site: Path) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((site / "index.html").as_uri())
    assert (
        page.locator(f"{TABLE} tbody tr").count() == 10 and not page.locator("[data-controls]").is_visible()
    )
    assert page.locator("[data-picture-place] svg").is_visible()
    page.goto((site / "glyphs-5w1s.html").as_uri())
    assert page.locator("[data-pairs] td.better").count() > 0 and page.locator(".verdict").is_visible()
    assert not page.locator("[data-compare]").is_visible()
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


@pytest.mark.parametrize("width", [420, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(
    chromium: Any, site: Path, published: Path, scheme: str, width: int
) -> None:
    try:
        from axe_playwright_python.sync_playwright import Axe
    except ModuleNotFoundError:
        absent("the Python package axe-playwright-python is not installed")
    context = chromium.new_context(color_scheme=scheme, viewport={"width": width, "height": 720})
    page = context.new_page()
    run, method = next(site.glob("run/*.html")), next(site.glob("method/*.html"))
    general = ("index", "glyphs-5w1s", "omniglot-5w1s", "family-glyphs", "across", "definitions")
    of_reports = [*(site / f"{name}.html" for name in general), run, method]
    signature = next(published.glob("signature/*.html"))
    results = next(published.glob("run/????????????.html"))
    for path in (*of_reports, signature, results, published / "404.html"):
        page.goto(path.as_uri())
        if path.name == "glyphs-5w1s.html":
            page.locator(".drawn svg").first.wait_for()
        answer = Axe().run(page).response
        found = answer["violations"]
        assert len(answer["passes"]) > 10, "axe looked at nothing"
        faults = [
            (path.name, fault["id"], fault["nodes"][0]["html"][:200], fault["nodes"][0]["failureSummary"])
            for fault in found
        ]
        assert faults == []
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
            page.locator(".drawn svg").first.wait_for()
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
            deadline = time.monotonic() + 240
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
