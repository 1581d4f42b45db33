r"""Fused losses for the training step: value and gradient in one autograd node, for constant targets.

These are fast versions of :mod:`limbeck.losses`: they check no values, and give first-order gradients to the student's
logits only.

Hot temperatures, at which :math:`T^2` would enlarge the rounding of log-probabilities near :math:`-\log K`, have
formulas of their own. With :math:`d = \log p - \log q`, which is of the order of :math:`1 / T`,

.. math::
    T^2 \sum_k p_k\,(d_k + e^{-d_k} - 1), \qquad T\,(q_k - p_k) = T\,p_k\,(e^{-d_k} - 1)

are the same value and gradient without cancellation, since p and q both sum to 1.

Axes: ``N`` examples, ``K`` classes; ``T`` is the temperature, ``w`` the hard weight.
"""

__all__ = ["HOT", "fused_loss", "label_loss", "stacked_loss"]

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from limbeck.protocols import MixedLabels

HOT = 32.0
"""Temperature above which the formulas without cancellation are used."""
_SMALL = 0.1
"""Size of d below which a series replaces the exponential."""
_Work = Callable[[Tensor], tuple[Tensor, Tensor]]


def label_loss(
    logits: Tensor, labels: Tensor, label_smoothing: float = 0.0, mixed: "MixedLabels | None" = None
) -> Tensor:
    """:func:`~limbeck.losses.hard_target_loss` without checks of the labels.

    Args:
        logits: Logits, ``(N, K)``.
        labels: True classes in [0, K), int64 ``(N,)``.
        label_smoothing: Share of the mass spread over all classes.
        mixed: Labels of the mixup partners: the loss is the mean of both losses, weighted by the mixing ratio.

    Returns:
        Nats per example, ``(N,)``.
    """
    own = torch.nn.functional.cross_entropy(logits, labels, reduction="none", label_smoothing=label_smoothing)
    if mixed is None:
        return own
    other = torch.nn.functional.cross_entropy(logits, mixed.labels, reduction="none", label_smoothing=label_smoothing)
    share = mixed.share.to(own.dtype)
    return share * own + (1 - share) * other


def fused_loss(
    logits: Tensor,
    targets: Tensor,
    labels: Tensor | None,
    *,
    temperature: float,
    hard_weight: float = 0.0,
    label_smoothing: float = 0.0,
    targets_at_one: bool = False,
    mixed: "MixedLabels | None" = None,
) -> Tensor:
    """:func:`~limbeck.losses.distillation_loss` with a gradient to the student's logits only.

    Args:
        logits: Student's logits, ``(N, K)``.
        targets: Teacher's log-probabilities at the temperature, ``(N, K)``.
        labels: True classes in [0, K), int64 ``(N,)``; needed where ``hard_weight`` is positive.
        temperature: T > 0.
        hard_weight: w in [0, 1).
        label_smoothing: Share of the hard term's mass spread over all classes.
        targets_at_one: Whether the targets are log-probabilities at T = 1 instead; for temperatures above
            :data:`HOT`, at which softened ones in float32 would have lost the differences between classes.
        mixed: Labels of the mixup partners, as for :func:`label_loss`.

    Returns:
        Nats per example, ``(N,)``.

    Example:
        >>> teacher = torch.tensor([[2.0, 0.0]]).log_softmax(-1)
        >>> fused_loss(torch.tensor([[0.0, 2.0]]), teacher, None, temperature=1e9, targets_at_one=True)
        tensor([2.])
    """

    def work(z: Tensor) -> tuple[Tensor, Tensor]:
        if temperature > HOT:
            value, gradient = _hot(z, targets, temperature, targets_at_one)
        else:
            value, gradient = _plain(z, targets, temperature)
        if hard_weight:
            assert labels is not None, "somebody saw to it"
            _add_hard(value, gradient, z, labels.unsqueeze(-1), mixed, hard_weight, label_smoothing)
        return value, gradient

    found: Tensor = _Fused.apply(logits, work)  # type: ignore[no-untyped-call]
    return found


def stacked_loss(
    logits: Tensor,
    targets: Tensor | None,
    labels: Tensor | None,
    *,
    temperatures: Tensor,
    hard_weights: Tensor,
    label_smoothing: float = 0.0,
) -> Tensor:
    """:func:`fused_loss` and :func:`label_loss` of several networks at once, each with its own settings.

    Args:
        logits: Logits of M networks, ``(M, N, K)``.
        targets: The teacher's log-probabilities at each one's temperature, ``(M, N, K)``; None where all weights are 1.
        labels: True classes in [0, K), int64 ``(M, N)``; None where all weights are 0.
        temperatures: T in (0, 32], ``(M,)``.
        hard_weights: w in [0, 1], ``(M,)``; at 1 the targets do not matter.
        label_smoothing: Share of the hard term's mass spread over all classes.

    Returns:
        Nats per example, ``(M, N)``.

    Example:
        >>> z, y = torch.tensor([[[0.0, 2.0]], [[0.0, 2.0]]]), torch.tensor([[0], [0]])
        >>> soft = torch.tensor([[2.0, 0.0]]).log_softmax(-1).expand(2, 1, 2)
        >>> settings = {"temperatures": torch.ones(2), "hard_weights": torch.tensor([0.0, 1.0])}
        >>> stacked_loss(z, soft, y, **settings)
        tensor([[1.5232],
                [2.1269]])
    """
    t, w = temperatures.view(-1, 1, 1), hard_weights.view(-1, 1, 1)

    def work(z: Tensor) -> tuple[Tensor, Tensor]:
        value, gradient = z.new_zeros(z.shape[:-1]), torch.zeros_like(z)
        if targets is not None:
            log_q, p = torch.log_softmax(z / t, -1), targets.exp()
            # Where the target has no mass, 0 times infinity would be nan.
            value = (targets - log_q).mul_(p).masked_fill_(p == 0, 0.0).sum(-1).mul_(t.squeeze(-1).square())
            gradient = log_q.exp_().mul_(p.sum(-1, keepdim=True)).sub_(p).mul_(t)
            value, gradient = value.mul_(1 - w.squeeze(-1)), gradient.mul_(1 - w)
        if labels is not None:
            log_q, rows = torch.log_softmax(z, -1), labels.unsqueeze(-1)
            hard = log_q.gather(-1, rows).squeeze(-1).mul_(label_smoothing - 1)
            if label_smoothing:
                hard.sub_(log_q.mean(-1), alpha=label_smoothing)
            value.add_(hard.mul_(w.squeeze(-1)))
            slope = log_q.exp_().scatter_add_(-1, rows, z.new_full(rows.shape, label_smoothing - 1))
            if label_smoothing:
                slope.sub_(label_smoothing / z.shape[-1])
            gradient.add_(slope.mul_(w))
        return value, gradient

    found: Tensor = _Fused.apply(logits, work)  # type: ignore[no-untyped-call]
    return found


class _Fused(torch.autograd.Function):
    """A value whose gradient is computed with it, from its formula."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, work: _Work) -> Tensor:
        value, gradient = work(logits)
        ctx.save_for_backward(gradient)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream.unsqueeze(-1), None


def _plain(z: Tensor, targets: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The soft term and its gradient, by their formulas."""
    log_q = torch.log_softmax(z / temperature, -1)
    p = targets.exp()
    # Where the target has no mass, 0 times infinity would be nan.
    value = (targets - log_q).mul_(p).masked_fill_(p == 0, 0.0).sum(-1).mul_(temperature**2)
    # Rounded probabilities sum to 1 only approximately.
    return value, log_q.exp_().mul_(p.sum(-1, keepdim=True) * temperature).sub_(p, alpha=temperature)


def _hot(z: Tensor, targets: Tensor, temperature: float, targets_at_one: bool) -> tuple[Tensor, Tensor]:
    """The soft term and its gradient without cancellation."""
    log_q = _above_even(z, temperature)
    log_p = _above_even(targets, temperature if targets_at_one else 1.0)
    classes = z.shape[-1]
    p, q = log_p.exp() / classes, log_q.exp() / classes
    massive = p > 0
    d = torch.where(massive, log_p - log_q, -math.inf)
    small = d.abs() < _SMALL
    near = torch.where(small, d, 0.0)
    series = (near * temperature).square() * (0.5 - near * (1 / 6 - near * (1 / 24 - near / 120)))
    far = torch.where(massive & ~small, p * d, 0.0) + torch.where(small, 0.0, q - p)
    value = (p * series + far * temperature * temperature).sum(-1)
    gradient = torch.where(d > -1, p * torch.expm1(-d), q - p) * temperature
    return value, gradient


def _above_even(z: Tensor, temperature: float) -> Tensor:
    """How far the log-probabilities of softmax(z / T) are above those of an even distribution, ``(N, K)``."""
    a = (z - z.amax(-1, keepdim=True)) / temperature
    even = a.amin(-1, keepdim=True) > -1
    near = torch.where(even, a, 0.0)
    mean = torch.where(
        even, near.expm1().mean(-1, keepdim=True).log1p(), a.logsumexp(-1, keepdim=True) - math.log(z.shape[-1])
    )
    return a - mean


def _add_hard(
    value: Tensor,
    gradient: Tensor,
    z: Tensor,
    rows: Tensor,
    mixed: "MixedLabels | None",
    weight: float,
    smoothing: float,
) -> None:
    """Weight the soft term and add the cross-entropy with labels, in place."""
    log_q = torch.log_softmax(z, -1)
    sure = weight * (1 - smoothing)
    known = log_q.gather(-1, rows).squeeze(-1)
    if mixed is not None:
        share, others = mixed.share.to(z.dtype), mixed.labels.unsqueeze(-1)
        known = share * known + (1 - share) * log_q.gather(-1, others).squeeze(-1)
    value.mul_(1 - weight).sub_(known, alpha=sure)
    if smoothing:
        value.sub_(log_q.mean(-1), alpha=weight * smoothing)
    gradient.mul_(1 - weight).add_(log_q.exp_(), alpha=weight)
    if mixed is None:
        gradient.scatter_add_(-1, rows, gradient.new_full(rows.shape, -sure))
    else:
        for chosen, part in ((rows, share), (others, 1 - share)):
            gradient.scatter_add_(-1, chosen, part.mul(-sure).to(gradient.dtype).unsqueeze(-1))
    if smoothing:
        gradient.sub_(weight * smoothing / z.shape[-1])
