"""How many examples a model can answer at a time, by the memory that its answers take."""

__all__ = ["MOST", "block_size", "is_out_of_memory", "release_memory"]

import gc
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from limbeck.system.eager_torch import eager_mode
from limbeck.system.user_code import is_out_of_memory

MOST = 1000
"""Examples at a time, however small they are."""
_UNKNOWN = 64
"""Examples at a time, where the memory cannot be measured."""
_BUDGET, _BUDGET_CUDA = 1 << 28, 1 << 31
"""Bytes that a block's activations may take on a processor, and on a graphics card with eight times as much memory."""


class _Peak(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows the memory of the tensors that are made in it.

    Attributes:
        most: Bytes that were alive at once.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = self._alive = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {value.untyped_storage()._cdata for value in tree_leaves((args, kwargs)) if _held(value)}
        for value in tree_leaves(result):
            if _held(value):
                self._note(value.untyped_storage(), given)
        return result

    def _note(self, storage: torch.UntypedStorage, given: set[int]) -> None:
        if storage._cdata in given or storage._cdata in self._known:
            return  # a view, or changed in place
        size = storage.nbytes()
        self._known.add(storage._cdata)
        self._alive += size
        self.most = max(self.most, self._alive)
        weakref.finalize(storage, self._forget, storage._cdata, size).atexit = False

    def _forget(self, number: int, size: int) -> None:
        self._known.discard(number)
        self._alive -= size


def _held(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and value.device.type != "meta"


def block_size(answer: Callable[[int], object], count: int, device: torch.device) -> int:
    """How many examples to answer at a time so that the memory for it stays bounded.

    One example and then two are answered, and the tensors that are alive meanwhile are followed; the difference is what
    an example takes. Random numbers are afterwards as they were.

    Args:
        answer: Answers the first so many examples.
        count: How many examples there are; at least two for a measurement.
        device: Where they are answered.

    Returns:
        From 1 to :data:`MOST`.

    Example:
        >>> block_size(lambda n: torch.zeros(n, 2**22), 9, torch.device("cpu"))  # 16 MiB each
        16
    """
    if count < 2:
        return MOST
    state = torch.get_rng_state()
    most = []
    try:
        for few in (1, 2):
            with eager_mode(_Peak)() as peak, torch.no_grad():
                answer(few)
            most.append(peak.most)
    except Exception:
        # Whatever it is: a model that fails will fail again, where its error can be told.
        return _UNKNOWN
    finally:
        torch.set_rng_state(state)
    each = most[1] - most[0] if most[1] > most[0] else most[1] / 2
    return max(1, min(MOST, int(_budget(device) // max(each, 1))))


def _budget(device: torch.device) -> int:
    if device.type != "cuda":
        return _BUDGET
    # Not by what is free: a run that resumes must answer in the same blocks, to end in the same bits.
    return min(_BUDGET_CUDA, torch.cuda.get_device_properties(device).total_memory // 8)


def release_memory(device: torch.device) -> None:
    """Give back what PyTorch keeps of a device's memory, before less of it is asked for."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
