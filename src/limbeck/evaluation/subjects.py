"""One interface for evaluating models and teachers."""

__all__ = ["ModuleSubject", "Subject", "TeacherSubject", "subject_of"]

import dataclasses
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from limbeck.data.examples import Examples
from limbeck.inputs import move
from limbeck.models.calling import call_model, evaluating, presentation_of, presentations_of, require_logits
from limbeck.models.wrapped import unwrapped
from limbeck.protocols import Batch, Teacher


class Subject(Protocol):
    """A model or a teacher under evaluation."""

    @property
    def device(self) -> torch.device:
        """Its device; the CPU where it is unknown."""

    @property
    def measured(self) -> nn.Module | None:
        """The module whose memory use can be cached, or None."""

    @property
    def presentations(self) -> Sequence[Any]:
        """The presentations of its networks."""

    def modules(self) -> list[tuple[nn.Module, Any]]:
        """Its networks, each with its presentation."""

    def shown(self, examples: Examples) -> Examples:
        """The examples in its presentation."""

    def asking(self) -> AbstractContextManager[object]:
        """A context for inference."""

    def watched(self) -> "Subject":
        """The same without wrappers that prevent hooks, such as a compiled module's."""

    def presented(self, batch: Batch) -> Batch:
        """A batch of unconverted examples, in its presentation."""

    def log_probs(self, batch: Batch, device: torch.device) -> Tensor:
        """Log-probabilities at T = 1 of a batch that is moved to the device, float ``(N, K)``."""

    def answer(self, batch: Batch, *, dtype: torch.dtype | None) -> object:
        """Its raw output, for timing; ``dtype`` is that of its weights."""


@dataclass(frozen=True, eq=False)
class ModuleSubject:
    """A module that gives logits.

    Attributes:
        module: The module.
    """

    module: nn.Module
    presentations: Sequence[Any] = ()

    @property
    def device(self) -> torch.device:
        """The device of its first weight."""
        first = next(chain(self.module.parameters(), self.module.buffers()), None)
        return torch.device("cpu") if first is None else first.device

    @property
    def measured(self) -> nn.Module:
        """Itself."""
        return self.module

    def modules(self) -> list[tuple[nn.Module, Any]]:
        """Itself."""
        return [(self.module, presentation_of(self.module))]

    def shown(self, examples: Examples) -> Examples:
        """Examples in its own presentation."""
        return examples.with_presentation(presentation_of(self.module))

    def asking(self) -> AbstractContextManager[object]:
        """In evaluation mode; the mode of each submodule is restored afterwards."""
        return evaluating(self.module)

    def watched(self) -> "ModuleSubject":
        """Without wrappers."""
        return ModuleSubject(unwrapped(self.module))

    def presented(self, batch: Batch) -> Batch:
        """A batch in its own presentation."""
        return dataclasses.replace(batch, inputs=batch.seen_as(presentation_of(self.module)))

    def log_probs(self, batch: Batch, device: torch.device) -> Tensor:
        """Log-softmax of its logits, which must be of shape ``(N, K)``."""
        logits = call_model(self.module, move(batch.inputs, device))
        require_logits(logits, len(batch.index))
        return torch.log_softmax(logits, -1)

    def answer(self, batch: Batch, *, dtype: torch.dtype | None) -> object:
        """Its logits."""
        return call_model(self.module, batch.inputs, dtype=dtype)


@dataclass(frozen=True, eq=False)
class TeacherSubject:
    """A teacher.

    Attributes:
        teacher: The teacher.
    """

    teacher: Teacher

    @property
    def device(self) -> torch.device:
        """Its device; other kinds have an attribute ``device``."""
        return torch.device(getattr(self.teacher, "device", "cpu"))

    measured: None = None

    @property
    def presentations(self) -> Sequence[Any]:
        """Those of its networks."""
        return presentations_of(self.teacher)

    def modules(self) -> list[tuple[nn.Module, Any]]:
        """Its networks; none where they are unknown."""
        return list(self.teacher.modules()) if hasattr(self.teacher, "modules") else []

    def shown(self, examples: Examples) -> Examples:
        """The examples in the presentation of one of its networks, where they have no other."""
        # Texts need a tokenizer: the teacher's, unless the student has another.
        seen = next((each for each in self.presentations if each is not None), None)
        return examples.shown_as(seen)

    def asking(self) -> AbstractContextManager[object]:
        """As it is."""
        return nullcontext()

    def watched(self) -> "TeacherSubject":
        """Itself."""
        return self

    def presented(self, batch: Batch) -> Batch:
        """The batch, with the presentation of each of its networks made once, however often they are asked."""
        if batch.presented is None:
            return batch
        presented = batch.presented
        known = {seen: batch.seen_as(seen) for seen in self.presentations}
        return dataclasses.replace(batch, presented=lambda which: known[which] if which in known else presented(which))

    def log_probs(self, batch: Batch, device: torch.device) -> Tensor:
        """Its output at T = 1."""
        return self.teacher.log_probs(batch.to(device), 1.0).float()

    def answer(self, batch: Batch, *, dtype: torch.dtype | None) -> object:
        """Its output at T = 1."""
        return self.teacher.log_probs(batch, 1.0)


def subject_of(given: nn.Module | Teacher) -> Subject:
    """Wrap a model or a teacher for evaluation.

    Args:
        given: A module or a teacher.

    Returns:
        The subject.

    Example:
        >>> subject_of(nn.Linear(2, 2)).device
        device(type='cpu')
    """
    return ModuleSubject(given) if isinstance(given, nn.Module) else TeacherSubject(given)
