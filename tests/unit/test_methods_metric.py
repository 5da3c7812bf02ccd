"""Magnet and RepMet on small sets: what their trainings do, go on with, and where there is hardly anything to train on."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.api import EpisodeBatch, Support
from harness.backbones import build
from harness.backbones.embedding import Embedding, embedded
from harness.images.stores import ImageStore, store_of_arrays
from harness.ops.mixtures import centre_distances, repmet_loss
from harness.seeding import torch_generator
from harness.system.progress import Silent
from harness.testing import tiny_store
from harness.training.base_set import BaseSet
from harness.training.fit_context import FitContext
from methods.magnet import Magnet, _Memory
from methods.repmet import RepMet

CPU = torch.device("cpu")
QUICK: dict[type[nn.Module], dict[str, Any]] = {
    Magnet: {"epochs": 3, "batches_per_epoch": 4, "clusters": 5, "index_every": 3},
    RepMet: {"epochs": 3, "batches_per_epoch": 4, "train_way": 5, "dimension": 0, "k": 2},
}
METHODS = pytest.mark.parametrize("cls", [Magnet, RepMet])


def made(cls: type[nn.Module], **config: Any) -> Any:
    torch.manual_seed(0)
    return cls(cls.Config(**{**QUICK[cls], **config}), build("conv4", 28, 1, hidden=8, out=16))  # type: ignore[operator,call-arg]


def fit(method: Any, folder: Path, store: ImageStore, stop_after: int | None = None) -> FitContext:
    """Train; interrupted within the epoch after ``stop_after``."""
    rng = torch_generator(0, "training")
    ctx = FitContext(folder, device=CPU, rng=rng, seed=0, precision="fp32", validate=None, progress=Silent())
    torch.manual_seed(1)
    if stop_after is not None:
        told = ctx.log

        def log(step: int, **scalars: float) -> None:
            told(step, **scalars)
            if step > stop_after * method.config.batches_per_epoch:
                raise KeyboardInterrupt

        ctx.log = log  # type: ignore[method-assign]
    method.fit_base(BaseSet(store, "stored", CPU, rng), ctx)
    return ctx


def drawings(n_classes: int, n_images: int, is_same: bool = False) -> ImageStore:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (n_classes, n_images, 28, 28, 1), dtype=np.uint8)
    pixels = np.broadcast_to(pixels[:1, :1], pixels.shape) if is_same else pixels
    return store_of_arrays("drawings", np.ascontiguousarray(pixels), [f"c{i}" for i in range(n_classes)])


def features(*shape: int, seed: int = 0) -> Tensor:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return x / x.norm(dim=-1, keepdim=True)


@METHODS
def test_one_seed_is_one_curve_also_after_an_interruption(cls: type[nn.Module], tmp_path: Path) -> None:
    whole = fit(made(cls), tmp_path / "whole", tiny_store("base"))
    again = fit(made(cls), tmp_path / "again", tiny_store("base"))
    assert whole.record()["curves"] == again.record()["curves"]
    with pytest.raises(KeyboardInterrupt):
        fit(made(cls), tmp_path / "cut", tiny_store("base"), stop_after=1)
    resumed = fit(made(cls), tmp_path / "cut", tiny_store("base"))
    assert resumed.record()["curves"] == whole.record()["curves"]


@METHODS
@pytest.mark.parametrize(
    ("n_classes", "n_images", "is_same"), [(6, 1, False), (2, 3, False), (3, 2, False), (4, 4, True)]
)
def test_degenerate_base_sets_train(
    cls: type[nn.Module], n_classes: int, n_images: int, is_same: bool, tmp_path: Path
) -> None:
    """One image a class, fewer clusters than a batch has, fewer images than clusters, and all images equal."""
    method = made(cls, k=3, **({"members": n_images, "centre": True} if cls is RepMet else {}))
    curves = fit(method, tmp_path, drawings(n_classes, n_images, is_same)).record()["curves"]
    assert all(np.isfinite(point["loss"]) for point in curves)
    assert all(value.isfinite().all() for value in method.state_dict().values())


def test_the_variance_of_magnet_is_that_of_the_end_of_the_training(tmp_path: Path) -> None:
    method = made(Magnet)
    curves = fit(method, tmp_path, tiny_store("base")).record()["curves"]
    assert float(method.variance) == curves[-1]["variance"] > 0


def test_clusters_that_no_batch_met_are_as_likely_as_an_average_one() -> None:
    rng = torch_generator(0, "training")
    base = BaseSet(drawings(4, 2), "stored", CPU, rng)
    memory = _Memory(base, 1, 3)
    assert memory.losses_of_clusters().unique().numel() == 1
    memory.cluster(features(8, 3), rng)
    memory.measure(torch.tensor([0, 1, 2]), torch.tensor([4.0, 0.0, 2.0]))
    torch.testing.assert_close(memory.losses_of_clusters(), torch.tensor([2.0, 2.0, 2.0, 2.0]))
    memory.measure(torch.tensor([0]), torch.tensor([0.0]))
    torch.testing.assert_close(memory.losses_of_clusters(), torch.tensor([0.0, 2.0, 2 / 3, 2 / 3]))


def test_a_second_clustering_goes_on_from_the_first() -> None:
    rng = torch_generator(0, "training")
    memory = _Memory(BaseSet(drawings(2, 10), "stored", CPU, rng), 3, 4)
    x = features(20, 4)
    memory.cluster(x, rng)
    before, state = memory.centroid.clone(), rng.get_state()
    memory.cluster(x, rng)
    torch.testing.assert_close(memory.centroid, before)
    assert torch.equal(rng.get_state(), state)  # nothing was drawn


def support_of(x: Tensor, way: int, shot: int, n_base: int = 0) -> Support:
    y = torch.arange(n_base, n_base + way).repeat_interleave(shot)
    return Support(x, y, n_base + way, torch_generator(0, "episode", 0), n_base=n_base)


def test_magnet_clusters_the_support_of_each_class() -> None:
    method = made(Magnet).eval()
    method.variance.fill_(0.3)
    few = method.adapt(support_of(features(6, 16), 3, 2))
    assert torch.equal(few.centre, features(6, 16))  # k = min(3, shot)
    many = method.adapt(support_of(features(24, 16), 3, 8))
    assert many.centre.shape == (9, 16)
    assert many.owner.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    share = method.predict(many, features(5, 16, seed=1))
    torch.testing.assert_close(share.sum(1), torch.ones(5))


@pytest.mark.parametrize("shot", [1, 5])
def test_the_support_takes_the_place_of_representatives(shot: int) -> None:
    method = made(RepMet, dimension=16).eval()
    x = features(4 * shot, 16)
    state = method.adapt(support_of(x, 4, shot))
    assert torch.equal(state.centre, x)
    found = method.predict(state, x)
    p = (-centre_distances(x, x) / 0.5).exp().unflatten(1, (4, shot)).sum(2)
    torch.testing.assert_close(found, p / p.sum(1, keepdim=True))


def test_jointly_trained_representatives_stay_beside_the_support() -> None:
    method = made(RepMet, dimension=16).eval()
    method.representatives.make_room(6)
    nn.init.normal_(method.representatives.weight)
    state = method.adapt(support_of(features(4, 16), 2, 2, n_base=3))
    assert state.owner.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    torch.testing.assert_close(state.centre[:6], method.representatives())


@torch.no_grad()
def test_tuning_lowers_the_loss_of_the_support_and_leaves_the_method_as_it_was() -> None:
    x, seen = features(12, 16), []
    for steps in (0, 3, 10):
        method = made(RepMet, dimension=16, tuning_steps=steps, tuning_lr=0.1, alpha=2.0).eval()
        before = copy.deepcopy(method.state_dict())
        state = method.adapt(support_of(x, 4, 3))
        seen.append(
            float(repmet_loss(centre_distances(x, state.centre), state.owner, state.owner, alpha=2.0).loss)
        )
        torch.testing.assert_close(state.centre.norm(dim=1), torch.ones(12))
        assert all(
            torch.equal(a, b) for a, b in zip(before.values(), method.state_dict().values(), strict=True)
        )
        both = torch.stack([x, features(12, 16, seed=1)]).unflatten(1, (4, 3))
        query = torch.stack([features(5, 16, seed=2)] * 2)
        batch = EpisodeBatch(both, query, [torch_generator(0, "episode", i) for i in range(2)])
        torch.testing.assert_close(method.predict_batch(batch)[0], method.predict(state, query[0]))
    assert seen[0] > seen[1] > seen[2]


def test_a_checkpoint_brings_its_own_number_of_representatives() -> None:
    trained, fresh = made(RepMet), made(RepMet)
    trained.representatives.make_room(10)
    nn.init.normal_(trained.representatives.weight)
    fresh.load_state_dict(trained.state_dict())
    assert torch.equal(fresh.representatives(), trained.representatives())
    with pytest.raises(RuntimeError, match="size mismatch"):
        made(RepMet, dimension=7).load_state_dict(trained.state_dict())


@pytest.mark.parametrize("loss", ["hinge", "v1", "v2"])
def test_every_loss_of_repmet_learns_the_base_classes(loss: str, tmp_path: Path) -> None:
    method = made(RepMet, loss=loss, epochs=2, batches_per_epoch=20, train_way=16)
    curves = fit(method, tmp_path, tiny_store("base")).record()["curves"]
    assert curves[-1]["loss"] < curves[0]["loss"]
    assert curves[-1]["train_accuracy"] > max(2 / 16, curves[0]["train_accuracy"])  # twice chance


def test_vectors_of_a_backbone() -> None:
    images = torch.rand(3, 1, 32, 32)
    flat = Embedding(build("conv4", 32, 1))
    assert flat(images).shape == (3, flat.width) == (3, 256)
    pooled = Embedding(
        build("resnet12", 32, 1, widths=(4, 8, 8, 12)), dimension=5, hidden=7, is_normalised=True
    )
    torch.testing.assert_close(pooled(images).norm(dim=1), torch.ones(3))
    assert pooled.width == 5
    pooled.train()
    pooled.layers.eval()
    before = copy.deepcopy(pooled.state_dict())
    x = embedded(pooled, [(images[:2], images), (images[2:], images)])
    torch.testing.assert_close(x, pooled.eval()(images))
    assert all(torch.equal(a, b) for a, b in zip(before.values(), pooled.state_dict().values(), strict=True))


def test_centring_takes_mean_and_variance_of_the_batch_and_later_those_of_the_training() -> None:
    backbone = build("conv4", 16, 1, hidden=4, out=6).eval()
    images = torch.rand(20, 1, 16, 16)
    x = Embedding(backbone)(images).detach().double()
    centred = Embedding(backbone, is_centred=True)
    backbone.eval()
    for _ in range(200):  # each keeps 0.9 of the running statistics: nothing is left of the first
        found = centred(images)
    wanted = (x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(found.double(), wanted, atol=1e-4, rtol=1e-4)
    wanted = (x - x.mean(0)) / (x.var(0) + 1e-5).sqrt()
    torch.testing.assert_close(centred.eval()(images[:3]).double(), wanted[:3], atol=1e-4, rtol=1e-4)
