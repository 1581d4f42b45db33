"""Numbers as nnet3 text: seven digits as Kaldi writes them, and more only where seven would not restore the bits."""

__all__ = ["matrix_text", "number_text", "vector_text"]

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from limbeck.errors import DataError

_DIGITS = 7
_SHORT = b"%%.%dg " % _DIGITS
_LONGER = {"float32": b"%.9g ", "float64": b"%.17g "}
_POWERS = np.array([float(f"1e{power}") for power in range(23)])  # all that float64 holds exactly


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
    _refuse_not_finite(value)
    short = f"{value:.{_DIGITS}g}"
    with np.errstate(over="ignore"):
        given, again = np.array([value, float(short)]).astype(dtype)
    return short.encode() if again == given else _LONGER[np.dtype(dtype).name].strip() % value


def vector_text(values: NDArray[Any]) -> list[bytes]:
    """A vector on a line of its own."""
    return [b" [ ", *_lines(values[None]), b"]\n"]


def matrix_text(values: NDArray[Any]) -> list[bytes]:
    """A matrix, a row a line."""
    if not values.size:
        return [b" [ ]\n"]
    return [b" [", *(b"\n  " + line for line in _lines(values)), b"]\n"]


def _lines(values: NDArray[Any]) -> Iterator[bytes]:
    """The digits of each row, with a space after each number: what was read from seven digits gets the same again."""
    _refuse_not_finite(values)
    form = (_SHORT * values.shape[1]).decode()
    for row, longer in zip(values, _lose_bits(values), strict=True):
        here = form
        if longer.any():
            chosen = np.where(longer, _LONGER[values.dtype.name], _SHORT)
            here = chosen.tobytes().replace(b"\0", b"").decode()  # numpy pads the shorter
        yield (here % tuple(row.tolist())).encode()


def _refuse_not_finite(values: float | NDArray[Any]) -> None:
    if not np.isfinite(values).all():
        raise DataError("Kaldi text has no form for NaN and infinity that Kaldi reads back: write binary")


def _lose_bits(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Which numbers seven digits would not restore."""
    # Seven digits are an integer times a power of ten. Where both are exact in float64, one product, one rounding and
    # one quotient find what would be read back, but for ties; the others are written and read. A float32 is too coarse
    # for its logarithm to be rounded to the next power of ten.
    decade = np.floor(np.log10(np.where(values == 0, 1, np.abs(values, dtype=np.float64))))
    power = _DIGITS - 1 - decade.astype(np.int64)
    up, down = (_POWERS[np.clip(side, 0, len(_POWERS) - 1)] for side in (power, -power))
    scaled = values * up / down
    whole = np.rint(scaled)
    sure = (np.abs(power) < len(_POWERS)) & (np.abs(np.abs(scaled - whole) - 0.5) > 1e-6)
    with np.errstate(over="ignore"):
        again = (whole / up * down).astype(values.dtype)
        places = np.nonzero(~sure | (values.dtype != np.float32))
        again[places] = [float(f"{value:.{_DIGITS}g}") for value in values[places].tolist()]
    lost: NDArray[np.bool_] = again != values
    return lost
