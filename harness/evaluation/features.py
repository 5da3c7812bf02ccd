"""Embed each image once: a memory-mapped table of features under the key of the fit that made them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from harness.benchmarks.episodes import IntArray
from harness.errors import PluginError, StoreError
from harness.images.inputs import Inputs, to_float
from harness.images.stores import ImageStore
from harness.method import views_of
from harness.ops.precision import autocast
from harness.runs.spec import EMBED_BATCH, FitSpec
from harness.system.files import save_array, save_text
from harness.system.progress import Progress, Silent, stage

_FLUSH_EVERY = 16  # batches between two records of how far the table has come


class Source(Protocol):
    """Where an episode's x comes from: features by row, or images for methods without ``embed``."""

    def take(self, rows: IntArray) -> Tensor:
        """Gather (n,) rows of the store → (n, *F) on the method's device."""


class Images:
    """Float images in [0, 1], before normalisation, for methods without ``embed``."""

    def __init__(self, store: ImageStore, pipeline: str, device: torch.device) -> None:
        self._store, self._pipeline, self._device = store, pipeline, device

    def take(self, rows: IntArray) -> Tensor:
        """(n,) rows → (n, c, H, W) float32."""
        return to_float(torch.from_numpy(self._store.images(rows)).to(self._device), self._pipeline)


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
    ]
    folder = cache / "features" / hashlib.sha256("/".join(parts).encode()).hexdigest()[:16]
    inputs = Inputs(store, fit.pipeline, device, asked)
    return FeatureTable(folder, method, inputs, batch, fit.precision)


class FeatureTable:
    """Features of one role's images, (N, *F) float32 on disk, filled for the rows that were asked.

    Every batch given to ``embed`` has exactly ``batch`` images (the last one is padded), so that a feature
    does not depend on which other rows were asked or cached.
    """

    def __init__(self, folder: Path, method: Any, inputs: Inputs, batch: int, precision: str) -> None:
        self._folder, self._method, self._inputs = folder, method, inputs
        self._batch, self._precision = batch, precision
        self._table: np.memmap[Any, np.dtype[np.float32]] | None = None
        self._tensor: Tensor | None = None

    @property
    def tensor(self) -> Tensor:
        """(N, *F) float32, memory-mapped; only rows that were ensured hold features."""
        assert self._tensor is not None, "ensure() comes first"
        return self._tensor

    def ensure(self, rows: IntArray, progress: Progress | None = None) -> None:
        """Embed those of ``rows`` that are not in the table yet; safe to interrupt and repeat.

        Raises:
            PluginError: when ``embed`` returns the wrong number of rows, a changing shape, or NaN.
            StoreError: when the table cannot be written.
        """
        try:
            with self._inputs:
                done = self._open(rows)
                missing = rows[~done[rows]]
                n_done = len(rows) - len(missing)
                if len(missing):
                    with stage(progress or Silent(), "embed", len(rows), "images", n_done) as shown:
                        self._fill(missing, done, shown)
        except FileNotFoundError as error:
            raise StoreError(
                f"The feature table {self._folder} is incomplete ({error.filename} is gone). Delete the folder and "
                "run again."
            ) from error
        except OSError as error:
            raise StoreError(
                f"The feature table {self._folder} could not be written: {error.strerror or error}. "
                "Free some space, or set FSBENCH_CACHE to another place."
            ) from error
        assert self._table is not None
        self._tensor = torch.from_numpy(self._table)

    def forget(self) -> None:
        """Throw the table away, to embed anew."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def take(self, rows: IntArray) -> Tensor:
        """(n,) rows → (n, *F) float32; the rows must have been ensured."""
        return self.tensor.index_select(0, torch.from_numpy(rows)).to(self._inputs.device)

    def _open(self, rows: IntArray) -> np.ndarray[Any, np.dtype[np.bool_]]:
        done_path, shape_path = self._folder / "done.npy", self._folder / "shape.json"
        if not shape_path.exists():
            self._create(tuple(self._embed(rows[:1]).shape[1:]))
        shape = tuple(json.loads(shape_path.read_text()))
        self._table = np.memmap(
            self._folder / "table.f32", dtype=np.float32, mode="r+", shape=(len(self._inputs), *shape)
        )
        return np.load(done_path)

    def _create(self, shape: tuple[int, ...]) -> None:
        n = len(self._inputs)
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "table.f32").open("wb") as file:
            os.posix_fallocate(
                file.fileno(), 0, n * 4 * int(np.prod(shape))
            )  # a full disk is met here, as an error
        save_array(self._folder / "done.npy", np.zeros(n, dtype=bool))
        save_text(self._folder / "shape.json", json.dumps(list(shape)))

    def _fill(self, missing: IntArray, done: np.ndarray[Any, np.dtype[np.bool_]], progress: Progress) -> None:
        assert self._table is not None
        for i, start in enumerate(range(0, len(missing), self._batch), 1):
            rows = missing[start : start + self._batch]
            features = self._embed(rows)
            if features.shape[1:] != self._table.shape[1:]:
                raise PluginError(
                    f"{type(self._method).__name__}.embed returned features of shape {tuple(features.shape[1:])} for "
                    f"one batch and {self._table.shape[1:]} for another; the shape must not depend on the images."
                )
            self._table[rows] = features.cpu().numpy()
            done[rows] = True
            progress.advance(len(rows))
            if i % _FLUSH_EVERY == 0 or start + self._batch >= len(missing):
                self._table.flush()  # the rows are on disk before the record says so
                save_array(self._folder / "done.npy", done)

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
