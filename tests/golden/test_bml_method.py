"""Whole binocular methods against the official code: a training step, evaluation, and official checkpoints."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from golden_files import hashed_tensor, images, load, tensor
from torch import Tensor, nn
from torch.nn import functional

from harness.api import EpisodeBatch, Support
from harness.backbones import build
from harness.backbones.two_branch import TwoViews
from harness.errors import ConfigError
from harness.evaluation import counting
from harness.method.official_weights import import_weights
from methods.bml import Bml, BmlGlobal, BmlLocal

FAMILY = "bml"
CPU = torch.device("cpu")


def class_major(x: Tensor, n_way: int) -> Tensor:
    """Official rows, slot by slot, as (W, S + Q, ...)."""
    return x.unflatten(0, (-1, n_way)).transpose(0, 1).contiguous()


class PerImage:
    """Base labels that differ within a class of the episode, as in the stored steps."""

    def __init__(self, label: Tensor) -> None:
        self._label = label

    def repeat_interleave(self, n: int) -> Tensor:
        return self._label


class Toy(nn.Module):
    """The network of the stored training steps."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        super().__init__()
        self.channels = 6
        for name in ("encoder_0", "global_view_0", "local_view_0"):
            self.register_parameter(name, nn.Parameter(tensor(arrays[f"init__{name}_weight"])))

    def forward(self, x: Tensor) -> TwoViews:
        shared = functional.leaky_relu(functional.conv2d(x, self.encoder_0, padding=1), 0.1)
        views = (functional.conv2d(shared, w) for w in (self.global_view_0, self.local_view_0))
        return TwoViews(*(functional.max_pool2d(functional.leaky_relu(v, 0.1), 2) for v in views))


class Given(nn.Module):
    """A network whose maps are known."""

    def __init__(self, maps: Tensor) -> None:
        super().__init__()
        self.maps = maps

    def forward(self, x: Tensor) -> Tensor:
        return self.maps


class Context:
    """What the training asks of the harness; one epoch, the 60th of 100."""

    device = CPU

    def __init__(self) -> None:
        self.points: list[dict[str, float]] = []

    def epochs(self, n: int, **state: Any) -> Iterator[int]:
        yield 59

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


def toy_method(arrays: dict[str, np.ndarray], **config: Any) -> tuple[Bml, nn.Linear]:
    method = Bml(Bml.Config(drop_rate=0.0, **config), build("conv4", 28, 1))
    method.network = Toy(arrays)
    head = nn.Linear(6, 6).double()
    bias, weight = tensor(arrays["init__global_w_bias"]), tensor(arrays["init__global_w_weight"]).flatten(1)
    head.load_state_dict({"weight": weight, "bias": bias})
    return method, head


def test_training_steps_are_the_official_ones() -> None:
    """Three steps of ``_train``: every loss, and every weight after each step."""
    arrays, entry = load(FAMILY, "train_step.npz")
    facts = entry["hyper_parameters"]
    close = {"rtol": entry["tolerance"]["float64_rtol"], "atol": entry["tolerance"]["float64_atol"]}
    method, head = toy_method(
        arrays, parts_per_step=1, decay_epochs=(), decay_factors=(), train_way=facts["n_ways"],
        train_shot=facts["n_shots"], train_query=facts["n_queries"],
    )  # fmt: skip
    n_steps = 0

    def episodes(n: int, way: int, shot: int, n_query: int, augment: bool) -> Iterator[Any]:
        nonlocal n_steps
        assert augment
        for x, y in zip(tensor(arrays["x"]), torch.from_numpy(arrays["y"]), strict=True):
            label = PerImage(class_major(y, way).flatten())
            yield SimpleNamespace(images=class_major(x, way), classes=label, shot=shot)
            for name, weight in method.network.named_parameters():
                np.testing.assert_allclose(weight.detach(), arrays[f"after__{name}_weight"][n_steps], **close)
            expected = arrays["after__global_w_weight"][n_steps][:, :, 0, 0]
            np.testing.assert_allclose(head.weight.detach(), expected, **close)
            np.testing.assert_allclose(head.bias.detach(), arrays["after__global_w_bias"][n_steps], **close)
            n_steps += 1

    ctx = Context()
    method._train(head, SimpleNamespace(episodes=episodes), ctx)
    assert n_steps == 3
    for name, stored in (("loss", "total"), ("mutual", "mutual"), ("global_loss",) * 2, ("local_loss",) * 2):
        np.testing.assert_allclose(ctx.points[0][name], arrays[stored].mean(), **close)
    assert ctx.points[0]["elastic_share"] > 0.9  # the manifest: active for 97% of pairs


def test_two_parts_are_one_step_with_the_mean_gradient() -> None:
    arrays, _ = load(FAMILY, "train_step.npz")
    x, y = tensor(arrays["x"]), torch.from_numpy(arrays["y"])
    parts = [
        SimpleNamespace(images=class_major(x[i], 4), classes=PerImage(class_major(y[i], 4).flatten()), shot=2)
        for i in (0, 1)
    ]
    method, head = toy_method(arrays, parts_per_step=2, decay_epochs=(), decay_factors=(), weight_decay=0.0)
    before = {name: weight.detach().clone() for name, weight in method.network.named_parameters()}
    gradients = []
    for part in parts:
        loss = method._losses(part, head, Context(), 0.6)["loss"]
        gradients.append(torch.autograd.grad(loss, list(method.network.parameters())))
    streams = iter([[parts[0]], [parts[1]]])
    base = SimpleNamespace(episodes=lambda *args, **options: iter(next(streams)))
    method._train(head, base, Context())
    for (name, weight), one, two in zip(method.network.named_parameters(), *gradients, strict=True):
        # float64: SGD's first step is lr times the gradient, exactly
        torch.testing.assert_close(weight.detach(), before[name] - 0.1 * (one + two) / 2, rtol=0, atol=1e-12)


@pytest.mark.parametrize("file", ["eval_1shot.npz", "eval_5shot.npz"])
@pytest.mark.parametrize("views", ["both", "global", "local"])
def test_evaluation_is_the_official_one(file: str, views: str) -> None:
    arrays, entry = load(FAMILY, file)
    facts = entry["hyper_parameters"]
    way, shot = facts["n_ways"], facts["n_shots"]
    method = Bml(Bml.Config(drop_rate=0.0, views=views), build("conv4", 28, 1))
    maps = torch.stack([class_major(tensor(arrays[f"feat_{v}"]), way) for v in ("global", "local")], dim=2)
    support, query = maps[:, :shot], maps[:, shot:].flatten(0, 1)  # (W, S, V, C, h, w), (W·Q, V, C, h, w)
    rng, y = torch.Generator(), torch.arange(way).repeat_interleave(shot)
    looped = method.predict(method.adapt(Support(support.flatten(0, 1), y, way, rng)), query)
    batched = method.predict_batch(EpisodeBatch(support[None], query[None], [rng]))[0]
    stored = arrays["logits" if views == "both" else f"logits_{views}"]
    expected = class_major(tensor(stored), way).flatten(0, 1)
    close = {"rtol": entry["tolerance"]["float64_rtol"], "atol": entry["tolerance"]["float64_atol"]}
    for scores in (looped, batched):  # without |query|², which all classes share
        shown = scores - scores.amax(-1, keepdim=True)
        np.testing.assert_allclose(shown, expected - expected.amax(-1, keepdim=True), **close)
        if views == "both":
            label = torch.arange(way).repeat_interleave(facts["n_queries"])
            assert float((scores.argmax(-1) == label).double().mean()) == pytest.approx(
                float(arrays["accuracy"])
            )


def test_accuracy_and_interval_are_counted_as_officially() -> None:
    arrays, entry = load(FAMILY, "validate.npz")
    scores = torch.from_numpy(arrays["logits_global"] + arrays["logits_local"])
    counts = counting.n_correct(counting.predicted(scores), arrays["labels"])
    accuracy = counts / arrays["labels"].size
    rtol = entry["tolerance"]["mean_rtol"]
    assert 100 * accuracy.mean() == pytest.approx(float(arrays["mean_acc"]), rel=rtol)
    half_width = 100 * 1.96 * accuracy.std() / len(accuracy) ** 0.5
    assert half_width == pytest.approx(float(arrays["ci95_rounded"]), abs=entry["tolerance"]["ci_atol"])


@pytest.mark.parametrize("cls", [BmlLocal, BmlGlobal])
def test_baselines_test_on_averaged_maps(cls: Any) -> None:
    arrays, entry = load(FAMILY, "baselines.npz")
    facts = entry["hyper_parameters"]
    way, shot = facts["n_ways"], facts["n_shots"]
    method = cls(cls.Config(drop_rate=0.0), build("conv4", 28, 1))
    maps = class_major(tensor(arrays["spatial"]), way).unsqueeze(2)  # (W, S + Q, 1, C, h, w)
    batch = EpisodeBatch(maps[:, :shot][None], maps[:, shot:].flatten(0, 1)[None], [torch.Generator()])
    scores = method.predict_batch(batch)[0]
    stored = arrays["local_test" if cls is BmlLocal else "global_test"]
    expected = class_major(tensor(stored), way).flatten(0, 1)
    close = {"rtol": entry["tolerance"]["float64_rtol"], "atol": entry["tolerance"]["float64_atol"]}
    shown, wanted = (s - s.amax(-1, keepdim=True) for s in (scores, expected))
    np.testing.assert_allclose(shown, wanted, **close)


def test_a_view_without_the_other_is_its_dense_baseline() -> None:
    """Weights (1, 0, 0) and (0, 1, 0) without elastic term: the losses of the two baselines."""
    arrays, _ = load(FAMILY, "train_step.npz")
    x, y = tensor(arrays["x"])[0], torch.from_numpy(arrays["y"])[0]
    part = SimpleNamespace(images=class_major(x, 4), classes=PerImage(class_major(y, 4).flatten()), shot=2)
    toy, ctx = Toy(arrays), Context()
    views = toy(part.images.flatten(0, 1))
    for cls, weights, view in ((BmlGlobal, (1.0, 0.0), "global_map"), (BmlLocal, (0.0, 1.0), "local_map")):
        both, head = toy_method(
            arrays, global_weight=weights[0], local_weight=weights[1], mutual_weight=0.0, elastic_strength=0.0
        )
        one = cls(cls.Config(drop_rate=0.0, is_dense=True), build("conv4", 28, 1))
        one.network = Given(getattr(views, view))
        given = part if cls is BmlLocal else (part.images.flatten(0, 1), part.classes.repeat_interleave(5))
        expected = one._losses(given, head, ctx, 0.6)["loss"]
        torch.testing.assert_close(both._losses(part, head, ctx, 0.6)["loss"], expected, rtol=1e-12, atol=0)


def test_the_divergence_moves_both_views() -> None:
    arrays, _ = load(FAMILY, "train_step.npz")
    method, head = toy_method(arrays, global_weight=0.0, local_weight=0.0)
    x, y = tensor(arrays["x"])[0], torch.from_numpy(arrays["y"])[0]
    part = SimpleNamespace(images=class_major(x, 4), classes=PerImage(class_major(y, 4).flatten()), shot=2)
    method._losses(part, head, Context(), 0.6)["loss"].backward()
    for weight in (method.network.global_view_0, method.network.local_view_0):
        assert float(weight.grad.abs().max()) > 1e-9


def filled(parameters: list[dict[str, Any]], prefix: str) -> dict[str, Tensor]:
    """Names and shapes of the official class under ``prefix``, filled by the manifest's formula."""
    state: dict[str, Tensor] = {}
    for p in parameters:
        state[prefix + p["name"]] = torch.from_numpy(hashed_tensor(p["k"], p["shape"], p["role"])).float()
        if p["role"] == "running_var":
            state[prefix + p["name"].replace("running_var", "num_batches_tracked")] = torch.tensor(9)
    return state


def save(path: Path, state: dict[str, Tensor]) -> Path:
    """As the official code does, with its command line and a number of numpy's in the file."""
    config = argparse.Namespace(dataset="miniImageNet", alpha_1=5.5)
    torch.save({"model": state, "max_accuracy": np.float64(67.2), "epoch": 100, "config": config}, path)
    return path


NETWORKS = [
    ("backbone_res12_bml.npz", "resnet12", {}),
    ("backbone_res18_bml.npz", "resnet18", {"stem": "3x3", "last_pool": True}),
]


@pytest.mark.parametrize(("file", "name", "options"), NETWORKS)
def test_an_official_checkpoint_gives_official_maps(
    tmp_path: Path, file: str, name: str, options: dict[str, Any]
) -> None:
    arrays, entry = load(FAMILY, file)
    state = filled(entry["parameters_shared"], "encoder.")
    for view in ("global", "local"):
        state |= filled(entry[f"parameters_{view}"], f"{view}_view.")
    channels = {"resnet12": 640, "resnet18": 512}[name]
    state |= {"global_w.weight": torch.zeros(64, channels, 1, 1), "global_w.bias": torch.zeros(64)}
    drop_rate = 0.1 if name == "resnet12" else 0.0
    method = Bml(Bml.Config(drop_rate=drop_rate), build(name, 84, 3, **options))
    imported = import_weights(method, save(tmp_path / "ckpt_epoch_100.pth", state))
    assert imported.set_aside == ("global_w.weight", "global_w.bias")
    with torch.no_grad():
        maps = method.eval().embed(images(arrays["images_u8"], torch.float32))  # (b, 2, C, h, w)
    relative = entry["tolerance"]["float32_atol_rel_to_max"]
    for i, pooled in enumerate(("global_pooled", "local_pooled")):
        limit = relative * np.abs(arrays[pooled]).max()
        np.testing.assert_allclose(maps[:, i].mean((2, 3)), arrays[pooled], rtol=0, atol=limit)


@pytest.mark.parametrize("cls", [BmlLocal, BmlGlobal])
def test_an_official_baseline_gives_official_features(tmp_path: Path, cls: Any) -> None:
    arrays, entry = load(FAMILY, "backbone_res12_baseline.npz")
    state = filled(entry["parameters"], "encoder.")
    state |= (
        {"global_w.weight": torch.zeros(64, 640), "global_w.bias": torch.zeros(64)}
        if cls is BmlGlobal
        else {}
    )
    method = cls(cls.Config(), build("resnet12", 84, 3))
    import_weights(method, save(tmp_path / "x.pth", state))
    with torch.no_grad():
        pooled = method.eval().embed(images(arrays["images_u8"], torch.float32)).mean((3, 4))[:, 0]
    limit = entry["tolerance"]["float32_atol_rel_to_max"] * np.abs(arrays["pooled"]).max()
    np.testing.assert_allclose(pooled, arrays["pooled"], rtol=0, atol=limit)


def test_a_checkpoint_of_the_baseline_is_not_one_of_both_views(tmp_path: Path) -> None:
    _, entry = load(FAMILY, "backbone_res12_baseline.npz")
    path = save(tmp_path / "x.pth", filled(entry["parameters"], "encoder."))
    with pytest.raises(ConfigError) as error:
        import_weights(Bml(Bml.Config(), build("resnet12", 84, 3)), path)
    for text in ("missing: global_view.layer.0.conv1.weight", "superfluous: encoder.layer4.0.conv1.weight"):
        assert text in str(error.value)
