"""Compact lattices against all paths of small raw ones, and files against the layout that Kaldi documents."""

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.errors import DataError, FormatError
from limbeck.kaldi.decoding.graph import Graph
from limbeck.kaldi.decoding.lattices import _ARC, RawLattice, determinise
from limbeck.kaldi.decoding.options import SearchOptions
from limbeck.kaldi.decoding.search import search
from limbeck.kaldi.formats.compact_lattice import (
    CompactLattice,
    LatticeArc,
    LatticeWeight,
    lattice_bytes,
    read_lattice_entries,
    read_lattices,
)
from limbeck.kaldi.formats.openfst import summarise_fst
from limbeck.kaldi.formats.scp import read_scp
from limbeck.kaldi.formats.transition_model import TransitionModel
from limbeck.kaldi.formats.write import ArkWriter
from limbeck.kaldi.summaries import summarise

KALDI = Path(__file__).parents[2] / "fixtures" / "kaldi"


def random_raw(seed, states, arcs, words=3, silent=0.5):
    """A lattice whose arcs lead forward, its states in any order; some arcs have no word, some no transition."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(arcs):
        source, target = sorted(random.choice(states, 2, replace=False).tolist())
        word = 0 if random.random() < silent else int(random.integers(1, words + 1))
        transition = int(random.integers(0, 4))
        graph, acoustic = (random.integers(-8, 20, 2) / 8).tolist()  # exact in binary, and often alike
        found.append((source, (transition, word, graph, acoustic, target)))
    found += [(s, (1, 0, 0.5, 0.25, s + 1)) for s in range(states - 1)]  # so that there is a path
    finals = np.full((states, 2), np.inf, np.float32)
    finals[states - 1] = 0.5, 0.0
    if random.random() < 0.5:
        finals[states // 2] = 1.0, 0.0
    order = random.permutation(states)
    renamed = sorted(((order[s], (*rest, order[target])) for s, (*rest, target) in found), key=lambda pair: pair[0])
    moved = np.empty_like(finals)
    moved[order] = finals
    return RawLattice(int(order[0]), np.array([s for s, _ in renamed]), np.array([a for _, a in renamed], _ARC), moved)


def best_paths(raw):
    """The cost of the best path of each sequence of words, and all transition ids with which it is reached."""
    leaving = {}
    for source, arc in zip(raw.sources.tolist(), raw.arcs.tolist(), strict=True):
        leaving.setdefault(source, []).append(arc)
    found = {}

    def walk(state, words, ids, graph, acoustic):
        if np.isfinite(raw.finals[state]).all():
            g, a = graph + float(raw.finals[state][0]), acoustic + float(raw.finals[state][1])
            found.setdefault(words, []).append((g + a, ids, g, a))
        for transition, word, g, a, target in leaving.get(state, ()):
            walk(target, (*words, word) if word else words, (*ids, transition) if transition else ids,
                 graph + g, acoustic + a)  # fmt: skip

    walk(raw.start, (), (), 0.0, 0.0)
    return {words: [path for path in paths if path[0] == min(paths)[0]] for words, paths in found.items()}


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 7), st.integers(0, 12), st.sampled_from([0.5, 2.0, 100.0]))
def test_each_sequence_of_words_keeps_its_best_path_and_nothing_else(seed, states, arcs, beam):
    raw = random_raw(seed, states, arcs)
    expected = best_paths(raw)
    least = min(paths[0][0] for paths in expected.values())
    lattice = determinise(raw, beam=beam, scale=0.5)
    found = list(lattice.paths())
    assert len({words for words, _ in found}) == len(found), "a sequence of words comes twice"
    for words, weight in found:
        cost = weight.graph + 0.5 * weight.acoustic
        assert (weight.transitions, weight.graph, 0.5 * weight.acoustic) in [path[1:] for path in expected[words]], (
            words
        )
        assert cost == expected[words][0][0]
    inside = {words for words, paths in expected.items() if paths[0][0] <= least + beam}
    assert inside <= {words for words, _ in found}
    for state in range(len(lattice.finals)):  # deterministic, and every state leads to an end
        words = [arc.word for arc in lattice.arcs if arc.source == state]
        assert 0 not in words and len(set(words)) == len(words)
        assert words or lattice.finals[state] is not None
    assert all(arc.target > arc.source for arc in lattice.arcs)


def test_words_in_parallel_share_their_ends():
    """Two pronunciations that end alike lead to one state; the slower way of the first is gone."""
    arcs = [(0, (1, 7, 0, 1, 1)), (0, (2, 7, 0, 3, 1)), (0, (3, 8, 0, 2, 1)), (1, (4, 0, 0, 1, 2))]
    finals = np.full((3, 2), np.inf, np.float32)
    finals[2] = 0
    raw = RawLattice(0, np.array([s for s, _ in arcs]), np.array([a for _, a in arcs], _ARC), finals)
    lattice = determinise(raw, beam=10)
    assert lattice.arcs == (
        LatticeArc(0, 1, 7, LatticeWeight(0, 1, (1,))), LatticeArc(0, 1, 8, LatticeWeight(0, 2, (3,)))
    )  # fmt: skip
    assert lattice.finals == (None, LatticeWeight(0, 1, (4,)))
    assert [words for words, _ in determinise(raw, beam=0.5).paths()] == [(7,)]


def made_of(arcs, finals, states):
    ends = np.full((states, 2), np.inf, np.float32)
    for state, cost in finals.items():
        ends[state] = cost, 0
    return RawLattice(0, np.array([s for s, _ in arcs]), np.array([a for _, a in arcs], _ARC), ends)


def test_sets_that_lag_by_different_costs_are_not_the_same():
    arcs = [(0, (1, 1, 0, 0, 1)), (0, (1, 1, 1, 0, 2)), (0, (1, 2, 0, 0, 1)), (0, (1, 2, 2, 0, 2))]
    found = dict(determinise(made_of(arcs, {1: 5.0, 2: 0.0}, 3), beam=10).paths())
    assert {words: weight.graph for words, weight in found.items()} == {(1,): 1.0, (2,): 2.0}


def test_a_state_that_is_found_at_less_cost_later_keeps_all_that_is_within_the_beam():
    arcs = [(0, (1, 1, 0, 0, 1)), (0, (1, 2, 1, 0, 2)), (1, (1, 3, 3.5, 0, 3)), (2, (1, 3, 0, 0, 3)),
            (3, (1, 4, 2, 0, 4))]  # fmt: skip
    found = dict(determinise(made_of(arcs, {1: 0.0, 3: 0.0, 4: 0.0}, 5), beam=4).paths())
    assert {words: weight.graph for words, weight in found.items() if weight.graph <= 4} == {
        (1,): 0.0, (1, 3): 3.5, (2, 3): 1.0, (2, 3, 4): 3.0
    }  # fmt: skip


def test_what_is_no_lattice():
    finals = np.full((2, 2), np.inf, np.float32)
    raw = RawLattice(0, np.array([0]), np.array([(1, 1, 0, 0, 1)], _ARC), finals)
    with pytest.raises(DataError, match="no path"):
        determinise(raw, beam=1)
    finals[1] = 0
    with pytest.raises(DataError, match="cycle"):
        determinise(RawLattice(0, np.array([0]), np.array([(1, 1, 0, 0, 0)], _ARC), finals), beam=1)


def in_archive(lattices, *, binary):
    return b"".join(
        key.encode() + b" " + b"".join(lattice_bytes(lattice, binary=binary)) for key, lattice in lattices.items()
    )


@pytest.mark.parametrize("binary", [True, False])
def test_files_come_back_and_cut_ones_are_refused(tmp_path, binary):
    lattices = {f"utt{seed}": determinise(random_raw(seed, 4, 4), beam=3.0) for seed in range(2)}
    content = in_archive(lattices, binary=binary)
    path = tmp_path / "lat"
    path.write_bytes(content)
    assert dict(read_lattices(path)) == lattices
    for end in range(1, len(content)):
        path.write_bytes(content[:end])
        try:
            found = dict(read_lattices(path))
        except FormatError:
            continue
        assert found.items() <= lattices.items()  # a cut between two entries


def test_a_script_file_points_at_lattices(tmp_path):
    lattices = {f"utt{seed}": determinise(random_raw(seed, 4, 4), beam=3.0) for seed in range(3)}
    for binary in (True, False):
        with ArkWriter(tmp_path / "lat", scp=tmp_path / "lat.scp", text=not binary) as writer:
            for key, lattice in lattices.items():
                writer.write_lattice(key, lattice)
        entries = read_scp(tmp_path / "lat.scp")
        assert dict(read_lattice_entries(reversed(entries))) == lattices
        arcs = sum(len(lattice.arcs) for lattice in lattices.values())
        told = summarise(tmp_path / "lat.scp")
        assert (told["holds"], told["utterances"], told["arcs"]) == ("lattices", 3, arcs)
        (tmp_path / "lat.scp").write_text(f"a {tmp_path / 'lat'}:{entries[1].offset}\nb {tmp_path / 'lat'}:7\n")
        with pytest.raises(FormatError, match="lat"):
            summarise(tmp_path / "lat.scp")
    (tmp_path / "fsts.scp").write_text(f"utt000 {KALDI / 'hmm' / 'train.fsts'}:5\n")
    with pytest.raises(FormatError, match="points at graphs in .*train.fsts: give that archive itself"):
        summarise(tmp_path / "fsts.scp")


def test_the_binary_layout_is_that_of_openfst():
    """Field by field: the header of VectorFst, and CompactLatticeWeight as its Write puts it."""
    arc = LatticeArc(0, 1, 7, LatticeWeight(1.5, -2.0, (3, 4)))
    data = b"".join(lattice_bytes(CompactLattice((arc,), (None, LatticeWeight(0.25, 0.0))), binary=True))
    expected = struct.pack("<Ii6si16s", 2125659606, 6, b"vector", 16, b"compactlattice44")
    expected += struct.pack("<iiQqqq", 2, 0, 3, 0, 2, 1)
    expected += struct.pack("<ffi", np.inf, np.inf, 0) + struct.pack("<q", 1)
    expected += struct.pack("<ii", 7, 7) + struct.pack("<ffiii", 1.5, -2.0, 2, 3, 4) + struct.pack("<i", 1)
    expected += struct.pack("<ffi", 0.25, 0.0, 0) + struct.pack("<q", 0)
    assert data == expected


# What the decoder gives.

_ARCS = [(0, 1, 1, 1, 0.3), (1, 1, 1, 0, 0.2), (1, 2, 2, 0, 0.1), (2, 2, 2, 0, 0.4), (2, 0, 0, 0, 0.05),
         (0, 3, 3, 2, 0.5), (3, 3, 3, 0, 0.2), (3, 4, 4, 0, 0.1), (4, 4, 4, 0, 0.3), (4, 0, 0, 0, 0.02)]  # fmt: skip
_FINALS = {0: 0.0, 2: 0.25, 4: 0.75}


def every_path(scores, scale):
    """For each sequence of words of a graph of two words: cost of the best of all its paths, and that path."""
    found = {}

    def walk(frame, state, words, ids, graph):
        for source, target, transition, word, cost in _ARCS:
            if source != state or (transition and frame == len(scores)):
                continue
            said = (*words, word) if word else words
            passed = (*ids, transition) if transition else ids
            walk(frame + bool(transition), target, said, passed, graph + cost)
        if frame == len(scores) and state in _FINALS:
            acoustic = -sum(float(scores[t, transition - 1]) for t, transition in enumerate(ids))
            total = graph + _FINALS[state]
            found[words] = min(found.get(words, (np.inf,)), (total + scale * acoustic, total, acoustic, ids))

    walk(0, 0, (), (), 0.0)
    return found


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    kaldifst = pytest.importorskip("kaldifst")
    folder = tmp_path_factory.mktemp("toy")
    text = "".join(f"{a} {b} {i} {o} {w}\n" for a, b, i, o, w in _ARCS) + "".join(
        f"{state} {cost}\n" for state, cost in _FINALS.items()
    )
    kaldifst.compile(text).write(str(folder / "HCLG.fst"))
    transitions = TransitionModel(np.arange(-1, 4, dtype=np.int32), np.ones(5, np.int32), 4,
                                  np.zeros(5, np.int32), np.zeros(5, np.int32))  # fmt: skip
    summary = summarise_fst(folder / "HCLG.fst")
    return Graph(folder / "HCLG.fst", summary, {0: "<eps>", 1: "YES", 2: "NO"}, transitions)


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_lattices_of_the_search_hold_what_an_exhaustive_one_finds(toy, scale):
    random = np.random.default_rng(3)
    utterances = {f"utt{n}": random.normal(0, 2, (n, 4)).astype(np.float32) for n in (2, 5, 7)}
    options = SearchOptions(beam=200, lattice_beam=100)
    for found in search(utterances.items(), toy, scale=scale, options=options, lattices=True):
        expected = every_path(utterances[found.key], scale)
        paths = dict(found.lattice.paths())
        assert paths.keys() == expected.keys()
        for words, weight in paths.items():
            _, graph, acoustic, ids = expected[words]
            assert weight.transitions == ids
            np.testing.assert_allclose((weight.graph, weight.acoustic), (graph, acoustic), atol=1e-4)
        best = min(expected, key=lambda words: expected[words][0])
        assert found.complete and found.words == tuple(toy.words[word] for word in best)
    narrow = next(search(utterances.items(), toy, scale=scale, options=SearchOptions(lattice_beam=0.01), lattices=True))
    assert len(list(narrow.lattice.paths())) == 1
