"""Tiny zips in the exact layout of Lake's, for tests."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.images.sources import omniglot
from harness.images.sources.archives import md5

N_DRAWINGS = 20
SMALL1 = {"Balinese": 2, "Greek": 2}
SMALL2 = {"Greek": 2, "Tagalog": 1}
SET_OF = {name: f"images_background_{name}" for name in ("small1", "small2")}


def page(seed: int) -> bytes:
    """A 105x105 PNG of 1 bit, black strokes (0) on white paper (1)."""
    rng = np.random.default_rng(seed)
    paper = np.ones((105, 105), dtype=bool)
    row, column = rng.integers(10, 90, 2)
    paper[row : row + 4, 10:95] = False
    paper[5:100, column : column + 4] = False
    stream = io.BytesIO()
    Image.fromarray(paper).save(stream, "PNG")
    return stream.getvalue()


def write_background(path: Path, alphabets: dict[str, int]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for alphabet, n in alphabets.items():
            for c in range(1, n + 1):
                number = 100 * (1 + sum(map(ord, alphabet)) % 7) + c
                archive.writestr(f"{path.stem}/{alphabet}/character{c:02d}/", b"")
                for d in range(1, N_DRAWINGS + 1):
                    name = f"{path.stem}/{alphabet}/character{c:02d}/{number:04d}_{d:02d}.png"
                    archive.writestr(name, page(number * 100 + d))
    return path


def write_runs(path: Path, n_runs: int = 2) -> Path:
    """Runs in which test item m is an answer to training class 21 - m."""
    with zipfile.ZipFile(path, "w") as archive:
        for run in (f"run{r:02d}" for r in range(1, n_runs + 1)):
            lines = [f"{run}/test/item{m:02d}.png {run}/training/class{21 - m:02d}.png" for m in range(1, 21)]
            archive.writestr(f"{run}/class_labels.txt", "\n".join(lines))
            for m in range(1, 21):
                archive.writestr(f"{run}/test/item{m:02d}.png", page(int(run[3:]) * 1000 + m))
                archive.writestr(f"{run}/training/class{m:02d}.png", page(int(run[3:]) * 1000 + 500 + m))
    return path


def register(monkeypatch: pytest.MonkeyPatch, *paths: Path) -> None:
    """Make the md5s of tiny zips the known ones."""
    known = {p.name: p for p in paths}
    zips = tuple(
        replace(z, md5=md5(known[z.file]), n_bytes=known[z.file].stat().st_size) if z.file in known else z
        for z in omniglot.ZIPS
    )
    monkeypatch.setattr(omniglot, "ZIPS", zips)
