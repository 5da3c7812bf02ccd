"""Low-shot methods: what is refused, what batches and supports hold, what is kept, and the authors' checkpoints."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.backbones import build
from harness.errors import ConfigError
from harness.method import hub, hyper
from harness.method.official_weights import import_weights, is_of_head
from harness.method.support import BaseSupport, Support
from harness.ops.auxiliary_losses import AUXILIARY_LOSSES
from methods.lowshot import LowshotHallucination, LowshotLogistic, MatchingNetwork, Representation
from methods.lowshot.generation import STRATEGIES, Analogies
from methods.lowshot.logistic import batches
from methods.lowshot.matching import _balanced, _draw_step

GOLDEN = Path(__file__).parents[1] / "golden" / "low_shot"
N_BASE, N_LABELS, DIM = 4, 9, 5
HALF = (0, 3)  # base labels of the half, beside the novel ones 4, 6 and 7


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def experiment(seed: int = 0, shot: int = 2) -> Support:
    """Features that say which row they are: base rows 0 to 19, novel rows from 100 on."""
    y = torch.tensor(HALF).repeat_interleave(torch.tensor([12, 8]))
    rows = torch.arange(20.0)[:, None].expand(-1, DIM)
    novel_y = torch.tensor([4, 6, 7]).repeat_interleave(shot)
    novel = (100 + 10 * novel_y + torch.arange(len(novel_y)))[:, None].expand(-1, DIM) + 100.0 * seed
    return Support(novel.clone(), novel_y, N_LABELS, rng(seed), N_BASE, BaseSupport(y, lambda i: rows[i]))


def settings(cls: Any, **values: Any) -> dict[str, Any]:
    texts = {name: str(value) for name, value in values.items()}
    return hyper.resolve(cls.Config, [], [], texts, method=cls.name)


@pytest.mark.parametrize(
    ("cls", "given", "said"),
    [
        (Representation, {"aux": "sgn"}, "aux must be one of none, sgm, batchsgm, l2, found sgn"),
        (Representation, {"aux_weight": -1}, "aux_weight must be ≥ 0"),
        (LowshotHallucination, {"strategy": "dreams"}, "strategy must be one of analogies, differences, found dreams"),
        (LowshotHallucination, {"clusters": 1}, "clusters"),
        (MatchingNetwork, {"train_way": 1}, "train_way must be ≥ 2"),
        (LowshotLogistic, {"lr": 0}, "lr"),
    ],
)  # fmt: skip
def test_values_that_make_no_sense_are_refused(cls: Any, given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        settings(cls, **given)


def test_a_loss_that_was_registered_is_known_and_weighs_one() -> None:
    AUXILIARY_LOSSES["mine"] = AUXILIARY_LOSSES["l2"]
    try:
        assert Representation.Config(aux="mine").weight == 1.0
        assert Representation.Config(aux="mine", aux_weight=0.5).weight == 0.5
        assert Representation.Config(aux="l2", l2_weight=0.25).weight == 0.25
    finally:
        del AUXILIARY_LOSSES["mine"]


def test_batches_are_of_base_and_novel_rows_in_proportion_to_classes() -> None:
    given = [experiment(0), experiment(1)]
    found = list(batches(given, 10, 130))  # two base, three novel classes: 4 and 6 rows
    assert len(found) == 130
    seen: set[float] = set()
    for x, y in found:
        assert x.shape == (2, 10, DIM) and y.shape == (2, 10)
        for e in range(2):
            rows = x[e, :, 0]
            base, novel = rows[:4], rows[4:] - 100 * e
            assert base.unique().tolist() == base.tolist()  # ascending, none twice
            assert [HALF[int(row >= 12)] for row in base] == y[e, :4].tolist()
            assert (((novel - 100) / 10).floor() == y[e, 4:]).all()
            seen |= {*rows.tolist()}
    assert len(seen) == 20 + 2 * 6  # every row of either occurs


def test_experiments_do_not_see_each_other() -> None:
    alone = [list(batches([experiment(e)], 10, 7)) for e in range(2)]
    for i, (x, y) in enumerate(batches([experiment(0), experiment(1)], 10, 7)):
        for e in range(2):
            torch.testing.assert_close(x[e], alone[e][i][0][0])
            torch.testing.assert_close(y[e], alone[e][i][1][0])


class Base:
    """What a strategy asks of a FitContext."""

    device, seed = torch.device("cpu"), 3

    def __init__(self) -> None:
        self.said: list[str] = []

    def epochs(self, n: int, **_: Any) -> range:
        return range(n)

    def log(self, step: int, **points: float) -> None:
        self.points = points

    def warn(self, sentence: str) -> None:
        self.said.append(sentence)


N_CLASSES = 24  # from which a generator learns


def features() -> tuple[Tensor, Tensor]:
    """Non-negative features of base classes, each with the same three modes."""
    y = torch.arange(N_CLASSES).repeat_interleave(12)
    modes = torch.rand(3, DIM, generator=rng(1)).repeat(4 * N_CLASSES, 1)
    noise = 0.02 * torch.rand(12 * N_CLASSES, DIM, generator=rng(3))
    return 0.3 * torch.rand(N_CLASSES, DIM, generator=rng(2))[y] + modes + noise, y


def learnt(seed: int = 0, **config: Any) -> tuple[Analogies, Base]:
    torch.manual_seed(seed)
    strategy, ctx = Analogies(), Base()
    given = LowshotHallucination.Config(
        **{"clusters": 3, "generator_lr": 0.05, "generator_steps": 600, **config}
    )
    x, y = features()
    classifier = nn.Linear(DIM, N_CLASSES)
    nn.init.zeros_(classifier.weight)  # has no opinion: the squared error alone decides
    strategy.learn(x, y, classifier.requires_grad_(False), given, ctx)
    return strategy, ctx


def test_a_generator_is_kept_with_its_clusters() -> None:
    strategy, ctx = learnt(seed=1)  # of most others an output is zero from the start, and stays so
    assert ctx.points["squared_error"] < ctx.points["of_copying"] and not ctx.said
    other = Analogies()
    other.load_state_dict(strategy.state_dict())
    x, y = features()
    for most in (0, 14):
        found = strategy.generate(x, y, most, rng())
        torch.testing.assert_close(found, other.generate(x, y, most, rng()))
        assert found[1].bincount().tolist() == [max(most, 12)] * N_CLASSES


def test_a_generator_that_is_worse_than_copying_is_told() -> None:
    _, ctx = learnt(generator_steps=1, generator_lr=1e-6)
    assert len(ctx.said) == 1 and "further off than the real examples" in ctx.said[0]


def test_a_dead_generator_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the generator has died: \d+% .* set generator_lr to a tenth"):
        learnt(generator_lr=50.0, generator_steps=200)


@pytest.mark.parametrize("name", STRATEGIES)
def test_nothing_is_made_up_where_there_is_enough(name: str) -> None:
    """From max_per_label on, hallucination is the plain classifier, to the last bit."""
    config = {"batch_size": 10, "n_steps": 5}
    method = LowshotHallucination(
        LowshotHallucination.Config(strategy=name, max_per_label=2, **config), nn.Identity()
    )
    plain = LowshotLogistic(LowshotLogistic.Config(**config), nn.Identity())
    method.strategy.load_state_dict({"centroids": torch.zeros(N_BASE, 2, DIM)}, strict=False)
    method.strategy.generator.of(DIM)
    for found, expected in zip(method.adapt(experiment()), plain.adapt(experiment()), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_differences_are_added_and_cut_off_at_zero() -> None:
    strategy = STRATEGIES["differences"]()
    centroids = torch.rand(N_BASE, 3, DIM, generator=rng())
    strategy.load_state_dict({"centroids": centroids}, strict=False)
    x, y = torch.rand(2, DIM, generator=rng(1)), torch.tensor([5, 8])
    made, labels = strategy.generate(x, y, 3, rng(2))
    assert labels.tolist() == [5, 8, 5, 5, 8, 8] and (made >= 0).all()
    possible = {
        (label, tuple((x[i] + c[j] - c[k]).relu().tolist()))
        for i, label in enumerate((5, 8)) for c in centroids for j in range(3) for k in range(3)
    }  # fmt: skip
    assert {
        (int(label), tuple(row.tolist())) for label, row in zip(labels[2:], made[2:], strict=True)
    } <= possible


@pytest.mark.parametrize(("shot", "per_class"), [(1, 6), (2, 6), (4, 6), (2, 20)])
def test_a_matching_support_has_so_much_of_every_class(shot: int, per_class: int) -> None:
    x, y = _balanced(experiment(shot=shot), per_class)
    n_base = [min(per_class, 12), min(per_class, 8)]
    repeated = -(-per_class // shot) * shot
    assert y.bincount(minlength=N_LABELS).tolist() == [
        n_base[0],
        0,
        0,
        n_base[1],
        repeated,
        0,
        repeated,
        repeated,
        0,
    ]
    assert (y[: sum(n_base)].diff() >= 0).all()
    assert [HALF[int(row >= 12)] for row in x[: sum(n_base), 0]] == y[: sum(n_base)].tolist()
    block = 3 * shot
    torch.testing.assert_close(x[-block:], x[sum(n_base) :][:block])  # the whole block again, not row by row


def test_a_training_step_has_shots_and_one_query_of_each_class() -> None:
    rows = tuple(torch.arange(10 * c, 10 * c + 7) for c in range(6))
    shots = set()
    for seed in range(40):
        support, label, query = _draw_step(rows, 5, 3, rng(seed))
        classes = (query // 10).tolist()
        assert len(set(classes)) == 5 and [classes[i] for i in label.tolist()] == (support // 10).tolist()
        counts = label.bincount(minlength=5).tolist()
        assert max(counts) <= 3 and len(set(support.tolist())) == len(support)
        shots |= {*counts}
    assert shots == {1, 2, 3}


def test_labels_without_support_come_last() -> None:
    torch.manual_seed(0)
    method = MatchingNetwork(MatchingNetwork.Config(base_per_class=3), nn.Identity())
    method.encoder.of(DIM)
    support = experiment()
    support = replace(support, x=support.x / 100)
    with torch.no_grad():
        scores = method.predict(method.adapt(support), torch.rand(6, DIM, generator=rng()))
    assert scores.isfinite().all()
    known = torch.tensor([0, 3, 4, 6, 7])
    others = torch.tensor([1, 2, 5, 8])
    assert (scores[:, others] < scores[:, known].min(1, keepdim=True).values).all()
    torch.testing.assert_close(scores[:, known].exp().sum(1), torch.ones(6))


@pytest.mark.parametrize(
    ("network", "file"), [("resnet10", "resnet10_trunk_eval.npz"), ("resnet50", "resnet50_trunk_eval.npz")]
)
def test_checkpoint_names_are_those_of_the_authors(network: str, file: str) -> None:
    entry = json.loads((GOLDEN / "manifest.json").read_text())["files"][file]
    method = Representation(Representation.Config(), build(network, 64, 3))
    own = {name: tuple(p.shape) for name, p in method.backbone.named_parameters(prefix="backbone")}
    names = method.official_names()
    theirs = {name: tuple(shape) for _, name, shape, _ in entry["parameters"] if name != "classifier.weight"}
    assert {names[key][0]: shape for key, shape in own.items()} == theirs
    norms = {name for _, name, _ in entry["batchnorms"]}
    means = {n.removesuffix(".running_mean") for (n,) in names.values() if n.endswith("running_mean")}
    assert means == norms


@torch.no_grad()
def test_a_checkpoint_of_the_authors_is_imported(tmp_path: Path) -> None:
    torch.manual_seed(1)
    theirs, ours = (
        Representation(Representation.Config(), build("resnet10", 32, 3)).eval() for _ in range(2)
    )
    state = theirs.backbone.state_dict(prefix="backbone.")
    saved = {f"module.{name}": state[key] for key, (name,) in theirs.official_names().items()}
    saved["module.classifier.weight"] = torch.rand(1000, 512)
    path = tmp_path / "89.tar"
    torch.save({"epoch": 89, "state": saved}, path)
    imported = import_weights(ours, path)
    assert imported.set_aside == ("classifier.weight",)
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(ours.embed(x), theirs.embed(x), rtol=0, atol=0)


def hallucination(**config: Any) -> LowshotHallucination:
    return LowshotHallucination(LowshotHallucination.Config(**{"clusters": 4, **config}), nn.Identity())


def wave(shape: list[int], k: int) -> Tensor:
    """Weights of the golden manifest's formula: 2 / sqrt(fan in) · v(i, k), of biases 0.1 · v(i, k)."""
    i = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    value = torch.sin(0.37 * i + 0.01 * ((i * i) % 1013) + 1.3 * k)
    return (value * (0.1 if len(shape) == 1 else 2 / shape[1] ** 0.5)).float().reshape(shape)


def golden_generator(**changes: Any) -> dict[str, Any]:
    """A file as the authors' trainer leaves it: the golden generator, and the centroids stored with it."""
    entry = json.loads((GOLDEN / "manifest.json").read_text())["files"]["generator.npz"]
    arrays = np.load(GOLDEN / "generator.npz")
    state = {name: wave(shape, k) for k, name, shape, _ in entry["parameters"]}
    n_base, k = arrays["t_meta"].tolist()
    beside = {"centroids": torch.from_numpy(arrays["t_cat"]), "n_base": n_base, "k": k}
    return {"state of the network": state, **beside, **changes}


@torch.no_grad()
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_generator_of_the_authors_is_imported(tmp_path: Path, prefix: str) -> None:
    arrays, theirs, ours = np.load(GOLDEN / "generator.npz"), golden_generator(), hallucination()
    theirs["state of the network"] = {
        prefix + name: value for name, value in theirs["state of the network"].items()
    }
    path = tmp_path / "generator.tar"
    torch.save(theirs, path)
    assert is_of_head(LowshotHallucination, path)
    assert import_weights(ours, path).set_aside == ()
    a, c, d = (torch.from_numpy(arrays[name]) for name in "acd")
    out = ours.strategy.generator(a, c, d)
    np.testing.assert_allclose(out, arrays["out"], rtol=1e-4, atol=1e-6)  # float32 through three layers
    np.testing.assert_allclose(ours.strategy.centroids, arrays["t_centroids"], rtol=1e-6)
    again = hallucination()
    again.load_state_dict(ours.state_dict())
    torch.testing.assert_close(again.strategy.generator(a, c, d), out, rtol=0, atol=0)
    ours.check_features(3, 5)
    with pytest.raises(
        ValueError, match="made for 3 base classes of 4 clusters and features of 5 numbers; here are 4 base"
    ):
        ours.check_features(4, 6)


@pytest.mark.parametrize(
    ("config", "changes", "said"),
    [
        ({"clusters": 5}, {}, "its 12 centroids are not 5 for each base class"),
        ({"strategy": "differences"}, {}, "strategy=differences has no generator.tar"),
        ({}, {"centroids": torch.zeros(12, 6)}, r"fc1.weight is \(512, 15\); expected \(512, 18\)"),
        ({}, {"centroids": torch.zeros(12, 5).numpy()}, "one tensor of the centroids"),
        ({}, {"centroids": torch.full((12, 5), torch.nan)}, "not finite"),
        ({}, {"state of the network": {"fc1.weight": torch.zeros(512, 15)}}, "missing: fc2.weight"),
        ({}, {"state of the network": {"conv.weight": torch.zeros(3)}}, "holds a table of tensors fc1.weight to fc3.bias"),
    ],
)  # fmt: skip
def test_other_generators_are_refused(
    tmp_path: Path, config: dict[str, Any], changes: dict[str, Any], said: str
) -> None:
    torch.save(golden_generator(**changes), tmp_path / "generator.tar")
    with pytest.raises(ConfigError, match=said):
        import_weights(hallucination(**config), tmp_path / "generator.tar")


def test_a_generator_on_the_hub_is_that_of_the_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(golden_generator(), tmp_path / "generator.tar")
    monkeypatch.setattr(hub, "fetch", lambda name: tmp_path / "generator.tar")
    assert is_of_head(LowshotHallucination, Path("hub:somebody/generator@1"))


def test_a_checkpoint_of_the_features_is_not_one_of_a_head(tmp_path: Path) -> None:
    torch.save({"state": {"module.conv1.weight": torch.zeros(3)}}, tmp_path / "89.tar")
    assert not is_of_head(LowshotHallucination, tmp_path / "89.tar")
    torch.save(golden_generator(), tmp_path / "generator.tar")
    assert not is_of_head(LowshotLogistic, tmp_path / "generator.tar")


def test_there_are_no_checkpoints_of_other_networks(tmp_path: Path) -> None:
    method = Representation(Representation.Config(), build("conv4", 28, 1))
    with pytest.raises(ConfigError, match="Released low-shot networks are resnet10 and resnet50"):
        method.official_names()
