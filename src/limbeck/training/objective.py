"""Objectives: cross-entropy with labels, and distillation methods combined with it.

Axes: ``N`` examples, ``K`` classes; ``T`` is the temperature, ``w`` the hard weight.
"""

__all__ = ["DistillationObjective", "LabelObjective", "check_objective", "require_teacher"]

import copy
from collections.abc import Mapping
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from limbeck.data.feed import Feed
from limbeck.errors import ConfigError
from limbeck.losses import softened, widened
from limbeck.losses.fused import HOT, label_loss
from limbeck.methods import Method, Moment, Output, labels_of, make_method
from limbeck.methods.formulas import one_hot, softmax
from limbeck.models.calling import presentations_of
from limbeck.models.capturable import capturable
from limbeck.models.taps import Taps
from limbeck.options import TeacherView
from limbeck.protocols import Answering, Batch, Loss, TappedTeacher, Teacher, Teaching
from limbeck.softtargets.digests import teacher_fingerprint
from limbeck.teachers import as_teacher
from limbeck.training.self_check import check_objective, exact
from limbeck.training.tapped import Shapes, drawn, tapped

_COLDEST, _INFINITE = 1e-6, 1e30
"""Range of temperatures in which logits / T and the loss are finite in float32."""
_HOTTEST = 1e4
"""Temperature above which float32 log-probabilities near -log K no longer carry a teacher's logits to two digits."""


class LabelObjective:
    """Cross-entropy with the labels.

    Args:
        label_smoothing: Share of the mass spread over all classes, in [0, 1).
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        self.label_smoothing = label_smoothing

    def __call__(self, logits: Tensor, batch: Batch) -> Loss:
        """The loss of logits ``(N, K)``."""
        return Loss(label_loss(widened(logits), labels_of(batch), self.label_smoothing, batch.mixed))

    def reference_gradient(self, logits: Tensor, batch: Batch) -> Tensor:
        r"""Gradient :math:`\mathrm{softmax}(z) - q` by its formula, float64 ``(N, K)`` on the CPU."""
        return _reference_hard(exact(logits), batch, self.label_smoothing)

    def fingerprint(self) -> dict[str, Any]:
        """What a run that resumes must agree in."""
        return {"objective": "labels", "label_smoothing": self.label_smoothing}


class DistillationObjective:
    """A distillation method combined with cross-entropy on labels.

    Args:
        teacher: The teacher, live or stored; not used where ``hard_weight`` is 1.
        hard_weight: w in [0, 1]; 0 needs no labels.
        method: A method, or its name as for :func:`~limbeck.methods.make_method`.
        temperature: T > 0 of a method given by name.
        label_smoothing: Share of the hard term's mass spread over all classes, in [0, 1).
        teacher_view: Which view the teacher sees; a :class:`~limbeck.data.Feed` makes it from :attr:`teaching`.

    Raises:
        ConfigError: If the teacher's outputs do not suit the method.
    """  # noqa: DOC502

    def __init__(
        self,
        teacher: Answering,
        *,
        hard_weight: float,
        method: Method | str | Mapping[str, float] = "kd",
        temperature: float = 4.0,
        label_smoothing: float = 0.0,
        teacher_view: TeacherView = "consistent",
    ) -> None:
        self.teacher: Teacher = as_teacher(teacher)
        self.teacher_view = teacher_view
        self.method = make_method(method, temperature=temperature)
        self.hard_weight, self.label_smoothing = hard_weight, label_smoothing
        self._taught: Output | None = None
        self._taps: Taps | None = None
        self._features: Mapping[str, Tensor] = {}
        self._shapes: tuple[Shapes, Shapes] = ({}, {})
        if hard_weight < 1:  # else the teacher is not used
            require_teacher(self.teacher, self.method)
        # At high T, softened float32 log-probabilities lose precision that those at T = 1 keep.
        hot = self.temperature > HOT and self.teacher.has_logits
        self.asked_at = 1.0 if self.method.needs_logits or hot else self.temperature

    @property
    def temperature(self) -> float:
        """T of the method."""
        return self.method.temperature

    @property
    def own(self) -> nn.Module | None:
        """The method, if it has parameters, which are trained and checkpointed with the student."""
        return self.method if self.hard_weight < 1 and next(self.method.parameters(), None) is not None else None

    def begun(self, model: nn.Module, feed: Feed) -> Self:
        """The objective of one training, bound to this student's layers.

        Args:
            model: The student, on its device.
            feed: Its batches; the first gives the shapes of the layers.

        Returns:
            Itself, where the method has no parameters and reads no layers.
        """
        if self.hard_weight == 1 or not (self.method.reads_features or self.own is not None):
            return self
        one = copy.copy(self)
        one.method = copy.deepcopy(self.method)
        batch = next(feed.batches(0)).head(_SHOWN)
        if one.method.reads_features:
            one._taps, one._shapes = tapped(one.method, model, cast(TappedTeacher, self.teacher), batch, self.asked_at)
        one.method.to(batch.index.device)
        return one

    def ended(self) -> None:
        """Remove the hooks from the student."""
        if self._taps is not None:
            self._taps.close()

    def at(self, moment: Moment) -> None:
        """Set the position in the training; called before each step."""
        if self.hard_weight < 1:
            self.method.at(moment)

    @property
    def hints(self) -> bool:
        """Whether only features are trained now, so that validation does not count yet."""
        return self.hard_weight < 1 and self.method.hints

    def in_phase(self, phase: int) -> Self:
        """The objective in one phase of its method, for the self-check."""
        one = copy.copy(self)
        one.method = copy.copy(self.method)
        one.method.enter(phase)
        return one

    @property
    def coupled(self) -> bool:
        """Whether the loss of an example depends on the others in its batch."""
        return self.hard_weight < 1 and self.method.coupled

    @property
    def presentations(self) -> list[Any]:
        """The presentations of the teacher's networks, prepared along with the batches."""
        return presentations_of(self.teacher) if self.hard_weight < 1 else []

    @property
    def teaching(self) -> Teaching | None:
        """What a feed needs to make the teacher's view; None where it sees the student's, or is not used."""
        if self.teacher_view == "consistent" or self.hard_weight == 1:
            return None
        return Teaching(self.teacher_view, self.teacher.live, tuple(self.presentations))

    def fingerprint(self) -> dict[str, Any]:
        """The values that a resumed run must match, including the teacher's."""
        names = ("temperature", "hard_weight", "label_smoothing", "teacher_view")
        found = {"objective": "distillation", **{name: getattr(self, name) for name in names}}
        asked = self.hard_weight < 1
        return found | {
            "method": self.method.fingerprint() if asked else None,
            "teacher": teacher_fingerprint(self.teacher) if asked else None,
        }

    def remembering(self, batch: Batch) -> Self:
        """The objective for one batch with fixed teacher outputs, for the self-check.

        A teacher may be random, and that is not a fault of the loss.

        Args:
            batch: The batch that the check looks at.

        Returns:
            The objective, whose targets are those of this batch, and whose own parameters are constants.
        """
        return self.fixed(self.taught(batch))

    def fixed(self, teacher: Output) -> Self:
        """The objective with given teacher outputs and random features, its parameters as constants.

        Args:
            teacher: The teacher's fixed output.

        Returns:
            A copy.
        """
        kept = copy.copy(self)
        kept._taught, kept._taps = teacher, None
        kept._features = drawn(self._shapes[0], teacher.logits, seed=3)
        if self.own is not None:
            kept.method = copy.deepcopy(self.method).requires_grad_(False).to(teacher.logits)
        return kept

    def made_up(self, logits: Tensor) -> Output:
        """A teacher's output with given logits and random features, for the self-check.

        Args:
            logits: ``(N, K)``.

        Returns:
            Its answers, as this objective asks for them.
        """
        return Output(softened(logits, self.asked_at), drawn(self._shapes[1], logits, seed=4), self.asked_at)

    @property
    def features(self) -> Mapping[str, Tensor]:
        """The student's random features for the self-check."""
        return self._features

    def taught(self, batch: Batch) -> Output:
        """The teacher's output for a batch, without gradient; at T = 1 where that suits the method."""
        if self._taught is not None:
            return self._taught
        if self.method.teacher_taps:
            teacher = cast(TappedTeacher, self.teacher)  # others were refused beforehand
            return teacher.answer(batch.for_teacher, self.asked_at, self.method.teacher_taps)
        answers = self.teacher.log_probs(batch.for_teacher, self.asked_at).detach()
        # Half precision sums to 1 but nearly.
        exactly = answers.dtype in {torch.float32, torch.float64}
        return Output(answers if exactly else softened(answers.float()), {}, self.asked_at)

    @property
    def asks_within(self) -> bool:
        """Whether a recorded step can ask the teacher: its answers are those of networks of known kinds."""
        asked = self.teacher.modules() if self.teacher.live else []
        return bool(asked) and all(seen is None and capturable(network) for network, seen in asked)

    def taught_before(self, batch: Batch) -> Output | None:
        """The teacher's answers, asked before a recorded step; None where nobody asks it."""
        return None if self.hard_weight == 1 else self.taught(batch)

    def answered(self, answers: Output) -> Self:
        """The same objective for given answers of the teacher."""
        one = copy.copy(self)
        one._taught = answers
        return one

    def __call__(self, logits: Tensor, batch: Batch) -> Loss:
        """The loss of the student's logits ``(N, K)``."""
        logits = widened(logits)
        if self.hard_weight == 1:
            return Loss(label_loss(logits, labels_of(batch), self.label_smoothing, batch.mixed))
        student = Output(logits, self._features if self._taps is None else self._taps.take(len(logits)))
        return Loss(self.method.with_labels(student, self.taught(batch), batch, self.hard_weight, self.label_smoothing))

    def reference_gradient(self, logits: Tensor, batch: Batch) -> Tensor | None:
        r"""Gradient :math:`(1 - w)\,g + w\,(\mathrm{softmax}(z) - [k = y])` with that of the method, by its formula.

        Args:
            logits: Logits ``(N, K)``.
            batch: The examples.

        Returns:
            The gradient of the sum of the losses, float64 ``(N, K)`` on the CPU; None where the method has no formula.
        """
        z = exact(logits)
        if self.hard_weight == 1:
            return _reference_hard(z, batch, self.label_smoothing)
        student, says = Output(z, exactly(self._features)), exact_output(self.taught(batch))
        found = self._exact_method().reference_gradient(student, says, batch)
        if found is None or self.hard_weight == 0:
            return None if found is None else found.logits
        hard = _reference_hard(z, batch, self.label_smoothing)
        return (1 - self.hard_weight) * found.logits + self.hard_weight * hard

    def rounding(self, logits: Tensor, batch: Batch, unit: float, moved: float) -> tuple[Tensor, Tensor] | None:
        """Bounds on the method's rounding error, see :meth:`limbeck.methods.Method.rounding`."""
        student = Output(exact(logits), exactly(self._features))
        return self._exact_method().rounding(student, exact_output(self.taught(batch)), batch, unit, moved)

    def _exact_method(self) -> Method:
        """The method in float64 on the CPU, where it has parameters."""
        return self.method if self.own is None else copy.deepcopy(self.method).to(exact(torch.zeros(())))

    def fault_of_teacher(self, batch: Batch) -> tuple[str, Tensor] | None:
        """Check that the teacher's outputs are log-probabilities.

        Args:
            batch: The batch.

        Returns:
            A description of the fault, and the examples' indices; None where there is none or the teacher is not used.
        """
        if self.hard_weight == 1:
            return None
        answers = self.taught(batch).logits
        spoilt = answers.isnan() | (answers == torch.inf)
        if bool(spoilt.any()):
            return "holds NaN or plus infinity", batch.index[spoilt.any(-1)]
        excluded = (answers == -torch.inf).any(-1)
        if self.method.needs_every_class and bool(excluded.any()):
            words = f"gives a class no mass, so that its logits cannot be matched by method {self.method.name}: use kd"
            return words, batch.index[excluded]
        if self.temperature > _HOTTEST and bool(excluded.any()):
            return f"gives a class no mass even when hot: lower temperature to {_HOTTEST:g}", batch.index[excluded]
        mass = answers.exp().sum(-1)
        wrong = ~((mass - 1).abs() < _MASS_TOLERANCE)
        if bool(wrong.any()):
            words = f"has probabilities that sum to {float(mass[wrong][0]):.3g} and not to 1: it must answer with "
            return words + "log-probabilities, the log_softmax of logits", batch.index[wrong]
        return None


_SHOWN = 4
"""Number of examples to find the shapes of layers with."""
_MASS_TOLERANCE = 0.1
"""Tolerance on the sum of bf16 probabilities over many classes."""


def require_teacher(teacher: Teacher, method: Method) -> None:
    """Check that a teacher provides what a method needs.

    Args:
        teacher: The teacher.
        method: The method.

    Raises:
        ConfigError: If the method needs logits that its outputs do not determine, or the outputs are unbiased samples
            and the method is not linear in them, or float32 is too coarse at the temperature.
    """
    if method.needs_logits and not teacher.has_logits:
        raise ConfigError(
            f"method {method.name} needs the teacher's logits, and its logits are not known for every class: "
            "they are for one model or a geometric mean, live or in a dense store that serves every temperature; use "
            "method kd"
        )
    if getattr(teacher, "drawn", False) and not method.takes_samples:
        raise ConfigError(
            f"method {method.name} is not linear in the soft targets, and sampled ones are right on average alone: "
            "write a dense or top-k store, or use method kd"
        )
    if method.reads_features and not hasattr(teacher, "answer"):
        raise ConfigError(
            f"method {method.name} reads layers of the teacher, and this one has none to read: a single model that "
            "answers as it is asked is needed, not a store, an ensemble, an estimator or a function"
        )
    if method.reads_logits:
        _require_temperature(teacher, method.temperature)


def _require_temperature(teacher: Teacher, temperature: float) -> None:
    """Check that float32 can represent a teacher's soft targets at a temperature.

    Args:
        teacher: The teacher.
        temperature: T.

    Raises:
        ConfigError: If it cannot.
    """
    if not _COLDEST <= temperature <= _INFINITE:
        raise ConfigError(
            f"temperature is {temperature:g}, and float32 carries soft targets from {_COLDEST:g} to {_INFINITE:g}: "
            "above that use method logits, the limit at high temperatures"
        )
    if temperature > _HOTTEST and not teacher.has_logits:
        raise ConfigError(
            f"temperature is {temperature:g}, and float32 cannot carry this teacher's soft targets above "
            f"{_HOTTEST:g}: lower it, or take one model or a geometric mean, whose logits serve every temperature"
        )


def exactly(features: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Features in float64 on the CPU."""
    return {name: exact(value) for name, value in features.items()}


def exact_output(output: Output) -> Output:
    """A model's output in float64 on the CPU."""
    return Output(exact(output.logits), exactly(output.features), output.temperature)


def _reference_hard(z: Tensor, batch: Batch, smoothing: float) -> Tensor:
    classes = z.shape[-1]
    truth = one_hot(labels_of(batch), classes).to(z)
    if batch.mixed is not None:
        share = batch.mixed.share.to(z).unsqueeze(-1)
        truth = share * truth + (1 - share) * one_hot(batch.mixed.labels, classes).to(z)
    return softmax(z) - (truth * (1 - smoothing) + smoothing / classes)
