"""Pictures at their own size, of which training crops are cut as torchvision cuts them from photographs.

A set whose pictures take little space is decoded once into one file; of a larger one, pictures are decoded as they are
asked for, by threads, a batch ahead. Both give the same pixels.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from harness.errors import DataError
from harness.images.crops import Boxes
from harness.images.manifest import Manifest
from harness.images.maps import FOLDER, Progress
from harness.images.originals import Originals
from harness.images.pipelines import Pixels, decode
from harness.system.files import save_text
from harness.system.locks import held
from harness.system.process import n_cpus

FILE = "full.raw"
MOST_BYTES = 16 << 30  # of a file of decoded pictures
_CHUNK = 256
IntArray = npt.NDArray[np.int64]


class FullPictures:
    """The pictures of a store at their own size.

    Args:
        folder, manifest: of the prepared set.
        originals: its original pictures, closed with this.
        source: (n,) int64, the row of the set behind each row of the store.
        quarters: (n,) int64 quarter turns of each, counter-clockwise.
        progress: told (done, all) while they are decoded for the first time.

    Attributes:
        extents: (n, 2) int64 height and width of each picture in pixels, turned.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        originals: Originals,
        source: IntArray,
        quarters: IntArray,
        progress: Progress | None = None,
    ) -> None:
        self._manifest, self._source, self._quarters = manifest, source, quarters
        self._originals = originals
        self._shapes = self._originals.extents  # (N, 2) of the set
        self.extents = self._shapes[source]
        self.extents[quarters % 2 == 1] = self.extents[quarters % 2 == 1, ::-1]
        n_bytes = self._shapes.prod(axis=1) * manifest.n_channels
        self._start = np.cumsum(n_bytes) - n_bytes
        self._pool = ThreadPoolExecutor(n_cpus())
        self._coming: dict[int, Future[Pixels]] = {}
        self._raw: npt.NDArray[np.uint8] | None = None
        if _may_take(folder, int(n_bytes.sum())):
            self._raw = self._decoded_once(folder, int(n_bytes.sum()), progress)

    def close(self) -> None:
        """Let go of the files."""
        self._pool.shutdown(cancel_futures=True)
        self._originals.__exit__()

    def prefetch(self, rows: Sequence[int]) -> None:
        """Begin to decode the pictures of some rows of the store, which will be asked for next; forgets others."""
        if self._raw is None:
            wanted = dict.fromkeys(self._source[rows].tolist())
            self._coming = {
                row: self._coming.get(row) or self._pool.submit(self._decoded, row) for row in wanted
            }

    def crops(self, rows: Sequence[int], boxes: Boxes, size: int) -> Pixels:
        """Cut one crop of each picture and resize it, bilinearly with antialiasing.

        Args:
            rows: (n,) of the store, in any order; may repeat.
            boxes: a crop of each, inside the picture as it is turned.
            size: edge of the result in pixels.

        Returns:
            (n, size, size, C) uint8, in colours as in the file.

        Raises:
            DataError: when a picture is broken.
        """
        cut = torch.stack(tuple(boxes), dim=1).tolist()  # (n, 4)
        return np.stack(list(self._pool.map(self._crop, rows, cut, [size] * len(cut))))

    def _crop(self, row: int, box: list[int], size: int) -> Pixels:
        top, left, height, width = box
        whole = np.rot90(self._picture(int(self._source[row])), int(self._quarters[row]))
        part = np.ascontiguousarray(whole[top : top + height, left : left + width])
        image = Image.fromarray(part.squeeze(-1) if part.shape[2] == 1 else part)
        pixels = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))
        return pixels[:, :, None] if pixels.ndim == 2 else pixels

    def _picture(self, row: int) -> Pixels:
        """One picture of the set, (H, W, C)."""
        if self._raw is not None:
            height, width = self._shapes[row]
            stop = self._start[row] + height * width * self._manifest.n_channels
            return self._raw[self._start[row] : stop].reshape(height, width, -1)
        coming = self._coming.get(row)
        return coming.result() if coming else self._decoded(row)

    def _decoded(self, row: int) -> Pixels:
        try:
            image = decode(self._originals.read(row), self._manifest.mode, self._manifest.is_upright)
        except DataError as error:
            raise DataError(f"The picture in row {row} of {self._manifest.dataset} {error}.") from error
        pixels = np.asarray(image, dtype=np.uint8)
        if pixels.shape[:2] != tuple(self._shapes[row]):
            raise DataError(
                f"The picture in row {row} of {self._manifest.dataset} has {pixels.shape[0]}×{pixels.shape[1]} pixels, its "
                f"index says {self._shapes[row][0]}×{self._shapes[row][1]}. Prepare the set again."
            )
        return pixels[:, :, None] if pixels.ndim == 2 else pixels

    def _decoded_once(self, folder: Path, n_bytes: int, progress: Progress | None) -> npt.NDArray[np.uint8]:
        """The file of all decoded pictures, one after the other in row order; made where it is not there."""
        path = folder / FOLDER / FILE
        try:
            with held(path.with_suffix(".lock"), f"the pictures of {self._manifest.dataset}"):
                if not (
                    path.exists() and path.stat().st_size == n_bytes and path.with_suffix(".json").exists()
                ):
                    self._decode_all(path, progress)
            return np.memmap(path, dtype=np.uint8, mode="r")
        except OSError as error:
            raise DataError(
                f"{path} cannot be written: {error}. Free {n_bytes / 1e9:.1f} GB, or choose FSBENCH_DATA."
            ) from error

    def _decode_all(self, path: Path, progress: Progress | None) -> None:
        n, aside, digest = len(self._shapes), path.with_suffix(".part"), hashlib.sha256()
        path.parent.mkdir(exist_ok=True)
        with aside.open("wb") as stream:
            for start in range(0, n, _CHUNK):
                rows = range(start, min(start + _CHUNK, n))
                for pixels in self._pool.map(self._decoded, rows):
                    content = np.ascontiguousarray(pixels).data
                    digest.update(content)
                    stream.write(content)
                if progress is not None:
                    progress(rows.stop, n)
        save_text(path.with_suffix(".json"), json.dumps({"sha256": digest.hexdigest()}))
        aside.replace(path)


def _may_take(folder: Path, n_bytes: int) -> bool:
    """Whether decoded pictures may take so much disk: they have it already, or would leave half of what is free."""
    is_there = (folder / FOLDER / FILE).exists()
    return n_bytes <= MOST_BYTES and (is_there or 2 * n_bytes <= shutil.disk_usage(folder).free)


def check(folder: Path) -> str:
    """What is wrong with the file of decoded pictures; empty where nothing is, or there is none."""
    path = folder / FOLDER / FILE
    if not path.exists():
        return ""
    try:
        said = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["sha256"]
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{path} cannot be checked: {error}"
    return "" if said == found else "its pixels changed"


def forget(folder: Path) -> None:
    """Remove the file of decoded pictures; the next training that asks makes it again."""
    for suffix in (".json", ".raw"):  # without its card it is not taken for whole
        (folder / FOLDER / FILE).with_suffix(suffix).unlink(missing_ok=True)
