"""Magnet loss (Rippel, Paluri, Dollár, Bourdev, ICLR 2016, arXiv:1511.05939).

Each class is a few clusters in the space that is learned. A batch is a cluster whose members lose much, with the
clusters of other classes nearest to it; members are pulled to the mean of their cluster and away from those of other
classes, in units of the variance (eq. 5). A query is told by a vote of its nearest clusters (kNC, eq. 6).

In an episode the clusters are those of the support: k of each class, or its images where there are no more.

What differs from public code: the loss is a log-sum-exp without the constants that cap it at 18.4; the scale is one
over twice the variance, as eq. 5 has it (``scale=squared`` is the other reading); a loss of 0 counts as measured, and
a cluster that no batch has met is as likely a seed as an average one, where they hardly ever meet it; the variance of
the vote is an exponential average of that in training, without its untrained beginning. Version 2 fills a cluster that
has run empty with the member farthest from its own (the paper has no word on it); version 1 left it empty, so that of
15 clusters of five classes 4 were gone at the end and batches were short. With one cluster a class both are the same.

The DEFAULTS of small sets were chosen on validation classes of omniglot-small: with a margin of 7 in place of 1 nearly
every image goes on to be pulled. Those classes are one hard alphabet, on which protonet has 70% (5-way, one shot), too.
On validation images of cifar10 the margin of 1 and one cluster a class were best; at 7 the loss stays near the margin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from harness.api import Backbone, BaseSet, EpisodeBatch, FitContext, Pretrained, Support, check_ranges, hyper
from harness.backbones.embedding import Embedding, embedded
from harness.ops.clusters import ClusterIndex, cluster_index, lloyd, spread_start
from harness.ops.magnet import (
    ClusterBatch,
    MagnetLosses,
    cluster_losses,
    draw_cluster_batch,
    magnet_loss,
)
from harness.ops.mixtures import Centres, centre_distances, nearest_cluster_posterior, owners

_KEPT = 0.99  # share of the running variance that a step keeps


class Magnet(nn.Module):
    """Clusters that attract their members and repel those of other classes."""

    @dataclass(frozen=True)
    class Config(Pretrained):
        """Hyper-parameters; the field defaults are those of public code for Oxford Flowers."""

        k: int = hyper(3, "clusters of a class, ≥ 1 (§3.2)")
        clusters: int = hyper(12, "clusters in a batch, the seed's and its impostors', ≥ 2 (§3.2: m)")
        members: int = hyper(4, "examples of each cluster in a batch, ≥ 2 (§3.2: d)")
        alpha: float = hyper(1.0, "margin of the loss, ≥ 0 (eq. 5)")
        scale: Literal["plain", "squared"] = hyper(
            "plain", "1 / 2v or 1 / 2v² on squared distances (eq. 5, 4)"
        )
        epochs: int = hyper(100, "passes of batches_per_epoch batches, ≥ 1", in_epochs=True)
        batches_per_epoch: int = hyper(100, "batches between two validations, ≥ 1")
        index_every: int = hyper(
            0, "batches until all images are clustered anew, ≥ 0; 0: as many as pass all once"
        )
        lr: float = hyper(1e-3, "Adam's first step size, > 0; falls to 0 along half a cosine")
        augment: bool = hyper(True, "images are augmented as goes with the pipeline")
        dimension: int = hyper(0, "width of a linear layer on the backbone, ≥ 0; 0: none")
        normalise: bool = hyper(False, "features have length one")
        image_size: int | None = hyper(None, "edge of the images in pixels, where it is not the benchmark's")
        validation_shot: int = hyper(1, "shots of the 5-way validation episodes that choose the epoch, ≥ 1")
        nearest: int = hyper(128, "clusters that vote, ≥ 1 (§3.3: L)", phase="adapt")

        def __post_init__(self) -> None:
            """Check ranges; all that is wrong is said together."""
            counts = "k epochs batches_per_epoch validation_shot nearest"
            check_ranges(self, {"≥ 0": "alpha dimension index_every", "≥ 1": counts, "≥ 2": "clusters members", "> 0": "lr"})  # fmt: skip

    name: ClassVar[str] = "magnet"
    version: ClassVar[str] = "2"
    reference: ClassVar[str] = """@inproceedings{rippel2016metric,
      title={Metric Learning with Adaptive Density Discrimination},
      author={Rippel, Oren and Paluri, Manohar and Doll{\\'a}r, Piotr and Bourdev, Lubomir},
      booktitle={International Conference on Learning Representations},
      year={2016},
      eprint={1511.05939},
      archivePrefix={arXiv},
    }"""
    equivariant: ClassVar[bool] = True
    protocols: ClassVar[set[str]] = {"episodic", "joint", "closed"}
    CONTRACT: ClassVar[dict[str, Any]] = {"epochs": 2, "batches_per_epoch": 30}
    _DRAWINGS: ClassVar[dict[str, Any]] = {
        "k": 1,
        "clusters": 40,
        "alpha": 7.0,
        "members": 2,
        "epochs": 25,
        "batches_per_epoch": 50,
        "lr": 2e-3,
    }
    DEFAULTS: ClassVar[dict[str, dict[str, Any]]] = {
        "glyphs": _DRAWINGS,
        "glyphs-closed": _DRAWINGS,
        "glyphs-digits": _DRAWINGS,
        "glyphs-lowshot": _DRAWINGS,
        "omniglot": {**_DRAWINGS, "epochs": 1000},
        "omniglot-small": _DRAWINGS,
        "omniglot-small-lowshot": _DRAWINGS,
        "omniglot-lake": _DRAWINGS,
        "cifar10": {**_DRAWINGS, "clusters": 5, "alpha": 1.0, "members": 8},
    }

    @staticmethod
    def epoch_images(config: Config, n_images: int, n_classes: int) -> int:
        """Training images of one epoch."""
        return (
            config.batches_per_epoch * config.members * min(config.clusters, 1 + (n_classes - 1) * config.k)
        )

    embed: Embedding

    def __init__(self, config: Config, backbone: Backbone) -> None:
        super().__init__()
        self.config = config
        self.embed = Embedding(backbone, dimension=config.dimension, is_normalised=config.normalise)
        self.variance: Tensor  # of members around their clusters, running
        self.register_buffer("variance", torch.zeros(()))

    def fit_base(self, base: BaseSet, ctx: FitContext) -> None:
        """Train on batches of neighbouring clusters (§3.2)."""
        c, memory = self.config, _Memory(base, self.config.k, self.embed.width)
        every = c.index_every or max(1, base.n_images // (c.clusters * c.members))
        optimiser = torch.optim.Adam(self.parameters(), lr=c.lr)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, c.epochs * c.batches_per_epoch)
        for epoch in ctx.epochs(c.epochs, model=self, memory=memory, optimiser=optimiser, schedule=schedule):
            seen = []
            for step in range(epoch * c.batches_per_epoch, (epoch + 1) * c.batches_per_epoch):
                if ctx.is_spent():
                    break
                if step % every == 0:
                    memory.cluster(embedded(self.embed, base.all_images()), ctx.rng)
                batch = memory.draw(c.clusters, c.members, ctx.rng)
                found = self._losses(batch, base, ctx)
                ctx.backward(found.loss)
                ctx.step(optimiser)
                schedule.step()
                memory.measure(batch.rows.flatten(), found.per_example)
                self.variance.lerp_(found.variance.detach(), 1 - (_KEPT if step else 0.0))
                own = torch.arange(len(batch.rows), device=ctx.device).repeat_interleave(c.members)
                seen.append(torch.stack([found.loss.detach(), (found.nearest == own).float().mean()]))
            points = dict(zip(("loss", "train_accuracy"), torch.stack(seen).mean(0).tolist(), strict=True))
            validation = ctx.keep_best(self, way=5, shot=c.validation_shot)
            points |= {} if validation is None else {"validation_accuracy": validation}
            ctx.log((epoch + 1) * c.batches_per_epoch, variance=float(self.variance), **points)

    def _losses(self, batch: ClusterBatch, base: BaseSet, ctx: FitContext) -> MagnetLosses:
        images, _ = base.take(batch.rows.flatten(), augment=self.config.augment)
        with ctx.autocast():
            features = self.embed(images)
        cluster_class = batch.cluster_class.to(ctx.device)
        return magnet_loss(features.float(), cluster_class, alpha=self.config.alpha, scale=self.config.scale)

    def adapt(self, support: Support) -> Centres:
        """Clusters of each class; jointly of the base classes too, closed of those alone."""
        if support.base is None:
            centre = self._clusters(support.by_class())
            owner = owners(support.n_way, len(centre) // support.n_way).to(centre.device)
            return Centres(centre, owner, support.n_way)
        x, y = support.gathered()
        index = cluster_index(x, y, support.n_way, self.config.k, rng=support.rng)
        filled = index.size.nonzero().squeeze(1)
        return Centres(index.centroid[filled], filled // self.config.k, support.n_way)

    def predict(self, state: Centres, query: Tensor) -> Tensor:
        """Votes of the nearest clusters, (n_query, n_way), by eq. 6."""
        distance = centre_distances(query, state.centre)  # (…, Q, M)
        return nearest_cluster_posterior(
            distance, state.owner, state.n_classes, self.variance, n_nearest=self.config.nearest
        )

    def predict_batch(self, batch: EpisodeBatch) -> Tensor:
        """Do both for many episodes: (E, n_query, n_way)."""
        n_way = batch.n_way
        centre = self._clusters(batch.support.flatten(0, 1)).unflatten(0, (len(batch.support), -1))
        owner = owners(n_way, centre.shape[1] // n_way).to(centre.device)
        return self.predict(Centres(centre, owner, n_way), batch.query)

    def _clusters(self, shots: Tensor) -> Tensor:
        """(B, S, D) → (B·k, D), from starts without chance; the shots themselves where there are no more than k."""
        if shots.shape[1] <= self.config.k:
            return shots.flatten(0, 1)
        everything = torch.ones(shots.shape[:2], dtype=torch.bool, device=shots.device)
        return lloyd(shots, everything, spread_start(shots, self.config.k), 20)[0].flatten(0, 1)


class _Memory(nn.Module):
    """Cluster and latest loss of every base image, on the CPU; saved with the training."""

    centroid: Tensor  # (C·k, D)
    assignment: Tensor  # (N,) int64
    losses: Tensor  # (N,)
    is_measured: Tensor  # (N,) bool

    def __init__(self, base: BaseSet, k: int, width: int) -> None:
        super().__init__()
        self._label, self._n_classes, self._k = base.labels, base.n_classes, k
        self.register_buffer("centroid", torch.full((base.n_classes * k, width), torch.nan))
        self.register_buffer("assignment", base.labels * k)
        self.register_buffer("losses", torch.zeros(base.n_images))
        self.register_buffer("is_measured", torch.zeros(base.n_images, dtype=torch.bool))

    def cluster(self, features: Tensor, rng: torch.Generator) -> None:
        """Cluster all images anew, from where the centroids were."""
        start = None if self.centroid.isnan().any() else self.centroid.to(features)
        label = self._label.to(features.device)
        found = cluster_index(features, label, self._n_classes, self._k, rng=rng, start=start)
        self.centroid.copy_(found.centroid)
        self.assignment.copy_(found.assignment)

    def measure(self, rows: Tensor, losses: Tensor) -> None:
        """Remember the losses of a batch."""
        self.losses[rows] = losses.detach().cpu()
        self.is_measured[rows] = True

    def draw(self, m: int, d: int, rng: torch.Generator) -> ClusterBatch:
        """Draw a batch of m clusters, d members of each."""
        size = self.assignment.bincount(minlength=len(self.centroid))
        index = ClusterIndex(self.centroid, self.assignment, size)
        return draw_cluster_batch(index, self.losses_of_clusters(), self._k, m, d, rng)

    def losses_of_clusters(self) -> Tensor:
        """(C·k,); a cluster that no batch has met counts as an average one."""
        known = self.losses[self.is_measured]
        average = float(known.mean()) if len(known) else 0.0
        return cluster_losses(
            self.losses, self.is_measured, self.assignment, len(self.centroid), unmeasured=average
        )
