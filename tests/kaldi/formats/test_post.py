"""Sparse posteriors against bytes of Kaldi's own writer (kaldi-native-io 1.23), and whatever is wrong with them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.errors import DataError, FormatError
from limbeck.kaldi.formats.post import PAIR, dense_posteriors, posterior_bytes, sparse_posteriors
from limbeck.kaldi.formats.scp import read_entries, read_scp
from limbeck.kaldi.formats.sniff import identify
from limbeck.kaldi.formats.table import index_ark, read_ark
from limbeck.kaldi.formats.write import write_ark
from limbeck.kaldi.summaries import summarise

BINARY = (
    b"a \x00B\x04\x02\x00\x00\x00"
    b"\x04\x02\x00\x00\x00\x04\x01\x00\x00\x00\x04\x00\x00\x80>\x04\x07\x00\x00\x00\x04\x00\x00@?"
    b"\x04\x01\x00\x00\x00\x04\x03\x00\x00\x00\x04\x00\x00\x80?"
    b"bb \x00B\x04\x01\x00\x00\x00\x04\x02\x00\x00\x00\x04\x01\x00\x00\x00\x04\x00\x00\x00?"
    b"\x04\x02\x00\x00\x00\x04\x00\x00\x00?"
)
TEXT = b"a [ 1 0.25 7 0.75 ] [ 3 1 ] \nbb [ 1 0.5 2 0.5 ] \n"


def pairs(*rows):
    return np.array([(frame, *pair) for frame, row in enumerate(rows) for pair in row], PAIR)


A = pairs([(1, 0.25), (7, 0.75)], [(3, 1.0)])
BB = pairs([(1, 0.5), (2, 0.5)])


@pytest.mark.parametrize(("content", "text"), [(BINARY, False), (TEXT, True)])
def test_reads_and_writes_what_kaldi_does(content, text, tmp_path):
    path = tmp_path / "post.ark"
    path.write_bytes(content)
    found = dict(read_ark(path, "posterior"))
    assert list(found) == ["a", "bb"]
    np.testing.assert_array_equal(found["a"], A)
    np.testing.assert_array_equal(found["bb"], BB)
    write_ark(tmp_path / "again.ark", found, scp=tmp_path / "again.scp", text=text)
    assert (tmp_path / "again.ark").read_bytes() == content
    assert identify(path) == "posteriors"
    ((_, first), (_, second)) = read_entries(read_scp(tmp_path / "again.scp"), "posterior")
    np.testing.assert_array_equal(first, A)
    np.testing.assert_array_equal(second, BB)
    if not text:
        assert index_ark(path, "posterior") == {"a": 2, "bb": 52}


def test_what_an_archive_holds(tmp_path):
    (tmp_path / "post.ark").write_bytes(BINARY)
    found = summarise(tmp_path / "post.ark")
    assert {name: found[name] for name in ("kind", "entries", "rows", "pairs", "pdfs", "shortest", "longest")} == {
        "kind": "posteriors", "entries": 2, "rows": 3, "pairs": 5, "pdfs": 8, "shortest": 1, "longest": 2,
    }  # fmt: skip
    write_ark(tmp_path / "ali.ark", {"a": np.array([1, 2, 2000], np.int32)})
    assert identify(tmp_path / "ali.ark") == "integers"
    write_ark(tmp_path / "post2.ark", {"a": A}, scp=tmp_path / "post.scp")
    assert summarise(tmp_path / "post.scp")["holds"] == "posterior"


def test_every_truncation_is_refused(tmp_path):
    path = tmp_path / "cut.ark"
    for content, first in ((BINARY, BINARY.index(b"bb")), (TEXT, TEXT.index(b"bb"))):
        path.write_bytes(content[:first])
        assert len(dict(read_ark(path, "posterior"))) == 1
        for end in set(range(1, len(content))) - {first}:
            path.write_bytes(content[:end])
            with pytest.raises(FormatError):
                list(read_ark(path, "posterior"))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (BINARY[:4] + b"\xff\xff\xff\xff" + BINARY[8:], "size byte"),
        (BINARY[:5] + b"\xff\xff\xff\xff" + BINARY[9:], "-1 frames"),
        (BINARY[:5] + b"\xff\xff\xff\x7f" + BINARY[9:], "frames"),
        (BINARY[:10] + b"\0\0\0\0" + BINARY[14:], "frame 0 has 0 pdfs"),
        (BINARY[:10] + b"\xff\xff\xff\x7f" + BINARY[14:], "truncated"),
        (BINARY[:14] + b"\x08" + BINARY[15:], "another size than 4"),
        (BINARY[:20] + b"\x00\x00\xc0\x7f" + BINARY[24:], "the pdf 1 the probability nan"),
        (BINARY[:20] + b"\x00\x00\x80\xbf" + BINARY[24:], "the pdf 1 the probability -1"),
        (b"a [ 1 0.5 2 ] \n", "frame 0 should be"),
        (b"a [ 1 0.5 ] [ ] \n", "frame 1 should be"),
        (b"a [ x 0.5 ] \n", "frame 0 should be"),
        (b"a [ 1 0.5 ] 7\n", "should end with ]"),
    ],
)
def test_what_is_wrong_is_said(content, says, tmp_path):
    (tmp_path / "bad.ark").write_bytes(content)
    with pytest.raises(FormatError, match=says):
        list(read_ark(tmp_path / "bad.ark", "posterior"))


def test_pdfs_and_frames_that_are_not_there():
    with pytest.raises(DataError, match="the pdf 7, and there are 7 pdfs"):
        dense_posteriors(A, 7)
    with pytest.raises(DataError, match="each frame"):
        posterior_bytes(A[A["frame"] == 1], binary=True)


@given(
    st.integers(0, 2**32).map(lambda seed: np.random.default_rng(seed).dirichlet(np.full(12, 0.1), 5)),
    st.floats(0.001, 0.9),
)
def test_sparse_rows_are_the_largest_scaled_to_one(rows, least):
    rows = rows.astype(np.float32)
    dense = dense_posteriors(sparse_posteriors(rows, least=least), 12)
    np.testing.assert_allclose(dense.sum(1), 1, atol=1e-6)
    kept = dense > 0
    assert kept.any(1).all() and (rows[kept & (dense != dense.max(1, keepdims=True))] >= least - 1e-6).all()
    for row, found, marks in zip(rows, dense, kept, strict=True):
        np.testing.assert_allclose(found[marks], row[marks] / row[marks].sum(dtype=np.float64), rtol=1e-5)


def test_what_a_frame_gives_a_pdf_in_several_pairs_is_added_up():
    pairs = np.array([(0, 1, 0.25), (0, 1, 0.5), (0, 0, 0.25), (1, 2, 1.0)], PAIR)
    np.testing.assert_array_equal(dense_posteriors(pairs, 3), [[0.25, 0.75, 0.0], [0.0, 0.0, 1.0]])
