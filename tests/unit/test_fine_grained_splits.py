"""The splits of the fine-grained sets: numbers as their authors give them, and what the leak guard knows of dogs."""

from __future__ import annotations

import numpy as np

from harness import benchmarks
from harness.benchmarks import leaks
from harness.images.sources.splits import ROLES, read

PUBLISHED = {  # classes, and pictures by part
    "flowers": (102, {"train": 1_020, "val": 1_020, "trainval": 2_040, "test": 6_149, "all": 8_189}),
    "pets": (37, {"trainval": 3_680, "test": 3_669, "all": 7_349}),
    "dogs": (120, {"train": 12_000, "test": 8_580, "all": 20_580}),
}


def test_parts_have_the_published_numbers_and_add_up() -> None:
    for name, (n_classes, n_pictures) in PUBLISHED.items():
        split = read(name)
        assert {part: sum(split[part].values()) for part in n_pictures} == n_pictures
        assert all(list(split[part]) == list(split["all"]) for part in n_pictures)
        assert len(split["all"]) == n_classes
        training = split.get("trainval") or split["train"]
        assert all(training[c] + split["test"][c] == n for c, n in split["all"].items())


def test_class_splits_cover_all_classes_once() -> None:
    for name, sizes in {"flowers": [71, 15, 16], "dogs": [70, 20, 30]}.items():
        split = read(name)
        assert [len(split[role]) for role in ROLES] == sizes
        merged = {c: n for role in ROLES for c, n in split[role].items()}
        assert merged == split["all"] and sum(sizes) == len(merged)


def test_dogs_are_dealt_by_the_stated_rule() -> None:
    split = read("dogs")
    names = sorted(split["all"])
    dealt = [names[i] for i in np.random.RandomState(0).permutation(len(names))]
    for role, part in zip(ROLES, (dealt[:70], dealt[70:90], dealt[90:]), strict=True):
        assert list(split[role]) == sorted(part)


def test_dogs_are_imagenet() -> None:
    dogs, mini = (benchmarks.load(f"{name}-5w1s").benchmark for name in ("dogs", "mini"))
    assert len(leaks.of_run(["imagenet"], dogs).classes) == 30
    seen = leaks.of_run(["mini:all"], dogs).classes
    wnids = {name.partition("-")[0] for name in dogs.roles["novel"].classes}
    assert set(seen) == wnids & {c for role in mini.roles.values() for c in role.classes}
    assert not leaks.of_run((), dogs) and not leaks.of_run(
        ["imagenet"], benchmarks.load("flowers-5w1s").benchmark
    )
