"""Ready-made networks through the command line, with weights that the test makes, on pictures that it draws."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scratch_home import Home

from harness.backbones.torchvision_import import import_torchvision

NETWORK = "torchvision:shufflenet_v2_x0_5"
ASKED = ["-b", "toys-3w1s", "--backbone", NETWORK, "--episodes", "20"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    folder = tmp_path_factory.mktemp("frozen")
    rng = np.random.default_rng(0)
    for i in range(8):
        (folder / f"toys/class{i}").mkdir(parents=True)
        colour = rng.integers(0, 256, 3)
        for k in range(8):
            pixels = np.clip(colour + rng.normal(0, 30, (40, 48, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"toys/class{i}/{k}.png")
    torch.manual_seed(0)
    torch.save(
        import_torchvision().models.get_model(NETWORK.partition(":")[2]).state_dict(), folder / "weights.pth"
    )
    home = Home(folder / "home", folder / "data")
    home.run("import-folder", str(folder / "toys"), "--name", "toys", "--split", "3/2/3")
    return home


def weights(home: Home) -> list[str]:
    return ["--weights", str(home.folder.parent / "weights.pth")]


def test_a_frozen_network_and_a_head_on_it_share_its_features(home: Home) -> None:
    rows = home.json("run", "-m", "frozen,centroid[frozen]", *ASKED, *weights(home), "--seen", "unknown")
    assert {row["method"] for row in rows} == {"frozen", "centroid[frozen]"}
    assert all(
        row["rank_low"] is None and "leak" in row["badges"] and "imported fit" in row["badges"]
        for row in rows
    )
    assert all(row["accuracy"] > 0.5 for row in rows)  # colours; chance is a third
    shown = json.loads(home.run("show", rows[0]["runs"][0], "--json").stdout)
    text = json.dumps(shown)
    assert "network-bilinear-0.875-0.485/0.456/0.406" in text and NETWORK in text
    tables = list(Path(home.folder / "cache/features").iterdir())
    assert len(tables) == 2  # of novel images for both, and of base images, whose mean the head takes


def test_a_network_without_weights_is_refused(home: Home) -> None:
    for method in ("frozen", "centroid[frozen]"):
        message = home.run("run", "-m", method, *ASKED, code=2).stderr
        assert "frozen trains nothing: give the weights" in " ".join(message.split())
