"""Tokenised texts: each tokenised once, all held in one array, and padded per batch.

Axes: ``N`` texts, ``L`` tokens of the longest.
"""

__all__ = ["Tokens", "tokenise"]

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

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
        types: Which text of a pair each token is of, int8 ``(sum of lengths,)``, or None where all are 0.
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

    @classmethod
    def of(cls, ids: Sequence[Sequence[int]], tokenizer: Any, types: Sequence[Sequence[int]] | None = None) -> "Tokens":
        """The tokens of some texts, as a tokenizer gave them.

        Args:
            ids: Of each text.
            tokenizer: Says what pads, and what models take.
            types: Of each text, or None where all are 0.

        Returns:
            The tokens.
        """
        ends = np.cumsum([0, *map(len, ids)], dtype=np.int64)
        flat = np.fromiter(chain.from_iterable(ids), np.int32, int(ends[-1]))
        kinds = None if types is None else np.fromiter(chain.from_iterable(types), np.int8, int(ends[-1]))
        names = tuple(name for name in TOKEN_INPUTS if name == "input_ids" or name in tokenizer.model_input_names)
        return cls(flat, ends, kinds, filler(tokenizer), names)

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
    parts = []
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
        types = found["token_type_ids"] if pairs is not None and "token_type_ids" in found else None
        kinds = None if types is None else [row or [0] for row in types]
        parts.append(Tokens.of([row or [filler(tokenizer)] for row in found["input_ids"]], tokenizer, kinds))
    return _joined(parts or [Tokens.of([], tokenizer)])


def _joined(parts: Sequence[Tokens]) -> Tokens:
    ids = np.concatenate([part.ids for part in parts])
    ends = np.cumsum(np.concatenate([[0], *(np.diff(part.ends) for part in parts)]), dtype=np.int64)
    types = [part.types for part in parts if part.types is not None]
    return dataclasses.replace(parts[0], ids=ids, ends=ends, types=np.concatenate(types) if types else None)


def _blocks(texts: Iterable[str], pairs: Iterable[str] | None) -> Iterator[tuple[list[str], ...]]:
    columns = [iter(texts)] if pairs is None else [iter(texts), iter(pairs)]
    while (block := tuple(list(islice(column, _AT_A_TIME)) for column in columns))[0]:
        yield block
