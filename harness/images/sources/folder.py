"""A user's own pictures: a folder, or an archive of one, with a subfolder for each class or a list of labels."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from harness.errors import ConfigError, DataError
from harness.images.account import Account, accounted, kind_of, shown
from harness.images.datasets import READERS
from harness.images.originals import Picture
from harness.images.plan import Plan, source_file
from harness.images.sources.archives import unpacked

# fmt: off
KINDS = (
    ".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tga",
    ".tif", ".tiff", ".webp",
)
# fmt: on
TERMS = "the user's own pictures"
ROLE_WORDS = {
    "base": "base", "train": "base", "training": "base",
    "validation": "validation", "val": "validation", "valid": "validation", "dev": "validation",
    "novel": "novel", "test": "novel", "testing": "novel",
}  # fmt: skip
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_LOOSE, _UNLISTED = "pictures beside the class folders", "pictures that are not in the list"


class Found(NamedTuple):
    """One picture: its path at the source, its class, the group and role of that, its name within it, its bytes."""

    path: str
    class_name: str
    group: str
    role: str
    file: str
    n_bytes: int


class Label(NamedTuple):
    """What a list says of a picture: its class, and the role of that; empty where it says none."""

    class_name: str
    role: str = ""


@dataclass(frozen=True)
class Survey:
    """What a source holds, before anything is prepared.

    Attributes:
        source: the folder or archive.
        found: the pictures that are taken.
        account: what is not, and why.
    """

    source: Path
    found: tuple[Found, ...]
    account: Account

    @property
    def counts(self) -> dict[str, int]:
        """Pictures by class, classes by name."""
        return dict(sorted(Counter(f.class_name for f in self.found).items()))

    @property
    def roles(self) -> dict[str, list[str]]:
        """Classes by role, where folders or a list give roles; else empty."""
        roles = {f.class_name: f.role for f in self.found}
        return {
            r: sorted(c for c in roles if roles[c] == r)
            for r in ("base", "validation", "novel")
            if r in roles.values()
        }

    def lines(self) -> list[str]:
        """What is taken and what is not, a line each."""
        counts = self.counts
        smallest = sorted(counts.items(), key=lambda item: (item[1], item[0]))
        lines = [
            f"taken: {len(self.found):,} pictures of {len(counts):,} classes; smallest: "
            + shown([f"{name} ({n:,})" for name, n in smallest])
        ]
        alike = [names for names in _alike(counts) if len(names) > 1]
        if alike:
            lines.append(
                f"{len(alike)} names belong to several classes: {shown([' = '.join(names) for names in alike])}"
            )
        return [*lines, *self.account.lines()]


def survey(source: Path, labels: Mapping[str, Label] | None = None, is_merged: bool = False) -> Survey:
    """Look through a folder or archive: a class is a folder with pictures, named by its path below the common one.

    Folders called train, val and test (or base, validation, novel, meta-train, …) above class folders are roles. Where
    classes lie two or more folders deep, the folder above is their group. Archives among the files count as folders.

    Args:
        source: the folder or archive.
        labels: path or file name → class, in place of class folders.
        is_merged: whether classes of equal name in several roles are one, without a role.

    Raises:
        ConfigError: when it is not there.
        DataError: when it is broken, or holds fewer than two classes; when a class lies in several roles; when
            names are in an unknown code page, or differ in nothing but how letters are composed.
    """
    if not source.exists():
        raise ConfigError(
            f"{source} does not exist. Give a folder or archive with a subfolder for each class."
        )
    with accounted() as account:
        listed = [(m.path, m.n_bytes) for m in unpacked(source) if _is_picture(m.path, account)]
    account.met.clear()  # every file is told of by its reason
    _refuse_illegible(source, [path for path, _ in listed])
    place = (
        _by_list(labels, [path for path, _ in listed]) if labels else _by_folder([path for path, _ in listed])
    )
    found = tuple(_found(path, n, place[path]) for path, n in listed if path in place)
    for path, _ in listed:
        if path not in place:
            account.pass_over(path, _UNLISTED if labels else _LOOSE)
    _count_empty(account, found)
    if is_merged:
        found = tuple(f._replace(role="", file=f"{f.role}/{f.file}" if f.role else f.file) for f in found)
    result = Survey(source, found, account)
    _check(result)
    return result


def plans(dataset: str, sources: Sequence[Path], pipeline: str = "easyfsl", size: int = 84) -> list[Plan]:
    """Plan a set of one folder or archive.

    Raises:
        ConfigError, DataError: as ``plan`` and ``survey``.
    """
    if len(sources) != 1:
        raise DataError(f"{dataset} is prepared from one folder or archive, {len(sources)} were given.")
    return [plan(dataset, survey(sources[0]), pipeline, size)]


def plan(dataset: str, looked: Survey, pipeline: str = "easyfsl", size: int = 84) -> Plan:
    """Plan a set of a user's pictures.

    Args:
        dataset: its name; small letters, digits and dashes, and not that of a known set.
        looked: what the source holds.
        pipeline: name of the default pipeline.
        size: default edge in pixels.

    Raises:
        ConfigError: when the name cannot be one.
    """
    check_name(dataset)
    n_bytes = sum(f.n_bytes for f in looked.found)
    return Plan(
        dataset=dataset,
        population=f"folder {looked.source.name}",
        mode="RGB",
        sources=(source_file(looked.source, n_bytes=n_bytes),),
        terms=TERMS,
        n_images=len(looked.found),
        n_bytes=n_bytes,
        pipeline=pipeline,
        size=size,
        pictures=lambda: _pictures(looked),
        is_upright=True,
        remedy=f"Mend or remove them, or type `fsbench import-folder PATH --name {dataset} --keep-going` to leave them out.",
        account=looked.account,
    )


def check_name(dataset: str) -> None:
    """Refuse what cannot name a set of one's own.

    Raises:
        ConfigError: when it is the name of a known set, or has other signs than letters, digits and dashes.
    """
    if dataset in READERS or not _NAME.fullmatch(dataset):
        why = "is the name of a known data set" if dataset in READERS else "cannot name a data set"
        raise ConfigError(f"`{dataset}` {why}. Use small letters, digits and dashes, like `my-birds`.")


def role_of(word: str) -> str:
    """The role that a word means, in capitals or not, with or without ``meta-``; empty where it means none.

    >>> role_of("Meta_Train"), role_of("birds")
    ('base', '')
    """
    return ROLE_WORDS.get(word.strip().lower().replace("_", "-").removeprefix("meta").removeprefix("-"), "")


def composed(text: str) -> str:
    """A name with its letters composed (NFC): folders of macOS have them apart."""
    return unicodedata.normalize("NFC", text)


def _pictures(looked: Survey) -> Iterator[Picture]:
    by_path = {f.path: f for f in looked.found}
    for member in unpacked(looked.source):
        if f := by_path.get(member.path):
            own = str(looked.source / f.path)
            yield Picture(f.class_name, f.file, member.read, f.group, path=own)


def _is_picture(path: str, account: Account) -> bool:
    """Whether a file is taken for a picture; the reason is noted where not."""
    parts = PurePosixPath(path).parts
    kind = kind_of(path)
    if any(part.startswith(".") for part in parts):
        account.pass_over(path, "hidden files (a name that begins with a dot)")
    elif kind not in KINDS:
        account.pass_over(path, f"files of a kind that is not read ({kind})")
    else:
        return True
    return False


def _refuse_illegible(source: Path, paths: Sequence[str]) -> None:
    illegible = [path for path in paths if not _is_legible(path)]
    if illegible:
        raise DataError(
            f"{source}: {len(illegible):,} names are not UTF-8, and of which code page they are is not said: "
            f"{shown([ascii(p) for p in illegible])}. Rename them (`convmv -t utf8` does), or pack them anew with UTF-8 names."
        )


def _is_legible(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


class _Place(NamedTuple):
    """Where a picture belongs: role, folders of its class, and its name within them."""

    role: str
    folders: tuple[str, ...]
    file: str


def _found(path: str, n_bytes: int, place: _Place) -> Found:
    group, name = ("/".join(map(composed, parts)) for parts in (place.folders[:-1], place.folders))
    return Found(path, name, group, place.role, place.file, n_bytes)


def _by_folder(paths: Sequence[str]) -> dict[str, _Place]:
    """Place each picture by its folders; those beside the classes have no place."""
    depth = common_depth(paths)
    below = {path: PurePosixPath(path).parts[depth:] for path in paths}
    roles = _role_folders(list(below.values()))
    if not roles:
        return {path: _Place("", parts[:-1], parts[-1]) for path, parts in below.items() if len(parts) > 1}
    inner = common_depth(["/".join(parts[1:]) for parts in below.values() if len(parts) > 2])
    return {
        path: _Place(roles[parts[0]], parts[1 + inner : -1], parts[-1])
        for path, parts in below.items()
        if len(parts) > 2 + inner
    }


def _role_folders(paths: Sequence[tuple[str, ...]]) -> dict[str, str]:
    """Role of each topmost folder, where these are roles: at least two, with class folders in them.

    Raises:
        DataError: when other folders lie beside them.
    """
    tops = dict.fromkeys(parts[0] for parts in paths if len(parts) > 1)
    roles = {top: role_of(top) for top in tops if any(parts[0] == top and len(parts) > 2 for parts in paths)}
    if len({role for role in roles.values() if role}) < 2:
        return {}
    if others := [top for top in tops if not roles.get(top)]:
        named = [top for top, role in roles.items() if role]
        raise DataError(
            f"{', '.join(named)} are folders of roles, and {shown(others)} beside them is none. Move it away, or give each "
            "class folder its place below base (train), validation (val) or novel (test)."
        )
    return roles


def _by_list(labels: Mapping[str, Label], paths: Sequence[str]) -> dict[str, _Place]:
    """Place each picture that a list names, by its path or, where only one has it, by its file name.

    Raises:
        DataError: naming what is listed and not there.
    """
    ends: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        parts = PurePosixPath(composed(path)).parts
        for start in range(len(parts)):
            ends["/".join(parts[start:])].append(path)
    problems, place = [], {}
    for name, label in labels.items():
        found = ends.get(composed(name).replace("\\", "/").removeprefix("./").lstrip("/"), [])
        if len(found) != 1:
            problems.append(f"{name} ({'not there' if not found else f'{len(found)} files of this name'})")
        else:
            place[found[0]] = _Place(label.role, (label.class_name,), found[0])
    if problems:
        raise DataError(
            f"{len(problems):,} of {len(labels):,} pictures of the list are not found: {shown(problems, 5)}."
        )
    return place


def _count_empty(account: Account, found: Sequence[Found]) -> None:
    """Note folders that hold files and not one picture that is taken: classes, perhaps, that would vanish."""
    full = {str(parent) for f in found for parent in PurePosixPath(f.path).parents}
    held: dict[str, Counter[str]] = defaultdict(Counter)
    for why, paths in account.passed.items():
        if "kind that is not read" in why:
            for path in paths:
                held[str(PurePosixPath(path).parent)][kind_of(path)] += 1
    for folder, kinds in held.items():
        if folder not in full:
            account.pass_over(
                f"{folder} ({', '.join(f'{n} {kind}' for kind, n in kinds.items())})",
                "folders without a picture that is read",
            )


def _check(looked: Survey) -> None:
    """Refuse what cannot be a set: too few classes, classes in several roles, names that are one."""
    counts = looked.counts
    if len(counts) < 2:
        raise DataError(
            f"{looked.source} has pictures in {len(counts)} folder(s); a data set needs a folder for each class. "
            f"Pictures are files of the kinds {' '.join(KINDS)}."
            + "".join(f"\n{line}" for line in looked.account.lines())
        )
    places = {(f.class_name, f.role): None for f in looked.found}
    several = sorted(name for name, n in Counter(name for name, _ in places).items() if n > 1)
    if several:
        raise DataError(
            f"{len(several)} of {len(counts)} classes are in several roles ({shown(several)}): that is a split of images, as "
            "plain classification has it. Few-shot learning asks for classes that training never saw, so it needs a split "
            "of classes. Add --merge-roles to put the pictures of equal classes together and deal the classes anew."
        )
    twice = [
        f"{name}/{file}"
        for (name, file), n in Counter((f.class_name, f.file) for f in looked.found).items()
        if n > 1
    ]
    if twice:
        raise DataError(
            f"{len(twice):,} pictures have the class and name of another one once their letters are composed (or an "
            f"archive holds them twice): {shown(twice)}. Rename or remove them."
        )


def _alike(counts: Mapping[str, int]) -> list[list[str]]:
    """Classes that are called the same but for capitals, or in several groups."""
    named: dict[str, list[str]] = defaultdict(list)
    for name in counts:
        named[name.rpartition("/")[2].casefold()].append(name)
    return list(named.values())


def common_depth(paths: Sequence[str]) -> int:
    """Number of folders that all pictures share; a picture beside the classes does not count as sharing fewer."""
    folders = {str(PurePosixPath(p).parent) for p in paths}
    above = {str(parent) for folder in folders for parent in PurePosixPath(folder).parents}
    deep = folders - above - {"."}
    if len(deep) < 2:
        return 0
    common = os.path.commonpath(sorted(deep))
    return len(PurePosixPath(common).parts)
