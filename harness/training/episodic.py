"""The loop of a training on episodes: steps of one or more of them, a validation after each epoch, curves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from harness.ops.prototypes import EpisodeLoss
from harness.training.base_set import BaseSet, TrainingEpisode
from harness.training.fit_context import FitContext


def train_on_episodes(
    method: Any,
    base: BaseSet,
    ctx: FitContext,
    optimiser: torch.optim.Optimizer,
    loss: Callable[[TrainingEpisode], EpisodeLoss],
    *,
    schedule: torch.optim.lr_scheduler.LRScheduler | None = None,
    augment: bool = False,
    longest: float | None = None,
) -> None:
    """Train a method whose ``Config`` inherits ``OnEpisodes``, for its ``fit_base``.

    Args:
        method: what is trained, saved and validated.
        base, ctx: as ``fit_base`` is given them.
        optimiser: stepped along the mean loss of the episodes of a step.
        loss: of one episode.
        schedule: stepped after each epoch.
        augment: as in ``base.episodes``.
        longest: as in ``ctx.step``.
    """
    c, parts = method.config, dict[str, Any]({} if schedule is None else {"schedule": schedule})
    n_episodes = c.steps_per_epoch * c.episodes_per_step
    for epoch in ctx.epochs(c.epochs, model=method, optimiser=optimiser, **parts):
        seen = []
        episodes = base.episodes(n_episodes, c.train_way, c.train_shot, c.train_query, augment=augment)
        for number, episode in enumerate(episodes, start=1):
            found = loss(episode)
            ctx.backward(found.loss / c.episodes_per_step)
            if number % c.episodes_per_step == 0:
                ctx.step(optimiser, longest=longest)
            hits = (found.scores.argmax(-1) == found.target).to(found.loss).mean()
            seen.append(torch.stack([found.loss.detach(), hits]))  # read once an epoch: no wait in a step
        if schedule is not None:
            schedule.step()
        points = dict(zip(("loss", "train_accuracy"), torch.stack(seen).mean(0).tolist(), strict=True))
        validation = ctx.keep_best(method, way=5, shot=c.validation_shot)
        points |= {} if validation is None else {"validation_accuracy": validation}
        ctx.log((epoch + 1) * c.steps_per_epoch, **points)
