"""Graphs that Kaldi's tools wrote, and what would lead a decoder outside its memory."""

import struct
from pathlib import Path

import kaldifst
import numpy as np
import pytest

from limbeck.errors import FormatError
from limbeck.kaldi.formats.openfst import _endless, read_graphs, summarise_fst
from seeds import standard_graph

KALDI = Path(__file__).parents[2] / "fixtures" / "kaldi"
CONST, VECTOR = KALDI / "e2e/HCLG.fst", KALDI / "hmm/L.fst"


@pytest.mark.parametrize("path, kind", [(CONST, "const"), (VECTOR, "vector")])
def test_agrees_with_the_library(path, kind):
    found = summarise_fst(path)
    assert found.kind == kind
    fst = (kaldifst.StdConstFst if kind == "const" else kaldifst.StdVectorFst).read(str(path))
    states = list(kaldifst.StateIterator(fst))
    arcs = [arc for state in states for arc in kaldifst.ArcIterator(fst, state)]
    assert (found.states, found.arcs) == (len(states), len(arcs))
    assert found.largest_input == max(arc.ilabel for arc in arcs)
    assert found.largest_output == max(arc.olabel for arc in arcs)


def test_symbols_are_passed_over(tmp_path):
    fst = kaldifst.compile("0 1 1 1 0.5\n1\n")
    for table in ("input_symbols", "output_symbols"):
        symbols = kaldifst.SymbolTable()
        symbols.add_symbol("<eps>", 0)
        symbols.add_symbol("word", 1)
        setattr(fst, table, symbols)
    fst.write(str(tmp_path / "named.fst"))
    assert b"word" in (tmp_path / "named.fst").read_bytes()
    assert summarise_fst(tmp_path / "named.fst").arcs == 1


def test_an_archive_of_graphs():
    found = dict(read_graphs(KALDI / "hmm/train.fsts"))
    assert list(found) == ["utt1", "utt2", "utt3"]
    assert all(graph.largest_input <= 12 for graph in found.values())


@pytest.mark.parametrize("path", [CONST, VECTOR])
def test_a_graph_cut_anywhere(tmp_path, path):
    whole = path.read_bytes()
    for size in range(len(whole)):
        (tmp_path / "cut.fst").write_bytes(whole[:size])
        with pytest.raises(FormatError, match="cut.fst"):
            summarise_fst(tmp_path / "cut.fst")
    (tmp_path / "more.fst").write_bytes(whole + b"x")
    with pytest.raises(FormatError, match="bytes follow"):
        summarise_fst(tmp_path / "more.fst")


def spoilt(tmp_path, form, value, offset, path=VECTOR):
    data = bytearray(path.read_bytes())
    struct.pack_into(form, data, offset, value)
    (tmp_path / "bad.fst").write_bytes(data)
    return tmp_path / "bad.fst"


HEADER = 4 + 4 + 6 + 4 + 8 + 4 + 4 + 8 + 8 + 8 + 8  # up to the first state of a vector graph
FIRST_ARC = HEADER + 4 + 8


@pytest.mark.parametrize(
    "form, value, offset, says",
    [
        ("<i", 4, FIRST_ARC + 12, "outside the 4"),
        ("<i", -1, FIRST_ARC + 12, "outside the 4"),
        ("<i", -5, FIRST_ARC, "negative label"),
        ("<f", float("nan"), FIRST_ARC + 8, "NaN"),
        ("<f", float("-inf"), FIRST_ARC + 8, "minus infinity"),
        ("<f", float("-inf"), HEADER, "minus infinity"),
        ("<q", 1 << 40, HEADER + 4, "truncated or corrupt"),
        ("<q", -1, HEADER + 4, "truncated or corrupt"),
        ("<q", 99, HEADER - 24, "starts in state 99"),
        ("<q", 1 << 50, HEADER - 16, "promised"),
        ("<i", 1 << 30, 4, "a name of"),
    ],
)
def test_impossible_graphs(tmp_path, form, value, offset, says):
    with pytest.raises(FormatError, match=says):
        summarise_fst(spoilt(tmp_path, form, value, offset))


def test_a_state_of_a_const_graph_whose_arcs_lie_outside(tmp_path):
    first_state = CONST.read_bytes().find(b"standard") + 8 + 40
    with pytest.raises(FormatError, match="reach beyond the 23"):
        summarise_fst(spoilt(tmp_path, "<I", 24, first_state + 8, CONST))
    with pytest.raises(FormatError, match="do not follow one another"):
        summarise_fst(spoilt(tmp_path, "<I", 1, first_state + 8, CONST))


def test_a_const_graph_of_the_first_version_is_aligned(tmp_path):
    """Its states and its arcs begin at multiples of 16 bytes, as where a flag says so."""
    plain = CONST.read_bytes()
    start, whole = plain.find(b"standard") + 8 + 40, summarise_fst(CONST)
    middle = start + 20 * whole.states
    for version, flags in ((1, 0), (2, 4)):
        head = plain[: start - 40] + struct.pack("<ii", version, flags) + plain[start - 32 : start]
        states = head + bytes(-len(head) % 16) + plain[start:middle]
        (tmp_path / "a.fst").write_bytes(states + bytes(-len(states) % 16) + plain[middle:])
        assert summarise_fst(tmp_path / "a.fst") == whole


def slowly_endless(arcs, states):
    """Walks of up to as many silent arcs as there are states, from each state: does one come back cheaper?"""
    silent = [(a, b, w) for a, i, w, b in arcs if i == 0]
    for first in range(states):
        costs = {first: 0.0}
        for _ in range(states):
            fresh = {}
            for a, b, w in silent:
                if a in costs:
                    fresh[b] = min(fresh.get(b, np.inf), costs[a] + w)
            costs = fresh
            if costs.get(first, 0.0) < 0:
                return True
    return False


def test_cycles_that_gain_are_found_and_no_others():
    """A decoder would follow one for ever. Weights are eighths, so sums are exact."""
    random = np.random.default_rng(0)
    found = []
    for _ in range(400):
        states = int(random.integers(1, 6))
        arcs = sorted(
            (int(random.integers(states)), int(random.random() < 0.2), float(random.integers(-3, 12)) / 8,
             int(random.integers(states)))
            for _ in range(int(random.integers(0, 9)))
        )  # fmt: skip
        counts = np.bincount([a for a, *_ in arcs], minlength=states)
        table = np.array([(i, 0, w, b) for _, i, w, b in arcs], "i4,i4,f4,i4")
        table.dtype.names = ("input", "output", "weight", "next")
        found.append(_endless(counts, table))
        assert found[-1] == slowly_endless(arcs, states), arcs
    assert 40 < sum(found) < 360


def test_a_graph_whose_best_path_has_no_end(tmp_path):
    path = tmp_path / "HCLG.fst"
    path.write_bytes(standard_graph([(0.0, [(1, 1, 0.0, 0), (0, 0, 0.5, 1)]), (0.0, [(0, 0, -0.75, 0)])]))
    with pytest.raises(FormatError, match="cycle of arcs without input labels"):
        summarise_fst(path)
    path.write_bytes(standard_graph([(0.0, [(1, 1, 0.0, 0), (0, 0, 0.5, 1)]), (0.0, [(0, 0, -0.5, 0)])]))
    assert summarise_fst(path).arcs == 3


def test_other_files(tmp_path):
    with pytest.raises(FormatError, match="magic"):
        summarise_fst(KALDI / "e2e/words.txt")
    (tmp_path / "log.fst").write_bytes(VECTOR.read_bytes().replace(b"standard", b"lograry "))
    with pytest.raises(FormatError, match="standard arcs can be read"):
        summarise_fst(tmp_path / "log.fst")
