"""The ``.npz`` archives of numpy, read without pickle; no size is believed that the file cannot back."""

__all__ = ["read_npz"]

import math
import warnings
import zipfile
from os import PathLike
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from limbeck.errors import FormatError
from limbeck.formats._bounded import DEFLATE_RATIO, open_regular

_SUFFIX = ".npy"
_KINDS = "biufcmMSU"  # the types whose values are their bytes


def read_npz(path: str | PathLike[str]) -> dict[str, NDArray[Any]]:
    """Read every array of an archive written by `numpy.savez` or `numpy.savez_compressed`.

    Before an array takes memory, its header, the size that the archive declares, and the most that the
    compressed bytes can expand to are compared.

    Args:
        path: The archive.

    Returns:
        The arrays by name, in the order of the archive, writable and in the machine's byte order.

    Raises:
        FormatError: If the file cannot be read, is not a zip archive, is truncated or corrupt, or a member is
            encrypted, compressed by another method than deflate, not an array, an array of Python objects or
            of records, or has a name that repeats or leads out of the archive.

    Example:
        >>> import tempfile, pathlib
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "data.npz")
        ...     np.savez(path, images=np.zeros((2, 3), np.uint8), labels=np.array([1, 0]))
        ...     {name: array.shape for name, array in read_npz(path).items()}
        {'images': (2, 3), 'labels': (2,)}
    """
    with open_regular(path) as (file, size), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy warns of old headers, zipfile of repeated names
        try:
            with zipfile.ZipFile(file) as archive:
                members = archive.infolist()
                _check_directory(path, members, size)
                return {info.filename[: -len(_SUFFIX)]: _read_member(path, archive, info) for info in members}
        except FormatError:
            raise
        except Exception as error:  # zipfile, zlib and numpy raise a dozen types on corrupt bytes
            raise FormatError(path, f"not an archive of numpy arrays, or corrupt: {error!r}") from error


def _check_directory(path: str | PathLike[str], members: list[zipfile.ZipInfo], size: int) -> None:
    seen: set[str] = set()
    stored = 0
    for info in members:
        name = info.filename
        at = info.header_offset
        if info.orig_filename != name or not _stays_inside(name):
            raise FormatError(path, f"the member name {info.orig_filename!r} is not allowed", offset=at)
        if not name.endswith(_SUFFIX):
            raise FormatError(path, f"member {name!r} is not an array: its name does not end in {_SUFFIX}", offset=at)
        if name in seen:
            raise FormatError(path, f"two members are named {name!r}", offset=at)
        seen.add(name)
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise FormatError(
                path,
                f"member {name!r} has compression method {info.compress_type}: use numpy.savez_compressed",
                offset=at,
            )
        most = info.compress_size * (DEFLATE_RATIO if info.compress_type == zipfile.ZIP_DEFLATED else 1)
        if info.file_size > most:
            raise FormatError(
                path,
                f"member {name!r} declares {info.file_size} bytes, and its data can give at most {most}",
                offset=at,
            )
        stored += info.compress_size
        if stored > size:  # members that overlap would let one piece of data expand many times
            raise FormatError(path, f"the members up to {name!r} need more than the {size} bytes there are", offset=at)


def _stays_inside(name: str) -> bool:
    return not (set(name) & set("\\:\0")) and not {"", ".", ".."} & set(name.split("/"))


def _read_member(path: str | PathLike[str], archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(info) as stream:
        shape, dtype = _read_header(path, info, stream)
        promised = stream.tell() + math.prod(shape) * dtype.itemsize
    if promised != info.file_size:
        raise FormatError(
            path,
            f"member {info.filename!r}: its header promises {promised} bytes, the archive {info.file_size}",
            offset=info.header_offset,
        )
    with archive.open(info) as stream:  # read to its end, where zipfile compares the checksum
        array = np.asarray(npy.read_array(stream, allow_pickle=False))
    native = dtype.newbyteorder("=")
    return array if array.dtype == native else array.astype(native)


def _read_header(
    path: str | PathLike[str], info: zipfile.ZipInfo, stream: IO[bytes]
) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = npy.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise FormatError(
            path,
            f"member {info.filename!r} is of npy version {version}, and 1.0 or 2.0 is needed",
            offset=info.header_offset,
        )
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(stream)
    if dtype.kind not in _KINDS or dtype.itemsize == 0:
        raise FormatError(
            path,
            f"member {info.filename!r} holds {dtype}, and numbers or text are needed: nothing is unpickled",
            offset=info.header_offset,
        )
    if any(length < 0 for length in shape):
        raise FormatError(path, f"member {info.filename!r} has shape {shape}", offset=info.header_offset)
    return shape, dtype
