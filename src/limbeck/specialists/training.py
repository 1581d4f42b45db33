"""Training of specialists: examples, initial weights, and bias correction.

Axes: ``N`` examples, ``S`` special classes.
"""

__all__ = ["SpecialistData", "checked_oversampling", "correct_dustbin", "specialist_data", "specialist_network"]

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from limbeck.arguments import checked_arguments
from limbeck.data.examples import Examples
from limbeck.errors import DataError
from limbeck.keyed import permutation
from limbeck.models import Specialist
from limbeck.models.class_names import named_classes
from limbeck.models.copying import copy_module
from limbeck.models.output_kind import looks_like_probabilities
from limbeck.specialists.groups import checked, known_classes, require_others
from limbeck.system.callbacks import warn_user


@dataclass(frozen=True, eq=False)
class SpecialistData:
    """What a specialist learns from.

    Attributes:
        examples: Half of special classes, labelled 0 to S - 1; half of all others, labelled S, the dustbin.
        special: The special classes, in rising order.
        oversampling: How many times as likely a special example was to be taken as another; for
            :func:`correct_dustbin`.
    """

    examples: Examples
    special: tuple[int, ...]
    oversampling: float


@checked_arguments
def specialist_data(
    examples: Examples, special: Sequence[int], *, seed: int = 0, allow_missing: bool = False
) -> SpecialistData:
    r"""A specialist's training set: half special examples, half a random sample of the rest.

    With :math:`N_s` special and :math:`N_r` other examples, :math:`n = \min(N_s, N_r)` are taken of each. A special
    example is then

    .. math::
        o = \frac{n / N_s}{n / N_r} = \frac{N_r}{N_s}

    times as likely to be taken as another.

    Args:
        examples: Labelled examples of all classes; they keep their numbers.
        special: The special classes.
        seed: Seed of the sample.
        allow_missing: Whether some special classes may have no example, as in a small validation set.

    Returns:
        The examples with their new labels, and the oversampling.

    Raises:
        DataError: If there are no labels, no special class, no example of a special class or of any other, or, without
            ``allow_missing``, none of some special class.

    Example:
        >>> some = Examples.of(torch.zeros(12, 2), torch.arange(12) % 6)
        >>> data = specialist_data(some, [4, 1])
        >>> data.special, data.examples.labels.bincount().tolist(), data.oversampling
        ((1, 4), [2, 2, 4], 2.0)
    """
    if examples.labels is None:
        raise DataError("a specialist's examples need labels")
    chosen = checked(special, None)
    lookup = torch.full((max(int(examples.labels.max()), *chosen) + 1,), len(chosen), dtype=torch.int64)
    lookup[list(chosen)] = torch.arange(len(chosen))
    labels = lookup[examples.labels.long()]
    counts = torch.bincount(labels, minlength=len(chosen) + 1)
    if allow_missing and int(counts[:-1].sum()) and int(counts[-1]):
        counts = counts.clamp_min(1)
    if bool((counts == 0).any()):
        missing = int((counts == 0).nonzero()[0])
        raise DataError(
            "there is no example outside the special classes"
            if missing == len(chosen)
            else f"there is no example of the special class {chosen[missing]}"
        )
    inside = labels < len(chosen)
    take = int(min(inside.sum(), (~inside).sum()))
    rows = []
    for number, pool in enumerate((inside.nonzero().flatten(), (~inside).nonzero().flatten())):
        rows.append(pool[permutation(len(pool), seed=seed, epoch=number)[:take]])
    kept = torch.cat(rows).sort().values
    found = examples.take(kept)
    sample = Examples(found.inputs, labels[kept], found.index)
    return SpecialistData(sample, chosen, float((~inside).sum()) / float(inside.sum()))


@checked_arguments
def specialist_network(generalist: nn.Module, special: Sequence[int], *, oversampling: float = 1.0) -> Specialist:
    r"""A network for a specialist, initialised from the generalist.

    Its dustbin is the sum of the generalist's other classes (:class:`~limbeck.models.Specialist`) with the odds against
    it that its examples have, :math:`b = -\log o`. So it starts as good as the generalist: what
    :func:`correct_dustbin` makes of its first answers are the generalist's. A dustbin of one unit would have to learn
    first what the generalist knows of each of its classes.

    Args:
        generalist: Any network that gives logits ``(N, K)``.
        special: The special classes.
        oversampling: :math:`o > 0`, as :class:`SpecialistData` has it.

    Returns:
        A network with S + 1 logits, the special classes' in ascending order, with its own weights.

    Raises:
        DataError: If special classes are not different classes of the generalist, with others left for the dustbin, or
            ``oversampling`` is not positive and finite.

    Example:
        >>> generalist, x = nn.Linear(3, 10), torch.rand(5, 3)
        >>> before = generalist(x).softmax(-1)[:, [2, 7]]
        >>> after = correct_dustbin(specialist_network(generalist, [2, 7], oversampling=4.0)(x), 4.0).exp()[:, :2]
        >>> torch.allclose(before, after)
        True
    """
    network = copy_module(generalist)
    if named_classes(network) is not None:
        del network.classes  # names of its scores, which the specialist's are not
    count = known_classes(generalist)
    chosen = checked(special, count)
    if count is not None:
        require_others(chosen, count)
    return Specialist(network, chosen, bias=-math.log(checked_oversampling(oversampling)))


@checked_arguments
def correct_dustbin(scores: Tensor, oversampling: float) -> Tensor:
    r"""Correct a specialist's logits for its training proportions.

    It saw special examples :math:`o` times as often, relative to the others, as they are. By Bayes' rule the odds of
    the dustbin are too low by that factor, and its logit by its logarithm:

    .. math::
        z'_{S} = z_{S} + \log o

    Args:
        scores: Logits or log-probabilities, the dustbin's last, ``(..., S + 1)``.
        oversampling: :math:`o > 0`, as :class:`SpecialistData` has it.

    Returns:
        Log-probabilities, ``(..., S + 1)``.

    Raises:
        DataError: If ``oversampling`` is not positive and finite, or there is no special class.

    Example:
        >>> correct_dustbin(torch.tensor([0.0, 0.0]), 3.0).exp()
        tensor([0.2500, 0.7500])
    """
    checked_oversampling(oversampling)
    if not scores.is_floating_point() or not scores.ndim:
        raise DataError(f"scores must be floating-point numbers, and are {scores.dtype} of shape {tuple(scores.shape)}")
    if scores.shape[-1] < 2:
        raise DataError(
            f"a specialist has a logit per special class and one for the dustbin, and shape is {tuple(scores.shape)}"
        )
    if looks_like_probabilities(scores.detach()):
        warn_user(
            "the scores of a specialist look like probabilities (at least 0, summing to one), and logits or "
            "log-probabilities are needed: take their logarithm"
        )
    shift = torch.zeros(scores.shape[-1], dtype=scores.dtype, device=scores.device)
    shift[-1] = math.log(oversampling)
    return torch.log_softmax(scores + shift, -1)


def checked_oversampling(value: float) -> float:
    """Check an oversampling.

    Args:
        value: How many times as often special examples were taken.

    Returns:
        The same.

    Raises:
        DataError: If it is not positive and finite.
    """
    if not 0 < value < math.inf:
        raise DataError(f"oversampling must be positive and finite, and is {value}")
    return value
