"""From stored runs to leaderboard rows: seeds pooled, one interval each, ranks by paired tests; nothing rendered."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from harness import stats
from harness.report.board.rows import Row, by_row, pooled, standard_episodes
from harness.store import Store, StoredRun


@dataclass(frozen=True)
class Table:
    """The rows of one setting that may be compared: one episode list, one set of images; best first.

    Attributes:
        setting: name; ``note`` tells apart tables of one setting over different images.
        rows: best mean first.
        failed: runs that ended in an error; each is a hole in the table.
        n_standard: the benchmark's number of episodes; rows with fewer have the badge "partial". None when the
            benchmark no longer exists.
        list_digest: of the episode list; empty when every run failed.
    """

    setting: str
    note: str
    rows: tuple[Row, ...]
    failed: tuple[StoredRun, ...]
    n_standard: int | None
    list_digest: str

    @property
    def name(self) -> str:
        """Setting and note in one word, for files and links."""
        return "-".join(filter(None, (self.setting, self.note.replace(", ", "-").replace(" ", "-"))))

    @cached_property
    def n_ranked(self) -> int:
        """Episodes that a row needs to be ranked: the standard number, or what most rows with a long list have."""
        lengths = [row.n_episodes for row in self.rows]
        if not lengths:
            return 0
        if self.n_standard is not None:
            return min(self.n_standard, max(lengths))
        return max(Counter(lengths).items(), key=lambda item: (item[1], item[0]))[0]

    @cached_property
    def ranked(self) -> tuple[Row, ...]:
        """Rows with enough episodes, best first on those that all of them share."""
        n = self.n_ranked
        rows = [row for row in self.rows if row.n_episodes >= n]
        return tuple(sorted(rows, key=lambda row: -row.accuracy[:, :n].mean()))

    @cached_property
    def pairs(self) -> stats.AllPairs | None:
        """Every ranked row against every other, paired; None when there is no row."""
        if not self.ranked:
            return None
        matrices = [row.units(self.n_ranked) for row in self.ranked]
        return stats.all_pairs(matrices, [row.seeds for row in self.ranked])

    @property
    def n_units(self) -> int:
        """Episodes, or jointly classes, over which rows are paired."""
        return int(self.ranked[0].units(self.n_ranked).shape[1]) if self.ranked else 0

    @cached_property
    def ranks(self) -> dict[str, tuple[int, int, int]]:
        """Row key → lowest rank, highest rank, tie group, of the ranked rows."""
        if self.pairs is None:
            return {}
        better = self.pairs.is_better()
        bounds = stats.rank_intervals(better)
        means = [float(row.accuracy[:, : self.n_ranked].mean()) for row in self.ranked]
        columns = (bounds.low, bounds.high, stats.tie_groups(means, better))
        cells = zip(*(column.tolist() for column in columns), strict=True)
        return {row.key: cell for row, cell in zip(self.ranked, cells, strict=True)}


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
    return store.stored_runs(**filters)


def each_table(store: Store, runs: Sequence[StoredRun]) -> Iterator[Table]:
    """Make the tables of these runs, one after the other, by setting."""
    by_setting: dict[str, list[StoredRun]] = {}
    tried = store.tried()
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
        n_standard = standard_episodes(setting)
        for (episodes, images), done in sorted(by_images.items()) or [(("", ""), [])]:
            rows = [pooled(store, setting, group, n_standard, tried) for group in by_row(done).values()]
            note = f"images {images[:8]}, episodes {episodes[:8]}" if len(by_images) > 1 else ""
            ordered = tuple(sorted(rows, key=lambda r: (-r.mean, r.key)))
            yield Table(setting, note, ordered, failed, n_standard, episodes)


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
