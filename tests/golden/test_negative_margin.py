"""Backbones, drop layers, heads, episodes and schedule of Negative Margin against the official code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from golden_files import fill_by_hash, images, load, tensor, weights_in_order
from torch import Tensor, nn

from harness.backbones import build
from harness.backbones.conv4 import Conv4
from harness.backbones.resnet import BasicBlock
from harness.backbones.resnet12 import Block
from harness.backbones.wrn28_10 import WideBlock
from harness.ops.dropblock import drop, keep_mask, keep_mask_as_published, seed_rate
from harness.ops.linear_head import fit_heads, with_bias
from harness.ops.margin import Similarity, margin_loss, margin_scores, similarities
from harness.ops.schedules import warmup_cosine

FAMILY = "negative_margin"

BLOCKS: dict[str, Callable[[], nn.Module]] = {
    "block_resnet12.npz": lambda: Block(3, 6),
    "block_resnet18_down.npz": lambda: BasicBlock(4, 6, 2),
    "block_resnet18_same.npz": lambda: BasicBlock(4, 4),
    "block_wrn_change.npz": lambda: WideBlock(4, 6, 2),
    "block_wrn_same.npz": lambda: WideBlock(4, 4),
    "block_conv4.npz": lambda: Conv4(16, 4, hidden=6).stages[0],
}


@pytest.mark.parametrize("file", BLOCKS)
def test_block_in_evaluation_training_and_gradient(file: str) -> None:
    arrays, entry = load(FAMILY, file)
    block = BLOCKS[file]().double()
    weights = weights_in_order(block)
    with torch.no_grad():
        for i, weight in enumerate(weights):
            weight.copy_(tensor(arrays[f"p{i:02d}"]))
    close = _float64(entry)
    x = tensor(arrays["x"]).requires_grad_()
    np.testing.assert_allclose(block.eval()(x).detach(), arrays["out_eval"], **close)
    out = block.train()(x)
    np.testing.assert_allclose(out.detach(), arrays["out_train"], **close)
    (gradient,) = torch.autograd.grad((out * tensor(arrays["g"])).sum(), x)
    np.testing.assert_allclose(gradient, arrays["grad_x"], **close)
    statistics = [name for name in arrays if name.endswith("_after")]
    assert statistics
    for name in statistics:
        np.testing.assert_allclose(weights[int(name[1:3])], arrays[name], **close)


@pytest.mark.parametrize(
    ("file", "name", "size", "first", "options"),
    [
        ("backbone_conv4_84.npz", "conv4", 84, 1, {}),
        ("backbone_resnet12_84.npz", "resnet12", 84, 1, {}),
        ("backbone_resnet18_224.npz", "resnet18", 224, 0, {}),
        ("backbone_resnet18_narrow_224.npz", "resnet18", 224, 0, {"widths": (8, 12, 16, 20)}),
        pytest.param("backbone_wrn28_10_80.npz", "wrn28_10", 80, 0, {}, marks=pytest.mark.slow),
        ("backbone_wrn_small_32.npz", "wrn28_10", 32, 0, {"depth": 10, "widen": 1}),
    ],
)
def test_backbone(file: str, name: str, size: int, first: int, options: dict[str, Any]) -> None:
    """``first`` is the official number of our first stage (a stem counts as 0)."""
    arrays, entry = load(FAMILY, file)
    backbone = fill_by_hash(build(name, size, 3, **options), entry["parameters"])
    maps: dict[str, Tensor] = {}
    for number, stage in enumerate(backbone.stages, start=first):
        # The official third group of the wide network ends before the last batch norm and ReLU.
        end = [block for block in stage if isinstance(block, WideBlock)][-1:] if name == "wrn28_10" else []
        (end or [stage])[0].register_forward_hook(
            lambda _, __, out, n=number: maps.update({f"layer{n}": out})
        )
    with torch.no_grad():
        features = backbone(images(arrays["images_u8"]))
    rtol, largest = entry["tolerance"]["float64_rtol"], np.abs(arrays["features"]).max()
    relative = entry["tolerance"]["float64_atol_rel_to_max"]
    assert features.shape[1:] == (backbone.channels, *backbone.feature_size)
    flat = features.flatten(1) if name == "conv4" else features.mean((2, 3))
    np.testing.assert_allclose(flat, arrays["features"], rtol=rtol, atol=relative * largest)
    for stage in (array[6:-6] for array in arrays if array.endswith("_stats")):
        got, head = maps[stage.replace("trunk", "layer0")], arrays[f"stage_{stage}_head"]
        statistics = torch.stack([got.mean(), got.std(correction=0), got.abs().max()])
        np.testing.assert_allclose(statistics, arrays[f"stage_{stage}_stats"], rtol=rtol)
        np.testing.assert_allclose(got[0, :4, 0, :4], head, rtol=rtol, atol=relative * np.abs(head).max())


@pytest.mark.parametrize("case", range(8))
def test_dropblock(case: int) -> None:
    arrays, entry = load(FAMILY, "dropblock.npz")
    facts = entry["hyper_parameters"]["cases"][case]
    seeds = torch.from_numpy(arrays[f"mask_{case}"] == 1)
    whole = keep_mask(seeds, facts["block_size"])
    published = keep_mask_as_published(seeds, facts["block_size"])
    assert int((~whole).sum()) == facts["dropped_by_a_correct_DropBlock"]
    np.testing.assert_array_equal(published, arrays[f"keep_{case}"] == 1)
    if facts["gcd_with_block_area"] == 1:
        assert torch.equal(whole, published)
    got = drop(tensor(arrays[f"x_{case}"], torch.float32), published)
    close = {"rtol": entry["tolerance"]["out_rtol"], "atol": entry["tolerance"]["out_atol"]}
    np.testing.assert_allclose(got, arrays[f"out_{case}"], **close)


def test_dropblock_ramp() -> None:
    arrays, entry = load(FAMILY, "dropblock.npz")
    for rate, block_size, side, n_batches, gamma in arrays["gamma_table"]:
        got = seed_rate(float(rate), int(block_size), int(side), torch.tensor(int(n_batches)))
        assert float(got) == pytest.approx(gamma, rel=entry["tolerance"]["gamma_rtol"])


@pytest.mark.parametrize(
    ("file", "kind"), [("head_cosine_margin.npz", "cosine"), ("head_softmax_margin.npz", "dot")]
)
@pytest.mark.parametrize("case", range(7))
def test_margin_head(file: str, kind: Similarity, case: int) -> None:
    arrays, entry = load(FAMILY, file)
    close = _float64(entry)
    scale, margin = float(arrays["scale"][case]), float(arrays["margin"][case])
    features, weight = tensor(arrays["features"]).requires_grad_(), tensor(arrays["weight"]).requires_grad_()
    target = torch.from_numpy(arrays["labels"])
    similarity = similarities(features, weight, kind).detach()
    # The official dot-product head subtracts the row minimum, which moves no loss and no gradient.
    shift = scale * similarity.amin(-1, keepdim=True) if kind == "dot" else 0
    trained = margin_scores(similarity, target, scale=scale, margin=margin) - shift
    np.testing.assert_allclose(trained, arrays["logits_train"][case], **close)
    np.testing.assert_allclose(scale * similarity - shift, arrays["logits_eval"][case], **close)
    loss = margin_loss(features, weight, target, kind=kind, scale=scale, margin=margin)
    loss.backward()
    np.testing.assert_allclose(loss.detach(), arrays["loss"][case], **close)
    np.testing.assert_allclose(features.grad, arrays["grad_features"][case], **close)
    np.testing.assert_allclose(weight.grad, arrays["grad_weight"][case], **close)


@pytest.mark.parametrize("head", ["softmax", "cosine"])
def test_baseline_head(head: str) -> None:
    arrays, entry = load(FAMILY, "head_baselines.npz")
    close = _float64(entry)
    features, weight = tensor(arrays["features"]).requires_grad_(), tensor(arrays["weight"])
    target = torch.from_numpy(arrays["labels"])
    if head == "softmax":  # an affine layer: the bias is the weight of a constant feature, the scale 1
        weight = torch.cat([weight, tensor(arrays["bias"])[:, None]], dim=1).requires_grad_()
        x, kind, scale = with_bias(features), "dot", 1.0
    else:
        weight.requires_grad_()
        x, kind, scale = features, "cosine", entry["hyper_parameters"]["cosine_scale"]
    loss = margin_loss(x, weight, target, kind=kind, scale=scale, margin=0.0)
    loss.backward()
    np.testing.assert_allclose(loss.detach(), arrays[f"{head}_loss"], **close)
    scores = scale * similarities(x, weight, kind).detach()
    np.testing.assert_allclose(scores, arrays[f"{head}_logits"], **close)
    np.testing.assert_allclose(features.grad, arrays[f"{head}_grad_features"], **close)
    np.testing.assert_allclose(weight.grad[:, :16], arrays[f"{head}_grad_weight"], **close)
    if head == "softmax":
        np.testing.assert_allclose(weight.grad[:, 16], arrays["softmax_grad_bias"], **close)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    ("metric", "shot"),
    [("cosine", 1), ("cosine", 5), ("softmax_margin", 1), ("softmax_margin", 5), ("linear", 5)],
)
def test_episode_head(metric: str, shot: int, dtype: torch.dtype) -> None:
    arrays, entry = load(FAMILY, f"episode_{metric}_{shot}shot.npz")
    z = tensor(arrays["z_all"], dtype)  # (W, S + Q, D)
    weight = tensor(arrays["init_weight"], dtype)
    if metric == "linear":
        z, weight = with_bias(z), torch.cat([weight, tensor(arrays["init_bias"], dtype)[:, None]], dim=1)
    support, query = z[:, :shot].flatten(0, 1), z[:, shot:].flatten(0, 1)
    target = torch.arange(5).repeat_interleave(shot)
    orders = torch.from_numpy(arrays["perms"].astype(np.int64))
    kind: Similarity = "cosine" if metric == "cosine" else "dot"
    scale = 1.0 if metric == "linear" else 5.0
    fitted = fit_heads(support[None], target[None], weight[None], orders[None], kind=kind, scale=scale)[0]
    scores = scale * similarities(query, fitted, kind)
    # The official dot-product head returns scores above the row minimum.
    scores = scores - scores.amin(-1, keepdim=True) if metric == "softmax_margin" else scores
    tolerance = entry["tolerance"]
    if dtype == torch.float64:
        rtol, atol = tolerance["scores_f64_rtol"], tolerance["scores_f64_atol"]
        np.testing.assert_allclose(fitted[:, :32], arrays["final_weight_f64"], rtol=rtol, atol=atol)
        np.testing.assert_allclose(scores, arrays["scores_f64"], rtol=rtol, atol=atol)
    else:
        rtol, atol = tolerance["float32_rtol"], tolerance["float32_atol"]
        np.testing.assert_allclose(scores, arrays["scores_f64"], rtol=rtol, atol=atol)
        np.testing.assert_array_equal(scores.argmax(-1), arrays["pred"])


@pytest.mark.parametrize("case", [0, 1])
def test_learning_rate_of_every_iteration(case: int) -> None:
    arrays, entry = load(FAMILY, "lr_schedule.npz")
    config = entry["hyper_parameters"]["configs"][case]
    options = {
        "base": config["base_lr"],
        "n_warmup": config["warmup_iters"],
        "n_total": config["total_iters"],
        "divisor": config["multiplier"],
        "floor": entry["hyper_parameters"]["eta_min"],
    }
    # The official loop sets the rate after the step, with the index of the iteration just done.
    used = [warmup_cosine(max(t - 1, 0), **options) for t in range(config["total_iters"])]
    np.testing.assert_allclose(used, arrays[f"lr_used_{case}"], **entry["tolerance"])
    last = warmup_cosine(config["total_iters"] - 1, **options)
    np.testing.assert_allclose(last, arrays[f"lr_end_{case}"], **entry["tolerance"])


def test_base_training_loop() -> None:
    arrays, entry = load(FAMILY, "train_loop.npz")
    facts, close = entry["hyper_parameters"], _float64(entry)
    extractor, weight = tensor(arrays["w0"]).requires_grad_(), tensor(arrays["c0"]).requires_grad_()
    optimiser = torch.optim.Adam([extractor, weight], lr=3e-3, weight_decay=facts["weight_decay"])
    per_epoch = facts["iters_per_epoch"]
    for t in range(facts["epochs"] * per_epoch):
        x = tensor(arrays["x"][t % per_epoch])
        target = torch.from_numpy(arrays["y"][t % per_epoch])
        for group in optimiser.param_groups:
            group["lr"] = warmup_cosine(
                max(t - 1, 0),
                base=3e-3,
                n_warmup=facts["warmup_epochs"] * per_epoch,
                n_total=facts["epochs"] * per_epoch,
                divisor=facts["multiplier"],
                floor=facts["eta_min"],
            )
        features = torch.relu(x @ extractor.T)
        loss = margin_loss(
            features, weight, target, kind="cosine", scale=facts["scale"], margin=facts["margin"]
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        np.testing.assert_allclose(loss.detach(), arrays["loss"][t], **close)
        np.testing.assert_allclose(extractor.detach(), arrays["w_after"][t], **close)
        np.testing.assert_allclose(weight.detach(), arrays["c_after"][t], **close)


def _float64(entry: dict[str, Any]) -> dict[str, float]:
    return {"rtol": entry["tolerance"]["float64_rtol"], "atol": entry["tolerance"]["float64_atol"]}
