"""Inputs made ahead, in processes of their own, in the order in which they are wanted."""

__all__ = ["ahead", "worker_count"]

import os
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from limbeck.data.source import Source
from limbeck.errors import ConfigError, DataError, LimbeckError
from limbeck.inputs import Inputs
from limbeck.options import Augmentation

_MOST = 8
"""Processes, where nobody says how many."""
_AHEAD = 2
"""Batches that each process makes before they are asked for."""
_START_SECONDS = 1.0
"""Seconds of reading for which no process is started."""

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
        workers: How many processes; None for one per processor core and at most 8.

    Yields:
        Rows and numbers of each batch, and its inputs.

    Raises:
        DataError: If an example cannot be made; the message names it.
    """
    count = worker_count(workers) if source.decoded else 0
    if count == 0:
        for rows, keys in requests:
            yield (
                rows,
                keys,
                source.fetch(rows, keys, view=view, augmentation=augmentation, presentations=presentations),
            )
        return
    left = [(rows.cpu(), keys.cpu()) for rows, keys in requests]
    began = time.perf_counter()
    if left and (workers is None or len(left) == 1):
        # Where nobody says how many, processes are started for what takes longer than their start.
        rows, keys = left.pop(0)
        made = source.fetch(rows, keys, view=view, augmentation=augmentation, presentations=presentations)
        alone = (time.perf_counter() - began) * len(left) < _START_SECONDS
        yield rows, keys, made
        if alone:
            yield from ahead(source, left, view, augmentation, presentations, 0)
            return
    asked = [(number, rows, keys) for number, (rows, keys) in enumerate(left)]
    held = _Fetching(source, view, augmentation, tuple(presentations))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This DataLoader will create")  # as many as were asked for
        loader: DataLoader[Any] = DataLoader(
            held,
            batch_size=None,
            sampler=asked,
            num_workers=min(count, len(asked)),
            prefetch_factor=_AHEAD,
            collate_fn=_as_made,
            generator=torch.Generator(),  # or the global one would be drawn from
        )
        answers = iter(loader)
    for answer in answers:
        if isinstance(answer, _Failed):
            raise DataError(answer.words)
        number, inputs = answer
        yield asked[number][1], asked[number][2], inputs


def _as_made(made: Any) -> Any:
    return made


class _Failed:
    """An error of ours in a process: torch would print its traceback into the message."""

    def __init__(self, words: str) -> None:
        self.words = words


class _Fetching(Dataset[Any]):
    """A source whose items are batches, as torch's loader asks for them."""

    def __init__(
        self, source: Source, view: int, augmentation: Augmentation | None, presentations: tuple[Any, ...]
    ) -> None:
        self.source, self.view = source, view
        self.augmentation, self.presentations = augmentation, presentations

    def __getitem__(self, request: tuple[int, Tensor, Tensor]) -> "tuple[int, list[Inputs]] | _Failed":
        number, rows, keys = request
        try:
            return number, self.source.fetch(
                rows, keys, view=self.view, augmentation=self.augmentation, presentations=self.presentations
            )
        except LimbeckError as error:
            return _Failed(str(error))
