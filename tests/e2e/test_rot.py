"""Rot in a real home: no number comes from it, `fsbench fsck` names it, and the commands that it gives make all of it again."""

from __future__ import annotations

import json
import random
import shlex
import shutil
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from scratch_home import TINY, Home

RUN = ["run", "-m", "protonet", "-b", "glyphs-5w1s", "--episodes", "60", *TINY]
OTHER = ["run", "-m", "protonet", "-b", "glyphs-5w5s", "--episodes", "60", *TINY]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with one run, which no test changes."""
    home = Home(tmp_path_factory.mktemp("made") / "home", tmp_path_factory.mktemp("data"))
    home.run(*RUN)
    return home


@pytest.fixture
def home(made: Home, tmp_path: Path) -> Home:
    """A copy of it."""
    shutil.copytree(made.folder, tmp_path / "home")
    return Home(tmp_path / "home", made.data)


def zero_an_eighth(home: Home) -> None:
    [table] = (home.folder / "cache/features").glob("*/table.f32")
    with table.open("r+b") as file:
        size = file.seek(0, 2)
        file.seek(0)
        file.write(bytes(size // 8))


def found(home: Home, *words: str, code: int) -> dict[str, dict[str, Any]]:
    """What fsck says, by kind; notes left out."""
    rows = json.loads(home.run("fsck", *words, "--json", code=code).stdout)
    return {row["kind"]: row for row in rows if row["level"] != "note"}


@pytest.mark.nightly
def test_a_zeroed_table_gives_no_number_and_is_made_again(home: Home, made: Home, tmp_path: Path) -> None:
    whole = Home(tmp_path / "whole", made.data)
    shutil.copytree(made.folder, whole.folder, dirs_exist_ok=True)
    whole.run(*OTHER)
    before = home.counts()
    zero_an_eighth(home)
    said = home.run(*OTHER, code=3).stderr
    assert "rows have other bytes" in said and "`fsbench fsck --repair`" in said
    assert home.counts() == before, "nothing was stored"
    assert found(home, code=3).keys() == {"feature table"}
    assert found(home, "--repair", code=0)["feature table"]["repaired"].startswith("moved to")
    assert found(home, code=0) == {}
    home.run(*OTHER)
    assert home.counts() == whole.counts()


def test_the_command_for_a_rotten_checkpoint_makes_it_again(home: Home) -> None:
    before = home.counts()
    [weights] = (home.folder / "cache/fits").glob("*/fit.pt")
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    again = found(home, "--repair", code=0)["checkpoint"]["again"]
    assert not weights.exists()
    home.run(*shlex.split(again)[1:])
    assert weights.exists() and home.counts() == before
    assert found(home, code=0) == {}


def test_edited_counts_are_noticed_and_come_back(home: Home) -> None:
    before = home.counts()
    with sqlite3.connect(home.folder / "results.db") as db:
        db.execute("UPDATE result SET n_correct = n_query")
    assert any(row["level"] == "error" and row["what"].startswith("row") for row in home.json("doctor"))
    assert found(home, code=3).keys() == {"row"}
    said = home.run("fsck", "--repair").stdout
    assert "stored again from" in said
    assert home.counts() == before
    assert "all that is kept is what was written" in home.run("fsck").stdout


def test_a_deleted_row_is_out_of_everything_until_it_is_restored(home: Home) -> None:
    [run_id] = home.run_ids()
    home.run("runs", "delete", run_id, "--because", "a bug")
    assert home.json("leaderboard") == home.json("runs") == []
    home.run("collect")
    assert home.json("runs") == []
    assert f"`fsbench runs restore {run_id}`" in home.run("show", run_id, code=2).stderr
    assert f"`fsbench runs restore {run_id}`" in home.run(*RUN).stderr
    home.run("runs", "restore", run_id)
    [row] = home.json("leaderboard")
    assert row["runs"] == [run_id]
    home.run("runs", "delete", run_id)
    assert "1 deleted results are purged" in home.run("fsck", "--purge").stderr
    assert not (home.folder / "runs" / run_id).exists()
    home.run("collect")
    assert home.json("runs", "--deleted") == home.json("runs") == []


@pytest.mark.nightly
def test_killed_at_any_moment_it_loses_nothing(home: Home) -> None:
    before, rng = home.counts(), random.Random(0)
    zero_an_eighth(home)
    with sqlite3.connect(home.folder / "results.db") as db:
        db.execute("UPDATE result SET n_correct = n_query")
    started = time.monotonic()
    found(home, code=3)
    longest = time.monotonic() - started
    for _ in range(4):
        process = home.start("fsck", "--repair")
        time.sleep(rng.uniform(0.4, 1) * longest)
        process.kill()
        process.communicate()
    home.run("fsck", "--repair")
    home.run("collect")
    assert home.counts() == before
    assert found(home, code=0) == {}
    assert list((home.folder / "cache/quarantine/features").iterdir())
