"""Combination of a generalist's and its specialists' distributions.

Axes: ``N`` examples, ``K`` classes, ``M`` specialists, ``S`` special classes of one.
"""

__all__ = ["active_specialists", "combine", "divergence"]

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from limbeck.arguments import checked_arguments
from limbeck.errors import DataError
from limbeck.models.output_kind import require_log_probs
from limbeck.specialists.groups import checked, require_scores
from limbeck.specialists.minimum import minimum
from limbeck.system.devices import has_float64

_ROWS, _NUMBERS = 8192, 1 << 22
"""Examples that are worked on at a time, at most; fewer where there are many specialists and classes."""


@checked_arguments
def divergence(
    logits: Tensor,
    generalist: Tensor,
    specialists: Sequence[Tensor],
    groups: Sequence[Sequence[int]],
    active: Tensor,
) -> Tensor:
    r"""What :func:`combine` minimises: the paper's equation 5.

    .. math::
        \ell_n = \mathrm{KL}(p^g_n \,\|\, q_n) + \sum_{m \in A_n} \mathrm{KL}(p^m_n \,\|\, q_n), \qquad
        q_n = \mathrm{softmax}(z_n)

    where, against a specialist, q's dustbin is the sum of q over all classes that are not special to it.

    Args:
        logits: z, ``(N, K)``.
        generalist: Log-probabilities :math:`\log p^g`, ``(N, K)``.
        specialists: For each, :math:`\log p^m`, ``(N, S + 1)``, the dustbin last.
        groups: For each, its special classes in the order of its logits.
        active: Which specialists are asked about which example, bool ``(N, M)``.

    Returns:
        Nats per example, ``(N,)``.

    Example:
        >>> z = torch.tensor([[1.0, 2.0, 3.0]])
        >>> divergence(z, z.log_softmax(-1), [], [], torch.zeros(1, 0, dtype=torch.bool))
        tensor([0.])
    """
    for what, values in (("logits", logits), ("generalist", generalist)):
        require_scores(what, values)
    log_q = torch.log_softmax(logits, -1)
    total = _kl(generalist, log_q)
    for number, (answers, group) in enumerate(zip(specialists, groups, strict=True)):
        rest = torch.ones(log_q.shape[-1], dtype=torch.bool, device=log_q.device)
        rest[list(group)] = False
        seen = torch.cat([log_q[:, list(group)], torch.logsumexp(log_q[:, rest], -1, keepdim=True)], -1)
        total = total + active[:, number] * _kl(answers, seen)
    return total


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    p = log_p.exp()
    return torch.where(p > 0, p * (log_p - log_q), 0.0).sum(-1)


@checked_arguments
def combine(
    generalist: Tensor,
    specialists: Sequence[Tensor],
    groups: Sequence[Sequence[int]],
    *,
    top: int = 1,
) -> Tensor:
    r"""One distribution out of the generalist's and the specialists': the minimum of the paper's equation 5.

    A specialist is active, :math:`m \in A_n`, where one of the generalist's ``top`` top-1 classes is special to it.
    The sum of divergences (:func:`divergence`) is convex in q; its minimum is found for all examples at once, in
    float64: the sum is within 1e-10 of the least, also where networks are so sure that masses differ by a hundred
    orders of magnitude (:mod:`limbeck.specialists.minimum`).

    Args:
        generalist: Log-probabilities :math:`\log p^g`, ``(N, K)``.
        specialists: For each, :math:`\log p^m`, ``(N, S + 1)``, the dustbin last, corrected (:func:`correct_dustbin`).
        groups: For each, its special classes in the order of its logits.
        top: How many of the generalist's top-1 classes decide who is active; the paper has 1.

    Returns:
        Logits z that are log-probabilities, float32 ``(N, K)``; where no specialist is active, the generalist's.

    Raises:
        DataError: If shapes or groups do not fit, ``top`` is out of range, or answers hold NaN or are not
            log-probabilities.

    Example:
        >>> general = torch.tensor([[0.5, 0.4, 0.1]]).log()
        >>> expert = torch.tensor([[0.1, 0.8, 0.1]]).log()  # classes 0 and 1, and the dustbin
        >>> combine(general, [expert], [(0, 1)]).exp()
        tensor([[0.3000, 0.6000, 0.1000]])
    """
    require_scores("the generalist's answers", generalist)
    examples, count = generalist.shape
    if len(specialists) != len(groups):
        raise DataError(f"there are {len(specialists)} specialists and {len(groups)} groups")
    for answers, group in zip(specialists, groups, strict=True):
        if len(checked(group, count)) >= count:
            raise DataError(f"group {list(group)} holds every class: nothing is left for the dustbin")
        if answers.shape != (examples, len(group) + 1):
            raise DataError(
                f"a specialist for {len(group)} classes must answer ({examples}, {len(group) + 1}), and has shape "
                f"{tuple(answers.shape)}"
            )
    require_log_probs(generalist, what="the generalist's answers")
    for number, answers in enumerate(specialists):
        require_log_probs(answers, what=f"the answers of specialist {number + 1}")
    if generalist.device.type != "cpu" and not has_float64(generalist.device):
        return combine(generalist.cpu(), [answers.cpu() for answers in specialists], groups, top=top).to(generalist)
    member = _members(groups, generalist)
    active = active_specialists(generalist, groups, top=top)
    found = generalist.float().clone()
    for rows, chosen in _asked_together(active):
        # Classes that are special to the same specialists are alike to all of them: first their sum is found.
        cells, of_class = torch.unique(member[chosen].T, dim=0, return_inverse=True)
        size = torch.bincount(of_class).double()
        step = max(1, min(_ROWS, _NUMBERS // (2 * count + len(chosen) * len(cells))))
        for first in range(0, len(rows), step):
            some = rows[first : first + step]
            p = generalist[some].double().softmax(-1)
            own, dust = p.clone(), p.new_empty(len(some), len(chosen))
            for column, number in enumerate(chosen):
                mass = specialists[number][some].double().softmax(-1)
                own[:, list(groups[number])] += mass[:, :-1]
                dust[:, column] = mass[:, -1]
            start, total = (p.new_zeros(len(some), len(cells)).index_add_(1, of_class, each) for each in (p, own))
            q = minimum(start, total, dust, (~cells.T).double())
            part = torch.where(total[:, of_class] > 0, own / total[:, of_class], 1 / size[of_class])
            found[some] = (q[:, of_class] * part).log().float()
    return found


def _asked_together(active: Tensor) -> Iterator[tuple[Tensor, list[int]]]:
    """The rows of the examples of which the same specialists are asked, and which these are; none where none is."""
    asked = active.any(-1).nonzero().flatten()
    if not len(asked):
        return
    patterns, of_row = torch.unique(active[asked], dim=0, return_inverse=True)
    rows = asked[of_row.argsort(stable=True)].split_with_sizes(torch.bincount(of_row).tolist())
    for some, pattern in zip(rows, patterns, strict=True):
        yield some, pattern.nonzero().flatten().tolist()


@checked_arguments
def active_specialists(generalist: Tensor, groups: Sequence[Sequence[int]], *, top: int = 1) -> Tensor:
    """Which specialists are asked about which example.

    Args:
        generalist: Log-probabilities, ``(N, K)``.
        groups: Special classes of each specialist.
        top: How many of the generalist's top-1 classes count.

    Returns:
        Whether one of these is special to the specialist, bool ``(N, M)``.

    Raises:
        DataError: If ``top`` is out of range, or groups name a class that there is not.
    """
    require_scores("the generalist's answers", generalist)
    count = generalist.shape[-1]
    if not 1 <= top <= count:
        raise DataError(f"top must be from 1 to {count}, the number of classes, and is {top}")
    likeliest = generalist.topk(top, -1).indices
    return _members(groups, generalist)[:, likeliest].any(-1).T


def _members(groups: Sequence[Sequence[int]], generalist: Tensor) -> Tensor:
    """Whether a class is special to a specialist, bool ``(M, K)``."""
    member = torch.zeros(len(groups), generalist.shape[-1], dtype=torch.bool, device=generalist.device)
    for number, group in enumerate(groups):
        member[number, list(group)] = True
    return member
