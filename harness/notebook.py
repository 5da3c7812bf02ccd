"""fsbench from Python and notebooks: the paths of the commands, answers as tables of pandas."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.errors import ConfigError, RunFailed, nearest
from harness.system.folders import Places, places

if TYPE_CHECKING:
    import pandas as pd

    from harness.runs.request import Request
    from harness.store import Store

Names = str | Sequence[str]


def results(
    bench: Names | None = None, method: Names | None = None, *, home: str | Path | None = None
) -> pd.DataFrame:
    """The rows of the leaderboard, judged as on its pages.

    Args:
        bench: settings, names or globs; None for all that have runs.
        method: names or globs of the rows that are shown; ranks are those among all.
        home: as ``--home`` (default: FSBENCH_HOME or here).

    Returns:
        One row per row of a table: setting, method, backbone, config, accuracy with low_95 and high_95 (fractions), rank_low,
        rank_high, seeds, badges, what training took, and runs, their ids.

    Raises:
        StoreError: when there is no database.
        ConfigError: when no setting has that name.
    """
    import pandas as pd

    from harness.report.board.rows import row_as_json
    from harness.report.board.tables import settings_named, tables
    from harness.report.wanted import Wanted

    wanted = Wanted(_names(method))
    with closing(_store(places_of(home))) as store:
        chosen = settings_named(_names(bench), store) if bench else None
        rows = [row for table in tables(store, chosen) for row in table.rows if wanted.has(row)]
        return pd.DataFrame([row_as_json(row) for row in rows])


def episodes(run: str, *, home: str | Path | None = None) -> pd.DataFrame:
    """Every episode of a run.

    Args:
        run: the beginning of its id.
        home: as ``--home``.

    Returns:
        Columns metric, episode, n_correct, n_query and accuracy, a fraction.

    Raises:
        StoreError: when no run or several runs fit.
    """
    with closing(_store(places_of(home))) as store:
        found = store.run(run)
        frame = store.episodes([found.id])
    frame = frame[frame["replicate"] == found.replicate]
    return frame[["metric", "episode", "n_correct", "n_query", "accuracy"]].reset_index(drop=True)


def run(
    method: Names,
    bench: Names,
    seeds: int | Iterable[int] = 0,
    set: Mapping[str, Any] | None = None,
    *,
    device: str = "auto",
    home: str | Path | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Train and evaluate in this process what is not in the database yet, as ``fsbench run`` does.

    Args:
        method: names, globs or files such as ``./mine.py``.
        bench: settings or globs.
        seeds: run seeds.
        set: hyper-parameters by name.
        device: auto, cpu or cuda.
        home: as ``--home``.
        **options: the command's by their words: ``episodes=600``, ``backbone="resnet12"``, ``recipe="as-published"``.

    Returns:
        The rows of these runs, as ``results`` has them.

    Raises:
        ConfigError: for an unknown option, name or value.
        DataError: when images are not prepared.
        RunFailed: when a run failed, with its last words.
    """
    import pandas as pd

    from harness.jobs import dispatch
    from harness.method import official_weights
    from harness.report.board.rows import row_as_json
    from harness.report.board.tables import rows_of
    from harness.report.formats import last_line
    from harness.runs import planning
    from harness.store import Store
    from harness.system.progress import choose

    at = places_of(home)
    wanted = [seeds] if isinstance(seeds, int) else list(seeds)
    request = _request(set or {}, options)
    specs, left_out = planning.survey(_names(method), _names(bench), wanted, request, at.data)
    if not specs:
        raise left_out[0].error
    for path in request.weights:
        official_weights.keep(path, at.cache)
    at.home.mkdir(parents=True, exist_ok=True)
    with closing(Store.open(at.db, create=True)) as store:
        planned = dispatch.classify(specs, at, store)
        made = dispatch.run_inline(planned, at, store, choose(False), device=device)
        failed = [result for result in made if result.status == "failed"]
        if failed:
            spec = failed[0].spec
            raise RunFailed(
                f"{spec.method.name} failed on {spec.setting} (run {spec.id}): {last_line(failed[0].traceback)}"
            )
        return pd.DataFrame([row_as_json(row) for row in rows_of(specs, store)])


def compare(
    a: str,
    b: str,
    bench: Names | None = None,
    *,
    margin: float = 0.5,
    scope: Literal["training", "checkpoints"] = "training",
    home: str | Path | None = None,
) -> pd.DataFrame:
    """Whether A is better than B, as ``fsbench compare`` says it.

    Args:
        a, b: methods, or the beginnings of run ids.
        bench: settings, names or globs; None for all that both have.
        margin: points within which a difference is called tied.
        scope: whether it would hold if both were trained again, or which of the trained models is better.
        home: as ``--home``.

    Returns:
        One row per setting: verdict, difference with low and high (fractions), p, p_page, sentence, advice, …

    Raises:
        StoreError: when there is nothing to pair.
        ConfigError: when a name is neither a stored method nor a run, or means several rows.
    """
    import pandas as pd

    from harness.report.board import pairs
    from harness.report.board.tables import settings_named

    with closing(_store(places_of(home))) as store:
        chosen = settings_named(_names(bench), store) if bench else None
        return pd.DataFrame(
            [pairs.pair_as_json(p) for p in pairs.compare(store, a, b, chosen, margin / 100, scope)]
        )


def places_of(home: str | Path | None) -> Places:
    """Where things are, as for the commands."""
    return places(Path(home) if home is not None else None)


def _store(at: Places) -> Store:
    from harness.store import Store

    return Store.open(at.db, create=False)


def _names(names: Names | None) -> list[str]:
    return [names] if isinstance(names, str) else list(names or ())


def _request(overrides: Mapping[str, Any], options: Mapping[str, Any]) -> Request:
    from harness.runs import request

    known = {word.replace("-", "_"): word for word in request.words() if word != "set"}
    for word in options:
        if word not in known:
            raise ConfigError(
                f"run() has no option {word}.{nearest(word, known)} Known: {', '.join(sorted(known))}."
            )
    given = {known[word]: value for word, value in options.items()}
    return request.read({**given, "set": overrides}, "run(): ")
