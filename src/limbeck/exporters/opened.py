"""An exported file as a module, for evaluation like any model."""

__all__ = ["Opened"]

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from limbeck.inputs import Inputs


class Opened(nn.Module):
    """What :meth:`Exporter.open` gave, as a module without weights.

    Args:
        ask: The function of inputs.
        presentation: How the exported model sees examples.
    """

    presentation: Any

    def __init__(self, ask: Callable[[Inputs], Tensor], presentation: Any = None) -> None:
        super().__init__()
        self._ask, self.presentation = ask, presentation

    def forward(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        """The output for a tensor, or for tensors by name."""
        return self._ask(inputs[0] if inputs else named)
