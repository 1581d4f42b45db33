"""Batches on the device, in an order that is a function of the seed and the epoch alone."""

__all__ = ["Feed"]

from collections.abc import Iterator

import torch

from limbeck.data.augment import Views
from limbeck.data.examples import Examples
from limbeck.keyed import permutation
from limbeck.options import Augmentation
from limbeck.processes import World
from limbeck.protocols import Batch


class Feed:
    """Shuffled, augmented batches of examples that fit in the device's memory.

    Nothing of an epoch depends on what was drawn before, so any batch can be made again: a run resumes by naming
    the epoch and the step, and a stored soft target is looked up by example and view.

    Args:
        examples: What to draw from.
        batch_size: Examples a step.
        augmentation: Random views; None for the examples as they are.
        seed: Seed of the order.
        device: Where the batches are made.
        world: Where several processes divide each batch: this one among them.

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
    ) -> None:
        self.world = world
        self.examples = examples.to(device)
        self.batch_size, self.seed = batch_size, seed
        self.augmentation = augmentation or Augmentation()
        self.views = Views(self.examples, self.augmentation) if self.augmentation.active else None
        self._flat = self.examples.inputs.flatten(1)

    @property
    def steps(self) -> int:
        """Steps an epoch; the last batch may be smaller."""
        return -(-len(self.examples) // self.batch_size)

    def own_rows(self, step: int) -> tuple[slice, int]:
        """Which rows of a step's batch this process has, and how many all have.

        Args:
            step: The step, from 0.

        Returns:
            The rows, possibly none, and the size of the whole batch.
        """
        size = min(self.batch_size, len(self.examples) - step * self.batch_size)
        return (slice(0, size) if self.world is None else self.world.slice_of(size)), size

    def batches(self, epoch: int, *, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from a step on.

        Of several processes each gets its rows; one for which none are left gets the first, so that it has something
        to compute with.

        Args:
            epoch: Which epoch, from 0.
            start: The first step, from 0.

        Yields:
            Each batch.
        """
        order = permutation(len(self.examples), seed=self.seed, epoch=epoch, device=self.examples.index.device)
        view = self.augmentation.view_of(epoch) if self.views is not None else 0
        if self.views is not None:
            self.views.prepare(view)
        numbers = self.examples.index[order]
        labels = None if self.examples.labels is None else self.examples.labels[order]
        for step in range(start, self.steps):
            own, _ = self.own_rows(step)
            first = step * self.batch_size
            part = slice(first + own.start, first + max(own.stop, own.start + 1))
            rows = order[part]
            if self.views is not None:
                inputs = self.views.take(rows)
            else:
                # index_select on rows of bytes is eight times as fast as indexing pictures.
                inputs = self._flat.index_select(0, rows).view(len(rows), *self.examples.shape)
                if inputs.dtype == torch.uint8:
                    inputs = inputs.to(torch.float32).mul_(1 / 255)
            yield Batch(
                index=numbers[part],
                view=view,
                inputs=inputs,
                labels=None if labels is None else labels[part],
            )
