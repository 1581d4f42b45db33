"""Archives of numpy arrays: written by numpy, then by hand to lie about sizes, names and types."""

import io
import os
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from limbeck.errors import FormatError
from limbeck.formats.npz import read_npz

QUIET = [HealthCheck.function_scoped_fixture]
DTYPES = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
    hnp.complex_number_dtypes(),
    hnp.unicode_string_dtypes(min_len=1),
    hnp.byte_string_dtypes(min_len=1),
)


def saved(*, compressed: bool = True, **arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, **arrays)
    return buffer.getvalue()


def member(array: np.ndarray, pickled: bool = False) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=pickled)
    return buffer.getvalue()


def zipped(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def header(text: str, version: int = 1) -> bytes:
    length = struct.pack("<H" if version == 1 else "<I", len(text) + 1)
    return b"\x93NUMPY" + bytes([version, 0]) + length + text.encode("latin-1") + b"\n"


def put(folder: Path, content: bytes) -> Path:
    path = folder / "data.npz"
    path.write_bytes(content)
    return path


@settings(max_examples=80, deadline=None, suppress_health_check=QUIET)
@given(
    arrays=st.dictionaries(
        st.sampled_from(["images", "labels", "a/b", "x.npy", "ü"]),
        hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, min_side=0, max_side=4)),
        max_size=3,
    ),
    compressed=st.booleans(),
    fortran=st.booleans(),
)
def test_round_trip_agrees_with_numpy(tmp_path, arrays, compressed, fortran):
    if fortran:
        arrays = {name: np.asfortranarray(array) for name, array in arrays.items()}
    path = put(tmp_path, saved(compressed=compressed, **arrays))
    back = read_npz(path)
    assert list(back) == list(arrays)
    with np.load(path) as oracle:
        for name, array in back.items():
            np.testing.assert_array_equal(array, oracle[name] if name != "x.npy" else arrays[name])
            assert array.dtype == arrays[name].dtype.newbyteorder("=") and array.dtype.isnative
            assert array.shape == arrays[name].shape and array.flags.writeable


@pytest.mark.parametrize("compressed", [True, False])
def test_truncation_at_every_byte(tmp_path, compressed):
    path = put(tmp_path, saved(compressed=compressed, a=np.arange(5), b=np.zeros((2, 2), np.uint8)))
    assert list(read_npz(path)) == ["a", "b"]
    for length in reversed(range(path.stat().st_size)):
        os.truncate(path, length)
        with pytest.raises(FormatError):
            read_npz(path)


@settings(max_examples=300, deadline=None, suppress_health_check=QUIET)
@given(data=st.data(), compressed=st.booleans())
def test_corruption_gives_a_format_error_or_the_same_values(tmp_path, data, compressed):
    content = bytearray(saved(compressed=compressed, a=np.arange(5)))
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        for array in read_npz(put(tmp_path, bytes(content))).values():
            np.testing.assert_array_equal(array, np.arange(5))
    except FormatError as error:
        assert "data.npz" in str(error)


@settings(max_examples=200, deadline=None, suppress_health_check=QUIET)
@given(data=st.data())
def test_corruption_behind_a_right_checksum(tmp_path, data):
    content = bytearray(member(np.arange(3, dtype=np.int16)))
    for _ in range(data.draw(st.integers(1, 2))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert list(read_npz(put(tmp_path, zipped(("a.npy", bytes(content)))))) == ["a"]
    except FormatError as error:
        assert "data.npz" in str(error)


def test_a_changed_value_fails_its_checksum(tmp_path):
    content = saved(compressed=False, a=np.array([1234567, 7]))
    at = content.index(struct.pack("<q", 1234567))
    with pytest.raises(FormatError, match="CRC"):
        read_npz(put(tmp_path, content[:at] + b"\0" + content[at + 1 :]))


GOOD = member(np.arange(3))


@pytest.mark.parametrize("name", ["../a.npy", "/a.npy", "a/../b.npy", "a//b.npy", "c:a.npy", "a\\b.npy", "./a.npy"])
def test_names_that_lead_out(tmp_path, name):
    with pytest.raises(FormatError, match="is not allowed"):
        read_npz(put(tmp_path, zipped((name, GOOD))))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_repeat_and_members_that_are_no_arrays(tmp_path):
    with pytest.raises(FormatError, match="two members are named 'a.npy'"):
        read_npz(put(tmp_path, zipped(("a.npy", GOOD), ("a.npy", GOOD))))
    with pytest.raises(FormatError, match="'readme.txt' is not an array"):
        read_npz(put(tmp_path, zipped(("readme.txt", b"hello"))))
    with pytest.raises(FormatError, match="magic"):
        read_npz(put(tmp_path, zipped(("a.npy", b"hello, world"))))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compression(tmp_path, method):
    with pytest.raises(FormatError, match=f"compression method {method}"):
        read_npz(put(tmp_path, zipped(("a.npy", GOOD), method=method)))


class Trap:
    def __reduce__(self):
        return os.abort, ()


@pytest.mark.parametrize(
    "array",
    [np.array([Trap()], object), np.zeros(2, [("a", "O")]), np.zeros(2, [("a", "i4")]), np.zeros(2, "V3")],
)
def test_objects_and_records_are_refused(tmp_path, array):
    with pytest.raises(FormatError, match="nothing is unpickled"):
        read_npz(put(tmp_path, zipped(("a.npy", member(array, pickled=True)))))


@pytest.mark.parametrize(
    "shape, dtype, message",
    [
        ("(1099511627776,)", "<f8", "header promises"),
        ("(4294967296, 4294967296, 4294967296)", "<f8", "header promises"),
        ("(5,)", "|u1", "header promises"),
        ("(3,)", "|u1", "header promises"),
        ("(-4,)", "|u1", "shape"),
        ("(4611686018427387904, 0)", "<U0", "numbers or text"),
        ("(" * 2000 + ")" * 2000, "|u1", "corrupt"),
        ("__import__('os').abort()", "|u1", "corrupt"),
        ("(4,)", "nonsense", "corrupt"),
    ],
)
def test_headers_that_lie(tmp_path, shape, dtype, message):
    for version in (1, 2):
        text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}}}"
        with pytest.raises(FormatError, match=message):
            read_npz(put(tmp_path, zipped(("a.npy", header(text, version) + bytes(4)))))
    with pytest.raises(FormatError, match=r"npy version \(3, 0\)"):
        read_npz(put(tmp_path, zipped(("a.npy", header(text, 3) + bytes(4)))))


def declare(content: bytes, size: int) -> bytes:
    """The archive with another uncompressed size of its only member, at its start and in its directory."""
    changed = bytearray(content)
    at = content.rindex(b"PK\1\2")
    changed[22:26] = changed[at + 24 : at + 28] = struct.pack("<I", size)
    return bytes(changed)


def test_bombs_take_no_memory(tmp_path):
    text = "{{'descr': '|u1', 'fortran_order': False, 'shape': ({},)}}"
    few, many = header(text.format(1000)), header(text.format(4_000_000_000))
    zeros = bytes(50_000_000)
    cases = [
        (zipped(("a.npy", few + zeros)), "header promises"),
        (declare(zipped(("a.npy", few + zeros)), len(few) + 1000), "CRC|corrupt"),
        (declare(zipped(("a.npy", many + zeros[:1000])), len(many) + 4_000_000_000), "can give at most"),
        (declare(zipped(("a.npy", few)), len(few) + 1000), "corrupt"),
    ]
    del zeros
    for content, message in cases:
        path = put(tmp_path, content)
        tracemalloc.start()
        try:
            with pytest.raises(FormatError, match=message):
                read_npz(path)
            assert tracemalloc.get_traced_memory()[1] < 3_000_000
        finally:
            tracemalloc.stop()


def test_members_that_share_their_data(tmp_path):
    """Eight names in the directory for one piece of data, each with a header of its own."""
    body = member(np.zeros(100_000, np.uint8))
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = deflate.compress(body) + deflate.flush()
    sizes = struct.pack("<HHIIIHH", 0, 0, zlib.crc32(body), len(packed), len(body), 5, 0)
    content = struct.pack("<IHHH", 0x04034B50, 20, 0, 8) + sizes + b"0.npy" + packed
    start, directory = len(content), b""
    for digit in b"01234567":
        directory += struct.pack("<IHHHH", 0x02014B50, 20, 20, 0, 8) + sizes
        directory += struct.pack("<HHHII", 0, 0, 0, 0, 0) + bytes([digit]) + b".npy"
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 8, 8, len(directory), start, 0)
    padded = content + directory + end
    assert len(packed) * 8 > len(padded)
    with pytest.raises(FormatError, match="need more than"):
        read_npz(put(tmp_path, padded))


def test_an_encrypted_member(tmp_path):
    content = bytearray(zipped(("a.npy", GOOD)))
    at = content.rindex(b"PK\1\2")
    content[6] |= 1
    content[at + 8] |= 1
    with pytest.raises(FormatError, match="is encrypted"):
        read_npz(put(tmp_path, bytes(content)))


def test_what_is_no_archive(tmp_path):
    for path in (tmp_path, tmp_path / "missing", put(tmp_path, GOOD)):
        with pytest.raises(FormatError):
            read_npz(path)
