"""RFS, S2M2 and EASY: what they mix, turn, distil and put side by side."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from harness import backbones
from harness.api import needs, training_values
from harness.method import registry
from harness.ops.mixup import Mix, draw_mix
from harness.ops.rotation import quarterly
from harness.runs import planning
from harness.runs.request import Request
from methods.easy import Easy
from methods.rfs import Rfs
from methods.s2m2 import S2m2

NETWORKS = {
    "conv4": (28, {"hidden": 8, "out": 12}),
    "resnet12": (32, {"widths": (4, 8, 8, 12)}),
    "resnet10": (64, {}),
    "wrn28_10": (16, {"depth": 10, "widen": 1}),
}


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_the_parts_of_a_network_are_it_and_can_be_reached(name: str) -> None:
    size, options = NETWORKS[name]
    network = backbones.build(name, size, 1, **options).eval()
    images = torch.rand(2, 1, size, size, generator=rng())
    assert len(network.parts) == 4, "of WRN three groups and the last norm, else four blocks"
    before = {key: value.clone() for key, value in network.state_dict().items()}
    seen = list[Tensor]()
    for part in range(4):
        same = network.changed(images, part, lambda x: seen.append(x) or x)
        torch.testing.assert_close(same, network(images))
    assert torch.equal(seen[0], images) and [x.shape[-1] for x in seen] == sorted(
        (x.shape[-1] for x in seen), reverse=True
    )
    torch.testing.assert_close(network.parts[3](seen[3]), network(images))
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert network.pooled(network(images)).shape == (2, network.width)


def test_mixed_labels_are_cross_entropy_against_soft_ones() -> None:
    scores, label = torch.randn(6, 4, generator=rng()), torch.tensor([0, 3, 1, 1, 2, 0])
    mix = Mix(torch.tensor([2, 0, 1, 5, 3, 4]), 0.3)
    soft = 0.3 * functional.one_hot(label, 4) + 0.7 * functional.one_hot(label[mix.partner], 4)
    torch.testing.assert_close(mix.loss(scores, label), functional.cross_entropy(scores, soft))
    assert torch.equal(mix.of(torch.eye(6)), 0.3 * torch.eye(6) + 0.7 * torch.eye(6)[mix.partner])


def test_shares_are_of_the_beta_distribution_and_partners_permutations() -> None:
    generator = rng(3)
    mixes = [draw_mix(5, 2.0, generator) for _ in range(4000)]
    shares = np.array([mix.share for mix in mixes])
    assert abs(shares.mean() - 0.5) < 4 * np.sqrt(0.05 / 4000), "Beta(2, 2) has variance 1/20"
    assert abs(shares.var() - 0.05) < 0.003
    assert all(sorted(mix.partner.tolist()) == list(range(5)) for mix in mixes)
    assert len({tuple(mix.partner.tolist()) for mix in mixes}) == 120


def test_a_batch_that_four_does_not_divide_is_turned_as_evenly_as_it_can_be() -> None:
    assert quarterly(torch.zeros(6, 1, 2, 2)).quarters.tolist() == [0, 0, 1, 2, 2, 3]
    assert len(quarterly(torch.zeros(1, 1, 2, 2)).images) == 1


class _Fixed(nn.Module):
    """A network that gives what it is told."""

    width = 3

    def forward(self, images: Tensor) -> Tensor:
        return images

    def pooled(self, maps: Tensor) -> Tensor:
        return maps


def _rfs(**config: Any) -> Rfs:
    method = Rfs(Rfs.Config(**config), _Fixed())
    method.classifier.of(4)
    return method


def test_a_student_is_as_far_from_its_teacher_as_the_definition_says() -> None:
    torch.manual_seed(0)
    student, teacher = _rfs(temperature=4.0), _rfs()
    x = torch.randn(5, 3, generator=rng())
    scores = student.classifier(x)
    p, q = ((s / 4).softmax(1) for s in (teacher.classifier(x), scores))
    by_hand = 16 * (p * (p.log() - q.log())).sum(1).mean()
    torch.testing.assert_close(student._distance(scores, teacher, x), by_hand)
    assert student._distance(teacher.classifier(x), teacher, x).item() == pytest.approx(0, abs=1e-6)


def test_generations_are_built_on_each_other_and_share_trainings_whatever_the_head() -> None:
    config = Rfs.Config(generation=2, views=5, c=3.0, epochs=7)
    [teacher] = Rfs.requires(config)
    assert teacher.config["generation"] == 1 and teacher.config["epochs"] == 7
    assert "views" not in teacher.config and "c" not in teacher.config
    assert Rfs.requires(Rfs.Config(generation=2, epochs=7)) == [teacher]
    assert not Rfs.requires(Rfs.Config())


def test_the_step_size_of_easy_falls_and_restarts_as_torch_does_it() -> None:
    method = Easy(Easy.Config(networks=1, lr=0.2, restart_every=4, restart_factor=0.5), _Fixed())
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimiser, 4)
    for i in range(24):
        epoch = i / 3
        schedule.step(epoch)
        halved = 0.5 ** (epoch // 4)
        assert method._rate(epoch) == pytest.approx(halved * schedule.get_last_lr()[0], abs=1e-12)


def test_an_ensemble_is_its_single_networks_side_by_side() -> None:
    config = Easy.Config(networks=2, crops=3)
    own = training_values(config) | {"networks": 1}
    assert Easy.requires(config) == [needs("easy", **own | {"member": i}) for i in (0, 1)]
    torch.manual_seed(0)
    single = [Easy(Easy.Config(networks=1), backbones.build("conv4", 28, 1)).eval() for _ in range(2)]
    single[1].mean = torch.ones(64)
    found = iter(single)
    ctx = SimpleNamespace(require=lambda name, **values: next(found))
    method = Easy(config, backbones.build("conv4", 28, 1)).eval()
    method.fit_base(None, ctx)
    crops = torch.rand(2, 3, 1, 28, 28, generator=rng())
    apart = [one.embed(crops.flatten(0, 1)).unflatten(0, (2, 3)).mean(1) for one in single]
    torch.testing.assert_close(method.embed(crops), torch.cat(apart, dim=1))
    assert method.mean.tolist() == [0.0] * 64 + [1.0] * 64


def test_a_second_network_has_other_weights_and_other_batches() -> None:
    seen = list[tuple[Tensor, Tensor]]()

    class Ends(Exception):
        pass

    for member in (0, 1, 0):
        torch.manual_seed(0)
        method = Easy(Easy.Config(networks=1, member=member), backbones.build("conv4", 28, 1))
        ctx, base = (
            SimpleNamespace(rng=rng(), device="cpu"),
            SimpleNamespace(n_classes=3, n_images=9, n_batches=lambda size: 1),
        )

        def epochs(n: int, ctx: Any = ctx, **parts: Any) -> Any:
            weight = parts["model"].networks[0].stages[0][0].weight.detach().clone()
            seen.append((weight, torch.randperm(9, generator=ctx.rng)))
            raise Ends

        ctx.epochs = epochs
        with pytest.raises(Ends):
            method.fit_base(base, ctx)
    assert not torch.equal(seen[0][0], seen[1][0]) and not torch.equal(seen[0][1], seen[1][1])
    assert torch.equal(seen[0][0], seen[2][0]) and torch.equal(seen[0][1], seen[2][1])


@pytest.mark.parametrize(
    ("cls", "values", "said"),
    [
        (Rfs, {"soft": 1.5, "views": -1}, r"views must be ≥ 0.*soft must be in \[0, 1\]"),
        (S2m2, {"epochs": 5, "rotation_epochs": 5}, "rotation_epochs must be < epochs = 5"),
        (Easy, {"networks": 2, "member": 1}, "member is of a single network"),
    ],
)
def test_values_out_of_range_are_named(cls: Any, values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        cls.Config(**values)


def test_equal_budgets_give_each_of_them_as_many_images(tmp_path: Path) -> None:
    request = Request(recipe="budget")
    for spec in planning.plan(["rfs", "s2m2", "easy"], ["glyphs-5w1s"], [0], request, tmp_path):
        config = registry.load(spec.method.name).cls.Config(
            **{k: tuple(v) if isinstance(v, list) else v for k, v in spec.values().items()}
        )
        n_images = 100_000 / config.epochs
        assert config.epochs == -(-100_000 // 1920), "of 96 classes of 20 drawings"
        assert not spec.required and spec.budget == 100_000 and n_images <= 1920
        if spec.method.name == "rfs":
            assert config.decay_at == (round(12 * 100_000 / 1920 / 20), round(16 * 100_000 / 1920 / 20))
        if spec.method.name == "s2m2":
            assert 0 < config.rotation_epochs < config.epochs
