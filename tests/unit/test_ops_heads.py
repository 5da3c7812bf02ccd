"""The numerics of heads against slow twins and other packages, at sizes of their own, and where an episode is degenerate."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC
from torch import Tensor, nn

from harness.api import EpisodeBatch, Head, Normaliser, Support, l2_normalise
from harness.method import registry, traits
from harness.ops import closed_form, dense_heads, information, logistic, rectification, sinkhorn


def is_frozen(cls: type[Any]) -> bool:
    """Whether it is a head that trains nothing: what is asked of it acts after the fit of its features."""
    of_fit = {field.name for field in dataclasses.fields(cls.Config) if field.metadata["phase"] == "fit"}
    return bool(traits(cls).takes) and of_fit == {"features"} and "episodic" in traits(cls).protocols


HEADS = sorted(name for name in registry.BUILT_IN if is_frozen(registry.load(name).cls))


def episode(way: int, shot: int, n_query: int, dim: int, seed: int = 0, n: int = 3) -> tuple[Tensor, Tensor]:
    """Features ≥ 0: supports (E, W, S, D), queries (E, Q, D), the classes of which follow one another."""
    rng = torch.Generator().manual_seed(seed)
    centre = torch.randn(n, way, 1, dim, generator=rng, dtype=torch.float64)
    support = (centre + 0.8 * torch.randn(n, way, shot, dim, generator=rng, dtype=torch.float64)).relu()
    of = torch.arange(n_query) % way
    query = centre[:, of, 0] + 0.8 * torch.randn(n, n_query, dim, generator=rng, dtype=torch.float64)
    return support, query.relu()


def rows_of(support: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows (E, n, D), labels (E, n), one-hot (E, n, W)."""
    y = torch.arange(support.shape[1]).repeat_interleave(support.shape[2]).expand(len(support), -1)
    return support.flatten(1, 2), y, nn.functional.one_hot(y).to(support)


@pytest.mark.parametrize(("way", "shot", "c"), [(3, 1, 1.0), (4, 3, 0.2), (6, 2, 30.0)])
def test_logistic_regression_is_scikit_learns_at_its_optimum(way: int, shot: int, c: float) -> None:
    support, query = episode(way, shot, 9, 12)
    x, y, one_hot = rows_of(support)
    found = logistic.fit_logistic(x @ x.mT, one_hot, c).scores(query @ x.mT)
    for e in range(len(x)):
        theirs = (
            LogisticRegression(C=c, tol=1e-12, max_iter=10_000).fit(x[e], y[e]).decision_function(query[e])
        )
        np.testing.assert_allclose(
            found[e] - found[e].mean(1, keepdim=True), theirs - theirs.mean(1, keepdims=True), atol=2e-5
        )


def test_of_two_classes_the_head_has_the_one_vector_of_scikit_learn() -> None:
    support, query = episode(2, 4, 9, 12)
    found = scores("logistic", support, query)
    x, y, _ = rows_of(l2_normalise(support))
    for e in range(len(x)):
        fitted = LogisticRegression(C=1.0, tol=1e-12, max_iter=10_000).fit(x[e], y[e])
        np.testing.assert_allclose(
            found[e, :, 1] - found[e, :, 0], fitted.decision_function(l2_normalise(query[e])), atol=2e-5
        )


@pytest.mark.parametrize(("way", "shot", "c"), [(2, 1, 1.0), (3, 6, 0.003), (5, 4, 1.0)])
def test_pairwise_machines_are_libsvms(way: int, shot: int, c: float) -> None:
    support, query = episode(way, shot, 11, 8)
    x, y, _ = rows_of(support)
    machines = closed_form.pairwise_svm(x @ x.mT, way, c)
    margins = machines.margins(query @ x.mT)
    for e in range(len(x)):
        theirs = SVC(kernel="linear", C=c, tol=1e-10, decision_function_shape="ovo").fit(x[e], y[e])
        expected = theirs.decision_function(query[e]).reshape(len(query[e]), -1)
        expected = -expected if way == 2 else expected  # of two classes scikit-learn turns the sign
        np.testing.assert_allclose(margins[e], expected, atol=1e-6)
        np.testing.assert_array_equal(
            closed_form.votes_of(margins[e], way).argmax(-1), theirs.predict(query[e])
        )


@pytest.mark.parametrize(("way", "shot", "c"), [(2, 3, 0.1), (4, 2, 1.0), (7, 1, 0.02)])
def test_the_multi_class_dual_is_where_projected_gradients_end(way: int, shot: int, c: float) -> None:
    support, _ = episode(way, shot, 1, 10, n=2)
    x, _, y = rows_of(support)
    found = closed_form.crammer_singer_dual(x @ x.mT, y, c)
    quadratic = x @ x.mT + torch.eye(x.shape[1])
    b = torch.zeros_like(y)
    step = 1 / torch.linalg.matrix_norm(quadratic, 2)[:, None, None]
    for _ in range(800):
        moved = b - step * (quadratic @ b - y)
        low, high = moved.amin(-1, keepdim=True) - c - 1, moved.amax(-1, keepdim=True) + c + 1
        for _ in range(45):  # the shift at which a row, cut off at c·Y, sums to 0
            middle = (low + high) / 2
            is_more = torch.minimum(moved - middle, c * y).sum(-1, keepdim=True) > 0
            low, high = torch.where(is_more, middle, low), torch.where(is_more, high, middle)
        b = torch.minimum(moved - low, c * y)
    torch.testing.assert_close(found, b, atol=5e-6, rtol=0)
    assert float(found.sum(-1).abs().max()) < 1e-9 and float((found - c * y).max()) < 1e-9


@pytest.mark.parametrize("dim", [3, 40])
def test_ridge_is_the_primal_on_either_side(dim: int) -> None:
    support, query = episode(4, 3, 7, dim)
    x, _, y = rows_of(support)
    weight = torch.linalg.inv(x.mT @ x + 0.7 * torch.eye(dim)) @ x.mT @ y
    torch.testing.assert_close(closed_form.ridge_scores(x, y, query, 0.7), query @ weight)


def loss_of(
    weight: Tensor, x: Tensor, y: Tensor, query: Tensor, w: Any, t: float, like: str, alpha: float
) -> Tensor:
    """The loss as it is written, for torch to differentiate."""

    def logits(z: Tensor) -> Tensor:
        if like == "cosine":
            return t * nn.functional.normalize(z, dim=-1) @ nn.functional.normalize(weight, dim=-1).T
        distance = torch.cdist(z, weight)
        return -t / 2 * distance**2 if like == "squared" else -t * distance

    p, q = logits(x).softmax(-1), logits(query).softmax(-1)
    mean = q.mean(0)
    ce = -(p[torch.arange(len(y)), y] + 1e-12).log().mean()
    if alpha == 1:
        marginal, conditional = -(mean * mean.log()).sum(), -(q * (q + 1e-12).log()).sum(-1).mean()
    else:
        marginal = (1 - (mean**alpha).sum()) / (alpha - 1)
        conditional = ((1 - ((q + 1e-12) ** alpha).sum(-1)) / (alpha - 1)).mean()
    return w.ce * ce - w.marginal * marginal + w.conditional * conditional


@pytest.mark.parametrize("likeness", ["squared", "distance", "cosine"])
@pytest.mark.parametrize("alpha", [1.0, 2.5])
@pytest.mark.parametrize("weights", [(0.3, 1.0, 0.2), (1.0, 0.0, 1.0), (1.0, 0.0, 0.0), (1.0, 0.5, 0.0)])
def test_class_weights_move_as_autograd_and_adam_move_them(likeness: Any, alpha: float, weights: Any) -> None:
    support, query = episode(4, 2, 11, 6, n=2)
    x, y, _ = rows_of(support)
    loss = information.LossWeights(*weights)
    found = information.fit_class_weights(
        x, y, query, loss=loss, temperature=3.0, steps=12, lr=0.02, likeness=likeness, alpha=alpha
    )
    for e in range(2):
        weight = support[e].mean(1).clone().requires_grad_()
        optimiser = torch.optim.Adam([weight], lr=0.02)
        for _ in range(12):
            optimiser.zero_grad()
            loss_of(weight, x[e], y[e], query[e], loss, 3.0, likeness, alpha).backward()
            optimiser.step()
        torch.testing.assert_close(found[e], weight.detach(), atol=1e-8, rtol=1e-7)


def test_alternating_directions_are_the_loops_of_the_paper() -> None:
    support, query = episode(3, 2, 7, 5, n=2)
    x, y, one_hot = rows_of(support)
    a1, a2, a3, t = 0.4, 1.2, 0.3, 5.0
    found = information.alternate_class_weights(
        x, y, query, loss=information.LossWeights(a1, a2, a3), temperature=t, steps=4
    )
    for e in range(2):
        s, q, w = x[e].numpy(), query[e].numpy(), support[e].mean(1).numpy()
        for _ in range(4):
            ps, pq = (_softmax(-t / 2 * ((z[:, None] - w) ** 2).sum(-1)) for z in (s, q))
            aim = pq ** (1 + a3) / (pq ** (1 + a3)).sum(0) ** (a2 / (a2 + 1))
            aim = aim / aim.sum(1, keepdims=True)
            c, r, new = a1 / (1 + a3), len(s) / len(q), np.zeros_like(w)
            for k in range(3):
                hot = one_hot[e, :, k].numpy()
                top = c * ((hot - ps[:, k]) @ s + ps[:, k].sum() * w[k])
                top = top + r * ((aim[:, k] - pq[:, k]) @ q + pq[:, k].sum() * w[k])
                new[k] = top / (c * hot.sum() + r * aim[:, k].sum())
            w = new
        np.testing.assert_allclose(found[e], w, atol=1e-10)


def _softmax(x: np.ndarray) -> np.ndarray:
    return np.exp(x - logsumexp(x, axis=-1, keepdims=True))


@pytest.mark.parametrize(("way", "n_query"), [(2, 7), (6, 13)])
def test_plans_are_the_authors_loop_episode_by_episode(way: int, n_query: int) -> None:
    support, query = episode(way, 2, n_query, 9)
    means = support.mean(2)
    found = sinkhorn.balanced_plan(query, means, 0.4)
    for e in range(3):
        plan = np.exp(-0.4 * ((query[e][:, None] - means[e]) ** 2).sum(-1).numpy())
        plan /= plan.sum()
        last = np.zeros(n_query)
        for _ in range(1000):
            if np.abs(last - plan.sum(1)).max() <= 1e-6:
                break
            last = plan.sum(1)
            plan /= last[:, None]
            plan *= n_query / way / plan.sum(0)
        np.testing.assert_allclose(found[e], plan, rtol=1e-9, atol=1e-12)
    alone = torch.cat([sinkhorn.balanced_plan(query[e : e + 1], means[e : e + 1], 0.4) for e in range(3)])
    torch.testing.assert_close(found, alone, rtol=1e-12, atol=0)
    torch.testing.assert_close(found.sum(1), torch.full((3, way), n_query / way, dtype=torch.float64))


def test_affinities_are_doubly_stochastic_before_they_are_scaled() -> None:
    support, query = episode(3, 2, 8, 9)
    x = torch.cat([support.flatten(1, 2), query], 1)
    z = sinkhorn.pairwise_affinities(x, rounds=400)
    off = z - torch.eye(z.shape[1])
    ratio = off.sum(1) / off.sum(1)[:, :1]
    torch.testing.assert_close(ratio, torch.ones_like(ratio), atol=1e-6, rtol=0)
    torch.testing.assert_close(off, off.mT, atol=1e-6, rtol=0)
    assert (
        float(off.max()) == pytest.approx(1.0) or float(off.max()) < 1.0
    )  # the largest may be an item's own


def test_rectified_prototypes_by_loops() -> None:
    support, query = (l2_normalise(x) for x in episode(4, 3, 10, 7))
    found = rectification.rectify(support, query)
    for e in range(3):
        rows, means = support[e].flatten(0, 1), support[e].mean(1)
        x = torch.cat([rows, query[e] + rows.mean(0) - query[e].mean(0)])
        cosine = torch.stack([nn.functional.cosine_similarity(z[None], means) for z in x])
        for k in range(4):
            own = [i for i in range(len(x)) if int(cosine[i].argmax()) == k]
            weighted = [x[i] * (10 * cosine[i]).softmax(-1)[k] for i in own]
            torch.testing.assert_close(found.prototypes[e, k], torch.stack(weighted).mean(0))


def test_a_class_to_which_nothing_goes_keeps_its_mean() -> None:
    support = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]], [[0.0, 1.0]]]])  # the third is a copy of the second
    found = rectification.rectify(support, torch.tensor([[[1.0, 0.1], [0.1, 1.0]]]))
    torch.testing.assert_close(found.prototypes[0, 2], torch.tensor([0.0, 1.0]))


def test_smoothing_by_loops_and_each_episode_stops_alone() -> None:
    support, query = (l2_normalise(x) for x in episode(3, 1, 12, 6))
    near = rectification.neighbours(query, 4)
    unary = ((query.unsqueeze(2) - support.mean(2).unsqueeze(1)) ** 2).sum(-1)
    found = rectification.smooth_assignments(unary, near, 0.9)
    assert len(set(found.rounds.tolist())) > 1, "they stop in different rounds here"
    for e in range(3):
        distance = torch.cdist(query[e], query[e]).fill_diagonal_(torch.inf)
        expected = torch.zeros(12, 12, dtype=torch.float64)
        for i in range(12):
            expected[i, distance[i].argsort()[:3]] = 1
        torch.testing.assert_close(near[e], expected)
        alone = rectification.smooth_assignments(unary[e : e + 1], near[e : e + 1], 0.9)
        torch.testing.assert_close(found.assignment[e], alone.assignment[0], rtol=1e-12, atol=0)
        z, last = _softmax(-unary[e].numpy()), np.inf
        for i in range(20):
            z = _softmax(-unary[e].numpy() + 0.9 * expected.numpy() @ z)
            energy = (z * np.log(z) + unary[e].numpy() * z - 0.9 * (expected.numpy() @ z) * z).sum()
            if i > 1 and abs(energy - last) <= 1e-6 * abs(last):
                break
            last = energy
        np.testing.assert_allclose(found.assignment[e], z, atol=1e-10)


@pytest.mark.parametrize("channels", [4, 30])
def test_dense_scores_by_loops_on_either_side(channels: int) -> None:
    rng = torch.Generator().manual_seed(3)
    support = torch.randn(2, 3, 2, channels, 2, 3, generator=rng, dtype=torch.float64)
    query = torch.randn(2, 5, channels, 2, 3, generator=rng, dtype=torch.float64)
    s, q = dense_heads.descriptors(support), dense_heads.descriptors(query)
    dn4, frn = dense_heads.descriptor_scores(q, s, 2), dense_heads.reconstruction_scores(q, s, 0.4, -0.2)
    for e, i, k in np.ndindex(2, 5, 3):
        pool = s[e, k].flatten(0, 1)  # (S·L, C)
        total = sum(nn.functional.cosine_similarity(d[None], pool).topk(2).values.sum() for d in q[e, i])
        assert float(dn4[e, i, k]) == pytest.approx(float(total))
        ridge = len(pool) / channels * np.exp(0.4) + 1e-6
        hat = torch.linalg.inv(pool.T @ pool + ridge * torch.eye(channels)) @ pool.T @ pool
        error = ((np.exp(-0.2) * q[e, i] @ hat - q[e, i]) ** 2).sum(-1).mean()
        assert float(frn[e, i, k]) == pytest.approx(-float(error))


def scores(head: str, support: Tensor, query: Tensor) -> Tensor:
    """Of a batch; of each episode alone, which has to say the same labels."""
    cls = registry.load(head).cls
    method = cls(cls.Config(**getattr(cls, "CONTRACT", {})), nn.Identity())
    if isinstance(method, nn.Module):
        method.normalise.mean = torch.full((support.shape[-1],), 0.1).to(support)
    way, shot = support.shape[1:3]
    label = torch.arange(way).repeat_interleave(shot)
    with torch.no_grad():
        batch = method.predict_batch(EpisodeBatch(support, query, []))
        given = [Support(s.flatten(0, 1), label, way, torch.Generator()) for s in support]
        alone = [method.predict(method.adapt(g), q) for g, q in zip(given, query, strict=True)]
    torch.testing.assert_close(batch, torch.stack(alone), atol=2e-4, rtol=2e-4)
    return batch


def as_given(head: str, x: Tensor) -> Tensor:
    """Vectors, or for heads on maps the same numbers as maps of 2 × 2."""
    is_maps = traits(registry.load(head).cls).takes == "maps"
    return x.unflatten(-1, (-1, 2, 2)).float() if is_maps else x.float()


DEGENERATE = {
    "one query": lambda: episode(5, 5, 1, 16),
    "one shot": lambda: episode(5, 1, 20, 16),
    "two ways": lambda: episode(2, 3, 10, 16),
    "fifty ways": lambda: episode(50, 1, 60, 16, n=1),
    "a class without queries": lambda: (lambda s, q: (s, q[:, torch.arange(20) % 5 != 4]))(*episode(5, 2, 20, 16)),
    "all queries of one class": lambda: (lambda s, q: (s, q[:, torch.arange(20) % 5 == 0]))(*episode(5, 2, 20, 16)),
    "identical support": lambda: (lambda s, q: (s[:, :1].expand(-1, 5, -1, -1).clone(), q))(*episode(5, 2, 20, 16)),
    "identical everything": lambda: (torch.ones(2, 5, 2, 16), torch.ones(2, 20, 16)),
    "zero features": lambda: (torch.zeros(2, 5, 2, 16), torch.zeros(2, 20, 16)),
    "some zero features": lambda: (lambda s, q: (s, q * (torch.arange(20) % 3 > 0)[:, None]))(*episode(5, 2, 20, 16)),
    "large features": lambda: (lambda s, q: (300 * s, 300 * q))(*episode(5, 2, 20, 16)),
}  # fmt: skip


@pytest.mark.parametrize("case", DEGENERATE)
@pytest.mark.parametrize("head", HEADS)
def test_degenerate_episodes_have_finite_scores(head: str, case: str) -> None:
    support, query = (as_given(head, x) for x in DEGENERATE[case]())
    found = scores(head, support, query)
    assert found.shape == (len(query), query.shape[1], support.shape[1])
    assert bool(found.isfinite().all())


def test_one_query_is_shared_out_evenly_by_pt_map() -> None:
    support, query = episode(5, 5, 1, 16)
    torch.testing.assert_close(
        scores("pt-map", support, query), torch.full((3, 1, 5), 0.2, dtype=torch.float64)
    )


@pytest.mark.parametrize("head", ["pt-map", "bpa"])
def test_negative_features_are_refused_where_a_root_is_taken(head: str) -> None:
    support, query = episode(3, 1, 4, 8)
    with pytest.raises(ValueError, match="they have to be ≥ 0, as after a ReLU"):
        scores(head, support, query - 0.5)


def test_of_equally_near_images_that_of_the_smaller_label_counts() -> None:
    support = torch.ones(1, 3, 2, 4)
    assert scores("knn", support, torch.ones(1, 2, 4)).argmax(-1).tolist() == [[0, 0]]


@pytest.mark.parametrize(("way", "shot", "k"), [(2, 1, 3), (4, 3, 2), (3, 1, 1)])
@pytest.mark.parametrize("rectified", [True, False])
def test_inner_products_say_what_the_vectors_say(way: int, shot: int, k: int, rectified: bool) -> None:
    support, query = (l2_normalise(x) for x in episode(way, shot, 9, 7, seed=way))
    rows = torch.cat([support.flatten(1, 2), query], dim=1)
    found = rectification.from_products(rows @ rows.mT, way, shot, k, rectified=rectified)
    prototypes, seen = rectification.rectify(support, query) if rectified else (support.mean(2), query)
    expected = ((seen.unsqueeze(2) - prototypes.unsqueeze(1)) ** 2).sum(-1)
    torch.testing.assert_close(found.unary, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found.near, rectification.neighbours(query, k))


def test_from_inner_products_too_a_class_to_which_nothing_goes_keeps_its_mean() -> None:
    support = torch.tensor(
        [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], dtype=torch.float64
    )  # the third copies the second
    query = torch.tensor([[1.0, 0.1], [0.1, 1.0]], dtype=torch.float64)
    rows = torch.cat([support, query])
    found = rectification.from_products(rows @ rows.mT, 3, 1, 2, rectified=True)
    prototypes, seen = rectification.rectify(support[:, None], query)
    torch.testing.assert_close(found.unary, torch.cdist(seen, prototypes) ** 2)


@pytest.mark.parametrize("rule", ["un", "l2n", "cl2n"])
def test_inner_products_of_normalised_features_need_no_normalised_features(rule: Any) -> None:
    x = episode(3, 2, 4, 6)[1]
    x[0, 0] = 0  # a row without length stays without
    normalise = Normaliser(rule)
    normalise.mean = x.mean((0, 1))
    y = normalise(x)
    torch.testing.assert_close(normalise.products(x), y @ y.mT)


def test_adam_is_torchs() -> None:
    rng = torch.Generator().manual_seed(0)
    own, theirs = (torch.ones(3, 2, 4, dtype=torch.float64) for _ in range(2))
    adam, optimiser = information._Adam(own, 0.01), torch.optim.Adam([theirs], lr=0.01)
    for _ in range(30):
        theirs.grad = torch.randn(3, 2, 4, generator=rng, dtype=torch.float64)
        adam.step(theirs.grad)
        optimiser.step()
    torch.testing.assert_close(own, theirs, rtol=1e-12, atol=1e-14)


def test_a_head_says_what_it_scores() -> None:
    class Silent(Head):
        """Forgets it."""

    with pytest.raises(TypeError, match="scores"):
        Silent(None, nn.Identity())  # type: ignore[abstract]
