"""Training augmentation beside torchvision's transforms in a DataLoader of two workers: prints a table.

Both crop, recolour, mirror and normalise decoded pictures to 84 pixels. Ours cut from the stored squares and
from a map of whole pictures of twice the size (`sharpness.py` has the originals); theirs from squares of 84 pixels as
Pillow images, the fastest of torchvision's usual ways here. The best of some rounds in turn is shown.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from harness.system import process

if __name__ == "__main__":
    process.settle_threads()  # before torch is there

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from harness.backbones.torchvision_import import import_torchvision
from harness.images.stores import WholePictures, store_of_arrays
from harness.seeding import torch_generator
from harness.system.process import keep_freed_memory
from harness.training.base_set import BaseSet

SIZE, BATCH, N_WORKERS, N_ROUNDS = 84, 128, 2, 4
N_CLASSES, N_EACH = 20, 200
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Squares(Dataset[Any]):
    """Decoded pictures with torchvision's transforms, one at a time."""

    def __init__(self, pixels: np.ndarray) -> None:
        import_torchvision()
        from torchvision import transforms

        self.pixels = pixels
        self.transform = transforms.Compose(
            [
                transforms.RandomResizedCrop(SIZE),
                transforms.ColorJitter(0.4, 0.4, 0.4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, row: int) -> Any:
        return self.transform(Image.fromarray(self.pixels[row]))


def ours(edge: int) -> BaseSet:
    """Base images of 84 pixels whose crops are cut from squares of ``edge`` pixels."""
    rng = np.random.default_rng(0)
    shape = (N_CLASSES, N_EACH, SIZE, SIZE, 3)
    store = store_of_arrays("pictures", rng.integers(0, 256, shape, np.uint8), list("abcdefghijklmnopqrst"))
    whole = None
    if edge != SIZE:
        larger = (N_CLASSES, N_EACH, edge, edge, 3)
        squashed = store_of_arrays("whole", rng.integers(0, 256, larger, np.uint8), store.class_names)
        whole = WholePictures(squashed, np.full((len(store), 2), (375, 500)))
    return BaseSet(store, "feat", torch.device("cpu"), torch_generator(0, "training"), whole=whole)


def seconds(work: Any) -> float:
    """Of one pass over all images, after a first batch: workers have started then."""
    batches = iter(work)
    next(batches)
    start, n = time.perf_counter(), 0
    for batch in batches:
        n += len(batch[0] if isinstance(batch, list | tuple) else batch)
    return (time.perf_counter() - start) / n


def main() -> None:
    """Measure and print."""
    keep_freed_memory()
    stored, whole = ours(SIZE), ours(2 * SIZE)
    squares = Squares(stored._store.pixels)
    peer = DataLoader(squares, BATCH, shuffle=True, num_workers=N_WORKERS)
    work = {
        "torchvision, 2 workers": lambda: peer,
        "fsbench, stored squares": lambda: stored.batches(BATCH, augment=True),
        "fsbench, whole pictures at 168": lambda: whole.batches(BATCH, augment=True),
    }
    best = dict.fromkeys(work, float("inf"))
    for _ in range(N_ROUNDS):
        for name, start in work.items():
            best[name] = min(best[name], seconds(start()))
    usual = best["torchvision, 2 workers"]
    print(f"{'augment to 84 pixels':44}{'images/s':>10}{'times':>8}")
    for name, each in best.items():
        print(f"{name:44}{1 / each:>10,.0f}{usual / each:>8.2f}")


if __name__ == "__main__":
    sys.exit(main())
