"""The promises about experiments of the joint protocol: docstrings are the promises."""

from __future__ import annotations

import torch

from harness.benchmarks.episodes import JointList
from harness.benchmarks.experiments import JointClasses
from harness.evaluation.features import Source, Stacked
from harness.evaluation.protocols import JOINT, make_support
from harness.method import AdaptsTogether
from harness.method.support import Support
from harness.testing.promise import NotChecked, demand, demand_close, p_of_mean
from harness.testing.tiny import N_IMAGES, tiny_store
from harness.testing.workbench import SEED, Workbench, steady

N_QUERY, SHOT = 5, 3
P_BEATS_CHANCE = 0.01


def experiments_are_scored(bench: Workbench) -> str:
    """In the joint protocol all labels of base and novel classes get scores, which find the class better than chance."""
    experiments, source = _experiments(bench)
    with steady():
        given = JOINT.predict(bench.fresh(), experiments, source, SEED)
    right = (given[:, 0] == experiments.query_label).mean(axis=0)  # (n_query,) over experiments
    by_class = right.reshape(len(experiments.asked), -1).mean(
        axis=1
    )  # (A,): queries of a class are not independent
    p = p_of_mean(by_class, 1 / experiments.n_way, "greater")
    demand(
        p < P_BEATS_CHANCE,
        f"The accuracy on {len(by_class)} base and novel classes is {by_class.mean():.3f}, chance "
        f"{1 / experiments.n_way:.3f}, p = {p:.2g}.",
    )
    return f"accuracy {by_class.mean():.2f}, chance {1 / experiments.n_way:.2f}"


@torch.no_grad()
def experiments_together_equal_alone(bench: Workbench) -> str:
    """`adapt_many` equals `adapt`, experiment by experiment."""
    if not isinstance(bench.fit.method, AdaptsTogether):
        raise NotChecked("does not apply: it has no adapt_many")
    experiments, source = _experiments(bench)
    n, query = 3, source.take(experiments.query.ravel())

    def supports() -> list[Support]:
        return [make_support(experiments[i : i + 1], source, SEED, i) for i in range(n)]

    with steady():
        method = bench.fresh()
        together = [method.predict(state, query) for state in method.adapt_many(supports())]
    with steady():
        method = bench.fresh()
        alone = [method.predict(method.adapt(support), query) for support in supports()]
    asked = torch.from_numpy(
        experiments.asked
    )  # labels without support may have scores far below, which would hide the rest
    found, expected = (torch.stack(scores)[..., asked] for scores in (together, alone))
    demand_close(found, expected, "adapt_many and adapt have other scores")
    return ""


def _experiments(bench: Workbench) -> tuple[JointList, Source]:
    """Experiments over half of the tiny classes, and where their images or features are."""
    base, novel = (tiny_store(role, bench.image_size) for role in ("base", "novel"))
    half = [*base.class_names[::2], *novel.class_names[::2]]
    classes = JointClasses(
        dict.fromkeys(base.class_names, N_IMAGES - N_QUERY),
        dict.fromkeys(novel.class_names, N_IMAGES),
        frozenset(half),
        N_QUERY,
    )
    source = Stacked([bench.source_of("base"), bench.source_of("novel")], [len(base), len(novel)])
    return classes.experiments(SHOT, SEED), source
