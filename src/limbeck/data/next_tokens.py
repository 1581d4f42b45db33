"""Next-token prediction: each position's class is the next token.

Axes: ``N`` examples, ``S`` sequences, ``L`` tokens of the longest.
"""

__all__ = ["NextTokens"]

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.data.positions import Positions
from limbeck.data.tokens import Tokens, tokenise
from limbeck.errors import DataError
from limbeck.options.text import TextPresentation
from limbeck.system.hugging_face import load_tokenizer

if TYPE_CHECKING:
    pass


class NextTokens(Positions):
    """Windows of text whose positions each have the next token as their class: what language models learn.

    The vocabulary is the classes, so teacher and student must have the same tokenizer.

    Args:
        texts: The texts; each is cut into windows of the presentation's ``max_length``.
        presentation: The tokenizer.
        groups: What each text belongs to; None where each stands alone.

    Attributes:
        labels: The next token of each position, int32 ``(N,)``.

    Raises:
        DataError: If no text has two tokens.
    """

    def __init__(
        self, texts: Sequence[str], presentation: TextPresentation, *, groups: Sequence[Any] | None = None
    ) -> None:
        whole = TextPresentation(presentation.tokenizer, 1 << 20)
        found = tokenise(texts, None, whole)
        size, starts, owners = presentation.max_length, list[int](), list[int]()
        for number, (begin, end) in enumerate(zip(found.ends[:-1], found.ends[1:], strict=True)):
            windows = range(int(begin), int(end) - 1, size)
            starts += windows
            owners += [number] * len(windows)
        self.tokens, self.starts = found, np.array(starts, np.int64)
        ends = found.ends[1:][owners] if owners else np.empty(0, np.int64)
        lengths = np.minimum(size, ends - 1 - self.starts)
        sequence = np.repeat(np.arange(len(starts)), lengths)
        place = np.arange(len(sequence)) - np.repeat(lengths.cumsum() - lengths, lengths)
        belongs = owners if groups is None else [groups[owner] for owner in owners]
        super().__init__(sequence, place, lengths, belongs, presentation)
        self.labels = torch.from_numpy(found.ids[self.starts[sequence] + place + 1])
        self.owner, self._grouped = np.array(owners, np.int64), groups is not None
        self._first = presentation.tokenizer
        self._same: set[str] = {presentation.tokenizer}

    def sequence_bytes(self, number: int) -> bytes:
        """The tokens of a window, of the same tokenizer."""
        first = int(self.starts[number])
        return self.tokens.ids[first : first + int(self.lengths[number]) + 1].tobytes()

    def group_names(self) -> list[Any] | None:
        """What each position's text belongs to, where that was given."""
        return super().group_names() if self._grouped else None

    def names(self) -> list[str]:
        """What each position is called: its text, and its place in that, from 0, such as "12:3"."""
        place = self.starts[self.sequence] + self.place - self.tokens.ends[self.owner[self.sequence]]
        return [f"{o}:{p}" for o, p in zip(self.owner[self.sequence].tolist(), place.tolist(), strict=True)]

    def words_of_examples(self) -> list[str]:
        """The token at each position, whose next one is the example's class."""
        tokenizer = load_tokenizer(self._first)
        ids = self.tokens.ids[self.starts[self.sequence] + self.place]
        return [str(token) for token in tokenizer.convert_ids_to_tokens(ids.tolist())]

    def padded(self, chosen: NDArray[np.int64], presentation: Any) -> tuple[dict[str, Tensor], NDArray[np.int64]]:
        """Tokens of some windows; each place is its token."""
        self._refuse_other(presentation)
        starts, lengths = self.starts[chosen], self.lengths[chosen]
        ids = np.concatenate([self.tokens.ids[a : a + n] for a, n in zip(starts, lengths, strict=True)])
        ends = np.concatenate([[0], lengths.cumsum()])
        part = Tokens(ids, ends, None, self.tokens.pad, self.tokens.names)
        places = np.broadcast_to(np.arange(lengths.max(initial=0)), (len(chosen), int(lengths.max(initial=0))))
        return part.padded(np.arange(len(chosen)), presentation.names), places

    def _refuse_other(self, presentation: TextPresentation) -> None:
        if self.presentation is not None and presentation.tokenizer not in self._same:
            ours, theirs = (load_tokenizer(each.tokenizer).get_vocab() for each in (self.presentation, presentation))
            if ours != theirs:
                raise DataError(
                    f"the classes are the tokens of {self.presentation.tokenizer}, and a model has the other tokenizer "
                    f"{presentation.tokenizer}: teacher and student need the same"
                )
            self._same.add(presentation.tokenizer)
        if self.lengths.max(initial=0) > presentation.max_length:
            raise DataError(
                f"windows have up to {self.lengths.max()} tokens, and a model takes {presentation.max_length}: give "
                "them that max_length"
            )

    def content_of_sequences(self) -> Iterator[bytes | memoryview]:
        """Where the windows begin, and all tokens."""
        yield self.starts.tobytes()
        yield self.lengths.tobytes()
        yield self.tokens.ids.data
