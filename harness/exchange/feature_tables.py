"""Tables of features, one row an image by name: what other programs made becomes an encoder here, and ours goes out.

An image is called ``CLASS/FILE`` as its set was prepared (``ImageStore.image_names``). A table is ``.parquet`` with a column
``image`` and either one column ``feature`` of lists or a column for each number; ``.npz`` with the arrays ``image`` and
``feature``; or ``.npy`` (N, D) with the names, a line each, in a file beside it that ends in ``.txt``.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from harness.benchmarks import RoleName
from harness.errors import ConfigError, DataError, visible
from harness.evaluation.features import features_of
from harness.jobs.recount import restored
from harness.runs import RunSpec
from harness.system.files import aside, save_text
from harness.training.build import Workplace, open_role
from harness.training.fits import encoder_of

KINDS = (".parquet", ".npz", ".npy")
IMAGE, FEATURE = "image", "feature"


class FeatureRows(NamedTuple):
    """``names`` of N images, and ``features`` (N, D) float32."""

    names: Sequence[str]
    features: npt.NDArray[np.float32]


def export(spec: RunSpec, at: Workplace, roles: Sequence[RoleName], file: Path) -> FeatureRows:
    """Write the features that a finished run reads, of all images of some roles.

    Raises:
        ConfigError: when its method embeds nothing, or for another kind of file.
        DataError: when the checkpoint or the images are not here, or the file cannot be written.
    """
    _kind(file)
    method = restored(spec, at)
    encoder = encoder_of(spec, method, at)
    if encoder is None:
        raise ConfigError(
            f"{spec.method.name} is given images and embeds none, so there are no features to write."
        )
    parts = []
    for role in roles:
        store = open_role(spec, role, at)
        table = features_of(encoder.method, store, encoder.fit, at.places.cache, at.device, spec.embed_batch)
        rows = np.arange(len(store))
        table.ensure(rows, at.progress)
        parts.append((store.image_names, table.take(rows).flatten(1).cpu().numpy()))
    found = FeatureRows([n for names, _ in parts for n in names], np.concatenate([x for _, x in parts]))
    write(found, file)
    return found


def write(table: FeatureRows, file: Path) -> None:
    """Write a table; an older file is replaced whole.

    Raises:
        DataError: when it cannot be written.
    """
    try:
        with aside(file) as temporary:
            if _kind(file) == ".parquet":
                _write_parquet(table, temporary)
                return
            with temporary.open("wb") as stream:
                if file.suffix.lower() == ".npz":
                    np.savez(stream, **{IMAGE: np.array(table.names), FEATURE: table.features})
                else:
                    np.save(stream, table.features)
        if file.suffix.lower() == ".npy":
            save_text(file.with_suffix(".txt"), "".join(f"{name}\n" for name in table.names))
    except OSError as error:
        raise DataError(f"{file} could not be written: {error.strerror or error}.") from error


def read(file: Path) -> FeatureRows:
    """Read a table.

    Raises:
        ConfigError: when there is no such file, or it is of another kind.
        DataError: when it holds something else: names that repeat, numbers that are not finite, other lengths.
    """
    kind = _kind(file)
    if not file.is_file():
        raise ConfigError(f"There is no file {file}.")
    try:
        if kind == ".parquet":
            names, features = _read_parquet(file)
        elif kind == ".npz":
            with np.load(file, allow_pickle=False) as arrays:
                names, features = arrays[IMAGE].tolist(), arrays[FEATURE]
        else:
            features = np.load(file, allow_pickle=False)
            names = file.with_suffix(".txt").read_text(encoding="utf-8").splitlines()
        features = np.asarray(features, dtype=np.float32)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{file} cannot be read as a table of features ({visible(f'{type(error).__name__}: {error}')[:300]}). It has the columns "
            f"`{IMAGE}` and `{FEATURE}`; a .npy has the names in {file.with_suffix('.txt').name} beside it."
        ) from error
    problems = list(_problems(names, features))
    if problems:
        raise DataError(f"{file} is no table of features: {'; '.join(problems)}.")
    return FeatureRows([str(name) for name in names], features)


def as_weights(table: FeatureRows, file: Path) -> None:
    """Write a table as the file of weights that the method ``table`` imports.

    Raises:
        DataError: when it cannot be written.
    """
    import torch

    names = np.frombuffer("\n".join(table.names).encode(), dtype=np.uint8).copy()
    try:
        with aside(file) as temporary:
            torch.save(
                {"features": torch.from_numpy(table.features), "names": torch.from_numpy(names)}, temporary
            )
    except (OSError, RuntimeError) as error:
        raise DataError(f"{file} could not be written: {error}.") from error


def _kind(file: Path) -> str:
    if file.suffix.lower() not in KINDS:
        raise ConfigError(f"{file}: tables of features are {', '.join(KINDS)} files.")
    return file.suffix.lower()


def _problems(names: Sequence[object], features: npt.NDArray[np.float32]) -> list[str]:
    if features.ndim != 2 or not features.size:
        return [f"its features have the shape {features.shape}, not (images, numbers)"]
    found = []
    if len(names) != len(features):
        found.append(f"it has {len(names):,} names for {len(features):,} rows")
    if len(set(names)) < len(names):
        found.append("an image is named twice")
    if any(not isinstance(name, str) or not name or "\n" in name for name in names):
        found.append("a name is empty or no line of text")
    if not np.isfinite(features).all():
        found.append("some numbers are NaN or infinite")
    return found


def _write_parquet(table: FeatureRows, path: Path) -> None:
    pa, parquet = _arrow()
    flat = pa.array(table.features.reshape(-1))
    columns = {
        IMAGE: pa.array(list(table.names)),
        FEATURE: pa.FixedSizeListArray.from_arrays(flat, table.features.shape[1]),
    }
    parquet.write_table(pa.table(columns), path)


def _read_parquet(path: Path) -> tuple[list[str], npt.NDArray[np.float32]]:
    _, parquet = _arrow()
    table = parquet.read_table(path)
    names = table.column(IMAGE).to_pylist()
    if FEATURE in table.column_names:
        return names, np.array(table.column(FEATURE).to_pylist(), dtype=np.float32)
    numbers = [name for name in table.column_names if name != IMAGE]
    return names, np.stack([table.column(name).to_numpy() for name in numbers], axis=1).astype(np.float32)


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ConfigError(
            "Parquet files need the package pyarrow. Type `pip install 'fsbench[parquet]'`, or use .npz."
        ) from error
    return pyarrow, parquet
