"""The contract of a method, for authors of plugins: ``MethodContract("./mine.py").run_all()``."""

from harness.testing.contract import MethodContract, Outcome
from harness.testing.promise import NotChecked, Promise
from harness.testing.promises import PROMISES
from harness.testing.tiny import tiny_store
from harness.testing.workbench import Workbench

__all__ = ["PROMISES", "MethodContract", "NotChecked", "Outcome", "Promise", "Workbench", "tiny_store"]
