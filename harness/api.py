"""The one module a method imports: types, the hyper-parameter declaration, and the numerics of ``ops``."""

from harness.backbones.backbone import Backbone, n_parameters
from harness.backbones.conv4 import Conv4
from harness.backbones.drop import Squares
from harness.backbones.drop_layers import add_drop_layers, drop_blocks
from harness.backbones.official import official_names
from harness.backbones.two_branch import TwoBranch
from harness.benchmarks.episodes import BaseSupport, EpisodeBatch, Support
from harness.method.hyper import hyper
from harness.method.ranges import check_ranges
from harness.ops.binocular import (
    dense_cross_entropy,
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
    LabelMeans,
    class_means,
    class_means_by_label,
    cosine_scores,
    distance_scores,
    linear_scores,
    prototypical_loss,
    squared_distances,
    streamed_means,
)
from harness.ops.schedules import milestone_decay, warmup_cosine
from harness.training.base_set import BaseSet, TrainingEpisode
from harness.training.fit_context import FitContext

__all__ = [
    "Backbone",
    "BaseSet",
    "BaseSupport",
    "Conv4",
    "EpisodeBatch",
    "FitContext",
    "LabelMeans",
    "Sgd",
    "Similarity",
    "Squares",
    "Support",
    "TrainingEpisode",
    "TwoBranch",
    "add_drop_layers",
    "centre_and_normalise",
    "check_ranges",
    "class_means",
    "class_means_by_label",
    "cosine_scores",
    "dense_cross_entropy",
    "distance_scores",
    "draw_heads",
    "draw_orders",
    "drop_blocks",
    "elastic_margin",
    "elastic_scores",
    "fit_heads",
    "full_precision",
    "hyper",
    "l2_normalise",
    "linear_scores",
    "location_distances",
    "locations",
    "margin_scores",
    "milestone_decay",
    "mutual_divergence",
    "n_parameters",
    "official_names",
    "prototypical_loss",
    "root_features",
    "similarities",
    "squared_distances",
    "streamed_means",
    "warmup_cosine",
    "with_bias",
]
