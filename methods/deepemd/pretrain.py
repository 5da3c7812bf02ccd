"""The first stage: a classifier of all base classes, whose backbone DeepEMD starts from."""

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
    Support,
    cosine_scores,
    full_precision,
    official_names,
)
from harness.ops.node_matching import map_nodes, node_scores
from methods.deepemd.recipe import PRETRAINED, PretrainConfig, Table, defaults

PAPER = """@inproceedings{zhang2020deepemd,
  title={DeepEMD: Few-Shot Image Classification with Differentiable Earth Mover's Distance and Structured Classifiers},
  author={Zhang, Chi and Cai, Yujun and Lin, Guosheng and Shen, Chunhua},
  booktitle={IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year={2020},
  eprint={2003.06777},
  archivePrefix={arXiv},
}"""


class DeepEmdPretrain(nn.Module):
    """Cross-entropy on averaged maps; then DeepEMD's scores of the map, or the nearest class mean, untrained."""

    Config = PretrainConfig
    name: ClassVar[str] = "deepemd-pretrain"
    version: ClassVar[str] = "1"
    reference: ClassVar[str] = PAPER
    equivariant: ClassVar[bool] = True
    episode_batch: ClassVar[int] = 8  # of 80 images of 25 nodes each: 40 MB
    official_extras: ClassVar[tuple[str, ...]] = ("fc.",)  # the classifier of base classes
    CONTRACT: ClassVar[dict[str, Any]] = {"epochs": 3, "batch_size": 32, "validate_every": 3}
    RECIPES: ClassVar[dict[str, Table]] = PRETRAINED
    DEFAULTS: ClassVar[Table] = defaults(
        {"epochs": 9, "batch_size": 64, "validate_every": 3},
        cifar10=12, omniglot_small=3, omniglot_lake=3,
    )  # fmt: skip

    def __init__(self, config: PretrainConfig, backbone: Backbone) -> None:
        super().__init__()
        self.config, self.backbone = config, backbone

    def fit_base(self, base: BaseSet, ctx: FitContext) -> None:
        """Train the backbone and a linear classifier of all base classes."""
        c, steps = self.config, base.n_batches(self.config.batch_size)
        head = nn.Linear(self.backbone.channels, base.n_classes).to(ctx.device)
        optimiser = torch.optim.SGD(
            [*self.parameters(), *head.parameters()], lr=c.lr, momentum=c.momentum, nesterov=c.momentum > 0,
            weight_decay=c.weight_decay,
        )  # fmt: skip
        schedule = torch.optim.lr_scheduler.StepLR(optimiser, c.decay_every, c.decay_factor)
        for epoch in ctx.epochs(c.epochs, model=self, head=head, optimiser=optimiser, schedule=schedule):
            seen = []
            for x, y in base.batches(c.batch_size, augment=True):
                with ctx.autocast():
                    scores = head(self.backbone(x).mean((2, 3)))
                loss = functional.cross_entropy(full_precision(scores), y)
                ctx.backward(loss)
                ctx.step(optimiser)
                seen.append(torch.stack([loss.detach(), (scores.argmax(1) == y).to(loss).mean()]))
            schedule.step()
            points = dict(zip(("loss", "train_accuracy"), torch.stack(seen).mean(0).tolist(), strict=True))
            if (epoch + 1) % c.validate_every == 0 or epoch + 1 == c.epochs:
                validation = ctx.keep_best(self, way=5, shot=1)
                points |= {} if validation is None else {"validation_accuracy": validation}
            ctx.log((epoch + 1) * steps, **points)

    def embed(self, images: Tensor) -> Tensor:
        """(b, c, H, W) → (b, L, D), a node for each location of the map."""
        return map_nodes(self.backbone(images))

    def adapt(self, support: Support) -> Tensor:
        """Mean nodes of each class: (n_way, L, D)."""
        return support.by_class().mean(1)

    def predict(self, state: Tensor, query: Tensor) -> Tensor:
        """Scores (n_query, n_way) by transport between nodes, or by the cosine of their averages."""
        if self.config.classifier == "mean":
            return cosine_scores(query.mean(-2), state.mean(-2))
        return node_scores(query, state)

    def predict_batch(self, batch: EpisodeBatch) -> Tensor:
        """Do both for many episodes: (E, n_query, n_way)."""
        return torch.stack(
            [self.predict(s.mean(1), q) for s, q in zip(batch.support, batch.query, strict=True)]
        )

    def official_names(self) -> dict[str, tuple[str, ...]]:
        """Own state key → names in the authors' pre-trained checkpoints, which hold the encoder alone."""
        return official_names(self.backbone.stages, "deepemd", "backbone.stages.")
