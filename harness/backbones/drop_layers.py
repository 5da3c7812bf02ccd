"""Drop layers added to a backbone that a method was given without them."""

from __future__ import annotations

from harness.backbones.backbone import Backbone
from harness.backbones.drop import DropBlock, Squares, drop_layer
from harness.backbones.resnet import BasicBlock, Bottleneck
from harness.backbones.resnet12 import Block
from harness.errors import ConfigError


def add_drop_layers(
    backbone: Backbone, drop_rate: float, block_size: int = 5, squares: Squares = "full"
) -> None:
    """Put the drop layer of its stage after each residual block, in place: dropout in stages 1-2, then DropBlock.

    Args:
        backbone: a residual network whose blocks end in a drop layer; untouched when ``drop_rate`` is 0.
        drop_rate: nominal share of dropped values, in [0, 1).
        block_size: side of the DropBlock squares, at most the side of the last feature map.
        squares: whole squares, or what the published code clears.

    Raises:
        ConfigError: the backbone has no such blocks, its map is smaller than a square, or the rate is out of range.
    """
    stages = [
        [block for block in stage.modules() if isinstance(block, Block | BasicBlock | Bottleneck)]
        for stage in backbone.stages
    ]
    if drop_rate and not any(stages):
        raise ConfigError(
            f"drop_rate is {drop_rate}, but {type(backbone).__name__} has no residual blocks to drop after. "
            "Choose --set drop_rate=0 or a residual backbone (resnet12, resnet18)."
        )
    for number, blocks in enumerate(filter(None, stages), start=1):
        for block in blocks:
            side = min(backbone.feature_size)  # the last map is the smallest of those with squares
            block.finish[-1] = drop_layer(number, drop_rate, block_size, side, squares)


def drop_blocks(backbone: Backbone) -> list[DropBlock]:
    """List the DropBlock layers, whose counters a training of several batches a step may set."""
    return [layer for layer in backbone.modules() if isinstance(layer, DropBlock)]
