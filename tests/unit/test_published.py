"""The ledger of published numbers: read whole, placed on our settings, compared by protocol."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from harness import benchmarks
from harness.method.hyper import ConfigValue
from harness.report.board import published
from harness.report.board.published import Habits, Ours, Published
from harness.report.pages.setting_page import ours

OURS = Ours("mini-5w1s", "top1", "neg-cosine", "resnet12", 84, 15, "negative-margin", "as-published")
PIXELS = (("", "negative-margin"),)
THEIRS = Published(
    "mini-5w1s", "top1", "Neg-Cosine", "ResNet-12", 0.6385, 0.0081, "600", "x/y", "", False,
    Habits(84, 15, pipelines=PIXELS),
)  # fmt: skip


def test_every_row_of_the_ledger_is_a_fraction_on_one_of_our_settings() -> None:
    ledger = published.read()
    assert len(ledger) == 1346
    assert all(0 < entry.accuracy < 1 and (entry.half_width or 0) < 0.05 for entry in ledger)
    assert {re.sub(r"-(\d+w\d+s.*|n\d+|closed)$", "", entry.setting) for entry in ledger} == {
        "mini", "tiered", "cub-closerlook", "cub-feat", "cifarfs", "fc100", "omniglot", "mini-cub", "mini64-cub", "imagenet-lowshot",
        "flowers", "pets", "dogs",
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
        ({"habits": Habits(224, 15, pipelines=PIXELS)}, {}, "other input size (224 pixels, ours 84)"),
        ({"note": "84x84"}, {"image_size": 32}, "other input size (84 pixels, ours 32)"),
        ({"backbone": "Conv64F"}, {}, "other backbone (Conv64F, ours resnet12)"),
        ({"note": "trained on train+val classes (351+97) in the code"}, {}, "other base classes (train + validation)"),
        ({"habits": Habits(84, 15, "", "chosen on test classes", PIXELS)}, {}, "theirs was selected on test classes"),
        ({}, {"badges": ("test-selected",)}, "ours was selected on test classes"),
        ({"note": "transductive; 84x84"}, {}, "theirs is transductive"),
        ({}, {"badges": ("transductive",)}, "ours is transductive"),
        ({}, {"badges": ("leak",)}, "ours has the badge `leak`"),
        ({"habits": Habits(None, 15, pipelines=PIXELS)}, {"badges": ("resized",)}, "ours has the badge `resized`"),
        ({"metric": "top5/novel"}, {}, "other metric (top5/novel)"),
        ({}, {"pipeline": "metaoptnet"}, "other pixels (pipeline negative-margin, ours metaoptnet)"),
    ],
)  # fmt: skip
def test_a_different_protocol_is_not_comparable_and_says_why(theirs: dict, ours: dict, because: str) -> None:
    verdict = published.comparability(replace(THEIRS, **theirs), replace(OURS, **ours))
    assert verdict.reasons == (because,)
    assert verdict.sentence.startswith(f"not comparable, because {because}")


def test_other_query_counts_are_a_caveat_not_a_reason() -> None:
    verdict = published.comparability(replace(THEIRS, habits=Habits(84, 16, pipelines=PIXELS)), OURS)
    assert verdict.sentence == "comparable (16 queries per class, ours 15)"


def test_a_quoted_number_does_not_inherit_the_protocol_of_who_quotes_it() -> None:
    quoted = [entry for entry in published.read() if entry.is_quoted]
    assert len(quoted) > 50 and all(entry.habits == Habits() for entry in quoted)
    assert not any("reported by" in entry.method for entry in quoted)


def test_a_method_finds_its_own_numbers_under_their_spellings() -> None:
    names = {entry.method for entry in published.matching(OURS)}
    assert names == {"Neg-Cosine", "NegCos", "NegMargin (cosine)"}
    assert published.backbone_name(published.matching(OURS)[0].backbone) == "resnet12"
    assert {e.method for e in published.matching(replace(OURS, method="cosine"))} == {
        "Cosine",
        "Cosine (own run)",
    }
    assert published.matching(replace(OURS, method="nothing like it")) == []


@pytest.mark.parametrize("variant", ["FCN", "Grid", "Sampling"])
def test_a_variant_finds_the_numbers_that_are_printed_of_it(variant: str) -> None:
    config = {"variant": ConfigValue(variant.lower(), "--set")}
    spec = SimpleNamespace(
        called="deepemd", config=config, image_size=84, n_query=15, pipeline="deepemd", recipe="clean"
    )
    row = SimpleNamespace(setting="mini-5w1s", metric="top1", backbone="resnet12", badges=(), spec=spec)
    (entry,) = published.matching(ours(row))
    assert entry.method == f"DeepEMD-{variant}"


@pytest.mark.parametrize(
    ("called", "config", "setting", "metric", "printed"),
    [
        ("tim[softmax]", {"solver": "adm"}, "mini-5w1s", "top1", {"TIM-ADM"}),
        ("tim[softmax]", {"solver": "gd"}, "mini-5w1s", "top1", {"TIM-GD", "TIM"}),
        ("rfs", {"generation": 0}, "mini-5w1s", "top1", {"RFS-simple", "RFS"}),
        ("rfs", {"generation": 1}, "mini-5w1s", "top1", {"RFS-distill"}),
        ("meta-baseline", {"epochs": 0}, "mini-5w1s", "top1", {"Classifier-Baseline"}),
        ("meta-baseline", {"epochs": 20}, "mini-5w1s", "top1", {"Meta-Baseline", "MetaBaseline"}),
        ("matching-network[softmax]", {}, "mini-5w1s", "top1", {"MatchingNet"}),
        ("bpa[softmax]", {}, "mini-5w1s", "top1", {"PT-MAP-BPA (p)"}),
        ("lowshot-logistic[none]", {}, "imagenet-lowshot-n1", "top5/novel", {"Baseline / Baseline"}),
        ("lowshot-logistic[batchsgm]", {}, "imagenet-lowshot-n1", "top5/novel", {"Batch SGM / Baseline"}),
        ("lowshot-hallucination[sgm]", {}, "imagenet-lowshot-n1", "top5/novel", {"SGM / Generation"}),
        ("matching-network[none]", {}, "imagenet-lowshot-n1", "top5/novel", {"Baseline / Matching Networks"}),
        ("matching-network[sgm]", {}, "imagenet-lowshot-n1", "top5/novel", set()),
        ("logistic[softmax]", {}, "mini-5w1s", "top1", set()),
    ],
)
def test_what_papers_put_into_the_name_of_a_method_finds_their_numbers(
    called: str, config: dict[str, Any], setting: str, metric: str, printed: set[str]
) -> None:
    mine = replace(OURS, setting=setting, metric=metric, method=published.printed_as(called, config))
    assert {entry.method for entry in published.matching(mine)} == printed


def test_every_episodic_setting_of_the_ledger_is_one_of_ours() -> None:
    names = {entry.setting for entry in published.read() if not entry.setting.startswith("imagenet-lowshot")}
    assert [name for name in sorted(names) if benchmarks.load(name).name != name] == []


def test_rows_that_quote_another_paper_are_its_and_the_authors_own_runs_stand_beside_them() -> None:
    for method, paper, own in (("softmax", "Baseline", "52.41"), ("cosine", "Baseline++", "55.89")):
        found = published.matching(replace(OURS, method=method, backbone="resnet18", image_size=224))
        quoted, run = sorted(found, key=lambda entry: entry.accuracy)
        assert quoted.is_quoted and f"the {paper} row of" in quoted.note and not quoted.is_protocol_known
        assert "quoted, so the protocol is that of its paper" in quoted.protocol
        assert f"{100 * run.accuracy:.2f}" == own and run.source == "thuml/few-shot" and run.is_protocol_known
    ten = [e for e in published.read() if e.source.startswith("bl0") and e.method in ("Softmax", "Cosine")]
    assert len(ten) == 10 and all(entry.is_quoted for entry in ten)


def test_a_number_of_unknown_protocol_is_never_called_comparable() -> None:
    unknown = replace(THEIRS, habits=Habits())
    assert published.comparability(unknown, OURS).sentence == "protocol unknown (input size not stated)"
    other = published.comparability(replace(unknown, backbone="Conv4"), OURS)
    assert other.sentence.startswith("not comparable, because other backbone")
    for entry in published.read():
        mine = replace(OURS, setting=entry.setting, metric=entry.metric)
        if not entry.is_protocol_known:
            assert "comparable" not in published.comparability(entry, mine).sentence.replace(
                "not comparable", ""
            )


def test_a_clean_row_says_so_beside_a_published_one() -> None:
    clean = published.comparability(THEIRS, replace(OURS, recipe="clean"))
    assert clean.sentence == "comparable (ours by the recipe clean)"
    stated = published.comparability(replace(THEIRS, habits=Habits(84, 15)), OURS)
    assert stated.sentence == "comparable (pixels not stated)"


def test_numbers_of_trainings_on_both_sets_of_classes_stand_on_both_settings() -> None:
    for shot in (1, 5):
        [entry] = [e for e in published.ledger_of(f"tiered-trainval-5w{shot}s") if e.method == "BML"]
        assert entry in published.ledger_of(f"tiered-5w{shot}s")
        mine = Ours(
            f"tiered-trainval-5w{shot}s", "top1", "bml", "resnet12", 84, 15, "bml-tiered", "as-published", ("test-selected",)
        )  # fmt: skip
        assert published.matching(mine) == [entry]
        assert published.comparability(entry, mine).sentence == "comparable (it prints no interval)"
        there = published.comparability(entry, replace(mine, setting=f"tiered-5w{shot}s"))
        assert there.reasons == ("other base classes (train + validation)",)


def test_half_widths_by_the_population_are_marked_and_corrected() -> None:
    marked = {entry.source.split()[0] for entry in published.read() if entry.is_population}
    assert marked == {"bl0/negative-margin.few-shot", "thuml/few-shot", "open-mmlab/mmfewshot"}
    entry = replace(THEIRS, habits=Habits(84, 15, published.POPULATION, pipelines=PIXELS))
    assert entry.is_population and entry.standard_half_width == pytest.approx(0.0081 * (600 / 599) ** 0.5)
    assert "± 1.96 × population sd/√T over episodes" in entry.protocol
    assert THEIRS.standard_half_width == 0.0081 and not replace(entry, half_width=None).is_population


def test_every_pipeline_of_the_ledger_is_one_of_ours() -> None:
    from harness.images.pipelines import PIPELINES

    assert {entry.pipeline for entry in published.read()} - {""} <= set(PIPELINES)
