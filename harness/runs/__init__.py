"""A run as data: its specification, plan, result, folder and findings.

Nothing is trained, evaluated or stored in a database here.
"""

from harness.method.hyper import ConfigValue
from harness.method.registry import MethodReference
from harness.runs.result import FORMAT, SELF_REPORTED, Counts, EpisodeTable, RunResult
from harness.runs.spec import FitSpec, Precision, RunSpec

__all__ = [
    "FORMAT",
    "SELF_REPORTED",
    "ConfigValue",
    "Counts",
    "EpisodeTable",
    "FitSpec",
    "MethodReference",
    "Precision",
    "RunResult",
    "RunSpec",
]
