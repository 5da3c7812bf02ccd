"""tieredImageNet: all pictures of 608 classes of the user's own ImageNet, or the 84-pixel files of Ren or MetaOptNet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from harness.errors import DataError
from harness.images.datasets import how_to_prepare, reader
from harness.images.manifest import SourceFile
from harness.images.maps import Progress
from harness.images.originals import Picture
from harness.images.plan import Plan, source_file
from harness.images.sources import imagenet, mini, splits, tiered_files, tiered_pngs
from harness.images.sources.archives import archive_in
from harness.images.sources.tiered_files import Survey

SIDE = 84


def plans(dataset: str, sources: Sequence[Path]) -> list[Plan]:
    """Plan tieredImageNet from what the sources hold.

    Args:
        dataset: ``tiered``.
        sources: pictures as ``imagenet.pictures`` takes them (DeepEMD's ``{train,val,test}/<wnid>/*`` too), or
            files as ``tiered_files.names`` and ``tiered_pngs.survey`` do.

    Raises:
        DataError: when nothing of it is there, something is broken, or a class lacks images.
    """
    sources = [archive_in(s, "tiered-imagenet.tar*") for s in sources]
    if tiered_files.names(sources):
        found = tiered_files.survey(sources)
        return [_small(dataset, sources, found, lambda: tiered_files.pictures(sources, found.bgr))]
    listed = [(p.class_name, n) for p, n in _pictures(sources)]
    if not listed and (survey := tiered_pngs.survey(sources)):
        return [_small(dataset, sources, survey, lambda: tiered_pngs.pictures(sources, bool(survey.bgr)))]
    if not listed:
        raise DataError(
            f"{', '.join(map(str, sources))} holds nothing of {dataset}. {how_to_prepare(dataset)}"
        )
    _check_whole(Counter(name for name, _ in listed))
    n_bytes = sum(n for _, n in listed)
    plan = _plan(dataset, mini.REBUILT, tuple(source_file(s, n_bytes=n_bytes) for s in sources))
    return [
        replace(
            plan, n_images=len(listed), n_bytes=n_bytes, pictures=lambda: (p for p, _ in _pictures(sources))
        )
    ]


def fetch(dataset: str, folder: Path, progress: Progress | None) -> list[Path]:
    """Say that ImageNet's pictures cannot be downloaded for a user.

    Raises:
        DataError: always.
    """
    return mini.fetch(dataset, folder, progress)


def _pictures(sources: Sequence[Path]) -> Iterator[tuple[Picture, int]]:
    group = splits.read("tiered")["superclass"]
    for wnid, file, member in imagenet.pictures(sources, group):
        yield Picture(wnid, file, member.read, group[wnid]), member.n_bytes


def _check_whole(found: Counter[str]) -> None:
    split = splits.read("tiered")
    expected = {wnid: n for role in splits.ROLES for wnid, n in split[role].items()}
    wrong = [f"{w} has {found[w]:,} of {n:,}" for w, n in expected.items() if found[w] != n]
    if wrong:
        raise DataError(
            f"tieredImageNet is not whole: {len(wrong)} of {len(expected)} classes differ from ILSVRC2012: "
            f"{'; '.join(wrong[:3])}. {how_to_prepare('tiered')}"
        )


def _small(
    dataset: str, sources: Sequence[Path], found: Survey, pictures: Callable[[], Iterator[Picture]]
) -> Plan:
    """Plan a set of pictures that are 84 pixels already."""
    plan = _plan(dataset, "ren", tuple(source_file(s, n_bytes=found.n_bytes) for s in sources))
    return replace(
        plan,
        n_images=found.n_images,
        n_bytes=found.n_bytes,
        pictures=pictures,
        has_originals=False,
        note=found.note,
    )


def _plan(dataset: str, population: str, sources: tuple[SourceFile, ...]) -> Plan:
    return Plan(
        dataset=dataset,
        population=population,
        mode="RGB",
        sources=sources,
        terms=reader(dataset).terms,
        n_images=0,
        n_bytes=0,
        pipeline="metaoptnet",
        size=SIDE,
        pictures=lambda: iter(()),
    )
