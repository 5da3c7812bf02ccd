"""`fsbench prepare`: from what a user has to a prepared set, whole or not at all."""

from __future__ import annotations

import importlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import chain, groupby
from pathlib import Path
from typing import Literal, NamedTuple

from harness.errors import ConfigError, DataError
from harness.images import originals
from harness.images.account import Account, accounted, printable
from harness.images.datasets import GENERATED, how_to_prepare, reader
from harness.images.manifest import FILE, ClassCard, Manifest
from harness.images.maps import FOLDER as MAPS
from harness.images.maps import BrokenPictures, Progress, ensure_map
from harness.images.originals import Entry, OriginalsWriter, Picture
from harness.images.pipelines import pipeline
from harness.images.plan import Plan
from harness.images.stores import PreparedSet
from harness.system.files import recover_folder, swap_folder
from harness.system.locks import held

_LOG = logging.getLogger("fsbench.data")
_WORK, _SOURCES = ".preparing", "sources.json"


class Prepared(NamedTuple):
    """A data set that is ready, and what became of its sources.

    Attributes:
        dataset: the set.
        change: whether it is new, was extended, or was there already.
        account: what was left out of the sources; empty where the set was there already.
    """

    dataset: PreparedSet
    change: Literal["new", "extended", "unchanged"]
    account: Account


def prepare(
    dataset: str,
    sources: Sequence[Path],
    data_home: Path,
    *,
    accept_terms: bool = False,
    progress: Progress | None = None,
) -> list[Prepared]:
    """Prepare a data set from archives or folders; a killed call is taken up by the next.

    Memory is constant; the set appears by rename when it is whole. ``omniglot`` prepares every kind
    of Omniglot set the sources hold, so the result is a list.

    Args:
        dataset: its name.
        sources: archives, or folders that hold them; without any, a public set is downloaded.
        data_home: the folder of all prepared sets.
        accept_terms: whether the user accepts the terms of a set that asks for it.
        progress: told (steps done, steps in all); a step is one picture read or decoded.

    Raises:
        ConfigError: when the data set is unknown.
        DataError: when sources are missing, broken or other than expected, when the terms are not accepted, or
            when the disk is too small. Nothing of it is left under the data set's name.
    """
    return [
        write(plan, data_home, progress)
        for plan in plans(dataset, sources, data_home, accept_terms, progress)
    ]


def import_folder(
    dataset: str,
    source: Path,
    data_home: Path,
    *,
    pipeline: str = "easyfsl",
    size: int = 84,
    is_upright: bool = True,
    keeps_going: bool = False,
    progress: Progress | None = None,
) -> Prepared:
    """Prepare a user's own pictures, a folder or archive with a subfolder for each class.

    Args:
        dataset: the name it gets.
        source: the folder or archive.
        data_home: the folder of all prepared sets.
        pipeline: name of the default pipeline.
        size: default edge in pixels.
        is_upright: whether pictures are turned as their EXIF orientation says.
        keeps_going: whether broken pictures are left out, and recorded in the manifest.
        progress: as for ``prepare``.

    Raises:
        ConfigError: when the name cannot be one, or the pipeline is unknown.
        DataError: as ``prepare``; names every broken picture.
    """
    from harness.images.sources import folder

    plan = folder.plan(dataset, folder.survey(source), pipeline, size)
    return write(replace(plan, is_upright=is_upright, keeps_going=keeps_going), data_home, progress)


def ensure(dataset: str, data_home: Path) -> PreparedSet:
    """Open a prepared set; a generated one is made on first use, and again when its generator changed.

    Raises:
        DataError: when it is neither prepared nor generated; says what to type.
    """
    folder = data_home / dataset
    if dataset not in GENERATED:
        return PreparedSet.open(folder)
    from harness.images.sources import generated

    if (folder / FILE).exists():
        found = PreparedSet.open(folder)
        if found.manifest.sources == (generated.source(dataset),):
            return found
    return write(generated.plan(dataset), data_home).dataset


def plans(
    dataset: str,
    sources: Sequence[Path],
    data_home: Path,
    accept_terms: bool = False,
    progress: Progress | None = None,
) -> list[Plan]:
    """Say what ``prepare`` would do, reading sources but writing nothing but downloads.

    Raises:
        ConfigError: when the data set is unknown.
        DataError: as ``prepare``.
    """
    chosen = reader(dataset)
    if chosen.must_accept and not accept_terms:
        raise DataError(f"{dataset} has terms of use: {chosen.terms}. Accept them: {how_to_prepare(dataset)}")
    if missing := [str(s) for s in sources if not s.exists()]:
        raise ConfigError(f"{', '.join(missing)} does not exist. {how_to_prepare(dataset)}")
    module = importlib.import_module(chosen.module)
    found: list[Plan] = module.plans(
        dataset, sources or module.fetch(dataset, data_home / ".downloads", progress)
    )
    return found


def write(plan: Plan, data_home: Path, progress: Progress | None = None) -> Prepared:
    """Carry out a plan: read the pictures, decode them, rename.

    Where the set exists from other sources, the plan says whether the two are united (pictures of equal
    class and file name are taken once), whether the new one replaces it, or whether that is refused.

    Raises:
        DataError: as ``prepare``; names every broken picture.
    """
    target = data_home / plan.dataset
    account = plan.account or Account()
    try:
        with held(data_home / _WORK / f"{plan.dataset}.lock", f"the preparation of {plan.dataset}"):
            recover_folder(target)
            existing = PreparedSet.open(target) if (target / FILE).exists() else None
            if existing and set(plan.sources) <= set(existing.manifest.sources):
                return Prepared(existing, "unchanged", account)
            if existing:
                plan = _beside(plan, existing)
            work = _open_work(plan, data_home)
            try:
                with accounted(None if plan.account else account):  # what a plan counted is not counted twice
                    _fill(plan, work, progress)
            except DataError:
                shutil.rmtree(work, ignore_errors=True)  # typing the same again would meet the same
                raise
            _swap(plan, work, target)
    except OSError as error:
        raise DataError(
            f"{plan.dataset} could not be written to {data_home}: {error}. What is done is kept: free space or "
            "choose another place with FSBENCH_DATA, then type the same again."
        ) from error
    return Prepared(PreparedSet.open(target), "extended" if existing else "new", account)


def _fill(plan: Plan, work: Path, progress: Progress | None) -> None:
    """Write the whole set into the work folder."""
    if plan.build:
        plan.build(work, _teller(progress, plan.n_images))
        return
    entries, broken = _read(plan, work, progress)
    if entries:
        broken |= _decode(plan, work, entries, broken, progress)
    if broken and not plan.keeps_going:
        told = "".join(f"\n  {printable(path)} {why}" for path, why in sorted(broken.items()))
        raise DataError(
            f"{len(broken):,} of {plan.n_images:,} pictures of {plan.dataset} are broken:{told}\n{_remedy(plan)}"
        )


def _teller(progress: Progress | None, n: int) -> Callable[[int], None]:
    """Adds up what was done, for ``progress``."""
    done = [0]

    def tell(more: int) -> None:
        done[0] += more
        if progress is not None:
            progress(done[0], n)

    return tell


def _beside(plan: Plan, existing: PreparedSet) -> Plan:
    """What becomes of a plan where the set exists from other sources."""
    card = existing.manifest
    if plan.if_other == "replace":
        return plan
    if plan.if_other == "refuse" or not card.has_originals:
        raise DataError(
            f"{plan.dataset} is already prepared from {', '.join(s.file for s in card.sources)} "
            f"({card.population}); {', '.join(s.file for s in plan.sources)} is another source "
            f"({plan.population}). Remove {existing.folder} first, or use another FSBENCH_DATA."
        )
    return replace(
        plan,
        population="+".join(sorted({*card.population.split("+"), *plan.population.split("+")})),
        sources=card.sources + tuple(s for s in plan.sources if s not in card.sources),
        n_images=plan.n_images + card.n_images,
        n_bytes=plan.n_bytes + (existing.folder / originals.BYTES).stat().st_size,
        pictures=lambda: chain(_kept(existing), plan.pictures()),
    )


def _kept(existing: PreparedSet) -> Iterator[Picture]:
    groups = dict(zip(existing.class_names, existing.groups, strict=True))
    with existing.originals() as kept:
        for row, (name, file, author) in enumerate(existing.files()):
            yield Picture(name, file, partial(kept.read, row), groups[name], author, row)


def _open_work(plan: Plan, data_home: Path) -> Path:
    """The folder where the set grows; what a killed call with equal sources left in it is kept."""
    work = data_home / _WORK / plan.dataset
    identity = json.dumps([plan.population, [asdict(s) for s in plan.sources]])
    record = work / _SOURCES
    if not record.exists() or record.read_text(encoding="utf-8") != identity:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
    done = sum(p.stat().st_size for p in work.rglob("*") if p.is_file())
    free, need = shutil.disk_usage(work).free, plan.disk_bytes - done
    _LOG.info("%s: %d images, %.1f MB of disk", plan.dataset, plan.n_images, plan.disk_bytes / 1e6)
    if need > free:
        raise DataError(
            f"{plan.dataset} needs {need / 1e6:,.1f} MB more, {data_home} has {free / 1e6:,.1f} MB free. "
            "Free space, or choose another place with FSBENCH_DATA."
        )
    record.write_text(identity, encoding="utf-8")
    return work


def _read(plan: Plan, work: Path, progress: Progress | None) -> tuple[list[Entry], dict[str, str]]:
    """Copy the source bytes; gives the entries in row order (by class, order, file), and why others cannot be read."""
    broken: dict[str, str] = {}
    with OriginalsWriter(work, plan.is_upright) as writer:
        for n_read, picture in enumerate(plan.pictures(), start=1):
            try:
                writer.add(picture)
            except DataError as error:
                broken[picture.path or f"{picture.class_name}/{picture.file}"] = f"cannot be read: {error}"
            if progress is not None:
                progress(n_read, 2 * plan.n_images)
    if not writer.entries and not broken:
        raise DataError(f"{', '.join(s.file for s in plan.sources)}: no picture of {plan.dataset} is in it.")
    return sorted(writer.entries.values(), key=lambda e: (e.class_name, e.order, e.file)), broken


def _decode(
    plan: Plan, work: Path, entries: list[Entry], unread: dict[str, str], progress: Progress | None
) -> dict[str, str]:
    """Write manifest, index and the default map into the work folder; gives what is broken, by path.

    Where the plan keeps going, the set is written without what is broken.
    """
    _describe(plan, work, entries, unread)
    n_read = plan.n_images
    tell = None if progress is None else lambda done, n: progress(n_read + done, n_read + n)
    try:
        manifest = _manifest(plan, entries, unread)
        ensure_map(work, manifest, pipeline(plan.pipeline).geometry, plan.size, tell)
    except BrokenPictures as error:
        broken = {entries[row].own_path: why for row, why in error.why.items()}
        if plan.keeps_going:
            shutil.rmtree(work / MAPS)
            whole = [entry for row, entry in enumerate(entries) if row not in error.why]
            _decode(plan, work, whole, unread | broken, progress)
        return broken
    return {}


def _describe(plan: Plan, work: Path, entries: list[Entry], left_out: dict[str, str]) -> None:
    """Write manifest and index; refuses to leave a class empty."""
    originals.write_index(work, entries)
    replace(_manifest(plan, entries, left_out), has_originals=plan.has_originals).write(work)
    classes = {entry.class_name for entry in entries}
    if left_out and plan.keeps_going and len(classes) < 2:
        raise DataError(
            f"Without its {len(left_out):,} broken pictures {plan.dataset} has {len(classes)} classes."
        )


def _manifest(plan: Plan, entries: list[Entry], left_out: dict[str, str]) -> Manifest:
    by_class = [list(group) for _, group in groupby(entries, key=lambda e: e.class_name)]
    return Manifest(
        dataset=plan.dataset,
        population=plan.population,
        mode=plan.mode,
        classes=tuple(ClassCard(group[0].class_name, group[0].group, len(group)) for group in by_class),
        sources=plan.sources,
        terms=plan.terms,
        pipeline=plan.pipeline,
        size=plan.size,
        note=plan.note,
        is_upright=plan.is_upright,
        left_out=tuple(f"{path}: {why}" for path, why in sorted(left_out.items())),
    )


def _remedy(plan: Plan) -> str:
    if plan.remedy:
        return plan.remedy
    return f"Copy or download them again. {how_to_prepare(plan.dataset)}"


def _swap(plan: Plan, work: Path, target: Path) -> None:
    """Put the finished set in its place; a set that was there stays until then."""
    unneeded = () if plan.has_originals else (originals.BYTES, originals.INDEX)
    for name in (_SOURCES, originals.JOURNAL, *unneeded):
        (work / name).unlink(missing_ok=True)
    swap_folder(work, target)
