"""Results between labs: merged, carried in bundles, counted again, and scored from predictions made elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_results import failure, result
from scratch_home import TINY
from typer.testing import CliRunner

import fsbench
from harness.cli import catalogue, sharing
from harness.errors import ConfigError, DataError, FsbenchError, StoreError
from harness.exchange import bundles
from harness.jobs import dispatch
from harness.runs import Counts, RunResult
from harness.store import Store
from harness.store.connection import engine_for
from harness.system.folders import Places

THEIRS = "theirs-5w1s"  # a setting that no benchmark here has
LINEAR = ["run", "-m", "nearest-mean", "-b", "glyphs-5w1s", "--episodes", "60", "--set", "epochs=1"]


class Lab:
    """A home with its database open."""

    def __init__(self, folder: Path, data: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.places = Places(folder, data, folder / "cache", str(folder / "results.db"))
        self.store = Store.open(self.places.db, create=True)

    def type(self, *words: str, code: int = 0) -> str:
        """What a command prints, typed in this process; of one that fails, its message."""
        environment = {"FSBENCH_DATA": str(self.places.data), "FSBENCH_CACHE": str(self.places.cache)}
        typed = CliRunner(env=environment).invoke(fsbench.app, ["--home", str(self.places.home), *words])
        if isinstance(typed.exception, FsbenchError):
            assert typed.exception.exit_code == code, typed.exception
            return str(typed.exception)
        assert typed.exit_code == code, (typed.output, typed.exception)
        return typed.stdout

    @property
    def board(self) -> dict[str, tuple[str, ...]]:
        """Run → badges."""
        return {run_id: self.store.run(run_id).badges for run_id in self.store.runs(metrics=())["id"]}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def lab(tmp_path: Path, data: Path) -> Iterator[Callable[[str], Lab]]:
    made: dict[str, Lab] = {}
    yield lambda name: made.setdefault(name, Lab(tmp_path / name, data))
    for one in made.values():
        one.store.close()


# --- merge ---------------------------------------------------------------------------------------------------


def test_merged_results_that_disagree_are_kept_and_shown(lab: Callable[[str], Lab], capsys: Any) -> None:
    ours, theirs = lab("ours"), lab("theirs")
    ours.store.ingest(result(setting=THEIRS, skill=0.6, provenance={"device": "card A"}))
    other = result(setting=THEIRS, skill=0.7, provenance={"device": "card B"})
    theirs.store.ingest(other)
    theirs.store.ingest(result("bml", THEIRS))
    before = theirs.store.content_digest()
    found = sharing.merged(ours.store, [theirs.places.db])
    assert found["merged"] == {theirs.places.db: {"replicate": 1, "new": 1}}
    (entry,) = found["disagreements"]
    assert [r["device"] for r in entry["results"]] == ["card A", "card B"] and entry["differing"] > 100
    kept = [ours.store.counts(ours.store.run(entry["run"], r["digest"]).pk)[0] for r in entry["results"]]
    assert np.array_equal(kept[1], other.counts["top1"].n_correct)
    sharing.show_merged(found)
    assert "card B" in capsys.readouterr().out
    content = ours.store.content_digest()
    sharing.merged(ours.store, [theirs.places.db])
    assert ours.store.content_digest() == content and theirs.store.content_digest() == before


def test_a_database_is_not_merged_into_itself(lab: Callable[[str], Lab]) -> None:
    ours = lab("ours")
    with pytest.raises(ConfigError, match="would be merged into"):
        sharing.merged(ours.store, [str(ours.places.home / "." / "results.db")])
    with pytest.raises(ConfigError, match="There is no database"):
        sharing.merged(ours.store, [str(ours.places.home / "absent.db")])


def test_an_older_database_is_merged_and_left_as_it_is(lab: Callable[[str], Lab], tmp_path: Path) -> None:
    old = tmp_path / "old.db"
    schema = (Path(__file__).parents[1] / "golden/store/schema_1.sql").read_text()
    raw: Any = engine_for(old).raw_connection()
    raw.executescript(schema)
    raw.close()
    before = old.read_bytes()
    assert sharing.merged(lab("ours").store, [str(old)])["merged"] == {str(old): {}}
    assert old.read_bytes() == before


# --- export and import ---------------------------------------------------------------------------------------


def test_runs_travel_and_are_self_reported(lab: Callable[[str], Lab], tmp_path: Path) -> None:
    """One run with its folder, one that only the database has, and a second result of it."""
    ours, theirs, bundle = lab("ours"), lab("theirs"), tmp_path / "b.tar.zst"
    results = [result(setting=THEIRS), result("bml", THEIRS), result("bml", THEIRS, skill=0.7)]
    results[0].save(ours.places.runs)
    for one in results:
        ours.store.ingest(one)
    assert "3 results, 0 checkpoints" in sharing.exported(
        ours.store, ours.places, ["all"], bundle, with_fits=True
    )
    first = bundle.read_bytes()
    sharing.exported(ours.store, ours.places, ["all"], bundle, with_fits=True)
    assert bundle.read_bytes() == first
    assert sharing.taken_in(theirs.store, theirs.places, bundle).endswith("2 new, 1 replicate")
    assert set(theirs.board.values()) == {("self-reported",)}
    content = theirs.store.content_digest()
    assert sharing.taken_in(theirs.store, theirs.places, bundle).endswith("3 known")
    dispatch.collect(theirs.places, theirs.store)  # the folders say it too
    assert theirs.store.content_digest() == content and set(theirs.board.values()) == {("self-reported",)}
    kept = theirs.store.result(theirs.store.run(results[0].spec.id).pk)
    assert kept.digest == results[0].digest and kept.provenance["self_reported"] is True
    assert sharing.taken_in(ours.store, ours.places, bundle).endswith("3 known")
    assert set(ours.board.values()) == {()}  # ours were made here


def test_a_failed_run_is_not_exported(lab: Callable[[str], Lab], tmp_path: Path) -> None:
    ours = lab("ours")
    ours.store.ingest(failure("broken", THEIRS))
    with pytest.raises(ConfigError, match="failed; only results"):
        sharing.exported(
            ours.store,
            ours.places,
            [failure("broken", THEIRS).spec.id],
            tmp_path / "b.tar.gz",
            with_fits=False,
        )


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda r: result(skill=0.6), "shows other episodes than glyphs-5w1s has"),
        (lambda r: replace(r, spec=replace(r.spec, seed=5)), "is not the result that its name promises"),
        (lambda r: replace(r, counts={"top1": Counts(r.counts["top1"].n_correct // 2, r.counts["top1"].n_query)}), "name promises"),
    ],
)  # fmt: skip
def test_a_false_result_is_not_taken_in(
    lab: Callable[[str], Lab], tmp_path: Path, spoil: Callable[[RunResult], RunResult], problem: str
) -> None:
    from harness.exchange import archive

    true = result(setting=THEIRS)
    false = spoil(true)
    named = false if false.spec.setting == "glyphs-5w1s" else true
    folder = false.save(tmp_path / "runs")
    name = f"runs/{named.spec.id}-{named.digest[:12]}"
    archive.write(tmp_path / "b.tar.zst", {f"{name}/{f}": folder / f for f in ("run.json", "result.npz")})
    theirs = lab("theirs")
    with pytest.raises(StoreError, match=problem):
        bundles.take_in(theirs.store, theirs.places, tmp_path / "b.tar.zst")
    assert not theirs.board and not list(theirs.places.runs.glob("*"))


def test_a_run_is_counted_again_from_its_checkpoint(lab: Callable[[str], Lab], tmp_path: Path) -> None:
    """The whole way as typed: run, export, import elsewhere, recheck; then with counts that are not true."""
    ours, theirs, bundle = lab("ours"), lab("theirs"), str(tmp_path / "b.tar.zst")
    ours.type(*LINEAR)
    (run_id,) = ours.board
    ours.type("export", run_id, bundle)
    theirs.type("import", bundle)
    assert "is not in" in theirs.type("recheck", run_id, code=3)
    ours.type("export", run_id[:5], bundle, "--with-fits")
    assert "1 known, 1 new fit" in theirs.type("import", bundle)
    told = theirs.type("recheck", run_id, "--episodes", "20", "--seed", "1")
    assert "20 episodes counted again, 0 differ" in told and "spot-checked" in told
    assert "spot-checked" in theirs.type("leaderboard")
    false = _with_one_more(theirs.store.result(theirs.store.run(run_id).pk), episode=7)
    theirs.store.ingest(false)
    words = ["recheck", run_id, "--replicate", false.digest[:8], "--episodes", "1000", "--json"]
    found = json.loads(theirs.type(*words, code=1))
    assert [entry["episode"] for entry in found["differing"]] == [7] and found["n_episodes"] == 60
    assert "disputed" in found["badges"]
    true = theirs.store.result(theirs.store.run(run_id).pk)
    for n, code, word in ((1, 0, "same up to hardware"), (2, 1, "different")):
        rounded = _with_other_predictions(true, n)
        theirs.store.ingest(rounded)
        words = ["recheck", run_id, "--replicate", rounded.digest[:12], "--episodes", "60", "--json"]
        found = json.loads(theirs.type(*words, code=code))
        assert (found["word"], found["n_other"], found["n_predictions"]) == (word, n, 4500)
        assert ("spot-checked" if n == 1 else "disputed") in found["badges"]
    theirs.type(*LINEAR, "--episodes", "40")
    (later,) = set(theirs.board) - {run_id}
    assert "imported fit" in theirs.board[later] and "imported fit" not in theirs.board[run_id]


def test_a_method_of_another_version_is_not_counted_again(lab: Callable[[str], Lab]) -> None:
    ours = lab("ours")
    ours.type("run", "-m", "pixels", "-b", "glyphs-5w1s", "--episodes", "30")
    (run_id,) = ours.board
    old = ours.store.result(ours.store.run(run_id).pk)
    old = replace(old, spec=replace(old.spec, method=replace(old.spec.method, version="0")))
    ours.store.ingest(old)
    assert "0 differ" in ours.type("recheck", run_id)  # no training, so no checkpoint either
    assert "made by pixels 0; here is version" in ours.type("recheck", old.spec.id, code=2)


def _with_one_more(true: RunResult, episode: int) -> RunResult:
    counts = true.counts["top1"]
    n_correct = counts.n_correct.copy()
    n_correct[episode] += 1 if n_correct[episode] < counts.n_query[episode] else -1
    return replace(true, counts={"top1": Counts(n_correct, counts.n_query)})


def _with_other_predictions(true: RunResult, n: int) -> RunResult:
    """The result with as many right predictions turned over, one an episode from the first on."""
    assert true.episodes is not None
    truth, labels = true.episodes.query_label, np.array(true.counts["top1"].predictions)
    for episode in range(n):
        place = np.flatnonzero(labels[episode] == truth[episode])[0]
        labels[episode, place] = (labels[episode, place] + 1) % 5
    counts = Counts((labels == truth).sum(axis=1), true.counts["top1"].n_query, labels)
    return replace(true, counts={"top1": counts})


# --- score ---------------------------------------------------------------------------------------------------


def answers(n: int = 30) -> tuple[dict[str, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """An exported list, and labels for it of which one in five is wrong, read off the export alone."""
    exported = catalogue.episode_list("glyphs-5w1s", n)
    truth = np.array(
        [[label for label, rows in enumerate(e["query"]) for _ in rows] for e in exported["episodes"]]
    )
    wrong = np.random.default_rng(0).random(truth.shape) < 0.2
    return exported, np.where(wrong, (truth + 1) % 5, truth), (~wrong).sum(1)


def write(path: Path, digest: str, labels: np.ndarray[Any, Any]) -> Path:
    if path.suffix == ".npz":
        np.savez(path, digest=digest, predictions=labels)
    elif path.suffix == ".json":
        path.write_text(json.dumps({"digest": digest, "predictions": labels.tolist()}))
    else:
        path.write_text(f"# digest {digest}\n" + "\n".join(",".join(map(str, row)) for row in labels) + "\n")
    return path


@pytest.mark.parametrize("suffix", [".npz", ".json", ".csv"])
def test_predictions_made_elsewhere_are_counted_here(
    lab: Callable[[str], Lab], tmp_path: Path, suffix: str
) -> None:
    exported, labels, n_correct = answers()
    ours = lab("ours")
    file = write(tmp_path / f"p{suffix}", exported["digest"], labels)
    found = sharing.scored(ours.store, ours.places, file, "glyphs-5w1s", "Our method", 3)
    run = ours.store.run(found["run"])
    assert np.array_equal(ours.store.counts(run.pk)[0], n_correct) and found["outcome"] == "new"
    assert run.badges == ("self-reported",) and (run.spec.method.name, run.spec.seed) == ("Our method", 3)
    content = ours.store.content_digest(provenance=False)
    dispatch.collect(ours.places, ours.store)
    assert sharing.scored(ours.store, ours.places, file, "glyphs-5w1s", "Our method", 3)["outcome"] == "known"
    assert ours.store.content_digest(provenance=False) == content
    write(file, exported["digest"], (labels + 1) % 5)
    with pytest.raises(ConfigError, match="other predictions"):
        sharing.scored(ours.store, ours.places, file, "glyphs-5w1s", "Our method", 3)
    with pytest.raises(ConfigError, match="no checkpoint to count again from"):
        sharing.rechecked(ours.store, ours.places, found["run"], "", 5, 0, "cpu", "")


def test_a_scored_row_stands_beside_runs_of_the_same_images(
    lab: Callable[[str], Lab], tmp_path: Path
) -> None:
    """As typed, from the exported list on; the row is ranked with ours, compared, and on every page."""
    ours = lab("ours")
    exported = json.loads(ours.type("episodes", "glyphs-5w1s", "--episodes", "30", "--json"))
    file = write(tmp_path / "p.csv", exported["digest"], answers()[1])
    assert "self-reported" in ours.type("score", str(file), "-b", "glyphs-5w1s", "--name", "theirs")
    ours.type("run", "-m", "pixels", "-b", "glyphs-5w1s", "--episodes", "30")
    rows = json.loads(ours.type("leaderboard", "--json"))
    assert [row["method"] for row in rows] == ["theirs", "pixels"]
    assert "self-reported" in rows[0]["badges"]
    assert "no training was repeated" in ours.type("compare", "theirs", "pixels")
    assert "theirs is better" in ours.type("compare", "theirs", "pixels", "--scope", "checkpoints", code=1)
    ours.type("report")
    page = ours.places.reports / f"run/{rows[0]['runs'][0]}.html"
    assert "fsbench score FILE --bench glyphs-5w1s --name theirs" in page.read_text()
    pages = [p.read_text() for p in ours.places.reports.glob("**/*.html")]
    assert sum("self-reported</span>" in page for page in pages) >= 3  # setting, run and method


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda d, p: ("0" * 64, p), "it answers the list 000000000000"),
        (lambda d, p: (d, p[:, :-1]), r"shape \(30, 74\), expected \(episodes, 75\)"),
        (lambda d, p: (d, np.where(p == 0, 5, p)), "are not labels in 0 to 4"),
        (lambda d, p: (d, np.where(p == 0, -1, p)), "are not labels in 0 to 4"),
        (lambda d, p: (d, p + 0.5), "not whole numbers"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("suffix", [".npz", ".csv"])
def test_what_is_no_answer_is_refused(
    lab: Callable[[str], Lab], tmp_path: Path, spoil: Callable[..., Any], problem: str, suffix: str
) -> None:
    exported, labels, _ = answers()
    file = write(tmp_path / f"p{suffix}", *spoil(exported["digest"], labels))
    ours = lab("ours")
    with pytest.raises(DataError, match=problem):
        sharing.scored(ours.store, ours.places, file, "glyphs-5w1s", "x", 0)
    assert not ours.board


@pytest.mark.parametrize(
    ("name", "file", "problem"),
    [
        ("protonet", "p.npz", "is a method of fsbench"),
        ("<b>", "p.npz", "make a name"),
        ("x", "p.txt", r"read from \.npz, \.json, \.csv"),
        ("x", "absent.npz", "There is no file"),
        ("x", "broken.npz", "cannot be read as predictions"),
        ("x", "broken.json", "cannot be read as predictions"),
        ("x", "broken.csv", "first line"),
    ],
)  # fmt: skip
def test_names_and_files_that_cannot_be_are_said_so(
    lab: Callable[[str], Lab], tmp_path: Path, name: str, file: str, problem: str
) -> None:
    exported, labels, _ = answers()
    write(tmp_path / "p.npz", exported["digest"], labels)
    for suffix in (".npz", ".json", ".csv"):
        (tmp_path / f"broken{suffix}").write_text("{}")
    ours = lab("ours")
    with pytest.raises((ConfigError, DataError), match=problem):
        sharing.scored(ours.store, ours.places, tmp_path / file, "glyphs-5w1s", name, 0)


def test_accuracies_alone_make_a_row_that_says_so(lab: Callable[[str], Lab], tmp_path: Path) -> None:
    ours = lab("ours")
    exported, labels, n_correct = answers()
    file = tmp_path / "counts.csv"
    rows = "\n".join(f"{e};{n / 75:.4f};75;" for e, n in enumerate(n_correct))
    file.write_text(f"# digest {exported['digest']}\nepisode;accuracy;n_query\n{rows}\n", encoding="utf-16")
    said = ours.type("score", str(file), "-b", "glyphs-5w1s", "--name", "counted")
    assert "self-reported, accuracies alone" in said and "Warning" not in said
    file = write(tmp_path / "p.csv", exported["digest"], labels)
    ours.type("score", str(file), "-b", "glyphs-5w1s", "--name", "labelled")
    assert "counted" in ours.type("compare", "counted", "labelled")
    rows = json.loads(ours.type("leaderboard", "--json"))
    assert len({row["accuracy"] for row in rows}) == 1
    assert {tuple(row["badges"]) for row in rows} == {
        ("accuracies alone", "partial", "self-reported"),
        ("partial", "self-reported"),
    }
    ours.type("report")
    assert "accuracies alone" in (ours.places.reports / "glyphs-5w1s.html").read_text()


def test_an_order_mistake_is_asked_about(lab: Callable[[str], Lab], tmp_path: Path) -> None:
    ours = lab("ours")
    exported, labels, _ = answers()
    in_turn = labels.reshape(len(labels), 5, 15).swapaxes(1, 2).reshape(len(labels), 75)
    file = write(tmp_path / "p.npz", exported["digest"], in_turn)
    said = ours.type("score", str(file), "-b", "glyphs-5w1s", "--name", "turned")
    assert "Warning: accuracy" in said and "is not above chance, 20.00 %" in said
    true = 100 * (labels == np.repeat(np.arange(5), 15)).mean()
    assert f"With the labels in turn (0, 1, 2, …, 0, 1, 2, …) it would be {true:.2f} %" in said


def test_a_list_that_is_not_here_is_known_by_its_digest(lab: Callable[[str], Lab], tmp_path: Path) -> None:
    ours, rng = lab("ours"), np.random.default_rng(0)
    truth = np.broadcast_to(np.repeat(np.arange(5), 15), (200, 75))
    for name, skill, digest in (
        ("good", 0.8, "ab" * 32),
        ("poor", 0.5, "ab" * 32),
        ("other", 0.7, "cd" * 32),
    ):
        labels = np.where(rng.random(truth.shape) < skill, truth, (truth + 1) % 5)
        file = write(tmp_path / f"{name}.npz", digest, labels)
        assert "self-reported, external list" in ours.type(
            "score", str(file), "-b", "theirs-5w1s", "--name", name, "--external"
        )
    assert "no training was repeated" in ours.type("compare", "good", "poor", "-b", "theirs-5w1s")
    words = ("compare", "good", "poor", "-b", "theirs-5w1s", "--scope", "checkpoints")
    assert "good is better" in ours.type(*words, code=1)
    assert "other" in ours.type("compare", "poor", "other", "-b", "theirs-5w1s", code=3)
    assert len(json.loads(ours.type("leaderboard", "--json"))) == 3
    ours.type("report")
    pages = [p.read_text() for p in ours.places.reports.glob("theirs*.html")]
    assert pages and any("external list" in page for page in pages)
    words = ["--name", "x", "--external"]
    assert "is a benchmark here" in ours.type("score", str(file), "-b", "glyphs-5w1s", *words, code=2)
    assert "is called NAME" in ours.type("score", str(file), "-b", "theirs", *words, code=2)
    assert "74 queries" in ours.type(
        "score", str(write(tmp_path / "x.npz", "ab" * 32, labels[:, 1:])), "-b", "theirs-5w1s", *words, code=3
    )
    assert "no digest" in ours.type(
        "score", str(write(tmp_path / "y.npz", "", labels)), "-b", "theirs-5w1s", *words, code=3
    )


# --- tune ----------------------------------------------------------------------------------------------------


def test_every_configuration_tried_is_stored_and_the_row_says_how_many(lab: Callable[[str], Lab]) -> None:
    ours = lab("ours")
    words = ["tune", "protonet", "-b", "glyphs-5w1s", *TINY, "--grid", "lr=0.001,1e-5", "--json"]
    found = json.loads(ours.type(*words))
    accuracies = [entry["accuracy"] for entry in found["tried"]]
    assert found["best"] == found["tried"][int(np.argmax(accuracies))]["config"] and len(set(accuracies)) == 2
    fits = sorted(ours.places.cache.glob("fits/*/fit.pt"))
    stamps = [fit.stat().st_mtime_ns for fit in fits]
    assert len(fits) == 2 and not list(ours.places.cache.glob("features/*"))  # nothing novel was embedded
    assert json.loads(ours.type(*words))["tried"] == found["tried"]
    assert "tuned (2)" in ours.type(*found["command"].split()[1:], "--episodes", "40")
    assert [fit.stat().st_mtime_ns for fit in fits] == stamps  # the run used the trial's training
    untried = ["run", "-m", "protonet", "-b", "glyphs-5w1s", "--episodes", "40", *TINY, "--set", "lr=0.1"]
    assert "tuned" not in ours.type(*untried)


def test_tuning_keeps_novel_images_closed_and_stores_failures(
    lab: Callable[[str], Lab], tmp_path: Path
) -> None:
    ours, file = lab("ours"), tmp_path / "peek.py"
    file.write_text(PEEK)
    grid = ["tune", str(file), "-b", "glyphs-5w1s", "--grid"]
    assert "Novel images are not open" in ours.type(*grid, "what=peek", code=3)
    found = json.loads(ours.type(*grid, "what=ones,fail,nan", "--json"))
    assert found["best"] == {"what": "ones"} and found["configurations"] == 3
    assert [entry["failure"][:17] for entry in found["tried"]][1:] == [
        "ValueError: asked",
        "Peek.predict for ",
    ]
    assert found["tried"][0]["accuracy"] == 0.2  # all scores equal: label 0, right for one way in five


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["-b", "glyphs-5w1s", "--grid", "lrr=1"], "Did you mean `lr`"),
        (["-b", "glyphs-5w1s", "--grid", "lr=1,,2"], "expected key=value,value"),
        (["-b", "glyphs-5w1s", "--grid", "lr=1", "--grid", "lr=2"], "is there already"),
        (["-b", "glyphs-5w1s", "--grid", "lr=1", "--set", "lr=2"], "by --grid and by --set"),
        (["-b", "glyphs-lowshot-n1", "--grid", "lr=1"], "tune on glyphs-lowshot-val-n1"),
        (["-b", "omniglot-lake-20w1s-small1", "--grid", "lr=1"], "no validation images"),
    ],
)  # fmt: skip
def test_a_grid_that_cannot_be_tried_is_refused_before_anything_is_trained(
    lab: Callable[[str], Lab], words: list[str], problem: str
) -> None:
    from harness.cli import plans
    from harness.runs.request import read as read_request

    ours = lab("ours")
    grid = [b for a, b in pairwise(words) if a == "--grid"]
    overrides = [b for a, b in pairwise(words) if a == "--set"]
    with pytest.raises(ConfigError, match=problem):
        request = read_request({"set": overrides}, "--")
        plans.tune(ours.store, ours.places, "protonet", words[1], grid, [0], request, "cpu")


PEEK = '''
from dataclasses import dataclass
import torch
class Peek:
    name, version, uses_backbone = "peek", "1", False
    @dataclass(frozen=True)
    class Config:
        """What to do when asked for scores."""
        what: str = "ones"
    def __init__(self, config, backbone):
        self.config = config
    def fit_base(self, base, ctx):
        pass
    def adapt(self, support):
        if self.config.what == "peek":
            from harness import benchmarks
            from harness.system.folders import places
            benchmarks.load("glyphs-5w1s").benchmark.open("novel", places().data)
        if self.config.what == "fail":
            raise ValueError("asked to fail")
        return support.n_way
    def predict(self, state, query):
        return torch.full((len(query), state), float("nan") if self.config.what == "nan" else 1.0)
'''
