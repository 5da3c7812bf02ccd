"""Balanced pairwise affinities on the features of any fit: BPA (Shalam and Korman, github.com/DanielShalam/BPA).

Every image of an episode is described by its affinities to all others, a doubly stochastic matrix from Sinkhorn's
iterations; what follows works on these rows. ``classifier=map`` is the published evaluation: PT-MAP's preparation, BPA
with regularisation 0.2, centred unit rows, PT-MAP; it takes the authors' form for batches, which stops early, by the rule
of each episode alone. ``classifier=proto`` is the nearest class mean of rows, with the labels of the support written
into them and regularisation 0.1. Features have to be ≥ 0 for the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from harness.api import Head, OnFeatures, check_ranges, class_means, distance_scores, hyper, labelled
from harness.ops.sinkhorn import map_plan, pairwise_affinities, power_transform, unit_and_centred


class Bpa(Head):
    """Images described by their balanced affinities to all others of the episode."""

    @dataclass(frozen=True)
    class Config(OnFeatures):
        """Hyper-parameters; the defaults are the authors'."""

        classifier: Literal["map", "proto"] = hyper(
            "map", "of the rows: PT-MAP, or class means", phase="adapt"
        )
        reg: float | None = hyper(
            None, "entropic regularisation, > 0; none: 0.2 of map, 0.1 of proto", phase="adapt"
        )
        rounds: int = hyper(10, "of Sinkhorn's iterations, ≥ 1", phase="adapt")
        steps: int = hyper(20, "of the centres of map, ≥ 0", phase="adapt")

        def __post_init__(self) -> None:
            """Check ranges."""
            check_ranges(self, {"≥ 0": "steps", "≥ 1": "rounds", "> 0": "reg"})

    name: ClassVar[str] = "bpa"
    version: ClassVar[str] = "1"
    reference: ClassVar[str] = """@misc{shalam2022self,
      title={The Self-Optimal-Transport Feature Transform},
      author={Shalam, Daniel and Korman, Simon},
      year={2022},
      eprint={2204.03065},
      archivePrefix={arXiv},
    }"""
    transductive: ClassVar[bool] = True
    assumes_balance: ClassVar[bool] = True
    equivariant: ClassVar[bool] = True

    def scores(self, support: Tensor, query: Tensor) -> Tensor:
        """The plan, or minus squared distances between rows: (E, Q, W)."""
        c, classes, n = self.config, support.shape[1:3], support.shape[1] * support.shape[2]
        if c.classifier == "proto":
            x, label = labelled(support)
            rows = pairwise_affinities(
                torch.cat([x, query], 1), reg=c.reg or 0.1, rounds=c.rounds, support_label=label
            )
            return distance_scores(rows[:, n:], class_means(rows[:, :n].unflatten(1, classes)))
        x, query = (power_transform(side) for side in (support.flatten(1, 2), query))
        both = torch.cat(unit_and_centred(x, query), 1)  # (E, n + Q, D)
        rows = pairwise_affinities(both, reg=c.reg or 0.2, rounds=c.rounds, stop_below=0.1)
        x, query = unit_and_centred(rows[:, :n], rows[:, n:])
        return map_plan(x.unflatten(1, classes), query, steps=c.steps)
