"""The split files: counts as published, roles disjoint, the csv files of mini-ImageNet byte for byte."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from itertools import combinations

import pytest

from harness.images.sources.splits import ROLES, mini_images, read

PUBLISHED = {  # classes and images of base, validation and novel
    ("mini", ""): ((64, 16, 20), (38_400, 9_600, 12_000)),
    ("tiered", ""): ((351, 97, 160), (448_695, 124_261, 206_209)),
    ("cub", "closerlook-"): ((100, 50, 50), (5_885, 2_950, 2_953)),
    ("cub", "feat-"): ((100, 50, 50), (5_891, 2_932, 2_965)),
    ("cub", "metadataset-"): ((140, 30, 30), (8_239, 1_779, 1_770)),
    ("cifar_fs", ""): ((64, 16, 20), (38_400, 9_600, 12_000)),
    ("fc100", ""): ((60, 20, 20), (36_000, 12_000, 12_000)),
    ("omniglot", ""): ((1_028, 172, 423), (20_560, 3_440, 8_460)),
    ("omniglot-small", ""): ((179, 24, 39), (3_580, 480, 780)),
}
CSV_MD5 = {
    "base": "9525e1538f67719f18f1936bf8d0782d",
    "validation": "ce315ce99b41fbf84fa6acd69315d918",
    "novel": "5b89df877c6cbe5d291e43118a2a9591",
}
NAMES_SHA256 = "72fff79aa8698fe83d117d61554b4fd9013cc5d771d4246b301e9ecaf578a48b"


def mini_csv(classes: Mapping[str, int]) -> str:
    """The csv file of Ravi and Larochelle for the classes of one role, byte for byte."""
    images = mini_images()
    rows = [f"{wnid}{image.rank:08d}.jpg,{wnid}\n" for wnid in classes for image in images[wnid]]
    return "".join(["filename,label\n", *rows])


@pytest.mark.parametrize(("file", "prefix"), PUBLISHED)
def test_counts_are_those_published(file: str, prefix: str) -> None:
    split = read(file)
    roles = [split[f"{prefix}{role}"] for role in ROLES]
    assert tuple(map(len, roles)) == PUBLISHED[file, prefix][0]
    assert tuple(sum(r.values()) for r in roles) == PUBLISHED[file, prefix][1]


@pytest.mark.parametrize(("file", "prefix"), PUBLISHED)
def test_roles_share_no_class(file: str, prefix: str) -> None:
    split = read(file)
    for a, b in combinations(ROLES, 2):
        assert not set(split[f"{prefix}{a}"]) & set(split[f"{prefix}{b}"])


@pytest.mark.parametrize("role", ROLES)
def test_the_csv_files_of_mini_imagenet_are_reproduced(role: str) -> None:
    text = mini_csv(read("mini")[role])
    assert hashlib.md5(text.encode()).hexdigest() == CSV_MD5[role] == read("mini_ranks")["csv_md5"][role]


def test_the_imagenet_names_are_the_published_ones() -> None:
    names = "".join(
        f"{wnid}/{wnid}_{i.number}.JPEG\n" for wnid, images in sorted(mini_images().items()) for i in images
    )
    assert hashlib.sha256(names.encode()).hexdigest() == NAMES_SHA256


def test_numbers_ascend_with_ranks_and_follow_the_worked_example() -> None:
    # the folder begins _3, _6, _26, _27, _28: rank 5 is number 28
    assert dict(mini_images()["n01532829"])[5] == 28
    for images in mini_images().values():
        assert len(images) == 600
        for field in zip(*images, strict=True):
            assert list(field) == sorted(set(field))
        assert images[-1].rank <= 1300


def test_superclasses_of_tiered_and_fc100_belong_to_one_role() -> None:
    for file, source in (("tiered", "tiered"), ("fc100", "cifar100")):
        split, group = read(file), read(source)["superclass"]
        groups = [{group[c] for c in split[role]} for role in ROLES]
        assert tuple(map(len, groups)) == {"tiered": (20, 6, 8), "fc100": (12, 4, 4)}[file]
        assert sum(map(len, groups)) == len(set().union(*groups))


def test_label_order_of_the_tiered_pickles_is_a_reordering() -> None:
    split = read("tiered")
    for role in ROLES:
        assert sorted(split["label_order"][role]) == sorted(split[role])
    assert list(split["trainval"]) == [*split["base"], *split["validation"]]


def test_the_two_equal_sized_cub_splits_share_the_published_numbers_of_classes() -> None:
    split = read("cub")
    shared = [len(set(split[f"closerlook-{r}"]) & set(split[f"feat-{r}"])) for r in ROLES]
    assert shared == [52, 11, 12]
    assert (len(split["all"]), sum(split["all"].values())) == (200, 11_788)
    assert len(split["imagenet_duplicates"]) == 43


def test_closerlook_takes_every_second_and_fourth_folder() -> None:
    split = read("cub")
    names = sorted(split["all"])
    assert sorted(split["closerlook-base"]) == names[::2]
    assert sorted(split["closerlook-validation"]) == names[1::4]
    assert sorted(split["closerlook-novel"]) == names[3::4]


def test_every_cifar_class_is_in_both_of_its_splits() -> None:
    names = set(read("cifar100")["all"])
    for file in ("cifar_fs", "fc100"):
        assert set().union(*(read(file)[r] for r in ROLES)) == names
