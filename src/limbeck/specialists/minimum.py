"""The minimum of the paper's equation 5, by an interior-point method.

Axes: ``N`` examples, ``K`` classes, ``M`` specialists.
"""

__all__ = ["minimum"]

import torch
from torch import Tensor

from limbeck.errors import DataError

_FLOOR = 1e-13
"""Less mass than this counts as this much while q is searched for: the sum of divergences changes by about as much."""
_TOLERANCE, _STEPS = 1e-9, 200
_LOWER, _REACH = 0.03, 0.95


def minimum(start: Tensor, own: Tensor, dust: Tensor, outside: Tensor) -> Tensor:
    r"""The distribution nearest to a generalist's and its specialists', for all examples at once.

    With :math:`c_k` the mass that class k was given by itself, :math:`d_m` the mass that specialist m gave to its
    dustbin, and W all of it, the sum of divergences is, but for a constant,

    .. math::
        -\sum_k c_k \log q_k - \sum_m d_m \log s_m, \qquad s_m = \sum_{k \notin S^m} q_k,\quad \sum_k q_k = 1

    which is convex, and least where there are :math:`t, \lambda \ge 0` with

    .. math::
        t_k + \sum_{m: k \notin S^m} \lambda_m = W, \qquad q_k t_k = c_k, \qquad s_m \lambda_m = d_m .

    Both kinds of products begin as one common value, are lowered to their ends, and Newton's method follows. So masses
    that differ by many orders of magnitude, as those of sure networks do, take a few steps more, where descent, or
    steps of expectation and maximisation, need thousands.

    Args:
        start: Where to begin: the generalist's probabilities, float64 ``(N, K)``.
        own: c, float64 ``(N, K)``.
        dust: d, float64 ``(N, M)``; 0 where a specialist is not asked.
        outside: 1 where a class is in a specialist's dustbin, float64 ``(N, M, K)``, or ``(1, M, K)`` where all
            examples have the same specialists.

    Returns:
        q, float64 ``(N, K)``.

    Raises:
        DataError: If the masses hold NaN, or the method fails.

    References:
        Wright, Primal-Dual Interior-Point Methods, SIAM, 1997.
    """
    asked = dust > 0
    weight = own.sum(-1, keepdim=True) + dust.sum(-1, keepdim=True)
    if not bool(weight.isfinite().all()):
        raise DataError("the answers of the generalist or of a specialist hold NaN")
    found = torch.empty_like(start)
    left = torch.arange(len(start), device=start.device)
    on, c, d = asked, own.clamp_min(_FLOOR), dust.clamp_min(_FLOOR) * asked

    # Where no specialist is asked s and lambda are 1 and 0, and stay so.
    out = outside.expand(len(start), -1, -1)
    q = (start + 1 / start.shape[-1]) / 2
    s = torch.where(on, _in_dustbins(q, out), 1.0)
    price = d / s
    price = price * (0.5 * weight / _charged(price, out).amax(-1, keepdim=True).clamp_min(_FLOOR)).clamp(max=1.0)
    t = weight - _charged(price, out)
    target = (q * t).mean(-1, keepdim=True)

    for _ in range(_STEPS):
        short = weight - t - _charged(price, out)
        short = torch.where(short.abs() < 1e-14 * weight, 0.0, short)  # rounding
        apart = torch.where(on, _in_dustbins(q, out) - s, 0.0)
        error = torch.cat([(q * t / c - 1), torch.where(on, s * price / d - 1, 0.0), short, apart / s], -1)
        going = ~(error.abs().amax(-1) <= _TOLERANCE)
        found[left[~going]] = q[~going]
        if not bool(going.any()):
            return _in_proportion(found, own, asked, outside)
        if not bool(going.all()):
            left, on, out, c, d, weight, q, t, s, price, target, short, apart = (
                part[going] for part in (left, on, out, c, d, weight, q, t, s, price, target, short, apart)
            )

        # Newton's step, solved for the change of lambda: as many unknowns as there are specialists.
        share = on.double()
        divisor = torch.where(on, price, 1.0)
        ratio = q / t
        missing = torch.maximum(c, target) - q * t
        missing_dust = torch.where(on, torch.maximum(d, target) - s * price, 0.0)
        normal = share[:, :, None] * ((out * ratio[:, None, :]) @ out.mT) * share[:, None, :]
        normal = normal + torch.diag_embed(s / divisor)
        right = missing_dust / divisor - apart - share * _in_dustbins((missing - q * short) / t, out)
        d_price = torch.cholesky_solve(right[..., None], torch.linalg.cholesky_ex(normal)[0])[..., 0] * share
        d_t = short - _charged(d_price, out)
        d_q = (missing - q * d_t) / t
        d_s = torch.where(on, apart + _in_dustbins(d_q, out), 0.0)

        # As far as all stays positive; the further that is, the more products are lowered.
        bounds = [_furthest(q, d_q), _furthest(t, d_t), _furthest(s, d_s), _furthest(divisor, d_price)]
        length = (_REACH * torch.stack(bounds).amin(0)).clamp(max=1.0)
        q, t, s, price = q + length * d_q, t + length * d_t, s + length * d_s, price + length * d_price
        target = target * torch.where(length > 0.9, _LOWER, torch.where(length > 0.3, 0.3, 1.0))
    raise DataError(f"{len(left)} of {len(start)} examples did not converge in {_STEPS} steps")


def _in_dustbins(of_class: Tensor, outside: Tensor) -> Tensor:
    """The sum over the classes in each specialist's dustbin, ``(n, M)``."""
    return (outside @ of_class[..., None])[..., 0]


def _charged(of_specialist: Tensor, outside: Tensor) -> Tensor:
    """The sum over the specialists in whose dustbin a class is, ``(n, K)``."""
    return (of_specialist[:, None, :] @ outside)[:, 0]


def _furthest(value: Tensor, change: Tensor) -> Tensor:
    """How many such changes keep all of a row at least 0, ``(n, 1)``."""
    return torch.where(change < 0, -value / change, torch.inf).amin(-1, keepdim=True)


def _in_proportion(q: Tensor, own: Tensor, asked: Tensor, outside: Tensor) -> Tensor:
    """The same with mass below the floor in its true proportions, rows summing to one."""
    # Classes that are in the same dustbins have the same t, so their q are as their c. A sum of random numbers tells
    # which dustbins a class is in.
    names = 1 + torch.rand(outside.shape[1], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    key, order = _charged(asked * names.to(q.device), outside.expand(len(q), -1, -1)).sort(-1)
    ranks = torch.cat([torch.zeros_like(order[:, :1]), (key.diff(dim=-1) > 1e-9).cumsum(-1)], -1)
    part = torch.empty_like(order).scatter_(-1, order, ranks)
    low = own < _FLOOR
    mass, total = (torch.zeros_like(q).scatter_add_(-1, part, x * low).gather(-1, part) for x in (q, own))
    q = torch.where(low & (total > 0), mass * own / total.clamp_min(1e-300), q)
    return q / q.sum(-1, keepdim=True)
