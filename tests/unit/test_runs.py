"""Runs: what moves an id, what shares a fit, and folders that are whole or absent."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.errors import StoreError
from harness.runs import ConfigValue, Counts, EpisodeTable, MethodReference, RunResult, RunSpec

SPEC = RunSpec(
    method=MethodReference("./mine.py", "mine", "1", "ab"), benchmark="glyphs", setting="glyphs-5w1s", n_way=5, shot=1,
    n_query=15, n_episodes=3, config={"lr": ConfigValue(0.1, "default"), "steps": ConfigValue([1, 2], "--set", "adapt")},
    backbone="conv4", image_size=28, channels=1, pipeline="stored", episode_digest="e" * 64,
    data_digest={"base": "b", "validation": "v", "novel": "n"}, seed=0,
)  # fmt: skip


def result(spec: RunSpec = SPEC) -> RunResult:
    counts = Counts(np.array([70, 60, 50]), np.full(3, 75), np.zeros((3, 75), dtype=np.uint8))
    rows = np.zeros((3, 5, 1), dtype=np.int32)
    table = EpisodeTable(np.zeros((3, 5), dtype=np.int32), rows, rows, ("a",), ("",))
    return RunResult(
        spec, "done", {"top1": counts, "top1/novel": counts}, table, {"host": "h"}, ({"step": 1.0},)
    )


@pytest.mark.parametrize(
    ("change", "moves_id", "moves_fit"),
    [
        ({"seed": 1}, True, True),
        ({"n_episodes": 4}, True, False),
        ({"shot": 5, "setting": "glyphs-5w5s"}, True, False),
        ({"embed_batch": 64}, True, False),
        ({"precision": "bf16"}, True, True),
        ({"backbone": "resnet12"}, True, True),
        ({"data_digest": {**SPEC.data_digest, "novel": "m"}}, True, False),
        ({"data_digest": {**SPEC.data_digest, "base": "m"}}, True, True),
        ({"method": replace(SPEC.method, reference="other/mine.py")}, False, False),
        ({"method": replace(SPEC.method, source_sha256="cd")}, True, True),
        ({"config": {**SPEC.config, "lr": ConfigValue(0.1, "--set")}}, False, False),
        ({"config": {**SPEC.config, "lr": ConfigValue(0.2, "--set")}}, True, True),
        ({"config": {**SPEC.config, "steps": ConfigValue([3], "--set", "adapt")}}, True, False),
    ],
    ids=str,
)  # fmt: skip
def test_what_moves_the_id_and_the_fit(change: dict[str, object], moves_id: bool, moves_fit: bool) -> None:
    changed = replace(SPEC, **change)  # type: ignore[arg-type]
    assert (changed.id != SPEC.id) is moves_id
    assert (changed.fit_key != SPEC.fit_key) is moves_fit


def test_a_spec_survives_json() -> None:
    again = RunSpec.from_json(json.loads(json.dumps(SPEC.to_json())))
    assert again == SPEC and again.id == SPEC.id
    with pytest.raises(StoreError, match="not a run specification"):
        RunSpec.from_json({"method": {}})


def test_a_folder_gives_the_result_back(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("said")
    folder = result().save(tmp_path / "runs", log)
    again = RunResult.load(folder)
    assert again.digest == result().digest and again.spec == SPEC and again.curves == ({"step": 1.0},)
    assert (again.counts["top1/novel"].n_correct == [70, 60, 50]).all()
    assert (folder / "log.txt").read_text() == "said"
    assert [p.name for p in (tmp_path / "runs").iterdir()] == [SPEC.id]


def test_a_failed_run_keeps_its_traceback(tmp_path: Path) -> None:
    failed = RunResult(SPEC, "failed", traceback="ValueError: <script>")
    assert RunResult.load(failed.save(tmp_path)).traceback == "ValueError: <script>"


@pytest.mark.parametrize("damage", ["truncate", "remove", "other counts", "newer", "no json"])
def test_a_damaged_folder_is_refused(tmp_path: Path, damage: str) -> None:
    folder = result().save(tmp_path)
    header, arrays = folder / "run.json", folder / "result.npz"
    if damage == "truncate":
        arrays.write_bytes(arrays.read_bytes()[:100])
    elif damage == "remove":
        arrays.unlink()
    elif damage == "other counts":
        other = replace(result(), counts={"top1": Counts(np.array([1, 2, 3]), np.full(3, 75))})
        np.savez(arrays, **other._arrays())
        header.write_text(header.read_text().replace('"top1",\n  "top1/novel"', '"top1"'))
    elif damage == "newer":
        header.write_text(header.read_text().replace('"format": 1', '"format": 99'))
    else:
        header.write_text("{")
    with pytest.raises(StoreError, match=str(folder.name)):
        RunResult.load(folder)


def test_a_full_disk_leaves_the_older_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result().save(tmp_path)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(StoreError, match=r"No space left on device.*--home"):
        replace(result(), provenance={"host": "other"}).save(tmp_path)
    assert RunResult.load(tmp_path / SPEC.id).provenance == {"host": "h"}
    assert [p.name for p in tmp_path.iterdir()] == [SPEC.id]
