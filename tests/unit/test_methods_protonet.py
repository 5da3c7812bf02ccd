"""Prototypical networks' recipes, and what their training does on small sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from settled_config import settled
from torch.nn import functional

from harness import benchmarks
from harness.backbones import build
from harness.errors import ConfigError
from harness.method import hyper, needs_of
from harness.ops.affine import Jitter, draw_affine, scaled_jitter, warp
from harness.ops.prototypes import class_means, cosine_scores, prototypical_loss, squared_distances
from harness.seeding import torch_generator
from harness.system.progress import Silent
from harness.testing import tiny_store
from harness.training.base_set import BaseSet
from harness.training.fit_context import FitContext
from methods.protonet import ProtoNet

CPU = torch.device("cpu")
QUICK: dict[str, Any] = {"epochs": 2, "episodes_per_epoch": 3, "train_way": 5, "train_query": 2}


def fit(folder: Path, validate: Any = None, **config: Any) -> tuple[ProtoNet, FitContext]:
    torch.manual_seed(0)
    method = ProtoNet(ProtoNet.Config(**{**QUICK, **config}), build("conv4", 28, 1, hidden=8, out=8))
    rng = torch_generator(0, "training")
    ctx = FitContext(
        folder, device=CPU, rng=rng, seed=0, precision="fp32", validate=validate, progress=Silent()
    )
    method.fit_base(BaseSet(tiny_store("base"), "stored", CPU, rng), ctx)
    return method, ctx


def recipe(setting: str, backbone: str = "conv4") -> Any:
    keys = hyper.layers(benchmarks.load(setting).benchmark.name, setting, backbone)
    return settled(ProtoNet.Config, [ProtoNet.DEFAULTS], keys)


@pytest.mark.parametrize(
    ("setting", "way", "shot", "query"),
    [
        ("omniglot-5w1s", 60, 1, 5),
        ("omniglot-5w5s", 60, 5, 5),
        ("omniglot-20w1s", 60, 1, 5),
        ("omniglot-20w5s", 60, 5, 5),
        ("mini-5w1s", 30, 1, 15),
        ("mini-5w5s", 20, 5, 15),
    ],
)
def test_published_trainings_are_the_defaults(setting: str, way: int, shot: int, query: int) -> None:
    c = recipe(setting)
    assert (c.train_way, c.train_shot, c.train_query, c.validation_shot) == (way, shot, query, shot)
    assert (c.lr, c.halve_every * c.episodes_per_epoch, c.decay, c.distance) == (
        1e-3,
        2000,
        "halve",
        "squared",
    )
    assert (c.epochs, c.patience, c.retrain) == (10_000, 200, False)


def test_the_step_size_is_halved_after_so_many_episodes() -> None:
    method = ProtoNet(ProtoNet.Config(), build("conv4", 28, 1))
    optimiser = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=method.config.lr)
    schedule = method._schedule(optimiser, 100)
    seen = []
    for _ in range(4001):
        seen.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    assert [seen[0], seen[1999], seen[2000], seen[3999], seen[4000]] == [1e-3, 1e-3, 5e-4, 5e-4, 2.5e-4]


def test_patience_ends_the_training_and_the_weights_say_when_they_were_best(tmp_path: Path) -> None:
    scores = iter([0.5, 0.6, 0.4, 0.5, 0.9])
    method, ctx = fit(tmp_path, lambda *_: next(scores), epochs=9, patience=2)
    assert len(ctx.record()["curves"]) == 4
    assert int(method.n_epochs) == 2
    assert ctx.record()["selection"] == {"validation_accuracy": 0.6, "epoch": 2}


def test_one_seed_is_one_curve(tmp_path: Path) -> None:
    more = {"takes_turns": True, "jitter": 1.0, "decay": "cosine"}
    first, second = (fit(tmp_path / name, **more)[1].record()["curves"] for name in "ab")
    assert first == second


def test_a_retraining_needs_the_one_before_with_all_else_equal() -> None:
    config = ProtoNet.Config(retrain=True, train_way=7, lr=0.5)
    [need] = needs_of(ProtoNet, config)
    assert need.method == "protonet"
    assert ProtoNet.Config(**need.config) == ProtoNet.Config(train_way=7, lr=0.5)
    assert needs_of(ProtoNet, ProtoNet.Config(**need.config)) == ()


def test_validation_images_of_the_base_classes_are_none_to_train_on_again(tmp_path: Path) -> None:
    for name, said in (("cifar10-5w1s", "not of other classes"), ("omniglot-lake-20w1s", "there are none")):
        with pytest.raises(ConfigError, match=said):
            benchmarks.load(name).benchmark.open_with_validation(tmp_path, "area", 28)
    base = BaseSet(tiny_store("base"), "stored", CPU, torch_generator(0, "training"))
    with pytest.raises(ConfigError, match="no validation classes"):
        base.with_validation()


def test_base_and_validation_classes_together_are_turned_alike(tmp_path: Path) -> None:
    benchmark = benchmarks.load("glyphs-5w1s").benchmark
    both = benchmark.open_with_validation(tmp_path, benchmark.pipeline, benchmark.image_size)
    parts = [benchmark.open(role, tmp_path) for role in ("base", "validation")]
    assert both.class_names == parts[0].class_names + parts[1].class_names
    assert (both.images(range(len(parts[0]))) == parts[0].images(range(len(parts[0])))).all()
    rows = range(len(parts[0]), len(both))
    assert (both.images(rows) == parts[1].images(range(len(parts[1])))).all()
    assert not set(both.class_names) & set(benchmark.open("novel", tmp_path).class_names)


def test_images_that_take_turns_as_support_are_so_many_episodes() -> None:
    """The batched losses of all turns against each turn's own, with explicit loops."""
    x = torch.randn(4, 3, 5, dtype=torch.float64)  # (W, S + Q, D)
    turns = torch.stack([x.roll(i, 1) for i in range(3)])
    batched = prototypical_loss(*turns.split([1, 2], dim=-2))
    losses = []
    for turn in range(3):
        support = [(turn + i) % 3 for i in range(1)]
        query = [i for i in range(3) if i not in support]
        for c in range(4):
            for q in query:
                scores = torch.stack(
                    [-(x[c, q] - x[other, support].mean(0)).square().sum() for other in range(4)]
                )
                losses.append(-scores.log_softmax(0)[c])
    torch.testing.assert_close(batched.loss, torch.stack(losses).mean())


@pytest.mark.parametrize("distance", ["squared", "cosine"])
def test_the_loss_and_the_ranking_use_the_distance(distance: Any) -> None:
    method = ProtoNet(ProtoNet.Config(distance=distance, cosine_scale=3.0), build("conv4", 28, 1))
    support, query = torch.randn(4, 2, 6), torch.randn(4, 3, 6)
    means = class_means(support)
    if distance == "cosine":
        expected = 3 * functional.cosine_similarity(query.flatten(0, 1)[:, None], means[None], dim=-1)
    else:
        expected = -squared_distances(query.flatten(0, 1), means)
    found = prototypical_loss(support, query, method._scores)
    torch.testing.assert_close(found.scores, expected)
    torch.testing.assert_close(
        found.loss, functional.cross_entropy(expected, torch.arange(4).repeat_interleave(3))
    )
    ranking = method.predict(means, query.flatten(0, 1))
    assert torch.equal(ranking.argmax(1), expected.argmax(1))
    if distance == "cosine":
        torch.testing.assert_close(ranking, cosine_scores(query.flatten(0, 1), means))


@pytest.mark.parametrize("distance", ["squared", "cosine"])
def test_gradients_of_the_loss_equal_finite_differences(distance: Any) -> None:
    method = ProtoNet(ProtoNet.Config(distance=distance), build("conv4", 28, 1))
    x = torch.randn(3, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(
        lambda x: prototypical_loss(x[:, :2], x[:, 2:], method._scores).loss, (x.requires_grad_(),)
    )


def test_features_over_maps_are_their_average_and_the_same_for_every_batch() -> None:
    method = ProtoNet(ProtoNet.Config(jitter=1.0, test_maps=3), build("conv4", 28, 1)).eval()
    images = torch.rand(5, 1, 28, 28)
    maps = draw_affine(3, scaled_jitter(Jitter(), 0.5), torch.Generator().manual_seed(0))
    expected = sum(method.backbone(warp(images, m.expand(5, -1, -1))).flatten(1) for m in maps) / 3
    torch.testing.assert_close(method.embed(images), expected)
    torch.testing.assert_close(method.embed(images[2:3]), expected[2:3])
    still = ProtoNet(ProtoNet.Config(test_maps=2), build("conv4", 28, 1)).eval()
    torch.testing.assert_close(still.embed(images), still.backbone(images).flatten(1), rtol=1e-4, atol=1e-5)


def test_maps_stay_within_their_reach() -> None:
    how = Jitter(degrees=30, scale=0.5, shear=0.2, shift=0.1)
    maps = draw_affine(4000, how, torch.Generator().manual_seed(0))
    area = maps[:, 0, 0] * maps[:, 1, 1] - maps[:, 0, 1] * maps[:, 1, 0]
    assert 1 / 1.5**2 - 1e-4 < float(area.min()) < 0.55 and 1.8 < float(area.max()) < 1.5**2 + 1e-4
    assert float(maps[:, :, 2].abs().max()) == pytest.approx(0.2, abs=0.005)  # of an edge of length 2
    angle = torch.atan2(maps[:, 1, 0], maps[:, 0, 0]).rad2deg()
    assert float(angle.abs().max()) == pytest.approx(30, abs=0.5)
    torch.testing.assert_close(
        draw_affine(2, scaled_jitter(how, 0), torch.Generator()), torch.eye(3)[:2].expand(2, 2, 3)
    )


def test_a_quarter_turn_is_a_turned_image() -> None:
    images = torch.rand(2, 1, 9, 9)
    quarter = torch.tensor([[[0.0, -1, 0], [1, 0, 0]]]).expand(2, -1, -1)
    torch.testing.assert_close(warp(images, quarter), images.rot90(1, dims=(2, 3)), rtol=1e-4, atol=1e-5)
