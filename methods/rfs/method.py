"""A classifier of the base classes, distilled or not, and logistic regression on its features."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.api import (
    Backbone,
    BaseSet,
    EpisodeBatch,
    FitContext,
    Later,
    Support,
    SupportViews,
    backbone_names,
    full_precision,
    l2_normalise,
    needs,
    training_values,
)
from harness.ops.logistic import OnSupport, fit_support
from methods.rfs.recipe import DEFAULTS, RfsConfig, Table


class Rfs(nn.Module):
    """Logistic regression on the features of a classifier of the base classes, distilled or not."""

    Config = RfsConfig
    name: ClassVar[str] = "rfs"
    version: ClassVar[str] = "1"
    reference: ClassVar[str] = """@inproceedings{tian2020rethinking,
      title={Rethinking Few-Shot Image Classification: a Good Embedding Is All You Need?},
      author={Tian, Yonglong and Wang, Yue and Krishnan, Dilip and Tenenbaum, Joshua B. and Isola, Phillip},
      booktitle={European Conference on Computer Vision},
      year={2020},
      eprint={2003.11539},
      archivePrefix={arXiv},
    }"""
    equivariant: ClassVar[bool] = True
    episode_batch: ClassVar[int] = 256  # the fit works on small matrices, many at once
    official_extras: ClassVar[tuple[str, ...]] = ("classifier.",)  # of the base classes
    CONTRACT: ClassVar[dict[str, Any]] = {"generation": 1, "epochs": 3, "validate_every": 3, "views": 2}
    DEFAULTS: ClassVar[Table] = DEFAULTS

    def __init__(self, config: RfsConfig, backbone: Backbone) -> None:
        super().__init__()
        self.config, self.backbone = config, backbone
        self.classifier = Later(lambda n: nn.Linear(backbone.width, n), "weight")  # the next one's teacher
        self.views = SupportViews(config.views) if config.views else None

    @staticmethod
    def requires(config: RfsConfig) -> list[Any]:
        """The teacher of a student."""
        if not config.generation:
            return []
        return [needs("rfs", **training_values(config) | {"generation": config.generation - 1})]

    def fit_base(self, base: BaseSet, ctx: FitContext) -> None:
        """Train backbone and classifier by cross-entropy, of a student against its teacher, too."""
        c, steps = self.config, base.n_batches(self.config.batch_size)
        teachers = [ctx.require(need.method, **need.config) for need in self.requires(c)]
        self.classifier.of(base.n_classes).to(ctx.device)
        optimiser = torch.optim.SGD(
            self.parameters(), lr=c.lr, momentum=c.momentum, weight_decay=c.weight_decay
        )
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, list(c.decay_at), gamma=0.1)
        for epoch in ctx.epochs(c.epochs, model=self, optimiser=optimiser, schedule=schedule):
            seen = []
            for x, y in base.batches(c.batch_size, augment=True):
                with ctx.autocast():
                    scores = self.classifier(self._features(x))
                loss = functional.cross_entropy(full_precision(scores), y)
                for teacher in teachers:
                    loss = (1 - c.soft) * loss + c.soft * self._distance(scores, teacher, x)
                ctx.backward(loss)
                ctx.step(optimiser)
                seen.append(torch.stack([loss.detach(), (scores.argmax(1) == y).to(loss).mean()]))
            schedule.step()
            points = dict(zip(("loss", "train_accuracy"), torch.stack(seen).mean(0).tolist(), strict=True))
            if (epoch + 1) % c.validate_every == 0 or epoch + 1 == c.epochs:
                validation = ctx.keep_best(self, way=5, shot=1)
                points |= {} if validation is None else {"validation_accuracy": validation}
            ctx.log((epoch + 1) * steps, **points)

    def _distance(self, scores: Tensor, teacher: Any, x: Tensor) -> Tensor:
        """KL () of soft predictions from the teacher's of the same images, times T² (Hinton et al. 2015)."""
        t = self.config.temperature
        with torch.no_grad():
            theirs = (full_precision(teacher.classifier(teacher._features(x))) / t).softmax(1)
        ours = (full_precision(scores) / t).log_softmax(1)
        return t**2 * functional.kl_div(ours, theirs, reduction="batchmean")

    def _features(self, images: Tensor) -> Tensor:
        return self.backbone.pooled(self.backbone(images))

    def embed(self, images: Tensor) -> Tensor:
        """(b, c, H, W) → (b, D); with views (b, v, c, H, W) → (b, v, D), the first of the image as it is."""
        if not self.views:
            return self._features(images)
        return torch.stack([self._features(one) for one in images.unbind(1)], dim=1)

    def adapt(self, support: Support) -> OnSupport:
        """Fit one episode."""
        return self._fit(support.by_class()[None])

    def predict(self, state: OnSupport, query: Tensor) -> Tensor:
        """Scores: (n_query, n_way)."""
        return state.scores(self._as_it_is(query[None]))[0]

    def predict_batch(self, batch: EpisodeBatch) -> Tensor:
        """Do both for many episodes: (E, n_query, n_way)."""
        return self._fit(batch.support).scores(self._as_it_is(batch.query))

    def _fit(self, support: Tensor) -> OnSupport:
        x = self.views.changed(support) if self.views else support  # (E, W, S · views, D)
        return fit_support(l2_normalise(x), self.config.c)

    def _as_it_is(self, query: Tensor) -> Tensor:
        return l2_normalise(self.views.as_it_is(query) if self.views else query)

    def official_names(self) -> dict[str, tuple[str, ...]]:
        """Own state key → own name; of a checkpoint the backbone is wanted."""
        return backbone_names(self.backbone.stages, "backbone.stages.")[0]

    def other_names(self) -> tuple[dict[str, tuple[str, ...]], ...]:
        """What others call the backbone's tensors, the authors among them."""
        return backbone_names(self.backbone.stages, "backbone.stages.")[1:]
