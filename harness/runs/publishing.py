"""A run as others may see it: without the names and paths of the machine that made it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from harness.method.registry import MethodReference
from harness.runs.findings import StoredRun
from harness.runs.result import THUMBNAILS, RunResult
from harness.runs.spec import FitSpec
from harness.system.secrets import all_without_machine, without_machine

_HOST = "host"  # of a provenance: the machine's name
Spec = TypeVar("Spec", bound=FitSpec)


def published_result(result: RunResult) -> RunResult:
    """A result for an archive: the same id and counts, beside them nothing that names the machine."""
    return replace(
        result,
        spec=_published_spec(result.spec),
        provenance=_published_facts(result.provenance),
        traceback=without_machine(result.traceback, _host(result.provenance)),
    )


def published_run(run: StoredRun) -> StoredRun:
    """A stored run for a page; ``published_result`` without counts."""
    return replace(
        run,
        spec=_published_spec(run.spec),
        provenance=_published_facts(run.provenance),
        traceback=without_machine(run.traceback, _host(run.provenance)),
    )


def _published_spec(spec: Spec) -> Spec:
    """Of the file of a user's method, here and in what it is built on, the name alone; no id has its folder."""
    required = {need: _published_spec(fit) for need, fit in spec.required.items()}
    return replace(spec, method=_published_method(spec.method), required=required)


def _published_method(method: MethodReference) -> MethodReference:
    """The file by its name.

    >>> _published_method(MethodReference("/home/anna/mine.py:Mine", "mine", "1")).reference
    './mine.py:Mine'
    """
    if "/" not in method.reference:
        return method
    return replace(method, reference="./" + method.reference.rpartition("/")[2])


def _published_facts(provenance: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value if name == THUMBNAILS else all_without_machine(value, _host(provenance))
        for name, value in provenance.items()
        if name != _HOST
    }


def _host(provenance: Mapping[str, Any]) -> str:
    return str(provenance.get(_HOST, ""))
