"""One run in several processes: rank, world size and communication.

``torchrun`` and ``accelerate launch`` start the processes and name them in the environment; ``accelerate`` joins them
with ``torch.distributed``, gloo on processors and nccl on GPUs. In a process that was started alone all of this does
nothing.
"""

__all__ = ["World", "is_first", "on_first", "several", "world"]

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor

from limbeck.errors import ConfigError, LimbeckError

T = TypeVar("T")


def several() -> bool:
    """Whether this process was started as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_first() -> bool:
    """Whether this process is the one that writes and prints."""
    return not several() or os.environ.get("RANK", "0") == "0"


@dataclass(frozen=True)
class World:
    """This process among those of the run.

    Attributes:
        rank: Which it is, from 0; the first writes.
        size: How many there are.
        device: Where this one computes.
    """

    rank: int
    size: int
    device: torch.device

    def slice_of(self, count: int) -> slice:
        """The rows of ``count`` that are this process's own; shares differ by one row at most.

        Args:
            count: How many rows all processes have together.

        Returns:
            From which row to before which.

        Example:
            >>> [World(rank, 3, torch.device("cpu")).slice_of(7) for rank in range(3)]
            [slice(0, 2, None), slice(2, 4, None), slice(4, 7, None)]
        """
        return slice(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their sums over all processes: one exchange for each type of number."""
        if self.size == 1:
            return
        by_type: dict[torch.dtype, list[Tensor]] = {}
        for tensor in tensors:
            by_type.setdefault(tensor.dtype, []).append(tensor)
        for group in by_type.values():
            flat = torch.cat([tensor.reshape(-1) for tensor in group])
            torch.distributed.all_reduce(flat)
            for tensor, part in zip(group, torch.split(flat, [tensor.numel() for tensor in group]), strict=True):
                tensor.copy_(part.view_as(tensor))

    def agree(self, tensors: Mapping[str, Tensor]) -> None:
        """Overwrite tensors with those of the first process."""
        if self.size > 1:
            for tensor in tensors.values():
                torch.distributed.broadcast(tensor.detach(), 0)

    def told(self, value: T) -> T:
        """The first process's value, in all of them."""
        if self.size == 1:
            return value
        box: list[Any] = [value if self.rank == 0 else None]
        torch.distributed.broadcast_object_list(box, 0, device=self.device)
        return box[0]  # type: ignore[no-any-return]

    def heard(self, value: T) -> list[T]:
        """Every process's value, by rank, in all of them."""
        if self.size == 1:
            return [value]
        box: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(box, value)
        return box


@cache
def world() -> World:
    """This process among those of the run; joins them at the first call.

    Returns:
        Rank, number and device.

    Raises:
        ConfigError: If the others cannot be reached, or were not started.
    """
    if not several():
        if "MASTER_PORT" in os.environ and "ACCELERATE_MIXED_PRECISION" in os.environ and "RANK" not in os.environ:
            raise ConfigError(
                "accelerate launch was asked for several processes, and started this one alone: on processors it "
                "starts several with --multi_gpu in the place of --cpu, or use torchrun"
            )
        return World(0, 1, torch.device("cpu"))
    from accelerate import PartialState

    try:
        state = PartialState(cpu=not torch.cuda.is_available())
    except (ValueError, RuntimeError) as error:
        raise ConfigError(
            f"the {os.environ['WORLD_SIZE']} processes of this run cannot find each other "
            f"({' '.join(str(error).split())[:200]}): start them with torchrun or accelerate launch"
        ) from error
    if int(os.environ["WORLD_SIZE"]) != state.num_processes:
        raise ConfigError("WORLD_SIZE is set, and there is no group of processes: use torchrun or accelerate launch")
    return World(int(state.process_index), int(state.num_processes), torch.device(state.device))


def on_first(function: Callable[[], T]) -> T:
    """Call a function in the first process only, and broadcast its result or error.

    Args:
        function: Takes nothing; its result must be small and plain.

    Returns:
        What it returned there.

    Raises:
        LimbeckError: If it raised one there.
    """
    here = world()
    if here.size == 1:
        return function()
    value: Any = None
    failed: LimbeckError | None = None
    if here.rank == 0:
        try:
            value = function()
        except LimbeckError as error:
            failed = error
    # The message alone travels: an error of ours may need more than one argument to be made again.
    words = here.told(None if failed is None else (str(failed), failed.exit_code))
    if failed is not None:
        raise failed
    if words is not None:
        again = LimbeckError(words[0])
        again.exit_code = words[1]
        raise again
    told: T = here.told(value)
    return told
