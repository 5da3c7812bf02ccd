"""How examples of a novel class are made up; a strategy is two functions, registered by name.

::

    @strategy("noise")
    class Noise(nn.Module):
        def learn(self, x, y, classify, config, ctx): ...
        def generate(self, x, y, max_per_label, rng): ...
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from harness.api import Later
from harness.ops.analogies import (
    AnalogyGenerator,
    Fillings,
    GeneratorRecipe,
    GeneratorTraining,
    draw_fillings,
    fill,
    generator_quality,
    mine_analogies,
)
from harness.ops.kmeans import kmeans, unit_directions

_ITERATIONS = 20  # of k-means
_STEPS_AN_EPOCH = 1000
_HELD_OUT, _MOST_HELD_OUT = 0.05, 2000  # of the analogies, on which a generator is judged


class Strategy(Protocol):
    """Makes up examples; a module, whose tensors are kept with the fit."""

    def learn(
        self, x: Tensor, y: Tensor, classify: Callable[[Tensor], Tensor], config: Any, ctx: Any
    ) -> None:
        """Learn from base classes.

        Args:
            x: (N, D) float32 features of all base images, maybe memory-mapped.
            y: (N,) int64 base classes, ascending.
            classify: (n, D) → (n, n_base) scores of a frozen classifier of them.
            config: of the method.
            ctx: the ``FitContext``.
        """

    def generate(
        self, x: Tensor, y: Tensor, max_per_label: int, rng: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Fill every label up: (n, D) and (n,) of the real examples → the same, with those made up behind them."""


STRATEGIES: dict[str, Callable[[], Any]] = {}
Made = TypeVar("Made", bound=Callable[[], Any])


def strategy(name: str) -> Callable[[Made], Made]:
    """Register a strategy under a name; it is made without arguments.

    Raises:
        ValueError: when another one has it.
    """

    def register(make: Made) -> Made:
        if STRATEGIES.setdefault(name, make) is not make:
            raise ValueError(f"two strategies are called {name}")
        return make

    return register


@strategy("analogies")
class Analogies(nn.Module):
    """The paper's: a network that completes analogies between clusters of base classes."""

    centroids: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centroids", torch.zeros(0))  # of (n_base, k, D)
        self.generator = Later(AnalogyGenerator, "fc3.bias")

    def learn(
        self, x: Tensor, y: Tensor, classify: Callable[[Tensor], Tensor], config: Any, ctx: Any
    ) -> None:
        """Cluster each base class, mine analogies between classes, train the network on them.

        Raises:
            ValueError: when there are no analogies, or the network has died.
        """
        rng = torch.Generator().manual_seed(ctx.seed)  # not ctx.rng: an interrupted training comes here again
        self.centroids = class_clusters(x, y, config.clusters, rng).to(ctx.device, torch.float32)
        quadruples = mine_analogies(self.centroids).quadruples
        if len(quadruples) < 2:
            raise ValueError(
                f"{len(self.centroids)} base classes of {config.clusters} clusters have no analogies"
            )
        quadruples = quadruples[torch.randperm(len(quadruples), generator=rng).to(quadruples.device)]
        n_held_out = max(1, min(int(_HELD_OUT * len(quadruples)), _MOST_HELD_OUT))
        held_out, seen = quadruples[:n_held_out], quadruples[n_held_out:]
        labels = torch.arange(len(self.centroids), device=ctx.device)
        generator = self.generator.of(x.shape[1]).to(ctx.device)
        recipe = GeneratorRecipe(
            config.generator_lr, config.generator_steps, max(1, config.generator_steps // 3),
            weight=config.squared_error_weight,
        )  # fmt: skip
        training = GeneratorTraining(generator, self.centroids, labels, seen, classify, recipe)
        for _ in ctx.epochs(-(-recipe.n_steps // _STEPS_AN_EPOCH), model=self, training=training):
            training.run(_STEPS_AN_EPOCH)
            found = generator_quality(generator, self.centroids, labels, held_out, classify)
            ctx.log(training.n_done, **found._asdict())
        found = generator_quality(generator, self.centroids, labels, held_out, classify)
        if found.is_dead:
            raise ValueError(
                f"the generator has died: {100 * found.is_zero:.0f}% of what it says of analogies that it has not seen is "
                "zero. Its steps were too large for these features: set generator_lr to a tenth."
            )
        if not found.beats_copying:
            ctx.warn(
                f"The generator's squared error on analogies that it has not seen is {found.squared_error:.3g}, that of "
                f"copying {found.of_copying:.3g}: what it makes up is further off than the real examples."
            )

    def generate(
        self, x: Tensor, y: Tensor, max_per_label: int, rng: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Take real examples along differences between clusters of a base class, both drawn."""
        return fill(x, y, self._drawn(y, max_per_label, rng), self.generator.made, self.centroids)

    def official_tensors(self, content: Any, clusters: int) -> dict[str, Tensor]:
        """What the authors' ``generator.tar`` holds: the network's tensors, and ``centroids`` (n_base, k, D).

        Beside the network's state lie the centroids of all base classes, one class after the other; room is made for both.

        Raises:
            ValueError: when they are not there, or have not so many clusters for each class.
        """
        parts = list(content.values()) if isinstance(content, Mapping) else []
        states = [part for part in parts if isinstance(part, Mapping) and _has_generator(part)]
        points = [part for part in parts if isinstance(part, Tensor) and part.ndim == 2]
        if len(states) != 1 or len(points) != 1:
            raise ValueError(
                "a generator.tar holds a table of tensors fc1.weight to fc3.bias and, beside it, one tensor of the centroids "
                "of all base classes, (classes · clusters, numbers)"
            )
        n, dim = points[0].shape
        if n % clusters:
            raise ValueError(
                f"its {n:,} centroids are not {clusters} for each base class. Give their number, like --set clusters=100"
            )
        self.centroids = self.centroids.new_empty(n // clusters, clusters, dim)
        self.generator.of(dim)
        return {**states[0], "centroids": points[0].unflatten(0, (-1, clusters))}

    def official_names(self) -> dict[str, tuple[str, ...]]:
        """Own state key → name in the authors' file."""
        return {key: (key.removeprefix("generator.made."),) for key in self.state_dict()}

    def check_features(self, n_base: int, dim: int) -> None:
        """Refuse centroids of other features.

        Raises:
            ValueError: saying of which, and what is here.
        """
        own_base, k, own_dim = self.centroids.shape
        if (own_base, own_dim) != (n_base, dim):
            raise ValueError(
                f"it was made for {own_base} base classes of {k} clusters and features of {own_dim} numbers; here are {n_base} "
                f"base classes and features of {dim} numbers. Features and generator must be of one network"
            )

    def _drawn(self, y: Tensor, max_per_label: int, rng: torch.Generator) -> Fillings:
        """What to start from, and between which clusters to go."""

        def choose(n: int, m: int) -> Tensor:
            return torch.randint(n, (m,), generator=rng).to(y.device)

        n_base, k = self.centroids.shape[:2]
        return draw_fillings(y, max_per_label, n_base, k, choose)

    def _load_from_state_dict(self, state: Any, prefix: str, *rest: Any) -> None:
        """Take the centroids at the size that they were kept with."""
        if (kept := state.get(f"{prefix}centroids")) is not None:
            self.centroids = torch.empty_like(kept)
        super()._load_from_state_dict(state, prefix, *rest)


@strategy("differences")
class Differences(Analogies):
    """Without a network: what is between the clusters is added as it is, and what falls below zero is cut off."""

    def learn(
        self, x: Tensor, y: Tensor, classify: Callable[[Tensor], Tensor], config: Any, ctx: Any
    ) -> None:
        """Cluster each base class."""
        rng = torch.Generator().manual_seed(ctx.seed)
        self.centroids = class_clusters(x, y, config.clusters, rng).to(ctx.device, torch.float32)

    def generate(
        self, x: Tensor, y: Tensor, max_per_label: int, rng: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Add C - D to real examples."""
        seed, base, c, d = self._drawn(y, max_per_label, rng)
        made = (x[seed] + self.centroids[base, c] - self.centroids[base, d]).relu()
        return torch.cat([x, made]), torch.cat([y, y[seed]])


def class_clusters(x: Tensor, y: Tensor, k: int, rng: torch.Generator) -> Tensor:
    """Cluster the features of each class, one class in memory at a time: (C, k, D) float64."""
    counts = y.bincount().tolist()
    return torch.stack([
        kmeans(part, unit_directions(k, x.shape[1], rng), _ITERATIONS, _row_drawer(rng)) for part in x.split(counts)
    ])  # fmt: skip


def _has_generator(state: Mapping[Any, Any]) -> bool:
    return any(str(name).endswith("fc1.weight") for name in state)


def _row_drawer(rng: torch.Generator) -> Callable[[int], int]:
    return lambda n: int(torch.randint(n, (), generator=rng))
