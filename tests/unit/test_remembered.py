"""Answers are given again only while nothing that they rest on has changed."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path
from typing import Any

import made_up_results as made
import pytest

from harness.report import remembered as module
from harness.report.remembered import remembered
from harness.store import Store
from harness.system.folders import Places


@pytest.fixture
def places(tmp_path: Path) -> Places:
    with Store.open(tmp_path / "results.db", create=True) as store:
        store.ingest(made.result())
    return Places(tmp_path, tmp_path / "data", tmp_path / "cache", str(tmp_path / "results.db"))


class Counting:
    """Makes an answer, and counts how often it was asked."""

    def __init__(self) -> None:
        self.n = 0

    def __call__(self) -> dict[str, Any]:
        self.n += 1
        logging.getLogger("fsbench.board").warning("left out: row %d", self.n)
        return {"rows": [1.5, None, "ä"], "n": (self.n, 2)}


def test_an_answer_is_given_again_with_its_warnings(places: Places, caplog: pytest.LogCaptureFixture) -> None:
    make = Counting()
    first = remembered(places, ["leaderboard"], make)
    caplog.clear()
    assert remembered(places, ["leaderboard"], make) == first == {"rows": [1.5, None, "ä"], "n": [1, 2]}
    assert make.n == 1 and caplog.messages == ["left out: row 1"]
    remembered(places, ["leaderboard", "glyphs-*"], make)
    assert make.n == 2


def test_a_committed_write_and_a_row_edited_by_hand_make_it_anew(places: Places) -> None:
    make = Counting()
    remembered(places, ["leaderboard"], make)
    with Store.open(places.db) as store:
        store.ingest(made.result("pixels"))
    remembered(places, ["leaderboard"], make)
    assert make.n == 2
    with sqlite3.connect(places.db) as db:
        db.execute("UPDATE result SET n_correct = 0 WHERE episode = 3")
    db.close()
    remembered(places, ["leaderboard"], make)
    assert make.n == 3


def test_a_benchmark_of_the_user_and_our_own_files_are_part_of_the_question(
    places: Places, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make = Counting()
    remembered(places, ["leaderboard"], make)
    (places.data / "benchmarks").mkdir(parents=True)
    (places.data / "benchmarks" / "mine.toml").write_text("x = 1")
    remembered(places, ["leaderboard"], make)
    assert make.n == 2
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "stats.py").write_text("")
    monkeypatch.setattr(module, "_HARNESS", tmp_path / "ours")
    remembered(places, ["leaderboard"], make)
    (tmp_path / "ours" / "stats.py").write_text("changed = True")
    remembered(places, ["leaderboard"], make)
    assert make.n == 4


def test_what_other_processes_compile_and_remove_meanwhile_changes_nothing(
    places: Places, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make, ours = Counting(), tmp_path / "ours"
    (ours / "__pycache__").mkdir(parents=True)
    (ours / "stats.py").write_text("")
    monkeypatch.setattr(module, "_HARNESS", ours)
    remembered(places, ["leaderboard"], make)
    (ours / "__pycache__" / "stats.nbc.tmp.1").write_text("half a function")
    remembered(places, ["leaderboard"], make)
    assert make.n == 1
    listed = [*module._files(places.data), str(ours / "gone.toml")]
    monkeypatch.setattr(module, "_files", lambda _: listed)
    for _ in range(2):
        remembered(places, ["leaderboard"], make)
    assert make.n == 2


def test_a_write_meanwhile_keeps_nothing(places: Places) -> None:
    def make() -> str:
        with Store.open(places.db) as store:
            store.ingest(made.result("pixels"))
        return "of before"

    remembered(places, ["leaderboard"], make)
    assert not (places.cache / "answers").exists()


def test_servers_missing_databases_and_damaged_answers_are_asked_anew(places: Places) -> None:
    make = Counting()
    for db in ("postgresql://host/x", str(places.home / "absent.db")):
        other = Places(places.home, places.data, places.cache, db)
        remembered(other, ["leaderboard"], make)
    assert make.n == 2 and not (places.cache / "answers").exists()
    remembered(places, ["leaderboard"], make)
    [kept] = (places.cache / "answers").iterdir()
    for damaged in ("", "[]", '{"warnings": []}'):
        kept.write_text(damaged)
        remembered(places, ["leaderboard"], make)
    assert make.n == 6


def test_old_answers_are_forgotten(places: Places) -> None:
    make = Counting()
    for i in range(40):
        remembered(places, ["leaderboard", str(i)], make)
    assert len(list((places.cache / "answers").iterdir())) == 32
