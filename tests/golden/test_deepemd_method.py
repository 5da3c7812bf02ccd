"""DeepEMD whole against the official code: network, both stages, SFC, crops, and official checkpoints.

Training steps are computed in float64, with which the official float32 gradients agree: in float32 rounding turns a
decision of a max pool or a LeakyReLU around here and there, which moves gradients by up to a percent.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from golden_files import FOLDER, load, tensor
from PIL import Image
from torch import Tensor, nn

from harness.api import Grid, RandomCrops, Support, TrainingEpisode
from harness.backbones import build
from harness.backbones.resnet12 import Block
from harness.errors import ConfigError
from harness.images import patches
from harness.images.inputs import normalise
from harness.images.pipelines import pipeline
from harness.method.official_weights import import_weights
from harness.ops.node_matching import OPENCV_EXTRA, map_nodes, node_scores
from methods.deepemd import DeepEmd, DeepEmdPretrain
from methods.deepemd.sfc import fit_sfc

FAMILY = "deepemd"
MANIFEST = json.loads((FOLDER / FAMILY / "manifest.json").read_text())
OPENCV = {"grad": "flow-only", "weight_eps": OPENCV_EXTRA}
IMAGE_SIZE = 84  # that networks are built for; they take others


def files(start: str) -> list[str]:
    found = [entry["file"] for entry in MANIFEST["files"] if entry["file"].startswith(start)]
    assert found
    return found


def filled(k: int, shape: list[int], kind: str) -> Tensor:
    """Weights by the manifest's formula."""
    i = np.arange(np.prod(shape), dtype=np.int64)
    s = 2 * ((7 * i * i + 131 * i + 7919 * k + 17) % 1_000_003) / 1_000_002 - 1
    value = {
        "conv": s * np.sqrt(6 / np.prod(shape[1:])),
        "gamma": 1 + 0.2 * s,
        "beta": 0.1 * s,
        "mean": 0.1 * s,
        "var": 1 + 0.5 * s,
        "fcw": s / np.sqrt(shape[-1]),
        "fcb": 0.1 * s,
    }[kind]
    return torch.from_numpy(value.reshape(shape)).float()


def checkpoint(path: Path, before: str = "encoder.") -> Path:
    """A file as the authors write it, with something of its own before the encoder's names."""
    state = {}
    for t in MANIFEST["backbone_fill"]["tensors"]:
        if t["name"].startswith("encoder."):
            name = before + t["name"].removeprefix("encoder.")
            state[name] = filled(t["k"], t["shape"], t["kind"])
            assert state[name].double().sum() == pytest.approx(
                t["sum_float64"], abs=1e-3
            )  # of rounded addends
            if t["kind"] == "var":
                state[name.replace("running_var", "num_batches_tracked")] = torch.tensor(0)
    torch.save({"params": state}, path)
    return path


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("official") / "max_acc.pth")


def method_of(official: Path, **config: Any) -> DeepEmd:
    method = DeepEmd(DeepEmd.Config(**config), build("resnet12", IMAGE_SIZE, 3))
    import_weights(method, official)
    return method.eval()


def layer(block: Block, name: str) -> nn.BatchNorm2d:
    """The batch norm of a block that the golden files call bn1 … bn3, ds."""
    found = block.shortcut[1] if name == "ds" else block.body[3 * int(name[-1]) - 2]
    assert isinstance(found, nn.BatchNorm2d)
    return found


def check_gradients(
    parameters: list[nn.Parameter], arrays: dict[str, np.ndarray], tolerance: dict[str, Any]
) -> None:
    gradients = [p.grad for p in parameters]
    norms = [float(g.double().norm()) for g in gradients]
    np.testing.assert_allclose(norms, arrays["grad_norm"], **tolerance["grad_norm"])
    first = torch.stack([g.flatten()[:4] for g in (g.contiguous() for g in gradients)])
    np.testing.assert_allclose(first, arrays["grad_first4"], **tolerance["grad_first4"])


class Context:
    """What a training asks of the harness: one step, whose gradients stay."""

    device = torch.device("cpu")
    points: dict[str, float]

    def epochs(self, n: int, **state: Any) -> Iterator[int]:
        self.head = state["head"].double()
        with torch.no_grad():
            for value, kind in ((self.head.weight, "fcw"), (self.head.bias, "fcb")):
                t = next(t for t in MANIFEST["backbone_fill"]["tensors"] if t["kind"] == kind)
                value.copy_(filled(t["k"], t["shape"], kind))
        yield 0

    def autocast(self) -> torch.autocast:
        return torch.autocast("cpu", enabled=False)

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def step(self, optimiser: torch.optim.Optimizer) -> None:
        optimiser.step()  # so small that weights stay; gradients do

    def keep_best(self, method: nn.Module, way: int, shot: int) -> None:
        return None

    def log(self, step: int, **scalars: float) -> None:
        self.points = scalars


@pytest.mark.parametrize("file", files("backbone_eval"))
def test_maps_of_an_official_checkpoint(official: Path, file: str) -> None:
    arrays, entry = load(FAMILY, file)
    x = tensor(arrays["x"], torch.float32)
    with torch.no_grad():
        np.testing.assert_allclose(method_of(official).backbone(x), arrays["y"], **entry["tolerance"]["y"])


@pytest.mark.parametrize("file", files("backbone_train"))
def test_batch_statistics_in_training(official: Path, file: str) -> None:
    arrays, entry = load(FAMILY, file)
    backbone, tolerance = method_of(official).train().backbone, entry["tolerance"]
    with torch.no_grad():
        np.testing.assert_allclose(
            backbone(tensor(arrays["x"], torch.float32)), arrays["y"], **tolerance["y"]
        )
    looked_at = [name for name in arrays if name[:3] in ("rm_", "rv_")]
    assert looked_at
    for name in looked_at:
        what, stage, norm = name.split("_")
        found = layer(backbone.stages[int(stage[1:]) - 1], norm)
        running = found.running_mean if what == "rm" else found.running_var
        np.testing.assert_allclose(running, arrays[name], **tolerance[f"{what}_*"])


def pretrained(tmp_path: Path) -> DeepEmdPretrain:
    method = DeepEmdPretrain(DeepEmdPretrain.Config(epochs=1, lr=1e-30), build("resnet12", IMAGE_SIZE, 3))
    import_weights(method, checkpoint(tmp_path / "pre.pth", ""))
    return method


@pytest.mark.parametrize("file", files("pretrain_"))
def test_the_first_stage(tmp_path: Path, file: str) -> None:
    """Scores of the base classes in evaluation, or loss and gradients of a training step."""
    arrays, entry = load(FAMILY, file)
    x, tolerance, method, ctx = (
        tensor(arrays["x"]), entry["tolerance"], pretrained(tmp_path).double(), Context()
    )  # fmt: skip
    label = torch.from_numpy(arrays["label"]) if "label" in arrays else torch.zeros(len(x), dtype=torch.int64)
    method.train("label" in arrays)
    base = SimpleNamespace(
        n_classes=MANIFEST["backbone_fill"]["num_class_of_fc"],
        n_batches=lambda size: 1,
        batches=lambda size, augment: [(x, label)],
    )
    method.fit_base(base, ctx)
    if "logits" in arrays:
        with torch.no_grad():
            scores = ctx.head(method.embed(x).mean(1))
        np.testing.assert_allclose(scores, arrays["logits"], **tolerance["logits"])
    else:
        np.testing.assert_allclose(ctx.points["loss"], arrays["loss"], **tolerance["loss"])
        check_gradients([*method.parameters(), *ctx.head.parameters()], arrays, tolerance)


@pytest.mark.parametrize("file", files("encode_patches"))
def test_nodes_of_crops(official: Path, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where crops go through the network in parts."""
    arrays, entry = load(FAMILY, file)
    method = method_of(official, variant="sampling")
    for at_once in (256, 3):
        monkeypatch.setattr("methods.deepemd.method._CROPS_AT_ONCE", at_once)
        with torch.no_grad():
            nodes = method.embed(tensor(arrays["x"], torch.float32))  # (b, v, D)
        np.testing.assert_allclose(nodes.mT[..., None], arrays["y"], **entry["tolerance"]["y"])


@pytest.mark.parametrize("file", files("pyramid_"))
def test_nodes_of_pyramids(file: str) -> None:
    arrays, entry = load(FAMILY, file)
    nodes = map_nodes(tensor(arrays["feature"], torch.float32), arrays["levels"].tolist())
    np.testing.assert_allclose(nodes.mT[:, :, None], arrays["y"], rtol=0, **entry["tolerance"]["y"])


def head_of(entry: dict[str, Any], solver: str) -> Any:
    """The head inside the SFC of a file, by a solver."""
    if "qpth" in entry["file"]:
        return partial(node_scores, solver=solver)
    return partial(node_scores, solver=solver, grad="flow-only", extra=OPENCV_EXTRA)


SFC = [
    pytest.param(file, solver, marks=[pytest.mark.qpth] * (solver == "qpth"))
    for file in files("sfc_")
    for solver in ("exact", "qpth" if "qpth" in file else "opencv")
]


@pytest.mark.parametrize(("file", "solver"), SFC)
def test_sfc_in_the_recorded_orders(file: str, solver: str) -> None:
    arrays, entry = load(FAMILY, file)
    way, shot, tolerance = entry["way"], entry["shot"], entry["tolerance"]
    support, query = (map_nodes(tensor(arrays[name], torch.float32)) for name in ("support", "query"))
    target = torch.arange(way).repeat(shot)  # shot by shot
    start = support.unflatten(0, (shot, way)).mean(0)  # (W, L, D)
    orders = torch.from_numpy(arrays["perms"].astype(np.int64))
    for n_passes in arrays["steps"].tolist():
        sfc = fit_sfc(
            support[None], target[None], start[None], orders[None, :n_passes], head_of(entry, solver),
            lr=entry["lr"], batch_size=entry["batch"],
        )[0]  # fmt: skip
        expected = map_nodes(tensor(arrays[f"sfc_after_{n_passes}"], torch.float32))
        if "atol" in tolerance["sfc_after_*"]:
            np.testing.assert_allclose(sfc, expected, rtol=0, **tolerance["sfc_after_*"])
        else:
            apart, moved = float((sfc - expected).norm()), float((expected - start).norm())
            assert apart <= tolerance["sfc_after_*"]["rel_l2 of (sfc - init)"] * moved
    scores = node_scores(query, sfc, grad="flow-only", extra=OPENCV_EXTRA)
    np.testing.assert_allclose(scores, arrays["logits"], rtol=0, **tolerance["logits"])


def meta_steps() -> Iterator[Any]:
    for file in files("meta_step"):
        entry = load(FAMILY, file)[1]
        official = {"solver": entry["solver"], "form": entry["form"]}
        yield pytest.param(file, official, marks=[pytest.mark.qpth] * (entry["solver"] == "qpth"))
        yield pytest.param(file, {"solver": "exact"})


@pytest.mark.parametrize(("file", "options"), list(meta_steps()))
def test_a_step_of_meta_training(official: Path, file: str, options: dict[str, Any]) -> None:
    """Scores, loss and the gradient of every weight; the exact solver is within the tolerance of both official ones."""
    arrays, entry = load(FAMILY, file)
    way, tolerance = entry["way"], entry["tolerance"]
    x = tensor(arrays["x"])  # supports, then queries, the class running fast
    options |= OPENCV if entry["solver"] == "opencv" else {}
    method = method_of(official, variant="fcn" if x.ndim == 4 else "sampling", **options).train().double()
    given = []
    scores_of = method._scores
    of_heads = (
        torch.float32 if method.config.solver == "qpth" else torch.float64
    )  # as officially; else qpth is singular
    method._scores = lambda *nodes: given.append(scores_of(*(x.to(of_heads) for x in nodes))) or given[0]
    images = x.unflatten(0, (-1, way)).transpose(0, 1)  # (W, 1 + Q, ...)
    loss, _ = method._loss(TrainingEpisode(images, torch.arange(way), 1), Context())
    loss.backward()
    scores = given[0].detach().unflatten(0, (way, -1)).transpose(0, 1).flatten(0, 1)  # the class runs fast
    np.testing.assert_allclose(scores, arrays["logits"], rtol=0, **tolerance["logits"])
    np.testing.assert_allclose(loss.detach(), arrays["loss"], **tolerance["loss"])
    check_gradients(list(method.parameters()), arrays, tolerance)


@pytest.mark.parametrize("solver", ["exact", "opencv"])
@pytest.mark.parametrize("file", files("end_to_end"))
def test_from_pictures_to_scores(official: Path, file: str, solver: str) -> None:
    arrays, entry = load(FAMILY, file)
    method = method_of(official, solver=solver, **OPENCV)
    with torch.no_grad():
        nodes = method.embed(tensor(arrays["x_times_16"], torch.float32) / 16)
        way = entry["way"]
        support = Support(nodes[:way], torch.arange(way), way, torch.Generator())
        scores = method.predict(method.adapt(support), nodes[way:])
    np.testing.assert_allclose(scores, arrays["logits"], rtol=0, **entry["tolerance"]["logits"])


@pytest.mark.parametrize("file", files("transforms_eval"))
def test_pictures_at_test(file: str) -> None:
    """Grid crops and the square of the feature map; of each, pixels at the distance that the array's name ends with."""
    arrays, entry = load(FAMILY, file)
    picture, view = Image.fromarray(arrays["image_uint8"]), pipeline("deepemd")
    grid = Grid(tuple(entry["patch_list"]), entry["patch_ratio"])
    crops = np.stack(list(grid.crops(picture, IMAGE_SIZE, torch.Generator(), is_training=False)))
    for name in entry["outputs"]:
        step = int(name.rpartition("_sub")[2])
        pixels = crops if name.startswith("grid") else view.geometry(picture, IMAGE_SIZE)[None]
        x = normalise(torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2) / 255, view)[..., ::step, ::step]
        np.testing.assert_allclose(x, arrays[name].reshape(x.shape), rtol=0, **entry["tolerance"][name])


@pytest.mark.parametrize("file", files("grid_train_ratio"))
def test_the_ratio_of_a_training_grid_is_drawn_once_a_level(
    file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the official generator's numbers; the stored calls are those of the width, then of the height."""
    arrays, entry = load(FAMILY, file)
    draws, asked = random.Random(entry["seed"]), []
    monkeypatch.setattr(
        patches.torch, "rand", lambda *size, generator: torch.tensor(draws.random(), dtype=torch.float64)
    )
    monkeypatch.setattr(patches, "_mirrored", lambda pixels, rng: pixels)
    boxes = patches.grid_boxes

    def recorded(width: int, height: int, k: int, ratio: float) -> Iterator[patches.Box]:
        asked.extend([(k, ratio, width), (k, ratio, height)])
        return boxes(width, height, k, ratio)

    monkeypatch.setattr(patches, "grid_boxes", recorded)
    calls = arrays["num_ratio_size"]
    levels, (width, height) = tuple(calls[::2, 0].astype(int).tolist()), calls[:2, 2].astype(int).tolist()
    picture = Image.new("RGB", (width, height))
    list(Grid(levels).crops(picture, 8, torch.Generator(), is_training=True))
    np.testing.assert_allclose(asked, calls, rtol=0, **entry["tolerance"]["num_ratio_size"])


@pytest.mark.parametrize("cls", [DeepEmd, DeepEmdPretrain])
@pytest.mark.parametrize("before", ["", "module.", "encoder.", "module.encoder."])
def test_checkpoints_of_both_stages_and_of_several_gpus(tmp_path: Path, before: str, cls: Any) -> None:
    """The first stage's files hold the encoder alone, the second's name it."""
    method = cls(cls.Config(), build("resnet12", IMAGE_SIZE, 3))
    assert import_weights(method, checkpoint(tmp_path / "max_acc.pth", before)).set_aside == ()
    first = MANIFEST["backbone_fill"]["tensors"][0]
    assert torch.equal(
        method.backbone.stages[0].body[0].weight, filled(first["k"], first["shape"], first["kind"])
    )


def test_official_weights_are_of_resnet12() -> None:
    with pytest.raises(
        ConfigError, match=r"DeepEMD's official network is resnet12\. Choose --backbone resnet12"
    ):
        DeepEmd(DeepEmd.Config(), build("conv4", IMAGE_SIZE, 3)).official_names()


def test_views_are_the_crops_of_the_variant() -> None:
    def views(**config: Any) -> Any:
        return DeepEmd(DeepEmd.Config(**config), build("conv4", IMAGE_SIZE, 3)).views

    assert views() is None
    assert views(variant="grid", patch_list=(1, 2), patch_ratio=1.5) == Grid((1, 2), 1.5)
    assert views(variant="sampling", num_patch=4) == RandomCrops(4)
    assert views(variant="sampling", num_patch=4, test_num_patch=25) == RandomCrops(25)
