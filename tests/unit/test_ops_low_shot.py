"""Low-shot numerics against slow loops written from the formulas, at other sizes than the golden vectors."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.ops.analogies import (
    AnalogyGenerator,
    GeneratorRecipe,
    GeneratorTraining,
    draw_fillings,
    fill,
    generator_quality,
    mine_analogies,
)
from harness.ops.attention import ContextEncoder, attention_scores, row_normalised
from harness.ops.auxiliary_losses import AUXILIARY_LOSSES, auxiliary_loss
from harness.ops.kmeans import kmeans, unit_directions
from harness.ops.softmax_regression import Sgd, batch_parts, draw_distinct, draw_linear, fit_softmax


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=rng(seed), dtype=dtype)


def slow_kmeans(x: np.ndarray, start: np.ndarray, n: int, rows: list[int]) -> np.ndarray:
    c, ever, rows = start.copy(), set(), list(rows)
    for _ in range(n):
        owner = [min(range(len(c)), key=lambda j: (((row - c[j]) ** 2).sum(), j)) for row in x]
        for j in set(owner):
            c[j] = np.mean([row for row, o in zip(x, owner, strict=True) if o == j], axis=0)
        ever |= set(owner)
        for j in range(len(c)):
            if j not in ever:
                c[j] = x[rows.pop(0)]
    return c


@pytest.mark.parametrize("seed", range(4))
def test_kmeans_equals_a_loop(seed: int) -> None:
    x, start = normal(23, 3, seed=seed).abs() * 4, unit_directions(7, 3, rng(seed))
    drawn: list[int] = []

    def draw(n: int) -> int:
        drawn.append(int(torch.randint(n, (), generator=rng(100 * seed + len(drawn)))))
        return drawn[-1]

    found = kmeans(x, start, 5, draw)
    assert drawn, "no centroid was put anew: the test shows too little"
    np.testing.assert_allclose(found, slow_kmeans(x.numpy(), start.numpy(), 5, drawn), rtol=1e-12)
    np.testing.assert_allclose(start.norm(dim=1), 1)


def slow_analogies(c: Tensor) -> dict[tuple[int, int], tuple[float, int, int]]:
    """(A, B) → score, C, D, by the definition, over all quadruples in order."""

    def direction(i: int, a: int, b: int) -> Tensor:
        d = c[i, a] - c[i, b]
        return d / (d.norm() + 1e-5)

    k, found = c.shape[1], {}
    for i, (a, b) in itertools.product(range(len(c)), itertools.product(range(k), repeat=2)):
        best = (0.0, -1, -1)
        for j in range(len(c)):
            for e, f in itertools.product(range(k), repeat=2):
                score = float(direction(i, a, b) @ direction(j, e, f))
                if j != i and score > best[0]:
                    best = (score, j * k + e, j * k + f)
        if best[0] > 0 and a != b and best[1] != best[2]:
            found[i * k + a, i * k + b] = best
    return found


@pytest.mark.parametrize(("n_classes", "k", "dim"), [(2, 2, 3), (4, 3, 2), (3, 5, 7)])
def test_analogies_equal_a_loop(n_classes: int, k: int, dim: int) -> None:
    c = normal(n_classes, k, dim)
    found, slow = mine_analogies(c), slow_analogies(c)
    assert found.quadruples[:, :2].tolist() == [list(pair) for pair in slow]
    assert found.quadruples[:, 2:].tolist() == [[e, f] for _, e, f in slow.values()]
    np.testing.assert_allclose(found.scores, [score for score, _, _ in slow.values()], rtol=1e-12)
    assert ((found.scores > 0) & (found.scores <= 1)).all()
    assert (found.quadruples[:, 0] // k != found.quadruples[:, 2] // k).all()


def test_of_equally_parallel_pairs_the_first_counts() -> None:
    """Small whole numbers, so that products of equal pairs are equal to the last bit; two centroids are one point."""
    c = torch.tensor(
        [[[0.0, 0], [1, 0], [0, 0]], [[2, 0], [3, 0], [3, 0]], [[5, 5], [6, 5], [5, 5]]], dtype=torch.float64
    )
    found, slow = mine_analogies(c), slow_analogies(c)
    assert found.quadruples.tolist() == [[a, b, e, f] for (a, b), (_, e, f) in slow.items()]


def steps_by_hand(generator: AnalogyGenerator, c: Tensor, labels: Tensor, quadruples: Tensor, w: Tensor,
                  recipe: GeneratorRecipe) -> None:  # fmt: skip
    points, k = c.flatten(0, 1), c.shape[1]
    velocity: dict[str, Tensor] = {}
    start = 0
    for step in range(recipe.n_steps):
        part = quadruples[start : start + recipe.batch_size]
        start = 0 if start + recipe.batch_size >= len(quadruples) else start + recipe.batch_size
        out = generator(points[part[:, 0]], points[part[:, 2]], points[part[:, 3]])
        error = ((out - points[part[:, 1]]) ** 2).mean()
        loss = functional.cross_entropy(out @ w.T, labels[part[:, 1] // k]) + recipe.weight * error
        grads = torch.autograd.grad(loss, list(generator.parameters()))
        lr = recipe.lr * 0.1 ** (step // recipe.decay_every)
        with torch.no_grad():
            for (name, p), g in zip(generator.named_parameters(), grads, strict=True):
                g = g + recipe.weight_decay * p
                old = velocity.get(name)
                velocity[name] = g if old is None else recipe.momentum * old + (1 - recipe.dampening) * g
                p -= lr * velocity[name]


def a_generator(dim: int = 4) -> tuple[AnalogyGenerator, Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    generator = AnalogyGenerator(dim, 11).double()
    c = (
        normal(1, 3, dim) + normal(5, 1, dim, seed=1) + 0.1 * normal(5, 3, dim, seed=2)
    ).abs()  # alike in every class
    return generator, c, torch.arange(5), mine_analogies(c).quadruples, normal(5, dim, seed=3)


def test_training_of_a_generator_equals_steps_by_hand() -> None:
    (fast, c, labels, quadruples, w), (slow, *_) = a_generator(), a_generator()
    recipe = GeneratorRecipe(0.05, 13, 4, 7, 3.0, 0.8, 0.5, 1e-2)
    GeneratorTraining(fast, c, labels, quadruples, lambda x: x @ w.T, recipe).run()
    steps_by_hand(slow, c, labels, quadruples, w, recipe)
    for p, q in zip(fast.parameters(), slow.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-12)


def test_a_generator_improves_on_analogies_it_has_not_seen() -> None:
    generator, c, labels, quadruples, w = a_generator()
    mixed = quadruples[torch.randperm(len(quadruples), generator=rng())]
    seen, held_out = mixed[:-8], mixed[-8:]
    before = generator_quality(generator, c, labels, held_out, lambda x: x @ w.T)
    GeneratorTraining(generator, c, labels, seen, lambda x: x @ w.T, GeneratorRecipe(0.1, 600, 400)).run()
    after = generator_quality(generator, c, labels, held_out, lambda x: x @ w.T)
    assert after.squared_error < 0.5 * before.squared_error
    assert after.of_copying == before.of_copying and not after.is_dead


def test_a_dead_generator_is_seen() -> None:
    generator, c, labels, quadruples, w = a_generator()
    nn.init.constant_(generator.fc3.bias, -1e3)
    found = generator_quality(generator, c, labels, quadruples, lambda x: x @ w.T)
    assert (
        found.is_dead
        and found.is_zero == 1
        and found.squared_error == pytest.approx(float((c.flatten(0, 1)[quadruples[:, 1]] ** 2).mean()))
    )


@pytest.mark.parametrize("most", [0, 1, 3, 5])
def test_labels_are_filled_up_and_no_further(most: int) -> None:
    generator, c, *_ = a_generator()
    labels = torch.tensor([7, 2, 7, 9, 2, 2])
    x = normal(6, 4, seed=5).abs()
    drawn = draw_fillings(labels, most, 5, 3, lambda n, m: torch.randint(n, (m,), generator=rng(n + m)))
    more, y = fill(x, labels, drawn, generator, c)
    counts = {label: max(most, n) for label, n in {7: 2, 2: 3, 9: 1}.items()}
    assert {label: int((y == label).sum()) for label in counts} == counts
    torch.testing.assert_close(more[:6], x, rtol=0, atol=0)
    assert (labels[drawn.seed] == y[6:]).all() and (more[6:] >= 0).all()
    for row, (s, b, e, f) in zip(more[6:], zip(*drawn, strict=True), strict=True):
        torch.testing.assert_close(row, generator(x[s][None], c[b, e][None], c[b, f][None])[0])


@pytest.mark.parametrize(
    ("n_base", "n_novel", "size"), [(1, 1, 5), (1, 1, 7), (47, 74, 200), (193, 300, 1000)]
)
def test_parts_follow_the_numbers_of_classes(n_base: int, n_novel: int, size: int) -> None:
    parts = batch_parts(n_base, n_novel, size)
    assert sum(parts) == size and abs(parts.base - size * n_base / (n_base + n_novel)) <= 0.5
    assert parts.base == int(np.round(size * n_base / (n_base + n_novel)))  # halves to even


@pytest.mark.parametrize(("n", "size"), [(7, 3), (9, 9), (5, 1), (40, 6), (30, 12)])
def test_distinct_numbers_are_uniform(n: int, size: int) -> None:
    drawn = draw_distinct(n, size, 20_000, rng())
    assert drawn.shape == (20_000, size) and drawn.min() >= 0 and drawn.max() < n
    assert (drawn.diff(dim=1) > 0).all()
    count = drawn.flatten().bincount(minlength=n).double()
    p = size / n
    assert ((count - 20_000 * p).abs() <= 5 * (20_000 * p * (1 - p)) ** 0.5).all()  # five sigma, n numbers
    if 2 <= size < n:  # pairs are as they should be, too
        both = ((drawn == 0).any(1) & (drawn == 1).any(1)).double().mean()
        expected = size * (size - 1) / (n * (n - 1))
        assert abs(float(both) - expected) < 5 * (expected * (1 - expected) / 20_000) ** 0.5


def test_too_few_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="4 different numbers were asked of 3"):
        draw_distinct(3, 4, 1, rng())


def test_several_classifiers_are_fitted_as_torch_does_one() -> None:
    sgd, (e, n, k, d) = Sgd(0.3, 0.02, 0.8, 0.6), (3, 6, 5, 4)
    x, y = normal(9, e, n, d), torch.randint(k, (9, e, n), generator=rng(2))
    start = draw_linear(k, d, [rng(i) for i in range(e)])
    start = type(start)(*(part.double() for part in start))
    found = fit_softmax(start, zip(x, y, strict=True), sgd)
    for i in range(e):
        layer = nn.Linear(d, k).double()
        layer.load_state_dict({"weight": start.weight[i], "bias": start.bias[i]})
        optimiser = torch.optim.SGD(
            layer.parameters(), *(sgd.lr, sgd.momentum, sgd.dampening, sgd.weight_decay)
        )
        for xs, ys in zip(x[:, i], y[:, i], strict=True):
            optimiser.zero_grad()
            functional.cross_entropy(layer(xs), ys).backward()
            optimiser.step()
        torch.testing.assert_close(found.weight[i], layer.weight.data, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(found.bias[i], layer.bias.data, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(found.scores(x[0])[i], layer(x[0, i]).data)
    alone = fit_softmax(
        type(start)(start.weight[1:2], start.bias[1:2]), zip(x[:, 1:2], y[:, 1:2], strict=True), sgd
    )
    torch.testing.assert_close(alone.weight[0], found.weight[1], rtol=1e-12, atol=1e-14)


def test_attention_equals_a_loop_and_labels_without_support_have_none() -> None:
    torch.manual_seed(0)
    encoder, n_way = ContextEncoder(3).double(), 4
    s, q, y = normal(2, 5, 3), normal(2, 6, 3, seed=1), torch.tensor([[0, 0, 1, 3, 3], [2, 1, 1, 0, 2]])
    context = encoder.support(s)
    for e in range(2):
        forward, _ = encoder.support_lstm(s[e])
        torch.testing.assert_close(context[e], s[e] + forward[:, :3] + forward[:, 3:])
    h = encoder.query(q, context, 2)
    scores = attention_scores(h, row_normalised(context), y, n_way)
    for e, i in itertools.product(range(2), range(6)):
        state, cell = q[e, i], torch.zeros(3).double()
        for _ in range(2):
            r = (state @ context[e].T).softmax(0) @ context[e]
            state, cell = encoder.query_cell(torch.cat([q[e, i], r]), (state, cell))
            state = state + q[e, i]
        torch.testing.assert_close(h[e, i], state)
        p = torch.stack([state @ g / (g.norm() + 1e-5) for g in context[e]]).softmax(0)
        mass = torch.stack([p[y[e] == label].sum() for label in range(n_way)])
        torch.testing.assert_close(scores[e, i].exp(), mass)
    assert (scores[0, :, 2] == -torch.inf).all() and (scores[1, :, 3] == -torch.inf).all()


def test_attention_far_below_the_highest_is_still_a_number() -> None:
    """A soft-max in float32 would have underflowed to nothing, whose logarithm is not finite."""
    support = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]])
    query = torch.tensor([[[200.0, 0.0]]], requires_grad=True)
    scores = attention_scores(query, support, torch.tensor([[0, 1]]), 3)
    assert scores[0, 0].tolist() == pytest.approx([0.0, -400.0, -np.inf])
    (gradient,) = torch.autograd.grad(functional.nll_loss(scores[0], torch.tensor([1])), query)
    assert gradient[0, 0].tolist() == pytest.approx([2.0, 0.0])


def test_a_further_loss_is_registered_by_name() -> None:
    def twice(scores: Tensor, features: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
        return 2 * features.sum()

    try:
        auxiliary_loss("twice")(twice)
        assert AUXILIARY_LOSSES["twice"] is twice
        with pytest.raises(ValueError, match="two auxiliary losses are called twice"):
            auxiliary_loss("twice")(lambda s, f, w, y: s.sum())
    finally:
        AUXILIARY_LOSSES.pop("twice", None)


@pytest.mark.parametrize("name", ["sgm", "batchsgm", "l2"])
def test_auxiliary_losses_are_what_autograd_says(name: str) -> None:
    """SGM is the mean squared norm of the classifier's gradient at one example, batch SGM of that of the batch."""
    x, w, y = normal(9, 4).abs(), normal(6, 4, seed=1).requires_grad_(), torch.arange(9) % 6

    def gradient(rows: slice) -> Tensor:
        return torch.autograd.grad(functional.cross_entropy(x[rows] @ w.T, y[rows]), w)[0]

    expected = {
        "sgm": lambda: torch.stack([gradient(slice(i, i + 1)).square().sum() for i in range(9)]).mean(),
        "batchsgm": lambda: gradient(slice(None)).square().sum(),
        "l2": lambda: x.square().sum() / 18,
    }[name]()
    torch.testing.assert_close(AUXILIARY_LOSSES[name](x @ w.T, x, w, y).detach(), expected)
