from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from picture_files import class_images
from sklearn.datasets import load_digits

from harness.errors import DataError
from harness.images.prepare import ensure
from harness.images.sources import generated
from harness.images.sources.generated import upsample_digits
from harness.images.sources.glyphs import draw


def interpolated(image: np.ndarray) -> np.ndarray:
    """Threefold linear enlargement as a plain loop over fractions of pixel distances, with a margin of 2."""
    out = np.zeros((28, 28))
    for y in range(24):
        for x in range(24):
            v, u = (np.clip((t + 0.5) / 3 - 0.5, 0, 7) for t in (y, x))
            top, left = int(min(v, 6)), int(min(u, 6))
            dy, dx = v - top, u - left
            corners = image[top : top + 2, left : left + 2].astype(float)
            out[y + 2, x + 2] = (1 - dy) * ((1 - dx) * corners[0, 0] + dx * corners[0, 1]) + dy * (
                (1 - dx) * corners[1, 0] + dx * corners[1, 1]
            )
    return out * 255 / 16


def test_digits_are_enlarged_linearly() -> None:
    images = load_digits().images[:5].astype(np.uint8)
    for got, image in zip(upsample_digits(images), images, strict=True):
        # rounding to whole numbers: half a step, and float noise in the reference
        assert np.abs(got - interpolated(image)).max() <= 0.5 + 1e-9


def test_digits_are_made_on_first_use_and_once(tmp_path: Path) -> None:
    digits = ensure("digits", tmp_path)
    assert digits.class_names == tuple(f"digit{c}" for c in range(10))
    assert digits.counts.tolist() == np.bincount(load_digits().target).tolist()
    before = (digits.folder / "manifest.json").stat().st_mtime_ns
    assert (ensure("digits", tmp_path).folder / "manifest.json").stat().st_mtime_ns == before
    zeros = upsample_digits(load_digits().images[load_digits().target == 0].astype(np.uint8))
    np.testing.assert_array_equal(class_images(digits.select(["digit0"], "stored", 28), 0)[..., 0], zeros)


def test_a_changed_generator_makes_the_set_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ensure("digits", tmp_path)
    changed = generated.SourceFile("generated.py", 1, "another version")
    monkeypatch.setattr(generated, "source", lambda _: changed)
    assert ensure("digits", tmp_path).manifest.sources == (changed,)


def test_glyphs_are_stored_as_drawn_with_ink_high(tmp_path: Path) -> None:
    drawn = draw()
    glyphs = ensure("glyphs", tmp_path)
    assert sorted(drawn.class_names) == list(glyphs.class_names)
    store = glyphs.select(drawn.class_names, "stored", 28)
    np.testing.assert_array_equal(store.images(range(len(store)))[..., 0], drawn.pixels.reshape(-1, 28, 28))
    assert store.groups == drawn.groups
    assert drawn.pixels.mean() < 127  # most of a page is paper, and paper is 0


def test_data_sets_that_are_not_generated_are_only_opened(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="fsbench prepare omniglot --source PATH"):
        ensure("omniglot", tmp_path)
    with pytest.raises(DataError, match="Did you mean `glyphs`"):
        ensure("glyph", tmp_path)
