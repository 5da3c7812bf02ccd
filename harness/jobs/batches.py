"""Work on its way to a job, as data: ``runs/.jobs/<batch>/<n>.json``, and beside it what became of it.

A group is what one job does. It names methods by reference and digest, never by a pickled class, and the job refuses
when the text behind the reference is not the one that was planned.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import platform
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from harness.errors import DispatchError
from harness.method import registry
from harness.runs import FitSpec, MethodReference, RunSpec, planning
from harness.system.files import newest_last, save_text
from harness.system.folders import Places
from harness.system.locks import claim, is_claimed

FOLDER = ".jobs"
Executor = Literal["inline", "local", "slurm"]  # the first makes no batch
State = Literal["started", "ended", "failed", "stopped", "requeued", "refused"]


@dataclass(frozen=True)
class Group:
    """What one job does.

    Attributes:
        specs: runs, carried out in this order.
        home, data, cache: absolute paths; the database is none of a job's business.
        device: "auto", "cpu" or "cuda".
        code: method reference → digest of its text when it was planned.
        sources: method reference → snapshot to load in its place.
        folder: where relative references start.
        episodes: (first, end) of every run; None for all.
        only_ready: stop before the evaluation.
        fits: trainings that later groups are built on, in place of runs.
        after: groups of the same batch that must have ended before.
    """

    specs: tuple[RunSpec, ...]
    home: str
    data: str
    cache: str
    device: str
    code: Mapping[str, str]
    sources: Mapping[str, str] = field(default_factory=dict)
    folder: str = ""
    episodes: tuple[int, int] | None = None
    only_ready: bool = False
    fits: tuple[FitSpec, ...] = ()
    after: tuple[int, ...] = ()

    @property
    def places(self) -> Places:
        """Where things are, without a database."""
        return Places(Path(self.home), Path(self.data), Path(self.cache), "")

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        content = {
            **vars(self),
            "specs": [spec.to_json() for spec in self.specs],
            "fits": [fit.to_json() for fit in self.fits],
        }
        save_text(path, json.dumps(content, indent=1))

    @classmethod
    def load(cls, path: Path) -> Group:
        """Read it.

        Raises:
            DispatchError: when it is not visible from this host, or of another version.
        """
        try:
            content = json.loads(path.read_text())
            content["specs"] = tuple(RunSpec.from_json(spec) for spec in content["specs"])
            content["fits"] = tuple(FitSpec.from_json(fit) for fit in content.get("fits", ()))
            content["after"] = tuple(content["after"])
            content["episodes"] = tuple(content["episodes"]) if content["episodes"] else None
            return cls(**content)
        except FileNotFoundError as error:
            raise DispatchError(
                f"{platform.node()} does not see {path}: the home is not on a file system that the cluster shares. "
                "Choose one that is with --home."
            ) from error
        except (ValueError, TypeError, KeyError) as error:
            raise DispatchError(f"{path} is not work of this version of fsbench ({error}).") from error

    def check(self) -> None:
        """Refuse folders that this host does not see, and code that is not the one that was planned.

        Raises:
            DispatchError: naming everything that is wrong.
            ConfigError: when a file is not the one that was planned, or the user never named it.
        """
        problems = []
        if not Path(self.data).is_dir():
            problems.append(
                f"the data folder {self.data} is not visible on {platform.node()}; set FSBENCH_DATA to one that the "
                "cluster shares"
            )
        for method in planning.methods_of([*self.specs, *self.fits]):
            reference = method.reference
            found = code_digest(method, Path(self.cache), self.sources.get(reference, ""))
            if found != self.code.get(reference):
                problems.append(
                    f"the code of {reference} was changed after the runs were planned; type the command again "
                    "(--snapshot copies a file of your own, so that you may go on editing it)"
                )
        if problems:
            raise DispatchError("; ".join(problems) + ".")


def code_digest(method: MethodReference, cache: Path, place: str = "") -> str:
    """sha256 over a method's file, or over all files of its family's folder.

    Args:
        method: of a planned run.
        cache: where the user's word for a file is kept.
        place: a snapshot to look at first, else empty.

    Raises:
        FsbenchError: when the method cannot be loaded, or is not the one that was planned.
    """
    loaded = registry.load_stored(method, cache, place)
    if loaded.reference.source_sha256:
        return loaded.reference.source_sha256
    path = Path(inspect.getfile(loaded.cls))
    is_family = path.parent.name != "methods" and (path.parent / "__init__.py").exists()
    files = sorted(path.parent.rglob("*.py")) if is_family else [path]
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


@dataclass(frozen=True)
class Batch:
    """The groups of one call of ``fsbench run``.

    Attributes:
        path: its folder below ``runs/.jobs``.
        executor: which engine has it.
    """

    path: Path
    executor: Executor

    @classmethod
    def create(
        cls, runs: Path, executor: Executor, groups: Sequence[Group], options: Mapping[str, Any]
    ) -> Batch:
        """Write a new batch.

        Args:
            runs: the runs folder.
            executor: which engine will have it.
            groups: the work.
            options: of the executor, for ``fsbench resume``.
        """
        stamp = time.strftime("%Y%m%d-%H%M%S")
        n = 0
        while True:
            path = (runs / FOLDER / f"{stamp}-{os.getpid()}{f'-{n}' if n else ''}").absolute()
            try:
                path.mkdir(parents=True)
                break
            except FileExistsError:
                n += 1
        for number, group in enumerate(groups):
            group.save(path / f"{number}.json")
        save_text(path / "batch.json", json.dumps({"executor": executor, "options": dict(options)}))
        return cls(path, executor)

    @classmethod
    def every(cls, runs: Path) -> list[Batch]:
        """All batches of a runs folder, the newest last."""
        found = newest_last((runs / FOLDER).glob("*/batch.json"))
        every = []
        for path in found:
            with suppress(FileNotFoundError):  # removed meanwhile
                every.append(cls(path.parent.absolute(), json.loads(path.read_text())["executor"]))
        return every

    @property
    def options(self) -> dict[str, Any]:
        """Of the executor."""
        return json.loads((self.path / "batch.json").read_text())["options"]

    @property
    def numbers(self) -> list[int]:
        """Numbers of its groups."""
        return sorted(int(p.stem) for p in self.path.glob("*.json") if p.stem.isdigit())

    def group_path(self, number: int) -> Path:
        """The file of a group."""
        return self.path / f"{number}.json"

    def group(self, number: int) -> Group:
        """Read a group."""
        return Group.load(self.group_path(number))

    def note_job(self, number: int, job: str) -> None:
        """Remember which job of the engine has a group."""
        save_text(self.path / f"{number}.job", job)

    def job(self, number: int) -> str:
        """The engine's id of a group's job; empty before it is submitted."""
        try:
            return (self.path / f"{number}.job").read_text()
        except FileNotFoundError:
            return ""

    def forget(self, number: int) -> None:
        """Make a group one that was never submitted."""
        for what in (".job", ".state"):
            self.group_path(number).with_suffix(what).unlink(missing_ok=True)

    def attend(self) -> AbstractContextManager[None]:
        """Hold the batch as the process that starts its jobs one after the other; SLURM needs none."""
        is_needed = self.executor == "local"
        return claim(self.path / "dispatcher", f"the jobs of {self.path}") if is_needed else nullcontext()

    @property
    def is_attended(self) -> bool:
        """Whether a living process will start those of its jobs that wait."""
        return is_claimed(self.path / "dispatcher")

    def cancel(self) -> None:
        """Mark the batch, so that no job of it asks to be requeued."""
        save_text(self.path / "cancelled", "")

    @property
    def is_cancelled(self) -> bool:
        """Whether somebody gave it up."""
        return (self.path / "cancelled").exists()


@dataclass(frozen=True)
class JobState:
    """What a job said last about itself.

    Attributes:
        state: "started"; "requeued" or "stopped" by a signal, with its work saved; "ended"; "failed" with
            ``message``; "refused": the engine did not take it, for what ``message`` says.
        host, pid: where it was.
        message: of the failure, or of the refusal.
    """

    state: State
    host: str = ""
    pid: int = 0
    message: str = ""

    def save(self, group_path: Path) -> None:
        """Write ``<n>.state`` beside the group."""
        save_text(group_path.with_suffix(".state"), json.dumps(asdict(self)))

    @classmethod
    def load(cls, group_path: Path) -> JobState | None:
        """Read it; None before the job has started."""
        try:
            return cls(**json.loads(group_path.with_suffix(".state").read_text()))
        except FileNotFoundError:
            return None


def snapshot(reference: str, folder: Path) -> str:
    """Copy a user's method file to ``folder``; returns the reference of the copy."""
    text, _, name = reference.partition(".py:")
    source = Path(text + ".py" if name else text).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    copy = folder / source.name
    shutil.copy2(source, copy)
    return f"{copy.absolute()}:{name}" if name else str(copy.absolute())
