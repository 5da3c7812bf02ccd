"""Training images with and without augmentation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from harness.images.stores import ImageStore, WholePictures, store_of_arrays
from harness.seeding import torch_generator
from harness.testing import tiny_store
from harness.training.base_set import BaseSet

CPU = torch.device("cpu")


def colours(pipeline: str = "feat") -> ImageStore:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 16, 16, 3), dtype=np.uint8)
    return store_of_arrays("colours", pixels, list("abcd"), list("abcd"), pipeline)


def base(store: ImageStore, pipeline: str, seed: int = 0) -> BaseSet:
    return BaseSet(store, pipeline, CPU, torch_generator(seed, "training"))


def test_augmented_batches_have_the_same_images_order_and_labels_of_another_look() -> None:
    plain, augmented = ([*base(colours(), "feat").batches(24, augment=a)] for a in (False, True))
    (x, y), (x_augmented, y_augmented) = plain[0], augmented[0]
    assert torch.equal(y, y_augmented)
    assert x_augmented.shape == x.shape == (24, 3, 16, 16)
    assert x_augmented.is_contiguous(memory_format=torch.channels_last)
    assert not torch.allclose(x, x_augmented, atol=0.1)
    low, high = -0.485 / 0.229, (1 - 0.406) / 0.225  # black and white, normalised
    assert low - 1e-4 <= float(x_augmented.min()) and float(x_augmented.max()) <= high + 1e-4


def test_an_image_is_drawn_anew_each_time_and_all_draws_come_from_the_training_stream() -> None:
    def epochs(seed: int) -> list[torch.Tensor]:
        one = base(colours(), "feat", seed)
        return [torch.cat([e.images for e in one.episodes(2, 3, 2, 2, augment=True)]) for _ in range(2)]

    first, second = epochs(0)
    assert not torch.equal(first, second)
    again = epochs(0)
    assert torch.equal(first, again[0]) and torch.equal(second, again[1])
    assert not torch.equal(first, epochs(1)[0])


def test_a_saved_stream_goes_on_with_the_same_images() -> None:
    rng = torch_generator(0, "training")
    whole = BaseSet(colours(), "feat", CPU, rng)
    [*whole.batches(24, augment=True)]
    saved = rng.get_state()
    expected = next(whole.batches(24, augment=True))[0]
    other = torch.Generator()
    other.set_state(saved)
    assert torch.equal(next(BaseSet(colours(), "feat", CPU, other).batches(24, augment=True))[0], expected)


def test_crops_are_cut_from_whole_pictures_where_there_are_some() -> None:
    store = colours()
    enlarged = replace(store, pixels=store.pixels.repeat(2, axis=1).repeat(2, axis=2))
    whole = WholePictures(enlarged, np.full((len(store), 2), 32))
    cut = BaseSet(store, "feat", CPU, torch_generator(0, "training"), whole=whole)
    x, y = next(cut.batches(24, augment=True))
    assert x.shape == (24, 3, 16, 16)
    stored, labels = next(base(store, "feat").batches(24, augment=True))
    assert torch.equal(y, labels) and not torch.equal(x, stored)
    plain = next(BaseSet(store, "feat", CPU, torch_generator(0, "training"), whole=whole).batches(24))[0]
    assert torch.equal(plain, next(base(store, "feat").batches(24))[0])  # no crops: the stored squares


def test_windows_of_a_larger_picture_move() -> None:
    store = colours("libfewshot")
    larger = np.random.default_rng(1).integers(0, 256, (4, 6, 20, 20, 3), dtype=np.uint8)
    whole = WholePictures(store_of_arrays("whole", larger, list("abcd")), np.full((len(store), 2), 99))
    cut = BaseSet(store, "libfewshot", CPU, torch_generator(0, "training"), whole=whole)
    passes = [torch.cat([x for x, _ in cut.batches(24, augment=True)]) for _ in range(2)]
    assert passes[0].shape == (24, 3, 16, 16)
    assert not torch.equal(*passes)


def test_grey_pipelines_have_no_augmentation() -> None:
    store = tiny_store("base")
    plain, augmented = (next(base(store, "stored").batches(8, augment=a))[0] for a in (False, True))
    assert torch.equal(plain, augmented)
