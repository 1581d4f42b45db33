"""A latency budget: the time per example on this machine, and the plan with the least loss within it."""

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
"""Number of plans timed, geometrically spaced in multiply-adds; then of refinements between two of them."""
_CLOSER = 4
_BEFORE, _SECONDS, _FEWEST, _MOST = 3, 0.15, 7, 400


def parse_seconds(text: str) -> float:
    """Parse a time such as ``2ms``, ``350us`` or ``0.1s``.

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
        raise ConfigError(f"latency must be a time above 0, such as 2ms, 350us or 0.1s, and is {text!r}")
    return float(match[1]) * _UNITS[match[2]]


def latency_of(model: nn.Module, inputs: Inputs, *, seconds: float = _SECONDS) -> float:
    """Median latency of one example on the CPU, with one thread.

    Args:
        model: Any module, on the CPU.
        inputs: Inputs; the first example is used.
        seconds: Approximate duration of the measurement; from 7 to 400 calls count.

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
    """The plan with the least loss among those measured to be within a latency budget.

    Multiply-adds do not measure time: two thin layers may take longer than one. So plans over a range of multiply-adds
    are timed, some more between the largest that is fast enough and the next, and the chosen one is timed again,
    longer.

    Args:
        model: The network.
        spectrum: Its spectrum.
        latency: The budget, such as ``2ms``.
        inputs: An example.
        placement: Where the singular values go.
        int8: Layers that stay float where the rest gets 8-bit weights; None for no quantisation.

    Returns:
        The plan; its rule states the measured time.

    Raises:
        ConfigError: If the network is already fast enough, or no plan is.
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
            f"latency {latency}: the network already takes only {1000 * now:.3g} ms with one thread: there is nothing "
            "to compress"
        )
    found = _search(spectrum, wanted, placement, timed)
    # Selection favours plans that were timed too low: the chosen plan must be fast enough twice.
    for plan, _ in sorted(found, key=lambda each: each[0].loss):
        if (again := timed(plan, 2 * _SECONDS)) <= wanted:
            return dataclasses.replace(plan, rule=f"latency {latency} (measured {1000 * again:.3g} ms)")
    quickest = timed(_plan(spectrum, 0.0, placement))
    raise ConfigError(
        f"latency {latency}: the smallest network, every layer at rank 1, takes {1000 * quickest:.3g} ms with one "
        f"thread, and the original network {1000 * now:.3g}: allow more time, or use a smaller network"
    )


def _search(
    spectrum: Spectrum, wanted: float, placement: Placement, timed: Callable[[RankPlan], float]
) -> list[tuple[RankPlan, float]]:
    """Plans that were fast enough, with their seconds."""
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
    """The plan with multiply-adds interpolated between the fewest (0) and those of the whole network (1)."""
    fewest, whole = budget_range(spectrum, "flops")
    return plan_ranks(spectrum, flops=float(max(2, math.ceil(fewest * (whole / fewest) ** place))), placement=placement)
