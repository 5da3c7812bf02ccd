"""A run as a record of Every Eval Ever, the shared format of the EvalEval coalition for results of any evaluation.

Written by its schema 0.3.0: a run is an evaluation of a model (method, backbone, configuration and seed), each of its metrics a
result with the interval over episodes that papers print. What the format has no place for goes into ``additional_details``,
whose values are texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np

from harness.runs import RunResult, RunSpec
from harness.runs.request import command
from harness.runs.result import SELF_REPORTED, Counts
from harness.runs.signature import of_specs
from harness.stats import sampler_interval

SCHEMA = "0.3.0"


def as_record(
    result: RunResult, organization: str = "unknown", *, has_weights: bool = False
) -> dict[str, Any]:
    """Map a run that ended well.

    Args:
        result: the run.
        organization: who evaluated.
        has_weights: whether its checkpoint goes with the record.

    Returns:
        JSON types; equal results give equal records.
    """
    spec, facts = result.spec, result.provenance
    finished = str(facts.get("finished", ""))
    made_by = str(facts.get("packages", {}).get("fsbench", "")) or "unknown"
    is_scored = spec.is_scored or bool(facts.get(SELF_REPORTED))
    model = f"fsbench/{spec.called}-{spec.backbone}-{spec.row_key[:8]}-seed{spec.seed}"
    return {
        "schema_version": SCHEMA,
        "evaluation_id": f"{spec.setting}/{model}/{_epoch(finished)}",
        **({"evaluation_timestamp": finished} if finished else {}),
        "retrieved_timestamp": _epoch(finished),
        "source_metadata": {
            "source_name": f"fsbench {spec.setting}",
            "source_type": "evaluation_run",  # single episodes, whoever ran them; no number of a page
            "source_organization_name": organization,
            "evaluator_relationship": "other",
        },
        "eval_library": {"name": "fsbench", "version": made_by},
        "model_info": _model(spec, model, is_scored=is_scored, has_weights=has_weights),
        "evaluation_results": list(_results(result, made_by)),
    }


def _model(spec: RunSpec, model: str, *, is_scored: bool, has_weights: bool) -> dict[str, Any]:
    return {
        "name": spec.label,
        "id": model,
        "additional_details": _texts(
            {
                "deployment_type": "unknown" if is_scored else "self_deployed",
                "model_availability": "open_weights" if has_weights else "unknown",
                "method": spec.method.name,
                "method_version": spec.method.version,
                "backbone": spec.backbone,
                "recipe": spec.recipe,
                "seed": spec.seed,
                **{f"config.{name}": entry.value for name, entry in sorted(spec.config.items())},
            }
        ),
    }


def _results(result: RunResult, made_by: str) -> Iterator[dict[str, Any]]:
    spec = result.spec
    signature = str(of_specs([spec], spec.n_episodes, made_by))
    for metric, counts in sorted(result.counts.items()):
        score, uncertainty = _score(counts)
        yield {
            "evaluation_result_id": f"{spec.id}/{metric}",
            "evaluation_name": f"{spec.setting}/{metric}",
            "source_data": {
                "dataset_name": spec.benchmark,
                "source_type": "other",
                "additional_details": _texts(
                    {
                        "episodes": spec.episode_digest,
                        "pixels": spec.data_digest.get("novel", ""),
                        "way": spec.n_way,
                        "shot": spec.shot,
                    }
                ),
            },
            "metric_config": {
                "evaluation_description": f"mean share of queries named right over {spec.n_episodes} episodes",
                "metric_id": "accuracy",
                "metric_name": metric,
                "metric_kind": "accuracy",
                "metric_unit": "proportion",
                "lower_is_better": False,
                "score_type": "continuous",
                "min_score": 0.0,
                "max_score": 1.0,
            },
            "score_details": {
                "score": score,
                "details": {"signature": signature, "run": spec.id, "counts": result.digest},
                **({"uncertainty": uncertainty} if uncertainty else {}),
            },
            "generation_config": {"generation_args": {"execution_command": command(spec)}},
        }


def _score(counts: Counts) -> tuple[float, dict[str, Any]]:
    """The mean over episodes that ask a query, and what is uncertain of it; nothing is of one episode."""
    asked = counts.n_query > 0
    shares = counts.n_correct[asked] / counts.n_query[asked]
    found = sampler_interval(shares)
    if found.low is None or found.high is None:
        return float(shares.mean()), {}
    deviation = float(shares.std(ddof=1))
    return float(shares.mean()), {
        "standard_error": {"value": deviation / float(np.sqrt(len(shares))), "method": "analytic"},
        "confidence_interval": {
            "lower": float(found.low), "upper": float(found.high), "confidence_level": 0.95,
            "method": "Student's t over episodes; other trainings are not in it",
        },
        "standard_deviation": deviation,
        "num_samples": len(shares),
    }  # fmt: skip


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in values.items() if value != ""}


def _epoch(finished: str) -> str:
    """Seconds since 1970 of a time in UTC; "0" where none was recorded.

    >>> _epoch("1970-01-02T00:00:00+00:00"), _epoch("")
    ('86400', '0')
    """
    try:
        return str(int(datetime.fromisoformat(finished).replace(tzinfo=UTC).timestamp()))
    except ValueError:
        return "0"
