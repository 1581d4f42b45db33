"""Decoding against the samples, whose words are known, and against an exhaustive search."""

import itertools
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import kaldifst
import numpy as np
import pytest

from limbeck.errors import ConfigError, DataError, FormatError, MismatchError, MissingExtraError, RunError
from limbeck.kaldi.decoding import graph as graph_module
from limbeck.kaldi.decoding import judging
from limbeck.kaldi.decoding.graph import Graph, check_packages, load_fst
from limbeck.kaldi.decoding.judging import Judged, Sources, choose_scale, decode_part, find_alignments
from limbeck.kaldi.decoding.options import FeatureOptions, OutputOptions, SearchOptions
from limbeck.kaldi.decoding.outputs import AcousticModel
from limbeck.kaldi.decoding.scoring import FrameErrors, WordErrors, frame_errors, word_errors
from limbeck.kaldi.decoding.search import Found, search
from limbeck.kaldi.decoding.speakers import GroupedErrors
from limbeck.kaldi.decoding.utterances import Utterances
from limbeck.kaldi.formats.lines import read_table
from limbeck.kaldi.formats.table import read_ark
from limbeck.kaldi.formats.transition_model import TransitionModel
from limbeck.kaldi.forward import log_priors, read_pdf_counts

E2E = Path(__file__).parents[2] / "fixtures" / "kaldi" / "e2e"


@pytest.fixture(scope="module")
def graph():
    return Graph.open(E2E, E2E / "mono.mdl")


def sources(graph, *, text=True, ali=True):
    features = FeatureOptions(feature_transform=E2E / "final.feature_transform")
    return Sources(
        Utterances(E2E / "feats.scp"),
        AcousticModel(E2E / "final.nnet", OutputOptions(no_softmax=True), features=features),
        log_priors(read_pdf_counts(E2E / "ali_train_pdf.counts")),
        read_table(E2E / "text") if text else None,
        find_alignments(E2E / "ali.1.gz", graph.transitions) if ali else None,
    )


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_trained_network_finds_the_words(graph, jobs):
    judged = decode_part(sources(graph), graph, scale=0.1, options=SearchOptions(jobs=jobs))
    assert {key: list(words) for key, words in judged.hypotheses.items()} == read_table(E2E / "text")
    assert list(judged.hypotheses) == list(read_table(E2E / "text"))  # in their order, with several processes too
    assert judged.words == WordErrors(0, 0, 0, 280)
    assert judged.frames.frames == judged.frame_count == 3900 and judged.frames.accuracy > 0.95
    figures = judged.to_dict(frame_shift=0.01)
    assert figures["audio_seconds"] == 39.0 and figures["wer"] == 0 and figures["incomplete"] == 0


def test_frame_figures_are_those_of_posteriors_and_kaldis_pdfs(graph):
    judged = decode_part(sources(graph), graph, scale=0.1)
    features = FeatureOptions(feature_transform=E2E / "final.feature_transform")
    model = AcousticModel(E2E / "final.nnet", OutputOptions(), features=features)
    pdfs = dict(read_ark(E2E / "alipdf.txt", "integers"))
    nats, right = 0.0, 0
    for key, posteriors in model.run(Utterances(E2E / "feats.ark")):
        nats -= np.log(posteriors[np.arange(len(posteriors)), pdfs[key]].astype(float)).sum()
        right += int((posteriors.argmax(1) == pdfs[key]).sum())
    assert judged.frames.right == right
    assert judged.frames.cross_entropy == pytest.approx(nats / 3900, rel=1e-4)


def test_the_search_sees_logits_less_the_scaled_log_priors(graph, monkeypatch):
    seen = {}

    def note(utterances, graph, *, scale, options, lattices):
        for key, scores in utterances:
            seen[key] = scores
            yield Found(key, (), True, len(scores), 0.0)

    monkeypatch.setattr(judging, "search", note)
    decode_part(sources(graph, text=False), graph, scale=0.1)
    kaldi = OutputOptions(no_softmax=True, class_frame_counts=E2E / "ali_train_pdf.counts")
    features = FeatureOptions(feature_transform=E2E / "final.feature_transform")
    model = AcousticModel(E2E / "final.nnet", kaldi, features=features)
    for key, expected in model.run(Utterances(E2E / "feats.scp")):
        np.testing.assert_allclose(seen.pop(key), expected, atol=1e-5)
    assert not seen


def test_the_best_path_is_that_of_an_exhaustive_search(tmp_path):
    """Two words, each of two states with a loop; all paths of five frames are tried."""
    arcs = [(0, 1, 1, 1, 0.3), (1, 1, 1, 0, 0.2), (1, 2, 2, 0, 0.1), (2, 2, 2, 0, 0.4), (2, 0, 0, 0, 0.05),
            (0, 3, 3, 2, 0.5), (3, 3, 3, 0, 0.2), (3, 4, 4, 0, 0.1), (4, 4, 4, 0, 0.3), (4, 0, 0, 0, 0.02)]  # fmt: skip
    text = "".join(f"{a} {b} {i} {o} {w}\n" for a, b, i, o, w in arcs) + "0 0.0\n2 0.25\n4 0.75\n"
    kaldifst.compile(text).write(str(tmp_path / "HCLG.fst"))
    (tmp_path / "words.txt").write_text("<eps> 0\nYES 1\nNO 2\n")
    tid_to_pdf = np.array([-1, 2, 0, 1, 3], np.int32)  # a permutation, so that a mistake of one column shows
    toy = Graph(
        tmp_path / "HCLG.fst",
        graph_module.summarise_fst(tmp_path / "HCLG.fst"),
        {0: "<eps>", 1: "YES", 2: "NO"},
        TransitionModel(tid_to_pdf, np.ones(5, np.int32), 4, np.zeros(5, np.int32), np.zeros(5, np.int32)),
    )
    finals = {0: 0.0, 2: 0.05, 4: 0.02}  # through the arc without a label, which is cheaper than to end at once

    def best(scores):
        paths = [(0.0, 0, ())]
        for frame in scores:
            fresh = []
            for cost, state, words in paths:
                # The one arc without a label leads from a word's end to the start.
                starts = [(cost, state, words)]
                starts += [(cost + w, b, words) for a, b, i, o, w in arcs if a == state and not i]
                for start_cost, at, said in starts:
                    for a, b, i, o, w in arcs:
                        if a == at and i:
                            total = start_cost + w - frame[tid_to_pdf[i]]
                            fresh.append((total, b, (*said, toy.words[o]) if o else said))
            paths = fresh
        return min((cost + finals[state], words) for cost, state, words in paths if state in finals)

    random = np.random.default_rng(0)
    utterances = [(f"u{n}", random.normal(0, 2, (5, 4)).astype(np.float32)) for n in range(20)]
    found = list(search(utterances, toy, scale=0.5, options=SearchOptions(beam=100)))
    for (_, scores), one in zip(utterances, found, strict=True):
        assert one.words == best(0.5 * scores.astype(float))[1] and one.complete


def test_scores_of_other_pdfs_are_refused(graph):
    with pytest.raises(MismatchError, match="u has scores of shape .* has 6 pdfs"):
        list(search([("u", np.zeros((4, 5), np.float32))], graph, scale=1))


def test_scaled_scores_that_overflow_are_refused(graph):
    for scores in (np.full((4, 6), 1e30, np.float32), np.full((4, 6), np.nan, np.float32)):
        with pytest.raises(DataError, match="u: log-likelihoods times the acoustic scale 1e"):
            list(search([("u", scores)], graph, scale=1e20))


def test_the_fewest_states_that_the_decoder_takes(graph):
    with pytest.raises(ConfigError, match="max_active above 20"):
        SearchOptions(max_active=20)
    (found,) = search([("u", np.zeros((4, 6), np.float32))], graph, scale=1, options=SearchOptions(max_active=21))
    assert found.frames == 4


def test_a_path_without_end_is_counted(graph):
    (found,) = search([("u", np.zeros((1, 6), np.float32))], graph, scale=1)
    assert not found.complete and found.frames == 1


# Counting.


def test_word_errors_against_the_slow_table():
    def slow(said, found):
        cost = np.zeros((len(said) + 1, len(found) + 1), int)
        cost[:, 0], cost[0] = range(len(said) + 1), range(len(found) + 1)
        for i, j in itertools.product(range(len(said)), range(len(found))):
            swap = cost[i, j] + (said[i] != found[j])
            cost[i + 1, j + 1] = min(swap, cost[i, j + 1] + 1, cost[i + 1, j] + 1)
        return cost[-1, -1]

    random = np.random.default_rng(0)
    for _ in range(50):
        said, found = (list(map(str, random.integers(0, 3, random.integers(0, 8)))) for _ in range(2))
        errors = word_errors(said, found)
        assert errors.total == slow(said, found) and errors.words == len(said)
        assert errors.insertions - errors.deletions == len(found) - len(said)
    assert word_errors([], ["A"]).rate == 1 and word_errors([], []).rate == 0


def test_frame_errors_against_the_definition():
    logits = np.random.default_rng(0).normal(0, 3, (7, 4)).astype(np.float32) + 1000
    pdfs = np.array([0, 1, 2, 3, 0, 1, 2], np.int32)
    wide = logits.astype(float) - 1000
    expected = -np.log((np.exp(wide) / np.exp(wide).sum(1, keepdims=True))[np.arange(7), pdfs])
    errors = frame_errors(logits, pdfs, key="u")
    assert errors.nats == pytest.approx(expected.sum(), rel=1e-6)
    assert errors.right == (wide.argmax(1) == pdfs).sum()
    with pytest.raises(MismatchError, match="7 frames, and its alignment has 6"):
        frame_errors(logits, pdfs[:6], key="u")
    with pytest.raises(MismatchError, match="pdf 4, and there are 4 outputs"):
        frame_errors(logits, pdfs + 1, key="u")


def test_utterances_without_reference_or_alignment(graph):
    part = sources(graph)
    text = dict(part.text)
    text.pop("utt000")
    alignments = dict(part.alignments)
    alignments["utt001"] = alignments["utt001"][:-1]
    alignments.pop("utt002")
    judged = decode_part(Sources(part.utterances, part.model, part.priors, text, alignments), graph, scale=0.1)
    assert judged.unreferenced == ["utt000"] and judged.unaligned == ["utt001", "utt002"]
    assert judged.words.words == 276
    # A twentieth of eighty are four; one more is a mistake.
    keys = list(part.text)
    four, five = ({key: part.text[key] for key in keys[missing:]} for missing in (4, 5))
    judged = decode_part(Sources(part.utterances, part.model, part.priors, four, None), graph, scale=0.1)
    assert judged.unreferenced == keys[:4]
    with pytest.raises(MismatchError, match="5 of 80 utterances, utt000 the first of them, are not in the text"):
        decode_part(Sources(part.utterances, part.model, part.priors, five, None), graph, scale=0.1)
    for few in ({"utt000": ["A"]}, {}):
        with pytest.raises(MismatchError, match="not in the text"):
            decode_part(Sources(part.utterances, part.model, part.priors, few, None), graph, scale=0.1)


# Choosing.


@pytest.mark.parametrize("errors, best", [([9, 5, 3, 4, 8], 2), ([1, 2, 3, 4, 5], 0), ([5, 4, 3, 2, 1], 4), ([7], 0)])
def test_the_scale_of_the_fewest_errors(errors, best):
    scales = [0.1 * (place + 1) for place in range(len(errors))]
    asked = []

    def judge(scale):
        asked.append(scale)
        return Judged(scale, by_utterance={"a": WordErrors(substitutions=errors[scales.index(scale)], words=10)})

    found, tried = choose_scale(scales, judge)
    assert found.scale == scales[best] and len(asked) == len(set(asked)) == len(tried)
    assert [one.scale for one in tried] == sorted(asked)


def test_choosing_without_references():
    with pytest.raises(DataError, match="--text"):
        choose_scale([0.1], lambda scale: Judged(scale))


def test_sums():
    assert WordErrors(1, 2, 3, 10) + WordErrors() == WordErrors(1, 2, 3, 10)
    assert FrameErrors().accuracy == FrameErrors().cross_entropy == 0


# Things that do not belong together.


def test_a_graph_of_another_model(tmp_path, graph):
    class Few:
        transition_count = 5

    (tmp_path / "words.txt").write_text("<eps> 0\nAB 1\n")
    (tmp_path / "HCLG.fst").write_bytes((E2E / "HCLG.fst").read_bytes())
    with pytest.raises(MismatchError, match="words.txt ends with 1"):
        Graph.open(tmp_path, E2E / "mono.mdl")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph_module, "read_transition_model", lambda path: Few())
        with pytest.raises(MismatchError, match="transition id 12, and .* has 1 to 5"):
            Graph.open(E2E, E2E / "mono.mdl")
    with pytest.raises(MismatchError, match="7 outputs, and the transition model has 6"):
        graph.check_pdfs(7, Path("net"))
    (tmp_path / "HCLG.fst").unlink()
    with pytest.raises(FormatError, match="HCLG.fst"):
        Graph.open(tmp_path, E2E / "mono.mdl")
    with pytest.raises(FormatError, match="no alignments"):
        find_alignments(tmp_path, graph.transitions)


@pytest.mark.parametrize(
    "installed, says",
    [
        ({"kaldi-decoder": "0.3.2", "kaldifst": "1.8.3"}, None),
        ({"kaldi-decoder": "0.2.11", "kaldifst": "1.7.17", "kaldi-hmm-gmm": "1.1.4"}, None),
        ({"kaldi-decoder": "0.3.2", "kaldifst": "1.7.17"}, "hangs beside kaldifst 1.7.17"),
        ({"kaldi-decoder": "0.3.2", "kaldifst": "1.8.3", "kaldi-hmm-gmm": "1.1.4"}, "kaldi-hmm-gmm 1.1.4"),
        ({"kaldifst": "1.8.3"}, r"pip install 'limbeck\[kaldi\]'"),
    ],
)
def test_versions_that_hang_are_refused_before_they_are_imported(monkeypatch, installed, says):
    def version(name):
        if name not in installed:
            raise PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(graph_module, "version", version)
    if says is None:
        check_packages()
        return
    with pytest.raises((RunError, MissingExtraError), match=says):
        check_packages()


def test_the_library_reads_both_kinds(tmp_path, graph):
    assert load_fst(graph) is not None
    with pytest.raises(ConfigError, match="beam"):
        SearchOptions(beam=0)


def test_systems_of_other_utterances_are_not_compared():
    """As many speakers, but other words: a reference was changed, or utterances were left out."""
    one = GroupedErrors("speakers", {"a": 3, "b": 1}, {"a": 10, "b": 9})
    assert one.against(GroupedErrors("speakers", {"a": 1, "b": 1}, {"a": 10, "b": 9})).estimate == 2 / 19
    for other in (
        GroupedErrors("speakers", {"a": 3, "b": 1}, {"a": 10, "b": 8}),
        GroupedErrors("speakers", {"a": 3, "c": 1}, {"a": 10, "c": 9}),
        GroupedErrors("utterances", {"a": 3, "b": 1}, {"a": 10, "b": 9}),
    ):
        with pytest.raises(MismatchError, match="decode_a was counted on 1[89] words of 2 (speakers|utterances)"):
            one.against(other, name="decode_a")
