r"""Encodings of rows of logits with fixed width: the protocol, and the dense encoding.

A teacher's log-probabilities at T = 1, or its logits, are kept as differences from the row's largest: 0 for the
top-1 class, negative for the rest. Nothing is lost, since a constant cancels in a softmax at any temperature,
and float16 is finest near 0. -65504, the lowest finite float16, stands for anything below it.

Axes: ``N`` rows, ``K`` classes; ``T`` is the temperature.
"""

__all__ = ["FLOOR", "Dense", "Encoding", "Field", "below_largest", "log_softmax"]

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import ConfigError, DataError

FLOOR = -65504.0
"""The lowest difference that is kept, natural logarithm."""


@dataclass(frozen=True)
class Field:
    """One array of a shard.

    Attributes:
        name: Its name.
        dtype: Type in numpy's letters, little-endian, such as ``<f2``.
        width: Numbers per row.
    """

    name: str
    dtype: str
    width: int

    @property
    def row_bytes(self) -> int:
        """Bytes per row."""
        return np.dtype(self.dtype).itemsize * self.width


class Encoding(Protocol):
    """A way to keep rows of logits."""

    @property
    def keeps_logits(self) -> bool:
        """Whether a row has the logit of every class."""

    @property
    def estimates(self) -> bool:
        """Whether a row is an estimate, so that it says little of one answer."""

    @property
    def has_tail(self) -> bool:
        """Whether it is a :class:`~limbeck.softtargets.TopK`, whose tail is known in sum, with a profile beside."""

    @property
    def name(self) -> str:
        """Its encoding name in the manifest."""

    def parameters(self) -> dict[str, Any]:
        """Its settings, as JSON can hold them."""

    def fields(self, classes: int) -> tuple[Field, ...]:
        """The arrays of a row, widest type first, so that each begins where its type asks."""

    def encode(
        self, scores: NDArray[np.float32], index: NDArray[np.int64], view: NDArray[np.int64], first_row: int = 0
    ) -> dict[str, NDArray[Any]]:
        """Encode logits ``(N, K)`` of some examples and views; ``first_row`` is for messages."""

    def decode(self, fields: Mapping[str, NDArray[Any]], classes: int, temperature: float) -> NDArray[np.float64]:
        """Log-probabilities ``(N, K)`` softened at a temperature: the reference, in float64."""


def below_largest(scores: NDArray[np.float32], first_row: int = 0) -> NDArray[np.float32]:
    """Differences from each row's largest logit.

    Args:
        scores: Log-probabilities or logits, ``(N, K)``; ``-inf`` marks a class without mass.
        first_row: The number of the first row, for the message.

    Returns:
        Differences, at most 0 and at least -65504, ``(N, K)``.

    Raises:
        DataError: If a row holds NaN, plus infinity, or nothing but minus infinity.

    Example:
        >>> below_largest(np.array([[1.0, 3.0, -np.inf]], np.float32)).tolist()
        [[-2.0, 0.0, -65504.0]]
    """
    difference: NDArray[np.float32] = scores - _largest(scores, first_row)
    np.maximum(difference, np.float32(FLOOR), out=difference)
    return difference


def _largest(scores: NDArray[np.float32], first_row: int) -> NDArray[np.float32]:
    """Each row's largest logit, ``(N, 1)``."""
    rows, classes = scores.shape
    # Over one flat array this is more than twice as fast as a maximum row by row; NaN wins.
    largest: NDArray[np.float32] = np.maximum.reduceat(scores.reshape(-1), np.arange(0, rows * classes, classes))
    if not np.isfinite(largest).all():
        row = int(np.flatnonzero(~np.isfinite(largest))[0])
        raise DataError(
            f"the teacher's answer to row {first_row + row} holds NaN, plus infinity or nothing but minus infinity"
        )
    return largest[:, None]


def _half_below_largest(scores: NDArray[np.float32], first_row: int) -> NDArray[np.float16]:
    """:func:`below_largest`, rounded to float16, ties away from 0: four times as fast as numpy's own rounding.

    A number times 2**-112 has, as float32, the exponent that it has as float16; 13 bits more of fraction are rounded
    off as an integer.

    Args:
        scores: Log-probabilities or logits, ``(N, K)``.
        first_row: The number of the first row, for the message.

    Returns:
        Differences, ``(N, K)``.
    """
    above: NDArray[np.float32] = _largest(scores, first_row) - scores
    np.minimum(above, np.float32(-FLOOR), out=above)
    above *= np.float32(2.0**-112)
    bits = above.view(np.uint32)
    bits += np.uint32((0x8000 << 13) + (1 << 12))  # the sign, and half a step
    bits >>= np.uint32(13)
    return bits.astype("<u2").view("<f2")


def log_softmax(scores: NDArray[Any], temperature: float) -> NDArray[np.float64]:
    """Log-probabilities of the softmax at a temperature, float64.

    Args:
        scores: Log-probabilities or logits, ``(..., K)``.
        temperature: T.

    Returns:
        Natural logarithms, ``(..., K)``.

    Example:
        >>> np.exp(log_softmax(np.array([[2.0, 0.0]]), 2.0)).round(4).tolist()
        [[0.7311, 0.2689]]
    """
    softened = scores.astype(np.float64) / temperature
    softened -= softened.max(-1, keepdims=True)
    softened -= np.log(np.exp(softened).sum(-1, keepdims=True))
    return softened


@dataclass(frozen=True)
class Dense:
    """Every class.

    Attributes:
        dtype: "float16" or "float32".

    Example:
        >>> dense = Dense("float16")
        >>> row = dense.encode(np.array([[0.0, -1.0]], np.float32), np.array([0]), np.array([0]))
        >>> np.exp(dense.decode(row, 2, temperature=1.0)).round(3).tolist()
        [[0.731, 0.269]]
    """

    dtype: Literal["float16", "float32"] = "float16"

    keeps_logits: ClassVar[bool] = True
    estimates: ClassVar[bool] = False
    has_tail: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.dtype not in {"float16", "float32"}:
            raise ConfigError(f"dtype must be float16 or float32, and is {self.dtype!r}")

    @property
    def name(self) -> str:
        """Its encoding name in the manifest."""
        return "dense"

    def parameters(self) -> dict[str, Any]:
        """Its settings, as JSON can hold them."""
        return {"dtype": self.dtype}

    def fields(self, classes: int) -> tuple[Field, ...]:
        """One array: differences from the largest."""
        return (Field("scores", "<f2" if self.dtype == "float16" else "<f4", classes),)

    def encode(
        self, scores: NDArray[np.float32], index: NDArray[np.int64], view: NDArray[np.int64], first_row: int = 0
    ) -> dict[str, NDArray[Any]]:
        """Encode logits ``(N, K)``; the examples' indices and views are not needed."""
        half = self.dtype == "float16"
        return {
            "scores": _half_below_largest(scores, first_row) if half else below_largest(scores, first_row).astype("<f4")
        }

    def decode(self, fields: Mapping[str, NDArray[Any]], classes: int, temperature: float) -> NDArray[np.float64]:
        """Log-probabilities ``(N, K)`` softened at a temperature."""
        return log_softmax(fields["scores"], temperature)
