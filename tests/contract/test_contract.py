"""Every installed method keeps every promise; a new method only registers."""

from __future__ import annotations

from functools import cache

import pytest

from harness.method import registry
from harness.testing import MethodContract


@cache
def contract(method: str) -> MethodContract:
    """One contract, and so one fit, a method."""
    return MethodContract(method)


@pytest.mark.parametrize("method", sorted(registry.installed()))
@pytest.mark.parametrize("promise", [name for name, _ in MethodContract.promises()])
def test_method_keeps_its_promise(method: str, promise: str) -> None:
    outcome = contract(method).outcome(promise)
    if outcome.passed is None:
        pytest.skip(outcome.message)
    assert outcome.passed, f"{outcome.promise} {outcome.message}"
