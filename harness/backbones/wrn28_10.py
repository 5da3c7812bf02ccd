"""WRN-28-10: a wide pre-activation ResNet for 80-pixel images."""

from __future__ import annotations

from torch import Tensor, nn

from harness.backbones.backbone import Backbone, Init, check_input
from harness.errors import ConfigError


class WideResNet(Backbone):
    """A 3×3 convolution, three groups of pre-activation blocks, batch norm and ReLU (Zagoruyko 2016).

    80-pixel images give 640×20×20 maps at the default depth 28 and width 10.

    Args:
        image_size: side of the square images in pixels, at least 4.
        channels: input channels, 1 or 3.
        depth: number of layers, 6·n + 4; each group has n blocks.
        widen: factor on the group widths 16, 32, 64.
        drop_rate: dropout between the two convolutions of a block, in [0, 1).
        init: how weights are drawn.

    Raises:
        ConfigError: images below 4 pixels, or a depth that is not 6·n + 4.
    """

    smallest = 4

    def __init__(
        self,
        image_size: int,
        channels: int = 3,
        *,
        depth: int = 28,
        widen: int = 10,
        drop_rate: float = 0.0,
        init: Init = "fan_out",
    ) -> None:
        check_input("wrn28_10", image_size, channels, self.smallest)
        if depth < 10 or depth % 6 != 4:
            raise ConfigError(
                f"wrn28_10 was asked for depth {depth}; it has 6·n + 4 layers: 10, 16, 22, 28, …."
            )
        stages, width_in = [nn.Sequential(nn.Conv2d(channels, 16, 3, padding=1, bias=False))], 16
        for width, stride in ((16 * widen, 1), (32 * widen, 2), (64 * widen, 2)):
            blocks = [WideBlock(width_in, width, stride, drop_rate)]
            blocks += [WideBlock(width, width, 1, drop_rate) for _ in range((depth - 4) // 6 - 1)]
            stages.append(nn.Sequential(*blocks))
            width_in = width
        stages[-1].extend([nn.BatchNorm2d(width_in), nn.ReLU(inplace=True)])
        side = (image_size + 3) // 4
        super().__init__(nn.Sequential(*stages), width_in, (side, side), init)

    @property
    def parts(self) -> tuple[nn.Module, ...]:
        """The first convolution with the first group, the other groups, and the last norm."""
        stem, first, second, third = self.stages
        assert isinstance(third, nn.Sequential)
        return nn.Sequential(stem, first), second, third[:-2], third[-2:]


class WideBlock(nn.Module):
    """Batch norm, ReLU, 3×3 convolution, twice, plus a shortcut.

    Where the shape changes, the shortcut is a 1×1 convolution of the *activated* input; otherwise it is the
    raw input.

    Args:
        width_in: input channels.
        width_out: output channels.
        stride: 1, or 2 to halve the resolution.
        drop_rate: dropout before the second convolution, in [0, 1).
    """

    def __init__(self, width_in: int, width_out: int, stride: int = 1, drop_rate: float = 0.0) -> None:
        super().__init__()
        self.activation = nn.Sequential(nn.BatchNorm2d(width_in), nn.ReLU(inplace=True))
        self.body = nn.Sequential(
            nn.Conv2d(width_in, width_out, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(width_out),
            nn.ReLU(inplace=True),
            nn.Dropout(drop_rate) if drop_rate > 0 else nn.Identity(),
            nn.Conv2d(width_out, width_out, 3, padding=1, bias=False),
        )
        self.shortcut: nn.Module | None = None
        if stride != 1 or width_in != width_out:
            self.shortcut = nn.Conv2d(width_in, width_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, width_in, h, w) to (b, width_out, ⌈h / stride⌉, ⌈w / stride⌉)."""
        activated = self.activation(x)
        out: Tensor = self.body(activated) + (x if self.shortcut is None else self.shortcut(activated))
        return out
