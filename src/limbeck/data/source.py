"""The protocol of input sources: inputs that are not one tensor in memory.

Axes: ``N`` examples.
"""

__all__ = ["Source", "Unseen", "numbered"]

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.inputs import Inputs, tensors_of
from limbeck.keyed import permutation
from limbeck.system.files import digest_bytes

if TYPE_CHECKING:
    from limbeck.options import Augmentation

_SAMPLED = 64
"""Examples whose content counts in a digest, where reading all of them would take as long as an epoch."""


class Source(ABC):
    """Lazily made inputs: read from files, tokenised, transformed.

    Your own source has ``__len__``, :meth:`fetch`, :meth:`select`, :attr:`shape` and, where examples differ by
    more than a few bytes of each, :meth:`content`.

    Attributes:
        kind: How a model sees the numbers: "floating-point numbers" or "integers".
        decoded: Whether making inputs takes longer than looking them up, so that workers should do it ahead.
        random: Whether each view of an example differs although nobody asked for an augmentation: a transform of the
            user's own draws.
        augments: Whether it draws what an :class:`~limbeck.Augmentation` asks for.
        unmixable: What the examples are, where mixup of two is not one of them; None for floating-point numbers.
        alike: How far examples agree that are called the same by :meth:`exact`, in words.
    """

    kind: str = "floating-point numbers"
    decoded: bool = True
    random: bool = False
    augments: bool = False
    unmixable: str | None = None
    alike: str = "to the bit"

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Of a tensor ``(N, ...)`` that held them all, as of the first example where they differ."""

    @abstractmethod
    def fetch(
        self,
        rows: Tensor,
        keys: Tensor,
        *,
        view: int = 0,
        augmentation: "Augmentation | None" = None,
        presentations: Sequence[Any] = (None,),
    ) -> list[Inputs]:
        """Make the inputs of some examples, a function of these arguments alone.

        Args:
            rows: Places here, int64 ``(n,)``, on the CPU.
            keys: The examples' numbers, int64 ``(n,)``: with the view they seed whatever is drawn.
            view: Which view.
            augmentation: What is drawn, and the seed of the views; None for the examples as they are.
            presentations: As what the examples are wanted: None as the source makes them, or a presentation that
                belongs to one model, such as another size or another tokenizer.

        Returns:
            Inputs of each presentation, on the CPU; what was drawn is the same in all.
        """

    @abstractmethod
    def select(self, rows: Tensor) -> "Source | Tensor":
        """A source of some of the examples; ``rows`` are places here, int64."""

    def with_presentation(self, presentation: Any) -> Self:
        """The same examples, presented otherwise where nobody says how; itself where it knows no other."""
        return self

    def like(self, train: "Source") -> Self:
        """The same examples as the training examples are presented, where that depends on them; else itself."""
        return self

    def to(self, device: torch.device | str) -> Self:
        """Itself: inputs are made on the CPU, and moved as batches."""
        return self

    @property
    def device(self) -> torch.device:
        """Where rows and numbers are wanted: on the host, but by a source whose own tensors are elsewhere."""
        return torch.device("cpu")

    def groups(self) -> Tensor | None:
        """Which examples belong together, int64 ``(N,)``, such as texts of one author; None where none do."""
        return None

    def group_names(self) -> Sequence[Any] | None:
        """What each example belongs to, by name, ``(N,)``; None where each stands alone, or has a number only."""
        return None

    def marks(self) -> NDArray[np.int64] | None:
        """A number for each example that the same examples share, int64 ``(N,)``; None where that takes too long."""
        return None

    def exact(self, row: int) -> bytes:
        """Bytes that tell an example from any other: a digest, or all of it where it is short."""
        raise NotImplementedError(f"{type(self).__name__} has marks, and no content to compare examples by")

    def as_given(self, rows: Tensor) -> Sequence[Any] | None:
        """The raw inputs of some examples: texts, or a table's values by column; None where there are none."""
        return None

    def together(self, purpose: Literal["validation", "subset"]) -> Tensor | None:
        """Which examples stay together when some are set aside, numbered from 0 by first appearance, int64 ``(N,)``."""
        return self.groups()

    @property
    def together_at_once(self) -> float:
        """Mean number of examples per forward input, such as the positions of a sequence; usually 1."""
        return 1.0

    def scores(self, predicted: NDArray[np.int64], labels: NDArray[np.int64]) -> dict[str, Any]:
        """Further metrics of predictions, by name; empty by default.

        Args:
            predicted: Top-1 classes ``(N,)``.
            labels: True classes ``(N,)``.

        Returns:
            Plain values for ``metrics.json``.
        """
        return {}

    def largest(self, count: int) -> Tensor | None:
        """Rows of the examples that take most memory, int64; where they are positions, of so many sequences.

        Args:
            count: How many examples, or sequences.

        Returns:
            The rows, or None where all examples take the same.
        """
        return None

    def orders(self, *, seed: int, epoch: int, batch_size: int, start: int = 0) -> Iterator[Tensor]:
        """The order of an epoch, in stretches: rows, int64; each stretch but the last is a multiple of the batch."""
        yield permutation(len(self), seed=seed, epoch=epoch)[start:]

    def content(self) -> Iterator[bytes | memoryview]:
        """What tells these examples from others: the inputs of some, spread evenly, as they are without augmentation.

        Yields:
            Bytes.
        """
        rows = torch.linspace(0, len(self) - 1, min(_SAMPLED, len(self))).round().long()
        for row in rows.tolist():
            one = torch.tensor([row])
            inputs = self.fetch(one, one)[0]
            names = list(inputs) if isinstance(inputs, Mapping) else [""]
            for name, values in zip(names, tensors_of(inputs), strict=True):
                yield f"{name} {values.dtype} {tuple(values.shape)}".encode()
                array = values.contiguous().cpu().numpy()
                yield np.atleast_1d(array).reshape(-1).view(np.uint8).data

    def digest(self, others: Sequence[bytes | memoryview]) -> str:
        """SHA-256 over the number of examples, their :meth:`content` and other bytes."""
        return digest_bytes([f"{type(self).__name__} {len(self)}".encode(), *self.content(), *others])


class Unseen(Source):
    """Examples without inputs, for outputs that are looked up by index.

    Args:
        count: How many.

    Example:
        >>> Unseen(3).fetch(torch.tensor([1, 2]), torch.tensor([7, 8]))[0].shape
        torch.Size([2, 0])
    """

    decoded = False

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    @property
    def shape(self) -> tuple[int, ...]:
        """``(N, 0)``."""
        return (self.count, 0)

    def fetch(
        self,
        rows: Tensor,
        keys: Tensor,
        *,
        view: int = 0,
        augmentation: "Augmentation | None" = None,
        presentations: Sequence[Any] = (None,),
    ) -> list[Inputs]:
        """Nothing for each example."""
        return [torch.empty(len(rows), 0) for _ in presentations]

    def select(self, rows: Tensor) -> "Unseen":
        """Fewer of them."""
        return Unseen(len(rows))


def numbered(names: NDArray[Any]) -> Tensor:
    """Equal names as equal numbers, from 0 by first appearance.

    Args:
        names: What each example belongs to, ``(N,)``.

    Returns:
        int64 ``(N,)``.

    Example:
        >>> numbered(np.array([7, 3, 7, 5]))
        tensor([0, 1, 0, 2])
    """
    there, first, numbers = np.unique(names, return_index=True, return_inverse=True)
    order = np.empty(len(there), np.int64)
    order[first.argsort()] = np.arange(len(there))
    return torch.from_numpy(order[numbers])
