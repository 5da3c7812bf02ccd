"""Magnet, RepMet and their clusters against slow twins of the formulas, at sizes of the tests' own, and where they degenerate."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from harness.ops.clusters import ClusterIndex, cluster_index, lloyd, spread_start
from harness.ops.magnet import (
    FLOOR,
    Scale,
    cluster_losses,
    draw_cluster_batch,
    impostors,
    magnet_loss,
    seed_probability,
)
from harness.ops.mixtures import (
    Centres,
    RepMetLoss,
    background_probability,
    centre_distances,
    hard_posterior,
    nearest_cluster_posterior,
    owners,
    replaced_centres,
    repmet_loss,
    soft_posterior,
)

LOSSES: list[RepMetLoss] = ["hinge", "v1", "v2", "v3"]


def _draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _distance(a: list[float], b: list[float]) -> float:
    return sum((p - q) ** 2 for p, q in zip(a, b, strict=True))


# Magnet


def _slow_magnet(x: list[list[float]], owner: list[int], alpha: float, scale: str, eps: float) -> list[float]:
    """The spec's formula, row by row."""
    m, n = len(owner), len(x)
    d = n // m
    mean = [[sum(row[a] for row in x[j * d : (j + 1) * d]) / d for a in range(len(x[0]))] for j in range(m)]
    own = [_distance(x[i], mean[i // d]) for i in range(n)]
    v = sum(own) / (n - 1)
    s = 1 / (2 * v**2) if scale == "squared" else 1 / (2 * v)
    found = []
    for i in range(n):
        others = [j for j in range(m) if owner[j] != owner[i // d]]
        below = sum(math.exp(-s * _distance(x[i], mean[j])) for j in others)
        found.append(max(0.0, -math.log(math.exp(-s * own[i] - alpha) / (below + eps) + eps)))
    return found


@pytest.mark.parametrize("scale", ["plain", "squared"])
@pytest.mark.parametrize("eps", [0.0, 1e-8])
@pytest.mark.parametrize("owner", [[0, 1], [0, 1, 2, 0, 2], [3, 3, 1, 2, 3, 1, 0]])
def test_magnet_loss_is_the_formula(owner: list[int], eps: float, scale: Scale) -> None:
    for d, width, alpha in ((1, 3, 0.5), (2, 7, 1.0), (6, 4, 3.0)):
        x = _draw(len(owner) * d, width, seed=d)
        if d == 1:  # a member alone is its own mean: no variance
            found = magnet_loss(x, torch.tensor(owner), alpha=alpha, scale=scale, eps=eps)
            assert found.per_example.isfinite().all()
            continue
        found = magnet_loss(x, torch.tensor(owner), alpha=alpha, scale=scale, eps=eps)
        expected = torch.tensor(_slow_magnet(x.tolist(), owner, alpha, scale, eps), dtype=torch.float64)
        # float64 on both sides; sums of a few exponentials
        torch.testing.assert_close(found.per_example, expected, rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(found.loss, expected.mean(), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("eps", [0.0, 1e-8])
@pytest.mark.parametrize("scale", ["plain", "squared"])
def test_magnet_gradients_equal_finite_differences(scale: Scale, eps: float) -> None:
    x, owner = _draw(12, 3, seed=1).requires_grad_(), torch.tensor([0, 1, 1, 2])
    assert torch.autograd.gradcheck(
        lambda x: magnet_loss(x, owner, alpha=7.0, scale=scale, eps=eps).loss, (x,)
    )


@pytest.mark.parametrize("scale", ["plain", "squared"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_embeddings_have_a_finite_magnet_loss(scale: Scale, dtype: torch.dtype) -> None:
    x = torch.ones(12, 5, dtype=dtype, requires_grad=True)
    found = magnet_loss(x, torch.tensor([0, 1, 2]), alpha=1.0, scale=scale)
    found.loss.backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    # nothing tells own and other apart: alpha + log of two other clusters
    torch.testing.assert_close(found.loss.detach(), torch.tensor(1 + math.log(2), dtype=dtype))
    torch.testing.assert_close(x.grad, torch.zeros_like(x))


def test_tight_clusters_far_apart_do_not_overflow_in_float32() -> None:
    """Where public code divides 0 by 0: exponents of thousands in float32."""
    mean = 100 * torch.eye(3).repeat_interleave(4, 0)
    x = (mean + 1e-3 * _draw(12, 3).float()).requires_grad_()
    for scale in ("plain", "squared"):
        found = magnet_loss(x, torch.tensor([0, 1, 2]), scale=scale)  # type: ignore[arg-type]
        (gradient,) = torch.autograd.grad(found.loss, x)
        assert found.loss == 0
        assert gradient.isfinite().all()


def test_clusters_of_one_class_alone_have_no_magnet_loss() -> None:
    x = _draw(8, 3).requires_grad_()
    found = magnet_loss(x, torch.tensor([2, 2]))
    (gradient,) = torch.autograd.grad(found.loss, x)
    assert found.loss == 0
    assert gradient.isfinite().all()


def test_cluster_losses_count_a_loss_of_zero() -> None:
    losses = torch.tensor([0.0, 0.0, 4.0, 2.0, 7.0], dtype=torch.float64)
    is_measured = torch.tensor([True, True, True, True, False])
    found = cluster_losses(losses, is_measured, torch.tensor([0, 0, 1, 1, 2]), 4, unmeasured=1.5)
    torch.testing.assert_close(found, torch.tensor([0, 3, 1.5, 1.5], dtype=torch.float64) + FLOOR)


def test_without_losses_every_cluster_is_as_likely() -> None:
    none = torch.zeros(6, dtype=torch.bool)
    for losses, known in ((torch.zeros(6), none), (torch.zeros(6), ~none)):
        found = seed_probability(cluster_losses(losses, known, torch.arange(6), 6))
        torch.testing.assert_close(found, torch.full((6,), 1 / 6))


def test_fewer_impostors_than_asked_are_those_there_are() -> None:
    centroid, owner = _draw(5, 3), torch.tensor([0, 0, 0, 1, 2])
    found = impostors(centroid, owner, 1, 7)
    assert sorted(found.tolist()) == [3, 4]
    assert sorted(impostors(centroid, owner, 3, 7).tolist()) == [0, 1, 2, 4]


def test_a_batch_of_a_small_index_is_smaller_and_skips_empty_clusters() -> None:
    """Two classes of two clusters, one of them empty, one with a single member."""
    index = ClusterIndex(_draw(4, 3), torch.tensor([0, 0, 2, 3, 3, 3]), torch.tensor([2, 0, 1, 3]))
    rng, seen = torch.Generator().manual_seed(0), set()
    for _ in range(60):
        batch = draw_cluster_batch(index, torch.tensor([1.0, 9.0, 1.0, 1.0]), k=2, m=12, d=3, rng=rng)
        clusters = index.assignment[batch.rows]
        assert (clusters == clusters[:, :1]).all()
        assert batch.rows.shape == (len(batch.cluster_class), 3)
        assert (batch.cluster_class[1:] != batch.cluster_class[0]).all()
        assert 1 not in clusters
        seen.add(int(clusters[0, 0]))
    assert seen == {0, 2, 3}


def test_seeds_follow_their_losses() -> None:
    assignment = torch.arange(8)
    index = ClusterIndex(_draw(8, 2), assignment, torch.ones(8, dtype=torch.int64))
    losses, rng = torch.tensor([0.0, 0, 0, 3, 0, 1, 0, 0]) + FLOOR, torch.Generator().manual_seed(0)
    seeds = [int(draw_cluster_batch(index, losses, 1, 3, 1, rng).rows[0, 0]) for _ in range(400)]
    assert set(seeds) == {3, 5}
    assert seeds.count(3) / 400 == pytest.approx(0.75, abs=0.09)  # four standard errors


# Clusters


def test_clusters_agree_with_scikit_learn_from_the_same_start() -> None:
    from sklearn.cluster import KMeans

    x, label = _draw(90, 4), torch.arange(90) % 3
    start = torch.cat([x[label == c][:4] for c in range(3)])
    found = cluster_index(x, label, 3, 4, rng=torch.Generator(), start=start, max_iter=50)
    for c in range(3):
        theirs = KMeans(4, init=start[4 * c : 4 * c + 4].numpy(), n_init=1, max_iter=50, tol=0)
        theirs.fit(x[label == c].numpy())
        torch.testing.assert_close(
            found.centroid[4 * c : 4 * c + 4], torch.from_numpy(theirs.cluster_centers_)
        )
        assert (found.assignment[label == c] - 4 * c).tolist() == theirs.labels_.tolist()


def test_an_empty_cluster_is_filled_as_scikit_learn_does() -> None:
    from sklearn.cluster import KMeans

    x, label = _draw(90, 4), torch.arange(90) % 3
    far = torch.full((1, 4), 50.0)
    start = torch.cat([part for c in range(3) for part in (x[label == c][:2], far, far + c)])
    found = cluster_index(x, label, 3, 4, rng=torch.Generator(), start=start, max_iter=50)
    assert found.size.min() > 0
    for c in range(3):
        theirs = KMeans(4, init=start[4 * c : 4 * c + 4].numpy(), n_init=1, max_iter=50, tol=0)
        theirs.fit(x[label == c].numpy())
        torch.testing.assert_close(
            found.centroid[4 * c : 4 * c + 4].sort(0).values,  # which of two far points fills which is free
            torch.from_numpy(theirs.cluster_centers_).sort(0).values,
        )


def test_clusters_that_go_on_from_where_they_were_stay_filled() -> None:
    x, label, rng = _draw(60, 3), torch.arange(60) % 2, torch.Generator().manual_seed(0)
    centroid = cluster_index(x, label, 2, 5, rng=rng).centroid
    for step in range(30):  # features that shrink and turn, as those of a network in training do
        x = 0.5 * x + 0.5 * _draw(60, 3, seed=step) * (1 + step % 4)
        found = cluster_index(x, label, 2, 5, rng=rng, start=centroid)
        centroid = found.centroid
        assert found.size.min() > 0


def test_more_starts_are_never_looser() -> None:
    x, label = _draw(60, 2), torch.zeros(60, dtype=torch.int64)

    def spread(n_starts: int) -> float:
        found = cluster_index(x, label, 1, 6, rng=torch.Generator().manual_seed(3), n_starts=n_starts)
        return float((x - found.centroid[found.assignment]).square().sum())

    assert spread(12) <= spread(1)


def test_classes_smaller_than_k_and_absent_ones_leave_empty_clusters() -> None:
    x, label = _draw(7, 3), torch.tensor([0, 2, 2, 0, 0, 0, 0])
    found = cluster_index(x, label, 4, 3, rng=torch.Generator().manual_seed(0))
    assert found.centroid.isfinite().all()
    assert (found.assignment // 3).tolist() == label.tolist()
    assert found.size.unflatten(0, (4, 3)).sum(1).tolist() == [5, 0, 2, 0]
    assert found.size[6:9].sort().values.tolist() == [0, 1, 1]
    alone = cluster_index(x[:1], label[:1], 1, 3, rng=torch.Generator().manual_seed(0))
    assert alone.size.sum() == 1


def test_equal_members_share_a_cluster() -> None:
    found = cluster_index(torch.ones(8, 2), torch.zeros(8, dtype=torch.int64), 1, 3, rng=torch.Generator())
    assert sorted(found.size.tolist()) == [0, 0, 8]
    torch.testing.assert_close(found.centroid, torch.ones(3, 2))


def test_the_start_without_chance_takes_distinct_points() -> None:
    x = _draw(3, 5, 2)
    start = spread_start(x, 5)
    assert torch.equal(start.sort(1).values, x.sort(1).values)
    centroid, spread = lloyd(x, torch.ones(3, 5, dtype=torch.bool), start, 5)
    torch.testing.assert_close(centroid, start)
    torch.testing.assert_close(spread, torch.zeros(3, dtype=torch.float64), atol=1e-12, rtol=0)


# RepMet


def _slow_repmet(
    d: list[list[float]],
    label: list[int],
    owner: list[int],
    kind: str,
    alpha: float,
    sigma: float,
    eps: float,
) -> list[float]:
    found = []
    for row, y in zip(d, label, strict=True):
        own = [a for a, o in zip(row, owner, strict=True) if o == y]
        other = [a for a, o in zip(row, owner, strict=True) if o != y]
        if kind == "hinge":
            found.append(max(0.0, min(own) - min(other) + alpha))
            continue
        p = [[math.exp(-a / (2 * sigma**2)) for a in part] for part in (own, other)]
        above = max(p[0]) if kind == "v1" else sum(p[0])
        below = sum(p[1]) + (sum(p[0]) if kind == "v2" else 0)
        found.append(max(0.0, -math.log(above / (below + eps) + eps) + alpha))
    return found


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("eps", [0.0, 1e-8])
def test_repmet_losses_are_the_formulas(kind: RepMetLoss, eps: float) -> None:
    owner = torch.tensor([0, 0, 0, 1, 2, 2])  # classes may have other numbers of centres
    label = torch.tensor([2, 0, 1, 1, 0])
    for alpha, sigma in ((1.0, 0.5), (0.2, 1.3)):
        distance = centre_distances(_draw(5, 4), _draw(6, 4, seed=1))
        found = repmet_loss(distance, label, owner, kind=kind, alpha=alpha, sigma=sigma, eps=eps)
        slow = _slow_repmet(distance.tolist(), label.tolist(), owner.tolist(), kind, alpha, sigma, eps)
        torch.testing.assert_close(found.per_example, torch.tensor(slow, dtype=torch.float64))
        torch.testing.assert_close(found.loss, torch.tensor(slow, dtype=torch.float64).mean())


@pytest.mark.parametrize("kind", LOSSES)
def test_repmet_gradients_equal_finite_differences(kind: RepMetLoss) -> None:
    x, centre = _draw(6, 3).requires_grad_(), _draw(8, 3, seed=1).requires_grad_()
    label, owner = torch.arange(6) % 4, owners(4, 2)
    assert torch.autograd.gradcheck(
        lambda x, centre: (
            repmet_loss(centre_distances(x, centre), label, owner, kind=kind, alpha=3.0).per_example
        ),
        (x, centre),
    )


@pytest.mark.parametrize("kind", LOSSES)
def test_equal_embeddings_have_a_finite_repmet_loss(kind: RepMetLoss) -> None:
    x, centre = torch.ones(4, 3, requires_grad=True), torch.ones(6, 3, requires_grad=True)
    for measure in ("squared", "euclidean", "cosine"):
        distance = centre_distances(x, centre, measure)  # type: ignore[arg-type]
        gradients = torch.autograd.grad(
            repmet_loss(distance, torch.arange(4) % 3, owners(3, 2), kind=kind).loss, (x, centre)
        )
        assert all(g.isfinite().all() for g in gradients)


def test_losses_of_episodes_at_once_are_those_of_each() -> None:
    distance, label, owner = _draw(3, 6, 4).square(), torch.arange(6) % 2, owners(2, 2)
    for kind in LOSSES:
        together = repmet_loss(distance, label, owner, kind=kind).per_example
        alone = torch.stack([repmet_loss(d, label, owner, kind=kind).per_example for d in distance])
        torch.testing.assert_close(together, alone)


def test_posteriors_of_synthetic_regions() -> None:
    """Regions on a centre, between two, and far from all of them."""
    centre = torch.tensor([[0.0, 0], [0, 1], [4, 0], [4, 1]], dtype=torch.float64)
    region = torch.tensor([[0.0, 0], [2, 0], [50, 50]], dtype=torch.float64)
    owner = owners(2, 2)
    distance = centre_distances(region, centre)
    hard, background = hard_posterior(distance, owner, 2), background_probability(distance)
    torch.testing.assert_close(hard[0, 0], torch.tensor(1.0, dtype=torch.float64))
    torch.testing.assert_close(hard[1, 0], hard[1, 1])
    torch.testing.assert_close(hard[1, 0], torch.tensor(math.exp(-4 / 0.5), dtype=torch.float64))
    torch.testing.assert_close(background, 1 - hard.amax(1))
    assert background[0] == 0
    assert background[2] == 1
    soft = soft_posterior(distance, owner, 2)
    torch.testing.assert_close(soft.sum(1), torch.ones(3, dtype=torch.float64))
    assert soft.isfinite().all()  # far regions too: p underflows for both classes


def test_posteriors_are_their_sums() -> None:
    distance, owner = _draw(5, 6).square(), torch.tensor([0, 2, 2, 1, 1, 1])
    p = (-distance / (2 * 0.7**2)).exp()
    by_class = [p[:, owner == c] for c in range(4)]  # class 3 has no centre
    total = torch.stack([part.sum(1) for part in by_class], 1)
    torch.testing.assert_close(soft_posterior(distance, owner, 4, sigma=0.7), total / total.sum(1, True))
    most = torch.stack([part.amax(1) if part.shape[1] else torch.zeros(5) for part in by_class], 1)
    torch.testing.assert_close(hard_posterior(distance, owner, 4, sigma=0.7), most)


def test_support_regions_replace_the_centres_of_trained_classes() -> None:
    known = Centres(_draw(6, 3), owners(3, 2), 3)
    support, label = _draw(5, 3, seed=1), torch.tensor([0, 1, 1, 1, 0])
    found = replaced_centres(known, support, label, 2)
    assert torch.equal(found.centre, support)
    assert torch.equal(found.owner, label)
    distance = centre_distances(support, found.centre)
    hard = hard_posterior(distance, found.owner, 2)
    assert hard.argmax(1).tolist() == label.tolist()
    torch.testing.assert_close(background_probability(distance), torch.zeros(5, dtype=torch.float64))
    kept = replaced_centres(known, support, label + 2, 4, n_kept=2)
    assert kept.owner.tolist() == [0, 0, 1, 1, 2, 3, 3, 3, 2]
    assert torch.equal(kept.centre, torch.cat([known.centre[:4], support]))


# kNC


@pytest.mark.parametrize("n_nearest", [1, 4, 100])
def test_the_nearest_clusters_vote(n_nearest: int) -> None:
    distance, owner, v = _draw(9, 12).square(), torch.arange(12) % 5, 0.6
    found = nearest_cluster_posterior(distance, owner, 5, v, n_nearest=n_nearest)
    for row, expected in zip(distance.tolist(), found, strict=True):
        vote = [0.0] * 5
        for j in sorted(range(12), key=row.__getitem__)[:n_nearest]:
            vote[int(owner[j])] += math.exp(-row[j] / (2 * v))
        slow = torch.tensor(vote, dtype=torch.float64) / sum(vote)
        torch.testing.assert_close(expected, slow)


def test_far_queries_still_have_a_nearest_cluster() -> None:
    found = nearest_cluster_posterior(torch.tensor([[1e6, 1e6 + 100.0]]), torch.tensor([1, 0]), 2, 1e-3)
    assert found.tolist() == [[0.0, 1.0]]
