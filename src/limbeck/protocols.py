"""Shared types: batches, and the protocols of teachers and objectives.

Axes: ``N`` examples in a batch, ``K`` classes.
"""

__all__ = ["Answering", "Batch", "Loss", "MixedLabels", "Objective", "Output", "TappedTeacher", "Teacher", "Teaching"]

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from limbeck.inputs import Inputs, first_few, move

if TYPE_CHECKING:
    from limbeck.data.examples import Examples
    from limbeck.options import Augmentation, TeacherView


@dataclass(frozen=True, eq=False)
class MixedLabels:
    """The partners' labels and the mixing ratio of mixup and cutmix.

    Attributes:
        labels: Classes of the partners, int64 ``(N,)``.
        share: Weight of an example's own label, in [0, 1], float32 ``(N,)``; its partner's label has the rest.
    """

    labels: Tensor
    share: Tensor

    def head(self, count: int) -> "MixedLabels":
        """The mixture of the first few examples."""
        return MixedLabels(self.labels[:count], self.share[:count])

    def to(self, device: torch.device | str) -> "MixedLabels":
        """The same on a device."""
        return MixedLabels(self.labels.to(device), self.share.to(device))


@dataclass(frozen=True, eq=False)
class Batch:
    """A batch of examples, for training or inference.

    Attributes:
        index: The examples' numbers in their data set, int64 ``(N,)``: the key of all randomness and storage. They
            differ over training, validation and test examples.
        view: Number of the augmented view of the examples.
        inputs: What the models see, float32, or integers such as token ids, ``(N, ...)``; or several such tensors by
            the names of the models' arguments. Where examples are positions of sequences these are the sequences, and
            :data:`~limbeck.inputs.POSITIONS` among them says which position each example is.
        labels: True classes, int64 ``(N,)``, or None where they are unknown.
        presented: A function that makes the inputs as another model sees the same examples: of another size, with
            another tokenizer, or frames of speech with other neighbours; None where all models see the same.
        source: Digest of the data that the numbers index, see :attr:`limbeck.Examples.source`: stored answers refuse a
            batch of other data. None where it is not known, for a batch made by hand.
        mixed: The labels of the mixup and cutmix partners; None without mixing, or where labels are unknown.
        taught: The same examples as the teacher sees them, where that is another view; None where it sees this one.
    """

    index: Tensor
    view: int
    inputs: Inputs
    labels: Tensor | None
    presented: Callable[[Any], Inputs] | None = None
    source: str | None = None
    mixed: MixedLabels | None = None
    taught: "Batch | None" = None

    @property
    def for_teacher(self) -> "Batch":
        """The batch as the teacher sees it."""
        return self if self.taught is None else self.taught

    @property
    def main_labels(self) -> Tensor | None:
        """The class with the largest share of each example, int64 ``(N,)``: its label, where it is not mixed."""
        if self.labels is None or self.mixed is None:
            return self.labels
        return torch.where(self.mixed.share >= 0.5, self.labels, self.mixed.labels)

    def head(self, count: int) -> "Batch":
        """The first few examples."""
        presented = self.presented
        return Batch(
            self.index[:count],
            self.view,
            first_few(self.inputs, count),
            None if self.labels is None else self.labels[:count],
            None if presented is None else lambda which: first_few(presented(which), count),
            self.source,
            None if self.mixed is None else self.mixed.head(count),
            None if self.taught is None else self.taught.head(count),
        )

    def seen_as(self, presentation: Any) -> Inputs:
        """The inputs in a model's own presentation; None for those of the batch."""
        if presentation is None or self.presented is None:
            return self.inputs
        return self.presented(presentation)

    def to(self, device: torch.device | str) -> "Batch":
        """The batch on a device, as every model sees it."""
        presented = self.presented
        return dataclasses.replace(
            self,
            index=self.index.to(device),
            inputs=move(self.inputs, device),
            presented=None if presented is None else lambda which: move(presented(which), device),
            labels=None if self.labels is None else self.labels.to(device),
            mixed=None if self.mixed is None else self.mixed.to(device),
            taught=None if self.taught is None else self.taught.to(device),
        )


@dataclass(frozen=True, eq=False)
class Loss:
    """The value of an objective on a batch.

    Attributes:
        per_example: The loss that is minimised, nats, ``(N,)``.
        parts: Its named terms, each ``(N,)``, before weighting; logged, not differentiated.
    """

    per_example: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Output:
    """A model's output for a batch, as distillation methods see it.

    Attributes:
        logits: Logits ``(N, K)`` of the student; of a teacher its log-probabilities, natural logarithms, softened at
            :attr:`temperature`. At T = 1 these are its logits but for a constant per example.
        features: Outputs of submodules by their names in the model, each ``(N, ...)``.
        temperature: The temperature at which the teacher's log-probabilities are softened; 1 for a student.
    """

    logits: Tensor
    features: Mapping[str, Tensor] = field(default_factory=dict)
    temperature: float = 1.0


class Answering(Protocol):
    """The minimal interface of a teacher: :func:`limbeck.teachers.as_teacher` makes a :class:`Teacher` of it."""

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes in order, or None where they are not known."""

    def log_probs(self, batch: Batch, temperature: float) -> Tensor:
        """Log-probabilities softened at a temperature, float32 ``(N, K)``, without gradient."""


class Teacher(Answering, Protocol):
    """A source of distributions over classes: a model, an ensemble, a store of soft targets."""

    @property
    def every_temperature(self) -> bool:
        """Whether log-probabilities at T = 1 determine those at every other temperature.

        They do for one model and for a geometric mean of such; not for an arithmetic mean of several.
        """

    @property
    def has_logits(self) -> bool:
        """Whether log-probabilities at T = 1 are the logits of every class, up to a constant."""

    @property
    def live(self) -> bool:
        """Whether outputs are computed on demand; False where they are looked up."""

    def bind(self, examples: "Examples", augmentation: "Augmentation | None" = None) -> "Teacher":
        """Bind the teacher to these examples.

        Args:
            examples: The examples it will be asked about.
            augmentation: The augmentation of their views; None for unaugmented examples.

        Returns:
            A teacher that refuses batches of other data where it looks up outputs; itself where it computes them.

        Raises:
            MismatchError: If it has no outputs for them.
        """

    def to(self, device: torch.device | str) -> "Teacher":
        """Move it to a device."""

    def modules(self) -> Sequence[tuple[nn.Module, Any]]:
        """The networks in it, each with the presentation of the examples that it sees where that is its own."""


@dataclass(frozen=True)
class Teaching:
    """How a teacher sees examples that a student sees in another view.

    Attributes:
        view: Which view it sees.
        live: Whether it computes outputs from its inputs; False where outputs are looked up.
        presentations: How its networks see the examples.
    """

    view: "TeacherView"
    live: bool
    presentations: tuple[Any, ...] = ()


class TappedTeacher(Teacher, Protocol):
    """A teacher whose intermediate layers can be read: a live model."""

    def stages(self, batch: Batch) -> list[str]:
        """Names of the last layer of each stage, in order."""

    def answer(self, batch: Batch, temperature: float, taps: Sequence[str] = ()) -> "Output":
        """Log-probabilities softened at a temperature, and outputs of submodules."""


class Objective(Protocol):
    """A training objective: a loss with its gradient's formula and a fingerprint."""

    def __call__(self, logits: Tensor, batch: Batch) -> Loss:
        """The loss of the model's logits ``(N, K)`` on a batch."""

    def reference_gradient(self, logits: Tensor, batch: Batch) -> Tensor | None:
        """The gradient of the sum of the losses, ``(N, K)`` in float64, from its formula and not from autograd.

        None where no formula is known, as for a user-defined loss.
        """

    def fingerprint(self) -> Mapping[str, Any]:
        """The values that a resumed run must agree in, as plain values by name."""
