"""The switches of the training engine, through the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from scratch_home import TINY, Home

RUN = ["run", "-m", "protonet", "-b", "glyphs-5w1s", "--episodes", "60", *TINY]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    folder = tmp_path_factory.mktemp("engine")
    return Home(folder / "home", folder / "data")


def test_a_selection_on_novel_classes_has_a_badge_and_a_row_of_its_own(home: Home) -> None:
    home.run(*RUN)
    [row] = home.json(*RUN, "--select-on", "novel")
    assert "test-selected" in row["badges"]
    assert len(home.run_ids()) == 2
    stored = home.json("show", row["runs"][0])
    assert stored["provenance"]["selection"]["of_states"] == 2


@pytest.mark.parametrize("words", [["--precision", "fp16"], ["--precision", "bf16"], ["--deterministic"]])
def test_a_run_ends_well_with(home: Home, words: list[str]) -> None:
    [row] = home.json(*RUN, *words, "--seeds", "7")
    assert 0.2 < row["accuracy"] < 1
    if words == ["--deterministic"]:
        assert home.json("show", row["runs"][-1])["provenance"]["deterministic"]


def test_an_unknown_selection_is_refused(home: Home, tmp_path: Path) -> None:
    assert "validation or on novel" in home.run(*RUN, "--select-on", "test", code=2).stderr
