"""Data-loading workers: inputs are made ahead in other processes, in order."""

__all__ = ["ahead", "made_ahead", "worker_count"]

import multiprocessing
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from limbeck.data.source import Source
from limbeck.errors import ConfigError, DataError, ItemError, LimbeckError
from limbeck.inputs import Inputs
from limbeck.options import Augmentation

_MOST = 8
"""Default number of processes."""
_AHEAD = 2
"""Batches that each process makes before they are asked for."""
_START_SECONDS = 1.0
"""Seconds of reading for which no process is started."""

T = TypeVar("T")
R = TypeVar("R")
Made = tuple[Tensor, Tensor, list[Inputs]]
"""The rows of a batch, the examples' numbers, and the inputs in each presentation."""


def worker_count(asked: int | None) -> int:
    """How many processes make inputs: as many as are asked for, or one per processor core and at most 8.

    Args:
        asked: The number, 0 for none; None to decide here.

    Returns:
        At least 0.

    Raises:
        ConfigError: If it is negative.

    Example:
        >>> worker_count(0), worker_count(3)
        (0, 3)
    """
    if asked is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return min(_MOST, cores)
    if asked < 0:
        raise ConfigError(f"workers must be at least 0, and is {asked}")
    return asked


def made_ahead(make: Callable[[T], R], requests: Iterable[T], workers: int | None) -> Iterator[R]:
    """Call a function for one request after the other, in processes that are some requests ahead.

    Args:
        make: A function of its argument alone, so that its results do not depend on who calls it.
        requests: Its arguments, in order.
        workers: How many processes; None for one per processor core and at most 8, and for none where all is done in
            less time than their start takes.

    Yields:
        The results, in order.

    Raises:
        DataError: If the function raises an error of ours in a process.
    """
    count, left = worker_count(workers), iter(requests)
    if count and workers is None:
        asked = list(left)
        began = time.perf_counter()
        for request in asked[:1]:
            first = make(request)
            if (time.perf_counter() - began) * (len(asked) - 1) < _START_SECONDS:
                count = 0
            yield first
        left = iter(asked[1:])
    if not count:
        yield from map(make, left)
        return
    rest = list(left)
    if not rest:
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This DataLoader will create")  # as many as were asked for
        loader: DataLoader[Any] = DataLoader(
            _Making(make),
            batch_size=None,
            sampler=rest,
            num_workers=min(count, len(rest)),
            prefetch_factor=_AHEAD,
            collate_fn=_as_made,
            multiprocessing_context=_start_method(),
            generator=torch.Generator(),  # or the global one would be drawn from
        )
        results = iter(loader)
    for result in results:
        if isinstance(result, _Failed):
            raise result.kind(result.words)
        yield result


# A forked process needs nothing pickled, and ends when its parent is gone. One that a server of forks starts for a
# process of ours keeps the server alive, and so waits for ever for a parent that was killed.
def _start_method() -> str | None:
    """How processes are started: by a fork on Linux, whatever started this one; None for what the system has."""
    return "fork" if sys.platform == "linux" and "fork" in multiprocessing.get_all_start_methods() else None


def ahead(
    source: Source,
    requests: Iterable[tuple[Tensor, Tensor]],
    view: int,
    augmentation: Augmentation | None,
    presentations: Sequence[Any],
    workers: int | None,
) -> Iterator[Made]:
    """Make the inputs of one batch after the other, some of them before they are asked for.

    What comes out does not depend on the number of processes: an example's inputs are a function of its number and the
    view.

    Args:
        source: Makes them.
        requests: Rows, and the examples' numbers, of each batch.
        view: Which view.
        augmentation: What is drawn.
        presentations: As what each batch is wanted.
        workers: As for :func:`made_ahead`; none are started where a source has nothing to read.

    Yields:
        Rows and numbers of each batch, and its inputs.

    Raises:
        DataError: If an example cannot be made; the message names it.
    """  # noqa: DOC502
    fetch = partial(_fetch, source, view=view, augmentation=augmentation, presentations=tuple(presentations))
    first = next(requests := iter(requests), None)
    if first is None:
        return
    # A process that is forked cannot use a device; what is there is quickly looked up.
    count = workers if source.decoded and first[0].device.type == "cpu" else 0
    yield from made_ahead(fetch, chain([first], requests), count)


def _fetch(source: Source, request: tuple[Tensor, Tensor], **settings: Any) -> Made:
    rows, keys = request
    return rows, keys, source.fetch(rows, keys, **settings)


def _as_made(made: Any) -> Any:
    return made


class _Failed:
    """An error of ours in a process: torch would print its traceback into the message."""

    def __init__(self, error: LimbeckError) -> None:
        self.words = str(error)
        self.kind = ItemError if isinstance(error, ItemError) else DataError


class _Making(Dataset[Any], Generic[T, R]):
    """A function whose results torch's loader asks for as items."""

    def __init__(self, make: Callable[[T], R]) -> None:
        self.make = make

    def __getitem__(self, request: T) -> R | _Failed:
        try:
            return self.make(request)
        except LimbeckError as error:
            return _Failed(error)
