"""Backbones: shapes, sizes, initialisation, refusals, and Conv4 against the network as usually written."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from harness.backbones import BACKBONES, build
from harness.backbones.backbone import n_parameters
from harness.errors import ConfigError


def _images(n: int, c: int, size: int) -> torch.Tensor:
    return torch.rand(n, c, size, size, generator=torch.Generator().manual_seed(0))


def _conv4_as_written(backbone: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Convolution, batch norm, ReLU, pool, in this order, in contiguous layout."""
    for block in backbone.stages:
        conv, norm, _, _ = block
        x = functional.conv2d(x, conv.weight.contiguous(), conv.bias, padding=1)
        x = functional.batch_norm(x, None, None, norm.weight, norm.bias, training=True)
        x = functional.max_pool2d(functional.relu(x), 2)
    return x


@pytest.mark.parametrize("name", BACKBONES)
def test_feature_map_has_the_promised_shape(name: str) -> None:
    size = {"conv4": 28}.get(name, 84)
    backbone = build(name, size, 3).eval()
    with torch.no_grad():
        features = backbone(_images(1, 3, size))
    assert features.shape == (1, backbone.channels, *backbone.feature_size)
    assert backbone.flat_features == features[0].numel()


@pytest.mark.parametrize(("size", "side"), [(16, 1), (28, 1), (32, 2), (80, 5), (84, 5)])
@pytest.mark.parametrize("channels", [1, 3])
def test_conv4_takes_any_size_from_16_pixels(size: int, side: int, channels: int) -> None:
    backbone = build("conv4", size, channels)
    assert backbone.feature_size == (side, side)
    assert backbone(_images(2, channels, size)).shape == (2, 64, side, side)


@pytest.mark.parametrize(("channels", "count"), [(1, 111_936), (3, 113_088)])
def test_conv4_has_the_published_number_of_parameters(channels: int, count: int) -> None:
    assert n_parameters(build("conv4", 28, channels)) == count


def test_conv4_trains_like_the_network_as_usually_written() -> None:
    backbone = build("conv4", 28, 1, hidden=8, out=8).double().train()
    with torch.no_grad():  # negative scales too: ReLU and pool commute whatever the batch norm does
        for block in backbone.stages:
            block[1].weight.copy_(torch.linspace(-1, 1, 8))
    x = _images(6, 1, 28).double()
    mine, written = backbone(x), _conv4_as_written(backbone, x)
    # The same float64 operations in another layout: differences are summation order only.
    torch.testing.assert_close(mine, written, rtol=1e-10, atol=1e-12)
    weight = torch.randn(mine.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    parameters = list(backbone.parameters())
    got = torch.autograd.grad((mine * weight).sum(), parameters)
    expected = torch.autograd.grad((written * weight).sum(), parameters)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


def test_flattened_features_are_in_channel_row_column_order() -> None:
    features = build("conv4", 32, 3).eval()(_images(2, 3, 32)).detach()
    assert torch.equal(features.flatten(1)[0], torch.stack([*features[0].reshape(-1)]))
    assert torch.equal(features.flatten(1)[1].unflatten(0, (64, 2, 2)), features[1])


def test_fan_out_weights_have_the_asked_spread() -> None:
    torch.manual_seed(0)
    backbone = build("conv4", 28, 3, init="fan_out")
    spread = float(backbone.stages[1][0].weight.detach().std())
    # 36,864 draws: the relative error of a standard deviation is about 1 / sqrt(2 n) = 0.4 %.
    assert spread == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)


def test_unknown_backbone_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"`conv5` is not a backbone. Did you mean `conv4`"):
        build("conv5", 28, 1)


def test_unknown_option_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"`hiden` is not an option of conv4. Did you mean `hidden`"):
        build("conv4", 28, 1, hiden=32)


def test_too_small_images_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"15-pixel images.*at least 16"):
        build("conv4", 15, 1)
