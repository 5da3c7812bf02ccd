"""Every installed method keeps every promise; a new method only registers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from harness.method import registry
from harness.testing import MethodContract


@cache
def contract(method: str) -> MethodContract:
    """One contract, and so one fit, a method."""
    return MethodContract(method)


# training at prediction with two classes after the other takes half a minute; maml stands for them every time
NIGHTLY = {"finetune-network", "transductive-finetune-network", "transductive-maml"}


def each_promise() -> Iterator[Any]:
    for promise, _ in MethodContract.promises():
        for method in sorted(registry.installed()):
            is_slow = promise == "classes_may_be_renamed" and method in NIGHTLY
            yield pytest.param(
                method, promise, marks=[pytest.mark.nightly] * is_slow, id=f"{promise}-{method}"
            )


@pytest.mark.parametrize(("method", "promise"), list(each_promise()))
def test_method_keeps_its_promise(method: str, promise: str) -> None:
    outcome = contract(method).outcome(promise)
    if outcome.passed is None:
        pytest.skip(outcome.message)
    assert outcome.passed, f"{outcome.promise} {outcome.message}"
