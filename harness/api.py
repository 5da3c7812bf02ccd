"""The one module a method imports: types, the hyper-parameter declaration, and the numerics of ``ops``."""

from harness.backbones.backbone import Backbone, n_parameters
from harness.baseset import BaseSet, TrainingEpisode
from harness.config import hyper
from harness.fitting import FitContext
from harness.ops.normalise import centre_and_normalise, l2_normalise
from harness.ops.prototypes import (
    class_means,
    class_means_by_label,
    cosine_scores,
    distance_scores,
    linear_scores,
    prototypical_loss,
    squared_distances,
)
from harness.types import EpisodeBatch, Support

__all__ = [
    "Backbone",
    "BaseSet",
    "EpisodeBatch",
    "FitContext",
    "Support",
    "TrainingEpisode",
    "centre_and_normalise",
    "class_means",
    "class_means_by_label",
    "cosine_scores",
    "distance_scores",
    "hyper",
    "l2_normalise",
    "linear_scores",
    "n_parameters",
    "prototypical_loss",
    "squared_distances",
]
