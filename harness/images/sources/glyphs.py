"""The embedded data set `glyphs`: the characters of twenty invented alphabets, drawn from integers alone.

An alphabet owns a pool of strokes, each a cubic Bézier curve between two anchors of a loose 3×3 grid; two of
them are copies of others at a neighbouring place. A character is a set of two to four strokes of the pool, so
characters of one alphabet differ by a stroke or by where it stands. A drawing moves every control point, then
slants, stretches, turns and shifts the whole, and has a pen width of its own. Nothing here is from a paper;
the ranges are tuned so that raw pixels do poorly at 5-way 1-shot and a small network does clearly better.

Random words come from Philox, whose stream numpy guarantees, and all that follows is integer arithmetic:
every platform draws the same bytes, and `draw` makes sure that it did.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray

from harness.errors import DataError
from harness.seeding import stream

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Pixels = NDArray[np.uint8]
Cell = tuple[int, int]  # column and row in the grid
Chord = tuple[Cell, Cell]  # the cells that a stroke joins

ROLES = {"base": 96, "validation": 24, "novel": 40}  # classes of each role
N_CLASSES = sum(ROLES.values())
N_DRAWINGS = 40  # of each class
N_CHARACTERS = 8  # of each alphabet
N_ALPHABETS = N_CLASSES // N_CHARACTERS
SIDE = 28  # pixels
PIXELS_SHA256 = "26f701af05168e9a74c48eb36ee5cc8fea192c8ab8a2d904574abaa6152dda96"

# An alphabet. Coordinates are integers in 1/64 pixel, x to the right and y down.
UNIT = 64
GRID = 3  # anchors a side
PITCH = 400  # from anchor to anchor
LOOSENESS = 120  # how far an alphabet moves an anchor
N_SHAPES, N_COPIES = 4, 2  # strokes of a pool
CELLS: tuple[Cell, ...] = tuple(product(range(GRID), range(GRID)))
CHORDS = tuple(c for c in combinations(CELLS, 2) if 1.2 < math.dist(*c) < 2.5)  # not too short, not too long
STEPS = tuple(s for s in product((-1, 0, 1), (-1, 0, 1)) if s != (0, 0))
# How far the two inner control points stand off the chord, in quarters of its length.
LINES = ((0, 0), (0, 0))  # twice, as lines are common
ARCS = ((2, 2), (-2, -2), (3, 3), (-3, -3))
WAVES = ((3, -3), (-3, 3))
HOOKS = ((0, 4), (0, -4), (4, 0), (-4, 0))
BENDS = LINES + ARCS + WAVES + HOOKS

# A drawing. Ranges are half-widths; small values are likelier.
JITTER = 180  # of a control point, 1/64 pixel
SLANT = 360  # 1/1024
STRETCH = 240  # of the width and of the height, 1/1024
TURN = 220  # 1/1024 radian
SHIFT = 176  # 1/64 pixel
PEN_RADIUS = (190, 360)  # least and largest, all equally likely, 1/256 pixel

# The raster.
N_STAMPS = 65  # pen positions along a stroke: a quarter of a pixel apart on average, one pixel at most
REACH = 2  # cells on each side of the pen's own that it may darken
PAPER = SIDE + 2 * REACH  # cells a side, with a margin to be cut off


@dataclass(frozen=True, eq=False)
class GlyphSet:
    """The drawings and what is known of their classes.

    Attributes:
        pixels: (160, 40, 28, 28) uint8, class × drawing × row × column; paper is 0, ink is 255.
        class_names: one a class, unique, such as ``"A03/character05"``.
        groups: the alphabet of each class, such as ``"A03"``; no alphabet serves two roles.
        roles: ``"base"``, ``"validation"`` or ``"novel"`` for each class, in this order (`ROLES`).
    """

    pixels: Pixels
    class_names: tuple[str, ...]
    groups: tuple[str, ...]
    roles: tuple[str, ...]


def draw() -> GlyphSet:
    """Draw the whole set, in about a second, and check it against `PIXELS_SHA256`.

    Raises:
        DataError: this platform drew other pixels than the ones the published results rest on.
    """
    strokes, is_used = _programs()
    each = np.repeat(np.arange(N_CLASSES), N_DRAWINGS)  # the class of each drawing
    radius = _integers("pen", *PEN_RADIUS, (len(each),))
    pixels = rasterise(_by_hand(strokes[each]), is_used[each], radius)
    pixels = pixels.reshape(N_CLASSES, N_DRAWINGS, SIDE, SIDE)
    _check(pixels)
    groups = tuple(f"A{i // N_CHARACTERS:02d}" for i in range(N_CLASSES))
    names = tuple(f"{group}/character{i % N_CHARACTERS:02d}" for i, group in enumerate(groups))
    return GlyphSet(pixels, names, groups, tuple(role for role, n in ROLES.items() for _ in range(n)))


def pixels_digest(pixels: Pixels) -> str:
    """Return the sha256 (64 hex digits) of the pixels, uint8 of any shape, in C order.

    >>> pixels_digest(np.zeros((2, 2), np.uint8))[:12]
    'df3f619804a9'
    """
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


def rasterise(strokes: Ints, is_used: Flags, radius: Ints) -> Pixels:
    """Draw strokes with a round pen: a pixel's ink falls from 255 to 0 over one pixel at the pen's edge.

    The pen is stamped at `N_STAMPS` places along each stroke and a pixel keeps its darkest ink. Stamps beyond
    the paper are drawn on its edge.

    Args:
        strokes: (n, S, 4, 2) int64, control points (x, y) of S cubic Bézier curves, 1/64 pixel.
        is_used: (n, S) bool, the strokes that each image has.
        radius: (n,) int64 in [0, 512], of the pen, 1/256 pixel.

    Returns:
        (n, 28, 28) uint8.
    """
    paper = np.zeros((len(strokes), PAPER, PAPER), dtype=np.uint8)
    cells, corner = paper.reshape(-1), np.arange(len(strokes))[:, None, None] * PAPER**2
    distance = _distances()
    for i in range(strokes.shape[1]):
        rows = np.flatnonzero(is_used[:, i])
        path = np.clip(_path(strokes[rows, i]), 0, SIDE * UNIT - 1)  # (r, N_STAMPS, 2)
        edge = radius[rows, None, None] + 128
        for place in path.swapaxes(0, 1):
            index, square = _window(place)  # (r, 5, 5) each
            ink = np.clip(edge - distance[square], 0, 255).astype(np.uint8)
            index += corner[rows]
            cells[index] = np.maximum(cells[index], ink)
    return paper[:, REACH:-REACH, REACH:-REACH].copy()


def _window(place: Ints) -> tuple[Ints, Ints]:
    """Find the cells that a pen at each place (r, 2) may darken.

    Returns:
        Their index in a paper of `PAPER`² cells and their squared distance in (1/64 pixel)², (r, 5, 5) each.
    """
    cell = place[:, :, None] // UNIT + np.arange(-REACH, REACH + 1)  # (r, 2, 5)
    square = (cell * UNIT + UNIT // 2 - place[:, :, None]) ** 2
    cell += REACH
    index = cell[:, 1, :, None] * PAPER + cell[:, 0, None, :]
    return index, square[:, 1, :, None] + square[:, 0, None, :]


def _path(strokes: Ints) -> Ints:
    """Walk along Bézier curves (…, 4, 2) in equal steps of their parameter: (…, N_STAMPS, 2)."""
    last = N_STAMPS - 1
    t = np.arange(N_STAMPS, dtype=np.int64)
    u = last - t
    bernstein = np.stack([u**3, 3 * u * u * t, 3 * u * t * t, t**3], axis=1)  # rows sum to last³
    path: Ints = (bernstein @ strokes + last**3 // 2) // last**3
    return path


def _distances() -> Ints:
    """Tabulate the distance in 1/256 pixel by the squared distance in (1/64 pixel)², for a pen's window."""
    farthest = 2 * (REACH * UNIT + UNIT // 2) ** 2
    return np.array([math.isqrt(16 * square) for square in range(farthest + 1)], dtype=np.int64)


def _programs() -> tuple[Ints, Flags]:
    """Invent the classes: strokes (160, S, 4, 2), centred on the origin, and which of them each class uses."""
    pools = np.stack([_pool(alphabet) for alphabet in range(N_ALPHABETS)])
    is_used = np.concatenate([_characters(alphabet) for alphabet in range(N_ALPHABETS)])
    strokes = np.repeat(pools, N_CHARACTERS, axis=0)
    path, far = _path(strokes), 1 << 30
    low = np.where(is_used[:, :, None, None], path, far).min(axis=(1, 2))
    high = np.where(is_used[:, :, None, None], path, -far).max(axis=(1, 2))
    return strokes - ((low + high) // 2)[:, None, None, :], is_used


def _pool(alphabet: int) -> Ints:
    """Invent the strokes of an alphabet, (S, 4, 2): `N_SHAPES` of their own, then `N_COPIES` moved ones."""
    chords = [CHORDS[i] for i in _shuffled(f"chords/{alphabet}", len(CHORDS))[:N_SHAPES]]
    bends = [BENDS[i] for i in _shuffled(f"bends/{alphabet}", len(BENDS))[:N_SHAPES]]
    shapes = list(zip(chords, bends, strict=True))
    moved = [(copy, bend) for chord, bend in shapes for copy in _moves(chord) if copy not in chords]
    shapes += [moved[i] for i in _shuffled(f"copies/{alphabet}", len(moved))[:N_COPIES]]
    anchors = np.array(CELLS, dtype=np.int64) * PITCH
    anchors += _wobble(f"anchors/{alphabet}", LOOSENESS, anchors.shape)
    place = dict(zip(CELLS, anchors, strict=True))
    return np.stack([_stroke(place[start], place[end], bend) for (start, end), bend in shapes])


def _moves(chord: Chord) -> list[Chord]:
    """List a chord's neighbours: the same chord one cell further in any direction that the grid allows."""
    (x, y), (u, v) = chord
    moved = (((x + dx, y + dy), (u + dx, v + dy)) for dx, dy in STEPS)
    return [copy for copy in moved if copy in CHORDS]


def _stroke(start: Ints, end: Ints, bend: tuple[int, int]) -> Ints:
    """Bend a chord into the control points of a stroke, (4, 2)."""
    along, across = end - start, np.array([start[1] - end[1], end[0] - start[0]])
    thirds = zip((1, 2), bend, strict=True)
    inner = [start + (4 * third * along + 3 * off * across) // 12 for third, off in thirds]
    return np.stack([start, *inner, end])


def _characters(alphabet: int) -> Flags:
    """Choose the strokes of an alphabet's characters, (8, S): two, three or four, none a part of another."""
    n_strokes = N_SHAPES + N_COPIES
    sets = [frozenset(s) for size in (2, 3, 4) for s in combinations(range(n_strokes), size)]
    chosen: list[frozenset[int]] = []
    for i in _shuffled(f"characters/{alphabet}", len(sets)):
        if not any(sets[i] < other or other < sets[i] for other in chosen):
            chosen.append(sets[i])
    return np.array([[stroke in s for stroke in range(n_strokes)] for s in chosen[:N_CHARACTERS]])


def _by_hand(strokes: Ints) -> Ints:
    """Draw programs (n, S, 4, 2) as a hand would, no two alike, and put them in the middle of the paper."""
    n = len(strokes)
    x, y = np.moveaxis(strokes + _wobble("jitter", JITTER, strokes.shape), -1, 0)  # (n, S, 4) each
    x = x + (_wobble("slant", SLANT, (n, 1, 1)) * y) // 1024
    x = x * (1024 + _wobble("width", STRETCH, (n, 1, 1))) // 1024
    y = y * (1024 + _wobble("height", STRETCH, (n, 1, 1))) // 1024
    sine = _wobble("turn", TURN, (n, 1, 1))
    cosine = 1024 - sine * sine // 2048  # to second order, enough for a few degrees
    x, y = (cosine * x - sine * y) // 1024, (sine * x + cosine * y) // 1024
    return np.stack([x, y], axis=-1) + _wobble("shift", SHIFT, (n, 1, 1, 2)) + SIDE * UNIT // 2


def _integers(name: str, low: int, high: int, shape: tuple[int, ...]) -> Ints:
    """Draw integers from [low, high] in a stream of their own, with a bias below 2⁻²² of their probability."""
    words = np.random.Philox(key=stream(0, "glyphs", name)).random_raw(math.prod(shape))
    scaled = (words >> np.uint64(32)) * np.uint64(high - low + 1) >> np.uint64(32)
    return scaled.astype(np.int64).reshape(shape) + low


def _wobble(name: str, half: int, shape: tuple[int, ...]) -> Ints:
    """Draw integers from [-half, half], those near 0 likelier: the mean of two uniform ones."""
    wobble: Ints = _integers(name, -half, half, (2, *shape)).sum(axis=0) // 2
    return wobble


def _shuffled(name: str, n: int) -> list[int]:
    """Shuffle range(n)."""
    order: list[int] = np.argsort(_integers(name, 0, (1 << 32) - 1, (n,)), kind="stable").tolist()
    return order


def _check(pixels: Pixels) -> None:
    """Refuse pixels that are not the locked ones."""
    found = pixels_digest(pixels)
    if found != PIXELS_SHA256:
        raise DataError(
            f"`glyphs` should have the digest {PIXELS_SHA256[:12]}…, but this machine drew {found[:12]}…: "
            f"its results would not be comparable. Please report your platform and numpy {np.__version__}, "
            "and try another numpy version meanwhile."
        )
