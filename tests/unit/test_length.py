"""Equal budgets: epochs are fitted to a number of images, and a training ends when it has seen them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from harness.backbones import build
from harness.errors import ConfigError, MisfitError, PluginError
from harness.method import hyper, length, recipes, registry
from harness.runs import planning
from harness.runs.request import Request
from harness.seeding import torch_generator
from harness.system.progress import Silent
from harness.testing import tiny_store
from harness.training.base_set import BaseSet
from harness.training.fit_context import FitContext
from methods.anil import Anil
from methods.bml import Bml, BmlGlobal
from methods.finetune_network import FinetuneNetwork
from methods.maml import Maml
from methods.margin import Softmax
from methods.protonet import ProtoNet
from methods.relation_network import RelationNetwork

TABLE = (
    "softmax", "cosine", "neg-softmax", "neg-cosine", "bml", "bml-global", "bml-local", "protonet", "nearest-mean",
    "relation-network", "feat", "meta-baseline", "maml", "anil", "finetune-network",
)  # fmt: skip


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.mark.parametrize("name", TABLE)
def test_the_recipe_budget_gives_every_method_as_many_images(name: str, data: Path) -> None:
    [clean] = planning.plan([name], ["glyphs-5w1s"], [0], Request(), data)
    [spec] = planning.plan([name], ["glyphs-5w1s"], [0], Request(recipe="budget"), data)
    assert (spec.budget, spec.augmentation, clean.budget) == (100_000, "none", 0)
    cls = registry.load(name).cls
    config = hyper.from_json(cls.Config, spec.values())
    each = length.epoch_images(cls, config, 96 * 20, 96)
    assert (config.epochs - 1) * each < 100_000 <= config.epochs * each
    assert spec.config["epochs"].origin == "glyphs, for 100,000 images"
    others = {k for k, v in spec.values().items() if v != clean.values()[k]}
    assert "epochs" in others and all(fields_in_epochs(cls)[k] for k in others)


def fields_in_epochs(cls: Any) -> dict[str, bool]:
    return {name: field.metadata["in_epochs"] for name, field in cls.Config.__dataclass_fields__.items()}


def test_what_a_run_is_built_on_has_the_same_budget_and_a_head_has_no_epochs(data: Path) -> None:
    request = Request({"features": "softmax"}, recipe="budget")
    [head] = planning.plan(["centroid"], ["glyphs-5w1s"], [0], request, data)
    [own] = planning.plan(["softmax"], ["glyphs-5w1s"], [0], Request(recipe="budget"), data)
    assert [fit.fit_key for fit in head.required.values()] == [own.fit_key]


def test_fine_tuning_with_and_without_queries_has_one_training(data: Path) -> None:
    for request in (Request(), Request(recipe="budget"), Request({"lr": "0.05"})):
        both = planning.plan(
            ["finetune-network", "transductive-finetune-network"], ["glyphs-5w1s"], [0], request, data
        )
        assert [fit.fit_key for fit in both[1].required.values()] == [both[0].fit_key]


def test_a_number_of_images_may_be_typed_and_is_in_the_printed_command(data: Path) -> None:
    [spec] = planning.plan(["softmax"], ["glyphs-5w1s"], [0], Request(n_images=19_200), data)
    assert spec.config["epochs"].value == 10 and spec.fit.budget == 19_200
    with pytest.raises(ConfigError, match="decide how many epochs"):
        planning.plan(["softmax"], ["glyphs-5w1s"], [0], Request({"epochs": "3"}, recipe="budget"), data)


def test_every_recipe_of_a_table_names_one_number_of_images() -> None:
    for name in TABLE:
        conditions = recipes(registry.load(name).cls)["budget"].conditions
        assert {said.n_images for said in conditions.values()} == {100_000}
        assert conditions["cifar10"].augmentation == "padded4-jitter-flip"


CASES: list[tuple[Any, dict[str, Any]]] = [
    (Softmax, {"epochs": 4, "warmup_epochs": 1, "batch_size": 32}),
    (BmlGlobal, {"epochs": 4, "decay_epochs": (), "decay_factors": (), "batch_size": 32, "drop_rate": 0.0}),
    (Bml, {"epochs": 2, "decay_epochs": (), "decay_factors": (), "drop_rate": 0.0, "steps_per_epoch": 4, "train_shot": 2,
           "train_query": 2}),
    (ProtoNet, {"epochs": 3, "episodes_per_epoch": 4, "train_way": 10}),
    (RelationNetwork, {"epochs": 2, "steps_per_epoch": 4, "train_query": 3}),
    (Maml, {"epochs": 2, "steps_per_epoch": 2, "episodes_per_step": 2, "train_query": 3, "steps": 1}),
    (Anil, {"epochs": 2, "steps_per_epoch": 4, "episodes_per_step": 1, "train_query": 3}),
    (FinetuneNetwork, {"epochs": 3, "first_cycle": 1, "batch_size": 32}),
]  # fmt: skip


@pytest.mark.parametrize(("cls", "given"), CASES)
def test_a_training_ends_with_the_batch_or_episode_that_reaches_its_images(
    cls: Any, given: dict[str, Any], tmp_path: Path
) -> None:
    store = tiny_store("base")
    method = cls(cls.Config(**given), build("conv4", 28, 1))
    each = length.epoch_images(cls, method.config, len(store), len(store.counts))
    budget = round((given["epochs"] - 0.5) * each)
    ctx = trained(method, budget, tmp_path)
    seen, largest = ctx.record()["effort"]["images"], each // 4 + 64
    assert budget <= seen < budget + largest
    assert len(ctx.record()["curves"]) == given["epochs"]
    assert ctx.record()["effort"]["flop"]
    ctx.check_budget()


def trained(method: Any, budget: int, folder: Path) -> FitContext:
    rng = torch_generator(0, "training")
    ctx = FitContext(
        folder, device=torch.device("cpu"), rng=rng, seed=0, precision="fp32", validate=None, progress=Silent(),
        budget=budget,
    )  # fmt: skip
    base = BaseSet(tiny_store("base"), "stored", torch.device("cpu"), rng, ctx.tick, is_spent=ctx.is_spent)
    method.fit_base(base, ctx)
    return ctx


def test_a_training_that_takes_fewer_images_than_it_was_given_is_refused(tmp_path: Path) -> None:
    given = {"epochs": 2, "warmup_epochs": 1, "batch_size": 32}
    method = Softmax(Softmax.Config(**given), build("conv4", 28, 1))
    with pytest.raises(PluginError, match="was given 10,000 images and took"):
        trained(method, 10_000, tmp_path).check_budget()


def test_a_method_that_does_not_say_what_counts_epochs_is_refused_before_it_is_trained() -> None:
    class Mine(nn.Module):
        name = "mine"

        @dataclass(frozen=True)
        class Config:
            epochs: int = hyper.hyper(3, "passes over the base images, ≥ 1")

    values = hyper.resolve(Mine.Config, [], (), {}, method="mine")
    with pytest.raises(MisfitError, match="in_epochs=True"):
        length.stretched(Mine, values, 100, 10, 2)
