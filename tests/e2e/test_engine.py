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
    assert (home.data / "mine/maps/straight-32.npy").exists()  # twice the size
    assert home.json("show", row["runs"][0])["spec"]["cut_from"] == 32
    rows = {tuple(r["runs"]): r for r in home.json(*run, "--stored-crops")}
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
    assert "--stored-crops" in shown.read_text()


def test_an_unknown_selection_is_refused(home: Home, tmp_path: Path) -> None:
    assert (
        "--select-on test: known are validation, novel"
        in home.run(*RUN, "--select-on", "test", code=2).stderr
    )
