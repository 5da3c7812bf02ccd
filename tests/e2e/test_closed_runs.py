"""The closed-set protocol through the command line: one number a run, paired over test images, from training to page."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., subprocess.CompletedProcess[str]]
N_TEST, N_CLASSES = 1_920, 96


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("closed")


@pytest.fixture(scope="module")
def fsbench(home: Path) -> Command:
    """The command line in a home of this file."""
    places = {"FSBENCH_HOME": home, "FSBENCH_DATA": home / "data", "FSBENCH_CACHE": home / "cache"}

    def run(*words: str, code: int = 0, **other: Path) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **{k: str(v) for k, v in {**places, **other}.items()}}
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
    """Rows of pixels, twice, and of a nearest mean trained for two epochs, by method."""
    words = ["run", "-b", "glyphs-closed", "--json"]
    pixels = json.loads(fsbench(*words, "-m", "pixels", "--seeds", "0-1").stdout)
    short = json.loads(fsbench(*words, "-m", "nearest-mean", "--set", "epochs=2").stdout)
    return {row["method"]: row for row in (*pixels, *short)}


def test_a_run_asks_every_test_image_once(fsbench: Command, rows: dict[str, dict[str, object]]) -> None:
    for row in rows.values():
        assert (row["metric"], row["episodes"]) == ("top1/test", N_TEST)
        assert 5 / N_CLASSES < float(row["accuracy"]) < 1  # type: ignore[arg-type]
    runs = rows["nearest-mean"]["runs"]
    assert isinstance(runs, list)
    shown = json.loads(fsbench("show", runs[0], "--json").stdout)
    assert shown["spec"]["shot"] == 0 and shown["class_means"] == {}
    assert 0 < shown["provenance"]["selection"]["validation_accuracy"] < 1  # chosen on the validation images
    by_class = json.loads(fsbench("show", runs[0], "--by", "class", "--json").stdout)
    assert len(by_class) == N_CLASSES and {line["n_query"] for line in by_class} == {20}
    assert sum(line["n_correct"] for line in by_class) / N_TEST == pytest.approx(
        shown["accuracy"]["top1/test"]
    )
    assert f"{N_TEST:,} test images of {N_CLASSES} classes" in fsbench("show", runs[0]).stdout


def test_the_interval_of_an_untrained_row_is_the_binomial_one(rows: dict[str, dict[str, object]]) -> None:
    row = rows["pixels"]
    m, low, high = (float(row[name]) for name in ("accuracy", "low_95", "high_95"))  # type: ignore[arg-type]
    half = 1.96 * (m * (1 - m) / N_TEST) ** 0.5
    assert (high - low) / 2 == pytest.approx(half, rel=0.03)  # Student and score form move it by less


def test_rows_are_paired_over_images(fsbench: Command, rows: dict[str, dict[str, object]]) -> None:
    assert len(rows) == 2
    pair = json.loads(
        fsbench("compare", "nearest-mean", "pixels", "--scope", "checkpoints", "--json").stdout
    )[0]
    assert pair["n_episodes"] == N_TEST and f"{N_TEST:,} paired images" in pair["sentence"]
    cells = ("both_right", "only_a_wrong", "only_b_wrong", "both_wrong")
    assert sum(pair["overlap"][cell] for cell in cells) == N_TEST


def test_more_test_images_than_there_are_cannot_be_asked(fsbench: Command) -> None:
    said = fsbench("run", "-m", "pixels", "-b", "glyphs-closed", "--episodes", "2000", code=2).stderr
    assert "the list of glyphs-closed has 1920 episodes" in " ".join(said.split())


def test_pages_exports_and_lists_speak_of_images(
    fsbench: Command, rows: dict[str, dict[str, object]]
) -> None:
    assert "glyphs-closed" in fsbench("leaderboard").stdout
    page = (Path(fsbench("report").stdout.strip()).parent / "glyphs-closed.html").read_text()
    assert (
        f"{N_CLASSES} classes that were trained on, each test image asked once; {N_TEST:,} test images"
        in page
    )
    assert "other images of these classes" in page and "Worst 10%" not in page and "novel" not in page
    table = json.loads(fsbench("report", "--format", "json").stdout)[0]
    assert table["setting"] == "glyphs-closed" and all(row["worst_10"] is None for row in table["rows"])
    listed = json.loads(fsbench("episodes", "glyphs-closed", "--json").stdout)
    assert len(listed["query"]) == N_TEST and len(listed["base_support"]) == 10 * N_CLASSES
    assert f"{N_TEST:,} test images of {N_CLASSES} classes" in fsbench("episodes", "glyphs-closed").stdout


def test_results_travel_and_are_counted_again(
    fsbench: Command, home: Path, rows: dict[str, dict[str, object]], tmp_path: Path
) -> None:
    runs = rows["nearest-mean"]["runs"]
    assert isinstance(runs, list)
    assert "4 episodes counted again, 0 differ" in fsbench("recheck", runs[0], "--episodes", "4").stdout
    bundle = str(home / "all.tar.zst")
    fsbench("export", "all", bundle)  # two seeds of pixels have equal counts
    other = fsbench("import", bundle, FSBENCH_HOME=tmp_path).stdout
    assert re.search(r"[34] new", other)
    assert "all that is kept is what was written" in fsbench("fsck").stdout


def test_what_cannot_be_asked_says_why(fsbench: Command) -> None:
    said = fsbench("run", "-m", "protonet", "-b", "glyphs-closed", code=2).stderr
    assert "speaks the episodic protocol; glyphs-closed is closed" in " ".join(said.split())
    said = fsbench("run", "-m", "pixels", "-b", "glyphs-closed-5w1s", code=2).stderr
    assert "its settings are glyphs-closed" in " ".join(said.split())
