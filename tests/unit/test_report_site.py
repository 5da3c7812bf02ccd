"""The folder of a report: whole or not at all, the same bytes again, and clear words where it cannot be made."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import made_up_results as made
import pytest

from harness.errors import ConfigError, StoreError
from harness.report import exports, formats, parts, render, site, upkeep, workers
from harness.report.board.rows import row_as_json
from harness.report.board.tables import read, tables
from harness.report.pages import svg
from harness.store import Store
from harness.system.folders import Places


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    location = tmp_path_factory.mktemp("site") / "results.db"
    with Store.open(location, create=True) as store:
        made.fill(store, n_methods=4, n_episodes=120)
    return location


def _digests(folder: Path) -> dict[str, str]:
    files = (p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def _write(database: Path, target: Path) -> Path:
    with Store.open(database) as store:
        return render.write(store, target)


def test_two_builds_are_the_same_byte_for_byte(database: Path, tmp_path: Path) -> None:
    """In processes with different hash seeds, so that no order of a set reaches a page."""
    code = "import sys; from pathlib import Path; from harness.store import Store; from harness.report import render; render.write(Store.open(sys.argv[1]), Path(sys.argv[2]))"
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "TZ": f"UTC{seed}"}
        subprocess.run([sys.executable, "-c", code, database, tmp_path / seed], env=environment, check=True)
    assert _digests(tmp_path / "1") == _digests(tmp_path / "2")


def test_processes_write_the_same_bytes_and_say_the_same(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A large report is made in processes; what they warn of is said here, and their errors end the build."""
    shutil.copy(database, tmp_path / "results.db")
    with sqlite3.connect(tmp_path / "results.db") as db:
        db.execute("UPDATE episode_list SET query = x'00'")
    said: list[list[str]] = []
    for folder, worth in (("here", 10**6), ("processes", 0)):
        monkeypatch.setattr(workers, "WORTH", worth)
        monkeypatch.setattr(workers, "n_cpus", lambda: 2)
        caplog.clear()
        _write(tmp_path / "results.db", tmp_path / folder)
        said.append(sorted(record.getMessage() for record in caplog.records))
    assert _digests(tmp_path / "here") == _digests(tmp_path / "processes")
    assert said[0] == said[1] != []
    with sqlite3.connect(tmp_path / "results.db") as db:
        db.execute("PRAGMA ignore_check_constraints = ON")
        db.execute("UPDATE result SET n_correct = 0.5 WHERE episode = 3")
    with Store.open(tmp_path / "results.db") as store:
        runs = render.stored_runs(Store.open(database))
        with pytest.raises(StoreError, match="not whole numbers"):
            read(store, runs)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_runs_that_are_read_in_shares_are_those_of_one_reading(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares: list[dict[str, list[str]]] = []

    def each(store: Store, work: Any, parts: Any, n_parts: int, n_runs: int) -> Any:
        assert n_parts == len(parts) and n_runs == len(expected)
        shares.extend(filters for (filters,) in parts)
        return (work(store, *part) for part in parts)

    monkeypatch.setattr(workers, "WORTH", 0)
    with Store.open(database) as store:
        expected = store.stored_runs()
        monkeypatch.setattr(workers, "each", each)
        assert render.stored_runs(store) == expected
    assert len(shares) > 1 and len({name for share in shares for name in share["setting"]}) == len(
        {run.spec.setting for run in expected}
    )


def test_a_script_may_ask_for_a_large_report(database: Path, tmp_path: Path) -> None:
    """Processes do not run the script again that asked for them, guarded or not."""
    (tmp_path / "mine.py").write_text(
        "import sys\nfrom pathlib import Path\nfrom harness.report import render, workers\n"
        "from harness.store import Store\nprint('once')\nworkers.WORTH, workers.n_cpus = 0, lambda: 2\n"
        "render.write(Store.open(sys.argv[1]), Path(sys.argv[2]))\n"
    )
    ran = [sys.executable, tmp_path / "mine.py", database, tmp_path / "reports"]
    done = subprocess.run(ran, capture_output=True, text=True, check=True)
    assert done.stdout == "once\n" and done.stderr == ""
    assert (tmp_path / "reports" / "index.html").exists()


def test_nothing_is_written_when_nothing_changed(database: Path, tmp_path: Path) -> None:
    page = _write(database, tmp_path / "reports")
    before = page.stat().st_mtime_ns, page.parent.stat().st_ino
    _write(database, tmp_path / "reports")
    assert (page.stat().st_mtime_ns, page.parent.stat().st_ino) == before


@pytest.mark.parametrize("harm", ["missing", "cut"])
def test_a_damaged_report_is_made_again(database: Path, tmp_path: Path, harm: str) -> None:
    page = _write(database, tmp_path / "reports")
    whole = _digests(page.parent)
    page.unlink() if harm == "missing" else page.write_text("half")
    _write(database, tmp_path / "reports")
    assert _digests(page.parent) == whole


def test_a_new_result_changes_the_report(database: Path, tmp_path: Path) -> None:
    shutil.copy(database, tmp_path / "results.db")
    with Store.open(tmp_path / "results.db") as store:
        render.write(store, tmp_path / "reports")
        store.ingest(made.result("newcomer"))
        page = render.write(store, tmp_path / "reports")
    said = page.read_text()
    assert re.search(r"<b>new</b> newcomer on <a href=\"glyphs-5w1s.html\">glyphs-5w1s</a>: \d\d\.\d\d", said)
    assert (page.parent / "method" / "newcomer.html").exists()
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_pages_that_did_not_change_are_taken_over(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(database, tmp_path / "results.db")
    printed: list[str] = []
    write = parts.print_page

    def told(path: Path, template: str, **context: object) -> None:
        printed.append(path.name)
        write(path, template, **context)

    monkeypatch.setattr(parts, "print_page", told)
    with Store.open(tmp_path / "results.db") as store:
        render.write(store, tmp_path / "reports")
        n_runs = len(list((tmp_path / "reports" / "run").glob("*.html")))
        assert {"glyphs-5w1s.html", "omniglot-20w1s.html"} < set(printed) and len(printed) > n_runs
        printed.clear()
        store.ingest(made.result("newcomer", "omniglot-20w1s", way=20, n_episodes=120))
        render.write(store, tmp_path / "reports")
        assert "omniglot-20w1s.html" in printed and "glyphs-5w1s.html" not in printed
        [run] = [run for run in render.stored_runs(store) if run.spec.method.name == "newcomer"]
        assert f"{run.id}.html" in printed and len(printed) < n_runs
        render.write(store, tmp_path / "fresh")
    after, fresh = _digests(tmp_path / "reports"), _digests(tmp_path / "fresh")
    assert after.keys() == fresh.keys()
    assert {name for name in after if after[name] != fresh[name]} == {"index.html", "report.json"}


def test_nothing_is_read_while_the_database_is_as_it_was(database: Path, tmp_path: Path) -> None:
    shutil.copy(database, tmp_path / "results.db")
    places = Places(tmp_path, tmp_path / "data", tmp_path / "cache", str(tmp_path / "results.db"))
    target = tmp_path / "reports"

    class Silent:
        def __getattr__(self, name: str) -> None:
            raise AssertionError(f"the database was asked for {name}")

    with Store.open(tmp_path / "results.db") as store:
        page = upkeep.keep(places, store, target, None)
        before = _digests(target)
        upkeep.keep(places, Silent(), target, None)
        page.write_text("half")
        upkeep.keep(places, store, target, None)
        assert _digests(target) == before
        store.ingest(made.result("newcomer"))
        assert "newcomer" in upkeep.keep(places, store, target, None).read_text()


def test_a_folder_that_is_not_a_report_is_left_alone(database: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(StoreError, match=r"holds 1 files that no report made \(thesis.tex\)"):
        _write(database, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_foreign_file_in_an_old_report_is_not_lost(database: Path, tmp_path: Path) -> None:
    page = _write(database, tmp_path / "reports")
    (page.parent / "notes.txt").write_text("mine")
    page.write_text("half")  # so that it must be made again
    with pytest.raises(StoreError, match=r"notes\.txt"):
        _write(database, tmp_path / "reports")
    assert (page.parent / "notes.txt").read_text() == "mine"


def test_a_file_in_the_place_of_the_folder_is_refused(database: Path, tmp_path: Path) -> None:
    (tmp_path / "reports").write_text("a file")
    with pytest.raises(StoreError, match="is a file"):
        _write(database, tmp_path / "reports")


def test_an_unwritable_place_keeps_the_old_report_whole(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = _write(database, tmp_path / "reports")
    page.write_text("old and damaged, so that a new one is due")
    before = _digests(page.parent)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(StoreError, match=r"No space left on device\. What was there stays"):
        _write(database, tmp_path / "reports")
    monkeypatch.undo()
    assert _digests(page.parent) == before
    assert [p.name for p in tmp_path.iterdir()] == ["reports"]


def test_a_failing_swap_puts_the_old_report_back(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = _write(database, tmp_path / "reports")
    page.write_text("old")
    before, rename = _digests(page.parent), Path.rename

    def stubborn(self: Path, target: Path) -> Path:
        if self.name.endswith(".new"):
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", stubborn)
    with pytest.raises(StoreError, match="Input/output error"):
        _write(database, tmp_path / "reports")
    monkeypatch.undo()
    assert _digests(page.parent) == before


def test_an_empty_database_gives_a_page_that_says_what_to_type(tmp_path: Path) -> None:
    with Store.open(tmp_path / "results.db", create=True) as store:
        page = render.write(store, tmp_path / "reports")
        assert render.export(store, "md") == "" and json.loads(render.export(store, "json")) == []
    assert "No runs yet" in page.read_text() and "fsbench run" in page.read_text()


def test_one_run_is_enough_for_every_page(tmp_path: Path) -> None:
    with Store.open(tmp_path / "results.db", create=True) as store:
        store.ingest(made.result(n_episodes=1))
        page = render.write(store, tmp_path / "reports")
    text = (page.parent / "glyphs-5w1s.html").read_text()
    assert "data-pairs" not in text and "#pair" not in text and "<svg" in text


def test_every_run_has_a_page_in_a_row_or_not(tmp_path: Path) -> None:
    with Store.open(tmp_path / "results.db", create=True) as store:
        store.ingest(made.result("m", n_episodes=40))
        store.ingest(made.result("m", skill=0.62, n_episodes=40))  # a replicate
        store.ingest(made.result("m", n_episodes=10))  # fewer episodes of the same seed
        store.ingest(made.failure("m"))
        render.write(store, tmp_path / "site")
        runs = store.stored_runs()
    assert len(runs) == 4
    assert [run.id for run in runs if not (tmp_path / "site" / formats.run_file(run)).is_file()] == []


def test_only_failures_still_make_a_report(tmp_path: Path) -> None:
    with Store.open(tmp_path / "results.db", create=True) as store:
        store.ingest(made.failure("broken", message="ValueError: <b>& no"))
        page = render.write(store, tmp_path / "reports")
    assert ">failed</a>" in page.read_text()
    assert "ValueError: &lt;b&gt;&amp; no" in (page.parent / "glyphs-5w1s.html").read_text()


def test_a_locked_database_is_one_clear_error(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.store.connection.BUSY_SECONDS", 0.2)
    holder = sqlite3.connect(database, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(StoreError, match="another process"):
            _write(database, tmp_path / "reports")
    finally:
        holder.execute("ROLLBACK")
        holder.close()
    assert not (tmp_path / "reports").exists()


HOSTILE = ('<script>alert(1)</script>', '"><img src=x onerror=alert(1)>', "${{7*7}}", "../../etc/passwd", "a b/c", "Ω‮", "=1+1", "ProtoNet", "protonet")  # fmt: skip


def test_names_are_only_text_everywhere(tmp_path: Path) -> None:
    table = made.episode_table(30, names=[f"{HOSTILE[0]}{i}" for i in range(8)])
    with Store.open(tmp_path / "results.db", create=True) as store:
        for name in HOSTILE:
            store.ingest(
                made.result(
                    name, n_episodes=30, table=table, provenance={"badges": [HOSTILE[1]], "host": HOSTILE[0]}
                )
            )
        page = render.write(store, tmp_path / "reports")
        csv_text = render.export(store, "csv")
    assert len(list((page.parent / "method").iterdir())) == len(HOSTILE)
    for path in page.parent.rglob("*.html"):
        tags = _tags(path)
        assert "img" not in tags and tags.count("script") == 1, path
    assert all(p.resolve().is_relative_to(page.parent.resolve()) for p in page.parent.rglob("*"))
    assert {row["method"] for row in csv.DictReader(io.StringIO(csv_text))} == {*HOSTILE} - {"=1+1"} | {
        "'=1+1"
    }


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.found.append(tag)


def _tags(path: Path) -> list[str]:
    parser = _Tags()
    parser.feed(path.read_text())
    return parser.found


def test_every_page_forbids_what_it_does_not_need(database: Path, tmp_path: Path) -> None:
    for path in _write(database, tmp_path / "reports").parent.rglob("*.html"):
        policy = re.search(r'Content-Security-Policy" content="([^"]+)"', path.read_text())
        assert policy and "default-src 'none'" in policy[1] and "http" not in policy[1]
        script = re.search(r"script-src ([^;]+);", policy[1])
        assert script and "unsafe" not in script[1]


def test_exports_agree_with_each_other(database: Path) -> None:
    with Store.open(database) as store:
        texts = {form: render.export(store, form, ["glyphs-5w1s"]) for form in exports.FORMS}
    rows = list(csv.DictReader(io.StringIO(texts["csv"])))
    (table,) = json.loads(texts["json"])
    assert [row["method"] for row in rows] == [row["method"] for row in table["rows"]]
    assert [float(row["accuracy"]) for row in rows] == [row["accuracy"] for row in table["rows"]]
    n_ranked = sum(row["rank_low"] != "" for row in rows)
    assert [len(cells) for cells in table["pairs_p_adjusted"]] == list(range(n_ranked - 1, -1, -1))
    for row in rows:
        percent = f"{100 * float(row['accuracy']):.2f}"
        is_top = row["rank_low"] == "1"
        assert (f"| **{percent}** |" in texts["md"]) == is_top
        assert (f"\\mathbf{{{percent}}}" in texts["tex"]) == is_top
    assert texts["tex"].count(r"\toprule") == 1 and r"\textless{}script\textgreater{}" in texts["tex"]
    lines = [line for line in texts["md"].splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {11}


def test_a_row_has_the_same_words_and_values_in_the_terminal_and_in_the_exports(database: Path) -> None:
    with Store.open(database) as store:
        (exported,) = json.loads(render.export(store, "json", ["glyphs-5w1s"]))
        (table,) = tables(store, ["glyphs-5w1s"])
    printed = {tuple(row["runs"]): row for row in map(row_as_json, table.rows)}
    assert len(printed) == len(exported["rows"]) > 3
    for row in exported["rows"]:
        mine = printed[tuple(row["runs"])]
        shared = mine.keys() & row.keys()
        assert {
            "accuracy",
            "low_95",
            "high_95",
            "rank_low",
            "marks",
            "fit_seconds",
            "episodes",
            "seeds",
            "badges",
        } <= shared
        for name in shared:  # exports round to eight decimals
            is_number = isinstance(mine[name], float)
            assert row[name] == (pytest.approx(mine[name], abs=1e-8) if is_number else mine[name]), name


def test_the_front_page_exports_methods_by_settings_with_holes(database: Path, tmp_path: Path) -> None:
    folder = _write(database, tmp_path / "reports").parent
    rows = {
        row["label"]: row for row in csv.DictReader(io.StringIO((folder / "family-glyphs.csv").read_text()))
    }
    lines = {line["label"]: line for line in json.loads((folder / "family-glyphs.json").read_text())["rows"]}
    assert rows.keys() == lines.keys() and len(rows) == 7
    assert (
        rows["method-1"]["glyphs-5w5s accuracy"] == "" and lines["method-1"]["cells"]["glyphs-5w5s"] is None
    )
    assert (
        rows["broken"]["glyphs-5w1s rank"] == "failed" and "failed" in lines["broken"]["cells"]["glyphs-5w1s"]
    )
    for label, line in lines.items():
        cell = line["cells"]["glyphs-5w1s"]
        if cell and "accuracy" in cell:
            assert float(rows[label]["glyphs-5w1s accuracy"]) == cell["accuracy"]
    text, table = (folder / "family-glyphs.md").read_text(), (folder / "family-glyphs.tex").read_text()
    best = [
        line for line in lines.values() if ((line["cells"]["glyphs-5w1s"] or {}).get("rank") or [0])[0] == 1
    ]
    assert best and all(f"**{100 * line['cells']['glyphs-5w1s']['accuracy']:.2f}**" in text for line in best)
    assert table.count("textbf") == text.count("**") // 2 and "toprule" in table


def test_an_unknown_format_is_refused_with_the_nearest(database: Path) -> None:
    with (
        Store.open(database) as store,
        pytest.raises(ConfigError, match=r"known are csv, json, md, tex\. Did you mean `tex`"),
    ):
        render.export(store, "text")


def test_bibtex_holds_each_reference_once(tmp_path: Path) -> None:
    about = {"reference": "@inproceedings{snell2017, title={Prototypical}}"}
    with Store.open(tmp_path / "results.db", create=True) as store:
        store.ingest(made.result("a", provenance={"about": about}))
        store.ingest(made.result("b", provenance={"about": about}))
        page = render.write(store, tmp_path / "reports")
    assert (page.parent / "methods.bib").read_text() == about["reference"] + "\n"


def test_different_names_have_different_files() -> None:
    hostile = [*HOSTILE, "A b", "a-b", "a b", "CON", "."]
    files = [formats.slug(name) for name in hostile]
    assert len({file.lower() for file in files}) == len(hostile)
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", file) and not file.startswith(".") for file in files)


def test_a_figure_has_tooltips_page_colours_and_no_font() -> None:
    with svg.style():
        made_figure = svg.figure(2, 1)
        axes = made_figure.add_subplot()
        axes.plot([1, 2], [1, 2], "o", color=svg.SERIES[1], gid="m0", label="$x$")
        axes.set_title("$x_1$ & <b>")
        text = str(svg.draw(made_figure, "test", 'a "picture"', {"m0": "<two> & points"}))
    assert "<title>&lt;two&gt; &amp; points</title>" in text and "var(--s2)" in text
    assert "$x_1$ &amp; &lt;b&gt;" in text and 'aria-label="a &quot;picture&quot;"' in text
    assert "font-family" not in text and "#0" not in text and "<metadata" not in text


def test_the_report_is_made_without_torch(database: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from harness.store import Store; from harness.report import render;"
        "render.write(Store.open(sys.argv[1]), Path(sys.argv[2])); print('torch' in sys.modules)"
    )
    words = [sys.executable, "-c", code, database, tmp_path / "reports"]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip() == "False"


def test_the_fingerprint_sees_code_as_well_as_results(
    database: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with Store.open(database) as store:
        before = site.fingerprint(store, [], None)
        assert site.fingerprint(store, map(site.run_digest, render.stored_runs(store)), None) != before
        template = tmp_path / "extra.j2"
        template.write_text("{{ new }}")
        monkeypatch.setattr(site, "_sources", lambda: [template])
        assert site.fingerprint(store, [], None) != before
