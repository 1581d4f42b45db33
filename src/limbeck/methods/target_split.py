r"""Target and non-target classes separated in log space, without masks of large numbers.

Axes: ``N`` examples, ``K`` classes.
"""

__all__ = ["cross_entropy_of_others", "label_and_rest", "others"]

import torch
from torch import Tensor


def label_and_rest(logits: Tensor, labels: Tensor) -> Tensor:
    r"""Log-probabilities of the label and of all other classes together.

    Args:
        logits: Logits, or log-probabilities, ``(N, K)``.
        labels: True classes, int64 ``(N,)``.

    Returns:
        :math:`\log p_y` and :math:`\log(1 - p_y)`, the latter without cancellation, ``(N, 2)``.

    Example:
        >>> label_and_rest(torch.zeros(1, 4), torch.tensor([2])).exp()
        tensor([[0.2500, 0.7500]])
    """
    own = logits.gather(-1, labels.unsqueeze(-1))
    rest = _without(logits, labels).logsumexp(-1, keepdim=True)
    return torch.log_softmax(torch.cat([own, rest], -1), -1)


def others(logits: Tensor, labels: Tensor) -> Tensor:
    """Log-probabilities over the classes other than the label, ``-inf`` at the label.

    Args:
        logits: Logits, or log-probabilities, ``(N, K)``.
        labels: True classes, int64 ``(N,)``.

    Returns:
        Natural logarithms, ``(N, K)``; ``-inf`` throughout where no other class has any mass.

    Example:
        >>> others(torch.zeros(1, 3), torch.tensor([0])).exp()
        tensor([[0.0000, 0.5000, 0.5000]])
    """
    rest = _without(logits, labels)
    empty = (rest == -torch.inf).all(-1, keepdim=True)
    return torch.where(empty, rest, torch.log_softmax(torch.where(empty, 0.0, rest), -1))


def cross_entropy_of_others(logits: Tensor, targets: Tensor, labels: Tensor) -> Tensor:
    r"""Cross-entropy :math:`-\sum_{k \ne y} \hat q_k \log \hat p_k` of the classes other than the label.

    Args:
        logits: Student's logits, divided by their temperature, ``(N, K)``.
        targets: From :func:`others`, of the teacher.
        labels: True classes, int64 ``(N,)``.

    Returns:
        Nats per example, ``(N,)``; 0 where the teacher gives no other class any mass.

    Example:
        >>> truth, zeros = torch.tensor([0]), torch.zeros(1, 3)
        >>> cross_entropy_of_others(zeros, others(zeros, truth), truth)
        tensor([0.6931])
    """
    weights = targets.exp()
    said = torch.where(weights > 0, others(logits, labels), 0.0)
    return -(weights * said).sum(-1)


def _without(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.scatter(-1, labels.unsqueeze(-1), -torch.inf)
