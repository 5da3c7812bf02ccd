from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from harness.errors import ConfigError, DataError
from harness.images.inputs import normalise, to_float
from harness.images.pipelines import (
    PIPELINES,
    SHORT_92,
    SQUASH_115,
    STRAIGHT,
    Geometry,
    area_average,
    decode,
    encode_png,
    pipeline,
)


def random_pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def mean_by_loops(pixels: np.ndarray, size: int) -> np.ndarray:
    """Exact area average in rationals: every source pixel split into size x size equal cells."""
    height, width, channels = pixels.shape
    cells = pixels.astype(np.int64).repeat(size, 0).repeat(size, 1)  # (H·size, W·size, C)
    out = np.zeros((size, size, channels), dtype=np.uint8)
    for i in range(size):
        for j in range(size):
            block = cells[i * height : (i + 1) * height, j * width : (j + 1) * width]
            total = block.sum(axis=(0, 1))
            out[i, j] = (2 * total + height * width) // (2 * height * width)
    return out


@pytest.mark.parametrize("shape", [(105, 105, 1), (9, 14, 3), (8, 8, 3)])
@pytest.mark.parametrize("size", [3, 7, 8])
def test_area_average_is_the_exact_mean_of_the_covered_area(shape: tuple[int, ...], size: int) -> None:
    pixels = random_pixels(*shape)
    np.testing.assert_array_equal(area_average(pixels, size), mean_by_loops(pixels, size))


def test_straight_leaves_a_picture_of_the_right_size_alone() -> None:
    pixels = random_pixels(28, 28)
    np.testing.assert_array_equal(STRAIGHT(Image.fromarray(pixels), 28)[:, :, 0], pixels)


def test_straight_enlarges_with_bicubic_interpolation() -> None:
    image = Image.fromarray(random_pixels(28, 28))
    expected = np.asarray(image.resize((40, 40), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(STRAIGHT(image, 40)[:, :, 0], expected)


def test_snell_samples_the_page_at_the_middle_of_each_cell_and_puts_x_first() -> None:
    page = (random_pixels(105, 105) > 127).astype(np.uint8) * 255
    view = pipeline("snell")
    stored = torch.from_numpy(view.geometry(decode(encode_png(page), "L"), 28)[None].copy())
    picked = np.floor((np.arange(28) + 0.5) * 105 / 28).astype(int)
    expected = 1 - page[np.ix_(picked, picked)].T / 255
    np.testing.assert_array_equal(to_float(stored, view)[0, 0].numpy(), expected.astype(np.float32))


@pytest.mark.parametrize(("width", "height"), [(120, 100), (100, 120), (101, 150)])
def test_short_edge_rule_keeps_the_aspect_ratio_and_crops_the_middle(width: int, height: int) -> None:
    image = Image.fromarray(random_pixels(height, width, 3))
    short, long = sorted((width, height))
    longer = int(92 * long / short)
    target = (92, longer) if width < height else (longer, 92)
    resized = np.asarray(image.resize(target, Image.Resampling.BILINEAR))
    top, left = round((target[1] - 84) / 2), round((target[0] - 84) / 2)
    np.testing.assert_array_equal(SHORT_92(image, 84), resized[top : top + 84, left : left + 84])


@pytest.mark.parametrize(("size", "edge"), [(84, 96), (224, 257), (80, 92)])
def test_closerlook_squashes_to_1_15_of_the_size(size: int, edge: int) -> None:
    image = Image.fromarray(random_pixels(300, 260, 3))
    resized = np.asarray(image.resize((edge, edge), Image.Resampling.BILINEAR))
    start = round((edge - size) / 2)
    expected = resized[start : start + size, start : start + size]
    np.testing.assert_array_equal(SQUASH_115(image, size), expected)


@pytest.mark.parametrize("name", sorted(PIPELINES))
@pytest.mark.parametrize("size", [32, 84])
def test_every_pipeline_gives_finite_floats_of_its_size(name: str, size: int) -> None:
    view = pipeline(name)
    image = Image.fromarray(random_pixels(100, 130, 3))
    pixels = torch.from_numpy(view.geometry(image, size)[None].copy())
    x = normalise(to_float(pixels, view), view)
    assert x.shape == (1, 3, size, size)
    assert x.dtype == torch.float32
    assert x.isfinite().all()


@pytest.mark.parametrize(("name", "ink"), [("area", 0), ("snell", 0), ("stored", 255)])
def test_ink_is_one_and_paper_is_zero(name: str, ink: int) -> None:
    pixels = torch.full((1, 2, 2, 1), 255 - ink, dtype=torch.uint8)
    pixels[0, 0, 1, 0] = ink
    at = (1, 0) if name == "snell" else (0, 1)
    x = to_float(pixels, name)
    assert x[0, 0][at] == 1
    assert x.sum() == 1


def test_scaling_is_exact_division_by_255() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1)
    expected = (np.arange(256, dtype=np.float32) / np.float32(255)).reshape(16, 16)
    np.testing.assert_array_equal(to_float(pixels, "stored")[0, 0].numpy(), expected)


def test_normalisation_is_per_channel() -> None:
    x = torch.rand(2, 3, 4, 4)
    got = normalise(x, "deepemd")
    for c, (mean, std) in enumerate(zip((125.3, 123.0, 113.9), (63.0, 62.1, 66.7), strict=True)):
        # float32 rounding of a subtraction and a division
        torch.testing.assert_close(got[:, c], (x[:, c] - mean / 255) / (std / 255), rtol=1e-5, atol=1e-6)


def test_colour_normalisation_of_grey_images_is_refused() -> None:
    with pytest.raises(ConfigError, match="3 channels"):
        normalise(torch.rand(1, 1, 4, 4), "feat")


def test_a_mistyped_pipeline_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean `closerlook`"):
        pipeline("closerlok")


def test_grey_cmyk_palette_and_misnamed_pictures_become_rgb() -> None:
    for mode, kind in (("L", "JPEG"), ("CMYK", "JPEG"), ("P", "PNG"), ("RGBA", "PNG")):
        stream = io.BytesIO()
        Image.new(mode, (9, 7)).save(stream, kind)
        assert decode(stream.getvalue(), "RGB").size == (9, 7)
        assert decode(stream.getvalue(), "RGB").mode == "RGB"


def test_truncated_pictures_are_refused() -> None:
    whole = encode_png(random_pixels(40, 40))
    for cut in (0, 10, len(whole) // 2):
        with pytest.raises(DataError, match="whole image"):
            decode(whole[:cut], "L")


def test_geometries_of_one_name_are_one_geometry() -> None:
    by_name: dict[str, Geometry] = {}
    for view in PIPELINES.values():
        assert by_name.setdefault(view.geometry.name, view.geometry) == view.geometry
