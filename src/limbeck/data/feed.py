"""Batches on the device, in an order that is a function of the seed and the epoch alone."""

__all__ = ["Feed"]

from collections.abc import Iterator

import torch

from limbeck.data.augment import Views
from limbeck.data.examples import Examples
from limbeck.options import Augmentation
from limbeck.protocols import Batch
from limbeck.system.processes import World


class Feed:
    """Shuffled, augmented batches of examples.

    Nothing of an epoch depends on what was drawn before, so any batch can be made again: a run resumes by naming
    the epoch and the step, and a stored soft target is looked up by example and view.

    Args:
        examples: What to draw from.
        batch_size: Examples a step.
        augmentation: Random views; None for the examples as they are.
        seed: Seed of the order.
        device: Where the batches are made.
        world: Where several processes divide each batch: this one among them.
        steps: Steps per epoch, where they are not those of one pass over the examples: the passes follow each other
            and an epoch ends where it has as many steps.

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
    ) -> None:
        self.world = world
        self.examples = examples.to(device)
        self.batch_size, self.seed = batch_size, seed
        self.augmentation = augmentation or Augmentation()
        self.views = Views(self.examples, self.augmentation) if self.augmentation.active else None
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
        number, last = epoch * self.steps + start, epoch * self.steps + self.steps
        while number < last:
            for batch in self._pass(*divmod(number, self.steps_per_pass)):
                yield batch
                number += 1
                if number == last:
                    return

    def _pass(self, number: int, start: int) -> Iterator[Batch]:
        """The batches of one pass over the examples, from a step on."""
        view = self.augmentation.view_of(number) if self.views is not None else 0
        if self.views is not None:
            self.views.prepare(view)
        size = self.batch_size
        examples = self.examples
        source, step = examples.source, number * self.steps_per_pass + start
        for order in examples.orders(seed=self.seed, epoch=number, batch_size=size, start=start * size):
            # Looked up once a stretch, not once a batch.
            numbers = examples.index[order].long()
            labels = None if examples.labels is None else examples.labels[order].long()
            for first in range(0, len(order), size):
                own, _ = self.own_rows(0, step)
                part = slice(first + own.start, first + max(own.stop, own.start + 1))
                rows = order[part]
                yield Batch(
                    index=numbers[part],
                    view=view,
                    inputs=examples.as_seen(rows) if self.views is None else self.views.take(rows),
                    labels=None if labels is None else labels[part],
                    spliced=examples.splicer(rows),
                    source=source,
                )
                step += 1
