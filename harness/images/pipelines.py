"""Pipelines by name: how an original picture becomes uint8 pixels, and which numbers a network gets from them."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from harness.errors import ConfigError, DataError, nearest

Pixels = npt.NDArray[np.uint8]
_Ints = npt.NDArray[np.int64]
Borders = tuple[tuple[_Ints, _Ints], tuple[_Ints, _Ints]]
Mode = Literal["L", "RGB"]
_ORIENTATION, _LYING = 0x0112, range(5, 9)  # the EXIF tag, and its values that swap height and width
NETWORK = "network-"  # begins the names of pipelines that came with a network
_NUMBER = r"\d+(?:\.\d+)?"
_NETWORK_NAME = re.compile(
    rf"{NETWORK}(?P<resample>bilinear|bicubic)-(?P<crop>{_NUMBER})-(?P<mean>{_NUMBER}(?:/{_NUMBER})*)-(?P<std>{_NUMBER}(?:/{_NUMBER})*)"
)
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)


@dataclass(frozen=True)
class Geometry:
    """How a decoded picture becomes a square of uint8 pixels; what differs between two is the map on disk.

    Attributes:
        name: names the map, ``maps/<name>-<size>.npy``.
        rule: ``straight`` squashes the whole picture onto the square (each pixel the exact mean of the area it
            covers; bicubic where the square is larger; untouched where sizes agree); ``nearest`` takes
            the pixel at floor((i + 0.5) · n / size); ``short`` resizes the shorter edge and crops the centre;
            ``squash`` resizes both edges and crops the centre; ``centre`` crops the largest central square
            first. The last three are bilinear with antialiasing, as Pillow and torchvision do it.
        edges: (size, edge before the crop) where published; other sizes scale by ``ratio``.
        ratio: edge before the crop, as a multiple of the size.
        first: edge of the squares that the authors' files hold in place of photographs: pictures are brought to it by
            ``straight`` before everything else; 0 for none. Training crops are cut from these squares, too.
        kept: share of that edge that the crop keeps, where this is what is published; takes the place of ``ratio``.
        is_bicubic: whether "short" resizes bicubically.
    """

    name: str
    rule: Literal["straight", "nearest", "short", "squash", "centre"]
    edges: tuple[tuple[int, int], ...] = ()
    ratio: float = 1.0
    first: int = 0
    kept: float = 0.0
    is_bicubic: bool = False

    def edge(self, size: int) -> int:
        """Edge before the crop in pixels."""
        if self.kept:
            return int(size / self.kept + 1e-6)
        return dict(self.edges).get(size, int(size * self.ratio))

    def __call__(self, image: Image.Image, size: int) -> Pixels:
        """Turn a picture of mode L or RGB into (size, size, C) uint8."""
        edge = self.edge(size)
        if self.first:
            image = Image.fromarray(_straight(image, self.first).squeeze(-1 if image.mode == "L" else ()))
        if self.rule == "straight":
            return _straight(image, size)
        if self.rule == "nearest":
            return _pixels(image.resize((size, size), Image.Resampling.NEAREST))
        if self.rule == "short":
            resample = Image.Resampling.BICUBIC if self.is_bicubic else Image.Resampling.BILINEAR
            image = _resized(image, _short_edge(image.size, edge), resample)
        elif self.rule == "squash":
            image = _bilinear(image, (edge, edge))
        else:
            image = _bilinear(_centre(image, min(image.size)), (size, size))
        return _pixels(_centre(image, size))


@dataclass(frozen=True)
class Pipeline:
    """What a network sees of a picture.

    Attributes:
        name: how runs and settings call it.
        geometry: from the original to uint8.
        invert: whether paper is white in the file; a network is given ink = 1 (paper = 0).
        transpose: whether the network is given the x axis first.
        mean: per channel, in [0, 1]; empty for no normalisation.
        std: per channel.
    """

    name: str
    geometry: Geometry
    invert: bool = False
    transpose: bool = False
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


STRAIGHT = Geometry("straight", "straight")
NEAREST = Geometry("nearest", "nearest")
CENTRE = Geometry("centre", "centre")
SHORT_92 = Geometry("short92", "short", ((84, 92), (80, 92)), 92 / 84)
SHORT_92_OF_84 = Geometry("short92of84", "short", ((84, 92), (80, 92)), 92 / 84, first=84)
SHORT_96 = Geometry("short96", "short", ((84, 96), (224, 256)), 96 / 84)
SQUASH_92 = Geometry("squash92", "squash", ((84, 92),), 92 / 84)
SQUASH_92_OF_224 = Geometry("squash92of224", "squash", ((84, 92),), 92 / 84, first=224)
SQUASH_96 = Geometry("squash96", "squash", ((84, 96), (80, 92), (224, 256)), 96 / 84)
SQUASH_115 = Geometry("squash115", "squash", (), 1.15)


def _by_255(*values: float) -> tuple[float, ...]:
    return tuple(v / 255 for v in values)


_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_METAOPT = (_by_255(120.39586422, 115.59361427, 104.54012653), _by_255(70.68188272, 68.27635443, 72.54505529))
_CIFAR10 = (_by_255(125.3, 123.0, 113.9), _by_255(63.0, 62.1, 66.7))
_CIFAR100_METAOPT = (
    _by_255(129.37731888, 124.10583864, 112.47758569),
    _by_255(68.20947949, 65.43124043, 70.45866994),
)
_CIFAR100_RFS = ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))
_CIFARFS_DEEPEMD = ((0.5071, 0.4866, 0.4409), (0.2009, 0.1984, 0.2023))
_NEGATIVE_MARGIN = ((0.507, 0.487, 0.441), (0.267, 0.257, 0.276))

PIPELINES: dict[str, Pipeline] = {
    p.name: p
    for p in (
        Pipeline("area", STRAIGHT, invert=True),  # scanned ink on paper: Omniglot's default
        Pipeline("snell", NEAREST, invert=True, transpose=True),  # prototypical-networks' own Omniglot rule
        Pipeline(
            "features", Geometry("features", "straight")
        ),  # saved features in place of pictures: as they are
        Pipeline("stored", STRAIGHT),  # as stored: glyphs, digits, MCT, R2D2
        Pipeline("metaoptnet", STRAIGHT, False, False, *_METAOPT),  # and RFS "A"
        Pipeline("metaoptnet-cifar", STRAIGHT, False, False, *_CIFAR100_METAOPT),
        Pipeline("rfs-resize", SHORT_92, False, False, *_CIFAR10),  # RFS "B" at 84, "C" at 80
        Pipeline("rfs-cifar", STRAIGHT, False, False, *_CIFAR100_RFS),  # RFS "D"
        Pipeline("feat", SHORT_92, False, False, *_IMAGENET),
        Pipeline("feat-resnet12", SHORT_92, False, False, *_METAOPT),
        Pipeline("feat-tiered", STRAIGHT, False, False, *_IMAGENET),
        Pipeline("deepemd", SQUASH_92, False, False, *_CIFAR10),
        Pipeline("deepemd-tiered", SQUASH_92_OF_224, False, False, *_CIFAR10),
        Pipeline("deepemd-cifarfs", SQUASH_92, False, False, *_CIFARFS_DEEPEMD),
        Pipeline("bml", SHORT_92, False, False, *_METAOPT),  # CUB: photographs
        Pipeline("bml-mini", SHORT_92_OF_84, False, False, *_METAOPT),  # pickles of ready squares
        Pipeline("bml-tiered", STRAIGHT, False, False, *_CIFAR10),  # and FC100
        Pipeline("bml-cifarfs", STRAIGHT, False, False, *_CIFAR100_RFS),
        Pipeline("closerlook", SQUASH_115, False, False, *_IMAGENET),
        Pipeline("negative-margin", SQUASH_115, False, False, *_NEGATIVE_MARGIN),
        Pipeline("mmfewshot", SHORT_96, False, False, *_IMAGENET),
        Pipeline("libfewshot", SQUASH_96, False, False, *_METAOPT),
        Pipeline("libfewshot-s2m2", SQUASH_96, False, False, *_IMAGENET),
        Pipeline("easyfsl", SQUASH_96, False, False, *_IMAGENET),
        Pipeline("simpleshot", SHORT_96, False, False, *_IMAGENET),  # and TIM
        Pipeline(
            "fine-grained", STRAIGHT, False, False, *_IMAGENET
        ),  # the proportions are lost, nothing is cut off
        Pipeline("tadam", CENTRE),  # its normalisation is not published: [0, 1]
    )
}


def pipeline(name: str) -> Pipeline:
    """Look a pipeline up by name.

    Raises:
        ConfigError: when there is none of that name; says which are near and which exist.
    """
    if name.startswith(NETWORK):
        return _of_network(name)
    if name not in PIPELINES:
        raise ConfigError(
            f"`{name}` is not a pipeline.{nearest(name, PIPELINES)} Known: {', '.join(sorted(PIPELINES))}."
        )
    return PIPELINES[name]


def geometry_named(name: str) -> Geometry | None:
    """The geometry of a map by its name; None where there is none."""
    if name.startswith(NETWORK):
        return _of_network(f"{name}-0-1").geometry if _NETWORK_NAME.fullmatch(f"{name}-0-1") else None
    return {p.geometry.name: p.geometry for p in PIPELINES.values()}.get(name)


def network_pipeline(crop: float, resample: str, mean: Sequence[float], std: Sequence[float]) -> str:
    """Name the pipeline of a network that came with its own input; the name says all of it.

    Args:
        crop: share of the resized short edge that the central crop keeps, in (0, 1].
        resample: "bilinear" or "bicubic".
        mean, std: per channel, of images in [0, 1].

    >>> network_pipeline(0.875, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    'network-bicubic-0.875-0.5/0.5/0.5-0.5/0.5/0.5'
    """
    told = ("/".join(f"{value:.6g}" for value in values) for values in (mean, std))
    return f"{NETWORK}{resample}-{crop:.6g}-{'-'.join(told)}"


def _of_network(name: str) -> Pipeline:
    found = _NETWORK_NAME.fullmatch(name)
    mean, std = (tuple(map(float, found[part].split("/"))) for part in ("mean", "std")) if found else ((), ())
    crop = float(found["crop"]) if found else 0.0
    if not found or len(mean) != len(std) or not 0 < crop <= 1 or min(std) <= 0:
        raise ConfigError(
            f"`{name}` is no pipeline of a network; one is called like {network_pipeline(1, 'bicubic', [0.5], [0.5])}."
        )
    kind = f"{NETWORK}{found['resample']}-{found['crop']}"
    geometry = Geometry(kind, "short", kept=crop, is_bicubic=found["resample"] == "bicubic")
    return Pipeline(name, geometry, False, False, mean, std)


def decode(content: bytes, mode: Mode, is_upright: bool = False) -> Image.Image:
    """Decode an image file to grey or RGB (CMYK, palette, 1-bit, 16-bit and float pictures are converted).

    Args:
        content: the file.
        mode: "L" or "RGB".
        is_upright: whether a picture is turned as its EXIF orientation says; else it is left as it is stored.

    Raises:
        DataError: when the bytes are not a whole image, or its numbers are no grey levels.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            turned = ImageOps.exif_transpose(image) if is_upright else image
            if turned.mode.startswith("F"):
                turned = _levels(turned)
            return (_narrow(turned) if turned.mode.startswith("I") else turned).convert(mode)
    except _BROKEN as error:
        raise DataError(f"is not a whole image ({_said(error, content)})") from error


def extent(content: bytes, is_upright: bool = False) -> tuple[int, int]:
    """Height and width in pixels, read from the head of an image file; (0, 0) where that cannot be read."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            is_lying = is_upright and image.getexif().get(_ORIENTATION, 1) in _LYING
            return (image.width, image.height) if is_lying else (image.height, image.width)
    except _BROKEN:
        return 0, 0


def _said(error: Exception, content: bytes) -> str:
    """What is wrong with a file, in words that speak of it and not of our buffers."""
    if not content:
        return "the file is empty"
    if isinstance(error, UnidentifiedImageError):
        is_page = content[:200].lstrip().lower().startswith((b"<!doctype", b"<html"))
        return "it is a web page" if is_page else "it begins like no kind of picture that is known"
    return str(error) or type(error).__name__


def _levels(image: Image.Image) -> Image.Image:
    """A picture of floats in 8 bits: levels in [0, 1] by convention, else in [0, 255] or [0, 65535]."""
    levels = np.asarray(image, dtype=np.float64)
    low, high = float(levels.min(initial=0)), float(levels.max(initial=0))
    if not (low >= 0 and high <= 65_535):
        raise ValueError(f"its numbers, {low:g} to {high:g}, are no levels in [0, 1], [0, 255] or [0, 65535]")
    scale = 255 if high <= 1 else 1 if high <= 255 else 1 / 257
    return Image.fromarray((levels * scale + 0.5).astype(np.uint8))


def _narrow(image: Image.Image) -> Image.Image:
    """A 16-bit grey picture in 8 bits, scaled; Pillow's own conversion clips."""
    wide = np.clip(np.asarray(image, dtype=np.int64), 0, 65_535)
    return Image.fromarray(((wide + 128) // 257).astype(np.uint8))


def encode_ppm(pixels: Pixels) -> bytes:
    """Encode (H, W, 3) uint8 as PPM: a line of header, then the pixels as they are."""
    height, width, _ = pixels.shape
    return b"P6 %d %d 255\n" % (width, height) + pixels.tobytes()


def encode_png(pixels: Pixels) -> bytes:
    """Encode (H, W) or (H, W, 3) uint8 as PNG, without loss."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def area_average(pixels: Pixels, size: int) -> Pixels:
    """Average a picture down to a square, exactly: the same bits on every machine.

    Every source pixel counts with the fraction of it that lies in the target pixel; halves round up;
    all arithmetic is in whole numbers.

    Args:
        pixels: (H, W, C) uint8, H ≥ size, W ≥ size.
        size: edge of the result in pixels.

    Returns:
        (size, size, C) uint8.

    >>> area_average(np.array([[[0], [0]], [[0], [255]]], dtype=np.uint8), 1).tolist()
    [[[64]]]
    """
    import cv2  # slow to import, and not needed by those who read a map that is there

    height, width, _ = pixels.shape
    depth = cv2.CV_32S if 255 * height * width < 1 << 31 else cv2.CV_64F  # exact, both
    table = cv2.integral(pixels, sdepth=depth).reshape(height + 1, width + 1, -1)  # of sums above and left
    left, right = _borders(width, size)
    # Between two pixels a running sum grows linearly, so the sums at borders are exact; in float64 all of them are
    # whole numbers below 2^53, and quotients lie at least 1 / (2 · area) from the next whole number.
    at_left, at_right = (
        _at(table.take(side, axis=1), _borders(height, size)) for side in (left[0], right[0])
    )
    at_borders = at_left * left[1][:, None] + at_right * right[1][:, None]  # (size + 1, size + 1, C)
    sums = np.diff(np.diff(at_borders, axis=0), axis=1)  # (size, size, C)
    area = height * width
    return np.floor((2 * sums + area) / (2 * area)).astype(np.uint8)


def _at(table: npt.NDArray[Any], borders: Borders) -> npt.NDArray[np.float64]:
    """Running sums (n, m, C) at borders of their rows: (size + 1, m, C)."""
    (above, part_above), (below, part_below) = borders
    sums = table.take(above, axis=0).astype(np.float64) * part_above[:, None, None]
    sums += table.take(below, axis=0) * part_below[:, None, None]
    return sums


@lru_cache(maxsize=256)  # the pictures of a set have few different edges
def _borders(n: int, size: int) -> Borders:
    """Pixels before and after each of the size + 1 borders of equal stretches of n, and what counts of each, in 1/size."""
    whole, part = np.divmod(np.arange(size + 1) * n, size)
    return (whole, size - part), (np.minimum(whole + 1, n), part)


def _straight(image: Image.Image, size: int) -> Pixels:
    if image.size == (size, size):
        return _pixels(image)
    if min(image.size) < size:
        return _pixels(image.resize((size, size), Image.Resampling.BICUBIC))
    return area_average(_pixels(image), size)


def _pixels(image: Image.Image) -> Pixels:
    pixels = np.asarray(image, dtype=np.uint8)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels  # (H, W, C)


def _bilinear(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return _resized(image, size, Image.Resampling.BILINEAR)


def _resized(image: Image.Image, size: tuple[int, int], resample: Image.Resampling) -> Image.Image:
    return image if image.size == size else image.resize(size, resample)


def _short_edge(size: tuple[int, int], edge: int) -> tuple[int, int]:
    short, long = min(size), max(size)
    longer = int(edge * long / short)
    return (edge, longer) if size[0] <= size[1] else (longer, edge)


def _centre(image: Image.Image, size: int) -> Image.Image:
    left, top = round((image.width - size) / 2), round((image.height - size) / 2)
    return image.crop((left, top, left + size, top + size))
