"""Positions of sequences as examples: the words of a sentence, each with a class, or tokens, each with the next one.

A sequence is answered once, whatever number of its positions a batch has; it is what its positions belong to, in splits
and in the clusters of verdicts.

Axes: ``N`` examples, ``S`` sequences, ``L`` tokens of the longest.
"""

__all__ = ["NextTokens", "Positions", "Words"]

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.data.row_hashes import mark_of
from limbeck.data.source import Source, numbered
from limbeck.data.text import Strings
from limbeck.data.tokens import Tokens, tokenise
from limbeck.errors import ConfigError, DataError
from limbeck.inputs import POSITIONS, Inputs
from limbeck.keyed import permutation
from limbeck.options.text import TextPresentation
from limbeck.system.hugging_face import filler, load_tokenizer

if TYPE_CHECKING:
    from limbeck.options import Augmentation

_WINDOW = 50
"""Batches among whose examples sequences of like length are put together."""
_AT_A_TIME = 1000
"""Sentences that are given to a tokenizer together."""


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


class Words(Positions):
    """Sentences of words that have a class each; a model's answer to a word is that at the word's first token.

    Teacher and student may have different tokenizers.

    Args:
        sentences: The words of each sentence.
        kept: Which words are examples, bool for each word of each sentence; None for all.
        groups: What each sentence belongs to; None where each stands alone.
        presentation: The student's tokenizer; None until it is known.

    Raises:
        DataError: If a word is missing, or no word is an example.

    Example:
        >>> some = Words([["Anna", "lives", "here"], ["yes"]], kept=[[True, False, True], [True]])
        >>> len(some), some.groups()
        (3, tensor([0, 0, 1]))
    """

    def __init__(
        self,
        sentences: Sequence[Sequence[str]],
        kept: Sequence[Sequence[bool]] | None = None,
        *,
        groups: Sequence[Any] | None = None,
        presentation: TextPresentation | None = None,
    ) -> None:
        lengths = np.array([len(sentence) for sentence in sentences], np.int64)
        self.words = Strings([word for sentence in sentences for word in sentence])
        self.ends = np.concatenate([[0], lengths.cumsum()])
        sequence = np.repeat(np.arange(len(lengths)), lengths)
        place = np.arange(len(self.words)) - self.ends[sequence]
        if kept is not None:
            chosen = np.array([flag for sentence in kept for flag in sentence], bool)
            sequence, place = sequence[chosen], place[chosen]
        super().__init__(sequence, place, lengths, groups, presentation)
        self._known: dict[tuple[str, int], tuple[Tokens, NDArray[np.int64]]] = {}

    def padded(self, chosen: NDArray[np.int64], presentation: Any) -> tuple[dict[str, Tensor], NDArray[np.int64]]:
        """Tokens of some sentences, and the first token of each word."""
        key = (presentation.tokenizer, presentation.max_length)
        if key not in self._known:
            self._known[key] = self._tokenised(presentation)
        tokens, firsts = self._known[key]
        lengths = self.lengths[chosen]
        found = np.full((len(chosen), int(lengths.max(initial=0))), -1, np.int64)
        held = np.arange(found.shape[1]) < lengths[:, None]
        starts = self.ends[chosen]
        found[held] = firsts[np.repeat(starts - lengths.cumsum() + lengths, lengths) + np.arange(lengths.sum())]
        return tokens.padded(chosen, presentation.names), found

    def _tokenised(self, presentation: TextPresentation) -> tuple[Tokens, NDArray[np.int64]]:
        """All sentences, and for each word the place of its first token, -1 where that was truncated."""
        tokenizer = load_tokenizer(presentation.tokenizer)
        if not tokenizer.is_fast:
            raise ConfigError(
                f"tokenizer {presentation.tokenizer} does not say which word a token is of: give one with a "
                "tokenizer.json"
            )
        firsts = np.full(len(self.words), -1, np.int64)
        ids: list[list[int]] = []
        settings = {"is_split_into_words": True, "truncation": True, "max_length": presentation.max_length}
        for begin in range(0, len(self.lengths), _AT_A_TIME):
            starts = self.ends[begin : begin + _AT_A_TIME + 1]
            block = [self.words[first:last] for first, last in zip(starts[:-1], starts[1:], strict=True)]
            found = tokenizer(
                block, return_attention_mask=False, return_token_type_ids=False, verbose=False, **settings
            )
            ids += [row or [filler(tokenizer)] for row in found["input_ids"]]
            for number, start in enumerate(starts[:-1]):
                for place, word in enumerate(found.word_ids(number)):
                    if word is not None and firsts[start + word] < 0:
                        firsts[start + word] = place
        return Tokens.of(ids, tokenizer), firsts

    def sequence_bytes(self, number: int) -> bytes:
        """The words of a sentence."""
        first, last = self.ends[number], self.ends[number + 1]
        return "\0".join(self.words[first:last]).encode()

    def names(self, sentences: Sequence[Any] | None = None) -> list[str]:
        """What each word is called: its sentence, and its place in that, from 0.

        Args:
            sentences: Names of all sentences; None for their numbers, from 0.

        Returns:
            Such as "12:3".

        Example:
            >>> Words([["a", "b"], ["c"]]).names(["x", "y"])
            ['x:0', 'x:1', 'y:0']
        """
        called = range(len(self.lengths)) if sentences is None else sentences
        return [f"{called[s]}:{p}" for s, p in zip(self.sequence.tolist(), self.place.tolist(), strict=True)]

    def words_of_examples(self) -> list[str]:
        """The word that each example is."""
        return [self.words[row] for row in (self.ends[self.sequence] + self.place).tolist()]

    def content_of_sequences(self) -> Iterator[bytes | memoryview]:
        """Lengths of sentences and words, and the words."""
        yield self.ends.tobytes()
        yield self.words.ends.tobytes()
        yield self.words.bytes


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
