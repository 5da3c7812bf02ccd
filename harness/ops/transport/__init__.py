"""Optimal transport between two sets of masses, batched, exact and with its exact gradient."""

from harness.ops.transport.solve import Form, Solver, Transport, transport
from harness.ops.transport.solvers import check_installed

__all__ = ["Form", "Solver", "Transport", "check_installed", "transport"]
