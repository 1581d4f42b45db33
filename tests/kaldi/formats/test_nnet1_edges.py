"""Every row of the table of what Kaldi's nnet-copy accepts and refuses, and what Limbeck does with it."""

import struct
from pathlib import Path

import numpy as np
import pytest

from limbeck.errors import FormatError
from limbeck.kaldi.formats import nnet1_components as nc
from limbeck.kaldi.formats.nnet1 import read_nnet, read_nnet_bytes
from limbeck.kaldi.formats.sniff import identify

ROWS = Path(__file__).parents[2] / "fixtures" / "kaldi" / "edge_results.txt"
KALDI = {line.split()[0]: "OK" in line.split()[:4] for line in ROWS.read_text().splitlines()}

AFFINE = "<AffineTransform> 2 2 \n<LearnRateCoef> 1 <BiasLearnRateCoef> 1 <MaxNorm> 0 \n [\n  1 2 \n  3 4 ]\n [ 5 6 ]\n"
EOC = "<!EndOfComponent> \n"


def net(body, close="</Nnet> \n"):
    return f"<Nnet> \n{body}{close}".encode()


def number(token):
    return net(AFFINE.replace("1 2 \n  3 4 ", f"1 {token} \n  3 4 ") + EOC)


def vector(text):
    return net(AFFINE.replace(" [ 5 6 ]", text) + EOC)


RATE = b"\x04" + struct.pack("<f", 1)
DIMS = struct.pack("<BiBi", 4, 2, 4, 2)


def binary(matrix=None, rate=RATE, dims=DIMS, end=b" "):
    plain = b"FM " + struct.pack("<BiBi4f", 4, 2, 4, 2, 1, 2, 3, 4)
    return (
        b"\0B<Nnet> <AffineTransform>" + end + dims + b"<LearnRateCoef> " + rate
        + (plain if matrix is None else matrix)
        + b"FV " + struct.pack("<Bi2f", 4, 2, 5, 6) + b"<!EndOfComponent> </Nnet> "
    )  # fmt: skip


# What Kaldi takes and so do we.
TAKEN = {
    "no_wrap_no_eoc_lower": (b"<affinetransform> 2 2\n[\n1 2\n3 4\n]\n[ 5 6 ]\n<softmax> 2 2\n"),
    "mixed_case_tag": net(AFFINE.replace("Affine", "aFFINE") + EOC),
    "no_newline_after_dims": net(AFFINE.replace("2 2 \n", "2 2 ") + EOC + "<Sigmoid> 2 2 " + EOC),
    "one_line_file": net(AFFINE.replace("\n  1", " 1").replace("2 \n  3", "2 ; 3").replace("\n", " ")
                         + "<Softmax> 2 2 "),
    "crlf": net(AFFINE + EOC).replace(b"\n", b"\r\n"),
    "close_glued": net(AFFINE.replace("4 ]", "4]").replace("6 ]", "6]") + EOC),
    "num_trail_dot": number("2."),
    "tokens_reordered": net(AFFINE.replace("<LearnRateCoef> 1 <BiasLearnRateCoef> 1 <MaxNorm> 0",
                                           "<MaxNorm> 0 <LearnRateCoef> 0.5") + EOC),
    "bin_plain": binary(),
    "bin_double": binary(b"DM " + struct.pack("<BiBi4d", 4, 2, 4, 2, 1, 2, 3, 4)),
    "bin_lr_double": binary(rate=b"\x08" + struct.pack("<d", 0.5)),
    "bin_cm2_weights": binary(b"CM2 " + struct.pack("<ffii4H", 1, 3, 2, 2, 0, 21845, 43690, 65535)),
    "bin_no_nnet_tag": binary().replace(b"<Nnet> ", b"", 1),
    "bin_newline_term": binary(end=b"\n"),
}  # fmt: skip

# Other components and other values that Kaldi takes and so do we: the bytes and what they mean.
VALUES = {
    "num_tiny": (number("1e-50"), 0.0),
    "num_denorm": (number("1e-40"), 1e-40),
    "num_E5": (number("1E-5"), 1e-5),
}
COMPONENTS = {
    "prelu_old_no_coef": (
        net("<ParametricRelu> 2 2 \n [ 1 1 ]\n [ 0 0 ]\n" + EOC),
        nc.ParametricRelu(np.ones(2, np.float32), np.zeros(2, np.float32)),
    ),
    "linear_transform_newline": (
        net("<LinearTransform> 2 2 \n<LearnRateCoef> 1 \n [\n  1 2 \n  3 4 ]\n" + EOC),
        nc.LinearTransform(np.float32([[1, 2], [3, 4]])),
    ),
    "copy_1based": (net("<Copy> 2 3 \n[ 2 1 ]\n" + EOC), nc.Copy(3, (1, 0))),
    "splice": (net("<Splice> 6 2 \n[ -1 0 1 ]\n" + EOC), nc.Splice(2, (-1, 0, 1))),
    "splice_newline_ok": (net("<Splice> 6 2 \n[ -1\n0 1\n]\n" + EOC), nc.Splice(2, (-1, 0, 1))),
    "dropout_text": (net("<Dropout> 2 2 \n<DropoutRate> 0.3 " + EOC), nc.Dropout(2, float(np.float32(0.3)))),
}

# What Kaldi takes in silence and we refuse.
REFUSED_THOUGH_TAKEN = {
    "truncated_no_close": (net(AFFINE + EOC, ""), "without </Nnet>"),
    "garbage_after_close": (net(AFFINE + EOC) + b"garbage\n", "bytes follow </Nnet>"),
    "two_nnets_cat": (net(AFFINE + EOC) * 2, "bytes follow </Nnet>"),
    "empty_nnet": (net(""), "without components"),
    "empty_file": (b"", "empty file"),
}

# What Kaldi refuses, with a word of our reason.
REFUSED = {
    "lower_nnet_tag": (net(AFFINE + EOC).replace(b"<Nnet>", b"<nnet>"), "capital N"),
    "seed_linear": (net("<linear> 2 2\n"), "unknown component '<linear>'"),
    "seed_maxout": (net("<maxout> 2 4\n"), "unknown component '<maxout>'"),
    "no_final_newline_at_tag": (net(AFFINE + EOC, "</Nnet>"), "directly after </Nnet>"),
    "bias_newline_inside": (vector(" [ 5\n 6 ]"), "new line inside a vector"),
    "bias_open_newline": (vector(" [\n 5 6 ]"), "new line inside a vector"),
    "bracket_glued": (net(AFFINE.replace("[\n  1", "[1") + EOC), r"'\['"),
    "num_dot5": (number(".5"), "'.5' is not a decimal number: a number starts"),
    "num_plus1": (number("+1"), r"'\+1' is not a decimal number: a number starts"),
    "num_huge": (number("1e39"), "1e39 is too large"),
    "num_inf": (number("inf"), "every weight must be finite"),
    "num_neginf": (number("-inf"), "every weight must be finite"),
    "num_nan": (number("nan"), "every weight must be finite"),
    "num_negnan": (number("-nan"), "every weight must be finite"),
    "num_Infinity": (number("Infinity"), "every weight must be finite"),
    "num_hex": (number("0x1p3"), "'0x1p3' is not a decimal number"),
    "num_comma": (number("1,5"), "'1,5' is not a decimal number"),
    "vec_plus": (vector(" [ +5 6 ]"), r"'\+5' is not a decimal number"),
    "ragged": (
        net(AFFINE.replace("3 4", "3") + EOC),
        "row 1 .* has 1 numbers, and the rows before it have 2",
    ),
    "dims_swapped": (
        net("<AffineTransform> 2 3 \n [\n 1 2\n 3 4\n 5 6 ]\n [ 5 6 7 ]\n" + EOC),
        "by its header",
    ),
    "chain_mismatch": (
        net(AFFINE + EOC + "<Sigmoid> 3 3 \n" + EOC),
        "has 3 inputs, and <AffineTransform> before it 2",
    ),
    "bias_short": (vector(" [ 5 ]"), "bias has shape"),
    "tokens_lower": (
        net(AFFINE.replace("<LearnRateCoef>", "<learnratecoef>") + EOC),
        "no token '<learnratecoef>'",
    ),
    "token_unknown": (net(AFFINE.replace("<LearnRateCoef>", "<Foo>") + EOC), "no token '<Foo>'"),
    "comment": (b"# a comment\n" + net(AFFINE + EOC), "no nnet1 network"),
    "bom": (b"\xef\xbb\xbf" + net(AFFINE + EOC), "byte order mark"),
    "bin_no_header": (binary()[2:], "32 bits"),
    "bin_truncated": (binary()[: binary().index(b"FV ") + 12], "truncated"),
    "bin_neg_dim": (binary(b"FM " + struct.pack("<BiBi4f", 4, -2, 4, 2, 1, 2, 3, 4)), "impossible shape"),
    "bin_int64_dim": (binary(dims=struct.pack("<BqBq", 8, 2, 8, 2)), "size byte says 8"),
}


def test_every_row_is_here_with_kaldis_verdict():
    taken = {*TAKEN, *VALUES, *COMPONENTS, *REFUSED_THOUGH_TAKEN}
    ours = {name: name in taken for name in (*taken, *REFUSED, "seed_relu")}
    assert ours == KALDI


@pytest.mark.parametrize("name", TAKEN)
def test_taken(name):
    nnet = read_nnet_bytes(TAKEN[name])
    affine = nnet.components[0]
    np.testing.assert_array_equal(affine.weight, [[1, 2], [3, 4]])
    np.testing.assert_array_equal(affine.bias, [5, 6])
    assert affine.learn_rate == (0.5 if name in ("tokens_reordered", "bin_lr_double") else 1)
    assert len(nnet.components) == (
        2 if name in ("no_wrap_no_eoc_lower", "one_line_file", "no_newline_after_dims") else 1
    )


@pytest.mark.parametrize("name", VALUES)
def test_values(name):
    data, value = VALUES[name]
    assert read_nnet_bytes(data).components[0].weight[0, 1] == np.float32(value)


@pytest.mark.parametrize("name", COMPONENTS)
def test_components(name):
    data, component = COMPONENTS[name]
    assert read_nnet_bytes(data).components == (component,)


@pytest.mark.parametrize("name", [*REFUSED, *REFUSED_THOUGH_TAKEN])
def test_refused(name):
    data, reason = (REFUSED | REFUSED_THOUGH_TAKEN)[name]
    with pytest.raises(FormatError, match=reason):
        read_nnet_bytes(data)


def test_seed_relu_is_read_as_what_forks_and_the_older_dialect_mean():
    assert read_nnet_bytes(b"<relu> 2 2\n").components == (nc.Relu(2),)
    assert read_nnet_bytes(net("<ReLU> 2 2 \n" + EOC)).components == (nc.Relu(2),)


def test_older_dialect_without_wrapper_has_linear_and_maxout():
    nnet = read_nnet_bytes(b"<maxout> 2 4\n<linear> 2 2\n")
    assert nnet.components == (nc.Maxout(4, 2), nc.Linear(2))


def test_end_of_text_may_have_more_white_space_and_binary_may_not():
    assert read_nnet_bytes(net(AFFINE + EOC) + b"\n \n").output_dim == 2
    with pytest.raises(FormatError, match="bytes follow"):
        read_nnet_bytes(binary() + b"\n")


@pytest.mark.parametrize(
    "token", ["1-2", "1.2.3", "1e5e6", "1e2.5", "-", "-.", "--1", "1e", "1e+", "1e-.5", "1_0", "1d5"]
)
def test_malformed_numbers_are_named(token):
    with pytest.raises(FormatError, match="not a decimal number"):
        read_nnet_bytes(number(token))


@pytest.mark.parametrize("token", ["-.5", "-0", "-0.000", "00012.50", "1e+05", "1.17549435e-38", "3.40282347e+38"])
def test_numbers_as_kaldi_reads_them(token):
    value = read_nnet_bytes(number(token)).components[0].weight[0, 1]
    assert value.tobytes() == np.float32(token).tobytes()


@pytest.mark.parametrize(("token", "number", "rate"), [("DropoutRate", 0.25, 0.25), ("DropoutRetention", 0.75, 0.25)])
def test_dropout_is_told_by_what_is_dropped_or_by_what_is_kept(token, number, rate):
    text = f"<Nnet> \n<Dropout> 2 2 \n<{token}> {number} <!EndOfComponent> \n</Nnet> \n"
    assert read_nnet_bytes(text.encode()).components[0].rate == rate


@pytest.mark.parametrize("body", ["<{}> 2 2 \n", "<Sigmoid> 2 2 <{}> 2 2 "])
def test_components_of_kaldi_that_are_not_run_are_named(body, tmp_path):
    for name in nc.NOT_RUN.values():
        for data in (net(body.format(name)), body.format(name.lower()).encode()):
            with pytest.raises(FormatError, match=f"<{name}> is a component of Kaldi's"):
                read_nnet_bytes(data)
            (tmp_path / "a").write_bytes(data)
            assert identify(tmp_path / "a").startswith("nnet1")


@pytest.mark.parametrize("name", ["tdnn.bin", "tdnn.txt", "am.mdl", "am.txt"])
def test_networks_of_nnet3_are_told_with_the_command_for_them(name):
    with pytest.raises(FormatError, match=r"begins a network of nnet3 .* limbeck kaldi nnet3-copy"):
        read_nnet(ROWS.parent / "nnet3" / name)


def test_a_prototype_is_no_network_yet(tmp_path):
    (tmp_path / "nnet.proto").write_text("<NnetProto>\n<AffineTransform> <InputDim> 6 <OutputDim> 4\n</NnetProto>\n")
    assert identify(tmp_path / "nnet.proto") == "nnet1 legacy"
    with pytest.raises(FormatError, match="run nnet-initialize"):
        read_nnet(tmp_path / "nnet.proto")
    (tmp_path / "bare.proto").write_text("<LstmProjected> <InputDim> 10 <OutputDim> 4 <CellDim> 6\n")
    with pytest.raises(FormatError, match="run nnet-initialize"):
        read_nnet(tmp_path / "bare.proto")
