"""Transition ids to pdf ids: against what Kaldi's ali-to-pdf wrote, for binary and text models."""

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.errors import FormatError, MismatchError
from limbeck.kaldi.formats.table import read_ark
from limbeck.kaldi.formats.transition_model import read_alignments, read_transition_model

KALDI = Path(__file__).parents[2] / "fixtures" / "kaldi"

TOPOLOGY = """<Topology>
<TopologyEntry>
<ForPhones>
1 2 3
</ForPhones>
<State> 0 <PdfClass> 0 <Transition> 0 0.5 <Transition> 1 0.5 </State>
<State> 1 <PdfClass> 1 <Transition> 1 0.5 <Transition> 2 0.5 </State>
<State> 2 </State>
</TopologyEntry>
</Topology>
"""
TRIPLES = "<Triples> 6 \n1 0 0 \n1 1 1 \n2 0 2 \n2 1 3 \n3 0 4 \n3 1 5 \n</Triples> \n"
TEXT = f"<TransitionModel> \n{TOPOLOGY}{TRIPLES}<LogProbs> \n [ 0 -0.7 ]\n</LogProbs> \n</TransitionModel> \n"


def read_text(tmp_path, text):
    (tmp_path / "final.mdl").write_text(text)
    return read_transition_model(tmp_path / "final.mdl")


@pytest.mark.parametrize("folder", ["hmm", "e2e"])
def test_alignments_become_the_pdfs_of_ali_to_pdf(folder):
    model = read_transition_model(KALDI / folder / "mono.mdl")
    pdfs = dict(read_ark(KALDI / folder / "alipdf.txt", "integers"))
    alignments = dict(read_alignments(KALDI / folder / "ali.1.gz"))
    assert alignments.keys() == pdfs.keys()
    for key, alignment in alignments.items():
        np.testing.assert_array_equal(model.pdfs(alignment), pdfs[key])
    counts = np.bincount(np.concatenate(list(pdfs.values())), minlength=model.pdf_count) + 0.5
    text = (KALDI / folder / "ali_train_pdf.counts").read_text().split()
    np.testing.assert_array_equal(counts, [float(word) for word in text[1:-1]])


def test_text_and_gzipped_alignments_agree():
    text, zipped = dict(read_alignments(KALDI / "hmm/ali.txt")), dict(read_alignments(KALDI / "hmm/ali.1.gz"))
    assert text.keys() == zipped.keys()
    assert all(np.array_equal(text[key], zipped[key]) for key in text)


def test_text_model_is_the_binary_one(tmp_path):
    text, binary = read_text(tmp_path, TEXT), read_transition_model(KALDI / "hmm/mono.mdl")
    np.testing.assert_array_equal(text.tid_to_pdf, binary.tid_to_pdf)
    np.testing.assert_array_equal(text.tid_to_phone, binary.tid_to_phone)
    assert (text.pdf_count, text.transition_count) == (6, 12)
    assert binary.tid_to_phone.tolist() == [-1] + [1] * 4 + [2] * 4 + [3] * 4


def test_self_loops_may_have_a_pdf_of_their_own(tmp_path):
    state = "<ForwardPdfClass> 0 <SelfLoopPdfClass> 1"
    text = TEXT.replace("<PdfClass> 0", state).replace("<PdfClass> 1", state)
    tuples = TRIPLES.replace("Triples", "Tuples").replace("\n1 0 0 ", "\n1 0 0 9 ")
    for number in range(1, 6):
        tuples = tuples.replace(f" {number} \n", f" {number} {number} \n")
    model = read_text(tmp_path, text.replace(TRIPLES, tuples.replace("<Tuples> 6", "<Tuples> 6")))
    assert model.tid_to_pdf[:4].tolist() == [-1, 9, 0, 1]
    assert model.pdf_count == 10

    loop = struct.pack("<Bi", 4, -1)
    topology = (
        struct.pack("<Bii", 4, 1, 1) + struct.pack("<Bi2i", 4, 2, -1, 0) + loop + struct.pack("<Bi", 4, 1)
        + struct.pack("<Bi", 4, 2) + struct.pack("<BiBiBi", 4, 0, 4, 1, 4, 2)
        + struct.pack("<BiBfBiBf", 4, 0, 4, 0.5, 4, 1, 4, 0.5)
        + struct.pack("<BiBiBi", 4, -1, 4, -1, 4, 0)
    )  # fmt: skip
    tuples = struct.pack("<BiBiBiBiBi", 4, 1, 4, 1, 4, 0, 4, 3, 4, 7)
    (tmp_path / "b").write_bytes(
        b"\0B<TransitionModel> <Topology> " + topology + b"</Topology> <Tuples> " + tuples + b"</Tuples> "
    )
    assert read_transition_model(tmp_path / "b").tid_to_pdf.tolist() == [-1, 7, 3]


def test_alignment_of_another_model_is_refused():
    model = read_transition_model(KALDI / "hmm/mono.mdl")
    for wrong in ([1, 13], [0, 1], [-1]):
        with pytest.raises(MismatchError, match="another final.mdl"):
            model.pdfs(np.int32(wrong), name="utt1")
    assert model.pdfs(np.empty(0, np.int32)).size == 0


def test_a_phone_is_entered_at_its_first_state():
    """Of a phone's four transition ids two are of its first state, and two of its last, from which the next begins."""
    model = read_transition_model(KALDI / "hmm/mono.mdl")
    assert model.tid_to_phone[[3, 4, 5, 7]].tolist() == [1, 1, 2, 2]
    assert model.tid_to_state[[3, 4, 5, 7]].tolist() == [1, 1, 0, 1]
    for last in (3, 4):
        assert len(model.pdfs(np.int32([last, 5]))) == len(model.pdfs(np.int32([last, 6]))) == 2
        for inside in (7, 8, 11):
            with pytest.raises(MismatchError, match=f"goes from transition id {last} to {inside} in frame 1, which no"):
                model.pdfs(np.int32([last, inside]))


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("<TransitionModel>", "<Nnet>", "where <TransitionModel> should be"),
        ("1 2 3\n", "1 2\n", "phone 3 and state 0"),
        ("3 1 5", "3 3 5", "phone 3 and state 3"),
        ("3 1 5", "3 1 -5", "impossible pdf"),
        ("3 1 5", "3 1 99999999", "impossible pdf"),
        ("<Triples> 6", "<Triples> 7", "32 bits"),
        ("<Triples> 6", "<Triples> 5", "</Triples>"),
        ("<Triples> 6", "<Triples> 0", "number of tuples is 0"),
        ("<State> 1", "<State> 2", "count 0, 1, 2"),
        ("<PdfClass> 1", "<Final> 1", "'<Final>'"),
        ("<Transition> 1 0.5", "<Transition> 1 nan", "finite"),
    ],
)
def test_malformed_models_are_refused(old, new, reason, tmp_path):
    with pytest.raises(FormatError, match=reason):
        read_text(tmp_path, TEXT.replace(old, new, 1))


@pytest.mark.parametrize("mode", ["binary", "text"])
def test_truncation_at_every_byte_of_the_transitions_is_refused(mode, tmp_path):
    data = (KALDI / "hmm/mono.mdl").read_bytes() if mode == "binary" else TEXT.encode()
    end = data.index(b"</Triples> ") + len(b"</Triples> ")
    for length in range(end):
        (tmp_path / "cut").write_bytes(data[:length])
        with pytest.raises(FormatError):
            read_transition_model(tmp_path / "cut")


@given(st.integers(0, 10**6), st.integers(0, 255), st.booleans())
def test_a_changed_byte_is_read_or_refused(place, byte, binary):
    import tempfile

    data = bytearray((KALDI / "hmm/mono.mdl").read_bytes() if binary else TEXT.encode())
    data[place % len(data)] = byte
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        try:
            model = read_transition_model(file.name)
        except FormatError as error:
            assert "\n" not in str(error)
        else:
            assert model.tid_to_pdf.shape == model.tid_to_phone.shape
            assert model.tid_to_pdf[1:].min() >= 0
