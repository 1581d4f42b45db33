r"""Sample size and power: how many examples a claim needs, and what a number of examples can show.

On n examples of which a share r is discordant (exactly one of two models errs), the difference of the two error rates
has a standard error of about :math:`\sqrt{r / n}`. A claim is made in a share :math:`1 - \beta` (the power) of
experiments where :math:`z_{1 - \alpha} + z_{1 - \beta}` standard errors fit into what is to be shown.

These are numbers for one pair of models and independent examples: what trainings add comes on top.
"""

__all__ = ["ASSUMED_DISCORDANT", "examples_needed", "smallest_difference", "smallest_margin"]

import math
from statistics import NormalDist

from limbeck.errors import DataError
from limbeck.options.checks import as_type

ASSUMED_DISCORDANT = 0.05
"""Share of discordant examples that is assumed where nothing is known: 5 %."""


def examples_needed(
    margin: float, *, discordant: float = ASSUMED_DISCORDANT, alpha: float = 0.05, power: float = 0.9
) -> int:
    r"""The number of examples needed to show that an equally good model is so within a margin.

    .. math::
        n = \frac{(z_{1 - \alpha} + z_{1 - \beta})^2 \; r}{m^2}

    The claim is one-sided, so by default :math:`(1.645 + 1.282)^2 = 8.56` times the discordant share over the
    margin's square.

    Args:
        margin: m, as a share of the examples (0.005 is half a point), in (0, 1).
        discordant: r, share of examples on which exactly one of the two models errs, in (0, 1].
        alpha: Chance of the claim where the model is worse by the margin.
        power: Chance of the claim where the model is as good.

    Returns:
        n, rounded up.

    Raises:
        DataError: If an argument is out of its range.

    Example:
        >>> examples_needed(0.005, discordant=0.05)
        17128
    """
    _check(discordant, alpha, power)
    if not 0 < as_type("margin", margin, float) < 1:
        raise DataError(f"a margin must be in (0, 1), as a share of the examples, and is {margin}")
    return math.ceil(_factor(alpha, power) * discordant / margin**2)


def smallest_margin(
    examples: int, *, discordant: float = ASSUMED_DISCORDANT, alpha: float = 0.05, power: float = 0.9
) -> float:
    """The smallest margin within which so many examples can show a model to be as good as another.

    Args:
        examples: n, at least 1.
        discordant: Share of examples on which exactly one of the two models errs, in (0, 1].
        alpha: Chance of the claim where the model is worse by the margin.
        power: Chance of the claim where the model is as good.

    Returns:
        The margin as a share of the examples, the inverse of :func:`examples_needed`.

    Raises:
        DataError: If an argument is out of its range.

    Example:
        >>> round(smallest_margin(10_000, discordant=0.05), 5)
        0.00654
    """
    _check(discordant, alpha, power)
    if as_type("examples", examples, float) < 1:
        raise DataError(f"there must be at least one example, and there are {examples}")
    return math.sqrt(_factor(alpha, power) * discordant / examples)


def smallest_difference(
    examples: int, *, discordant: float = ASSUMED_DISCORDANT, alpha: float = 0.05, power: float = 0.9
) -> float:
    """The smallest difference of two error rates that so many examples can show, in either direction.

    Args:
        examples: n, at least 1.
        discordant: Share of examples on which exactly one of the two models errs, in (0, 1].
        alpha: Chance of the claim where there is no difference, two-sided.
        power: Chance of the claim where there is this difference.

    Returns:
        The difference as a share of the examples.

    Raises:
        DataError: If an argument is out of its range.

    Example:
        >>> round(smallest_difference(10_000, discordant=0.05), 5)
        0.00725
    """
    return smallest_margin(examples, discordant=discordant, alpha=as_type("alpha", alpha, float) / 2, power=power)


def _factor(alpha: float, power: float) -> float:
    quantile = NormalDist().inv_cdf  # not scipy's, whose import takes half a second of every run's end
    return (quantile(1 - alpha) + quantile(power)) ** 2


def _check(discordant: float, alpha: float, power: float) -> None:
    for name, value in (("discordant", discordant), ("alpha", alpha), ("power", power)):
        as_type(name, value, float)
    if not 0 < discordant <= 1:
        raise DataError(f"the share of discordant examples must be in (0, 1], and is {discordant}")
    if not 0 < alpha < power < 1:
        raise DataError(f"alpha and power must be in (0, 1), alpha below power, and are {alpha} and {power}")
