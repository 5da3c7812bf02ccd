"""Prototypical networks (Snell, Swersky, Zemel, NIPS 2017, arXiv:1703.05175).

An embedding is trained so that a class is well described by the mean of its support features, its prototype;
a query is a soft-max over minus squared Euclidean distances to the prototypes (eq. 2), and the loss is its
cross-entropy over training episodes with many more classes than the test will have (§2.7, "60-way").

The DEFAULTS of omniglot and mini are the published trainings: 60-way with turned characters as classes, 30- and
20-way, the step size halved every 2,000 episodes, ended when 200 epochs of 100 episodes brought nothing.
``retrain=true`` then trains anew on base and validation classes, as long as was best and ``patience`` longer, as the
authors do for Omniglot; ``--recipe as-published`` does, on their pixels and 1,000 episodes.

What differs from the authors' code (github.com/jakesnell/prototypical-networks): validation accuracy on a fixed list
chooses the epoch (theirs: validation loss), and the step size is halved after every ``halve_every`` epochs (under
current torch their loop halves one epoch early).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from harness.api import (
    Backbone,
    BaseSet,
    Conditions,
    EpisodeBatch,
    FitContext,
    Pretrained,
    Support,
    backbone_names,
    check_ranges,
    class_means,
    class_means_by_label,
    cosine_scores,
    distance_scores,
    hyper,
    linear_scores,
    needs,
    prototypical_loss,
)
from harness.ops.affine import Jitter, draw_affine, scaled_jitter, warp


class ProtoNet(nn.Module):
    """Nearest prototype in a space trained for it."""

    @dataclass(frozen=True)
    class Config(Pretrained):
        """Hyper-parameters; the field defaults are the Omniglot protocol of the authors' code."""

        train_way: int = hyper(
            60, "classes per training episode, ≥ 2; at most the number of base classes (§3.1)"
        )
        train_shot: int = hyper(
            1, "support images per class in training, ≥ 1; the paper matches the test (§2.7)"
        )
        train_query: int = hyper(
            5, "queries per class in training, ≥ 1 (§3.1); -1: all the smallest class has left"
        )
        epochs: int = hyper(100, "passes of episodes_per_epoch episodes at most, ≥ 1", in_epochs=True)
        episodes_per_epoch: int = hyper(100, "training episodes between two validations, ≥ 1")
        patience: int = hyper(
            200, "epochs without a better validation that end the training, ≥ 0; 0: none do"
        )
        retrain: bool = hyper(
            False, "train anew on base and validation classes, patience epochs longer than was best"
        )
        distance: Literal["squared", "cosine"] = hyper("squared", "to the prototypes (§2.3)")
        cosine_scale: float = hyper(10.0, "factor on cosines in the loss, > 0; where distance=cosine")
        takes_turns: bool = hyper(
            False, "every image of a training class is in its support once, not the first alone"
        )
        jitter: float = hyper(
            0.0, "reach of random affine maps of training images, ≥ 0; 1: 10°, 20%, 0.3 of shear, 7%"
        )
        test_maps: int = hyper(
            0, "fixed maps of half that reach over which evaluation averages features, ≥ 0"
        )
        lr: float = hyper(1e-3, "Adam's step size, > 0 (§3.1)")
        decay: Literal["halve", "cosine"] = hyper(
            "halve", "of the step size: by halves, or along half a cosine to 0"
        )
        halve_every: int = hyper(
            20, "epochs until the step size is halved, ≥ 1 (§3.1: 2,000 episodes)", in_epochs=True
        )
        validation_shot: int = hyper(1, "shots of the 5-way validation episodes that choose the epoch, ≥ 1")

        def __post_init__(self) -> None:
            """Check ranges; all that is wrong is said together."""
            counts = "train_shot epochs episodes_per_epoch halve_every validation_shot"
            check_ranges(
                self,
                {
                    "≥ 0": "patience jitter test_maps",
                    "≥ 1": counts,
                    "≥ 2": "train_way",
                    "> 0": "lr cosine_scale",
                },
                {
                    f"train_query must be ≥ 1, or -1, found {self.train_query}": self.train_query >= 1
                    or self.train_query == -1
                },
            )

    name: ClassVar[str] = "protonet"
    version: ClassVar[str] = "2"
    reference: ClassVar[str] = """@inproceedings{snell2017prototypical,
      title={Prototypical Networks for Few-shot Learning},
      author={Snell, Jake and Swersky, Kevin and Zemel, Richard},
      booktitle={Advances in Neural Information Processing Systems},
      year={2017},
      eprint={1703.05175},
      archivePrefix={arXiv},
    }"""
    equivariant: ClassVar[bool] = True
    official_extras: ClassVar[tuple[str, ...]] = (
        "",
    )  # of a checkpoint the backbone is wanted, whatever is beside it
    CONTRACT: ClassVar[dict[str, Any]] = {"epochs": 1, "episodes_per_epoch": 10, "train_way": 10}
    DEFAULTS: ClassVar[dict[str, dict[str, Any]]] = {
        "glyphs": {"train_way": 20, "epochs": 6},
        "glyphs-digits": {"train_way": 20, "epochs": 6},
        "omniglot": {"epochs": 10_000},
        "omniglot-5w5s": {"train_shot": 5, "validation_shot": 5},
        "omniglot-20w5s": {"train_shot": 5, "validation_shot": 5},
        "omniglot-small": {"epochs": 6},
        "omniglot-lake": {
            "epochs": 12,
            "train_query": 1,
            "takes_turns": True,
            "jitter": 1.0,
            "test_maps": 16,
            "decay": "cosine",
            "lr": 2e-3,
        },
        "mini": {"epochs": 10_000, "train_query": 15},
        "mini-5w1s": {"train_way": 30},
        "mini-5w5s": {"train_way": 20, "train_shot": 5, "validation_shot": 5},
    }
    RECIPES: ClassVar[dict[str, dict[str, dict[str, Any]]]] = {
        "as-published": {
            "omniglot": {
                "retrain": True,
                "conditions": Conditions("snell", "none", n_query=15, n_episodes=1000),
            },
            "omniglot-lake": {
                "epochs": 6,
                "train_query": 5,
                "takes_turns": False,
                "jitter": 0.0,
                "test_maps": 0,
                "decay": "halve",
                "lr": 1e-3,
            },
        }
    }

    def __init__(self, config: Config, backbone: Backbone) -> None:
        super().__init__()
        self.config, self.backbone = config, backbone
        self.n_epochs: Tensor  # of training behind these weights
        self.register_buffer("n_epochs", torch.zeros((), dtype=torch.int64))

    @staticmethod
    def epoch_images(config: Config, n_images: int, n_classes: int) -> int:
        """Training images of one epoch."""
        shot, query = config.train_shot, config.train_query
        each = min(config.train_way, n_classes) * (shot + query if query > 0 else n_images // n_classes)
        return config.episodes_per_epoch * each

    @staticmethod
    def requires(config: Config) -> list[Any]:
        """The training that settles how long the last one is."""
        return [needs("protonet", **asdict(config) | {"retrain": False})] if config.retrain else []

    def fit_base(self, base: BaseSet, ctx: FitContext) -> None:
        """Train on episodes of base classes, or of base and validation classes once it is settled how long."""
        c = self.config
        for need in self.requires(c):
            best = int(ctx.require(need.method, **need.config).n_epochs)
            self._train(base.with_validation(), ctx, max(best, best - 1 + c.patience))
            return
        self._train(base, ctx, c.epochs)

    def _train(self, base: BaseSet, ctx: FitContext, epochs: int) -> None:
        """Episodes with Adam (alg. 1)."""
        c = self.config
        optimiser = torch.optim.Adam(self.parameters(), lr=c.lr)
        schedule = self._schedule(optimiser, epochs)
        for epoch in ctx.epochs(
            epochs, patience=c.patience, model=self, optimiser=optimiser, schedule=schedule
        ):
            seen = []
            for episode in base.episodes(c.episodes_per_epoch, c.train_way, c.train_shot, c.train_query):
                images = self._moved(episode.images.flatten(0, 1), ctx.rng)
                with ctx.autocast():  # support and query in one pass: batch statistics of the whole episode
                    flat = self.backbone(images).flatten(1)
                features = flat.float().unflatten(0, episode.images.shape[:2])  # (W, S + Q, D)
                if c.takes_turns:
                    features = torch.stack(
                        [features.roll(i, 1) for i in range(features.shape[1])]
                    )  # (S + Q, W, …)
                support, query = features.tensor_split([c.train_shot], dim=-2)
                result = prototypical_loss(support, query, self._scores)
                ctx.backward(result.loss)
                ctx.step(optimiser)
                schedule.step()
                hits = (result.scores.argmax(-1) == result.target).float().mean()
                seen.append(
                    torch.stack([result.loss.detach(), hits])
                )  # read once an epoch: no wait in a step
            self.n_epochs += 1
            points = dict(zip(("loss", "train_accuracy"), torch.stack(seen).mean(0).tolist(), strict=True))
            validation = None if c.retrain else ctx.keep_best(self, way=5, shot=c.validation_shot)
            points |= {} if validation is None else {"validation_accuracy": validation}
            ctx.log((epoch + 1) * c.episodes_per_epoch, **points)

    def _schedule(
        self, optimiser: torch.optim.Optimizer, epochs: int
    ) -> torch.optim.lr_scheduler.LRScheduler:
        per_epoch = self.config.episodes_per_epoch
        if self.config.decay == "cosine":
            return torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * per_epoch)
        return torch.optim.lr_scheduler.StepLR(optimiser, self.config.halve_every * per_epoch, gamma=0.5)

    def _moved(self, images: Tensor, rng: torch.Generator) -> Tensor:
        """Training images, each turned, stretched and shifted a little by itself."""
        if not self.config.jitter:
            return images
        return warp(images, draw_affine(len(images), scaled_jitter(Jitter(), self.config.jitter), rng))

    def _scores(self, query: Tensor, prototypes: Tensor) -> Tensor:
        """(…, Q, D), (…, W, D) → (…, Q, W) inputs of the soft-max."""
        if self.config.distance == "cosine":
            return self.config.cosine_scale * cosine_scores(query, prototypes)
        return distance_scores(query, prototypes)

    def official_names(self) -> dict[str, tuple[str, ...]]:
        """Own state key → own name; only the backbone has weights."""
        return backbone_names(self.backbone.stages, "backbone.stages.")[0]

    def other_names(self) -> tuple[dict[str, tuple[str, ...]], ...]:
        """What others call the backbone's tensors."""
        return backbone_names(self.backbone.stages, "backbone.stages.")[1:]

    def embed(self, images: Tensor) -> Tensor:
        """(b, c, H, W) → (b, D), the flattened feature map; with ``test_maps`` its average over maps of the image."""
        if not self.config.test_maps:
            return self.backbone(images).flatten(1)
        half = scaled_jitter(Jitter(), self.config.jitter / 2)
        maps = draw_affine(self.config.test_maps, half, torch.Generator().manual_seed(0))
        seen = [self.backbone(warp(images, one.expand(len(images), -1, -1))).flatten(1) for one in maps]
        return torch.stack(seen).mean(0)

    def adapt(self, support: Support) -> Tensor:
        """Prototypes (n_way, D), eq. 1."""
        return class_means_by_label(support.x, support.y, support.n_way)

    def predict(self, state: Tensor, query: Tensor) -> Tensor:
        """Minus squared distances to the prototypes, up to |query|² (n_query, n_way), eq. 8, or cosines."""
        return self._ranking(query[None], state[None])[0]

    def predict_batch(self, batch: EpisodeBatch) -> Tensor:
        """Do both for many episodes: (E, n_query, n_way)."""
        return self._ranking(batch.query, class_means(batch.support))

    def _ranking(self, query: Tensor, prototypes: Tensor) -> Tensor:
        return (cosine_scores if self.config.distance == "cosine" else linear_scores)(query, prototypes)
