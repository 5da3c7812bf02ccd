"""ImageNet low-shot from saved features: the HDF5 files of Hariharan and Girshick's release in place of pictures.

Each file has ``all_feats`` (R, D) float32, ``all_labels`` (R,) and ``count`` (1,): rows from ``count`` on are padding, zero
features under label 0, and label 0 is a real class, so they are cut. Rows are grouped by ascending label. One file is a
pass over the training pictures, the other over the validation pictures, which are the held-out ones. What is kept of
each class is what ``imagenet-lowshot`` keeps of its pictures, in the same rows, so both have the same experiments.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from harness.errors import DataError
from harness.images.datasets import how_to_prepare, reader
from harness.images.manifest import ClassCard, Manifest
from harness.images.maps import Progress, map_digests, map_path
from harness.images.originals import CARDS
from harness.images.pipelines import pipeline
from harness.images.plan import Plan, source_file
from harness.images.sources import splits
from harness.images.sources.draws import Published
from harness.system.files import aside, save_text

if TYPE_CHECKING:
    import h5py

PIPELINE = "features"
_KINDS = (".hdf5", ".h5")
Rows = npt.NDArray[np.int64]


class Kept(NamedTuple):
    """What is kept of a class: rows of the training file and of the held-out file, in this order."""

    name: str
    training: Rows
    held_out: Rows


class Files(NamedTuple):
    """The two files and the length of a feature."""

    training: Path
    held_out: Path
    n_features: int


def plans(dataset: str, sources: Sequence[Path]) -> list[Plan]:
    """Plan the set from the two files.

    Args:
        dataset: ``imagenet-lowshot-features``.
        sources: the files, or folders that hold them.

    Raises:
        DataError: when there are not two of them, or they hold something else.
    """
    files = _files(dataset, sources)
    kept = list(classes())
    n_rows = sum(len(k.training) + len(k.held_out) for k in kept)
    return [
        Plan(
            dataset=dataset,
            population=f"saved features, {files.n_features} numbers each",
            mode="L",
            sources=(source_file(files.training), source_file(files.held_out)),
            terms=reader(dataset).terms,
            n_images=n_rows,
            n_bytes=4 * n_rows * files.n_features,
            pipeline=PIPELINE,
            size=1,
            pictures=lambda: iter(()),
            has_originals=False,
            build=partial(_build, dataset, files, kept),
        )
    ]


def fetch(dataset: str, folder: Path, progress: Progress | None) -> list[Path]:
    """Say that the features cannot be downloaded.

    Raises:
        DataError: always.
    """
    raise DataError(f"The features of {dataset} are made by whoever trained them. {how_to_prepare(dataset)}")


def classes() -> Iterator[Kept]:
    """What is kept of each class, by name."""
    split = splits.read("imagenet-lowshot")
    published = Published(splits.FOLDER / "imagenet-lowshot-draws.json.gz", split["sizes"])
    base = {**split["base_1"], **split["base_2"]}
    size = dict(published.sizes)
    start = dict(zip(size, np.cumsum([0, *size.values()])[:-1].tolist(), strict=True))
    n_held_out = n_held_out_images(split)
    first = {name: i * n_held_out for i, name in enumerate(size)}
    for name in sorted(size):
        positions = np.arange(size[name]) if name in base else published.kept(name)
        yield Kept(name, start[name] + positions, first[name] + np.arange(n_held_out))


def n_held_out_images(split: dict[str, dict[str, int]]) -> int:
    """Held-out pictures of each class, from the split: what a base class has beyond its training pictures."""
    (n,) = {split[half][name] - split["sizes"][name] for half in ("base_1", "base_2") for name in split[half]}
    return n


def _files(dataset: str, sources: Sequence[Path]) -> Files:
    split = splits.read("imagenet-lowshot")
    return paired(
        dataset, sources, list(split["sizes"].values()), n_held_out_images(split), how_to_prepare(dataset)
    )


def paired(name: str, sources: Sequence[Path], sizes: Sequence[int], n_held_out: int, advice: str) -> Files:
    """Find the two files of a data set, and check that they are features of its pictures by one network.

    Args:
        name: of the set, for messages.
        sources: the files, or folders that hold them.
        sizes: training pictures of each label.
        n_held_out: held-out pictures of each label.
        advice: what to type, for messages.

    Raises:
        DataError: when there are not two of them, or they hold something else.
    """
    paths = [p for s in sources for p in (sorted(s.rglob("*")) if s.is_dir() else [s]) if p.suffix in _KINDS]
    expected = {"training": [*sizes], "held-out": [n_held_out] * len(sizes)}
    found: dict[str, Path] = {}
    lengths, networks, told = set(), set(), []
    for path in paths:
        with opened(path) as file:
            n, length = _shape(file, path)
            told.append(f"{path.name} has {n:,} rows{_lacking(file, n, len(sizes))}")
            kind = next((k for k, counts in expected.items() if sum(counts) == n), None)
            if kind:
                _check_labels(file, path, expected[kind])
                found[kind] = path
                lengths.add(length)
                networks.add(str(file.attrs.get("representation", "")))
    if len(found) < 2 or len(lengths) != 1:
        needs = " and ".join(f"one of {sum(counts):,} {kind} rows" for kind, counts in expected.items())
        raise DataError(
            f"{name} needs two HDF5 files with features of one length, {needs}; found: {'; '.join(told) or 'none'}. {advice}"
        )
    if len(networks) > 1:
        raise DataError(
            f"{found['training'].name} and {found['held-out'].name} are features of two networks, as they say themselves "
            f"(representation {' and '.join(sorted(n or 'not told' for n in networks))}). Save both with one."
        )
    return Files(found["training"], found["held-out"], lengths.pop())


def opened(path: Path) -> h5py.File:
    """Open one of the files to read.

    Raises:
        DataError: when it is none.
    """
    import h5py

    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise DataError(f"{path} is not an HDF5 file that can be read: {error}.") from error


def _refuse_links(file: h5py.File, path: Path) -> None:
    """Refuse what lies in other files: opening it would read whatever its author names."""
    import h5py

    for name in file:
        link = file.get(name, getlink=True)
        content = file[name] if isinstance(link, h5py.HardLink) else None
        if content is None or getattr(content, "external", None) or getattr(content, "is_virtual", False):
            raise DataError(
                f"{path}: {name!a:.60} is a link or lies in another file, which is not followed. Copy the numbers into one "
                f"file: `h5repack {path.name} whole.hdf5` or h5py's copy with expand_external=True."
            )


def _lacking(file: h5py.File, count: int, n_classes: int) -> str:
    """Which labels have no rows, in words; empty where all have."""
    present = np.unique(file["all_labels"][:count])
    missing = np.setdiff1d(np.arange(n_classes), present)
    told = ", ".join(map(str, missing[:5].tolist())) + (", …" if len(missing) > 5 else "")
    return f" and none of {len(missing):,} of the {n_classes:,} labels ({told})" if len(missing) else ""


def _shape(file: h5py.File, path: Path) -> tuple[int, int]:
    """Rows that count, and the length of a feature."""
    _refuse_links(file, path)
    if missing := [name for name in ("all_feats", "all_labels", "count") if name not in file]:
        raise DataError(f"{path} lacks {', '.join(missing)}; it has {', '.join(file) or 'nothing'}.")
    count, features, labels = int(np.ravel(file["count"][()])[0]), file["all_feats"], file["all_labels"]
    if features.ndim != 2 or len(labels) < count or len(features) < count:
        raise DataError(
            f"{path}: all_feats is {features.shape} and all_labels {labels.shape}, too few for the count {count:,}."
        )
    return count, int(features.shape[1])


def _check_labels(file: h5py.File, path: Path, counts: list[int]) -> None:
    labels = file["all_labels"][: sum(counts)]
    if not np.array_equal(labels, np.repeat(np.arange(len(counts)), counts)):
        raise DataError(
            f"{path}: all_labels is not grouped by ascending label with the published numbers of pictures a class, so its "
            "rows cannot be told apart. Save features in the order of the authors' lists."
        )


def _build(
    dataset: str, files: Files, kept: Sequence[Kept], folder: Path, tell: Callable[[int], None]
) -> None:
    """Write manifest, cards and map into a folder."""
    manifest = Manifest(
        dataset=dataset,
        population=f"saved features, {files.n_features} numbers each",
        mode="L",
        classes=tuple(ClassCard(k.name, "", len(k.training) + len(k.held_out)) for k in kept),
        sources=(source_file(files.training), source_file(files.held_out)),
        terms=reader(dataset).terms,
        pipeline=PIPELINE,
        size=1,
        has_originals=False,
        n_features=files.n_features,
    )
    path = map_path(folder, pipeline(PIPELINE).geometry, 1)
    with aside(path) as temporary, temporary.open("wb") as stream:
        shape = (manifest.n_images, 1, 1, files.n_features)
        card = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, card)  # type: ignore[no-untyped-call]
        with opened(files.training) as training, opened(files.held_out) as held_out:
            for k in kept:
                for file, rows in ((training, k.training), (held_out, k.held_out)):
                    stream.write(features_at(file, rows).tobytes())
                    tell(len(rows))
    save_text(
        path.with_suffix(".json"),
        json.dumps({"classes": map_digests(path, [c.n_images for c in manifest.classes])}),
    )
    with (folder / CARDS).open("w", newline="", encoding="utf-8") as stream_of_cards:
        table = csv.writer(stream_of_cards)
        table.writerow(["class", "file", "author"])
        for k in kept:
            table.writerows((k.name, f"training row {row}", "") for row in k.training.tolist())
            table.writerows((k.name, f"held-out row {row}", "") for row in k.held_out.tolist())
    manifest.write(folder)


def features_at(file: h5py.File, rows: Rows) -> npt.NDArray[np.float32]:
    """(n, D) float32 of ascending rows; those between them are read too, a class is small.

    Raises:
        DataError: when some are not finite.
    """
    first, last = int(rows[0]), int(rows[-1])
    block = file["all_feats"][first : last + 1][rows - first].astype("<f4")
    if not np.isfinite(block).all():
        raise DataError(f"{file.filename}: rows {first:,} to {last:,} hold features that are not finite.")
    return block
