"""Where models are judged, and how quickly they answer."""

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
"""Answers that do not count, and the seconds after which they do, where a model is slow."""


def modules_of(subject: nn.Module | Teacher) -> list[tuple[nn.Module, Any]]:
    """The modules in a model or teacher, each with its own presentation of the examples."""
    return subject_of(subject).modules()


@contextmanager
def placed(subject: nn.Module | Teacher, device: torch.device) -> Iterator[Any]:
    """A model or teacher on a device for the time; afterwards its networks are where they were.

    A network with 8-bit layers stays on the processor, which it is made for.

    Args:
        subject: A module, or a teacher; one that cannot be moved stays.
        device: Where to.

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
    """Time one example by itself, and many at once, in float32 on the device where the model is.

    A slow model is not asked often: the whole takes some two seconds, or one answer where that takes longer.

    Args:
        subject: A module or a teacher.
        examples: Inputs to time with.
        seconds: About how long each of the two measurements takes.

    Returns:
        ``latency_ms``, the median of single answers, and ``images_per_second`` for up to 256 at a time, as many as fit
        into the time and a bounded part of the memory. Nothing where there is no module.
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
    """The largest batch that fits into time and memory, and its seconds; a step up is four times as large."""
    size, found = 1, alone
    while size < most:
        # The first answer of a size may be much slower than the next.
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
    """Median time of an answer. The first two do not count, for a device may first choose how to compute it."""
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
