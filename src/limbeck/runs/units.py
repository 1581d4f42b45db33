"""The units of a network that stay: chosen by a budget and training data."""

__all__ = ["By", "choose_units", "without_those"]

from collections.abc import Mapping
from typing import Literal

from torch import nn

from limbeck.data.data_set import DataSet
from limbeck.errors import ConfigError
from limbeck.inputs import Inputs, first_few
from limbeck.lowrank import is_budget, parse_bytes
from limbeck.models import to_int8
from limbeck.models.replaceable import whole_layers
from limbeck.options import RankRule
from limbeck.pruning import (
    PrunePlan,
    UnitLosses,
    counts_within,
    look_at_units,
    plan_at,
    plan_units,
    prune,
    removal_path,
    without_units,
)
from limbeck.runs.latency import latency_of, parse_seconds
from limbeck.runs.measure import file_bytes
from limbeck.runs.ranks import calibration_inputs

By = Literal["rank", "units"]
"""How layers become smaller: as two of low rank, or by losing hidden units and channels."""


def choose_units(
    model: nn.Module, data: DataSet, rule: RankRule, *, calibration: int = 2000, int8: bool = False, seed: int = 0
) -> PrunePlan:
    """Look at a network with training data, and decide which units stay.

    Args:
        model: The network.
        data: Its training examples calibrate.
        rule: A budget for the whole network.
        calibration: How many examples.
        int8: Whether the size or latency is that with 8-bit weights.
        seed: Of the choice of examples.

    Returns:
        The plan.

    Raises:
        ConfigError: If the rule is not a budget, or asks for what is impossible.
    """
    if not is_budget(rule):
        raise ConfigError(
            f"units are pruned within a budget: give parameters, flops, size or latency instead of {rule.name}"
        )
    wanted = None if rule.latency is None else parse_seconds(rule.latency)  # before anything is looked at
    inputs = calibration_inputs(data, calibration, seed)
    seen = look_at_units(model, inputs, seed=seed)
    whole = whole_layers(model, first_few(inputs)) if int8 else None
    if rule.size is not None:
        return _of_size(model, seen, rule.size, inputs, whole)
    if rule.latency is not None and wanted is not None:
        return _of_latency(model, seen, rule.latency, wanted, inputs, whole)
    return plan_units(seen, model, inputs, parameters=rule.parameters, flops=rule.flops)


def without_those(
    model: nn.Module, data: DataSet, plan: PrunePlan, *, calibration: int = 2000, seed: int = 0
) -> nn.Module:
    """The network that a plan describes.

    Args:
        model: The network.
        data: Its training examples calibrate.
        plan: Which units stay.
        calibration: How many examples, as for the plan.
        seed: Of their choice, as for the plan.

    Returns:
        The new network.
    """
    return prune(plan, model, calibration_inputs(data, calibration, seed), seed=seed)


def _made(model: nn.Module, seen: UnitLosses, counts: Mapping[str, int], whole: Mapping[str, str] | None) -> nn.Module:
    """A network of the counts, whose weights make up for nothing; in 8 bits but for ``whole``, where it is given."""
    kept = {each.group.name: each.kept(counts[each.group.name]) for each in seen.seen}
    losing = [each.group for each in seen.seen if len(kept[each.group.name]) < each.group.units]
    small = without_units(model, losing, kept, None)
    return small if whole is None else to_int8(small, round_weights=False, whole=whole)


def _of_size(
    model: nn.Module, seen: UnitLosses, size: str, inputs: Inputs, whole: Mapping[str, str] | None
) -> PrunePlan:
    """The largest network whose file, header and all, is within a size."""
    wanted, path = parse_bytes(size, share_of=file_bytes(model)), removal_path(seen, "size")
    counts = counts_within(path, lambda counts: file_bytes(_made(model, seen, counts, whole)) <= wanted)
    if counts is None:
        least = file_bytes(_made(model, seen, path[-1], whole))
        raise ConfigError(
            f"size {size} is {wanted:,} bytes, and the smallest file, one unit in each group, has {least:,}"
        )
    return plan_at(seen, counts, f"size {size}", model, inputs)


def _of_latency(
    model: nn.Module, seen: UnitLosses, latency: str, wanted: float, inputs: Inputs, whole: Mapping[str, str] | None
) -> PrunePlan:
    """The first network along the path of multiply-adds that was timed to be quick enough, twice."""
    path = removal_path(seen, "flops")

    def timed(counts: Mapping[str, int]) -> float:
        return latency_of(_made(model, seen, counts, whole).cpu(), inputs)

    if (now := timed(path[0])) <= wanted:
        raise ConfigError(
            f"latency {latency}: the network already takes only {1000 * now:.3g} ms with one thread: there is nothing "
            "to compress"
        )
    found = counts_within(path, lambda counts: timed(counts) <= wanted)
    # Selection favours plans that were timed too low: the chosen one must be fast enough twice.
    for counts in path[path.index(found) :] if found is not None else ():
        if (again := timed(counts)) <= wanted:
            return plan_at(seen, counts, f"latency {latency} (measured {1000 * again:.3g} ms)", model, inputs)
    raise ConfigError(
        f"latency {latency}: the smallest network, one unit in each group, takes {1000 * timed(path[-1]):.3g} ms with "
        f"one thread, and the original network {1000 * now:.3g}: allow more time, or use a smaller network"
    )
