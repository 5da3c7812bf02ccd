"""The contract of a method, for authors of plugins: ``MethodContract("./mine.py").run_all()``."""

from harness.testing.contract import MethodContract, Outcome
from harness.testing.promises import PROMISES, DoesNotApply, Promise
from harness.testing.workbench import Workbench, tiny_store

__all__ = ["PROMISES", "DoesNotApply", "MethodContract", "Outcome", "Promise", "Workbench", "tiny_store"]
