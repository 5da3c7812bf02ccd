"""Intervals of one method against scipy and plain loops.

Tolerance 1e-12 unless said otherwise: the same formula in another order of float64 operations.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from harness import stats

pytestmark = pytest.mark.filterwarnings("error")  # no input may end in a numpy or scipy warning


def rng(seed=0):
    return np.random.default_rng(seed)


def accuracies(seed=0, shape=(200,), n_query=75):
    generator = rng(seed)
    chance = np.clip(generator.normal(0.65, 0.1, shape[-1]), 0, 1)  # episodes share their difficulty
    return generator.binomial(n_query, chance, shape) / n_query


def episodes(n_classes, n_way, n_episodes, seed=0):
    return rng(seed).random((n_episodes, n_classes)).argsort(axis=1)[:, :n_way]


def test_sampler_interval_is_students():
    a = accuracies()
    expected = scipy_stats.ttest_1samp(a, 0).confidence_interval(0.9)
    found = stats.sampler_interval(a, 0.9)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-12)
    assert found.standard_error == pytest.approx(scipy_stats.sem(a), rel=1e-12)
    assert found.half_width == pytest.approx((expected.high - expected.low) / 2, rel=1e-12)
    assert (found.kind, found.n, found.note) == ("sampler", 200, "")


def slow_class_error(values, units):
    """The class jackknife by leaving out, one by one; units: a set an episode."""
    m, total, everything = values.mean(), 0.0, sorted(set().union(*units))
    for unit in everything:
        inside = np.array([unit in u for u in units])
        a, b = values[inside], values[~inside]
        monte_carlo = (len(a) / len(values)) ** 2 * (a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))
        total += (b.mean() - m) ** 2 - monte_carlo
    n = len(everything)
    return math.sqrt(max(0, (n - 1) / n * total) + values.var(ddof=1) / len(values)), n


@pytest.mark.parametrize("low", [0, -1])
def test_class_interval_leaves_out_each_class(low):
    classes = episodes(12, 5, 300) * 7 + 3  # ids need not be dense
    values = np.clip(rng(1).normal(0.02, 0.01, 85)[classes].sum(axis=1), low, 1)
    found = stats.class_interval(values, classes)
    error, n = slow_class_error(values, [set(row) for row in classes.tolist()])
    assert (found.standard_error, found.n) == (pytest.approx(error, rel=1e-10), n)
    assert found.high - found.mean == pytest.approx(scipy_stats.t.ppf(0.975, n - 1) * error, rel=1e-10)
    assert found.standard_error > 3 * stats.sampler_interval(np.abs(values)).standard_error


def test_class_interval_leaves_out_whole_clusters():
    clusters = np.arange(24) // 4
    classes = episodes(24, 5, 400)
    values = np.clip(rng(1).normal(0.13, 0.05, 6)[clusters[classes]].sum(axis=1), 0, 1)
    found = stats.class_interval(values, classes, clusters)
    error, n = slow_class_error(values, [set(row) for row in clusters[classes].tolist()])
    assert (found.standard_error, found.n) == (pytest.approx(error, rel=1e-10), n)
    assert found.standard_error > stats.class_interval(values, classes).standard_error


def test_class_interval_equals_the_closed_form_on_a_complete_design():
    classes = np.array(list(itertools.combinations(range(9), 3)))
    effect = rng(2).normal(0.25, 0.03, 9)
    values = effect[classes].sum(axis=1)
    by_class = [values[(classes == c).any(axis=1)].mean() for c in range(9)]
    closed = 3 * 8 / 6 * np.std(by_class, ddof=1) / 3
    error, _ = slow_class_error(values, [set(row) for row in classes.tolist()])
    jackknife = (
        sum((values[~(classes == c).any(axis=1)].mean() - values.mean()) ** 2 for c in range(9)) * 8 / 9
    )
    assert math.sqrt(jackknife) == pytest.approx(closed, rel=1e-10)
    assert stats.class_interval(values, classes).standard_error == pytest.approx(error, rel=1e-10)


def test_class_interval_never_falls_below_the_samplers():
    values = rng(1).choice([0.4, 0.6], 300)  # classes play no part
    found = stats.class_interval(values, episodes(40, 5, 300))
    assert found.standard_error >= stats.sampler_interval(values).standard_error * (1 - 1e-12)


def test_class_interval_says_when_classes_cannot_be_left_out():
    found = stats.class_interval(accuracies(), episodes(5, 5, 200))
    assert found.low is found.high is found.standard_error is found.half_width is None
    assert found.note == "a class of the 5 is in every episode, so it cannot be left out"
    assert found.mean == pytest.approx(accuracies().mean())


def test_seeds_widen_the_class_interval_and_keep_it_within_bounds():
    a, classes = accuracies(), episodes(20, 5, 200)
    plain = stats.class_interval(a, classes)
    seed = stats.SeedPart(variance=4e-4, df=5.0, shape=a.mean() * (1 - a.mean()))
    found = stats.class_interval(a, classes, seed=seed)
    variance = plain.standard_error**2
    assert found.standard_error == pytest.approx(math.sqrt(variance + 4e-4), rel=1e-12)
    df = (variance + 4e-4) ** 2 / (variance**2 / 19 + 4e-4**2 / 5)
    c = scipy_stats.t.ppf(0.975, df) ** 2 * (variance + 4e-4) / seed.shape
    for end in (found.low, found.high):  # both solve (x - m)^2 = c x (1 - x)
        assert (end - a.mean()) ** 2 == pytest.approx(c * end * (1 - end), rel=1e-9)
    perfect = stats.class_interval(np.ones(200), classes, seed=stats.SeedPart(1e-4, 3.0, 1e-4))
    assert 0 < perfect.low < 1 and perfect.high == 1


def test_one_value_has_no_interval():
    assert stats.sampler_interval([0.5]).note == "one value has no spread"
    assert stats.sampler_interval([0.5]).half_width is None


def test_joint_interval_covers_experiments_and_classes():
    table = np.clip(rng(1).normal(0.5, 0.1, (1, 300)) + rng(2).normal(0, 0.02, (5, 1)), 0, 1)
    found = stats.joint_interval(table, rng(3), n_resamples=4000)
    loop, generator = [], rng(4)
    for _ in range(4000):
        rows, columns = generator.integers(0, 5, 5), generator.integers(0, 300, 300)
        loop.append(table[np.ix_(rows, columns)].mean())
    # two independent bootstraps: a standard deviation from 4,000 resamples is known to 1.1%
    assert found.standard_error == pytest.approx(np.std(loop), rel=0.05)
    assert found.half_width == pytest.approx(np.subtract(*np.quantile(loop, [0.975, 0.025])) / 2, rel=0.08)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stats.sampler_interval([]), "accuracy is empty"),
        (lambda: stats.sampler_interval([0.5, math.nan]), "1 of 2 values that are NaN"),
        (lambda: stats.sampler_interval([92.0, 76.0]), "percent must be divided by 100"),
        (lambda: stats.sampler_interval([[0.5]]), "must have one axis"),
        (lambda: stats.sampler_interval([0.5, 0.6], level=95), "between 0 and 1, found 95"),
        (lambda: stats.class_interval([0.5, 0.6], [[0, 1]]), "classes must have shape \\(2, n_way\\)"),
        (lambda: stats.class_interval([0.5], [[0.0, 1.0]]), "non-negative integers"),
        (lambda: stats.class_interval([0.5], [[0, 1]], [0]), "each class up to 1"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()
