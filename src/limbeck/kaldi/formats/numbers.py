"""Decimal numbers in Kaldi text: checked by byte class, parsed by numpy, rounded as Kaldi rounds.

Kaldi reads a float with ``istream >> float``, which rounds the decimal once, straight to float32. Numpy
parses to float64, so a second rounding to float32 could go the other way where the float64 lies exactly
half-way between two float32 values; those few tokens are compared with the half-way point in exact decimal
arithmetic.
"""

__all__ = [
    "CLASSES",
    "DIGIT",
    "DOT",
    "FOLLOWERS",
    "MINUS",
    "NUMBER",
    "SPACE",
    "are_spaces",
    "find_marks",
    "find_ties",
    "numbers_from_text",
    "parse_float32",
    "parse_int32",
    "parse_short_numbers",
    "rounded_once",
]

import re
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

SPACE, DIGIT, DOT, MINUS, _PLUS, _EXPONENT = (1 << bit for bit in range(6))
_GROUPS = (
    # bytes, their class, the classes that may follow
    (b" \t\n\v\f\r", SPACE, SPACE | DIGIT | MINUS),
    (b"0123456789", DIGIT, SPACE | DIGIT | DOT | _EXPONENT),
    (b".", DOT, SPACE | DIGIT | _EXPONENT),
    (b"-", MINUS, DIGIT | DOT),
    (b"+", _PLUS, DIGIT),
    (b"eE", _EXPONENT, DIGIT | MINUS | _PLUS),
)
CLASSES = bytearray(256)
FOLLOWERS = bytearray(256)
for _bytes, _class, _follow in _GROUPS:
    for _byte in _bytes:
        CLASSES[_byte], FOLLOWERS[_byte] = _class, _follow

_MARKS = DOT | _EXPONENT
_NO_EXPONENT = bytes.maketrans(b"eE", b"  ")
_POWERS = np.array([float(f"1e{power}") for power in range(23)])  # all that float64 holds exactly
_LARGEST_EXACT = 1 << 53

NUMBER = re.compile(rb"-?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_NUMBER_IN_HEADER = re.compile(rb"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_TIE_MASK = np.int64((1 << 29) - 1)  # the mantissa bits that float32 has not
_TIE = np.int64(1 << 28)
_MIN_NORMAL = float(np.finfo(np.float32).smallest_normal)


def rounded_once(token: bytes, value: float) -> np.float32:
    """Return a decimal rounded to float32, given the float64 next to it."""
    exact, half_way = Decimal(token.decode()), Decimal(value)
    with np.errstate(over="ignore", under="ignore"):
        near = np.float32(value)
        if exact == half_way or float(near) == value or (exact > half_way) == (float(near) > value):
            return near
        return np.float32(np.nextafter(near, np.float32(np.inf if exact > half_way else -np.inf)))


def find_ties(values: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the places of values that lie half-way between two float32 values."""
    ties = (values.view(np.int64) & _TIE_MASK) == _TIE
    magnitude = np.abs(values)
    small = (magnitude < _MIN_NORMAL) & (values != 0)
    if small.any():
        scaled = magnitude[small] * 2.0**149  # exact; float32 values are the integers here
        ties[small] = scaled - np.floor(scaled) == 0.5
    return np.flatnonzero(ties)


def parse_float32(token: bytes) -> float | None:
    """Parse one number of a header, correctly rounded to float32.

    Args:
        token: The characters, without white space.

    Returns:
        The value, or None where it is not a number, or too large for float32.

    Example:
        >>> parse_float32(b"0.1"), parse_float32(b"1e39"), parse_float32(b"x")
        (0.10000000149011612, None, None)
    """
    if not _NUMBER_IN_HEADER.fullmatch(token):
        return None
    value = np.float64(token.decode())
    with np.errstate(over="ignore"):
        rounded = np.float32(value)
    if find_ties(np.array([value])).size:
        rounded = rounded_once(token, float(value))
    return float(rounded) if np.isfinite(rounded) else None


def parse_int32(text: bytes) -> NDArray[np.int32] | None:
    """Parse decimal integers between white space.

    Args:
        text: The characters; the first and last number are whole.

    Returns:
        The integers, ``(count,)``, or None where something is not a 32-bit integer.

    Example:
        >>> parse_int32(b"1 -2  3")
        array([ 1, -2,  3], dtype=int32)
    """
    words = text.split()
    # The length bound keeps int() linear; it also lets int() see nothing but digits and a sign.
    if not all(len(word) <= 11 and word.removeprefix(b"-").isdigit() for word in words):
        return None
    values = np.array([int(word) for word in words], dtype=np.int64)
    if ((values < -(1 << 31)) | (values >= 1 << 31)).any():
        return None
    return values.astype(np.int32)


def numbers_from_text(text: bytes, dtype: DTypeLike) -> NDArray[Any]:
    """Return the numbers between white space; none where numpy cannot read the text to its end."""
    try:
        return np.fromstring(text, dtype=dtype, sep=" ")
    except (ValueError, DeprecationWarning):  # which of the two depends on numpy's age
        return np.empty(0, dtype)


def find_marks(classes: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Return the places of dots, exponents, and ends of numbers: a space, or the end of the chunk."""
    space = classes == SPACE
    is_mark = (classes & _MARKS) != 0
    is_mark[1:] |= space[1:] > space[:-1]
    marks = np.flatnonzero(is_mark)
    return marks if space[-1] else np.append(marks, classes.size)


def are_spaces(classes: NDArray[np.uint8], marks: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Return which marks are ends of numbers."""
    result = np.ones(marks.size, np.bool_)
    inside = marks.size - 1 if marks.size and marks[-1] == classes.size else marks.size
    result[:inside] = classes[marks[:inside]] == SPACE
    return result


def parse_short_numbers(
    chunk: bytes, classes: NDArray[np.uint8], marks: NDArray[np.intp], ends: NDArray[np.intp]
) -> NDArray[np.float64] | None:
    """Parse numbers of at most about 15 digits as integers times a power of ten, faster than numpy does.

    The integer and the power are exact in float64, so their quotient or product, rounded once, is the float64
    next to the decimal.

    Args:
        chunk: Text in which every two neighbours are allowed.
        classes: The class of each byte.
        marks: Dots, exponents and ends of numbers.
        ends: Ends of numbers.

    Returns:
        The numbers, or None where the chunk needs the general parser.
    """
    integers = numbers_from_text(chunk.translate(_NO_EXPONENT, b"."), np.int64)
    if marks.size == 2 * ends.size and (marks[1::2] == ends).all() and (classes[marks[::2]] == DOT).all():
        power = marks[::2] + 1 - ends  # minus the digits after the dot
    else:
        spread = _split_exponents(classes, marks, integers)
        if spread is None:
            return None
        integers, power = spread
    if integers.size != ends.size or max(int(integers.max()), -int(integers.min())) > _LARGEST_EXACT:
        return None
    low, high = int(power.min()), int(power.max())
    if low < -22 or high > 22:
        return None
    values: NDArray[np.float64] = integers / _POWERS[np.maximum(-power, 0)]
    if high > 0:
        values *= _POWERS[np.maximum(power, 0)]
    if not integers.all():  # the integer 0 has lost its sign
        space = classes == SPACE
        firsts = np.flatnonzero(np.diff(space, prepend=True) & ~space)
        negative = (integers == 0) & (classes[firsts] == MINUS)
        values[negative] = -0.0
    return values


def _split_exponents(
    classes: NDArray[np.uint8], marks: NDArray[np.intp], integers: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Tell mantissas from exponents, which follow each other among the integers.

    Returns:
        The mantissas and the powers of ten that scale them, or None where some number is malformed.
    """
    spaces = are_spaces(classes, marks)
    kinds = np.where(spaces, np.uint8(SPACE), classes[np.minimum(marks, classes.size - 1)])
    dots = kinds == DOT
    fields = np.flatnonzero(~dots)  # each integer ends at an exponent's letter or at a number's end
    if integers.size != fields.size or (dots[1:] & dots[:-1]).any():
        return None
    after_dot = np.where(fields > 0, dots[fields - 1], False)
    power = np.where(after_dot, marks[fields - 1] + 1 - marks[fields], 0)
    mantissas = np.flatnonzero(kinds[fields] == _EXPONENT)
    exponents = mantissas + 1
    if after_dot[exponents].any() or (kinds[fields[exponents]] == _EXPONENT).any():
        return None  # 1e2.5 or 1e2e5
    power[mantissas] += integers[exponents]
    keep = np.ones(fields.size, np.bool_)
    keep[exponents] = False
    return integers[keep], power[keep]
