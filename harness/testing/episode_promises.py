"""Promises about episodes, from support and queries to scores: docstrings are the promises."""

from __future__ import annotations

import copy
import dataclasses
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.benchmarks.episodes import EpisodeList
from harness.errors import PluginError
from harness.evaluation import counting
from harness.evaluation.scores import check_scores
from harness.method import Batched, Embeds, passes_of
from harness.testing.promise import NotChecked, demand, demand_close, p_of_mean
from harness.testing.workbench import (
    N_QUERY,
    SEED,
    Problem,
    Workbench,
    batch_of,
    batch_scores,
    scores,
    steady,
)
from harness.training.checkpoints import Stateful

# A method beats chance clearly or not at all; a fair one is not to be refused by luck, whichever of many it is.
P_BEATS_CHANCE, P_UNFAIR = 0.01, 0.001
N_EPISODES, N_RENAMED = 60, 200


def scores_are_well_formed(bench: Workbench) -> str:
    """Scores are finite floating-point numbers, one for each query and class."""
    _check_scores(bench, bench.problem())
    return ""


def any_way_and_shot(bench: Workbench) -> str:
    """Episodes may have 2 classes or 10, and 1 support image a class or 3."""
    for way in (2, 10):
        for shot in (1, 3):
            try:
                _check_scores(bench, bench.problem(way, shot))
            except Exception as error:
                text = f"{way}-way {shot}-shot episodes fail: {type(error).__name__}: {error}"
                raise PluginError(text) from error
    return ""


def _check_scores(bench: Workbench, problem: Problem) -> None:
    shape = (len(problem.query), len(problem.support))
    check_scores(scores(bench.fresh(), problem), shape, f"{bench.cls.__name__}.predict")
    if isinstance(bench.fit.method, Batched):
        found = batch_scores(bench.fresh(), [problem, problem])
        check_scores(found, (2, *shape), f"{bench.cls.__name__}.predict_batch")


@torch.no_grad()
def inputs_are_not_changed(bench: Workbench) -> str:
    """No function changes a tensor that it was given."""
    method, problem = bench.fresh(), bench.problem(shot=3)
    support, query = problem.for_adapt(), problem.query.clone()
    images, batch = bench.images(8), batch_of([problem, problem])
    given = {"support": support.x, "support labels": support.y, "query": query, "images": images}
    given |= {"support of predict_batch": batch.support, "query of predict_batch": batch.query}
    before = {name: tensor.clone() for name, tensor in given.items()}
    method.predict(method.adapt(support), query)
    if isinstance(method, Embeds):
        method.embed(images)
    if isinstance(method, Batched):
        method.predict_batch(batch)
    changed = [name for name, tensor in given.items() if not torch.equal(tensor, before[name])]
    demand(not changed, f"Changed in place: {', '.join(changed)}. Work on a copy (x = x.clone()).")
    return ""


def beats_chance(bench: Workbench) -> str:
    """5-way 1-shot accuracy on new characters is above chance, p < 0.01."""
    episodes = bench.episodes(5, 1, N_EPISODES)
    hits = counting.n_correct(bench.predictions(bench.fresh(), episodes), episodes.query_label).astype(float)
    p = p_of_mean(hits, episodes.n_query / episodes.n_way, "greater")
    accuracy = hits.mean() / episodes.n_query
    demand(
        p < P_BEATS_CHANCE,
        f"The accuracy of {N_EPISODES} episodes is {accuracy:.3f}, chance 0.2, p = {p:.2g}.",
    )
    return f"accuracy {accuracy:.2f}, chance 0.20"


@torch.no_grad()
def queries_may_be_permuted(bench: Workbench) -> str:
    """Permuting the queries permutes their scores, transductive or not."""
    method, problem = bench.fresh(), bench.problem(shot=3)
    order = torch.arange(len(problem.query)).flip(0).roll(3)
    with steady():
        state = method.adapt(problem.for_adapt())
        straight = method.predict(state, problem.query.clone())
        permuted = method.predict(state, problem.query[order])
    demand_close(permuted, straight[order], "Scores of permuted queries are not the permuted scores")
    return ""


@torch.no_grad()
def queries_may_be_uneven(bench: Workbench) -> str:
    """Classes may have unequal numbers of queries, or none, and an episode a single one."""
    method, problem = bench.fresh(), bench.problem()
    for n, told in (
        (1, "a single query"),
        (N_QUERY + 2, f"{N_QUERY} queries of one class, 2 of another and no more"),
    ):
        few = dataclasses.replace(problem, query=problem.query[:n])
        try:
            _check_scores(bench, few)
        except Exception as error:
            raise PluginError(f"An episode of {told} fails: {type(error).__name__}: {error}") from error
        if isinstance(method, Batched):
            loop, batch = scores(bench.fresh(), few), batch_scores(bench.fresh(), [few, few])
            demand_close(
                batch, torch.stack([loop, loop]), f"predict_batch and the loop have other scores of {told}"
            )
    return ""


@torch.no_grad()
def queries_are_independent(bench: Workbench) -> str:
    """A query's scores do not depend on the other queries."""
    _demand_inductive(bench)
    method, problem = bench.fresh(), bench.problem(shot=3)
    with steady():
        state = method.adapt(problem.for_adapt())
        together = method.predict(state, problem.query.clone())
        alone = [method.predict(state, query.clone()) for query in problem.query.split(1)]
    sentence = (
        "Queries predicted one at a time and together have other scores (what looks at them together, also by the "
        "statistics of their batch, says `transductive = True`)"
    )
    demand_close(torch.cat(alone), together, sentence)
    return ""


def same_rng_same_scores(bench: Workbench) -> str:
    """The same generator gives the same scores: there is no other source of chance."""
    problem = bench.problem(shot=3)
    sentence = "Two calls with generators in the same state have other scores"
    demand_close(scores(bench.fresh(), problem), scores(bench.fresh(), problem), sentence)
    return ""


@torch.no_grad()
def leaves_global_random_state(bench: Workbench) -> str:
    """Evaluation leaves the global random states of torch, numpy and Python as they were."""
    method, problem = bench.fresh(), bench.problem()
    calls: dict[str, Callable[[], object]] = {
        "adapt or predict": lambda: method.predict(method.adapt(problem.for_adapt()), problem.query.clone())
    }
    if isinstance(method, Embeds):
        calls["embed"] = lambda: method.embed(bench.images(4))
    if isinstance(method, Batched):
        calls["predict_batch"] = lambda: method.predict_batch(batch_of([problem]))
    bench.source.take(np.arange(1))  # the features are there before the states are read
    torch.manual_seed(20_260_731)  # a state that no plugin would set by chance
    for name, call in calls.items():
        before = _random_states()
        call()
        moved = [library for library, state in _random_states().items() if state != before[library]]
        demand(
            not moved, f"{name} used the global random state of {', '.join(moved)}; use the generator given."
        )
    return ""


def _random_states() -> dict[str, object]:
    name, words, *place = np.random.get_state()  # noqa: NPY002 -- to see whether a plugin used it
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": (name, np.asarray(words).tobytes(), *place),
        "Python": random.getstate(),
    }


def classes_may_be_renamed(bench: Workbench) -> str:
    """Renaming the classes renames the columns (where `equivariant`), or at least favours no label."""
    if not bench.traits.equivariant:
        return _favours_no_label(bench)
    problem, order = bench.problem(shot=3), torch.tensor([2, 0, 4, 1, 3])
    renamed = dataclasses.replace(problem, support=problem.support[order])
    sentence = "Columns of renamed classes are not the renamed columns, though the method is `equivariant`"
    demand_close(scores(bench.fresh(), renamed), scores(bench.fresh(), problem)[:, order], sentence)
    return ""


def _favours_no_label(bench: Workbench) -> str:
    """Compare 200 episodes with their renamed selves: hits, and how often each label is predicted."""
    episodes, rng = bench.episodes(5, 1, N_RENAMED, n_query=2), np.random.default_rng(SEED)
    order = rng.permuted(np.tile(np.arange(5), (N_RENAMED, 1)), axis=1)  # (E, W)
    renamed = EpisodeList(
        np.take_along_axis(episodes.classes, order, axis=1),
        *(np.take_along_axis(a, order[:, :, None], axis=1) for a in (episodes.support, episodes.query)),
    )
    given = [bench.predictions(bench.fresh(), e) for e in (episodes, renamed)]
    hits = [counting.n_correct(g, episodes.query_label) for g in given]
    change = (hits[1] - hits[0]).astype(float)
    demand(
        p_of_mean(change, 0.0) > P_UNFAIR,
        f"Renaming the classes of {N_RENAMED} episodes changes the accuracy by {change.mean() / 10:+.3f}.",
    )
    for label in range(5):
        share = (given[1] == label).sum(axis=1).astype(float)  # (E,) of 10 queries, 2 of each class
        demand(
            p_of_mean(share, 2.0) > P_UNFAIR / 5,
            f"Label {label} is predicted for {share.mean() / 10:.1%} of the queries, where 20% have it.",
        )
    return "not equivariant; favours no label"


@torch.no_grad()
def keeps_no_state(bench: Workbench) -> str:
    """An episode in between changes nothing: `adapt` and `predict` leave no trace in the method."""
    method, first, other = bench.fresh(), bench.problem(shot=3), bench.problem(shot=3, index=1)
    saved = copy.deepcopy(method.state_dict()) if isinstance(method, Stateful) else {}
    expected = scores(bench.fresh(), first)
    with steady():
        state = method.adapt(first.for_adapt())
    scores(method, other)
    if isinstance(method, Embeds):
        method.embed(bench.images(4))
    with steady():
        kept = method.predict(state, first.query.clone())
    demand_close(kept, expected, "A state has other scores after another episode")
    demand_close(scores(method, first), expected, "An episode has other scores after another one")
    now = method.state_dict() if isinstance(method, Stateful) else {}
    changed = [name for name, value in now.items() if not _is_same(value, saved[name])]
    demand(not changed, f"Evaluation changed {', '.join(changed)} of the method.")
    return ""


def _is_same(a: Any, b: Any) -> bool:
    return torch.equal(a, b) if isinstance(a, Tensor) else bool(a == b)


def batch_equals_loop(bench: Workbench) -> str:
    """`predict_batch` equals `adapt` and `predict`, episode by episode."""
    if not isinstance(bench.fit.method, Batched):
        raise NotChecked("does not apply: it has no predict_batch")
    for shot in (1, 3):
        problems = [bench.problem(shot=shot, index=i) for i in range(3)]
        loop = torch.stack([scores(bench.fresh(), p) for p in problems])  # (E, n_query, W)
        batch = batch_scores(bench.fresh(), problems)
        demand_close(batch, loop, f"predict_batch and the loop have other scores at {shot} shot")
        differ = int((batch.argmax(-1) != loop.argmax(-1)).sum())
        demand(differ == 0, f"predict_batch and the loop predict {differ} queries differently.")
    return ""


def passes_are_as_stated(bench: Workbench) -> str:
    """An image of an episode passes through the backbone no more often than `passes(config)` states."""
    passes = passes_of(bench.cls, bench.config)
    if not passes:
        raise NotChecked("does not apply: it states no passes(config)")
    method, problem = bench.fresh(), bench.problem()
    seen: list[int] = []
    method.backbone.register_forward_pre_hook(
        lambda _, given: seen.append(len(given[0]))
    )  # copies have it too
    scores(method, problem)
    n_images = problem.support.shape[:2].numel() + len(problem.query)
    each = f"{sum(seen) / n_images:.1f}"
    demand(
        sum(seen) <= passes * n_images,
        f"The images of an episode pass through the backbone {each} times each; passes(config) states {passes}.",
    )
    return f"{each} of {passes} passes an image"


def _demand_inductive(bench: Workbench) -> None:
    if bench.traits.transductive:
        raise NotChecked("does not apply: it is transductive")
