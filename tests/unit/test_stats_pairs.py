"""Two trained models on the same episodes: tests against scipy, plain loops and enumeration.

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


def rng(seed=0):
    return np.random.default_rng(seed)


def accuracies(seed=0, shape=(200,), n_query=75):
    generator = rng(seed)
    chance = np.clip(generator.normal(0.65, 0.1, shape[-1]), 0, 1)  # episodes share their difficulty
    return generator.binomial(n_query, chance, shape) / n_query


def test_compare_agrees_with_scipy():
    a, b = accuracies(1), np.clip(accuracies(1) + rng(2).normal(0, 0.03, 200), 0, 1)
    found = stats.compare_checkpoints(a, b, ("a", "b"), alpha=0.1)
    test = scipy_stats.ttest_rel(a, b)
    ends = test.confidence_interval(0.9)
    assert (found.t, found.p) == pytest.approx((test.statistic, test.pvalue), rel=1e-10)
    low, high = found.difference - found.half_width, found.difference + found.half_width
    assert (low, high) == pytest.approx((ends.low, ends.high), rel=1e-10)
    assert found.correlation == pytest.approx(scipy_stats.pearsonr(a, b).statistic, rel=1e-10)
    assert found.p_wilcoxon == pytest.approx(
        scipy_stats.wilcoxon(np.round(a - b, 9), zero_method="pratt", method="approx").pvalue, rel=1e-10
    )
    lower = scipy_stats.ttest_1samp(a - b, -0.005, alternative="greater").pvalue
    upper = scipy_stats.ttest_1samp(a - b, 0.005, alternative="less").pvalue
    assert found.p_equivalence == pytest.approx(max(lower, upper), rel=1e-10)


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
    one, two = (
        stats.compare_checkpoints(a, b, ("run1", "run2")),
        stats.compare_checkpoints(b, a, ("run2", "run1")),
    )
    assert one.p_permutation == two.p_permutation
    assert one == stats.compare_checkpoints(a, b, ("run1", "run2"))
    assert one.p_permutation != stats.compare_checkpoints(a, b, ("run1", "run3")).p_permutation


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


def test_tied_needs_both_sides_inside_the_margin():
    d = np.tile([0.01, -0.01], 500)
    a = np.full(1000, 0.6)
    assert stats.compare_checkpoints(a + d, a, ("a", "b"), margin=0.005).word == "tied"
    assert stats.compare_checkpoints(a + d, a, ("a", "b"), margin=0.0005).word == "undecided"
    assert stats.compare_checkpoints(a + d + 0.004, a, ("a", "b")).word == "better"  # significant beats small


@pytest.mark.parametrize(("n", "p", "word"), [(4, 0.125, "undecided"), (9, 2**-8, "better")])
def test_constant_differences_get_the_sign_test(n, p, word):
    found = stats.compare_checkpoints(np.full(n, 0.7), np.full(n, 0.6), ("a", "b"))
    assert (found.p, found.word, found.t) == (p, word, math.inf)
    assert found.correlation is None


def test_equal_models_are_tied():
    a = accuracies()
    same = stats.compare_checkpoints(a, a, ("a", "b"))
    assert (same.t, same.p, same.p_permutation, same.p_wilcoxon, same.word) == (0, 1, 1, 1, "tied")


def test_t_over_trainings_agrees_with_scipy():
    d = rng(3).normal(0.01, 0.02, 5)
    assert stats.paired_t_p(d) == pytest.approx(scipy_stats.ttest_1samp(d, 0).pvalue, rel=1e-10)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stats.compare_checkpoints([0.5], [0.5, 0.6], ("a", "b")), "common prefix"),
        (lambda: stats.compare_checkpoints([0.5], [0.5], ("a", "b")), "two or more"),
        (
            lambda: stats.compare_checkpoints([0.5, 0.6], [0.5, math.nan], ("a", "b")),
            "second accuracy has 1 of 2",
        ),
        (
            lambda: stats.compare_checkpoints([0.5, 0.6], [0.5, 0.7], ("a", "b"), margin=0),
            "margin of equivalence",
        ),
        (lambda: stats.holm([0.5, 1.5]), "p must lie in \\[0, 1\\]"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_counts_give_a_finite_comparison(data):
    n = data.draw(st.integers(2, 12))
    count = st.lists(st.integers(0, 5), min_size=n, max_size=n)
    a, b = (np.array(data.draw(count)) / 5 for _ in range(2))
    found = stats.compare_checkpoints(a, b, ("a", "b"), n_flips=50)
    for p in (found.p, found.p_permutation, found.p_wilcoxon, found.p_equivalence):
        assert 0 <= p <= 1
    back = stats.compare_checkpoints(b, a, ("a", "b"), n_flips=50)
    assert (back.t, back.p) == (pytest.approx(-found.t), pytest.approx(found.p))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_counts_give_a_finite_table(data):
    n, sizes = data.draw(st.integers(2, 8)), data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    rows = []
    for m, n_trainings in enumerate(sizes):
        count = st.lists(st.integers(0, 5), min_size=n * n_trainings, max_size=n * n_trainings)
        y = np.reshape(data.draw(count), (n_trainings, n)) / 5
        rows.append(stats.summarise(f"r{m}", y, 5, is_trained=data.draw(st.booleans())))
    found = stats.judge(rows, stats.Prior(0.02, 3.0, 8, 8), n_draws=50)
    for matrix in (found.pairs.p, found.pairs.p_adjusted, found.pairs.p_equivalence, found.pairs.p_episodes):
        assert ((matrix >= 0) & (matrix <= 1)).all()
    assert (found.headline.low >= 0).all() and (found.headline.high <= 1).all()
    assert (found.headline.low <= found.headline.mean).all() and (
        found.headline.mean <= found.headline.high
    ).all()
    flipped = {"better": "worse", "worse": "better", "tied": "tied", "undecided": "undecided"}
    assert (np.vectorize(flipped.get)(found.pairs.words.T) == found.pairs.words).all()
