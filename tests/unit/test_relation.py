"""Pieces of the relation network: sizes of maps, pools that are left out, gradients that are cut."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from harness.backbones import build
from harness.backbones.larger_maps import remove_last_pools
from harness.ops.relation import RelationModule
from harness.seeding import torch_generator
from harness.system.progress import Silent
from harness.training.fit_context import FitContext


@pytest.mark.parametrize("side", [4, 5, 7, 9, 10, 11, 19, 21])
def test_every_map_from_four_cells_on_has_scores_those_of_the_pairs_one_by_one(side: int) -> None:
    torch.manual_seed(side)
    module = RelationModule(3, (side, side)).eval()
    support, query = torch.randn(2, 3, side, side), torch.randn(4, 3, side, side)
    found = module(support, query)
    pairs = torch.stack(
        [torch.stack([torch.cat([s, q]) for s in support]) for q in query]
    )  # (Q, W, 2·C, h, w)
    x = module.layer2(module.layer1(pairs.flatten(0, 1))).flatten(1)
    expected = module.fc2(functional.relu(module.fc1(x))).reshape(4, 2)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)  # sums in another order
    if side == 19:
        assert module.fc1.in_features == 3 * 3 * 3  # as published


def test_a_smaller_map_is_refused() -> None:
    with pytest.raises(ValueError, match="3×3 is smaller"):
        RelationModule(3, (3, 3))


@pytest.mark.parametrize(
    ("name", "size", "side"),
    [("conv4", 28, 7), ("conv4", 84, 21), ("resnet12", 32, 8), ("resnet10", 64, None)],
)
def test_maps_without_the_last_pools_are_as_large_as_is_said(name: str, size: int, side: int | None) -> None:
    backbone = build(name, size, 3)
    before = backbone.feature_size
    remove_last_pools(backbone, 2)
    assert backbone.feature_size == (before if side is None else (side, side))
    assert backbone.eval()(torch.zeros(1, 3, size, size)).shape[-2:] == backbone.feature_size


def test_the_gradient_of_each_group_is_cut_to_a_length(tmp_path: Path) -> None:
    long, short = nn.Parameter(torch.tensor([0.0, 0.0])), nn.Parameter(torch.tensor([0.0]))
    optimiser = torch.optim.SGD([{"params": [long]}, {"params": [short]}], lr=1.0)
    ctx = FitContext(
        tmp_path, device=torch.device("cpu"), rng=torch_generator(0, "training"), seed=0, precision="fp32",
        validate=None, progress=Silent(),
    )  # fmt: skip
    ctx.backward((long * torch.tensor([3.0, 4.0])).sum() + 0.25 * short.sum())
    ctx.step(optimiser, longest=0.5)
    torch.testing.assert_close(long.data, torch.tensor([-0.3, -0.4]), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(short.data, torch.tensor([-0.25]))
