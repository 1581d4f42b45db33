"""Files of nnet3: what Kaldi wrote is written again byte for byte, and damage is one clear error."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.errors import DataError, FormatError
from limbeck.kaldi.formats.sniff import identify
from limbeck.kaldi.formats.transition_model import read_transition_model
from limbeck.kaldi.nnet3.model import read_nnet3, read_nnet3_bytes, write_nnet3
from limbeck.kaldi.nnet3.text import matrix_text, number_text, vector_text
from limbeck.kaldi.summaries import summarise

NNET3 = Path(__file__).parents[2] / "fixtures" / "kaldi" / "nnet3"
FILES = sorted(path.name for path in NNET3.iterdir() if path.suffix in (".bin", ".mdl", ".txt"))
# Averages that Kaldi keeps as sums: of a copy the last digit may differ.
STATISTICS = {"ValueAvg", "DerivAvg", "OderivRms", "StatsMean", "StatsVar"}

TINY = """<Nnet3> 
input-node name=input dim=2
component-node name=a component=a input=Append(Offset(input, -1), input)
output-node name=output input=a objective=linear

<NumComponents> 1 
<ComponentName> a <AffineComponent> <LearningRate> 0.001 <LinearParams>  [
  1 2 3 4 
  5 6 7 8.5 ]
<BiasParams>  [ 0.5 -1 ]
</AffineComponent> 
</Nnet3> """  # noqa: W291


def test_the_fixtures_are_there():
    assert len(FILES) == 23 and read_nnet3_bytes(TINY.encode()).nnet.parameter_count == 10


@pytest.mark.parametrize("name", FILES)
def test_what_kaldi_wrote_is_written_again_byte_for_byte(name, tmp_path):
    write_nnet3(tmp_path / "again", read_nnet3(NNET3 / name))
    assert (tmp_path / "again").read_bytes() == (NNET3 / name).read_bytes()
    assert identify(NNET3 / name) == ("nnet3 model" if name.startswith("am") else "nnet3")


@pytest.mark.parametrize("pair", [("tdnnf.txt", "tdnnf.bin"), ("am.txt", "am.mdl"), ("am.chain.txt", "am.chain.mdl"),
                                  ("cnn.txt", "cnn.bin"), ("tdnn.txt", "tdnn.bin")])  # fmt: skip
def test_text_goes_to_the_binary_that_kaldi_makes_of_it_and_back(pair, tmp_path):
    text, binary = (read_nnet3(NNET3 / name) for name in pair)
    write_nnet3(tmp_path / "a", text, binary=True)
    made, expected = (tmp_path / "a").read_bytes(), (NNET3 / pair[1]).read_bytes()
    assert len(made) == len(expected)
    head = expected.index(b"<Nnet3>")
    assert made[:head] == expected[:head]  # the transition model
    for mine, theirs in zip(read_nnet3(tmp_path / "a").nnet.components, binary.nnet.components, strict=True):
        for left, right in zip(mine.fields, theirs.fields, strict=True):
            assert (left.tag, [v.kind for v in left.values]) == (right.tag, [v.kind for v in right.values])
            for value, other in zip(left.values, right.values, strict=True):
                close = 2e-6 if left.tag in STATISTICS else 0
                np.testing.assert_allclose(value.content, other.content, rtol=close, err_msg=f"{mine.name} {left.tag}")
    write_nnet3(tmp_path / "b", read_nnet3(tmp_path / "a"), binary=False)
    assert (tmp_path / "b").read_bytes() == (NNET3 / pair[0]).read_bytes()


def test_no_bit_is_lost_in_text(tmp_path):
    model = read_nnet3(NNET3 / "tdnn.bin")
    write_nnet3(tmp_path / "t", model, binary=False)
    write_nnet3(tmp_path / "b", read_nnet3(tmp_path / "t"), binary=True)
    assert (tmp_path / "b").read_bytes() == (NNET3 / "tdnn.bin").read_bytes()


def test_info_says_what_nnet3_info_says():
    for name, left, right, parameters in (("tdnn", 6, 7, 1060), ("tdnnf", 5, 5, 975), ("ivec", 4, 3, 704),
                                          ("misc", 3, 2, 534), ("misc2", 2, 2, 543)):  # fmt: skip
        found = summarise(NNET3 / f"{name}.bin")
        assert found["left context of output"] == left and found["right context of output"] == right
        assert found["parameters"] == parameters, name
    assert summarise(NNET3 / "tdnnf.bin")["components"][4]["settings"]["TimeOffsets"] == [-1, 0]
    model = summarise(NNET3 / "am.mdl")
    assert (model["kind"], model["pdfs"], model["priors"], model["inputs"]) == ("nnet3 model", 6, 6, "input 4")
    assert "recurrent" in summarise(NNET3 / "lstm.bin")["note"]
    assert summarise(NNET3 / "stats.bin")["outputs"] == "output 5"
    assert read_transition_model(NNET3 / "am.mdl").pdf_count == 6


def test_every_truncation_is_one_clear_error(tmp_path):
    write_nnet3(tmp_path / "tiny", read_nnet3_bytes(TINY.encode()), binary=True)
    for data, step in (
        (TINY.encode(), 1),
        ((tmp_path / "tiny").read_bytes(), 1),
        ((NNET3 / "am.mdl").read_bytes(), 41),
    ):
        for length in range(0, len(data) - 1, step):
            with pytest.raises(FormatError):
                read_nnet3_bytes(data[:length])


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("input=a", "input=b", "reads b, which is not there"),
        ("component=a", "component=b", "uses the component b"),
        ("dim=2", "dim=0", "dim=0"),
        ("dim=2", "dim=3", "reads 6 columns, and its component a has 4 inputs"),
        ("dim=2", "dim=99999999999", "dim=99999999999"),
        ("name=a component", "name=input component", "two nodes with the name input"),
        ("input-node name=input dim=2\n", "", "reads input, which is not there"),
        ("Offset(input, -1)", "Offset(input, -99999999)", "from -1048576 to 1048576"),
        ("Offset(input, -1)", "Offset(input, 1.5)", "a whole number"),
        ("Offset(input, -1)", "Offset(input, 0, 1)", "only times are run"),
        ("Offset(input, -1)", "Shift(input, -1)", "Shift is not a kind of descriptor"),
        ("-1), input)", "-1), input", "has no ')'"),
        ("Offset(input, -1)", "(" * 50, "where a name should be"),
        ("Offset(input, -1)", "IfDefined(" * 50 + "input" + ")" * 50, "nested more than 32 deep"),
        ("Offset(input, -1)", "Sum(input, Const(1, 3))", "have 2 and 3 columns"),
        ("objective=linear", "objective=cubic", "neither linear nor quadratic"),
        ("objective=linear", "colour=red", "colour="),
        ("component-node name", "component name", "run nnet3-init"),
        ("<NumComponents> 1", "<NumComponents> 2", "<ComponentName>"),
        ("<NumComponents> 1", "<NumComponents> 2000000000", "at most 10000"),
        ("<AffineComponent>", "<Affine>", "the type of the component a"),
        ("</AffineComponent>", "</LinearComponent>", "found"),
        ("0.001", "nan", "finite number"),
        ("-1 ]", "-1 3 ]", "2 outputs and 3 biases"),
        ("7 8.5", "7", "row 1"),
        ("</Nnet3> ", "</Nnet3> more", "bytes follow"),
    ],
)
def test_what_is_wrong_is_named(old, new, says):
    assert old in TINY
    with pytest.raises(FormatError, match="byte") as raised:
        read_nnet3_bytes(TINY.replace(old, new).encode(), "final.raw")
    assert says in str(raised.value) and "final.raw" in str(raised.value)


@pytest.mark.parametrize("name", ["tiny.nnet.bin", "tiny.nnet.txt", "e2e/final.nnet"])
def test_networks_of_nnet1_are_told_with_the_command_for_them(name):
    with pytest.raises(FormatError, match="a network of nnet1, .* limbeck compress"):
        read_nnet3(NNET3.parent / name)


def test_sizes_that_lie_take_no_memory():
    data = (NNET3 / "dropout_affine.bin").read_bytes()
    for mark in (b"FM ", b"FV "):
        place = data.index(mark) + len(mark) + 1
        for size in (b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff"):
            with pytest.raises(FormatError):
                read_nnet3_bytes(data[:place] + size + data[place + 4 :])


def test_a_component_that_is_not_known_is_kept_in_its_mode(tmp_path):
    odd = TINY.replace("AffineComponent", "NovelComponent").replace("<LearningRate> 0.001", "<Novelty> 7 <Bare> ")
    model = read_nnet3_bytes(odd.encode())
    write_nnet3(tmp_path / "a", model)
    assert (tmp_path / "a").read_text().split() == odd.split()
    with pytest.raises(DataError, match="<Novelty> is not known"):
        write_nnet3(tmp_path / "b", model, binary=True)
    assert summarise(tmp_path / "a")["outputs"] == "output ?"


def slow_words(values):
    """Number by number: seven digits, or nine (17 for float64) where seven are read as another."""
    kind, digits = values.dtype.type, 9 if values.dtype == np.float32 else 17
    with np.errstate(over="ignore"):
        return [
            short if kind(float(short := f"{value:.7g}")) == value else f"{value:.{digits}g}"
            for value in values.tolist()
        ]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_text_restores_every_bit_with_kaldis_digits_where_they_do(dtype):
    random = np.random.default_rng(0)
    values = (random.normal(size=3000) * 10.0 ** random.integers(-30, 30, 3000)).astype(dtype)
    values[::3] = [float(f"{value:.7g}") for value in values[::3]]
    words = b"".join(vector_text(values)).decode().split()[1:-1]
    assert np.array_equal(np.array(words, np.float64).astype(dtype), values)
    assert words == slow_words(values)


ODD = np.array([0, -0.0, 1e-45, 3.4028235e38, 1234567.5, 1234568.5, 8388607.5, 9999999.5, 16777216, 0.099999994], "f4")
TENS = 10.0 ** np.arange(-37, 39).astype(np.float32)


@settings(max_examples=30)
@given(
    st.lists(st.integers(0, (1 << 32) - 1), max_size=40),
    st.lists(st.integers(-(1 << 31), 1 << 31), max_size=40),
    st.integers(0, 12),
    st.integers(1, 3),
)
def test_text_of_any_float32_is_that_of_the_slow_writer(bits, integers, places, width):
    patterns = np.array(bits, np.uint32).view(np.float32)
    near = np.concatenate([np.nextafter(TENS, np.float32(side)) for side in (0, 1e38)])
    parts = [ODD, -ODD, TENS, near, patterns, np.array(integers, np.float64).astype(np.float32) / 10.0**places]
    values = np.concatenate([part[np.isfinite(part)] for part in parts]).astype(np.float32)
    values = values[: values.size // width * width]
    rows = [slow_words(row) for row in values.reshape(-1, width)]
    assert b"".join(vector_text(values)).decode() == f" [ {' '.join(sum(rows, []))} ]\n"
    assert b"".join(matrix_text(values.reshape(-1, width))).decode() == (
        " [" + "".join(f"\n  {' '.join(row)} " for row in rows) + "]\n"
    )
    assert [number_text(value, np.float32).decode() for value in values.tolist()] == sum(rows, [])
