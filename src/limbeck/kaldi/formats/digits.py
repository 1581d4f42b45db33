"""Many float32 numbers as decimal text at once, in the digits that ``%.7g`` and ``%.9g`` give. Axes: ``N`` numbers.

A number is scaled by a power of ten to an integer of seven or nine digits. In float64 that is off by less than 1e-6, so
the rounding is certain but where the fraction is as near as that to one half; those few, and very large and very small
ones, are formatted one by one.
"""

__all__ = ["rows_text"]

import numpy as np
from numpy.typing import NDArray

from limbeck.kaldi.formats.numbers import find_ties, parse_float32

_SHORT, _LONG = 7, 9  # digits as Kaldi writes them, and as many as restore every float32
_POWERS = np.array([float(f"1e{power}") for power in range(23)])  # all that float64 holds exactly
_UNSURE = 1e-6
_BLOCK = 1 << 14  # numbers that are formatted together
# The places of a number's characters; those that it does not have are left out.
_ROW, _SIGN, _ZEROS, _DIGITS, _EXPONENT, _END = 0, 3, 4, 9, 26, 30
_WIDTH = 31


def rows_text(values: NDArray[np.float32], width: int = 0, *, shortest: bool = False) -> bytes:
    r"""Format numbers, a space after each.

    Args:
        values: Finite, ``(N,)``.
        width: Begin a row, with a new line and two spaces, before every so many; 0 for none.
        shortest: Give a number seven digits where they restore its bits; else all have nine.

    Returns:
        The text, without brackets.

    Example:
        >>> rows_text(np.array([0.1, -2.0, 1 / 3, 1e-20], np.float32), 2, shortest=True)
        b'\n  0.1 -2 \n  0.333333343 1e-20 '
    """
    pieces = []
    for first in range(0, len(values), _BLOCK):
        block = values[first : first + _BLOCK]
        starts = (np.arange(first, first + len(block)) % width == 0) if width else None
        pieces.append(_block_text(np.ascontiguousarray(block), starts, shortest))
    return b"".join(pieces)


def _block_text(values: NDArray[np.float32], starts: NDArray[np.bool_] | None, shortest: bool) -> bytes:
    size = np.abs(values.astype(np.float64))
    digits, power, unsure = _scaled(size, _LONG)
    most = np.full(len(values), _LONG)
    if shortest:
        few, few_power, few_unsure = _scaled(size, _SHORT)
        again = np.where(few_power >= _SHORT - 1, few * _raised(few_power - _SHORT + 1),
                         few / _raised(_SHORT - 1 - few_power))  # fmt: skip
        with np.errstate(over="ignore"):
            short = again.astype(np.float32) == np.abs(values)
        tied = np.zeros(len(values), np.bool_)
        tied[find_ties(again)] = True
        unsure = few_unsure | (unsure & ~short) | tied
        digits, power = np.where(short, few * 100, digits), np.where(short, few_power, power)
        most[short] = _SHORT
    text, shown = _characters(np.signbit(values), digits, power, most)
    for place in np.flatnonzero(unsure).tolist():
        word = np.frombuffer(_word(float(values[place]), shortest), np.uint8)
        shown[place, _SIGN:_END] = False
        text[place, _SIGN : _SIGN + len(word)], shown[place, _SIGN : _SIGN + len(word)] = word, True
    if starts is not None:
        shown[:, _ROW:_SIGN] = starts[:, None]
    return text[shown].tobytes()


def _word(value: float, shortest: bool) -> bytes:
    """One number on its own."""
    short = b"%.7g" % value
    return short if shortest and parse_float32(short) == value else b"%.9g" % value


def _raised(power: NDArray[np.int64]) -> NDArray[np.float64]:
    return _POWERS[np.clip(power, 0, 22)]


def _scaled(size: NDArray[np.float64], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """The first digits of numbers as integers, the power of ten of the first one, and where they are not certain."""
    with np.errstate(divide="ignore"):
        power = np.floor(np.log10(size))
    unsure = ~((power >= count - 23) & (power <= count + 21))
    power = np.where(unsure, 0, power).astype(np.int64)
    unsure &= size != 0
    for _ in range(2):  # the logarithm may be off by one next to a power of ten
        shift = count - 1 - power
        found = size * _raised(shift) / _raised(-shift)
        power += (found >= 10.0**count).astype(np.int64) - ((found < 10.0 ** (count - 1)) & (size != 0))
    shift = count - 1 - power
    found = size * _raised(shift) / _raised(-shift)
    whole = np.rint(found)
    unsure |= np.abs(np.abs(found - whole) - 0.5) < _UNSURE
    carried = whole >= 10.0**count
    return np.where(carried, 10.0 ** (count - 1), np.where(unsure, 0, whole)).astype(np.int64), power + carried, unsure


def _characters(
    negative: NDArray[np.bool_], digits: NDArray[np.int64], power: NDArray[np.int64], most: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The characters of numbers at their places, ``(N, _WIDTH)``, and which of them a number has."""
    text = np.empty((len(digits), _WIDTH), np.uint8)
    shown = np.zeros((len(digits), _WIDTH), np.bool_)
    text[:, _ROW:_SIGN] = np.frombuffer(b"\n  ", np.uint8)
    text[:, _SIGN:_DIGITS] = np.frombuffer(b"-0.000", np.uint8)
    text[:, _END] = ord(" ")
    shown[:, _SIGN], shown[:, _END] = negative, True
    scientific = (power < -4) | (power >= most)
    before = np.where(scientific, 0, power)  # places before the dot, less one; below 0 there are zeros after it
    shown[:, _ZEROS:_DIGITS] = np.arange(5) < np.where(before < 0, 1 - before, 0)[:, None]
    rest, last = digits.astype(np.uint32), np.zeros(len(digits), np.int64)
    for place in range(_LONG - 1, -1, -1):
        rest, digit = np.divmod(rest, np.uint32(10))
        column = _DIGITS + 2 * place
        text[:, column] = digit + ord("0")
        last = np.where((last == 0) & (digit != 0), place, last)
        shown[:, column] = (place <= last) | (place <= before)
        if place < _LONG - 1:
            text[:, column + 1] = ord(".")
            shown[:, column + 1] = (place == before) & (last > place)
    shown[:, _EXPONENT:_END] = scientific[:, None]
    text[:, _EXPONENT] = ord("e")
    text[:, _EXPONENT + 1] = np.where(power < 0, ord("-"), ord("+"))
    text[:, _EXPONENT + 2], text[:, _EXPONENT + 3] = (part + ord("0") for part in np.divmod(np.abs(power), 10))
    return text, shown
