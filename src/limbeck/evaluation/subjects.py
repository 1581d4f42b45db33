"""Models and teachers, asked in one way: what is different about the two is here, and nowhere else."""

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
from limbeck.models.calling import call_model, evaluating, presentation_of, require_logits
from limbeck.models.wrapped import unwrapped
from limbeck.protocols import Batch, Teacher


class Subject(Protocol):
    """A model or a teacher that is asked about examples."""

    @property
    def device(self) -> torch.device:
        """Where it is; the CPU where there is nothing to go by."""

    @property
    def measured(self) -> nn.Module | None:
        """The module whose need of memory is worth remembering, or None."""

    @property
    def presentations(self) -> Sequence[Any]:
        """How the networks in it see the examples, beside what they are shown."""

    def modules(self) -> list[tuple[nn.Module, Any]]:
        """The networks in it, each with its own presentation of the examples."""

    def shown(self, examples: Examples) -> Examples:
        """Examples as it sees them."""

    def asking(self) -> AbstractContextManager[object]:
        """A context in which it may be asked."""

    def watched(self) -> "Subject":
        """The same without a wrapper that may not be watched, such as that of a compiled module."""

    def presented(self, batch: Batch) -> Batch:
        """A batch of examples that were not shown to it as :meth:`shown` does, as it sees it."""

    def log_probs(self, batch: Batch, device: torch.device) -> Tensor:
        """Log-probabilities at T = 1 of a batch that is moved to the device, float ``(N, K)``."""

    def answer(self, batch: Batch, *, dtype: torch.dtype | None) -> object:
        """Whatever it answers: what is timed; ``dtype`` is that of its weights."""


@dataclass(frozen=True, eq=False)
class ModuleSubject:
    """A module that gives logits.

    Attributes:
        module: It.
    """

    module: nn.Module
    presentations: Sequence[Any] = ()

    @property
    def device(self) -> torch.device:
        """Where its first weight is."""
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
        """In evaluation mode for the time, and each of its parts afterwards as it was."""
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
        teacher: It.
    """

    teacher: Teacher

    @property
    def device(self) -> torch.device:
        """Where it says that it is; a kind of its own says so by an attribute ``device``."""
        return torch.device(getattr(self.teacher, "device", "cpu"))

    measured: None = None

    @property
    def presentations(self) -> Sequence[Any]:
        """Those of its networks."""
        return [seen for _, seen in self.modules()]

    def modules(self) -> list[tuple[nn.Module, Any]]:
        """Those in it; none where it does not say."""
        return list(self.teacher.modules()) if hasattr(self.teacher, "modules") else []

    def shown(self, examples: Examples) -> Examples:
        """Examples as one of its networks sees them, where they could not be shown otherwise."""
        # Texts cannot be shown without a tokenizer: it is a teacher's own, until a student says another.
        seen = next((each for each in self.presentations if each is not None), None)
        return examples.shown_as(seen)

    def asking(self) -> AbstractContextManager[object]:
        """As it is."""
        return nullcontext()

    def watched(self) -> "TeacherSubject":
        """Itself."""
        return self

    def presented(self, batch: Batch) -> Batch:
        """The batch: each of its networks takes its own presentation of it."""
        return batch

    def log_probs(self, batch: Batch, device: torch.device) -> Tensor:
        """What it answers at T = 1."""
        return self.teacher.log_probs(batch.to(device), 1.0).float()

    def answer(self, batch: Batch, *, dtype: torch.dtype | None) -> object:
        """What it answers at T = 1."""
        return self.teacher.log_probs(batch, 1.0)


def subject_of(given: nn.Module | Teacher) -> Subject:
    """A model or a teacher, to be asked.

    Args:
        given: Either.

    Returns:
        What asks it.

    Example:
        >>> subject_of(nn.Linear(2, 2)).device
        device(type='cpu')
    """
    return ModuleSubject(given) if isinstance(given, nn.Module) else TeacherSubject(given)
