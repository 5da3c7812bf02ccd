"""What must hold whatever the numbers: orders, duplicates, limits of the prior, slow twins of the fast steps."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import rates
from scipy import special
from scipy import stats as reference
from worlds import N_QUERY, databases, table, world

from harness import stats
from harness.stats import Prior, draws, pairs, rows, settings
from harness.stats.moderation import moderate

PRIOR = Prior(0.02, 3.0, n_rows=56, n_clusters=23)


def made_up(n_rows: int = 5, n_trainings: int = 3, seed: int = 0, n_episodes: int = 200) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return world(rng, 0.5 + 0.015 * np.arange(n_rows), [n_trainings] * n_rows, n_episodes)


def matrices(found: stats.Family) -> dict[str, np.ndarray]:
    headline = {f"headline {name}": values for name, values in found.headline._asdict().items()}
    return {**vars(found.pairs), **headline}


def test_a_duplicated_run_changes_nothing() -> None:
    data = made_up()
    once = stats.judge(table(data), PRIOR, n_draws=500)
    twice = stats.judge(table([np.concatenate([y, y[1:2]]) for y in data]), PRIOR, n_draws=500)
    for name, values in matrices(once).items():
        np.testing.assert_array_equal(values, matrices(twice)[name], err_msg=name)


def test_the_order_of_rows_changes_nothing_to_the_last_bit() -> None:
    plain = table(made_up())
    order = np.array([3, 0, 4, 1, 2])
    first = stats.judge(plain, PRIOR, n_draws=500)
    second = stats.judge([plain[m] for m in order], PRIOR, n_draws=500)
    for name, values in matrices(first).items():
        if np.ndim(values) == 2:
            values = values[np.ix_(order, order)]
        elif np.shape(values) == (5,):
            values = values[order]
        np.testing.assert_array_equal(values, matrices(second)[name], err_msg=name)


def test_the_order_of_runs_changes_nothing_to_the_last_bit() -> None:
    data, names = made_up(), ["a", "b", "c"]
    plain, turned = (
        [
            rows.summarise(f"row{m}", y[order], N_QUERY, [f"{m}{names[k]}" for k in order])
            for m, y in enumerate(data)
        ]
        for order in ([0, 1, 2], [2, 0, 1])
    )
    first, second = (matrices(stats.judge(given, PRIOR, n_draws=500)) for given in (plain, turned))
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name], err_msg=name)


def test_the_order_of_episodes_changes_nothing() -> None:
    data, order = made_up(), np.random.default_rng(1).permutation(200)
    first, second = (
        stats.judge(table(given), PRIOR, n_draws=500) for given in (data, [y[:, order] for y in data])
    )
    # sums of the same numbers in another order differ by rounding, which the quantiles of the draws pass on
    np.testing.assert_allclose(first.pairs.p, second.pairs.p, rtol=1e-9)
    np.testing.assert_allclose(first.pairs.half_width, second.pairs.half_width, rtol=1e-9)
    np.testing.assert_array_equal(first.pairs.words, second.pairs.words)


def test_dropping_a_training_widens_the_median_difference() -> None:
    rng = np.random.default_rng(2)
    prior, wider = databases(rng, 1)[0], 0
    for _ in range(20):
        data = world(rng, np.full(6, 0.6), [3] * 6)
        widths = [rates.half_width([y[:n] for y in data], prior) for n in (3, 2, 1)]
        wider += widths[0] < widths[1] < widths[2]
    assert wider >= 18  # of 20: variances are drawn, so a single table may go the other way


def test_a_prior_of_infinite_worth_gives_the_pooled_z() -> None:
    given = table(made_up(2, n_episodes=2000))
    prior = PRIOR._replace(d0=1e7)
    found = stats.judge(given, prior, n_draws=2000).pairs
    a, b = given
    difference = a.by_episode - b.by_episode
    seed = prior.s0**2 * (a.shape + b.shape) / 3
    z = (a.mean - b.mean) / np.sqrt(difference.var(ddof=1) / 2000 + seed)
    # the episodes keep 1,999 degrees of freedom, which moves p by less than a percent
    np.testing.assert_allclose(found.p[0, 1], 2 * special.ndtr(-abs(z)), rtol=1e-2)


def test_a_prior_of_no_worth_gives_the_components_of_welch() -> None:
    given = table(made_up(2, n_trainings=5))
    seed = moderate(given, PRIOR._replace(d0=1e-9))
    np.testing.assert_allclose(seed.tau2, [row.between for row in given], rtol=1e-6)
    np.testing.assert_allclose(seed.df, 4, rtol=1e-6)
    model = stats.error_model(given, PRIOR._replace(d0=1e-9))
    parts = np.array([max(0, row.between - row.within) / 5 for row in given])
    own = (given[0].by_episode - given[1].by_episode).var(ddof=1) / 200
    np.testing.assert_allclose(model.variance[0, 1], own + parts.sum(), rtol=1e-6)
    tau2 = np.array([row.between for row in given]) / 5
    welch = (own + parts.sum()) ** 2 / ((tau2**2 / 4).sum() + own**2 / 199)
    np.testing.assert_allclose(model.df[0, 1], max(1, welch), rtol=1e-6)


def test_the_step_down_agrees_with_its_slow_twin() -> None:
    rng, n_rows = np.random.default_rng(3), 5
    error, mean = rng.normal(size=(n_rows, 200)), np.array([0.0, 0.3, 3.0, 3.1, 7.0])
    i, j = np.triu_indices(n_rows, 1)
    d, variance, df = (mean[:, None] - mean)[i, j], rng.uniform(1, 3, len(i)), rng.uniform(3, 30, len(i))
    fast = pairs.step_down(error, d, variance, df)
    seen = pairs.z_score(d**2 / variance, df)
    claimed: list[int] = []
    slow, last = np.empty(len(d)), 0.0
    for k in np.argsort(-seen):  # the most significant first
        n_exceeding = 0
        for b in range(200):
            left = []
            for m in range(len(d)):
                drawn = error[i[m], b] - error[j[m], b]
                score = float(pairs.z_score(drawn**2 / variance[m], df[m]))
                if m not in claimed or drawn * d[m] < 0:  # of a claimed pair the reverse direction stays
                    left.append(score)
            n_exceeding += max(left) >= seen[k]
        last = max(last, (1 + n_exceeding) / 201)
        slow[k] = last
        claimed.append(k)
    np.testing.assert_allclose(fast.p, slow, rtol=0, atol=1e-12)


def test_scores_of_unlike_degrees_of_freedom_lie_on_one_scale() -> None:
    for df in (3.0, 5.0, 30.0):
        t = reference.t.ppf(0.995, df)
        # Wallace's approximation is good to 1.3% from three degrees of freedom on
        np.testing.assert_allclose(pairs.z_score(np.array(t**2), np.array(df)), 2.5758, rtol=1.4e-2)


def test_draws_have_the_covariance_of_the_model() -> None:
    given = table(made_up(3))
    model = stats.error_model(given, PRIOR)
    drawn = stats.draw(model, np.random.default_rng(4), 100_000)
    # E[max(f tau2 / chi2_f - r, 0)] is f tau2 / (f - 2) - r and a little more, for the draws below r
    f, seed = model.moderated.df, model.moderated
    expected = np.diag(model.episode) * 199 / 197 + (seed.tau2 * f / (f - 2) - seed.within) / 3
    np.testing.assert_allclose(drawn.error.var(axis=1), expected, rtol=0.05)  # heavy tails: 5 df
    both = np.cov(drawn.error)
    np.testing.assert_allclose(both[0, 1], model.episode[0, 1] * 199 / 197, rtol=0.15)


def test_chi_squares_have_their_distribution_and_their_own_order() -> None:
    drawn = draws.chi_square(np.array([5.0, 3.0, 5.0]), np.random.default_rng(5), 20_000)
    for values, df in zip(drawn, (5.0, 3.0, 5.0), strict=True):
        assert reference.kstest(values, reference.chi2(df).cdf).statistic < 1e-4
    assert abs(np.corrcoef(drawn[0], drawn[2])[0, 1]) < 0.03


def test_rows_that_share_trainings_move_together() -> None:
    rng = np.random.default_rng(6)
    data = world(rng, (0.6, 0.6, 0.6), (3, 3, 3), sds=np.full(3, 0.02), correlation=0.9)
    fits = [("a", "b", "c"), ("a", "b", "c"), ("d", "e", "f")]
    model = stats.error_model(table(data, fits), PRIOR)
    assert model.cluster.tolist() == [0, 0, 1] and 0.3 < model.correlation[0, 1] < 1
    assert model.correlation[0, 2] == model.correlation[1, 2] == 0


def test_one_common_training_of_three_counts_a_third() -> None:
    data = made_up(2, n_episodes=600)
    one, all_three = (
        stats.error_model(table(data, [("a", "b", "c"), other]), PRIOR).correlation[0, 1]
        for other in (("a", "x", "y"), ("a", "b", "c"))
    )
    expected = (1 - 0.5) * PRIOR.s0**2 * np.sqrt(table(data)[0].shape * table(data)[1].shape)
    seed = moderate(table(data), PRIOR)
    np.testing.assert_allclose(one, expected / np.sqrt((seed.seed_variance * 3).prod()) / 3, rtol=1e-9)
    assert one < all_three


def test_a_row_far_above_the_prior_keeps_its_own_variance() -> None:
    y = (
        np.full((3, 200), 0.5)
        + np.array([[-0.2], [0.0], [0.2]])
        + np.random.default_rng(0).normal(0, 0.05, 200)
    )
    row = table([np.clip(y, 0, 1)])[0]
    seed = moderate([row], PRIOR)
    assert seed.tau2[0] == row.between and seed.df[0] == 2


def test_a_row_without_training_has_no_seed_error_and_counts_once() -> None:
    y = made_up(1)[0]
    row = rows.summarise("pixels", y, N_QUERY, is_trained=False)
    assert row.n_trainings == 1 and moderate([row], PRIOR).seed_variance[0] == 0


def test_rows_with_equal_results_are_one_entry() -> None:
    a, b = made_up(2)
    given = [rows.summarise(i, y, N_QUERY) for i, y in (("c", a), ("b", b), ("a", a[[2, 0, 1]]))]
    assert stats.equal_rows(given).tolist() == [0, 1, 0]


def test_pairs_that_do_not_vary_have_the_sign_test() -> None:
    base = np.tile([0.4, 0.6], 10)
    given = [rows.summarise(i, base + d, N_QUERY, is_trained=False) for i, d in (("a", 0.0), ("b", 0.1))]
    found = stats.judge(given, PRIOR, n_draws=500).pairs
    assert found.p[0, 1] == 2.0**-19 and found.words[1, 0] == "better"
    assert found.standard_error[0, 1] == 0


def test_words_wait_for_a_repeated_training() -> None:
    data = made_up(3)
    given = table([data[0][:1], data[1], data[2]])
    few, many = (stats.judge(given, PRIOR._replace(n_rows=n), n_draws=2000).pairs for n in (7, 8))
    assert few.held[0, 1] == "no training was repeated" and few.held[1, 2] == ""
    assert few.words[0, 1] == few.words[0, 2] == "undecided" and (many.held == "").all()
    assert stats.verdict(few, 0, 1).reason == stats.verdict_alone(few, 0, 1).reason == few.held[0, 1]
    assert few.ranks.low[0] == 1 and few.ranks.high[0] == 3


def test_an_extended_row_is_judged_more_strictly_and_only_at_its_looks() -> None:
    data = made_up(2, n_trainings=5)
    extended = stats.judge(table(data), PRIOR, n_draws=500).pairs
    between = stats.judge(table([data[0][:4], data[1]]), PRIOR, n_draws=500).pairs
    planned = stats.judge(table(data, n_planned=5), PRIOR, n_draws=500).pairs
    assert extended.alpha[0, 1] == 0.02 and planned.alpha[0, 1] == 0.05
    assert between.held[0, 1] == "between looks" and between.words[0, 1] == "undecided"


def test_a_verdict_says_what_it_rests_on() -> None:
    rng = np.random.default_rng(7)
    shared = rng.normal(0.6, 0.05, 5000)
    y = [shared + d + rng.normal(0, 0.005, (1, 5000)) for d in (0.0, 0.004)]
    trained = stats.judge(table([np.clip(a, 0, 1) for a in y]), PRIOR, n_draws=500).pairs
    found = stats.verdict(trained, 1, 0)
    assert found.word == "undecided" and found.reason == "on these models only" and found.bound > 0.004
    fixed = [rows.summarise(f"r{k}", np.clip(a, 0, 1), N_QUERY, is_trained=False) for k, a in enumerate(y)]
    small = stats.verdict(stats.judge(fixed, PRIOR, n_draws=500).pairs, 1, 0)
    assert small.word == "better" and small.reason == "below the margin"


def test_equal_models_on_many_episodes_are_tied() -> None:
    rng = np.random.default_rng(8)
    shared = rng.normal(0.6, 0.05, 5000)
    fixed = [
        rows.summarise(f"r{k}", np.clip(shared + rng.normal(0, 0.01, 5000), 0, 1), N_QUERY, is_trained=False)
        for k in range(3)
    ]
    assert (stats.judge(fixed, PRIOR, n_draws=500).pairs.words == "tied").all()


def test_all_right_prints_an_interval() -> None:
    row = rows.summarise("a", np.ones(20), 20)
    found = stats.judge([row], PRIOR).headline
    assert 0.85 < found.low[0] < 0.92 and found.high[0] == 1


def test_a_single_row_is_a_table() -> None:
    found = stats.judge(table(made_up(1)), PRIOR, n_draws=500)
    assert found.pairs.words.tolist() == [["tied"]] and found.pairs.ranks.high.tolist() == [1]


def test_lists_of_unlike_length_are_refused() -> None:
    a, b = made_up(2)
    given = table([a, b[:, :150]])
    with pytest.raises(ValueError, match="common prefix"):
        stats.judge(given, PRIOR)


@pytest.mark.parametrize("bad", [[[0.5, np.nan]], [[50.0, 60.0]], []])
def test_accuracies_that_make_no_sense_are_refused(bad: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="accuracy"):
        rows.summarise("a", bad, 75)


def test_settings_that_share_trainings_are_one_piece_of_evidence() -> None:
    data = made_up(3)
    one, five, other = (
        [
            rows.summarise(f"row{m}", y, N_QUERY, [f"{name}{m}{k}" for k in range(3)])
            for m, y in enumerate(data)
        ]
        for name in ("cifar", "cifar", "omniglot")
    )
    assert settings.evidence([one, five, other]).tolist() == [0, 0, 1]
    assert settings.evidence([one, other, five]).tolist() == [0, 1, 0]


def test_averaging_a_setting_with_itself_changes_nothing() -> None:
    given = [
        rows.summarise(f"row{m}", y, N_QUERY, [f"{m}{k}" for k in range(3)]) for m, y in enumerate(made_up(3))
    ]
    twice = [settings.averaged([row, row]) for row in given]
    for row, again in zip(given, twice, strict=True):
        np.testing.assert_allclose(again.accuracy, row.accuracy, rtol=1e-12)
    alone, both = (stats.judge_settings(s, PRIOR).pairs for s in ([given], [given, given]))
    np.testing.assert_allclose(alone.p, both.p, rtol=1e-6)  # g moves by half a query


def test_two_independent_data_sets_halve_the_variance() -> None:
    data = made_up(3, n_episodes=600)
    first, second = (
        [
            rows.summarise(f"row{m}", y, N_QUERY, [f"{name}{m}{k}" for k in range(3)])
            for m, y in enumerate(data)
        ]
        for name in ("cifar", "omniglot")
    )
    one, two = (stats.judge_settings(s, PRIOR).pairs for s in ([first], [first, second]))
    np.testing.assert_allclose(two.standard_error, one.standard_error / np.sqrt(2), rtol=1e-9)
    np.testing.assert_allclose(two.difference, one.difference, atol=1e-12)


def test_superiority_of_one_training_over_another() -> None:
    given = table(made_up(2, n_trainings=10, n_episodes=2000), n_planned=10)
    drawn = stats.draw(stats.error_model(given, PRIOR), np.random.default_rng(0), 5000)
    found = stats.superiority(drawn)
    assert found.low[1, 0] < found.probability[1, 0] < found.high[1, 0]
    np.testing.assert_allclose(found.probability + found.probability.T, 1, atol=1e-9)
    np.testing.assert_allclose(found.low + found.high.T, 1, atol=1e-9)
    sd = np.sqrt(sum(row.between - row.within for row in given))
    plain = special.ndtr((given[1].mean - given[0].mean) / sd)
    assert abs(found.probability[1, 0] - plain) < 0.15  # ten trainings, and the prior pulls


def test_more_trainings_detect_less_and_episodes_alone_have_a_limit() -> None:
    first = stats.pilot(*table(made_up(2)), PRIOR)
    seen = [stats.detectable(first, n, 600, 0.05) for n in (3, 5, 10, 30)]
    assert seen == sorted(seen, reverse=True)
    endless = stats.detectable(first, 3, np.inf, 0.05)
    assert stats.detectable(first, 3, 100_000, 0.05) == pytest.approx(endless, rel=0.05)
    assert not stats.episodes_can_decide(first, 3, 0.5 * endless, 0.05)
    assert stats.episodes_can_decide(first, 3, 1.5 * endless, 0.05)


def test_the_cheapest_plan_is_the_cheapest_with_enough_power() -> None:
    first, cost = stats.pilot(*table(made_up(2)), PRIOR), stats.Cost(fit_hours=2.0, episode_hours=0.001)
    plan = stats.cheapest_plan(first, 0.03, lambda _: 0.05, cost)
    assert plan is not None and plan.power >= 0.8
    assert plan.hours == cost.hours(plan.n_trainings, plan.n_episodes)
    for n, t in ((n, t) for n in (3, 5, 10, 20, 30, 50) for t in (600, 2000, 10_000)):
        assert cost.hours(n, t) >= plan.hours or stats.power(first, n, t, 0.03, 0.05) < 0.8
    assert stats.cheapest_plan(first, 1e-6, lambda _: 0.05, cost) is None


def test_rows_without_training_need_episodes_only() -> None:
    given = [dataclasses.replace(row, is_trained=False) for row in table([y[:1] for y in made_up(2)])]
    first = stats.pilot(*given, PRIOR)
    assert stats.detectable(first, 1, np.inf, 0.05) < 1e-6
    sd = (given[0].by_episode - given[1].by_episode).std(ddof=1)
    # Student's noncentral t at 200 episodes, 2.80 standard errors but for the simulation's noise
    assert stats.detectable(first, 1, 200, 0.05) == pytest.approx(2.8 * sd / np.sqrt(200), rel=0.05)


def test_the_published_gap_agrees_with_plain_simulation() -> None:
    row, rng = table(made_up(1))[0], np.random.default_rng(9)
    found = stats.predict_published(row, PRIOR, row.mean + 0.02, 0.006)
    seed, n = moderate([row], PRIOR), 400_000
    variance = np.maximum(seed.tau2 * seed.df / rng.chisquare(seed.df, n) - seed.within, 0)
    theirs = variance * (row.mean + 0.02) * (1 - row.mean - 0.02) / row.shape
    sampler = row.by_episode.var(ddof=1) / 200 + (0.006 / 1.96) ** 2
    again = rng.normal(0, np.sqrt(sampler + variance / 3 + theirs))
    assert found.p == pytest.approx((np.abs(again) >= 0.02).mean(), rel=0.02)  # 400,000 draws
    assert found.half_width == pytest.approx(np.quantile(np.abs(again), 0.95), rel=0.02)
    assert found.gap == pytest.approx(-0.02)


def test_the_best_of_several_explains_a_high_published_number() -> None:
    row = table(made_up(1))[0]
    near = stats.predict_published(row, PRIOR, row.mean, 0.006)
    high = stats.predict_published(row, PRIOR, row.mean + 1.1 * near.half_width, 0.006)
    low = stats.predict_published(row, PRIOR, row.mean - 1.1 * near.half_width, 0.006)
    far = stats.predict_published(row, PRIOR, row.mean + 5 * near.half_width, 0.006)
    assert near.agrees() and near.best_of is None
    assert not high.agrees() and high.best_of == 3
    assert not low.agrees() and low.best_of is None and far.best_of is None


def test_a_published_number_without_interval_borrows_ours() -> None:
    row = table(made_up(1))[0]
    sd = row.by_episode.std(ddof=1)
    borrowed = stats.predict_published(row, PRIOR, 0.5, None, n_episodes=600)
    given = stats.predict_published(row, PRIOR, 0.5, 1.959963984540054 * sd / np.sqrt(600))
    assert borrowed.is_borrowed and not given.is_borrowed and borrowed.p == pytest.approx(given.p, rel=1e-12)
