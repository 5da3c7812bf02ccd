"""Globs name what there is, prepared or not: a plan lists what it goes past, a run does the rest and says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from prompt import Prompt


@pytest.fixture(scope="module")
def prompt(tmp_path_factory: pytest.TempPathFactory) -> Prompt:
    folder: Path = tmp_path_factory.mktemp("home")
    return Prompt(folder, folder / "data")


def test_a_plan_of_everything_lists_what_is_not_prepared_with_its_command(prompt: Prompt) -> None:
    code, said = prompt.type("run", "-m", "pixels", "-b", "*", "--dry-run")
    assert code == 0 and "glyphs-20w1s" in said
    [line] = [line for line in said.splitlines() if line.startswith("not prepared: omniglot-")][:1]
    assert "`fsbench prepare omniglot" in line
    code, said = prompt.type("run", "-m", "*", "-b", "*", "--dry-run", "--json")
    rows = json.loads(said[said.index("[\n") :])
    assert {row["state"] for row in rows} == {"new", "not prepared", "does not fit"}
    assert all(bool(row["reason"]) == (row["state"] != "new") for row in rows)
    assert len({frozenset(row) for row in rows}) == 1  # the same keys everywhere
    assert {row["method"] for row in rows if row["state"] == "does not fit" and "joint" in row["reason"]} >= {
        "bml"
    }


def test_a_run_of_a_glob_does_what_is_prepared_and_ends_with_four(prompt: Prompt) -> None:
    code, said = prompt.type("run", "-m", "pixels", "-b", "glyphs-5w1s,mini-*", "--episodes", "20")
    assert code == 4 and "not prepared: mini-" in said and "`fsbench prepare mini" in said
    assert "glyphs-5w1s" in prompt.type("leaderboard")[1]


def test_a_run_of_which_nothing_is_prepared_ends_with_three(prompt: Prompt) -> None:
    code, said = prompt.type("run", "-m", "pixels", "-b", "mini-*")
    assert code == 3 and "mini is not prepared" in said
    assert prompt.type("run", "-m", "pixels", "-b", "mini-*", "--dry-run")[0] == 0


def test_methods_of_another_protocol_leave_nothing_undone(prompt: Prompt) -> None:
    code, said = prompt.type("run", "-m", "pix*,neg-c*", "-b", "glyphs-lowshot-n1")
    assert code == 0 and "does not fit: neg-cosine on glyphs-lowshot-n1. " in said
