"""Pictures that their source stores as pixels: arrays out of pickles and npz files."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from harness.errors import DataError
from harness.images.pipelines import Pixels
from harness.images.sources import pickles
from harness.images.sources.archives import reading

Opener = Callable[[], IO[bytes]]
_SAMPLE = 2000  # images whose mean colour is taken
_MARGIN = 1.0  # grey levels by which one channel must exceed the other


class NpzImages:
    """The images of one member of an npz, read in order without loading them all.

    Args:
        open_file: opens the npz.
        member: name of the array, (N, H, W, 3) uint8.
        name: of the npz, for messages.

    Raises:
        DataError: when it is broken or the array is absent or of another shape or type.
    """

    def __init__(self, open_file: Opener, member: str, name: str) -> None:
        self._open, self._file, self._name = open_file, f"{member}.npy", name
        with reading(name), open_file() as stream, zipfile.ZipFile(stream) as archive:
            if self._file not in archive.namelist():
                raise DataError(f"{name} holds no array `{member}`; it has {', '.join(archive.namelist())}.")
            with archive.open(self._file) as content:
                self.shape = _header(content, name)

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Pixels]:
        n, *one = self.shape
        size = int(np.prod(one))
        with (
            reading(self._name),
            self._open() as stream,
            zipfile.ZipFile(stream) as archive,
            archive.open(self._file) as content,
        ):
            _header(content, self._name)
            for i in range(n):
                image = content.read(size)
                if len(image) != size:
                    raise DataError(f"{self._name} is truncated after {i:,} of {n:,} images.")
                yield np.frombuffer(image, np.uint8).reshape(one)  # (H, W, 3)


def npz_array(open_file: Opener, member: str, name: str) -> npt.NDArray[Any]:
    """Load one small array of numbers from an npz.

    Raises:
        DataError: when it is broken, absent, or holds objects.
    """
    try:
        with reading(name), open_file() as stream, np.load(stream, allow_pickle=False) as archive:
            found: npt.NDArray[Any] = archive[member]
            return found
    except (KeyError, AttributeError, TypeError) as error:
        raise DataError(f"{name} holds no array `{member}` ({error}).") from error


def dictionary(stream: IO[bytes], name: str) -> dict[Any, Any]:
    """Read a pickle that holds a dictionary.

    Raises:
        DataError: as ``pickles.load``, or when it holds something else.
    """
    card = pickles.load(stream, name)
    if not isinstance(card, dict):
        raise DataError(f"{name} holds a {type(card).__name__} where a dictionary was expected.")
    return card


def field(card: dict[Any, Any], key: str, name: str) -> Any:
    """One entry of a dictionary out of a pickle.

    Raises:
        DataError: when it is not there; says what is.
    """
    if key not in card:
        raise DataError(f"{name} has no `{key}`; it has {', '.join(map(str, list(card)[:10]))}.")
    return card[key]


def checked_images(value: Any, side: int, name: str) -> Pixels:
    """An array as images.

    Returns:
        (N, side, side, 3) uint8, the array itself.

    Raises:
        DataError: when it is anything else.
    """
    if (
        not isinstance(value, np.ndarray)
        or value.dtype != np.uint8
        or value.shape[1:] != (side, side, 3)
        or not len(value)
    ):
        found = (
            f"{value.shape} {value.dtype}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
        )
        raise DataError(f"{name} holds {found} where (N, {side}, {side}, 3) uint8 was expected.")
    return value


def checked_labels(value: Any, n: int, name: str) -> npt.NDArray[np.int64]:
    """Labels as (n,) int64.

    Raises:
        DataError: when they are not ``n`` whole numbers.
    """
    try:
        labels = np.asarray(value)
    except ValueError:
        labels = np.empty(0, dtype=object)
    if labels.shape != (n,) or labels.dtype.kind not in "iu":
        raise DataError(
            f"{name} holds {labels.shape} {labels.dtype} where {n:,} whole numbers were expected."
        )
    return labels.astype(np.int64)


def is_bgr(images: Iterable[Pixels], name: str) -> bool:
    """Whether stored pictures have blue first: photographs on average have red > green > blue.

    Args:
        images: (H, W, 3) uint8 each; some 2,000, spread over the set, are enough.
        name: for messages.

    Raises:
        DataError: when red and blue differ by less than one grey level, so that nothing can be said.
    """
    means = np.array([image.reshape(-1, 3).mean(axis=0) for image in images])  # (n, 3)
    first, _, last = means.mean(axis=0)
    if abs(first - last) < _MARGIN:
        raise DataError(
            f"{name}: the order of colours cannot be told: the mean of the first channel is {first:.1f}, of "
            f"the last {last:.1f}. Photographs have red clearly above blue; is this the real file?"
        )
    return bool(last > first)


def spread(n: int) -> slice:
    """About 2,000 of n rows, evenly spread."""
    return slice(0, n, max(1, n // _SAMPLE))


def _header(stream: IO[bytes], name: str) -> tuple[int, int, int, int]:
    version = np.lib.format.read_magic(stream)  # type: ignore[no-untyped-call]
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read(stream)  # type: ignore[no-untyped-call]
    if len(shape) != 4 or shape[3] != 3 or dtype != np.uint8 or is_fortran:
        raise DataError(f"{name} holds {shape} {dtype} where (N, H, W, 3) uint8 was expected.")
    return tuple(shape)
