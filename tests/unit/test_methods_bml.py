"""Recipes of binocular mutual learning, and what its training does with them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from settled_config import settled
from torch import nn

from harness.backbones import build
from harness.backbones.drop import DropBlock
from harness.errors import ConfigError
from harness.method import hyper
from harness.seeding import torch_generator
from harness.system.progress import Silent
from harness.testing import tiny_store
from harness.training.base_set import BaseSet
from harness.training.fit_context import FitContext
from methods.bml import Bml, BmlGlobal, BmlLocal

CPU = torch.device("cpu")
QUICK: dict[str, Any] = {"epochs": 1, "decay_epochs": (), "decay_factors": (), "drop_rate": 0.0}
EPISODE: dict[str, Any] = {**QUICK, "steps_per_epoch": 2, "train_shot": 2, "train_query": 2}


def fit(method: Any, folder: Path, validate: Any = None) -> FitContext:
    rng = torch_generator(0, "training")
    ctx = FitContext(
        folder, device=CPU, rng=rng, seed=0, precision="fp32", validate=validate, progress=Silent()
    )
    torch.manual_seed(1)
    method.fit_base(BaseSet(tiny_store("base"), "stored", CPU, rng), ctx)
    return ctx


def test_the_way_is_what_there_is_and_is_recorded(tmp_path: Path) -> None:
    for way, expected in ((15, 15), (40, 16)):  # of 16 base classes
        method = Bml(Bml.Config(**EPISODE, train_way=way), build("conv4", 28, 1))
        (point,) = fit(method, tmp_path / str(way)).record()["curves"]
        assert point["train_way"] == expected


def test_drop_rates_ramp_up_with_the_steps(tmp_path: Path) -> None:
    """Two episodes a step are one batch of each of the authors' two processes."""
    chosen = Bml.Config(**{**EPISODE, "steps_per_epoch": 3, "drop_rate": 0.1, "block_size": 1})
    method = Bml(chosen, build("resnet12", 16, 1, widths=(4, 4, 4, 4))).train()
    fit(method, tmp_path)
    counters = [int(m.num_batches_tracked) for m in method.modules() if isinstance(m, DropBlock)]
    assert counters == [3, 3, 3]


def test_both_branches_have_drop_layers_and_weights_of_their_own() -> None:
    method = Bml(Bml.Config(), build("resnet12", 84, 3))
    branches = method.network.global_branch, method.network.local_branch
    assert all(isinstance(branch.finish[-1], DropBlock) for branch in branches)
    assert not torch.equal(branches[0].body[0].weight, branches[1].body[0].weight)
    assert sum(p.numel() for p in method.parameters()) == 2_998_400 + 2 * 9_425_920  # of the official code


def test_pooled_and_root_features_and_their_lengths() -> None:
    maps = torch.randn(6, 2, 3, 2, 2)
    for views, n in (("both", 2), ("global", 1), ("local", 1)):
        for classifier, length in (("root", 12), ("pooled", 3)):
            method = Bml(Bml.Config(drop_rate=0.0, views=views, classifier=classifier), build("conv4", 28, 1))
            assert method._features(maps).shape == (6, n * length)


def test_the_schedule_of_tiered_imagenet_is_its_own() -> None:
    c = settled(Bml.Config, [Bml.DEFAULTS], hyper.layers("tiered", "tiered-5w1s", "resnet12"))
    assert (c.epochs, c.decay_epochs, c.decay_factors) == (200, (40, 80, 120, 160), (0.1,) * 4)
    for cls in (BmlLocal, BmlGlobal):
        keys = hyper.layers("tiered", "tiered-5w1s", "resnet12")
        c = settled(cls.Config, [cls.DEFAULTS], keys)
        assert (c.epochs, c.decay_epochs) == (100, (40, 80))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"decay_factors": (0.1,)}, "decay_factors must be one number > 0 for each of decay_epochs"),
        ({"decay_factors": (0.1, 0.0)}, "decay_factors must be one number > 0"),
        (
            {"temperature": 0.0, "train_way": 1},
            "train_way must be ≥ 2, found 1; temperature must be > 0, found 0.0",
        ),
        ({"drop_rate": 1.0}, "drop_rate must be in [0, 1), found 1.0"),
        ({"elastic_strength": -1.0}, "elastic_strength must be ≥ 0, found -1.0"),
    ],
)
def test_values_out_of_range_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        Bml.Config(**values)
    assert message in str(error.value)


def test_conv4_cannot_drop_blocks() -> None:
    with pytest.raises(ConfigError, match="drop_rate=0"):
        Bml(Bml.Config(), build("conv4", 84, 3))


def test_a_diverging_training_stops(tmp_path: Path) -> None:
    method = BmlGlobal(BmlGlobal.Config(**QUICK, lr=1e30), build("conv4", 28, 1))
    nn.init.constant_(method.network.stages[0][0].weight, 1e30)
    with pytest.raises(Exception, match="diverged"):
        fit(method, tmp_path)


def test_a_saturated_margin_and_a_local_loss_above_chance_are_warned_of(tmp_path: Path) -> None:
    strong = Bml(Bml.Config(**EPISODE, elastic_strength=50.0, elastic_slope=0.0), build("conv4", 28, 1))
    ctx = fit(strong, tmp_path / "strong")
    assert ctx.record()["curves"][-1]["local_loss"] > math.log(15)
    [sentence] = ctx.record()["warnings"]
    assert "above the 2.71 of guessing among 15 classes" in sentence
    strong._look_at({"local_loss": 1.0, "train_way": 15.0, "elastic_share": 0.7}, ctx)
    assert "acts on 70% of the locations" in ctx.record()["warnings"][1]
    plain = Bml(Bml.Config(**EPISODE, elastic_strength=0.0), build("conv4", 28, 1))
    assert "warnings" not in fit(plain, tmp_path / "plain").record()


def test_adam_is_the_authors_other_optimiser(tmp_path: Path) -> None:
    """One step from the same weights: Adam's first moves every weight by its step size, whatever the gradient."""
    values = {**EPISODE, "steps_per_epoch": 1, "parts_per_step": 1, "lr": 1e-3, "weight_decay": 0.0}
    moved = []
    for optimiser in ("adam", "sgd"):
        torch.manual_seed(0)
        method = Bml(Bml.Config(**values, optimiser=optimiser), build("conv4", 28, 1))
        before = [p.detach().clone() for p in method.parameters()]
        fit(method, tmp_path / optimiser)
        steps = [(p - q).abs() for p, q in zip(method.parameters(), before, strict=True)]
        moved.append(torch.cat([step.flatten() for step in steps]).detach())
    adam, sgd = (step[step > 0] for step in moved)
    assert float(adam.quantile(0.9)) == pytest.approx(1e-3, rel=1e-2)
    assert float(sgd.quantile(0.9)) != pytest.approx(1e-3, rel=1e-2)


@pytest.mark.parametrize("follows", ["global", "local"])
def test_one_view_may_follow_the_other(follows: str, tmp_path: Path) -> None:
    method = Bml(Bml.Config(**EPISODE, follows=follows), build("conv4", 28, 1))
    (point,) = fit(method, tmp_path).record()["curves"]
    both = Bml(Bml.Config(**EPISODE), build("conv4", 28, 1))
    (of_both,) = fit(both, tmp_path / "both").record()["curves"]
    assert 0 < point["mutual"] < of_both["mutual"]


def test_later_hyper_parameters_leave_ids_as_they_are() -> None:
    keys = hyper.layers("mini", "mini-5w1s", "resnet12")
    plain = hyper.resolve(Bml.Config, [Bml.DEFAULTS], keys, {}, method="bml")
    assert not {"optimiser", "follows"} & set(plain)
    same = hyper.resolve(Bml.Config, [Bml.DEFAULTS], keys, {"optimiser": "sgd"}, method="bml")
    assert {k: v.value for k, v in same.items()} == {k: v.value for k, v in plain.items()}
    other = hyper.resolve(Bml.Config, [Bml.DEFAULTS], keys, {"optimiser": "adam"}, method="bml")
    assert other["optimiser"] == hyper.ConfigValue("adam", "--set")
    assert hyper.given(Bml.Config, plain, {"follows": "local"}, method="bml", by="x")["follows"].value == "local"  # fmt: skip
    assert "follows" not in hyper.given(Bml.Config, plain, {"follows": "both"}, method="bml", by="x")


def test_queries_may_be_all_that_is_left(tmp_path: Path) -> None:
    base = BaseSet(tiny_store("base"), "stored", CPU, torch_generator(0, "training"))
    (episode,) = base.episodes(1, 3, 2, -1)
    smallest = min(torch.bincount(base.labels).tolist())
    assert episode.images.shape[:2] == (3, smallest) and episode.shot == 2
    with pytest.raises(ValueError, match="the smallest base class has"):
        next(base.episodes(1, 3, smallest, -1))
    fit(Bml(Bml.Config(**{**EPISODE, "train_query": -1}), build("conv4", 28, 1)), tmp_path)
    with pytest.raises(ValueError, match="train_query must be ≥ 1, or -1, found 0"):
        Bml.Config(train_query=0)
    config = Bml.Config(train_way=5, train_shot=2, train_query=-1, parts_per_step=2, steps_per_epoch=10)
    assert Bml.epoch_images(config, 1200, 60) == 10 * 2 * 5 * 20
