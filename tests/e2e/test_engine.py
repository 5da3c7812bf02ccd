"""The switches of the training engine, through the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scratch_home import TINY, Home

from harness.training.checkpoints import load_tensors

RUN = ["run", "-m", "protonet", "-b", "glyphs-5w1s", "--episodes", "60", *TINY]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    folder = tmp_path_factory.mktemp("engine")
    return Home(folder / "home", folder / "data")


@pytest.mark.nightly
def test_a_selection_on_novel_classes_has_a_badge_and_a_row_of_its_own(home: Home) -> None:
    home.run(*RUN)
    [row] = home.json(*RUN, "--select-on", "novel")
    assert "test-selected" in row["badges"]
    assert len(home.run_ids()) == 2
    stored = home.json("show", row["runs"][0])
    assert stored["provenance"]["selection"]["of_states"] == 2


@pytest.mark.parametrize(
    "words",
    [
        ["--precision", "fp16"],
        pytest.param(["--precision", "bf16"], marks=pytest.mark.nightly),
        ["--deterministic"],
    ],
)
def test_a_run_ends_well_with(home: Home, words: list[str]) -> None:
    [row] = home.json(*RUN, *words, "--seeds", "7")
    assert 0.2 < row["accuracy"] < 1
    if words == ["--deterministic"]:
        assert home.json("show", row["runs"][-1])["provenance"]["deterministic"]


def test_training_crops_are_cut_from_whole_pictures_unless_asked_otherwise(tmp_path: Path) -> None:
    home, rng = Home(tmp_path / "home", tmp_path / "data"), np.random.default_rng(0)
    for kind in range(12):
        folder = tmp_path / "pictures" / f"kind{kind:02d}"
        folder.mkdir(parents=True)
        for i in range(8):
            pixels = rng.integers(0, 256, (30, 50, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")
    words = ["--name", "mine", "--size", "16", "--split", "5/2/5", "--queries", "3"]
    home.run("import-folder", str(tmp_path / "pictures"), *words)
    run = ["run", "-m", "cosine", "-b", "mine-5w1s", "--episodes", "20", "--set", "batch_size=16"]
    run += ["--set", "epochs=2", "--set", "warmup_epochs=1", "--set", "validate_every=2"]
    [row] = home.json(*run)
    assert len(home.json("show", row["runs"][0])["provenance"]["pictures"]) == 64
    assert (home.data / "mine/maps/full.raw").stat().st_size == 12 * 8 * 30 * 50 * 3  # decoded once
    assert home.json("show", row["runs"][0])["spec"]["cut_from"] == -1
    rows = {tuple(r["runs"]): r for r in home.json(*run, "--crops-from", "stored")}
    assert len(home.run_ids()) == 2
    [other] = [i for runs in rows for i in runs if i not in row["runs"]]
    assert home.json("show", other)["spec"]["cut_from"] == 0
    fits = [
        load_tensors(path, torch.device("cpu"))["state"] for path in home.folder.glob("cache/fits/*/fit.pt")
    ]
    first, second = (torch.cat([v.flatten().float() for v in state.values()]) for state in fits)
    assert not torch.equal(first, second)  # they trained on other crops
    home.run("report")
    [shown] = [p for p in home.folder.glob("reports/**/*.html") if other in p.name]
    assert "--crops-from stored" in shown.read_text()
    [mapped] = home.json(*run, "--crops-from", "map", "--dry-run")
    assert mapped["run"] not in home.run_ids()


def test_a_training_ends_when_the_images_that_it_is_given_are_seen(home: Home) -> None:
    """Six episodes of 20 × (1 + 5) images are the first to reach 700."""
    words = ("-m", "protonet", "-b", "glyphs-5w1s", "--images", "700", "--set", "episodes_per_epoch=4")
    [row] = home.json("run", *words, "--episodes", "40")
    assert (row["train_images"], row["train_steps"], row["below_images"]) == (720, 6, 0)
    told = home.json("show", row["runs"][0])
    assert told["spec"]["budget"] == 700 and told["spec"]["config"]["epochs"]["value"] == 2
    home.run("report")
    [page] = (home.folder / "reports/run").glob(f"{row['runs'][0]}*.html")
    assert "--images 700" in page.read_text()


def test_an_unknown_selection_is_refused(home: Home, tmp_path: Path) -> None:
    assert (
        "--select-on test: known are validation, novel"
        in home.run(*RUN, "--select-on", "test", code=2).stderr
    )


def test_a_recipe_is_shown_against_clean_value_by_value(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(RECIPE)
    method = str(file)
    asked = ("run", "-m", method, "-b", "glyphs-5w1s", "--recipe", "as-published")
    assert "by as-published: pipeline snell, " in home.run(*asked, "--dry-run").stdout
    [row] = home.json(*asked)
    assert row["setting"] == "glyphs-5w1s-q12" and row["recipe"] == "as-published"
    [run_id] = row["runs"]
    lines = [line.split() for line in home.run("show", run_id).stdout.splitlines()]
    for line in (["episodes", "2000", "40"], ["pipeline", "stored", "snell"], ["epochs", "2", "0"]):
        assert line in lines
    told = home.run("methods", method).stdout
    assert "as-published on glyphs: pipeline snell (clean: stored), queries 12 (clean: 15)" in told
    home.run("report")
    [page] = [p for p in home.folder.glob("reports/run/*.html") if run_id in p.name]
    assert '<th scope="row">pipeline</th><td>stored</td><td>snell</td>' in page.read_text()
    assert "--pipeline snell" in page.read_text() and "--bench glyphs-5w1s-q12" in page.read_text()


RECIPE = '''
from dataclasses import dataclass
import torch
from harness.api import Conditions, hyper

class Mine:
    """Nothing but a recipe."""
    name, version, uses_backbone = "mine", "1", False

    @dataclass(frozen=True)
    class Config:
        epochs: int = hyper(2, "passes, at least 0")

    theirs = Conditions(pipeline="snell", n_query=12, n_episodes=40)
    RECIPES = {"as-published": {"glyphs": {"epochs": 0, "conditions": theirs}}}

    def __init__(self, config, backbone): ...
    def fit_base(self, base, ctx): ...
    def adapt(self, support): return support.n_way
    def predict(self, state, query): return torch.zeros(len(query), state)
'''
