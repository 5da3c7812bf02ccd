"""What a row has to say about itself: its badges, and where its weights come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.benchmarks import Benchmark, leaks
from harness.images.stores import REHEARSAL
from harness.runs.spec import FitSpec, RunSpec


def badges(
    spec: RunSpec,
    benchmark: Benchmark,
    *,
    is_transductive: bool,
    assumes_balance: bool,
    is_untrained: bool,
    is_trained: bool,
    is_imported: bool,
) -> list[str]:
    """The badges of a run, as they are stored with it and shown on every page.

    Args:
        spec: the run.
        benchmark: its benchmark.
        is_transductive: whether the method uses the queries of an episode together.
        assumes_balance: whether it takes the queries to have as many of every class.
        is_untrained: whether it declares that seeds do not matter, as nothing is trained.
        is_trained: whether the method has weights, which something has to select.
        is_imported: whether the fit came in a bundle.
    """
    is_unselected = is_trained and spec.select_on == "validation" and "validation" not in spec.data_digest
    is_leak = leaks.UNKNOWN in spec.seen or bool(leaks.of_run(spec.seen, benchmark, spec.started_from))
    more = (*spec.seen, *spec.started_from)
    found = {
        "transductive": is_transductive,
        "assumes balance": assumes_balance,
        "untrained": is_untrained,
        "no validation": is_unselected,
        "imported fit": is_imported or bool(spec.imported),
        "leak": is_leak,
        "test-selected": spec.select_on == "novel",
        "extra data": bool(more) and leaks.is_more_than_base(more, benchmark),
        "rehearsal": any(REHEARSAL in digest for digest in spec.data_digest.values()),
        "resized": spec.image_size != benchmark.image_size,
    }
    return [name for name, is_true in found.items() if is_true]


def origin(spec: RunSpec, benchmark: Benchmark, record: Mapping[str, Any]) -> dict[str, Any]:
    """Where imported weights come from and what was seen of the novel classes; empty as a rule.

    Args:
        spec: the run.
        benchmark: its benchmark.
        record: of the fit.

    Returns:
        ``weights`` (file, sha256, names set aside, what they saw), ``pretrained`` (file, sha256, what they saw) and ``leak``
        (classes, pictures), as JSON types.
    """
    told: dict[str, Any] = {}
    if "weights" in record:
        told["weights"] = {**record["weights"], "seen": list(spec.seen)}
    if "pretrained" in record:
        told["pretrained"] = record["pretrained"]
    if leak := leaks.of_run(spec.seen, benchmark, spec.started_from):
        told["leak"] = {name: list(values) for name, values in leak._asdict().items()}
    return told


def saw(fit: FitSpec, benchmark: Benchmark) -> dict[str, Any]:
    """Which images a training sees, for the record beside its checkpoint, as JSON types."""
    if fit.weights_sha256:
        return {"as the user says": list(fit.seen)}
    return {
        role: {
            "dataset": part.dataset, "digest": fit.data_digest[role], "classes": dict(part.classes),
            "images": list(part.spans.values()) if part.starts else part.images, "rotations": part.rotations,
        }
        for role, part in benchmark.roles.items()
        if role != "novel" and role in fit.data_digest
    }  # fmt: skip
