"""The selection of papers that chose a checkpoint by novel classes; a run that asks for it has a badge."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import torch

from harness.errors import PluginError
from harness.training.checkpoints import kept_state, load_tensors
from harness.training.validation import Validator


def select(method: Any, folder: Path, novel: Validator, way: int, shot: int) -> dict[str, Any]:
    """Score every state that a training kept, after it has ended, and load the best, the earliest of equals.

    Args:
        method: trained; is given the weights of the best state.
        folder: of the fit.
        novel: scores on a fixed list over the novel classes.
        way, shot: of that list.

    Returns:
        The record of the selection: ``novel_accuracy`` and ``of_states``.

    Raises:
        PluginError: when the method never called ``ctx.keep_best``.
    """
    device = next((p.device for p in method.parameters()), torch.device("cpu"))
    paths = itertools.takewhile(Path.exists, (kept_state(folder, i) for i in itertools.count()))
    states = [load_tensors(path, device)["state"] for path in paths]
    if not states:
        raise PluginError(
            f"{type(method).__name__} keeps no states (it never calls ctx.keep_best), so none can be selected."
        )
    method.eval()
    scores = []
    for state in states:
        method.load_state_dict(state)
        scores.append(novel(method, way, shot))
    best = scores.index(max(scores))
    method.load_state_dict(states[best])
    return {"novel_accuracy": scores[best], "of_states": len(scores)}
