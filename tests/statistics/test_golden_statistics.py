"""Golden cases of both editions: public paired accuracies, and tables of the shipped runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats as reference

from harness import stats
from harness.stats import Prior, Spread

FOLDER = Path(__file__).parents[1] / "golden"
FIRST = json.loads((FOLDER / "statistics" / "manifest.json").read_text())
SECOND = json.loads((FOLDER / "statistics_v2" / "manifest.json").read_text())
EXACT = 1e-9  # relative, the manifest's
ROUNDS = 5  # Monte Carlo standard deviations that a simulated number may be off, the manifest's


def arrays(name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / name) as archive:
        return {key: archive[key] for key in archive.files}


@pytest.mark.parametrize("pair", FIRST["pairs"], ids=lambda pair: pair["what"].split(",")[0])
def test_public_pairs_by_the_checkpoint_scope(pair: dict[str, Any]) -> None:
    values = arrays("statistics/paired.npz")
    a, b = values[pair["a"]] / 100, values[pair["b"]] / 100
    found = stats.compare_checkpoints(a, b, ("a", "b"))
    assert found.n_episodes == pair["n"]
    np.testing.assert_allclose(
        [found.mean_a, found.mean_b], [pair["mean_a"] / 100, pair["mean_b"] / 100], rtol=EXACT
    )
    np.testing.assert_allclose(found.sd_difference, pair["sd_d"] / 100, rtol=EXACT)
    np.testing.assert_allclose(found.correlation, pair["r"], rtol=EXACT)
    np.testing.assert_allclose(found.standard_error, pair["se_paired"] / 100, rtol=EXACT)
    np.testing.assert_allclose([found.t, found.p], [pair["t"], pair["p"]], rtol=EXACT)
    np.testing.assert_allclose(found.p_wilcoxon, pair["wilcoxon_pratt_p"], rtol=EXACT)
    np.testing.assert_allclose(stats.sampler_interval(a).half_width, pair["half_width_a"] / 100, rtol=EXACT)
    np.testing.assert_allclose(reference.ttest_ind(a, b, equal_var=False).pvalue, pair["welch_p"], rtol=EXACT)


def spread(chosen: slice, weighted: bool = True, scale: dict[int, float] | None = None) -> Spread:
    values = arrays("statistics_v2/inputs.npz")
    v, r, g, n, w = (values[f"prior_{k}"][chosen] for k in ("between", "within", "shape", "n", "weight"))
    for k, factor in (scale or {}).items():
        v[k] *= factor
    return Spread(v, r, g, n, w if weighted else np.ones(len(v)))


@pytest.mark.parametrize(
    "name, given",
    [
        ("all_weighted", lambda: spread(slice(None))),
        ("all_unweighted", lambda: spread(slice(None), weighted=False)),
        ("first_4", lambda: spread(slice(4), weighted=False)),
        ("none", lambda: spread(slice(0))),
        ("first_20_with_row_5_between_x2500", lambda: spread(slice(20), weighted=False, scale={5: 2500.0})),
    ],
)
def test_fits_of_the_prior(name: str, given: Any) -> None:
    found, expected = stats.fit_prior(given()), SECOND["prior_fit"][name]
    np.testing.assert_allclose([found.s0, found.d0], [expected["s0"], expected["d0"]], rtol=1e-2)


def rows_of(case: dict[str, Any]) -> list[stats.Row]:
    values = arrays("statistics_v2/inputs.npz")
    return [
        stats.summarise(
            row["array"], values[row["array"]] / row["n_query"], row["n_query"], row["fits"], row["trained"]
        )
        for row in case["rows"]
    ]


@pytest.mark.parametrize("case", SECOND["cases"], ids=lambda case: case["name"])
def test_tables_of_the_shipped_runs(case: dict[str, Any]) -> None:
    given, exact, simulated = rows_of(case), case["exact"], case["simulated"]
    prior = Prior(**case["prior"], n_rows=56, n_clusters=23)
    seed = stats.moderate(given, prior)
    expected = {key: [row[key] for row in exact["moderated"]] for key in exact["moderated"][0]}
    np.testing.assert_allclose([row.between for row in given], expected["between"], rtol=EXACT, atol=1e-20)
    np.testing.assert_allclose([row.within for row in given], expected["within"], rtol=EXACT, atol=1e-20)
    np.testing.assert_allclose(seed.tau2, expected["tau2"], rtol=EXACT)
    np.testing.assert_allclose(seed.df, expected["df"], rtol=EXACT)
    np.testing.assert_allclose(seed.seed_variance, expected["seed_variance_of_mean"], rtol=EXACT)
    found, (i, j) = stats.judge(given, prior), np.array(exact["pairs"]).T
    np.testing.assert_allclose(found.headline.mean, exact["mean"], rtol=EXACT)
    np.testing.assert_allclose(found.pairs.difference[i, j], exact["difference"], rtol=EXACT, atol=1e-12)
    np.testing.assert_allclose(found.pairs.standard_error[i, j], exact["standard_error"], rtol=EXACT)
    noise = SECOND["monte_carlo_sd_of_one_run"]
    for name, values in (
        ("p", found.pairs.p[i, j]),
        ("p_adjusted", found.pairs.p_adjusted[i, j]),
        ("half_width", found.pairs.half_width[i, j]),
        ("low", found.headline.low),
        ("high", found.headline.high),
    ):
        np.testing.assert_allclose(values, simulated[name], rtol=0, atol=ROUNDS * noise[name], err_msg=name)
    if simulated["ranks_equal_in_five_runs"]:
        assert found.pairs.ranks.low.tolist() == simulated["rank_low"]
        assert found.pairs.ranks.high.tolist() == simulated["rank_high"]
