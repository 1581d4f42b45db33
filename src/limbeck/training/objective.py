"""What a model is trained to make small.

Axes: ``N`` examples, ``K`` classes; ``T`` is the temperature, ``w`` the hard weight.
"""

__all__ = ["DistillationObjective", "LabelObjective", "check_objective", "require_logits", "require_temperature"]

import copy
from typing import Any, Self

import torch
from torch import Tensor

from limbeck.errors import ConfigError, DataError
from limbeck.losses import logit_matching_loss, softened, widened
from limbeck.losses.fused import HOT, fused_loss, label_loss
from limbeck.options import SoftLoss, TeacherView
from limbeck.protocols import Answering, Batch, Loss, Teacher, Teaching
from limbeck.softtargets.digests import teacher_fingerprint
from limbeck.teachers import as_teacher
from limbeck.training.self_check import check_objective, exact

_COLDEST, _INFINITE = 1e-6, 1e30
"""Temperatures between which logits over T, and the loss, are numbers in float32."""
_HOTTEST = 1e4
"""Temperature above which float32 log-probabilities near -log K no longer carry a teacher's logits to two digits."""


class LabelObjective:
    """Cross-entropy with the true labels.

    Args:
        label_smoothing: Share of the mass spread over all classes, in [0, 1).
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        self.label_smoothing = label_smoothing

    def __call__(self, logits: Tensor, batch: Batch) -> Loss:
        """The loss of logits ``(N, K)``."""
        return Loss(label_loss(widened(logits), _labels(batch), self.label_smoothing, batch.mixed))

    def reference_gradient(self, logits: Tensor, batch: Batch) -> Tensor:
        r"""Gradient :math:`\mathrm{softmax}(z) - q` by its formula, float64 ``(N, K)`` on the CPU."""
        return _reference_hard(exact(logits), batch, self.label_smoothing)

    def fingerprint(self) -> dict[str, Any]:
        """What a run that resumes must agree in."""
        return {"objective": "labels", "label_smoothing": self.label_smoothing}


class DistillationObjective:
    """Soft targets of a teacher, and true labels beside them.

    Args:
        teacher: Who answers: live or stored; it is not asked where ``hard_weight`` is 1.
        temperature: T > 0.
        hard_weight: w in [0, 1]; 0 needs no labels.
        label_smoothing: Share of the hard term's mass spread over all classes, in [0, 1).
        loss: The soft term: "kl" for :func:`~limbeck.losses.soft_target_loss`, "logits" for
            :func:`~limbeck.losses.logit_matching_loss`, which needs a teacher whose logits are known.
        teacher_view: Which view of an example the teacher answers; a :class:`~limbeck.data.Feed` that is told
            :attr:`teaching` makes it.

    Raises:
        ConfigError: If the teacher's answers do not determine its logits, and ``loss`` is "logits" or the temperature
            is higher than float32 log-probabilities can serve.
    """

    def __init__(
        self,
        teacher: Answering,
        *,
        temperature: float,
        hard_weight: float,
        label_smoothing: float = 0.0,
        loss: SoftLoss = "kl",
        teacher_view: TeacherView = "consistent",
    ) -> None:
        self.teacher: Teacher = as_teacher(teacher)
        self._remembered: Tensor | None = None
        self.teacher_view = teacher_view
        require_logits(self.teacher, loss)
        self.hard_weight, self.label_smoothing, self.loss = hard_weight, label_smoothing, loss
        self.temperature = 1.0 if loss == "logits" else temperature
        if hard_weight < 1:
            require_temperature(self.teacher, self.temperature)  # it never asks the teacher otherwise
        # Softened log-probabilities in float32 would lose, at a high temperature, what those at T = 1 still tell.
        self._at_one = self.temperature > HOT and self.teacher.has_logits

    @property
    def presentations(self) -> list[Any]:
        """How the teacher's networks see the examples, where that is their own affair: made along with the batches."""
        return [seen for _, seen in self.teacher.modules()] if self.hard_weight < 1 else []

    @property
    def teaching(self) -> Teaching | None:
        """What a feed must know to show the teacher another view; None where it sees the student's, or is not asked."""
        if self.teacher_view == "consistent" or self.hard_weight == 1:
            return None
        return Teaching(self.teacher_view, self.teacher.live, tuple(self.presentations))

    def fingerprint(self) -> dict[str, Any]:
        """What a run that resumes must agree in, the teacher among it."""
        names = ("loss", "temperature", "hard_weight", "label_smoothing", "teacher_view")
        found = {"objective": "distillation", **{name: getattr(self, name) for name in names}}
        return found | {"teacher": teacher_fingerprint(self.teacher) if self.hard_weight < 1 else None}

    def remembering(self, batch: Batch) -> Self:
        """The same objective for this batch alone, with the teacher asked once: what the check of it looks at.

        A teacher may answer otherwise each time it is asked, and that is no fault of the loss.

        Args:
            batch: The batch that the check looks at.

        Returns:
            The objective, whose targets are those of this batch.
        """
        kept = copy.copy(self)
        kept._remembered = self._answers(batch)
        return kept

    def targets(self, batch: Batch) -> Tensor:
        """The teacher's log-probabilities, softened for "kl" and at T = 1 for "logits", constants ``(N, K)``."""
        if self._at_one:
            return softened(self._answers(batch), self.temperature)
        answers = self._answers(batch)
        return softened(answers) if self.temperature > HOT else answers

    def _answers(self, batch: Batch) -> Tensor:
        """What the teacher says, at T = 1 where that serves a hot temperature; half precision sums to 1 but nearly."""
        if self._remembered is not None:
            return self._remembered
        answers = self.teacher.log_probs(batch.for_teacher, 1.0 if self._at_one else self.temperature).detach()
        return answers if answers.dtype in {torch.float32, torch.float64} else softened(answers.float())

    def __call__(self, logits: Tensor, batch: Batch) -> Loss:
        """The loss of the student's logits ``(N, K)``."""
        logits = widened(logits)
        if self.hard_weight == 1:
            return Loss(label_loss(logits, _labels(batch), self.label_smoothing, batch.mixed))
        if self.loss == "kl":
            return Loss(self._kl(logits, batch, self.hard_weight))
        soft = logit_matching_loss(logits, self.targets(batch))
        if self.hard_weight == 0:
            return Loss(soft)
        hard = label_loss(logits, _labels(batch), self.label_smoothing, batch.mixed)
        return Loss((1 - self.hard_weight) * soft + self.hard_weight * hard)

    def _kl(self, logits: Tensor, batch: Batch, hard_weight: float) -> Tensor:
        return fused_loss(
            logits,
            self._answers(batch),
            _labels(batch) if hard_weight else None,
            temperature=self.temperature,
            hard_weight=hard_weight,
            label_smoothing=self.label_smoothing,
            targets_at_one=self._at_one,
            mixed=batch.mixed,
        )

    def divergence(self, logits: Tensor, batch: Batch) -> Tensor:
        """The soft term alone, ``(N,)``: the check asks that it vanish where student equals teacher."""
        if self.loss == "logits":
            return logit_matching_loss(logits, self.targets(batch))
        return self._kl(logits, batch, 0.0)

    def reference_gradient(self, logits: Tensor, batch: Batch) -> Tensor:
        r"""Gradient by its formula, float64 ``(N, K)`` on the CPU.

        .. math::
            (1 - w)\,T\,(\mathrm{softmax}(z / T) - p) + w\,(\mathrm{softmax}(z) - [k = y])

        with :math:`\bigl((z - \bar z) - (v - \bar v)\bigr) / K` for :math:`T\,(\mathrm{softmax}(z / T) - p)` where
        the soft term is that of the teacher's logits v.

        Args:
            logits: Logits ``(N, K)``.
            batch: The examples.

        Returns:
            The gradient of the sum of the losses.
        """
        z = exact(logits)
        if self.hard_weight == 1:
            return _reference_hard(z, batch, self.label_smoothing)
        targets = exact(self.targets(batch))
        if self.loss == "logits":
            classes = z.shape[-1]
            soft = (z - z.sum(-1, keepdim=True) / classes - targets + targets.sum(-1, keepdim=True) / classes) / classes
        else:
            p = targets.exp()
            soft = self.temperature * (_softmax(z / self.temperature) * p.sum(-1, keepdim=True) - p)
        if self.hard_weight == 0:
            return soft
        hard = _reference_hard(z, batch, self.label_smoothing)
        return (1 - self.hard_weight) * soft + self.hard_weight * hard

    def with_teacher(self, teacher: Answering) -> Self:
        """The same objective of another teacher, whose logits are known or not as this one's are.

        Args:
            teacher: Who answers instead.

        Returns:
            A copy.
        """
        other = copy.copy(self)
        other.teacher = teacher  # type: ignore[assignment]
        return other

    def fault_of_teacher(self, batch: Batch) -> tuple[str, Tensor] | None:
        """Look whether the teacher's answers are log-probabilities.

        Args:
            batch: What it is asked.

        Returns:
            What is wrong, in words, and the numbers of the examples; None where all is right or nobody asks it.
        """
        if self.hard_weight == 1:
            return None
        answers = self.targets(batch)
        spoilt = answers.isnan() | (answers == torch.inf)
        if bool(spoilt.any()):
            return "holds NaN or plus infinity", batch.index[spoilt.any(-1)]
        excluded = (answers == -torch.inf).any(-1)
        if self.loss == "logits" and bool(excluded.any()):
            return "gives a class no mass, so that its logits cannot be matched: set loss to kl", batch.index[excluded]
        if self.temperature > _HOTTEST and bool(excluded.any()):
            return f"gives a class no mass even when hot: lower temperature to {_HOTTEST:g}", batch.index[excluded]
        mass = answers.exp().sum(-1)
        wrong = ~((mass - 1).abs() < _MASS_TOLERANCE)
        if bool(wrong.any()):
            words = f"has probabilities that sum to {float(mass[wrong][0]):.3g} and not to 1: it must answer with "
            return words + "log-probabilities, the log_softmax of logits", batch.index[wrong]
        return None


_MASS_TOLERANCE = 0.1
"""Answers in bf16 over many classes sum to 1 within this."""


def require_logits(teacher: Teacher, loss: SoftLoss) -> None:
    """Make sure that a teacher has what a soft term is made of.

    Args:
        teacher: Who answers.
        loss: The soft term.

    Raises:
        ConfigError: If ``loss`` is "logits", and the teacher's answers do not determine its logits.
    """
    if loss == "logits" and not teacher.has_logits:
        raise ConfigError(
            "loss is logits, and this teacher's logits are not known for every class: they are for one model or a "
            "geometric mean, live or in a dense store that serves every temperature; set loss to kl"
        )


def require_temperature(teacher: Teacher, temperature: float) -> None:
    """Make sure that a teacher's answers at a temperature say more than rounding.

    Args:
        teacher: Who answers.
        temperature: T.

    Raises:
        ConfigError: If float32 cannot carry what they say.
    """
    if not _COLDEST <= temperature <= _INFINITE:
        raise ConfigError(
            f"temperature is {temperature:g}, and float32 carries soft targets from {_COLDEST:g} to {_INFINITE:g}: "
            "above that set loss to logits, the limit at high temperatures"
        )
    if temperature > _HOTTEST and not teacher.has_logits:
        raise ConfigError(
            f"temperature is {temperature:g}, and float32 cannot carry this teacher's soft targets above "
            f"{_HOTTEST:g}: lower it, or take one model or a geometric mean, whose logits serve every temperature"
        )


def _labels(batch: Batch) -> Tensor:
    if batch.labels is None:
        raise DataError("this objective needs labels, and these examples have none: set hard_weight to 0")
    return batch.labels


def _reference_hard(z: Tensor, batch: Batch, smoothing: float) -> Tensor:
    classes = z.shape[-1]
    truth = torch.nn.functional.one_hot(_labels(batch).to(z.device), classes).to(z)
    if batch.mixed is not None:
        share = batch.mixed.share.to(z).unsqueeze(-1)
        other = torch.nn.functional.one_hot(batch.mixed.labels.to(z.device), classes).to(z)
        truth = share * truth + (1 - share) * other
    return _softmax(z) - (truth * (1 - smoothing) + smoothing / classes)


def _softmax(z: Tensor) -> Tensor:
    """Softmax from its definition, apart from the library functions that the losses use."""
    powers = torch.exp(z - z.max(-1, keepdim=True).values)
    return powers / powers.sum(-1, keepdim=True)
