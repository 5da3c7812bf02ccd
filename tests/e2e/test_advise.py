"""Advice about a folder: episodes of its own classes alone, pairs that are told apart, a command that runs."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scratch_home import Home

from harness.backbones.torchvision_import import import_torchvision

NETWORK = "torchvision:shufflenet_v2_x0_5"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Six classes that a colour tells apart, in a folder; and the weights of a network that is random."""
    folder = tmp_path_factory.mktemp("advise")
    rng = np.random.default_rng(0)
    for i in range(6):
        (folder / f"toys/class{i}").mkdir(parents=True)
        colour = rng.integers(40, 216, 3)
        for k in range(7):
            pixels = np.clip(colour + rng.normal(0, 60, (40, 48, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"toys/class{i}/{k}.png")
    torch.manual_seed(0)
    torch.save(
        import_torchvision().models.get_model(NETWORK.partition(":")[2]).state_dict(), folder / "w.pth"
    )
    return Home(folder / "home", folder / "data")


def test_pairs_are_tried_on_the_folder_and_the_command_goes_on(home: Home) -> None:
    folder = home.folder.parent
    asked = [
        "advise",
        str(folder / "toys"),
        "--encoder",
        f"{NETWORK}={folder / 'w.pth'}",
        "--shot",
        "2",
        "--episodes",
        "12",
    ]
    found = home.json(*asked)
    assert isinstance(found, dict)
    assert (found["way"], found["shot"], found["n_query"], found["n_episodes"]) == (6, 2, 5, 12)
    pairs = {(one["encoder"], one["head"]): one for one in found["advice"]}
    assert {encoder for encoder, _ in pairs} == {NETWORK, "raw pixels"}
    assert {"centroid", "knn"} <= {head for _, head in pairs}
    accuracies = [one["accuracy"] for one in found["advice"]]
    assert accuracies == sorted(accuracies, reverse=True) and accuracies[0] > 0.5  # chance is a sixth
    assert found["advice"][0]["is_best"] and not all(one["is_best"] for one in found["advice"])
    assert not (home.folder / "results.db").exists()  # nothing is stored
    best = next(one for one in found["advice"] if one["command"])
    first, second = (shlex.split(part) for part in best["command"].split(" && "))
    home.run(*first[1:])
    words = ["unknown" if word == "WHAT" else word for word in second[1:]]
    rows = home.json(*words, "--episodes", "5")
    assert {(row["method"], row["backbone"]) for row in rows} == {(f"{best['head']}[frozen]", NETWORK)}
    centroid = next(one for one in found["advice"] if one["command"] and one["head"] == "centroid")
    words = shlex.split(centroid["command"].split(" && ")[1].replace("WHAT", "unknown"))[1:]
    [row] = home.json(*words, "--episodes", "5")[:1]
    assert "normalise=l2n" in row["config"]  # as it was tried, which is not its default
    text = home.run(*asked).stdout
    assert "best" in text and "to go on with the best network: fsbench import-folder" in " ".join(
        text.split()
    )


def test_a_folder_that_says_nothing_is_refused(home: Home, tmp_path: Path) -> None:
    (tmp_path / "one/a").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "one/a/0.png")
    assert home.run("advise", str(tmp_path / "one"), code=3).stderr
    assert (
        "expected BACKBONE=FILE"
        in home.run("advise", str(tmp_path / "one"), "--encoder", "conv4", code=2).stderr
    )
