"""Networks trained apart by manifold mixup and turns, and the nearest class mean on all of them."""

from __future__ import annotations

from copy import deepcopy
from math import cos, pi
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.api import (
    Backbone,
    BaseSet,
    EpisodeBatch,
    FitContext,
    RandomCrops,
    Support,
    centre_and_normalise,
    class_means,
    full_precision,
    needs,
    squared_distances,
    training_values,
)
from harness.ops.mixup import draw_mix
from harness.ops.rotation import quarterly
from methods.easy.recipe import DEFAULTS, RECIPES, EasyConfig, Table


class Easy(nn.Module):
    """Nearest class mean on the centred features of several networks."""

    Config = EasyConfig
    name: ClassVar[str] = "easy"
    version: ClassVar[str] = "1"
    reference: ClassVar[str] = """@article{bendou2022easy,
      title={{EASY}: Ensemble Augmented-Shot-{Y}-shaped Learning: State-of-the-Art Few-Shot Classification with Simple
             Components},
      author={Bendou, Yassir and Hu, Yuqing and Lafargue, Raphael and Lioi, Giulia and Pasdeloup, Bastien and
              Pateux, St{\\'e}phane and Gripon, Vincent},
      journal={Journal of Imaging},
      year={2022},
      eprint={2201.09699},
      archivePrefix={arXiv},
    }"""
    equivariant: ClassVar[bool] = True
    CONTRACT: ClassVar[dict[str, Any]] = {"networks": 2, "epochs": 8, "restart_every": 8, "crops": 2}
    DEFAULTS: ClassVar[Table] = DEFAULTS
    RECIPES: ClassVar[dict[str, Table]] = RECIPES

    def __init__(self, config: EasyConfig, backbone: Backbone) -> None:
        super().__init__()
        self.config = config
        self.networks: Any = nn.ModuleList(
            [backbone, *(deepcopy(backbone) for _ in range(config.networks - 1))]
        )
        self.width = backbone.width
        self.mean: Tensor
        self.register_buffer("mean", torch.zeros(config.networks * self.width))
        self.views = RandomCrops(config.crops) if config.crops else None

    @staticmethod
    def requires(config: EasyConfig) -> list[Any]:
        """The single networks of an ensemble."""
        own, n = training_values(config) | {"networks": 1}, config.networks
        return [needs("easy", **own | {"member": i}) for i in range(n)] if n > 1 else []

    def fit_base(self, base: BaseSet, ctx: FitContext) -> None:
        """Train one network, or take those that an ensemble is built on."""
        alone = [ctx.require(need.method, **need.config) for need in self.requires(self.config)]
        for network, single in zip(self.networks, alone, strict=False):
            network.load_state_dict(single.networks[0].state_dict())
        if alone:
            self.mean = torch.cat([single.mean for single in alone])
        else:
            self._train(self.networks[0], base, ctx)

    def _train(self, network: Any, base: BaseSet, ctx: FitContext) -> None:
        c, steps = self.config, base.n_batches(self.config.batch_size)
        for _ in range(c.member):
            network.draw_weights(network.stages)
            torch.randperm(base.n_images, generator=ctx.rng)
        classes, turns = (nn.Linear(self.width, n).to(ctx.device) for n in (base.n_classes, 4))
        parts: dict[str, Any] = {"model": self, "classes": classes, "turns": turns}
        optimiser = torch.optim.SGD(
            [p for part in parts.values() for p in part.parameters()],
            lr=c.lr, momentum=0.9, nesterov=True, weight_decay=c.weight_decay,
        )  # fmt: skip
        for epoch in ctx.epochs(c.epochs, **parts, optimiser=optimiser):
            losses = []
            for i, (x, y) in enumerate(base.batches(c.batch_size, augment=True)):
                for group in optimiser.param_groups:
                    group["lr"] = self._rate(epoch + i / steps)
                mix = draw_mix(len(x), c.alpha, ctx.rng)
                part = int(torch.randint(len(network.parts), (), generator=ctx.rng))
                with ctx.autocast():
                    mixed = network.pooled(network.changed(x, part, mix.of))
                loss = mix.loss(classes(full_precision(mixed)), y)
                ctx.backward(loss)
                turned = quarterly(x)
                with ctx.autocast():
                    features = full_precision(network.pooled(network(turned.images)))
                by_turn = functional.cross_entropy(turns(features), turned.quarters)
                ctx.backward((functional.cross_entropy(classes(features), y) + by_turn) / 2)
                ctx.step(optimiser)
                losses.append(loss.detach())
            points = {"loss": float(torch.stack(losses).mean())}
            if (epoch + 1) % c.validate_every == 0 or epoch + 1 == c.epochs:
                self.settle(base)
                validation = ctx.keep_best(self, way=5, shot=c.validation_shot)
                points |= {} if validation is None else {"validation_accuracy": validation}
            ctx.log((epoch + 1) * steps, **points)

    def _rate(self, epoch: float) -> float:
        """Step size: along a cosine to 0, again and again, each time a little smaller."""
        c = self.config
        n_done, place = divmod(epoch, c.restart_every)
        return c.lr * c.restart_factor**n_done * (1 + cos(pi * place / c.restart_every)) / 2

    @torch.no_grad()
    def settle(self, base: BaseSet) -> None:
        """Keep the mean base feature, of the images as they are."""
        self.eval()
        total = torch.stack([self._whole(x).sum(0) for x, _ in base.all_images()]).sum(0)
        self.mean = total / base.n_images
        self.train()

    def _whole(self, images: Tensor) -> Tensor:
        return torch.cat([network.pooled(network(images)) for network in self.networks], dim=1)

    def embed(self, images: Tensor) -> Tensor:
        """(b, c, H, W), or crops (b, v, c, H, W) → (b, networks · D)."""
        if not self.views:
            return self._whole(images)
        return torch.stack([self._whole(crop) for crop in images.unbind(1)]).mean(0)

    def adapt(self, support: Support) -> Tensor:
        """Class means of centred features of unit length: (n_way, D)."""
        return class_means(centre_and_normalise(support.by_class(), self.mean))

    def predict(self, state: Tensor, query: Tensor) -> Tensor:
        """Minus squared distances to the means: (..., n_query, n_way)."""
        return -squared_distances(centre_and_normalise(query, self.mean), state)

    def predict_batch(self, batch: EpisodeBatch) -> Tensor:
        """Do both for many episodes: (E, n_query, n_way)."""
        return self.predict(class_means(centre_and_normalise(batch.support, self.mean)), batch.query)
