"""A headless Chromium, and the site it looks at: built once from made-up results."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import made_up_results as made
import pytest
from absent import absent
from watched import Watched

from harness.exchange.publishing import publish
from harness.report import render
from harness.store import Store
from harness.system.folders import Places

CHROMIUM = (
    os.environ.get("FSBENCH_TEST_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
)
QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run", "--disable-component-update",
    "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """The browser; tests are skipped where there is none, unless FSBENCH_DEMAND_ALL=1."""
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        absent("the Python package playwright is not installed")
    if not CHROMIUM:
        absent("no Chromium found; install Debian's chromium or set FSBENCH_TEST_CHROMIUM")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a small made-up world with holes, failures, seeds and hostile names."""
    folder = tmp_path_factory.mktemp("site")
    with Store.open(folder / "results.db", create=True) as store:
        made.fill(store, n_repeated=6)
        render.write(store, folder / "reports")
    return folder / "reports"


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small site as it is published, with the pages that a report has not: of signatures, of several results, of nothing."""
    folder = tmp_path_factory.mktemp("published")
    places = Places(folder, folder, folder, str(folder / "results.db"))
    with Store.open(places.db, create=True) as store:
        for skill in (0.5, 0.52):
            store.ingest(made.result(skill=skill, n_episodes=40))
        publish(store, places, str(folder / "site"))
    return folder / "site"


@pytest.fixture
def tab(chromium: Any) -> Iterator[Watched]:
    """A fresh tab; nothing may have gone wrong in it by the end of the test."""
    context = chromium.new_context(viewport={"width": 1200, "height": 900})
    watched = Watched(context)
    yield watched
    context.close()
    assert watched.problems == []
    assert all(url.startswith(("file://", "about:", "http://127.0.0.1")) for url in watched.requests)
