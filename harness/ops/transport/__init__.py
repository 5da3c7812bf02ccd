"""Optimal transport between two sets of masses, batched, exact and with its exact gradient."""

from harness.ops.transport.solve import Form, Solver, Transport, transport

__all__ = ["Form", "Solver", "Transport", "transport"]
