"""The backbone of saved features: there is nothing to compute."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from harness.backbones.backbone import Backbone, check_input


class StoredFeatures(Backbone):
    """Passes features on: (b, D, 1, 1), the input of settings whose images are saved features, stays as it is."""

    smallest: ClassVar[int] = 1

    def __init__(self, image_size: int, channels: int) -> None:
        check_input("features", image_size, channels, self.smallest)
        super().__init__(nn.Sequential(), channels, (image_size, image_size), "torch")
