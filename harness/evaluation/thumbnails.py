"""Small pictures of a run's worst and best episodes, for its page; of sets whose terms allow it, or where asked for."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image

from harness.images.stores import ImageStore
from harness.runs import Counts, EpisodeTable
from harness.system.process import PICTURES

FREE = frozenset({"glyphs", "digits", "omniglot", "omniglot-small", "omniglot-runs"})  # may be passed on
N_EXTREMES = 5  # worst and best episodes, as on the page of a run
MAX_WRONG = 2  # pictured queries of a class that were given to another
MAX_SIDE = 40  # pixels
MAX_BYTES = {
    1: 24_000,
    3: 120_000,
}  # of all pictures of a run, in base64, by channels: colour is only there when asked
GREYS, COLOURS = 4, 32


def are_kept(dataset: str) -> bool:
    """Whether pictures of a data set are stored with results: what the user says, else whether its terms allow it."""
    asked = os.environ.get(PICTURES)
    return asked != "0" if asked else dataset in FREE


def extremes(n_correct: npt.ArrayLike, n_query: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Numbers of the extreme episodes, the worst, the best, the second worst, the second best, …, each once.

    Args:
        n_correct, n_query: (E,) counts.
    """
    share = np.asarray(n_correct) / np.maximum(n_query, 1)
    order = np.lexsort((np.arange(len(share)), share))
    n = min(N_EXTREMES, len(order))
    pairs = np.stack([order[:n], order[::-1][:n]], axis=1)
    return np.asarray(list(dict.fromkeys(pairs.ravel().tolist())), dtype=np.int64)


def of_run(novel: ImageStore, episodes: EpisodeTable, counts: Counts) -> dict[str, str]:
    """Picture what the extreme episodes were shown, and some of the queries they got wrong.

    Whole episodes, as many as ``MAX_BYTES`` allows, the most extreme first.

    Args:
        novel: the images.
        episodes: the evaluated list, not of the joint protocol.
        counts: with predictions.

    Returns:
        Base64 of a PNG by image row (as text).
    """
    found: dict[str, str] = {}
    for i in extremes(counts.n_correct, counts.n_query):
        rows = np.unique(np.concatenate([episodes.support[i].ravel(), *_wrong(int(i), episodes, counts)]))
        pictures = zip(rows.tolist(), novel.images(rows), strict=True)
        more = {str(row): _png(pixels) for row, pixels in pictures if str(row) not in found}
        if sum(map(len, (*found.values(), *more.values()))) > MAX_BYTES[novel.shape[2]]:
            break
        found |= more
    return found


def _wrong(i: int, episodes: EpisodeTable, counts: Counts) -> Iterator[npt.NDArray[np.int32]]:
    """Of each class of episode i the rows of the first queries that were given to another."""
    assert counts.predictions is not None, "episodic runs keep their predictions"
    given = counts.predictions[i].reshape(episodes.query.shape[1:])  # (W, Q)
    for label, (rows, labels) in enumerate(zip(episodes.query[i], given, strict=True)):
        yield rows[(labels != label) & (rows >= 0)][:MAX_WRONG]


def _png(pixels: npt.NDArray[np.uint8]) -> str:
    """Write (H, W, C) uint8 as a small PNG with few colours, in base64."""
    side = max(pixels.shape[:2])
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    if side > MAX_SIDE:
        size = tuple(max(1, round(edge * MAX_SIDE / side)) for edge in image.size)
        image = image.resize((size[0], size[1]), Image.Resampling.BOX)
    small = image.quantize(GREYS if image.mode == "L" else COLOURS, dither=Image.Dither.NONE)
    file = io.BytesIO()
    small.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()
