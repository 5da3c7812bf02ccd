"""The report as a site for any static host: the same pages, addresses that stay, a feed of new rows, a page for what is not there.

Links are relative, so that it may lie anywhere. What names the machine is left out, as on every page.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from xml.etree import ElementTree

from harness.errors import ConfigError, StoreError, visible
from harness.report import render, site
from harness.report.board.rows import Row
from harness.report.board.tables import Table, tables
from harness.report.formats import percent, slug, span
from harness.report.printing import print_page
from harness.system.secrets import without_credentials

if TYPE_CHECKING:
    from harness.runs.findings import StoredRun
    from harness.store import Store
    from harness.system.folders import Places

SIGNATURES = "signature"
N_NEWS = 50
_ATOM = "http://www.w3.org/2005/Atom"


class Address(NamedTuple):
    """A row at the address of its signature, and the name of its table."""

    row: Row
    table: str


class Published(NamedTuple):
    """What was published: where, how many pages, and whether anything of it is new there."""

    target: str
    n_files: int
    is_new: bool


def signature_file(signature: str) -> str:
    """Where the page of a signature is below the site.

    >>> signature_file("fsbench1|x")
    'signature/59e06fbfa3a6.html'
    """
    return f"{SIGNATURES}/{hashlib.sha256(signature.encode()).hexdigest()[:12]}.html"


def is_remote(target: str) -> bool:
    """Whether a target is a git repository elsewhere, or a bare one here.

    >>> [is_remote(t) for t in ("git@host:lab/pages.git", "https://host/x", "site", "/srv/pages.git")]
    [True, True, False, True]
    """
    return "://" in target or bool(re.match(r"[\w.-]+@[\w.-]+:", target)) or target.endswith(".git")


def publish(
    store: Store, places: Places, target: str, *, branch: str = "gh-pages", url: str = ""
) -> Published:
    """Bring the report up to date, and put it as a site into a folder or on a branch of a git repository.

    Args:
        store: the database.
        places: whose report it is.
        target: a folder, which is replaced whole, or the address of a repository.
        branch: of the repository; it is made where there is none.
        url: where the site will be, for the feed and the page of what is not found; empty when that is not known.

    Raises:
        StoreError: when the folder holds anything but a site, or git refuses.
    """
    render.write(store, places.reports)
    found = tables(store)
    url = url.rstrip("/") + "/" if url else ""
    if not is_remote(target):
        with site.replaced(Path(target), _digest(places.reports), {}) as folder:
            _write(store, places.reports, Path(target), folder, found, url)
            n_files = _count(folder)
        return Published(target, n_files, True)
    return _push(store, places, target, branch, found, url)


def _digest(reports: Path) -> str:
    return hashlib.sha256((reports / site.MANIFEST).read_bytes()).hexdigest()


def _write(store: Store, reports: Path, before: Path, folder: Path, found: Sequence[Table], url: str) -> None:
    """Everything of a site, into an empty folder; signatures that were published before keep their pages."""
    shutil.copytree(reports, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(site.MANIFEST))
    if (before / SIGNATURES).is_dir():
        shutil.copytree(before / SIGNATURES, folder / SIGNATURES, dirs_exist_ok=True)
    for table in found:
        for row in table.rows:
            print_page(folder / signature_file(row.signature), "signature.html.j2", root="../", page=Address(row, table.name))  # fmt: skip
    by_id: dict[str, list[StoredRun]] = {}
    for run in store.stored_runs():
        by_id.setdefault(run.id, []).append(run)
    for run_id, results in by_id.items():
        if len(results) > 1:
            print_page(folder / f"run/{slug(run_id)}.html", "results.html.j2", root="../", page=results)
    print_page(folder / "404.html", "not_found.html.j2", front=url or "/")
    (folder / "feed.xml").write_bytes(_feed(found, url))
    (folder / ".nojekyll").touch()  # GitHub's pages would leave some files out


def _feed(found: Sequence[Table], url: str) -> bytes:
    """The newest rows as an Atom feed; equal databases give equal feeds."""
    rows = [(_finished(row), row) for table in found for row in table.rows]
    rows.sort(key=lambda entry: (entry[0], entry[1].signature), reverse=True)
    ElementTree.register_namespace("", _ATOM)
    feed = _element("feed", None)
    newest = rows[0][0] if rows else "1970-01-01T00:00:00+00:00"
    for name, text in (
        ("id", url or "urn:fsbench:rows"),
        ("title", "fsbench: new rows"),
        ("updated", newest),
    ):
        feed.append(_element(name, text))
    feed.append(_element("author", None, [_element("name", "fsbench")]))
    feed.append(_element("link", None, href=f"{url}feed.xml", rel="self"))
    for updated, row in rows[:N_NEWS]:
        told = f"{percent(row.mean)} %"
        told += f" (95%: {span(row.interval)})" if row.half_width is not None else ""
        address = signature_file(row.signature)
        parts = [
            _element("id", f"urn:sha256:{hashlib.sha256(row.signature.encode()).hexdigest()}"),
            _element("title", f"{row.label} on {row.setting}: {percent(row.mean)} %"),
            _element("updated", updated),
            _element("link", None, href=f"{url}{address}"),
            _element(
                "summary", f"{told}, {row.n_episodes:,} {row.unit}, {len(row.seeds)} seeds. {row.signature}"
            ),
        ]
        feed.append(_element("entry", None, parts))
    return ElementTree.tostring(feed, encoding="utf-8", xml_declaration=True)


def _finished(row: Row) -> str:
    """When the last of its runs ended; when the database first saw it, where that was not recorded."""
    return max(str(run.provenance.get("finished") or run.created) for run in row.runs)


def _element(name: str, text: str | None, parts: Sequence[Any] = (), **attributes: str) -> Any:
    made = ElementTree.Element(f"{{{_ATOM}}}{name}", attributes)
    made.text = None if text is None else visible(text)
    made.extend(parts)
    return made


def _count(folder: Path) -> int:
    return sum(p.is_file() for p in folder.rglob("*"))


def _push(
    store: Store, places: Places, remote: str, branch: str, found: Sequence[Table], url: str
) -> Published:
    with tempfile.TemporaryDirectory() as scratch:
        clone, made = Path(scratch) / "clone", Path(scratch) / "site"
        clone.mkdir()
        made.mkdir()
        _git(clone, "init", "--quiet")
        _git(clone, "remote", "add", "origin", "--", remote)
        if _git(clone, "ls-remote", "--heads", "origin", f"refs/heads/{branch}"):
            _git(clone, "fetch", "--quiet", "--depth", "1", "origin", f"refs/heads/{branch}")
            _git(clone, "checkout", "--quiet", "-B", branch, "FETCH_HEAD")
        else:
            _git(clone, "checkout", "--quiet", "--orphan", branch)
        _write(store, places.reports, clone, made, found, url)
        for path in clone.iterdir():
            if path.name != ".git":
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        shutil.copytree(made, clone, dirs_exist_ok=True)
        _git(clone, "add", "--all", "--force")
        is_new = bool(_git(clone, "status", "--porcelain"))
        if is_new:
            n_rows = sum(len(table.rows) for table in found)
            _git(clone, "commit", "--quiet", "-m", f"fsbench: {n_rows} rows on {len(found)} settings")
            _git(clone, "push", "--quiet", "origin", f"HEAD:refs/heads/{branch}")
        return Published(f"{without_credentials(remote)} ({branch})", _count(made), is_new)


def _git(folder: Path, *words: str) -> str:
    """What git prints.

    Raises:
        ConfigError: when git is not installed.
        StoreError: with the last line of what it says, where it refuses.
    """
    try:
        done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise ConfigError(
            "Publishing to a repository needs git, which is not installed. Publish to a folder."
        ) from error
    if done.returncode:
        told = without_credentials(visible(done.stderr.strip() or "no reason given"))
        raise StoreError(f"git {words[0]} refused, and nothing was published: {told[-600:]}")
    return done.stdout
