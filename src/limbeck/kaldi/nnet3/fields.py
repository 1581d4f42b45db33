"""The fields of an nnet3 component as they stand in a file: a tag, and the values after it, binary and text alike.

What a value is follows from its tag in text, and from its first byte in binary but for the question whether four bytes
are an integer or a float. A tag that is not known keeps its values as they are, and can be written in the mode in which
it was read.
"""

__all__ = ["Field", "Value", "field_bytes", "read_fields"]

import re
import struct
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import DataError
from limbeck.kaldi.formats.matrix import matrix_bytes, read_int_vector, read_matrix, read_vector, vector_bytes
from limbeck.kaldi.formats.numbers import parse_float32
from limbeck.kaldi.formats.stream import KaldiStream
from limbeck.kaldi.nnet3.text import matrix_text, number_text, vector_text

_MOST_FIELDS = 1000

_INTEGERS = frozenset(
    """RankIn RankOut UpdatePeriod Dim BlockDim InputDim OutputDim TimePeriod Rank NumBlocks NumRepeats NumFiltersIn
    NumFiltersOut HeightIn HeightOut HeightSubsampleOut InputPeriod OutputPeriod LeftContext RightContext
    NumLogCountFeatures ZeroingInterval RecurrenceInterval SpecAugmentMaxRegions RankInOut""".split()
)
_FLOATS = frozenset(
    """LearningRateFactor MaxChange L2Regularize LearningRate OrthonormalConstraint NumSamplesHistory Alpha
    MaxChangePerSample UpdateCount ActiveScalingCount MaxChangeScaleStats AlphaInOut SelfRepairLowerThreshold
    SelfRepairUpperThreshold SelfRepairScale Epsilon TargetRms DropoutProportion SpecAugmentMaxProportion BackpropScale
    Scale ClippingThreshold SelfRepairClippedProportionThreshold SelfRepairTarget ZeroingThreshold MaxMemoryMb
    NumMinibatchesHistory VarianceFloor""".split()
)
_DOUBLES = frozenset("Count OderivCount NumDimsSelfRepaired NumDimsProcessed".split())
_COUNTS = frozenset(
    """NumElementsClipped NumElementsProcessed NumSelfRepaired NumBackpropped NumElementsZeroed
    NumZeroingBoundaries""".split()
)
_INTEGER_VECTORS = frozenset("TimeOffsets ColumnMap Sizes RequiredTimeOffsets".split())
_PAIRS = frozenset(["Offsets"])
_MATRICES = frozenset(
    [("Linear", "Params"), *(("LstmNonlinearity", tag) for tag in ("Params", "ValueAvg", "DerivAvg"))]
)
_CONTAINERS = (b"FV ", b"DV ", b"FM ", b"DM ", b"CM ")
_TAG = re.compile(r"</?[A-Za-z][A-Za-z0-9_]{0,60}>")


class Value(NamedTuple):
    """One value of a field.

    Attributes:
        kind: "i" and "f" of four bytes, "d" of eight, "b" for T or F, "V" a vector, "M" a matrix, "I" integers, "P"
            pairs of integers, "?" four bytes or a word whose meaning is not known.
        content: The number, bool, array, or for "?" the bytes.
    """

    kind: str
    content: Any


@dataclass(frozen=True, eq=False)
class Field:
    """A tag and its values.

    Attributes:
        tag: Without its brackets, such as "LinearParams"; a closing one begins with a slash.
        values: In order; none after a bare tag.
    """

    tag: str
    values: tuple[Value, ...] = ()


def read_fields(stream: KaldiStream, kind: str) -> tuple[Field, ...]:
    """Read the fields of a component, up to and with its closing tag.

    Args:
        stream: After the component's opening tag.
        kind: The component's type, without "Component".

    Returns:
        The fields.

    Raises:
        FormatError: If they are malformed or cut short.
    """
    fields: list[Field] = []
    end = f"</{kind}Component>"
    while True:
        start = stream.offset
        token = stream.token()
        if token == end:
            return tuple(fields)
        if not _TAG.fullmatch(token) or (token.startswith("</") and token.endswith("Component>")):
            raise stream.error(f"found {token!r} in a {kind}Component where a tag should be", offset=start)
        if len(fields) == _MOST_FIELDS:
            raise stream.error(f"a {kind}Component of more than {_MOST_FIELDS} fields", offset=start)
        tag = token[1:-1]
        read = _binary_value if stream.binary else _text_value
        values: list[Value] = []
        while (value := read(stream, kind, tag, f"<{tag}> of a {kind}Component")) is not None:
            values.append(value)
        fields.append(Field(tag, tuple(values)))


def _scalar_kind(kind: str, tag: str) -> str:
    if tag in _COUNTS:
        return "d" if kind == "BackpropTruncation" else "i"
    if tag in _DOUBLES:
        return "d"
    return "i" if tag in _INTEGERS else "f" if tag in _FLOATS else "?"


def _are_pairs(kind: str, tag: str) -> bool:
    return tag in _PAIRS and kind == "TimeHeightConvolution"


def _binary_value(stream: KaldiStream, kind: str, tag: str, what: str) -> Value | None:
    start = stream.offset
    ahead = stream.peek(3)
    if ahead in _CONTAINERS:
        dtype = np.float64 if ahead[:1] == b"D" else np.float32
        if ahead[1:2] == b"V":
            return Value("V", read_vector(stream, dtype, what=what))
        return Value("M", read_matrix(stream, dtype, what=what))
    first = ahead[:1]
    if first == b"<" or not first:
        return None
    if first in (b"T", b"F"):
        return Value("b", stream.take(1, what) == b"T")
    if tag in _INTEGER_VECTORS and first == b"\4":
        return Value("I", read_int_vector(stream, what=what))
    if _are_pairs(kind, tag) and first == b"\4":
        stream.take(1, what)
        count = int.from_bytes(stream.take(4, what), "little", signed=True)
        if count < 0:
            raise stream.error(f"{what} has a negative length, {count}", offset=start)
        return Value("P", stream.array("<i4", 2 * count, what).astype(np.int32, copy=False).reshape(count, 2))
    if first == b"\4":
        wanted = _scalar_kind(kind, tag)
        data = stream.take(5, what)[1:]
        if wanted == "i":
            return Value("i", int.from_bytes(data, "little", signed=True))
        if wanted == "?":
            return Value("?", _Raw(data))
        return Value("f", float(np.frombuffer(data, "<f4")[0]))
    if first == b"\10":
        return Value("d", float(np.frombuffer(stream.take(9, what)[1:], "<f8")[0]))
    raise stream.error(f"{what}: no value begins with the byte {first!r}")


def _text_value(stream: KaldiStream, kind: str, tag: str, what: str) -> Value | None:
    stream.skip_space()
    start = stream.offset
    ahead = stream.peek(2)
    if ahead[:1] == b"<" or not ahead:
        return None
    if ahead[:1] == b"[":
        return _text_array(stream, kind, tag, what)
    word = stream.word(what)
    if word in (b"T", b"F"):
        return Value("b", word == b"T")
    wanted = _scalar_kind(kind, tag)
    if wanted == "?":
        return Value("?", word)
    if wanted == "i":
        if not re.fullmatch(rb"-?[0-9]{1,10}", word) or not -(1 << 31) <= int(word) < 1 << 31:
            raise stream.error(f"{what} should be an integer of 32 bits, and is {word[:20]!r}", offset=start)
        return Value("i", int(word))
    number = parse_float32(word)
    if number is None:
        raise stream.error(f"{what} should be a finite number, and is {word[:20]!r}", offset=start)
    return Value(wanted, float(word) if wanted == "d" else number)


def _text_array(stream: KaldiStream, kind: str, tag: str, what: str) -> Value:
    if _are_pairs(kind, tag):
        start = stream.offset
        stream.take(1, what)
        text = b"".join(chunk for chunk, _ in stream.until(b"]", what))
        words = text.split()
        if not all(re.fullmatch(rb"-?[0-9]{1,9},-?[0-9]{1,9}", word) for word in words):
            raise stream.error(f"{what} should be pairs such as -1,0", offset=start)
        pairs = [[int(number) for number in word.split(b",")] for word in words]
        return Value("P", np.array(pairs, np.int32).reshape(len(pairs), 2))
    if tag in _INTEGER_VECTORS:
        return Value("I", read_int_vector(stream, what=what))
    if tag == "LinearParams" or (kind, tag) in _MATRICES:
        return Value("M", read_matrix(stream, what=what))
    return Value("V", read_vector(stream, what=what))


def field_bytes(field: Field, *, binary: bool) -> list[bytes | memoryview]:
    """Write a field as Kaldi does.

    Args:
        field: The tag and its values.
        binary: True for binary.

    Returns:
        The bytes, in pieces.

    Raises:
        DataError: If a value's meaning is not known, and it was read in the other mode.
    """
    pieces: list[bytes | memoryview] = [f"<{field.tag}> ".encode()]
    for value in field.values:
        write = _WRITE_BINARY if binary else _WRITE_TEXT
        if value.kind == "?" and binary != isinstance(value.content, _Raw):
            raise DataError(f"<{field.tag}> is not known here, so it cannot go from text to binary or back")
        pieces += write[value.kind](value.content)
    return pieces


class _Raw(bytes):
    """Four bytes out of a binary file, in place of a word out of a text file."""


def _binary_array(array: NDArray[Any]) -> list[bytes | memoryview]:
    return (matrix_bytes if array.ndim == 2 else vector_bytes)(array, binary=True)


def _raw(array: NDArray[np.int32]) -> bytes:
    return np.ascontiguousarray(array, "<i4").tobytes()


_WRITE_BINARY: dict[str, Any] = {
    "i": lambda v: [struct.pack("<Bi", 4, v)],
    "f": lambda v: [struct.pack("<Bf", 4, v)],
    "d": lambda v: [struct.pack("<Bd", 8, v)],
    "b": lambda v: [b"T" if v else b"F"],
    "V": _binary_array,
    "M": _binary_array,
    "I": lambda v: [struct.pack("<Bi", 4, len(v)), _raw(v)],
    "P": lambda v: [struct.pack("<Bi", 4, len(v)), _raw(v)],
    "?": lambda v: [b"\4" + v],
}
_WRITE_TEXT: dict[str, Any] = {
    "i": lambda v: [b"%d " % v],
    "f": lambda v: [number_text(v, np.float32) + b" "],
    "d": lambda v: [number_text(v, np.float64) + b" "],
    "b": lambda v: [b"T " if v else b"F "],
    "V": vector_text,
    "M": matrix_text,
    "I": lambda v: [b"[ " + b"".join(b"%d " % n for n in v.tolist()) + b"]\n"],
    "P": lambda v: [b"[ " + b"".join(b"%d,%d " % tuple(pair) for pair in v.tolist()) + b"]\n"],
    "?": lambda v: [v + b" "],
}
