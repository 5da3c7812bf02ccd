"""A run as data: what it gave (RunResult), and the folder that carries it."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from harness.benchmarks.episodes import label_queries
from harness.errors import RecordError, StoreError, visible
from harness.runs.schema import FORMAT as FORMAT
from harness.runs.schema import HEADER, LARGEST_JSON
from harness.runs.spec import RunSpec
from harness.system.arrays import read_npz
from harness.system.files import replaced_folder
from harness.system.records import load_json
from harness.system.secrets import all_without_credentials, without_credentials
from harness.system.text import all_visible

REPORTED_BY = "reported_by"  # beside it: which bundle or database said so
FIT_SHA256 = "fit_sha256"  # in the provenance, and in the record of a fit: of fit.pt
THUMBNAILS = "thumbnails"  # in the provenance: base64 of a PNG by image row, as text
SELF_REPORTED = "self_reported"  # in the provenance of what was imported or scored: nobody here saw it made


@dataclass(frozen=True)
class Counts:
    """Correct predictions per episode for one metric ("top1", "top1/novel", "top5/all", …).

    Attributes:
        n_correct, n_query: (E,) int64.
        predictions: (E, n_query) predicted label per place for a query (0 where a list has none there), uint8 (uint16 when n_way > 256), for top-5 the true
            one where it is among the five; None where the metric has none of its own.
    """

    n_correct: npt.NDArray[np.int64]
    n_query: npt.NDArray[np.int64]
    predictions: npt.NDArray[np.unsignedinteger[Any]] | None = None


@dataclass(frozen=True)
class EpisodeTable:
    """The evaluated episodes, so that a database explains itself.

    In the joint protocol ``classes`` are the A classes asked, base classes first; ``support`` has rows for the novel
    ones, the last C of them (all training images of the base classes are support too); and a predicted label is
    itself an index into ``class_names``, which holds all classes. In the closed-set protocol an element is one test
    image: ``classes`` (E, 1) and ``query`` (E, 1, 1) name it, ``support`` is (E, 0, 0), and labels are indices as well.

    Attributes:
        classes: (E, W) int32, index into ``class_names``.
        support: (E, W, S) int32 rows of the novel ImageStore.
        query: (E, W, Q) int32 rows of the novel ImageStore; -1 at a place without a query.
        class_names: of the novel classes; ``class_groups`` their superclass, alphabet, … or "".
    """

    classes: npt.NDArray[np.int32]
    support: npt.NDArray[np.int32]
    query: npt.NDArray[np.int32]
    class_names: tuple[str, ...]
    class_groups: tuple[str, ...]

    @property
    def is_joint(self) -> bool:
        """Whether base classes are asked beside the novel ones."""
        return 0 < self.support.shape[1] < self.classes.shape[1]

    @property
    def is_closed(self) -> bool:
        """Whether each element is a test image of the classes that were trained on."""
        return self.support.shape[1] == 0

    @property
    def query_label(self) -> npt.NDArray[np.int64]:
        """(E, W·Q) int64: the label that is right at each place for a query, class-major; -1 at a place without one."""
        if self.is_closed:
            return self.classes.astype(np.int64)
        labels = self.classes[0] if self.is_joint else np.arange(self.classes.shape[1])
        return label_queries(self.query, labels.astype(np.int64))

    @property
    def class_of_label(self) -> npt.NDArray[np.int32]:
        """(E, W) int32: the class behind each label that may be predicted."""
        if not (self.is_joint or self.is_closed):
            return self.classes
        every = np.arange(len(self.class_names), dtype=np.int32)
        return np.broadcast_to(every, (len(self.classes), len(every)))


@dataclass(frozen=True)
class RunResult:
    """What a run gave.

    Attributes:
        spec: what was run.
        status: "done", or "failed" with ``traceback``.
        counts: by metric name; empty when failed.
        episodes: the evaluated list; None when failed.
        provenance: recorded beside the identity: git commit, package versions, device, times (seconds),
            peak memory (bytes), parameter count, badges; JSON types.
        curves: training curves, a list of {"step": int, name: float, …}.
        traceback: text of the failure, else empty.
    """

    spec: RunSpec
    status: Literal["done", "failed"]
    counts: Mapping[str, Counts] = field(default_factory=dict)
    episodes: EpisodeTable | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    curves: tuple[Mapping[str, float], ...] = ()
    traceback: str = ""

    @property
    def digest(self) -> str:
        """sha256 over every count: equal digests are equal results."""
        return digest_of(self.status, self.counts)

    def made_visible(self) -> RunResult:
        """The same result, with escapes in the place of control characters that a method, a device or a folder named."""
        episodes = self.episodes
        if episodes is not None:
            names, groups = (
                tuple(map(visible, told)) for told in (episodes.class_names, episodes.class_groups)
            )
            episodes = replace(episodes, class_names=names, class_groups=groups)
        return replace(
            self,
            episodes=episodes,
            provenance=all_visible(dict(self.provenance)),
            curves=tuple(all_visible(dict(point)) for point in self.curves),
            traceback=visible(self.traceback, lines=True),
        )

    def save(self, runs: Path, log_file: Path | None = None) -> Path:
        """Write ``runs/<id>/{run.json,result.npz,log.txt}`` aside, then rename; an older folder is replaced whole.

        Returns:
            The folder.

        Raises:
            StoreError: when the disk is full or not writable; nothing half-written stays visible.
        """
        folder = runs / self.spec.id
        try:
            with replaced_folder(folder) as aside:
                (aside / "run.json").write_text(json.dumps(self._header(), indent=1, sort_keys=True))
                np.savez_compressed(aside / "result.npz", **self._arrays())
                if log_file and log_file.exists():
                    shutil.copy2(log_file, aside / "log.txt")
        except OSError as error:
            raise StoreError(
                f"The result of run {self.spec.id} could not be written to {runs}: {error.strerror or error}. "
                "Free some space or choose another place with --home, then type the same command again."
            ) from error
        return folder

    @classmethod
    def load(cls, folder: Path) -> RunResult:
        """Read a run folder.

        Raises:
            RecordError: when a file is missing, truncated, too large, from a newer version, or holds what no run has.
        """
        try:
            header = _read_json(folder / "run.json")
            if isinstance(header, dict) and type(header.get("format")) is int and header["format"] > FORMAT:
                raise RecordError(
                    f"{folder} was written in run format {header['format']}; this fsbench reads {FORMAT}. "
                    "Install the version that wrote it."
                )
            HEADER(header, "run.json")
            result = cls._assemble(header, read_npz(folder / "result.npz"))
        except (RecordError, OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise RecordError(
                f"{folder} is not a complete run folder ({type(error).__name__}: {error}). "
                "Delete it and run again."
            ) from error
        if result.digest != header["digest"]:
            raise RecordError(
                f"{folder}: result.npz does not match the digest in run.json. Delete it and run again."
            )
        if result.spec.id != header["id"]:
            raise RecordError(
                f"{folder}: the id in run.json, {header['id']}, is not that of its specification, {result.spec.id}. Delete "
                "it and run again."
            )
        return result

    def _header(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "id": self.spec.id,
            "digest": self.digest,
            "status": self.status,
            "spec": self.spec.to_json(),
            "metrics": sorted(self.counts),
            "class_names": list(self.episodes.class_names) if self.episodes else [],
            "class_groups": list(self.episodes.class_groups) if self.episodes else [],
            "provenance": all_without_credentials(self.provenance),
            "curves": [dict(point) for point in self.curves],
            "traceback": without_credentials(self.traceback),
        }

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        arrays: dict[str, npt.NDArray[Any]] = {}
        for metric, counts in self.counts.items():
            arrays[f"n_correct:{metric}"] = counts.n_correct
            arrays[f"n_query:{metric}"] = counts.n_query
            if counts.predictions is not None:
                arrays[f"predictions:{metric}"] = counts.predictions
        if self.episodes:
            for name in ("classes", "support", "query"):
                arrays[f"episodes:{name}"] = getattr(self.episodes, name)
        return arrays

    @classmethod
    def _assemble(cls, header: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> RunResult:
        episodes = None
        if "episodes:classes" in arrays:
            episodes = EpisodeTable(
                classes=arrays["episodes:classes"],
                support=arrays["episodes:support"],
                query=arrays["episodes:query"],
                class_names=tuple(header["class_names"]),
                class_groups=tuple(header["class_groups"]),
            )
        return cls(
            spec=RunSpec.from_json(header["spec"]),
            status=header["status"],
            counts={
                m: Counts(arrays[f"n_correct:{m}"], arrays[f"n_query:{m}"], arrays.get(f"predictions:{m}"))
                for m in header["metrics"]
            },
            episodes=episodes,
            provenance=header["provenance"],
            curves=tuple(header["curves"]),
            traceback=header["traceback"],
        )


def digest_of(status: str, counts: Mapping[str, Counts]) -> str:
    """sha256 over a status and counts by metric; not over predictions."""
    digest = hashlib.sha256(f"fsbench result v1 {status}".encode())
    for metric in sorted(counts):
        digest.update(metric.encode())
        digest.update(np.ascontiguousarray(counts[metric].n_correct, "<i8").tobytes())
        digest.update(np.ascontiguousarray(counts[metric].n_query, "<i8").tobytes())
    return digest.hexdigest()


def _read_json(path: Path) -> Any:
    """A file as JSON; not more of it than a record may have."""
    with path.open("rb") as file:
        return load_json(file.read(LARGEST_JSON + 1), LARGEST_JSON)
