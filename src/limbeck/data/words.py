"""Token classification: words of sentences as examples.

Axes: ``N`` examples, ``S`` sequences.
"""

__all__ = ["Words"]

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from limbeck.data.positions import Positions
from limbeck.data.text import Strings
from limbeck.data.tokens import Tokens
from limbeck.errors import ConfigError
from limbeck.options.text import TextPresentation
from limbeck.system.hugging_face import filler, load_tokenizer

if TYPE_CHECKING:
    pass


_AT_A_TIME = 1000
"""Sentences that are given to a tokenizer together."""


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
