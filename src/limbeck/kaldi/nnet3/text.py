"""Numbers as nnet3 text: seven digits as Kaldi writes them, and more only where seven would not restore the bits."""

__all__ = ["matrix_text", "number_text", "vector_text"]

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from limbeck.errors import DataError
from limbeck.kaldi.formats.numbers import numbers_from_text


def number_text(value: float, dtype: DTypeLike) -> bytes:
    """One number.

    Args:
        value: Finite.
        dtype: float32 or float64, whose value it is.

    Returns:
        The digits.

    Example:
        >>> number_text(0.1, np.float32), number_text(1 / 3, np.float64)
        (b'0.1', b'0.33333333333333331')
    """
    return _numbers(np.array([value], dtype))[0]


def vector_text(values: NDArray[Any]) -> list[bytes]:
    """A vector on a line of its own."""
    return [b" [ " + b"".join(number + b" " for number in _numbers(values)) + b"]\n"]


def matrix_text(values: NDArray[Any]) -> list[bytes]:
    """A matrix, a row a line."""
    if not values.size:
        return [b" [ ]\n"]
    numbers = _numbers(values.ravel())
    width = values.shape[1]
    rows = (b" ".join(numbers[place : place + width]) for place in range(0, len(numbers), width))
    return [b" [", *(b"\n  " + row + b" " for row in rows), b"]\n"]


def _numbers(values: NDArray[Any]) -> list[bytes]:
    """The digits of each: what was read from seven digits gets the same seven again."""
    if not np.isfinite(values).all():
        raise DataError("Kaldi text has no form for NaN and infinity that Kaldi reads back: write binary")
    if not values.size:
        return []
    line = _formatted("%.7g", values)
    words = line.split(b" ")
    with np.errstate(over="ignore"):
        again = numbers_from_text(line, np.float64).astype(values.dtype)
    places = np.flatnonzero(again != values)
    if places.size:
        longer = _formatted("%.9g" if values.dtype == np.float32 else "%.17g", values[places]).split(b" ")
        for place, word in zip(places.tolist(), longer, strict=True):
            words[place] = word
    return words


def _formatted(form: str, values: NDArray[Any]) -> bytes:
    """All numbers in one go, with a space between them."""
    return (" ".join([form] * values.size) % tuple(values.tolist())).encode()
