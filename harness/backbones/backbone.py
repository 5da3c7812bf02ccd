"""What every backbone offers, and what all of them share: initialisation, layout, refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from harness.errors import ConfigError

Init = Literal["torch", "fan_out"]
"""How weights are drawn: torch's default, or convolutions from N(0, 2 / (k·k·C_out))."""


class Backbone(nn.Module):
    """A network from images to feature maps, as a chain of stages.

    ``forward`` takes (b, c, H, W) float images and returns a (b, C, h, w) feature map of the same dtype.
    Pooling, flattening and scores are the method's business.

    Args:
        stages: the stages in order; the last one may be doubled by a method with two views.
        channels: C, the depth of the feature map.
        feature_size: (h, w) of the feature map at the image size the backbone is built for.
        init: how weights are drawn.
    """

    smallest: ClassVar[int]
    """Side in pixels of the smallest image that leaves a feature map."""

    def __init__(
        self, stages: nn.Sequential, channels: int, feature_size: tuple[int, int], init: Init
    ) -> None:
        super().__init__()
        self.stages = stages
        self.channels = channels
        self.feature_size = feature_size
        self.init: Init = init
        self.draw_weights(self.stages)
        weights_channels_last(self)

    @property
    def flat_features(self) -> int:
        """C·h·w, the length of one flattened feature map."""
        return self.channels * self.feature_size[0] * self.feature_size[1]

    @property
    def width(self) -> int:
        """D of an image's vector."""
        return self.channels

    def pooled(self, maps: Tensor) -> Tensor:
        """The vectors (b, D) of maps (b, C, h, w): averages over the map; conv4's are the whole map."""
        return maps.mean((2, 3))

    @property
    def parts(self) -> tuple[nn.Module, ...]:
        """The blocks between which papers change hidden maps: one after the other they are the network."""
        return tuple(self.stages)

    def changed(self, images: Tensor, part: int, change: Callable[[Tensor], Tensor]) -> Tensor:
        """Map (b, c, H, W) images to (b, C, h, w), with a change of what enters one of the ``parts`` (0: of the images)."""
        x = channels_last(images)
        for i, block in enumerate(self.parts):
            x = block(change(x) if i == part else x)
        return x

    def draw_weights(self, part: nn.Module) -> None:
        """Draw fresh weights for a part of this backbone, in place, from torch's global generator."""
        for layer in part.modules():
            if isinstance(layer, nn.Conv2d | nn.BatchNorm2d):
                layer.reset_parameters()
            if isinstance(layer, nn.Conv2d) and self.init == "fan_out":
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Map (b, c, H, W) images to a (b, C, h, w) feature map."""
        features: Tensor = self.stages(channels_last(images))  # (b, C, h, w)
        return features


def n_parameters(module: nn.Module) -> int:
    """Count the trainable numbers of a module.

    >>> n_parameters(nn.Linear(3, 2))
    8
    """
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def channels_last(images: Tensor) -> Tensor:
    """Lay (b, c, H, W) images out with the channels innermost, which CPU and GPU kernels prefer."""
    return images.contiguous(memory_format=torch.channels_last)


def weights_channels_last(module: nn.Module) -> None:
    """Lay the convolution weights of a module out with the channels innermost, in place; no value changes."""
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing from torch's stubs


def check_input(name: str, image_size: int, channels: int, smallest: int) -> None:
    """Refuse image sizes and channel counts that the named backbone cannot take.

    Raises:
        ConfigError: the size is below ``smallest`` or the number of channels is below 1.
    """
    if image_size < smallest:
        raise ConfigError(
            f"{name} was asked for {image_size}-pixel images, but its pooling leaves nothing below "
            f"{smallest} pixels. Choose an image size of at least {smallest} or a shallower backbone."
        )
    if channels < 1:
        raise ConfigError(f"{name} was asked for {channels} input channels; images have 1 (grey) or 3 (RGB).")
