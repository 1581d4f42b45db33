"""Batches on the device, in an order that is a function of seed and epoch."""

__all__ = ["Feed"]

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import tee
from typing import Any

import torch
from torch import Tensor

from limbeck.data.examples import Examples
from limbeck.data.viewing import Viewing
from limbeck.options import Augmentation
from limbeck.protocols import Batch, Teaching
from limbeck.system.processes import World


class Feed:
    """Shuffled, augmented batches of examples.

    Epochs have no state, so any batch can be made again: a run resumes from its epoch and step, and stored soft targets
    are looked up by example and view.

    Args:
        examples: What to draw from.
        batch_size: Examples per step.
        augmentation: The augmentation; None for unaugmented examples.
        seed: Seed of the order.
        device: Where the batches are made.
        world: Where several processes divide each batch: this one among them.
        steps: Steps per epoch, where they are not those of one pass over the examples: the passes follow each other
            and an epoch ends where it has as many steps.
        accumulate: Number of micro-batches per step; fewer in a smaller batch.
        workers: Data-loading processes, for examples that are not in memory; None to decide here.
        presentations: Presentations of other models, made along with the batches.
        teaching: The teacher's view, where it is another one: each batch has it in addition to the student's.

    Example:
        >>> feed = Feed(Examples.of(torch.rand(5, 3), torch.tensor([0, 1, 0, 1, 0])), batch_size=2, seed=0)
        >>> [len(batch.inputs) for batch in feed.batches(epoch=0)], feed.steps
        ([2, 2, 1], 3)
    """

    def __init__(
        self,
        examples: Examples,
        *,
        batch_size: int,
        augmentation: Augmentation | None = None,
        seed: int,
        device: torch.device | str = "cpu",
        world: World | None = None,
        steps: int | None = None,
        accumulate: int = 1,
        workers: int | None = None,
        presentations: Sequence[Any] = (),
        teaching: Teaching | None = None,
    ) -> None:
        self.world = world
        self.examples = examples.to(device)
        self.batch_size, self.seed, self.accumulate = batch_size, seed, accumulate
        self.augmentation = self.examples.drawn(augmentation)
        self.viewing = Viewing(self.examples, self.augmentation, workers=workers, presentations=presentations)
        self.teaching = teaching
        if teaching is not None:
            self.taught = self.augmentation.for_teacher(teaching.view)
            self.shown = Viewing(self.examples, self.taught, workers=workers, presentations=teaching.presentations)
        self.steps_per_pass = -(-len(self.examples) // self.batch_size)
        self.steps = self.steps_per_pass if steps is None else steps

    def own_rows(self, epoch: int, step: int) -> tuple[slice, int]:
        """Which rows of a step's batch this process has, and how many all have.

        Args:
            epoch: Which epoch, from 0.
            step: The step, from 0.

        Returns:
            The rows, possibly none, and the size of the whole batch; the last batch of a pass may be smaller.
        """
        place = (epoch * self.steps + step) % self.steps_per_pass
        size = min(self.batch_size, len(self.examples) - place * self.batch_size)
        return (slice(0, size) if self.world is None else self.world.slice_of(size)), size

    def parts(self, epoch: int, step: int) -> tuple[list[slice], int]:
        """Which rows of a step's batch each of its parts has here, and how many the whole batch has.

        All processes have as many parts, of which some may be empty in some of them.

        Args:
            epoch: Which epoch, from 0.
            step: The step, from 0.

        Returns:
            The rows of each part, and the size of the whole batch.

        Example:
            >>> examples = Examples.of(torch.rand(5, 3), torch.tensor([0, 1, 0, 1, 0]))
            >>> Feed(examples, batch_size=5, seed=0, accumulate=2).parts(0, 0)
            ([slice(0, 2, None), slice(2, 5, None)], 5)
        """
        own, size = self.own_rows(epoch, step)
        count, parts = own.stop - own.start, self.parts_of(size)
        bounds = [own.start + part * count // parts for part in range(parts + 1)]
        return [slice(first, last) for first, last in zip(bounds, bounds[1:], strict=False)], size

    def parts_of(self, size: int) -> int:
        """How many parts a batch has: fewer where it is smaller than others, so that a part is hardly ever smaller.

        Args:
            size: Examples in the batch.

        Returns:
            The number of parts.
        """
        return min(size, -(-size * self.accumulate // self.batch_size))

    def batches(self, epoch: int, *, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from a step on; the parts of each, where batches are given in parts.

        Of several processes each gets its rows; one for which none are left gets the first, so that it has something
        to compute with.

        Args:
            epoch: Which epoch, from 0.
            start: The first step, from 0.

        Yields:
            Each batch.
        """
        number, last = epoch * self.steps + start, epoch * self.steps + self.steps
        while number < last:
            batches = self._pass(*divmod(number, self.steps_per_pass))
            while number < last and (first := next(batches, None)) is not None:
                yield first
                for _ in range(1, 1 if self.accumulate == 1 else self.parts_of(self.own_rows(0, number)[1])):
                    yield next(batches)
                number += 1

    def _pass(self, number: int, start: int) -> Iterator[Batch]:
        """The batches of one pass over the examples, from a step on."""
        view, size, step = self.viewing.view_of(number), self.batch_size, number * self.steps_per_pass + start
        for order in self.examples.orders(seed=self.seed, epoch=number, batch_size=size, start=start * size):
            parts = self._parts_of_pass(len(order), step)
            step += -(-len(order) // size)
            if self.teaching is None:
                yield from self.viewing.batches(order, parts, view)
            else:
                mine, theirs = tee(parts)
                yield from self._beside(self.viewing.batches(order, mine, view), self.teaching, order, theirs, number)

    def _parts_of_pass(self, count: int, step: int) -> Iterator[slice]:
        """Which of some rows of an order each part of a batch has, from a step on, as they are asked for."""
        for first in range(0, count, self.batch_size):
            # A part without a row of its own gets the first, to compute with.
            for part in self.parts(0, step)[0]:
                yield slice(first + part.start, first + max(part.stop, part.start + 1))
            step += 1

    def _beside(
        self, batches: Iterator[Batch], teaching: Teaching, order: Tensor, parts: Iterable[slice], number: int
    ) -> Iterator[Batch]:
        """The student's batches, each with the teacher's view of the same examples."""
        view = self.shown.view_of(number)
        if teaching.live:
            for batch, shown in zip(batches, self.shown.batches(order, parts, view), strict=True):
                yield replace(batch, taught=shown)
            return
        for batch in batches:  # outputs are looked up, and inputs are not used
            nothing = torch.empty(len(batch.index), 0, device=batch.index.device)
            yield replace(batch, taught=replace(batch, view=view, inputs=nothing, presented=None))
