"""Dense layers in HDF5: the layouts of Keras, the way back, and files that are damaged or point elsewhere."""

import gzip
from pathlib import Path

import h5py
import numpy as np
import pytest

from limbeck.errors import DataError, FormatError, RunError
from limbeck.formats import _subprocess
from limbeck.formats.keras_h5 import DenseLayer, read_here, read_keras_h5, write_keras_h5

FIXTURES = Path(__file__).parent.parent / "fixtures"


def layers(*sizes, names=None):
    floats = np.random.default_rng(0).standard_normal
    return [
        DenseLayer(f"dense_{n}" if names is None else names[n], floats((i, o)).astype("f4"), floats(o).astype("f4"))
        for n, (i, o) in enumerate(zip(sizes, sizes[1:], strict=False))
    ]


def same(left, right):
    return all(
        a.name == b.name and np.array_equal(a.kernel, b.kernel) and np.array_equal(a.bias, b.bias)
        for a, b in zip(left, right, strict=True)
    )


def test_round_trip_keeps_order_and_bits(tmp_path):
    made = layers(*range(3, 16), names=[f"dense_{n}" for n in range(12)])
    write_keras_h5(tmp_path / "a.h5", made)
    assert same(read_keras_h5(tmp_path / "a.h5"), made)
    with h5py.File(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(file["dense_3/kernel"], made[3].kernel)
        names = [name if isinstance(name, str) else name.decode() for name in file.attrs["layer_names"]]
    assert names == [f"dense_{n}" for n in range(12)]


def test_without_the_attribute_numbers_are_compared_as_numbers(tmp_path):
    made = layers(*range(3, 16))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for layer in made:
            file[f"{layer.name}/kernel"], file[f"{layer.name}/bias"] = layer.kernel, layer.bias
        file.create_group("dropout_1")
    assert same(read_keras_h5(tmp_path / "a.h5"), made)


@pytest.mark.parametrize("prefix", ["", "model_weights/"])
def test_layout_of_keras_with_nested_groups_and_suffixes(prefix, tmp_path):
    made = layers(4, 3, 2)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        root = file.require_group(prefix) if prefix else file
        root.attrs["layer_names"] = [b"dense_0", b"activation", b"dense_1"]
        root.create_group("activation")
        for layer in made:
            root[f"{layer.name}/{layer.name}/kernel:0"] = layer.kernel.astype("f8")
            root[f"{layer.name}/{layer.name}/bias:0"] = layer.bias.astype("f8")
    assert same(read_keras_h5(tmp_path / "a.h5"), made)


def test_theano_names_and_layers_without_bias(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["dense_1/dense_1_W"] = np.ones((2, 3), "f4")
    (layer,) = read_keras_h5(tmp_path / "a.h5")
    assert layer.bias is None
    write_keras_h5(tmp_path / "b.h5", [layer])
    assert read_keras_h5(tmp_path / "b.h5")[0].bias is None


def write(tmp_path, **members):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, value in members.items():
            file[name.replace("__", "/")] = value
    return tmp_path / "a.h5"


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({}, "no dense layer"),
        ({"a__bias": np.ones(2)}, "no kernel"),
        ({"a__kernel": np.ones((2, 2)), "a__bias": np.ones(3)}, "bias of shape"),
        ({"a__kernel": np.ones(2)}, "should be a matrix"),
        ({"a__kernel": np.ones((2, 2), int)}, "not an array of floats"),
        ({"a__kernel": np.full((2, 2), np.nan)}, "NaN"),
        ({"a__kernel": np.full((2, 2), 1e300)}, "infinity"),
        ({"a__kernel": np.ones((2, 2)), "a__gamma": np.ones(2)}, "not a weight of a dense layer"),
        ({"a__kernel": np.ones((2, 2)), "a__x__kernel": np.ones((2, 2))}, "second kernel"),
        ({"a__kernel": np.ones((2, 2)), "b__kernel": np.ones((3, 2))}, "2 outputs, and the next"),
        ({"a__b__c__d__e__f__g__kernel": np.ones((2, 2))}, "too deep"),
        ({"a__kernel": h5py.SoftLink("/b")}, "link"),
        ({"a": h5py.ExternalLink("/etc/hostname", "/x")}, "link"),
    ],
)
def test_bad_contents_are_refused(members, reason, tmp_path):
    with pytest.raises(FormatError, match=reason):
        read_keras_h5(write(tmp_path, **members))


def test_values_in_other_files_are_not_opened(tmp_path):
    (tmp_path / "secret").write_bytes(b"\0" * 64)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("a/kernel", (4, 4), "<f4", external=[(str(tmp_path / "secret"), 0, 64)])
    with pytest.raises(FormatError, match="another file"):
        read_keras_h5(tmp_path / "a.h5")


def test_an_array_that_the_file_does_not_hold_is_refused_before_memory_is_taken(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("a/kernel", (1 << 20, 1 << 20), "<f4", chunks=(1024, 1024), compression="gzip")
    with pytest.raises(FormatError, match="bytes, and the file has"):
        read_keras_h5(tmp_path / "a.h5")


def test_a_group_that_holds_itself_ends(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        group = file.create_group("a")
        group["a"] = group
    with pytest.raises(FormatError, match="too deep"):
        read_keras_h5(tmp_path / "a.h5")


def test_truncated_and_changed_files_are_read_or_refused(tmp_path):
    write_keras_h5(tmp_path / "a.h5", layers(4, 3, 2))
    data = (tmp_path / "a.h5").read_bytes()
    generator = np.random.default_rng(0)
    for length in range(0, len(data), 199):
        (tmp_path / "b.h5").write_bytes(data[:length])
        with pytest.raises(FormatError):
            read_here(tmp_path / "b.h5")
    for _ in range(100):
        changed = bytearray(data)
        changed[generator.integers(len(data))] = generator.integers(256)
        (tmp_path / "b.h5").write_bytes(changed)
        try:
            read_here(tmp_path / "b.h5")
        except FormatError as error:
            assert "\n" not in str(error)


def test_what_cannot_be_written_is_refused(tmp_path):
    (layer,) = layers(2, 2)
    for wrong in (
        [],
        [layer, layer],
        [DenseLayer("a/b", layer.kernel, None)],
        [DenseLayer("..", layer.kernel, None)],
    ):
        with pytest.raises(DataError, match="names"):
            write_keras_h5(tmp_path / "a.h5", wrong)
    with pytest.raises(RunError, match="missing"):
        write_keras_h5(tmp_path / "missing" / "a.h5", [layer])
    assert list(tmp_path.iterdir()) == []


def test_a_file_on_which_the_library_never_ends_is_refused(tmp_path, monkeypatch):
    """Found by fuzzing: H5Aread goes round in circles on this one."""
    monkeypatch.setattr(_subprocess, "_SECONDS", 2.0)
    path = tmp_path / "endless.h5"
    path.write_bytes(gzip.decompress((FIXTURES / "hostile" / "endless.h5.gz").read_bytes()))
    with pytest.raises(FormatError, match="did not end within"):
        read_keras_h5(path)


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("import os; os.abort()", "crashed"),
        ("from limbeck.formats._subprocess import *; limit_memory(50 << 20); bytearray(400 << 20)", "crashed"),
        ("from limbeck.formats._subprocess import *; answer_apart('is too odd')", "is too odd"),
    ],
)
def test_what_happens_to_the_reading_process_is_told(tmp_path, monkeypatch, program, words):
    (tmp_path / "odd_reader.py").write_text(program)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(FormatError, match=words):
        _subprocess.read_apart(tmp_path / "odd_reader.py", "odd_reader", 100)
