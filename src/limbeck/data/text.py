"""Texts as examples: held as bytes, tokenised once, and padded to the longest of each batch.

Axes: ``N`` examples.
"""

__all__ = ["Strings", "Text"]

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import get_worker_info

from limbeck.data.row_hashes import mark_of
from limbeck.data.source import Source
from limbeck.data.tokens import Tokens, tokenise
from limbeck.errors import ConfigError, DataError
from limbeck.inputs import Inputs
from limbeck.keyed import permutation
from limbeck.options.text import TextPresentation

if TYPE_CHECKING:
    from limbeck.options import Augmentation

_KEPT_TOKENS = 1 << 28
"""Up to this many tokens, of 4 bytes, are held in memory; of more texts, those of a batch are tokenised in workers."""
_WINDOW = 50
"""Batches among whose examples texts of like length are put together."""


class Strings(Sequence[str]):
    """Strings in UTF-8, one after the other in one array: a tenth of what as many objects take.

    Args:
        strings: Any.

    Raises:
        DataError: If one is missing, or not text.

    Example:
        >>> names = Strings(["ja", "", "nein"])
        >>> len(names), names[2], list(names.select([2, 0]))
        (3, 'nein', ['nein', 'ja'])
    """

    def __init__(self, strings: Sequence[Any]) -> None:
        encoded: list[bytes] = []
        for row, each in enumerate(strings):
            if not isinstance(each, str):
                missing = each is None or each != each
                raise DataError(
                    f"text {row} is {'missing' if missing else f'{each!r:.80}, a {type(each).__name__}'}: "
                    + ("fill it in, or leave the example out" if missing else "give texts as strings")
                )
            try:
                encoded.append(each.encode())
            except UnicodeEncodeError as error:
                raise DataError(
                    f"text {row} holds half a surrogate pair at character {error.start}, which is not valid text"
                ) from error
        self._hold(encoded)

    def _hold(self, encoded: Sequence[bytes]) -> None:
        self.ends: NDArray[np.int64] = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        self.bytes = b"".join(encoded)

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return [self[each] for each in range(*row.indices(len(self)))]
        if row < 0 or row >= len(self):
            raise IndexError(row)
        return self.bytes[self.ends[row] : self.ends[row + 1]].decode()

    def select(self, rows: Sequence[int]) -> "Strings":
        """Some of the strings."""
        found = Strings([])
        found._hold([self.bytes[self.ends[row] : self.ends[row + 1]] for row in rows])
        return found

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Bytes of each string, int64 ``(N,)``."""
        return np.diff(self.ends)

    def content(self) -> Iterator[bytes | memoryview]:
        """Where each string ends, and their bytes."""
        yield self.ends.tobytes()
        yield self.bytes


class Text(Source):
    """Texts, or pairs of texts, that models see as numbers of tokens.

    Each text is tokenised once for each tokenizer, when the first batch is wanted, and a batch is padded to its longest
    text. In the order of an epoch texts of like length come together, so that little is padded. An example's inputs
    are the same in any batch but for the padding, which the attention mask leaves out.

    Args:
        texts: The texts.
        pairs: The second text of each, for models that answer about two; or None.
        groups: What each text belongs to, such as an author or a package; those of one stay together when examples
            are set aside. None where each text stands alone.
        presentation: The tokenizer of the student; None until it is known.

    Raises:
        DataError: If there are no texts, one is missing, or counts differ.

    Example:
        >>> some = Text(["a short text", "another"], groups=["anna", "bert"])
        >>> len(some), some.groups()
        (2, tensor([0, 1]))
    """

    kind = "integers"
    unmixable = "texts"

    def __init__(
        self,
        texts: Sequence[str] | Strings,
        pairs: Sequence[str] | Strings | None = None,
        *,
        groups: Sequence[Any] | None = None,
        presentation: TextPresentation | None = None,
    ) -> None:
        self.texts = texts if isinstance(texts, Strings) else Strings(texts)
        self.pairs = pairs if pairs is None or isinstance(pairs, Strings) else Strings(pairs)
        self.names_of_groups = None if groups is None else list(groups)
        self.presentation = presentation
        if not len(self.texts):
            raise DataError("there are no texts: at least one is needed")
        for what, given in (("second texts", self.pairs), ("groups", self.names_of_groups)):
            if given is not None and len(given) != len(self.texts):
                raise DataError(f"there are {len(self.texts)} texts and {len(given)} {what}: one for each is needed")
        self.lengths = self.texts.lengths + (0 if self.pairs is None else self.pairs.lengths)
        self._tokens: dict[tuple[str, int], Tokens] = {}
        # Where there are too many tokens to hold, texts are tokenised batch by batch.
        longest = 1 << 62 if presentation is None else presentation.max_length
        self.decoded = int(np.minimum(self.lengths + 3, longest).sum()) > _KEPT_TOKENS

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def shape(self) -> tuple[int, ...]:
        """Examples, and the most tokens of one where the tokenizer is known."""
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
        """Token numbers, padded, with their mask; a presentation is a :class:`~limbeck.options.TextPresentation`."""
        if augmentation is not None and augmentation.active:
            raise ConfigError("an augmentation is for images, and these examples are texts: leave it out")
        places = rows.cpu().numpy()
        return [self._shown(places, wanted or self.presentation) for wanted in presentations]

    def _shown(self, rows: NDArray[np.int64], presentation: Any) -> Inputs:
        if not isinstance(presentation, TextPresentation):
            raise DataError(
                "the examples are texts, and the model does not say how it sees them: give hf:FOLDER, or set its "
                "attribute presentation to limbeck.TextPresentation(tokenizer, max_length)"
            )
        if self.decoded:
            if get_worker_info() is not None:
                os.environ["TOKENIZERS_PARALLELISM"] = "false"  # its threads did not come with the fork
            chosen = rows.tolist()
            pairs = None if self.pairs is None else self.pairs.select(chosen)
            tokens = tokenise(self.texts.select(chosen), pairs, presentation)
            return tokens.padded(np.arange(len(rows)), presentation.names)
        key = (presentation.tokenizer, presentation.max_length)
        if key not in self._tokens:
            self._tokens[key] = tokenise(self.texts, self.pairs, presentation)
        return self._tokens[key].padded(rows, presentation.names)

    def select(self, rows: Tensor) -> "Text":
        """Some of the texts."""
        chosen = rows.tolist()
        groups = self.names_of_groups
        return Text(
            self.texts.select(chosen),
            None if self.pairs is None else self.pairs.select(chosen),
            groups=None if groups is None else [groups[row] for row in chosen],
            presentation=self.presentation,
        )

    def with_presentation(self, presentation: Any) -> "Text":
        """The same texts for another tokenizer, where nobody says which; tokens that are known are kept."""
        if presentation == self.presentation:
            return self
        found = Text(self.texts, self.pairs, groups=self.names_of_groups, presentation=presentation)
        found._tokens = self._tokens
        return found

    def groups(self) -> Tensor | None:
        """What each text belongs to, numbered by first appearance, int64 ``(N,)``; None where each stands alone."""
        if self.names_of_groups is None:
            return None
        numbers = {name: place for place, name in enumerate(dict.fromkeys(self.names_of_groups))}
        return torch.tensor([numbers[name] for name in self.names_of_groups])

    def group_names(self) -> Sequence[Any] | None:
        """What each text belongs to."""
        return self.names_of_groups

    def as_given(self, rows: Tensor) -> Sequence[str] | None:
        """The texts; None for pairs."""
        return None if self.pairs is not None else [self.texts[row] for row in rows.tolist()]

    def marks(self) -> NDArray[np.int64]:
        """Hashes of the texts, of which white space does not count."""
        return np.array([mark_of(self.exact(row)) for row in range(len(self))], np.int64)

    def exact(self, row: int) -> bytes:
        """The text, with one space wherever there is white space, and the second one after it."""
        both = [self.texts[row]] if self.pairs is None else [self.texts[row], self.pairs[row]]
        return b"\0".join(" ".join(each.split()).encode() for each in both)

    def together(self, purpose: Literal["validation", "subset"]) -> Tensor | None:
        """The groups, whatever is set aside."""
        return self.groups()

    def text_lengths(self) -> NDArray[np.int64]:
        """Bytes of each text, ``(N,)``."""
        return self.lengths

    def largest(self, count: int) -> Tensor:
        """Rows of the longest texts, int64: by these the memory of a batch is measured."""
        return torch.from_numpy(np.argsort(-self.lengths, kind="stable")[:count].copy())

    def orders(self, *, seed: int, epoch: int, batch_size: int, start: int = 0) -> Iterator[Tensor]:
        """The order of an epoch, a function of seed and epoch alone, in which texts of like length come together.

        The texts are shuffled; each stretch of 50 batches is sorted by length and cut into batches; the batches are
        shuffled. A last batch with fewer texts stays the last.

        Args:
            seed: Seed of the order.
            epoch: Which epoch, from 0.
            batch_size: Examples in a batch.
            start: The first row wanted, counted in the order of the epoch.

        Yields:
            Rows, int64.
        """
        lengths = torch.from_numpy(self.lengths)
        stretches = torch.split(permutation(len(self), seed=seed, epoch=epoch), _WINDOW * batch_size)
        rows = torch.cat([stretch[lengths[stretch].argsort(stable=True)] for stretch in stretches])
        whole = len(self) // batch_size
        batches = permutation(whole, seed=seed, epoch=epoch, part=1)
        full = rows[: whole * batch_size].view(whole, batch_size)[batches].flatten()
        yield torch.cat([full, rows[whole * batch_size :]])[start:]

    def content(self) -> Iterator[bytes | memoryview]:
        """All texts: their lengths and bytes."""
        for strings in (self.texts, self.pairs):
            if strings is not None:
                yield from strings.content()
