"""Chosen fields of one struct in a MATLAB 5 file, with every size checked before memory is taken.

The file is a 128-byte header and a row of elements, each with its type and size in front; compressed ones are
zlib streams. Each element is checked against the one around it. Variables and fields that are not wanted are
passed over; of the wanted ones only structs and arrays of real numbers are accepted.
"""

__all__ = ["Fields", "Wanted", "read_struct"]

import math
import struct
from collections.abc import Mapping
from os import PathLike
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import FormatError
from limbeck.formats._bounded import Source, open_regular

Wanted: TypeAlias = Mapping[str, "Wanted | None"]
Fields: TypeAlias = dict[str, Any]

_HEADER_BYTES = 128
_INT8, _INT32, _UINT32, _MATRIX, _COMPRESSED = 1, 5, 6, 14, 15
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_STRUCT, _NUMERIC = 2, range(6, 16)  # array classes: 6 double, 7 single, 8 to 15 the integers
_OPAQUE = 17  # MATLAB's own objects, whose header has no dimensions
_COMPLEX_FLAG = 0x800


def read_struct(path: str | PathLike[str], name: str, wanted: Wanted) -> Fields:
    """Read fields of the struct that a variable holds.

    Args:
        path: The file.
        name: The variable.
        wanted: Names of the fields to read: with None an array of numbers, with another mapping a struct.

    Returns:
        The fields under the same names: arrays of the type they are stored in and of two axes or more, with
        no axis of length 0, in Fortran order; or dictionaries of such fields.

    Raises:
        FormatError: If the file cannot be read, is of another format, is truncated or corrupt, or lacks the
            variable or a field.
    """
    with open_regular(path) as (file, size):
        order = _byte_order(path, file)
        found: Fields | None = None
        start = _HEADER_BYTES
        while start < size:
            file.seek(start)
            tag = file.read(8)
            if len(tag) < 8:
                raise FormatError(path, f"truncated: {len(tag)} of the 8 bytes of an element's tag", offset=start)
            code, length = struct.unpack(order + "II", tag)
            start += 8
            if length > size - start or code not in (_MATRIX, _COMPRESSED):
                raise FormatError(
                    path,
                    f"truncated or corrupt: an element of type {code} and {length} bytes, where type "
                    f"{_MATRIX} or {_COMPRESSED} and at most {size - start} bytes are possible",
                    offset=start - 8,
                )
            compressed = code == _COMPRESSED
            source = Source(path, file, start, start + length, "zlib" if compressed else "plain")
            fields = _Walker(source, order).variable(name, wanted, None if compressed else length)
            if fields is not None and found is not None:
                raise FormatError(path, f"two variables are named {name}", offset=start - 8)
            found = found or fields
            start += length
    if found is None:
        raise FormatError(path, f"it holds no variable {name}")
    return found


def _byte_order(path: str | PathLike[str], file: BinaryIO) -> str:
    header = file.read(_HEADER_BYTES)
    order = {b"IM": "<", b"MI": ">"}.get(header[126:])
    if order is None:
        raise FormatError(path, f"not a MATLAB 5 file: its first {_HEADER_BYTES} bytes do not end in IM or MI")
    (version,) = struct.unpack(order + "H", header[124:126])
    if version != 0x0100:
        raise FormatError(
            path, f"MATLAB file version {version:#06x}, and 0x0100 is needed: save it with -v7", offset=124
        )
    return order


class _Walker:
    # Reads nested elements forwards; `stop` is always the end of the enclosing one.

    def __init__(self, source: Source, order: str) -> None:
        self.source = source
        self.order = order

    def variable(self, name: str, wanted: Wanted, length: int | None) -> Fields | None:
        # The fields, or None where the variable has another name; `length` is None where the tag is still to
        # come.
        if length is None:
            code, length = struct.unpack(self.order + "II", self.source.read(8, "a compressed element's tag"))
            if code != _MATRIX or length > self.source.room:
                raise self.source.error(
                    f"a compressed element of type {code} and {length} bytes, where type {_MATRIX} and at "
                    f"most {self.source.room} bytes are possible"
                )
        stop = self.source.offset + length
        kind, shape, found = self._header(stop)
        if found != name:
            return None
        fields = self._struct(name, kind, shape, stop, wanted)
        self.source.finish()
        return fields

    def _fits(self, length: int, stop: int, what: str) -> None:
        left = stop - self.source.offset
        if length > left:
            raise self.source.error(f"{what} needs {length} bytes, and its enclosing element has {left} left")

    def _tag(self, stop: int, what: str) -> tuple[int, int | bytes]:
        # An element's type, and its size or, in the small format, its content of up to 4 bytes.
        self._fits(8, stop, what)
        tag = bytes(self.source.read(8, what))
        code, length = struct.unpack(self.order + "II", tag)
        small = code >> 16
        if small > 4:
            raise self.source.error(f"{what} is a small element of {small} bytes, and at most 4 are possible")
        if small:
            return code & 0xFFFF, tag[4 : 4 + small]
        self._fits(length, stop, what)
        return code, length

    def _content(self, stop: int, what: str, *codes: int) -> tuple[int, bytes | bytearray]:
        code, content = self._tag(stop, what)
        if code not in codes:
            raise self.source.error(f"{what} has element type {code}, and {' or '.join(map(str, codes))} is needed")
        if isinstance(content, bytes):
            return code, content
        data = self.source.read(content, what)
        # What follows starts at a multiple of 8.
        self.source.skip(min(-content % 8, stop - self.source.offset), f"the padding after {what}")
        return code, data

    def _header(self, stop: int) -> tuple[int, tuple[int, ...], str]:
        # Class, with the flag for complex numbers, shape and name of a matrix.
        _, flags = self._content(stop, "the array's flags", _UINT32)
        if len(flags) == 8 and struct.unpack(self.order + "I", flags[:4])[0] & 0xFF == _OPAQUE:
            return _OPAQUE, (), ""
        _, dims = self._content(stop, "the array's dimensions", _INT32)
        _, name = self._content(stop, "the array's name", _INT8)
        if len(flags) != 8 or len(dims) % 4 or not 8 <= len(dims) <= 128:
            raise self.source.error(f"corrupt: {len(flags)} bytes of flags and {len(dims)} of dimensions")
        (word,) = struct.unpack(self.order + "I", flags[:4])
        shape = struct.unpack(f"{self.order}{len(dims) // 4}i", dims)
        if min(shape) < 0:
            raise self.source.error(f"corrupt: an array of shape {shape}")
        return word & (0xFF | _COMPLEX_FLAG), shape, name.decode("latin-1")

    def _struct(self, where: str, kind: int, shape: tuple[int, ...], stop: int, wanted: Wanted) -> Fields:
        # The wanted fields; leaves the position at `stop`.
        if kind != _STRUCT or math.prod(shape) != 1:
            raise self.source.error(f"{where} has MATLAB class {kind} and shape {shape}: a single struct is needed")
        _, width_bytes = self._content(stop, f"the length of field names in {where}", _INT32)
        _, packed = self._content(stop, f"the field names of {where}", _INT8)
        width = struct.unpack(self.order + "i", width_bytes)[0] if len(width_bytes) == 4 else 0
        if not 0 < width <= 64 or len(packed) % width:
            raise self.source.error(f"corrupt: {where} has {len(packed)} bytes of field names, each of {width}")
        slots = (bytes(packed[at : at + width]) for at in range(0, len(packed), width))
        names = [slot.split(b"\0")[0].decode("latin-1") for slot in slots]
        for name in wanted:
            if names.count(name) != 1:
                raise self.source.error(f"{where} needs one field {name}, and its fields are {names}")
        values = {}
        for name in names:
            label = f"{where}.{name}"
            code, length = self._tag(stop, label)
            if code != _MATRIX or not isinstance(length, int):
                raise self.source.error(f"{label} has element type {code}, and {_MATRIX} is needed")
            end = self.source.offset + length
            if name in wanted:
                values[name] = self._field(label, end, wanted[name])
            self.source.skip(end - self.source.offset, label)
        self.source.skip(stop - self.source.offset, f"the end of {where}")
        return values

    def _field(self, where: str, stop: int, wanted: Wanted | None) -> Fields | NDArray[Any]:
        if stop == self.source.offset:
            raise self.source.error(f"{where} is empty")
        kind, shape, _ = self._header(stop)
        if wanted is not None:
            return self._struct(where, kind, shape, stop, wanted)
        if kind not in _NUMERIC or 0 in shape:
            number = "complex numbers" if kind & _COMPLEX_FLAG else f"MATLAB class {kind}"
            raise self.source.error(f"{where} has {number} and shape {shape}: real numbers are needed")
        code, data = self._content(stop, where, *_NUMBERS)
        # MATLAB stores whole numbers in the smallest type that holds them, whatever the array's class.
        dtype = np.dtype(self.order + _NUMBERS[code])
        if len(data) != math.prod(shape) * dtype.itemsize:
            raise self.source.error(f"corrupt: {where} has {len(data)} bytes of {dtype.name}, and shape {shape}")
        return np.frombuffer(data, dtype).reshape(shape, order="F")
