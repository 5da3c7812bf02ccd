"""CIFAR-100: cifar-100-python, or what holds some of its classes: pickles, npz and PNG folders of CIFAR-FS and FC100."""

from __future__ import annotations

import hashlib
import io
import logging
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from harness.errors import DataError
from harness.images.datasets import how_to_prepare, reader
from harness.images.maps import Progress
from harness.images.originals import Picture
from harness.images.pipelines import Pixels, encode_ppm
from harness.images.plan import Plan, source_file
from harness.images.sources import pickles, splits
from harness.images.sources.archives import archive_or_folder, contents, outline
from harness.images.sources.arrays import checked_images, checked_labels, dictionary, field, npz_array
from harness.images.sources.cifar100_pictures import by_class
from harness.images.sources.download import download

URL = "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"
MD5 = "eb9058c3a382ffc7106e4002c42a8d85"
SIDE = 32
_FILES = ("train", "test", "meta")
_KINDS = (".pickle", ".pkl", ".npz")
_TADAM = re.compile(r"few-shot-(train|val|test)\.npz")
_LOG = logging.getLogger("fsbench.data")
_ROLES = {"train": "base", "val": "validation", "test": "novel"}


class _Part(NamedTuple):
    """Images of one file: (n, 32, 32, 3) uint8 and the class name of each."""

    file: str
    images: Pixels
    names: list[str]


def plans(dataset: str, sources: Sequence[Path]) -> list[Plan]:
    """Plan CIFAR-100 from what the sources hold.

    Args:
        dataset: ``cifar100``.
        sources: ``cifar-100-python.tar.gz`` or its folder, or the folder above; or ``CIFAR_FS_*.pickle`` or ``FC100_*.pickle``, or
            ``train.pickle``, ``val.pickle`` and ``test.pickle`` in a folder of either name; TADAM's
            ``few-shot-*.npz`` of FC100; or PNG files in folders by class, as ``cifar100_pictures`` takes them.

    Raises:
        DataError: when none is there, one is broken, or a class has another number of images than it should.
    """
    given = sources
    sources = [
        archive_or_folder(s, ["cifar-100-python.t*", "cifar*.zip"], MD5, ["cifar-100-python"])
        for s in sources
    ]
    found = [item for source in sources for item in _find(source)]
    folder = _official_folder([path for path, _ in found])
    official = {Path(path).name: content for path, content in found if folder and _is_in(path, folder)}
    found = [item for item in found if not official or _is_in(item[0], folder)]
    found = [item for item in found if official or _split_of(item[0])]
    parts = _official(official) if official else [_part(path, content) for path, content in found]
    parts = parts or [_Part(name, images, [name] * len(images)) for name, images in by_class(sources)]
    if not parts:
        raise DataError(
            f"{', '.join(map(str, given))} holds no file of {dataset}. {'; '.join(map(outline, given))}. {how_to_prepare(dataset)}"
        )
    _check_counts(parts)
    n_bytes = sum(len(content) for _, content in found) or sum(p.images.nbytes for p in parts)
    population = "cifar-100-python" if official else _population([path for path, _ in found], len(parts))
    return [
        Plan(
            dataset=dataset,
            population=population,
            mode="RGB",
            sources=tuple(source_file(s, MD5 if s.suffix == ".gz" else "", n_bytes) for s in sources),
            terms=reader(dataset).terms,
            n_images=sum(len(p.names) for p in parts),
            n_bytes=sum(p.images.nbytes + 13 * len(p.names) for p in parts),
            pipeline="metaoptnet-cifar",
            size=SIDE,
            pictures=lambda: _pictures(parts),
        )
    ]


def fetch(dataset: str, folder: Path, progress: Progress | None) -> list[Path]:
    """Download cifar-100-python.

    Raises:
        DataError: as ``download``.
    """
    return [download(URL, folder / "cifar-100-python.tar.gz", expected_md5=MD5, progress=progress)]


def _find(source: Path) -> Iterator[tuple[str, bytes]]:
    """Path and contents of each file of CIFAR-100 in an archive, in a folder, or given itself."""
    for member in contents(source, _KINDS):
        path = f"{source.name}/{member.path}" if source.is_dir() else member.path
        if member.path == source.name:  # given itself: its folder may tell the split
            path = f"{source.parent.name}/{source.name}"
        if Path(path).name in _FILES or (path.endswith(_KINDS) and _split_of(path)):
            yield path, member.read()


def _official_folder(paths: Sequence[str]) -> str:
    """The folder of train, test and meta: by its name, or by having all three; empty where there is none."""
    folders = [str(Path(path).parent) for path in paths if Path(path).name in _FILES]
    named = [f for f in folders if Path(f).name.startswith("cifar-100-python")]
    whole = [f for f in folders if folders.count(f) == len(_FILES)]
    return next(iter(named + whole), "")


def _is_in(path: str, folder: str) -> bool:
    return Path(path).name in _FILES and str(Path(path).parent) == folder


def _split_of(path: str) -> tuple[str, str] | None:
    """Split file and role that a file's name or its folder's tells: ``FC100_val.pickle``, ``FC100/val.pickle``."""
    if match := _TADAM.fullmatch(Path(path).name):
        return "fc100", _ROLES[match[1]]
    folder, stem = Path(path).parent.name.lower().replace("-", "_"), Path(path).stem.lower()
    for known in ("cifar_fs", "fc100"):
        role = stem.removeprefix(f"{known}_")
        if role in _ROLES and (stem.startswith(known) or folder.startswith(known)):
            return known, _ROLES[role]
    return None


def _population(paths: Sequence[str], n_classes: int) -> str:
    """Which of CIFAR-100's pictures they are, where not all: the files by name, or classes in folders."""
    return "+".join(sorted(Path(p).stem for p in paths)) or f"{n_classes} classes in folders"


def _official(files: dict[str, bytes]) -> list[_Part]:
    """Train file, then test file; names from the meta file, which has to agree with the split files."""
    if missing := sorted(set(_FILES) - set(files)):
        raise DataError(
            f"cifar-100-python is not whole: {', '.join(missing)} is missing. Copy or download it again."
        )
    known = splits.read("cifar100")
    for name, content in files.items():
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != known["md5"][name]:
            _LOG.warning("cifar-100-python/%s has another md5 than the published one", name)
    names = [
        pickles.text(n)
        for n in field(dictionary(io.BytesIO(files["meta"]), "meta"), "fine_label_names", "meta")
    ]
    if names != list(known["all"]):
        raise DataError("cifar-100-python/meta lists other classes than CIFAR-100's. Download it again.")
    return [_official_part(name, files[name], names) for name in ("train", "test")]


def _official_part(file: str, content: bytes, names: Sequence[str]) -> _Part:
    card = dictionary(io.BytesIO(content), file)
    rows = field(card, "data", file)
    if not isinstance(rows, np.ndarray) or rows.dtype != np.uint8 or rows.shape[1:] != (3 * SIDE * SIDE,):
        raise DataError(f"cifar-100-python/{file} does not hold rows of {3 * SIDE * SIDE:,} bytes.")
    labels = checked_labels(field(card, "fine_labels", file), len(rows), file)
    if labels.min(initial=0) < 0 or labels.max(initial=0) >= len(names):
        raise DataError(f"cifar-100-python/{file} has labels outside 0 to {len(names) - 1}.")
    images = rows.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)  # (n, 32, 32, 3)
    return _Part(file, images, [names[i] for i in labels])


def _part(path: str, content: bytes) -> _Part:
    """A pickle of CIFAR-FS or FC100, or an npz of FC100; its labels are CIFAR-100's."""
    if path.endswith(".npz"):
        images, targets = (
            npz_array(lambda: io.BytesIO(content), key, path) for key in ("features", "targets")
        )
    else:
        card = dictionary(io.BytesIO(content), path)
        images, targets = field(card, "data", path), field(card, "labels", path)
    images = checked_images(images, SIDE, path)
    labels = checked_labels(targets, len(images), path)
    file, role = _split_of(path) or ("", "")
    every = list(splits.read("cifar100")["all"])
    found = [every[i] if 0 <= i < len(every) else "?" for i in np.unique(labels).tolist()]
    if set(found) != set(splits.read(file)[role]):
        raise DataError(
            f"{path} does not hold the {role} classes of {file} under CIFAR-100's own numbers; "
            f"it has {', '.join(found[:5])} …"
        )
    return _Part(path, images, [every[i] for i in labels.tolist()])


def _check_counts(parts: Sequence[_Part]) -> None:
    names, counts = np.unique([n for p in parts for n in p.names], return_counts=True)
    expected = splits.read("cifar100")["all"]
    wrong = [
        f"{n} has {c} of {expected[n]}"
        for n, c in zip(names, counts.tolist(), strict=True)
        if c != expected[n]
    ]
    if wrong:
        raise DataError(
            f"CIFAR-100 is not whole: {'; '.join(wrong[:5])} images. "
            "Give the whole archive, or each pickle of one split once."
        )


def _pictures(parts: Sequence[_Part]) -> Iterator[Picture]:
    group = splits.read("cifar100")["superclass"]
    for place, part in enumerate(parts):
        prefix = Path(part.file).stem
        for i, (image, name) in enumerate(zip(part.images, part.names, strict=True)):
            file = f"{prefix}/{i:05d}.ppm"
            yield Picture(name, file, partial(encode_ppm, image), group[name], order=place)
