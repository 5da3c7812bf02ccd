"""What hardware does to numbers: recorded with a run, told apart from a difference, and held still by --deterministic."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import made_up_results as made
import pytest
import torch
from sqlalchemy import inspect

from harness.report.board.hardware import moved
from harness.report.board.tables import stored_runs, tables
from harness.runs.findings import Recheck
from harness.runs.request import threads_told
from harness.runs.schema import PROVENANCE, find_problem
from harness.store import Store
from harness.store.connection import engine_for
from harness.system import process, provenance

TRAINING = """
import hashlib, torch
from harness.system import process
process.settle_threads()
process.settle()
torch.manual_seed(0)
layers = [torch.nn.Conv2d(3, 32, 3), torch.nn.BatchNorm2d(32), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(21632, 10)]
net = torch.nn.Sequential(*layers)
optimiser = torch.optim.SGD(net.parameters(), 0.1)
x, y = torch.rand(64, 3, 28, 28), torch.arange(64) % 10
for _ in range(3):
    optimiser.zero_grad()
    torch.nn.functional.cross_entropy(net(x), y).backward()
    optimiser.step()
digest = hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in net.state_dict().values())).hexdigest()
print(torch.get_num_threads(), digest)
"""


def _trained(threads: int, is_deterministic: bool) -> list[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    environment |= {process.DETERMINISTIC: "1"} if is_deterministic else {}
    told = subprocess.run(
        [sys.executable, "-c", TRAINING], env=environment, capture_output=True, text=True, check=True
    )
    return told.stdout.split()


def test_deterministic_trainings_have_the_same_bits_at_any_number_of_threads() -> None:
    one, two = _trained(1, is_deterministic=True), _trained(2, is_deterministic=True)
    assert one == two and one[0] == "1"
    assert _trained(2, is_deterministic=False)[0] == str(min(2, process.n_cpus()))


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS"])
def test_a_number_of_threads_that_is_given_holds_whichever_library_it_is_given_to(name: str) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.endswith("_NUM_THREADS")}
    asked = "from harness.system import process; process.settle_threads(); import torch; print(torch.get_num_threads())"
    words, environment = [sys.executable, "-c", asked], {**environment, name: "1"}
    assert subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout == "1\n"


def test_what_rounds_sums_is_recorded_and_may_be_stored() -> None:
    told = provenance.describe(torch.device("cpu"))
    assert told["threads"] == torch.get_num_threads() and told["torch"] == torch.__version__
    assert told["instructions"] in torch.__config__.show() and told["cpu"] and told["libraries"]
    training = provenance.numerics(torch.device("cpu"))
    assert not find_problem(PROVENANCE, {**told, "training": training}, "provenance")
    assert "training.threads" in find_problem(PROVENANCE, {"training": {"threads": "two"}}, "provenance")


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"device_type": "cpu", "threads": 4}, "OMP_NUM_THREADS=4 MKL_NUM_THREADS=4 "),
        ({"device_type": "cpu", "threads": 4, "training": {"device_type": "cpu", "threads": 2}}, "OMP_NUM_THREADS=2 MKL_NUM_THREADS=2 "),
        ({"device_type": "cuda", "threads": 4}, ""),
        ({"device_type": "cpu", "cpus": 4}, ""),
    ],
)  # fmt: skip
def test_a_command_carries_the_threads_of_the_training(facts: dict[str, Any], told: str) -> None:
    assert threads_told(facts) == told


@pytest.mark.parametrize(
    ("n_differing", "n_predictions", "n_other", "word"),
    [
        (0, 3_750, 0, "same counts"),
        (0, 0, 0, "same counts"),
        (1, 10_050, 1, "same up to hardware"),
        (2, 20_000, 2, "same up to hardware"),
        (2, 19_999, 2, "different"),
        (1, 3_000, 1, "same up to hardware"),
        (2, 3_000, 2, "different"),
        (1, 0, 0, "different"),
    ],
)
def test_a_recheck_has_one_of_three_words(
    n_differing: int, n_predictions: int, n_other: int, word: str
) -> None:
    check = Recheck("2030", "cpu", 0, 50, n_differing, n_predictions, n_other)
    assert check.word == word and check.sentence.startswith(word)


def test_predictions_of_a_recheck_are_stored_beside_it_in_a_table_that_appears_with_them(
    tmp_path: Path,
) -> None:
    run, name = made.result(), "recheck_prediction"
    old, rounded = Recheck("2030-01-01", "cpu", 0, 50, 1), Recheck("2030-01-02", "cpu", 0, 134, 1, 10_050, 1)
    with Store.open(tmp_path / "results.db", create=True) as store:
        store.ingest(run)
        store.add_recheck(run.spec.id, run.digest, old)
        assert name not in inspect(engine_for(tmp_path / "results.db")).get_table_names()
        assert store.run(run.spec.id).badges == ("disputed",)
        for _ in range(2):
            store.add_recheck(run.spec.id, run.digest, rounded)
        assert store.run(run.spec.id).rechecks == (old, rounded) == store.stored_runs()[0].rechecks
        assert store.run(run.spec.id).badges == ("spot-checked",)
    with Store.open(tmp_path / "results.db") as store:
        store.delete_run(run.spec.id)
        store.purge()
    with engine_for(tmp_path / "results.db").connect() as connection:
        assert connection.exec_driver_sql(f"SELECT count(*) FROM {name}").scalar() == 0


def test_pages_say_how_far_trainings_moved_on_other_hardware(tmp_path: Path) -> None:
    def ingest(method: str, skill: float, **facts: Any) -> float:
        run = made.result(method, skill=skill, provenance=facts)
        store.ingest(run)
        return float((run.counts["top1"].n_correct / 75).mean())

    with Store.open(tmp_path / "results.db", create=True) as store:
        ingest("alone", 0.5, threads=1)
        assert moved(store, stored_runs(store)).n_runs == 0
        assert "No training here was repeated" in tables(store)[0].moved.sentence
        near = [ingest("near", skill, training={"threads": n}) for skill, n in ((0.60, 1), (0.61, 2))]
        far = [ingest("far", skill, device=device) for skill, device in ((0.60, "A"), (0.65, "B"))]
        ingest("same", 0.6, device="A", threads=1)
        ingest("same", 0.7, device="A", threads=1)  # by chance or by a bug, not by hardware
        ingest("untrained", 0.6, device="A", badges=["untrained"])
        ingest("untrained", 0.7, device="B", badges=["untrained"])
        found = tables(store)[0].moved
    apart = [abs(one - other) for one, other in (near, far)]
    assert found.n_runs == 2 and found.largest == pytest.approx(max(apart), abs=1e-12)
    assert found.typical == pytest.approx((sum(x * x for x in apart) / 2) ** 0.5, abs=1e-12)
    assert f"moved by up to {100 * max(apart):.1f} points" in found.sentence


def test_one_key_trained_twice_is_two_trainings(tmp_path: Path) -> None:
    """Weights tell, or what trained them; where neither is known the key alone."""
    here = {"cpu": "A", "threads": 1}
    with Store.open(tmp_path / "results.db", create=True) as store:
        for name, facts in (
            ("first", {"training": here, "fit_sha256": "0123"}),
            ("same", {"training": {"cpu": "B"}, "fit_sha256": "0123"}),
            ("other", {"training": here, "fit_sha256": "4567"}),
            ("unknown", {"training": here}),
            ("elsewhere", {"training": {"cpu": "B", "threads": 1}}),
            ("older", {}),
        ):
            store.ingest(made.result(name, provenance=facts))
        found = {
            run.spec.method.name: replace(run, spec=stored_runs(store)[0].spec).training
            for run in stored_runs(store)
        }
    assert found["first"] == found["same"]
    assert len(set(found.values())) == 5
