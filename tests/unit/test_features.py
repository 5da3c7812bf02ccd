"""The feature table: each image embedded once, the same number whoever asks for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.backbones import build
from harness.errors import PluginError, StoreError
from harness.evaluation.features import FeatureTable
from harness.images.inputs import Inputs
from harness.images.stores import ImageStore, store_of_arrays

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def store() -> ImageStore:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 10, 28, 28, 1), dtype=np.uint8)
    return store_of_arrays("noise", pixels, [f"c{i}" for i in range(6)])


class Embedder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = build("conv4", 28, 1).eval()
        self.n_images = 0

    def embed(self, images: Tensor) -> Tensor:
        self.n_images += len(images)
        return self.backbone(images).flatten(1)


def table(folder: Path, store: ImageStore, method: Any, batch: int = 16) -> FeatureTable:
    return FeatureTable(folder, method, Inputs(store, "stored", CPU), batch, "fp32")


def test_a_feature_does_not_depend_on_which_rows_were_asked(tmp_path: Path, store: ImageStore) -> None:
    """Every batch is padded to one size, so the kernels are the same and the bits too."""
    everything, some = np.arange(60), np.array([3, 17, 18, 59])
    whole, part = table(tmp_path / "a", store, Embedder()), table(tmp_path / "b", store, Embedder())
    whole.ensure(everything)
    part.ensure(some)
    assert torch.equal(whole.take(some), part.take(some))
    part.ensure(everything)
    assert torch.equal(whole.take(everything), part.take(everything))


def test_embedding_batches_of_another_size_agree_within_rounding(tmp_path: Path, store: ImageStore) -> None:
    """Kernels may sum in another order: 1e-5 relative is a few units in the last place of float32."""
    a, b = table(tmp_path, store, Embedder(), 16), table(tmp_path, store, Embedder(), 60)
    rows = np.arange(60)
    a.ensure(rows)
    b.ensure(rows)
    torch.testing.assert_close(a.take(rows), b.take(rows), rtol=1e-5, atol=1e-5)


def test_only_the_missing_rows_are_embedded(tmp_path: Path, store: ImageStore) -> None:
    method = Embedder()
    first = table(tmp_path, store, method)
    first.ensure(np.arange(20))
    before = method.n_images
    again = table(tmp_path, store, method)
    again.ensure(np.arange(20))
    assert method.n_images == before
    again.ensure(np.arange(36))
    assert method.n_images == before + 16


def test_an_unrecorded_row_is_embedded_again_after_a_crash(tmp_path: Path, store: ImageStore) -> None:
    """What was written but not recorded as done counts as missing."""
    crashing = Embedder()
    whole = crashing.embed

    def embed(images: Tensor) -> Tensor:
        if crashing.n_images >= 32:
            raise KeyboardInterrupt
        return whole(images)

    crashing.embed = embed  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        table(tmp_path, store, crashing).ensure(np.arange(60))
    resumed, fresh = table(tmp_path, store, Embedder()), table(tmp_path / "fresh", store, Embedder())
    resumed.ensure(np.arange(60))
    fresh.ensure(np.arange(60))
    assert torch.equal(resumed.take(np.arange(60)), fresh.take(np.arange(60)))


@pytest.mark.parametrize(
    ("embed", "said"),
    [
        (lambda x: x.flatten(1)[:3], "returned (3, 784); expected (16, *F)"),
        (lambda x: x.flatten(1) * float("nan"), "NaN"),
        (lambda x: "features", "returned str"),
    ],
)
def test_a_bad_embed_is_refused(tmp_path: Path, store: ImageStore, embed: Any, said: str) -> None:
    class Bad:
        def embed(self, images: Tensor) -> Any:
            return embed(images)

    with pytest.raises(PluginError, match=said.replace("(", r"\(").replace(")", r"\)").replace("*", r"\*")):
        table(tmp_path, store, Bad()).ensure(np.arange(20))


def test_a_changing_shape_is_refused(tmp_path: Path, store: ImageStore) -> None:
    class Changing:
        def __init__(self) -> None:
            self.n = 0

        def embed(self, images: Tensor) -> Tensor:
            self.n += 1
            return images.flatten(1)[:, : 10 if self.n < 3 else 1]

    with pytest.raises(PluginError, match="must not depend on the images"):
        table(tmp_path, store, Changing()).ensure(np.arange(60))


def test_a_full_disk_is_an_error_that_says_so(
    tmp_path: Path, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(StoreError, match=r"No space left on device.*FSBENCH_CACHE"):
        table(tmp_path, store, Embedder()).ensure(np.arange(10))


def zero_an_eighth(folder: Path) -> None:
    with (folder / "table.f32").open("r+b") as file:
        size = file.seek(0, 2)
        file.seek(size // 2)
        file.write(bytes(size // 8))


def cut(folder: Path) -> None:
    with (folder / "table.f32").open("r+b") as file:
        file.truncate(file.seek(0, 2) // 2)


def flip_a_bit(folder: Path) -> None:
    content = bytearray((folder / "table.f32").read_bytes())
    content[12_345] ^= 1
    (folder / "table.f32").write_bytes(content)


def say_done(folder: Path) -> None:
    np.save(folder / "done.npy", np.ones(60, bool))


@pytest.mark.parametrize(
    "rot",
    [
        zero_an_eighth,
        cut,
        flip_a_bit,
        say_done,
        lambda folder: (folder / "table.f32").write_bytes(b""),
        lambda folder: (folder / "table.f32").unlink(),
        lambda folder: (folder / "done.npy").write_bytes(b"no array"),
        lambda folder: np.save(folder / "crc32.npy", np.zeros(60, np.uint32)),
        lambda folder: np.save(folder / "crc32.npy", np.zeros(3, np.uint32)),
        lambda folder: (folder / "shape.json").write_text("[1e9"),
        lambda folder: (folder / "shape.json").write_text('[-1, "x"]'),
        lambda folder: (folder / "shape.json").write_text("{}"),
    ],
)
def test_a_rotten_table_is_refused_by_name(tmp_path: Path, store: ImageStore, rot: Any) -> None:
    folder = tmp_path / "features" / "0123456789abcdef"
    table(folder, store, Embedder()).ensure(np.arange(50))
    rot(folder)
    with pytest.raises(StoreError, match=r"0123456789abcdef.*`fsbench fsck --repair`"):
        table(folder, store, Embedder()).ensure(np.arange(60))


def test_only_the_rows_that_are_asked_are_checked(tmp_path: Path, store: ImageStore) -> None:
    table(tmp_path, store, Embedder()).ensure(np.arange(60))
    zero_an_eighth(tmp_path)
    table(tmp_path, store, Embedder()).ensure(np.arange(20))


def test_a_table_without_checksums_is_embedded_anew(tmp_path: Path, store: ImageStore) -> None:
    first = table(tmp_path, store, Embedder())
    first.ensure(np.arange(20))
    kept = first.take(np.arange(20)).clone()
    (tmp_path / "crc32.npy").unlink()
    zero_an_eighth(tmp_path)
    method = Embedder()
    again = table(tmp_path, store, method)
    again.ensure(np.arange(20))
    assert method.n_images > 0
    assert torch.equal(again.take(np.arange(20)), kept)
