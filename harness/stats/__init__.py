"""What a few-shot comparison may claim: intervals, paired tests, ranks; pure functions on arrays.

Read in this order: `intervals` (one method), `classes` (would it hold for other classes), `seeds` (would it
hold for another training), `headline` (which of these to print), `paired` (two methods), `power` (how many
episodes), `ranks` (many methods), `across` and `aggregate` (many benchmarks), `predictions` and `hardness` (which queries),
`published` (someone else's number).

Accuracies are fractions in [0, 1], differences fractions in [-1, 1], both float64. Sizes: E episodes,
S training seeds, M methods, N benchmarks, C classes, W classes per episode. A quantity that the data cannot
give is None and a note says why; input that makes no sense is a ValueError.
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
        win_tie_loss,
    )
    from harness.stats.aggregate import (
        IqmInterval,
        Superiority,
        iqm_interval,
        performance_profile,
        probability_of_superiority,
    )
    from harness.stats.classes import class_interval, joint_interval
    from harness.stats.hardness import HardnessLine, episode_hardness, hardness_line
    from harness.stats.headline import headline_interval
    from harness.stats.intervals import Interval, bootstrap_interval, sampler_interval
    from harness.stats.paired import Comparison, Unpaired, Verdict, compare, unpaired, verdict
    from harness.stats.power import (
        QueryComponents,
        best_queries,
        minimal_detectable_effect,
        needed_episodes,
        needed_pairs,
        needed_seeds,
        query_components,
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
    from harness.stats.published import PublishedGap, published_gap
    from harness.stats.ranks import AllPairs, RankInterval, all_pairs, holm, rank_intervals, tie_groups
    from harness.stats.seeds import Crossed, crossed, crossed_interval
    from harness.stats.significance import flip_generator, sign_flip_p, wilcoxon_p

__all__ = [
    "AllPairs",
    "ClassAccuracy",
    "Comparison",
    "Confusion",
    "Crossed",
    "ErrorOverlap",
    "Friedman",
    "HardnessLine",
    "Interval",
    "IqmInterval",
    "MeanRanks",
    "PublishedGap",
    "QueryComponents",
    "RankInterval",
    "Submatrix",
    "Superiority",
    "Unpaired",
    "Verdict",
    "WinTieLoss",
    "WorstEpisodes",
    "all_pairs",
    "best_queries",
    "bootstrap_interval",
    "class_accuracy",
    "class_interval",
    "compare",
    "complete_submatrix",
    "confusion",
    "crossed",
    "crossed_interval",
    "episode_hardness",
    "error_overlap",
    "flip_generator",
    "friedman",
    "hardness_line",
    "headline_interval",
    "holm",
    "iqm_interval",
    "joint_interval",
    "mean_ranks",
    "minimal_detectable_effect",
    "needed_episodes",
    "needed_pairs",
    "needed_seeds",
    "performance_profile",
    "probability_of_superiority",
    "published_gap",
    "query_components",
    "rank_intervals",
    "sampler_interval",
    "sign_flip_p",
    "tie_groups",
    "unpaired",
    "verdict",
    "wilcoxon_p",
    "win_tie_loss",
    "worst_episodes",
]

# Each is asked until one knows the name: the first imports no scipy, the last ones scipy.stats.
_MODULES = (
    "predictions", "intervals", "seeds", "headline", "classes", "aggregate", "published", "power", "significance", "paired",
    "ranks", "hardness", "across",
)  # fmt: skip

if not TYPE_CHECKING:  # else a misspelt name would pass as Any

    def __getattr__(name: str) -> Any:
        """Import a function when it is asked for: a leaderboard needs no scipy.stats, which costs as much as all else."""
        if name in __all__:
            modules = (import_module(f"{__name__}.{module}") for module in _MODULES)
            return next(getattr(module, name) for module in modules if hasattr(module, name))
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
