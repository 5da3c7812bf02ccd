"""Hardness of episodes: measured by one extractor, stored once, merged whatever the order, shown beside accuracy."""

from __future__ import annotations

from pathlib import Path

import made_up_results as made
import numpy as np
import pytest
import torch
from torch import Tensor

from harness import stats
from harness.benchmarks.episodes import IntArray
from harness.benchmarks.sampling import sample
from harness.jobs import hardness
from harness.report.board import hardness as shown
from harness.report.board.tables import tables
from harness.store import Hardness, Store

DIGEST, IMAGES = made.result().spec.episode_digest, "d" * 64


class Table:
    """Random features of 20 classes of 30 images, centred on their class."""

    def __init__(self) -> None:
        random = np.random.default_rng(3)
        self.features = np.repeat(random.normal(size=(20, 6)), 30, axis=0) + random.normal(size=(600, 6))

    def take(self, rows: IntArray) -> Tensor:
        return torch.from_numpy(self.features[rows])


def _measured(n: int = 300, method: str = "protonet", scale: float = 1.0) -> Hardness:
    omega = scale * np.random.default_rng(1).normal(1.2, 0.1, n).round(6)
    extractor = {"run": "0" * 12, "method": method, "version": "1", "backbone": "conv4", "seed": 0}
    return Hardness(DIGEST, IMAGES, extractor, omega)


def test_hardness_equals_a_literal_reading_of_the_paper() -> None:
    """Equation 9 query by query; double precision on both sides, so that only rounding is left."""
    table, episodes = Table(), sample(np.full(20, 30), 4, 3, 5, 70, 9)
    found = hardness.omega(table, episodes)

    def unit(x: np.ndarray) -> np.ndarray:
        return x / np.linalg.norm(x)

    for e in (0, 1, 69):
        centres = [unit(np.mean([unit(table.features[r]) for r in rows], 0)) for rows in episodes.support[e]]
        odds = []
        for label, rows in enumerate(episodes.query[e]):
            for row in rows:
                scores = np.array([unit(table.features[row]) @ centre for centre in centres])
                p = (np.exp(scores) / np.exp(scores).sum())[label]
                odds.append(np.log((1 - p) / p))
        assert found[e] == pytest.approx(np.mean(odds), abs=1e-12)


def test_a_list_has_one_hardness_until_it_is_replaced(tmp_path: Path) -> None:
    with Store.open(tmp_path / "results.db", create=True) as store:
        assert store.hardness(DIGEST, IMAGES) is None
        assert store.add_hardness(_measured())
        np.testing.assert_array_equal(store.hardness(DIGEST, IMAGES).omega, _measured().omega)  # type: ignore[union-attr]
        assert store.add_hardness(_measured())  # the same again is stored already
        assert not store.add_hardness(_measured(method="zebra"))
        assert store.add_hardness(_measured(method="zebra"), replace=True)
        kept = store.hardness(DIGEST, IMAGES)
        assert kept is not None and kept.name == "zebra 1, conv4, seed 0, run 000000000000"
        assert store.hardness(DIGEST, "e" * 64) is None


def test_merging_gives_the_same_whatever_the_order(tmp_path: Path) -> None:
    pool = [_measured(), _measured(200), _measured(method="a"), _measured(scale=2.0)]
    digests = set()
    for turn in range(4):
        with Store.open(tmp_path / f"{turn}.db", create=True) as target:
            for i, measured in enumerate([*pool[turn:], *pool[:turn]]):
                with Store.open(tmp_path / f"{turn}-{i}.db", create=True) as source:
                    source.add_hardness(measured)
                    target.merge(source)
                    target.merge(source)
            digests.add(target.content_digest())
            kept = target.hardness(DIGEST, IMAGES)
            assert kept is not None and len(kept.omega) == 300 and kept.extractor["method"] == "a"
    assert len(digests) == 1


def test_the_page_has_a_line_and_ten_parts_a_row(tmp_path: Path) -> None:
    with Store.open(tmp_path / "results.db", create=True) as store:
        for method in ("one", "two"):
            store.ingest(made.result(method, skill=0.5 if method == "one" else 0.7))
        (table,) = tables(store)
        assert shown.build(store, table) is None
        store.add_hardness(_measured(250))
        part = shown.build(store, table)
        assert part is not None and part.n_episodes == 250
        omega, accuracy = _measured(250).omega, table.ranked[0].accuracy[0, :250]
        easiest = np.argsort(omega, kind="stable")[:25]
        assert part.rows[0].accuracy[0] == pytest.approx(accuracy[easiest].mean())
        assert part.omega[0] == pytest.approx(omega[easiest].mean())
        assert part.rows[0].line == stats.hardness_line(accuracy, omega)
        assert list(part.omega) == sorted(part.omega)


def test_too_few_episodes_or_none_that_differ_show_nothing(tmp_path: Path) -> None:
    with Store.open(tmp_path / "results.db", create=True) as store:
        store.ingest(made.result())
        (table,) = tables(store)
        store.add_hardness(_measured(99))
        assert shown.build(store, table) is None
        store.add_hardness(_measured(scale=0.0), replace=True)
        assert shown.build(store, table) is None
