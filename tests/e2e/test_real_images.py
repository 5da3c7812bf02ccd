"""The main job on real images: Lake's small sets, the 20 official one-shot runs, and CIFAR-10 photographs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.real_data
Command = Callable[..., str]


@pytest.fixture(scope="module")
def fsbench(shared_path: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Command:
    """The command line in a home where the small sets are prepared."""
    home = tmp_path_factory.mktemp("omniglot")
    places = {"FSBENCH_HOME": home, "FSBENCH_DATA": home / "data", "FSBENCH_CACHE": home / "cache"}

    def run(*words: str) -> str:
        environment = {**os.environ, **{k: str(v) for k, v in places.items()}}
        command = [sys.executable, "-m", "fsbench", *words]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True, timeout=500
        ).stdout

    run("prepare", "omniglot", "--source", str(shared_path("data/omniglot")))
    return run


def test_pixels_err_on_the_official_runs_as_published(fsbench: Command) -> None:
    """Nearest neighbour on 28×28 area-averaged pixels makes 79.25% errors on the 400 decisions (317 wrong)."""
    row = json.loads(fsbench("run", "-m", "pixels", "-b", "omniglot-lake-20w1s-small1", "--json"))[0]
    assert row["episodes"] == 20
    assert row["accuracy"] == pytest.approx(1 - 0.7925, abs=1e-12)


def test_the_official_runs_are_the_list_exactly_as_published(fsbench: Command) -> None:
    exported = json.loads(fsbench("episodes", "omniglot-lake-20w1s-small1", "--json"))
    first = exported["episodes"][0]
    assert [exported["classes"][c] for c in first["classes"]] == [
        f"run01/character{c:02d}" for c in range(1, 21)
    ]
    assert first["support"] == [[2 * c] for c in range(20)] and first["query"] == [
        [2 * c + 1] for c in range(20)
    ]
    assert len(exported["episodes"]) == 20


def test_a_short_training_beats_pixels_on_new_alphabets(fsbench: Command) -> None:
    """Forty episodes of 60-way training; pixels reach 46%, and far more than that is asked with a wide margin."""
    fsbench("run", "-m", "pixels", "-b", "omniglot-small-5w1s")
    short = ["--set", "epochs=2", "--set", "episodes_per_epoch=20"]
    row = json.loads(fsbench("run", "-m", "protonet", "-b", "omniglot-small-5w1s", *short, "--json"))[0]
    assert row["accuracy"] > 0.60
    assert fsbench("verify", "omniglot-small").count("error") == 0


def test_real_photographs_become_a_benchmark(fsbench: Command, shared_path: Callable[[str], Path]) -> None:
    """CIFAR-10's photographs, imported as a user's folder; pixels are above chance and far from solved."""
    said = fsbench(
        "import-folder", str(shared_path("data/cifar10-600.zip")), "--name", "cifar10", "--size", "32"
    )
    assert "cifar10-5w1s, cifar10-5w5s" in said
    row = json.loads(fsbench("run", "-m", "pixels", "-b", "cifar10-5w1s", "--episodes", "600", "--json"))[0]
    assert 0.25 < row["accuracy"] < 0.35
