r"""Reference formulas for gradient checks, written from their definitions, independently of the losses.

Axes: ``N`` examples, ``K`` classes.
"""

__all__ = ["one_hot", "softmax", "softmax_of_others"]

import torch
from torch import Tensor


def softmax(z: Tensor) -> Tensor:
    """Softmax from its definition, independent of the library functions that the losses use.

    Args:
        z: Logits, ``(..., K)``; ``-inf`` for a class without mass.

    Returns:
        Probabilities, ``(..., K)``; all 0 where every logit is ``-inf``.

    Example:
        >>> softmax(torch.tensor([0.0, 0.0]))
        tensor([0.5000, 0.5000])
    """
    largest = z.max(-1, keepdim=True).values
    powers = torch.exp(z - torch.where(largest.isfinite(), largest, 0.0))
    total = powers.sum(-1, keepdim=True)
    return torch.where(total > 0, powers / total, 0.0)


def softmax_of_others(z: Tensor, truth: Tensor) -> Tensor:
    """Softmax over the classes other than the label, 0 at the label.

    Args:
        z: Logits, ``(N, K)``.
        truth: From :func:`one_hot`.

    Returns:
        Probabilities, ``(N, K)``.

    Example:
        >>> softmax_of_others(torch.zeros(1, 3), one_hot(torch.tensor([1]), 3))
        tensor([[0.5000, 0.0000, 0.5000]])
    """
    return softmax(torch.where(truth > 0, -torch.inf, z))


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """1 at each label and 0 elsewhere, ``(N, K)``, on the CPU."""
    return torch.nn.functional.one_hot(labels.cpu(), classes)
