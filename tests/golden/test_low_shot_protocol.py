"""The joint protocol against vectors of the low-shot authors' code: the six numbers, the table, the real experiments."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness import benchmarks
from harness.benchmarks.episodes import JointList
from harness.evaluation import counting
from harness.report.pages.six_blocks import result_lines

FOLDER = Path(__file__).parent / "low_shot"
SHOTS = (1, 2, 5, 10, 20)


def load(file: str) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, Any]]:
    with np.load(FOLDER / file) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return arrays, json.loads((FOLDER / "manifest.json").read_text())["files"][file]


def six_numbers(
    scores: np.ndarray[Any, Any],
    label: np.ndarray[Any, Any],
    base: np.ndarray[Any, Any],
    novel: np.ndarray[Any, Any],
) -> list[float]:
    """Our metrics, where base labels come first and only queries of the asked classes are given."""
    others = np.setdiff1d(np.arange(scores.shape[1]), np.concatenate([base, novel]))
    order = np.concatenate([base, novel, others])  # our label → theirs
    ours = np.argsort(order)[label]
    asked = ours < len(base) + len(novel)
    columns, truth = torch.from_numpy(scores[asked][:, order]), torch.from_numpy(ours[asked])
    given = np.stack([counting.counted(columns, truth, k).numpy() for k in counting.TOPS])[None]  # (1, 2, n)
    counts = counting.joint_counts(given, ours[asked], len(base))
    return [float(n_correct[0] / n_query[0]) for n_correct, n_query in counts.values()]


def test_six_numbers() -> None:
    arrays, _ = load("metrics.npz")
    found = six_numbers(arrays["scores"], arrays["labels"], arrays["base"], arrays["novel"])
    np.testing.assert_allclose(found, arrays["accs"], rtol=0, atol=1e-9)  # ratios of small whole numbers


def test_hits_query_by_query() -> None:
    arrays, _ = load("metrics.npz")
    scores, label = torch.from_numpy(arrays["scores"]), torch.from_numpy(arrays["labels"])
    for k in counting.TOPS:
        hits = (counting.counted(scores, label, k) == label).numpy()
        np.testing.assert_array_equal(hits, arrays[f"top{k}"].astype(bool))
        assert hits.sum() == arrays["counts"][counting.TOPS.index(k)]


def test_the_published_table_is_the_mean_over_experiments() -> None:
    """Rows n, columns in the order of ``joint_counts``; percent rounded to two decimals, so 0.005 is exact."""
    arrays, _ = load("metrics.npz")
    by_n = 100 * arrays["pr_accs"].mean(axis=1)  # (n, 6)
    table = np.vstack([by_n, by_n.mean(axis=0)])
    np.testing.assert_allclose(table, arrays["pr_table"], rtol=0, atol=0.005 + 1e-9)


def test_the_table_is_printed_as_by_the_authors() -> None:
    arrays, entry = load("metrics.npz")
    assert result_lines(SHOTS, arrays["pr_accs"]) == entry["printed"]


def experiments(case: dict[str, Any], n: int) -> JointList:
    half = "" if case["testsetup"] else "-val"
    found = benchmarks.load(f"imagenet-lowshot{half}-n{n}").episodes
    assert isinstance(found, JointList)
    return found


@pytest.mark.parametrize(
    "case", load("lowshot_set_real.npz")[1]["cases"], ids=lambda case: f"case{case['case']}"
)
def test_the_real_experiments(case: dict[str, Any]) -> None:
    """Our (class, position) rows, turned into global rows of the authors' training list, are their novel set."""
    arrays, _ = load("lowshot_set_real.npz")
    prefix = f"c{case['case']}_"
    classes = benchmarks.load("imagenet-lowshot-n1").benchmark.joint
    assert classes is not None and classes.published is not None
    sizes = classes.published.sizes
    theirs = {name: label for label, name in enumerate(sizes)}
    start = dict(zip(sizes, np.cumsum([0, *sizes.values()])[:-1].tolist(), strict=True))
    names = [*classes.base, *classes.novel]
    found = experiments(case, case["n"])
    rows = found.support[case["experiment"] - 1]  # (C, n)
    first = np.cumsum(classes.counts) - classes.counts
    global_rows = {}
    for label, drawn in zip(found.novel.tolist(), rows, strict=True):
        kept = classes.published.kept(names[label])
        global_rows[theirs[names[label]]] = start[names[label]] + kept[drawn - first[label]]
    chosen = sorted((int(row), label) for label, own in global_rows.items() for row in own)
    assert [row for row, _ in chosen] == arrays[prefix + "novel_idx"].tolist()
    assert [label for _, label in chosen] == arrays[prefix + "novel_labels"].tolist()
    for label, own in zip(arrays[prefix + "first_classes"], arrays[prefix + "first_rows"], strict=True):
        assert global_rows[int(label)].tolist() == own.tolist()  # in the order of the draw


@pytest.mark.parametrize(
    "case", load("lowshot_set_real.npz")[1]["cases"], ids=lambda case: f"case{case['case']}"
)
def test_the_pool_of_base_images(case: dict[str, Any]) -> None:
    arrays, _ = load("lowshot_set_real.npz")
    found = experiments(case, case["n"])
    n_rows = int(arrays[f"c{case['case']}_base_pool"][0])
    assert len(found.base) == n_rows
    share = arrays[f"c{case['case']}_mix"][0]
    n_base = len(found.asked) - len(found.novel)
    assert n_base / len(found.asked) == pytest.approx(float(share))


def test_more_shots_contain_fewer() -> None:
    lists = {n: benchmarks.load(f"imagenet-lowshot-n{n}").episodes for n in SHOTS}
    for few, many in pairwise(SHOTS):
        assert (lists[few].support == lists[many].support[:, :, :few]).all()
        assert (lists[few].query == lists[many].query).all()
