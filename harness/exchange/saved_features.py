"""Features of a joint benchmark's images as files of Hariharan and Girshick's release (2017), for their code and others'.

``train.hdf5`` and ``val.hdf5`` hold ``all_feats`` (R, D) float32, ``all_labels`` (R,) int32 and ``count`` (1,) int32: rows
grouped by ascending label, those from ``count`` on zero and of label 0, since R is the next multiple of 64. Beside them
``label_idx.json`` says which labels are base and novel in which half, ``splitfile_1.json`` to ``splitfile_5.json`` which
training rows each experiment takes of every label. Such files of others come in again as a table of features.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from harness import benchmarks
from harness.benchmarks import Benchmark
from harness.benchmarks.episodes import IntArray
from harness.benchmarks.experiments import N_EXPERIMENTS, JointClasses
from harness.errors import ConfigError, DataError
from harness.evaluation.features import features_of
from harness.exchange.feature_tables import FeatureRows
from harness.images.sources import lowshot_features
from harness.images.stores import ImageStore
from harness.jobs.recount import restored
from harness.runs import RunSpec
from harness.system.files import replaced_folder
from harness.training.build import Workplace, open_role
from harness.training.fits import encoder_of

PAD_TO = 64  # rows: the batch in which the authors saved features
_WRITTEN_AT_ONCE = 4096


@dataclass(frozen=True)
class Layout:
    """Where the images of a joint benchmark stand in the two files.

    Attributes:
        names: of the classes, by label of the files.
        ours: (W,) int64: our label of each of theirs.
        sizes: (W,) int64 training rows of each label.
        n_held_out: held-out rows of each label.
        kept: positions among the training rows that we have, by label; the others stay zero.
    """

    names: tuple[str, ...]
    ours: IntArray
    sizes: IntArray
    n_held_out: int
    kept: tuple[IntArray, ...]

    @property
    def starts(self) -> IntArray:
        """(W,) int64 first training row of each label."""
        return np.cumsum(self.sizes) - self.sizes


def layout_of(joint: JointClasses) -> Layout:
    """The published order and sizes where there are some, else ours: base classes first, every training image."""
    own = [*joint.base, *joint.novel]
    sizes = {**joint.base, **{name: n - joint.n_query for name, n in joint.novel.items()}}
    if joint.published:
        sizes = dict(joint.published.sizes)
    kept = tuple(
        joint.published.kept(name) if joint.published and name in joint.novel else np.arange(sizes[name]) for name in sizes
    )  # fmt: skip
    where = {name: i for i, name in enumerate(own)}
    ours = np.array([where[name] for name in sizes], dtype=np.int64)
    return Layout(tuple(sizes), ours, np.array(list(sizes.values()), dtype=np.int64), joint.n_query, kept)


def export_features(spec: RunSpec, at: Workplace, folder: Path) -> Layout:
    """Write the features of a finished run's images; what is not embedded yet is embedded.

    Args:
        spec: of the run.
        at: where its checkpoint and images are.
        folder: new, or one that this wrote before.

    Raises:
        ConfigError: when the run's setting is not joint, its method has no ``embed``, or the folder is something else.
        DataError: when there is no checkpoint, or the files cannot be written.
    """
    benchmark = benchmarks.named(spec.benchmark)
    if benchmark.joint is None:
        raise ConfigError(
            f"Run {spec.id} ({spec.setting}) is episodic; these files are those of the joint protocol."
        )
    _refuse_foreign(folder)
    method = restored(spec, at)
    store, encoder = open_role(spec, "novel", at), encoder_of(spec, method, at)
    if not encoder:
        raise ConfigError(
            f"Run {spec.id} is of {spec.method.name}, which is given images: it has no features to write."
        )
    table = features_of(encoder.method, store, encoder.fit, at.places.cache, at.device, spec.embed_batch)
    table.ensure(np.arange(len(store)), at.progress)
    rows, layout = encoder.source(table), layout_of(benchmark.joint)
    try:
        with replaced_folder(folder.resolve()) as aside:
            for name, part in (("train", _training(store, layout)), ("val", _held_out(store, layout))):
                _write(aside / f"{name}.hdf5", layout, rows, part, name == "train", encoder.fit.fit_key)
            _write_json(aside, benchmark, layout)
    except OSError as error:
        raise DataError(f"{folder} could not be written: {error.strerror or error}.") from error
    return layout


def import_features(folder: Path, benchmark: Benchmark, store: ImageStore) -> FeatureRows:
    """Read such files as a table of features, a row an image of the benchmark.

    Args:
        folder: holds the two HDF5 files, and maybe ``label_idx.json``.
        benchmark: whose images these are features of.
        store: all its images, of base and novel classes.

    Raises:
        ConfigError: when the benchmark is not joint.
        DataError: when the files are of other images, of two networks, or lie elsewhere.
    """
    if benchmark.joint is None:
        raise ConfigError(
            f"{benchmark.key} is episodic; files in this layout are those of the joint protocol."
        )
    layout = layout_of(benchmark.joint)
    _refuse_labels(folder / "label_idx.json", layout)
    advice = "`fsbench export-features RUN FOLDER` writes such files."
    files = lowshot_features.paired(benchmark.key, [folder], layout.sizes.tolist(), layout.n_held_out, advice)
    features = np.empty((len(store), files.n_features), np.float32)
    for path, parts in (
        (files.training, _training(store, layout)),
        (files.held_out, _held_out(store, layout)),
    ):
        with lowshot_features.opened(path) as file:
            for theirs, ours in parts:
                features[ours] = lowshot_features.features_at(file, theirs)
    return FeatureRows(store.image_names, features)


def _refuse_labels(path: Path, layout: Layout) -> None:
    """Refuse files that say themselves that their labels are other classes."""
    if not path.is_file():
        return
    try:
        names = tuple(json.loads(path.read_text(encoding="utf-8"))["label_names"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} cannot be read: it has no list `label_names`.") from error
    if names != layout.names:
        differ = next((i for i, (a, b) in enumerate(zip(names, layout.names, strict=False)) if a != b), 0)
        raise DataError(
            f"{path}: its {len(names):,} labels are not the {len(layout.names):,} classes of the benchmark in their order; the "
            f"first that differs is label {differ}."
        )


def _training(store: ImageStore, layout: Layout) -> Iterator[tuple[IntArray, IntArray]]:
    """For each label the rows of the file and our rows; a class has its training images first."""
    first = np.cumsum(store.counts) - store.counts
    for label, ours in enumerate(layout.ours):
        kept = layout.kept[label]
        yield layout.starts[label] + kept, first[ours] + np.arange(len(kept))


def _held_out(store: ImageStore, layout: Layout) -> Iterator[tuple[IntArray, IntArray]]:
    end = np.cumsum(store.counts)
    for label, ours in enumerate(layout.ours):
        own = np.arange(layout.n_held_out)
        yield label * layout.n_held_out + own, end[ours] - layout.n_held_out + own


def _write(path: Path, layout: Layout, source: Any, parts: Iterator[tuple[IntArray, IntArray]], is_training: bool,
           fit: str) -> None:  # fmt: skip
    import h5py

    counts = layout.sizes if is_training else np.full(len(layout.names), layout.n_held_out)
    n = int(counts.sum())
    n_rows, dim = -(-n // PAD_TO) * PAD_TO, source.take(np.arange(1)).shape[1]
    labels = np.zeros(n_rows, np.int32)
    labels[:n] = np.repeat(np.arange(len(counts)), counts)
    with h5py.File(path, "w") as file:
        features = file.create_dataset("all_feats", (n_rows, dim), "float32", chunks=(PAD_TO, dim))
        file["all_labels"], file["count"] = labels, np.array([n], np.int32)
        file.attrs["representation"] = fit  # not of the authors' layout; tells files of two networks apart
        for theirs, ours in parts:
            for start in range(0, len(theirs), _WRITTEN_AT_ONCE):
                here = slice(start, start + _WRITTEN_AT_ONCE)
                features[theirs[here]] = source.take(ours[here]).cpu().numpy()


def _write_json(folder: Path, benchmark: Benchmark, layout: Layout) -> None:
    """Which labels are what, and what each experiment draws."""
    joint = benchmark.joint
    assert joint is not None
    every = frozenset((*joint.base, *joint.novel))
    is_reported = benchmark.variant != "val"
    halves = {1: every - joint.asked if is_reported else joint.asked}
    halves[2] = every - halves[1]
    label = {name: i for i, name in enumerate(layout.names)}
    groups = {
        f"{kind}_classes_{half}": sorted(label[name] for name in classes if name in asked)
        for half, asked in halves.items()
        for kind, classes in (("base", joint.base), ("novel", joint.novel))
    }
    groups["base_classes"] = sorted(label[name] for name in joint.base)
    (folder / "label_idx.json").write_text(json.dumps({"label_names": list(layout.names), **groups}))
    drawn = _drawn(joint, benchmark.seed, layout, tuple(halves.values()))
    for e in range(N_EXPERIMENTS):
        (folder / f"splitfile_{e + 1}.json").write_text(json.dumps(drawn[e].tolist()))


def _drawn(joint: JointClasses, seed: int, layout: Layout, halves: tuple[frozenset[str], ...]) -> IntArray:
    """(E, W, most shots) training rows of the file; of base classes, where they play no part, the first ones."""
    most = joint.most_shots
    found = np.tile(layout.starts[:, None] + np.arange(most), (N_EXPERIMENTS, 1, 1))
    theirs = np.argsort(layout.ours)  # our label → theirs
    first = np.cumsum(joint.counts) - joint.counts
    for asked in halves:
        experiments = replace(joint, asked=asked).experiments(most, seed)
        for i, ours in enumerate(experiments.novel):
            label = theirs[ours]
            positions = layout.kept[label][experiments.support[:, i] - first[ours]]  # (E, most)
            found[:, label] = layout.starts[label] + positions
    return found


def _refuse_foreign(folder: Path) -> None:
    known = {
        "train.hdf5",
        "val.hdf5",
        "label_idx.json",
        *(f"splitfile_{e}.json" for e in range(1, N_EXPERIMENTS + 1)),
    }
    if folder.exists() and (not folder.is_dir() or {p.name for p in folder.iterdir()} - known):
        raise ConfigError(f"{folder} holds something else; name a new folder.")
