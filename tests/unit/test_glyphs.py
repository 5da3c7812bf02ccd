"""The embedded data set: the same bytes everywhere, sound classes, a faithful pen, and not too easy."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.errors import DataError
from harness.images.sources import glyphs
from harness.images.sources.glyphs import GlyphSet, draw, pixels_digest, rasterise

Floats = NDArray[np.float64]
Curve = tuple[tuple[int, int], ...]


@pytest.fixture(scope="module")
def drawn() -> GlyphSet:
    return draw()


def test_pixels_are_the_locked_ones(drawn: GlyphSet) -> None:
    assert pixels_digest(drawn.pixels) == glyphs.PIXELS_SHA256


def test_two_calls_draw_the_same(drawn: GlyphSet) -> None:
    again = draw()
    np.testing.assert_array_equal(again.pixels, drawn.pixels)
    assert (again.class_names, again.groups, again.roles) == (drawn.class_names, drawn.groups, drawn.roles)


def test_a_platform_that_draws_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glyphs, "PEN_RADIUS", (190, 361))
    with pytest.raises(DataError, match=f"digest {glyphs.PIXELS_SHA256[:12]}.* drew .*report your platform"):
        draw()


def test_shapes_and_roles(drawn: GlyphSet) -> None:
    assert drawn.pixels.shape == (160, 40, 28, 28)
    assert drawn.pixels.dtype == np.uint8
    assert (drawn.pixels.min(), drawn.pixels.max()) == (0, 255)
    assert drawn.roles == ("base",) * 96 + ("validation",) * 24 + ("novel",) * 40
    assert glyphs.ROLES == {"base": 96, "validation": 24, "novel": 40}


def test_names_are_unique_and_begin_with_their_alphabet(drawn: GlyphSet) -> None:
    assert len(set(drawn.class_names)) == len(drawn.class_names) == 160
    for name, group in zip(drawn.class_names, drawn.groups, strict=True):
        assert name.startswith(f"{group}/character")


def test_alphabets_have_eight_characters_and_one_role(drawn: GlyphSet) -> None:
    assert {drawn.groups.count(group) for group in drawn.groups} == {8}
    assert len(set(zip(drawn.groups, drawn.roles, strict=True))) == len(set(drawn.groups)) == 20


def test_every_drawing_is_its_own(drawn: GlyphSet) -> None:
    images = drawn.pixels.reshape(-1, 28 * 28)
    assert len(np.unique(images, axis=0)) == len(images)


def test_ink_is_legible(drawn: GlyphSet) -> None:
    """Each drawing has between 2 % and 35 % of ink: neither a lost dot nor a blot."""
    ink = drawn.pixels.mean(axis=(2, 3)) / 255
    assert ink.min() > 0.02
    assert ink.max() < 0.35


def test_characters_are_different_sets_of_strokes_of_their_alphabet() -> None:
    _, is_used = glyphs._programs()
    assert set(is_used.sum(axis=1)) == {2, 3, 4}
    for alphabet in range(20):
        pool = glyphs._pool(alphabet)
        assert len({stroke.tobytes() for stroke in pool}) == len(pool)
        rows = is_used[8 * alphabet : 8 * alphabet + 8]
        for i, row in enumerate(rows):
            others = np.delete(rows, i, axis=0)
            assert (row & ~others).any(axis=1).all()  # none is a part of another


def test_every_pair_of_classes_is_distinct(drawn: GlyphSet) -> None:
    """Means of two classes differ more than means of two halves of one class, each in units of their noise.

    Compared are drawings centred on their ink, in 2×2 blocks, so that the shift is no noise. For samples of one
    distribution the statistic has the expectation 1 whatever their number; its largest value among the 160
    splits is what chance does, and the smallest among the 12,720 pairs must exceed it.
    """
    x = _blocks(_centred(drawn.pixels.reshape(-1, 28, 28))).reshape(160, 40, -1)
    noise = x.var(axis=1, ddof=1).sum(axis=-1)  # (160,)
    halves = x.reshape(160, 20, 2, -1).mean(axis=1)  # (160, 2, D)
    chance = ((halves[:, 0] - halves[:, 1]) ** 2).sum(axis=-1) / (noise * 2 / 20)
    i, j = np.triu_indices(160, k=1)
    mean = x.mean(axis=1)
    between = ((mean[i] - mean[j]) ** 2).sum(axis=-1) / ((noise[i] + noise[j]) / 40)
    assert 0.9 < chance.mean() < 1.1
    assert between.min() > chance.max()


CURVES: dict[str, Curve] = {
    "line": ((300, 400), (633, 733), (967, 1067), (1300, 1400)),
    "arc": ((400, 900), (600, 500), (1100, 500), (1400, 900)),
    "wave": ((400, 900), (700, 1300), (1000, 500), (1300, 900)),
    "dot": ((800, 801), (800, 801), (800, 801), (800, 801)),
}
# Levels of ink, 256 a pixel. The stamps of these curves are up to s = 0.37 pixel apart, so a pixel at distance d
# may lie sqrt(d² + (s/2)²) from the nearest; ink varies from d = radius - 1/2 on, 0.28 pixel at least, where that
# is 14 levels more. Rounding stamps to 1/64 pixel and distances to 1/256 adds 4.
TOLERANCE = 18


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("radius", [200, 300, 360])
def test_pen_agrees_with_the_distance_to_the_curve(name: str, radius: int) -> None:
    strokes = np.array(CURVES[name], dtype=np.int64).reshape(1, 1, 4, 2)
    image = rasterise(strokes, np.ones((1, 1), dtype=bool), np.array([radius]))[0]
    expected = _reference([CURVES[name]], radius)
    assert expected.max() > 240
    np.testing.assert_allclose(image, expected, atol=TOLERANCE)


def test_a_pixel_keeps_the_darkest_of_the_strokes_in_use() -> None:
    curves = [CURVES["arc"], CURVES["wave"], CURVES["line"]]
    strokes = np.array([curves] * 2, dtype=np.int64)
    is_used = np.array([[True, True, False], [True, True, True]])
    images = rasterise(strokes, is_used, np.array([300, 300]))
    np.testing.assert_allclose(images[0], _reference(curves[:2], 300), atol=TOLERANCE)
    np.testing.assert_allclose(images[1], _reference(curves, 300), atol=TOLERANCE)


def test_strokes_beyond_the_paper_are_drawn_on_its_edge() -> None:
    outside = np.array([[-900, 500], [-700, 600], [-600, 700], [-500, 800]], dtype=np.int64).reshape(
        1, 1, 4, 2
    )
    image = rasterise(outside, np.ones((1, 1), dtype=bool), np.array([256]))[0]
    assert image[8:12, 0].min() == 255
    assert image[:, 2:].max() == 0


def test_raw_pixels_do_not_suffice_and_are_not_useless(drawn: GlyphSet) -> None:
    """300 episodes have a half-width of about 1 point around 56 %, far from either bound."""
    novel = drawn.pixels[120:, :20].reshape(40, 20, -1) / np.float32(255)
    accuracy = _nearest_centroid(novel, np.random.Generator(np.random.Philox(0)), n_episodes=300)
    assert 0.40 < accuracy < 0.70


def _reference(curves: list[Curve], radius: int) -> Floats:
    """Draw in floating point: each pixel's distance to the polyline through 400 points of each curve."""
    lines = [np.array([_bezier(curve, k / 400) for k in range(401)]) / 64 for curve in curves]
    image = np.zeros((28, 28))
    for row in range(28):
        for column in range(28):
            centre = np.array([column + 0.5, row + 0.5])
            distance = min(_distance(centre, line) for line in lines)
            image[row, column] = min(max(radius + 128 - 256 * distance, 0), 255)
    return image


def _bezier(curve: Curve, t: float) -> Floats:
    """De Casteljau's construction."""
    points = [np.array(p, dtype=float) for p in curve]
    while len(points) > 1:
        points = [(1 - t) * a + t * b for a, b in pairwise(points)]
    return points[0]


def _distance(point: Floats, line: Floats) -> float:
    start, along = line[:-1], np.diff(line, axis=0)
    length = np.maximum((along**2).sum(axis=1), 1e-12)
    t = np.clip(((point - start) * along).sum(axis=1) / length, 0, 1)
    return float(np.sqrt(((start + t[:, None] * along - point) ** 2).sum(axis=1).min()))


def _centred(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Roll each image so that its ink's centre of mass falls on the middle pixel."""
    weights = images.astype(float)
    pixel = np.arange(28)
    rows = (weights.sum(axis=2) @ pixel / weights.sum(axis=(1, 2))).round().astype(int) - 14
    columns = (weights.sum(axis=1) @ pixel / weights.sum(axis=(1, 2))).round().astype(int) - 14
    each = np.arange(len(images))[:, None, None]
    return images[each, (pixel[:, None] + rows[:, None, None]) % 28, (pixel + columns[:, None, None]) % 28]


def _blocks(images: NDArray[np.uint8]) -> Floats:
    """Average 2×2 blocks, in [0, 1]."""
    blocks: Floats = images.reshape(len(images), 14, 2, 14, 2).mean(axis=(2, 4)) / 255
    return blocks


def _nearest_centroid(x: NDArray[np.float32], rng: np.random.Generator, n_episodes: int) -> float:
    """Accuracy at 5-way 1-shot with 15 queries on x (classes, drawings, D)."""
    correct = 0
    for _ in range(n_episodes):
        classes = rng.permutation(len(x))[:5]
        picked = rng.permuted(np.tile(np.arange(x.shape[1]), (5, 1)), axis=1)[:, :16]
        images = x[classes[:, None], picked]  # (5, 16, D)
        support, query = images[:, 0], images[:, 1:].reshape(75, -1)
        distance = (support**2).sum(axis=1) - 2 * query @ support.T
        correct += int((distance.argmin(axis=1).reshape(5, 15) == np.arange(5)[:, None]).sum())
    return correct / (75 * n_episodes)
