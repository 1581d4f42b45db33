r"""Rows of a store as log-probabilities on a device: what training uses at every step.

The float64 versions in the encodings say what is meant; these are as quick as a look-up should be.

Axes: ``N`` rows, ``K`` classes, ``L`` rungs, ``n`` draws; ``T`` is the temperature.
"""

__all__ = ["decoded", "follow_student", "spread_tail"]

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from limbeck.errors import MismatchError
from limbeck.losses import softened
from limbeck.softtargets.encodings import Encoding
from limbeck.softtargets.sampled import Sampled
from limbeck.softtargets.topk import TopK, tail_weights


def decoded(fields: Mapping[str, Tensor], encoding: Encoding, classes: int, temperature: float) -> Tensor:
    """Log-probabilities out of the fields of some rows.

    Args:
        fields: As the encoding lays them out, ``(N, width)`` each, ids as int32 or int64.
        encoding: Which.
        classes: K.
        temperature: T; 1 where the targets hold for one temperature alone.

    Returns:
        Natural logarithms, float32 ``(N, K)``.

    Raises:
        MismatchError: If the encoding cannot serve the temperature.
    """
    if isinstance(encoding, TopK):
        return spread_tail(
            fields["ids"].long(),
            fields["gaps"].float() if encoding.k > 1 else None,
            fields["tail"].float(),
            encoding.ladder,
            classes,
            temperature,
        )
    if isinstance(encoding, Sampled):
        if temperature != 1:
            raise MismatchError("sampled soft targets serve the temperature that they were drawn at, and no other")
        ids = fields["ids"].long()
        if "log_weights" in fields:
            each = fields["log_weights"].exp()
        else:
            each = torch.full(ids.shape, 1 / encoding.draws, device=ids.device)
        return torch.zeros(len(ids), classes, device=ids.device).scatter_add_(1, ids, each).log_()
    return softened(fields["scores"].float(), temperature)


def spread_tail(
    ids: Tensor, gaps: Tensor | None, tail: Tensor, ladder: Sequence[float], classes: int, temperature: float
) -> Tensor:
    r"""Full log-probabilities out of top-k rows, the tail's mass spread evenly.

    .. math::
        p_j = \frac{\exp(d_j / T)}{Z} \text{ in the head}, \quad p_j = \frac{\exp g(T)}{(K - k)\,Z} \text{ in the tail},
        \quad Z = \sum_{\text{head}} \exp(d_j / T) + \exp g(T)

    Args:
        ids: The head's classes, likeliest first, int64 ``(N, k)``.
        gaps: Scores of all but the first below the first, ``(N, k - 1)``; None where k is 1.
        tail: The tail's log mass relative to the likeliest class, at each rung, ``(N, L)``.
        ladder: Temperatures of the rungs.
        classes: K.
        temperature: T, from the first rung up.

    Returns:
        Natural logarithms, float32 ``(N, K)``.

    Example:
        >>> tail = torch.tensor([[0.3 / 0.7]]).log()
        >>> spread_tail(torch.tensor([[0]]), None, tail, (1.0,), classes=3, temperature=1.0).exp()
        tensor([[0.7000, 0.1500, 0.1500]])
    """
    weights, last = tail_weights(ladder, temperature)
    spread = math.log(classes - ids.shape[1])
    # No matrix product: under autocast it would be rounded to bf16.
    mixed = (tail * torch.as_tensor(weights, dtype=torch.float32, device=tail.device)).sum(1)
    full = (mixed + (last - 1) * spread).unsqueeze(1).expand(-1, classes).contiguous()
    head = torch.zeros(ids.shape, device=tail.device)
    if gaps is not None:
        head[:, 1:] = gaps / temperature
    return torch.log_softmax(full.scatter_(1, ids, head), 1)


def follow_student(targets: Tensor, head: Tensor, student_log_probs: Tensor) -> Tensor:
    r"""Top-k targets whose tail has the student's own proportions, so that only its mass is taught.

    .. math::
        p'_j = p_j \text{ in the head}, \qquad p'_j = P_{\text{tail}}\,\frac{q_j}{\sum_{i \in \text{tail}} q_i}

    The divergence of q from p' and its gradient, p' held fixed, are those over k + 1 classes, the last of which stands
    for the tail.

    Args:
        targets: Log-probabilities with the tail's mass spread in any way, ``(N, K)``.
        head: The head's classes, int64 ``(N, k)``.
        student_log_probs: :math:`\log q`, at the same temperature, ``(N, K)``.

    Returns:
        Natural logarithms, without gradient, ``(N, K)``.

    Example:
        >>> targets, student = torch.tensor([[0.6, 0.2, 0.2]]).log(), torch.tensor([[0.5, 0.4, 0.1]]).log()
        >>> follow_student(targets, torch.tensor([[0]]), student).exp()
        tensor([[0.6000, 0.3200, 0.0800]])
    """
    student = student_log_probs.detach()
    mass = targets.scatter(1, head, -math.inf).logsumexp(1, keepdim=True)
    tail = student.scatter(1, head, -math.inf)
    full = tail - tail.logsumexp(1, keepdim=True) + mass
    return full.scatter(1, head, targets.gather(1, head))
