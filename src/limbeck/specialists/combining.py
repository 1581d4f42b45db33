"""One distribution out of a generalist's answers and those of its specialists.

Axes: ``N`` examples, ``K`` classes, ``M`` specialists, ``S`` special classes of one.
"""

__all__ = ["active_specialists", "combine", "divergence"]

from collections.abc import Sequence

import torch
from torch import Tensor

from limbeck.errors import DataError
from limbeck.specialists.groups import checked

_ROWS = 8192
"""Examples that are worked on at a time."""


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
        groups: For each, its special classes in the order of its scores.
        active: Which specialists are asked about which example, bool ``(N, M)``.

    Returns:
        Nats an example, ``(N,)``.

    Example:
        >>> z = torch.tensor([[1.0, 2.0, 3.0]])
        >>> divergence(z, z.log_softmax(-1), [], [], torch.zeros(1, 0, dtype=torch.bool))
        tensor([0.])
    """
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


def combine(
    generalist: Tensor,
    specialists: Sequence[Tensor],
    groups: Sequence[Sequence[int]],
    *,
    top: int = 1,
    tolerance: float = 1e-7,
    max_steps: int = 20_000,
) -> Tensor:
    r"""One distribution out of the generalist's and the specialists': the minimum of the paper's equation 5.

    A specialist is active, :math:`m \in A_n`, where one of the generalist's ``top`` likeliest classes is special to it.
    The sum of divergences (:func:`divergence`) is convex in q, so its minimum is one; it is found for all examples at
    once by

    .. math::
        q_k \leftarrow \frac{1}{1 + |A|} \Bigl( p^g_k + \sum_{m \in A} \Bigl\{
        \begin{aligned}
            & p^m_k & k & \in S^m \\
            & p^m_{dust} \, q_k / \textstyle\sum_{j \notin S^m} q_j & k & \notin S^m
        \end{aligned} \Bigr)

    which never raises the sum, and by going where such steps lead where that is nearer. The gradient with respect to
    the logits is :math:`(1 + |A|)` times the difference that a step makes, so steps end where the largest part of that
    gradient is within the tolerance.

    Args:
        generalist: Log-probabilities :math:`\log p^g`, ``(N, K)``.
        specialists: For each, :math:`\log p^m`, ``(N, S + 1)``, the dustbin last, corrected (:func:`correct_dustbin`).
        groups: For each, its special classes in the order of its scores.
        top: How many of the generalist's likeliest classes decide who is active; the paper has 1.
        tolerance: Largest part of the gradient with respect to the logits that is left.
        max_steps: Steps after which to give up.

    Returns:
        Logits z that are log-probabilities, float32 ``(N, K)``; where no specialist is active, the generalist's.

    Raises:
        DataError: If shapes or groups do not fit, ``top`` is out of range, or the steps do not suffice.

    Example:
        >>> general = torch.tensor([[0.5, 0.4, 0.1]]).log()
        >>> expert = torch.tensor([[0.1, 0.8, 0.1]]).log()  # classes 0 and 1, and the dustbin
        >>> combine(general, [expert], [(0, 1)]).exp()
        tensor([[0.3000, 0.6000, 0.1000]])
    """
    if generalist.ndim != 2:
        raise DataError(
            f"the generalist's answers must be (examples, classes), and have shape {tuple(generalist.shape)}"
        )
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
    member = torch.zeros(len(groups), count, dtype=torch.bool, device=generalist.device)
    for number, group in enumerate(groups):
        member[number, list(group)] = True
    active = active_specialists(generalist, groups, top=top)
    found = generalist.float().clone()
    for start in range(0, examples, _ROWS):
        rows = slice(start, start + _ROWS)
        some = active[rows].any(-1).nonzero().flatten() + start
        if not len(some):
            continue
        p = generalist[some].double().softmax(-1)
        share = active[some].double()
        fixed, dust = p.clone(), torch.zeros_like(share)
        for number, (answers, group) in enumerate(zip(specialists, groups, strict=True)):
            mass = answers[some].double().softmax(-1) * share[:, number, None]
            fixed[:, list(group)] += mass[:, :-1]
            dust[:, number] = mass[:, -1]
        q = _minimum(p, fixed, dust, 1 + share.sum(-1, keepdim=True), (~member).double(), tolerance, max_steps)
        found[some] = q.log().float()
    return found


def active_specialists(generalist: Tensor, groups: Sequence[Sequence[int]], *, top: int = 1) -> Tensor:
    """Which specialists are asked about which example.

    Args:
        generalist: Log-probabilities, ``(N, K)``.
        groups: Special classes of each specialist.
        top: How many of the generalist's likeliest classes count.

    Returns:
        Whether one of these is special to the specialist, bool ``(N, M)``.

    Raises:
        DataError: If ``top`` is out of range.
    """
    count = generalist.shape[-1]
    if not 1 <= top <= count:
        raise DataError(f"top must be from 1 to {count}, the number of classes, and is {top}")
    member = torch.zeros(len(groups), count, dtype=torch.bool, device=generalist.device)
    for number, group in enumerate(groups):
        member[number, list(group)] = True
    likeliest = generalist.topk(top, -1).indices
    return member[:, likeliest].any(-1).T


def _minimum(
    start: Tensor, fixed: Tensor, dust: Tensor, weight: Tensor, outside: Tensor, tolerance: float, max_steps: int
) -> Tensor:
    """Fixed point of the step in :func:`combine`, float64 ``(n, K)``; examples leave as they converge.

    Args:
        start: The generalist's probabilities, ``(n, K)``.
        fixed: Mass that belongs to a class by itself, ``(n, K)``.
        dust: Mass that each specialist gives its dustbin, ``(n, M)``.
        weight: One more than the number of active specialists, ``(n, 1)``.
        outside: 1 where a class is in a specialist's dustbin, ``(M, K)``.
        tolerance: Of the gradient.
        max_steps: After which to give up.

    Returns:
        The minimum, whose rows sum to one.

    Raises:
        DataError: If ``max_steps`` do not suffice.
    """
    tiny = 1e-9  # so that no dustbin is empty at the start
    result = torch.empty_like(start)
    left = torch.arange(len(start), device=start.device)

    def stepped(q: Tensor) -> Tensor:
        return (fixed + q * ((dust / (q @ outside.T).clamp_min(1e-300)) @ outside)) / weight

    q = (1 - tiny) * start + tiny / start.shape[-1]
    moved = stepped(q)
    for _ in range(0, max_steps, 4):
        gradient = (weight * (moved - q)).abs().amax(-1)
        going = gradient > tolerance
        result[left[~going]] = moved[~going]
        left, q, moved, fixed, dust, weight = (part[going] for part in (left, q, moved, fixed, dust, weight))
        if not len(left):
            return result / result.sum(-1, keepdim=True)
        # Steps shrink by a nearly constant factor, in some examples slowly: so two of them tell where they lead
        # (SQUAREM, Varadhan and Roland 2008). A row goes there where its gradient is the smaller for it.
        again = stepped(moved)
        first, bend = moved - q, again - 2 * moved + q
        length = (first.norm(dim=-1, keepdim=True) / bend.norm(dim=-1, keepdim=True).clamp_min(1e-300)).clamp_min(1.0)
        led = q + 2 * length * first + length**2 * bend
        led = torch.where((led > 0).all(-1, keepdim=True), led, again)
        further, beyond = stepped(again), stepped(led)
        nearer = (beyond - led).norm(dim=-1, keepdim=True) < (further - again).norm(dim=-1, keepdim=True)
        q, moved = torch.where(nearer, led, again), torch.where(nearer, beyond, further)
    raise DataError(
        f"{len(left)} of {len(start)} examples did not converge in {max_steps} steps: the gradient is still "
        f"{float(gradient.max()):.2g}; raise max_steps or tolerance"
    )
