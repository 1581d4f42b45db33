"""EMNIST files: written by scipy in the layout of every official split, then cut, bent and blown up."""

import io
import os
import string
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.sparse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limbeck.errors import FormatError
from limbeck.formats.matfile import read_emnist

DIGITS = string.digits
MERGED = DIGITS + string.ascii_uppercase + "abdefghnqrt"
SPLITS = {
    "letters": [(k + 1, *map(ord, (upper, upper.lower()))) for k, upper in enumerate(string.ascii_uppercase)],
    "digits": [(k, ord(name)) for k, name in enumerate(DIGITS)],
    "mnist": [(k, ord(name)) for k, name in enumerate(DIGITS)],
    "balanced": [(k, ord(name)) for k, name in enumerate(MERGED)],
    "bymerge": [(k, ord(name)) for k, name in enumerate(MERGED)],
    "byclass": [(k, ord(name)) for k, name in enumerate(DIGITS + string.ascii_uppercase + string.ascii_lowercase)],
}


def upright(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 28, 28), np.uint8)


def part(images: np.ndarray, labels: list[int], dtype: type = np.uint8) -> dict[str, np.ndarray]:
    stored = np.stack([image.T.reshape(784) for image in images])
    return {
        "images": stored,
        "labels": np.array(labels, dtype)[:, None],
        "writers": np.arange(len(labels), dtype=np.uint16)[:, None],
    }


def dataset(mapping: list[tuple[int, ...]] = SPLITS["letters"], dtype: type = np.uint8) -> dict[str, object]:
    keys = [row[0] for row in mapping]
    return {
        "train": part(upright(len(keys), 1), keys[::-1], dtype),
        "test": part(upright(2, 2), [keys[1], keys[-1]], dtype),
        "mapping": np.array(mapping, dtype),
    }


def saved(struct_: object, *, compressed: bool = True, **others: object) -> bytes:
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {**others, "dataset": struct_}, do_compression=compressed)
    return buffer.getvalue()


def put(folder: Path, content: bytes) -> Path:
    path = folder / "emnist.mat"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("dtype", [np.uint8, np.float64, np.int64, np.uint16])
@pytest.mark.parametrize("split", SPLITS)
def test_every_split(tmp_path, split, dtype, compressed):
    mapping = SPLITS[split]
    emnist = read_emnist(put(tmp_path, saved(dataset(mapping, dtype), compressed=compressed)))
    assert emnist.classes == tuple("".join(map(chr, row[1:])) for row in mapping)
    np.testing.assert_array_equal(emnist.train_images, upright(len(mapping), 1))
    np.testing.assert_array_equal(emnist.test_images, upright(2, 2))
    assert emnist.train_labels.tolist() == list(range(len(mapping)))[::-1]
    assert emnist.test_labels.tolist() == [1, len(mapping) - 1]
    for array in (emnist.train_images, emnist.test_images):
        assert array.dtype == np.uint8 and array.flags.c_contiguous and array.flags.writeable
    for array in (emnist.train_labels, emnist.test_labels):
        assert array.dtype == np.int64


def test_labels_follow_the_order_of_the_mapping(tmp_path):
    mapping = [(7, 97), (3, 98), (200, 99)]
    content = saved(
        {"train": part(upright(4, 0), [3, 200, 7, 3]), "test": part(upright(1, 0), [7]), "mapping": mapping}
    )
    emnist = read_emnist(put(tmp_path, content))
    assert emnist.classes == ("a", "b", "c")
    assert emnist.train_labels.tolist() == [1, 2, 0, 1]


def test_other_variables_and_fields_are_passed_over(tmp_path):
    full = dataset() | {"notes": "text", "cells": np.array([1, "x"], object)}
    others = {
        "text": "abc",
        "cell": np.array([{"a": 1}], object),
        "z": np.array([1j]),
        "s": scipy.sparse.eye_array(3),
    }
    for compressed in (True, False):
        emnist = read_emnist(put(tmp_path, saved(full, compressed=compressed, **others)))
        np.testing.assert_array_equal(emnist.train_images, upright(26, 1))


def test_big_endian(tmp_path):
    """Written by hand, as scipy writes the machine's order only."""

    def element(code: int, data: bytes) -> bytes:
        return struct.pack(">II", code, len(data)) + data + bytes(-len(data) % 8)

    def matrix(kind: int, shape: tuple[int, int], *contents: bytes, name: bytes = b"") -> bytes:
        head = element(6, struct.pack(">II", kind, 0)) + element(5, struct.pack(">2i", *shape)) + element(1, name)
        return element(14, head + b"".join(contents))

    def record(fields: dict[str, bytes], name: bytes = b"") -> bytes:
        names = b"".join(field.encode().ljust(32, b"\0") for field in fields)
        width = struct.pack(">HHi", 4, 5, 32)  # a small element: size and type, then the value
        return matrix(2, (1, 1), width, element(1, names), *fields.values(), name=name)

    def numbers(array: np.ndarray) -> bytes:
        return matrix(11, array.shape, element(4, array.astype(">u2").tobytes(order="F")))

    images = upright(2, 5)
    stored = np.stack([image.T.reshape(784) for image in images])
    fields = {
        "images": matrix(9, stored.shape, element(2, stored.tobytes(order="F"))),
        "labels": numbers(np.array([[300], [2]])),
    }
    mapping = numbers(np.array([[2, 65], [300, 66]]))
    whole = record({"train": record(fields), "test": record(fields), "mapping": mapping}, name=b"dataset")
    emnist = read_emnist(put(tmp_path, b"MATLAB 5.0".ljust(124) + b"\x01\x00MI" + whole))
    np.testing.assert_array_equal(emnist.train_images, images)
    assert emnist.train_labels.tolist() == [1, 0] and emnist.classes == ("A", "B")


def change(*keys: str, to: object) -> dict[str, object]:
    whole = dataset()
    inner = whole
    for key in keys[:-1]:
        inner = inner[key]
    if to is None:
        del inner[keys[-1]]
    else:
        inner[keys[-1]] = to
    return whole


@pytest.mark.parametrize(
    "keys, to, message",
    [
        (("train",), None, "dataset needs one field train"),
        (("test", "labels"), None, "dataset.test needs one field labels"),
        (("mapping",), None, "dataset needs one field mapping"),
        (("train",), np.zeros(3), "dataset.train .*single struct"),
        (("train", "images"), np.zeros((26, 783), np.uint8), r"dataset.train.images has shape \(26, 783\)"),
        (("train", "images"), np.zeros((26, 784)), "dataset.train.images .* float64"),
        (
            ("train", "images"),
            np.zeros((26, 28, 28), np.uint8),
            r"dataset.train.images has shape \(26, 28, 28\)",
        ),
        (("train", "images"), "text", "dataset.train.images .*real numbers are needed"),
        (("train", "images"), np.zeros((0, 784), np.uint8), "dataset.train.images .*real numbers are needed"),
        (("train", "labels"), np.ones((25, 1)), r"26 images.*\(25, 1\)"),
        (("train", "labels"), np.ones((13, 2)), r"26 images.*\(13, 2\)"),
        (("test", "labels"), np.array([[1], [27]]), "dataset.test.labels holds 27"),
        (("test", "labels"), np.array([[1], [0]]), "dataset.test.labels holds 0"),
        (("test", "labels"), np.array([[1], [1.5]]), "holds 1.5, and whole numbers"),
        (("test", "labels"), np.array([[1], [np.nan]]), "holds nan, and whole numbers"),
        (("test", "labels"), np.array([[1], [1j]]), "complex"),
        (("mapping",), np.array([[1], [2]]), "dataset.mapping has shape"),
        (("mapping",), np.array([[1, 65], [1, 66]]), "labels twice"),
        (("mapping",), np.array([[1, 65], [2, 65]]), "class names twice"),
        (("mapping",), np.array([[1, 65], [2, 0xD800]]), "printable"),
        (("mapping",), np.array([[1, 65], [2, 0x110000]]), "printable"),
        (("mapping",), np.array([[1, 65], [2, -1]]), "printable"),
    ],
)
def test_fields_that_cannot_be_used(tmp_path, keys, to, message):
    for compressed in (True, False):
        with pytest.raises(FormatError, match=message):
            read_emnist(put(tmp_path, saved(change(*keys, to=to), compressed=compressed)))


def test_other_files(tmp_path):
    good = saved(dataset())
    other = io.BytesIO()
    scipy.io.savemat(other, {"a": dataset()})
    cases = {
        "no variable dataset": other.getvalue(),
        "not a MATLAB 5 file": b"\x89HDF" + bytes(600),
        "version 0x0200": good[:124] + b"\x00\x02" + good[126:],
        "two variables are named dataset": good + good[128:],
        "single struct": saved(np.ones(3)),
    }
    for message, content in cases.items():
        with pytest.raises(FormatError, match=message):
            read_emnist(put(tmp_path, content))
    with pytest.raises(FormatError, match="cannot be read"):
        read_emnist(tmp_path / "missing.mat")


def tiny(compressed: bool) -> bytes:
    blank = {"images": np.zeros((1, 784), np.uint8), "labels": np.array([[1]], np.uint8)}
    return saved({"train": blank, "test": blank, "mapping": np.array([[1, 65]], np.uint8)}, compressed=compressed)


@pytest.mark.parametrize("compressed", [True, False])
def test_truncation_at_every_byte(tmp_path, compressed):
    content = tiny(compressed)
    assert read_emnist(put(tmp_path, content)).classes == ("A",)
    path = put(tmp_path, content)
    for length in reversed(range(len(content))):
        os.truncate(path, length)
        with pytest.raises(FormatError):
            read_emnist(path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), wrap=st.booleans())
def test_corruption_gives_a_format_error_or_arrays(tmp_path, data, wrap):
    """With ``wrap`` the bytes are bent before they are compressed, so that no checksum saves the reader."""
    content = bytearray(tiny(False))
    interesting = [at for at in range(128, len(content)) if at < 700 or content[at]]
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.sampled_from(interesting))
        content[at] = data.draw(st.integers(0, 255))
    if wrap:
        packed = zlib.compress(content[128:])
        content = content[:128] + struct.pack("<II", 15, len(packed)) + packed
    try:
        assert read_emnist(put(tmp_path, bytes(content))).train_images.shape[1:] == (28, 28)
    except FormatError as error:
        assert "emnist.mat" in str(error)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_changed_compressed_byte_never_changes_the_arrays(tmp_path, data):
    content = bytearray(tiny(True))
    content[data.draw(st.integers(136, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        assert not read_emnist(put(tmp_path, bytes(content))).train_images.any()
    except FormatError as error:
        assert "emnist.mat" in str(error)


def test_elements_that_run_out_of_the_one_around_them(tmp_path):
    content = bytearray(tiny(False))
    sizes = [at + 4 for at in range(136, len(content) - 8, 8) if content[at : at + 4] == b"\x0e\0\0\0"]
    assert len(sizes) == 7  # train and test with two fields each, and mapping
    for at in sizes:
        (size,) = struct.unpack_from("<I", content, at)
        for wrong in (size + 8192, size * 65536, 0xFFFFFFFF):
            bent = bytearray(content)
            struct.pack_into("<I", bent, at, wrong)
            with pytest.raises(FormatError, match=f"needs {wrong} bytes, and its enclosing element has"):
                read_emnist(put(tmp_path, bytes(bent + content[128:])))


def test_an_object_of_matlab_is_passed_over(tmp_path):
    flags, words = struct.pack("<IIII", 6, 8, 17, 0), struct.pack("<II8s", 1, 6, b"string")
    opaque = struct.pack("<II", 14, len(flags + words)) + flags + words
    content = tiny(False)
    assert read_emnist(put(tmp_path, content[:128] + opaque + content[128:])).classes == ("A",)


def packed_element(plain: bytes) -> bytes:
    packed = zlib.compress(plain, 1)
    return struct.pack("<II", 15, len(packed)) + packed


@pytest.mark.parametrize("where", ["other variable", "after dataset", "inside dataset", "promise"])
def test_bombs_take_no_memory(tmp_path, where):
    plain = tiny(False)
    head, body = plain[:128], plain[128:]
    zeros = bytes(60_000_000)
    other = saved(dataset(), compressed=False).replace(b"dataset", b"another")[128:]
    content, message = {
        "other variable": (packed_element(other + zeros) + body, None),
        "after dataset": (packed_element(body + zeros), "trailing"),
        "inside dataset": (
            packed_element(struct.pack("<II", 14, len(body) - 8 + len(zeros)) + body[8:] + zeros),
            None,
        ),
        "promise": (packed_element(struct.pack("<II", 14, 0xFFFFFFF0) + body[8:]), "bytes are possible"),
    }[where]
    path = put(tmp_path, head + content)
    del zeros, content
    tracemalloc.start()
    try:
        if message is None:
            assert read_emnist(path).classes == ("A",)
        else:
            with pytest.raises(FormatError, match=message):
                read_emnist(path)
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()
