"""Groups of classes that a generalist confuses.

Axes: ``N`` examples, ``K`` classes.
"""

__all__ = ["checked", "confusable_groups", "known_classes", "require_others", "require_scores"]

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from limbeck.arguments import checked_arguments
from limbeck.errors import DataError
from limbeck.models import count_outputs
from limbeck.models.output_kind import require_log_probs
from limbeck.models.wrapped import unwrapped
from limbeck.options.checks import class_number

_PASSES, _STARTS, _ROWS = 20, 8, 8192
_RAREST = 0.01
"""A class that is predicted more rarely than this share of an even part counts no more than that."""


@checked_arguments
def confusable_groups(
    log_probs: Tensor, groups: int, *, size: int | None = None, seed: int = 0
) -> list[tuple[int, ...]]:
    r"""Groups of classes that a generalist often predicts together.

    The columns of the covariance matrix of its predictions,

    .. math::
        C = \sum_n w_n (p_n - \bar p)(p_n - \bar p)^\top,\quad
        \bar p = \sum_n w_n p_n,\quad w_n \propto \sum_k p_{nk} \Big/ \sum_m p_{mk},

    are clustered by on-line k-means: they come one by one, in another order on each pass, and the nearest centre
    :math:`c` moves towards each column :math:`x` by :math:`(x - c) / n_c`, where :math:`n_c` counts what the centre has
    had. The best of several starts is kept.

    Two things keep classes that are rare in the data from being near every centre, where the paper has thousands of
    classes and need not care: the weights :math:`w_n` let each class count alike, as frequent classes are less together
    with each other (:math:`-\bar p_i \bar p_j` where nothing is confused) than with rare ones; and each column is
    brought to length 1, as its length is mostly the class's own variance.

    Args:
        log_probs: Natural logarithms of the generalist's probabilities, ``(N, K)``.
        groups: How many groups, from 1 to K.
        size: Classes in each group, so that groups may overlap and classes be left out: of those whose nearest centre
            it is the nearest, then the ones most often predicted together with them for how often they are predicted
            at all. None for each class in the group of its nearest centre.
        seed: Seed of starts and orders.

    Returns:
        Classes of each group in rising order; no group is empty or given twice, so there may be fewer than asked for.

    Raises:
        DataError: If a number is out of range, there are no predictions, or they are not log-probabilities.

    Example:
        >>> sure = torch.tensor([[0.5, 0.5, 0.0], [0.4, 0.6, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
        >>> confusable_groups(sure.log(), 2)
        [(0, 1), (2,)]
    """
    require_scores("log_probs", log_probs)
    if len(log_probs) < 2:
        raise DataError(
            f"predictions must be (examples, classes), two at least, and have shape {tuple(log_probs.shape)}"
        )
    count = log_probs.shape[1]
    if not 1 <= groups <= count:
        raise DataError(f"groups must be from 1 to {count}, the number of classes, and is {groups}")
    if size is not None and not 1 <= size <= count:
        raise DataError(f"size must be from 1 to {count}, the number of classes, and is {size}")
    require_log_probs(log_probs, what="predictions")
    covariance, mean = _covariance(log_probs)
    columns = nn.functional.normalize(covariance, dim=1)  # it is symmetric
    if not bool(columns.isfinite().all()):
        raise DataError("predictions hold NaN: the generalist is broken")
    best: tuple[float, Tensor] | None = None
    for start in range(_STARTS):
        centres = _online_means(columns, groups, torch.Generator().manual_seed(seed * _STARTS + start))
        loss = float(torch.cdist(columns, centres).min(1).values.square().sum())
        if best is None or loss < best[0]:
            best = (loss, centres)
    assert best is not None
    distances = torch.cdist(columns, best[1])
    nearest = distances.argmin(1)
    found = []
    for number in range(groups):
        own = (nearest == number).nonzero().flatten()
        if size is not None and len(own):
            own = own[distances[own, number].argsort(stable=True)][:size]
            together = covariance[own].sum(0) / mean.clamp(min=_RAREST / count)
            together[own] = -torch.inf
            own = torch.cat([own, together.argsort(descending=True, stable=True)[: size - len(own)]])
        found.append(tuple(sorted(own.tolist())))
    return sorted({group for group in found if group})


def _covariance(log_probs: Tensor) -> tuple[Tensor, Tensor]:
    """Covariance ``(K, K)`` and mean ``(K,)`` of the probabilities where each class counts alike, in float64."""
    count = log_probs.shape[1]
    mean = sum((p.sum(0) for p in _probabilities(log_probs)), torch.zeros(count, dtype=torch.float64)) / len(log_probs)
    floor = _RAREST / count
    total, weight = torch.zeros(count, dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    products = torch.zeros(count, count, dtype=torch.float64)
    for p in _probabilities(log_probs):
        weights = (p / mean.clamp(min=floor)).sum(1)
        weight += weights.sum()
        total += weights @ p
        products += (p * weights[:, None]).T @ p
    mean = total / weight
    return products / weight - torch.outer(mean, mean), mean


def _probabilities(log_probs: Tensor) -> Iterator[Tensor]:
    starts = range(0, len(log_probs), _ROWS)
    return (log_probs[start : start + _ROWS].detach().cpu().double().exp() for start in starts)


def _online_means(columns: Tensor, groups: int, generator: torch.Generator) -> Tensor:
    """Centres ``(groups, K)`` of on-line k-means, started far apart."""
    first = int(torch.randint(len(columns), (1,), generator=generator))
    chosen = [first]
    while len(chosen) < groups:  # the next with a chance that grows with the squared distance (k-means++)
        apart = torch.cdist(columns, columns[chosen]).min(1).values.square()
        apart[chosen] = 0
        weights = apart if float(apart.sum()) > 0 else torch.ones_like(apart).index_fill_(0, torch.tensor(chosen), 0)
        chosen.append(int(torch.multinomial(weights, 1, generator=generator)))
    centres, seen = columns[chosen].clone(), torch.ones(groups)
    for _ in range(_PASSES):
        for row in torch.randperm(len(columns), generator=generator).tolist():
            nearest = int((centres - columns[row]).square().sum(1).argmin())
            seen[nearest] += 1
            centres[nearest] += (columns[row] - centres[nearest]) / seen[nearest]
    return centres


def require_scores(what: str, values: Tensor) -> None:
    """Refuse what is not one row of floating-point numbers per example.

    Args:
        what: What to call it in the message.
        values: Log-probabilities or logits, ``(N, K)``.

    Raises:
        DataError: If it is not.
    """
    if values.ndim != 2 or not values.is_floating_point():
        raise DataError(
            f"{what} must be floating-point numbers (examples, classes), and are {values.dtype} of shape "
            f"{tuple(values.shape)}"
        )


def checked(special: Sequence[int], count: int | None) -> tuple[int, ...]:
    """Special classes in rising order, if they are different and there are such."""
    chosen = tuple(sorted({class_number(k) for k in special}))
    if not chosen or len(chosen) != len(special):
        raise DataError(f"special classes must be different, one at least, and are {list(special)}")
    if chosen[0] < 0 or (count is not None and chosen[-1] >= count):
        raise DataError(f"special classes {list(special)} must be from 0{'' if count is None else f' to {count - 1}'}")
    return chosen


def known_classes(generalist: nn.Module) -> int | None:
    """The number of a generalist's classes; None where it has to be asked, as with a single logit for two."""
    count = count_outputs(unwrapped(generalist))
    return None if count == 1 else count


def require_others(group: Sequence[int], count: int) -> None:
    """Refuse a group of all classes."""
    if len(group) >= count:
        raise DataError(f"group {list(group)} holds every class: nothing is left for the dustbin")
