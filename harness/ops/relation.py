"""The relation module (Sung et al. 2018, arXiv:1711.06025): a small network that says how alike two maps are."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

UNPADDED = 10  # side of a map that two convolutions without padding and two pools leave something of


class RelationModule(nn.Module):
    """Twice convolution 3×3, batch norm, ReLU and 2×2 max pool on a pair of maps, then two linear layers (§3.3, fig. 2).

    Maps smaller than 10×10 are padded before each convolution. The names of its tensors are those of the authors' code.

    Args:
        channels: C of a map; every convolution gives as many.
        feature_size: (h, w) of a map, at least 4×4.
        hidden: width of the first linear layer.

    Raises:
        ValueError: for a smaller map.
    """

    def __init__(self, channels: int, feature_size: tuple[int, int], hidden: int = 8) -> None:
        super().__init__()
        if min(feature_size) < 4:
            raise ValueError(
                f"a map of {feature_size[0]}×{feature_size[1]} is smaller than two 2×2 pools need, 4×4"
            )
        padding = int(min(feature_size) < UNPADDED)
        self.layer1 = _block(2 * channels, channels, padding)
        self.layer2 = _block(channels, channels, padding)
        rows, columns = ((side // 2 if padding else (side - 2) // 2) for side in feature_size)
        rows, columns = ((side // 2 if padding else (side - 2) // 2) for side in (rows, columns))
        self.fc1 = nn.Linear(channels * rows * columns, hidden)
        self.fc2 = nn.Linear(hidden, 1)

    def forward(self, support: Tensor, query: Tensor) -> Tensor:
        """Say how alike each query is to each class, before the sigmoid.

        The first convolution of a pair is that of its support half plus that of its query half, so each map is
        convolved once, not once a pair.

        Args:
            support: (..., W, C, h, w) float, a map a class.
            query: (..., Q, C, h, w) float.

        Returns:
            (..., Q, W); in training mode batch statistics are those of all pairs together.
        """
        first: Any = self.layer1[0]
        halves = first.weight.split(query.shape[-3], dim=1)  # support first
        of_class, of_query = (
            functional.conv2d(x.flatten(0, -4), half, bias, padding=first.padding).unflatten(0, x.shape[:-3])
            for x, half, bias in ((support, halves[0], None), (query, halves[1], first.bias))
        )
        pairs = of_query.unsqueeze(-4) + of_class.unsqueeze(-5)  # (..., Q, W, C, h', w')
        x = self.layer2(self.layer1[1:](pairs.flatten(0, -4))).flatten(1)
        return self.fc2(self.fc1(x).relu()).reshape(pairs.shape[:-3])  # (..., Q, W)


def _block(width_in: int, width_out: int, padding: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width_in, width_out, kernel_size=3, padding=padding),
        nn.BatchNorm2d(width_out),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
    )
