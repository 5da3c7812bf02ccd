"""Methods made for the contract: a few that keep every promise, and for each promise some that break it alone."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from harness import benchmarks
from harness.api import (
    BaseSet,
    EpisodeBatch,
    FitContext,
    Support,
    class_means,
    class_means_by_label,
    distance_scores,
    hyper,
    streamed_means,
)


class Sound:
    """Nearest class mean on pixels, without anything optional."""

    @dataclass(frozen=True)
    class Config:
        pass

    name: ClassVar[str] = "sound"
    version: ClassVar[str] = "1"
    uses_backbone: ClassVar[bool] = False
    equivariant: ClassVar[bool] = True

    def __init__(self, config: Any, backbone: nn.Module) -> None:
        pass

    def fit_base(self, base: BaseSet, ctx: FitContext) -> None:
        pass

    def adapt(self, support: Support) -> Any:
        return class_means_by_label(support.x.flatten(1), support.y, support.n_way)

    def predict(self, state: Any, query: Tensor) -> Tensor:
        return distance_scores(query.flatten(1), state)


class SoundModule(nn.Module):
    """A module with weights, features and the fast path."""

    @dataclass(frozen=True)
    class Config:
        features: int = hyper(32, "length of a feature, ≥ 1")
        sides: tuple[int, ...] = hyper((1, 2), "not used")

    name: ClassVar[str] = "sound-module"
    version: ClassVar[str] = "1"
    uses_backbone: ClassVar[bool] = False
    equivariant: ClassVar[bool] = True
    DEFAULTS: ClassVar[dict[str, dict[str, Any]]] = {"glyphs": {"features": 8}, "conv4/glyphs-5w1s": {}}
    RECIPES: ClassVar[dict[str, dict[str, Any]]] = {"as-published": {"omniglot-5w1s": {"features": 16}}}
    CONTRACT: ClassVar[dict[str, Any]] = {"features": 64}

    def __init__(self, config: Config, backbone: nn.Module) -> None:
        super().__init__()
        self.config = config
        self.project = nn.LazyLinear(config.features)
        self.project(torch.zeros(1, 784))

    def fit_base(self, base: BaseSet, ctx: FitContext) -> None:
        with torch.no_grad():
            self.project.weight.normal_(generator=ctx.rng)

    def embed(self, images: Tensor) -> Tensor:
        return nn.functional.linear(images.flatten(1), self.project.weight[:, : images[0].numel()])

    def adapt(self, support: Support) -> Any:
        return support.by_class().mean(1)

    def predict(self, state: Any, query: Tensor) -> Tensor:
        return distance_scores(query, state)

    def predict_batch(self, batch: EpisodeBatch) -> Tensor:
        return distance_scores(batch.query, class_means(batch.support))


class SoundWithChance(Sound):
    """A random head: not equivariant, but its randomness comes from the episode's generator."""

    equivariant = False

    def adapt(self, support: Support) -> Any:
        means = super().adapt(support)
        return means + 0.05 * torch.randn(means.shape, generator=support.rng)


class SoundUntrained(Sound):
    untrained: ClassVar[bool] = True


class SoundTransductive(Sound):
    transductive: ClassVar[bool] = True

    def predict(self, state: Any, query: Tensor) -> Tensor:
        query = query.flatten(1)
        return distance_scores(query - query.mean(0), state - state.mean(0))


class SoundFineTuned(nn.Module):
    """Trains a copy of its network on the support, in training mode with noise, and takes class means of it."""

    @dataclass(frozen=True)
    class Config:
        steps: int = hyper(2, "of gradient descent, ≥ 1", phase="adapt")

    name: ClassVar[str] = "sound-fine-tuned"
    version: ClassVar[str] = "1"
    takes: ClassVar[str] = "images"

    def __init__(self, config: Config, backbone: nn.Module) -> None:
        super().__init__()
        self.config, self.backbone = config, backbone

    @staticmethod
    def passes(config: Config) -> int:
        return config.steps + 1

    def fit_base(self, base: BaseSet, ctx: FitContext) -> None:
        pass

    def adapt(self, support: Support) -> Any:
        with support.trainable(self.backbone, training=True) as copy:
            optimiser = torch.optim.SGD(copy.parameters(), lr=1e-3)
            for _ in range(self.config.steps):
                x = nn.functional.dropout(copy(support.x).flatten(1), 0.1)
                means = class_means_by_label(x, support.y, support.n_way)
                optimiser.zero_grad()
                nn.functional.cross_entropy(distance_scores(x, means), support.y).backward()
                optimiser.step()
        return copy, class_means_by_label(copy(support.x).flatten(1), support.y, support.n_way)

    def predict(self, state: Any, query: Tensor) -> Tensor:
        copy, means = state
        return distance_scores(copy(query).flatten(1), means)


SOUND = (Sound, SoundModule, SoundWithChance, SoundTransductive, SoundUntrained, SoundFineTuned)


class UnknownHyperParameter(Sound):
    DEFAULTS: ClassVar[dict[str, Any]] = {"omniglot": {"epochs": 3}}


class UnknownBenchmark(Sound):
    DEFAULTS: ClassVar[dict[str, Any]] = {"conv4/omnigolt-5w1s": {}}


class UnknownBackboneOfARecipe(Sound):
    uses_backbone = True
    RECIPES: ClassVar[dict[str, Any]] = {"as-published": {"conv5/omniglot": {}}}


class RefusesItsOwnDefaults(SoundModule):
    DEFAULTS: ClassVar[dict[str, Any]] = {"omniglot": {"features": -1}}


class DoesNotSurviveJson(Sound):
    @dataclass(frozen=True)
    class Config:
        sides: tuple[int, ...] = hyper((1,), "a tuple")

    DEFAULTS: ClassVar[dict[str, Any]] = {"omniglot": {"sides": [1, 2]}}


class NoDescription(Sound):
    @dataclass(frozen=True)
    class Config:
        margin: float = 0.5


class CannotBeSet(Sound):
    @dataclass(frozen=True)
    class Config:
        sides: frozenset[int] = hyper(frozenset({1}), "cannot be written on the command line")


class OpensNovel(Sound):
    def fit_base(self, base: BaseSet, ctx: FitContext) -> None:
        benchmarks.load("glyphs-5w1s").benchmark.open("novel", Path("nowhere"))


class FailsToFit(Sound):
    def fit_base(self, base: BaseSet, ctx: FitContext) -> None:
        raise ZeroDivisionError("no base class")


class CannotBeCopied(Sound):
    def fit_base(self, base: BaseSet, ctx: FitContext) -> None:
        self.lock = threading.Lock()


class FeaturesOfNan(SoundModule):
    def embed(self, images: Tensor) -> Tensor:
        return super().embed(images) / 0


class OneFeatureTooFew(SoundModule):
    def embed(self, images: Tensor) -> Tensor:
        return super().embed(images)[1:]


class Nan(Sound):
    def predict(self, state: Any, query: Tensor) -> Tensor:
        return super().predict(state, query).sqrt()  # of negative numbers


class OneColumnTooMany(Sound):
    def predict(self, state: Any, query: Tensor) -> Tensor:
        return nn.functional.pad(super().predict(state, query), (0, 1))


class Labels(Sound):
    def predict(self, state: Any, query: Tensor) -> Tensor:
        return nn.functional.one_hot(super().predict(state, query).argmax(1), len(state))


class Arrays(Sound):
    def predict(self, state: Any, query: Tensor) -> Any:
        return super().predict(state, query).numpy()


class NanInTheBatch(SoundModule):
    def predict_batch(self, batch: EpisodeBatch) -> Tensor:
        return super().predict_batch(batch) / 0


class FiveWayOnly(Sound):
    def adapt(self, support: Support) -> Any:
        return support.x.flatten(1).unflatten(0, (5, -1)).mean(1)


class OneOrThreeShotsOfFive(SoundModule):
    def predict_batch(self, batch: EpisodeBatch) -> Tensor:
        return super().predict_batch(batch)[..., :5]


class ChangesSupport(Sound):
    def adapt(self, support: Support) -> Any:
        support.x.mul_(0.9)
        return super().adapt(support)


class ChangesLabels(Sound):
    def adapt(self, support: Support) -> Any:
        means = super().adapt(support)
        support.y.zero_()
        return means


class ChangesQuery(Sound):
    def predict(self, state: Any, query: Tensor) -> Tensor:
        return super().predict(state, query.mul_(0.9))


class ChangesImages(SoundModule):
    def embed(self, images: Tensor) -> Tensor:
        return super().embed(images.mul_(0.9))


class ChangesBatch(SoundModule):
    def predict_batch(self, batch: EpisodeBatch) -> Tensor:
        found = super().predict_batch(batch)
        batch.support.zero_()
        return found


class Blind(Sound):
    def predict(self, state: Any, query: Tensor) -> Tensor:
        return query.new_zeros(len(query), len(state))


class SaysItIsUntrained(SoundModule):
    untrained: ClassVar[bool] = True


class Guesses(Sound):
    equivariant = False

    def adapt(self, support: Support) -> Any:
        return torch.rand(support.n_way, 784, generator=support.rng)


class DependsOnTheOrder(Sound):
    def predict(self, state: Any, query: Tensor) -> Tensor:
        return super().predict(state, query) * (1 + torch.arange(len(query))[:, None] / len(query))


class ExpectsAsManyOfEachClass(SoundTransductive):
    def predict(self, state: Any, query: Tensor) -> Tensor:
        return super().predict(state, query.unflatten(0, (len(state), -1)).flatten(0, 1))


class NormalisesByTheBatch(Sound):
    def predict(self, state: Any, query: Tensor) -> Tensor:
        query = nn.functional.batch_norm(query, None, None, training=True)
        return distance_scores(query.flatten(1), state)


class CentresQueries(Sound):
    def predict(self, state: Any, query: Tensor) -> Tensor:
        return super().predict(state, query - query.mean(0))


class CentresImages(SoundModule):
    def embed(self, images: Tensor) -> Tensor:
        return super().embed(images - images.mean(0))


class OwnEntropy(Sound):
    equivariant = False

    def adapt(self, support: Support) -> Any:
        means = super().adapt(support)
        return means + torch.from_numpy(np.random.default_rng().normal(0, 0.1, means.shape)).float()


class GlobalTorch(Sound):
    def adapt(self, support: Support) -> Any:
        torch.rand(1)
        return super().adapt(support)


class SeedsGlobalNumpy(Sound):
    def predict(self, state: Any, query: Tensor) -> Tensor:
        np.random.seed(0)  # noqa: NPY002 -- the mistake under test
        return super().predict(state, query)


class GlobalPythonInTheBatch(SoundModule):
    def predict_batch(self, batch: EpisodeBatch) -> Tensor:
        random.random()
        return super().predict_batch(batch)


class GlobalTorchInEmbed(SoundModule):
    def embed(self, images: Tensor) -> Tensor:
        torch.randperm(3)
        return super().embed(images)


class DependsOnLabels(Sound):
    def predict(self, state: Any, query: Tensor) -> Tensor:
        return super().predict(state, query) + torch.arange(len(state))


class FavoursTheFirstLabel(Sound):
    equivariant = False

    def predict(self, state: Any, query: Tensor) -> Tensor:
        return super().predict(state, query) + 10 * (torch.arange(len(state)) == 0)


class CountsEpisodes(Sound):
    n_seen = 0

    def adapt(self, support: Support) -> Any:
        self.n_seen += 1
        return super().adapt(support)

    def predict(self, state: Any, query: Tensor) -> Tensor:
        return super().predict(state, query) * self.n_seen


class KeepsItsStateInItself(Sound):
    def adapt(self, support: Support) -> Any:
        self.means = super().adapt(support)

    def predict(self, state: Any, query: Tensor) -> Tensor:
        return super().predict(self.means, query)


class MovesItsWeights(SoundModule):
    def adapt(self, support: Support) -> Any:
        self.project.bias.add_(1.0)  # of no effect, but in the checkpoint
        return super().adapt(support)


class BatchOfFirstShots(SoundModule):
    def predict_batch(self, batch: EpisodeBatch) -> Tensor:
        return distance_scores(batch.query, batch.support[:, :, 0])


class PassesMoreOften(SoundFineTuned):
    @staticmethod
    def passes(config: Any) -> int:
        return 1


class ForgetsAnAttribute(SoundModule):
    def fit_base(self, base: BaseSet, ctx: FitContext) -> None:
        super().fit_base(base, ctx)
        self.scale = 0.5

    def embed(self, images: Tensor) -> Tensor:
        return super().embed(images) * getattr(self, "scale", 1.0)


class FitsByItsOwnChance(Sound):
    def fit_base(self, base: BaseSet, ctx: FitContext) -> None:
        self.weight = torch.from_numpy(np.random.default_rng().uniform(0.5, 1.5, 784)).float()

    def adapt(self, support: Support) -> Any:
        return super().adapt(support) * self.weight

    def predict(self, state: Any, query: Tensor) -> Tensor:
        return super().predict(state, query.flatten(1) * self.weight)


class SavesMoreThanTensors(SoundModule):
    def get_extra_state(self) -> Any:
        return threading.Thread

    def set_extra_state(self, state: Any) -> None:
        pass


class ForgetsBaseClasses(Sound):
    protocols: ClassVar[set[str]] = {
        "episodic",
        "joint",
    }  # but base images are in support.base, not in support.x


class GuessesJointly(Sound):
    protocols: ClassVar[set[str]] = {"episodic", "joint"}

    def adapt(self, support: Support) -> Any:
        return None if support.n_base else super().adapt(support)

    def predict(self, state: Any, query: Tensor) -> Tensor:
        return torch.ones(len(query), 32) if state is None else super().predict(state, query)


class AdaptsToTheFirstAlone(Sound):
    protocols: ClassVar[set[str]] = {"episodic", "joint"}

    def adapt(self, support: Support) -> Any:
        return streamed_means(((x.flatten(1), y) for x, y in support.batches()), support.n_way)

    def adapt_many(self, supports: Sequence[Support]) -> list[Any]:
        return [self.adapt(supports[0])] * len(supports)

    def predict(self, state: Any, query: Tensor) -> Tensor:
        return state.unknown_last(distance_scores(query.flatten(1), state.means))


class GuessesClosed(Sound):
    protocols: ClassVar[set[str]] = {"episodic", "closed"}

    def adapt(self, support: Support) -> Any:
        return support.n_way if support.is_closed else super().adapt(support)

    def predict(self, state: Any, query: Tensor) -> Tensor:
        return torch.ones(len(query), state) if isinstance(state, int) else super().predict(state, query)


class CentresClosedImages(GuessesClosed):
    def adapt(self, support: Support) -> Any:
        if not support.is_closed:
            return super().adapt(support)
        x, y = support.gathered()
        return [x[y == c].flatten(1).mean(0) for c in range(support.n_way)]

    def predict(self, state: Any, query: Tensor) -> Tensor:
        if not isinstance(state, list):
            return super().predict(state, query)
        x, means = query.flatten(1), torch.stack(state)
        return -torch.cdist(x - x.mean(0) + means.mean(0), means)


# Promise → methods that break it and nothing else, with what must be said of each.
BAD = {
    "builds_from_every_entry": [
        (UnknownHyperParameter, "`epochs`, which Config does not declare"),
        (UnknownBenchmark, "`omnigolt-5w1s` is not a setting. Did you mean `omniglot-5w1s`"),
        (UnknownBackboneOfARecipe, "`conv5` is not a backbone. Did you mean `conv4`"),
        (RefusesItsOwnDefaults, "RuntimeError"),
        (DoesNotSurviveJson, "does not survive JSON"),
    ],
    "config_is_documented": [
        (NoDescription, "`margin` is not declared as hyper"),
        (CannotBeSet, "--set sides=frozenset"),
    ],
    "keeps_novel_closed": [(OpensNovel, "Novel images are not open")],
    "fits_in_seconds": [
        (
            FailsToFit,
            r"ZeroDivisionError: no base class \(.*made_methods.py, line \d+, in fit_base\)",
        ),
        (CannotBeCopied, "cannot be copied"),
    ],
    "features_are_well_formed": [
        (FeaturesOfNan, "NaN"),
        (OneFeatureTooFew, r"given 80 images and returned \(79"),
    ],
    "scores_are_well_formed": [
        (Nan, "125 scores that are NaN"),
        (OneColumnTooMany, r"shape \(25, 6\); expected \(25, 5\)"),
        (Labels, "int64 scores"),
        (Arrays, "returned ndarray"),
        (NanInTheBatch, "predict_batch returned .* NaN"),
    ],
    "any_way_and_shot": [
        (FiveWayOnly, "2-way 1-shot episodes fail"),
        (OneOrThreeShotsOfFive, r"10-way 1-shot episodes fail: .*\(2, 50, 5\)"),
    ],
    "inputs_are_not_changed": [
        (ChangesSupport, "in place: support.$|in place: support. "),
        (ChangesLabels, "support labels"),
        (ChangesQuery, "query"),
        (ChangesImages, "images"),
        (ChangesBatch, "support of predict_batch"),
    ],
    "beats_chance": [(Blind, "is 0.200, chance 0.2, p = 1"), (Guesses, "accuracy of 60 episodes")],
    "queries_may_be_permuted": [(DependsOnTheOrder, "differ by up to")],
    "queries_may_be_uneven": [(ExpectsAsManyOfEachClass, "An episode of a single query fails")],
    "queries_are_independent": [
        (CentresQueries, "one at a time"),
        (NormalisesByTheBatch, "statistics of their batch, says `transductive = True`"),
    ],
    "embed_is_independent": [(CentresImages, "one at a time")],
    "same_rng_same_scores": [(OwnEntropy, "Two calls")],
    "leaves_global_random_state": [
        (GlobalTorch, "adapt or predict used the global random state of torch;"),
        (SeedsGlobalNumpy, "state of numpy;"),
        (GlobalPythonInTheBatch, "predict_batch used the global random state of Python;"),
        (GlobalTorchInEmbed, "embed used"),
    ],
    "classes_may_be_renamed": [
        (DependsOnLabels, "Columns of renamed classes"),
        (FavoursTheFirstLabel, "Label 0 is predicted for .*, where 20% have it"),
    ],
    "keeps_no_state": [
        (CountsEpisodes, "A state has other scores"),
        (KeepsItsStateInItself, "A state has other scores"),
        (MovesItsWeights, "Evaluation changed project.bias"),
    ],
    "batch_equals_loop": [(BatchOfFirstShots, "at 3 shot")],
    "passes_are_as_stated": [(PassesMoreOften, r"1\.\d times each; passes\(config\) states 1")],
    "survives_a_checkpoint": [
        (ForgetsAnAttribute, "Features are other ones"),
        (FitsByItsOwnChance, "Scores are other ones"),
        (SavesMoreThanTensors, "The weights cannot be saved and loaded"),
    ],
    "untrained_means_it": [(SaysItIsUntrained, "Another seed gives other features")],
    "experiments_are_scored": [
        (ForgetsBaseClasses, "classes without support"),
        (GuessesJointly, r"The accuracy on 16 base and novel classes is 0\.\d+, chance 0.031"),
    ],
    "experiments_together_equal_alone": [(AdaptsToTheFirstAlone, "adapt_many and adapt have other scores")],
    "closed_classes_are_named": [(GuessesClosed, r"The accuracy on 16 classes trained on is 0\.062, chance")],
    "closed_images_are_independent": [(CentresClosedImages, "Scores of images asked alone differ by")],
}
