"""Look: the loss from removing units of each group, measured on calibration examples."""

__all__ = ["GroupLosses", "UnitLosses", "divergence_of", "look_at_units"]

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from limbeck.errors import ConfigError, DataError
from limbeck.inputs import Inputs, count_of, in_blocks, mapped, move
from limbeck.lowrank.layers import find_layers, model_digest, model_size
from limbeck.lowrank.moments import count_positions
from limbeck.models.calling import autograd_enabled, call_model, evaluating
from limbeck.models.copying import copy_module
from limbeck.pruning.act import measure_readers, readers_of, without_units, zeroed
from limbeck.pruning.elimination import Reader, removal_order
from limbeck.pruning.groups import Group, find_groups
from limbeck.system.devices import widest

_MEASURED = (0.125, 0.25, 0.5, 0.75, 0.875, 1.0)
"""Shares of the units, all but one, after which the divergence is measured; between them it is interpolated."""
_EXAMPLES, _TOGETHER = 512, 128
_TEMPERATURE = 4.0
_CLOSE = 1e-3


@dataclass(frozen=True, eq=False)
class GroupLosses:
    """What was seen of one group.

    Attributes:
        group: The group.
        order: The units in the order in which they go, all but one.
        losses: The divergence when the first k are out, from 0, rising, ``(U,)``: of this group alone.
    """

    group: Group
    order: tuple[int, ...]
    losses: NDArray[np.float64]

    def kept(self, count: int) -> tuple[int, ...]:
        """The units that stay where so many do."""
        gone = set(self.order[: self.group.units - count])
        return tuple(unit for unit in range(self.group.units) if unit not in gone)


@dataclass(frozen=True, eq=False)
class UnitLosses:
    """What was seen of a network.

    Attributes:
        model_digest: SHA-256 of the network.
        groups: All groups of units; those that stay whole say why.
        seen: Those that can lose units.
        tensors: Shape, bytes of a number, and whether it is a parameter, of all that the network saves.
        positions: Applications of linear layers and convolutions per example, by name.
        parameters: Of the network.
        bytes: Of all that it saves.
        readers: The layers that read units, with what they see.
    """

    model_digest: str
    groups: tuple[Group, ...]
    seen: tuple[GroupLosses, ...]
    tensors: dict[str, tuple[tuple[int, ...], int, bool]]
    positions: dict[str, float]
    parameters: int
    bytes: int
    readers: dict[str, Reader]


@autograd_enabled
def look_at_units(model: nn.Module, calibration: Inputs, *, seed: int = 0) -> UnitLosses:
    r"""Choose in each group the order in which units go, and measure what that does to the answers.

    The order is that of :func:`limbeck.pruning.elimination.removal_order`. Then units are really taken out of one group
    alone, some shares of them, and the soft-target loss :math:`T^2\, \mathrm{KL}_T` at T = 4 between the old answers
    and the new is measured on at most 512 calibration examples.

    Args:
        model: A classifier, any module that torch.export traces; it is not modified.
        calibration: Inputs as the network sees them, ``(N, ...)``; some thousand examples.
        seed: Of the answers drawn for the Fisher information.

    Returns:
        What was seen.

    Raises:
        ConfigError: If the structure of the network is unknown, or there are no units that can go.
        DataError: If there are no data, or answers are not finite.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> net = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2))
        >>> seen = look_at_units(net, torch.randn(50, 8))
        >>> [(len(each.order), float(each.losses[0])) for each in seen.seen]
        [(5, 0.0)]
    """
    if not count_of(calibration):
        raise DataError("there are no calibration data: at least one example is needed")
    example = mapped(calibration, lambda each: each[:2])
    groups = [_tried(model, group, example) for group in find_groups(model, example)]
    if all(group.reason is not None for group in groups):
        reasons = "; ".join(f"{group.name}: {group.reason}" for group in groups[:3])
        raise ConfigError(
            f"no unit can be pruned from {type(model).__name__} ({reasons or 'it has no linear layer'}): use low "
            "rank instead (by rank)"
        )
    moments = measure_readers(model, groups, calibration, seed=seed)
    groups = [_reached(group, set(moments)) for group in groups]
    free = [group for group in groups if group.reason is None]
    readers = readers_of(model, free, moments)
    batches = list(in_blocks(mapped(calibration, lambda each: each[:_EXAMPLES]), _TOGETHER))
    reference = answers_of(model, batches)
    seen = tuple(_measured(model, group, readers, batches, reference) for group in free)
    names = {name for name, _ in model.named_parameters()}
    tensors = {
        name: (tuple(value.shape), value.element_size(), name in names) for name, value in model.state_dict().items()
    }
    positions = count_positions(model, example, find_layers(model))
    return UnitLosses(model_digest(model), tuple(groups), seen, tensors, positions, *model_size(model), readers)


def _reached(group: Group, measured: set[str]) -> Group:
    missing = sorted(set(group.readers) - measured)
    if group.reason is not None or not missing:
        return group
    return dataclasses.replace(group, reason=f"the network never calls {missing[0]}, which reads them")


def _tried(model: nn.Module, group: Group, example: Inputs) -> Group:
    """A group as it is, or whole where the network without a unit does not do what it does when nobody reads it."""
    if group.reason is not None:
        return group
    kept = tuple(range(1, group.units))
    trial = copy_module(model)
    try:
        zeroed(trial, group, kept, None)
        small = without_units(model, [group], {group.name: kept}, None)
        one, two = (_logits(each, example) for each in (trial, small))
    except Exception as error:  # any error of a user's module where a layer is narrower
        said = " ".join(str(error.__cause__ or error).split())[:100]
        return dataclasses.replace(group, reason=f"the network fails when a unit is removed: {said}")
    size = max(1.0, float(one.abs().max()))
    if one.shape == two.shape and float((one - two).abs().max()) <= _CLOSE * size:
        return group
    return dataclasses.replace(group, reason="removing a unit that no layer reads changes the outputs")


def _measured(
    model: nn.Module, group: Group, readers: dict[str, Reader], batches: Sequence[Inputs], reference: Tensor
) -> GroupLosses:
    """The order of a group, and its divergences."""
    order, _ = removal_order(group.units, [readers[name] for name in group.readers])
    counts = sorted({max(1, round(share * len(order))) for share in _MEASURED})
    found = [0.0]
    for count in counts:
        trial, gone = copy_module(model), set(order[:count])
        zeroed(trial, group, [unit for unit in range(group.units) if unit not in gone], readers)
        found.append(divergence_of(reference, answers_of(trial, batches)))
    rising = np.maximum.accumulate(found)
    losses = np.interp(np.arange(group.units), [0, *counts], rising)
    return GroupLosses(group, tuple(order), losses)


def _logits(model: nn.Module, example: Inputs) -> Tensor:
    device = next(model.parameters()).device
    with evaluating(model), torch.no_grad():
        return call_model(model, move(example, device)).cpu()


def answers_of(model: nn.Module, batches: Sequence[Inputs]) -> Tensor:
    """Softened log-probabilities of a network for some examples.

    Args:
        model: The network.
        batches: The examples.

    Returns:
        float64 ``(N, K)``.

    Raises:
        DataError: If one is not finite.
    """
    logits = torch.cat([_logits(model, batch).flatten(0, -2) for batch in batches])
    answers = logits.to(widest("cpu")).div(_TEMPERATURE).log_softmax(-1)
    if not bool(answers.isfinite().all()):
        raise DataError("the network gives NaN or infinite logits for the calibration data")
    return answers


def divergence_of(reference: Tensor, answers: Tensor) -> float:
    """The soft-target loss of answers, from :func:`answers_of`.

    Args:
        reference: Of the network as it was.
        answers: Of another.

    Returns:
        Nats per example, at least 0.
    """
    return max(0.0, _TEMPERATURE**2 * float((reference.exp() * (reference - answers)).sum(-1).mean()))
