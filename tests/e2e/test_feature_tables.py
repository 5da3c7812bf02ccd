"""Features go out as a table and come back as an encoder whose rows are those of the network that made them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scratch_home import Home

from harness.errors import ConfigError, DataError
from harness.exchange import feature_tables
from harness.exchange.feature_tables import FeatureRows

KINDS = [".npz", ".npy", ".parquet"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    folder = tmp_path_factory.mktemp("tables")
    return Home(folder / "home", folder / "data")


def rows(n: int = 5) -> FeatureRows:
    return FeatureRows(
        [f"a class/{i}.png" for i in range(n)],
        np.random.default_rng(0).normal(size=(n, 3)).astype(np.float32),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_is_read_as_it_was_written(tmp_path: Path, kind: str) -> None:
    if kind == ".parquet":
        pytest.importorskip("pyarrow")
    feature_tables.write(rows(), tmp_path / f"x{kind}")
    found = feature_tables.read(tmp_path / f"x{kind}")
    assert list(found.names) == list(rows().names)
    np.testing.assert_array_equal(found.features, rows().features)


def test_parquet_may_have_a_column_for_each_number(tmp_path: Path) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    given = rows()
    columns = {"image": list(given.names), **{f"f{i}": given.features[:, i] for i in range(3)}}
    parquet.write_table(pa.table(columns), tmp_path / "x.parquet")
    np.testing.assert_array_equal(feature_tables.read(tmp_path / "x.parquet").features, given.features)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (rows()._replace(names=["a/1"] * 5), "named twice"),
        (rows()._replace(names=["a/1"]), "1 names for 5 rows"),
        (rows()._replace(features=np.full((5, 3), np.nan, np.float32)), "NaN"),
        (rows()._replace(features=np.zeros((5, 3, 2), np.float32)), "shape"),
        (rows()._replace(names=["", *rows().names[1:]]), "empty"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, table: FeatureRows, message: str) -> None:
    feature_tables.write(table, tmp_path / "x.npz")
    with pytest.raises(DataError, match=message):
        feature_tables.read(tmp_path / "x.npz")


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no file"):
        feature_tables.read(tmp_path / "x.npy")
    with pytest.raises(ConfigError, match=r"\.parquet, \.npz, \.npy"):
        feature_tables.read(tmp_path / "x.csv")
    np.save(tmp_path / "x.npy", rows().features)
    with pytest.raises(DataError, match=r"x\.txt"):
        feature_tables.read(tmp_path / "x.npy")


@pytest.mark.nightly
def test_the_low_shot_authors_files_come_in_again(home: Home) -> None:
    """A twin's features go out as HDF5 and come in as a table: the same head on them makes the same predictions."""
    asked, few = ["-b", "glyphs-lowshot-n1"], ["--set", "n_steps=20"]
    head = "lowshot-logistic[representation(aux=none,epochs=1)]"
    (theirs,) = home.json("run", "-m", head, *asked, *few)
    folder, weights = home.folder / "hdf5", home.folder / "lowshot.pt"
    home.run("export-features", theirs["runs"][0], str(folder))
    said = home.run("features", "import", str(folder), str(weights), *asked).stdout
    assert "lowshot-logistic[table],lowshot-hallucination[table]" in said
    given = ["--weights", str(weights), "--seen", "glyphs-lowshot:base"]
    (found,) = home.json("run", "-m", "lowshot-logistic[table]", *asked, *few, *given)
    assert found["metrics"] == theirs["metrics"]
    assert "say whose images" in home.run("features", "import", str(folder), str(weights), code=2).stderr
    episodic = home.run("features", "import", str(folder), str(weights), "-b", "glyphs-5w1s", code=2).stderr
    assert "glyphs is episodic" in episodic
    index = json.loads((folder / "label_idx.json").read_text())
    index["label_names"][:2] = index["label_names"][1::-1]
    (folder / "label_idx.json").write_text(json.dumps(index))
    other = home.run("features", "import", str(folder), str(weights), *asked, code=3).stderr
    assert "the first that differs is label 0" in " ".join(other.split())
    (folder / "label_idx.json").unlink()
    (folder / "val.hdf5").unlink()
    lost = home.run("features", "import", str(folder), str(weights), *asked, code=3).stderr
    assert "glyphs-lowshot needs two HDF5 files" in lost


def test_features_go_out_and_come_back_as_the_same_rows(home: Home) -> None:
    asked = ["-b", "glyphs-5w1s", "--episodes", "30"]
    short = "centroid[nearest-mean(epochs=1)]"
    (theirs,) = home.json("run", "-m", short, *asked, "--set", "normalise=l2n")
    table, weights = home.folder / "x.npz", home.folder / "x.pt"
    said = home.run(
        "features", "export", theirs["runs"][0], str(table), "--role", "novel", "--role", "base"
    ).stdout
    assert "2,720 images" in said
    assert "centroid[table]" in home.run("features", "import", str(table), str(weights)).stdout
    given = ["--weights", str(weights), "--seen", "glyphs"]
    (found,) = home.json("run", "-m", "centroid[table]", *asked, *given, "--set", "normalise=l2n")
    assert found["accuracy"] == pytest.approx(theirs["accuracy"], abs=1e-12)
    few = rows()
    feature_tables.as_weights(few, home.folder / "few.pt")
    home.run(
        "run", "-m", "table", *asked, "--weights", str(home.folder / "few.pt"), "--seen", "glyphs", code=1
    )
