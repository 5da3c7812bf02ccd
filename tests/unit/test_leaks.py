"""What a training saw of a benchmark's novel classes: every overlap that is known, and none that is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.benchmarks import Benchmark, every, leaks
from harness.errors import ConfigError, DataError
from harness.images.sources import splits
from harness.runs import planning
from harness.runs.request import Request

BENCHMARKS = {b.key: b for b in every()}


def seen_of(seen: str, benchmark: str) -> leaks.Overlap:
    return leaks.of_run(seen.split(","), BENCHMARKS[benchmark])


@pytest.mark.parametrize(
    ("seen", "benchmark", "n_classes"),
    [
        # mini and tiered share 58 classes of ImageNet, in these roles (counted from the two split files by hand)
        ("tiered", "mini", 5),
        ("tiered:validation", "mini", 1),
        ("tiered:novel", "mini", 4),
        ("tiered-trainval", "mini", 6),
        ("tiered:all", "mini", 10),
        ("mini", "tiered", 13),
        ("mini:validation", "tiered", 2),
        ("mini:novel", "tiered", 4),
        ("mini:base,mini:validation", "tiered", 15),
        ("mini-cub", "tiered", 19),  # all hundred classes of mini are its base
        ("imagenet", "mini", 20),
        ("imagenet", "tiered", 160),
        ("imagenet", "imagenet-lowshot", 611),
        # three splits of the same birds
        ("cub-feat", "cub-closerlook", 24),
        ("cub-closerlook", "cub-feat", 23),
        ("cub-feat:novel", "cub-closerlook", 12),
        ("cub-closerlook+bbox", "cub-closerlook", 0),
        ("cub-feat+bbox", "cub-closerlook", 24),  # a bird cut to its box is the same bird
        ("cub", "cub-metadataset", 30),
        # two splits of CIFAR-100
        ("cifarfs", "fc100", 11),
        ("fc100", "cifarfs", 11),
        ("cifar100", "fc100", 20),
        ("omniglot-small", "omniglot", 0),
        ("omniglot", "omniglot-small", 17),
        ("omniglot:all", "omniglot-small", 39),  # Early_Aramaic and Tagalog are background alphabets
        # itself, and other pictures
        ("mini", "mini", 0),
        ("mini", "cifarfs", 0),
        ("cifarfs", "cub-feat", 0),
        ("glyphs", "omniglot", 0),
    ],
)
def test_classes_seen_in_training_are_found(seen: str, benchmark: str, n_classes: int) -> None:
    found = seen_of(seen, benchmark)
    assert len(found.classes) == n_classes
    assert set(found.classes) <= set(BENCHMARKS[benchmark].roles["novel"].classes)


def test_forty_three_birds_are_in_imagenet() -> None:
    assert len(leaks.duplicates()) == len({twin.file for twin in leaks.duplicates()}) == 43
    for twin in leaks.duplicates():
        assert twin.file.lower().startswith(twin.bird.partition(".")[2].lower())
        assert twin.bird in splits.read("cub")["all"]


@pytest.mark.parametrize(
    ("seen", "benchmark", "n_pictures"),
    [
        ("imagenet", "cub-closerlook", 8),
        ("imagenet", "cub-feat", 6),
        ("imagenet", "cub-metadataset", 0),
        ("tiered", "cub-closerlook", 6),
        ("tiered", "cub-feat", 4),
        ("mini:all", "cub-closerlook", 0),  # its 600 pictures a class hold none of them
        ("mini:all", "cub-feat", 0),
        ("cub", "tiered", 0),  # the eight classes that hold them are no novel ones
        ("cub", "mini", 0),
    ],
)
def test_pictures_of_novel_classes_under_another_name_are_found(
    seen: str, benchmark: str, n_pictures: int
) -> None:
    found = seen_of(seen, benchmark)
    assert found.classes == ()
    assert len(found.pictures) == n_pictures


def test_a_picture_is_named_on_both_sides() -> None:
    assert (
        "Dark_Eyed_Junco_0057_68650.jpg = n01534433_12777.JPEG"
        in seen_of("tiered", "cub-closerlook").pictures
    )
    assert "6 pictures of novel classes" in str(seen_of("tiered", "cub-closerlook"))


@pytest.mark.parametrize("benchmark", every(), ids=lambda b: b.key)
def test_no_benchmark_but_tiered_to_cub_leaks_by_itself(benchmark: Benchmark) -> None:
    found = leaks.of_run((), benchmark)
    assert found.classes == ()
    assert len(found.pictures) == (6 if benchmark.key == "tiered-cub" else 0)


def test_unknown_names_nothing_and_other_names_are_refused() -> None:
    assert leaks.named("unknown") == []
    for wrong in ("minni", "mini:train", "imagenet:base", ""):
        with pytest.raises(ConfigError, match="names nothing"):
            leaks.named(wrong)


@pytest.mark.parametrize(
    ("seen", "benchmark", "is_more"),
    [
        ("mini", "mini", False),
        ("mini,mini:validation", "mini", True),
        ("mini", "mini-cub", False),
        ("tiered-trainval", "tiered", True),
        ("tiered-trainval", "tiered-trainval", False),
        ("imagenet", "mini", True),
        ("unknown", "mini", True),
        ("cub-feat", "cub-feat+bbox", False),
    ],
)
def test_training_on_more_than_the_base_classes_is_told(seen: str, benchmark: str, is_more: bool) -> None:
    assert leaks.is_more_than_base(seen.split(","), BENCHMARKS[benchmark]) is is_more


def test_a_run_that_saw_its_novel_classes_is_refused_before_anything_is_opened(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"6 pictures of novel classes \(Dark_Eyed_Junco.*--allow-leak"):
        planning.plan(["pixels"], ["tiered-cub-5w5s"], [0], Request(), tmp_path)
    with pytest.raises(DataError, match="is not prepared"):
        planning.plan(["pixels"], ["tiered-cub-5w5s"], [0], Request(allow_leak=True), tmp_path)
