"""What a training took is counted by the harness, is told apart from what it is built on, and is shown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import made_up_results as made
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from harness.backbones import build
from harness.report import exports
from harness.report.board.tables import tables
from harness.report.formats import images_text
from harness.report.pages import figures, setting_page
from harness.runs.budget import Budget, Spent
from harness.runs.schema import PROVENANCE, find_problem
from harness.seeding import torch_generator
from harness.store import Store
from harness.system.progress import Silent
from harness.testing import tiny_store
from harness.training.base_set import BaseSet
from harness.training.fit_context import FitContext

CPU = torch.device("cpu")
SIZE, WAY, SHOT, N_QUERY = 32, 5, 1, 3


class Trainee(nn.Module):
    """Batches in the first epoch, episodes in the second."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = build("conv4", 28, 1)

    def fit_base(self, base: BaseSet, ctx: FitContext, n_episodes: int = 4) -> None:
        optimiser = torch.optim.SGD(self.parameters(), lr=0.1)
        for epoch in ctx.epochs(2, model=self, optimiser=optimiser):
            episodes = (e.images.flatten(0, 1) for e in base.episodes(n_episodes, WAY, SHOT, N_QUERY))
            for x in episodes if epoch else (x for x, _ in base.batches(SIZE)):
                ctx.backward(self.net(x).square().mean())
                ctx.step(optimiser)


def context(folder: Path, **given: Any) -> FitContext:
    rng = torch_generator(0, "training")
    return FitContext(
        folder, device=CPU, rng=rng, seed=0, precision="fp32", validate=None, progress=Silent(), **given
    )


def trained(folder: Path, **given: Any) -> tuple[Trainee, FitContext]:
    method, ctx = Trainee(), context(folder, **given)
    method.fit_base(BaseSet(tiny_store("base"), "stored", CPU, ctx.rng, ctx.tick), ctx)
    return method, ctx


def test_images_steps_and_flop_are_those_of_the_batches_and_episodes(tmp_path: Path) -> None:
    method, ctx = trained(tmp_path)
    told, n = ctx.record()["effort"], len(tiny_store("base"))
    assert told["images"] == n + 4 * WAY * (SHOT + N_QUERY)
    assert told["steps"] == -(-n // SIZE) + 4
    with FlopCounterMode(display=False) as counter:
        method.net(torch.zeros(SIZE, 1, 28, 28)).square().mean().backward()
    assert told["flop"] == pytest.approx(counter.get_total_flops() / SIZE * told["images"], rel=1e-6)


def test_counting_changes_no_weight_and_compiled_kernels_are_not_counted(tmp_path: Path) -> None:
    method, _ = trained(tmp_path / "counted")
    other, ctx = trained(tmp_path / "not", is_compiled=True)
    assert ctx.record()["effort"]["flop"] is None and ctx.record()["effort"]["images"]
    assert all(torch.equal(a, b) for a, b in zip(method.parameters(), other.parameters(), strict=True))


def test_an_interrupted_training_counts_every_image_once(tmp_path: Path) -> None:
    class Interrupted(BaseSet):
        def episodes(self, *args: Any, **given: Any) -> Iterator[Any]:
            yield from islice(super().episodes(*args, **given), 2)
            raise KeyboardInterrupt

    method, ctx = Trainee(), context(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        method.fit_base(Interrupted(tiny_store("base"), "stored", CPU, ctx.rng, ctx.tick), ctx)
    ctx.close()
    _, resumed = trained(tmp_path)
    _, whole = trained(tmp_path / "whole")
    assert resumed.record()["effort"] == whole.record()["effort"]


def test_a_warning_of_a_training_is_kept(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    ctx.warn("a term is saturated")
    assert ctx.record()["warnings"] == ["a term is saturated"]


@pytest.fixture
def page(tmp_path: Path) -> Iterator[setting_page.SettingPage]:
    def spent(images: int) -> dict[str, Any]:
        return {"images": images, "steps": images // 64, "seconds": 0.01 * images, "flop": 1_000 * images}

    facts = {
        "own": {"budget": {"own": spent(36_000), "below": spent(0)}},
        "head": {
            "budget": {"own": spent(0), "below": spent(51_200)},
            "warnings": ["the loss is above chance"],
        },
        "older": {},
    }
    assert [find_problem(PROVENANCE, fact, "provenance") for fact in facts.values()] == ["", "", ""]
    with Store.open(tmp_path / "results.db", create=True) as store:
        for name, fact in facts.items():
            store.ingest(made.result(name, provenance=fact))
        [table] = tables(store)
        yield setting_page.build(store, table)


def test_a_row_tells_its_own_images_and_those_below_it_apart(page: setting_page.SettingPage) -> None:
    told = {entry.row.method: images_text(entry.row.budget) for entry in page.entries}
    assert told == {"own": "36,000", "head": "0 + 51,200", "older": "–"}
    cost = {entry.row.method: entry.cost.images for entry in page.entries}
    assert cost == {"own": 36_000, "head": 51_200, "older": None}
    [record] = [r for r in exports.records(page) if r["method"] == "head"]
    assert (record["train_images"], record["below_images"], record["below_flop"]) == (0, 51_200, 51_200_000)
    assert "0 + 51,200" in exports.as_markdown([page])
    assert '"below_images":51200' in exports.as_json([page])


def test_accuracy_is_drawn_against_images_on_a_logarithmic_axis(page: setting_page.SettingPage) -> None:
    drawn = figures.images(page)
    assert drawn is not None and "51,200 images" in drawn and "training images seen" in drawn


def test_a_training_that_warns_marks_its_row(page: setting_page.SettingPage) -> None:
    marks = {entry.row.method: entry.row.marks for entry in page.entries}
    assert "its training warns" in marks["head"] and "its training warns" not in marks["own"]


def test_sums_are_unknown_where_a_part_is() -> None:
    known, unknown = {"seconds": 2.0, "effort": {"images": 5, "steps": 1, "flop": None}}, {"seconds": 3.0}
    assert Spent.of_records([known, known]) == Spent(10, 2, 4.0, None)
    assert Spent.of_records([known, unknown]).images is None and Spent.of_records([]).images == 0
    budget = Budget.from_json(json.loads(json.dumps({"own": vars(Spent.of_records([known]))})))
    assert budget == Budget(Spent(5, 1, 2.0, None), Spent(None, None, None, None))
