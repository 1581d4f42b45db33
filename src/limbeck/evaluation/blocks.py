"""Batch sizes for inference, from the memory that the model's activations take."""

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
"""Largest batch size."""
_UNKNOWN = 64
"""Batch size where the memory cannot be measured."""
_BUDGET, _BUDGET_CUDA = 1 << 28, 1 << 31
"""Memory budget of a batch's activations on a CPU, and on a GPU with eight times as much memory."""


class _Peak(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Tracks the memory of the tensors that are created within it.

    Attributes:
        most: Peak of live bytes.
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
    """The batch size with which inference stays within the memory budget.

    The model runs on one example and then on two, while live tensors are tracked; the difference is the memory per
    example. The random state is restored afterwards.

    Args:
        answer: Runs the model on the first so many examples.
        count: Number of examples; at least two for a measurement.
        device: The device.

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
        # Any error: a model that fails here will fail again, where its error is reported.
        return _UNKNOWN
    finally:
        torch.set_rng_state(state)
    each = most[1] - most[0] if most[1] > most[0] else most[1] / 2
    return max(1, min(MOST, int(_budget(device) // max(each, 1))))


def _budget(device: torch.device) -> int:
    if device.type != "cuda":
        return _BUDGET
    # Not from free memory: a resumed run must use the same batches to end in the same bits.
    return min(_BUDGET_CUDA, torch.cuda.get_device_properties(device).total_memory // 8)


def release_memory(device: torch.device) -> None:
    """Release PyTorch's cached device memory, before trying a smaller batch."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
