"""Decoded pixels of a prepared set as memory maps, one per geometry and size, built from the originals on demand."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from harness.errors import DataError
from harness.images.datasets import how_to_have_originals, how_to_prepare
from harness.images.manifest import Manifest
from harness.images.originals import Originals, cards
from harness.images.pipelines import STRAIGHT, Geometry, Pixels, decode
from harness.system.files import save_text
from harness.system.locks import held
from harness.system.process import n_cpus

FOLDER = "maps"
_CHUNK = 512
Progress = Callable[[int, int], None]


class BrokenPictures(DataError):
    """Pictures that cannot be decoded.

    Attributes:
        why: what is wrong with each, by row.
    """

    def __init__(self, message: str, why: Mapping[int, str]) -> None:
        super().__init__(message)
        self.why = why


def map_path(folder: Path, geometry: Geometry, size: int) -> Path:
    """Where the map of one geometry and size lies in a prepared set."""
    return folder / FOLDER / f"{geometry.name}-{size}.npy"


def open_map(folder: Path, manifest: Manifest, geometry: Geometry, size: int) -> Pixels:
    """Open a map that is there.

    Returns:
        (N, size, size, C) uint8 (float32 where features stand in place of pictures), memory-mapped and read-only.

    Raises:
        DataError: when it is not a map of this set.
    """
    path = map_path(folder, geometry, size)
    shape = (manifest.n_images, size, size, manifest.n_channels)
    try:
        pixels = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}. {_remedy(folder)}") from error
    kind = np.dtype(np.float32 if manifest.n_features else np.uint8)
    if pixels.shape != shape or pixels.dtype != kind:
        raise DataError(
            f"{path} holds {pixels.shape} {pixels.dtype}, {shape} {kind} was expected. {_remedy(folder)}"
        )
    return pixels


def ensure_map(
    folder: Path, manifest: Manifest, geometry: Geometry, size: int, progress: Progress | None = None
) -> Pixels:
    """Open a map, building it first where it is absent and the originals are kept.

    Raises:
        DataError: when it is absent and cannot be built, or an original cannot be decoded.
    """
    path = map_path(folder, geometry, size)
    if not is_whole(path):
        if not (manifest.has_originals or _has_squares(folder, geometry)):
            raise DataError(
                f"{manifest.dataset} holds no pixels of `{geometry.name}` at {size} px and not the original "
                f"pictures either; it has {', '.join(stored(folder)) or 'none'}. "
                f"It needs the original pictures. {how_to_have_originals(manifest.dataset, folder)}"
            )
        try:
            with held(path.with_suffix(".lock"), f"the map {path.name}"):
                if not is_whole(path):
                    build_map(folder, manifest, geometry, size, progress)
        except OSError as error:
            raise DataError(
                f"{path} cannot be written: {error}. Free space, or choose FSBENCH_DATA."
            ) from error
    return open_map(folder, manifest, geometry, size)


def _has_squares(folder: Path, geometry: Geometry) -> bool:
    """Whether the squares that a geometry begins with are stored."""
    return geometry.first > 0 and is_whole(map_path(folder, STRAIGHT, geometry.first))


def is_whole(path: Path) -> bool:
    """Whether a map and the digests beside it are there."""
    return path.exists() and path.with_suffix(".json").exists()


def stored(folder: Path) -> list[str]:
    """The maps of a prepared set, as ``<geometry>-<size>``."""
    return sorted(p.stem for p in (folder / FOLDER).glob("*.npy") if is_whole(p))


def recorded_digests(folder: Path, geometry: Geometry, size: int) -> tuple[str, ...]:
    """sha256 of each class's pixels as recorded when the map was written.

    Raises:
        DataError: when the record is absent or broken.
    """
    path = map_path(folder, geometry, size).with_suffix(".json")
    try:
        return tuple(str(d) for d in json.loads(path.read_text(encoding="utf-8"))["classes"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} cannot be read: {error}. {_remedy(folder)}") from error


def pixel_digests(pixels: Pixels, counts: Iterable[int]) -> list[str]:
    """sha256 over the pixels of each class, with the image shape; rows of a class are contiguous.

    Args:
        pixels: (N, H, W, C) uint8.
        counts: number of images of each class, in row order.
    """
    parts = (np.ascontiguousarray(pixels[i : i + 1]).data for i in range(len(pixels)))
    return _digests(parts, pixels.shape[1:], counts)


def map_digests(path: Path, counts: Iterable[int]) -> list[str]:
    """``pixel_digests`` of a map, read as a file: pages of a memory map would count as memory of this process.

    Raises:
        DataError: when the file cannot be read.
    """
    try:
        card = np.load(path, mmap_mode="r")
        with path.open("rb") as stream:
            stream.seek(card.offset)
            size = int(np.prod(card.shape[1:])) * card.dtype.itemsize
            return _digests(iter(lambda: stream.read(size), b""), card.shape[1:], counts)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}. {_remedy(path.parent.parent)}") from error


def _digests(
    images: Iterator[bytes | memoryview], shape: tuple[int, ...], counts: Iterable[int]
) -> list[str]:
    digests = []
    for count in counts:
        digest = hashlib.sha256(f"{shape}".encode())
        for image in islice(images, count):
            digest.update(image)
        digests.append(digest.hexdigest())
    return digests


def build_map(
    folder: Path, manifest: Manifest, geometry: Geometry, size: int, progress: Progress | None = None
) -> None:
    """Decode every original into a map; goes on where a killed run stopped. The caller holds the lock.

    Raises:
        BrokenPictures: when originals are not whole images; names all of them.
    """
    path = map_path(folder, geometry, size)
    path.parent.mkdir(exist_ok=True)
    aside = path.with_suffix(".part")
    shape = (manifest.n_images, size, size, manifest.n_channels)
    n_done = _open_part(aside, shape)
    broken: dict[int, str] = {}
    with _pictures(folder, manifest, geometry) as read, aside.open("ab") as stream:
        for pixels, faults in _decoded(manifest, read, geometry, size, n_done):
            broken |= faults
            if not broken:  # a map with a hole would be taken up by the next run
                stream.write(np.stack(pixels).data)
            n_done += len(pixels) + len(faults)
            if progress is not None:
                progress(n_done, manifest.n_images)
    if broken:
        raise BrokenPictures(_broken(folder, manifest, broken), broken)
    digests = map_digests(aside, (c.n_images for c in manifest.classes))
    save_text(path.with_suffix(".json"), json.dumps({"classes": digests}))
    aside.replace(path)


def _open_part(aside: Path, shape: tuple[int, int, int, int]) -> int:
    """Begin or take up an unfinished map; how many of its rows are there."""
    stream = io.BytesIO()
    card = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, card)  # type: ignore[no-untyped-call]
    header, row = stream.getvalue(), int(np.prod(shape[1:]))
    if aside.exists() and aside.stat().st_size >= len(header):
        with aside.open("rb") as found:
            if found.read(len(header)) == header:
                n_done = min((aside.stat().st_size - len(header)) // row, shape[0])
                os.truncate(aside, len(header) + n_done * row)
                return n_done
    aside.write_bytes(header)
    return 0


@contextmanager
def _pictures(folder: Path, manifest: Manifest, geometry: Geometry) -> Iterator[Callable[[int], Image.Image]]:
    """Gives the pictures by row: the originals, or where none are kept the squares that the geometry begins with."""
    if manifest.has_originals:
        with Originals(folder) as originals:
            yield lambda row: decode(originals.read(row), manifest.mode, manifest.is_upright)
        return
    squares = open_map(folder, manifest, STRAIGHT, geometry.first)
    yield lambda row: Image.fromarray(squares[row].squeeze(-1) if manifest.mode == "L" else squares[row])


def _decoded(
    manifest: Manifest, read: Callable[[int], Image.Image], geometry: Geometry, size: int, first: int
) -> Iterator[tuple[list[Pixels], dict[int, str]]]:
    """Chunks of at most _CHUNK pictures from row ``first`` on, by as many threads as CPUs: pixels, and faults by row."""

    def pixels(row: int) -> Pixels | str:
        try:
            return geometry(read(row), size)
        except DataError as error:
            return str(error)

    with ThreadPoolExecutor(n_cpus()) as pool:
        for start in range(first, manifest.n_images, _CHUNK):
            rows = range(start, min(start + _CHUNK, manifest.n_images))
            found = list(pool.map(pixels, rows))
            faults = {row: why for row, why in zip(rows, found, strict=True) if isinstance(why, str)}
            yield [p for p in found if not isinstance(p, str)], faults


def _broken(folder: Path, manifest: Manifest, broken: Mapping[int, str]) -> str:
    names = list(cards(folder))
    told = "; ".join(f"{names[row][1]} of class {names[row][0]} {why}" for row, why in broken.items())
    return f"{manifest.dataset}: {told}. {_remedy(folder)}"


def _remedy(folder: Path) -> str:
    return f"Remove {folder} and prepare it again. {how_to_prepare(folder.name)}"
