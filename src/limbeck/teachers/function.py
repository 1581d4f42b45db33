"""A function of the inputs as a teacher.

Axes: ``N`` examples, ``K`` classes.
"""

__all__ = ["FunctionTeacher"]

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limbeck.data.values import as_tensor
from limbeck.inputs import shapes_of, split_places
from limbeck.losses import softened
from limbeck.models.calling import at_examples, logits_of, require_logits
from limbeck.protocols import Batch
from limbeck.system.user_code import introduce_error


class FunctionTeacher:
    """A function of the inputs as a teacher: it gives logits, as a module does.

    Args:
        function: Called with inputs ``(N, ...)`` as tensors, without gradient; gives logits ``(N, K)``.
        classes: Not used: a function does not name its classes.

    Example:
        >>> FunctionTeacher(lambda x: 2 * x).log_probs(Batch(torch.arange(1), 0, torch.eye(2)[:1], None), 2.0).exp()
        tensor([[0.7311, 0.2689]])
    """

    every_temperature = has_logits = True
    softens = True
    """Outputs are softened by the caller, and respect the temperature."""
    classes: tuple[str, ...] | None = None

    def __init__(self, function: Callable[[Any], Any], classes: Sequence[str] | None = None) -> None:
        self.function = function

    @staticmethod
    def takes(given: Any) -> bool:
        """Whether something can be called, and is not a class."""
        return callable(given) and not inspect.isclass(given)

    def before_softmax(self, batch: Batch) -> Tensor:
        """The function's output, to find its last operation."""
        return self.logits(batch)

    @torch.no_grad()
    def logits(self, batch: Batch) -> Tensor:
        """The function's output, float32 ``(N, K)``."""
        inputs, places, key = split_places(batch.inputs)
        try:
            returned = self.function(inputs)
        except Exception as error:  # any error of the user's function
            name = getattr(self.function, "__name__", type(self.function).__name__)
            introduce_error(error, f"the teacher {name}", f"inputs of shape {shapes_of(inputs)}")
        if isinstance(returned, np.ndarray):
            name = getattr(self.function, "__name__", type(self.function).__name__)
            returned = as_tensor(f"logits of the teacher {name}", returned).to(batch.index.device)
        logits = at_examples(logits_of(returned).float(), inputs, places, key)
        require_logits(logits, len(batch.index))
        return logits

    def log_probs(self, batch: Batch, temperature: float) -> Tensor:
        """Log-probabilities softened at a temperature, float32 ``(N, K)``, without gradient."""
        return softened(self.logits(batch), temperature)
