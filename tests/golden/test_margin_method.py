"""Whole margin classifiers against the official code: training, the episode's classifier, and official checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from golden_files import hashed_tensor, images, load, tensor
from torch import Tensor, nn

from harness.api import EpisodeBatch, Support
from harness.backbones import build
from harness.errors import ConfigError
from harness.method.official_weights import import_weights
from methods.margin import Cosine, NegCosine, NegSoftmax, Softmax

FAMILY = "negative_margin"
CLASSES = {"cosine": NegCosine, "softmax_margin": NegSoftmax, "linear": Softmax}


class Toy(nn.Module):
    """The extractor of the stored loop, relu(x·wᵀ), as a backbone with a 1×1 map."""

    init = "fan_out"

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.channels, self.stages = len(weight), nn.Sequential()

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x @ self.weight.T)[:, :, None, None]


class Context:
    """What the training asks of the harness, without validation and without a place on disk."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.points: list[dict[str, float]] = []

    def epochs(self, n: int, **state: Any) -> Iterator[int]:
        yield from range(n)

    def autocast(self) -> torch.autocast:
        return torch.autocast("cpu", enabled=False)

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def step(self, optimiser: torch.optim.Optimizer) -> None:
        optimiser.step()
        optimiser.zero_grad()

    def keep_best(self, method: nn.Module, way: int, shot: int) -> None:
        return None

    def log(self, step: int, **scalars: float) -> None:
        self.points.append({"step": step, **scalars})


def test_base_training_is_the_official_loop() -> None:
    """Loss, L2 in the gradient, and the step size of each of 12 iterations, through ``_train`` itself."""
    arrays, entry = load(FAMILY, "train_loop.npz")
    facts = entry["hyper_parameters"]
    close = {"rtol": entry["tolerance"]["float64_rtol"], "atol": entry["tolerance"]["float64_atol"]}
    config = NegCosine.Config(
        epochs=facts["epochs"], warmup_epochs=facts["warmup_epochs"], weight_decay=facts["weight_decay"],
        scale=facts["scale"], margin=facts["margin"],
    )  # fmt: skip
    toy = Toy(tensor(arrays["w0"]))
    method = NegCosine(config, toy)
    head = nn.Linear(7, 6, bias=False).double()
    head.load_state_dict({"weight": tensor(arrays["c0"])})
    seen = 0

    def batches(size: int, augment: bool) -> Iterator[tuple[Tensor, Tensor]]:
        nonlocal seen
        assert augment
        for x, y in zip(tensor(arrays["x"]), torch.from_numpy(arrays["y"]), strict=True):
            yield x, y
            np.testing.assert_allclose(toy.weight.detach(), arrays["w_after"][seen], **close)
            np.testing.assert_allclose(head.weight.detach(), arrays["c_after"][seen], **close)
            seen += 1

    ctx = Context()
    method._train(head, SimpleNamespace(batches=batches, n_batches=lambda size: 4), ctx)
    assert seen == 12
    for epoch, point in enumerate(ctx.points):
        expected = arrays["loss"][4 * epoch : 4 * epoch + 4].mean()
        np.testing.assert_allclose(point["loss"], expected, **close)


@pytest.mark.parametrize(
    ("metric", "shot"),
    [("cosine", 1), ("cosine", 5), ("softmax_margin", 1), ("softmax_margin", 5), ("linear", 5)],
)
def test_an_episode_is_scored_as_officially(metric: str, shot: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the stored start and orders; both the loop and the batch."""
    arrays, entry = load(FAMILY, f"episode_{metric}_{shot}shot.npz")
    starts = [tensor(arrays["init_weight"], torch.float32)]
    if metric == "linear":  # the method draws the bias second, as dim**0.5 times its value
        starts.append(tensor(arrays["init_bias"], torch.float32)[:, None] * 32**0.5)
    draws = iter(starts * 2)
    monkeypatch.setattr("methods.margin.method.draw_heads", lambda rng, n_way, dim: next(draws)[None])
    orders = torch.from_numpy(arrays["perms"].astype(np.int64))[None]
    monkeypatch.setattr("methods.margin.method.draw_orders", lambda rng, n, n_passes: orders)
    cls = CLASSES[metric]
    theirs = {k: v for k, v in cls.RECIPES["as-published"]["mini"].items() if k.startswith("head_")}
    method = cls(cls.Config(**theirs), build("conv4", 28, 1)).eval()
    z = tensor(arrays["z_all"], torch.float32)  # (W, S + Q, D)
    support, query, rng = z[:, :shot], z[:, shot:].flatten(0, 1), torch.Generator()
    y = torch.arange(5).repeat_interleave(shot)
    state = method.adapt(Support(support.flatten(0, 1), y, 5, rng))
    looped = method.predict(state, query)
    batched = method.predict_batch(EpisodeBatch(support[None], query[None], [rng]))[0]
    rtol, atol = entry["tolerance"]["float32_rtol"], entry["tolerance"]["float32_atol"]
    for scores in (looped, batched):
        # the official inner-product head returns scores above the row minimum
        shown = scores - scores.amin(-1, keepdim=True) if metric == "softmax_margin" else scores
        np.testing.assert_allclose(shown, arrays["scores_f64"], rtol=rtol, atol=atol)
        np.testing.assert_array_equal(scores.argmax(-1), arrays["pred"])


NETWORKS = [
    ("backbone_conv4_84.npz", "conv4", 84, {}),
    ("backbone_resnet12_84.npz", "resnet12", 84, {}),
    ("backbone_resnet18_224.npz", "resnet18", 224, {}),
    ("backbone_wrn_small_32.npz", "wrn28_10", 32, {"depth": 10, "widen": 1}),
]


def checkpoint(entry: dict[str, Any], n_classes: int = 64) -> dict[str, Tensor]:
    """A state dict with the names and shapes of the official training model, filled by the manifest's formula."""
    state: dict[str, Tensor] = {}
    for p in entry["parameters"]:
        value = torch.from_numpy(hashed_tensor(p["k"], p["shape"], p["role"])).float()
        names = [p["name"]]
        if ".C." in p["name"] or ".BN." in p["name"]:  # conv4 registers each layer twice
            names.append(p["name"].replace(".C.", ".trunk.0.").replace(".BN.", ".trunk.1."))
        state |= {f"feature.{name}": value for name in names}
        if p["role"] == "running_var":
            state |= {
                f"feature.{n.replace('running_var', 'num_batches_tracked')}": torch.tensor(9) for n in names
            }
    state["classifier.weight"] = torch.zeros(n_classes, entry["hyper_parameters"].get("feature_dim", 64))
    return state


@pytest.mark.parametrize(("file", "name", "size", "options"), NETWORKS)
@pytest.mark.parametrize("is_parallel", [False, True])
def test_an_official_checkpoint_gives_official_features(
    tmp_path: Path, file: str, name: str, size: int, options: dict[str, Any], is_parallel: bool
) -> None:
    arrays, entry = load(FAMILY, file)
    state = {f"module.{k}" if is_parallel else k: v for k, v in checkpoint(entry).items()}
    path = tmp_path / "best_model.tar"
    torch.save({"epoch": 3, "state": state, "acc": np.float64(0.6), "best_acc": np.float64(0.6)}, path)
    method = Cosine(Cosine.Config(), build(name, size, 3, **options))
    imported = import_weights(method, path)
    assert imported.set_aside == ("classifier.weight",)
    with torch.no_grad():
        features = method.eval().embed(images(arrays["images_u8"], torch.float32))
    limit = entry["tolerance"]["float32_atol_rel_to_max"] * np.abs(arrays["features"]).max()
    np.testing.assert_allclose(features, arrays["features"], rtol=0, atol=limit)


def test_everything_that_does_not_fit_is_listed_and_nothing_is_loaded(tmp_path: Path) -> None:
    _, entry = load(FAMILY, "backbone_conv4_84.npz")
    state = checkpoint(entry)
    del state["feature.trunk.2.C.bias"]
    state["feature.trunk.9.C.bias"] = torch.zeros(3)
    state["feature.trunk.1.C.bias"] = torch.zeros(5)
    state["feature.trunk.3.trunk.0.bias"] = torch.ones(64)
    torch.save({"state": state}, tmp_path / "x.tar")
    method = Cosine(Cosine.Config(), build("conv4", 84, 3))
    before = {key: value.clone() for key, value in method.state_dict().items()}
    with pytest.raises(ConfigError) as error:
        import_weights(method, tmp_path / "x.tar")
    for text in (
        "4 problems",
        "missing: feature.trunk.2.C.bias",
        "superfluous: feature.trunk.9.C.bias",
        "feature.trunk.1.C.bias is (5,); expected (64,)",
        "feature.trunk.3.trunk.0.bias differs from feature.trunk.3.C.bias",
    ):
        assert text in str(error.value)
    assert all(torch.equal(value, before[key]) for key, value in method.state_dict().items())
