r"""The losses of distillation, as pure functions: one value per example, no averaging, no model, no device.

All are plain autograd: gradients reach logits and targets, and derivatives of any order, ``torch.func`` and leading
axes work. Half precision is computed in float32. The training step uses :mod:`limbeck.losses.fused`, which is the same
mathematics for targets that are constants.

Axes: ``N`` examples, ``K`` classes, any leading axes ``...``; ``T`` is the temperature.
"""

__all__ = [
    "distillation_loss",
    "hard_target_loss",
    "logit_matching_loss",
    "soft_target_loss",
    "softened",
    "widened",
    "without_looking",
]

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from limbeck.errors import DataError


def _checked(temperature: float) -> float:
    if not (math.isfinite(temperature) and temperature > 0):
        raise DataError(f"temperature must be positive and finite, and is {temperature}")
    return temperature


def widened(values: Tensor) -> Tensor:
    """Half precision as float32, where logits of 6e4 do not overflow; other dtypes unchanged.

    Args:
        values: Any tensor.

    Returns:
        float32, or ``values`` itself.

    Example:
        >>> widened(torch.tensor([6e4], dtype=torch.float16)).dtype
        torch.float32
    """
    return values.float() if values.dtype in {torch.float16, torch.bfloat16} else values


def softened(logits: Tensor, temperature: float = 1.0) -> Tensor:
    r"""Log-probabilities of the softmax at a temperature.

    .. math::
        \log p_k = z_k / T - \log \sum_j \exp(z_j / T)

    A higher temperature gives a softer distribution. Log-probabilities at :math:`T = 1` may stand in for the logits:
    they differ by a constant, which cancels.

    Args:
        logits: Logits :math:`z`, or log-probabilities at T = 1, ``(..., K)``; half precision gives float32.
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
    return torch.log_softmax(widened(logits) / _checked(temperature), -1)


def soft_target_loss(student_logits: Tensor, target_log_probs: Tensor, *, temperature: float = 1.0) -> Tensor:
    r"""Divergence of the softened student from soft targets, scaled by :math:`T^2`.

    .. math::
        \ell_n = T^2 \sum_{k=1}^{K} p_{nk} \bigl(\log p_{nk} - \log \mathrm{softmax}(z_n / T)_k\bigr)

    It is zero exactly when the two distributions agree. The factor :math:`T^2` keeps the gradient's size about
    constant in :math:`T`, so the weight set against a hard-label term survives a change of temperature. It also
    enlarges rounding: above T = 30 or so pass float64, or use :func:`logit_matching_loss`.

    Args:
        student_logits: Logits :math:`z`, ``(..., K)``.
        target_log_probs: :math:`\log p`, ``(..., K)``, **already softened at the same temperature**;
            ``-inf`` marks a class given no mass, which adds 0 whatever the student's logit of it, including ``-inf``.
        temperature: :math:`T > 0`, no unit. At 1 this is the plain KL divergence.

    Returns:
        Nats per example, times :math:`T^2`, ``(...)``, at least 0 up to rounding; infinite where the student's logit
        of a class that has mass is ``-inf``.

    Raises:
        DataError: If the shapes differ, ``temperature`` is not positive and finite, or targets or logits of an example
            are all ``-inf``.

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
    targets = widened(target_log_probs)
    _check_mass(targets, "targets")
    _check_mass(student_logits, "student's logits")
    # Where the target has no mass the limit of p (log p - s) is 0, and exp(-inf) * (-inf - s) would be nan.
    weights = targets.exp()
    massive = weights > 0
    difference = _where(massive, targets) - _where(massive, softened(student_logits, temperature))
    return temperature**2 * (weights * difference).sum(-1)


def _where(chosen: Tensor, values: Tensor) -> Tensor:
    """The selected values, and 0 with zero gradient elsewhere."""
    return torch.where(chosen, values, values.new_zeros(()))


def _check_shapes(logits: Tensor, targets: Tensor) -> None:
    if logits.shape != targets.shape:
        raise DataError(
            f"the student gives logits of shape {tuple(logits.shape)}, and the targets have {tuple(targets.shape)}"
        )
    _check_devices(logits, targets, "targets")


def _check_devices(logits: Tensor, others: Tensor, what: str) -> None:
    if logits.device != others.device:
        raise DataError(f"the student's logits are on {logits.device}, and the {what} on {others.device}: move one")


def _check_mass(values: Tensor, what: str) -> None:
    empty = (values == -math.inf).all(-1)
    if _holds_anywhere(empty):
        raise DataError(f"the {what} of {_first_example(empty)} are -inf for every class: one class must have mass")


_looks = True


@contextmanager
def without_looking(unseen: bool = True) -> Iterator[None]:
    """Let the losses look at no values, which on an accelerator makes the host wait for it.

    Args:
        unseen: Whether they do not; False changes nothing.

    Yields:
        Nothing.

    Example:
        >>> with without_looking():
        ...     soft_target_loss(torch.zeros(1, 2), torch.full((1, 2), -math.inf))
        tensor([0.])
    """
    global _looks
    before, _looks = _looks, _looks and not unseen
    try:
        yield
    finally:
        _looks = before


def _holds_anywhere(found: Tensor) -> bool:
    """Whether any value of a mask is true; False where values are not accessible, as under ``torch.vmap``."""
    if not _looks or found.is_meta or torch.compiler.is_compiling():
        return False
    try:
        return bool(found.any())
    except RuntimeError as error:
        if "vmap" in str(error) or "data-dependent" in str(error):
            return False
        raise


def _first_example(found: Tensor) -> str:
    place = found.nonzero()[0].tolist()
    return f"example {place[0] if len(place) == 1 else tuple(place)}" if place else "the example"


def hard_target_loss(student_logits: Tensor, labels: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    r"""Cross-entropy of the student with the labels, at :math:`T = 1`.

    .. math::
        \ell_n = -\sum_k q_{nk} \log \mathrm{softmax}(z_n)_k, \quad q_{nk} = (1 - s)\,[k = y_n] + s / K

    No label is ignored: -100 is refused like any other that is not a class.

    Args:
        student_logits: Logits :math:`z`, ``(..., K)``.
        labels: True classes :math:`y` in [0, K), integers ``(...)``.
        label_smoothing: Share :math:`s` of the mass spread over all classes, in [0, 1).

    Returns:
        Nats per example, ``(...)``.

    Raises:
        DataError: If the shapes differ, a label is not a class, or ``label_smoothing`` is out of its range.

    Example:
        >>> hard_target_loss(torch.tensor([[2.0, 0.0]]), torch.tensor([0]))
        tensor([0.1269])
    """
    labels = _checked_labels(student_logits, labels)
    if not 0 <= label_smoothing < 1:
        raise DataError(f"label_smoothing must be in [0, 1), and is {label_smoothing}")
    _check_mass(student_logits, "student's logits")
    log_probs = torch.log_softmax(widened(student_logits), -1)
    loss = -log_probs.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    if label_smoothing:
        loss = (1 - label_smoothing) * loss - label_smoothing * log_probs.mean(-1)
    return loss


def _checked_labels(logits: Tensor, labels: Tensor) -> Tensor:
    """Labels as int64, each of them a class."""
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise DataError(f"labels must be integers, the numbers of classes, and are {labels.dtype}")
    if logits.ndim == 0 or logits.shape[:-1] != labels.shape:
        raise DataError(
            f"the student gives logits of shape {tuple(logits.shape)}, and the labels have "
            f"{tuple(labels.shape)}: one label per example is needed"
        )
    _check_devices(logits, labels, "labels")
    labels, classes = labels.long(), logits.shape[-1]
    outside = (labels < 0) | (labels >= classes)
    if _holds_anywhere(outside):
        label = int(labels[outside].flatten()[0])
        raise DataError(
            f"label {label} of {_first_example(outside)} is outside the {classes} classes (0 to {classes - 1}): "
            "none is ignored, so leave such examples out"
        )
    return labels


def distillation_loss(
    student_logits: Tensor,
    target_log_probs: Tensor,
    labels: Tensor | None = None,
    *,
    temperature: float,
    hard_weight: float = 0.0,
    label_smoothing: float = 0.0,
) -> Tensor:
    r"""Weighted sum of the soft-target loss and cross-entropy with the labels.

    .. math::
        \ell_n = (1 - w)\,\ell^{\mathrm{soft}}_n + w\,\ell^{\mathrm{hard}}_n

    with :func:`soft_target_loss` (which holds the factor :math:`T^2`) and :func:`hard_target_loss` (at T = 1).

    Args:
        student_logits: Logits, ``(..., K)``.
        target_log_probs: Teacher's log-probabilities at the same temperature, ``(..., K)``; not used where
            ``hard_weight`` is 1.
        labels: True classes, integers ``(...)``; not needed where ``hard_weight`` is 0.
        temperature: :math:`T > 0`, no unit.
        hard_weight: :math:`w` in [0, 1].
        label_smoothing: Share of the hard term's mass spread over all classes, in [0, 1).

    Returns:
        Nats per example, ``(...)``.

    Raises:
        DataError: If ``hard_weight`` is out of its range, or positive where there are no labels, or one of the terms is
            refused.

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
    _checked(temperature)
    if hard_weight == 0:
        return soft_target_loss(student_logits, target_log_probs, temperature=temperature)
    if labels is None:
        raise DataError(f"hard_weight is {hard_weight}, and these examples have no labels: set hard_weight to 0")
    hard = hard_target_loss(student_logits, labels, label_smoothing=label_smoothing)
    if hard_weight == 1:
        return hard
    soft = soft_target_loss(student_logits, target_log_probs, temperature=temperature)
    return (1 - hard_weight) * soft + hard_weight * hard


def logit_matching_loss(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    r"""Squared distance of zero-mean logits: the limit of :func:`soft_target_loss` for :math:`T \to \infty`.

    .. math::
        \ell_n = \frac{1}{2K} \sum_k \bigl((z_{nk} - \bar z_n) - (v_{nk} - \bar v_n)\bigr)^2

    A class that is ``-inf`` on both sides is left out of means and sum. If it is ``-inf`` on one side only, the loss is
    infinite.

    Args:
        student_logits: Student's logits :math:`z`, ``(..., K)``.
        teacher_logits: Teacher's logits :math:`v`, or log-probabilities at T = 1, ``(..., K)``.

    Returns:
        Squared logits per example, ``(...)``.

    Raises:
        DataError: If the shapes differ, or both sides of an example are ``-inf`` for every class.

    References:
        Hinton, Vinyals and Dean, `Distilling the Knowledge in a Neural Network
        <https://arxiv.org/abs/1503.02531>`_, 2015, section 2.1.

    Example:
        >>> logit_matching_loss(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
        tensor([0.5000])
    """
    _check_shapes(student_logits, teacher_logits)
    z, v = widened(student_logits), widened(teacher_logits)
    kept = (z != -math.inf) | (v != -math.inf)
    empty = ~kept.any(-1)
    if _holds_anywhere(empty):
        raise DataError(f"student and teacher are -inf for every class of {_first_example(empty)}: nothing is left")
    far = kept & ((z == -math.inf) | (v == -math.inf))
    difference = _where(kept & ~far, z) - _where(kept & ~far, v)
    count = kept.sum(-1, keepdim=True)
    centred = _where(kept, difference - difference.sum(-1, keepdim=True) / count)
    loss = centred.square().sum(-1) / (2 * count.squeeze(-1))
    return torch.where(far.any(-1), loss.new_full((), math.inf), loss)
