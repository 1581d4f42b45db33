"""What a model is trained to make small, and the check that each run makes of it before the first step.

Axes: ``N`` examples, ``K`` classes; ``T`` is the temperature, ``w`` the hard weight.
"""

__all__ = ["DistillationObjective", "LabelObjective", "check_objective", "require_logits"]

import copy
from typing import Any

import torch
from torch import Tensor

from limbeck.errors import ConfigError, DataError, SelfCheckError
from limbeck.losses import distillation_loss, hard_target_loss, logit_matching_loss, soft_target_loss
from limbeck.options import SoftLoss
from limbeck.protocols import Answering, Batch, Loss, Objective, Teacher
from limbeck.softtargets.digests import teacher_fingerprint
from limbeck.teachers import as_teacher


class LabelObjective:
    """Cross-entropy with the true labels.

    Args:
        label_smoothing: Share of the mass spread over all classes, in [0, 1).
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        self.label_smoothing = label_smoothing

    def __call__(self, logits: Tensor, batch: Batch) -> Loss:
        """The loss of scores ``(N, K)``."""
        return Loss(hard_target_loss(logits, _labels(batch), label_smoothing=self.label_smoothing))

    def reference_gradient(self, logits: Tensor, batch: Batch) -> Tensor:
        r"""Gradient :math:`\mathrm{softmax}(z) - q` by its formula, float64 ``(N, K)``."""
        z = logits.double()
        truth = torch.nn.functional.one_hot(_labels(batch), z.shape[-1])
        return _softmax64(z) - _smoothed(truth, self.label_smoothing)

    def fingerprint(self) -> dict[str, Any]:
        """What a run that resumes must agree in."""
        return {"objective": "labels", "label_smoothing": self.label_smoothing}


class DistillationObjective:
    """Soft targets of a teacher, and true labels beside them.

    Args:
        teacher: Who answers: live or stored.
        temperature: T > 0.
        hard_weight: w in [0, 1]; 0 needs no labels.
        label_smoothing: Share of the hard term's mass spread over all classes, in [0, 1).
        loss: The soft term: "kl" for :func:`~limbeck.losses.soft_target_loss`, "logits" for
            :func:`~limbeck.losses.logit_matching_loss`, which needs a teacher that has scores.

    Raises:
        ConfigError: If ``loss`` is "logits", and the teacher's answers do not determine its scores.
    """

    def __init__(
        self,
        teacher: Answering,
        *,
        temperature: float,
        hard_weight: float,
        label_smoothing: float = 0.0,
        loss: SoftLoss = "kl",
    ) -> None:
        self.teacher: Teacher = as_teacher(teacher)
        require_logits(self.teacher, loss)
        self.hard_weight, self.label_smoothing, self.loss = hard_weight, label_smoothing, loss
        self.temperature = 1.0 if loss == "logits" else temperature

    def fingerprint(self) -> dict[str, Any]:
        """What a run that resumes must agree in, the teacher among it."""
        names = ("loss", "temperature", "hard_weight", "label_smoothing")
        found = {"objective": "distillation", **{name: getattr(self, name) for name in names}}
        return found | {"teacher": teacher_fingerprint(self.teacher) if self.hard_weight < 1 else None}

    def remembering(self, batch: Batch) -> "DistillationObjective":
        """The same objective for this batch alone, with the teacher asked once: what the check of it looks at.

        A teacher may answer otherwise each time it is asked, and that is no fault of the loss.

        Args:
            batch: The batch that the check looks at.

        Returns:
            The objective, whose targets are those of this batch.
        """
        kept, answers = copy.copy(self), self.targets(batch)
        kept.targets = lambda batch: answers  # type: ignore[method-assign]
        return kept

    def targets(self, batch: Batch) -> Tensor:
        """The teacher's log-probabilities, softened for "kl" and at T = 1 for "logits", ``(N, K)``."""
        return self.teacher.log_probs(batch, self.temperature)

    def __call__(self, logits: Tensor, batch: Batch) -> Loss:
        """The loss of the student's scores ``(N, K)``."""
        if self.loss == "logits":
            soft = logit_matching_loss(logits, self.targets(batch))
            if self.hard_weight == 0:
                return Loss(soft)
            hard = hard_target_loss(logits, _labels(batch), label_smoothing=self.label_smoothing)
            return Loss((1 - self.hard_weight) * soft + self.hard_weight * hard)
        return Loss(
            distillation_loss(
                logits,
                self.targets(batch),
                batch.labels,
                temperature=self.temperature,
                hard_weight=self.hard_weight,
                label_smoothing=self.label_smoothing,
            )
        )

    def reference_gradient(self, logits: Tensor, batch: Batch) -> Tensor:
        r"""Gradient by its formula, float64 ``(N, K)``.

        .. math::
            (1 - w)\,T\,(\mathrm{softmax}(z / T) - p) + w\,(\mathrm{softmax}(z) - [k = y])

        with :math:`\bigl((z - \bar z) - (v - \bar v)\bigr) / K` for :math:`T\,(\mathrm{softmax}(z / T) - p)` where
        the soft term is that of the teacher's scores v.

        Args:
            logits: Scores ``(N, K)``.
            batch: The examples.

        Returns:
            The gradient of the sum of the losses.
        """
        z = logits.double()
        targets = self.targets(batch).double()
        if self.loss == "logits":
            classes = z.shape[-1]
            soft = (z - z.sum(-1, keepdim=True) / classes - targets + targets.sum(-1, keepdim=True) / classes) / classes
        else:
            soft = self.temperature * (_softmax64(z / self.temperature) - targets.exp())
        if self.hard_weight == 0:
            return soft
        truth = torch.nn.functional.one_hot(_labels(batch), z.shape[-1])
        hard = _softmax64(z) - _smoothed(truth, self.label_smoothing)
        return (1 - self.hard_weight) * soft + self.hard_weight * hard

    def divergence(self, logits: Tensor, batch: Batch) -> Tensor:
        """The soft term alone, ``(N,)``: the check asks that it vanish where student equals teacher."""
        if self.loss == "logits":
            return logit_matching_loss(logits, self.targets(batch))
        return soft_target_loss(logits, self.targets(batch), temperature=self.temperature)


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


def _labels(batch: Batch) -> Tensor:
    if batch.labels is None:
        raise DataError("this objective needs labels, and these examples have none: set hard_weight to 0")
    return batch.labels


def _smoothed(truth: Tensor, share: float) -> Tensor:
    return truth * (1 - share) + share / truth.shape[-1]


def _softmax64(z: Tensor) -> Tensor:
    """Softmax from its definition, apart from the library functions that the losses use."""
    powers = torch.exp(z - z.max(-1, keepdim=True).values)
    return powers / powers.sum(-1, keepdim=True)


def check_objective(objective: Objective, batch: Batch, classes: int, *, tolerance: float = 1e-4) -> None:
    r"""Prove an objective on the first batch of a run, or refuse to train with it.

    Checked are: one finite value an example; the gradient, and the value's slope, against the formula in float64; no
    change of value or gradient when a constant is added to the scores; and, for distillation, zero gradient of the
    soft term where the student's scores are the teacher's. A loss that forgets :math:`T^2`, averages over classes or
    does not soften the student fails.

    Args:
        objective: What the run will minimise.
        batch: Its first batch; up to 32 examples are used.
        classes: Number of classes K.
        tolerance: Largest error accepted, as a share of the largest gradient.

    Raises:
        SelfCheckError: If a check fails; the message says which, and by how much.
    """
    few = batch.head(32)
    if isinstance(objective, DistillationObjective):
        objective = objective.remembering(few)
    generator = torch.Generator().manual_seed(0)
    scores = (3 * torch.randn(len(few.index), classes, generator=generator)).to(few.inputs.device)

    value, gradient = _value_and_gradient(objective, scores, few)
    if value.shape != few.index.shape or not bool(value.isfinite().all()):
        raise SelfCheckError(
            f"the objective must give one finite value an example: {len(few.index)} examples gave shape "
            f"{tuple(value.shape)}, {int((~value.isfinite()).sum())} of them not finite"
        )
    reference = objective.reference_gradient(scores, few)
    scale = float(reference.abs().max())
    error = float((gradient.double() - reference).abs().max())
    if not error <= tolerance * max(scale, 1e-3):
        raise SelfCheckError(
            f"the objective's gradient differs from its formula in float64 by {error:.3g}, where the largest "
            f"gradient is {scale:.3g}: the loss is wrong, and nothing was trained"
        )
    moved_value, moved_gradient = _value_and_gradient(objective, scores + 5.0, few)
    change = max(float((moved_value - value).abs().max()), float((moved_gradient - gradient).abs().max()))
    if not change <= tolerance * max(float(value.abs().max()), scale, 1.0):
        raise SelfCheckError(
            f"adding a constant to the scores changed the objective by {change:.3g}: it must not, since a softmax "
            "does not; nothing was trained"
        )
    # The value must have that gradient too: a loss may work both out apart.
    step = torch.randn(scores.shape, generator=generator).to(scores.device, torch.float64)
    ahead = objective(scores.double() + 1e-4 * step, few).per_example
    behind = objective(scores.double() - 1e-4 * step, few).per_example
    slope, expected = (ahead - behind).double() / 2e-4, (reference * step).sum(-1)
    if not float((slope - expected).abs().max()) <= 1e-2 * max(float(expected.abs().max()), 1e-3):
        raise SelfCheckError(
            f"the objective's value rises by {float((slope - expected).abs().max()):.3g} a unit otherwise than its "
            "gradient says: value and gradient do not belong together, and nothing was trained"
        )
    if isinstance(objective, DistillationObjective):
        temperature = objective.temperature  # 1 where the student is to have the teacher's very scores
        same = (temperature * objective.targets(few)).clamp_min(-1e4).detach().requires_grad_(True)
        (leftover,) = torch.autograd.grad(objective.divergence(same, few).sum(), same)
        if not float(leftover.abs().max()) <= tolerance * max(temperature, 1.0):
            raise SelfCheckError(
                f"where the student equals the teacher the soft term's gradient is {float(leftover.abs().max()):.3g} "
                "and must be 0: teacher and student are not softened alike; nothing was trained"
            )


def _value_and_gradient(objective: Objective, scores: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    leaf = scores.detach().requires_grad_(True)
    value = objective(leaf, batch).per_example
    (gradient,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), gradient
