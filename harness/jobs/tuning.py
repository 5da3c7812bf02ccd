"""Try hyper-parameters on the validation classes; every try is stored, so that the board can say how many there were."""

from __future__ import annotations

import itertools
import logging
import tempfile
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness import benchmarks
from harness.benchmarks import Setting
from harness.errors import ConfigError, FsbenchError, PluginError
from harness.jobs.run import run
from harness.method import registry
from harness.runs import planning
from harness.runs.findings import Trial
from harness.runs.keeper import Keeper
from harness.runs.request import Request
from harness.runs.spec import RunSpec
from harness.system.folders import Places
from harness.system.process import choose_device, keep_freed_memory
from harness.system.progress import Progress
from harness.system.provenance import utc_now
from harness.training.build import Workplace
from harness.training.fits import Required, fitted
from harness.training.train import validator

log = logging.getLogger("fsbench.tuning")
JOINT_METRIC = "top5/novel"  # by which the joint protocol's papers choose
VALIDATION_HALF = "val"  # variant of a joint benchmark whose novel classes are those for tuning


@dataclass(frozen=True)
class Tried:
    """One configuration and its trials.

    Attributes:
        overrides: what the grid says, as typed.
        trials: one per seed.
    """

    overrides: Mapping[str, str]
    trials: tuple[Trial, ...]

    @property
    def accuracy(self) -> float | None:
        """Mean over the seeds, a fraction; None when one of them failed."""
        found = [trial.accuracy for trial in self.trials]
        whole = [accuracy for accuracy in found if accuracy is not None]
        return sum(whole) / len(whole) if len(whole) == len(found) else None


def read_grid(texts: Sequence[str]) -> list[dict[str, str]]:
    """Every combination of what ``--grid`` lists, the last name changing fastest.

    Values are separated by commas, or by semicolons where the values have commas themselves.

    >>> read_grid(["lr=0.1,0.01", "sizes=2,3;4,5"])[1]
    {'lr': '0.1', 'sizes': '4,5'}

    Raises:
        ConfigError: for texts that are not key=value,value, and for a name given twice.
    """
    choices: dict[str, list[str]] = {}
    for text in texts:
        key, is_there, listed = text.partition("=")
        values = [part.strip() for part in listed.split(";" if ";" in listed else ",")]
        if not is_there or not all(values):
            raise ConfigError(f"--grid {text}: expected key=value,value, like --grid lr=0.1,0.01.")
        if key.strip() in choices:
            raise ConfigError(f"--grid {text}: {key.strip()} is there already; list all its values at once.")
        choices[key.strip()] = list(dict.fromkeys(values))
    return [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]


def plan(method: str, bench: str, grid: Sequence[Mapping[str, str]], seeds: Sequence[int],
         request: Request, data: Path) -> list[list[RunSpec]]:  # fmt: skip
    """Resolve every configuration before anything is trained.

    Returns:
        For each entry of the grid, one spec per seed.

    Raises:
        ConfigError: for a hyper-parameter or value that the method does not have, or a setting without validation classes.
    """
    name, features = registry.pair_of(method)
    loaded, setting, images = registry.load(name), benchmarks.load(bench), planning.Images(data)
    request = planning.on_features(loaded, features, request)
    _refuse_untunable(setting)
    specs = []
    for overrides in grid:
        chosen = replace(request, overrides={**request.overrides, **overrides})
        template = planning.make_spec(loaded, setting, chosen, images)
        specs.append([planning.with_seed(template, seed) for seed in seeds])
    return specs


def tune(store: Keeper, places: Places, specs: Sequence[Sequence[RunSpec]], grid: Sequence[Mapping[str, str]], device: str,
         progress: Progress) -> Iterator[Tried]:  # fmt: skip
    """Train every configuration, score it on the validation classes, and store each trial as it ends.

    What was tried before, and did not fail, is not tried again; trainings are shared with runs by their fit key.

    Yields:
        What became of each entry of the grid, in its order.
    """
    keep_freed_memory()
    at = Workplace(places, choose_device(device), progress)
    for method in planning.methods_of(spec for same in specs for spec in same):
        registry.vouch(method, places.cache)
    known = {trial.spec.id: trial for trial in store.trials() if trial.n_query}
    for overrides, same in zip(grid, specs, strict=True):
        trials = []
        for spec in same:
            if spec.id not in known:
                known[spec.id] = trial(spec, at)
                store.add_trial(known[spec.id])
            trials.append(known[spec.id])
        yield Tried(overrides, tuple(trials))


def trial(spec: RunSpec, at: Workplace) -> Trial:
    """Train and score on validation classes; a method's own failure becomes a failed trial, what a user can mend is raised."""
    score = _joint if benchmarks.named(spec.benchmark).joint else _episodic
    try:
        n_correct, n_query, seconds = score(spec, at)
    except PluginError as error:
        return _failed(spec, str(error))
    except FsbenchError:
        raise
    except Exception:  # noqa: BLE001 -- a plugin may raise anything
        return _failed(spec, traceback.format_exc())
    return Trial(spec, n_correct, n_query, round(seconds), "", utc_now())


def _episodic(spec: RunSpec, at: Workplace) -> tuple[int, int, float]:
    """Correct predictions and queries of the validation episodes, and seconds of the training; novel images stay closed."""
    with benchmarks.novel_closed():
        method, record = fitted(spec.fit, at, spec.config)
        validate = validator(spec, "validation", at, Required(spec, at))
        n_correct, n_query = validate.counts(method, spec.n_way, spec.shot)
    return int(n_correct.sum()), len(n_correct) * n_query, record["seconds"]


def _joint(spec: RunSpec, at: Workplace) -> tuple[int, int, float]:
    """The same of the experiments of a validation half."""
    with tempfile.TemporaryDirectory() as scratch:
        result = run(spec, replace(at, places=replace(at.places, home=Path(scratch))))
    assert result is not None, "a whole run has a result"
    if result.status == "failed":
        raise PluginError(result.traceback)
    counts = result.counts[JOINT_METRIC]
    return int(counts.n_correct.sum()), int(counts.n_query.sum()), result.provenance["seconds"]["fit"]


def _failed(spec: RunSpec, text: str) -> Trial:
    log.error("%s", text)
    return Trial(spec, 0, 0, 0, text, utc_now())


def best(tried: Sequence[Tried]) -> Tried | None:
    """The highest accuracy, the earliest of equals; None when everything failed."""
    whole = [entry for entry in tried if entry.accuracy is not None]
    return max(whole, key=lambda entry: entry.accuracy or 0.0, default=None)


def _refuse_untunable(setting: Setting) -> None:
    benchmark = setting.benchmark
    if benchmark.joint and benchmark.variant != VALIDATION_HALF:
        raise ConfigError(
            f"{setting.name} is what results are reported on; tune on {benchmark.name}-{VALIDATION_HALF}-n{setting.shot}."
        )
    if not benchmark.joint and "validation" not in benchmark.roles:
        raise ConfigError(
            f"{benchmark.key} has no validation images, so nothing can be tuned on it: its novel images are for results."
        )
