"""The rehearsal of benchmarks whose images are not here: real layouts, true classes, and no way to pass for a result."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
import rehearsal
import rehearsal_sources as sources

from harness.errors import DataError
from harness.images.sources import omniglot
from harness.images.stores import store_of_arrays


@pytest.mark.nightly
def test_two_benchmarks_are_rehearsed_from_source_to_page(tmp_path: Path) -> None:
    rows = rehearsal.rehearse(tmp_path / "stage", ["cifar"])
    assert {(row["setting"], row["method"]) for row in rows} == {
        ("cifarfs-5w1s", "protonet"),
        ("fc100-5w5s", "protonet"),
        ("cifarfs-5w1s", "bml"),
    }
    assert all("rehearsal" in row["badges"] for row in rows)
    assert all(row["accuracy"] > 0.4 for row in rows)  # twice chance: labels and patterns belong together


@pytest.mark.nightly
def test_published_recipes_are_rehearsed_on_every_kind_of_source(tmp_path: Path) -> None:
    rows = rehearsal.rehearse(tmp_path / "stage", ["as published"])
    assert {(row["setting"], row["method"]) for row in rows} == {
        ("mini-5w1s", "bml"), ("mini-5w1s-q16", "neg-cosine"), ("cub-feat-mixedcrop-5w1s", "bml"), ("cifarfs-5w1s", "bml"),
        ("fc100-5w1s", "bml"), ("omniglot-5w1s", "protonet"),
    }  # fmt: skip
    assert all({"rehearsal", "as-published"} <= set(row["badges"]) for row in rows)


def test_splits_keep_their_classes_and_lose_images(tmp_path: Path) -> None:
    folder = sources.write_benchmarks(tmp_path / "benchmarks")
    for name in ("mini", "tiered", "cub", "cifar_fs", "fc100", "omniglot", "flowers", "dogs"):
        real, cut = (sources._split(root, name) for root in (sources.BENCHMARKS, folder))
        for role in ("base", "validation", "novel"):
            assert list(cut.get(role, ())) == list(real.get(role, ()))
            assert set(cut.get(role, {}).values()) <= {sources.N, sources.N_LARGE}


def test_pictures_of_84_pixels_are_refused_by_what_needs_originals(tmp_path: Path) -> None:
    stage = rehearsal.Stage(tmp_path / "stage")
    mini = sources._split(stage.benchmarks, "mini")
    for role, name in (("base", "train"), ("validation", "val"), ("novel", "test")):
        wnids = list(mini[role])
        pixels = [sources.pattern(wnid, i, 84, 84) for wnid in wnids for i in range(sources.N)]
        rows = {wnid: list(range(c * sources.N, (c + 1) * sources.N)) for c, wnid in enumerate(wnids)}
        content = pickle.dumps({"image_data": np.stack(pixels), "class_dict": rows})
        (tmp_path / f"mini-imagenet-cache-{name}.pkl").write_bytes(content)
    stage.type("prepare", "mini", "--source", str(tmp_path), "--accept-terms")
    words = ("run", "-m", "protonet", "-b", "mini-5w1s", "--dry-run")
    stage.type(*words)
    said = stage.type(*words, "--pipeline", "negative-margin", code=3)
    assert "It needs the original pictures." in said
    assert "`fsbench prepare mini --source PATH --accept-terms`, where PATH is your own ILSVRC2012" in said


def test_known_checksums_are_passed_over_in_a_rehearsal_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = sources.write_benchmarks(tmp_path / "benchmarks")
    runs = sources.write_runs(tmp_path / "all_runs.zip")
    with pytest.raises(DataError, match=r"is not Lake's all_runs\.zip"):
        omniglot.plans("omniglot-runs", [runs])
    monkeypatch.setenv("FSBENCH_BENCHMARKS", str(folder))
    with caplog.at_level(logging.WARNING, "fsbench.data"):
        assert omniglot.plans("omniglot-runs", [runs])[0].n_images == 800
    assert "rehearsal: " in caplog.text and "not Lake's" in caplog.text


def test_made_up_images_have_other_digests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.zeros((2, 3, 8, 8, 1), dtype=np.uint8)
    real = store_of_arrays("x", pixels, ["a", "b"]).digest
    monkeypatch.setenv("FSBENCH_BENCHMARKS", str(sources.write_benchmarks(tmp_path / "benchmarks")))
    marked = store_of_arrays("x", pixels, ["a", "b"]).digest
    assert "rehearsal" not in real and "-rehearsal-" in marked
    assert len(marked) == len(real) == 64
