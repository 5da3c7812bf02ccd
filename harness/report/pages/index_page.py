"""The front page: the overview, what holds across settings, and what changed since the last build."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.report.board import across
from harness.report.pages import family_page, overview
from harness.report.pages.setting_page import SettingPage


@dataclass(frozen=True)
class IndexPage:
    """The front page and the pages that it leads to.

    Attributes:
        overview: methods × settings.
        families: a page for each benchmark.
        across: what holds across settings; None where too little is there.
        n_runs: stored.
    """

    overview: overview.Overview
    families: tuple[family_page.Family, ...]
    across: across.Across | None
    n_runs: int


def build(pages: Sequence[SettingPage], n_runs: int) -> IndexPage:
    """Arrange the pages of all settings."""
    return IndexPage(
        overview.build(pages), family_page.build(pages), across.build([page.table for page in pages]), n_runs
    )
