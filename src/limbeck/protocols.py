"""The vocabulary: what passes between data, teachers, objectives and the engine.

Axes: ``N`` examples in a batch, ``K`` classes.
"""

__all__ = ["Batch", "Loss", "Objective", "Teacher"]

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Batch:
    """Examples that are learnt from, or answered, together.

    Attributes:
        index: The examples' numbers in their data set, int64 ``(N,)``: the key of all randomness and storage.
        view: Which random view of the examples this is.
        inputs: What the models see, float32, or integers such as token ids, ``(N, ...)``.
        labels: True classes, int64 ``(N,)``, or None where they are unknown.
        spliced: For frames of speech, a function that makes the inputs with other neighbours; else None.
    """

    index: Tensor
    view: int
    inputs: Tensor
    labels: Tensor | None
    spliced: Callable[[Any], Tensor] | None = None

    def head(self, count: int) -> "Batch":
        """The first few examples."""
        spliced = self.spliced
        return Batch(
            self.index[:count],
            self.view,
            self.inputs[:count],
            None if self.labels is None else self.labels[:count],
            None if spliced is None else lambda splicing: spliced(splicing)[:count],
        )

    def to(self, device: torch.device | str) -> "Batch":
        """The batch on a device."""
        return dataclasses.replace(
            self,
            index=self.index.to(device),
            inputs=self.inputs.to(device),
            labels=None if self.labels is None else self.labels.to(device),
        )


@dataclass(frozen=True, eq=False)
class Loss:
    """What an objective says of a batch.

    Attributes:
        per_example: The loss that is minimised, nats, ``(N,)``.
        parts: Named terms of it, each ``(N,)``, before weighting; for the record, not for the gradient.
    """

    per_example: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)


class Teacher(Protocol):
    """Whatever can answer with a distribution over classes: a model, an ensemble, a store of old answers."""

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes in order, or None where they are not known."""

    def log_probs(self, batch: Batch, temperature: float) -> Tensor:
        """Log-probabilities softened at a temperature, float32 ``(N, K)``, without gradient."""


class Objective(Protocol):
    """What a model is trained to make small."""

    def __call__(self, logits: Tensor, batch: Batch) -> Loss:
        """The loss of the model's scores ``(N, K)`` on a batch."""

    def reference_gradient(self, logits: Tensor, batch: Batch) -> Tensor:
        """The gradient of the sum of the losses, ``(N, K)`` in float64, from its formula and not from autograd."""
