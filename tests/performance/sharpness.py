"""Sharpness, disk and speed of random training crops by what they are cut from: prints a table.

    python -m tests.performance.sharpness [--photographs FOLDER] [--boxes 400]

Sharpness is the variance of the Laplacian of a crop resized to 84 pixels, over that of the same box cut from the original
of 500×375 and resized as torchvision does it; the mean ratio, by the area of the box. The photographs are scikit-learn's
two and matplotlib's one, brought to 500×375 by Lanczos, and those of a folder. Speed is that of batches of 128 augmented
crops per second of processor time, all threads together, decoding included where it is part of the loop.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from harness.images import full
from harness.images.augmentations import ORIGINALS
from harness.images.crops import Boxes, crop_resize, resized_boxes, scaled
from harness.images.inputs import to_float
from harness.images.manifest import SourceFile
from harness.images.originals import Picture
from harness.images.pipelines import Pixels, area_average
from harness.images.plan import Plan
from harness.images.prepare import write
from harness.images.stores import ImageStore, WholePictures
from harness.seeding import torch_generator
from harness.training.base_set import BaseSet

SIZE, WIDTH, HEIGHT = 84, 500, 375
EDGES = (168, 252, 336, 420, 500)
AREAS = (0.08, 0.15, 0.25, 0.5, 1.0)
N_PICTURES, BATCH, N_BATCHES = 600, 128, 4


def main() -> None:
    """Print the table."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--photographs", type=Path)
    asked.add_argument("--boxes", type=int, default=400, help="of each photograph")
    given = asked.parse_args()
    torch.set_num_interop_threads(1)
    pictures = [photograph(path) for path in photographs(given.photographs)]
    ratios = {edge: sharpness(pictures, edge, given.boxes) for edge in EDGES}
    area = areas(given.boxes * len(pictures))
    bins = list(pairwise(AREAS))
    heads = "".join(f"{low:.2f}–{high:.2f}".rjust(12) for low, high in bins)
    sys.stdout.write(f"{len(pictures)} photographs, {given.boxes} boxes each\n")
    sys.stdout.write(
        f"{'crops from':24}{heads}{'all':>8}{'kB/picture':>12}{'GB/60,000':>11}{'img/cpu s':>11}\n"
    )
    jpeg = np.mean([len(encoded(p)) for p in pictures])
    with tempfile.TemporaryDirectory() as folder:
        store = prepared(Path(folder), pictures)
        for edge in EDGES:
            by_area = [ratios[edge][(area >= low) & (area < high)].mean() for low, high in bins]
            show(f"map of {edge}", [*by_area, ratios[edge].mean()], 3 * edge**2, speed(store, edge))
        raw = speed(store, ORIGINALS)
        full.MOST_BYTES = 0
        decoding = speed(store, ORIGINALS)
    show("originals, decoded once", [1.0] * (len(bins) + 1), 3 * WIDTH * HEIGHT, raw)
    show("originals, JPEG", [1.0] * (len(bins) + 1), jpeg, decoding)


def show(name: str, ratios: list[float], n_bytes: float, rate: float) -> None:
    """Print a row."""
    told = "".join(f"{ratio:12.2f}" for ratio in ratios[:-1]) + f"{ratios[-1]:8.2f}"
    sys.stdout.write(f"{name:24}{told}{n_bytes / 1e3:12.0f}{60_000 * n_bytes / 1e9:11.1f}{rate:11.0f}\n")


def photographs(folder: Path | None) -> Iterator[Path]:
    """Those that packages bring, and the user's."""
    import matplotlib
    import sklearn.datasets

    yield from sorted((Path(sklearn.datasets.__file__).parent / "images").glob("*.jpg"))
    yield Path(matplotlib.__file__).parent / "mpl-data/sample_data/grace_hopper.jpg"
    if folder:
        yield from sorted(p for p in folder.iterdir() if p.suffix in (".jpg", ".png", ".jpeg"))


def photograph(path: Path) -> Pixels:
    """A picture cut to 4:3 and brought to 500×375: (375, 500, 3) uint8."""
    image = Image.open(path).convert("RGB")
    width = min(image.width, image.height * WIDTH // HEIGHT)
    height = width * HEIGHT // WIDTH
    left, top = (image.width - width) // 2, (image.height - height) // 2
    part = image.crop((left, top, left + width, top + height))
    return np.asarray(part.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))


def boxes_of(n: int) -> Boxes:
    """The boxes that are compared, of pictures of 500×375."""
    extents = torch.tensor([[HEIGHT, WIDTH]]).expand(n, 2)
    return resized_boxes(extents[:, 0], extents[:, 1], torch.Generator().manual_seed(0))


def areas(n: int) -> np.ndarray:
    """(n,) of the boxes, as parts of the picture."""
    boxes = boxes_of(n)
    return ((boxes.height * boxes.width) / (HEIGHT * WIDTH)).numpy()


def sharpness(pictures: list[Pixels], edge: int, n: int) -> np.ndarray:
    """Ours over torchvision's, (pictures · n,)."""
    boxes, found = boxes_of(n * len(pictures)), []
    extents = torch.tensor([[HEIGHT, WIDTH]]).expand(n, 2)
    for i, pixels in enumerate(pictures):
        squashed = torch.tensor(area_average(pixels, edge) if edge <= HEIGHT else enlarged(pixels, edge))
        own = Boxes(*(part[i * n : (i + 1) * n] for part in boxes))
        x = to_float(squashed[None], "stored").expand(n, -1, -1, -1)
        cut = scaled(own, extents, edge, edge)
        ours = torch.cat([
            crop_resize(x[:50], Boxes(*(p[j : j + 50] for p in cut)), torch.zeros(len(cut.top[j : j + 50]), dtype=torch.bool), SIZE)
            for j in range(0, n, 50)
        ])  # fmt: skip
        image = Image.fromarray(pixels)
        for j, (top, left, height, width) in enumerate(torch.stack(tuple(own), 1).tolist()):
            theirs = image.crop((left, top, left + width, top + height)).resize(
                (SIZE, SIZE), Image.Resampling.BILINEAR
            )
            found.append(laplacian(255 * ours[j].permute(1, 2, 0).numpy()) / laplacian(np.asarray(theirs)))
    return np.array(found)


def enlarged(pixels: Pixels, edge: int) -> Pixels:
    """What ``straight`` does where an edge is longer than the picture's."""
    return np.asarray(Image.fromarray(pixels).resize((edge, edge), Image.Resampling.BICUBIC))


def laplacian(pixels: np.ndarray) -> float:
    """Variance of the Laplacian of the grey picture."""
    grey = cv2.cvtColor(pixels.astype(np.float32), cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(grey, cv2.CV_32F).var())


def encoded(pixels: Pixels) -> bytes:
    """A JPEG of the usual quality."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=95)
    return stream.getvalue()


def prepared(folder: Path, pictures: list[Pixels]) -> ImageStore:
    """A set of the photographs, many times."""
    content = [encoded(p) for p in pictures]

    def every() -> Iterator[Picture]:
        for i in range(N_PICTURES):
            yield Picture("a", f"{i:04d}.jpg", partial(content.__getitem__, i % len(content)), "g")

    plan = Plan(
        dataset="photographs", population="packages", mode="RGB", sources=(SourceFile("packages", 1),), terms="",
        n_images=N_PICTURES, n_bytes=1, pipeline="stored", size=SIZE, pictures=every,
    )  # fmt: skip
    return write(plan, folder).dataset.select(["a"], "closerlook", SIZE)


def speed(store: ImageStore, edge: int) -> float:
    """Augmented images a second of processor time, after the first batch."""
    whole = store.full() if edge == ORIGINALS else store.whole(edge)
    base = BaseSet(store, "closerlook", torch.device("cpu"), torch_generator(0, "training"), whole=whole)
    assert isinstance(whole, WholePictures | full.FullPictures)
    batches = base.batches(BATCH, augment=True)
    next(batches)
    began, n = time.process_time(), 0
    for x, _ in batches:
        n += len(x)
    took = time.process_time() - began
    base.close()
    return n / took


if __name__ == "__main__":
    main()
