"""Decide: choose the units to keep within a budget."""

__all__ = ["Counts", "cost_of", "counts_within", "plan_at", "removal_path"]

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from torch import nn

from limbeck.errors import ConfigError
from limbeck.inputs import Inputs, in_blocks, mapped
from limbeck.pruning.act import shape_after, without_units
from limbeck.pruning.look import UnitLosses, answers_of, divergence_of
from limbeck.pruning.plan import PrunePlan, UnitPlan

Counts = dict[str, int]
"""How many units of each group stay, by its name."""
Unit = Literal["parameters", "flops", "size"]
_STEPS = 16
"""A step takes a sixteenth of the units that a group had, at least one."""


def cost_of(seen: UnitLosses, counts: Mapping[str, int], unit: Unit) -> int:
    """What a network costs where so many units stay.

    Args:
        seen: What was seen of it.
        counts: Units that stay.
        unit: Parameters, multiply-adds of linear layers and convolutions per example, or bytes of all that is saved.

    Returns:
        The number.

    Example:
        >>> import torch
        >>> from limbeck.pruning.look import look_at_units
        >>> net = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2))
        >>> seen = look_at_units(net, torch.randn(50, 8))
        >>> cost_of(seen, {"0": 6}, "parameters"), cost_of(seen, {"0": 3}, "parameters")
        (68, 35)
    """
    groups = [each.group for each in seen.seen]
    touched = {part.tensor for group in groups for part in group.parts}
    total = 0
    for name, (shape, size, trained) in seen.tensors.items():
        sizes = shape_after(groups, counts, name, shape) if name in touched else shape
        layer, _, what = name.rpartition(".")
        if unit == "size":
            total += size * math.prod(sizes)
        elif unit == "parameters":
            total += math.prod(sizes) if trained else 0
        elif what == "weight" and layer in seen.positions:
            total += round(seen.positions[layer] * math.prod(sizes))
    return total


def removal_path(seen: UnitLosses, unit: Unit) -> list[Counts]:
    """Numbers of units from all of them to one in each group: each step loses least for what it saves.

    Args:
        seen: What was seen of the network.
        unit: What is to be saved.

    Returns:
        Counts, in order.
    """
    counts = {each.group.name: each.group.units for each in seen.seen}
    path, cost = [dict(counts)], cost_of(seen, counts, unit)
    while True:
        best: tuple[float, str, int, int] | None = None
        for each in seen.seen:
            name, units = each.group.name, each.group.units
            fewer = max(1, counts[name] - max(1, units // _STEPS))
            if fewer == counts[name]:
                continue
            after = cost_of(seen, {**counts, name: fewer}, unit)
            lost = float(each.losses[units - fewer] - each.losses[units - counts[name]])
            price = lost / max(1, cost - after)
            if best is None or price < best[0]:
                best = (price, name, fewer, after)
        if best is None:
            return path
        _, name, fewer, cost = best
        counts[name] = fewer
        path.append(dict(counts))


def counts_within(path: Sequence[Counts], fits: Callable[[Counts], bool]) -> Counts | None:
    """The first step of a path that fits, found by halving; None where not even the last does.

    Args:
        path: From :func:`removal_path`.
        fits: Whether counts are within the budget; once they are, all later ones are.

    Returns:
        The counts.

    Example:
        >>> counts_within([{"a": 3}, {"a": 2}, {"a": 1}], lambda counts: counts["a"] <= 2)
        {'a': 2}
    """
    if not fits(path[-1]):
        return None
    low, high = 0, len(path) - 1
    while low < high:
        middle = (low + high) // 2
        if fits(path[middle]):
            high = middle
        else:
            low = middle + 1
    return path[low]


def plan_at(seen: UnitLosses, counts: Counts, rule: str, model: nn.Module, calibration: Inputs) -> PrunePlan:
    """The plan of some counts, with the measured divergence of the pruned network.

    Args:
        seen: What was seen of the network.
        counts: Units that stay.
        rule: The rule, in words.
        model: The network.
        calibration: Examples to measure on.

    Returns:
        The plan.
    """
    kept = {each.group.name: each.kept(counts[each.group.name]) for each in seen.seen}
    losing = [each.group for each in seen.seen if len(kept[each.group.name]) < each.group.units]
    batches = list(in_blocks(mapped(calibration, lambda each: each[:512]), 128))
    small = without_units(model, losing, kept, seen.readers)
    loss = divergence_of(answers_of(model, batches), answers_of(small, batches))
    losses = {each.group.name: float(each.losses[each.group.units - counts[each.group.name]]) for each in seen.seen}
    groups = tuple(
        UnitPlan(
            name=group.name,
            units=group.units,
            kept=kept.get(group.name, tuple(range(group.units))),
            loss=losses.get(group.name, 0.0),
            reason=group.reason,
        )
        for group in seen.groups
    )
    return PrunePlan(
        model_digest=seen.model_digest,
        rule=rule,
        groups=groups,
        loss=loss,
        parameters=seen.parameters,
        parameters_after=cost_of(seen, counts, "parameters"),
        bytes=seen.bytes,
        bytes_after=cost_of(seen, counts, "size"),
    )


def plan_units(
    seen: UnitLosses,
    model: nn.Module,
    calibration: Inputs,
    *,
    parameters: float | None = None,
    flops: float | None = None,
) -> PrunePlan:
    """Choose the units that stay by one budget for the whole network.

    Args:
        seen: What :func:`limbeck.pruning.look_at_units` saw.
        model: The network.
        calibration: Examples to measure the measured divergence of the pruned network on.
        parameters: A share up to 1, or a count above.
        flops: Multiply-adds of all linear layers and convolutions per example: a share up to 1, or a count above.

    Returns:
        The plan.

    Raises:
        ConfigError: If there is not one budget, or it is below the smallest possible.

    Example:
        >>> import torch
        >>> from limbeck.pruning.look import look_at_units
        >>> net = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2))
        >>> x = torch.randn(50, 8)
        >>> plan_units(look_at_units(net, x), net, x, parameters=0.6).parameters_after
        35
    """
    if (parameters is None) == (flops is None):
        raise ConfigError("one budget is needed: give parameters or flops")
    unit: Unit = "parameters" if flops is None else "flops"
    value = parameters if parameters is not None else flops
    assert value is not None
    path = removal_path(seen, unit)
    whole = cost_of(seen, path[0], unit)
    budget = int(value * whole) if value <= 1 else int(value)
    counts = counts_within(path, lambda counts: cost_of(seen, counts, unit) <= budget)
    if counts is None:
        least = cost_of(seen, path[-1], unit)
        name = {"parameters": "parameters", "flops": "multiply-adds"}[unit]
        raise ConfigError(
            f"{unit} {value:g} is {budget:,} {name}, and the smallest possible, one unit in each group, is {least:,} "
            f"({least / whole:.4f} of the whole)"
        )
    return plan_at(seen, counts, f"{unit} {value:g}", model, calibration)
