"""Conv4, the prototypical loss and one training step against vectors of the official code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden_files import load, tensor, weights_in_order
from torch import Tensor, nn

from harness.backbones import build
from harness.benchmarks.sampling import sample
from harness.images.stores import store_of_arrays
from harness.ops.prototypes import class_means, prototypical_loss, squared_distances
from harness.seeding import torch_generator
from harness.training.base_set import BaseSet

FAMILY = "metric_learning"


def _wave(k: int, shape: torch.Size, amplitude: float, base: float, fill: dict[str, float]) -> Tensor:
    """The manifest's rule: base + amplitude·sin(freq·i + step·k), rounded to float32."""
    i = np.arange(shape.numel())
    wave = base + amplitude * np.sin(fill["freq"] * i + fill["step"] * k)
    return torch.from_numpy(wave.astype(np.float32)).reshape(shape)


def _fill(backbone: nn.Module, fill: dict[str, float]) -> None:
    """Set the weights of a Conv4 by formula; each block holds conv w, b, batch norm w, b, mean, variance."""
    weights = weights_in_order(backbone)
    with torch.no_grad():
        for block in range(4):
            w, b, gamma, beta, mean, var = weights[6 * block : 6 * block + 6]
            k = 4 * block
            w.copy_(_wave(k, w.shape, fill["amp"], 0, fill))
            b.copy_(_wave(k + 1, b.shape, fill["amp"], 0, fill))
            gamma.copy_(_wave(k + 2, gamma.shape, fill["gamma_amp"], 1, fill))
            beta.copy_(_wave(k + 3, beta.shape, fill["amp"], 0, fill))
            mean.copy_(_wave(100 + 2 * block, mean.shape, fill["mean_amp"], 0, fill))
            var.copy_(_wave(101 + 2 * block, var.shape, fill["var_amp"], 1, fill))


@pytest.mark.parametrize("file", ["conv4_28x28x1.npz", "conv4_84x84x3.npz", "conv4_28x28x1_narrow.npz"])
def test_conv4_forward(file: str) -> None:
    arrays, entry = load(FAMILY, file)
    c, size, _ = entry["config"]["x_dim"]
    backbone = build("conv4", size, c, hidden=entry["config"]["hid_dim"], out=entry["config"]["z_dim"])
    _fill(backbone, entry["config"]["fill"])
    got = backbone.eval()(tensor(arrays["image_u8"], torch.float32) / 255).flatten(1)
    # float32 against a float64 reference: the manifest's suggested relative tolerance, on the largest value.
    largest = np.abs(arrays["embedding_f64"]).max()
    worst = np.abs(got.detach().numpy() - arrays["embedding_f64"]).max()
    assert worst <= entry["suggested_tolerance_rel"] * largest


@pytest.mark.parametrize(
    "file",
    [
        "proto_loss_5way_1shot_15query.npz",
        "proto_loss_5way_5shot_5query.npz",
        "proto_loss_20way_1shot_5query.npz",
        "proto_loss_3way_2shot_1query.npz",
    ],
)
def test_prototypical_loss(file: str) -> None:
    arrays, entry = load(FAMILY, file)
    way, shot = entry["config"]["way"], entry["config"]["n_support"]
    x = tensor(arrays["embedding"]).requires_grad_()
    by_class = torch.stack([x[torch.from_numpy(arrays["target"] == c)] for c in np.unique(arrays["target"])])
    support, query = by_class[:, :shot], by_class[:, shot:]  # (W, S, D), (W, Q, D)
    got = prototypical_loss(support, query)
    (gradient,) = torch.autograd.grad(got.loss, x)

    rtol = entry["suggested_tolerance_rel"]
    per_query = -got.scores.detach().log_softmax(-1).gather(1, got.target[:, None]).squeeze(1)
    distances = squared_distances(query.flatten(0, 1), class_means(support)).detach()
    np.testing.assert_allclose(got.loss.detach(), arrays["loss"], rtol=rtol)
    np.testing.assert_allclose(distances, arrays["sq_dist"], rtol=rtol)
    # Queries with a loss near 0 carry the float32 rounding of the distances, here in the hundreds: atol.
    np.testing.assert_allclose(per_query, arrays["per_query_loss"], rtol=rtol, atol=rtol)
    np.testing.assert_array_equal(got.scores.argmax(-1).reshape(way, -1), arrays["pred"])
    assert (got.scores.argmax(-1) == got.target).double().mean() == pytest.approx(float(arrays["acc"]))
    # float64 on both sides, so the reference is met to float64 rounding over sums of up to 120 terms.
    np.testing.assert_allclose(gradient, arrays["grad_embedding_f64"], rtol=1e-9, atol=1e-12)


def test_prototypical_training_step() -> None:
    arrays, entry = load(FAMILY, "proto_train_step.npz")
    config = entry["config"]
    backbone = build("conv4", 28, 1, hidden=config["hid_dim"], out=config["z_dim"]).double()
    _fill(backbone, config["fill"])
    optimiser = torch.optim.Adam(backbone.parameters(), lr=1e-3)
    x = (tensor(arrays["image_u8"], torch.float32) / 255).double()  # (W, S + Q, 1, 28, 28)
    z = backbone.train()(x.flatten(0, 1)).flatten(1).unflatten(0, x.shape[:2])  # (W, S + Q, D)
    loss = prototypical_loss(z[:, : config["n_support"]], z[:, config["n_support"] :]).loss
    loss.backward()
    optimiser.step()

    np.testing.assert_allclose(loss.detach(), arrays["loss_f64"], rtol=1e-9)
    for i, parameter in enumerate(backbone.parameters()):
        gradient = arrays[f"grad_{i:02d}"]
        # References are float64 results stored as float32; gradients of conv biases are rounding noise,
        # and Adam divides noise by noise, so weights are compared only where the gradient is real.
        np.testing.assert_allclose(parameter.grad, gradient, rtol=1e-5, atol=1e-6)
        real = np.abs(gradient) > 1e-5
        assert real.any() or i % 4 == 1
        np.testing.assert_allclose(
            parameter.detach()[real], arrays[f"after_{i:02d}"][real], rtol=1e-5, atol=2e-6
        )
    for block in range(4):
        mean, var = weights_in_order(backbone)[6 * block + 4 : 6 * block + 6]
        np.testing.assert_allclose(mean, arrays[f"running_mean_{block}"], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(var, arrays[f"running_var_{block}"], rtol=1e-5)


def _assert_episodes(classes: np.ndarray, support: np.ndarray, query: np.ndarray, n_classes: int) -> None:
    """Classes (E, W) differ within an episode, images (E, W, S) and (E, W, Q) too."""
    assert classes.min() >= 0 and classes.max() < n_classes
    assert all(len(set(row)) == len(row) for row in classes.tolist())
    images = np.concatenate([support, query], axis=2).reshape(len(classes), -1)  # (E, W · (S + Q))
    assert all(len(set(row)) == len(row) for row in images.tolist())


def test_episodes_are_built_as_snells() -> None:
    """Which ones are drawn is up to the generator; what holds of theirs holds of the lists and of training episodes."""
    arrays, entry = load(FAMILY, "episode_sampler.npz")
    c = entry["config"]
    n_classes, way, n, shot, n_query = (
        c[key] for key in ("n_classes", "way", "episodes", "n_support", "n_query")
    )
    rows = [arrays[f"{part}_row"].astype(np.int64) for part in ("support", "query")]
    assert [len(part) for part in rows] == [shot, n_query] and arrays["classes"].shape == (n, way)
    n_images = shot + n_query  # of a class: its queries are all that the support leaves
    assert sorted(np.concatenate(rows)) == list(range(n_images))
    of_class = arrays["classes"][..., None] * n_images  # (E, W, 1)
    _assert_episodes(arrays["classes"], of_class + rows[0], of_class + rows[1], n_classes)

    drawn = sample([n_images] * n_classes, way, shot, n_query, n, seed=c["torch_seed"])
    assert drawn.support.shape == (n, way, shot) and drawn.query.shape == (n, way, n_query)
    _assert_episodes(drawn.classes, drawn.support, drawn.query, n_classes)
    assert (drawn.support // n_images == drawn.classes[..., None]).all()
    assert (drawn.query // n_images == drawn.classes[..., None]).all()

    number = np.arange(n_classes * n_images, dtype="<u4").view(np.uint8)  # each image is its own row number
    pixels = number.reshape(n_classes, n_images, 2, 2, 1)
    names = [str(i) for i in range(n_classes)]
    store = store_of_arrays("numbers", pixels, names, names, "stored")
    base = BaseSet(store, "stored", torch.device("cpu"), torch_generator(c["torch_seed"], "training"))
    for asked in (n_query, -1):
        episodes = [*base.episodes(n, way, shot, asked)]
        images = torch.stack([e.images for e in episodes])  # (E, W, S + Q, 1, 2, 2)
        assert images.shape[1:3] == (way, n_images) and all(e.shot == shot for e in episodes)
        values = torch.unique(images.flatten(0, 2).flatten(1), dim=0, return_inverse=True)[1]
        seen = values.view(n, way, n_images).numpy()
        classes = torch.stack([e.classes for e in episodes]).numpy()
        _assert_episodes(classes, seen[..., :shot], seen[..., shot:], n_classes)
