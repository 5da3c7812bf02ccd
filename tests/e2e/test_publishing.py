"""The report as a site for any static host: whole, by relative links, at addresses that stay."""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import made_up_results as made
import pytest
from typer.testing import CliRunner

import fsbench
from harness.errors import FsbenchError, StoreError
from harness.exchange.publishing import publish, signature_file
from harness.report.board.tables import tables
from harness.store import Store
from harness.system.folders import Places

ATOM = {"a": "http://www.w3.org/2005/Atom"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Places:
    """A home with a small world, one run of which gave two results."""
    folder = tmp_path_factory.mktemp("home")
    places = Places(folder, folder / "data", folder / "cache", str(folder / "results.db"))
    with Store.open(places.db, create=True) as store:
        for method, skill in (("one", 0.5), ("two", 0.6)):
            store.ingest(made.result(method, skill=skill, n_episodes=40))
        store.ingest(made.result("two", skill=0.62, n_episodes=40, provenance={"device": "another card"}))
    return places


@pytest.fixture
def store(home: Places) -> Iterator[Store]:
    with Store.open(home.db) as opened:
        yield opened


def _bytes(folder: Path) -> dict[str, str]:
    files = (p for p in folder.rglob("*") if p.is_file() and ".git" not in p.parts)
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_a_folder_is_a_whole_site_and_signatures_keep_their_pages(
    home: Places, store: Store, tmp_path: Path
) -> None:
    target = tmp_path / "site"
    publish(store, home, str(target), url="https://lab.example/board")
    before = _bytes(target)
    assert {"index.html", "404.html", "feed.xml", ".nojekyll", "glyphs-5w1s.html"} <= set(before)
    for page in target.rglob("*.html"):
        for link in re.findall(r'(?:href|src)="([^"#]+)', page.read_text()):
            if not re.match(r"[a-z]+:", link):
                assert (page.parent / link).is_file(), (page, link)
    [table] = tables(store)
    for row in table.rows:
        assert row.signature in (target / signature_file(row.signature)).read_text()
        assert (target / f"run/{row.runs[0].id}.html").is_file()
    two = next(run for run in store.stored_runs() if len(run.replicates) == 2)
    both = (target / f"run/{two.id}.html").read_text()
    assert all(replicate[:12] in both for replicate in two.replicates) and "another card" in both
    assert 'href="https://lab.example/board/"' in (target / "404.html").read_text()
    publish(store, home, str(target), url="https://lab.example/board")
    assert _bytes(target) == before
    old = signature_file(next(row.signature for row in table.rows if row.method == "one"))
    store.ingest(made.result("one", skill=0.5, seed=1, n_episodes=40))
    publish(store, home, str(target))
    after = _bytes(target)
    assert after[old] == before[old] and len([name for name in after if name.startswith("signature/")]) == 3
    (target / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match=r"notes\.txt"):
        publish(store, home, str(target))
    assert (target / "notes.txt").read_text() == "mine"


def test_the_feed_has_the_newest_rows_first_and_links_to_pages_that_are_there(
    home: Places, store: Store, tmp_path: Path
) -> None:
    late = made.result("late", n_episodes=40, provenance={"finished": "2031-01-01T00:00:00+00:00"})
    store.ingest(late)
    publish(store, home, str(tmp_path / "site"))
    feed = ElementTree.parse(tmp_path / "site/feed.xml").getroot()
    entries = feed.findall("a:entry", ATOM)
    assert (feed.findtext("a:updated", "", ATOM), len(entries)) == ("2031-01-01T00:00:00+00:00", 3)
    assert entries[0].findtext("a:title", "", ATOM).startswith("late on glyphs-5w1s: ")
    assert len({entry.findtext("a:id", "", ATOM) for entry in entries}) == 3
    for entry in entries:
        link = entry.find("a:link", ATOM)
        assert link is not None and (tmp_path / "site" / link.attrib["href"]).is_file()
        assert "fsbench1|glyphs-5w1s|" in entry.findtext("a:summary", "", ATOM)


def test_a_repository_gets_one_commit_for_what_is_new(
    home: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "a lab")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "lab@example.org")
    remote = tmp_path / "pages.git"
    subprocess.run(["git", "init", "--quiet", "--bare", str(remote)], check=True)

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=remote, capture_output=True, text=True, check=True).stdout

    def typed(*words: str) -> str:
        told = CliRunner().invoke(fsbench.app, ["--home", str(home.home), "publish", *words])
        if isinstance(told.exception, FsbenchError):
            raise told.exception
        assert told.exit_code == 0, (told.output, told.exception)
        return told.stdout

    assert "nothing new" not in typed(str(remote))
    assert "nothing new" in typed(str(remote))
    assert git("rev-list", "--count", "gh-pages").strip() == "1"
    listed = git("ls-tree", "-r", "--name-only", "gh-pages").splitlines()
    assert {"index.html", "404.html", "feed.xml", ".nojekyll"} <= set(listed)
    with Store.open(home.db) as store:
        store.ingest(made.result("newcomer", n_episodes=40))
    typed(str(remote))
    assert git("rev-list", "--count", "gh-pages").strip() == "2"
    with pytest.raises(StoreError, match="git ls-remote refused, and nothing was published"):
        typed(str(tmp_path / "absent.git"))
