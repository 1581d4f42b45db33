"""Act: a new network without some of its units."""

__all__ = ["prune", "shape_after", "without_units", "zeroed"]

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from limbeck.errors import MismatchError
from limbeck.inputs import Inputs
from limbeck.lowrank.layers import Matrix, model_digest
from limbeck.lowrank.moments import Moments, measure_moments
from limbeck.models.copying import copy_module
from limbeck.models.narrow import narrow
from limbeck.pruning.elimination import Reader, columns_of, reconstructed
from limbeck.pruning.groups import Group, find_groups
from limbeck.pruning.plan import PrunePlan

Kept = Mapping[str, Sequence[int]]
"""The units that stay, by the name of their group; all of the others'."""

_TEMPERATURE = 4.0


def prune(plan: PrunePlan, model: nn.Module, calibration: Inputs, *, seed: int = 0) -> nn.Module:
    """Make the network that a plan describes; the layers that read units make up for those that are gone.

    Args:
        plan: Which units stay.
        model: The network the plan was made for; it is not modified.
        calibration: Inputs as the network sees them: those that the plan was made with give the network that it was
            measured with.
        seed: Of the answers drawn for the Fisher information, in which nothing but damage to the data shows.

    Returns:
        The new network, in the same mode and on the same device.

    Raises:
        MismatchError: If the plan belongs to another network.
    """
    if (digest := model_digest(model)) != plan.model_digest:
        raise MismatchError(
            f"the plan is for the network {plan.model_digest[:16]}, and this one is {digest[:16]}: make a plan for it"
        )
    if not plan.kept:
        return copy_module(model)
    groups = [group for group in find_groups(model, calibration) if group.name in plan.kept]
    missing = sorted(set(plan.kept) - {group.name for group in groups})
    wrong = [g.name for g in groups if g.reason is not None or plan.kept[g.name][-1] >= g.units]
    if missing or wrong:
        raise MismatchError(f"the plan takes units out of {(missing or wrong)[0]}, and there are none that can go")
    readers = readers_of(model, groups, measure_readers(model, groups, calibration, seed=seed))
    return without_units(model, groups, plan.kept, readers)


def measure_readers(
    model: nn.Module, groups: Iterable[Group], calibration: Inputs, *, seed: int = 0
) -> dict[str, Moments]:
    """Moments of all layers that read units.

    Args:
        model: The network.
        groups: Its groups.
        calibration: Inputs as it sees them.
        seed: Of the answers drawn.

    Returns:
        Moments by the layer's name; those that are never called are missing.
    """
    named = dict(model.named_modules())
    layers = {name: named[name] for group in groups if group.reason is None for name in group.readers}
    matrices = [Matrix(name, layer, None) for name, layer in layers.items() if isinstance(layer, nn.Linear | nn.Conv2d)]
    return measure_moments(model, calibration, matrices, temperature=_TEMPERATURE, seed=seed)


def readers_of(model: nn.Module, groups: Iterable[Group], moments: Mapping[str, Moments]) -> dict[str, Reader]:
    """The layers that read units of some groups, with what they see.

    Args:
        model: The network.
        groups: Whose readers; all of them have moments.
        moments: From :func:`measure_readers`.

    Returns:
        Readers by the layer's name.
    """
    found = {}
    named = dict(model.named_modules())
    for group in groups:
        for name, block in group.readers.items():
            layer, seen = named[name], moments[name]
            assert isinstance(layer, nn.Linear | nn.Conv2d)
            mean = None if layer.bias is None else seen.mean
            inputs = seen.inputs if mean is None else seen.inputs - np.outer(mean, mean)
            per_unit = block * layer.weight[0, 0].numel()
            weight = Matrix(name, layer, None).weight()
            found[name] = Reader(weight, inputs, seen.outputs, mean, seen.positions, per_unit)
    return found


def zeroed(trial: nn.Module, group: Group, kept: Sequence[int], readers: Mapping[str, Reader] | None) -> None:
    """Let the readers of a group read no other units than those that are kept; shapes stay.

    Args:
        trial: A copy of the network, changed in place.
        group: The group.
        kept: Numbers of the units.
        readers: With them, what is kept makes up for the others; without, nothing does.
    """
    named = dict(trial.named_modules())
    for name, block in group.readers.items():
        layer = named[name]
        assert isinstance(layer, nn.Linear | nn.Conv2d)
        with torch.no_grad():
            flat = layer.weight.detach().flatten(1).clone()
            at = torch.from_numpy(columns_of(kept, flat.shape[1] // group.units))
            new = torch.zeros_like(flat)
            new[:, at] = flat[:, at]
            if readers is not None:
                weight, shift = reconstructed(readers[name], kept)
                new[:, at] = torch.from_numpy(weight.astype(np.float32)).to(new)
                if shift is not None and layer.bias is not None:
                    layer.bias.add_(torch.from_numpy(shift.astype(np.float32)).to(layer.bias))
            layer.weight.copy_(new.reshape(layer.weight.shape))
        assert block * group.units == layer.weight.shape[1], "found so"


def without_units(
    model: nn.Module, groups: Sequence[Group], kept: Kept, readers: Mapping[str, Reader] | None
) -> nn.Module:
    """A copy of a network without some units.

    Args:
        model: The network; it is not modified.
        groups: Those that lose some.
        kept: The units that stay.
        readers: With them, what is kept makes up for the others; without, nothing does.

    Returns:
        The new network.
    """
    whole = copy_module(model)
    for group in groups:
        zeroed(whole, group, kept[group.name], readers)
    tensors = {**dict(whole.named_parameters()), **dict(whole.named_buffers())}
    chosen: dict[str, Tensor] = {}
    for group in groups:
        for part in group.parts:
            at = torch.from_numpy(columns_of(kept[group.name], part.block)).to(tensors[part.tensor].device)
            before = chosen.get(part.tensor, tensors[part.tensor].detach())
            chosen[part.tensor] = before.index_select(part.dim, at)
    small = narrow(model, _widths(model, chosen))
    places = {**dict(small.named_parameters()), **dict(small.named_buffers())}
    with torch.no_grad():
        for name, value in tensors.items():
            places[name].copy_(chosen.get(name, value))
    return small


def _widths(model: nn.Module, chosen: Mapping[str, Tensor]) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of the layers whose weights are others."""
    named = dict(model.named_modules())
    found = {}
    for tensor, value in chosen.items():
        name, _, what = tensor.rpartition(".")
        if what != "weight":
            continue
        outputs = len(value)
        depthwise = isinstance(layer := named[name], nn.Conv2d) and layer.groups > 1
        found[name] = (outputs if depthwise or value.ndim == 1 else value.shape[1], outputs)
    return found


def shape_after(groups: Sequence[Group], counts: Mapping[str, int], tensor: str, shape: Sequence[int]) -> list[int]:
    """The shape of a tensor where so many units of each group are left.

    Args:
        groups: The groups.
        counts: Units that stay, by the group's name.
        tensor: Its name.
        shape: Its shape now.

    Returns:
        Sizes.
    """
    sizes = list(shape)
    for group in groups:
        for part in group.parts:
            if part.tensor == tensor and group.name in counts:
                sizes[part.dim] = part.block * counts[group.name]
    return sizes
