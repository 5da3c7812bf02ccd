"""``fsbench import-folder``: a folder of pictures becomes a benchmark with roles and locked episode lists."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from harness.benchmarks import settings
from harness.benchmarks.settings import ROLES
from harness.errors import ConfigError, DataError, nearest
from harness.images.account import shown
from harness.images.sources.folder import Label, role_of
from harness.images.stores import PreparedSet
from harness.seeding import numpy_generator
from harness.system import small_tables
from harness.system.files import save_text

Roles = Mapping[str, Sequence[str]]
_WAY, _SHOTS, _N_QUERY = 5, (1, 5), 15
_PROPORTIONS = (64, 16, 20)
_CLASS = ("label", "name", "category", "wnid", "classname", "class_name")
_ROLE = ("split", "set", "subset", "partition")
_FILE = ("file", "image", "path", "file_name", "image_name", "filepath")
_TOML = """# Made by `fsbench import-folder`; edit the texts, the size and the pipeline as you like.
name = {name}
title = {name}
about = {about}
image_size = {size}
channels = 3
pipeline = {pipeline}
backbone = "conv4"
seed = {seed}
n_query = {n_query}
n_episodes = 2000
settings = {settings}
"""


class Asked(NamedTuple):
    """What a benchmark of one's own asks: queries per class, and the standard settings, like "5w1s"."""

    n_query: int
    settings: tuple[str, ...]


def deal(counts: Mapping[str, int], seed: int, n_query: int | None = None) -> Roles:
    """Deal the classes at random so that something can be asked: 64/16/20, but five novel ones where there are ten.

    Small folders have fewer novel classes, at most half of all, and no validation classes where fewer than four would be
    left to train on. A class of too few pictures to be asked is a base class.

    Args:
        counts: pictures by class.
        seed: of the deal.
        n_query: queries per class, where they are chosen already.

    Raises:
        ConfigError: when fewer than two base and two novel classes can be had.
    """
    n = len(counts)
    askable = [c for c in sorted(counts) if counts[c] > (n_query or 1)]
    _, n_validation, n_novel = (round(n * part / sum(_PROPORTIONS)) for part in _PROPORTIONS)
    n_novel = min(max(n_novel, min(_WAY, n // 2)), len(askable))
    n_validation = max(2, n_validation)
    if n - n_novel - n_validation < 4 or len(askable) < n_novel + n_validation:
        n_validation = 0
    if n_novel < 2 or n - n_novel < 2:
        raise ConfigError(
            f"{n} classes, of which {len(askable)} have more than {n_query or 1} pictures, cannot be dealt: at least 2 base "
            "and 2 novel classes are needed, and a novel class has pictures for one shot and the queries."
        )
    order = [askable[i] for i in numpy_generator(seed, "split").permutation(len(askable))]
    n_first = len(order) - n_novel - n_validation
    return {
        "base": sorted({*counts} - {*order[n_first:]}),
        "validation": sorted(order[n_first : n_first + n_validation]),
        "novel": sorted(order[n_first + n_validation :]),
    }


def split_by_ratio(classes: Sequence[str], ratio: str, seed: int) -> Roles:
    """Deal the classes at random to base, validation and novel.

    Args:
        classes: names.
        ratio: "64/16/20": parts of any sum.
        seed: of the deal.

    Raises:
        ConfigError: when the ratio cannot be read or leaves a role without a class.
    """
    parts = [int(p) for p in ratio.split("/") if p.isdigit()]
    if len(parts) != 3 or min(parts) < 1:
        raise ConfigError(
            f"--split {ratio}: expected three whole numbers like 64/16/20, for base/validation/novel."
        )
    n = len(classes)
    n_validation, n_novel = (max(2, round(n * part / sum(parts))) for part in parts[1:])
    order = [sorted(classes)[i] for i in numpy_generator(seed, "split").permutation(n)]
    n_base = n - n_validation - n_novel
    if n_base < 2:
        raise ConfigError(
            f"--split {ratio} of {n} classes leaves {max(n_base, 0)} base classes; at least 2 are needed. Without --split "
            "small folders are dealt so that something can be asked."
        )
    return {
        "base": sorted(order[:n_base]),
        "validation": sorted(order[n_base : n_base + n_validation]),
        "novel": sorted(order[n_base + n_validation :]),
    }


def is_list(path: Path) -> bool:
    """Whether a table lists pictures, not classes."""
    rows = small_tables.cells(small_tables.text(path))
    header = [cell.lower().replace(" ", "_") for cell in rows[0][1]] if rows else []
    return bool({"filename", *_FILE} & set(header))


def read_labels(path: Path) -> dict[str, Label]:
    """Read a table with the columns ``filename``, ``label`` and, perhaps, ``role``: class and role of each picture.

    Raises:
        DataError: as ``small_tables.read``, or naming every unknown role and every picture with two rows.
    """
    table = small_tables.read(path, {"filename": _FILE, "label": ("class", *_CLASS)}, {"role": _ROLE})
    labels: dict[str, Label] = {}
    problems = []
    for line, (file, name, *role) in table.rows:
        if role and not role_of(role[0]):
            problems.append(f"`{role[0]}` in line {line} is not a role ({', '.join(ROLES)}).")
        if file in labels and labels[file].class_name != name:
            problems.append(f"`{file}` has two labels.")
        labels[file] = Label(name, role_of(role[0]) if role else "")
    if problems:
        raise DataError(f"{path}: " + shown(list(dict.fromkeys(problems)), 10))
    return labels


def read_splits(path: Path, classes: Sequence[str]) -> Roles:
    """Read a table with the columns ``class`` and ``role`` (base, validation, novel, or train, val, test).

    Raises:
        DataError: naming every unknown class and role at once, or roles without classes.
    """
    table = small_tables.read(path, {"class": _CLASS, "role": _ROLE}, {})
    pairs = [(name, role) for _, (name, role) in table.rows]
    names = [name for name, _ in pairs]
    problems = [
        f"`{c}` is not a class of the folder.{nearest(c, classes)}" for c in names if c not in classes
    ]
    problems += [
        f"`{r}` is not a role ({', '.join(ROLES)})." for r in sorted({r for _, r in pairs}) if not role_of(r)
    ]
    problems += [f"`{c}` has two rows." for c in sorted(set(names)) if names.count(c) > 1]
    roles: dict[str, list[str]] = {role: [c for c, r in pairs if role_of(r) == role] for role in ROLES}
    problems += too_few(roles)
    if problems:
        raise DataError(f"{path}: " + " ".join(problems))
    return roles


def too_few(roles: Roles) -> list[str]:
    """What roles lack: two base and two novel classes; validation classes are none or at least two."""
    return [
        f"{role} needs at least 2 classes, found {len(roles.get(role, ()))}."
        for role in ROLES
        if len(roles.get(role, ())) < 2 and (role != "validation" or roles.get(role))
    ]


def asked(counts: Mapping[str, int], roles: Roles, n_query: int | None = None) -> Asked:
    """Choose what can be asked of the novel classes: five ways, or as many as there are; one and five shots.

    Args:
        counts: pictures by class.
        roles: classes by role.
        n_query: queries per class; None for 15, or as many as leave pictures for support.

    Raises:
        ConfigError: when nothing can be drawn; says what can.
    """
    if single := [c for c in roles.get("validation", ()) if counts[c] < 2]:
        raise ConfigError(
            f"{shown(single)} has one picture and cannot be a validation class, which needs one to learn from and one to ask. "
            "Make it a base class."
        )
    smallest = min(roles["novel"], key=lambda c: counts[c])
    fewest, way = counts[smallest], min(_WAY, len(roles["novel"]))
    spare = fewest - (max(_SHOTS) if fewest > max(_SHOTS) else min(_SHOTS))  # pictures that support leaves
    chosen = n_query or (_N_QUERY if fewest > _N_QUERY else max(1, spare))
    drawn = tuple(f"{way}w{shot}s" for shot in _SHOTS if fewest >= shot + chosen)
    if not drawn:
        raise ConfigError(
            f"--queries {chosen}: the novel class `{smallest}` has {fewest} pictures, and one shot with {chosen} queries takes "
            f"{1 + chosen}. "
            + (f"Choose --queries {fewest - 1} or fewer." if fewest > 1 else "Give it another role.")
        )
    return Asked(chosen, drawn)


def refuse_another_split(name: str, counts: Mapping[str, int], roles: Roles) -> None:
    """Refuse a name that means another split already, before anything is prepared.

    Raises:
        ConfigError: when it does.
    """
    path = settings.user_folder() / "splits" / f"{name}.json"
    if path.exists() and path.read_text(encoding="utf-8") != _split(counts, roles):
        raise ConfigError(
            f"{name} is a benchmark already, with other roles or images: {path}. Its numbers would not be "
            "comparable; import the folder under another --name."
        )


def standing(name: str, seed: int, n_query: int | None) -> settings.Benchmark | None:
    """The benchmark of one's own that has a name already; its lists are locked.

    Args:
        name: of the set and benchmark.
        seed: asked for; 0 takes the benchmark's.
        n_query: asked for; None takes the benchmark's.

    Raises:
        ConfigError: when other lists are asked for.
    """
    folder = settings.user_folder()
    found = next((b for b in settings.every() if b.key == name and b.folder == folder), None)
    if found and (seed not in (0, found.seed) or n_query not in (None, found.n_query)):
        raise ConfigError(
            f"{name} is a benchmark already, with {found.n_query} queries and seed {found.seed}, and its lists are locked. "
            "Leave --queries and --seed out to prepare its pictures again, or choose another --name."
        )
    return found


def refuse_other_pictures(benchmark: settings.Benchmark, counts: Mapping[str, int]) -> None:
    """Refuse pictures that are not as many as a benchmark lists, before they are prepared.

    Raises:
        ConfigError: when they are not.
    """
    roles = {role: list(part.classes) for role, part in benchmark.roles.items()}
    absent = {c: 0 for names in roles.values() for c in names}
    refuse_another_split(benchmark.key, absent | dict(counts), roles)


def write_benchmark(
    prepared: PreparedSet, roles: Roles, seed: int, what: Asked, size: int, pipeline: str
) -> list[str]:
    """Write the user's benchmark beside the prepared sets and lock its lists.

    Returns:
        The names of its settings, each of which can be drawn.

    Raises:
        ConfigError: when the same name already means another split.
    """
    name, folder = prepared.manifest.dataset, settings.user_folder()
    counts = dict(zip(prepared.class_names, (int(n) for n in prepared.counts), strict=True))
    refuse_another_split(name, counts, roles)
    text = _toml(name, prepared, roles, seed, what, size, pipeline)
    save_text(folder / "splits" / f"{name}.json", _split(counts, roles))
    save_text(folder / f"{name}.toml", text)
    settings.every.cache_clear()
    settings.locked_digests.cache_clear()
    drawn = [s for b in settings.every() if b.key == name for s in b.settings()]
    locked = "".join(f"{s.name} {s.episodes.digest}\n" for s in drawn)
    save_text(folder / f"{name}.lock", locked)
    settings.locked_digests.cache_clear()
    return [s.name for s in drawn]


def _split(counts: Mapping[str, int], roles: Roles) -> str:
    return json.dumps({role: {c: counts[c] for c in roles.get(role, ())} for role in ROLES}, indent=1) + "\n"


def _toml(
    name: str, prepared: PreparedSet, roles: Roles, seed: int, what: Asked, size: int, pipeline: str
) -> str:
    about = f"{len(prepared.class_names)} classes of {prepared.manifest.population}, {prepared.manifest.n_images} images"
    head = _TOML.format(
        name=json.dumps(name), about=json.dumps(about), size=size, pipeline=json.dumps(pipeline), seed=seed,
        n_query=what.n_query, settings=json.dumps(list(what.settings)),
    )  # fmt: skip
    parts = (
        f"{role} = {{ dataset = {json.dumps(name)}, split = {json.dumps(f'{name}.json#{role}')} }}\n"
        for role in ROLES
        if roles.get(role)
    )
    return head + "".join(parts)
