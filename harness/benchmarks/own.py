"""``fsbench import-folder``: a folder of pictures becomes a benchmark with roles and locked episode lists."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path

from harness.benchmarks import settings
from harness.benchmarks.settings import ROLES
from harness.errors import ConfigError, DataError, nearest
from harness.images.stores import PreparedSet
from harness.seeding import numpy_generator
from harness.system.files import save_text

Roles = Mapping[str, list[str]]
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
settings = ["5w1s", "5w5s"]
base = {{ dataset = {name}, split = {base} }}
validation = {{ dataset = {name}, split = {validation} }}
novel = {{ dataset = {name}, split = {novel} }}
"""


def split_by_ratio(classes: list[str], ratio: str, seed: int) -> Roles:
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
            f"--split {ratio} of {n} classes leaves {n_base} base classes; at least 2 are needed."
        )
    return {
        "base": sorted(order[:n_base]),
        "validation": sorted(order[n_base : n_base + n_validation]),
        "novel": sorted(order[n_base + n_validation :]),
    }


def read_splits(path: Path, classes: list[str]) -> Roles:
    """Read a CSV with the columns ``class`` and ``role`` (base, validation or novel).

    Raises:
        DataError: naming every unknown class and role at once, or classes without a role.
    """
    try:
        rows = list(csv.DictReader(path.read_text().splitlines()))
        pairs = [(row["class"].strip(), row["role"].strip()) for row in rows]
    except (OSError, KeyError, UnicodeDecodeError, AttributeError) as error:
        raise DataError(f"{path} is not a CSV with the columns class and role: {error}.") from error
    problems = [
        f"`{c}` is not a class of the folder.{nearest(c, classes)}" for c, _ in pairs if c not in classes
    ]
    problems += [
        f"`{r}` is not a role (base, validation, novel)." for r in {r for _, r in pairs} if r not in ROLES
    ]
    names = [c for c, _ in pairs]
    problems += [f"`{c}` has two rows." for c in sorted(set(names)) if names.count(c) > 1]
    roles: dict[str, list[str]] = {role: [c for c, r in pairs if r == role] for role in ROLES}
    problems += [
        f"{role} needs at least 2 classes, found {len(roles[role])}."
        for role in ROLES
        if len(roles[role]) < 2
    ]
    if problems:
        raise DataError(f"{path}: " + " ".join(problems))
    return roles


def write_benchmark(
    prepared: PreparedSet, roles: Roles, seed: int, n_query: int, size: int, pipeline: str
) -> list[str]:
    """Write the user's benchmark beside the prepared sets and lock its lists.

    Returns:
        The names of its settings.

    Raises:
        ConfigError: when a built-in benchmark has this name, or the same name already means another split.
    """
    name = prepared.manifest.dataset
    folder = settings.user_folder()
    text = _toml(name, prepared, seed, n_query, size, pipeline)
    counts = dict(zip(prepared.class_names, (int(n) for n in prepared.counts), strict=True))
    split = json.dumps({role: {c: counts[c] for c in roles[role]} for role in ROLES}, indent=1) + "\n"
    split_path = folder / "splits" / f"{name}.json"
    if split_path.exists() and split_path.read_text() != split:
        raise ConfigError(
            f"{name} is a benchmark already, with other roles or images: {split_path}. Its numbers would not be "
            "comparable; import the folder under another --name."
        )
    save_text(split_path, split)
    save_text(folder / f"{name}.toml", text)
    settings.every.cache_clear()
    settings.locked_digests.cache_clear()
    drawn = [s for b in settings.every() if b.key == name for s in b.settings() if _can_be_drawn(s)]
    locked = "".join(f"{s.name} {s.episodes.digest}\n" for s in drawn)
    save_text(folder / f"{name}.lock", locked)
    settings.locked_digests.cache_clear()
    return [s.name for s in drawn]


def _toml(name: str, prepared: PreparedSet, seed: int, n_query: int, size: int, pipeline: str) -> str:
    quoted = json.dumps(name)
    about = json.dumps(
        f"{len(prepared.class_names)} classes of {prepared.manifest.population}, {prepared.manifest.n_images} images"
    )
    keys = {role: json.dumps(f"{name}.json#{role}") for role in ROLES}
    return _TOML.format(
        name=quoted, about=about, size=size, pipeline=json.dumps(pipeline), seed=seed, n_query=n_query, **keys
    )


def _can_be_drawn(setting: settings.Setting) -> bool:
    """Small folders may have too few classes or images for a standard setting."""
    try:
        return len(setting.episodes) > 0
    except DataError:
        return False
