"""What a few-shot comparison may claim; pure functions on arrays.

The question of a table: would it hold if everything were trained again, on other episodes of these classes? Read in
this order: `rows` (a row, reduced), `prior` (what the database knows of seeds), `moderation` (the seed variance of
a row), `draws` (the joint errors of a table), from which come `headline` (the interval beside a mean), `pairs` (every
difference, p, ranks), `words`, `planning`, `published` (someone else's number) and `settings` (one verdict over
several). `looks` says when a row may be judged again. Beside them `checkpoints` (two trained models, episodes alone),
`intervals` (what papers print), `classes` (other classes), `across` (tables without holes), `predictions`, `hardness`,
`queries` and `detection` (average precision). Sections in brackets, such as (s.4), are those of the README's statistics page.

Accuracies are fractions in [0, 1], differences fractions in [-1, 1], both float64. Sizes: T episodes, S trainings,
M rows, B draws, N settings, C classes, W classes per episode. A quantity that the data cannot give is None and a
note says why; input that makes no sense is a ValueError.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.stats.across import (
        Friedman,
        MeanRanks,
        Submatrix,
        WinTieLoss,
        complete_submatrix,
        friedman,
        mean_ranks,
        performance_profile,
        wilcoxon_pairs,
        win_tie_loss,
    )
    from harness.stats.checkpoints import Checkpoints, compare_checkpoints
    from harness.stats.classes import class_interval, joint_interval
    from harness.stats.draws import Draws, ErrorModel, draw, error_model
    from harness.stats.hardness import HardnessLine, episode_hardness, hardness_line
    from harness.stats.headline import Headline, SeedPart, score_ends
    from harness.stats.intervals import Interval, sampler_interval
    from harness.stats.looks import LOOKS, N_PLANNED, is_between_looks, size_of_test
    from harness.stats.moderation import Moderated, moderate
    from harness.stats.pairs import ALPHA, MARGIN, Family, Pairs, Ranks, Word, judge
    from harness.stats.planning import (
        TRAININGS,
        Cost,
        Pilot,
        Plan,
        cheapest_plan,
        detectable,
        episodes_can_decide,
        pilot,
        power,
    )
    from harness.stats.predictions import (
        ClassAccuracy,
        Confusion,
        ErrorOverlap,
        WorstEpisodes,
        class_accuracy,
        confusion,
        error_overlap,
        worst_episodes,
    )
    from harness.stats.prior import DEFAULT, Prior, Spread, fit_prior, prior_of
    from harness.stats.published import Prediction, predict_published
    from harness.stats.queries import QueryComponents, best_queries, query_components
    from harness.stats.rows import Row, equal_rows, sharing, summarise
    from harness.stats.settings import (
        OverSettings,
        Superiority,
        averaged,
        evidence,
        judge_settings,
        superiority,
    )
    from harness.stats.significance import flip_generator, holm, paired_t_p, sign_flip_p, wilcoxon_p
    from harness.stats.words import Reason, Verdict, verdict, verdict_alone

__all__ = [
    "ALPHA",
    "DEFAULT",
    "LOOKS",
    "MARGIN",
    "N_PLANNED",
    "TRAININGS",
    "Checkpoints",
    "ClassAccuracy",
    "Confusion",
    "Cost",
    "Draws",
    "ErrorModel",
    "ErrorOverlap",
    "Family",
    "Friedman",
    "HardnessLine",
    "Headline",
    "Interval",
    "MeanRanks",
    "Moderated",
    "OverSettings",
    "Pairs",
    "Pilot",
    "Plan",
    "Prediction",
    "Prior",
    "QueryComponents",
    "Ranks",
    "Reason",
    "Row",
    "SeedPart",
    "Spread",
    "Submatrix",
    "Superiority",
    "Verdict",
    "WinTieLoss",
    "Word",
    "WorstEpisodes",
    "averaged",
    "best_queries",
    "cheapest_plan",
    "class_accuracy",
    "class_interval",
    "compare_checkpoints",
    "complete_submatrix",
    "confusion",
    "detectable",
    "draw",
    "episode_hardness",
    "episodes_can_decide",
    "equal_rows",
    "error_model",
    "error_overlap",
    "evidence",
    "fit_prior",
    "flip_generator",
    "friedman",
    "hardness_line",
    "holm",
    "is_between_looks",
    "joint_interval",
    "judge",
    "judge_settings",
    "mean_ranks",
    "moderate",
    "paired_t_p",
    "performance_profile",
    "pilot",
    "power",
    "predict_published",
    "prior_of",
    "query_components",
    "sampler_interval",
    "score_ends",
    "sharing",
    "sign_flip_p",
    "size_of_test",
    "summarise",
    "superiority",
    "verdict",
    "verdict_alone",
    "wilcoxon_p",
    "wilcoxon_pairs",
    "win_tie_loss",
    "worst_episodes",
]

# Each is asked until one knows the name: those that a table needs first, the last ones import scipy.stats.
_MODULES = (
    "looks", "intervals", "predictions", "rows", "prior", "moderation", "draws", "headline", "pairs", "words", "classes",
    "queries", "planning", "published", "settings", "significance", "checkpoints", "hardness", "across",
)  # fmt: skip

if not TYPE_CHECKING:  # else a misspelt name would pass as Any

    def __getattr__(name: str) -> Any:
        """Import a function when it is asked for: a leaderboard needs no scipy.stats, which costs as much as all else."""
        if name in __all__:
            modules = (import_module(f"{__name__}.{module}") for module in _MODULES)
            globals()[name] = next(getattr(module, name) for module in modules if hasattr(module, name))
            return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
