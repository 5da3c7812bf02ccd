"""Analogies between the clusters of base classes, and a network that completes them (Hariharan and Girshick 2017, §4).

What takes one cluster of a class to another may take an example of a novel class to another example of it. Pairs of
clusters that differ alike in two classes are mined as A : B :: C : D; a generator learns to say B from A, C and D.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

_EPS = 1e-5  # added to the length of a difference, so that equal centroids have none
_AT_ONCE = 2**22  # cosines in memory at once: 16 MB, which stays in the processor's cache
Chooser = Callable[[int, int], Tensor]
"""(n, m) → (m,) int64 in [0, n), drawn uniformly with replacement."""


class Analogies(NamedTuple):
    """Mined quadruples A : B :: C : D.

    Attributes:
        quadruples: (m, 4) int64 columns A, B, C, D: class · k + cluster.
        scores: (m,) cosine of A - B with C - D, in (0, 1].
    """

    quadruples: Tensor
    scores: Tensor


def directions(centroids: Tensor) -> Tensor:
    """Normalised differences of every ordered pair of centroids.

    Args:
        centroids: (..., k, D).

    Returns:
        (..., k², D): row I·k + J holds c_I - c_J, divided by its length plus 1e-5.
    """
    difference = centroids.unsqueeze(-2) - centroids.unsqueeze(-3)  # (..., k, k, D)
    return (difference / (difference.norm(dim=-1, keepdim=True) + _EPS)).flatten(-3, -2)


def mine_analogies(centroids: Tensor, tell: Callable[[int], None] = lambda n_classes: None) -> Analogies:
    """Find for every ordered pair of clusters of a class the most parallel pair of all other classes.

    Kept are those with a positive cosine and two different clusters on both sides. Of equally parallel pairs the first
    counts, by class and then by pair. Opposite pairs (I, J) and (J, I) have opposite cosines, so half of the rows are
    multiplied, and the largest and the smallest product of a row serve both. Classes are taken one by one against
    all others; memory does not grow with their number.

    Args:
        centroids: (C, k, D) float.
        tell: told when each class is done.
    """
    n_classes, k = centroids.shape[:2]
    pairs = torch.triu_indices(k, k, 1, device=centroids.device)  # (2, h): I < J
    forward, backward = pairs[0] * k + pairs[1], pairs[1] * k + pairs[0]  # (h,) rows of I:J and J:I
    columns = torch.tensor([i * k + j for i in range(k) for j in range(k) if i != j], device=centroids.device)
    found = []
    for i in range(n_classes):
        own = directions(centroids[i])[forward]  # (h, D)
        best = _Best.start(len(own), own)
        for j in (*range(i), *range(i + 1, n_classes)):
            best.compare(own, directions(centroids[j])[columns], j * k * k)
        found.append(best.quadruples(i * k, forward, backward, columns, k))
        tell(1)
    return Analogies(*(torch.cat(parts) for parts in zip(*found, strict=True)))


class _Best(NamedTuple):
    """The largest cosines so far of the pairs I:J (first half) and J:I, and where they are: (2, h) each."""

    score: Tensor
    where: Tensor

    @classmethod
    def start(cls, n: int, like: Tensor) -> _Best:
        return cls(like.new_zeros(2, n), torch.full((2, n), -1, device=like.device))

    def compare(self, own: Tensor, other: Tensor, offset: int) -> None:
        """Take up (h, D) · (c, D)ᵀ, whose columns are found again as offset + column; changes itself in place."""
        step = max(1, _AT_ONCE // len(other))
        for low in range(0, len(own), step):
            here = slice(low, low + step)
            cosines = own[here] @ other.T  # (s, c)
            lowest, highest = cosines.aminmax(dim=1)
            for side, value in enumerate((highest, -lowest)):
                better = torch.nonzero(value > self.score[side, here]).flatten()
                if len(better):
                    rows = cosines[better] if side == 0 else -cosines[better]
                    self.where[side, low + better] = offset + rows.argmax(1)
                    self.score[side, low + better] = value[better]

    def quadruples(
        self, first: int, forward: Tensor, backward: Tensor, columns: Tensor, k: int
    ) -> tuple[Tensor, Tensor]:
        """Those that were found, in the order of the pairs: (m, 4) ids and (m,) scores."""
        row = torch.cat([forward, backward])  # (2h,)
        order = row.argsort()
        row, score, where = row[order], self.score.flatten()[order], self.where.flatten()[order]
        kept = where >= 0
        row, score, where = row[kept], score[kept], where[kept]
        other, pair = where // (k * k), columns[where % (k * k)]
        ids = [first + row // k, first + row % k, other * k + pair // k, other * k + pair % k]
        return torch.stack(ids, 1), score


class AnalogyGenerator(nn.Module):
    """Three layers of ReLU from (A, C, D) to B; outputs are non-negative, like pooled features.

    Args:
        dim: D of a feature.
        hidden: width of the first two layers.
    """

    def __init__(self, dim: int, hidden: int = 512) -> None:
        super().__init__()
        self.fc1 = nn.Linear(3 * dim, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.fc3 = nn.Linear(hidden, dim)

    def forward(self, a: Tensor, c: Tensor, d: Tensor) -> Tensor:
        """(n, D) each → (n, D)."""
        hidden = self.fc2(self.fc1(torch.cat([a, c, d], 1)).relu()).relu()
        out: Tensor = self.fc3(hidden).relu()
        return out


class GeneratorLoss(NamedTuple):
    """() each: of ``total`` = ``cross_entropy`` + weight · ``squared_error``, the mean over rows and dimensions."""

    total: Tensor
    cross_entropy: Tensor
    squared_error: Tensor


def generator_loss(
    out: Tensor, target: Tensor, labels: Tensor, classify: Callable[[Tensor], Tensor], weight: float = 10.0
) -> GeneratorLoss:
    """The two losses of a generator.

    Args:
        out, target: (n, D) what it said, and B.
        labels: (n,) int64 class of B.
        classify: (n, D) → (n, K) scores of a frozen classifier of the base classes.
        weight: of the squared error (published: 10).
    """
    cross_entropy = functional.cross_entropy(classify(out), labels)
    squared_error = functional.mse_loss(out, target)
    return GeneratorLoss(cross_entropy + weight * squared_error, cross_entropy, squared_error)


class GeneratorRecipe(NamedTuple):
    """How a generator is trained; the defaults are the published ones.

    Attributes:
        lr: first step size of SGD, > 0 (1 for representations trained with SGM).
        n_steps: ≥ 0.
        decay_every: steps until it is divided by 10, ≥ 1.
        batch_size: quadruples in a step; the last of a pass may have fewer.
        weight: of the squared error.
        momentum, dampening: of SGD; with both at 0.9 a step is lr long, not ten times as long.
        weight_decay: L2 of all weights.
    """

    lr: float = 0.1
    n_steps: int = 120_000
    decay_every: int = 40_000
    batch_size: int = 128
    weight: float = 10.0
    momentum: float = 0.9
    dampening: float = 0.9
    weight_decay: float = 1e-4


class GeneratorTraining:
    """Trains a generator in place on quadruples, again and again in the order given; can be saved and go on.

    Args:
        generator: with fresh weights.
        centroids: (C, k, D) float.
        labels: (C,) int64 label of each class for ``classify``.
        quadruples: (m, 4) as of ``mine_analogies``, in the order in which they are seen; m ≥ 1.
        classify: scores of the frozen classifier.
        recipe: step sizes.

    Attributes:
        n_done: steps so far.
    """

    def __init__(
        self, generator: AnalogyGenerator, centroids: Tensor, labels: Tensor, quadruples: Tensor,
        classify: Callable[[Tensor], Tensor], recipe: GeneratorRecipe,
    ) -> None:  # fmt: skip
        self._generator, self._labels, self._classify, self._recipe = generator, labels, classify, recipe
        self._k, self._points = centroids.shape[1], centroids.flatten(0, 1)  # (C·k, D)
        self._batches = quadruples.split(recipe.batch_size)
        r = recipe
        self._optimiser = torch.optim.SGD(
            generator.parameters(), r.lr, r.momentum, r.dampening, r.weight_decay
        )
        self._schedule = torch.optim.lr_scheduler.StepLR(self._optimiser, r.decay_every, 0.1)
        self.n_done = 0

    @torch.enable_grad()
    def run(self, n_steps: int | None = None) -> None:
        """Take so many steps, or all that are left, whichever is less."""
        left = self._recipe.n_steps - self.n_done
        for _ in range(left if n_steps is None else min(left, n_steps)):
            a, b, c, d = self._batches[self.n_done % len(self._batches)].unbind(1)
            out = self._generator(self._points[a], self._points[c], self._points[d])
            target, labels = self._points[b], self._labels[b // self._k]
            loss = generator_loss(out, target, labels, self._classify, self._recipe.weight)
            self._optimiser.zero_grad(set_to_none=True)
            loss.total.backward()
            self._optimiser.step()
            self._schedule.step()
            self.n_done += 1

    def state_dict(self) -> dict[str, Any]:
        """Return the state, without the generator's weights."""
        parts = {"optimiser": self._optimiser.state_dict(), "schedule": self._schedule.state_dict()}
        return {**parts, "n_done": self.n_done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state."""
        self._optimiser.load_state_dict(state["optimiser"])
        self._schedule.load_state_dict(state["schedule"])
        self.n_done = state["n_done"]


class Fillings(NamedTuple):
    """What is to be generated, (m,) int64 each: a row to start from, a base class, and two of its clusters."""

    seed: Tensor
    base: Tensor
    c: Tensor
    d: Tensor


def draw_fillings(labels: Tensor, max_per_label: int, n_base: int, k: int, choose: Chooser) -> Fillings:
    """Draw what fills every label up to ``max_per_label`` rows; nothing where it has as many.

    Args:
        labels: (n,) int64 of the real rows.
        max_per_label: ≥ 0.
        n_base: base classes.
        k: clusters of each.
        choose: draws; asked for rows, class, first and second cluster of each label in ascending order.
    """
    drawn = []
    for label in labels.unique().tolist():
        rows = torch.nonzero(labels == label).flatten()
        n = max_per_label - len(rows)
        if n > 0:
            drawn.append((rows[choose(len(rows), n)], choose(n_base, n), choose(k, n), choose(k, n)))
    parts = zip(*drawn, strict=True) if drawn else (((labels.new_zeros(0),),) * 4)
    return Fillings(*(torch.cat(list(part)) for part in parts))


@torch.no_grad()
def fill(
    x: Tensor, labels: Tensor, fillings: Fillings, generator: AnalogyGenerator, centroids: Tensor
) -> tuple[Tensor, Tensor]:
    """Append generated rows to real ones, a thousand at a time.

    Args:
        x: (n, D) real rows.
        labels: (n,) int64.
        fillings: m of them.
        generator: trained.
        centroids: (C, k, D).

    Returns:
        (n + m, D) rows, the real ones first, and (n + m,) labels; a generated row has the label of its seed.
    """
    made = []
    for seed, base, c, d in zip(*(part.split(1000) for part in fillings), strict=True):
        made.append(generator(x[seed], centroids[base, c], centroids[base, d]))
    return torch.cat([x, *made]), torch.cat([labels, labels[fillings.seed]])


class Quality(NamedTuple):
    """What a generator does with quadruples, and whether it is of use.

    Attributes:
        squared_error: of what it says, mean over rows and dimensions.
        of_copying: of A itself in its place.
        recognised: share that the frozen classifier takes for the class of B.
        is_zero: share of outputs whose numbers are all zero.
    """

    squared_error: float
    of_copying: float
    recognised: float
    is_zero: float

    @property
    def is_dead(self) -> bool:
        """Whether it says nothing: most outputs are zero, which its last ReLU never leaves again."""
        return self.is_zero > 0.5

    @property
    def beats_copying(self) -> bool:
        """Whether it is nearer to B than A is."""
        return self.squared_error < self.of_copying


@torch.no_grad()
def generator_quality(
    generator: AnalogyGenerator,
    centroids: Tensor,
    labels: Tensor,
    quadruples: Tensor,
    classify: Callable[[Tensor], Tensor],
) -> Quality:
    """Measure a generator on quadruples; arguments as of ``GeneratorTraining``."""
    k, points = centroids.shape[1], centroids.flatten(0, 1)
    sums = torch.zeros(4, dtype=torch.float64, device=points.device)
    for a, b, c, d in (part.unbind(1) for part in quadruples.split(1000)):
        out, target = generator(points[a], points[c], points[d]), points[b]
        sums += torch.stack([
            (out - target).square().mean(1).sum(), (points[a] - target).square().mean(1).sum(),
            (classify(out).argmax(1) == labels[b // k]).sum(), (out == 0).all(1).sum(),
        ]).double()  # fmt: skip
    return Quality(*(sums / len(quadruples)).tolist())
