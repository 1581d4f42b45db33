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
from limbeck.specialists.groups import checked, require_others, require_scores
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

    Raises:
        DataError: If shapes or groups do not fit.

    Example:
        >>> z = torch.tensor([[1.0, 2.0, 3.0]])
        >>> divergence(z, z.log_softmax(-1), [], [], torch.zeros(1, 0, dtype=torch.bool))
        tensor([0.])
    """
    for what, values in (("logits", logits), ("generalist", generalist)):
        require_scores(what, values)
    _require_answers(generalist, specialists, groups)
    if logits.shape != generalist.shape or active.shape != (len(generalist), len(groups)):
        raise DataError(
            f"logits of shape {tuple(logits.shape)} and active of shape {tuple(active.shape)} do not fit the "
            f"generalist's answers, {tuple(generalist.shape)}, and {len(groups)} specialists"
        )
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
    _require_answers(generalist, specialists, groups)
    count = generalist.shape[1]
    require_log_probs(generalist, what="the generalist's answers")
    for number, answers in enumerate(specialists):
        require_log_probs(answers, what=f"the answers of specialist {number + 1}")
    if generalist.device.type != "cpu" and not has_float64(generalist.device):
        return combine(generalist.cpu(), [answers.cpu() for answers in specialists], groups, top=top).to(generalist)
    member = _members(groups, generalist)
    active = active_specialists(generalist, groups, top=top)
    found = generalist.float().clone()
    asked = active.any(-1).nonzero().flatten()
    for rows in torch.split(asked, max(1, min(_ROWS, _NUMBERS // (2 * count + len(groups))))):
        if not len(rows):
            break
        p = generalist[rows].double().softmax(-1)
        own, dust = _masses(p, specialists, groups, active, rows)
        for some, chosen, of_class, outside in _alike(active[rows], member):
            # Classes that are special to the same specialists are alike to all of them: first their sum is found.
            start, total = (
                p.new_zeros(len(some), outside.shape[-1]).scatter_add_(1, of_class, each[some]) for each in (p, own)
            )
            q = minimum(start, total, dust[some].gather(1, chosen), outside)
            size = torch.zeros_like(q).scatter_add_(1, of_class, torch.ones_like(own[some]))
            whole = total.gather(1, of_class)
            part = torch.where(whole > 0, own[some] / whole, 1 / size.gather(1, of_class))
            found[rows[some]] = (q.gather(1, of_class) * part).log().float()
    return found


def _require_answers(generalist: Tensor, specialists: Sequence[Tensor], groups: Sequence[Sequence[int]]) -> None:
    """Refuse answers and groups that do not fit each other."""
    examples, count = generalist.shape
    if len(specialists) != len(groups):
        raise DataError(f"there are {len(specialists)} specialists and {len(groups)} groups")
    for answers, group in zip(specialists, groups, strict=True):
        require_others(checked(group, count), count)
        if answers.shape != (examples, len(group) + 1):
            raise DataError(
                f"a specialist for {len(group)} classes must answer ({examples}, {len(group) + 1}), and has shape "
                f"{tuple(answers.shape)}"
            )


def _masses(
    p: Tensor, specialists: Sequence[Tensor], groups: Sequence[Sequence[int]], active: Tensor, rows: Tensor
) -> tuple[Tensor, Tensor]:
    """What each class and each dustbin was given by those that are asked, float64 ``(n, K)`` and ``(n, M)``."""
    own, dust = p.clone(), p.new_zeros(len(p), len(groups))
    for number, group in enumerate(groups):
        some = active[rows, number].nonzero().flatten()
        if len(some):
            mass = specialists[number][rows[some]].double().softmax(-1)
            own[some[:, None], torch.tensor(group, device=p.device)] += mass[:, :-1]
            dust[some, number] = mass[:, -1]
    return own, dust


def _alike(active: Tensor, member: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """The examples, put together where as many specialists are asked that divide the classes into as many cells.

    A cell is the classes that are special to the same of the specialists that are asked.

    Args:
        active: Which specialists are asked, bool ``(n, M)``.
        member: Which classes are special to a specialist, bool ``(M, K)``.

    Yields:
        Places of the examples, ``(r,)``; which specialists each asks, ``(r, m)``; the cell of each class, ``(r, K)``;
        and whether a cell is in a specialist's dustbin, float64 ``(r, m, C)``, or ``(1, m, C)`` where all ask the same.
    """
    patterns, of_row = torch.unique(active, dim=0, return_inverse=True)
    asked = patterns.sum(-1)
    for asks in torch.unique(asked).tolist():
        numbers = (asked == asks).nonzero().flatten()
        who = patterns[numbers].nonzero()[:, 1].view(-1, asks)
        of_class = _cells(member, who)
        sizes = of_class.amax(-1) + 1
        for size in torch.unique(sizes).tolist():
            here = (sizes == size).nonzero().flatten()
            place = torch.full_like(asked, -1)
            place[numbers[here]] = torch.arange(len(here), device=place.device)
            cells = of_class[here, None].expand(-1, asks, -1)
            outside = torch.zeros(len(here), asks, size, dtype=torch.bool, device=place.device)
            outside.scatter_(2, cells, ~member[who[here]])
            of_all = (place[of_row] >= 0).nonzero().flatten()
            for some in torch.split(of_all, max(1, _NUMBERS // (asks * size))):
                which = place[of_row[some]]
                seen = (outside if len(here) == 1 else outside[which]).double()
                yield some, who[here][which], of_class[here][which], seen


def _cells(member: Tensor, who: Tensor) -> Tensor:
    """Numbers the cells into which some specialists divide the classes, from 0, int64 ``(P, K)`` of ``(P, m)``."""
    # Each specialist has a number of 63 random bits: sums of different ones are never equal but by a chance of 2^-63.
    names = torch.randint(1 << 62, (len(member),), generator=torch.Generator().manual_seed(0)).to(member.device)
    key = torch.zeros(len(who), member.shape[1], dtype=torch.int64, device=member.device)
    for column in who.T:
        key += names[column, None] * member[column]
    ordered, order = key.sort(-1)
    ranks = torch.cat([torch.zeros_like(key[:, :1]), (ordered[:, 1:] != ordered[:, :-1]).cumsum(-1)], -1)
    return torch.empty_like(key).scatter_(-1, order, ranks)


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
        member[number, list(checked(group, generalist.shape[-1]))] = True
    return member
