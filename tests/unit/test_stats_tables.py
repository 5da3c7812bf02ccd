"""Statistics across benchmarks, from predictions, over hardness and for planning, against scipy and loops.

Tolerance 1e-12 unless said otherwise: the same formula in another order of float64 operations.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats as scipy_stats
from sklearn import metrics

from harness import stats

pytestmark = pytest.mark.filterwarnings("error")


def rng(seed=0):
    return np.random.default_rng(seed)


def test_complete_submatrix_has_no_hole_and_keeps_what_is_complete():
    table = rng().random((12, 8))
    rows, columns = stats.complete_submatrix(table)
    assert (rows.tolist(), columns.tolist()) == (list(range(12)), list(range(8)))
    table[3, 1:6] = np.nan  # a method with little
    table[[0, 1, 2, 5, 6, 7], 7] = np.nan  # a benchmark that few have run
    rows, columns = stats.complete_submatrix(table)
    assert (rows.tolist(), columns.tolist()) == ([r for r in range(12) if r != 3], list(range(7)))
    for seed in range(20):
        holed = np.where(rng(seed).random((9, 6)) < 0.3, np.nan, 0.5)
        assert not np.isnan(holed[np.ix_(*stats.complete_submatrix(holed))]).any()
    assert stats.complete_submatrix(np.full((2, 2), np.nan)).method.size == 0


def test_win_tie_loss_counts_verdicts():
    words = np.array(["better", "worse", "tied", "undecided"])
    verdicts = words[rng(1).integers(0, 4, (7, 3, 3))]
    found = stats.win_tie_loss(verdicts)
    for i, j in itertools.product(range(3), repeat=2):
        column = verdicts[:, i, j].tolist()
        assert found.win[i, j] == column.count("better")
        assert found.tie[i, j] == column.count("tied")
        assert found.loss[i, j] == column.count("worse")
        assert found.undecided[i, j] == column.count("undecided")


@pytest.mark.parametrize("decimals", [9, 1])  # without and with ties
def test_friedman_agrees_with_scipy_and_demsar(decimals):
    score = np.round(rng(2).random((6, 9)) + np.linspace(0, 0.4, 6)[:, None], decimals) / 2
    found = stats.friedman(score)
    expected = scipy_stats.friedmanchisquare(*score)
    assert found.chi2 == pytest.approx(expected.statistic, rel=1e-10)
    f = 8 * found.chi2 / (9 * 5 - found.chi2)
    assert (found.f, found.p) == pytest.approx((f, scipy_stats.f.sf(f, 5, 40)), rel=1e-10)
    if decimals == 9:
        mean = stats.mean_ranks(score).mean
        demsar = 12 * 9 / (6 * 7) * ((mean**2).sum() - 6 * 49 / 4)
        assert found.chi2 == pytest.approx(demsar, rel=1e-10)


@pytest.mark.parametrize(("k", "q"), [(5, 2.728), (8, 3.031), (10, 3.164), (12, 3.268), (16, 3.426)])
def test_critical_difference_is_nemenyis(k, q):
    found = stats.friedman(rng(k).random((k, 8)))
    expected = q * math.sqrt(k * (k + 1) / 48)
    assert found.critical_difference == pytest.approx(expected, rel=2e-4)  # q is printed with three decimals
    assert "N=8, low power" in found.note


def test_signed_ranks_over_data_sets_agree_with_scipy_and_need_six():
    score = rng(4).random((3, 8))
    found = stats.wilcoxon_pairs(score)
    plain = [scipy_stats.wilcoxon(score[i], score[j]).pvalue for i, j in ((0, 1), (0, 2), (1, 2))]
    assert found[np.triu_indices(3, 1)] == pytest.approx(stats.holm(plain))
    assert (found == found.T).all() and (np.diag(found) == 1).all()
    assert stats.wilcoxon_pairs(score[:, :5]) is None
    assert stats.wilcoxon_pairs(np.full((2, 6), 0.5))[0, 1] == 1
    assert stats.wilcoxon_pairs([[0.6] * 6, [0.5] * 6])[0, 1] == pytest.approx(2**-5)


def test_friedman_where_all_agree_or_all_tie():
    agree = stats.friedman(np.tile([[0.9], [0.5], [0.1]], (1, 4)))
    assert (agree.f, agree.p) == (math.inf, 6.0**-3)
    tie = stats.friedman(np.full((3, 4), 0.5))
    assert (tie.chi2, tie.f, tie.p) == (0, 0, 1)


def test_performance_profile_counts_scores_above():
    score, limits = np.round(rng(1).random((6, 5)), 1), np.linspace(0, 1, 11)
    assert stats.performance_profile(score, limits) == pytest.approx([(score > tau).mean() for tau in limits])


def predictions(seed=0, n_episodes=60, n_way=5, n_query=4, n_classes=9):
    generator = rng(seed)
    classes = generator.random((n_episodes, n_classes)).argsort(axis=1)[:, :n_way] * 3 + 1
    label = np.repeat(np.arange(n_way), n_query)
    wrong = generator.random((n_episodes, label.size)) < 0.3
    prediction = np.where(wrong, generator.integers(0, n_way, wrong.shape), label).astype(np.uint8)
    return prediction, label, classes


def test_confusion_and_class_accuracy_agree_with_scikit_learn():
    prediction, label, classes = predictions()
    true = classes[:, label].ravel()
    predicted = np.take_along_axis(classes, prediction.astype(int), axis=1).ravel()
    found = stats.confusion(prediction, label, classes)
    assert (found.counts == metrics.confusion_matrix(true, predicted, labels=found.class_id)).all()
    by_class = stats.class_accuracy(prediction, label, classes)
    recall = metrics.recall_score(true, predicted, labels=by_class.class_id, average=None)
    assert by_class.accuracy == pytest.approx(recall, rel=1e-12)
    assert by_class.n_correct.sum() == (prediction == label).sum()
    assert by_class.n_query.sum() == prediction.size


def test_class_accuracy_leaves_out_classes_without_queries():
    found = stats.class_accuracy([[0, 0]], [0, 0], [[7, 9]])
    assert (found.class_id.tolist(), found.accuracy.tolist()) == ([7], [1.0])


def test_worst_episodes_are_the_lowest():
    values = rng(1).permutation(np.arange(200) / 200)
    found = stats.worst_episodes(values)
    assert found.mean_worst_10 == pytest.approx(np.mean(np.arange(20) / 200))
    assert found.mean_worst_1 == pytest.approx(0.5 / 200)
    assert found.three_sigma == pytest.approx(values.mean() - 3 * values.std(ddof=1))
    assert stats.worst_episodes([0.4]) == (0.4, 0.4, None)


def test_error_overlap_agrees_with_scikit_learn():
    a, label, _ = predictions(1)
    b = np.where(rng(3).random(a.shape) < 0.5, a, predictions(2)[0])
    found = stats.error_overlap(a, b, label)
    wrong_a, wrong_b = (a != label).ravel(), (b != label).ravel()
    table = metrics.confusion_matrix(wrong_a, wrong_b)
    assert [[found.both_right, found.only_b_wrong], [found.only_a_wrong, found.both_wrong]] == table.tolist()
    assert found.kappa == pytest.approx(metrics.cohen_kappa_score(wrong_a, wrong_b), rel=1e-10)
    assert found.jaccard == pytest.approx(metrics.jaccard_score(wrong_a, wrong_b), rel=1e-12)
    rows = zip(a.ravel(), b.ravel(), np.tile(label, len(a)), strict=True)
    assert found.same_wrong == sum(x == y != t for x, y, t in rows)
    assert found.either_right == pytest.approx(((a == label) | (b == label)).mean())
    perfect = np.tile(label, (3, 1))
    assert stats.error_overlap(perfect, perfect, label)[5:] == (None, None, 1.0)


def test_hardness_is_the_mean_log_odds_against_the_true_class():
    scores, label = rng(1).normal(0, 1, (7, 10, 5)), np.repeat(np.arange(5), 2)
    p = np.exp(scores) / np.exp(scores).sum(axis=2, keepdims=True)
    expected = [
        np.mean([math.log((1 - p[e, q, label[q]]) / p[e, q, label[q]]) for q in range(10)]) for e in range(7)
    ]
    assert stats.episode_hardness(p, label) == pytest.approx(expected, rel=1e-10)


def test_hardness_line_agrees_with_scipy():
    omega = rng(1).normal(0, 1, 100)
    accuracy = np.clip(0.6 - 0.1 * omega + rng(2).normal(0, 0.05, 100), 0, 1)
    found, expected = stats.hardness_line(accuracy, omega), scipy_stats.linregress(omega, accuracy)
    assert (found.slope, found.intercept) == pytest.approx((expected.slope, expected.intercept))
    grid = np.linspace(omega.min(), omega.max(), 1001)
    area = (expected.intercept + expected.slope * grid).mean()  # the mean of a line over an even grid
    assert found.area == pytest.approx(area, rel=1e-10)


def test_query_components_are_recovered():
    generator = rng(1)
    chance = np.clip(generator.normal(0.6, 0.08, 40_000), 0, 1)
    found = stats.query_components(generator.binomial(25, chance) / 25, n_way=5, n_query=5)
    # a variance from 40,000 episodes is known to 0.7%; that of episodes is a difference of two
    assert found.v_episode == pytest.approx(chance.var(), rel=0.05)
    assert found.v_query == pytest.approx((chance * (1 - chance)).mean(), rel=0.01)


def test_best_queries_minimise_the_variance_for_a_number_of_images():
    parts = stats.QueryComponents(0.01, 0.2, 5, 15)
    q = np.linspace(0.05, 30, 60_000)
    cost = (5 + q) * (parts.v_episode + parts.v_query / (5 * q))
    assert stats.best_queries(parts, 5) == pytest.approx(q[cost.argmin()], abs=0.02)  # flat at the minimum
    assert stats.best_queries(stats.query_components([0.5, 0.5], 5, 15), 1) is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stats.complete_submatrix([0.5]), "axes method and benchmark"),
        (lambda: stats.win_tie_loss([[["won"]]]), "unknown verdicts \\['won'\\]"),
        (lambda: stats.win_tie_loss([["better"]]), "shape \\(benchmarks, methods, methods\\)"),
        (lambda: stats.mean_ranks([[0.5, math.nan]]), "NaN"),
        (lambda: stats.friedman([[0.5, 0.5], [0.4, 0.4]]), "three methods on two benchmarks"),
        (lambda: stats.confusion([[5]], [0], [[1, 2]]), "labels must lie in \\[0, 2\\), found 5"),
        (lambda: stats.confusion([[0, 1]], [0], [[1, 2]]), "to fit the labels"),
        (lambda: stats.confusion([[0.5]], [0], [[1, 2]]), "non-negative integers, found float64"),
        (lambda: stats.error_overlap([[0]], [[0], [0]], [0]), "the same queries"),
        (lambda: stats.worst_episodes([]), "empty"),
        (lambda: stats.episode_hardness([[[0.5, 0.4]]], [0]), "must sum to 1"),
        (lambda: stats.episode_hardness([[[1.0, 0.0]]], [0]), "infinite odds"),
        (lambda: stats.episode_hardness([[[0.5, 0.5]]], [2]), "integers in \\[0, 2\\)"),
        (lambda: stats.hardness_line([0.5] * 3, [1.0] * 3), "equally hard"),
        (lambda: stats.hardness_line([0.5] * 3, [1.0] * 4), "3 accuracies and 4 hardnesses"),
        (lambda: stats.query_components([0.5], 5, 15), "found 1 of 75"),
        (lambda: stats.best_queries(stats.QueryComponents(0.1, 0.1, 5, 1), 0), "shot must be at least 1"),
        (lambda: stats.joint_interval([0.5], rng()), "axes experiment and class"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()
