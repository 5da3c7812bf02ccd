"""Do the intervals cover what they claim and the tests reject as often as they say: fixed-seed simulation.

A share of n repeats has a standard deviation of sqrt(0.05 * 0.95 / n): 0.7 points for 1,000, 0.34 for 4,000. The
bands are the ones the leaderboard promises; the seeds are fixed, so a failure is a change of the code.
"""

from __future__ import annotations

import numpy as np
import pytest

from harness import stats

N_WAY, N_QUERY = 5, 15


def episode_classes(rng, n_episodes, n_classes, n_way=N_WAY):
    """(E, W) distinct classes of each episode."""
    return np.argpartition(rng.random((n_episodes, n_classes)), n_way, axis=1)[:, :n_way]


def closed_world(rng, n_episodes, n_methods, n_classes=20):
    """Episodes of a fixed pool of classes: (n_methods, E) accuracies of equal methods, and the pool's mean.

    A class has its chance of a right answer, an episode a draw of support images that shifts all of its
    classes and methods alike; queries are independent.
    """
    chance = rng.uniform(0.45, 0.85, n_classes)
    classes = episode_classes(rng, n_episodes, n_classes)
    shift = rng.uniform(-0.1, 0.1, (n_episodes, 1))
    correct = rng.binomial(N_QUERY, chance[classes] + shift, (n_methods, n_episodes, N_WAY)).sum(axis=2)
    return correct / (N_WAY * N_QUERY), chance.mean()


def covers(interval, truth):
    return interval.low <= truth <= interval.high


def test_the_sampler_interval_covers_the_mean_of_its_own_classes():
    rng = np.random.default_rng(1)
    drawn = [closed_world(rng, 600, 1) for _ in range(2000)]
    covered = np.mean([covers(stats.sampler_interval(a[0]), truth) for a, truth in drawn])
    assert covered == pytest.approx(0.95, abs=0.02)
    # the same interval read as if it spoke of other classes: this is why the class interval exists
    assert np.mean([covers(stats.sampler_interval(a[0]), 0.65) for a, _ in drawn]) < 0.5


def test_tests_of_two_models_reject_equal_ones_as_often_as_they_say():
    rng = np.random.default_rng(12)
    p = []
    for _ in range(4000):
        a, b = closed_world(rng, 100, 2)[0]
        found = stats.compare_checkpoints(a, b, ("a", str(len(p))), n_flips=199)
        p.append((found.p, found.p_wilcoxon, found.p_permutation))
    assert np.mean(np.array(p) < 0.05, axis=0) == pytest.approx([0.05] * 3, abs=0.015)


def test_equivalence_is_claimed_in_error_as_often_as_it_says():
    rng = np.random.default_rng(4)
    tied = []
    for _ in range(2000):
        a, b = rng.normal(0.6, 0.02, (2, 200)).clip(0, 1)
        tied.append(
            stats.compare_checkpoints(a + 0.005, b, ("a", "b"), margin=0.005, n_flips=1).p_equivalence < 0.05
        )
    assert np.mean(tied) == pytest.approx(0.05, abs=0.015)  # the true difference lies on the margin


class GaussianWorld:
    """Classes drawn from a population, Gaussian features of uneven spread, nearest centroid; 8 dimensions.

    The second method sees the same features with the last four dimensions shrunk.
    """

    def __init__(self, rng, n_classes):
        self.rng = rng
        self.centre = rng.standard_normal((n_classes, 8))
        self.spread = rng.uniform(0.7, 1.6, (n_classes, 1, 1))

    def accuracies(self, classes, n_query=5):
        """(2, E) accuracies of both methods on episodes of the given (E, W) classes."""
        noise = self.rng.standard_normal((*classes.shape, 1 + n_query, 8), dtype=np.float32)
        x = self.centre[classes][:, :, None] + self.spread[classes] * noise  # (E, W, 1 + Q, D)
        scale = np.array([[1.0] * 8, [1.0] * 4 + [0.5] * 4])
        return np.array([self._nearest_centroid(x * s) for s in scale])

    @staticmethod
    def _nearest_centroid(x):
        support = x[:, :, 0]  # (E, W, D)
        query = x[:, :, 1:].reshape(len(x), -1, x.shape[-1])  # (E, W Q, D)
        score = 2 * query @ support.swapaxes(1, 2) - (support**2).sum(axis=2)[:, None]  # (E, W Q, W)
        label = np.repeat(np.arange(N_WAY), x.shape[2] - 1)
        return (score.argmax(axis=2) == label).mean(axis=1)


@pytest.fixture(scope="module")
def new_class_truth():
    """Mean accuracy of both methods over the population of classes, standard error below 0.001."""
    rng = np.random.default_rng(5)
    fresh = np.arange(30_000 * N_WAY).reshape(-1, N_WAY)  # no class is met twice
    return GaussianWorld(rng, fresh.size).accuracies(fresh).mean(axis=1)


@pytest.mark.parametrize(("n_classes", "n_episodes"), [(20, 600), (20, 100), (50, 300)])
def test_the_class_interval_covers_the_mean_of_other_classes(new_class_truth, n_classes, n_episodes):
    rng = np.random.default_rng(6)
    by_class, by_sampler, paired = [], [], []
    for _ in range(1000):
        classes = episode_classes(rng, n_episodes, n_classes)
        a, b = GaussianWorld(rng, n_classes).accuracies(classes)
        by_class.append(covers(stats.class_interval(a, classes), new_class_truth[0]))
        by_sampler.append(covers(stats.sampler_interval(a), new_class_truth[0]))
        paired.append(covers(stats.class_interval(a - b, classes), np.subtract(*new_class_truth)))
    assert 0.86 <= np.mean(by_class) <= 0.995
    assert 0.86 <= np.mean(paired) <= 0.995
    assert np.mean(by_sampler) < np.mean(by_class)
