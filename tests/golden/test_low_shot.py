"""Low-shot learning by shrinking and hallucinating, against vectors of the authors' code: sizes come from the manifest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import golden_files
import numpy as np
import pytest
import torch
from test_low_shot_protocol import load, six_numbers
from torch import Tensor, nn
from torch.nn import functional

from harness.backbones import build
from harness.images.colour import jitter
from harness.ops.analogies import (
    AnalogyGenerator,
    GeneratorRecipe,
    GeneratorTraining,
    directions,
    draw_fillings,
    fill,
    generator_loss,
    mine_analogies,
)
from harness.ops.attention import ContextEncoder, attention_scores, plain_attention_scores, row_normalised
from harness.ops.auxiliary_losses import AUXILIARY_LOSSES
from harness.ops.kmeans import kmeans, nearest
from harness.ops.normalise import l2_normalise
from harness.ops.schedules import stepped_decay
from harness.ops.softmax_regression import Linear, Sgd, batch_parts, fit_softmax

Arrays = dict[str, np.ndarray[Any, Any]]


def wave(n: int, k: int) -> np.ndarray[Any, Any]:
    """The manifest's v(i, k)."""
    i = np.arange(n, dtype=np.float64)
    return np.sin(0.37 * i + 0.01 * ((i * i) % 1013) + 1.3 * k)


def filled(shape: torch.Size, k: int, kind: str) -> Tensor:
    n = shape.numel()
    value = {
        "weight": lambda: 2 / np.sqrt(n / shape[0]) * wave(n, k),
        "bn_weight": lambda: 1 + 0.2 * wave(n, k),
        "bias": lambda: 0.1 * wave(n, k),
        "mean": lambda: 0.1 * wave(n, k),
        "var": lambda: 1 + 0.5 * wave(n, k),
    }[kind]()
    return torch.from_numpy(value.astype(np.float32)).reshape(shape)


@torch.no_grad()
def fill_by_formula(targets: list[Tensor], table: list[Any]) -> None:
    """Weights in the order of a manifest's table of parameters."""
    assert [list(t.shape) for t in targets] == [shape for _, _, shape, _ in table]
    for target, (k, _, _, kind) in zip(targets, table, strict=True):
        target.copy_(filled(target.shape, k, kind))


def network(file: str, name: str, size: int) -> tuple[nn.Module, Tensor]:
    """A backbone and a classifier weight, filled by formula."""
    entry = load(file)[1]
    backbone = build(name, size, 3).eval()
    classifier = torch.empty(entry["parameters"][-1][2])
    fill_by_formula([*(p.data for p in backbone.parameters()), classifier], entry["parameters"])
    norms = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert [m.num_features for m in norms] == [channels for _, _, channels in entry["batchnorms"]]
    for b, norm in enumerate(norms):
        norm.running_mean.copy_(filled(norm.running_mean.shape, 500 + b, "mean"))
        norm.running_var.copy_(filled(norm.running_var.shape, 700 + b, "var"))
    return backbone, classifier


def assert_close(ours: Tensor, theirs: np.ndarray) -> None:
    """To 1e-5 of the largest value: what float32 keeps through a network."""
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * float(np.abs(theirs).max()))


@torch.no_grad()
def test_resnet10_trunk() -> None:
    arrays, _ = load("resnet10_trunk_eval.npz")
    backbone, _ = network("resnet10_trunk_eval.npz", "resnet10", arrays["x"].shape[-1])
    x = torch.from_numpy(arrays["x"])
    for stage, name in zip(backbone.stages, ("stem", "stage1", "stage2", "stage3", "stage4"), strict=True):
        x = stage(x)
        assert_close(x, arrays[name])


@torch.no_grad()
def test_resnet10_with_pool_and_classifier() -> None:
    arrays, entry = load("resnet10_full_eval.npz")
    n, c, h, w = (torch.arange(float(size), dtype=torch.float64) for size in entry["input_shape"])
    phase = 0.9 * n[:, None, None, None] + 1.7 * c[:, None, None] + 0.05 * h[:, None] + 0.03 * w
    x = (1.2 * torch.sin(phase + 0.01 * ((h[:, None] * w) % 97))).float()
    np.testing.assert_allclose(x[0, 0, 0, :8], arrays["input_probe"], rtol=1e-6)
    backbone, classifier = network("resnet10_trunk_eval.npz", "resnet10", len(h))
    features = backbone(x).mean((2, 3))
    assert_close(features, arrays["feats"])
    assert_close(features @ classifier.T, arrays["scores"])
    n_weights = sum(p.numel() for p in backbone.parameters()) + classifier.numel()
    assert n_weights == entry["total_parameters"]


@torch.no_grad()
def test_resnet50_trunk() -> None:
    arrays, entry = load("resnet50_trunk_eval.npz")
    backbone, classifier = network("resnet50_trunk_eval.npz", "resnet50", arrays["x"].shape[-1])
    x = torch.from_numpy(arrays["x"])
    for stage, name in zip(backbone.stages, ("stem", "stage1", "stage2", "stage3", "stage4"), strict=True):
        x = stage(x)
        flat = x.double()
        stats = [flat.mean(), flat.abs().mean(), flat.max(), (flat > 0).double().mean()]
        np.testing.assert_allclose(stats, arrays[f"{name}_stats"], rtol=1e-3)
        expected = arrays[name if name == "stage4" else f"{name}_first4"]
        found = x if name == "stage4" else x[:, :4]
        assert_close(found, expected)
    n_weights = sum(p.numel() for p in backbone.parameters()) + 1000 * classifier.shape[1]
    assert n_weights == entry["total_parameters_with_1000_way_bias_free_classifier"]


@pytest.mark.parametrize("name", load("aux_losses.npz")[1]["aux_weights"])
def test_auxiliary_losses(name: str) -> None:
    arrays, entry = load("aux_losses.npz")
    loss, labels = AUXILIARY_LOSSES[name], torch.from_numpy(arrays["labels"])
    features = torch.from_numpy(arrays["feats"]).requires_grad_()
    weight = torch.from_numpy(arrays["W"]).requires_grad_()
    scores = features @ weight.T
    np.testing.assert_allclose(scores.detach(), arrays["scores"], rtol=1e-5, atol=1e-6)
    value = loss(scores, features, weight, labels)
    total = functional.cross_entropy(scores, labels) + entry["aux_weights"][name] * value
    fixed = torch.from_numpy(arrays["scores"]).requires_grad_()
    apart = torch.from_numpy(arrays["feats"]).requires_grad_()
    partly = torch.autograd.grad(
        loss(fixed, apart, weight, labels), (apart, fixed), allow_unused=True, materialize_grads=True
    )
    found = {
        name: value,
        f"{name}_total": total,
        **gradients(name, value, features, weight),
        **gradients(f"{name}_total", total, features, weight),
        f"{name}_pf": partly[0],
        f"{name}_ps": partly[1],
    }
    known = [key for key in found if key in arrays]
    assert len(known) >= 5
    for key in known:
        np.testing.assert_allclose(
            found[key].detach(), arrays[key], rtol=1e-5, atol=1e-6, err_msg=key
        )  # the manifest's


def gradients(name: str, value: Tensor, features: Tensor, weight: Tensor) -> dict[str, Tensor]:
    given = (features, weight)
    found = torch.autograd.grad(value, given, retain_graph=True, allow_unused=True, materialize_grads=True)
    return {f"{name}_gf": found[0], f"{name}_gW": found[1]}


@pytest.mark.parametrize("case", load("kmeans.npz")[1]["cases"], ids=lambda c: f"case{c['case']}")
def test_kmeans(case: dict[str, Any]) -> None:
    arrays, _ = load("kmeans.npz")
    prefix = f"c{case['case']}_"
    x, start = torch.from_numpy(arrays[prefix + "x"]), torch.from_numpy(arrays[prefix + "init"])
    reseeds = arrays[prefix + "reseeds"].tolist()
    iterations = [int(key.rpartition("it")[2]) for key in arrays if key.startswith(prefix + "centroids_it")]
    for n in iterations:
        rows = iter(reseeds)
        found = kmeans(x, start, n, lambda _, rows=rows: next(rows))
        np.testing.assert_allclose(found, arrays[f"{prefix}centroids_it{n}"], rtol=1e-6, atol=1e-8)
        np.testing.assert_array_equal(nearest(x.double(), found), arrays[f"{prefix}assign_it{n}"])
        if n == max(iterations):
            assert next(rows, None) is None  # every draw was asked for


def test_kmeans_class_by_class_in_one_stream() -> None:
    arrays, entry = load("kmeans.npz")
    stream = np.random.RandomState(entry["cluster_seed"])
    count = int(arrays["file_count"][0])
    expected = arrays["file_centroids"]
    for label, centroids in zip(arrays["file_classes"], expected, strict=True):
        rows = np.flatnonzero(arrays["file_labels"][:count] == label)  # the padding carries a label too
        x = torch.from_numpy(arrays["file_feats"][rows])
        start = stream.randn(*centroids.shape)
        start /= np.sqrt((start**2).sum(1, keepdims=True))
        found = kmeans(x, torch.from_numpy(start), 20, stream.choice)
        np.testing.assert_allclose(found, centroids, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    "case", [key.partition("_")[0] for key in load("analogies.npz")[0] if key.endswith("_centroids")]
)
def test_analogies(case: str) -> None:
    arrays, _ = load("analogies.npz")
    centroids = torch.from_numpy(arrays[f"{case}_centroids"])
    found = mine_analogies(centroids)
    np.testing.assert_array_equal(found.quadruples, arrays[f"{case}_analogies"])
    np.testing.assert_allclose(found.scores, arrays[f"{case}_scores"], rtol=1e-5, atol=1e-6)
    if f"{case}_diff_class0" in arrays:
        np.testing.assert_allclose(directions(centroids[0]), arrays[f"{case}_diff_class0"], rtol=1e-6)


def fresh_generator() -> AnalogyGenerator:
    entry = load("generator.npz")[1]
    generator = AnalogyGenerator(entry["featdim"], entry["hidden"])
    fill_by_formula([p.data for p in generator.parameters()], entry["parameters"])
    return generator


def classify(x: Tensor) -> Tensor:
    return x @ torch.from_numpy(load("generator.npz")[0]["classifier"]).T


def test_generator_and_its_losses() -> None:
    arrays, entry = load("generator.npz")
    generator = fresh_generator()
    a, b, c, d = (torch.from_numpy(arrays[name]) for name in "abcd")
    out = generator(a, c, d)
    np.testing.assert_allclose(out.detach(), arrays["out"], rtol=1e-4, atol=1e-6)
    loss = generator_loss(out, b, torch.from_numpy(arrays["labels"]), classify, entry["train"]["wt"])
    found = [loss.squared_error.item(), loss.cross_entropy.item(), loss.total.item()]
    np.testing.assert_allclose(found, [arrays[name] for name in ("mse", "ce", "total")], rtol=1e-4)
    loss.total.backward()
    g = {name: p.grad for name, p in generator.named_parameters()}
    close = {"rtol": 1e-4, "atol": 1e-5}  # gradients are in the tens
    np.testing.assert_allclose(g["fc1.bias"], arrays["g_fc1_bias"], **close)
    np.testing.assert_allclose(g["fc1.weight"][:4], arrays["g_fc1_w_first4"], **close)
    np.testing.assert_allclose(g["fc2.weight"][:8, :8], arrays["g_fc2_w_8x8"], **close)
    np.testing.assert_allclose(g["fc2.weight"].norm(), arrays["g_fc2_norm"], **close)
    np.testing.assert_allclose(g["fc3.weight"], arrays["g_fc3_w"], **close)
    np.testing.assert_allclose(g["fc3.bias"], arrays["g_fc3_bias"], **close)


def trained_generator() -> tuple[AnalogyGenerator, Tensor]:
    """The short training; its generator and centroids."""
    arrays, entry = load("generator.npz")
    told, generator = entry["train"], fresh_generator()
    centroids = torch.from_numpy(arrays["t_centroids"])
    mined = mine_analogies(centroids).quadruples
    np.testing.assert_array_equal(mined, arrays["t_analogies"])
    recipe = GeneratorRecipe(
        told["lr"], told["niter"], told["step_after"], told["batchsize"], told["wt"], told["momentum"],
        told["dampening"], told["wd"],
    )  # fmt: skip
    labels = torch.from_numpy(arrays["t_base"])
    order = torch.from_numpy(arrays["t_perm"])
    GeneratorTraining(generator, centroids.float(), labels, mined[order], classify, recipe).run()
    return generator, centroids.float()


def test_training_of_the_generator() -> None:
    arrays, _ = load("generator.npz")
    generator, centroids = trained_generator()
    a, c, d = (torch.from_numpy(arrays[name]) for name in "acd")
    close = {"rtol": 1e-3, "atol": 1e-5}
    np.testing.assert_allclose(generator(a, c, d).detach(), arrays["t_out"], **close)
    np.testing.assert_allclose(generator.fc3.weight.detach(), arrays["t_fc3_w"], **close)
    np.testing.assert_allclose(generator.fc1.bias.detach(), arrays["t_fc1_bias"], **close)
    np.testing.assert_allclose(centroids.flatten(0, 1), arrays["t_cat"], rtol=1e-6)
    assert list(centroids.shape[:2]) == arrays["t_meta"].tolist()


def test_filling_up() -> None:
    arrays, entry = load("do_generate.npz")
    generator, centroids = trained_generator()
    stream = np.random.RandomState(entry["seed"])
    labels = torch.from_numpy(arrays["labels"])
    n_base, k = centroids.shape[:2]
    drawn = draw_fillings(
        labels, entry["max_per_label"], n_base, k, lambda n, m: torch.from_numpy(stream.choice(n, m))
    )
    np.testing.assert_array_equal(torch.stack(list(drawn), 1), arrays["draws"])
    x, y = fill(torch.from_numpy(arrays["feats"]), labels, drawn, generator, centroids)
    np.testing.assert_allclose(x, arrays["out_feats"], rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(y, arrays["out_labels"])


@pytest.mark.parametrize("case", load("lowshot_set_real.npz")[1]["cases"], ids=lambda c: f"case{c['case']}")
def test_composition_of_a_real_batch(case: dict[str, Any]) -> None:
    """Base rows first, then novel ones, in proportion to the classes of the half."""
    arrays, _ = load("lowshot_set_real.npz")
    own = {
        key.partition("_")[2]: value for key, value in arrays.items() if key.startswith(f"c{case['case']}_")
    }
    share, n_base, n_novel = own["mix"]
    classes_novel = len(set(own["novel_labels"].tolist()))
    classes_base = round(share * classes_novel / (1 - share))
    parts = batch_parts(classes_base, classes_novel, len(own["batch_labels"]))
    assert parts == (n_base, n_novel) == (len(own["batch_base_rows"]), len(own["batch_novel_picks"]))
    novel = own["novel_labels"][own["batch_novel_picks"]]
    np.testing.assert_array_equal(own["batch_labels"][parts.base :], novel)
    assert len(set(own["batch_base_rows"].tolist())) == parts.base


@pytest.mark.parametrize("run", load("mini_benchmark.npz")[1]["runs"], ids=lambda r: f"run{r['run']}")
def test_a_whole_low_shot_classifier(run: dict[str, Any]) -> None:
    arrays, entry = load("mini_benchmark.npz")
    prefix, half = f"r{run['run']}_", run["testsetup"] + 1
    base, novel = (np.array(entry["classes"][f"{kind}_classes_{half}"]) for kind in ("base", "novel"))
    x, y = arrays["train_feats"], arrays["train_labels"].astype(np.int64)
    novel_rows = np.sort(arrays["splits"][run["experiment"] - 1][novel][:, : run["n"]].ravel())
    np.testing.assert_array_equal(novel_rows, arrays[prefix + "novel_idx"])
    parts = batch_parts(len(base), len(novel), run["batchsize"])
    base_rows, picks = arrays[prefix + "base_rows"], arrays[prefix + "novel_picks"]
    assert parts == (base_rows.shape[1], picks.shape[1]) and run["maxiters"] == len(picks)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for own, picked in zip(base_rows, picks, strict=True):
            rows = np.concatenate([own, novel_rows[picked]])
            yield torch.from_numpy(x[rows])[None], torch.from_numpy(y[rows])[None]

    shape = torch.Size([run["num_classes"], x.shape[1]])
    start = Linear(filled(shape, 0, "weight")[None], filled(shape[:1], 1, "bias")[None])
    sgd = Sgd(run["lr"], run["wd"], run["momentum"], run["dampening"])
    fitted = fit_softmax(start, batches(), sgd)
    np.testing.assert_allclose(fitted.weight[0], arrays[prefix + "W"], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(fitted.bias[0], arrays[prefix + "bias"], rtol=1e-3, atol=1e-5)
    scores = fitted.scores(torch.from_numpy(arrays["val_feats"])[None])[0].numpy()
    label = arrays["val_labels"].astype(np.int64)
    np.testing.assert_array_equal(six_numbers(scores, label, base, novel), arrays[prefix + "accs"])


def fresh_encoder() -> ContextEncoder:
    entry = load("matching_network.npz")[1]
    encoder = ContextEncoder(entry["feat_dim"])
    parameters = [*encoder.query_cell.parameters(), *encoder.support_lstm.parameters()]
    fill_by_formula([p.data for p in parameters], entry["parameters"])
    return encoder


def log_probabilities(
    encoder: ContextEncoder, f: Tensor, support: Tensor, label: Tensor, n_way: int
) -> Tensor:
    """(Q, W) of one episode."""
    context = encoder.support(support[None])
    query = encoder.query(f[None], context, load("matching_network.npz")[1]["K"])
    return attention_scores(query, row_normalised(context), label[None], n_way)[0]


def test_matching_network() -> None:
    arrays, _ = load("matching_network.npz")
    encoder = fresh_encoder()
    s, f, y = (torch.from_numpy(arrays[name]) for name in ("S", "f", "yq"))
    label, n_way = torch.from_numpy(arrays["Y"]).argmax(1), arrays["Y"].shape[1]
    context = encoder.support(s[None])
    close = {"rtol": 1e-4, "atol": 1e-5}
    np.testing.assert_allclose(context[0].detach(), arrays["G"], **close)
    np.testing.assert_allclose(row_normalised(context)[0].detach(), arrays["Gn"], **close)
    query = encoder.query(f[None], context, load("matching_network.npz")[1]["K"])
    np.testing.assert_allclose(query[0].detach(), arrays["F"], **close)
    scores = log_probabilities(encoder, f, s, label, n_way)
    np.testing.assert_allclose(scores.detach(), arrays["logprobs"], **close)
    loss = functional.nll_loss(scores, y)
    np.testing.assert_allclose(loss.item(), arrays["loss"], **close)
    loss.backward()
    parameters = [*encoder.query_cell.parameters(), *encoder.support_lstm.parameters()]
    np.testing.assert_allclose([p.grad.norm() for p in parameters], arrays["grad_norms"], **close)


def test_matching_network_over_base_and_novel_classes() -> None:
    """Base blocks of so many rows, then the novel rows, ascending, several times over."""
    arrays, entry = load("matching_network.npz")
    told = entry["encode"]
    x, y = torch.from_numpy(arrays["e_feats"]), torch.from_numpy(arrays["e_labels"])
    assert told["num_repeats"] == -(-told["num_base"] // told["lowshotn"])
    rows = torch.cat([
        torch.from_numpy(arrays["e_base_rows"]).flatten(),
        torch.from_numpy(arrays["e_novel_idx"]).repeat(told["num_repeats"]),
    ])  # fmt: skip
    np.testing.assert_array_equal(y[rows], arrays["e_support_labels"])
    n_way = arrays["e_logprobs12"].shape[1]
    encoder = fresh_encoder()
    np.testing.assert_allclose(
        encoder.support(x[rows][None])[0].detach(), arrays["e_G"], rtol=1e-4, atol=1e-5
    )
    queries = torch.from_numpy(arrays["e_test_feats"])
    scores = log_probabilities(encoder, queries, x[rows], y[rows], n_way).detach()
    np.testing.assert_allclose(scores, arrays["e_logprobs12"], rtol=1e-4, atol=1e-5)
    found = six_numbers(scores.numpy(), arrays["e_test_labels"], arrays["e_base"], arrays["e_novel"])
    np.testing.assert_array_equal(found, arrays["e_accs"])


def test_training_of_the_matching_network() -> None:
    arrays, entry = load("matching_network.npz")
    told, encoder = entry["train"], fresh_encoder()
    x, y = torch.from_numpy(arrays["e_feats"]), torch.from_numpy(arrays["e_labels"])
    parameters = [*encoder.query_cell.parameters(), *encoder.support_lstm.parameters()]
    optimiser = torch.optim.SGD(parameters, told["initlr"], told["momentum"], told["dampening"], told["wd"])
    schedule = torch.optim.lr_scheduler.StepLR(optimiser, told["step_after"], 0.1)
    draws = arrays["t_draws"].tolist()
    losses = []
    for _ in range(told["niter"]):
        classes, draws = draws[: told["m"]], draws[told["m"] :]
        shots, draws = draws[: told["m"]], draws[told["m"] :]
        support, query = [], []
        shots = [drawn + 1 for drawn in shots]
        for n in shots:
            support.append(sorted(draws[:n]))
            query.append(draws[n])
            draws = draws[n + 1 :]
        rows = [row for own in support for row in own]
        assert [int(y[own[0]]) for own in support] == classes
        label = torch.arange(len(shots)).repeat_interleave(torch.tensor(shots))
        scores = log_probabilities(encoder, x[query], x[rows], label, len(shots))
        loss = functional.nll_loss(scores, torch.arange(len(shots)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    assert not draws
    np.testing.assert_allclose(losses, arrays["t_losses"], rtol=1e-3)
    s, f = torch.from_numpy(arrays["S"]), torch.from_numpy(arrays["f"])
    label, n_way = torch.from_numpy(arrays["Y"]).argmax(1), arrays["Y"].shape[1]
    found = log_probabilities(encoder, f, s, label, n_way).detach()
    np.testing.assert_allclose(found, arrays["t_logprobs"], rtol=1e-3, atol=1e-4)


def test_step_sizes_of_the_representation() -> None:
    arrays, _ = load("misc.npz")
    for name, n_warmup in (("lr_plain", 0), ("lr_warm", 1)):
        found = [
            stepped_decay(epoch, base=0.1, every=30, factor=0.1, n_warmup=n_warmup, warmup=0.01)
            for epoch in range(len(arrays[name]))
        ]
        np.testing.assert_allclose(found, arrays[name], rtol=1e-12)


def peers() -> tuple[Arrays, dict[str, Any]]:
    return golden_files.load("peers", "matchingnet.npz")


def episodic_encoder(arrays: Arrays, dtype: torch.dtype) -> ContextEncoder:
    encoder = ContextEncoder(arrays["a_support"].shape[1]).to(dtype)
    names = {"support_features_encoder": "support_lstm", "query_features_encoding_cell": "query_cell"}
    given = {key.removeprefix("weight_"): value for key, value in arrays.items() if key.startswith("weight_")}
    for theirs, ours in names.items():
        given = {key.replace(theirs, ours): value for key, value in given.items()}
    encoder.load_state_dict({key: torch.from_numpy(value) for key, value in given.items()})
    return encoder


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(
    "case", [key.removesuffix("_support") for key in peers()[0] if key.endswith("_support")]
)
@torch.no_grad()
def test_episodic_matching_network(case: str, dtype: torch.dtype) -> None:
    """The form of LibFewShot and easyfsl: with context, without it, and FEAT's without soft-max."""
    arrays, entry = peers()
    bits = str(dtype).removeprefix("torch.")
    close = {key: entry["tolerance"][f"{bits}_{key}"] for key in ("rtol", "atol")}
    s, q = (torch.from_numpy(arrays[f"{case}_{name}"]).to(dtype)[None] for name in ("support", "query"))
    label = torch.from_numpy(arrays[f"{case}_label"])[None]
    n_way, encoder = arrays[f"{case}_plain"].shape[1], episodic_encoder(arrays, dtype)
    context = encoder.support(s)
    np.testing.assert_allclose(context[0], arrays[f"{case}_context"], **close)

    def with_floor(query: Tensor, support: Tensor) -> Tensor:
        return (attention_scores(query, l2_normalise(support), label, n_way).exp() + 1e-6).log()[0]

    found = {
        "log_probability": with_floor(encoder.query(q, context, s.shape[1]), context),
        "plain_fce_off": with_floor(q, s),
        "plain": plain_attention_scores(q, l2_normalise(s), label, n_way)[0],
    }
    for name, value in found.items():
        np.testing.assert_allclose(value, arrays[f"{case}_{name}"], **close, err_msg=name)


def test_colour_jitter() -> None:
    """Ours keeps fractions where Pillow cuts them off after each of three steps: a level each, grown by what follows."""
    arrays, entry = load("misc.npz")
    factors = torch.from_numpy(1 + np.array(entry["jitter"]["alphas"]) * (2 * arrays["jit_u"] - 1)).float()
    x = torch.from_numpy(arrays["jit_in"]).permute(2, 0, 1)[None].float() / 255
    found = 255 * jitter(x, factors[None], torch.arange(3)[None])[0].permute(1, 2, 0)
    assert np.abs(found.numpy() - arrays["jit_out"]).max() < 1.4**2 + 1.4 + 1
