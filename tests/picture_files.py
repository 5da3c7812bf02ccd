"""Small encoded pictures of every kind that real data sets hold, and archives of them."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from harness.images.pipelines import Pixels
from harness.images.stores import ImageStore

MODES = ("RGB", "L", "CMYK")


def noise(seed: int, height: int = 20, width: int = 30, channels: int = 3) -> np.ndarray:
    """Reddish noise, as photographs are on average."""
    pixels = np.random.default_rng(seed).integers(0, 200, (height, width, channels), dtype=np.uint8)
    pixels[..., 0] += 50
    return pixels


def encoded(pixels: np.ndarray, kind: str = "JPEG", mode: str = "RGB") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, kind)
    return stream.getvalue()


def jpeg(seed: int, mode: str = "RGB") -> bytes:
    return encoded(noise(seed), "JPEG", mode)


def tar_of(members: dict[str, bytes], kind: str = "") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=f"w:{kind}") as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def zip_of(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def unpack(root: Path, members: dict[str, bytes]) -> Path:
    for name, content in members.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def class_images(store: ImageStore, label: int) -> Pixels:
    """(count, H, W, C) uint8: every image of one class."""
    first = int(store.starts[label])
    return store.images(range(first, first + int(store.counts[label])))
