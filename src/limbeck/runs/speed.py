"""Devices for evaluation, and measurement of latency and throughput."""

__all__ = ["modules_of", "placed", "speed_of"]

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import nn

from limbeck.data.examples import Examples
from limbeck.evaluation.blocks import block_size, is_out_of_memory, release_memory
from limbeck.evaluation.prediction import device_of
from limbeck.evaluation.subjects import Subject, subject_of
from limbeck.models import has_int8
from limbeck.models.calling import weights_dtype
from limbeck.protocols import Batch, Teacher
from limbeck.system.devices import Device

_MOST_AT_A_TIME = 256
_MOST_TIMES = 2000
_BEFORE, _LONGEST = 2, 1.0
"""Number of warm-up calls, and the seconds after which they count, for slow models."""


def modules_of(subject: nn.Module | Teacher) -> list[tuple[nn.Module, Any]]:
    """The modules in a model or teacher, each with its own presentation of the examples."""
    return subject_of(subject).modules()


@contextmanager
def placed(subject: nn.Module | Teacher, device: torch.device) -> Iterator[Any]:
    """Move a model or teacher to a device, and back afterwards.

    A network with 8-bit layers stays on the CPU.

    Args:
        subject: A module, or a teacher; one that cannot be moved stays.
        device: The device.

    Yields:
        The module or teacher.
    """
    parts = [module for module, _ in modules_of(subject)]
    place = torch.device("cpu") if any(map(has_int8, parts)) else torch.empty(0, device=device).device
    before, move = device_of(subject), getattr(subject, "to", None)
    if before == place or move is None:
        yield subject
        return
    homes = [(part, device_of(part)) for part in parts]
    try:
        yield move(place)
    finally:
        for part, home in homes:
            part.to(home)
        if not homes:
            move(before)


def speed_of(subject: nn.Module | Teacher, examples: Examples, *, seconds: float = 0.4) -> dict[str, Any]:
    """Measure latency and throughput in float32 on the model's device.

    The whole takes about two seconds, or one call where that is longer.

    Args:
        subject: A module or a teacher.
        examples: Inputs to time with.
        seconds: Approximate duration of each of the two measurements.

    Returns:
        ``latency_ms``, the median for one example, and ``images_per_second`` in batches of up to 256, as time and
        memory allow. Empty where there is no module.
    """
    asked = subject_of(subject)
    networks = asked.modules()
    if not networks:
        return {}
    device, dtype = asked.device, weights_dtype(networks[0][0])

    def batch_of(size: int) -> Batch:
        rows = torch.arange(size) % len(examples)
        return asked.presented(examples.batch(rows.to(examples.index.device))).to(device)

    def ask(batch: Batch, one: Subject = asked) -> object:
        return one.answer(batch, dtype=dtype)

    with asked.asking(), Device(device, "float32").autocast(), torch.inference_mode():
        alone = _seconds(partial(ask, batch_of(1)), seconds, device)
        many, together = 1, alone
        if 4 * alone <= seconds:
            watched = asked.watched()
            most = min(_MOST_AT_A_TIME, block_size(lambda few: ask(batch_of(few), watched), _MOST_AT_A_TIME, device))
            many, together = _at_a_time(lambda size: partial(ask, batch_of(size)), most, alone, seconds, device)
    return {"latency_ms": 1000 * alone, "images_per_second": many / together}


def _at_a_time(
    asking: Callable[[int], Callable[[], object]], most: int, alone: float, seconds: float, device: torch.device
) -> tuple[int, float]:
    """The largest batch within time and memory, and its seconds; tried sizes grow by four."""
    size, found = 1, alone
    while size < most:
        # The first call with a new size may be much slower than the next.
        larger = min(4 * size, most)
        if found * larger / size > seconds:
            break
        try:
            found = _seconds(asking(larger), seconds if larger == most else 0.0, device)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            release_memory(device)
            break
        size = larger
    return size, found


def _seconds(ask: Callable[[], object], seconds: float, device: torch.device) -> float:
    """Median time per call. The first two are warm-up, for a device may select kernels."""
    times: list[float] = []
    began = time.perf_counter()
    while True:
        before = time.perf_counter()
        ask()
        _wait_for(device)
        times.append(time.perf_counter() - before)
        used, enough = time.perf_counter() - began, len(times) > _BEFORE
        if used >= _LONGEST or (enough and (used >= seconds or len(times) >= _MOST_TIMES)):
            return median(times[_BEFORE:] or times[-1:])


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    elif device.type != "cpu":
        torch.accelerator.synchronize(device)
