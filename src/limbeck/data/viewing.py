"""Batches of any view of some examples, in any order.

A view is a function of (view seed, view, example): the same on any batch size, number of workers, in any order and
after a resume. Images in memory are distorted on the device; what is read from files, or transformed by a data set of
the user's own, is made in worker processes, ahead of the training that waits for it.
"""

__all__ = ["TEXTS_AT_ONCE", "Viewing", "in_parts", "lengths_of"]

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import tee
from typing import Any

import torch
from torch import Tensor

from limbeck.data.augment import Views
from limbeck.data.examples import Examples
from limbeck.data.mixing import Mixing, Mixture
from limbeck.data.source import Source
from limbeck.data.workers import ahead
from limbeck.inputs import Inputs, move
from limbeck.options import Augmentation
from limbeck.protocols import Batch, MixedLabels

TEXTS_AT_ONCE = 128
"""Texts that a processor answers at a time: what a layer makes of more leaves its cache, and takes twice as long."""
_Part = tuple[slice, Mixture | None]
"""Which rows a batch has, and what they are mixed with."""


class Viewing:
    """Makes batches of any view of its examples.

    Args:
        examples: What is shown; already on the device where batches are wanted.
        augmentation: What is drawn for each view; None for the examples as they are.
        workers: Processes that make inputs ahead, where a source reads or transforms them; 0 to make them when they
            are asked for, None for one per processor core and at most 8.
        presentations: How other models see the examples, made along with the rest: see
            :meth:`~limbeck.protocols.Batch.seen_as`.

    Example:
        >>> import torch
        >>> examples = Examples.of(torch.rand(5, 1, 4, 4), torch.tensor([0, 1, 0, 1, 0]))
        >>> viewing = Viewing(examples, Augmentation(shift=1))
        >>> viewing.batch(torch.tensor([3, 1]), view=2).index
        tensor([3, 1])
    """

    def __init__(
        self,
        examples: Examples,
        augmentation: Augmentation | None = None,
        *,
        workers: int | None = None,
        presentations: Sequence[Any] = (),
    ) -> None:
        self.augmentation = examples.drawn(augmentation)
        self.presentations = tuple(dict.fromkeys(each for each in presentations if each is not None))
        singly = self.augmentation.augment != "none" or any(examples.presents(each) for each in self.presentations)
        self.examples, self.workers = examples.one_by_one() if singly else examples, workers
        self.made = isinstance(self.examples.inputs, Source)
        self.device = self.examples.index.device
        drawn = self.augmentation.active
        self.views = Views(examples, self.augmentation) if self.augmentation.alters and not self.made else None
        self.mixing = Mixing(self.examples, self.augmentation) if self.augmentation.mixes else None
        self.changing = drawn

    def view_of(self, number: int) -> int:
        """Which view the examples are shown in when they are gone through for the n-th time, from 0."""
        return self.augmentation.view_of(number) if self.changing else 0

    def batch(self, rows: Tensor, view: int = 0) -> Batch:
        """Some examples in a view; ``rows`` are places among the examples, int64."""
        return next(iter(self.batches(rows, [slice(0, len(rows))], view)))

    def batches(self, order: Tensor, parts: Iterable[slice], view: int = 0) -> Iterator[Batch]:
        """Batches of a view, one after the other.

        Args:
            order: Rows, int64, on the host or on the examples' device.
            parts: Which of them each batch has.
            view: Which view.

        Yields:
            Each batch, on the examples' device.
        """
        examples, inputs = self.examples, self.examples.inputs
        there = order.to(self.device)
        # Looked up once a stretch, not once a batch.
        numbers = examples.index[there].long()
        labels = None if examples.labels is None else examples.labels[there].long()
        if self.mixing is not None:
            self.mixing.prepare(view)
        # Those who make inputs may be ahead of those who are given them.
        shown, given = tee((part, self._mixture(order[part])) for part in parts)
        if isinstance(inputs, Source):
            # A source is asked where it is, which is the host for what reads files.
            rows = order.to(inputs.device)
            keys = numbers if rows.device == self.device else examples.host_index[rows].long()
            made: Iterator[tuple[Inputs, _Presented | None]] = self._made(inputs, rows, keys, shown, view)
        else:
            made = self._looked_up(there, shown, view)
        for (part, mixture), (seen, presented) in zip(given, made, strict=True):
            known = None if labels is None else labels[part]
            mixed = None
            if mixture is not None and examples.labels is not None:
                mixed = MixedLabels(examples.labels[mixture.partner].long(), mixture.share)
            yield Batch(numbers[part], view, seen, known, presented, examples.source, mixed)

    def _mixture(self, rows: Tensor) -> Mixture | None:
        return None if self.mixing is None else self.mixing.take(rows)

    def _looked_up(self, order: Tensor, parts: "Iterable[_Part]", view: int) -> Iterator[tuple[Inputs, None]]:
        """Tensors in memory, distorted and mixed on the device."""
        if self.views is not None:
            self.views.prepare(view)
        for part, mixture in parts:
            rows = _with_partners(order[part], mixture)
            seen = self.examples.as_seen(rows) if self.views is None else self.views.take(rows)
            yield self._blended(seen, mixture), None

    def _blended(self, seen: Inputs, mixture: Mixture | None) -> Inputs:
        """Examples mixed with their partners, which follow them."""
        return seen if mixture is None or self.mixing is None else self.mixing.blend(seen, mixture)

    def _made(
        self, source: Source, order: Tensor, numbers: Tensor, parts: "Iterable[_Part]", view: int
    ) -> "Iterator[tuple[Inputs, _Presented | None]]":
        """What a source makes, in processes that are ahead."""
        wanted = (None, *self.presentations)
        augmentation = self.augmentation if self.changing else None
        asking, coming = tee(parts)
        asked = (
            (order[part], numbers[part]) if mixture is None else self._with_partners_of(order[part], numbers[part])
            for part, mixture in asking
        )
        made_ahead = ahead(source, asked, view, augmentation, wanted, self.workers)
        for (_, mixture), (rows, keys, made) in zip(coming, made_ahead, strict=True):
            finish = partial(self._finished, mixture=mixture)
            known = dict(zip(wanted, map(finish, made), strict=True))
            yield known[None], _Presented(source, rows, keys, view, augmentation, known, finish)

    def _with_partners_of(self, rows: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Rows and numbers, followed by those of their partners in a mixture, where a source looks them up."""
        assert self.mixing is not None, "there is a mixture"
        partner = self.mixing.partners[rows.cpu()]
        known = self.examples.host_index[partner].long()
        return torch.cat((rows, partner.to(rows.device))), torch.cat((numbers, known.to(rows.device)))

    def _finished(self, made: Inputs, *, mixture: Mixture | None) -> Inputs:
        """What a source made, on the device and mixed."""
        return self._blended(move(made, self.device), mixture)


def _with_partners(rows: Tensor, mixture: Mixture | None) -> Tensor:
    return rows if mixture is None else torch.cat((rows, mixture.partner))


class _Presented:
    """The inputs of a batch as any model sees them: those made ahead, or made now."""

    def __init__(
        self,
        source: Source,
        rows: Tensor,
        keys: Tensor,
        view: int,
        augmentation: Augmentation | None,
        known: dict[Any, Inputs],
        finish: Callable[[Inputs], Inputs],
    ) -> None:
        self.source, self.rows, self.keys = source, rows, keys
        self.view, self.augmentation, self.known, self.finish = view, augmentation, known, finish

    def __call__(self, presentation: Any) -> Inputs:
        if presentation not in self.known:
            made = self.source.fetch(
                self.rows, self.keys, view=self.view, augmentation=self.augmentation, presentations=(presentation,)
            )
            self.known[presentation] = self.finish(made[0])
        return self.known[presentation]


def in_parts(count: int, size: int) -> list[slice]:
    """Slices of at most a size that cover a count, one after the other.

    Args:
        count: How many there are.
        size: At most how many in each.

    Returns:
        The slices.

    Example:
        >>> in_parts(5, 2)
        [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def lengths_of(examples: Examples) -> Tensor | None:
    """Lengths of texts, by which those that are answered together should be alike: a batch is padded to its longest.

    Args:
        examples: Any.

    Returns:
        Lengths, int64 ``(N,)``; None where examples are not texts, or several of them are in one text.
    """
    found = getattr(examples.inputs, "text_lengths", None)
    return None if found is None or examples.together_at_once != 1 else torch.from_numpy(found())
