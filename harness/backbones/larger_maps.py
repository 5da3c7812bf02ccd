"""Backbones whose last stages do not halve their maps."""

from __future__ import annotations

from typing import Any

from torch import nn

from harness.backbones.backbone import Backbone
from harness.backbones.conv4 import Conv4
from harness.backbones.resnet12 import ResNet12


def remove_last_pools(backbone: Backbone, n: int) -> None:
    """Take the 2×2 max pools of the last stages out, in place: maps get 2ⁿ times as high and wide.

    Args:
        backbone: a conv4 or resnet12, whose every stage ends in a pool; others stay as they are.
        n: how many stages, in [0, 4].
    """
    if not isinstance(backbone, Conv4 | ResNet12):
        return
    for stage in list(backbone.stages)[len(backbone.stages) - n :]:
        chain: Any = stage if isinstance(stage, nn.Sequential) else stage.finish
        [place] = [i for i, layer in enumerate(chain) if isinstance(layer, nn.MaxPool2d)]
        chain[place] = nn.Identity()
    side = backbone.image_size >> (len(backbone.stages) - n)
    backbone.feature_size = (side, side)
