"""The second stage: node sets compared by optimal transport, trained on episodes from the pre-trained backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.api import (
    Backbone,
    BaseSet,
    EpisodeBatch,
    FitContext,
    Grid,
    RandomCrops,
    Support,
    TrainingEpisode,
    draw_orders,
    full_precision,
    needs,
    official_names,
)
from harness.ops.node_matching import map_nodes, node_scores
from harness.ops.transport import check_installed
from methods.deepemd.pretrain import PAPER
from methods.deepemd.recipe import AS_PUBLISHED, DeepEmdConfig, Table, defaults
from methods.deepemd.sfc import fit_sfc

_FIRST_STAGE = "deepemd-pretrain"
_CROPS_AT_ONCE = 256  # through the network at test: 256 images of 25 crops are 6,400


class DeepEmd(nn.Module):
    """Mean cosine of the nodes of two images under the optimal transport of their masses."""

    Config = DeepEmdConfig
    name: ClassVar[str] = "deepemd"
    version: ClassVar[str] = "1"
    reference: ClassVar[str] = PAPER
    episode_batch: ClassVar[int] = 16  # SFC steps in all together; of 100 images of 25 nodes each: 100 MB
    official_extras: ClassVar[tuple[str, ...]] = ("fc.",)
    CONTRACT: ClassVar[dict[str, Any]] = {
        "epochs": 1,
        "episodes_per_epoch": 3,
        "train_query": 4,
        "sfc_update_step": 5,
    }
    DEFAULTS: ClassVar[Table] = defaults(
        {
            "epochs": 6,
            "episodes_per_epoch": 25,
            "validate_every": 3,
            "train_query": 5,
            "lr": 5e-3,
            "sfc_lr": 10.0,  # on validation images of cifar10: 65.8%; 62.3 by 100, 65.3 by 1, 65.0 by 0.1
        }
    )
    RECIPES: ClassVar[dict[str, Table]] = AS_PUBLISHED

    def __init__(self, config: DeepEmdConfig, backbone: Backbone) -> None:
        super().__init__()
        self.config, self.backbone = config, backbone
        self.views = self._views(config.test_num_patch or config.num_patch)

    def _views(self, n_crops: int) -> Grid | RandomCrops | None:
        if self.config.variant == "grid":
            return Grid(self.config.patch_list, self.config.patch_ratio)
        return RandomCrops(n_crops) if self.config.variant == "sampling" else None

    @staticmethod
    def epoch_images(config: DeepEmdConfig, n_images: int, n_classes: int) -> int:
        """Training crops of one epoch."""
        crops = {"grid": sum(k * k for k in config.patch_list), "sampling": config.num_patch}
        each = min(config.train_way, n_classes) * (1 + config.train_query)
        return config.episodes_per_epoch * each * crops.get(config.variant, 1)

    @staticmethod
    def requires(config: DeepEmdConfig) -> list[Any]:
        """The first stage, at the same size of pictures; refused before it where the solver is not installed."""
        check_installed(config.solver)
        return [needs(_FIRST_STAGE, image_size=config.image_size)]

    def fit_base(self, base: BaseSet, ctx: FitContext) -> None:
        """Train on 1-shot episodes of base classes, from the weights of the first stage."""
        c = self.config
        self.backbone.load_state_dict(
            ctx.require(_FIRST_STAGE, image_size=c.image_size).backbone.state_dict()
        )
        optimiser = torch.optim.SGD(
            self.parameters(),
            lr=c.lr,
            momentum=c.momentum,
            nesterov=c.momentum > 0,
            weight_decay=c.weight_decay,
        )
        schedule = torch.optim.lr_scheduler.StepLR(optimiser, c.decay_every, c.decay_factor)
        for epoch in ctx.epochs(c.epochs, model=self, optimiser=optimiser, schedule=schedule):
            seen = []
            for episode in base.episodes(
                c.episodes_per_epoch,
                c.train_way,
                1,
                c.train_query,
                augment=True,
                views=self._views(c.num_patch),
            ):
                loss, accuracy = self._loss(episode, ctx)
                ctx.backward(loss)
                ctx.step(optimiser)
                seen.append(torch.stack([loss.detach(), accuracy]))
            schedule.step()
            points = dict(zip(("loss", "train_accuracy"), torch.stack(seen).mean(0).tolist(), strict=True))
            if (epoch + 1) % c.validate_every == 0 or epoch + 1 == c.epochs:
                validation = ctx.keep_best(self, way=5, shot=1)
                points |= {} if validation is None else {"validation_accuracy": validation}
            ctx.log((epoch + 1) * c.episodes_per_epoch, **points)

    def _loss(self, episode: TrainingEpisode, ctx: FitContext) -> tuple[Tensor, Tensor]:
        """Cross-entropy and accuracy of the queries, () each; batch statistics are those of the whole episode."""
        with ctx.autocast():
            nodes = self.embed(episode.images.flatten(0, 1))  # (W·(1 + Q), L, D)
        of_class = full_precision(nodes).unflatten(0, episode.images.shape[:2])  # (W, 1 + Q, L, D)
        query = of_class[:, 1:]  # (W, Q, L, D)
        scores = self._scores(query.flatten(0, 1), of_class[:, 0])  # (W·Q, W)
        target = torch.arange(len(query), device=scores.device).repeat_interleave(query.shape[1])  # (W·Q,)
        accuracy = (scores.detach().argmax(1) == target).to(scores).mean()
        return functional.cross_entropy(scores, target), accuracy

    def embed(self, images: Tensor) -> Tensor:
        """(b, c, H, W) → (b, L, D), the nodes of the map; or crops (b, v, c, H, W) → (b, v, D), a node each."""
        if images.ndim == 4:
            return map_nodes(self.backbone(images), self.config.feature_pyramid)
        crops = images.flatten(0, 1)  # (b·v, c, H, W)
        parts = [crops] if self.training else crops.split(_CROPS_AT_ONCE)
        return torch.cat([self.backbone(x).mean((2, 3)) for x in parts]).unflatten(
            0, images.shape[:2]
        )  # (b, v, D)

    def adapt(self, support: Support) -> Tensor:
        """Nodes of each class: (n_way, L, D)."""
        return self._prototypes(support.by_class()[None], [support.rng])[0]

    def predict(self, state: Tensor, query: Tensor) -> Tensor:
        """Scores by transport between nodes: (n_query, n_way)."""
        return self._scores(query, state)

    def predict_batch(self, batch: EpisodeBatch) -> Tensor:
        """Do both for many episodes: (E, n_query, n_way)."""
        prototypes = self._prototypes(batch.support, batch.rng)
        # one episode's similarities at a time: memory does not grow with the batch
        return torch.stack([self._scores(q, p) for q, p in zip(batch.query, prototypes, strict=True)])

    def _prototypes(self, support: Tensor, rng: Sequence[torch.Generator]) -> Tensor:
        """Nodes (E, n_way, L, D) of the classes of a support (E, n_way, shot, L, D); by SFC from two shots on."""
        c, (n_episodes, n_way, shot) = self.config, support.shape[:3]
        means = support.mean(2)  # (E, W, L, D)
        if shot == 1 or c.sfc_update_step == 0:
            return means
        target = torch.arange(n_way, device=support.device).repeat_interleave(shot)  # (W·S,)
        return fit_sfc(
            support.flatten(1, 2), target.expand(n_episodes, -1), means,
            draw_orders(rng, n_way * shot, c.sfc_update_step), self._scores,
            lr=c.sfc_lr, weight_decay=c.sfc_wd, batch_size=c.sfc_bs,
        )  # fmt: skip

    def _scores(self, query: Tensor, prototypes: Tensor) -> Tensor:
        """(..., Q, L, D) and (..., W, L, D) nodes → (..., Q, W)."""
        c = self.config
        solver = "exact" if c.solver == "qpth" and not self.training else c.solver
        return node_scores(
            query, prototypes, temperature=c.temperature, grad=c.grad, extra=c.weight_eps, metric=c.metric,
            solver=solver, form=c.form, l2_strength=c.l2_strength,
        )  # fmt: skip

    def official_names(self) -> dict[str, tuple[str, ...]]:
        """Own state key → names in the authors' meta-trained checkpoints."""
        return official_names(self.backbone.stages, "deepemd", "backbone.stages.", "encoder.")
