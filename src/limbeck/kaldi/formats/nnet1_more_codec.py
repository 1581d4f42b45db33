"""Components of :mod:`~limbeck.kaldi.formats.nnet1_more`, from the tokens of a file to a record and back."""

__all__ = ["more_bytes", "read_more"]

import struct
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

import numpy as np

from limbeck.errors import DataError
from limbeck.kaldi.formats import matrix as km
from limbeck.kaldi.formats.nnet1_components import Component
from limbeck.kaldi.formats.nnet1_layout import Item, More, Parts
from limbeck.kaldi.formats.stream import KaldiStream

Nested = Callable[[KaldiStream], Parts]
_MOST = 1000  # networks in one component, pools, and so on


def read_more(stream: KaldiStream, kind: type[More], outputs: int, inputs: int, nested: Nested) -> Component:
    """Read the data of a component.

    Args:
        stream: After its two dimensions.
        kind: Its class.
        outputs: Output dimension of the header.
        inputs: Input dimension of the header.
        nested: Reads a network inside.

    Returns:
        The record.

    Raises:
        FormatError: If it is malformed or cut short.
    """
    start = stream.offset
    sizes = {"inputs": inputs, "outputs": outputs}
    values: dict[str, Any] = {each.name: sizes[each.name] for each in fields(kind) if each.name in sizes}
    for item in kind.layout:
        _READ[item.kind](stream, kind, item, values, nested)
    try:
        return kind(**values)
    except DataError as error:
        raise stream.error(str(error), offset=start) from error
    except TypeError as error:
        missing = next(each.name for each in fields(kind) if each.name not in values)
        raise stream.error(f"<{kind.tag}> lacks its {missing.replace('_', ' ')}", offset=start) from error


def _read_numbers(stream: KaldiStream, kind: type[More], item: Item, values: dict[str, Any], nested: Nested) -> None:
    known = {tag: (form, field) for tag, form, field in item.numbers}
    for tag in tuple(known):
        known |= {alias: known[name] for alias, name in kind.aliases.items() if name == tag}
    while True:
        if not stream.binary:
            stream.skip_space()
        token = stream.peek_token()
        if token not in known:
            return
        stream.token()
        form, field = known[token]
        what = f"{token} of <{kind.tag}>"
        if form == "i":
            values[field] = stream.int32(what)
        elif form == "f":
            values[field] = stream.float32(what)
        else:
            word = stream.take(1, what) if stream.binary else stream.word(what)
            if word not in (b"T", b"F"):
                raise stream.error(f"{what} should be T or F, and is {word[:20]!r}")
            values[field] = word == b"T"


def _read_tag(stream: KaldiStream, kind: type[More], item: Item, values: dict[str, Any], nested: Nested) -> None:
    stream.expect(item.tag)


def _read_array(stream: KaldiStream, kind: type[More], item: Item, values: dict[str, Any], nested: Nested) -> None:
    read = km.read_matrix if item.kind == "M" else km.read_vector
    values[item.field] = read(stream, kind.dtype, what=f"{item.field.replace('_', ' ')} of <{kind.tag}>")


def _read_vectors(stream: KaldiStream, kind: type[More], item: Item, values: dict[str, Any], nested: Nested) -> None:
    count = len(values[item.times])
    values[item.field] = tuple(km.read_vector(stream, what=f"{item.field} of <{kind.tag}>") for _ in range(count))


def _read_integers(stream: KaldiStream, kind: type[More], item: Item, values: dict[str, Any], nested: Nested) -> None:
    stream.expect(item.tag)
    start = stream.offset
    found = tuple(km.read_int_vector(stream, what=f"{item.tag} of <{kind.tag}>").tolist())
    if not 1 <= len(found) <= _MOST:
        raise stream.error(f"{item.tag} of <{kind.tag}> has {len(found)} numbers", offset=start)
    values[item.field] = found


def _read_word(stream: KaldiStream, kind: type[More], item: Item, values: dict[str, Any], nested: Nested) -> None:
    values[item.field] = stream.token()


def _read_net(stream: KaldiStream, kind: type[More], item: Item, values: dict[str, Any], nested: Nested) -> None:
    values[item.field] = nested(stream)


def _read_nets(stream: KaldiStream, kind: type[More], item: Item, values: dict[str, Any], nested: Nested) -> None:
    stream.expect(item.times)
    start = stream.offset
    count = stream.int32(f"{item.times} of <{kind.tag}>")
    if not 1 <= count <= _MOST:
        raise stream.error(f"{item.times} of <{kind.tag}> is {count}", offset=start)
    found = []
    for number in range(1, count + 1):
        stream.expect(item.tag)
        start = stream.offset
        if (place := stream.int32(f"number of {item.tag}")) != number:
            raise stream.error(f"{item.tag} {place} where {number} should be", offset=start)
        found.append(nested(stream))
    values[item.field] = tuple(found)


_READ: dict[str, Callable[[KaldiStream, type[More], Item, dict[str, Any], Nested], None]] = {
    "numbers": _read_numbers,
    "line": lambda stream, kind, item, values, nested: None,
    "tag": _read_tag,
    "M": _read_array,
    "V": _read_array,
    "vectors": _read_vectors,
    "I": _read_integers,
    "W": _read_word,
    "net": _read_net,
    "nets": _read_nets,
}


def more_bytes(
    component: More, *, binary: bool, write: Callable[[Parts], list[bytes | memoryview]]
) -> Iterator[bytes | memoryview]:
    """Write the data of a component as Kaldi does.

    Args:
        component: The component.
        binary: True for binary.
        write: Writes a network inside, with its tags.

    Yields:
        The bytes, in pieces.
    """
    line = b"" if binary else b"\n"
    for item in component.layout:
        if item.kind == "line":
            yield line
            continue
        if item.kind == "tag":
            yield item.tag.encode() + b" "
            continue
        if item.kind == "numbers":
            for tag, form, field in item.numbers:
                yield f"{tag} ".encode() + _number(getattr(component, field), form, binary)
            continue
        value = getattr(component, item.field)
        if item.kind == "nets":
            yield f"{item.times} ".encode() + _number(len(value), "i", binary) + line
            for number, parts in enumerate(value, 1):
                yield f"{item.tag} ".encode() + _number(number, "i", binary) + line
                yield from write(parts)
        elif item.kind == "net":
            yield from write(value)
        elif item.kind == "W":
            yield f"{value} ".encode()
        elif item.kind == "I":
            yield f"{item.tag} ".encode()
            yield from km.int_vector_bytes(np.array(value, np.int32), binary=binary)
        else:
            arrays = value if item.kind == "vectors" else (value,)
            for array in arrays:
                yield from (km.matrix_bytes if array.ndim == 2 else km.vector_bytes)(array, binary=binary)


def _number(value: Any, form: str, binary: bool) -> bytes:
    if form == "b":
        return (b"T" if value else b"F") + (b"" if binary else b" ")
    if form == "i":
        return struct.pack("<Bi", 4, value) if binary else b"%d " % value
    if binary:
        return struct.pack("<Bf", 4, value)
    short = f"{value:.7g}"
    return (short if np.float32(short) == np.float32(value) else f"{value:.9g}").encode() + b" "
