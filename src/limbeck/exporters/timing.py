"""Latency and throughput of two models, timed alternately so that other load slows both."""

__all__ = ["side_by_side"]

import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from limbeck.inputs import Inputs, first_few

Ask = Callable[[Inputs], object]

_BEFORE = 3
"""Number of warm-up calls."""
_MOST_TIMES, _MOST_TOGETHER = 1000, 64


def side_by_side(
    original: Ask, exported: Ask, inputs: Inputs, given: Inputs, *, count: int, seconds: float = 0.4
) -> dict[str, dict[str, float]]:
    """Time one example by itself, and many at once, with one thread.

    Args:
        original: A function of inputs.
        exported: The other, which must have been opened with one thread.
        inputs: What the original takes.
        given: What the exported model takes, of the same examples.
        count: How many examples they are.
        seconds: About how long each of the two measurements takes for each model.

    Returns:
        For "original" and "exported": ``p50_ms`` and ``p95_ms`` of single answers, and ``examples_per_second`` with
        ``batch`` examples at a time.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            one = [partial(original, first_few(inputs, 1)), partial(exported, first_few(given, 1))]
            alone = _times(one, seconds)
            size = max(1, min(count, _MOST_TOGETHER, int(seconds / max(float(np.median(alone)), 1e-9))))
            many = [partial(original, first_few(inputs, size)), partial(exported, first_few(given, size))]
            together = _times(many, seconds)
    finally:
        torch.set_num_threads(before)
    return {
        name: {
            "p50_ms": 1000 * float(np.quantile(alone[place], 0.5)),
            "p95_ms": 1000 * float(np.quantile(alone[place], 0.95)),
            "examples_per_second": size / float(np.median(together[place])),
            "batch": float(size),
        }
        for place, name in enumerate(("original", "exported"))
    }


def _times(asking: Sequence[Callable[[], object]], seconds: float) -> NDArray[np.float64]:
    """Seconds of each answer of each, ``(2, times)``."""
    for ask in list(asking) * _BEFORE:
        ask()
    found: list[list[float]] = [[] for _ in asking]
    began = time.perf_counter()
    while not found[0] or (time.perf_counter() - began < seconds * len(asking) and len(found[0]) < _MOST_TIMES):
        for ask, times in zip(asking, found, strict=True):
            start = time.perf_counter()
            ask()
            times.append(time.perf_counter() - start)
    return np.array(found)
