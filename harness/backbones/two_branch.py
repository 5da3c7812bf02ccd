"""Any backbone with its last stage doubled: one shared trunk, two views of every image."""

from __future__ import annotations

import copy
from typing import NamedTuple

from torch import Tensor, nn

from harness.backbones.backbone import Backbone, channels_last


class TwoViews(NamedTuple):
    """The feature maps of the two branches, each (b, C, h, w)."""

    global_map: Tensor
    local_map: Tensor


class TwoBranch(nn.Module):
    """A shared trunk and two last stages of equal shape and independent weights (Zhou et al. 2021, BML).

    Args:
        backbone: gives its stages to the new network: all but the last become the trunk, the last one the
            global branch; the local branch is drawn afresh from torch's global generator.

    Attributes:
        channels: C of either feature map.
        feature_size: (h, w) of either feature map.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.trunk = backbone.stages[:-1]
        self.global_branch = backbone.stages[-1]
        self.local_branch = copy.deepcopy(self.global_branch)
        backbone.draw_weights(self.local_branch)
        self.channels = backbone.channels
        self.feature_size = backbone.feature_size

    def forward(self, images: Tensor) -> TwoViews:
        """Map (b, c, H, W) images to two (b, C, h, w) feature maps."""
        shared = self.trunk(channels_last(images))
        return TwoViews(self.global_branch(shared), self.local_branch(shared))
