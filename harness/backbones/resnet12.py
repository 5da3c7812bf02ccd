"""ResNet-12: four residual blocks of three convolutions, the usual backbone at 84 pixels."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from harness.backbones.backbone import Backbone, Init, check_input
from harness.backbones.drop import Squares, drop_layer


class ResNet12(Backbone):
    """Four blocks of widths 64, 160, 320 and 640, each ending in a 2×2 max pool (Lee et al. 2019, MetaOptNet).

    An 84-pixel image gives a 640×5×5 map. Negative Margin, BML and DeepEMD share this network and differ in
    the drop layers alone: a dropout after blocks 1-2 and a DropBlock after blocks 3-4 when ``drop_rate`` > 0.

    Args:
        image_size: side of the square images in pixels, at least 16.
        channels: input channels, 1 or 3.
        widths: output channels of the four blocks.
        drop_rate: nominal share of dropped values, in [0, 1); BML uses 0.1.
        block_size: side of the DropBlock squares.
        squares: whether DropBlock clears whole squares or only what the published code clears.
        init: how weights are drawn.

    Raises:
        ConfigError: images below 16 pixels, or a feature map smaller than a DropBlock square.
    """

    smallest = 16

    def __init__(
        self,
        image_size: int,
        channels: int = 3,
        *,
        widths: tuple[int, int, int, int] = (64, 160, 320, 640),
        drop_rate: float = 0.0,
        block_size: int = 5,
        squares: Squares = "full",
        init: Init = "fan_out",
    ) -> None:
        check_input("resnet12", image_size, channels, self.smallest)
        stages = [
            Block(a, b, drop_layer(stage, drop_rate, block_size, image_size >> stage, squares))
            for stage, (a, b) in enumerate(pairwise([channels, *widths]), start=1)
        ]
        super().__init__(nn.Sequential(*stages), widths[-1], (image_size // 16, image_size // 16), init)
        self.image_size = image_size


class Block(nn.Module):
    """Three 3×3 convolutions and a 1×1 shortcut, summed, LeakyReLU 0.1, 2×2 max pool, drop layer.

    The pool runs before the last LeakyReLU; both are increasing, so they commute.

    Args:
        width_in: input channels.
        width_out: output channels.
        drop: what follows the pool.
    """

    def __init__(self, width_in: int, width_out: int, drop: nn.Module | None = None) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width_in, width_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(width_out),
            nn.LeakyReLU(0.1, inplace=True),
            nn.Conv2d(width_out, width_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(width_out),
            nn.LeakyReLU(0.1, inplace=True),
            nn.Conv2d(width_out, width_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(width_out),
        )
        self.shortcut = nn.Sequential(
            nn.Conv2d(width_in, width_out, 1, bias=False), nn.BatchNorm2d(width_out)
        )
        self.finish = nn.Sequential(nn.MaxPool2d(2), nn.LeakyReLU(0.1, inplace=True), drop or nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, width_in, h, w) to (b, width_out, h // 2, w // 2)."""
        out: Tensor = self.finish(self.body(x) + self.shortcut(x))  # (b, width_out, h // 2, w // 2)
        return out
