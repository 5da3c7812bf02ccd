"""How long planned runs will take and how much disk they need, judged by earlier runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from harness.runs.spec import RunSpec

_HEADER_BYTES = 20_000  # run.json and log.txt


@dataclass(frozen=True)
class Past:
    """An earlier run.

    Attributes:
        method, backbone, benchmark, setting: names.
        n_episodes: evaluated.
        seconds: by stage: "fit", "embed", "evaluate".
        parameters: of the fitted method.
    """

    method: str
    backbone: str
    benchmark: str
    setting: str
    n_episodes: int
    seconds: Mapping[str, float]
    parameters: int


@dataclass(frozen=True)
class Expectation:
    """What a run is expected to need.

    Attributes:
        seconds: None where no earlier run tells.
        n_bytes: of its run folder (an upper bound) and its checkpoint; the checkpoint counts where an earlier run
            tells its size, the feature table never does.
    """

    seconds: float | None
    n_bytes: int


def expect(groups: Iterable[Sequence[RunSpec]], past: Sequence[Past]) -> dict[str, Expectation]:
    """Judge runs by the earlier ones of the same method, backbone and benchmark.

    Args:
        groups: runs that share a fit; the first of each group is charged with it.
        past: earlier runs.

    Returns:
        Expectation by run id.
    """
    known: dict[tuple[str, str, str], list[Past]] = {}
    for earlier in past:
        known.setdefault((earlier.method, earlier.backbone, earlier.benchmark), []).append(earlier)
    return {
        spec.id: _expect(
            spec, known.get((spec.method.name, spec.backbone, spec.benchmark), []), is_first=i == 0
        )
        for group in groups
        for i, spec in enumerate(group)
    }


def _expect(spec: RunSpec, alike: Sequence[Past], *, is_first: bool) -> Expectation:
    n_bytes = _folder_bytes(spec)
    if not alike:
        return Expectation(None, n_bytes)
    same = [p for p in alike if p.setting == spec.setting] or alike
    per_episode = fmean(p.seconds.get("evaluate", 0.0) / p.n_episodes for p in same)
    seconds = per_episode * spec.n_episodes
    if is_first:
        seconds += fmean(p.seconds.get("fit", 0.0) for p in alike)
        seconds += fmean(p.seconds.get("embed", 0.0) for p in alike)
        n_bytes += 4 * round(fmean(p.parameters for p in alike))
    return Expectation(seconds, n_bytes)


def _folder_bytes(spec: RunSpec) -> int:
    """Predictions (one byte, two beyond 256 ways) and the episode table (int32), before compression."""
    n_query = spec.n_way * spec.n_query
    label = 1 if spec.n_way <= 256 else 2
    per_episode = n_query * label + 4 * (spec.n_way * (1 + spec.shot) + n_query) + 16
    return _HEADER_BYTES + spec.n_episodes * per_episode
