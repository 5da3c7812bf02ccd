"""Embed each image once: a memory-mapped table of features under the key of the fit that made them."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from harness.benchmarks.episodes import IntArray
from harness.errors import PluginError, StoreError
from harness.evaluation.feature_files import FeatureFiles, RottenTableError, has_checksums, is_table
from harness.images.inputs import Inputs, as_input, to_float
from harness.images.patches import View
from harness.images.stores import ImageStore
from harness.method import traits, views_of
from harness.ops.precision import autocast
from harness.runs.spec import EMBED_BATCH, FitSpec
from harness.system.progress import Progress, Silent, stage

log = logging.getLogger("fsbench.job")
NOTHING_SAID: Mapping[str, str] = MappingProxyType({})
_FLUSH_EVERY = 16  # batches between two records of how far the table has come


class Source(Protocol):
    """Where an episode's x comes from: features by row, or images for methods without ``embed``."""

    def take(self, rows: IntArray) -> Tensor:
        """Gather (n,) rows of the store → (n, *F) on the method's device."""


class Images:
    """Float images for methods without ``embed``: normalised as in training where ``takes`` says so, else in [0, 1]."""

    def __init__(self, method: Any, store: ImageStore, pipeline: str, device: torch.device) -> None:
        self._is_normalised = traits(type(method)).takes == "images"
        self._store, self._pipeline, self._device = store, pipeline, device

    def take(self, rows: IntArray) -> Tensor:
        """(n,) rows → (n, c, H, W) float32."""
        if self._is_normalised:
            return as_input(self._store, rows, self._pipeline, self._device)
        return to_float(torch.from_numpy(self._store.images(rows)).to(self._device), self._pipeline)


class Stacked:
    """Rows of several sources, one after the other, as a store of them all would have them.

    Args:
        sources: at least one.
        sizes: rows of each.
    """

    def __init__(self, sources: Sequence[Source], sizes: Sequence[int]) -> None:
        self._sources, self._ends = sources, np.cumsum(sizes)
        self._starts = self._ends - np.asarray(sizes)

    def take(self, rows: IntArray) -> Tensor:
        """(n,) rows → (n, *F)."""
        of = np.searchsorted(self._ends, rows, side="right")  # (n,) which source
        there = [i for i in range(len(self._sources)) if (of == i).any()] or [0]
        found = [self._sources[i].take(rows[of == i] - self._starts[i]) for i in there]
        order = np.concatenate([np.flatnonzero(of == i) for i in there])
        return torch.cat(found)[torch.from_numpy(np.argsort(order))]


class Names:
    """The names of a store's images in place of the images, for a method whose features are in a table."""

    def __init__(self, store: ImageStore, device: torch.device) -> None:
        self.device, self._store = device, store

    def __enter__(self) -> Names:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def __len__(self) -> int:
        return len(self._store)

    def take(self, rows: IntArray) -> list[str]:
        """(n,) rows → n names."""
        return [self._store.image_names[row] for row in rows]


class Flat:
    """The features of another source, a vector an image."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def take(self, rows: IntArray) -> Tensor:
        """(n,) rows → (n, D)."""
        return self._source.take(rows).flatten(1)


class Maps:
    """The maps of a fitted method's ``backbone`` as what is embedded.

    Raises:
        PluginError: when it has no attribute of that name that gives (b, C, h, w).
    """

    def __init__(self, method: Any) -> None:
        backbone = getattr(method, "backbone", None)
        if not isinstance(backbone, torch.nn.Module):
            raise PluginError(
                f"{type(method).__name__} keeps no `backbone`, so no head can be given its maps; protonet and softmax do."
            )

        self._backbone = backbone

    def embed(self, images: Tensor) -> Tensor:
        """(b, c, H, W) → (b, C, h, w)."""
        return self._backbone(images)


class Viewed:
    """A fitted method that embeds each view of an image by itself.

    Args:
        method: with ``embed``, and without views of its own.
        views: that are asked of it.

    Raises:
        PluginError: when it has views of its own.
    """

    def __init__(self, method: Any, views: View) -> None:
        if views_of(method):
            raise PluginError(
                f"{type(method).__name__} embeds views of its own ({views_of(method)}), so no head can ask {views} of it."
            )
        self._method, self.views = method, views

    def embed(self, images: Tensor) -> Tensor:
        """(b, v, c, H, W) → (b, v, D), as many images at once as without views."""
        return torch.stack([self._method.embed(one).flatten(1) for one in images.unbind(1)], dim=1)


def below_head(head: Any, fitted: Any) -> Any:
    """What embeds for a head: the fit that it is built on (the head is given its features flattened), its maps, or views by it.

    Raises:
        PluginError: when it cannot.
    """
    views, takes_maps = views_of(head), traits(type(head)).takes == "maps"
    if takes_maps and views:
        raise PluginError(f"{type(head).__name__} takes maps, of which there is one view.")
    if takes_maps:
        return Maps(fitted)
    return Viewed(fitted, views) if views else fitted


def features_of(
    method: Any, store: ImageStore, fit: FitSpec, cache: Path, device: torch.device, batch: int = EMBED_BATCH
) -> FeatureTable:
    """Find or begin the table of a fitted method's features: one a fit, images, views, batch, precision and kind of device.

    Args:
        method: fitted, with ``embed``.
        store: whose images.
        fit: its key names the table; pipeline and precision are those of the training.
        cache: where tables are kept.
        device: where the method lives.
        batch: images per call of ``embed``.
    """
    asked = views_of(method)
    parts = [
        fit.fit_key,
        store.digest,
        str(batch),
        fit.precision,
        device.type,
        *([repr(asked)] if asked else []),
        *(["maps"] if isinstance(method, Maps) else []),
    ]
    folder = cache / "features" / hashlib.sha256("/".join(parts).encode()).hexdigest()[:16]
    by_name = traits(type(method)).takes == "names"
    inputs = Names(store, device) if by_name else Inputs(store, fit.pipeline, device, asked)
    of = {"fit": fit.fit_key, "method": fit.method.name, "images": store.digest, "device": device.type}
    return FeatureTable(folder, method, inputs, batch, fit.precision, of)


class FeatureTable:
    """Features of one role's images, (N, *F) float32 on disk, filled for the rows that were asked.

    Every batch given to ``embed`` has exactly ``batch`` images (the last one is padded), so that a feature
    does not depend on which other rows were asked or cached.
    """

    def __init__(
        self, folder: Path, method: Any, inputs: Inputs | Names, batch: int, precision: str, of: Mapping[str, str] = NOTHING_SAID
    ) -> None:  # fmt: skip
        self._folder, self._method, self._inputs = folder, method, inputs
        self._batch, self._precision, self._of = batch, precision, of
        self._tensor: Tensor | None = None

    @property
    def tensor(self) -> Tensor:
        """(N, *F) float32, memory-mapped; only rows that were ensured hold features."""
        assert self._tensor is not None, "ensure() comes first"
        return self._tensor

    def ensure(self, rows: IntArray, progress: Progress | None = None) -> None:
        """Embed those of ``rows`` that are not in the table yet; safe to interrupt and repeat.

        Those that are there are compared with their checksums, each time: two gigabytes a second for rows of 640 numbers.

        Raises:
            PluginError: when ``embed`` returns the wrong number of rows, a changing shape, or NaN.
            StoreError: when the table cannot be written, or is not what was written.
        """
        try:
            with self._inputs:
                files = self._open(rows)
                files.check(rows)
                missing = rows[~files.done[rows]]
                n_done = len(rows) - len(missing)
                if len(missing):
                    with stage(progress or Silent(), "embed", len(rows), "images", n_done) as shown:
                        self._fill(missing, files, shown)
        except RottenTableError as error:
            raise StoreError(
                f"The feature table {self._folder} of {type(self._method).__name__} {error}. Nothing was counted with it. "
                "Type `fsbench fsck --repair`, which moves it aside, then the same command again: it embeds anew."
            ) from error
        except OSError as error:
            raise StoreError(
                f"The feature table {self._folder} could not be written: {error.strerror or error}. "
                "Free some space, or set FSBENCH_CACHE to another place."
            ) from error
        self._tensor = torch.from_numpy(files.rows)

    def forget(self) -> None:
        """Throw the table away, to embed anew."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def take(self, rows: IntArray) -> Tensor:
        """(n,) rows → (n, *F) float32; the rows must have been ensured."""
        return self.tensor.index_select(0, torch.from_numpy(rows)).to(self._inputs.device)

    def _open(self, rows: IntArray) -> FeatureFiles:
        if is_table(self._folder) and not has_checksums(self._folder):
            log.info(
                "the feature table %s is of an earlier version and has no checksums: it is embedded anew",
                self._folder,
            )
            self.forget()
        if not is_table(self._folder):
            shape = tuple(self._embed(rows[:1]).shape[1:])
            FeatureFiles.create(self._folder, len(self._inputs), shape, self._of)
        files = FeatureFiles.open(self._folder)
        if len(files.done) != len(self._inputs):
            raise RottenTableError(f"has {len(files.done):,} rows for {len(self._inputs):,} images")
        return files

    def _fill(self, missing: IntArray, files: FeatureFiles, progress: Progress) -> None:
        for i, start in enumerate(range(0, len(missing), self._batch), 1):
            rows = missing[start : start + self._batch]
            features = self._embed(rows)
            if features.shape[1:] != files.rows.shape[1:]:
                raise PluginError(
                    f"{type(self._method).__name__}.embed returned features of shape {tuple(features.shape[1:])} for "
                    f"one batch and {files.rows.shape[1:]} for another; the shape must not depend on the images."
                )
            files.put(rows, features.cpu().numpy())
            progress.advance(len(rows))
            if i % _FLUSH_EVERY == 0 or start + self._batch >= len(missing):
                files.record()

    def _embed(self, rows: IntArray) -> Tensor:
        padded = np.concatenate([rows, np.repeat(rows[-1:], self._batch - len(rows))])
        images = self._inputs.take(padded)
        with torch.no_grad(), autocast(self._inputs.device, self._precision):
            features = self._method.embed(images)
        name = type(self._method).__name__
        if not isinstance(features, Tensor) or len(features) != len(padded):
            found = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise PluginError(
                f"{name}.embed was given {len(padded)} images and returned {found}; expected ({len(padded)}, *F)."
            )
        features = features[: len(rows)].float()
        if not bool(features.isfinite().all()):
            raise PluginError(
                f"{name}.embed returned NaN or infinite features; the training has probably diverged."
            )
        return features
