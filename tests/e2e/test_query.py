"""SQL and Parquet over what the pages show: equal to the store's own readers, and unable to change anything."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from made_up_results import fill
from scratch_home import Home

from harness.store import Store


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    made = Home(tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("data"))
    with Store.open(made.folder / "results.db", create=True) as store:
        fill(store, n_methods=3, n_episodes=40)
    return made


def ask(home: Home, sql: str, *words: str) -> list[dict[str, object]]:
    return json.loads(home.run("query", sql, *words, "--json").stdout)


def test_episodes_average_to_the_accuracy_of_their_run(home: Home) -> None:
    rows = ask(
        home,
        "SELECT runs.run, runs.accuracy AS told, avg(episodes.accuracy) AS mean FROM runs JOIN episodes "
        "ON runs.run = episodes.run AND runs.metric = episodes.metric GROUP BY runs.run",
    )
    assert len(rows) == len(home.json("runs", "--status", "done"))
    assert all(row["told"] == pytest.approx(row["mean"], abs=1e-12) for row in rows)


def test_predictions_count_what_episodes_count(home: Home) -> None:
    counted = ask(
        home,
        "SELECT e.run, e.episode, e.n_correct, e.n_query, p.hits, p.n FROM episodes e JOIN (SELECT run, episode, "
        "sum(true_class = predicted_class) AS hits, count(*) AS n FROM predictions GROUP BY run, episode) p "
        "ON e.run = p.run AND e.episode = p.episode WHERE e.metric = 'top1'",
    )
    assert counted and all((row["n_correct"], row["n_query"]) == (row["hits"], row["n"]) for row in counted)
    classes = ask(home, "SELECT run, sum(n_correct) AS hits FROM classes GROUP BY run")
    assert {row["run"]: row["hits"] for row in classes} == {
        row["run"]: row["hits"]
        for row in ask(
            home, "SELECT run, sum(true_class = predicted_class) AS hits FROM predictions GROUP BY run"
        )
    }


def test_filters_choose_whose_rows_there_are(home: Home) -> None:
    some = ask(home, "SELECT DISTINCT setting FROM runs", "-b", "glyphs-5w1s")
    assert some == [{"setting": "glyphs-5w1s"}]


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("DELETE FROM runs", "not authorized"),
        ("ATTACH DATABASE 'x' AS runs", "not authorized"),
        ("SELECT colour FROM runs", "no such column"),
        ("SELECT 1", "names none of"),
        ("SELECT 1 FROM runs; SELECT 2 FROM runs", "cannot be answered"),
    ],
)
def test_what_is_no_question_is_refused(home: Home, sql: str, said: str) -> None:
    before = home.content
    assert said in home.run("query", sql, code=2).stderr
    assert home.content == before


def test_parquet_holds_the_same_rows(home: Home) -> None:
    pytest.importorskip("pyarrow")
    told = home.run("export", "all", "tables", "--parquet").stdout
    assert "runs.parquet" in told and "predictions.parquet" in told
    for name in ("runs", "episodes", "classes"):
        frame = pd.read_parquet(home.folder / f"tables/{name}.parquet")
        # failed runs are exported by nothing
        asked = ask(home, f"SELECT * FROM {name} WHERE run IN (SELECT run FROM runs WHERE status = 'done')")
        assert len(frame) == len(asked) and list(frame.columns) == list(asked[0])
        assert sorted(frame["run"]) == sorted(row["run"] for row in asked)
