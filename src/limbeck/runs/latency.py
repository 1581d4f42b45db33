"""A budget of time: how long one example takes on this machine, and the plan that loses least within it."""

__all__ = ["fit_latency", "latency_of", "parse_seconds"]

import dataclasses
import math
import re
import time
from collections.abc import Callable, Mapping
from statistics import median

import torch
from torch import nn

from limbeck.errors import ConfigError
from limbeck.inputs import Inputs, first_few
from limbeck.lowrank import Placement, RankPlan, Spectrum, budget_range, plan_ranks, restructure
from limbeck.models import to_int8
from limbeck.models.calling import call_model, evaluating

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_TRIED = 12
"""Plans that are timed, from the fewest multiply-adds to the most, at equal ratios; then some between two of them."""
_CLOSER = 4
_BEFORE, _SECONDS, _FEWEST, _MOST = 3, 0.15, 7, 400


def parse_seconds(text: str) -> float:
    """A time from text such as ``2ms``, ``350us`` or ``0.1s``.

    Args:
        text: The text.

    Returns:
        Seconds.

    Raises:
        ConfigError: If it is not a positive time with a unit.

    Example:
        >>> parse_seconds("2ms"), parse_seconds("350 us")
        (0.002, 0.00035)
    """
    match = re.fullmatch(r"\s*([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*(us|ms|s)\s*", text)
    if match is None or float(match[1]) <= 0:
        raise ConfigError(f"latency {text!r} is not a time: give one such as 2ms, 350us or 0.1s")
    return float(match[1]) * _UNITS[match[2]]


def latency_of(model: nn.Module, inputs: Inputs, *, seconds: float = _SECONDS) -> float:
    """Seconds that one example takes on the processor, with one thread: the median of many answers.

    Args:
        model: Any module, on the CPU.
        inputs: Of which the first example is shown.
        seconds: About how long is measured; at least seven answers count, and at most 400.

    Returns:
        Seconds.

    Example:
        >>> 0 < latency_of(nn.Linear(4, 2), torch.zeros(1, 4), seconds=0.01) < 1
        True
    """
    one, times = first_few(inputs), list[float]()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with evaluating(model), torch.inference_mode():
            for _ in range(_BEFORE):
                call_model(model, one)
            began = time.perf_counter()
            while len(times) < _FEWEST or (time.perf_counter() - began < seconds and len(times) < _MOST):
                start = time.perf_counter()
                call_model(model, one)
                times.append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    return median(times)


def fit_latency(
    model: nn.Module,
    spectrum: Spectrum,
    latency: str,
    inputs: Inputs,
    *,
    placement: Placement = "input",
    int8: Mapping[str, str] | None = None,
) -> RankPlan:
    """The plan that loses least among those that were timed to be within a latency.

    Multiply-adds are no measure of time: two thin layers may take longer than one. So plans of a range of multiply-adds
    are made and timed, some between the largest that is quick enough and the next, and the one that is chosen is timed
    again, longer.

    Args:
        model: The network.
        spectrum: What was seen of it.
        latency: The budget, such as ``2ms``.
        inputs: An example.
        placement: Where the singular values go.
        int8: Layers that stay float where the rest gets 8-bit weights; None where nothing does.

    Returns:
        The plan; its rule says what was measured.

    Raises:
        ConfigError: If the network is quick enough as it is, or no plan is.
    """
    wanted = parse_seconds(latency)

    def timed(plan: RankPlan | None, seconds: float = _SECONDS) -> float:
        small = restructure(model, {}) if plan is None else restructure(model, plan.ranks, plan.spatial, plan.tucker)
        small = small.cpu()
        if int8 is not None:
            small = to_int8(small, round_weights=False, whole=int8)
        return latency_of(small, inputs, seconds=seconds)

    if (now := timed(None)) <= wanted:
        raise ConfigError(
            f"latency {latency}: the network takes {1000 * now:.3g} ms as it is, with one thread: nothing need become "
            "smaller"
        )
    found = _search(spectrum, wanted, placement, timed)
    # Chance favours what was timed too low: the chosen plan must be quick enough twice.
    for plan, _ in sorted(found, key=lambda each: each[0].loss):
        if (again := timed(plan, 2 * _SECONDS)) <= wanted:
            return dataclasses.replace(plan, rule=f"latency {latency} (measured {1000 * again:.3g} ms)")
    quickest = timed(_plan(spectrum, 0.0, placement))
    raise ConfigError(
        f"latency {latency}: the smallest network, every layer at rank 1, takes {1000 * quickest:.3g} ms with one "
        f"thread, and the network as it is {1000 * now:.3g}: allow more time, or take a smaller network"
    )


def _search(
    spectrum: Spectrum, wanted: float, placement: Placement, timed: Callable[[RankPlan], float]
) -> list[tuple[RankPlan, float]]:
    """Plans that were quick enough, with their seconds."""
    quick: list[tuple[RankPlan, float]] = []
    places = [place / (_TRIED - 1) for place in range(_TRIED - 1)]
    tried: dict[float, bool] = {}

    def attempt(place: float) -> None:
        plan = _plan(spectrum, place, placement)
        took = timed(plan)
        tried[place] = took <= wanted
        if tried[place]:
            quick.append((plan, took))

    for place in places:
        attempt(place)
    for _ in range(_CLOSER):
        largest = max((place for place, fits in tried.items() if fits), default=None)
        if largest is None:
            break
        above = min((place for place in (*tried, 1.0) if place > largest), default=1.0)
        attempt((largest + above) / 2)
    return quick


def _plan(spectrum: Spectrum, place: float, placement: Placement) -> RankPlan:
    """The plan whose multiply-adds are at a place between the fewest, 0, and those of the whole network, 1."""
    fewest, whole = budget_range(spectrum, "flops")
    return plan_ranks(spectrum, flops=float(max(2, math.ceil(fewest * (whole / fewest) ** place))), placement=placement)
