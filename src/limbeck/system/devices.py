"""The device and precision of a run, found when it starts."""

__all__ = [
    "Device",
    "find_device",
    "full_float32",
    "has_float64",
    "keep_freed_memory",
    "known_precisions",
    "measure_precisions",
    "sum64",
    "widest",
]

import ctypes
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from limbeck.errors import ConfigError
from limbeck.system.machine import machine
from limbeck.system.processes import several, world
from limbeck.system.remembered import remembered

_FASTER = 1.25
"""How many times as fast bf16 products must be before ``auto`` chooses them."""
_HOPELESS = 4
"""How many times as slow small bf16 products are where large ones need not be tried: without bf16 it is a hundred."""


@dataclass(frozen=True)
class Device:
    """The device of a run, and its precision.

    Attributes:
        device: The PyTorch device.
        precision: "float32" or "bf16": of the products in training; weights and sums stay float32.
    """

    device: torch.device
    precision: Literal["float32", "bf16"]

    def autocast(self) -> torch.autocast | nullcontext[None]:
        """A context in which a model computes in the precision chosen, whatever context it is entered from."""
        if self.precision == "float32" and not torch.amp.is_autocast_available(self.device.type):
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")


def find_device(device: str = "auto", precision: Literal["auto", "float32", "bf16"] = "auto") -> Device:
    """Find the device and precision.

    Args:
        device: "auto" (the best there is), or a PyTorch device such as "cpu" or "cuda:1".
        precision: "auto" (measured), "float32" or "bf16".

    Returns:
        The device.

    Raises:
        ConfigError: If the device does not exist, or the other processes of the run cannot be reached.

    Example:
        >>> find_device("cpu", "float32").device
        device(type='cpu')
    """
    if several() and device in {"auto", "cuda"}:
        place = world().device
    elif device == "auto":
        place = torch.device("cpu")
        if torch.accelerator.is_available():
            from accelerate import PartialState

            place = torch.device(PartialState().device)
    else:
        try:
            place = torch.device(device)
            torch.empty(1, device=place)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            reason = str(error).splitlines()[0]
            if "at start of device string" in reason:  # PyTorch lists every device that it has heard of
                reason = "give auto, cpu, cuda, cuda:1, mps or another of PyTorch's names"
            raise ConfigError(f"device {device} cannot be used here: {reason}") from error
    if place.type == "cpu":
        keep_freed_memory()
    if precision != "auto":
        return Device(place, precision)
    rates = known_precisions(place)
    return Device(place, world().told("bf16" if rates["bf16"] > _FASTER * rates["float32"] else "float32"))


@contextmanager
def full_float32() -> Iterator[None]:
    """Multiply in float32 where the device is told to; by default NVIDIA's cards round convolutions' inputs to 11 bits.

    Yields:
        Nothing.
    """
    if not torch.cuda.is_available():
        yield
        return
    matrices, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matrices.allow_tf32, convolutions.allow_tf32
    try:
        matrices.allow_tf32 = convolutions.allow_tf32 = False
        yield
    finally:
        matrices.allow_tf32, convolutions.allow_tf32 = before


def has_float64(device: torch.device | str) -> bool:
    """Whether a device holds numbers in float64: Apple's do not, nor some of Intel's.

    Args:
        device: A PyTorch device.

    Returns:
        Whether it does; it is asked each time, which takes microseconds.
    """
    try:
        torch.zeros((), dtype=torch.float64, device=device)
    except (TypeError, RuntimeError):
        return False
    return True


def widest(device: torch.device | str) -> torch.dtype:
    """float64, or float32 on a device that has no more."""
    return torch.float64 if has_float64(device) else torch.float32


def sum64(values: Tensor) -> float:
    """The sum of some numbers, added up in float64 wherever they are.

    Args:
        values: Any tensor.

    Returns:
        The sum.

    Example:
        >>> sum64(torch.tensor([1e8, 1.0, -1e8]))
        1.0
    """
    if has_float64(values.device):
        return float(values.double().sum())
    return float(values.cpu().numpy().sum(dtype="float64"))


def known_precisions(device: torch.device) -> dict[str, float]:
    """What :func:`measure_precisions` found on this machine with this PyTorch, measured where it is not known yet.

    Args:
        device: A PyTorch device.

    Returns:
        Floating-point operations a second by precision.
    """
    found = machine()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else found["processor"]
    parts = (device.type, name, found["features"], torch.__version__, f"{torch.get_num_threads()} threads")
    return remembered("precisions", ", ".join(map(str, parts)), lambda: measure_precisions(str(device)))


@cache
def measure_precisions(device: str, size: int = 1024) -> dict[str, float]:
    """The speed of matrix products on a device, in a tenth of a second.

    The two take turns, so that both find quiet moments on a machine that does other things too. Small products come
    first: a processor that has no bf16 takes seconds for a large one, and small ones say so already.

    Args:
        device: A PyTorch device.
        size: Rows and columns of the matrices.

    Returns:
        Floating-point operations a second by precision, the best of several products.
    """
    small = _rates(device, size // 4)
    return small if _HOPELESS * small["bf16"] < small["float32"] else _rates(device, size)


def _rates(device: str, size: int) -> dict[str, float]:
    kinds = {"float32": torch.float32, "bf16": torch.bfloat16}
    matrices = {name: torch.ones(size, size, dtype=kind, device=device) for name, kind in kinds.items()}
    best = dict.fromkeys(kinds, float("inf"))
    for _ in range(5):
        for name, matrix in matrices.items():
            start = time.perf_counter()
            product = matrix @ matrix
            float(product[0, 0])
            best[name] = min(best[name], time.perf_counter() - start)
    return {name: 2 * size**3 / seconds for name, seconds in best.items()}


@cache
def keep_freed_memory() -> bool:
    """Let the C library keep freed memory for the next step, rather than return it to the system each time.

    Without it every large activation is paged in again at each step: a convolutional network trains about 1.5 times
    as slowly (``benchmarks/step.py --allocator``). Only glibc has the setting; ``LIMBECK_MALLOC=0`` leaves it alone.

    Returns:
        Whether it was set.
    """
    if os.environ.get("LIMBECK_MALLOC") == "0" or not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    trim_threshold, mmap_threshold = -1, -3
    return bool(mallopt(mmap_threshold, 1 << 30)) and bool(mallopt(trim_threshold, (1 << 31) - 1))
