"""Small habits: the version, words that a shell completes, defaults of a home, filters of the tables."""

from __future__ import annotations

from importlib.metadata import version

import pytest
from made_up_results import fill
from scratch_home import Home

from harness.store import Store


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    made = Home(tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("data"))
    with Store.open(made.folder / "results.db", create=True) as store:
        fill(store)
    return made


def test_the_version_is_said(home: Home) -> None:
    assert home.run("--version").stdout == f"fsbench {version('fsbench')}\n"


@pytest.mark.parametrize(
    ("words", "number", "found"),
    [
        ("fsbench leader", 1, "leaderboard"),
        ("fsbench run -m pixels,proton", 3, "pixels,protonet"),
        ("fsbench run -m pixels -b glyphs-5w1", 5, "glyphs-5w1s"),
    ],
)
def test_a_shell_completes_commands_methods_and_settings(
    home: Home, words: str, number: int, found: str
) -> None:
    asked = Home(
        home.folder, home.data, _FSBENCH_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(number)
    )
    import subprocess
    import sys

    answer = subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv = ['fsbench']; import fsbench; fsbench.main()"],
        env=asked.environment, capture_output=True, text=True, cwd=home.folder, check=False,
    )  # fmt: skip
    assert found in answer.stdout.split()


def test_defaults_of_the_home_are_used_and_shown(home: Home) -> None:
    file = home.folder / "fsbench.toml"
    file.write_text('[run]\nseeds = "0-1"\nepisodes = 60\n[run.set]\nepochs = 2\n')
    try:
        plan = home.json("run", "-m", "protonet", "-b", "glyphs-5w1s", "--dry-run")
        assert [row["seed"] for row in plan] == [0, 1] and plan[0]["config"]["epochs"]["value"] == 2
        (typed,) = home.json(
            "run", "-m", "protonet", "-b", "glyphs-5w1s", "--seeds", "3", "--set", "epochs=3", "--dry-run"
        )
        assert typed["seed"] == 3 and typed["config"]["epochs"]["value"] == 3
        told = home.run("config").stdout
        assert "--seeds" in told and "0-1" in told and "epochs=2" in told
        file.write_text("[rn]\n")
        assert "Did you mean `run`" in home.run("methods", code=2).stderr
    finally:
        file.unlink()
    assert "No defaults" in home.run("config").stdout


def test_rows_are_filtered_by_what_they_are(home: Home) -> None:
    every = home.json("leaderboard")
    name, backbone = every[0]["method"], every[0]["backbone"]
    some = home.json("leaderboard", "-m", f"{name[:-1]}*", "--backbone", backbone, "--seed", "0")
    assert some and len(some) < len(every) and all(0 in row["seeds"] for row in some)
    assert {row["rank_low"] for row in some} <= {row["rank_low"] for row in every}
    assert home.json("leaderboard", "--badge", "self-reported", "-m", "nobody") == []
    assert "No row is like that" in home.run("leaderboard", "-m", "nobody").stdout
    of_seed = home.json("runs", "--seed", "0")
    assert of_seed and all(row["seed"] == 0 for row in of_seed)
    assert home.json("runs", "--backbone", "nothing") == []


def test_an_experiment_file_is_run_in_part_and_gone_on_with(tmp_path_factory: pytest.TempPathFactory) -> None:
    home = Home(tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("data"))
    file = home.folder / "paper.toml"
    file.write_text(
        'method = "pixels"\nseeds = "0-1"\nepisodes = 20\n[[run]]\nbench = "glyphs-5w1s"\n[[run]]\nbench = "glyphs-5w5s"\n'
    )
    assert len(home.json("run", str(file), "--dry-run")) == 4
    home.run("run", str(file), "-b", "*1s")
    assert len(home.run_ids()) == 2
    assert "is in the database already" in home.run("run", str(file)).stderr
    assert len(home.run_ids()) == 4
    assert "Say what to run" in home.run("run", code=2).stderr
