"""Decide: allocate a budget to layers with the least total loss."""

__all__ = ["Curve", "allot"]

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import ConfigError

_SWEEPS = 20


@dataclass(frozen=True, eq=False)
class Curve:
    """The trade-off of a layer: costs and losses.

    Attributes:
        costs: Cost of each choice, rising strictly, integers ``(choices,)``.
        losses: Loss of each choice, falling or level, ``(choices,)``.
    """

    costs: NDArray[np.int64]
    losses: NDArray[np.float64]


def _hull(curve: Curve) -> list[int]:
    """The choices on the lower convex hull, from the cheapest on, as far as the loss falls."""
    costs, losses = curve.costs.tolist(), curve.losses.tolist()
    kept = [0]
    for choice in range(1, len(costs)):
        if losses[choice] >= losses[kept[-1]]:
            continue
        while len(kept) > 1:
            first, last = kept[-2], kept[-1]
            earlier = (losses[first] - losses[last]) / (costs[last] - costs[first])
            later = (losses[last] - losses[choice]) / (costs[choice] - costs[last])
            if later < earlier:
                break
            kept.pop()
        kept.append(choice)
    return kept


def allot(curves: Sequence[Curve], budget: int) -> list[int]:
    r"""One choice for each curve, with the least sum of losses that a budget affords.

    Steps along the curves' convex hulls are taken in the order of loss saved per unit of cost, as long as they fit:
    this solves the Lagrangian relaxation at every multiplier in turn. Where a step does not fit its layer stops there.
    Then two layers at a time choose anew, exactly, from all their choices, until no pair gains. With one or two layers
    the result is the best there is; with more the loss exceeds the least possible by no more than the saving of the
    first step that did not fit, which is small where spectra have some hundred values.

    Args:
        curves: What the layers offer.
        budget: The most that all together may cost.

    Returns:
        The place of the choice on each curve.

    Raises:
        ConfigError: If even the cheapest choices cost more than the budget.

    Example:
        >>> cheap = Curve(np.array([1, 2, 3]), np.array([9.0, 4.0, 0.0]))
        >>> dear = Curve(np.array([10, 20]), np.array([8.0, 0.0]))
        >>> allot([cheap, dear], 13), allot([cheap, dear], 22)
        ([2, 0], [1, 1])
    """
    chosen = [0] * len(curves)
    left = budget - sum(int(curve.costs[0]) for curve in curves)
    if left < 0:
        raise ConfigError(f"the budget of {budget} is below the smallest possible, {budget - left}")
    steps: list[tuple[float, int, int, int]] = []
    for number, curve in enumerate(curves):
        places = _hull(curve)
        for before, after in zip(places, places[1:], strict=False):
            cost = int(curve.costs[after] - curve.costs[before])
            saved = float(curve.losses[before] - curve.losses[after])
            steps.append((-saved / cost, number, after, cost))
    stopped: set[int] = set()
    for _, number, after, cost in sorted(steps):
        if number in stopped:
            continue
        if cost <= left:
            chosen[number], left = after, left - cost
        else:
            stopped.add(number)
    # A curve of nothing, so that one layer alone is a pair too.
    nothing = Curve(np.zeros(1, np.int64), np.zeros(1))
    return _exchange([*curves, nothing], [*chosen, 0], budget)[:-1]


def _exchange(curves: Sequence[Curve], chosen: list[int], budget: int) -> list[int]:
    """Choose anew for two layers at a time, exactly, until no pair gains."""
    cheapest = [np.searchsorted(-curve.losses, -curve.losses) for curve in curves]
    left = budget - sum(int(curve.costs[place]) for curve, place in zip(curves, chosen, strict=True))
    for _ in range(_SWEEPS):
        gained = False
        for i, j in combinations(range(len(curves)), 2):
            one, two, now = curves[i], curves[j], (chosen[i], chosen[j])
            pool = left + int(one.costs[now[0]] + two.costs[now[1]])
            # The losses fall, so beside each choice of the one the dearest of the other that fits is best.
            partner = np.searchsorted(two.costs, pool - one.costs, side="right") - 1
            fits = partner >= 0
            losses = np.where(fits, one.losses + two.losses[partner], np.inf)
            place = int(losses.argmin())
            if losses[place] < (one.losses[now[0]] + two.losses[now[1]]) * (1 - 1e-12):
                chosen[i], chosen[j] = int(cheapest[i][place]), int(cheapest[j][partner[place]])
                left = pool - int(one.costs[chosen[i]] + two.costs[chosen[j]])
                gained = True
        if not gained:
            break
    return chosen
