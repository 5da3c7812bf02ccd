"""Parts of a method whose sizes are known only with the features: made in training, or as they were saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn


class Later(nn.Module):
    """A module that is made when its size is known.

    Args:
        make: size → the module.
        like: name of one of its tensors whose length along ``axis`` is that size.
        axis: of that tensor.
    """

    made: Any

    def __init__(self, make: Callable[[int], nn.Module], like: str, axis: int = 0) -> None:
        super().__init__()
        self._make, self._like, self._axis = make, f"made.{like}", axis

    def of(self, size: int) -> Any:
        """Make it, or give it if it is made."""
        if not hasattr(self, "made"):
            self.made = self._make(size)
        return self.made

    def forward(self, *inputs: Any) -> Any:
        """What the module gives."""
        return self.made(*inputs)

    def _load_from_state_dict(self, state: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        """Make it at the size that it was saved with; its tensors are read after this."""
        if (kept := state.get(prefix + self._like)) is not None:
            self.of(kept.shape[self._axis]).to(kept.device)
        super()._load_from_state_dict(state, prefix, *rest)
