"""Decoding and feeding images, beside torchvision's ImageFolder with a DataLoader of two workers: prints a table.

    python -m tests.performance.decode [--images 1200] [--keep FOLDER]

The pictures are synthetic photographs of ImageNet's usual size, 500×375, some 110 kB each. "plain" is the same resize as
torchvision's, pixel for pixel; "straight" (the exact mean of the covered area) and "short92" are fsbench's defaults.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from harness.backbones.torchvision_import import import_torchvision
from harness.images import maps, patches
from harness.images.inputs import normalise, to_float
from harness.images.manifest import SourceFile
from harness.images.originals import Picture
from harness.images.pipelines import SHORT_92, STRAIGHT
from harness.images.plan import Plan
from harness.images.prepare import write
from harness.images.stores import PreparedSet

USUAL, MAP = "torchvision ImageFolder + DataLoader", "fsbench memory map"
SIZE, BATCH, N_CLASSES, N_WORKERS = 84, 128, 20, 2


def photograph(seed: int) -> bytes:
    """Noise at several scales, as natural images have it."""
    rng = np.random.default_rng(seed)
    total = np.zeros((375, 500, 3), dtype=np.float32)
    for edge in (4, 16, 64, 300):
        coarse = Image.fromarray(rng.integers(0, 256, (edge, edge, 3), dtype=np.uint8))
        total += np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC), dtype=np.float32) / 4
    stream = io.BytesIO()
    Image.fromarray(total.astype(np.uint8)).save(stream, "JPEG", quality=94)
    return stream.getvalue()


def make(folder: Path, n: int) -> int:
    """Write class folders of photographs; their mean size in bytes."""
    sizes = []
    for i in range(n):
        path = folder / f"c{i % N_CLASSES:02d}" / f"{i:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photograph(i))
        sizes.append(path.stat().st_size)
    return sum(sizes) // n


def prepared(folder: Path, home: Path, n: int) -> PreparedSet:
    """The same pictures as a prepared set; only the originals matter, so its own map is tiny."""

    def pictures() -> Iterator[Picture]:
        for path in sorted(folder.glob("*/*.jpg")):
            yield Picture(path.parent.name, path.name, path.read_bytes)

    plan = Plan("photographs", "made", "RGB", (SourceFile("made", n),), "none", n, 0, "easyfsl", 1, pictures)
    return write(plan, home).dataset


def rates(work: dict[str, tuple[int, Callable[[], object]]], rounds: int = 4) -> dict[str, float]:
    """Units per second of each piece of work, best of some rounds in turn, so that a busy machine is so for all."""
    best = dict.fromkeys(work, float("inf"))
    for _ in range(rounds):
        for name, (_, run) in work.items():
            start = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - start)
    return {name: n / best[name] for name, (n, _) in work.items()}


def loader(folder: Path) -> Any:
    """ImageFolder and DataLoader as tutorials write them."""
    import_torchvision()
    from torchvision import datasets, transforms

    steps = [transforms.Resize((SIZE, SIZE)), transforms.ToTensor()]
    steps.append(transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    images = datasets.ImageFolder(str(folder), transforms.Compose(steps))
    return torch.utils.data.DataLoader(images, BATCH, shuffle=True, num_workers=N_WORKERS)


def build(found: PreparedSet, geometry: Any) -> None:
    """Decode every picture into a new map."""
    path = maps.map_path(found.folder, geometry, SIZE)
    for old in (path, path.with_suffix(".json")):
        old.unlink(missing_ok=True)
    maps.ensure_map(found.folder, found.manifest, geometry, SIZE)


def feed(found: PreparedSet, n_batches: int) -> None:
    """Shuffled batches out of the memory map, normalised."""
    store = found.select(found.class_names, "feat", SIZE)
    rng = torch.Generator().manual_seed(0)
    for _ in range(n_batches):
        rows = torch.randint(len(store), (BATCH,), generator=rng).numpy()
        normalise(to_float(torch.from_numpy(store.images(rows)), "feat"), "feat")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=1200)
    n = parser.parse_args().images
    with tempfile.TemporaryDirectory() as place:
        folder, home = Path(place) / "images", Path(place) / "data"
        print(f"{n} JPEGs of 500×375, {make(folder, n):,} bytes each; {N_WORKERS} workers or threads")
        found = prepared(folder, home, n)
        work: dict[str, tuple[int, Callable[[], object]]] = {USUAL: (n, lambda: [0 for _ in loader(folder)])}
        for geometry in (patches.PLAIN, SHORT_92, STRAIGHT):
            work[f"fsbench map `{geometry.name}`"] = (n, partial(build, found, geometry))
        work[MAP] = (40, lambda: feed(found, 40))
        measured = rates(work)
        usual, fed = measured[USUAL], measured.pop(MAP)
        print(f"{'decode and resize to 84':44}{'images/s':>10}{'times':>8}")
        for name, own in measured.items():
            print(f"{name:44}{own:>10,.0f}{own / usual:>8.2f}")
        print(f"{f'training batches of {BATCH}':44}{'batches/s':>10}")
        print(f"{USUAL:44}{usual / BATCH:>10.1f}{1:>8.2f}")
        print(f"{MAP:44}{fed:>10.1f}{fed * BATCH / usual:>8.2f}")


if __name__ == "__main__":
    sys.exit(main())
