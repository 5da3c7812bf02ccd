"""Fits that others are built on: planned, made once and first, shared, shown; and crops in place of squares."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scratch_home import Home

METHODS = '''
from dataclasses import dataclass
import torch
from torch import nn
from harness.api import Grid, hyper, needs, squared_distances

class Pre(nn.Module):
    name, version = "pre", "1"
    @dataclass(frozen=True)
    class Config:
        epochs: int = hyper(1, "passes, at least 1")
    def __init__(self, config, backbone):
        super().__init__()
        self.config, self.backbone = config, backbone
    def fit_base(self, base, ctx):
        head = nn.Linear(self.backbone.flat_features, base.n_classes)
        optimiser = torch.optim.Adam([*self.parameters(), *head.parameters()])
        for epoch in ctx.epochs(self.config.epochs, model=self, head=head, optimiser=optimiser):
            for x, y in base.batches(64):
                ctx.backward(nn.functional.cross_entropy(head(self.embed(x)), y))
                ctx.step(optimiser)
    def embed(self, images):
        return self.backbone(images).flatten(1)
    def adapt(self, support):
        return support.by_class().mean(1)
    def predict(self, state, query):
        return -squared_distances(query, state)

class Head(Pre):
    """Features of a fit, centred by the mean of its base features."""
    name = "head"
    @dataclass(frozen=True)
    class Config:
        scale: float = hyper(1.0, "of the features")
        wants: str = hyper("pre", "what it asks for")
    def __init__(self, config, backbone):
        super().__init__(config, backbone)
        self.mean = nn.Parameter(torch.zeros(backbone.flat_features), requires_grad=False)
    @staticmethod
    def requires(config):
        return [needs("./methods_of_mine.py:Pre", epochs=1)]
    def fit_base(self, base, ctx):
        name = "./methods_of_mine.py:Pre" if self.config.wants == "pre" else self.config.wants
        pre = ctx.require(name, epochs=1)
        assert not pre.training and not any(p.requires_grad for p in pre.parameters())
        features = ctx.features(pre)
        assert features.x.shape == (base.n_images, self.backbone.flat_features) and len(features.y) == base.n_images
        self.backbone.load_state_dict(pre.backbone.state_dict())
        self.mean.data = features.x.mean(0) * self.config.scale
    def embed(self, images):
        return super().embed(images) - self.mean

class Circle(Pre):
    name = "circle"
    @staticmethod
    def requires(config):
        return [needs("./methods_of_mine.py:Circle")]

class Lost(Pre):
    name = "lost"
    @staticmethod
    def requires(config):
        return [needs("protnet")]

class Parts(Pre):
    """Trains on squares, is asked about a pyramid of crops."""
    name = "parts"
    def __init__(self, config, backbone):
        super().__init__(config, backbone)
        self.views = Grid((1, 2))
    def fit_base(self, base, ctx):
        for x, y in base.batches(64, augment=True, views=Grid((2,))):
            assert x.shape[1:] == (4, 1, 28, 28)
            break
        super().fit_base(base, ctx)
    def embed(self, images):
        if images.ndim == 4:
            return super().embed(images)
        assert images.shape[1:] == (5, 1, 28, 28)
        return super().embed(images.flatten(0, 1)).unflatten(0, images.shape[:2]).flatten(1)
'''


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home", tmp_path / "data")
    (home.folder / "methods_of_mine.py").write_text(METHODS)
    return home


def of(name: str) -> tuple[str, ...]:
    return "-m", f"./methods_of_mine.py:{name}", "-b", "glyphs-5w1s", "--episodes", "64"


def test_a_fit_that_runs_are_built_on_is_made_once_first_and_shown(home: Home) -> None:
    planned = home.json("run", *of("Head"), "--dry-run")
    [(need, first)] = planned[0]["requires"].items()
    assert need == "./methods_of_mine.py:Pre(epochs=1)" and first["state"] == "first"
    assert "after 1 fits that they are built on" in home.run("run", *of("Head"), "--dry-run").stdout
    [row] = home.json("run", *of("Head"))
    assert row["accuracy"] > 0.4  # a fifth by chance
    made = home.folder / "cache/fits" / first["fit"] / "fit.pt"
    began = made.stat().st_mtime_ns
    home.run("run", *of("Head"), "--set", "scale=2")  # another fit of the head, the same below it
    assert made.stat().st_mtime_ns == began
    assert len(list((home.folder / "cache/fits").iterdir())) == 3
    [again] = home.json("run", *of("Head"), "--set", "scale=3", "--dry-run")
    assert again["requires"][need] == {"fit": first["fit"], "state": "done"}
    assert first["fit"] in home.run("show", planned[0]["run"]).stdout
    home.run("report")
    page = (home.folder / "reports/run" / f"{planned[0]['run']}.html").read_text()
    assert first["fit"] in page and "built on" in page


@pytest.mark.nightly
def test_jobs_of_their_own_make_such_fits_before_the_runs(home: Home) -> None:
    home.run("run", *of("Head"), "--seeds", "0-1", "--executor", "local", "--jobs", "2", "--shards", "2")
    found = [(row["run"].split()[0] == "fit", row["state"]) for row in home.status()]
    assert sorted(found) == [(False, "collected")] * 2 + [(True, "done")] * 2
    assert home.json("status")[0]["setting"] == "glyphs"


@pytest.mark.nightly
def test_the_counts_are_the_same_inline_and_by_jobs(home: Home, tmp_path: Path) -> None:
    other = Home(tmp_path / "other", home.data)
    (other.folder / "methods_of_mine.py").write_text(METHODS)
    home.run("run", *of("Head"))
    other.run("run", *of("Head"), "--executor", "local", "--jobs", "2")  # one thread, as inline here
    assert home.counts() == other.counts()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Circle", "circle requires its own fit"),
        ("Lost", "lost requires the fit of a method that is not here"),
    ],
)
def test_circles_and_unknown_names_are_refused_at_planning(home: Home, name: str, said: str) -> None:
    assert said in home.run("run", *of(name), "--dry-run", code=2).stderr


def test_what_was_not_named_cannot_be_had(home: Home) -> None:
    answer = home.run("run", *of("Head"), "--set", "wants=protonet", code=1)
    assert "asks for the fit protonet(epochs=1), which its requires(config) does not name" in answer.stderr


def test_the_contract_holds_for_methods_that_require_fits_or_ask_for_crops(home: Home) -> None:
    for name in ("Head", "Parts"):
        home.run("check", f"./methods_of_mine.py:{name}")


def test_crops_reach_embed_and_training_may_draw_others(home: Home) -> None:
    [row] = home.json("run", *of("Parts"))
    assert row["accuracy"] > 0.4


@pytest.mark.nightly
def test_protonet_is_trained_again_on_base_and_validation_classes(home: Home) -> None:
    tiny = [
        "--set",
        "epochs=3",
        "--set",
        "episodes_per_epoch=4",
        "--set",
        "train_way=5",
        "--set",
        "patience=2",
    ]
    words = ("run", "-m", "protonet", "-b", "glyphs-5w1s", "--episodes", "64", *tiny)
    [once] = home.json(*words)
    [planned] = home.json(*words, "--set", "retrain=true", "--dry-run")
    [before] = planned["requires"].values()
    assert before["state"] == "done"  # the training that chose the length is that of the run without
    [again] = home.json(*words, "--set", "retrain=true")
    assert again["accuracy"] != once["accuracy"]
    record = json.loads((home.folder / "cache/fits" / before["fit"] / "fit.json").read_text())
    fits = {
        path.parent.name: json.loads(path.read_text()) for path in home.folder.glob("cache/fits/*/fit.json")
    }
    [last] = [found for name, found in fits.items() if name != before["fit"]]
    n = record["selection"]["epoch"]
    assert len(last["curves"]) == max(n, n - 1 + 2)
    assert "validation_accuracy" not in last["curves"][0]
