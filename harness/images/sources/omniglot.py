"""Omniglot from Lake's own zips: the full sets, the two small background sets, the 20 one-shot runs."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import DataError
from harness.images.account import shown
from harness.images.datasets import how_to_prepare, reader
from harness.images.manifest import SourceFile
from harness.images.maps import Progress
from harness.images.originals import Picture
from harness.images.plan import Plan, source_file
from harness.images.sources import splits
from harness.images.sources.archives import md5, members, outline, sniff
from harness.images.sources.download import download
from harness.system.folders import is_rehearsal

_LOG = logging.getLogger("fsbench.data")
_ADDRESS = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python"


@dataclass(frozen=True)
class Zip:
    """One of Lake's zips: its name, md5, the data set it belongs to and the part of it, size where known."""

    file: str
    md5: str
    dataset: str
    part: str
    n_bytes: int | None = None
    folder: str = ""

    @property
    def url(self) -> str:
        """Its public address."""
        return "/".join(p for p in (_ADDRESS, self.folder, self.file) if p)


ZIPS = (
    Zip("images_background.zip", "68d2efa1b9178cc56df9314c21c6e718", "omniglot", "background"),
    Zip("images_evaluation.zip", "6b91aef0f799c5bb55b94e3f2daec811", "omniglot", "evaluation"),
    Zip(
        "images_background_small1.zip",
        "e704a628b5459e08445c13499850abc4",
        "omniglot-small",
        "background-small1",
        1_319_022,
    ),
    Zip(
        "images_background_small2.zip",
        "b75a71a51d3b13f821f212756fe481fd",
        "omniglot-small",
        "background-small2",
        1_580_917,
    ),
    Zip(
        "all_runs.zip",
        "e8996daecdf12afeeb4a53a179f06b19",
        "omniglot-runs",
        "one-shot-runs",
        352_787,
        "one-shot-classification",
    ),
)
RUN_ALPHABETS = (  # of runs 01-02, 03-04, …
    "Atlantean",
    "Ge_ez",
    "Glagolitic",
    "Gurmukhi",
    "Kannada",
    "Malayalam",
    "Manipuri",
    "Old_Church_Slavonic_(Cyrillic)",
    "Tengwar",
    "Tibetan",
)


def plans(dataset: str, sources: Sequence[Path]) -> list[Plan]:
    """Find Lake's zips among the sources and plan a set for each kind found.

    Args:
        dataset: ``omniglot`` takes every kind; ``omniglot-small`` and ``omniglot-runs`` their own.
        sources: zips, or folders with zips in them or up to two folders below, or with what was in the zips.

    Raises:
        DataError: when none is found, or one is truncated, a web page, or of another md5 than Lake's.
    """
    unpacked = {
        z: path
        for source in sources
        for z, path in _find_unpacked(source)
        if dataset in ("omniglot", z.dataset)
    }
    found = {z: path for source in sources for z, path in _find(source) if dataset in ("omniglot", z.dataset)}
    for known, path in found.items():
        if known in unpacked and md5(path) != known.md5:
            _LOG.warning("%s is not Lake's zip, or half of it; %s beside it is used", path, unpacked[known])
        elif known in unpacked:
            del unpacked[known]
        else:
            _check(known, path)
    found |= unpacked
    found = {z: found[z] for z in ZIPS if z in found}
    if not found:
        raise DataError(
            f"{', '.join(map(str, sources))} holds none of the zips of {dataset}: "
            f"{', '.join(z.file for z in ZIPS if dataset in ('omniglot', z.dataset))}, nor their folders. "
            f"{'; '.join(outline(s) for s in sources if s.is_dir())}. {how_to_prepare(dataset)}"
        )
    return [_plan(name, [z for z in found if z.dataset == name], found) for name in _kinds(found)]


def fetch(dataset: str, folder: Path, progress: Progress | None) -> list[Path]:
    """Download the zips of one data set.

    Raises:
        DataError: as ``download``.
    """
    return [
        download(z.url, folder / z.file, expected_md5=z.md5, n_bytes=z.n_bytes, progress=progress)
        for z in ZIPS
        if z.dataset == dataset
    ]


def _kinds(found: dict[Zip, Path]) -> list[str]:
    return list(dict.fromkeys(z.dataset for z in found))


def _find(source: Path) -> Iterator[tuple[Zip, Path]]:
    if source.is_dir():
        for known in ZIPS:
            for pattern in ("", "*/", "*/*/"):
                yield from ((known, path) for path in sorted(source.glob(f"{pattern}{known.file}"))[:1])
        return
    by_name = [z for z in ZIPS if z.file == source.name]
    yield from ((z, source) for z in by_name or [z for z in ZIPS if z.md5 == md5(source)])


def _find_unpacked(source: Path) -> Iterator[tuple[Zip, Path]]:
    """Folders in or up to two below the source that hold the characters or runs of one of the zips, whatever their names.

    Raises:
        DataError: when one has the name of a zip and lacks pictures.
    """
    if not source.is_dir():
        return
    for depth in ("", "*", "*/*"):
        for folder in sorted(source.glob(depth) if depth else [source]):
            classes = _classes(folder) if folder.is_dir() else {}
            for known in ZIPS:
                wanted = _wanted(known.part) if classes else {}
                if classes and classes == wanted:
                    yield known, folder
                elif classes and folder.name == known.file.removesuffix(".zip"):
                    wrong = sorted(c for c in {*wanted, *classes} if wanted.get(c) != classes.get(c))
                    raise DataError(
                        f"{folder} is not Lake's {known.file} unpacked: {len(wrong)} characters have another number of "
                        f"drawings ({shown([f'{c} {classes.get(c, 0)} of {wanted.get(c, 0)}' for c in wrong])}). Unpack it again."
                    )


def _classes(folder: Path) -> dict[str, int]:
    """Drawings by ``<alphabet>/<character>``, or of each of the 20 places of a run; empty where it is neither."""
    if any(folder.glob("run[0-9][0-9]/class_labels.txt")):
        runs = Counter(p.parent.parent.name for p in folder.glob("run[0-9][0-9]/t*/*.png"))
        return {f"{run}/character{i:02d}": n // 20 for run, n in runs.items() for i in range(1, 21)}
    return dict(
        Counter(p.parent.relative_to(folder).as_posix() for p in folder.glob("*/character[0-9][0-9]/*_*.png"))
    )


def _wanted(part: str) -> dict[str, int]:
    """Drawings by character of one of the zips."""
    small, full = splits.read("omniglot-small"), splits.read("omniglot")
    if part == "evaluation":
        every = {c: n for role in splits.ROLES for c, n in full[role].items()}
        return {c: n for c, n in every.items() if c not in full["background"]}
    keys = {"background": full["background"], "one-shot-runs": small["runs"]}
    found: dict[str, int] = keys[part] if part in keys else small[part.removeprefix("background-")]
    return found


def _check(known: Zip, path: Path) -> None:
    found = md5(path)
    if found == known.md5:
        return
    if is_rehearsal():
        _LOG.warning("rehearsal: %s has md5 %s and not Lake's, and is used all the same", path, found)
        return
    kind = sniff(path)
    size = path.stat().st_size
    what = (
        f"it is {kind}" if kind != "zip" else f"its md5 is {found} ({size:,} bytes), {known.md5} was expected"
    )
    raise DataError(
        f"{path} is not Lake's {known.file}: {what}. It may be truncated or changed; get it from {known.url}."
    )


def _plan(dataset: str, zips: Sequence[Zip], paths: dict[Zip, Path]) -> Plan:
    sizes = [m.n_bytes for z in zips for m in members(paths[z]) if m.path.endswith(".png")]
    read = _runs if dataset == "omniglot-runs" else _characters

    def pictures() -> Iterator[Picture]:
        for known in zips:
            yield from read(paths[known])

    return Plan(
        dataset=dataset,
        population="+".join(sorted(z.part for z in zips)),
        mode="L",
        sources=tuple(_source(z, paths[z]) for z in zips),
        terms=reader(dataset).terms,
        n_images=len(sizes),
        n_bytes=sum(sizes),
        pipeline="area",
        size=28,
        pictures=pictures,
        if_other="extend",
    )


def _source(known: Zip, path: Path) -> SourceFile:
    if path.is_dir():
        return source_file(path, n_bytes=sum(m.n_bytes for m in members(path) if m.path.endswith(".png")))
    return SourceFile(known.file, path.stat().st_size, known.md5)


def _characters(path: Path) -> Iterator[Picture]:
    """``<set>/<alphabet>/characterNN/IIII_DD.png``: DD is the drawer, one person within an alphabet."""
    for member in members(path):
        parts = [*([path.name] if path.is_dir() else []), *member.path.split("/")]
        if not member.path.endswith(".png"):
            continue
        if len(parts) != 4 or "_" not in parts[3]:
            raise DataError(
                f"{path}: {member.path} is not <set>/<alphabet>/<character>/<number>_<drawer>.png."
            )
        _, alphabet, character, file = parts
        drawer = file.removesuffix(".png").split("_")[1]
        yield Picture(f"{alphabet}/{character}", file, member.read, alphabet, f"{alphabet}/{drawer}")


def _runs(path: Path) -> Iterator[Picture]:
    """``runNN/{training/classMM,test/itemMM}.png``: image 0 of a class is the training one, image 1 its test item."""
    training_of = dict(_answers(path))
    for member in members(path):
        if not member.path.endswith(".png"):
            continue
        is_test = member.path in training_of
        training = training_of.get(member.path, member.path)
        run, folder, file = f"{training}//".split("/")[:3]
        if folder != "training" or not run.removeprefix("run").isdigit():
            raise DataError(f"{path}: {member.path} is neither a training image nor in class_labels.txt.")
        alphabet = RUN_ALPHABETS[(int(run.removeprefix("run")) - 1) // 2 % len(RUN_ALPHABETS)]
        name = f"{run}/{file.removesuffix('.png').replace('class', 'character')}"
        yield Picture(name, member.path, member.read, alphabet, order=int(is_test))


def _answers(path: Path) -> Iterator[tuple[str, str]]:
    for member in members(path):
        if member.path.endswith("class_labels.txt"):
            for line in member.read().decode("ascii", "replace").split("\n"):
                if line.strip():
                    test, _, training = line.strip().partition(" ")
                    yield test, training
