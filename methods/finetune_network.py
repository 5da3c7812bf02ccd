"""Fine-tuning of a whole network in every episode (Dhillon, Chaudhari, Ravichandran, Soatto 2020, arXiv:1909.02729).

A network is trained to classify the base classes, and its logits of them are kept: after ReLU and division by their length
they are the input of a linear classifier of the episode, which begins at the mean of each class. Then all weights, the
network's too, are fine-tuned: in each of 25 epochs one step of Adam on the cross-entropy of the support, and a second one
on the mean entropy of the queries' predictions (§3.2). ``finetune-network`` leaves the second step out, so that it is not
transductive; one training serves both. The price is stated: each image passes through the network in every epoch.

What differs from the authors' code (github.com/amazon-science/few-shot-baseline): in an episode images are not mirrored,
cropped and recoloured anew before each step, since what an image is would then depend on its place among the queries. They
train on base and validation classes for their other column; training images are augmented as goes with the pipeline.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from harness.api import (
    Backbone,
    BaseSet,
    FitContext,
    Later,
    Support,
    check_ranges,
    full_precision,
    hyper,
    needs,
    training_values,
)
from harness.backbones.embedding import Embedding
from harness.ops.fine_tuning import OnLogits, fine_tune
from harness.ops.mixup import Mix, draw_mix
from harness.ops.schedules import cosine_cycles


class FinetuneNetwork(nn.Module):
    """A classifier on base logits, fine-tuned with the whole network on the support."""

    @dataclass(frozen=True)
    class Config:
        """Hyper-parameters; the field defaults are the authors' for mini-ImageNet with wrn28_10."""

        epochs: int = hyper(120, "passes over the base images, > first_cycle", in_epochs=True)
        first_cycle: int = hyper(
            40, "epochs of the first cosine, ≥ 1; the others are the second", in_epochs=True
        )
        batch_size: int = hyper(256, "images per step, ≥ 2")
        lr: float = hyper(0.1, "SGD's step size at the beginning, > 0; a tenth of it in the second cosine")
        weight_decay: float = hyper(1e-4, "L2 of all weights, ≥ 0")
        smoothing: float = hyper(0.1, "share of the label that is spread over all classes, in [0, 1)")
        mixup: float = hyper(0.25, "of the Beta distribution by which two images are mixed, ≥ 0; 0: none are")
        tune_epochs: int = hyper(25, "of the fine-tuning, ≥ 0", phase="adapt")
        tune_lr: float = hyper(5e-5, "Adam's step size in the fine-tuning, > 0", phase="adapt")

        def __post_init__(self) -> None:
            """Check ranges; all that is wrong is said together."""
            has_second = {f"first_cycle must be < epochs = {self.epochs}": self.first_cycle < self.epochs}
            check_ranges(
                self,
                {
                    "≥ 0": "weight_decay mixup tune_epochs", "≥ 1": "first_cycle", "≥ 2": "batch_size",
                    "> 0": "lr tune_lr", "in [0, 1)": "smoothing",
                },
                has_second,
            )  # fmt: skip

    name: ClassVar[str] = "finetune-network"
    version: ClassVar[str] = "1"
    takes: ClassVar[str] = "images"
    reference: ClassVar[str] = """@inproceedings{dhillon2020baseline,
      title={A Baseline for Few-Shot Image Classification},
      author={Dhillon, Guneet Singh and Chaudhari, Pratik and Ravichandran, Avinash and Soatto, Stefano},
      booktitle={International Conference on Learning Representations},
      year={2020},
      eprint={1909.02729},
      archivePrefix={arXiv},
    }"""
    CONTRACT: ClassVar[dict[str, Any]] = {"epochs": 6, "first_cycle": 3, "batch_size": 32, "tune_epochs": 1}
    _SMALL: ClassVar[dict[str, Any]] = {"epochs": 20, "first_cycle": 8, "batch_size": 64, "mixup": 0.0}
    DEFAULTS: ClassVar[dict[str, dict[str, Any]]] = {
        **dict.fromkeys(("glyphs", "glyphs-digits", "omniglot-small"), _SMALL),
        "cifar10": {**_SMALL, "epochs": 40, "first_cycle": 15},
    }

    def __init__(self, config: Config, backbone: Backbone) -> None:
        super().__init__()
        features = Embedding(backbone)
        classifier = Later(lambda n_classes: nn.Linear(features.width, n_classes), "weight")
        self.config, self.network = config, nn.Sequential(features, classifier)

    @property
    def backbone(self) -> Any:
        """What the images pass through."""
        return self.network[0].backbone

    @staticmethod
    def passes(config: Config) -> int:
        """Through the backbone: an image in every epoch, and once before or after them."""
        return config.tune_epochs + 1

    def fit_base(self, base: BaseSet, ctx: FitContext) -> None:
        """Train a classifier of the base classes; the last weights are kept, as theirs are."""
        c, n_steps = self.config, base.n_batches(self.config.batch_size)
        classifier: Any = self.network[1]
        classifier.of(base.n_classes).to(ctx.device)
        optimiser = torch.optim.SGD(self.parameters(), c.lr, 0.9, weight_decay=c.weight_decay, nesterov=True)
        cycles = ((c.first_cycle, c.lr), (c.epochs - c.first_cycle, c.lr / 10))
        for epoch in ctx.epochs(c.epochs, model=self, optimiser=optimiser):
            seen = []
            for step, (x, y) in enumerate(base.batches(c.batch_size, augment=True)):
                for group in optimiser.param_groups:
                    group["lr"] = cosine_cycles(epoch + step / n_steps, cycles=cycles)
                mix = draw_mix(len(x), c.mixup, ctx.rng) if c.mixup else Mix(torch.arange(len(x)), 1.0)
                with ctx.autocast():
                    scores = full_precision(self.network(mix.of(x)))
                loss = mix.loss(scores, y, c.smoothing)
                ctx.backward(loss)
                ctx.step(optimiser)
                seen.append(torch.stack([loss.detach(), (scores.argmax(1) == y).to(loss).mean()]))
            points = dict(zip(("loss", "train_accuracy"), torch.stack(seen).mean(0).tolist(), strict=True))
            ctx.log((epoch + 1) * n_steps, **points)

    def tuned(self, support: Support, query: Tensor | None = None) -> OnLogits:
        """Fine-tune a copy of the network for an episode, on queries (n_query, c, H, W) too where there are some."""
        c, task = self.config, OnLogits(self.network, support.x, support.y, support.n_way)
        with support.trainable(task, training=True) as copy:
            fine_tune(copy, support.x, support.y, query, epochs=c.tune_epochs, lr=c.tune_lr)
        return copy

    def adapt(self, support: Support) -> Any:
        """The network of this episode."""
        return self.tuned(support)

    def predict(self, state: Any, query: Tensor) -> Tensor:
        """Logits (n_query, n_way), by running statistics."""
        scores: Tensor = state(query)
        return scores


class TransductiveFinetuneNetwork(FinetuneNetwork):
    """The same, fine-tuned on the entropy of the queries' predictions too: transductive fine-tuning."""

    name: ClassVar[str] = "transductive-finetune-network"
    transductive: ClassVar[bool] = True

    @staticmethod
    def requires(config: FinetuneNetwork.Config) -> list[Any]:
        """The training, which both have in common."""
        return [needs("finetune-network", **training_values(config))]

    def fit_base(self, base: BaseSet, ctx: FitContext) -> None:
        """Take the network over."""
        [need] = self.requires(self.config)
        self.load_state_dict(ctx.require(need.method, **need.config).state_dict())

    def adapt(self, support: Support) -> Any:
        """The support and the state of its generator: the work is done when the queries are known."""
        return support, support.rng.get_state()

    def predict(self, state: Any, query: Tensor) -> Tensor:
        """Logits (n_query, n_way), by running statistics."""
        support, chance = state
        support.rng.set_state(chance)
        scores: Tensor = self.tuned(support, query)(query)
        return scores
