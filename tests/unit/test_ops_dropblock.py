"""DropBlock against a loop over its squares, and the drop layers built from it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from harness.backbones.drop import DropBlock, drop_layer
from harness.errors import ConfigError
from harness.ops.dropblock import drop, keep_mask, keep_mask_as_published, seed_rate


def _slow_mask(seeds: Tensor, block_size: int) -> Tensor:
    b, c, h, w = seeds.shape
    keep = torch.ones(b, c, h + block_size - 1, w + block_size - 1, dtype=torch.bool)
    for i, k, row, column in seeds.nonzero().tolist():
        keep[i, k, row : row + block_size, column : column + block_size] = False
    return keep


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.floats(0, 1), st.integers(0, 999))
@settings(max_examples=40, deadline=None)
def test_every_seed_clears_its_whole_square(block: int, h: int, w: int, rate: float, seed: int) -> None:
    seeds = torch.rand(2, 3, h, w, generator=torch.Generator().manual_seed(seed)) < rate
    assert torch.equal(keep_mask(seeds, block), _slow_mask(seeds, block))


def test_the_published_mask_drops_no_more_than_the_squares() -> None:
    for seed in range(20):
        seeds = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(seed)) < 0.1
        assert not (keep_mask(seeds, 5) & ~keep_mask_as_published(seeds, 5)).any()


def test_kept_values_are_scaled_up_to_the_same_total() -> None:
    keep = _slow_mask(torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)) < 0.1, 3)
    x = torch.ones(2, 3, 6, 6)
    out = drop(x, keep)
    assert torch.equal(out == 0, ~keep)
    # Two float32 roundings on a sum of 216.
    assert float(out.sum()) == pytest.approx(216, rel=1e-6)


def test_dropping_everything_gives_zeros() -> None:
    assert torch.equal(drop(torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2).bool()), torch.zeros(1, 1, 2, 2))


def test_rate_ramps_linearly_and_then_stays() -> None:
    rates = [float(seed_rate(0.2, 5, 10, torch.tensor(n))) for n in (0, 20_000, 40_000, 80_000)]
    nominal = 0.2 / 25 * 100 / 36
    assert rates == pytest.approx([0, nominal / 2, nominal, nominal])


def test_layer_starts_without_effect_and_reaches_its_nominal_share() -> None:
    torch.manual_seed(0)
    layer, x = DropBlock(0.2, 3, 10).train(), torch.ones(32, 16, 10, 10)
    assert torch.equal(layer(x), x)
    layer.num_batches_tracked.fill_(40_000)
    dropped = float((layer(x) == 0).float().mean())
    # gamma makes the *expected* share 0.2 before overlaps; 512 channels of 1.5 squares each: within 0.03.
    assert dropped == pytest.approx(0.18, abs=0.03)
    assert int(layer.num_batches_tracked) == 40_001


def test_evaluation_neither_drops_nor_counts() -> None:
    layer, x = DropBlock(0.5, 3, 6).eval(), torch.rand(2, 3, 6, 6)
    layer.num_batches_tracked.fill_(40_000)
    assert torch.equal(layer(x), x)
    assert int(layer.num_batches_tracked) == 40_000


def test_counter_travels_with_checkpoints() -> None:
    layer, fresh = DropBlock(0.5, 3, 6), DropBlock(0.5, 3, 6)
    layer.num_batches_tracked.fill_(7)
    fresh.load_state_dict(layer.state_dict())
    assert int(fresh.num_batches_tracked) == 7


def test_squares_larger_than_the_map_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"5×5 squares on a 3×3 feature map. Choose block_size ≤ 3"):
        DropBlock(0.1, 5, 3)


def test_early_stages_drop_single_values_and_late_ones_squares() -> None:
    kinds = [type(drop_layer(stage, 0.1, 2, 8, "full")) for stage in (1, 2, 3, 4)]
    assert kinds == [nn.Dropout, nn.Dropout, DropBlock, DropBlock]
    assert isinstance(drop_layer(3, 0.0, 5, 1, "full"), nn.Identity)
    with pytest.raises(ConfigError, match=r"drop_rate is 1.5"):
        drop_layer(1, 1.5, 5, 8, "full")
