"""A linear classifier over base and novel classes on frozen features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from harness.api import Backbone, BaseSet, FitContext, Later, Support
from harness.ops.softmax_regression import Linear, Sgd, batch_parts, draw_distinct, draw_linear, fit_softmax
from methods.lowshot.classifier import fit_classifier
from methods.lowshot.generation import STRATEGIES
from methods.lowshot.recipe import HALLUCINATION, LOGISTIC, PAPER, HallucinationConfig, LogisticConfig, Table

_DRAWN_AT_ONCE = 100  # batches whose rows are drawn together


class LowshotLogistic(nn.Module):
    """Soft-max regression by SGD, every class as frequent in a batch as any other on average."""

    config: Any  # its own Config
    Config: ClassVar[type[Any]] = LogisticConfig
    name: ClassVar[str] = "lowshot-logistic"
    version: ClassVar[str] = "1"
    takes: ClassVar[str] = "vectors"
    reference: ClassVar[str] = PAPER
    protocols: ClassVar[set[str]] = {"joint"}
    CONTRACT: ClassVar[dict[str, Any]] = {
        "features": "representation(aux=none)", "batch_size": 64, "n_steps": 300,
    }  # fmt: skip
    DEFAULTS: ClassVar[Table] = LOGISTIC

    def __init__(self, config: LogisticConfig, backbone: Backbone) -> None:
        super().__init__()
        self.config = config

    def fit_base(self, base: BaseSet, ctx: FitContext) -> None:
        """Learn nothing: all is learnt with the novel examples."""

    def adapt(self, support: Support) -> Linear:
        """Train the classifier of one experiment."""
        return self.adapt_many([support])[0]

    def adapt_many(self, supports: Sequence[Support]) -> list[Linear]:
        """Train those of several at once: each (1, n_way, D)."""
        c, first = self.config, supports[0]
        start = draw_linear(first.n_way, first.x.shape[1], [support.rng for support in supports])
        start = Linear(*(part.to(first.x) for part in start))
        fitted = fit_softmax(start, batches(supports, c.batch_size, c.n_steps), Sgd(c.lr, c.weight_decay))
        return [Linear(*(part[i : i + 1] for part in fitted)) for i in range(len(supports))]

    def predict(self, state: Linear, query: Tensor) -> Tensor:
        """Scores of all labels, those without examples among them: (n_query, n_way)."""
        return state.scores(query[None])[0]


class LowshotHallucination(LowshotLogistic):
    """The same with novel classes filled up by examples made up from the few real ones."""

    Config: ClassVar[type[Any]] = HallucinationConfig
    name: ClassVar[str] = "lowshot-hallucination"
    official_extras: ClassVar[tuple[str, ...]] = ()
    official_own: ClassVar[tuple[str, ...]] = ("fc1.weight", "fc2.weight", "fc3.weight")  # of generator.tar
    CONTRACT: ClassVar[dict[str, Any]] = {
        **LowshotLogistic.CONTRACT, "clusters": 4, "generator_lr": 0.01, "generator_steps": 300, "classifier_steps": 50,
    }  # fmt: skip
    DEFAULTS: ClassVar[Table] = HALLUCINATION

    def __init__(self, config: HallucinationConfig, backbone: Backbone) -> None:
        super().__init__(config, backbone)
        self.strategy = STRATEGIES[config.strategy]()

    def fit_base(self, base: BaseSet, ctx: FitContext) -> None:
        """Let the strategy learn from the base classes."""
        fit = ctx.require(self.config.features)
        x, y = ctx.features(fit)
        x = x.flatten(1)
        classifier = getattr(fit, "classifier", None)
        if not isinstance(classifier, Later):
            classifier = nn.Linear(x.shape[1], base.n_classes).to(ctx.device)
            rng = torch.Generator().manual_seed(ctx.seed)
            fit_classifier(classifier, x, y, self.config.classifier_steps, rng)
            classifier.requires_grad_(False)
        self.strategy.learn(x, y, classifier, self.config, ctx)

    def adapt_many(self, supports: Sequence[Support]) -> list[Linear]:
        """Fill the novel classes of each experiment up, then train all classifiers."""
        most = self.config.max_per_label
        return super().adapt_many([
            replace(s, x=x, y=y) for s in supports for x, y in [self.strategy.generate(s.x, s.y, most, s.rng)]
        ])  # fmt: skip

    def official_tensors(self, content: Any) -> dict[str, Tensor]:
        """Those of the authors' ``generator.tar``.

        Raises:
            ValueError: when the strategy has none, or it is another file.
        """
        if self.config.strategy != "analogies":
            raise ValueError(f"strategy={self.config.strategy} has no generator.tar; analogies has one")
        found: dict[str, Tensor] = self.strategy.official_tensors(content, self.config.clusters)
        return found

    def official_names(self) -> dict[str, tuple[str, ...]]:
        """Own state key → name in that file."""
        return {f"strategy.{key}": names for key, names in self.strategy.official_names().items()}

    def check_features(self, n_base: int, dim: int) -> None:
        """Refuse what was made for other features."""
        self.strategy.check_features(n_base, dim)


def batches(supports: Sequence[Support], size: int, n_steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of several experiments at once, base rows first.

    Base rows are drawn over images, without repetition in a batch; novel rows with.

    Args:
        supports: E experiments on the same base images, equally many novel rows.
        size: rows of a batch.
        n_steps: batches.

    Yields:
        x (E, b, D), y (E, b).
    """
    base = supports[0].base
    assert base is not None, "the joint protocol gives the base images"
    x, y = (
        torch.stack(part) for part in zip(*((s.x, s.y) for s in supports), strict=True)
    )  # (E, n, D), (E, n)
    n_base, n_novel = len(base.y.unique()), len(supports[0].y.unique())
    parts = batch_parts(n_base, n_novel, size)
    experiment = torch.arange(len(supports), device=x.device)[:, None]
    for done in range(0, n_steps, _DRAWN_AT_ONCE):
        n = min(_DRAWN_AT_ONCE, n_steps - done)
        rows = torch.stack([draw_distinct(len(base), parts.base, n, s.rng) for s in supports], 1)  # (n, E, b)
        picks = torch.stack(
            [torch.randint(x.shape[1], (n, parts.novel), generator=s.rng) for s in supports], 1
        )
        for own, picked in zip(rows, picks.to(x.device), strict=True):
            from_base = base.take(own.flatten()).unflatten(0, own.shape)  # (E, b, D)
            labels = torch.cat([base.y[own.to(base.y.device)], y[experiment, picked]], 1)
            yield torch.cat([from_base, x[experiment, picked]], 1), labels
