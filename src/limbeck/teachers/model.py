r"""One model as a teacher.

Axes: ``N`` examples, ``K`` classes; ``T`` is the temperature.
"""

__all__ = ["ModelTeacher"]

import copy
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from limbeck.inputs import Inputs
from limbeck.losses import softened
from limbeck.models.calling import call_model, evaluating, presentation_of, require_logits, weights_dtype
from limbeck.models.compiled import refuse_uncompiled
from limbeck.models.taps import Taps, default_stages, list_taps
from limbeck.models.titles import title_of
from limbeck.models.wrapped import unwrapped
from limbeck.protocols import Batch, Output

if TYPE_CHECKING:
    from limbeck.data.examples import Examples
    from limbeck.options import Augmentation


class ModelTeacher:
    """One model as a teacher. It runs in evaluation mode and without gradient, and is not copied.

    Args:
        model: Maps inputs ``(N, ...)`` to logits ``(N, K)``; not copied.
        classes: Names of the classes in order, where known.
        presentation: How this model sees the examples, where that is not how the batches show them: another size,
            another tokenizer, frames of speech with other neighbours; None for its attribute ``presentation``.

    Example:
        >>> net = nn.Linear(2, 3)
        >>> teacher = ModelTeacher(net)
        >>> batch = Batch(torch.arange(1), 0, torch.ones(1, 2), None)
        >>> torch.allclose(teacher.log_probs(batch, 2.0), (net(torch.ones(1, 2)) / 2).log_softmax(-1))
        True
    """

    every_temperature = has_logits = live = True

    def __init__(self, model: nn.Module, classes: Sequence[str] | None = None, presentation: Any = None) -> None:
        self.model = model
        self.presentation = presentation_of(model) if presentation is None else presentation
        self.classes = None if classes is None else tuple(classes)
        self._compiles = False
        self._called: nn.Module | None = None

    def __getstate__(self) -> dict[str, Any]:
        """The state for another process, which compiles again."""
        return {**vars(self), "_called": None}

    def compiled(self) -> "ModelTeacher":
        """The same teacher, with its model compiled on first use."""
        found = copy.copy(self)
        found._compiles = True
        return found

    def to(self, device: torch.device | str) -> "ModelTeacher":
        """Move the teacher to a device."""
        self.model.to(device)
        return self

    @property
    def title(self) -> str:
        """What it is called in reports: as its model is."""
        return title_of(self.model)

    def modules(self) -> list[tuple[nn.Module, Any]]:
        """The model, with its presentation of the examples."""
        return [(self.model, self.presentation)]

    def bind(self, examples: "Examples", augmentation: "Augmentation | None" = None) -> "ModelTeacher":
        """Itself: it computes outputs for any data."""
        return self

    @property
    def device(self) -> torch.device:
        """The model's device."""
        first = next(chain(self.model.parameters(), self.model.buffers()), None)
        return torch.device("cpu") if first is None else first.device

    @torch.no_grad()
    def log_probs(self, batch: Batch, temperature: float) -> Tensor:
        """Log-probabilities softened at a temperature, float32 ``(N, K)``.

        Args:
            batch: The examples.
            temperature: :math:`T > 0`.

        Returns:
            Natural logarithms, without gradient.
        """
        return softened(self.logits(batch), temperature)

    def before_softmax(self, batch: Batch) -> Tensor:
        """The model's output, to find its last operation."""
        return self.logits(batch)

    @torch.no_grad()
    def answer(self, batch: Batch, temperature: float, taps: Sequence[str] = ()) -> Output:
        """Log-probabilities softened at a temperature, and outputs of submodules.

        Args:
            batch: The examples.
            temperature: :math:`T > 0`.
            taps: Names of the submodules.

        Returns:
            Both, without gradient.
        """
        plain = unwrapped(self.model)  # a compiled model does not call its layers one by one
        with evaluating(self.model), Taps(plain, taps) as read:
            logits = call_model(plain, batch.seen_as(self.presentation))
            require_logits(logits, len(batch.index))
            features = read.take(len(logits))
        return Output(softened(logits, temperature), features, temperature)

    def stages(self, batch: Batch) -> list[str]:
        """Layers that stand for the stages of the model, see :func:`~limbeck.models.taps.default_stages`."""
        return default_stages(list_taps(unwrapped(self.model), batch.seen_as(self.presentation)))

    @torch.no_grad()
    def logits(self, batch: Batch) -> Tensor:
        """The model's logits, float32 ``(N, K)``, without gradient."""
        inputs = batch.seen_as(self.presentation)
        with evaluating(self.model):
            logits = self._ask_compiled(inputs) if self._compiles else call_model(self.model, inputs)
        require_logits(logits, len(batch.index))
        return logits

    def _ask_compiled(self, inputs: Inputs) -> Tensor:
        tried = self._called is not None
        try:
            if self._called is None:
                self._called = torch.compile(unwrapped(self.model))  # type: ignore[assignment]
            return call_model(self._called, inputs, dtype=weights_dtype(self.model))  # type: ignore[arg-type]
        except Exception as error:
            if tried:
                raise
            refuse_uncompiled(error, self.model)
