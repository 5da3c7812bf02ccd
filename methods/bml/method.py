"""Two views of one image, or one of them, trained in steps of several parts and read as nearest class means."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from harness.api import (
    Backbone,
    BaseSet,
    EpisodeBatch,
    FitContext,
    Support,
    TrainingEpisode,
    TwoBranch,
    add_drop_layers,
    class_means,
    class_means_by_label,
    dense_cross_entropy,
    divergence,
    drop_blocks,
    elastic_scores,
    full_precision,
    linear_scores,
    location_distances,
    locations,
    milestone_decay,
    mutual_divergence,
    official_names,
    root_features,
)
from methods.bml.recipe import (
    AS_PUBLISHED,
    BATCHES,
    ELASTIC,
    EPISODES,
    BmlConfig,
    GlobalConfig,
    LocalConfig,
    Recipe,
    Table,
    defaults,
)

SATURATED = 0.5  # share of locations with an elastic margin that is worth a warning
_AT_ONCE = 4  # episodes: the roots of two 640×5×5 maps an image are copies that need memory


class Views(nn.Module):
    """What the three share: steps of several parts, and the nearest class mean over one or two maps an image."""

    version: ClassVar[str] = "1"
    reference: ClassVar[str] = """@inproceedings{zhou2021binocular,
      title={Binocular Mutual Learning for Improving Few-shot Classification},
      author={Zhou, Ziqi and Qiu, Xi and Xie, Jiangtao and Wu, Jianan and Zhang, Chi},
      booktitle={IEEE/CVF International Conference on Computer Vision},
      year={2021},
      eprint={2108.12104},
      archivePrefix={arXiv},
    }"""
    equivariant: ClassVar[bool] = True
    official_extras: ClassVar[tuple[str, ...]] = ("global_w.",)  # the classifier of base classes
    RECIPES: ClassVar[dict[str, Table]] = AS_PUBLISHED
    is_classifying: ClassVar[bool] = True  # among all base classes
    config: Any  # its own Config
    network: Any  # a backbone, or a TwoBranch

    def __init__(self, config: Recipe, backbone: Backbone) -> None:
        super().__init__()
        add_drop_layers(backbone, config.drop_rate, config.block_size, config.squares)
        self.config, self.network = config, self._network(backbone)

    @staticmethod
    def epoch_images(config: Any, n_images: int, n_classes: int) -> int:
        """Training images of one epoch of episodes."""
        shot, query = config.train_shot, config.train_query
        each = min(config.train_way, n_classes) * (shot + query if query > 0 else n_images // n_classes)
        return int(config.steps_per_epoch * config.parts_per_step * each)

    def _network(self, backbone: Backbone) -> nn.Module:
        return backbone

    def fit_base(self, base: BaseSet, ctx: FitContext) -> None:
        """Train the network, with a classifier of all base classes where there is a global view."""
        head: nn.Module = nn.Identity()
        if self.is_classifying:
            head = nn.Linear(self.network.channels, base.n_classes)  # a 1×1 convolution where it is dense
            nn.init.xavier_uniform_(head.weight)
        self._train(head.to(ctx.device), base, ctx)

    def _train(self, head: nn.Module, base: BaseSet, ctx: FitContext) -> None:
        c = self.config
        milestones = tuple(zip(c.decay_epochs, c.decay_factors, strict=True))
        parameters = [*self.parameters(), *head.parameters()]
        optimiser: torch.optim.Optimizer
        if c.optimiser == "adam":
            optimiser = torch.optim.Adam(parameters, weight_decay=c.weight_decay)
        else:
            optimiser = torch.optim.SGD(parameters, momentum=c.momentum, weight_decay=c.weight_decay)
        for epoch in ctx.epochs(c.epochs, model=self, head=head, optimiser=optimiser):
            for group in optimiser.param_groups:
                group["lr"] = milestone_decay(epoch, base=c.lr, milestones=milestones)
            seen: list[dict[str, Tensor]] = []
            for parts in zip(*(self._parts(base) for _ in range(c.parts_per_step)), strict=True):
                for part in parts:
                    losses = self._losses(part, head, ctx, (epoch + 1) / c.epochs)
                    ctx.backward(losses["loss"] / len(parts))
                    seen.append({name: value.detach() for name, value in losses.items()})
                ctx.step(optimiser)
                for layer in drop_blocks(self.network):  # their rate grows with the steps, not with the parts
                    layer.num_batches_tracked -= len(parts) - 1
            points = {name: float(torch.stack([one[name] for one in seen]).mean()) for name in seen[0]}
            if (epoch + 1) % c.validate_every == 0 or epoch + 1 == c.epochs:
                validation = ctx.keep_best(self, way=5, shot=c.validation_shot)
                points |= {} if validation is None else {"validation_accuracy": validation}
            ctx.log((epoch + 1) * (len(seen) // c.parts_per_step), **points)
            if epoch + 1 == c.epochs:
                self._look_at(points, ctx)

    def _look_at(self, last: dict[str, float], ctx: FitContext) -> None:
        """Say what the last epoch's means tell of a term that does not do what it is there for."""

    def _parts(self, base: BaseSet) -> Iterator[Any]:
        """What the losses of one epoch are taken from."""
        c = self.config
        return base.episodes(c.steps_per_epoch, c.train_way, c.train_shot, c.train_query, augment=True)

    def _losses(self, part: Any, head: nn.Module, ctx: FitContext, progress: float) -> dict[str, Tensor]:
        """The total as "loss", and what is worth a curve, all ()."""
        raise NotImplementedError

    def embed(self, images: Tensor) -> Tensor:
        """(b, c, H, W) → (b, V, C, h, w), the map of each view."""
        maps: Tensor = self.network(images)
        return maps.unsqueeze(1)

    def adapt(self, support: Support) -> Tensor:
        """Class means (n_way, D)."""
        return class_means_by_label(self._features(support.x), support.y, support.n_way)

    def predict(self, state: Tensor, query: Tensor) -> Tensor:
        """Minus squared distances, up to |query|² (n_query, n_way); those of two views are added."""
        return linear_scores(self._features(query)[None], state[None])[0]

    def predict_batch(self, batch: EpisodeBatch) -> Tensor:
        """Do both for many episodes: (E, n_query, n_way)."""
        few = zip(batch.support.split(_AT_ONCE), batch.query.split(_AT_ONCE), strict=True)
        return torch.cat([linear_scores(self._features(q), class_means(self._features(s))) for s, q in few])

    def _features(self, maps: Tensor) -> Tensor:
        """(..., V, C, h, w) → (..., D); one long vector, so that its distances are the sum over the views."""
        if self.config.classifier == "root":
            return root_features(maps).flatten(-2)
        return maps.mean((-2, -1)).flatten(-2)

    def official_names(self) -> dict[str, tuple[str, ...]]:
        """Own state key → names in the authors' checkpoints."""
        return official_names(self.network.stages, "bml", "network.stages.", "encoder.")


class Bml(Views):
    """Both views of one image, learning from each other."""

    name: ClassVar[str] = "bml"
    Config = BmlConfig
    CONTRACT: ClassVar[dict[str, Any]] = {
        "epochs": 2,
        "steps_per_epoch": 8,
        "train_shot": 3,
        "train_query": 3,
        "decay_epochs": (1, 2),
    }
    DEFAULTS: ClassVar[Table] = defaults(200, {**EPISODES, **ELASTIC})

    def _network(self, backbone: Backbone) -> nn.Module:
        return TwoBranch(backbone)

    def _losses(
        self, part: TrainingEpisode, head: nn.Module, ctx: FitContext, progress: float
    ) -> dict[str, Tensor]:
        c, (way, size) = self.config, part.images.shape[:2]
        with ctx.autocast():  # support and query in one pass: batch statistics of the whole episode
            views = self.network(part.images.flatten(0, 1))
        global_map, local_map = full_precision(views.global_map), full_precision(views.local_map)
        base_label = part.classes.repeat_interleave(size)  # (W·(S + Q),)
        by_location = dense_cross_entropy(head(locations(global_map)), base_label)
        elastic = {"progress": progress, "strength": c.elastic_strength, "slope": c.elastic_slope}
        local, is_active = _local_loss(local_map.unflatten(0, (way, size)), part.shot, elastic)
        pooled = global_map.mean((2, 3)), local_map.mean((2, 3))  # (W·(S + Q), C) each
        mutual = {
            "both": mutual_divergence(*pooled, temperature=c.temperature),
            "global": divergence(*pooled, temperature=c.temperature),
            "local": divergence(*pooled[::-1], temperature=c.temperature),
        }[c.follows]
        total = c.global_weight * by_location + c.local_weight * local + c.mutual_weight * mutual
        return {
            "loss": total, "global_loss": by_location, "local_loss": local, "mutual": mutual,
            "elastic_share": is_active, "train_way": total.new_tensor(way),
        }  # fmt: skip

    def _look_at(self, last: dict[str, float], ctx: FitContext) -> None:
        _warn_above_chance(last["local_loss"], last["train_way"], ctx)
        if last["elastic_share"] > SATURATED:
            ctx.warn(
                f"The elastic margin acts on {100 * last['elastic_share']:.0f}% of the locations at the end (in the paper on "
                "0.08%): it is no exception for hard ones. Lower elastic_strength, or see that distances grow."
            )

    def embed(self, images: Tensor) -> Tensor:
        """(b, c, H, W) → (b, 2, C, h, w), the global and the local map."""
        return torch.stack(self.network(images), dim=1)

    def _features(self, maps: Tensor) -> Tensor:
        chosen = {"both": slice(0, 2), "global": slice(0, 1), "local": slice(1, 2)}[self.config.views]
        return super()._features(maps[..., chosen, :, :, :])

    def official_names(self) -> dict[str, tuple[str, ...]]:
        """Own state key → names in the authors' checkpoints: encoder, global_view, local_view."""
        trunk, names = self.network.trunk, dict[str, tuple[str, ...]]()
        inner = "layer" if len(trunk) == 3 else "layer4"  # of the branches of resnet12, resnet18
        for key, (name,) in official_names(nn.Sequential(*trunk, self.network.global_branch), "bml").items():
            stage, _, rest = key.partition(".")
            if int(stage) < len(trunk):
                names[f"network.trunk.{key}"] = (f"encoder.{name}",)
                continue
            for view in ("global", "local"):
                names[f"network.{view}_branch.{rest}"] = (f"{view}_view.{name.replace('layer4', inner)}",)
        return names


class BmlLocal(Views):
    """The local view alone: a prototypical network, on averaged maps or location by location."""

    name: ClassVar[str] = "bml-local"
    Config = LocalConfig
    CONTRACT: ClassVar[dict[str, Any]] = Bml.CONTRACT
    DEFAULTS: ClassVar[Table] = defaults(100, EPISODES)
    is_classifying = False

    def _losses(
        self, part: TrainingEpisode, head: nn.Module, ctx: FitContext, progress: float
    ) -> dict[str, Tensor]:
        with ctx.autocast():
            maps = self.network(part.images.flatten(0, 1))
        maps = full_precision(maps).unflatten(0, part.images.shape[:2])  # (W, S + Q, C, h, w)
        if not self.config.is_dense:
            maps = maps.mean((3, 4), keepdim=True)
        loss, _ = _local_loss(maps, part.shot, {"progress": progress, "strength": 0.0})
        return {"loss": loss, "train_way": loss.new_tensor(len(maps))}

    def _look_at(self, last: dict[str, float], ctx: FitContext) -> None:
        _warn_above_chance(last["loss"], last["train_way"], ctx)


class BmlGlobal(Views):
    """The global view alone: a classifier of all base classes, of averaged maps or of every location."""

    name: ClassVar[str] = "bml-global"
    Config = GlobalConfig
    CONTRACT: ClassVar[dict[str, Any]] = {"epochs": 4, "decay_epochs": (2, 3), "batch_size": 32}
    DEFAULTS: ClassVar[Table] = defaults(100, BATCHES)

    @staticmethod
    def epoch_images(config: Any, n_images: int, n_classes: int) -> int:
        """Training images of one epoch, as many passes as a step has parts."""
        return int(config.parts_per_step * n_images)

    def _parts(self, base: BaseSet) -> Iterator[Any]:
        return base.batches(self.config.batch_size, augment=True)

    def _losses(
        self, part: tuple[Tensor, Tensor], head: nn.Module, ctx: FitContext, progress: float
    ) -> dict[str, Tensor]:
        with ctx.autocast():
            maps = self.network(part[0])
        maps = full_precision(maps)
        if not self.config.is_dense:
            maps = maps.mean((2, 3), keepdim=True)
        return {"loss": dense_cross_entropy(head(locations(maps)), part[1])}


def _warn_above_chance(loss: float, way: float, ctx: FitContext) -> None:
    if loss > math.log(way):
        ctx.warn(
            f"The local loss ends at {loss:.2f}, above the {math.log(way):.2f} of guessing among {way:.0f} classes: its part of "
            "the training has taught nothing."
        )


def _local_loss(maps: Tensor, shot: int, elastic: dict[str, float]) -> tuple[Tensor, Tensor]:
    """Of (W, S + Q, C, h, w) maps: () loss, and the () share of locations with an elastic margin."""
    query = maps[:, shot:]  # (W, Q, C, h, w)
    target = torch.arange(len(maps), device=maps.device).repeat_interleave(query.shape[1])  # (W·Q,)
    distances = location_distances(maps[:, :shot], query.flatten(0, 1))  # (W·Q, R, W)
    scores = elastic_scores(distances, target, **elastic)
    is_active = (scores != -distances).any(-1).float().mean().detach()
    return dense_cross_entropy(scores, target), is_active
