"""The joint protocol through the command line: six numbers a run, paired over experiments, on drawn and on real images."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., subprocess.CompletedProcess[str]]
SIX = ["top1/novel", "top5/novel", "top1/base", "top5/base", "top1/all", "top5/all"]
N_BASE, N_NOVEL = 31, 49  # glyphs asked in the test half


@pytest.fixture(scope="module")
def fsbench(tmp_path_factory: pytest.TempPathFactory) -> Command:
    """The command line in a home of this file."""
    home = tmp_path_factory.mktemp("joint")
    places = {"FSBENCH_HOME": home, "FSBENCH_DATA": home / "data", "FSBENCH_CACHE": home / "cache"}

    def run(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **{k: str(v) for k, v in places.items()}}
        done = subprocess.run(
            [sys.executable, "-m", "fsbench", *words],
            env=environment,
            capture_output=True,
            text=True,
            timeout=500,
        )
        assert done.returncode == code, f"{words} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done

    return run


@pytest.fixture(scope="module")
def rows(fsbench: Command) -> dict[str, dict[str, object]]:
    """Rows of pixels and of a nearest-mean trained for one epoch, by method."""
    words = ["run", "-b", "glyphs-lowshot-n1", "--json"]
    pixels = json.loads(fsbench(*words, "-m", "pixels").stdout)
    short = json.loads(fsbench(*words, "-m", "nearest-mean", "--set", "epochs=1").stdout)
    return {row["method"]: row for row in (*pixels, *short)}


def test_a_run_has_five_experiments_and_six_numbers(rows: dict[str, dict[str, object]]) -> None:
    for row in rows.values():
        numbers = row["metrics"]
        assert row["episodes"] == 5 and isinstance(numbers, dict) and list(numbers) == SIX
        assert row["metric"] == "top5/novel" and row["accuracy"] == pytest.approx(numbers["top5/novel"])
        for top in ("top1", "top5"):
            mixed = N_BASE * numbers[f"{top}/base"] + N_NOVEL * numbers[f"{top}/novel"]
            assert numbers[f"{top}/all"] == pytest.approx(mixed / (N_BASE + N_NOVEL), abs=1e-12)
        assert numbers["top1/all"] > 3 / (N_BASE + N_NOVEL)  # three times chance


def test_the_run_is_shown_with_class_means_and_by_class(
    fsbench: Command, rows: dict[str, dict[str, object]]
) -> None:
    run = str(rows["pixels"]["runs"][0])  # type: ignore[index]
    shown = json.loads(fsbench("show", run, "--json").stdout)
    assert set(shown["accuracy"]) == set(shown["class_means"]) == set(SIX)
    assert shown["class_means"] == pytest.approx(shown["accuracy"])  # every class has ten queries
    by_class = json.loads(fsbench("show", run, "--by", "class", "--json").stdout)
    assert len(by_class) == N_BASE + N_NOVEL and {line["n_query"] for line in by_class} == {50}
    assert sum(line["n_correct"] for line in by_class) / (50 * len(by_class)) == pytest.approx(
        shown["accuracy"]["top5/all"]
    )


def test_rows_are_paired_over_experiments(fsbench: Command, rows: dict[str, dict[str, object]]) -> None:
    assert set(rows) == {"pixels", "nearest-mean"}
    pair = json.loads(fsbench("compare", "nearest-mean", "pixels", "--json").stdout)[0]
    assert pair["n_episodes"] == 5 and "5 paired experiments" in pair["sentence"]
    assert (pair["verdict"], pair["reason"]) == ("undecided", "no training was repeated")
    words = ("compare", "nearest-mean", "pixels", "--scope", "checkpoints", "--json")
    assert json.loads(fsbench(*words, code=1).stdout)[0]["verdict"] == "better"


def test_tables_and_pages_hold_the_six_numbers(fsbench: Command, rows: dict[str, dict[str, object]]) -> None:
    table = fsbench("leaderboard").stdout
    assert all(name in table for name in SIX) and "experiments" in table
    lines = list(csv.DictReader(io.StringIO(fsbench("report", "--format", "csv").stdout)))
    numbers = rows["pixels"]["metrics"]
    assert isinstance(numbers, dict)
    mine = next(line for line in lines if line["method"] == "pixels")
    assert {name: float(mine[name]) for name in SIX} == pytest.approx(numbers, abs=1e-8)
    page = Path(fsbench("report").stdout.strip()).parent / "glyphs-lowshot-n1.html"
    assert all(f">{name}</th>" in page.read_text() for name in SIX)


def test_halves_share_the_training(fsbench: Command) -> None:
    plans = json.loads(
        fsbench(
            "run",
            "-m",
            "nearest-mean",
            "-b",
            "glyphs-lowshot-n1,glyphs-lowshot-val-n5",
            "--dry-run",
            "--json",
        ).stdout
    )
    assert len({plan["fit"] for plan in plans}) == 1 and len({plan["run"] for plan in plans}) == 2


def test_the_list_is_exported(fsbench: Command) -> None:
    exported = json.loads(fsbench("episodes", "glyphs-lowshot-n2", "--json").stdout)
    assert len(exported["episodes"]) == 5 and len(exported["asked"]) == N_BASE + N_NOVEL
    assert {len(shots) for e in exported["episodes"] for shots in e["support"]} == {2}
    assert len(exported["base_support"]) == 30 * N_BASE and len(exported["classes"]) == 160
    assert "lists are as locked" in fsbench("episodes", "--check").stdout


def test_what_cannot_be_run_says_why(fsbench: Command) -> None:
    beyond = fsbench("run", "-m", "pixels", "-b", "glyphs-lowshot-n25", code=2).stderr
    assert "draw 1 to 20 images" in beyond and "glyphs-lowshot-n20" in beyond
    other = fsbench("run", "-m", "protonet", "-b", "glyphs-lowshot-n1", code=2).stderr
    assert "protonet speaks the episodic protocol" in other
    assert (
        "its settings are glyphs-lowshot-n1"
        in fsbench("run", "-m", "pixels", "-b", "glyphs-lowshot-5w1s", code=2).stderr
    )
    assert (
        "list of glyphs-lowshot-n1 has 5 episodes"
        in fsbench("run", "-m", "pixels", "-b", "glyphs-lowshot-n1", "--episodes", "6", code=2).stderr
    )


@pytest.mark.real_data
def test_real_drawings(fsbench: Command, shared_path: Callable[[str], Path]) -> None:
    """Lake's small sets; a short training is far above raw pixels on novel characters at one drawing each.

    The six numbers of the worked example of this protocol (a network trained for 30 epochs): novel top-1 42, base 81.
    """
    fsbench("prepare", "omniglot", "--source", str(shared_path("data/omniglot")))
    words = ["run", "-b", "omniglot-small-lowshot-n1", "--json"]
    pixels = json.loads(fsbench(*words, "-m", "pixels").stdout)[0]["metrics"]
    trained = json.loads(fsbench(*words, "-m", "nearest-mean", "--set", "epochs=3").stdout)[0]["metrics"]
    assert list(pixels) == SIX and pixels["top1/base"] > 5 / 121  # chance is one of 121
    assert trained["top1/novel"] > pixels["top1/novel"] + 0.1
    assert trained["top5/all"] > 0.5
