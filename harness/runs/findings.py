"""What is known of runs beside their counts: rechecks, trials of hyper-parameters, hardness of episodes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from harness.runs.result import FIT_SHA256
from harness.runs.spec import RunSpec

SAME, UP_TO_HARDWARE, DIFFERENT = "same counts", "same up to hardware", "different"
NUMERICS = ("device", "cpu", "instructions", "threads", "torch", "libraries")  # of a provenance
ENOUGH = 10_000  # predictions, of which one may be another


class Recheck(NamedTuple):
    """What became of counting a sample of episodes again from the checkpoint.

    Attributes:
        checked: when, UTC.
        device: what counted, such as "cpu".
        seed: of the sample.
        n_episodes, n_differing: how many were counted, and how many of those gave other counts.
        n_predictions, n_other: predictions that were compared with the stored ones, and how many were other ones; 0 where
            the run kept none, and in rechecks of earlier versions.
    """

    checked: str
    device: str
    seed: int
    n_episodes: int
    n_differing: int
    n_predictions: int = 0
    n_other: int = 0

    @property
    def word(self) -> str:
        """Whether it gave the same counts, the same up to hardware, or different ones.

        Sums that are rounded otherwise, on another processor or by another number of threads, turn over a query whose two
        best scores nearly tie: of the predictions of one fit 1 in 10,000 may be another. More is another fit.
        """
        if not self.n_differing:
            return SAME
        is_rare = self.n_predictions > 0 and self.n_other * ENOUGH <= max(self.n_predictions, ENOUGH)
        return UP_TO_HARDWARE if is_rare else DIFFERENT

    @property
    def sentence(self) -> str:
        """The word with the numbers behind it."""
        told = f"{self.word}: {self.n_differing} of {self.n_episodes} episodes differed"
        return f"{told}, {self.n_other} of {self.n_predictions:,} predictions" if self.n_other else told


@dataclass(frozen=True)
class StoredRun:
    """One run of the database without its counts.

    Attributes:
        pk: key of this database, for ``counts``, ``predictions`` and ``accuracy_matrix``.
        id: 12 hex digits of the spec.
        replicate: digest of the counts; ``replicates`` lists those of all results of this id, this one included.
        status: "done" or "failed" with ``traceback``.
        spec, provenance, curves: as the run wrote them; of the provenance all but the thumbnails.
        metrics: names, sorted; empty when failed.
        created: UTC time at which a database first saw it.
        self_reported: whether it is known from an import or a score alone.
        rechecks: what became of counting some of it again, the newest last.
        pictures: sha256 over the thumbnails that it has; empty without any.
    """

    pk: int
    id: str
    replicate: str
    replicates: tuple[str, ...]
    status: Literal["done", "failed"]
    spec: RunSpec
    provenance: Mapping[str, Any]
    curves: tuple[Mapping[str, float], ...]
    traceback: str
    metrics: tuple[str, ...]
    created: str
    self_reported: bool = False
    rechecks: tuple[Recheck, ...] = ()
    pictures: str = ""

    @property
    def trained_on(self) -> Mapping[str, Any]:
        """Of the hardware and libraries behind its weights what decides how sums are rounded, as far as it was recorded."""
        told = self.provenance.get("training") or self.provenance
        return {name: told[name] for name in NUMERICS if told.get(name)}

    @property
    def training(self) -> str:
        """Name of the training behind it: the key of the fit, and which weights that gave.

        One key gives other weights on other hardware. Where they are not recorded, what they were trained on stands for
        them: two runs of one key that may be of two trainings are taken for two, which claims less.
        """
        is_told = bool(self.provenance.get("training"))
        which = self.provenance.get(FIT_SHA256) or json.dumps(dict(self.trained_on), sort_keys=True) * is_told
        return f"{self.spec.training_key} {which}".strip()

    @property
    def trust(self) -> str:
        """The badge for who saw it made: "self-reported", "spot-checked", "disputed" or none."""
        if self.rechecks:
            return "disputed" if self.rechecks[-1].word == DIFFERENT else "spot-checked"
        return "self-reported" if self.self_reported else ""

    @property
    def badges(self) -> tuple[str, ...]:
        """Those it was stored with and that of its trust, sorted."""
        return tuple(sorted({*self.provenance.get("badges", []), self.trust} - {""}))


@dataclass(frozen=True)
class Hardness:
    """Hardness of the first episodes of a list (Dhillon et al. 2020, eq. 9).

    Attributes:
        episode_digest, novel_digest: of the full list and of the images behind it.
        extractor: whose features it is measured with: run, method, version, backbone, fit, seed, …; JSON types.
        omega: (n,) nats, higher is harder.
    """

    episode_digest: str
    novel_digest: str
    extractor: Mapping[str, Any]
    omega: npt.NDArray[np.float64]

    @property
    def name(self) -> str:
        """The extractor in a few words."""
        told = self.extractor
        return (
            f"{told['method']} {told['version']}, {told['backbone']}, seed {told['seed']}, run {told['run']}"
        )


class Family(NamedTuple):
    """What is tuned together."""

    method: str
    benchmark: str
    backbone: str
    recipe: str


@dataclass(frozen=True)
class Trial:
    """One configuration tried.

    Attributes:
        spec: of the run that the configuration would make.
        n_correct, n_query: of the validation episodes together; both 0 when it failed.
        seconds: of its training.
        traceback: text of the failure, else empty.
        finished: when, UTC.
    """

    spec: RunSpec
    n_correct: int
    n_query: int
    seconds: int
    traceback: str
    finished: str

    @property
    def accuracy(self) -> float | None:
        """Mean accuracy in [0, 1] on the validation episodes; None when it failed."""
        return self.n_correct / self.n_query if self.n_query else None


def family_of(spec: RunSpec) -> Family:
    """The family of a run."""
    return Family(spec.method.name, spec.benchmark, spec.backbone, spec.recipe)


def config_text(spec: RunSpec) -> str:
    """Hyper-parameters as JSON; equal texts are equal configurations."""
    return json.dumps(spec.values(), sort_keys=True)
