"""Backbones: shapes, sizes, initialisation, refusals, and Conv4 against the network as usually written."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from harness.backbones import BACKBONES, build
from harness.backbones.backbone import n_parameters
from harness.backbones.resnet12 import Block
from harness.backbones.two_branch import TwoBranch
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


@pytest.mark.parametrize(
    ("name", "size", "count"),
    [
        ("resnet10", 224, 4_905_792),
        ("resnet12", 84, 12_424_320),
        ("resnet18", 224, 11_176_512),
        ("resnet50", 224, 23_504_128),
        ("wrn28_10", 80, 36_472_784),
    ],
)
def test_backbone_has_the_published_number_of_parameters(name: str, size: int, count: int) -> None:
    assert n_parameters(build(name, size, 3)) == count


@pytest.mark.parametrize(
    ("options", "channels", "side"),
    [({}, 512, 3), ({"stem": "3x3"}, 512, 11), ({"stem": "3x3", "last_pool": True}, 512, 5)],
)
def test_resnet18_at_84_pixels(options: dict[str, object], channels: int, side: int) -> None:
    backbone = build("resnet18", 84, 3, widths=(8, 8, 8, channels), **options)
    assert backbone.feature_size == (side, side)
    assert backbone(_images(2, 3, 84)).shape == (2, channels, side, side)


def test_resnet12_pools_before_its_last_activation_without_changing_values() -> None:
    block = Block(3, 4).double().train()
    x = _images(2, 3, 9).double()
    before = block.body(x) + block.shortcut(x)
    expected = functional.max_pool2d(functional.leaky_relu(before, 0.1), 2)
    torch.testing.assert_close(block(x), expected, rtol=1e-12, atol=1e-13)


def test_drop_layers_act_in_training_only() -> None:
    torch.manual_seed(0)
    backbone = build("resnet12", 84, 3, widths=(4, 4, 4, 4), drop_rate=0.5)
    x = _images(2, 3, 84)
    assert torch.equal(backbone.eval()(x), backbone.eval()(x))
    assert not torch.equal(backbone.train()(x), backbone.train()(x))


def test_dropblock_on_a_map_smaller_than_its_square_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"5×5 squares on a 3×3 feature map.*larger images, or drop_rate 0"):
        build("resnet12", 28, 1, drop_rate=0.1)


def test_two_branches_share_the_trunk_and_nothing_else() -> None:
    torch.manual_seed(0)
    backbone = build("conv4", 32, 3, hidden=8, out=8)
    network = TwoBranch(backbone).eval()
    views = network(_images(2, 3, 32))
    assert views.global_map.shape == views.local_map.shape == (2, 8, 2, 2)
    assert torch.equal(views.global_map, backbone(_images(2, 3, 32)))
    assert not torch.equal(network.global_branch[0].weight, network.local_branch[0].weight)
    assert n_parameters(network) == n_parameters(backbone) + n_parameters(network.local_branch)


@pytest.mark.parametrize("name", sorted(set(BACKBONES) - {"features"}))  # saved features pass through nothing
def test_weights_survive_a_checkpoint(name: str) -> None:
    small: dict[str, dict[str, object]] = {
        "resnet12": {"widths": (4, 4, 4, 4)},
        "resnet18": {"widths": (4, 4, 4, 4)},
        "wrn28_10": {"depth": 10, "widen": 1},
    }
    a, b = (build(name, 32, 3, **small.get(name, {})).eval() for _ in range(2))
    x = _images(2, 3, 32)
    assert not torch.equal(a(x), b(x))
    b.load_state_dict(a.state_dict())
    assert torch.equal(a(x), b(x))


def test_saved_features_stay_as_they_are() -> None:
    backbone, x = build("features", 1, 6), torch.randn(3, 6, 1, 1)
    assert torch.equal(backbone(x), x) and backbone.flat_features == 6


def test_impossible_shapes_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"1×1 map at 32 pixels"):
        build("resnet18", 32, 3, last_pool=True)
    with pytest.raises(ConfigError, match=r"depth 27; it has 6·n \+ 4 layers"):
        build("wrn28_10", 32, 3, depth=27)


@pytest.mark.parametrize("name", ["resnet10", "resnet18"])
@pytest.mark.parametrize("stem", ["7x7", "3x3"])
@pytest.mark.parametrize("size", [16, 33, 50, 84])
def test_resnet_sides_hold_at_odd_sizes(name: str, stem: str, size: int) -> None:
    backbone = build(name, size, 1, stem=stem).eval()
    with torch.no_grad():
        assert backbone(_images(1, 1, size)).shape[2:] == backbone.feature_size


def test_a_compiled_backbone_keeps_its_names_and_its_features() -> None:
    """The graph is traced and run as it stands: generating code would only repeat torch's own tests."""
    backbone, x = build("conv4", 28, 1).eval(), _images(4, 1, 28)
    names = list(backbone.state_dict())
    with torch.no_grad():
        plain = backbone(x)
        backbone.compile(backend="eager")
        torch.testing.assert_close(backbone(x), plain, rtol=0, atol=0)
    assert list(backbone.state_dict()) == names
