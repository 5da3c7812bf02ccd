"""Several views of an image for the support of an episode: as it is, then changed at random as in training."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from harness.images.augment import augment
from harness.images.augmentations import PLAIN, Augmentation, augmentation
from harness.images.inputs import to_float
from harness.images.stores import ImageStore, Rows
from harness.seeding import torch_generator


@dataclass(frozen=True)
class SupportViews:
    """An image as it is, which a query is, and random changes of it, of which a support image may be all (RFS fits five).

    They are changed as the family of the pipeline trains; where that trains on images as they are, shifted by up to a
    tenth of the edge. In evaluation they are drawn once for each image, so that features can be kept (papers draw them
    anew in each episode).

    Attributes:
        n: changed views, ≥ 1.
    """

    n: int = 5

    @property
    def n_crops(self) -> int:
        """Views of one image: the first is the image as it is."""
        return 1 + self.n

    @staticmethod
    def changed(support: Tensor) -> Tensor:
        """Features of the changed views, each an image of its own: (..., S, v, D) → (..., S · (v - 1), D)."""
        return support[..., 1:, :].flatten(-3, -2)

    @staticmethod
    def as_it_is(query: Tensor) -> Tensor:
        """Features of the image as it is: (..., v, D) → (..., D)."""
        return query[..., 0, :]

    def images(
        self, store: ImageStore, rows: Rows, pipeline: str, device: torch.device, training_pass: int | None
    ) -> Tensor:
        """Gather views.

        Args:
            store: of the images.
            rows: (n,) of it; may repeat.
            pipeline: says polarity and augmentation.
            device: of the result.
            training_pass: which drawing for training; None for that of evaluation.

        Returns:
            (n, 1 + views, c, H, W) float32 in [0, 1], not normalised.
        """
        pixels = torch.from_numpy(store.images(rows)).to(device)  # (n, H, W, c)
        size = pixels.shape[1]
        how = _changes(pipeline, size)
        drawn = [] if training_pass is None else [training_pass]
        changed = [
            augment(
                one.expand(self.n, -1, -1, -1), pipeline, size, torch_generator(0, "views", row, *drawn), how
            )
            for row, one in zip(np.asarray(rows).tolist(), pixels, strict=True)
        ]
        return torch.cat([to_float(pixels, pipeline)[:, None], torch.stack(changed)], dim=1)


def _changes(pipeline: str, size: int) -> Augmentation:
    how = augmentation(pipeline)
    return how if how != PLAIN else replace(PLAIN, name="shifted", crop="window", padding=size // 10)
