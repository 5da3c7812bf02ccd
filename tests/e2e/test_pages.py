"""What runs keep for the pages, from the command line to the HTML: contract, pictures, hardness."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scratch_home import Home

PIXELS = ("run", "-m", "pixels", "--episodes", "150")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("data"))


def _page(home: Home, name: str) -> str:
    home.run("report")
    return (home.folder / "reports" / name).read_text()


def test_a_contract_that_was_checked_is_on_the_pages_of_later_runs(home: Home) -> None:
    home.run("check", "pixels")
    (row,) = home.json(*PIXELS, "-b", "glyphs-5w1s")
    assert "✓ The method keeps its contract" in _page(home, f"run/{row['runs'][0]}.html")
    method = (home.folder / "reports/method/pixels.html").read_text()
    assert (
        "by <code>fsbench check</code>" in method and "<code>fit_base</code> opens no novel image." in method
    )


def test_extreme_episodes_of_free_images_have_pictures(home: Home) -> None:
    (row,) = home.json(*PIXELS, "-b", "glyphs-5w1s")
    run = row["runs"][0]
    assert _page(home, f"run/{run}.html").count("data:image/png;base64,") > 30
    assert "thumbnails" not in home.run("show", run).stdout + home.run("show", run, "--json").stdout


@pytest.mark.nightly
def test_own_pictures_are_kept_only_when_asked(home: Home, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for number in range(18):
        folder = tmp_path / "birds" / f"bird{number:02d}"
        folder.mkdir(parents=True)
        for i in range(17):
            Image.fromarray(random.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    home.run("import-folder", str(tmp_path / "birds"), "--name", "birds", "--split", "6/6/6", "--size", "24")
    (row,) = home.json(*PIXELS, "-b", "birds-5w1s")
    page = f"run/{row['runs'][0]}.html"
    assert "data:image/png" not in _page(home, page)
    home.run(*PIXELS, "-b", "birds-5w1s", "--with-pictures", "--force")
    assert "data:image/png" in _page(home, page)
    (row,) = home.json("run", "-m", "pixels", "-b", "glyphs-5w5s", "--episodes", "50", "--no-pictures")
    assert "data:image/png" not in _page(home, f"run/{row['runs'][0]}.html")


def test_hardness_is_measured_once_and_shown(home: Home) -> None:
    (row,) = home.json(*PIXELS, "-b", "glyphs-5w1s")
    shorter = ("run", "-m", "pixels", "-b", "glyphs-5w1s", "--episodes", "149")
    (other,) = home.json(*shorter, "--dry-run")
    home.run(*shorter)
    words = ("hardness", "glyphs-5w1s", "--from", row["runs"][0], "--episodes", "150")
    assert "150 episodes, hardness" in home.run(*words).stdout
    home.run(*words)  # the same again changes nothing
    assert 'id="hardness"' in _page(home, "glyphs-5w1s.html")
    refused = home.run("hardness", "glyphs-5w1s", "--from", other["run"], "--episodes", "100", code=2)
    assert "is stored already" in refused.stderr and "--replace" in refused.stderr
    wrong = home.run("hardness", "glyphs-digits-5w1s", "--from", row["runs"][0], code=2)
    assert "other images" in wrong.stderr
    home.run("hardness", "glyphs-lowshot-n1", "--from", row["runs"][0], code=2)
