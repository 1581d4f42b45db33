r"""The losses of distillation, as pure functions: one value an example, no averaging, no model, no device.

Axes: ``N`` examples, ``K`` classes, any leading axes ``...``; ``T`` is the temperature.
"""

__all__ = ["distillation_loss", "hard_target_loss", "logit_matching_loss", "soft_target_loss", "softened"]

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from limbeck.errors import DataError


def _checked(temperature: float) -> float:
    if not (math.isfinite(temperature) and temperature > 0):
        raise DataError(f"temperature must be positive and finite, and is {temperature}")
    return temperature


def softened(logits: Tensor, temperature: float = 1.0) -> Tensor:
    r"""Log-probabilities of the softmax at a temperature.

    .. math::
        \log p_k = z_k / T - \log \sum_j \exp(z_j / T)

    A higher temperature gives a softer distribution. Log-probabilities at :math:`T = 1` may stand in for the logits:
    they differ by a constant, which cancels.

    Args:
        logits: Scores :math:`z` before any softmax, or log-probabilities at T = 1, ``(..., K)``.
        temperature: :math:`T > 0`, no unit.

    Returns:
        Log-probabilities, natural logarithm, ``(..., K)``.

    Raises:
        DataError: If ``temperature`` is not positive and finite.

    References:
        Hinton, Vinyals and Dean, `Distilling the Knowledge in a Neural Network
        <https://arxiv.org/abs/1503.02531>`_, 2015, equation 1.

    Example:
        >>> softened(torch.tensor([2.0, 0.0]), temperature=2.0).exp()
        tensor([0.7311, 0.2689])
    """
    return torch.log_softmax(logits / _checked(temperature), -1)


def soft_target_loss(student_logits: Tensor, target_log_probs: Tensor, *, temperature: float = 1.0) -> Tensor:
    r"""Divergence of the softened student from soft targets, scaled by :math:`T^2`.

    .. math::
        \ell_n = T^2 \sum_{k=1}^{K} p_{nk} \bigl(\log p_{nk} - \log \mathrm{softmax}(z_n / T)_k\bigr)

    It is zero exactly when the two distributions agree. The factor :math:`T^2` keeps the gradient's size about
    constant in :math:`T`, so the weight set against a hard-label term survives a change of temperature.

    Args:
        student_logits: Scores :math:`z` before any softmax, ``(..., K)``.
        target_log_probs: :math:`\log p`, ``(..., K)``, **already softened at the same temperature**;
            ``-inf`` marks a class given no mass.
        temperature: :math:`T > 0`, no unit. At 1 this is the plain KL divergence.

    Returns:
        Nats an example, times :math:`T^2`, ``(...)``, at least 0 up to rounding.

    Raises:
        DataError: If the shapes differ, or ``temperature`` is not positive and finite.

    References:
        Hinton, Vinyals and Dean, `Distilling the Knowledge in a Neural Network
        <https://arxiv.org/abs/1503.02531>`_, 2015, section 2.

    Example:
        >>> teacher = torch.tensor([[4.0, 1.0, 0.0]])
        >>> student = torch.tensor([[0.0, 1.0, 4.0]])
        >>> soft_target_loss(student, softened(teacher, 2.0), temperature=2.0)
        tensor([5.0920])
    """
    _check_shapes(student_logits, target_log_probs)
    # Where the target has no mass the limit of p (log p - s) is 0, and exp(-inf) * (-inf - s) would be nan.
    weights = target_log_probs.exp() * temperature**2
    return (weights * (target_log_probs.clamp_min(-1e30) - softened(student_logits, temperature))).sum(-1)


def _check_shapes(scores: Tensor, targets: Tensor) -> None:
    if scores.shape != targets.shape:
        raise DataError(
            f"the student gives scores of shape {tuple(scores.shape)}, and the targets have {tuple(targets.shape)}"
        )


def hard_target_loss(student_logits: Tensor, labels: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    r"""Cross-entropy of the student with the true labels, at :math:`T = 1`.

    .. math::
        \ell_n = -\sum_k q_{nk} \log \mathrm{softmax}(z_n)_k, \quad q_{nk} = (1 - s)\,[k = y_n] + s / K

    Args:
        student_logits: Scores :math:`z` before any softmax, ``(..., K)``.
        labels: True classes :math:`y` in [0, K), int64 ``(...)``.
        label_smoothing: Share :math:`s` of the mass spread over all classes, in [0, 1).

    Returns:
        Nats an example, ``(...)``.

    Raises:
        DataError: If the shapes differ, or ``label_smoothing`` is out of its range.

    Example:
        >>> hard_target_loss(torch.tensor([[2.0, 0.0]]), torch.tensor([0]))
        tensor([0.1269])
    """
    if student_logits.shape[:-1] != labels.shape:
        raise DataError(
            f"the student gives scores of shape {tuple(student_logits.shape)}, and the labels have "
            f"{tuple(labels.shape)}: one label an example is needed"
        )
    if not 0 <= label_smoothing < 1:
        raise DataError(f"label_smoothing must be in [0, 1), and is {label_smoothing}")
    if student_logits.ndim == 2 and not label_smoothing:
        return torch.nn.functional.cross_entropy(student_logits, labels, reduction="none")
    log_probs = torch.log_softmax(student_logits, -1)
    loss = -log_probs.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    if label_smoothing:
        loss = (1 - label_smoothing) * loss - label_smoothing * log_probs.mean(-1)
    return loss


def distillation_loss(
    student_logits: Tensor,
    target_log_probs: Tensor,
    labels: Tensor | None = None,
    *,
    temperature: float,
    hard_weight: float = 0.0,
    label_smoothing: float = 0.0,
) -> Tensor:
    r"""Soft targets and true labels together.

    .. math::
        \ell_n = (1 - w)\,\ell^{\mathrm{soft}}_n + w\,\ell^{\mathrm{hard}}_n

    with :func:`soft_target_loss` (which holds the factor :math:`T^2`) and :func:`hard_target_loss` (at T = 1).

    Args:
        student_logits: Scores before any softmax, ``(..., K)``.
        target_log_probs: Teacher's log-probabilities at the same temperature, ``(..., K)``.
        labels: True classes, int64 ``(...)``; not needed where ``hard_weight`` is 0.
        temperature: :math:`T > 0`, no unit.
        hard_weight: :math:`w` in [0, 1].
        label_smoothing: Share of the hard term's mass spread over all classes, in [0, 1).

    Returns:
        Nats an example, ``(...)``.

    Raises:
        DataError: If ``hard_weight`` is out of its range, or positive where there are no labels.

    References:
        Hinton, Vinyals and Dean, `Distilling the Knowledge in a Neural Network
        <https://arxiv.org/abs/1503.02531>`_, 2015, section 2.

    Example:
        >>> student, teacher = torch.tensor([[2.0, 0.0]]), torch.tensor([[2.0, 0.0]])
        >>> distillation_loss(student, softened(teacher, 4.0), torch.tensor([0]), temperature=4.0, hard_weight=0.5)
        tensor([0.0635])
    """
    if not 0 <= hard_weight <= 1:
        raise DataError(f"hard_weight must be in [0, 1], and is {hard_weight}")
    if hard_weight == 0:
        return soft_target_loss(student_logits, target_log_probs, temperature=temperature)
    if labels is None:
        raise DataError(f"hard_weight is {hard_weight}, and these examples have no labels: set hard_weight to 0")
    if hard_weight == 1:
        return hard_target_loss(student_logits, labels, label_smoothing=label_smoothing)
    if student_logits.ndim == 2 and not label_smoothing and student_logits.shape == target_log_probs.shape:
        return _mixture(student_logits, target_log_probs, labels, _checked(temperature), hard_weight)
    soft = soft_target_loss(student_logits, target_log_probs, temperature=temperature)
    return torch.lerp(soft, hard_target_loss(student_logits, labels, label_smoothing=label_smoothing), hard_weight)


def _mixture(logits: Tensor, targets: Tensor, labels: Tensor, temperature: float, weight: float) -> Tensor:
    """Both terms with their gradient in one node: a quarter fewer calls than autograd makes of the two."""
    value: Tensor = _Mixture.apply(logits, targets, labels, temperature, weight)  # type: ignore[no-untyped-call]
    return value


class _Mixture(torch.autograd.Function):
    """The weighted sum of both terms, ``(N,)``; the gradient is worked out beside the value, from its formula."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, target: Tensor, labels: Tensor, temperature: float, weight: float) -> Tensor:
        log_q = torch.log_softmax(z / temperature, -1)
        log_q1 = torch.log_softmax(z, -1)
        p, rows = target.exp(), labels.unsqueeze(-1)
        soft = (p * (target.clamp_min(-1e30) - log_q)).sum(-1)
        loss = soft * ((1 - weight) * temperature**2) - weight * log_q1.gather(-1, rows).squeeze(-1)
        gradient = log_q.exp_().sub_(p).mul_((1 - weight) * temperature).add_(log_q1.exp_(), alpha=weight)
        gradient.scatter_add_(-1, rows, gradient.new_full(rows.shape, -weight))
        ctx.save_for_backward(gradient)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream.unsqueeze(-1), None, None, None, None


def logit_matching_loss(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    r"""Squared distance of zero-meaned logits: what :func:`soft_target_loss` becomes as :math:`T \to \infty`.

    .. math::
        \ell_n = \frac{1}{2K} \sum_k \bigl((z_{nk} - \bar z_n) - (v_{nk} - \bar v_n)\bigr)^2

    Args:
        student_logits: Student's scores :math:`z`, ``(..., K)``.
        teacher_logits: Teacher's scores :math:`v`, or log-probabilities at T = 1, ``(..., K)``.

    Returns:
        Squared score units an example, ``(...)``.

    Raises:
        DataError: If the shapes differ.

    References:
        Hinton, Vinyals and Dean, `Distilling the Knowledge in a Neural Network
        <https://arxiv.org/abs/1503.02531>`_, 2015, section 2.1.

    Example:
        >>> logit_matching_loss(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
        tensor([0.5000])
    """
    _check_shapes(student_logits, teacher_logits)
    difference = student_logits - teacher_logits
    centred = difference - difference.mean(-1, keepdim=True)
    return centred.square().mean(-1) / 2
