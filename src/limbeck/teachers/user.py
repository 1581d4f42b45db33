r"""User-defined teachers, and detection of those that look up outputs.

Axes: ``N`` examples, ``K`` classes; ``T`` is the temperature.
"""

__all__ = ["UserTeacher"]

import copy
import dataclasses
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from limbeck.data.values import as_tensor
from limbeck.errors import DataError, MismatchError
from limbeck.inputs import mapped, same, shapes_of, tensors_of
from limbeck.models.calling import presentation_of, refuse_changed, versions
from limbeck.models.class_names import named_classes
from limbeck.options.checks import shown
from limbeck.protocols import Answering, Batch
from limbeck.system.user_code import introduce_error

if TYPE_CHECKING:
    from limbeck.data.examples import Examples
    from limbeck.options import Augmentation


_TRIED = 8
"""Number of examples, and of classes, for the fingerprint of a user's teacher."""


class UserTeacher:
    """A user-defined teacher: any object with ``classes`` and ``log_probs``.

    It may name ``every_temperature``, ``has_logits`` and ``teacher_digest``, and have ``to(device)``. Whether it looks
    its answers up by the examples' numbers is found out before it is asked about other data than it was bound to, by
    showing it the same numbers with other inputs; then it is asked about no others.

    Args:
        teacher: The object.

    Example:
        >>> from limbeck import Examples
        >>> class Table:
        ...     classes = None
        ...     def log_probs(self, batch, temperature):
        ...         return torch.eye(4)[batch.index].log_softmax(-1)
        >>> train, other = Examples.of(torch.randn(4, 2)), Examples.of(torch.randn(4, 2))
        >>> UserTeacher(Table()).bind(train).bind(other)
        Traceback (most recent call last):
        limbeck.errors.MismatchError: Table looks its answers up by the examples' numbers, and was bound to other...
    """

    live = True

    def __init__(self, teacher: Answering) -> None:
        self.teacher = teacher
        self.classes = named_classes(teacher)
        self.every_temperature = bool(getattr(teacher, "every_temperature", False))
        self.has_logits = bool(getattr(teacher, "has_logits", self.every_temperature))
        self.temperature: float | None = getattr(teacher, "temperature", None)
        self.teacher_digest: str | None = getattr(teacher, "teacher_digest", None)
        self._device = torch.device(getattr(teacher, "device", "cpu"))
        self._sample: Batch | None = None

    @property
    def softens(self) -> bool:
        """Whether it is known to respect the temperature; a user's teacher may not."""
        return self.temperature is not None or bool(getattr(self.teacher, "softens", False))

    @property
    def before_softmax(self) -> Any:
        """What the object answers before a softmax, where it is one of ours that says so, or None."""
        return getattr(self.teacher, "before_softmax", None)

    @property
    def title(self) -> str:
        """What it is called in reports."""
        return str(getattr(self.teacher, "title", type(self.teacher).__name__))

    @property
    def device(self) -> torch.device:
        """Its device."""
        return self._device

    def to(self, device: torch.device | str) -> "UserTeacher":
        """Tell it the device, where it wants to know."""
        self._device = torch.device(device)
        if callable(moved := getattr(self.teacher, "to", None)):
            moved(device)
        return self

    @property
    def presentation(self) -> Any:
        """How it sees the examples, where the object says so in an attribute of that name."""
        return presentation_of(self.teacher)

    def modules(self) -> list[tuple[nn.Module, Any]]:
        """None that are known."""
        return []

    def bind(self, examples: "Examples", augmentation: "Augmentation | None" = None) -> "UserTeacher":
        """The teacher for these examples.

        Args:
            examples: What it will be asked about.
            augmentation: Not looked at: which views it knows is its own concern.

        Returns:
            The teacher, which remembers what it was bound to first.

        Raises:
            MismatchError: If it looks answers up, and was bound to other data.
        """  # noqa: DOC502
        self._refuse(examples.source)
        known = getattr(self.teacher, "bound_to", None)
        if self._sample is not None and known is None:
            return self
        bound = copy.copy(self)
        if known is not None:
            bound.teacher = known(examples)
            bound.has_logits = bool(getattr(bound.teacher, "has_logits", self.has_logits))
        if self._sample is not None:
            return bound
        rows = torch.linspace(0, len(examples) - 1, min(_TRIED, len(examples))).long()
        bound._sample = examples.batch(rows.to(examples.index.device))
        return bound

    def log_probs(self, batch: Batch, temperature: float) -> Tensor:
        """What the object answers, float32 ``(N, K)``; MismatchError for data that it has no answers for."""
        self._refuse(batch.source)
        before = versions(tensors_of(batch.inputs))
        answers = self._at_home(batch, temperature)
        refuse_changed(type(self.teacher).__name__, tensors_of(batch.inputs), before)
        return answers

    def _at_home(self, batch: Batch, temperature: float) -> Tensor:
        """Ask the object, where it stays if it cannot be moved and says where it is."""
        home = None if callable(getattr(self.teacher, "to", None)) else getattr(self.teacher, "device", None)
        name = type(self.teacher).__name__
        try:
            answers: Any = self.teacher.log_probs(batch if home is None else batch.to(home), temperature)
        except Exception as error:  # any error of the user's code
            introduce_error(error, f"log_probs of {name}", f"inputs of shape {shapes_of(batch.inputs)}")
        if isinstance(answers, np.ndarray):
            answers = as_tensor(f"log_probs of {name}", answers)
        good = isinstance(answers, Tensor) and answers.is_floating_point()
        if not good or answers.ndim != 2 or len(answers) != len(batch.index):
            found = (
                f"{answers.dtype} of shape {tuple(answers.shape)}" if isinstance(answers, Tensor) else shown(answers)
            )
            raise DataError(
                f"log_probs of {name} must give a tensor of floating-point numbers, ({len(batch.index)}, classes) for "
                f"{len(batch.index)} examples, and gave {found}"
            )
        moved: Tensor = answers.to(batch.index.device)
        return moved

    @property
    def fingerprint(self) -> str | list[list[float]] | None:
        """Its own digest, or else some of its answers: what tells it from another when a run resumes."""
        if self.teacher_digest is not None or self._sample is None:
            return self.teacher_digest
        answers = self._ask(self._sample.to(self._device)).exp()
        return [[round(float(probability), 3) for probability in row[:_TRIED]] for row in answers]

    def _refuse(self, source: str | None) -> None:
        bound = None if self._sample is None else self._sample.source
        if None not in {bound, source} and source != bound and self._looks_up:
            raise MismatchError(
                f"{type(self.teacher).__name__} looks its answers up by the examples' numbers, and was bound to other "
                f"data: source {str(bound)[:16]}..., and these have {str(source)[:16]}..."
            )

    @cached_property
    def _looks_up(self) -> bool:
        """Whether the same numbers get the same answers whatever the inputs are."""
        assert self._sample is not None, "only a bound teacher is tried"
        if getattr(self.teacher, "looks_up", None) is False:
            return False
        batch = self._sample.to(self._device)
        others = dataclasses.replace(batch, inputs=mapped(batch.inputs, lambda t: t.roll(1, 0)), presented=None)
        alike = same(batch.inputs, others.inputs)
        return not alike and torch.equal(self._ask(batch), self._ask(others))

    def _ask(self, batch: Batch) -> Tensor:
        return self._at_home(batch, self.temperature or 1.0)
