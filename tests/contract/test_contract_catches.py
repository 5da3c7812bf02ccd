"""Each promise is broken by a method made for it, and by nothing else of that method; sound methods keep them all."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from made_methods import (
    BAD,
    SOUND,
    DependsOnTheOrder,
    FailsToFit,
    Nan,
    SeedsGlobalNumpy,
    Sound,
    SoundFineTuned,
    SoundModule,
    SoundTransductive,
    SoundUntrained,
)
from torch import Tensor

from harness import benchmarks
from harness.api import BaseSet, FitContext, Support, distance_scores, hyper, streamed_means
from harness.errors import ConfigError, PluginError
from harness.testing import MethodContract, NotChecked, fitting_promises, tiny_store, workbench

CASES = [(promise, cls, message) for promise, cases in BAD.items() for cls, message in cases]


@pytest.mark.parametrize(
    "cls",
    [
        pytest.param(cls, marks=[pytest.mark.nightly] * (cls is SoundFineTuned), id=cls.__name__)
        for cls in SOUND
    ],
)
def test_a_sound_method_keeps_every_promise(cls: type[Any]) -> None:
    outcomes = MethodContract(cls).run_all()
    assert [(o.name, o.message) for o in outcomes if o.passed is False] == []
    skipped = {o.name for o in outcomes if o.passed is None}
    expected = (
        set()
        if cls is SoundModule
        else {"features_are_well_formed", "embed_is_independent", "batch_equals_loop"}
    )
    expected |= {
        "experiments_are_scored",
        "experiments_together_equal_alone",
        "closed_classes_are_named",
        "closed_images_are_independent",
    }  # none of them speaks the joint or the closed protocol
    expected |= set() if cls is SoundUntrained else {"untrained_means_it"}
    expected |= set() if cls is SoundFineTuned else {"passes_are_as_stated"}
    if cls is SoundTransductive:
        expected |= {"queries_are_independent"}
    assert skipped == expected


@pytest.mark.parametrize(("promise", "cls", "message"), CASES, ids=[cls.__name__ for _, cls, _ in CASES])
def test_a_bad_method_breaks_its_promise_alone(promise: str, cls: type[Any], message: str) -> None:
    outcomes = MethodContract(cls).run_all()
    broken = {o.name: o.message for o in outcomes if o.passed is False}
    assert list(broken) == [promise], broken
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(broken[promise])


def test_a_method_of_the_joint_protocol_alone_is_given_experiments_alone() -> None:
    class JointOnly(Sound):
        protocols: ClassVar[set[str]] = {"joint"}

        def adapt(self, support: Support) -> Any:
            assert support.base is not None, "this is an episode"
            return streamed_means(((x.flatten(1), y) for x, y in support.batches()), support.n_way)

        def predict(self, state: Any, query: Tensor) -> Tensor:
            return state.unknown_last(distance_scores(query.flatten(1), state.means))

    outcomes = {o.name: o for o in MethodContract(JointOnly).run_all()}
    assert outcomes["experiments_are_scored"].passed
    assert outcomes["beats_chance"].message == "not checked: the method does not speak the episodic protocol"
    assert [o for o in outcomes.values() if o.passed is False] == []


def test_every_promise_has_a_method_that_breaks_it() -> None:
    assert list(BAD) == [name for name, _ in MethodContract.promises()]


def test_promises_that_rest_on_a_broken_one_are_not_checked() -> None:
    by_name = {o.name: o for o in MethodContract(FailsToFit).run_all()}
    assert by_name["keeps_novel_closed"].message == "not checked: fit_base did not finish"
    assert by_name["keeps_no_state"].message == "not checked: it rests on fits_in_seconds, which is broken"


def test_a_training_that_takes_too_long_is_stopped_after_the_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    epochs = []

    class Slow(SoundModule):
        def fit_base(self, base: BaseSet, ctx: FitContext) -> None:
            for epoch in ctx.epochs(100, model=self):
                epochs.append(epoch)

    monkeypatch.setattr(workbench, "SECONDS", 0.0)
    monkeypatch.setattr(fitting_promises, "SECONDS", 0.0)
    outcome = MethodContract(Slow).outcome("fits_in_seconds")
    assert outcome.passed is False
    assert (
        'more than 0 s. Give the class a smaller training for this check, such as CONTRACT = {"epochs": 1}'
        in outcome.message
    )
    assert epochs == [0]


def test_the_method_is_trained_as_in_a_run_with_validation_and_its_contract_entry() -> None:
    seen: dict[str, Any] = {}

    class Looks(SoundModule):
        def fit_base(self, base: BaseSet, ctx: FitContext) -> None:
            super().fit_base(base, ctx)
            x, _ = next(base.batches(10))
            seen.update(n_classes=base.n_classes, n_images=base.n_images, x=x, features=self.config.features)
            seen.update(training=self.training, accuracy=ctx.validation_accuracy(self))

    contract = MethodContract(Looks)
    assert contract.outcome("fits_in_seconds").passed
    assert contract.outcome("beats_chance").passed
    assert (seen["n_classes"], seen["n_images"], seen["features"]) == (16, 320, 64)
    assert seen["x"].shape == (10, 1, 28, 28)
    assert seen["training"]
    assert 0.2 < seen["accuracy"] < 1.0


def test_a_method_may_ask_for_larger_images() -> None:
    class Large(SoundModule):
        @dataclass(frozen=True)
        class Config(SoundModule.Config):
            image_size: int | None = hyper(None, "edge of the images in pixels")

        CONTRACT: ClassVar[dict[str, Any]] = {"image_size": 40}

        def embed(self, images: Tensor) -> Tensor:
            assert images.shape[1:] == (1, 40, 40)
            return images.flatten(1)

    assert [o for o in MethodContract(Large).run_all() if o.passed is False] == []


def test_a_promise_is_checked_once_and_the_fit_is_shared() -> None:
    fits = []

    class Counts(SoundModule):
        def fit_base(self, base: BaseSet, ctx: FitContext) -> None:
            fits.append(1)
            super().fit_base(base, ctx)

    contract = MethodContract(Counts)
    assert contract.outcome("beats_chance") is contract.outcome("beats_chance")
    contract.run_all()
    assert len(fits) == 1


def test_a_contract_leaves_the_callers_random_state() -> None:
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    MethodContract(SoundModule).run_all()
    MethodContract(SeedsGlobalNumpy).run_all()
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002


def test_one_promise_may_be_checked_by_itself() -> None:
    MethodContract(Sound).check("queries_may_be_permuted")
    with pytest.raises(AssertionError, match="Scores of permuted queries"):
        MethodContract(DependsOnTheOrder).check("queries_may_be_permuted")
    with pytest.raises(PluginError, match="NaN"):
        MethodContract(Nan).check("scores_are_well_formed")
    with pytest.raises(NotChecked, match="does not apply: it is transductive"):
        MethodContract(SoundTransductive).check("queries_are_independent")
    with pytest.raises(ConfigError, match="Did you mean `beats_chance`"):
        MethodContract(Sound).check("beat_chance")


def test_a_contract_takes_files_and_names_and_refuses_what_is_no_method(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from dataclasses import dataclass\n"
        "from harness.api import class_means_by_label, distance_scores\n"
        "class Mine:\n"
        "    name, version, uses_backbone, equivariant = 'mine', '1', False, True\n"
        "    @dataclass(frozen=True)\n"
        "    class Config: pass\n"
        "    def __init__(self, config, backbone): pass\n"
        "    def fit_base(self, base, ctx): pass\n"
        "    def adapt(self, s): return class_means_by_label(s.x.flatten(1), s.y, s.n_way)\n"
        "    def predict(self, state, query): return distance_scores(query.flatten(1), state)\n"
    )
    contract = MethodContract(str(file))
    assert contract.name == "mine"
    assert contract.outcome("beats_chance").passed
    with pytest.raises(PluginError, match="has no function `adapt`"):
        MethodContract(Path)
    with pytest.raises(ConfigError, match="Did you mean `protonet`"):
        MethodContract("protone")


def test_the_tiny_sets_share_no_alphabet_and_leave_the_novel_characters_of_the_benchmark_alone() -> None:
    stores = [tiny_store(role) for role in ("base", "validation", "novel")]
    assert [(s.n_classes, len(s), s.shape) for s in stores] == [
        (16, 320, (28, 28, 1)),
        (8, 160, (28, 28, 1)),
        (16, 320, (28, 28, 1)),
    ]
    groups = [set(s.groups) for s in stores]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 5
    novel = benchmarks.load("glyphs-5w1s").benchmark.roles["novel"].classes
    assert not set(novel) & {name for s in stores for name in s.class_names}


def test_promises_are_sentences() -> None:
    for name, sentence in MethodContract.promises():
        assert name.islower()
        assert sentence.endswith(".") or sentence.endswith(".)")
        assert len(sentence) < 120
