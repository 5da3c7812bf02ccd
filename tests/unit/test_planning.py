"""Plans: many specs at once, grouped by fit, with what they are expected to cost."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from made_up_results import result

from harness import benchmarks
from harness.errors import ConfigError, DataError, MisfitError
from harness.jobs import dispatch
from harness.jobs.batches import Batch, Group, JobState
from harness.jobs.packing import split
from harness.runs import estimates, planning
from harness.runs.request import Request
from harness.store import Store
from harness.system.folders import Places


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


def test_a_thousand_specs_open_each_image_set_once(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    original = benchmarks.Benchmark.open

    def counting(self, role, *arguments):  # type: ignore[no-untyped-def]
        opened.append((self.key, role))
        return original(self, role, *arguments)

    monkeypatch.setattr(benchmarks.Benchmark, "open", counting)
    monkeypatch.setattr(benchmarks.Setting, "_draw", lambda self: pytest.fail("an episode list was drawn"))
    specs = planning.plan(["pixels", "protonet"], ["glyphs-5w1s", "glyphs-5w5s"], range(250), Request(), data)
    assert len({spec.id for spec in specs}) == 1000
    assert sorted(opened) == sorted({("glyphs", "base"), ("glyphs", "validation"), ("glyphs", "novel")})


def test_runs_that_share_a_fit_are_one_group_in_the_order_of_the_plan(data: Path) -> None:
    specs = planning.plan(["protonet"], ["glyphs-5w1s", "glyphs-20w1s"], [3, 1], Request(), data)
    groups = planning.grouped(specs)
    assert [[(s.setting, s.seed) for s in group] for group in groups] == [
        [("glyphs-5w1s", 3), ("glyphs-20w1s", 3)],
        [("glyphs-5w1s", 1), ("glyphs-20w1s", 1)],
    ]


def test_a_name_that_no_method_has_is_refused(data: Path) -> None:
    with pytest.raises(ConfigError, match="is not a method"):
        planning.plan(["protnet"], ["glyphs-5w1s"], [0], Request(), data)


def test_a_method_of_another_protocol_is_refused(data: Path) -> None:
    said = "neg-cosine speaks the episodic protocol; glyphs-lowshot is joint"
    with pytest.raises(ConfigError, match=said):
        planning.plan(["neg-cosine"], ["glyphs-lowshot-n1"], [0], Request(), data)


def test_hours_come_from_earlier_runs_of_the_same_kind(tmp_path: Path) -> None:
    with Store.open(tmp_path / "results.db", create=True) as store:
        for seed, fit in ((0, 100.0), (1, 300.0)):
            seconds = {"fit": fit, "embed": 10.0, "evaluate": 3.0}
            store.ingest(
                result(
                    "protonet", seed=seed, n_episodes=300, provenance={"seconds": seconds, "parameters": 10}
                )
            )
        past = store.durations({"protonet"})
        assert store.durations({"bml"}) == []
    spec = result("protonet", seed=7, n_episodes=2).spec
    longer = replace(spec, n_episodes=600)
    other = replace(spec, benchmark="omniglot")
    expected = estimates.expect([[longer, spec], [other]], past)
    assert expected[longer.id].seconds == pytest.approx(
        200 + 10 + 6
    )  # mean fit and embedding, 0.01 s an episode
    assert expected[spec.id].seconds == pytest.approx(0.02)  # the fit is there by then
    assert expected[other.id].seconds is None


def test_what_is_known_is_not_done_again(tmp_path: Path) -> None:
    place = Places(tmp_path, tmp_path, tmp_path, str(tmp_path / "results.db"))
    stored, written, new = (result(seed=seed, n_episodes=5) for seed in range(3))
    written.save(place.runs)
    with Store.open(place.db, create=True) as store:
        store.ingest(stored)
        specs = [r.spec for r in (stored, written, new)]
        assert [p.state for p in dispatch.classify(specs, place, store)] == ["stored", "written", "new"]
        assert [p.state for p in dispatch.classify(specs, place, store, force=True)] == ["new"] * 3


@pytest.mark.parametrize(("n_episodes", "shards"), [(2000, 8), (50, 3), (16, 4), (17, 2), (1, 5)])
def test_shards_cover_every_episode_once_and_begin_at_whole_batches(n_episodes: int, shards: int) -> None:
    spec = result(n_episodes=2).spec
    whole = Group((replace(spec, n_episodes=n_episodes),), "/h", "/d", "/c", "cpu", {})
    first, *parts = split(whole, shards, number=5)
    assert first.only_ready and all(part.after == (5,) for part in parts) and len(parts) <= shards
    covered = [i for part in parts for i in range(*part.episodes or ())]
    assert covered == list(range(n_episodes))
    assert all((part.episodes or (1,))[0] % 16 == 0 for part in parts)


def test_a_group_survives_its_file(tmp_path: Path) -> None:
    group = Group(
        (result(n_episodes=2).spec,), "/h", "/d", "/c", "cpu", {"protonet": "0"}, episodes=(0, 16), after=(1,)
    )
    batch = Batch.create(tmp_path, "local", [group], {"jobs": 2})
    assert batch.group(0) == group and batch.options == {"jobs": 2} and batch.numbers == [0]
    assert JobState.load(batch.group_path(0)) is None and batch.job(0) == ""
    assert Batch.every(tmp_path) == [batch]


def test_planning_a_thousand_specs_is_quick(data: Path, tmp_path: Path) -> None:
    """Ten times the promised second: this guards against work per spec (20 s before), not against slow machines."""
    planning.plan(["pixels"], ["glyphs-5w1s"], [0], Request(), data)
    began = time.process_time()
    specs = planning.plan(["pixels", "protonet"], ["glyphs-5w1s", "glyphs-5w5s"], range(250), Request(), data)
    with Store.open(tmp_path / "results.db", create=True) as store:
        dispatch.classify(specs, Places(tmp_path, data, tmp_path, ""), store)
    assert time.process_time() - began < 10


def test_a_glob_goes_past_sets_that_are_not_prepared_and_names_them(data: Path) -> None:
    found = planning.survey(["pixels"], ["mini-5w*", "glyphs-5w1s"], [0, 1], Request(), data)
    assert [spec.setting for spec in found.specs] == ["glyphs-5w1s"] * 2
    assert [(entry.method, entry.setting) for entry in found.left_out] == [
        ("pixels", "mini-5w1s"), ("pixels", "mini-5w5s")
    ]  # fmt: skip
    assert all("`fsbench prepare mini" in str(entry.error) for entry in found.left_out)


def test_a_setting_that_is_named_must_be_prepared_though_a_glob_names_it_too(data: Path) -> None:
    with pytest.raises(DataError, match="mini is not prepared"):
        planning.survey(["pixels"], ["mini-*", "mini-5w1s"], [0], Request(), data)
    with pytest.raises(DataError, match="mini is not prepared"):
        planning.survey(["pix*"], ["mini-5w1s"], [0], Request(), data)  # a glob of methods excuses no set


def test_a_glob_goes_past_methods_that_do_not_speak_the_protocol(data: Path) -> None:
    found = planning.survey(["neg-c*", "nearest-mean"], ["glyphs-lowshot-n1"], [0], Request(), data)
    assert [spec.method.name for spec in found.specs] == ["nearest-mean"]
    [entry] = found.left_out
    assert entry.method == "neg-cosine" and isinstance(entry.error, MisfitError)
    with pytest.raises(MisfitError, match="speaks the episodic protocol"):
        planning.survey(["neg-cosine"], ["glyphs-lowshot-n1"], [0], Request(), data)


def test_a_wrong_word_is_never_passed_over(data: Path) -> None:
    with pytest.raises(ConfigError, match="margn"):
        planning.survey(["*"], ["glyphs-*"], [0], Request(overrides={"margn": "1"}), data)
