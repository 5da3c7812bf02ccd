"""The base classes as a method trains on them: batches or episodes of float images on the training device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from harness.errors import ConfigError
from harness.images.augment import augment as augmented
from harness.images.augment import augment_full
from harness.images.augmentations import PLAIN, Augmentation, augmentation
from harness.images.full import FullPictures
from harness.images.inputs import Inputs, as_input, normalise, sent
from harness.images.patches import View
from harness.images.stores import ImageStore, WholePictures
from harness.training.processes import ALONE, World


class TrainingEpisode(NamedTuple):
    """One training episode.

    Attributes:
        images: (W, S + Q, c, H, W) float32, normalised; the first ``shot`` of each class are its support.
        classes: (W,) int64 base class behind each row.
        shot: support images per class.
    """

    images: Tensor
    classes: Tensor
    shot: int

    def split(self, features: Tensor) -> EpisodeParts:
        """Take support and query apart, after one pass of all images: ``split(self.embed(episode.images.flatten(0, 1)))``.

        Args:
            features: (W·(S + Q), *F) of ``images.flatten(0, 1)``, or those images themselves.

        >>> episode = TrainingEpisode(torch.zeros(2, 3, 1, 28, 28), torch.tensor([7, 4]), shot=1)
        >>> support, query, target = episode.split(torch.arange(6.0)[:, None])
        >>> support.squeeze(-1).tolist(), query.squeeze(-1).tolist(), target.tolist()
        ([[0.0], [3.0]], [1.0, 2.0, 4.0, 5.0], [0, 0, 1, 1])
        """
        by_class = features.unflatten(0, self.images.shape[:2])  # (W, S + Q, *F)
        query = by_class[:, self.shot :]
        target = torch.arange(len(query), device=features.device).repeat_interleave(query.shape[1])
        return EpisodeParts(by_class[:, : self.shot], query.flatten(0, 1), target)


class EpisodeParts(NamedTuple):
    """A training episode as the episodes of evaluation have it.

    Attributes:
        support: (W, S, *F), as ``support.by_class()`` is in ``adapt``.
        query: (W·Q, *F), as in ``predict``, in class order.
        target: (W·Q,) int64 in [0, W), the class of each query.
    """

    support: Tensor
    query: Tensor
    target: Tensor


class BaseSet:
    """Images of the base classes, decoded once, gathered and normalised in batches.

    Attributes:
        n_classes: number of base classes (rotations counted).
        n_images: number of base images (rotations counted).
        class_names: names in label order.

    All randomness comes from ``rng``, whose state the harness saves with every checkpoint. Random crops are cut from
    ``whole`` pictures where there are some, as papers do, else from the stored squares. An augmentation that is named
    (``how``) is that of every batch and episode, whatever the method asks. ``with_validation`` opens base and
    validation classes as one store, with their whole pictures; ``is_spent`` says when no more images are given.
    """

    def __init__(
        self,
        store: ImageStore,
        pipeline: str,
        device: torch.device,
        rng: torch.Generator,
        tick: Callable[[int], None] = lambda n_images: None,
        world: World = ALONE,
        whole: WholePictures | FullPictures | None = None,
        how: str = "",
        with_validation: Callable[[], tuple[ImageStore, WholePictures | FullPictures | None]] | None = None,
        is_spent: Callable[[], bool] = lambda: False,
    ) -> None:
        self._is_spent = is_spent
        self._world, self._whole, self._how, self._open_both = world, whole, how, with_validation
        self._store, self._pipeline, self._device, self._rng, self._tick = store, pipeline, device, rng, tick
        self._inputs: dict[View, Inputs] = {}
        self._open = ExitStack()
        self._label = torch.from_numpy(store.label)
        self._counts = torch.from_numpy(store.counts)
        self._first_row = self._counts.cumsum(0) - self._counts
        self.n_classes = len(store.counts)
        self.n_images = len(store.label)
        self.class_names = tuple(store.class_names)

    def close(self) -> None:
        """Close the original pictures that crops were cut from."""
        self._open.close()
        if isinstance(self._whole, FullPictures):
            self._whole.close()

    def with_validation(self) -> BaseSet:
        """Base and validation classes together, for a training whose length is settled; the former come first.

        Raises:
            ConfigError: when there are no validation classes, or they are not classes of their own.
        """
        if self._open_both is None:
            raise ConfigError("There are no validation classes here to train on again.")
        store, whole = self._open_both()
        both = BaseSet(
            store,
            self._pipeline,
            self._device,
            self._rng,
            self._tick,
            self._world,
            whole,
            self._how,
            is_spent=self._is_spent,
        )
        self._open.callback(both.close)
        return both

    def batches(
        self, size: int, *, augment: bool = False, views: View | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Go once through all images in random order.

        Args:
            size: images per batch; the last batch may be smaller, but never has fewer than two.
            augment: whether each image is cropped, recoloured and mirrored at random, in the way that goes with
                the pipeline; the grey pipelines have none. A run whose ``--augmentation`` or recipe names one has that.
            views: crops of the original pictures in place of squares: x is (b, v, c, H, W). With ``augment`` they are
                drawn anew in each pass, else they are those of evaluation.

        Yields:
            x (b, c, H, W) float32 normalised, y (b,) int64 in [0, n_classes). Several processes that train together
            (``--gpus``) draw the same batches, and each yields its part of every one.

        Raises:
            ConfigError: when several processes cannot divide batches of this size.
        """
        order = torch.randperm(self.n_images, generator=self._rng)
        self._world.check_batches(size)
        take = self._crops(views, augment) if views else partial(self._images, how=self._chosen(augment))
        split = order.split(size)
        for rows, coming in zip(split, (*split[1:], None), strict=True):
            if self._is_spent():
                return
            own = self._world.own(len(rows))
            if own:  # batch statistics of one image are undefined
                self._tick(len(rows) * _n_crops(views))
                x = take(rows, own=own)
                self._look_ahead(coming)
                yield x, self._label[rows[own]].to(self._device)

    def n_batches(self, size: int) -> int:
        """Batches of one pass."""
        return self.n_images // size + (self._world.own(self.n_images % size) is not None)

    def episodes(
        self, n: int, way: int, shot: int, n_query: int, *, augment: bool = False, views: View | None = None
    ) -> Iterator[TrainingEpisode]:
        """Draw ``n`` training episodes.

        Args:
            n: number of episodes.
            way: classes per episode; at most ``n_classes`` are used.
            shot, n_query: support and query images per class; -1 queries are all that the smallest class has left.
            augment: as in ``batches``; an image that occurs in several episodes is drawn anew each time.
            views: as in ``batches``: images are (W, S + Q, v, c, H, W).

        Yields:
            TrainingEpisode.

        Raises:
            ValueError: when a class has fewer than ``shot + n_query`` images, or none is left for a query.
        """
        self._world.refuse_episodes()
        least = shot + (n_query if n_query >= 0 else 1)
        if least > int(self._counts.min()):
            raise ValueError(
                f"training episodes of {shot} + {least - shot} images need {least} images a class; "
                f"the smallest base class has {int(self._counts.min())}"
            )
        need = least if n_query >= 0 else int(self._counts.min())
        way = min(way, self.n_classes)
        for _ in range(n):
            if self._is_spent():
                return
            take = self._crops(views, augment) if views else partial(self._images, how=self._chosen(augment))
            classes = torch.randperm(self.n_classes, generator=self._rng)[:way]
            rows = torch.stack([self._draw(c, need) for c in classes.tolist()])  # (W, S + Q)
            images = take(rows.flatten()).unflatten(0, (way, need))
            self._tick(rows.numel() * _n_crops(views))
            yield TrainingEpisode(images, classes.to(self._device), shot)

    def take(self, rows: Tensor, *, augment: bool = False) -> tuple[Tensor, Tensor]:
        """Gather images by row, for methods that choose their batches themselves.

        Args:
            rows: (b,) int64 in [0, n_images), on the CPU; may repeat.
            augment: as in ``batches``.

        Returns:
            x (b, c, H, W) float32 normalised, y (b,) int64.

        Raises:
            ConfigError: with several processes, which would have to divide the batch.
        """
        self._world.refuse_episodes()
        images = self._images(rows, how=self._chosen(augment))
        self._tick(len(rows))
        return images, self._label[rows].to(self._device)

    @property
    def labels(self) -> Tensor:
        """(N,) int64 class of each row, on the CPU."""
        return self._label

    def all_images(self, size: int = 256, *, views: View | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Go once through all images in order, as ``batches`` does; for statistics of the base features."""
        take = self._crops(views, False) if views else self._images
        for rows in torch.arange(self.n_images).split(size):
            yield take(rows), self._label[rows].to(self._device)

    def _draw(self, c: int, n: int) -> Tensor:
        return self._first_row[c] + torch.randperm(int(self._counts[c]), generator=self._rng)[:n]

    def _crops(self, views: View, augment: bool) -> Callable[..., Tensor]:
        """Gathers crops; those of a training pass depend on a number that every process draws alike."""
        if views not in self._inputs:
            given = Inputs(self._store, self._pipeline, self._device, views)
            self._inputs[views] = self._open.enter_context(given)
        inputs = self._inputs[views]
        number = int(torch.randint(2**31, (), generator=self._rng)) if augment else None
        return lambda rows, own=slice(None): inputs.take(rows[own].numpy(), number)

    def _look_ahead(self, rows: Tensor | None) -> None:
        """Begin to decode the pictures of the next batch while this one is trained on."""
        if isinstance(self._whole, FullPictures) and rows is not None:
            self._whole.prefetch(rows.tolist())

    def _chosen(self, augment: bool) -> Augmentation:
        """What is done to training images: what the run names, else what goes with the pipeline where it is asked for."""
        return augmentation(self._how or (self._pipeline if augment else "none"))

    def _images(self, rows: Tensor, how: Augmentation = PLAIN, own: slice = slice(None)) -> Tensor:
        """Those of ``own``; what an augmentation draws is drawn for all rows, so that every process draws the same."""
        if how.name == "none":
            return as_input(self._store, rows[own].numpy(), self._pipeline, self._device)
        size = self._store.shape[0]
        if isinstance(self._whole, FullPictures) and how.crop == "resized":
            x = augment_full(self._whole, rows, self._pipeline, size, self._rng, how, self._device)[own]
        else:
            store, extents = self._whole if isinstance(self._whole, WholePictures) else (self._store, None)
            pixels = sent(store.images(rows.numpy()), self._device)
            edges = None if extents is None else torch.from_numpy(extents[rows.numpy()])
            x = augmented(pixels, self._pipeline, size, self._rng, how, edges)[own]
        return normalise(x, self._pipeline).contiguous(memory_format=torch.channels_last)


def _n_crops(views: View | None) -> int:
    return views.n_crops if views else 1
