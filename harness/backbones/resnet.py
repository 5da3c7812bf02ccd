"""ResNet-10, -18 and two of -50, with the 7×7 stem for large images or a 3×3 stem for 84 pixels and below."""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple

from torch import Tensor, nn

from harness.backbones.backbone import Backbone, Init, check_input
from harness.backbones.drop import Squares, drop_layer
from harness.errors import ConfigError

Stem = Literal["7x7", "3x3"]
"""A 7×7 convolution and a pool, each of stride 2, or a single 3×3 convolution of stride 1."""


class ResNet(Backbone):
    """A stem and four stages of residual blocks; stages 2-4 halve the resolution (He et al. 2016).

    Args:
        image_size: side of the square images in pixels.
        channels: input channels, 1 or 3.
        depths: blocks per stage.
        widths: output channels per stage.
        bottleneck: three-convolution blocks (ResNet-50) instead of two-convolution ones.
        stem: see ``Stem``; 224 pixels give 7×7 maps with "7x7", 84 pixels 11×11 with "3x3".
        last_pool: end in a 2×2 max pool (the BML ResNet-18: 11×11 becomes 5×5).
        drop_rate: nominal share of dropped values, in [0, 1): dropout after each block of stages 1-2,
            DropBlock after each block of stages 3-4.
        block_size: side of the DropBlock squares.
        squares: whether DropBlock clears whole squares or only what the published code clears.
        init: how weights are drawn.

    Raises:
        ConfigError: images too small, or a feature map smaller than a DropBlock square.
    """

    smallest = 16
    wide_block: ClassVar[type[nn.Module]]  # below, since blocks come after

    def __init__(
        self,
        image_size: int,
        channels: int = 3,
        *,
        depths: tuple[int, int, int, int] = (2, 2, 2, 2),
        widths: tuple[int, int, int, int] = (64, 128, 256, 512),
        bottleneck: bool = False,
        stem: Stem = "7x7",
        last_pool: bool = False,
        drop_rate: float = 0.0,
        block_size: int = 5,
        squares: Squares = "full",
        init: Init = "fan_out",
    ) -> None:
        check_input("resnet", image_size, channels, self.smallest)
        stages, width_in, sides = [_stem(stem, channels)], 64, _sides(image_size, stem)
        for stage, (depth, width, side) in enumerate(zip(depths, widths, sides, strict=True), start=1):
            drop = DropOptions(stage, drop_rate, block_size, side, squares)
            stages.append(_stage(depth, width_in, width, self.wide_block if bottleneck else BasicBlock, drop))
            width_in = width
        side = sides[-1]
        if last_pool:
            stages[-1].append(nn.MaxPool2d(2))
            side //= 2
        if side == 0:
            raise ConfigError(
                f"last_pool finds a 1×1 map at {image_size} pixels; use larger images or drop it."
            )
        super().__init__(nn.Sequential(*stages), widths[-1], (side, side), init)

    @property
    def parts(self) -> tuple[nn.Module, ...]:
        """The stem with the first stage, then the other stages."""
        return self.stages[:2], *tuple(self.stages)[2:]


class DropOptions(NamedTuple):
    """Where a drop layer stands and what it drops; see ``drop_layer``."""

    stage: int
    drop_rate: float
    block_size: int
    side: int
    squares: Squares


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut, summed, ReLU, drop layer (Negative Margin, BML, low-shot).

    Args:
        width_in: input channels.
        width_out: output channels.
        stride: 1, or 2 to halve the resolution.
        drop: what follows the ReLU.
    """

    def __init__(self, width_in: int, width_out: int, stride: int = 1, drop: nn.Module | None = None) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width_in, width_out, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(width_out),
            nn.ReLU(inplace=True),
            nn.Conv2d(width_out, width_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(width_out),
        )
        self.shortcut = nn.Sequential()
        if stride != 1 or width_in != width_out:
            self.shortcut.append(nn.Conv2d(width_in, width_out, 1, stride, bias=False))
            self.shortcut.append(nn.BatchNorm2d(width_out))
        self.finish = nn.Sequential(nn.ReLU(inplace=True), drop or nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, width_in, h, w) to (b, width_out, ⌈h / stride⌉, ⌈w / stride⌉)."""
        out: Tensor = self.finish(self.body(x) + self.shortcut(x))
        return out


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions and a shortcut, summed, ReLU (Hariharan and Girshick 2017).

    Two things differ from the usual ResNet-50, and released low-shot weights need both: the 3×3 convolution
    has a bias, and the 1×1 shortcut has no batch norm.

    Args:
        width_in: input channels.
        width_out: output channels, four times the inner width.
        stride: 1, or 2 to halve the resolution.
        drop: what follows the ReLU.
    """

    def __init__(self, width_in: int, width_out: int, stride: int = 1, drop: nn.Module | None = None) -> None:
        super().__init__()
        inner = width_out // 4
        self.body = nn.Sequential(
            nn.Conv2d(width_in, inner, 1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(inplace=True),
            nn.Conv2d(inner, inner, 3, stride, padding=1),
            nn.BatchNorm2d(inner),
            nn.ReLU(inplace=True),
            nn.Conv2d(inner, width_out, 1, bias=False),
            nn.BatchNorm2d(width_out),
        )
        self.shortcut = nn.Sequential()
        if width_in != width_out:
            self.shortcut.append(nn.Conv2d(width_in, width_out, 1, stride, bias=False))
        self.finish = nn.Sequential(nn.ReLU(inplace=True), drop or nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, width_in, h, w) to (b, width_out, ⌈h / stride⌉, ⌈w / stride⌉)."""
        out: Tensor = self.finish(self.body(x) + self.shortcut(x))
        return out


class UsualBottleneck(Bottleneck):
    """1×1, 3×3 and 1×1 convolutions and a shortcut, as torchvision has them: no bias, the shortcut normalised."""

    def __init__(self, width_in: int, width_out: int, stride: int = 1, drop: nn.Module | None = None) -> None:
        super().__init__(width_in, width_out, stride, drop)
        inner = width_out // 4
        self.body[3] = nn.Conv2d(inner, inner, 3, stride, padding=1, bias=False)
        if len(self.shortcut):
            self.shortcut.append(nn.BatchNorm2d(width_out))


ResNet.wide_block = Bottleneck


class ResNet10(ResNet):
    """One basic block per stage (Hariharan and Girshick 2017); options as in ``ResNet``."""

    def __init__(
        self, image_size: int, channels: int = 3, *, stem: Stem = "7x7", init: Init = "fan_out"
    ) -> None:
        super().__init__(image_size, channels, depths=(1, 1, 1, 1), stem=stem, init=init)


class ResNet50(ResNet):
    """Bottleneck blocks 3, 4, 6, 3, maps of 2048 channels; options as in ``ResNet``."""

    def __init__(
        self, image_size: int, channels: int = 3, *, stem: Stem = "7x7", init: Init = "fan_out"
    ) -> None:
        depths, widths = (3, 4, 6, 3), (256, 512, 1024, 2048)
        super().__init__(
            image_size, channels, depths=depths, widths=widths, bottleneck=True, stem=stem, init=init
        )


class ResNet50Torchvision(ResNet50):
    """The usual ResNet-50, layer for layer torchvision's; options as in ``ResNet``."""

    wide_block = UsualBottleneck


class ResNet18Small(ResNet):
    """ResNet-18 for 84 pixels as the field uses it: a 3×3 stem, maps of 11×11; options as in ``ResNet``."""

    def __init__(
        self, image_size: int, channels: int = 3, *, drop_rate: float = 0.0, block_size: int = 5,
        squares: Squares = "full", init: Init = "fan_out",
    ) -> None:  # fmt: skip
        super().__init__(
            image_size,
            channels,
            stem="3x3",
            drop_rate=drop_rate,
            block_size=block_size,
            squares=squares,
            init=init,
        )


class ResNet18Bml(ResNet):
    """The ResNet-18 of Zhou et al. 2021 (BML) at 84 pixels: a 3×3 stem and a last pool, maps of 5×5."""

    def __init__(
        self, image_size: int, channels: int = 3, *, drop_rate: float = 0.0, block_size: int = 5,
        squares: Squares = "full", init: Init = "fan_out",
    ) -> None:  # fmt: skip
        super().__init__(
            image_size, channels, stem="3x3", last_pool=True, drop_rate=drop_rate, block_size=block_size,
            squares=squares, init=init,
        )  # fmt: skip


def _stem(stem: Stem, channels: int) -> nn.Sequential:
    if stem == "3x3":
        convolution = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(64), nn.ReLU(inplace=True))
    convolution = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    pool = nn.MaxPool2d(3, stride=2, padding=1)
    return nn.Sequential(convolution, nn.BatchNorm2d(64), pool, nn.ReLU(inplace=True))


def _stage(depth: int, width_in: int, width: int, block: type[nn.Module], drop: DropOptions) -> nn.Sequential:
    first = block(width_in, width, 1 if drop.stage == 1 else 2, drop_layer(*drop))
    return nn.Sequential(first, *(block(width, width, 1, drop_layer(*drop)) for _ in range(depth - 1)))


def _sides(image_size: int, stem: Stem) -> list[int]:
    """Sides of the maps of the four stages; a padded layer of stride 2 halves a side, rounded up."""
    sides = [image_size if stem == "3x3" else (image_size + 3) // 4]
    for _ in range(3):
        sides.append((sides[-1] + 1) // 2)
    return sides
