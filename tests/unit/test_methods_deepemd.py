"""DeepEMD's two stages on small sets: what SFC computes, what scores may not depend on, and what a training does."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from harness.api import EpisodeBatch, Support, TrainingEpisode
from harness.backbones import build
from harness.benchmarks.sampling import sample
from harness.errors import MissingPackageError
from harness.evaluation.protocols import EPISODIC
from harness.method import Need, hyper, recipes
from harness.ops.node_matching import node_scores
from harness.runs import planning
from harness.runs.request import Request
from harness.seeding import torch_generator
from harness.system.progress import Silent
from harness.testing import tiny_store
from harness.training.base_set import BaseSet
from harness.training.fit_context import FitContext
from methods.deepemd import DeepEmd, DeepEmdPretrain
from methods.deepemd.sfc import fit_sfc

CPU = torch.device("cpu")
SIDE = 48  # of pictures, where conv4's map has nine locations
WAY, SHOT, N_QUERY, N_EPISODES = 3, 3, 4, 3
VARIANTS: list[dict[str, Any]] = [
    {},
    {"feature_pyramid": (2,)},
    {"variant": "grid", "patch_list": (1, 2)},
    {"variant": "sampling", "num_patch": 3},
]


def method_of(**config: Any) -> DeepEmd:
    torch.manual_seed(0)
    return DeepEmd(DeepEmd.Config(**config), build("conv4", SIDE, 1)).eval()


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype) + 0.3


def images_of(method: DeepEmd, *leading: int) -> Tensor:
    crops = [] if method.views is None else [method.views.n_crops]
    return draw(*leading, *crops, 1, SIDE, SIDE).flatten(0, len(leading) - 1)


@torch.no_grad()
def batch_of(method: DeepEmd, shot: int, dtype: torch.dtype = torch.float32) -> EpisodeBatch:
    per = WAY * shot + N_QUERY
    nodes = method.embed(images_of(method, N_EPISODES, per)).unflatten(0, (N_EPISODES, per)).to(dtype)
    rng = [torch_generator(0, "episode", i) for i in range(N_EPISODES)]
    return EpisodeBatch(nodes[:, : WAY * shot].unflatten(1, (WAY, shot)), nodes[:, WAY * shot :], rng)


@pytest.mark.parametrize("config", VARIANTS, ids=str)
@pytest.mark.parametrize("shot", [1, SHOT])
def test_many_episodes_at_once_are_the_loop(config: dict[str, Any], shot: int) -> None:
    method = method_of(**config, sfc_update_step=3)
    batch = batch_of(method, shot)
    together = method.predict_batch(batch)
    assert together.shape == (N_EPISODES, N_QUERY, WAY)
    for i, scores in enumerate(together):
        label = torch.arange(WAY).repeat_interleave(shot)
        rng = torch_generator(0, "episode", i)
        state = method.adapt(Support(batch.support[i].flatten(0, 1), label, WAY, rng))
        # float32 products of another batch size; SFC at step size 100 carries their rounding on
        torch.testing.assert_close(scores, method.predict(state, batch.query[i]), rtol=0, atol=1e-4)


@pytest.mark.parametrize("config", VARIANTS, ids=str)
@pytest.mark.parametrize("shot", [1, SHOT])
def test_the_order_of_nodes_does_not_matter(config: dict[str, Any], shot: int) -> None:
    method = method_of(**config, sfc_update_step=3)
    batch = batch_of(method, shot, torch.float64)
    order = torch.randperm(batch.query.shape[-2], generator=torch.Generator().manual_seed(1))
    rng = [torch_generator(0, "episode", i) for i in range(N_EPISODES)]
    mixed = EpisodeBatch(batch.support[..., order, :], batch.query[..., order, :], rng)
    # float64: sums in another order, carried on by steps of 100
    torch.testing.assert_close(method.predict_batch(mixed), method.predict_batch(batch), rtol=0, atol=1e-9)


def plain_sfc(
    support: Tensor, target: Tensor, start: Tensor, orders: Tensor, *, lr: float, decay: float, size: int
) -> Tensor:
    """SFC of one episode as it is written down: one image and class at a time, momentum by hand."""
    sfc, velocity = start.clone(), None
    for order in orders.tolist():
        for low in range(0, len(order), size):
            given, loss = sfc.clone().requires_grad_(), torch.zeros((), dtype=sfc.dtype)
            rows = order[low : low + size]
            for row in rows:
                scores = torch.stack([node_scores(support[row][None], one[None])[0, 0] for one in given])
                loss = loss - scores.log_softmax(0)[target[row]] / len(rows)
            (gradient,) = torch.autograd.grad(loss, given)
            gradient = gradient + decay * sfc
            velocity = gradient if velocity is None else 0.9 * velocity + 0.1 * gradient
            sfc = sfc - lr * velocity
    return sfc


@pytest.mark.parametrize("decay", [0.0, 1e-3])
def test_sfc_equals_a_plain_loop(decay: float) -> None:
    n, size, n_passes = WAY * SHOT, 4, 2  # the last step of a pass has one image
    support = draw(N_EPISODES, n, 5, 8, dtype=torch.float64)
    target = torch.arange(WAY).repeat(SHOT).expand(N_EPISODES, n)
    start = support.unflatten(1, (SHOT, WAY)).mean(1)
    orders = torch.stack(
        [torch.stack([torch.randperm(n, generator=torch_generator(e, str(p))) for p in range(n_passes)])
         for e in range(N_EPISODES)]
    )  # fmt: skip
    fitted = fit_sfc(support, target, start, orders, node_scores, lr=2.0, weight_decay=decay, batch_size=size)
    assert not fitted.requires_grad
    for e in range(N_EPISODES):
        slow = plain_sfc(support[e], target[e], start[e], orders[e], lr=2.0, decay=decay, size=size)
        # float64; steps of 2 carry rounding on over six updates
        torch.testing.assert_close(fitted[e], slow, rtol=0, atol=1e-9)
        assert float((slow - start[e]).norm() / start[e].norm()) > 1e-2


def test_sfc_lowers_the_loss_of_the_support() -> None:
    support, target = draw(1, WAY * SHOT, 5, 16), torch.arange(WAY).repeat(SHOT)[None]
    start = support.unflatten(1, (SHOT, WAY)).mean(1)
    orders = torch.arange(WAY * SHOT).expand(1, 20, -1)
    fitted = fit_sfc(support, target, start, orders, node_scores, lr=1.0)
    losses = [
        nn.functional.cross_entropy(node_scores(support[0], one[0]), target[0]) for one in (start, fitted)
    ]
    assert losses[1] < 0.8 * losses[0]


def test_prototypes_without_a_fit() -> None:
    one, several = draw(2, WAY, 1, 4, 8), draw(2, WAY, SHOT, 4, 8)
    assert torch.equal(method_of()._prototypes(one, []), one[:, :, 0])
    assert torch.equal(method_of(sfc_update_step=0)._prototypes(several, []), several.mean(2))


def test_evaluation_memory_does_not_grow_with_the_episodes() -> None:
    """The largest tensor beyond the features is that of one episode's similarities, whatever the batch."""
    method, n_nodes, largest = method_of(), 9, 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal largest
            out = function(*args, **(kwargs or {}))
            if isinstance(out, Tensor):
                largest = max(largest, out.numel())
            return out

    batch = EpisodeBatch(draw(6, WAY, 1, n_nodes, 2), draw(6, 30, n_nodes, 2), [])
    with Watch():
        method.predict_batch(batch)
    assert largest == 30 * WAY * n_nodes * n_nodes


def test_features_are_taken_from_their_table_a_few_episodes_at_a_time(tmp_path: Path) -> None:
    """So that a memory-mapped table of any size streams through."""
    n_each, most, nodes = 30, 0, (9, 4)
    table = np.memmap(tmp_path / "table", np.float32, mode="w+", shape=(WAY * n_each, *nodes))
    table[:] = draw(*table.shape)

    class Table:
        def take(self, rows: np.ndarray) -> Tensor:
            nonlocal most
            most = max(most, len(rows))
            return torch.from_numpy(table).index_select(0, torch.from_numpy(rows))

    method = method_of()
    episodes = sample([n_each] * WAY, WAY, 1, N_QUERY, 5 * method.episode_batch, seed=0)
    EPISODIC.predict(method, episodes, Table(), seed=0)
    assert most == method.episode_batch * WAY * N_QUERY  # the queries; supports are fewer


def test_many_crops_at_test_go_through_the_network_in_parts() -> None:
    method, sizes = method_of(variant="sampling", num_patch=2, test_num_patch=25), []
    method.backbone.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    images = draw(21, 25, 1, 16, 16)
    with torch.no_grad():
        nodes = method.embed(images)
        one_by_one = torch.cat([method.embed(image[None]) for image in images])
    assert nodes.shape == (21, 25, 64)
    assert sizes[:3] == [256, 256, 13]  # of 525 crops
    # float32 convolutions of another batch size
    torch.testing.assert_close(nodes, one_by_one, rtol=0, atol=1e-5)


def test_what_qpth_has_trained_is_evaluated_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("methods.deepemd.method.node_scores", lambda *_, solver, **__: asked.append(solver))
    for solver in ("qpth", "pot"):
        for is_training in (True, False):
            method_of(solver=solver).train(is_training)._scores(draw(1, 1, 2), draw(1, 1, 2))
    assert asked == ["qpth", "exact", "pot", "pot"]


def test_the_first_stage_scores_by_transport_or_by_averages() -> None:
    nodes = draw(WAY * SHOT + N_QUERY, 4, 8)
    support, query = nodes[: WAY * SHOT], nodes[WAY * SHOT :]
    given = Support(support, torch.arange(WAY).repeat_interleave(SHOT), WAY, torch.Generator())
    means = support.unflatten(0, (WAY, SHOT)).mean(1)
    averages = query.mean(1)[:, None], means.mean(1)[None]
    expected = {"emd": node_scores(query, means), "mean": torch.cosine_similarity(*averages, dim=-1)}
    for classifier, scores in expected.items():
        method = DeepEmdPretrain(DeepEmdPretrain.Config(classifier=classifier), build("conv4", SIDE, 1))
        torch.testing.assert_close(method.predict(method.adapt(given), query), scores, rtol=0, atol=1e-5)


class FirstStage:
    """A fit that is there."""

    def __init__(self) -> None:
        torch.manual_seed(1)
        self.method = DeepEmdPretrain(DeepEmdPretrain.Config(), build("conv4", SIDE, 1)).requires_grad_(False)

    def fitted(self, need: Need) -> Any:
        assert need == Need("deepemd-pretrain", {"image_size": None})
        return self.method

    def features(self, fitted: Any, role: Any) -> Any:
        raise AssertionError("not asked for")


def fit(method: Any, folder: Path, required: FirstStage) -> list[dict[str, float]]:
    rng = torch_generator(0, "training")
    ctx = FitContext(
        folder, device=CPU, rng=rng, seed=0, precision="fp32", validate=lambda *_: 0.5, progress=Silent(),
        required=required,
    )  # fmt: skip
    method.train().fit_base(BaseSet(tiny_store("base", SIDE), "stored", CPU, rng), ctx)
    return ctx.record()["curves"]


QUICK: dict[str, Any] = {"epochs": 1, "episodes_per_epoch": 2, "train_way": 3, "train_query": 2, "lr": 1e-3}


@pytest.mark.parametrize("config", [*VARIANTS, {"grad": "flow-only", "weight_eps": 1e-5}], ids=str)
def test_meta_training_moves_the_weights_of_the_first_stage(tmp_path: Path, config: dict[str, Any]) -> None:
    first, method = FirstStage(), method_of(**config, **QUICK)
    (point,) = fit(method, tmp_path, first)
    assert point["step"] == 2 and point["validation_accuracy"] == 0.5 and 0 < point["loss"] < 12.5
    before, after = (m.backbone.stages[0][0].weight.detach() for m in (first.method, method))
    assert 0 < float((after - before).abs().max()) < 0.05  # two steps of 1e-3


def test_no_epochs_keep_the_weights_of_the_first_stage(tmp_path: Path) -> None:
    first, method = FirstStage(), method_of(epochs=0)
    assert fit(method, tmp_path, first) == []
    for mine, given in zip(
        method.backbone.state_dict().values(), first.method.backbone.state_dict().values(), strict=True
    ):
        assert torch.equal(mine, given)


def test_the_loss_falls_when_one_episode_is_seen_again_and_again(tmp_path: Path) -> None:
    first, method = (
        FirstStage(),
        method_of(**{**QUICK, "episodes_per_epoch": 1, "epochs": 15, "lr": 1e-2, "decay_every": 99}),
    )
    rng = torch_generator(0, "training")
    (episode,) = BaseSet(tiny_store("base", SIDE), "stored", CPU, rng).episodes(1, 3, 1, 4)

    class Same:
        def episodes(self, *_: Any, **__: Any) -> list[Any]:
            return [episode]

    ctx = FitContext(
        tmp_path,
        device=CPU,
        rng=rng,
        seed=0,
        precision="fp32",
        validate=None,
        progress=Silent(),
        required=first,
    )
    method.train().fit_base(Same(), ctx)
    losses = [point["loss"] for point in ctx.record()["curves"]]
    assert losses[-1] < 0.7 * losses[0]


def test_fits_are_shared(tmp_path: Path) -> None:
    """By all variants the first stage, and by all that acts at test the second."""

    def planned(method: str, **overrides: str) -> Any:
        (spec,) = planning.plan([method], ["glyphs-5w1s"], [0], Request(overrides=overrides), tmp_path)
        return spec

    first = planned("deepemd-pretrain")
    assert planned("deepemd-pretrain", classifier="mean").fit_key == first.fit_key
    kinds = [planned("deepemd", variant=v, num_patch="3") for v in ("fcn", "grid", "sampling")]
    assert {fit.fit_key for spec in kinds for fit in spec.required.values()} == {first.fit_key}
    assert len({spec.fit_key for spec in kinds}) == 3
    more = planned("deepemd", variant="sampling", num_patch="3", test_num_patch="25", sfc_lr="0.1")
    assert more.fit_key == kinds[2].fit_key and more.id != kinds[2].id
    assert first.image_size == kinds[0].image_size == 48


def test_both_stages_see_pictures_of_the_same_size(tmp_path: Path) -> None:
    for text in ("64", "none"):
        given = Request(overrides={"image_size": text})
        (spec,) = planning.plan(["deepemd"], ["glyphs-5w1s"], [0], given, tmp_path)
        (first,) = spec.required.values()
        assert first.image_size == spec.image_size == (64 if text == "64" else 28)


@pytest.mark.parametrize("solver", ["exact", "qpth"])
def test_a_solver_that_is_not_installed_is_told_before_any_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, solver: str
) -> None:
    module, extra = {"exact": ("numba", "deepemd"), "qpth": ("qpth", "qpth")}[solver]
    monkeypatch.setitem(sys.modules, module, None)
    asked = ["glyphs-5w1s"], [0], Request(overrides={"solver": solver}), tmp_path
    with pytest.raises(MissingPackageError, match=rf"`pip install {module}`.*fsbench\[{extra}\]"):
        planning.plan(["deepemd"], *asked)


def test_imported_weights_need_no_first_stage(tmp_path: Path) -> None:
    (tmp_path / "max_acc.pth").write_bytes(b"read when the run begins")
    given = Request(weights=(tmp_path / "max_acc.pth",), seen=["mini"])
    (spec,) = planning.plan(["deepemd"], ["glyphs-5w1s"], [0], given, tmp_path)
    assert spec.required == {} and spec.weights_sha256


def test_an_episode_of_the_published_network_fits_six_gigabytes() -> None:
    """What the backward pass needs of 80 pictures of 84 pixels; it grows with their number."""
    saved: dict[int, Tensor] = {}

    def keep(x: Tensor) -> Tensor:
        saved[x.untyped_storage().data_ptr()] = x
        return x

    class Whole:
        def autocast(self) -> nullcontext[None]:
            return nullcontext()

    method = DeepEmd(DeepEmd.Config(), build("resnet12", 84, 3)).train()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        loss, _ = method._loss(TrainingEpisode(draw(2, 2, 3, 84, 84), torch.arange(2), 1), Whole())
    assert loss.requires_grad
    weights = sum(p.numel() * p.element_size() for p in method.parameters())
    of_one = (sum(x.untyped_storage().nbytes() for x in saved.values()) - weights) / 4
    # the largest gradient and its like: four maps of 64 channels; weights thrice, with gradient and momentum
    working = 4 * 80 * 64 * 84 * 84 * 4 + 3 * weights
    assert 1e9 < 80 * of_one + working < 5e9


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"solver": "opencv"}, "solver=opencv has no gradient through the masses, set grad=flow-only"),
        ({"feature_pyramid": (0,)}, "feature_pyramid must be levels ≥ 1"),
        ({"feature_pyramid": (2,), "variant": "grid"}, "feature_pyramid is of variant=fcn"),
        ({"patch_list": ()}, "patch_list must be one level ≥ 1, or more"),
        ({"sfc_lr": 0.0, "train_way": 1}, "train_way must be ≥ 2, found 1; sfc_lr must be > 0, found 0.0"),
    ],
)
def test_values_out_of_range_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        DeepEmd.Config(**values)
    assert message in str(error.value)


@pytest.mark.parametrize("benchmark", ["mini", "tiered", "cub-feat", "cifarfs", "fc100"])
def test_the_published_recipe_is_the_opencv_convention(benchmark: str) -> None:
    keys = hyper.layers(benchmark, f"{benchmark}-5w1s", "resnet12")
    tables = [DeepEmd.DEFAULTS, recipes(DeepEmd)["as-published"].hyperparameters]
    values = hyper.resolve(DeepEmd.Config, tables, keys, {}, method="deepemd", recipe="as-published")
    found = hyper.from_json(DeepEmd.Config, {name: entry.value for name, entry in values.items()})
    assert (found.grad, found.weight_eps, found.sfc_lr) == ("flow-only", 1e-5, 100.0)
    assert found.image_size == (84 if benchmark in ("cifarfs", "fc100") else None)
