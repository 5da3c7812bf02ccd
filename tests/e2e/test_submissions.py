"""Runs offered to another repository: a folder a run, what its checks let in, and what they find."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from absent import absent
from made_up_results import failure, result
from package_index import pip
from typer.testing import CliRunner

import fsbench
from harness.errors import ConfigError, FsbenchError, StoreError
from harness.exchange import every_eval_ever, submissions
from harness.runs import Counts, RunResult
from harness.runs.signature import read
from harness.store import Store
from harness.system.folders import Places

THEIRS = "theirs-5w1s"  # a setting that no benchmark here has: its list cannot be compared, and nothing counted again


class Lab:
    """A home with its database."""

    def __init__(self, folder: Path, data: Path) -> None:
        folder.mkdir()
        self.places = Places(folder, data, folder / "cache", str(folder / "results.db"))

    def type(self, *words: str, code: int = 0) -> str:
        environment = {"FSBENCH_DATA": str(self.places.data), "FSBENCH_CACHE": str(self.places.cache)}
        typed = CliRunner(env=environment).invoke(fsbench.app, ["--home", str(self.places.home), *words])
        if isinstance(typed.exception, FsbenchError):
            assert typed.exception.exit_code == code, typed.exception
            return str(typed.exception)
        assert typed.exit_code == code, (typed.output, typed.exception)
        return typed.stdout

    def store(self) -> Store:
        return Store.open(self.places.db, create=True)


@pytest.fixture
def labs(tmp_path: Path) -> Iterator[Callable[[str], Lab]]:
    yield lambda name: Lab(tmp_path / name, tmp_path / "data")


@pytest.fixture
def offered(tmp_path: Path, labs: Callable[[str], Lab]) -> Path:
    """A submission of a made-up run."""
    with (ours := labs("ours")).store() as store:
        store.ingest(result(setting=THEIRS, n_episodes=20, provenance={"packages": {"fsbench": "0.1.0"}}))
        submissions.submit(store, ours.places, store.stored_runs(), tmp_path / "offered")
    [folder] = [p for p in (tmp_path / "offered").iterdir() if p.is_dir()]
    return folder


def test_a_run_is_submitted_accepted_and_counted_again_as_typed(
    labs: Callable[[str], Lab], tmp_path: Path
) -> None:
    ours, theirs, target = labs("ours"), labs("theirs"), tmp_path / "offered"
    ours.type("run", "-m", "pixels", "-b", "glyphs-5w1s", "--episodes", "30")
    with ours.store() as store:
        [run] = store.stored_runs()
    text = ours.type("submit", run.id[:6], "--output", str(target))
    assert text.strip() == (target / "PULL_REQUEST.md").read_text().strip()
    assert "| pixels | glyphs-5w1s | 0 |" in text and "fsbench run --method pixels" in text
    [folder] = [p for p in target.iterdir() if p.is_dir()]
    assert folder.name == f"{run.id}-{run.replicate[:12]}"
    assert read((folder / "SIGNATURE").read_text()).fits(run.spec)
    assert "MIT, part of fsbench" in (folder / "LICENCE.md").read_text()
    assert (
        run.provenance["host"] and "host" not in json.loads((folder / "run.json").read_text())["provenance"]
    )
    told = theirs.type("accept", str(target))
    assert (
        "taken in (" in told and "spot-checked" in told and "same counts: 0 of 30 episodes differed" in told
    )
    assert "spot-checked" in theirs.type("leaderboard")
    with ours.store() as store:
        store.ingest(turned := _turned(store.result(run.pk), 3))
        submissions.submit(store, ours.places, [store.run(run.id, turned.digest)], tmp_path / "turned")
    found = json.loads(theirs.type("accept", str(tmp_path / "turned"), "--json", code=1))
    assert [(one["accepted"], one["recheck"]) for one in found] == [(False, "different")]
    assert "disputed" in found[0]["badges"]


def _turned(true: RunResult, n: int) -> RunResult:
    """The result with as many right predictions turned over, its counts to match."""
    assert true.episodes is not None
    truth, labels = true.episodes.query_label, np.array(true.counts["top1"].predictions)
    right = np.argwhere(labels == truth)[:n]
    labels[tuple(right.T)] = (labels[tuple(right.T)] + 1) % 5
    return replace(
        true, counts={"top1": Counts((labels == truth).sum(axis=1), true.counts["top1"].n_query, labels)}
    )


def test_what_cannot_be_counted_again_is_taken_in_as_self_reported_with_the_reason(
    offered: Path, labs: Callable[[str], Lab]
) -> None:
    theirs = labs("theirs")
    [found] = json.loads(theirs.type("accept", str(offered), "--json"))
    assert found["accepted"] and found["recheck"] is None and "self-reported" in found["badges"]
    assert found["why_not"]
    assert json.loads(theirs.type("accept", str(offered.parent), "--json"))[0][
        "accepted"
    ]  # again, and by the whole folder


def test_a_checkpoint_that_is_none_is_told_and_the_others_are_checked_all_the_same(
    offered: Path, labs: Callable[[str], Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise StoreError("fit.pt is not a checkpoint of this method")

    monkeypatch.setattr("harness.jobs.rechecks.recheck", broken)
    [found] = json.loads(labs("theirs").type("accept", str(offered), "--json", code=1))
    assert "fit.pt is not a checkpoint" in found["problem"] and "self-reported" in found["badges"]


def _resealed(folder: Path) -> None:
    (folder / "SHA256SUMS").write_text(submissions._sums(folder))


def _recount(folder: Path) -> None:
    """Counts that the predictions do not give, all digests made to match."""
    true = RunResult.load(folder)
    counts = true.counts["top1"]
    false = replace(true, counts={"top1": Counts(counts.n_correct + 1, counts.n_query, counts.predictions)})
    saved = false.save(folder.parent / "scratch")
    for name in ("run.json", "result.npz"):
        shutil.copyfile(saved / name, folder / name)
    (folder / "counts.csv").write_text(submissions._counts(false))
    _resealed(folder)
    shutil.rmtree(folder.parent / "scratch")
    folder.rename(folder.parent / f"{false.spec.id}-{false.digest[:12]}")


def _edit(name: str, content: str) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        (folder / name).write_text(content)
        _resealed(folder)

    return harm


HARM: dict[str, tuple[Callable[[Path], object], str]] = {
    "a byte changed": (lambda f: (f / "result.npz").write_bytes(b"x"), "does not have the digest"),
    "a file too many": (lambda f: (f / "run.py").write_text("import os"), "is nothing that a submission has"),
    "a file too few": (lambda f: (f / "LICENCE.md").unlink(), "it lacks LICENCE.md"),
    "a link": (lambda f: (f / "LICENCE.md").unlink() or (f / "LICENCE.md").symlink_to("/etc/passwd"), "is no plain file"),
    "no digests": (lambda f: (f / "SHA256SUMS").unlink(), "it has no SHA256SUMS"),
    "another signature": (_edit("SIGNATURE", "fsbench1|x\n"), "SIGNATURE is not that of its record"),
    "another table": (_edit("counts.csv", "metric\n"), "counts.csv is not that of its record"),
    "no result": (_edit("run.json", "{}"), "is not a complete run folder"),
    "false counts": (_recount, "does not have the counts that its predictions give"),
    "another name": (lambda f: f.rename(f.parent / ("0" * 12 + "-" + "0" * 12)), "name promises"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HARM)
def test_what_does_not_hold_is_refused_by_name_and_leaves_nothing(
    kind: str, offered: Path, labs: Callable[[str], Lab]
) -> None:
    harm, problem = HARM[kind]
    harm(offered)
    theirs = labs("theirs")
    [found] = json.loads(theirs.type("accept", str(offered.parent), "--json", code=1))
    assert not found["accepted"] and problem in found["problem"]
    with theirs.store() as store:
        assert store.stored_runs() == [] and not list(theirs.places.runs.glob("*"))


def test_failed_runs_runs_without_predictions_and_empty_folders_are_refused(
    labs: Callable[[str], Lab], tmp_path: Path
) -> None:
    with (ours := labs("ours")).store() as store:
        store.ingest(failure("broken"))
        store.ingest(result("bare", n_episodes=20, keep_predictions=False))
        by_name = {run.spec.method.name: run for run in store.stored_runs()}
        with pytest.raises(ConfigError, match="only results can be submitted"):
            submissions.submit(store, ours.places, [by_name["broken"]], tmp_path / "offered")
        with pytest.raises(ConfigError, match="nobody can count them"):
            submissions.submit(store, ours.places, [by_name["bare"]], tmp_path / "offered")
    (tmp_path / "empty").mkdir()
    assert "holds no submission" in ours.type("accept", str(tmp_path / "empty"), code=2)


# --- Every Eval Ever -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def their_schema(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The schema out of the wheel of their package, which itself asks for a newer Python than this one."""
    folder, wanted = tmp_path_factory.mktemp("wheel"), f"every-eval-ever=={every_eval_ever.SCHEMA}"
    newer = ("--only-binary=:all:", "--python-version", "3.12")
    pip("download", "--quiet", "--no-deps", *newer, "--dest", str(folder), wanted)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        schema: dict[str, Any] = json.loads(wheel.read("every_eval_ever/schemas/eval.schema.json"))
    assert schema["version"] == every_eval_ever.SCHEMA
    return schema


def _named(said: Any, schema: dict[str, Any], root: dict[str, Any], where: str = "") -> Iterator[str]:
    """Every field that a schema does not name, where it names any: it takes others, which nobody would read."""
    kinds = [schema, *schema.get("oneOf", [])]
    kinds = [root["$defs"][kind["$ref"].rpartition("/")[2]] if "$ref" in kind else kind for kind in kinds]
    known = {name: field for kind in kinds for name, field in kind.get("properties", {}).items()}
    takes_any = not known or any(isinstance(kind.get("additionalProperties"), dict) for kind in kinds)
    if isinstance(said, dict):
        for name, value in said.items():
            if name in known:
                yield from _named(value, known[name], root, f"{where}/{name}")
            elif not takes_any:
                yield f"{where}/{name}"
    for one in said if isinstance(said, list) else ():
        yield from _named(one, schema.get("items", {}), root, f"{where}[]")


def test_the_record_of_every_eval_ever_has_what_its_schema_asks(
    offered: Path, their_schema: dict[str, Any]
) -> None:
    if find_spec("jsonschema") is None:
        absent("jsonschema is not installed: pip install -c constraints.txt -e '.[dev]'")
    jsonschema = import_module("jsonschema")
    record, run = json.loads((offered / "every_eval_ever.json").read_text()), RunResult.load(offered)
    jsonschema.validate(record, their_schema)
    assert list(_named(record, their_schema, their_schema)) == []
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**record, "model_info": {"name": "m", "id": "a/m"}}, their_schema)
    [found] = record["evaluation_results"]
    shares = run.counts["top1"].n_correct / run.counts["top1"].n_query
    assert found["score_details"]["score"] == pytest.approx(shares.mean(), abs=1e-12)
    told = found["score_details"]["uncertainty"]
    assert told["standard_error"]["value"] == pytest.approx(shares.std(ddof=1) / 20**0.5, abs=1e-12)
    half = 2.093024 * told["standard_error"]["value"]  # Student's t, 19 degrees of freedom, from a table
    assert told["confidence_interval"]["upper"] == pytest.approx(shares.mean() + half, abs=1e-6)
    assert read(found["score_details"]["details"]["signature"]).fits(run.spec)
    one = replace(run, counts={"top1": Counts(np.array([3]), np.array([5]))})
    assert "uncertainty" not in every_eval_ever.as_record(one)["evaluation_results"][0]["score_details"]
