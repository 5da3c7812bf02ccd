"""Paired tests, ranks and verdicts against scipy, plain loops and public per-episode results.

Tolerance 1e-12 unless said otherwise: the same formula in another order of float64 operations.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from harness import stats

pytestmark = pytest.mark.filterwarnings("error")  # no input may end in a numpy or scipy warning

# Public per-episode accuracies in percent (RafLaf/FSL-benchmark-again), first minus second; scipy 1.17.1.
GOLDEN = {
    0: {
        "n": 33, "mean_a": 90.78787878787878, "mean_b": 92.0, "sd_d": 3.3889302862184234,
        "r": 0.9059350748240831, "se_unpaired": 1.7362869516093076, "se_paired": 0.5899370404221753,
        "t": -2.0546619877500563, "p": 0.048153135236830624, "wilcoxon": 0.03663227352209126,
        "welch": 0.48775408836591866, "half_width_a": 2.7576754063940476,
    },
    1: {
        "n": 145, "mean_a": 53.51724137931034, "mean_b": 57.51724137931034, "sd_d": 12.382783747337808,
        "r": 0.8357222457400167, "se_unpaired": 2.535310157644454, "se_paired": 1.0283342182227606,
        "t": -3.889785955886094, "p": 0.00015277303082540254, "wilcoxon": 0.00035048114224855726,
        "welch": 0.11572916174627566, "half_width_a": 3.500977273996204,
    },
    2: {
        "n": 2000, "mean_a": 85.5842855834961, "mean_b": 86.4271427974701, "sd_d": 2.9671869410218092,
        "r": 0.9162290688232172, "se_unpaired": 0.22888458584870655, "se_paired": 0.06634831702074424,
        "t": -12.703520629023252, "p": 1.2935705438991286e-35, "wilcoxon": 1.2848204116773877e-35,
        "welch": 0.00023405260469710684, "half_width_a": 0.3211451323194846,
    },
    3: {
        "n": 235, "mean_a": 73.36170212765957, "mean_b": 86.41702127659575, "sd_d": 10.286968116929998,
        "r": 0.540847584890874, "se_unpaired": 0.9806213560472945, "se_paired": 0.6710478089279143,
        "t": -19.455125216478592, "p": 8.451668992768981e-51, "wilcoxon": 5.156676683861383e-36,
        "welch": 2.3218631566531077e-34, "half_width_a": 1.4858179852984392,
    },
}  # fmt: skip


def rng(seed=0):
    return np.random.default_rng(seed)


def accuracies(seed=0, shape=(200,), n_query=75):
    generator = rng(seed)
    chance = np.clip(generator.normal(0.65, 0.1, shape[-1]), 0, 1)  # episodes share their difficulty
    return generator.binomial(n_query, chance, shape) / n_query


@pytest.mark.parametrize("cell", GOLDEN)
def test_public_pairs_give_the_golden_values(shared_path, cell):
    arrays, gold = np.load(shared_path("golden/statistics/paired.npz")), GOLDEN[cell]
    a, b = arrays[f"a{cell}"] / 100, arrays[f"b{cell}"] / 100
    found = stats.compare(a, b, (f"a{cell}", f"b{cell}"))
    apart = stats.unpaired(a, b)
    measured = {
        "n": found.n_episodes, "mean_a": 100 * found.mean_a, "mean_b": 100 * found.mean_b,
        "sd_d": 100 * found.sd_difference, "r": found.correlation, "se_unpaired": 100 * apart.standard_error,
        "se_paired": 100 * found.interval.standard_error, "t": found.t, "p": found.p,
        "wilcoxon": found.p_wilcoxon, "welch": apart.p,
        "half_width_a": 100 * stats.sampler_interval(a).half_width,
    }  # fmt: skip
    # dividing percent by 100 costs a few ulp, which p-values of 1e-51 magnify
    assert measured == pytest.approx(gold, rel=1e-9, abs=0)
    assert found.verdict == "worse"
    # plain flips of every episode; few distinct values make many ties, so at n = 33 this p is not that of t
    d = np.round((a - b) * 1e6)
    flips = np.array(
        [abs(generator.choice([-1, 1], len(d)) @ d) for generator in [rng(1)] for _ in range(10_000)]
    )
    plain = (1 + (flips >= abs(d.sum()) - len(d)).sum()) / 10_001
    # two binomial shares of 10,000: four deviations of their difference, plus their floor
    assert found.p_permutation == pytest.approx(plain, abs=4 * math.sqrt(2 * plain / 1e4) + 1e-4)


def test_compare_agrees_with_scipy():
    a, b = accuracies(1), np.clip(accuracies(1) + rng(2).normal(0, 0.03, 200), 0, 1)
    found = stats.compare(a, b, ("a", "b"), level=0.9)
    test = scipy_stats.ttest_rel(a, b)
    ends = test.confidence_interval(0.9)
    assert (found.t, found.p) == pytest.approx((test.statistic, test.pvalue), rel=1e-10)
    assert (found.interval.low, found.interval.high) == pytest.approx((ends.low, ends.high), rel=1e-10)
    assert found.correlation == pytest.approx(scipy_stats.pearsonr(a, b).statistic, rel=1e-10)
    assert found.p_wilcoxon == pytest.approx(
        scipy_stats.wilcoxon(np.round(a - b, 9), zero_method="pratt", method="approx").pvalue, rel=1e-10
    )
    lower = scipy_stats.ttest_1samp(a - b, -0.005, alternative="greater").pvalue
    upper = scipy_stats.ttest_1samp(a - b, 0.005, alternative="less").pvalue
    assert found.p_equivalence == pytest.approx(max(lower, upper), rel=1e-10)
    assert found.detectable == pytest.approx(2.8016 * scipy_stats.sem(a - b), rel=1e-4)
    assert stats.unpaired(a, b).p == pytest.approx(
        scipy_stats.ttest_ind(a, b, equal_var=False).pvalue, rel=1e-10
    )


def test_three_seeds_bring_the_crossed_error():
    a = np.clip(accuracies(1, (3, 300)) + [[0.05], [0.0], [-0.05]], 0, 1)
    b = accuracies(2, (3, 300))
    found, parts = stats.compare(a, b, ("a", "b")), stats.crossed(a - b)
    assert found.interval.standard_error == parts.standard_error
    assert (found.interval.kind, found.scope) == ("crossed", "training")
    assert found.p == pytest.approx(2 * scipy_stats.t.sf(abs(found.t), parts.df), rel=1e-10)
    two = stats.compare(a[:2], b[:2], ("a", "b"))
    assert (two.interval.kind, two.scope) == ("sampler", "checkpoints")
    assert two.interval.note == "2 training seeds: training variance unknown"
    assert two.interval.standard_error == pytest.approx(scipy_stats.sem((a - b)[:2].mean(axis=0)), rel=1e-12)


def test_sign_flips_give_the_exact_permutation_p():
    d = np.round(rng(7).normal(0.01, 0.03, 12) * 75) / 75
    signs = np.array(list(itertools.product([-1, 1], repeat=12)))
    exact = (np.abs(signs @ d) >= abs(d.sum()) - 1e-9).mean()
    found = stats.sign_flip_p(d, rng(), n_flips=200_000)
    assert 0.05 < exact < 0.95
    assert found == pytest.approx(exact, abs=4 * math.sqrt(exact / 200_000))  # four binomial deviations


def test_sign_flips_agree_with_scipys_permutation_test_on_a_long_list():
    d = np.round(rng(8).normal(0.002, 0.04, 1000) * 75) / 75
    expected = scipy_stats.permutation_test(
        (d,), np.mean, permutation_type="samples", n_resamples=5000, random_state=rng(1)
    ).pvalue
    found = stats.sign_flip_p(d, rng(2), n_flips=20_000)
    assert found == pytest.approx(expected, abs=0.03)  # four deviations of the 5,000
    assert found == pytest.approx(scipy_stats.ttest_1samp(d, 0).pvalue, abs=0.02)


def test_sign_flips_are_the_same_when_repeated_and_in_either_order():
    a, b = accuracies(1), accuracies(2)
    one, two = stats.compare(a, b, ("run1", "run2")), stats.compare(b, a, ("run2", "run1"))
    assert one.p_permutation == two.p_permutation
    assert one == stats.compare(a, b, ("run1", "run2"))
    assert one.p_permutation != stats.compare(a, b, ("run1", "run3")).p_permutation


def test_holm_rejects_step_by_step():
    def slow(p, alpha):
        rejected = np.zeros(len(p), dtype=bool)
        for step, i in enumerate(np.argsort(p)):
            if p[i] > alpha / (len(p) - step):
                break
            rejected[i] = True
        return rejected

    for seed in range(50):
        p = rng(seed).beta(0.3, 3, 40)
        for alpha in (0.01, 0.05, 0.2):
            assert ((stats.holm(p) <= alpha) == slow(p, alpha)).all()


@pytest.mark.parametrize("n_seeds", [1, 3])
def test_all_pairs_equals_one_comparison_each(n_seeds):
    runs = [accuracies(seed, (n_seeds, 300)) for seed in range(5)] + [accuracies(0, (n_seeds, 300))]
    found = stats.all_pairs(runs)
    for i, j in itertools.permutations(range(6), 2):
        one = stats.compare(runs[i], runs[j], ("i", "j"), n_flips=1)
        # the matrix product cancels leading digits of the variances
        assert found.t[i, j] == pytest.approx(one.t, rel=1e-8)
        assert found.p[i, j] == pytest.approx(one.p, rel=1e-8)
        assert found.p_equivalence[i, j] == pytest.approx(one.p_equivalence, rel=1e-8)
        assert found.standard_error[i, j] == pytest.approx(one.interval.standard_error, rel=1e-8)
    upper = np.triu_indices(6, 1)
    assert found.p_holm[upper] == pytest.approx(stats.holm(found.p[upper]))
    assert (found.p_holm == found.p_holm.T).all()
    assert found.verdicts()[0, 5] == "tied"  # the same run twice
    assert (found.is_crossed.sum() == 30) == (n_seeds == 3)


def test_all_pairs_uses_the_common_seeds():
    a, b, c = accuracies(1, (4, 200)), accuracies(2, (3, 200)), accuracies(3, (1, 200))
    found = stats.all_pairs([a, b, c], seeds=[(0, 1, 2, 3), (3, 1, 2), (0,)])
    assert found.difference[0, 1] == pytest.approx((a[[3, 1, 2]] - b).mean(), abs=1e-12)
    assert found.is_crossed.tolist() == [[False, True, False], [True, False, False], [False, False, False]]
    assert found.standard_error[0, 2] == pytest.approx(scipy_stats.sem(a.mean(axis=0) - c[0]), rel=1e-8)


def test_ranks_leave_room_where_nothing_is_significant():
    level = np.array([0.70, 0.699, 0.60, 0.50])
    shared = rng(1).normal(0, 0.05, 600)
    runs = np.clip(level[:, None] + shared + rng(2).normal(0, 0.03, (4, 600)), 0, 1)
    better = stats.all_pairs(runs).is_better()
    low, high = stats.rank_intervals(better)
    assert (low.tolist(), high.tolist()) == ([1, 1, 3, 4], [2, 2, 3, 4])
    assert stats.tie_groups(runs.mean(axis=1), better).tolist() == [1, 1, 2, 3]


def test_a_group_is_what_its_leader_does_not_beat():
    better = np.zeros((4, 4), dtype=bool)
    better[0, 2] = better[0, 3] = better[1, 3] = True
    assert stats.tie_groups([0.7, 0.6, 0.5, 0.4], better).tolist() == [1, 1, 2, 2]
    assert stats.rank_intervals(better).low.tolist() == [1, 1, 2, 3]


def test_unpaired_lists_without_spread_get_the_exact_permutation_p():
    assert stats.unpaired([0.5] * 4, [0.6] * 3).p == pytest.approx(2 / 35)
    assert stats.unpaired([0.5] * 4, [0.5] * 3).p == 1


def test_verdicts_are_antisymmetric_and_complete():
    runs = [accuracies(s, (500,)) for s in range(4)] + [np.clip(accuracies(0, (500,)) - 0.05, 0, 1)]
    words = stats.all_pairs(runs).verdicts()
    flipped = {"better": "worse", "worse": "better", "tied": "tied", "undecided": "undecided"}
    assert all(words[j, i] == flipped[words[i, j]] for i in range(5) for j in range(5))
    assert words[0, 4] == "better"


def test_tied_needs_both_sides_inside_the_margin():
    d = np.tile([0.01, -0.01], 500)
    a = np.full(1000, 0.6)
    assert stats.compare(a + d, a, ("a", "b"), margin=0.005).verdict == "tied"
    assert stats.compare(a + d, a, ("a", "b"), margin=0.0005).verdict == "undecided"
    assert stats.compare(a + d + 0.004, a, ("a", "b")).verdict == "better"  # significant beats small


@pytest.mark.parametrize(
    ("n", "p", "verdict"), [(1, 1.0, "undecided"), (4, 0.125, "undecided"), (9, 2**-8, "better")]
)
def test_constant_differences_get_the_sign_test(n, p, verdict):
    found = stats.compare(np.full(n, 0.7), np.full(n, 0.6), ("a", "b"))
    assert (found.p, found.verdict, found.t) == (p, verdict, math.inf)
    assert stats.all_pairs([np.full(n, 0.7), np.full(n, 0.6)]).p[0, 1] == p
    assert found.correlation is None


def test_equal_runs_are_tied_and_one_episode_is_undecided():
    a = accuracies()
    same = stats.compare(a, a, ("a", "b"))
    assert (same.t, same.p, same.p_permutation, same.p_wilcoxon, same.verdict) == (0, 1, 1, 1, "tied")
    one = stats.compare([0.5], [0.5], ("a", "b"))
    assert (one.p, one.verdict, one.interval.low, one.sd_difference) == (1, "undecided", None, None)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stats.compare([0.5], [0.5, 0.6], ("a", "b")), "common prefix"),
        (lambda: stats.compare([0.5, 0.6], [0.5, math.nan], ("a", "b")), "second accuracy has 1 of 2"),
        (lambda: stats.compare([0.5, 0.6], [0.5, 0.7], ("a", "b"), margin=0), "margin of equivalence"),
        (lambda: stats.all_pairs([[0.5, 0.6], [0.5]]), "methods differ in episodes: \\[1, 2\\]"),
        (lambda: stats.all_pairs([]), "at least one method"),
        (lambda: stats.all_pairs([[0.5, 0.6]], seeds=[(0, 1)]), "method 0 has 1 rows"),
        (lambda: stats.unpaired([0.5], [0.5, 0.6]), "two values on each side"),
        (lambda: stats.holm([0.5, 1.5]), "p must lie in \\[0, 1\\]"),
        (
            lambda: stats.rank_intervals([[False, True], [True, False]]),
            "each method is better than the other",
        ),
        (lambda: stats.tie_groups([0.5], [[False] * 2] * 2), "mean must have shape \\(2,\\)"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_counts_give_a_finite_comparison(data):
    n, n_seeds = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 4))
    count = st.lists(st.integers(0, 5), min_size=n * n_seeds, max_size=n * n_seeds)
    a, b = (np.reshape(data.draw(count), (n_seeds, n)) / 5 for _ in range(2))
    found = stats.compare(a, b, ("a", "b"), n_flips=50)
    for p in (found.p, found.p_permutation, found.p_wilcoxon, found.p_equivalence):
        assert 0 <= p <= 1
    back = stats.compare(b, a, ("a", "b"), n_flips=50)
    assert (back.t, back.p) == (pytest.approx(-found.t), pytest.approx(found.p))
    assert stats.all_pairs([a, b]).p[0, 1] == pytest.approx(found.p, rel=1e-6)
    headline = stats.headline_interval(a, rng())
    assert headline.half_width is None or headline.half_width >= 0
