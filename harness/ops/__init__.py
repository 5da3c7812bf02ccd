"""Vectorised numerics: pure functions, shapes in the docstring."""
