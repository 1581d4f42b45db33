"""Texts as numbers of tokens: each tokenised once, all held in one array, and padded batch by batch.

Axes: ``N`` texts, ``L`` tokens of the longest.
"""

__all__ = ["Tokens", "tokenise"]

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.errors import ConfigError
from limbeck.options.text import TOKEN_INPUTS, TextPresentation
from limbeck.system.hugging_face import filler, load_tokenizer

_AT_A_TIME = 1000
"""Texts that are given to a tokenizer together."""


@dataclass(frozen=True, eq=False)
class Tokens:
    """The tokens of many texts, one after the other.

    Attributes:
        ids: Numbers of the tokens, int32 ``(sum of lengths,)``.
        ends: Where each text ends, after a 0, int64 ``(N + 1,)``.
        types: Which text of a pair each token is of, int8 likewise, or None where all are 0.
        pad: The number that fills up shorter texts.
        names: Which inputs the tokenizer says that models take.

    Example:
        >>> two = Tokens(np.array([5, 6, 7], np.int32), np.array([0, 1, 3]), None, 0, ("input_ids", "attention_mask"))
        >>> two.padded(np.array([1, 0]))["input_ids"]
        tensor([[6, 7],
                [5, 0]])
    """

    ids: NDArray[np.int32]
    ends: NDArray[np.int64]
    types: NDArray[np.int8] | None
    pad: int
    names: tuple[str, ...]

    def padded(self, rows: NDArray[np.int64], names: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Some texts as a model takes them, padded on the right to the longest of them.

        Args:
            rows: Which, int64 ``(n,)``.
            names: Which inputs; None for those that the tokenizer says.

        Returns:
            int64 ``(n, L)`` each, by name.
        """
        starts = self.ends[rows]
        lengths = self.ends[rows + 1] - starts
        held = np.arange(lengths.max(initial=0)) < lengths[:, None]
        places = np.repeat(starts - lengths.cumsum() + lengths, lengths) + np.arange(lengths.sum())
        wanted = names or self.names
        found: dict[str, Tensor] = {}
        for name in (each for each in TOKEN_INPUTS if each in wanted):
            values = np.full(held.shape, self.pad if name == "input_ids" else 0, np.int64)
            if name == "input_ids":
                values[held] = self.ids[places]
            elif name == "attention_mask":
                values[held] = 1
            elif self.types is not None:
                values[held] = self.types[places]
            found[name] = torch.from_numpy(values)
        return found


def tokenise(texts: Iterable[str], pairs: Iterable[str] | None, presentation: TextPresentation) -> Tokens:
    """Tokenise texts, each truncated to what its model takes.

    A text without any token becomes a single one, since models cannot answer to nothing.

    Args:
        texts: The texts.
        pairs: The second text of each, or None.
        presentation: By which tokenizer, and how long.

    Returns:
        The tokens.

    Raises:
        ConfigError: If the tokenizer is not there, or fails on a text.
    """
    tokenizer = load_tokenizer(presentation.tokenizer)
    ids: list[NDArray[np.int32]] = []
    types: list[NDArray[np.int8]] = []
    lengths: list[int] = []
    for block in _blocks(texts, pairs):
        try:
            found = tokenizer(
                *block,
                truncation=True,
                max_length=presentation.max_length,
                return_attention_mask=False,
                return_token_type_ids=pairs is not None,
                verbose=False,
            )
        except Exception as error:  # whatever a tokenizer raises
            reason = " ".join(str(error).split())
            raise ConfigError(
                f"tokenizer {presentation.tokenizer} fails, with max_length {presentation.max_length}: "
                f"{type(error).__name__}: {reason[:200]}"
            ) from error
        rows = [row or [filler(tokenizer)] for row in found["input_ids"]]
        lengths += map(len, rows)
        ids.append(np.concatenate([np.asarray(row, np.int32) for row in rows]))
        if pairs is not None and "token_type_ids" in found:
            types += [np.asarray(row or [0], np.int8) for row in found["token_type_ids"]]
    ends = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
    names = tuple(name for name in TOKEN_INPUTS if name == "input_ids" or name in tokenizer.model_input_names)
    joined = np.concatenate(types) if types else None
    return Tokens(np.concatenate([np.empty(0, np.int32), *ids]), ends, joined, filler(tokenizer), names)


def _blocks(texts: Iterable[str], pairs: Iterable[str] | None) -> Iterator[tuple[list[str], ...]]:
    columns = [iter(texts)] if pairs is None else [iter(texts), iter(pairs)]
    while (block := tuple(list(islice(column, _AT_A_TIME)) for column in columns))[0]:
        yield block
