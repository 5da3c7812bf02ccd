"""The window for methods: what one is, what it is given, and how its hyper-parameters are declared.

``harness.ops`` (numerics) and ``harness.backbones`` are libraries that a method may import too; the names of theirs
that stand here are kept for methods that import this module alone.
"""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

from torch import Tensor

from harness.backbones.backbone import Backbone, n_parameters
from harness.backbones.conv4 import Conv4
from harness.backbones.drop import Squares
from harness.backbones.drop_layers import add_drop_layers, drop_blocks
from harness.backbones.official import backbone_names, low_shot_names, official_names
from harness.backbones.two_branch import TwoBranch
from harness.images.patches import Grid, RandomCrops
from harness.images.support_views import SupportViews
from harness.method.episodic import OnEpisodes
from harness.method.heads import Head, Normalisation, NormalisedHead, Normaliser, OnFeatures
from harness.method.hyper import hyper, training_values
from harness.method.later import Later
from harness.method.protocol import need_of, needs
from harness.method.ranges import check_ranges
from harness.method.recipe import Conditions
from harness.method.starts import Pretrained, StartsFrom, go_on_from
from harness.method.support import BaseSupport, EpisodeBatch, Support
from harness.method.trainable import trainable
from harness.ops.binocular import (
    dense_cross_entropy,
    divergence,
    elastic_margin,
    elastic_scores,
    location_distances,
    locations,
    mutual_divergence,
    root_features,
)
from harness.ops.linear_head import Sgd, draw_heads, draw_orders, fit_heads, with_bias
from harness.ops.margin import Similarity, margin_scores, similarities
from harness.ops.normalise import centre_and_normalise, l2_normalise
from harness.ops.precision import full_precision
from harness.ops.prototypes import (
    EpisodeLoss,
    LabelMeans,
    class_means,
    class_means_by_label,
    cosine_scores,
    distance_scores,
    episode_loss,
    labelled,
    linear_scores,
    prototypical_loss,
    squared_distances,
    streamed_means,
)
from harness.ops.schedules import milestone_decay, warmup_cosine
from harness.training.base_set import BaseSet, TrainingEpisode
from harness.training.episodic import train_on_episodes
from harness.training.fit_context import FitContext

__all__ = [
    "Backbone",
    "BaseSet",
    "BaseSupport",
    "Conditions",
    "Conv4",
    "EpisodeBatch",
    "EpisodeLoss",
    "FitContext",
    "Grid",
    "Head",
    "LabelMeans",
    "Later",
    "Method",
    "Normalisation",
    "NormalisedHead",
    "Normaliser",
    "OnEpisodes",
    "OnFeatures",
    "Pretrained",
    "RandomCrops",
    "Sgd",
    "Similarity",
    "Squares",
    "StartsFrom",
    "Support",
    "SupportViews",
    "TrainingEpisode",
    "TwoBranch",
    "add_drop_layers",
    "backbone_names",
    "centre_and_normalise",
    "check_ranges",
    "class_means",
    "class_means_by_label",
    "cosine_scores",
    "dense_cross_entropy",
    "distance_scores",
    "divergence",
    "draw_heads",
    "draw_orders",
    "drop_blocks",
    "elastic_margin",
    "elastic_scores",
    "episode_loss",
    "fit_heads",
    "full_precision",
    "go_on_from",
    "hyper",
    "l2_normalise",
    "labelled",
    "linear_scores",
    "location_distances",
    "locations",
    "low_shot_names",
    "margin_scores",
    "milestone_decay",
    "mutual_divergence",
    "n_parameters",
    "need_of",
    "needs",
    "official_names",
    "prototypical_loss",
    "root_features",
    "similarities",
    "squared_distances",
    "streamed_means",
    "train_on_episodes",
    "trainable",
    "training_values",
    "warmup_cosine",
    "with_bias",
]


class Method(Protocol):
    """What a method has; built as ``Mine(config, backbone)``, usually also an ``nn.Module``. ``fit_base`` may be absent.

    Class attributes beside the functions:
        Config: frozen dataclass of hyper-parameters (``harness.api.hyper`` declares one).
        DEFAULTS: optional, values by benchmark, setting or "backbone/setting".
        RECIPES: optional, by name ("as-published") further DEFAULTS, in which the entry "conditions" says what else the
            numbers rest on (``harness.api.Conditions``: pipeline, augmentation, selection, queries, episodes, …).
        epoch_images: optional static (config, n_images, n_classes) → training images of one epoch, where it is no pass
            over the base set nor of the episodes of an ``OnEpisodes``; with ``hyper(…, in_epochs=True)`` a training can be given a number of images (``--images``).
        name, version: of the method; a version changes when its numbers may.
        uses_backbone: optional; False builds none and passes an identity, as for a class without ``fit_base``, ``embed`` and
            ``takes``.
        transductive: optional, default False; True when predictions depend on the other queries.
        assumes_balance: optional, default False; True when it takes the queries to have as many of every class.
        takes: optional, in place of an ``embed`` of its own: "vectors" or "maps", what a head is given of the fit that
            ``Config.features`` names (``OnFeatures`` declares it); or "images", normalised as in training, for a method
            that trains a copy of its network in ``adapt`` or ``predict`` (``support.trainable``).
        passes: optional static method of a configuration: through the backbone, how often each image of an episode at most;
            the price of prediction, shown on the run's page and checked by the contract.
        called_by: optional name of the hyper-parameter by which labels call its fits, of what is built on them.
        untrained: optional; True when every seed gives the same weights, so that one run says all, as without ``fit_base``
            and a backbone.
        equivariant: optional, default False; True when renaming classes renames the columns exactly.
        protocols: optional, default {"episodic"}; also "joint" and "closed", see ``Support``.
        episode_batch: optional, episodes in one ``predict_batch`` (default 0: as many as fit the processor's cache).
        requires: optional static method of a configuration: the fits it is built on, as ``[needs("representation")]``.
        views: optional attribute of instances: views that ``embed`` is given of each picture (``Grid``, ``RandomCrops``,
            ``SupportViews``); of a head those of which it is given features, (n, v, D).
        reference: optional BibTeX of the paper, for the pages.
        CONTRACT: optional hyper-parameters of a training that takes seconds, for the contract's tiny images.
    """

    name: ClassVar[str]
    version: ClassVar[str]

    def fit_base(self, base: BaseSet, ctx: FitContext) -> None:
        """Optional: learn from base classes. May ask for validation accuracy; novel images are not open yet."""

    def adapt(self, support: Support) -> Any:
        """Return any object that describes the support: prototypes, a head. Must not change self.

        Gradients are off and parameters frozen; a method that optimises here does it on the copy that
        ``with support.trainable(self.backbone) as copy`` opens, or on tensors of its own under ``torch.enable_grad()``.
        """

    def predict(self, state: Any, query: Tensor) -> Tensor:
        """Query (n_query, *F) → scores (n_query, n_way), float, higher is likelier, finite."""
