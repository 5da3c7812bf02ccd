"""Credentials are kept nowhere; names and paths of the machine are not published unless that is asked for."""

from __future__ import annotations

import io
import json
import logging
import platform
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from stored_results import failure_of, run_of

from harness.exchange import bundles
from harness.report import render
from harness.runs import MethodReference, RunResult
from harness.runs.folders import mark_collected
from harness.runs.publishing import published_result, published_run
from harness.store import Store
from harness.system import process
from harness.system.folders import Places
from harness.system.secrets import (
    WithoutCredentials,
    all_without_credentials,
    without_credentials,
    without_machine,
)

PASSWORD = "hunter2"
ADDRESS = f"postgresql+psycopg://anna:{PASSWORD}@db.example:5432/results"


@pytest.mark.parametrize(
    "text",
    [
        ADDRESS,
        f"could not reach {ADDRESS}, giving up",
        f"postgresql://anna:pa/ss@{PASSWORD}@db.example/results",  # what a URL should have escaped
        f"https://{PASSWORD}@git.example/anna/mine.git",
        f"https://oauth2:{PASSWORD}@git.example/anna/mine.git",
        f"postgresql://db.example/results?user=anna&password={PASSWORD}",
        f"host=db.example password={PASSWORD} dbname=results",
        f"sslpassword={PASSWORD}",
        f"HTTPS://A:{PASSWORD}@X",
    ],
)
def test_credentials_are_taken_out(text: str) -> None:
    shown = without_credentials(text)
    assert PASSWORD not in shown and "anna:" not in shown
    assert without_credentials(shown) == shown


@pytest.mark.parametrize(
    "text",
    ["results.db", "https://arxiv.org/abs/1902.03477", "anna@example.org", "git@git.example:anna/x", "a:b@c", "http://h:8000/x"],
)  # fmt: skip
def test_what_holds_none_stays(text: str) -> None:
    assert without_credentials(text) == text


def test_paths_and_names_of_the_machine_are_taken_out() -> None:
    told = f'File "/home/anna/few shot/mine.py", line 3, in fit; ~/.cache/fsbench/fits/ab on {platform.node()}, node17'
    shown = without_machine(told, "node17")
    assert not any(part in shown for part in ("anna", "home", "cache", "node17"))
    assert "mine.py" in shown and "line 3" in shown
    for text in ("5/6 and/or </p> https://arxiv.org/abs/12/34", "runs/ab/log.txt"):
        assert without_machine(text) == text


def test_no_text_makes_it_slow() -> None:
    """Each of these has a million characters; a pattern that goes back over them would take hours."""
    for text in ("a-" * 500_000, "a://a:" * 170_000, "-/" * 500_000, "password=" * 110_000):
        without_machine(text)


def test_every_text_of_a_json_value_is_looked_at() -> None:
    assert PASSWORD not in json.dumps(all_without_credentials({"a": [{"b": ADDRESS}], "c": (ADDRESS, 1)}))


def test_a_log_line_and_its_traceback_have_none() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(WithoutCredentials("%(message)s"))
    logger = logging.getLogger("fsbench.test_secrets")
    logger.addHandler(handler)
    try:
        raise ValueError(ADDRESS)
    except ValueError:
        logger.exception("at %s", ADDRESS)
    logger.removeHandler(handler)
    assert PASSWORD not in stream.getvalue() and stream.getvalue().count("db.example") == 2


def _everything(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_a_run_folder_holds_no_password(tmp_path: Path) -> None:
    failed = failure_of(traceback=f"OperationalError: {ADDRESS}")
    with process.log_file(tmp_path / "log.txt"):
        logging.getLogger("fsbench.x").error("lost %s", ADDRESS)
    folder = failed.save(tmp_path / "runs", tmp_path / "log.txt")
    mark_collected(folder, ADDRESS)
    told = _everything(folder)
    assert PASSWORD.encode() not in told and told.count(b"db.example") == 3
    assert "db.example" in RunResult.load(folder).traceback


def test_the_database_holds_no_password(tmp_path: Path) -> None:
    with Store.open(tmp_path / "results.db", create=True) as store:
        store.ingest(replace(run_of(), provenance={"remote": ADDRESS}))
        store.ingest(failure_of(seed=1, traceback=ADDRESS))
    assert PASSWORD.encode() not in (tmp_path / "results.db").read_bytes()


def test_places_print_no_password() -> None:
    assert PASSWORD not in repr(Places(Path("a"), Path("b"), Path("c"), ADDRESS))


def of_a_machine(seed: int = 0) -> RunResult:
    """A result that says whose machine made it, wherever a run may."""
    made = run_of(seed)
    method = MethodReference("/home/anna/work/mine.py:Mine", "mine", "1", "a" * 64)
    facts = {
        **made.provenance,
        "host": "node17",
        "about": {"deviations": "see /home/anna/notes/x.md on node17"},
    }
    return replace(made, spec=replace(made.spec, method=method), provenance=facts)


@pytest.mark.parametrize("with_host", [False, True])
def test_an_archive_names_the_machine_only_when_asked(tmp_path: Path, with_host: bool) -> None:
    places = Places(tmp_path, tmp_path / "data", tmp_path / "cache", str(tmp_path / "results.db"))
    result, bundle = of_a_machine(), tmp_path / "one.tar.gz"
    (tmp_path / "log.txt").write_text("node17: reading /home/anna/data/x")
    result.save(places.runs, tmp_path / "log.txt")
    with Store.open(places.db, create=True) as store:
        store.ingest(result)
        bundles.export(store, places, [result.spec.id], bundle, with_fits=False, with_host=with_host)
    with tarfile.open(bundle) as archive:
        archive.extractall(tmp_path / "there", filter="data")
    told = _everything(tmp_path / "there")
    assert (b"anna" in told) is (b"node17" in told) is with_host
    [folder] = (tmp_path / "there/runs").iterdir()
    assert RunResult.load(folder).spec.id == result.spec.id
    assert RunResult.load(folder).digest == result.digest


@pytest.mark.parametrize("with_host", [False, True])
def test_pages_name_the_machine_only_when_asked(tmp_path: Path, with_host: bool) -> None:
    with Store.open(tmp_path / "results.db", create=True) as store:
        store.ingest(of_a_machine())
        store.ingest(
            replace(of_a_machine(1), status="failed", counts={}, episodes=None, traceback="/home/anna/x.py")
        )
        render.write(store, tmp_path / "reports", with_host=with_host)
    told = _everything(tmp_path / "reports")
    assert (b"anna" in told) is (b"node17" in told) is with_host


def test_publishing_moves_neither_id_nor_counts(tmp_path: Path) -> None:
    result = of_a_machine()
    shown = published_result(result)
    assert (shown.spec.id, shown.spec.fit_key, shown.digest) == (
        result.spec.id,
        result.spec.fit_key,
        result.digest,
    )
    with Store.open(tmp_path / "results.db", create=True) as store:
        store.ingest(result)
        run = store.run(result.spec.id)
    assert published_run(run).spec.row_key == run.spec.row_key
