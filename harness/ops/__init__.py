"""Numerics on tensors: pure, vectorised functions with shapes in their docstrings; a public library.

No file, method or configuration is known here.
"""
