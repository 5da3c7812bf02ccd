"""What the pages compute: ranks, holes, intervals, pairs, what a run says of itself; against plain references."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import made_up_results as made
import numpy as np
import pytest

from harness import stats
from harness.errors import ConfigError, StoreError
from harness.report import formats, prose
from harness.report.board import by_class, pairs, power, published
from harness.report.board.rows import planned_trainings
from harness.report.board.tables import episodes_to_rank, stored_runs, tables
from harness.report.pages import changes, counts_script, figures, index_page, method_page, pictures, run_page
from harness.report.pages import setting_page as setting
from harness.runs import ConfigValue, Counts
from harness.store import Store, StoredRun


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(tmp_path_factory.mktemp("report") / "results.db", create=True) as opened:
        made.fill(opened)
        yield opened


@pytest.fixture(scope="module")
def pages(store: Store) -> list[setting.SettingPage]:
    return [setting.complete(store, setting.build(store, table)) for table in tables(store)]


def _page(pages: list[setting.SettingPage], name: str) -> setting.SettingPage:
    return next(page for page in pages if page.table.name == name)


def test_rows_pool_seeds_and_partial_rows_have_no_rank(pages: list[setting.SettingPage]) -> None:
    page = _page(pages, "glyphs-5w1s")
    by_name = {entry.row.method: entry for entry in page.entries}
    assert by_name["method-0"].row.seeds == (0, 1, 2) and by_name["method-0"].row.interval.kind == "training"
    assert by_name["partial"].row.rank is None and by_name["partial"].row.n_episodes == 100
    assert "partial" in by_name["method-4"].row.badges  # 300 of the benchmark's 2,000
    assert page.table.n_ranked == 300


def test_ranks_intervals_and_pairs_are_those_of_one_judgement(pages: list[setting.SettingPage]) -> None:
    table = _page(pages, "glyphs-5w1s").table
    found = stats.judge([row.evidence for row in table.ranked], table.prior)
    better = found.pairs.is_better
    assert table.pairs is not None and (table.pairs.p_adjusted == found.pairs.p_adjusted).all()
    for k, row in enumerate(table.ranked):
        assert row.rank == (1 + better[:, k].sum(), len(better) - better[k].sum())
        assert (row.interval.low, row.interval.high) == (found.headline.low[k], found.headline.high[k])
    assert table.prior.n_rows == 5 and not table.prior.lends  # two methods with three seeds, one hole


def test_one_row_of_a_method_is_ranked_and_its_variants_are_a_family(tmp_path: Path) -> None:
    def run(method: str, skill: float, config: dict[str, ConfigValue], **changes: object) -> None:
        for seed in range(3):
            store.ingest(made.result(method, skill=skill, seed=seed, changes={"config": config, **changes}))

    with Store.open(tmp_path / "results.db", create=True) as store:
        run("a", 0.6, {"lr": ConfigValue(0.1, "default")})
        run("a", 0.7, {"lr": ConfigValue(0.2, "--set")})
        run("a", 0.65, {"lr": ConfigValue(0.1, "default")}, backbone="resnet12")
        run("b", 0.5, {})
        page = setting.build(store, tables(store)[0])
    assert [row.label for row in page.table.ranked] == ["a", "b"]
    assert [(row.label, row.variant_of) for row in page.table.rows[2:]] == [("a (lr=0.2)", "a"), ("a", "a")]
    [variants] = page.variants
    assert len(variants.rows) == 3 and [len(cells) for cells in variants.matrix] == [2, 1, 0]
    assert {row.backbone for row in page.table.ranked} == {"conv4"}


def test_imported_weights_and_methods_without_training_are_marked(tmp_path: Path) -> None:
    with Store.open(tmp_path / "results.db", create=True) as store:
        store.ingest(made.result("a", changes={"weights_sha256": "a" * 64, "seen": ("mini",)}))
        store.ingest(made.result("b", provenance={"badges": ["untrained"]}))
        for seed in range(4):
            store.ingest(made.result("c", seed=seed))
        rows = {row.method: row for row in tables(store)[0].rows}
    assert rows["a"].marks[0].startswith("† this checkpoint") and "borrowed" in rows["a"].marks[1]
    assert rows["b"].marks == () and rows["b"].seed_sd == 0 and rows["b"].badges[-1] == "untrained"
    assert rows["c"].marks == ("extended past the planned 3 trainings: judged at .02",)


def test_a_benchmark_declares_how_many_trainings_are_planned(tmp_path: Path) -> None:
    lake = "omniglot-lake-20w1s-small1"
    assert [planned_trainings(name) for name in (lake, "glyphs-5w1s", "gone-5w1s")] == [5, 3, 3]
    with Store.open(tmp_path / "results.db", create=True) as store:
        for seed in range(5):
            store.ingest(made.result("a", setting=lake, seed=seed))
        [row] = tables(store)[0].rows
    assert row.evidence.n_planned == 5 and row.marks == ()


def test_all_right_has_an_interval_and_nothing_leaves_the_scale(tmp_path: Path) -> None:
    with Store.open(tmp_path / "results.db", create=True) as store:
        run = made.result("a", n_episodes=20)
        every = run.counts["top1"].n_query
        right = np.tile(np.repeat(np.arange(5), 15), (20, 1)).astype(np.uint8)
        store.ingest(replace(run, counts={"top1": Counts(every, every, right)}))
        [entry] = setting.build(store, tables(store)[0]).entries
    interval = entry.row.interval
    assert entry.row.mean == 1 and interval.high == 1 and interval.low is not None and 0.8 < interval.low < 1
    assert entry.by_class is not None and entry.by_class.high == 1


def test_the_matrix_is_the_upper_triangle_of_all_pairs(pages: list[setting.SettingPage]) -> None:
    page = _page(pages, "glyphs-5w1s")
    n = len(page.table.ranked)
    assert [len(cells) for cells in page.matrix] == list(range(n - 1, -1, -1))
    expected = page.table.ranked[1].accuracy.mean() - page.table.ranked[4].accuracy.mean()
    assert page.matrix[1][2].difference == pytest.approx(
        expected, abs=1e-12
    )  # same numbers, another order of sums


def test_intervals_are_those_of_the_statistics_package(
    store: Store, pages: list[setting.SettingPage]
) -> None:
    page = _page(pages, "omniglot-20w1s")
    entry = page.entries[0]
    classes = store.episode_list(page.table.list_digest).classes
    assert entry.row.sampler == stats.sampler_interval(entry.row.accuracy.mean(axis=0))
    # all 20 classes are in every 20-way episode of 20 classes, so none can be left out
    assert entry.by_class is not None and entry.by_class.low is None and classes.shape[1] == made.N_CLASSES
    other = _page(pages, "glyphs-5w1s").entries[0]
    classes = store.episode_list(_page(pages, "glyphs-5w1s").table.list_digest).classes
    assert other.row.seed is not None and other.row.seed.variance > 0
    by_episode = other.row.accuracy.mean(axis=0)
    assert other.by_class == stats.class_interval(by_episode, classes, seed=other.row.seed)


def test_rotations_of_a_character_are_one_class_of_the_class_interval(tmp_path: Path) -> None:
    names = [f"Greek/character{i:02d}/rot{turn:03d}" for i in range(6) for turn in (0, 90, 180, 270)]
    table = made.episode_table(120, names=names)
    with Store.open(tmp_path / "results.db", create=True) as store:
        store.ingest(made.result(n_episodes=120, table=table))
        (page,) = (setting.build(store, t) for t in tables(store))
    assert page.entries[0].by_class is not None and page.entries[0].by_class.n == 6


def test_class_counts_equal_those_of_the_statistics_package(
    store: Store, pages: list[setting.SettingPage]
) -> None:
    page = _page(pages, "glyphs-5w1s")
    row = next(e for e in page.entries if e.row.method == "method-4")
    run = row.row.runs[0]
    truth = np.repeat(np.arange(5), 15)
    found = stats.class_accuracy(
        store.predictions(run.pk), truth, store.episode_list(page.table.list_digest).classes
    )
    assert row.classes is not None
    assert row.classes.n_correct[found.class_id].tolist() == found.n_correct.tolist()
    assert row.classes.n_query[found.class_id].tolist() == found.n_query.tolist()


def test_a_run_without_predictions_has_no_classes_and_says_so(tmp_path: Path) -> None:
    with Store.open(tmp_path / "results.db", create=True) as store:
        store.ingest(made.result(keep_predictions=False))
        (page,) = (setting.complete(store, setting.build(store, table)) for table in tables(store))
        assert page.entries[0].classes is None and figures.classes(page) is None
        with pytest.raises(StoreError, match="kept no predictions"):
            by_class.by_class(store, page.entries[0].row.runs[0].id)


def test_runs_on_other_images_never_share_a_table(tmp_path: Path) -> None:
    with Store.open(tmp_path / "results.db", create=True) as store:
        store.ingest(made.result("a"))
        store.ingest(made.result("b", changes={"data_digest": {"novel": "f" * 64}}))
        found = tables(store)
    assert [table.setting for table in found] == ["glyphs-5w1s"] * 2
    assert found[0].note != found[1].note and [len(table.rows) for table in found] == [1, 1]


def test_runs_on_the_same_pictures_share_a_table_whatever_their_size(tmp_path: Path) -> None:
    def run(name: str, pixels: str, pictures: str = "") -> None:
        told = {"pictures": pictures} if pictures else {}
        store.ingest(made.result(name, changes={"data_digest": {"novel": pixels * 64}}, provenance=told))

    with Store.open(tmp_path / "results.db", create=True) as store:
        run("a", "1", "same")
        run("b", "2", "same")
        run("before it was recorded", "1")
        run("c", "3", "others")
        run("d", "4")
        found = [sorted(row.method for row in table.rows) for table in tables(store)]
    assert sorted(found) == [["a", "b", "before it was recorded"], ["c"], ["d"]]


def test_a_benchmark_that_no_longer_exists_still_has_its_page(tmp_path: Path) -> None:
    with Store.open(tmp_path / "results.db", create=True) as store:
        store.ingest(made.result("a", "gone-5w1s"))
        store.ingest(made.result("b", "gone-5w1s", n_episodes=200))
        (page,) = (setting.build(store, table) for table in tables(store))
        command = run_page.command(page.entries[0].row.spec)
    assert page.title == "" and page.family == "gone" and page.table.n_standard is None
    assert page.is_same_list is None and "--backbone conv4" in command


def test_the_index_shows_holes_and_failures(pages: list[setting.SettingPage]) -> None:
    index = index_page.build(pages, n_runs=31)
    glyphs = index.families[0]
    lines = {line.label: line for line in glyphs.lines}
    assert [p.table.name for p in glyphs.pages] == ["glyphs-5w1s", "glyphs-5w5s"]
    assert lines["method-1"].cells[1] is None
    assert isinstance(lines["broken"].cells[0], StoredRun)
    assert not lines["method-2"].is_inductive and lines["method-3"].is_inductive
    assert glyphs.lines[0].label in ("method-4", "method-5")  # of equal skill, the best


def test_the_overview_holds_every_result_once_and_folds_variants_under_their_method(tmp_path: Path) -> None:
    with Store.open(tmp_path / "results.db", create=True) as store:
        made.fill(store, n_methods=3, n_episodes=60)
        late = {"lr": ConfigValue(0.2, "--set")}
        store.ingest(made.result("method-0", skill=0.9, n_episodes=60, changes={"config": late}))
        store.ingest(made.result("method-0", skill=0.3, n_episodes=60, changes={"backbone": "resnet12"}))
        pages = [setting.build(store, table) for table in tables(store)]
    found = index_page.build(pages, n_runs=20).overview
    cells = [
        cell for group in found.groups for line in group.lines for cell in line.cells if cell is not None
    ]
    assert len(cells) == sum(len(p.entries) + len(p.table.failed) for p in pages)
    names = [group.head.label for group in found.groups]
    assert len(names) == len(set(names)) and "broken" in names
    [first] = [group for group in found.groups if group.head.label == "method-0"]
    assert [cell.row.variant_of for cell in first.head.entries] == [""] * 3
    assert [(v.label, v.backbone) for v in first.variants] == [
        ("method-0 (lr=0.2)", "conv4"),
        ("method-0", "resnet12"),
    ]
    assert "resnet12" in first.variants[1].apart or first.variants[1].backbone != first.head.backbone
    column = [g.head.cells[found.chosen] for g in found.groups]
    means = [cell.row.mean for cell in column if isinstance(cell, setting.Entry)]
    assert found.pages[found.chosen].table.name == "glyphs-5w1s" and means == sorted(means, reverse=True)
    assert found.kinds[found.kind(first.head.entries[0])] == ("conv4", 28, "recipe clean", True, True)


def test_what_moved_since_the_last_build_comes_first(pages: list[setting.SettingPage]) -> None:
    new = changes.State.of(pages, 31)
    assert changes.since({}, new) is None  # the first build
    before = {**json.loads(json.dumps(changes.as_json(new, None)))["state"], "n_runs": 30}
    moved, gone = list(before["rows"])[:2]
    before["rows"][moved][3] += 0.01
    before["rows"]["other"] = ["old-5w1s", "old-5w1s.html", "lost", 0.5, "1", 3]
    before["rows"][list(before["rows"])[2]][4] = "77"  # its rank moved because of others
    del before["rows"][gone]
    told = changes.since({"state": before, "changes": None}, new)
    assert told is not None and (told.n_before, told.n_after, told.n_rows) == (30, 31, 3)
    assert [change.word for change in told.shown] == ["changed", "new", "gone"]
    assert told.shown[0].after == pytest.approx(told.shown[0].before - 0.01) and told.shown[2].href == ""
    left = json.loads(json.dumps(changes.as_json(new, told)))
    assert changes.since(left, new) == told, "the same rows again say what was said of them"


def test_the_first_pair_is_that_of_the_two_best_with_what_would_decide_it(
    store: Store, pages: list[setting.SettingPage]
) -> None:
    page = _page(pages, "glyphs-5w1s")
    first, second = page.table.ranked[:2]
    (pair,) = pairs.compare(store, first.runs[0].id, second.runs[0].id, ["glyphs-5w1s"])
    assert page.first_pair is not None and page.first_pair.sentence == pair.sentence
    assert page.first_pair.advice == pair.advice != ""


def test_both_triangles_of_a_matrix_say_the_same(pages: list[setting.SettingPage]) -> None:
    matrix = _page(pages, "glyphs-5w1s").matrix
    whole = setting.square(matrix)
    flipped = {"better": "worse", "worse": "better"}
    for i, row in enumerate(whole):
        assert row[i] is None
        for j in range(i + 1, len(row)):
            cell, other = row[j], whole[j][i]
            assert cell == matrix[i][j - i - 1] and other is not None and cell is not None
            assert other.difference == -cell.difference and other.word == flipped.get(cell.word, cell.word)


def test_methods_are_pictured_by_the_images_their_training_saw(tmp_path: Path) -> None:
    def run(name: str, skill: float, images: float | None, **told: object) -> None:
        spent = {"images": images, "steps": 1.0, "seconds": 1.0, "flop": 1.0}
        none = {"images": 0.0, "steps": 0.0, "seconds": 0.0, "flop": 0.0}
        budget = {"budget": {"own": spent, "below": none}} if images is not None else {}
        store.ingest(made.result(name, skill=skill, provenance={**budget, **told}))

    with Store.open(tmp_path / "results.db", create=True) as store:
        run("few", 0.65, 1_000)
        run("many", 0.7, 100_000)
        run("worse", 0.6, 100_000)
        run("nothing", 0.2, 0, badges=["untrained"])
        run("silent", 0.72, None)
        page = setting.build(store, tables(store)[0])
    drawn = str(figures.images(page))
    by_name = {entry.row.method: entry for entry in page.methods}
    assert by_name["many"].cost.images == 100_000 and by_name["silent"].cost.images is None
    for name, seen in (("few", "1,000 images"), ("nothing", "untrained"), ("silent", "images not recorded")):
        row = by_name[name].row
        assert (
            f"{name}, conv4: {100 * row.mean:.2f}% ({100 * row.interval.low:.2f}" in drawn and seen in drawn
        )
        far_below = f", {100 * row.mean:.2f}" if name == "nothing" else ""
        assert f">{name}{far_below}<" in drawn, "its name stands beside its mark"
    assert ">none<" in drawn and ">not recorded<" in drawn and ">10,000<" in drawn


def test_bars_lie_inside_the_scale_of_their_page(pages: list[setting.SettingPage]) -> None:
    page = _page(pages, "glyphs-5w1s")
    for entry in page.entries:
        a, b, m = (
            int(part.split(":")[1]) for part in formats.ends(entry.row.interval, page.scale).split(";")
        )
        assert 0 <= a <= m <= a + b <= 101


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "![x](http://a/b.png)", "[x](javascript:alert(1))", "# head"]
)
def test_markdown_brings_no_tag_picture_script_or_heading(text: str) -> None:
    for written in (prose.block(text), prose.inline(text)):
        assert not re.search(r"<(script|img|h\d)", written) and 'href="javascript' not in written


def test_across_settings_uses_the_complete_sub_matrix_only(pages: list[setting.SettingPage]) -> None:
    across = index_page.build(pages, n_runs=31).across
    assert across is not None
    assert across.settings == ("glyphs-5w1s", "glyphs-5w5s", "omniglot-20w1s")
    assert len(across.labels) == 5 and (across.n_methods, across.n_settings) == (8, 4)
    decided = np.array([across.win, across.tie, across.loss, across.undecided]).sum(axis=0)
    assert decided.tolist() == [3 * 4] * 5  # settings × other methods
    assert sum(across.win) == sum(across.loss) and across.note == ""
    assert across.n_data_sets == 2  # glyphs at one and five shots share their trainings
    assert [len(cells) for cells in across.matrix] == [4, 3, 2, 1, 0]
    assert all(
        0 <= cell.low <= cell.high <= 1 and 0 <= cell.chance <= 1 for cells in across.matrix for cell in cells
    )


def test_published_numbers_stand_beside_ours_with_gap_and_verdict(pages: list[setting.SettingPage]) -> None:
    entry = _page(pages, "omniglot-5w1s").entries[0]
    assert {b.entry.method for b in entry.published} == {"ProtoNet (this code)", "ProtoNet (original paper)"}
    beside = next(b for b in entry.published if "this code" in b.entry.method)
    assert beside.gap == pytest.approx(entry.row.mean - 0.9885) and beside.prediction is not None
    assert beside.prediction.is_borrowed and beside.word == "differs"
    assert (
        beside.sentence.startswith("differs: ±")
        and "its half-width is taken from our episodes" in beside.sentence
    )
    unknown = replace(beside, entry=replace(beside.entry, habits=published.Habits()))
    assert unknown.sentence.startswith("not comparable: protocol unknown")


def test_the_counts_of_a_pair_arrive_exactly(pages: list[setting.SettingPage]) -> None:
    page = _page(pages, "glyphs-5w1s")
    script = counts_script.counts_script(page)
    assert script.startswith("fsbench.counts(") and "</" not in script
    data = json.loads(script.removeprefix("fsbench.counts(").removesuffix(");\n"))
    assert (data["drawn"], data["episodes"]) == (300, 300)
    for sent, row in zip(data["rows"], page.table.ranked, strict=True):
        counts = np.array([ord(character) - ord("=") for character in sent["counts"]])
        assert sent["steps"] == 75 * len(row.seeds)
        np.testing.assert_allclose(
            counts / sent["steps"], row.accuracy.mean(axis=0), atol=1e-12
        )  # ratios of counts


def test_a_run_page_gives_the_command_that_makes_it_again() -> None:
    spec = made.result("mine", changes={"backbone": "resnet12", "precision": "bf16"}).spec
    config = {**spec.config, "lr": ConfigValue(0.1, "--set"), "widths": ConfigValue([64, "a b"], "--set")}
    assert run_page.command(replace(spec, config=config)) == (
        "fsbench run --method mine --bench glyphs-5w1s --seeds 0 --set lr=0.1 --set 'widths=64,a b' "
        "--episodes 300 --backbone resnet12 --precision bf16"
    )
    told = replace(spec, select_on="novel", is_compiled=True, weights_sha256="a" * 64, seen=("mini", "cub"))
    for words in ("--select-on novel", "--compile", "--weights FILE --seen mini,cub"):
        assert words in run_page.command(told)
    stored = replace(spec, pipeline="feat")
    assert "--crops-from stored" in run_page.command(stored)
    assert "--crops-from stored" not in run_page.command(replace(stored, cut_from=168))


def test_worst_and_best_episodes_are_those_of_the_counts(store: Store) -> None:
    run = next(r for r in stored_runs(store, ["glyphs-5w1s"]) if r.spec.method.name == "method-4")
    episodes = store.episode_list(run.spec.episode_digest)
    page = run_page.build(store, run, "top1", episodes)
    n_correct, _ = store.counts(run.pk)
    assert [line.n_correct for line in page.worst] == sorted(n_correct.tolist())[:5]
    assert [line.n_correct for line in page.best] == sorted(n_correct.tolist())[:-6:-1]
    line = page.worst[0]
    assert line.classes == tuple(episodes.class_names[c] for c in episodes.classes[line.number])
    assert sum(page.histogram) == 300 and [c.name for c in page.curves] == ["accuracy", "loss"]
    assert page.checks[0].passed is True  # the made-up spec carries the locked digest


def test_pictures_stand_with_their_class_and_what_they_were_taken_for(store: Store) -> None:
    (run,) = stored_runs(store, ["omniglot-5w1s"])
    episodes = store.episode_list(run.spec.episode_digest)
    page = run_page.build(store, run, "top1", episodes)
    worst, given = page.worst[0], store.predictions(run.pk)
    assert given is not None and len(worst.pictures) == 5 and page.worst[1].pictures == ()
    for label, part in enumerate(worst.pictures):
        labels = given[worst.number].reshape(5, 15)[label]
        assert part.name == worst.classes[label] and len(part.support) == 1
        assert [q.predicted for q in part.wrong] == [worst.classes[k] for k in labels if k != label]
        assert (part.n_wrong, part.n_query) == (int((labels != label).sum()), 15)


@pytest.mark.parametrize("text", ["javascript:alert(1)", "PHN2Zz4=", 7, 'iVBORw0KGgo" onerror="x'])
def test_only_a_png_is_shown_as_a_picture(store: Store, text: object) -> None:
    (run,) = stored_runs(store, ["omniglot-5w1s"])
    episodes = store.episode_list(run.spec.episode_digest)
    everywhere = {str(row): text for row in range(12_000)}
    assert pictures.of_episode(0, episodes, store.predictions(run.pk), everywhere) == ()


def test_a_failed_run_has_a_page_with_its_traceback(store: Store) -> None:
    run = next(r for r in stored_runs(store) if r.status == "failed")
    page = run_page.build(store, run, "", None)
    assert page.accuracies == () and page.worst == () and "expected (75, 5)" in page.run.traceback


def test_a_method_page_shows_what_its_runs_recorded(tmp_path: Path) -> None:
    about = {
        "docstring": "Nearest prototypes.",
        "reference": "@inproceedings{snell, title={P}}",
        "contract": [{"name": "finite scores", "passed": True}],
    }
    with Store.open(tmp_path / "results.db", create=True) as store:
        store.ingest(made.result("a", provenance={"about": about}))
        store.ingest(made.result("b"))
        runs = stored_runs(store)
        first, second = method_page.build(runs, [])
    assert first.docstring == "Nearest prototypes." and first.contract[0].passed is True
    assert second.docstring == "" and len(second.others) == 1


def test_a_method_page_has_links_recipes_side_by_side_and_curves_by_seed(tmp_path: Path) -> None:
    about = {
        "docstring": "After the authors (github.com/someone/code.git).",
        "reference": '@misc{a, eprint={1703.05175}, url = "https://example.org/p.pdf", doi={javascript:alert(1)}}',
    }
    longer = {"lr": ConfigValue(0.5, "budget"), "epochs": ConfigValue(7, "budget")}
    with Store.open(tmp_path / "results.db", create=True) as store:
        for setting_name in ("glyphs-5w1s", "glyphs-5w5s", "omniglot-5w1s"):
            for seed in (0, 1):
                store.ingest(
                    made.result("a", setting_name, seed=seed, n_episodes=30, provenance={"about": about})
                )
        store.ingest(made.result("a", n_episodes=30, changes={"recipe": "budget", "config": longer}))
        pages = [setting.build(store, table) for table in tables(store)]
        [page] = method_page.build(stored_runs(store), pages)
    assert page.links == (
        ("arXiv:1703.05175", "https://arxiv.org/abs/1703.05175"),
        ("paper", "https://example.org/p.pdf"),
        ("code", "https://github.com/someone/code.git"),
    )
    assert page.recipes.names == ("clean", "budget")
    assert page.recipes.lines == (("epochs", ("12", "7")), ("lr", ("0.001", "0.5")))
    # glyphs at one and at five shots share their trainings, which are drawn once
    assert [(t.where, len(t.logged[0].curves)) for t in page.trainings] == [
        ("glyphs-5w1s", 2), ("glyphs-5w1s", 1), ("omniglot-5w1s", 2),
    ]  # fmt: skip
    assert [found.name for found in page.trainings[0].logged] == ["accuracy", "loss"]


def test_power_is_that_of_the_simulated_plan(store: Store) -> None:
    (answer,) = power.power(store, "method-0", "method-1", 0.05, ["glyphs-5w1s"])
    table = tables(store, ["glyphs-5w1s"])[0]
    rows = {row.method: row for row in table.rows}
    first = stats.pilot(rows["method-0"].evidence, rows["method-1"].evidence, table.prior)
    assert table.pairs is not None and answer.level == table.pairs.pair_level(0.05)
    assert answer.detectable == stats.detectable(first, 3, 300, answer.level)
    assert (answer.n_trainings, answer.n_episodes) == (3, 300) and answer.plan is not None
    plan = answer.plan
    later = table.pairs.pair_level(
        0.05 if plan.n_trainings <= 3 else 0.02
    )  # past the planned seeds it is stricter
    assert plan.power == stats.power(first, plan.n_trainings, plan.n_episodes, 0.05, later) >= 0.8
    assert "80% power" in answer.sentence and f"{plan.n_trainings} trainings each" in answer.sentence
    with pytest.raises(ConfigError, match="--delta"):
        power.power(store, "method-4", "method-3", 0.0)


def test_by_class_counts_every_query_hardest_first(store: Store) -> None:
    run = next(r for r in stored_runs(store, ["glyphs-5w1s"]) if r.spec.method.name == "method-4")
    lines = by_class.by_class(store, run.id)
    n_correct, n_query = store.counts(run.pk)
    assert sum(line.n_correct for line in lines) == n_correct.sum()
    assert sum(line.n_query for line in lines) == n_query.sum()
    assert [line.accuracy for line in lines] == sorted(line.accuracy for line in lines)
    assert all(line.taken_for != line.name for line in lines)


def test_ranks_without_a_benchmark_use_the_length_most_rows_have() -> None:
    assert episodes_to_rank([300, 300, 300, 100, 600], None) == 300


def test_the_front_of_cost_holds_what_nothing_cheaper_reaches() -> None:
    random = np.random.default_rng(0)
    cost, gain = random.random(50).tolist(), random.random(50).tolist()
    front = set(figures.pareto(cost, gain))
    for i in range(50):
        dominated = any(cost[k] <= cost[i] and gain[k] >= gain[i] and k != i for k in range(50))
        assert (i in front) != dominated


def test_rows_of_one_name_say_what_tells_them_apart(tmp_path: Path) -> None:
    epochs = {"epochs": ConfigValue(99, "glyphs"), "lr": ConfigValue(1e-3, "default")}
    with Store.open(tmp_path / "results.db", create=True) as store:
        store.ingest(made.result("a"))
        store.ingest(made.result("a", changes={"image_size": 84, "config": epochs}))
        store.ingest(made.result("b"))
        (page,) = (setting.build(store, table) for table in tables(store))
    apart = {(e.row.method, e.row.spec.image_size): e.apart for e in page.entries}
    assert apart == {("a", 28): "input 28, epochs 12", ("a", 84): "input 84, epochs 99", ("b", 28): ""}


def test_rows_that_differ_in_one_number_are_a_curve(tmp_path: Path) -> None:
    def run(margin: float, epochs: int = 12, seed: int = 0, skill: float = 0.6) -> None:
        config = {"epochs": ConfigValue(epochs, "glyphs"), "margin": ConfigValue(margin, "--set")}
        told = {"selection": {"validation_accuracy": 0.5 + margin}}
        store.ingest(made.result("neg", seed=seed, skill=skill, changes={"config": config}, provenance=told))

    with Store.open(tmp_path / "results.db", create=True) as store:
        for margin, skill in ((0.1, 0.5), (-0.3, 0.55), (0.0, 0.6)):
            run(margin, skill=skill)
        run(0.0, seed=1)
        run(0.0, epochs=20)  # differs in two numbers from two of them
        store.ingest(made.result("other"))
        page = setting.build(store, tables(store)[0])
    [found] = page.sweeps
    assert (found.method, found.backbone, found.name) == ("neg", "conv4", "margin")
    assert [point.value for point in found.points] == [-0.3, 0.0, 0.1]
    assert [len(point.row.seeds) for point in found.points] == [1, 2, 1]
    assert found.points[1].validation == (0.5, 0.5)
    drawn = str(figures.sweep(found, 0))
    for point in found.points:
        assert f"margin {point.value:g}: {100 * point.row.mean:.2f}%" in drawn
        assert f"margin {point.value:g}: {50 + 100 * point.value:.2f}% on validation" in drawn


def test_two_values_are_no_curve(tmp_path: Path) -> None:
    with Store.open(tmp_path / "results.db", create=True) as store:
        for lr in (0.1, 0.2):
            store.ingest(made.result("neg", changes={"config": {"lr": ConfigValue(lr, "--set")}}))
        assert setting.build(store, tables(store)[0]).sweeps == ()
