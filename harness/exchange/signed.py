"""A signature out of a paper, compared with what is here: setting, list, images, method, and each of its runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from harness import benchmarks
from harness.errors import FsbenchError
from harness.exchange.publishing import signature_file
from harness.report.board.rows import by_row, headline_metric
from harness.runs.request import Request, command
from harness.runs.signature import NOBODY_SAID, Signature, of_specs

if TYPE_CHECKING:
    from harness.runs import RunSpec
    from harness.runs.findings import StoredRun
    from harness.store import Store
    from harness.system.folders import Places


class Part(NamedTuple):
    """Something that a signature names: what, whether it is here (None: it cannot be told), and a word on it."""

    what: str
    is_here: bool | None
    detail: str


class Signed(NamedTuple):
    """What of a signature is here.

    Attributes:
        signature: as it was read.
        parts: setting, list, images, method, configuration.
        runs: a run for each of its seeds; None where it is not here.
        accuracy: the number that the signature stands beside, a fraction; None unless all its runs are here.
        command: what makes the runs that are not here; empty where none is missing or it cannot be told.
    """

    signature: Signature
    parts: tuple[Part, ...]
    runs: dict[int, StoredRun | None]
    accuracy: float | None
    command: str

    @property
    def missing(self) -> list[int]:
        """Seeds whose run is not here."""
        return [seed for seed, run in self.runs.items() if run is None]


def look(signature: Signature, store: Store | None, places: Places) -> Signed:
    """Compare a signature with the database, the benchmarks, the images and the methods that are here.

    Args:
        signature: as read.
        store: the database; None where there is none yet.
        places: where images are.
    """
    stored = store.stored_runs(setting=signature.setting, status="done") if store else []
    row = by_row([run for run in stored if signature.fits(run.spec)])
    by_seed = {run.spec.seed: run for group in row.values() for run in group}
    runs = {seed: by_seed.get(seed) for seed in signature.seeds}
    found = [run for run in runs.values() if run]
    accuracy = None
    if store and len(found) == len(runs):
        _, matrix = store.accuracy_matrix([run.pk for run in found], headline_metric(found[0]))
        accuracy = float(matrix[:, : signature.n_episodes].mean())
    missing = [seed for seed, run in runs.items() if run is None]
    alike = next((run.spec for run in (*found, *stored) if _is_row(signature, run.spec)), None)
    alike = alike or (_planned(signature, places) if missing else None)
    parts = (
        *_setting_parts(signature, stored, places),
        _method_part(signature),
        _config_part(signature, alike, stored),
    )
    command = _command(signature, alike, missing) if alike and missing else ""
    return Signed(signature, parts, runs, accuracy, command)


def as_json(signed: Signed) -> dict[str, Any]:
    """The same as JSON types."""
    return {
        "signature": str(signed.signature),
        "says": {**signed.signature._asdict(), "seeds": list(signed.signature.seeds)},
        "parts": [part._asdict() for part in signed.parts],
        "runs": [
            {"seed": seed, "run": run.id if run else None, "badges": list(run.badges) if run else []}
            for seed, run in signed.runs.items()
        ],
        "accuracy": signed.accuracy,
        "command": signed.command,
        "page": signature_file(str(signed.signature)),
    }


def _is_row(signature: Signature, spec: RunSpec) -> bool:
    """Whether a run differs in seed or number of episodes alone."""
    return signature[:8] == of_specs([spec], spec.n_episodes, "")[:8]


def _setting_parts(signature: Signature, stored: Sequence[StoredRun], places: Places) -> Iterator[Part]:
    try:
        setting = benchmarks.load(signature.setting)
        digest = setting.digest
    except FsbenchError:
        yield Part("setting", False, f"no benchmark here is called {signature.setting}")
        return
    yield Part("setting", True, setting.benchmark.title)
    is_same = digest.startswith(signature.episodes)
    yield Part(
        "episode list",
        is_same,
        "the same" if is_same else f"{setting.name} has another list here, {digest[:8]}",
    )
    known = {(setting.benchmark.pipeline, setting.benchmark.image_size)}
    known |= {(run.spec.pipeline, run.spec.image_size) for run in stored if _is_row(signature, run.spec)}
    yield _images(signature, setting, known, places)


def _images(
    signature: Signature, setting: benchmarks.Setting, known: set[tuple[str, int]], places: Places
) -> Part:
    """Whether its novel images are prepared here; at an input size or through a pipeline that no run here had, that is unknown."""
    what = "images"
    if signature.pixels == NOBODY_SAID:
        return Part(what, None, "their digest was not recorded")
    found = []
    for pipeline, image_size in sorted(known):
        try:
            found.append(setting.benchmark.open("novel", places.data, pipeline, image_size).digest[:8])
        except FsbenchError as error:
            return Part(what, False, str(error))
    if signature.pixels in found:
        return Part(what, True, "the same pixels are prepared here")
    return Part(
        what,
        None,
        f"prepared here are {', '.join(found)}: other pictures, or the same at another size or through another pipeline",
    )


def _method_part(signature: Signature) -> Part:
    from harness.method import outline, registry

    name = signature.method.partition("[")[0]
    target = registry.installed().get(name)
    if target is None:
        return Part("method", False, f"no registered method is called {name}; it may be a file of theirs")
    version = getattr(
        outline.read(target) if name in registry.BUILT_IN else registry.load(name).cls, "version", ""
    )
    if version == signature.version:
        return Part("method", True, f"{name} {version}")
    return Part(
        "method", False, f"{name} is version {version or 'unknown'} here, theirs is {signature.version}"
    )


def _config_part(signature: Signature, alike: RunSpec | None, stored: Sequence[StoredRun]) -> Part:
    what = "configuration"
    if alike is not None:
        told = ", ".join(filter(None, (alike.changed, alike.recipe if alike.recipe != "clean" else "")))
        return Part(what, True, told or "the defaults")
    near = sorted({run.spec.label for run in stored if run.spec.called == signature.method})
    told = f"; rows of it here: {', '.join(near)}" if near else ""
    return Part(
        what, None, f"its digest {signature.config} is that of no run here, nor of the defaults{told}"
    )


def _planned(signature: Signature, places: Places) -> RunSpec | None:
    """The run that its names mean here, where its configuration is that of the recipe."""
    from harness.runs import planning

    backbone = None if signature.backbone == "none" else signature.backbone
    try:
        request = Request(recipe=signature.recipe, backbone=backbone, n_episodes=signature.n_episodes)
        [spec] = planning.plan([signature.method], [signature.setting], [0], request, places.data)
    except (FsbenchError, ValueError):
        return None
    return spec if _is_row(signature, spec) else None


def _command(signature: Signature, alike: RunSpec, missing: Sequence[int]) -> str:
    if alike.is_scored:
        return ""
    return command(replace(alike, n_episodes=signature.n_episodes), missing)
