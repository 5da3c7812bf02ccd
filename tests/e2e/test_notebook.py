"""From Python: the answers of the commands, as tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from made_up_results import fill
from scratch_home import Home

import harness
from harness.errors import ConfigError, DataError, StoreError
from harness.store import Store

PIXELS = {"method": "pixels", "bench": "glyphs-5w1s"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    made = Home(tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("data"))
    with Store.open(made.folder / "results.db", create=True) as store:
        fill(store)
    return made


def test_rows_are_those_of_the_command(home: Home) -> None:
    frame = harness.results(home=home.folder)
    assert frame.to_dict("records") and len(frame) == len(home.json("leaderboard"))
    assert list(frame["accuracy"]) == [row["accuracy"] for row in home.json("leaderboard")]
    some = harness.results(method=frame["method"][0], home=home.folder)
    assert 0 < len(some) < len(frame)
    with pytest.raises(ConfigError):
        harness.results("no-such-setting", home=home.folder)


def test_episodes_average_to_the_row(home: Home) -> None:
    row = harness.results(home=home.folder).iloc[-1]
    frames = [harness.episodes(run, home=home.folder) for run in row["runs"]]
    means = [frame[frame["metric"] == row["metric"]]["accuracy"].mean() for frame in frames]
    assert np.mean(means) == pytest.approx(row["accuracy"], abs=1e-12)


def test_a_comparison_is_that_of_the_command(home: Home) -> None:
    a, b = harness.results("glyphs-5w1s", home=home.folder)["method"][:2]
    frame = harness.compare(a, b, "glyphs-5w1s", home=home.folder)
    process = home.start("compare", a, b, "-b", "glyphs-5w1s")
    assert frame["sentence"][0] in process.communicate()[0]


def test_a_run_is_made_once(tmp_path: Path, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FSBENCH_DATA", str(home.data))
    monkeypatch.setenv("FSBENCH_CACHE", str(tmp_path / "cache"))
    first = harness.run(**PIXELS, seeds=range(2), episodes=20, home=tmp_path)
    assert first["episodes"][0] == 20 and first["seeds"][0] == [0, 1]
    assert harness.run(**PIXELS, seeds=range(2), episodes=20, home=tmp_path)["runs"][0] == first["runs"][0]
    with pytest.raises(ConfigError, match=r"no option episode.*Did you mean `episodes`"):
        harness.run(**PIXELS, episode=20, home=tmp_path)


def test_what_cannot_be_run_is_told_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A glob over sets that are not prepared; weights that are not there, or come without a word on what they saw."""
    monkeypatch.setenv("FSBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("FSBENCH_CACHE", str(tmp_path / "cache"))
    with pytest.raises(DataError, match="prepare"):
        harness.run("pixels", "cub-feat-5*", home=tmp_path / "home")
    with pytest.raises(ConfigError):
        harness.run(
            "protonet", "glyphs-5w1s", weights=str(tmp_path / "no.pth"), seen="mini", home=tmp_path / "home"
        )
    assert not (tmp_path / "home").exists()


def test_no_database_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        harness.results(home=tmp_path)


def test_the_notebook_of_the_documentation_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its code cells, one after the other, on the database of the checkout."""
    root = Path(__file__).parents[2]
    monkeypatch.setenv("FSBENCH_HOME", str(root))
    cells = json.loads((root / "docs/results.ipynb").read_text())["cells"]
    names: dict[str, object] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    assert len(names["rows"]) > 10 and "fsbench" not in capsys.readouterr().err  # type: ignore[arg-type]
