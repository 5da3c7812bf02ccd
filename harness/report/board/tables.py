"""From stored runs to the tables of settings: rows on one list of one set of images, judged together; nothing rendered."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from harness import benchmarks, stats
from harness.report import workers
from harness.report.board.families import Judged, judge
from harness.report.board.hardware import Moved, moved
from harness.report.board.prior import learn
from harness.report.board.rows import Pooled, Row, Tried, by_row, pooled, standard_episodes
from harness.runs import RunSpec
from harness.store import Store, StoredRun
from harness.system.process import n_cpus

N_SHARES = 4  # in which runs are read by several processes
MOST_AT_ONCE = 4  # tables judged at a time, arithmetic that needs no GIL; 42 rows take 90 MB


@dataclass(frozen=True)
class Table:
    """The rows of one setting that may be compared: one episode list, one set of images.

    Attributes:
        setting: name; ``note`` tells apart tables of one setting over different images.
        judged: its rows and families.
        failed: runs that ended in an error; each is a hole in the table.
        n_standard: the benchmark's number of episodes; rows with fewer have the badge "partial". None when the
            benchmark no longer exists.
        n_ranked: episodes that a row needs to be ranked, and on which rows are judged.
        list_digest: of the episode list; empty when every run failed.
        prior: what the database says about training again.
        moved: how far trainings were seen to move on other hardware.
    """

    setting: str
    note: str
    judged: Judged
    failed: tuple[StoredRun, ...]
    n_standard: int | None
    n_ranked: int
    list_digest: str
    prior: stats.Prior
    moved: Moved

    @property
    def name(self) -> str:
        """Setting and note in one word, for files and links."""
        return "-".join(filter(None, (self.setting, self.note.replace(", ", "-").replace(" ", "-"))))

    @property
    def rows(self) -> tuple[Row, ...]:
        """Headline rows best first, then variants, then rows with fewer episodes."""
        return self.judged.rows

    def only(self, is_meant: Callable[[Row], bool]) -> Table:
        """The same with some of its rows, judged as before."""
        rows = tuple(row for row in self.judged.rows if is_meant(row))
        return replace(self, judged=replace(self.judged, rows=rows), failed=())

    @property
    def ranked(self) -> tuple[Row, ...]:
        """The headline rows of the methods with enough episodes, best first, one of those with equal results."""
        return self.judged.ranked.rows

    @property
    def pairs(self) -> stats.Pairs | None:
        """Every ranked row against every other; None without rows, or on one episode."""
        return self.judged.ranked.pairs


def episodes_to_rank(lengths: Sequence[int], n_standard: int | None) -> int:
    """Episodes that a row needs: the standard number, or what most rows with a long list have.

    >>> episodes_to_rank([300, 300, 100], None), episodes_to_rank([300, 100], 2000), episodes_to_rank([3000], 2000)
    (300, 300, 2000)
    """
    if not lengths:
        return 0
    if n_standard is not None:
        return min(n_standard, max(lengths))
    return max(Counter(lengths).items(), key=lambda item: (item[1], item[0]))[0]


def tables(
    store: Store, settings: Sequence[str] | None = None, methods: Sequence[str] | None = None
) -> list[Table]:
    """Read everything that is asked for; None means all."""
    return list(each_table(store, stored_runs(store, settings, methods)))


def stored_runs(
    store: Store, settings: Sequence[str] | None = None, methods: Sequence[str] | None = None
) -> list[StoredRun]:
    """Every run and replicate that is asked for, without its counts, by setting."""
    filters: dict[str, Any] = {}
    if settings is not None:
        filters["setting"] = list(settings)
    if methods is not None:
        filters["method"] = list(methods)
    by_setting = Counter(store.column("setting", **filters))
    n_runs = by_setting.total()
    parts = [(filters | part,) for part in _shares(by_setting)] if n_runs >= workers.WORTH else [(filters,)]
    return [run for share in workers.each(store, _stored, parts, len(parts), n_runs) for run in share]


def _stored(store: Store, filters: Mapping[str, Any]) -> list[StoredRun]:
    return store.stored_runs(**filters)


def _shares(by_setting: Mapping[str, int]) -> Iterator[dict[str, list[str]]]:
    """Settings in a few shares of about as many runs, as filters, in order."""
    names, n_at_once = sorted(by_setting), sum(by_setting.values()) / N_SHARES
    shares: dict[int, list[str]] = {}
    before = 0
    for name in names:
        shares.setdefault(int(before / n_at_once), []).append(name)
        before += by_setting[name]
    for share in shares.values():
        yield {"setting": share}


def each_table(
    store: Store, runs: Sequence[StoredRun], every: Sequence[StoredRun] | None = None
) -> Iterator[Table]:
    """Make the tables of these runs, by setting; arguments as of ``read``."""
    found, whole = read(store, runs, every)
    with ThreadPoolExecutor(min(MOST_AT_ONCE, n_cpus())) as pool:
        yield from pool.map(lambda one: judged(one, whole), found)


class Evaluated(NamedTuple):
    """What was evaluated on one episode list over one set of images, not judged yet; see ``Table``.

    Attributes:
        spare: runs that stand in no row, since another of the same seed does.
    """

    setting: str
    note: str
    rows: list[Pooled]
    failed: tuple[StoredRun, ...]
    spare: tuple[StoredRun, ...]
    episodes: str


class Whole(NamedTuple):
    """What the whole database says of training again, by which every table is judged."""

    prior: stats.Prior
    moved: Moved


def read(
    store: Store, runs: Sequence[StoredRun], every: Sequence[StoredRun] | None = None
) -> tuple[list[Evaluated], Whole]:
    """Read the counts of these runs, by setting.

    Args:
        store: the database.
        runs: of the tables.
        every: all that are stored, where they were read already.
    """
    lists = list(_each_list(runs))
    tried = store.tried()
    parts = [(one.setting, groups, tried) for one, groups in lists]
    rows = workers.each(store, _pooled, parts, len(parts), len(runs))
    found = [one._replace(rows=own) for (one, _), own in zip(lists, rows, strict=True)]
    prior = learn(store, {row.key: row.evidence for one in found for row in one.rows}, every)
    return found, Whole(prior, moved(store, runs if every is None else every))


def judged(one: Evaluated, whole: Whole) -> Table:
    """Judge the rows of one list with what the whole database says."""
    n_standard = standard_episodes(one.setting)
    n_ranked = episodes_to_rank([row.n_episodes for row in one.rows], n_standard)
    found = judge(one.rows, n_ranked, whole.prior)
    return Table(one.setting, one.note, found, one.failed, n_standard, n_ranked, one.episodes, *whole)


def _pooled(store: Store, setting: str, groups: Sequence[list[StoredRun]], tried: Tried) -> list[Pooled]:
    """The rows of one list, each of one group of runs."""
    n_standard = standard_episodes(setting)
    return [pooled(store, setting, group, n_standard, tried) for group in groups]


def _each_list(runs: Sequence[StoredRun]) -> Iterator[tuple[Evaluated, list[list[StoredRun]]]]:
    """What was evaluated on each list, its rows not read yet, and the runs of each row."""
    by_setting: dict[str, list[StoredRun]] = {}
    for run in runs:
        by_setting.setdefault(run.spec.setting, []).append(run)
    for setting, members in sorted(by_setting.items(), key=lambda item: setting_order(item[0])):
        failed = tuple(run for run in members if run.status == "failed")
        by_images: dict[tuple[str, str], list[StoredRun]] = {}
        pictures = _pictures(members)
        for run in members:
            if run.status == "done":
                key = (run.spec.episode_digest, pictures[run.spec.data_digest.get("novel", "")])
                by_images.setdefault(key, []).append(run)
        for (episodes, images), done in sorted(by_images.items()) or [(("", ""), [])]:
            note = f"images {images[:8]}, episodes {episodes[:8]}" if len(by_images) > 1 else ""
            groups = list(by_row(done).values())
            used = {run.pk for group in groups for run in group}
            spare = tuple(run for run in done if run.pk not in used)
            yield Evaluated(setting, note, [], failed, spare, episodes), groups


def _pictures(runs: Sequence[StoredRun]) -> dict[str, str]:
    """Digest of novel pixels → digest of the pictures behind them, as some run recorded it; else of the pixels."""
    found: dict[str, str] = {}
    for run in runs:
        pixels = run.spec.data_digest.get("novel", "")
        found[pixels] = str(run.provenance.get("pictures", "")) or found.get(pixels, pixels)
    return found


def setting_order(setting: str) -> str:
    """What settings are sorted by: their names, n2 before n10.

    >>> sorted(["glyphs-lowshot-n10", "glyphs-lowshot-n2"], key=setting_order)
    ['glyphs-lowshot-n2', 'glyphs-lowshot-n10']
    """
    return re.sub(r"(?<=-n)\d+$", lambda match: match[0].zfill(4), setting)


def rows_of(specs: Sequence[RunSpec], store: Store) -> list[Row]:
    """The rows that hold any of some runs, by setting, the best first."""
    ids = {spec.id for spec in specs}
    found = tables(store, list({spec.setting for spec in specs}))
    rows = [row for table in found for row in table.rows if ids & {run.id for run in row.runs}]
    return sorted(rows, key=lambda row: (setting_order(row.setting), -row.mean))


def settings_named(patterns: Sequence[str], store: Store) -> list[str]:
    """Names of settings that names or globs mean, among those that have runs or else those that exist.

    Raises:
        ConfigError: when nothing matches.
    """
    with_runs = sorted(set(store.column("setting")))
    chosen: list[str] = []
    for pattern in patterns:
        found = [name for name in with_runs if fnmatchcase(name, pattern)]
        chosen += found or [s.name for s in benchmarks.expand(pattern)]
    return chosen
