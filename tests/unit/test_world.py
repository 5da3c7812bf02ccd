"""Several processes that train together: the same global batches, each process its part."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.errors import ConfigError, PluginError
from harness.images.augmentations import TRAINING
from harness.training.base_set import BaseSet
from harness.training.processes import World


class Store:
    """Images that say which they are."""

    def __init__(self, n_classes: int, n: int, size: int = 6) -> None:
        self.counts = np.full(n_classes, n)
        self.label = np.repeat(np.arange(n_classes), n)
        self.class_names = tuple(map(str, range(n_classes)))
        self.shape = (size, size, 3)
        random = np.random.default_rng(0)
        self._images = random.integers(0, 256, (len(self.label), size, size, 3), dtype=np.uint8)

    def images(self, rows: Any) -> Any:
        return self._images[rows]


def base(world: World, pipeline: str = "stored", n_images: int = 32) -> BaseSet:
    rng = torch.Generator().manual_seed(3)
    store: Any = Store(4, n_images // 4)
    return BaseSet(store, pipeline, torch.device("cpu"), rng, world=world)


def one_of(size: int) -> list[World]:
    """Processes that have opened ``ctx.epochs``."""
    return [World(rank, size, [torch.zeros(1)]) for rank in range(size)]


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("pipeline", ["stored", "metaoptnet"])
def test_the_parts_together_are_the_batches_of_one_process(size: int, pipeline: str) -> None:
    """Bit by bit, augmentation included: every process draws for all images and keeps its own."""
    assert (TRAINING[pipeline].name == "none") == (pipeline == "stored")
    whole = [batch for _ in range(2) for batch in _two_passes(base(World(), pipeline))]
    parts = [[batch for _ in range(2) for batch in _two_passes(base(w, pipeline))] for w in one_of(size)]
    assert all(len(part) == len(whole) for part in parts)
    for (x, y), *shares in zip(whole, *parts, strict=True):
        assert torch.equal(x, torch.cat([part for part, _ in shares]))
        assert torch.equal(y, torch.cat([label for _, label in shares]))


def _two_passes(images: BaseSet) -> list[tuple[Tensor, Tensor]]:
    return [batch for _ in range(2) for batch in images.batches(8, augment=True)]


def test_what_does_not_divide_at_the_end_of_a_pass_is_left_out() -> None:
    sizes = [[len(x) for x, _ in base(w, n_images=28).batches(12)] for w in one_of(2)]
    assert sizes == [[6, 6, 2]] * 2
    sizes = [[len(x) for x, _ in base(w, n_images=20).batches(6)] for w in one_of(2)]
    assert sizes == [[3, 3, 3]] * 2  # one image each would have no batch statistics
    assert base(one_of(2)[0], n_images=20).n_batches(6) == 3 and base(World(), n_images=20).n_batches(6) == 4


def test_what_cannot_be_divided_is_refused() -> None:
    world = one_of(2)[1]
    with pytest.raises(ConfigError, match="batches of 7 images cannot be divided among 2"):
        next(base(world).batches(7))
    with pytest.raises(ConfigError, match="trains on episodes"):
        next(base(world).episodes(1, 2, 1, 1))
    with pytest.raises(PluginError, match=r"before it opens `ctx\.epochs"):
        next(base(World(0, 2)).batches(8))


def test_one_process_is_a_world_of_its_own() -> None:
    """Nothing is sent: no group of processes exists here."""
    world = World()
    model = torch.nn.Linear(2, 2)
    world.join({"model": model})
    world.settle({"model": model}, torch.Generator())
    assert world.told(lambda: 0.5) == 0.5 and world.own(1) is None and world.own(7) == slice(0, 7)
