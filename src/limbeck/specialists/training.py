"""What a specialist learns from, what it starts from, and the bias that has to come out of its answers.

Axes: ``N`` examples, ``S`` special classes.
"""

__all__ = ["SpecialistData", "correct_dustbin", "specialist_data", "specialist_network"]

import copy
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from limbeck.data.examples import Examples
from limbeck.errors import DataError
from limbeck.keyed import permutation
from limbeck.specialists.groups import checked


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


def specialist_data(examples: Examples, special: Sequence[int], *, seed: int = 0) -> SpecialistData:
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

    Returns:
        The examples with their new labels, and the oversampling.

    Raises:
        DataError: If there are no labels, no special class, or no example of some special class or of any other.

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
    labels = lookup[examples.labels]
    counts = torch.bincount(labels, minlength=len(chosen) + 1)
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


def specialist_network(generalist: nn.Module, special: Sequence[int]) -> nn.Module:
    """A network for a specialist that starts with what the generalist knows.

    Its special classes have the generalist's last weights; its dustbin has the mean of all others', and a bias that is
    higher by the logarithm of their number.

    Args:
        generalist: A network that ends in a linear layer: one of Limbeck's, or any ``torch.nn.Sequential``.
        special: The special classes.

    Returns:
        A network with S + 1 scores, with weights of its own.

    Raises:
        DataError: If the generalist does not end in a linear layer with bias, or has no such class.

    Example:
        >>> specialist_network(nn.Sequential(nn.Linear(3, 10)), [2, 7])(torch.zeros(1, 3)).shape
        torch.Size([1, 3])
    """
    network = copy.deepcopy(generalist)
    last = network[-1] if isinstance(network, nn.Sequential) and len(network) else None
    if not isinstance(network, nn.Sequential) or not isinstance(last, nn.Linear) or last.bias is None:
        raise DataError(
            f"a specialist starts from a torch.nn.Sequential that ends in a linear layer with bias, and "
            f"{type(generalist).__name__} does not"
        )
    chosen = checked(special, last.out_features)
    rest = [k for k in range(last.out_features) if k not in set(chosen)]
    if not rest:
        raise DataError("every class is special: there is nothing for the dustbin to stand for")
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        output = nn.Linear(last.in_features, len(chosen) + 1).to(last.weight)
        output.weight.copy_(torch.cat([last.weight[list(chosen)], last.weight[rest].mean(0, keepdim=True)]))
        dustbin = last.bias[rest].mean() + math.log(len(rest))
        output.bias.copy_(torch.cat([last.bias[list(chosen)], dustbin.reshape(1)]))
    network[-1] = output
    config = getattr(network, "config", None)
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        network.config = dataclasses.replace(config, classes=len(chosen) + 1)  # type: ignore[assignment]
    if getattr(network, "classes", None) is not None:
        del network.classes
    return network


def correct_dustbin(scores: Tensor, oversampling: float) -> Tensor:
    r"""A specialist's scores as they would be had it seen examples in their true proportions.

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
    if not 0 < oversampling < math.inf:
        raise DataError(f"oversampling must be positive and finite, and is {oversampling}")
    if scores.shape[-1] < 2:
        raise DataError(f"a specialist scores its special classes and a dustbin, and shape is {tuple(scores.shape)}")
    shift = torch.zeros(scores.shape[-1], dtype=scores.dtype, device=scores.device)
    shift[-1] = math.log(oversampling)
    return torch.log_softmax(scores + shift, -1)
