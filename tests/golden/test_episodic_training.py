"""Methods that are trained on episodes against vectors of their authors' code, in both precisions."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from golden_files import load, tensor
from torch import nn
from torch.nn import functional

from harness.api import EpisodeBatch, Support
from harness.backbones import build
from harness.method import registry
from harness.ops.attention import SetAttention
from harness.ops.batch_statistics import batch_statistics
from harness.ops.relation import RelationModule

FAMILY = "peers"
both_precisions = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])


def names(file: str, suffix: str) -> list[str]:
    return sorted(key.removesuffix(suffix) for key in load(FAMILY, file)[0] if key.endswith(suffix))


def assert_golden(found: torch.Tensor, expected: np.ndarray, entry: dict[str, Any]) -> None:
    kind, tolerance = str(found.dtype).removeprefix("torch."), entry["tolerance"]
    allowed = {"rtol": tolerance[f"{kind}_rtol"], "atol": tolerance[f"{kind}_atol"]}
    np.testing.assert_allclose(found.detach().double().numpy(), expected, **allowed)


def given(name: str, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Support (W, S, D) and queries (Q, D) of an episode that several files share."""
    arrays, _ = load(FAMILY, "episodes.npz")
    way = int(arrays[f"{name}_support_label"].max()) + 1
    support, query = (tensor(arrays[f"{name}_{part}"], dtype) for part in ("support", "query"))
    return support.unflatten(0, (way, -1)), query


def weights(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, torch.Tensor]:
    return {
        key.removeprefix(prefix): tensor(value) for key, value in arrays.items() if key.startswith(prefix)
    }


@pytest.mark.parametrize("name", names("relationnet.npz", "_maps"))
@both_precisions
def test_the_relation_module_is_the_authors_with_running_and_with_batch_statistics(
    name: str, dtype: torch.dtype
) -> None:
    arrays, entry = load(FAMILY, "relationnet.npz")
    way, shot, n_query, channels = arrays[f"{name}_shape"].tolist()
    maps = tensor(arrays[f"{name}_maps"], dtype)
    module = RelationModule(channels, tuple(maps.shape[-2:]), entry["hyper_parameters"]["hidden"]).double()
    lacking = module.load_state_dict(weights(arrays, f"{name}_weight_"), strict=False)
    assert not lacking.unexpected_keys and all(
        k.endswith("num_batches_tracked") for k in lacking.missing_keys
    )
    module = module.to(dtype).eval()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    support, query = maps.split([way * shot, n_query])
    support = support.unflatten(0, (way, shot)).sum(1)
    assert_golden(module(support, query).sigmoid(), arrays[f"{name}_eval_mode"], entry)
    with batch_statistics(module):
        assert_golden(module(support, query).sigmoid(), arrays[f"{name}_train_mode"], entry)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert not any(layer.training for layer in module.modules())
    both = module(torch.stack([support, support.flip(0)]), torch.stack([query, query]))
    torch.testing.assert_close(both[1], both[0].flip(1))


@pytest.mark.parametrize("name", names("feat.npz", "_features"))
@pytest.mark.parametrize("likeness", ["squared", "cosine"])
@both_precisions
def test_feat_adapts_prototypes_and_scores_both_losses_as_the_authors_do(
    name: str, likeness: str, dtype: torch.dtype
) -> None:
    arrays, entry = load(FAMILY, "feat.npz")
    theirs = {"squared": "euclidean", "cosine": "cosine"}[likeness]
    expected = arrays[f"{name}_{theirs}"], arrays[f"{name}_{theirs}_auxiliary"]
    words = (
        entry["arrays"][f"{name}_{theirs}"]["meaning"],
        entry["arrays"][f"{name}_{theirs}_auxiliary"]["meaning"],
    )
    temperature, temperature2 = (float(re.search(r"temperature2? (\d+)", text)[1]) for text in words)
    way, n_query = expected[0].shape[1], len(expected[0])
    features = tensor(arrays[f"{name}_features"], dtype)
    x = features.unflatten(0, (-1, way)).transpose(0, 1)  # (W, S + Q, D): theirs are in turns of the classes
    shot = x.shape[1] - n_query // way

    cls = registry.load("feat").cls
    method = cls(
        cls.Config(likeness=likeness, temperature=temperature, temperature2=temperature2),
        build("conv4", 28, 1),
    )
    method.block = SetAttention(features.shape[1]).double()
    method.block.load_state_dict(weights(arrays, "weight_"))
    method = method.to(dtype).eval()
    support = Support(
        x[:, :shot].flatten(0, 1), torch.arange(way).repeat_interleave(shot), way, torch.Generator()
    )
    state = method.adapt(support)
    assert_golden(state, arrays[f"{name}_prototypes"], entry)
    query = features[shot * way :]
    assert_golden(method.predict(state, query), expected[0], entry)
    assert_golden(
        method.predict_batch(EpisodeBatch(x[None, :, :shot], query[None], []))[0], expected[0], entry
    )
    scores, again = method.episode_scores(x, shot)
    by_class = torch.arange(n_query).unflatten(0, (-1, way)).T.flatten()
    assert_golden(scores, expected[0][by_class], entry)
    assert_golden(again, expected[1][torch.arange(len(features)).unflatten(0, (-1, way)).T.flatten()], entry)


@pytest.mark.parametrize("name", names("meta_baseline.npz", "_cos"))
@pytest.mark.parametrize("likeness", ["cosine", "squared"])
@both_precisions
def test_meta_baseline_scores_as_the_authors_do(name: str, likeness: str, dtype: torch.dtype) -> None:
    arrays, entry = load(FAMILY, "meta_baseline.npz")
    support, query = given(name, dtype)
    cls = registry.load("meta-baseline").cls
    config = cls.Config(likeness=likeness, scale=float(entry["hyper_parameters"]["temperature"]))
    method = cls(config, build("conv4", 28, 1)).to(dtype).requires_grad_(False)
    found = method.predict_batch(EpisodeBatch(support[None], query[None], []))[0]
    assert_golden(found, arrays[f"{name}_{ {'cosine': 'cos', 'squared': 'sqr'}[likeness] }"], entry)
    way, shot = support.shape[:2]
    label = torch.arange(way).repeat_interleave(shot)
    state = method.adapt(Support(support.flatten(0, 1), label, way, torch.Generator()))
    torch.testing.assert_close(method.predict(state, query), found)


@pytest.mark.parametrize("name", names("maml_anil.npz", "_maml_logits"))
@both_precisions
def test_maml_and_its_second_order_gradient_are_the_authors(name: str, dtype: torch.dtype) -> None:
    arrays, entry = load(FAMILY, "maml_anil.npz")
    support, query = given(name, dtype)
    way, shot = support.shape[:2]
    label = torch.arange(way)
    cls = registry.load("transductive-maml").cls
    steps, lr = re.search(r"(\d+) steps of ([\d.]+)", entry["hyper_parameters"]["maml"]).groups()
    method = cls(cls.Config(steps=int(steps), inner_lr=float(lr), train_way=way), build("conv4", 28, 1))
    below, last = two_layers(arrays, name)
    method.network = nn.Sequential(below, last).to(dtype)
    adapted = method.adapted(
        method.network, support.flatten(0, 1), label.repeat_interleave(shot), label, second_order=True
    )
    found = method.logits(adapted, query)
    assert_golden(found, arrays[f"{name}_maml_logits"], entry)
    loss = functional.cross_entropy(
        found, torch.from_numpy(load(FAMILY, "episodes.npz")[0][f"{name}_query_label"])
    )
    for key, slope in zip(
        GRADIENTS, torch.autograd.grad(loss, list(method.network.parameters())), strict=True
    ):
        assert_golden(slope, arrays[f"{name}_maml_meta_gradient_{key}"], entry)


@pytest.mark.parametrize("name", names("maml_anil.npz", "_anil_logits"))
@both_precisions
def test_anil_and_its_second_order_gradient_are_the_authors(name: str, dtype: torch.dtype) -> None:
    arrays, entry = load(FAMILY, "maml_anil.npz")
    support, query = given(name, dtype)
    way = len(support)
    cls = registry.load("anil").cls
    steps, lr = re.search(r"(\d+) steps of ([\d.]+)", entry["hyper_parameters"]["anil"]).groups()
    method = cls(cls.Config(steps=int(steps), inner_lr=float(lr), train_way=way), build("conv4", 28, 1))
    below, last = two_layers(arrays, name)
    method.embed, method.head = below.to(dtype), last.to(dtype)
    classifier = method.adapted(method.embed(support)[None], torch.arange(way)[None], second_order=True)
    found = classifier(method.embed(query))[0]
    assert_golden(found, arrays[f"{name}_anil_logits"], entry)
    loss = functional.cross_entropy(
        found, torch.from_numpy(load(FAMILY, "episodes.npz")[0][f"{name}_query_label"])
    )
    parameters = [*method.embed.parameters(), *method.head.parameters()]
    for key, slope in zip(GRADIENTS, torch.autograd.grad(loss, parameters), strict=True):
        assert_golden(slope, arrays[f"{name}_anil_meta_gradient_{key}"], entry)


GRADIENTS = ("W1", "b1", "W2", "b2")


def two_layers(arrays: dict[str, np.ndarray], name: str) -> tuple[nn.Module, nn.Linear]:
    """Linear and ReLU, and the last Linear, with the golden weights in float64."""
    weight1, bias1, weight2, bias2 = (tensor(arrays[f"{name}_{key}"]) for key in GRADIENTS)
    first, last = (nn.Linear(*reversed(w.shape)).double() for w in (weight1, weight2))
    first.load_state_dict({"weight": weight1, "bias": bias1})
    last.load_state_dict({"weight": weight2, "bias": bias2})
    return nn.Sequential(first, nn.ReLU()), last


@pytest.mark.parametrize("name", names("transductive_finetuning.npz", "_initial_logits"))
@pytest.mark.parametrize("kind", ["transductive", "inductive"])
@both_precisions
def test_a_whole_network_is_fine_tuned_as_by_the_authors(name: str, kind: str, dtype: torch.dtype) -> None:
    arrays, entry = load(FAMILY, "transductive_finetuning.npz")
    hyper = entry["hyper_parameters"]
    support, query = given(name, dtype)
    way, shot, dim = support.shape
    cls = registry.load({"transductive": "transductive-finetune-network"}.get(kind, "finetune-network")).cls
    n_base = len(arrays[f"{name}_b"])
    network = nn.Sequential(nn.Linear(dim, n_base), nn.BatchNorm1d(n_base)).double()
    values = {
        "0.weight": "W",
        "0.bias": "b",
        "1.running_mean": "running_mean",
        "1.running_var": "running_var",
    }
    network.load_state_dict(
        {key: tensor(arrays[f"{name}_{theirs}"]) for key, theirs in values.items()}, strict=False
    )
    label = torch.arange(way).repeat_interleave(shot)
    for epochs, logits in ((0, f"{name}_initial_logits"), (hyper["epochs"], f"{name}_{kind}_logits")):
        method = cls(cls.Config(tune_epochs=epochs, tune_lr=hyper["adam_lr"]), build("conv4", 28, 1))
        method.network = network.to(dtype).eval().requires_grad_(False)
        episode = Support(support.flatten(0, 1), label, way, torch.Generator())
        with torch.no_grad():
            state = method.adapt(episode)
            found = method.predict(state, query)
            task = method.tuned(episode, query) if kind == "transductive" else state
        assert_golden(found, arrays[logits], entry)
    assert_golden(task.head.weight, arrays[f"{name}_{kind}_head"], entry)
    assert_golden(task.network[1].running_mean, arrays[f"{name}_running_mean_end_{kind}"], entry)
