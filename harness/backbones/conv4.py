"""Conv4: four 3×3 convolutions, the small backbone of the prototypical networks."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from harness.backbones.backbone import Backbone, Init, check_input


class Conv4(Backbone):
    """Four blocks of convolution 3×3, batch norm, ReLU and 2×2 max pool (Snell et al. 2017, §3.1).

    A 28-pixel image gives a 1×1 map, an 84-pixel one 5×5: 64 and 1600 numbers when flattened. The pool runs
    before the ReLU — the two commute, and the ReLU then touches a quarter of the values.

    Args:
        image_size: side of the square images in pixels, at least 16.
        channels: input channels, 1 or 3.
        hidden: width of the first three blocks.
        out: width of the last block, the C of the feature map.
        init: "torch" (Snell et al.) or "fan_out" (Liu et al. 2020, Negative Margin).

    Raises:
        ConfigError: ``image_size`` below 16 pixels or fewer than one channel.
    """

    smallest = 16

    def __init__(
        self, image_size: int, channels: int = 3, *, hidden: int = 64, out: int = 64, init: Init = "torch"
    ) -> None:
        check_input("conv4", image_size, channels, self.smallest)
        blocks = [_block(a, b) for a, b in pairwise([channels, hidden, hidden, hidden, out])]
        super().__init__(nn.Sequential(*blocks), out, (image_size // 16, image_size // 16), init)
        self.image_size = image_size

    @property
    def width(self) -> int:
        """C·h·w."""
        return self.flat_features

    def pooled(self, maps: Tensor) -> Tensor:
        """Flattened maps: (b, C, h, w) → (b, C·h·w)."""
        return maps.flatten(1)


def _block(width_in: int, width_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width_in, width_out, kernel_size=3, padding=1),
        nn.BatchNorm2d(width_out),
        nn.MaxPool2d(2),
        nn.ReLU(inplace=True),
    )
