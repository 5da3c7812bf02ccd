"""Recipes of the margin classifiers, and what their training does with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from settled_config import settled as resolved
from torch import Tensor, nn
from torch.nn import functional

from harness.api import EpisodeBatch
from harness.backbones import build
from harness.backbones.drop import DropBlock
from harness.errors import ConfigError
from harness.method import hyper, recipes
from harness.seeding import torch_generator
from harness.system.progress import Silent
from harness.testing import tiny_store
from harness.training.base_set import BaseSet
from harness.training.fit_context import FitContext
from methods.margin import Cosine, NegCosine, NegSoftmax, Softmax

CPU = torch.device("cpu")
METHODS = (Softmax, Cosine, NegSoftmax, NegCosine)


def settled(cls: Any, backbone: str, setting: str, recipe: str = "clean", **overrides: str) -> Any:
    benchmark = setting.partition("-5w")[0]
    layered = [cls.DEFAULTS, recipes(cls)[recipe].hyperparameters]
    keys = hyper.layers(benchmark, setting, backbone)
    return resolved(cls.Config, layered, keys, overrides, cls.name)


def fit(method: Any, folder: Path, validate: Any = None) -> FitContext:
    rng = torch_generator(0, "training")
    ctx = FitContext(
        folder, device=CPU, rng=rng, seed=0, precision="fp32", validate=validate, progress=Silent()
    )
    torch.manual_seed(1)
    method.fit_base(BaseSet(tiny_store("base"), "stored", CPU, rng), ctx)
    return ctx


@pytest.mark.parametrize(
    ("cls", "backbone", "setting", "expected"),
    [
        (NegCosine, "resnet18", "mini-5w1s", (5e-5, -0.05, 30, 0.2, 3, 224)),
        (NegCosine, "resnet18", "mini-5w5s-q16", (1e-4, -0.02, 30, 0.2, 3, 224)),
        (NegCosine, "resnet12", "mini-5w5s", (1e-4, -0.01, 30, 0.1, 5, None)),
        (NegCosine, "wrn28_10", "mini-5w1s", (0.0, -0.2, 30, 0.0, 5, 80)),
        (NegSoftmax, "resnet12", "mini-5w1s", (3e-4, -0.01, 10, 0.1, 5, None)),
        (NegSoftmax, "resnet18", "cub-closerlook-5w5s", (3e-3, -0.005, 5, 0.0, 5, 224)),
        (NegSoftmax, "resnet18", "mini-cub-5w5s", (1e-6, -0.005, 5, 0.0, 5, 224)),
    ],
)
def test_each_published_cell_has_its_own_values(cls: Any, backbone: str, setting: str, expected: Any) -> None:
    c = settled(cls, backbone, setting)
    found = (c.weight_decay, c.margin, c.scale, c.drop_rate, c.block_size, c.image_size)
    assert found == expected


def test_the_published_recipe_has_the_authors_rows_squares_and_selection() -> None:
    clean, published = (
        settled(NegCosine, "resnet18", "cub-closerlook-5w1s", r) for r in ("clean", "as-published")
    )
    assert (clean.unused_rows, clean.squares, clean.validation_shot) == (0, "full", 1)
    assert (published.unused_rows, published.squares, published.validation_shot) == (100, "as-published", 5)
    assert (clean.epochs, clean.warmup_epochs) == (200, 50)


@pytest.mark.parametrize(
    ("cls", "overrides", "message"),
    [
        (NegCosine, {"margin": "1.5"}, "margin must be in [-1, 1], found 1.5"),
        (NegCosine, {"scale": "0"}, "scale must be > 0, found 0.0"),
        (
            NegCosine,
            {"scale": "-1", "passes": "0"},
            "passes must be ≥ 1, found 0; scale must be > 0, found -1.0",
        ),
        (Cosine, {"margin": "0.1"}, "`margin` is not a hyper-parameter of cosine"),
        (Softmax, {"scale": "5"}, "`scale` is not a hyper-parameter of softmax"),
        (Softmax, {"warmup_epochs": "400"}, "warmup_epochs must be < epochs = 400"),
    ],
)
def test_values_out_of_range_are_named(cls: Any, overrides: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        settled(cls, "resnet12", "tiered-5w1s", **overrides)
    assert message in str(error.value)


def test_drop_layers_follow_the_blocks_of_residual_networks_alone() -> None:
    dropping = NegCosine.Config(drop_rate=0.1, squares="as-published")
    method = NegCosine(dropping, build("resnet12", 84, 3))
    kinds = [type(stage.finish[-1]) for stage in method.backbone.stages]
    assert kinds == [nn.Dropout, nn.Dropout, DropBlock, DropBlock]
    with pytest.raises(ConfigError, match="no residual blocks"):
        NegCosine(dropping, build("conv4", 84, 3))
    with pytest.raises(ConfigError, match="3×3 feature map"):
        NegCosine(dropping, build("resnet12", 48, 3))


def test_conv4_starts_from_fan_out() -> None:
    torch.manual_seed(0)
    method = NegCosine(NegCosine.Config(), build("conv4", 84, 3))
    spread = float(method.backbone.stages[1][0].weight.std())
    assert spread == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)  # of 36,864 draws: 0.4% standard error


def test_the_margin_helps_the_true_class_and_nothing_else() -> None:
    head = nn.Linear(8, 5, bias=False)
    x, y = torch.randn(6, 8), torch.arange(6) % 5
    losses = []
    for margin in (-0.3, 0.0, 0.3):
        method = NegCosine(NegCosine.Config(margin=margin), build("conv4", 28, 1))
        losses.append(method._loss(x, head, y)[0])
    plain = Cosine(Cosine.Config(), build("conv4", 28, 1))._loss(x, head, y)[0]
    assert losses[0] < losses[1] < losses[2]
    assert torch.equal(losses[1], plain)


def test_unused_rows_are_extra_negatives(tmp_path: Path) -> None:
    widths: list[int] = []

    class Watched(Cosine):
        def _loss(self, features: Tensor, head: nn.Linear, target: Tensor) -> tuple[Tensor, Tensor]:
            widths.append(head.out_features)
            return super()._loss(features, head, target)

    chosen = Cosine.Config(epochs=2, warmup_epochs=1, batch_size=320, unused_rows=7)
    fit(Watched(chosen, build("conv4", 28, 1)), tmp_path)
    assert set(widths) == {16 + 7}


def test_validation_comes_every_so_often_and_at_the_end(tmp_path: Path) -> None:
    chosen = Cosine.Config(epochs=5, warmup_epochs=1, batch_size=320, validate_every=2)
    ctx = fit(Cosine(chosen, build("conv4", 28, 1)), tmp_path, lambda method, way, shot: 0.5)
    points = ctx.record()["curves"]
    assert ["validation_accuracy" in point for point in points] == [False, True, False, True, True]


@pytest.mark.parametrize("length", [1.0, 9.0, 18.0])
def test_an_episode_classifier_of_inner_products_works_at_every_length_of_the_features(length: float) -> None:
    """The published start and scale depend on it: the steps overshoot, and the random start is not forgotten."""
    random = torch.Generator().manual_seed(0)
    means = functional.normalize(torch.randn(200, 5, 1, 64, generator=random), dim=-1)
    noise = torch.randn(200, 5, 16, 64, generator=random) / 6
    x = length * functional.normalize(means + noise, dim=-1)  # (E, W, S + Q, D)
    support, query = x[:, :, :1], x[:, :, 1:].flatten(1, 2)
    target = torch.arange(5).repeat_interleave(15)

    def accuracy(**head: float) -> float:
        method = NegSoftmax(NegSoftmax.Config(**head), build("conv4", 28, 1))
        rngs = [torch.Generator().manual_seed(i) for i in range(len(support))]
        scores = method.predict_batch(EpisodeBatch(support, query, rngs))
        return float((scores.argmax(-1) == target).float().mean())

    nearest = -torch.cdist(query, support.squeeze(2))
    best = float((nearest.argmax(-1) == target).float().mean())
    theirs = {k: v for k, v in NegSoftmax.RECIPES["as-published"]["mini"].items() if k.startswith("head_")}
    assert accuracy() > best - 0.01
    assert accuracy(**theirs) < accuracy() + 0.005
    if length > 10:
        assert accuracy(**theirs) < best - 0.03
