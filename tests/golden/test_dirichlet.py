"""Numbers of queries by the Dirichlet rule, and the published sampler, equal to its authors' code draw by draw."""

from __future__ import annotations

import numpy as np
from golden_files import load

from harness.benchmarks import marginals

ARRAYS, _ = load("peers", "dirichlet.npz")
CASES = sorted({name.split("_")[0] for name in ARRAYS if name.startswith("case")})


def test_proportions_and_counts_are_those_of_the_published_code() -> None:
    assert CASES
    for case in CASES:
        way, n_query, n, seed = (int(value) for value in ARRAYS[f"{case}_setting"])
        found = marginals.dirichlet(float(ARRAYS[f"{case}_alpha"][0]), way, n, seed)
        expected = ARRAYS[f"{case}_probability"]
        np.testing.assert_array_equal(found[: len(expected)], expected)
        np.testing.assert_array_equal(marginals.to_counts(found, n_query), ARRAYS[f"{case}_counts"])


def test_ties_and_halves_are_rounded_as_published() -> None:
    probability = ARRAYS["hand_probability"]
    totals = [name.rpartition("_")[2] for name in ARRAYS if name.startswith("hand_counts")]
    assert totals
    for total in totals:
        counts = marginals.to_counts(probability, int(total))
        np.testing.assert_array_equal(counts, ARRAYS[f"hand_counts_{total}"])
        assert (counts.sum(axis=1) == int(total)).all()


def test_the_published_sampler_comes_back_row_by_row_with_its_overlap() -> None:
    """8 classes of 40, 5 ways, 3 shots: the manifest's words; how many queries there are is what is left of a row."""
    way, shot, rows = 5, 3, ARRAYS["sampler_rows"]
    n_query = rows.shape[1] - way * shot
    found = marginals.published_rows([40] * 8, way, shot, n_query, len(rows), int(ARRAYS["sampler_seed"][0]))
    np.testing.assert_array_equal(np.stack(found), rows)
    overlap = [len({*row[: way * shot].tolist()} & {*row[way * shot :].tolist()}) for row in found]
    np.testing.assert_array_equal(overlap, ARRAYS["sampler_overlap"])
