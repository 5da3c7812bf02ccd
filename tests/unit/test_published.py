"""The ledger of published numbers: read whole, placed on our settings, compared by protocol."""

from __future__ import annotations

import csv
from dataclasses import replace
from types import SimpleNamespace

import pytest

from harness import benchmarks
from harness.method.hyper import ConfigValue
from harness.report.board import published
from harness.report.board.published import Habits, Ours, Published
from harness.report.pages.setting_page import ours

OURS = Ours("mini-5w1s", "top1", "neg-cosine", "resnet12", 84, 15)
THEIRS = Published(
    "mini-5w1s", "top1", "Neg-Cosine", "ResNet-12", 0.6385, 0.0081, "600", "x/y", "", False, Habits(84, 15)
)


def test_every_row_of_the_ledger_is_a_fraction_on_one_of_our_settings() -> None:
    ledger = published.read()
    assert len(ledger) == 1087
    assert all(0 < entry.accuracy < 1 and (entry.half_width or 0) < 0.05 for entry in ledger)
    assert {entry.setting.rpartition("-")[0] for entry in ledger} == {
        "mini", "tiered", "cub-closerlook", "cub-feat", "cifarfs", "fc100", "omniglot", "mini-cub", "mini64-cub", "imagenet-lowshot",
    }  # fmt: skip


def test_numbers_survive_the_reading() -> None:
    with published.LEDGER.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row, entry in zip(rows, published.read(), strict=True):
        assert round(100 * entry.accuracy, 6) == float(row["accuracy"])
        assert ("" if entry.half_width is None else round(100 * entry.half_width, 6)) == (
            row["ci95"] and float(row["ci95"])
        )


def test_equal_protocols_are_comparable() -> None:
    assert published.comparability(THEIRS, OURS).sentence == "comparable"


@pytest.mark.parametrize(
    ("theirs", "ours", "because"),
    [
        ({"setting": "mini-5w5s"}, {}, "other split or shots (mini-5w5s)"),
        ({"habits": Habits(224, 15)}, {}, "other input size (224 pixels, ours 84)"),
        ({"note": "84x84"}, {"image_size": 32}, "other input size (84 pixels, ours 32)"),
        ({"backbone": "Conv64F"}, {}, "other backbone (Conv64F, ours resnet12)"),
        ({"note": "trained on train+val classes (351+97) in the code"}, {}, "other base classes (train + validation)"),
        ({"habits": Habits(84, 15, "", "chosen on test classes")}, {}, "theirs was selected on test classes"),
        ({}, {"badges": ("test-selected",)}, "ours was selected on test classes"),
        ({"note": "transductive; 84x84"}, {}, "theirs is transductive"),
        ({}, {"badges": ("transductive",)}, "ours is transductive"),
        ({}, {"badges": ("leak",)}, "ours has the badge `leak`"),
        ({"metric": "top5/novel"}, {}, "other metric (top5/novel)"),
    ],
)  # fmt: skip
def test_a_different_protocol_is_not_comparable_and_says_why(theirs: dict, ours: dict, because: str) -> None:
    verdict = published.comparability(replace(THEIRS, **theirs), replace(OURS, **ours))
    assert verdict.reasons == (because,)
    assert verdict.sentence.startswith(f"not comparable, because {because}")


def test_other_query_counts_are_a_caveat_not_a_reason() -> None:
    verdict = published.comparability(replace(THEIRS, habits=Habits(84, 16)), OURS)
    assert verdict.sentence == "comparable (16 queries per class, ours 15)"


def test_a_quoted_number_does_not_inherit_the_protocol_of_who_quotes_it() -> None:
    quoted = [entry for entry in published.read() if entry.is_quoted]
    assert len(quoted) > 50 and all(entry.habits == Habits() for entry in quoted)
    assert not any("reported by" in entry.method for entry in quoted)


def test_a_method_finds_its_own_numbers_under_their_spellings() -> None:
    names = {entry.method for entry in published.matching(OURS)}
    assert names == {"Neg-Cosine", "NegCos", "NegMargin (cosine)"}
    assert published.backbone_name(published.matching(OURS)[0].backbone) == "resnet12"
    assert published.matching(replace(OURS, method="cosine"))[0].method == "Cosine"
    assert published.matching(replace(OURS, method="nothing like it")) == []


@pytest.mark.parametrize("variant", ["FCN", "Grid", "Sampling"])
def test_a_variant_finds_the_numbers_that_are_printed_of_it(variant: str) -> None:
    config = {"variant": ConfigValue(variant.lower(), "--set")}
    spec = SimpleNamespace(config=config, image_size=84, n_query=15)
    row = SimpleNamespace(
        setting="mini-5w1s", metric="top1", method="deepemd", backbone="resnet12", badges=(), spec=spec
    )
    (entry,) = published.matching(ours(row))
    assert entry.method == f"DeepEMD-{variant}"


def test_every_episodic_setting_of_the_ledger_is_one_of_ours() -> None:
    names = {entry.setting for entry in published.read() if not entry.setting.startswith("imagenet-lowshot")}
    assert [name for name in sorted(names) if benchmarks.load(name).name != name] == []
