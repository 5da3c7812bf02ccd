"""`fsbench verify`: whether a prepared set still is what was prepared."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from harness.errors import ConfigError, DataError, nearest
from harness.images import maps
from harness.images.datasets import READERS
from harness.images.pipelines import Geometry, geometry_named, pipeline
from harness.images.roles import RoleClasses, problems
from harness.images.stores import PreparedSet


class Finding(NamedTuple):
    """One thing that was checked.

    Attributes:
        level: "ok", "warning" (worth knowing), "repaired", or "error" (do not use the set).
        check: what was checked.
        detail: what was found, and what to type where that helps.
    """

    level: Literal["ok", "warning", "repaired", "error"]
    check: str
    detail: str


def verify(dataset: str, data_home: Path, roles: Sequence[RoleClasses] = ()) -> list[Finding]:
    """Check a prepared set: counts, originals, pixel digests, equal pictures, and the benchmarks' splits over it.

    Args:
        dataset, data_home: which set, and where prepared sets are.
        roles: what benchmarks want of it (``benchmarks.roles_of``).

    What can be rebuilt is: a map whose pixels differ from their digests is decoded again where the originals are intact.

    Raises:
        ConfigError: when there is no set of that name.
        DataError: when the set is not prepared or its manifest is broken.
    """
    if dataset not in READERS and not (data_home / dataset).is_dir():
        known = sorted({*READERS, *(path.parent.name for path in data_home.glob("*/manifest.json"))})
        raise ConfigError(
            f"`{dataset}` is not a data set.{nearest(dataset, known)} Known: {', '.join(known)}."
        )
    prepared = PreparedSet.open(data_home / dataset)
    findings = [_counts(prepared), *_originals(prepared)]
    can_rebuild = prepared.manifest.has_originals and all(f.level == "ok" for f in findings)
    findings += [_map(prepared, geometry, size, can_rebuild) for geometry, size in _stored(prepared)]
    findings += _full(prepared)
    if all(f.level != "error" for f in findings):
        findings.append(duplicates(prepared))
    return [*findings, *_splits(prepared, roles)]


def _counts(prepared: PreparedSet) -> Finding:
    try:
        rows = [name for name, _, _ in prepared.files()]
    except (OSError, ValueError) as error:
        return Finding("error", "counts", f"images.csv cannot be read: {error}")
    expected = [prepared.class_names[c] for c in prepared.labels]
    if rows != expected:
        return Finding("error", "counts", f"images.csv has {len(rows)} rows that do not fit the manifest")
    return Finding("ok", "counts", f"{len(prepared.class_names)} classes, {len(rows):,} images")


def _originals(prepared: PreparedSet) -> Iterator[Finding]:
    if not prepared.manifest.has_originals:
        return
    try:
        with prepared.originals() as kept:
            n = prepared.manifest.n_images
            broken = (
                [row for row in range(n) if not kept.is_intact(row)] if len(kept.index) == n else range(n)
            )
    except DataError as error:
        yield Finding("error", "originals", str(error))
        return
    if broken:
        yield Finding("error", "originals", f"{len(broken):,} of {n:,} changed; prepare the set again")
    else:
        yield Finding("ok", "originals", f"{n:,} files, checksums agree")


def _stored(prepared: PreparedSet) -> list[tuple[Geometry, int]]:
    pairs = (stem.rsplit("-", 1) for stem in maps.stored(prepared.folder))
    found = ((geometry_named(name), size) for name, size in pairs)
    return [(geometry, int(size)) for geometry, size in found if geometry and size.isdigit()]


def _map(prepared: PreparedSet, geometry: Geometry, size: int, can_rebuild: bool) -> Finding:
    check = f"pixels of {geometry.name}-{size}"
    problem = _map_problem(prepared, geometry, size)
    if not problem:
        return Finding("ok", check, "digests agree")
    if not can_rebuild:
        return Finding("error", check, f"{problem}; prepare the set again")
    maps.map_path(prepared.folder, geometry, size).unlink()
    maps.ensure_map(prepared.folder, prepared.manifest, geometry, size)
    return Finding("repaired", check, f"{problem}; decoded again from the originals")


def _full(prepared: PreparedSet) -> Iterator[Finding]:
    """The file of decoded pictures, where there is one; it is made again when a training next asks for it."""
    from harness.images import full  # with torch

    problem, path = full.check(prepared.folder), prepared.folder / maps.FOLDER / full.FILE
    if problem:
        full.forget(prepared.folder)
        yield Finding("repaired", "decoded pictures", f"{problem}; removed, to be decoded again")
    elif path.exists():
        yield Finding("ok", "decoded pictures", "digest agrees")


def _map_problem(prepared: PreparedSet, geometry: Geometry, size: int) -> str:
    try:
        recorded = maps.recorded_digests(prepared.folder, geometry, size)
        maps.open_map(prepared.folder, prepared.manifest, geometry, size)
        found = maps.map_digests(maps.map_path(prepared.folder, geometry, size), prepared.counts.tolist())
    except DataError as error:
        return str(error)
    changed = [n for n, a, b in zip(prepared.class_names, recorded, found, strict=False) if a != b]
    if changed or len(recorded) != len(found):
        return f"the pixels of {len(changed)} classes changed ({', '.join(changed[:3])} …)"
    return ""


def _splits(prepared: PreparedSet, roles: Sequence[RoleClasses]) -> Iterator[Finding]:
    """Whether the set can play its roles in the benchmarks, and which groups lie in several roles."""
    found = [Finding(*problem) for problem in problems(prepared, roles)]
    if roles and not found:
        names = ", ".join(dict.fromkeys(r.benchmark for r in roles))
        yield Finding("ok", "splits", f"classes, counts and groups are those of {names}")
    yield from found


def duplicates(prepared: PreparedSet) -> Finding:
    """Look for equal pictures in different classes: no classifier can tell them apart."""
    card = prepared.manifest
    pixels = prepared.map(card.pipeline, card.size)
    rows = defaultdict(list)
    for row in range(len(pixels)):
        rows[hashlib.blake2b(pixels[row].tobytes(), digest_size=16).digest()].append(row)
    shared = [r for r in rows.values() if len(set(prepared.labels[r])) > 1]
    where = f"{pipeline(card.pipeline).geometry.name}-{card.size}"
    if not shared:
        return Finding("ok", "equal pictures", f"none in two classes at {where}")
    names = sorted({" = ".join(prepared.class_names[prepared.labels[i]] for i in r) for r in shared})
    return Finding(
        "warning", "equal pictures", f"{len(shared)} in two classes at {where}: {'; '.join(names[:5])}"
    )
