"""From images to vectors: a backbone, and what metric learning puts on it."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from harness.backbones.backbone import Backbone
from harness.ops.normalise import l2_normalise


class Embedding(nn.Module):
    """A backbone's vector, linear layers where they are asked for, and length one where that is.

    The vector is conv4's flattened map, and the average over the map of deeper networks.

    Args:
        backbone: from images to maps.
        dimension: width of a linear layer, ≥ 0; 0 for none.
        hidden: width of a layer with ReLU before it, ≥ 0; 0 for none, as without ``dimension``.
        is_centred: whether every number has mean 0 and variance 1, in training over the batch, in evaluation by the
            running statistics (batch norm without scale and shift).
        is_normalised: whether vectors are divided by their length.

    Attributes:
        width: D, of what comes out.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        dimension: int = 0,
        hidden: int = 0,
        is_centred: bool = False,
        is_normalised: bool = False,
    ) -> None:
        super().__init__()
        self.backbone, self._is_normalised = backbone, is_normalised
        width = backbone.width
        layers: list[nn.Module] = []
        if dimension and hidden:
            layers = [nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, dimension)]
        elif dimension:
            layers = [nn.Linear(width, dimension)]
        self.width = dimension or width
        if is_centred:
            layers.append(nn.BatchNorm1d(self.width, affine=False))
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """(b, c, H, W) images → (b, D)."""
        x = self.layers(self.backbone.pooled(self.backbone(images)))
        return l2_normalise(x) if self._is_normalised else x


@torch.no_grad()
def embedded(embed: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Embed images as in evaluation, whatever the module is doing, and leave it as it was.

    Args:
        embed: (b, c, H, W) → (b, D).
        batches: (x, y), as ``base.all_images()`` gives them.

    Returns:
        (N, D) float32 on the device of the images.
    """
    training = [module for module in embed.modules() if module.training]
    embed.eval()
    features = torch.cat([embed(x).float() for x, _ in batches])
    for module in training:
        module.training = True
    return features
