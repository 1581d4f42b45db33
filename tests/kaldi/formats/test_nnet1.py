"""nnet1 files: Kaldi's files restored byte for byte, and nothing else than `FormatError` for bad ones."""

import runpy
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.errors import ConfigError, DataError, FormatError, RunError
from limbeck.kaldi.formats import nnet1_components as nc
from limbeck.kaldi.formats.nnet1 import Nnet, read_nnet, read_nnet_bytes, write_nnet

KALDI = Path(__file__).parents[2] / "fixtures" / "kaldi"
TEXTS = sorted([*KALDI.glob("*nnet.txt"), *KALDI.glob("e2e/*nnet*.txt"), KALDI / "tiny.kaldi.txt"])
LEGACY = sorted(KALDI.glob("*.seed*.txt"))
BINARIES = sorted([*KALDI.glob("*.bin"), KALDI / "e2e/final.nnet"])
EVERY = [*TEXTS, *LEGACY, *BINARIES, KALDI / "e2e/final.feature_transform"]


def named(path):
    return path.name


def bits(nnet):
    return [array.tobytes() for part in nnet.components for array in part.arrays()]


def one_of_each():
    floats = np.random.default_rng(0).standard_normal
    return Nnet(
        (
            nc.Splice(2, (-1, 0, 3)),
            nc.Copy(6, (5, 0, 1, 1)),
            nc.AddShift(np.float32([1, -2, 3, 0.1]), 0.0),
            nc.Rescale(np.float32([1e-38, 2, 1e20, -0.0])),
            nc.AffineTransform(np.float32(floats((5, 4))), np.float32(floats(5)), 0.5, 0.25, 3),
            nc.Tanh(5),
            nc.LinearTransform(floats((6, 5)).astype(np.float32), 0.25),
            nc.ParametricRelu(np.float32([1] * 6), np.float32([0, 0.1, 0.2, 0, 0, 0]), 0.5, 0.25),
            nc.Dropout(6, float(np.float32(0.3))),
            nc.LengthNormComponent(6),
            nc.HiddenSoftmax(6),
            nc.Sigmoid(6),
            nc.BlockSoftmax((2, 4)),
            nc.Softmax(6),
        )
    )  # fmt: skip


@pytest.mark.parametrize("path", BINARIES, ids=named)
def test_kaldi_binary_comes_back_byte_for_byte(path, tmp_path):
    write_nnet(tmp_path / "out", read_nnet(path))
    assert (tmp_path / "out").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("path", [p for p in TEXTS if p.with_suffix(".bin").exists()], ids=named)
def test_text_is_the_network_of_the_binary_that_kaldi_made_of_it(path):
    assert read_nnet(path) == read_nnet(path.with_suffix(".bin"))


@pytest.mark.parametrize("path", sorted(KALDI.glob("*.nnet.txt")), ids=named)
def test_text_has_the_layout_of_kaldi(path, tmp_path):
    write_nnet(tmp_path / "out", read_nnet(path), dialect="text")
    assert (tmp_path / "out").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("path", EVERY, ids=named)
@pytest.mark.parametrize("dialect", ["binary", "text"])
def test_round_trip_keeps_every_bit(path, dialect, tmp_path):
    nnet = read_nnet(path).for_kaldi()
    write_nnet(tmp_path / "out", nnet, dialect=dialect)
    assert read_nnet(tmp_path / "out") == nnet


@pytest.mark.parametrize("dialect", ["binary", "text"])
def test_every_component_round_trips(dialect, tmp_path):
    write_nnet(tmp_path / "out", one_of_each(), dialect=dialect)
    back = read_nnet(tmp_path / "out")
    assert back == one_of_each()
    assert bits(back) == bits(one_of_each())  # also the sign of zero


def test_final_nnet_of_the_recipe_agrees_with_kaldis_seven_digits():
    binary, text = read_nnet(KALDI / "e2e/final.nnet"), read_nnet(KALDI / "e2e/final.nnet.txt")
    for left, right in zip(bits(binary), bits(text), strict=True):
        np.testing.assert_allclose(np.frombuffer(left, "f4"), np.frombuffer(right, "f4"), rtol=1e-6)


@pytest.mark.parametrize("name", ["tiny", "relu"])
def test_weights_are_those_of_the_reference(name):
    reference = np.load(KALDI / f"{name}_reference.npz")
    parts = [part for part in read_nnet(KALDI / f"{name}.nnet.bin").components if isinstance(part, nc.AffineTransform)]
    for number, part in enumerate(parts, 1):
        np.testing.assert_array_equal(part.weight, reference[f"W{number}"])
        np.testing.assert_array_equal(part.bias, reference[f"b{number}"])


@pytest.mark.parametrize("path", LEGACY, ids=named)
def test_older_dialect_round_trips(path, tmp_path):
    nnet = read_nnet(path)
    write_nnet(tmp_path / "out", nnet, dialect="legacy")
    assert read_nnet(tmp_path / "out") == nnet
    assert (tmp_path / "out").read_text().split()[:4] == path.read_text().split()[:4]


def test_older_dialect_becomes_what_stock_kaldi_has():
    nnet, kaldi = (
        read_nnet(KALDI / "relu.seed.svd.txt").for_kaldi(),
        read_nnet(KALDI / "relu.svd_low.nnet.bin"),
    )
    assert [type(part) for part in nnet.components[:3]] == [type(part) for part in kaldi.components[:3]]
    assert nnet.components[2] == kaldi.components[2]
    np.testing.assert_array_equal(nnet.components[0].weight, kaldi.components[0].weight)
    assert (
        read_nnet(KALDI / "relu.seed.txt").for_kaldi().components[1] == read_nnet(KALDI / "relu.nnet.bin").components[1]
    )


def test_identity_after_an_affine_transform_with_bias_is_left_out():
    affine = nc.AffineTransform(np.ones((2, 2), np.float32), np.ones(2, np.float32))
    assert Nnet((affine, nc.Linear(2))).for_kaldi() == Nnet((affine,))


def test_kaldi_writing_refuses_what_kaldi_has_not(tmp_path):
    for part in (nc.Relu(4), nc.Linear(4), nc.Maxout(8, 4)):
        with pytest.raises(DataError, match="for_kaldi"):
            write_nnet(tmp_path / "out", Nnet((part,)))
    with pytest.raises(DataError, match="maxout"):
        Nnet((nc.Maxout(8, 4),)).for_kaldi()
    with pytest.raises(DataError, match="Splice"):
        write_nnet(tmp_path / "out", Nnet((nc.Splice(2, (0,)),)), dialect="legacy")
    with pytest.raises(ConfigError, match="dialect"):
        write_nnet(tmp_path / "out", Nnet((nc.Sigmoid(2),)), dialect="xml")
    with pytest.raises(RunError, match="missing"):
        write_nnet(tmp_path / "missing" / "out", Nnet((nc.Sigmoid(2),)))
    assert list(tmp_path.iterdir()) == []


def test_parametric_relu_that_learns_is_no_relu(tmp_path):
    ones, zeros = np.ones(2, np.float32), np.zeros(2, np.float32)
    assert nc.ParametricRelu(ones, zeros).is_relu
    for other in (
        nc.ParametricRelu(ones, zeros, 1.0),
        nc.ParametricRelu(ones, ones),
        nc.ParametricRelu(zeros, zeros),
    ):
        assert not other.is_relu
        with pytest.raises(DataError):
            write_nnet(tmp_path / "out", Nnet((other,)), dialect="legacy")


def test_table_and_counts():
    nnet = read_nnet(KALDI / "tiny.nnet.bin")
    assert (nnet.input_dim, nnet.output_dim, nnet.parameter_count) == (3, 5, 4 * 3 + 4 + 5 * 4 + 5)
    lines = str(nnet).splitlines()
    assert len(lines) == 6
    assert lines[1].split() == ["0", "AffineTransform", "3", "4", "16"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: nc.Sigmoid(0),
        lambda: nc.Dropout(2, 1.0),
        lambda: nc.Maxout(5, 2),
        lambda: nc.Copy(2, (2,)),
        lambda: nc.BlockSoftmax((2, 0)),
        lambda: nc.AddShift(np.float32([np.nan])),
        lambda: nc.AddShift(np.zeros(2)),
        lambda: nc.AffineTransform(np.zeros((2, 2), np.float32), np.zeros(3, np.float32)),
        lambda: nc.LinearTransform(np.zeros(2, np.float32)),
        lambda: nc.ParametricRelu(np.zeros(2, np.float32), np.zeros(1, np.float32)),
        lambda: Nnet(()),
        lambda: Nnet((nc.Sigmoid(2), nc.Sigmoid(3))),
    ],
)
def test_records_check_themselves(make):
    with pytest.raises(DataError):
        make()


@pytest.mark.parametrize("name", ["tiny.nnet.bin", "tiny.nnet.txt", "splice2.nnet.txt", "relu.svd_low.nnet.bin"])
def test_truncation_at_every_byte_is_refused(name):
    data = (KALDI / name).read_bytes()
    end = len(data.rstrip(b"\n"))  # Kaldi text ends in a space and a new line, of which one is enough
    for length in range(end):
        with pytest.raises(FormatError):
            read_nnet_bytes(data[:length], name)


@given(
    st.sampled_from(["tiny.nnet.bin", "tiny.nnet.txt", "tiny.seed.txt", "relu.svd_low.nnet.bin", "splice2.nnet.txt"]),
    st.integers(0, 10**6),
    st.integers(0, 255),
)
def test_a_changed_byte_is_read_or_refused(name, place, byte):
    data = bytearray((KALDI / name).read_bytes())
    data[place % len(data)] = byte
    try:
        nnet = read_nnet_bytes(bytes(data), name)
    except FormatError as error:
        assert "\n" not in str(error)
    else:
        assert all(np.isfinite(array).all() for part in nnet.components for array in part.arrays())


@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"\0B", b"<Nnet> ", b"\0B<Nnet> <AffineTransform> \x04\1\0\0\0"]),
)
def test_noise_is_refused(noise, start):
    try:
        read_nnet_bytes(start + noise)
    except FormatError:
        return
    assert noise.strip()  # something was there to be read


def test_absurd_sizes_are_refused_before_memory_is_taken():
    huge = struct.pack("<BiBi", 4, 2**31 - 1, 4, 2**31 - 1)
    for body in (
        b"<AffineTransform> " + huge + b"FM " + huge,
        b"<AddShift> " + huge + b"FV " + huge[:5],
        b"<Splice> " + huge + huge[:5],
        b"<LinearTransform> " + huge + b"CM " + b"\0" * 8 + struct.pack("<ii", 2**31 - 1, 2**31 - 1),
    ):
        with pytest.raises(FormatError, match="truncated"):
            read_nnet_bytes(b"\0B<Nnet> " + body + b"\0" * 100)


def test_too_many_components_are_refused():
    with pytest.raises(FormatError, match="more than 10000"):
        read_nnet_bytes(b"<tanh> 4 4\n" * 10_001)


def test_rows_without_any_white_space():
    data = b"<LinearTransform> 30000 1\n [ " + b"5;" * 30_000 + b"]\n"
    assert read_nnet_bytes(data).components[0].weight.sum() == 150_000


def test_missing_file_and_folder_are_named(tmp_path):
    for path in (tmp_path / "none.nnet", tmp_path):
        with pytest.raises(FormatError, match=str(path)):
            read_nnet(path)


def test_the_benchmark_runs(monkeypatch, capsys):
    script = Path(__file__).parents[3] / "benchmarks" / "nnet1.py"
    options = ["--inputs=11", "--hidden=16", "--layers=2", "--outputs=7", "--repeats=1"]
    monkeypatch.setattr("sys.argv", [str(script), *options])
    runpy.run_path(str(script), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 9
    assert "text to binary" in lines[4]
