r"""The base class of distillation methods.

Axes: ``N`` examples, ``K`` classes; ``T`` is the temperature.
"""

__all__ = ["Method", "Moment", "labels_of", "main_labels", "require_option", "require_temperature", "targets_at"]

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from limbeck.errors import ConfigError, DataError
from limbeck.losses import softened, widened
from limbeck.losses.fused import label_loss
from limbeck.options.checks import require
from limbeck.options.methods import Range
from limbeck.protocols import Batch, Output

_DRAWS = 3
"""Number of perturbations to estimate rounding with."""
_EXACT = 1e-10
"""An upper bound of the rounding in float64."""
_SAFETY = 8.0
"""Accumulated rounding may be this much larger than the effect of one perturbation of the logits."""


class Moment(NamedTuple):
    """The position in a training, before one of its steps.

    Attributes:
        epoch: Number of finished epochs.
        step: Number of finished steps in this epoch.
        steps: Steps per epoch.
        epochs: Total number of epochs.
    """

    epoch: int
    step: int
    steps: int
    epochs: int


class Method(nn.Module, ABC):
    r"""A distillation method: a loss between student and teacher, one value per example.

    A subclass gives :meth:`forward`, and where its formula is known :meth:`reference_gradient`; everything else has a
    default. Each argument of its ``__init__`` is keyword-only, has an annotation and a default, and is kept as an
    attribute of the same name: these are the method's options, on the command line, in TOML and in Python alike. See
    :mod:`limbeck.methods` for an example.

    Attributes:
        name: Its name; by default the class's name in lower case.
        temperature: T of the teacher; 1 where a method has none.
        coupled: Whether the value of an example depends on the others in its batch. Such a method is refused where a
            batch is divided: by several processes, or by gradient accumulation.
        needs_logits: Whether it needs the teacher at other temperatures than :attr:`temperature` too, so that the
            teacher's logits must be known: it is then asked at T = 1.
        needs_every_class: Whether the teacher must give each class some mass.
        needs_labels: Whether it needs labels, whatever the hard weight.
        takes_samples: Whether its gradient is linear in the teacher's distribution, so that targets that are right on
            average (sampled ones) give a gradient that is.
        reads_logits: Whether the teacher's logits are used; False for a method on features only.
        reads_features: Whether it reads layers of both networks.
        shift_invariant: Whether the value is invariant to adding a constant to an example's logits.
        student_taps: Names of the student's submodules whose outputs it reads.
        teacher_taps: Names of the teacher's.
        phases: Number of consecutive phases with different losses; see :meth:`at` and :meth:`enter`.
        ranges: Search ranges of ``limbeck tune`` for its options, by name; other options are not searched.
        hints: Whether the current phase trains only features, so that neither logits nor labels are used.
    """

    name: str = "method"
    temperature: float = 1.0
    coupled: bool = False
    needs_logits: bool = False
    needs_every_class: bool = False
    needs_labels: bool = False
    takes_samples: bool = False
    reads_logits: bool = True
    reads_features: bool = False
    shift_invariant: bool = True
    student_taps: Sequence[str] = ()
    teacher_taps: Sequence[str] = ()
    phases: int = 1
    hints: bool = False
    ranges: ClassVar[Mapping[str, Range]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.name = cls.__dict__.get("name", cls.__name__.lower())

    @abstractmethod
    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """The value of each example.

        Args:
            student: Logits ``(N, K)`` with gradient, and features by the names in :attr:`student_taps`.
            teacher: Log-probabilities ``(N, K)`` at :attr:`Output.temperature`, and features by the names in
                :attr:`teacher_taps`; constants. :func:`targets_at` softens them.
            batch: The examples, with their labels where these are known.

        Returns:
            One value per example, ``(N,)``, whose mean over the batch is minimised. A coupled method may give the
            value of the whole batch N times.
        """  # noqa: DOC202

    def with_labels(
        self, student: Output, teacher: Output, batch: Batch, hard_weight: float, label_smoothing: float
    ) -> Tensor:
        r"""This method combined with labels, :math:`(1 - w)\,\ell + w\,\ell^{\mathrm{hard}}`.

        Args:
            student: As for :meth:`forward`.
            teacher: As for :meth:`forward`.
            batch: As for :meth:`forward`.
            hard_weight: w in [0, 1).
            label_smoothing: Share of the hard term's mass spread over all classes.

        Returns:
            One value per example, ``(N,)``.
        """
        soft: Tensor = self(student, teacher, batch)
        if hard_weight == 0:
            return soft
        hard = label_loss(student.logits, labels_of(batch), label_smoothing, batch.mixed)
        return (1 - hard_weight) * soft + hard_weight * hard

    def reference_gradient(self, student: Output, teacher: Output, batch: Batch) -> Output | None:
        """The gradient of the sum of the values by its formula: not by autograd, and not by what :meth:`forward` calls.

        Args:
            student: In float64 on the CPU.
            teacher: In float64 on the CPU.
            batch: The examples.

        Returns:
            The gradient by the logits ``(N, K)``, and by each feature; None where no formula is known. The check before
            the first step then compares autograd with differences of the value alone.
        """
        return None

    def known_gradient(self, logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor] | None:
        """Logits at which the gradient is known without a formula, such as zero where the student equals the teacher.

        Args:
            logits: The teacher's logits, ``(N, K)``.
            batch: The examples.

        Returns:
            The student's logits, and the gradient of the sum of the values there, both ``(N, K)``; None where it is
            known nowhere. By default it vanishes where the student equals the teacher.
        """
        return logits, torch.zeros_like(logits)

    def rounding(
        self, student: Output, teacher: Output, batch: Batch, unit: float, moved: float
    ) -> tuple[Tensor, Tensor] | None:
        """Bounds on the rounding error of the value, ``(N,)``, and of its gradient, ``(N, K)``.

        By default only the gradient is bounded: the formula is perturbed in float64 by what rounding does to logits and
        to the logarithm of K terms.

        Args:
            student: In float64 on the CPU.
            teacher: In float64 on the CPU.
            batch: The examples.
            unit: The largest relative rounding error.
            moved: The constant that is added to the logits.

        Returns:
            Both bounds; infinite for the value where it is not bounded; None where there is no formula.
        """
        right = self.reference_gradient(student, teacher, batch)
        if right is None:
            return None
        z, generator = student.logits, torch.Generator().manual_seed(2)
        temperature, classes = max(self.temperature, 1.0), z.shape[-1]

        def nudged(values: Tensor, by: float) -> Tensor:
            largest = torch.where(values.isfinite(), values.abs(), 0.0).amax(-1, keepdim=True) + by
            signs = torch.randint(0, 2, values.shape, generator=generator).to(values) * 2 - 1
            return values + signs * unit * (largest + temperature * (math.log(classes) + 1))

        bound = torch.zeros_like(z)
        for _ in range(_DRAWS):
            other = Output(nudged(z, moved), student.features)
            taught = Output(nudged(teacher.logits, 0.0), teacher.features, teacher.temperature)
            found = self.reference_gradient(other, taught, batch)
            assert found is not None, "the method has a formula"
            bound = torch.maximum(bound, (found.logits - right.logits).abs())
        # A row's error is spread over its classes, and where examples are coupled over the batch.
        widest = bound.amax(-1, keepdim=True) + unit * right.logits.abs().amax(-1, keepdim=True)
        if self.coupled:
            widest = widest.amax().expand_as(widest)
        # Values are compared in float64 alone, where they are as exact as their terms.
        largest = z.abs().amax(-1) + moved + temperature * (math.log(classes) + 1)
        value = math.inf if unit > _EXACT else unit * _SAFETY * temperature * largest
        return z.new_zeros(z.shape[:1]) + value, (_SAFETY * widest).expand_as(z)

    def require(self, classes: int) -> None:
        """Refuse data that this method cannot be trained on.

        Args:
            classes: Number of classes K.

        Raises:
            ConfigError: If it is not possible.
        """  # noqa: DOC502

    def require_epochs(self, epochs: int) -> None:
        """Refuse a training that is too short for its phases.

        Args:
            epochs: Total number of epochs.

        Raises:
            ConfigError: If it is not possible.
        """  # noqa: DOC502

    def at(self, moment: Moment) -> None:
        """Set the position in the training, before each step; schedules are functions of it, and thus resume.

        Args:
            moment: Epoch and step.
        """

    def enter(self, phase: int) -> None:
        """Enter one of the phases, for the self-check, which checks each.

        Args:
            phase: The phase, from 0.
        """

    def find_taps(self, stages: list[str], others: list[str]) -> None:
        """Choose :attr:`student_taps` and :attr:`teacher_taps`; called once, before :meth:`prepare`.

        Args:
            stages: The last layer of each of the student's stages, in order.
            others: The same of the teacher.
        """

    def prepare(self, student: Output, teacher: Output) -> None:
        """Make the method's own parameters, once, from the shapes of a first batch; nothing by default.

        Args:
            student: Output for a first batch, without gradient.
            teacher: Output for the same batch.
        """

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The method's own parameters, which are trained and checkpointed with the student's, and never exported."""
        trainable = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return [{"params": trainable}] if trainable else []

    @classmethod
    def option_defaults(cls) -> dict[str, Any]:
        """The options and their defaults, in the order of ``__init__``."""
        parameters = inspect.signature(cls.__init__).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is not p.empty}

    @classmethod
    def ranges_for(cls, options: Mapping[str, str]) -> Mapping[str, Range]:
        """The search ranges of the options that are not given.

        Args:
            options: The given options, as text by name.

        Returns:
            :attr:`ranges`; for a method with several variants, those that apply.
        """
        return cls.ranges

    @property
    def options(self) -> dict[str, Any]:
        """The current options by name."""
        return {name: getattr(self, name) for name in self.option_defaults()}

    def fingerprint(self) -> dict[str, Any]:
        """The values that a resumed run must match, as plain values by name."""
        return {"method": type(self).__name__, **self.options}

    def extra_repr(self) -> str:
        """The options, for printing."""
        return ", ".join(f"{name}={value!r}" for name, value in self.options.items())


def targets_at(teacher: Output, temperature: float) -> Tensor:
    r"""A teacher's log-probabilities at a temperature.

    Args:
        teacher: The teacher's output, as in :meth:`Method.forward`.
        temperature: T > 0.

    Returns:
        Natural logarithms, ``(N, K)``.

    Raises:
        ConfigError: If the teacher's temperature is another one, from which this one does not follow.

    Example:
        >>> teacher = Output(torch.tensor([[0.9, 0.1]]).log())
        >>> targets_at(teacher, 2.0).exp()
        tensor([[0.7500, 0.2500]])
    """
    if teacher.temperature == temperature:
        return widened(teacher.logits)
    if teacher.temperature != 1.0:
        raise ConfigError(
            f"the teacher answers at temperature {teacher.temperature:g}, and the method wants {temperature:g}"
        )
    return softened(teacher.logits, temperature)


def labels_of(batch: Batch) -> Tensor:
    """The labels of a batch, int64 ``(N,)``; DataError where they are unknown."""
    if batch.labels is None:
        raise DataError("this objective needs labels, and these examples have none: set hard_weight to 0")
    return batch.labels


def main_labels(batch: Batch) -> Tensor:
    """The class with the largest share of each example, int64 ``(N,)``: its label, where it is not mixed."""
    labels = labels_of(batch)
    return labels if batch.mixed is None or batch.main_labels is None else batch.main_labels


def require_option(holds: bool, name: str, value: object, rule: str) -> None:
    """Raise an error for a method's option that is out of range.

    Args:
        holds: Whether it is in range.
        name: Name of the option.
        value: The given value.
        rule: The valid range, in words.

    Raises:
        ConfigError: If it is not.
    """
    require(holds, f"the method's option {name}", value, rule)


_COLDEST, _HOTTEST = 0.05, 100.0
"""Range of temperatures in which a loss computed by its plain formula is accurate in float32."""


def require_temperature(method: str, temperature: float) -> float:
    """Refuse a temperature at which a method's formula is inaccurate in float32.

    Args:
        method: The method's name.
        temperature: T.

    Returns:
        T.

    Raises:
        ConfigError: If it is out of range.
    """
    if not _COLDEST <= temperature <= _HOTTEST:
        raise ConfigError(
            f"temperature of method {method} must be from {_COLDEST:g} to {_HOTTEST:g}, within which float32 carries "
            f"it, and is {temperature:g}; method kd takes others"
        )
    return float(temperature)
