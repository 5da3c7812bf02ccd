"""Training augmentation against torchvision's transforms at fixed parameters, and the limits of what is drawn."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.backbones.torchvision_import import import_torchvision
from harness.errors import ConfigError
from harness.images.augment import augment
from harness.images.augmentations import AUGMENTATIONS, TRAINING, Augmentation, augmentation
from harness.images.colour import draw_jitter, jitter
from harness.images.crops import RATIO, SCALE, Boxes, crop_resize, resized_boxes, scaled, window_boxes
from harness.images.inputs import to_float
from harness.images.pipelines import PIPELINES


@pytest.fixture(scope="module")
def functional() -> Any:
    import_torchvision()
    from torchvision.transforms.v2 import functional

    return functional


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pixels(n: int, height: int, width: int) -> Tensor:
    return torch.randint(0, 256, (n, height, width, 3), dtype=torch.uint8, generator=rng(1))


def edges(n: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    return torch.full((n,), height), torch.full((n,), width)


def boxes(*rows: tuple[int, int, int, int]) -> Boxes:
    return Boxes(*torch.tensor(rows).unbind(1))


@pytest.mark.parametrize("size", [8, 20, 37])
@pytest.mark.parametrize("flip", [False, True])
def test_crop_and_resize_are_torchvisions(functional: Any, size: int, flip: bool) -> None:
    x = to_float(pixels(4, 24, 30), "feat")
    which = boxes((0, 0, 24, 30), (3, 5, 9, 20), (10, 0, 14, 7), (23, 29, 1, 1))
    found = crop_resize(x, which, torch.full((4,), flip), size)
    for i, (top, left, height, width) in enumerate(zip(*(b.tolist() for b in which), strict=True)):
        expected = functional.resized_crop(x[i], top, left, height, width, [size, size], antialias=True)
        expected = functional.horizontal_flip(expected) if flip else expected
        # both are float32 sums of at most a few dozen weighted pixels in [0, 1]
        torch.testing.assert_close(found[i], expected, rtol=0, atol=2e-6)


def test_windows_beyond_the_image_are_black_as_padding_is(functional: Any) -> None:
    x = to_float(pixels(3, 16, 16), "feat")
    which = boxes((-4, 4, 16, 16), (0, 0, 16, 16), (3, -4, 16, 16))
    found = crop_resize(x, which, torch.zeros(3, dtype=torch.bool), 16)
    for i, (top, left, *_) in enumerate(zip(*(b.tolist() for b in which), strict=True)):
        expected = functional.crop(functional.pad(x[i], [4]), top + 4, left + 4, 16, 16)
        torch.testing.assert_close(found[i], expected, rtol=0, atol=0)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_colours_change_as_in_torchvision(functional: Any, order: tuple[int, ...]) -> None:
    x = to_float(pixels(3, 10, 12), "feat")
    factors = torch.tensor([[0.6, 1.4, 0.8], [1.0, 1.0, 1.0], [1.4, 0.6, 1.3]])
    found = jitter(x, factors, torch.tensor([order] * 3))
    change = (functional.adjust_brightness, functional.adjust_contrast, functional.adjust_saturation)
    for i in range(3):
        expected = x[i]
        for step in order:
            expected = change[step](expected, float(factors[i, step]))
        # torchvision sums grey in another order; three steps, each clipped to [0, 1]
        torch.testing.assert_close(found[i], expected, rtol=0, atol=5e-6)


def test_each_image_has_its_own_order_of_colours() -> None:
    _, order = draw_jitter(300, 0.4, rng())
    assert len({tuple(o) for o in order.tolist()}) == 6
    x = to_float(pixels(1, 10, 12), "feat").expand(2, -1, -1, -1)
    factors = torch.tensor([[0.6, 1.4, 0.8]] * 2)
    both = jitter(x, factors, torch.tensor([[0, 1, 2], [2, 1, 0]]))
    torch.testing.assert_close(both[1:], jitter(x[1:], factors[1:], torch.tensor([[2, 1, 0]])))
    assert not torch.equal(both[0], both[1])


def test_colour_factors_fill_their_range() -> None:
    factors, _ = draw_jitter(4000, 0.4, rng())
    assert 0.6 <= float(factors.min()) < 0.605
    assert 1.395 < float(factors.max()) <= 1.4
    # the mean of 4000 uniform draws of width 0.8: standard error 0.8 / sqrt(12 * 4000) = 0.0037, five of them
    assert (factors.mean(0) - 1).abs().max() < 0.019


@pytest.mark.parametrize(("height", "width"), [(84, 84), (96, 120), (40, 200)])
def test_resized_crops_are_distributed_as_torchvisions(height: int, width: int) -> None:
    from scipy.stats import ks_2samp

    import_torchvision()
    from torchvision.transforms import RandomResizedCrop

    n = 3000
    image = torch.empty(3, height, width)
    torch.manual_seed(0)
    params = [RandomResizedCrop.get_params(image, SCALE, RATIO) for _ in range(n)]
    expected = np.array(params, dtype=float)  # top, left, height, width
    found = torch.stack(resized_boxes(*edges(n, height, width), rng()), 1).numpy().astype(float)
    for column in range(4):  # 12 comparisons of fixed seeds; the bound says only "not clearly different"
        assert ks_2samp(found[:, column], expected[:, column]).pvalue > 1e-3
    area, log_ratio = found[:, 2] * found[:, 3], np.log(found[:, 3] / found[:, 2])
    assert ks_2samp(area, expected[:, 2] * expected[:, 3]).pvalue > 1e-3
    assert ks_2samp(log_ratio, np.log(expected[:, 3] / expected[:, 2])).pvalue > 1e-3


@pytest.mark.parametrize(("height", "width"), [(10, 100), (100, 10), (7, 7)])
def test_resized_crops_lie_in_the_image(height: int, width: int) -> None:
    top, left, h, w = resized_boxes(*edges(2000, height, width), rng())
    assert (top >= 0).all() and (left >= 0).all() and (h > 0).all() and (w > 0).all()
    assert (top + h <= height).all() and (left + w <= width).all()


def test_an_image_too_narrow_for_any_draw_gives_its_middle() -> None:
    top, left, h, w = resized_boxes(
        *edges(50, 400, 10), rng()
    )  # even 8% of the area, at 4:3, is wider than 10
    assert {tuple(b) for b in torch.stack((top, left, h, w), 1).tolist()} == {(193, 0, 13, 10)}


def test_each_picture_has_crops_of_its_own_proportions() -> None:
    height, width = torch.tensor([40, 300] * 1000), torch.tensor([200, 100] * 1000)
    top, left, h, w = resized_boxes(height, width, rng())
    assert ((top + h <= height) & (left + w <= width)).all()
    # ratios are those of the pictures' own pixels, whatever the pictures' shapes; edges are whole numbers ≥ 10
    assert ((w / h > 0.66) & (w / h < 1.5)).all()
    assert h[1::2].max() > 40 and w[::2].max() <= 54  # 40 · 4 / 3


def test_crops_of_a_squashed_picture_are_those_of_the_picture(functional: Any) -> None:
    wide = functional.resize(torch.rand(3, 6, 8, generator=rng()), [150, 200], antialias=True)  # smooth
    squashed = functional.resize(wide, [84, 84], antialias=True)[None]
    extents = torch.tensor([[150, 200]])
    whole = scaled(boxes((0, 0, 150, 200)), extents, 84, 84)
    assert [b.item() for b in whole] == [0, 0, 84, 84]
    for box in ((0, 0, 75, 100), (30, 20, 60, 80), (10, 100, 100, 90)):
        found = crop_resize(squashed, scaled(boxes(box), extents, 84, 84), torch.tensor([False]), 42)[0]
        expected = functional.resized_crop(wide, *box, [42, 42], antialias=True)
        # a box is moved by up to half a squashed pixel, over which this picture changes by up to 0.05; elsewhere it
        # changes by up to 1
        assert (found - expected).abs().max() < 0.05
        assert (found - functional.resize(wide, [42, 42], antialias=True)).abs().max() > 0.2


def test_no_crop_of_a_squashed_picture_is_empty() -> None:
    top, left, h, w = scaled(
        boxes((0, 0, 1, 1), (499, 374, 1, 1), (499, 0, 1, 375)), torch.tensor([[500, 375]] * 3), 16, 16
    )
    assert h.tolist() == [1, 1, 1] and w.tolist() == [1, 1, 16]
    assert ((top >= 0) & (top + h <= 16) & (left >= 0) & (left + w <= 16)).all()


def test_extents_of_the_images_themselves_change_nothing() -> None:
    images = pixels(4, 30, 40)
    own = torch.tensor([[30, 40]] * 4)
    assert torch.equal(augment(images, "feat", 20, rng(2)), augment(images, "feat", 20, rng(2), extents=own))
    other = torch.tensor([[60, 40]] * 4)
    assert not torch.equal(
        augment(images, "feat", 20, rng(2)), augment(images, "feat", 20, rng(2), extents=other)
    )


def test_windows_reach_every_place_and_no_further() -> None:
    top, left, h, w = window_boxes(3000, 84, 84, 84, 8, rng())
    assert set(top.tolist()) == set(left.tolist()) == set(range(-8, 9))
    assert set(h.tolist()) == set(w.tolist()) == {84}
    with pytest.raises(ConfigError, match="does not fit"):
        window_boxes(1, 84, 84, 96, 0, rng())


def test_half_of_the_images_are_mirrored() -> None:
    images = torch.arange(10, dtype=torch.uint8).expand(2000, 10, 10)[..., None].expand(-1, -1, -1, 3)
    found = augment(images, "feat", 10, rng(), Augmentation("flip", flip=True))
    n_flipped = int((found[:, 0, 0, 0] > found[:, 0, 0, -1]).sum())
    assert abs(n_flipped - 1000) < 5 * math.sqrt(500)  # five standard deviations


@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
@pytest.mark.parametrize("edge", [84, 96])
def test_every_augmentation_gives_images_of_the_size_in_range(name: str, edge: int) -> None:
    found = augment(pixels(5, edge, edge), "feat", 84, rng(), augmentation(name))
    assert found.shape == (5, 3, 84, 84)
    assert found.dtype == torch.float32
    assert found.min() >= 0 and found.max() <= 1 + 1e-6  # rows of weights sum to 1 but for rounding


def test_one_seed_gives_one_augmentation_and_images_differ() -> None:
    images = pixels(1, 96, 96).expand(6, -1, -1, -1)
    first = augment(images, "feat", 84, rng(3))
    assert torch.equal(first, augment(images, "feat", 84, rng(3)))
    assert not torch.equal(first, augment(images, "feat", 84, rng(4)))
    assert len({x.numpy().tobytes() for x in first}) == 6


def test_no_augmentation_is_the_image_itself() -> None:
    images = pixels(3, 28, 28)
    before = images.clone()
    assert torch.equal(augment(images, "stored", 28, rng()), to_float(images, "stored"))
    augment(images, "feat", 28, rng())
    assert torch.equal(images, before)  # arguments are never changed


def test_ink_stays_one() -> None:
    images = torch.zeros(2, 28, 28, 1, dtype=torch.uint8)  # all ink, on white paper
    assert torch.equal(augment(images, "area", 28, rng()), torch.ones(2, 1, 28, 28))


def test_every_pipeline_has_its_familys_augmentation() -> None:
    assert set(TRAINING) == set(PIPELINES)
    assert augmentation("bml").name == "resized-jitter-flip"
    assert augmentation("metaoptnet-cifar").padding == 4
    with pytest.raises(ConfigError, match="Did you mean `resized-flip`"):
        augmentation("resized-flp")


def test_everything_happens_on_the_device_of_the_images() -> None:
    # the meta device refuses operands of another device, as a GPU does
    found = augment(pixels(2, 96, 96).to("meta"), "feat", 84, rng())
    assert found.device.type == "meta"
    assert found.shape == (2, 3, 84, 84)
