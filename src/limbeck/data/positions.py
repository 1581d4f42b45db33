"""Positions of sequences as examples: token classification and next-token prediction.

A sequence is run once per batch, however many of its positions the batch has; it is what its positions belong to, in
splits and in the clusters of verdicts.

Axes: ``N`` examples, ``S`` sequences, ``L`` tokens of the longest.
"""

__all__ = ["Positions"]

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.data.row_hashes import mark_of
from limbeck.data.source import Source, numbered
from limbeck.errors import ConfigError, DataError
from limbeck.inputs import POSITIONS, Inputs
from limbeck.keyed import permutation
from limbeck.options.text import TextPresentation

if TYPE_CHECKING:
    from limbeck.options import Augmentation

_WINDOW = 50
"""Batches among whose examples sequences of like length are put together."""


class Positions(Source):
    """Sequences, some of whose positions are examples.

    Args:
        sequence: The sequence that each example is in, ``(N,)``.
        place: Where each example is in its sequence, as :meth:`padded` counts, ``(N,)``.
        lengths: How long each sequence is, ``(S,)``.
        groups: What each sequence belongs to, ``(S,)``; None where each stands alone.
        presentation: The student's tokenizer.
    """

    kind = "integers"
    unmixable = "positions of sequences"
    decoded = False

    def __init__(
        self,
        sequence: NDArray[np.int64],
        place: NDArray[np.int64],
        lengths: NDArray[np.int64],
        groups: Sequence[Any] | None,
        presentation: TextPresentation | None,
    ) -> None:
        self.sequence, self.place = sequence.astype(np.int32), place.astype(np.int32)
        self.lengths, self.presentation = lengths, presentation
        if not len(sequence):
            raise DataError("no position of any sequence is an example: at least one needs a class")
        numbers = {name: number for number, name in enumerate(dict.fromkeys(groups or ()))}
        self.named = None if groups is None else list(numbers)
        self.group = np.array([numbers[name] for name in groups]) if groups is not None else np.arange(len(lengths))

    @abstractmethod
    def padded(self, chosen: NDArray[np.int64], presentation: Any) -> tuple[dict[str, Tensor], NDArray[np.int64]]:
        """Some sequences as a model takes them, and where in them the tokens are that stand for their places.

        Args:
            chosen: Which, int64 ``(n,)``.
            presentation: Of the model.

        Returns:
            Tensors ``(n, L)`` by name; and the token of each place, -1 where it was truncated, ``(n, places)``.
        """

    @abstractmethod
    def content_of_sequences(self) -> Iterator[bytes | memoryview]:
        """The bytes of all sequences."""

    def __len__(self) -> int:
        return len(self.sequence)

    @property
    def shape(self) -> tuple[int, ...]:
        """Examples, and the most tokens of a sequence where the tokenizer is known."""
        return (len(self),) if self.presentation is None else (len(self), self.presentation.max_length)

    def fetch(
        self,
        rows: Tensor,
        keys: Tensor,
        *,
        view: int = 0,
        augmentation: "Augmentation | None" = None,
        presentations: Sequence[Any] = (None,),
    ) -> list[Inputs]:
        """The sequences that some examples are in, and the examples' positions in them."""
        if augmentation is not None and augmentation.active:
            raise ConfigError("an augmentation is for images, and these examples are texts: leave it out")
        wanted = rows.cpu().numpy()
        chosen, which = np.unique(self.sequence[wanted], return_inverse=True)
        return [self._shown(wanted, chosen, which, each or self.presentation) for each in presentations]

    def _shown(
        self, rows: NDArray[np.int64], chosen: NDArray[np.int64], which: NDArray[np.int64], presentation: Any
    ) -> Inputs:
        if not isinstance(presentation, TextPresentation):
            raise DataError(
                "the examples are positions of texts, and the model does not say how it sees them: give hf:FOLDER, or "
                "set its attribute presentation to limbeck.TextPresentation(tokenizer, max_length)"
            )
        inputs, tokens = self.padded(chosen, presentation)
        found = tokens[which, self.place[rows]]
        if found.min(initial=0) < 0:
            row = rows[int(found.argmin())]
            raise DataError(
                f"position {self.place[row]} of sequence {self.sequence[row]} is beyond the {presentation.max_length} "
                f"tokens that tokenizer {presentation.tokenizer} keeps: raise max_length, or divide long sequences"
            )
        length = inputs["input_ids"].shape[1]
        return {**inputs, POSITIONS: torch.from_numpy(which * length + found)}

    def select(self, rows: Tensor) -> Self:
        """Some of the examples; the sequences are shared."""
        return self._with(rows.cpu().numpy(), self.presentation)

    def with_presentation(self, presentation: Any) -> Self:
        """The same examples for another tokenizer, where nobody says which."""
        return self if presentation == self.presentation else self._with(slice(None), presentation)

    def _with(self, rows: Any, presentation: Any) -> Self:
        found = object.__new__(type(self))
        found.__dict__.update(self.__dict__)
        found.sequence, found.place = self.sequence[rows], self.place[rows]
        found.presentation = presentation
        return found

    def groups(self) -> Tensor:
        """What each example's sequence belongs to, or the sequence itself, int64 ``(N,)``."""
        return numbered(self.group[self.sequence])

    def together(self, purpose: Literal["validation", "subset"]) -> Tensor:
        """The groups, whatever is set aside."""
        return self.groups()

    def group_names(self) -> list[Any] | None:
        """What each example's sequence belongs to."""
        return None if self.named is None else [self.named[number] for number in self.group[self.sequence].tolist()]

    @abstractmethod
    def sequence_bytes(self, number: int) -> bytes:
        """What tells one sequence from any other."""

    def marks(self) -> NDArray[np.int64]:
        """Hashes of the sequences, each with the place in it."""
        there, which = np.unique(self.sequence, return_inverse=True)
        hashes = np.array([mark_of(self.sequence_bytes(number)) for number in there.tolist()], np.int64)
        return hashes[which] ^ self.place

    def exact(self, row: int) -> bytes:
        """The sequence, and the place in it."""
        return self.sequence_bytes(int(self.sequence[row])) + int(self.place[row]).to_bytes(8, "little")

    @property
    def together_at_once(self) -> float:
        """Examples of a sequence in the mean."""
        return len(self) / len(np.unique(self.sequence))

    def text_lengths(self) -> NDArray[np.int64]:
        """How long each example's sequence is, ``(N,)``."""
        return self.lengths[self.sequence]

    def largest(self, count: int) -> Tensor:
        """Rows of all examples in the longest sequences, int64."""
        there = np.unique(self.sequence)
        longest = there[np.argsort(-self.lengths[there], kind="stable")[:count]]
        return torch.from_numpy(np.flatnonzero(np.isin(self.sequence, longest)))

    def orders(self, *, seed: int, epoch: int, batch_size: int, start: int = 0) -> Iterator[Tensor]:
        """The order of an epoch, a function of seed and epoch alone: sequences of like length come together, whole.

        The sequences are shuffled; each stretch of some 50 batches is sorted by length; what follows is cut into
        batches, which are shuffled. A last batch with fewer examples stays the last.

        Args:
            seed: Seed of the order.
            epoch: Which epoch, from 0.
            batch_size: Examples, which are positions, in a batch.
            start: The first row wanted, counted in the order of the epoch.

        Yields:
            Rows, int64.
        """
        there, which = np.unique(self.sequence, return_inverse=True)
        shuffled = permutation(len(there), seed=seed, epoch=epoch).numpy()
        stretch = max(1, int(_WINDOW * batch_size / self.together_at_once))
        parts = [shuffled[first : first + stretch] for first in range(0, len(shuffled), stretch)]
        order = np.concatenate([part[np.argsort(self.lengths[there[part]], kind="stable")] for part in parts])
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        rows = torch.from_numpy(np.argsort(rank[which], kind="stable"))
        whole = len(self) // batch_size
        batches = permutation(whole, seed=seed, epoch=epoch, part=1)
        full = rows[: whole * batch_size].view(whole, batch_size)[batches].flatten()
        yield torch.cat([full, rows[whole * batch_size :]])[start:]

    def content(self) -> Iterator[bytes | memoryview]:
        """All sequences, and which of their positions are examples."""
        yield from self.content_of_sequences()
        yield self.sequence.tobytes()
        yield self.place.tobytes()
