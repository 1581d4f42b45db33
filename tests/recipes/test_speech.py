"""The recipe on speech: a table with and without words, kept as it comes, and the test set read last."""

import re
from pathlib import Path

import kaldifst
import numpy as np
import pytest
import torch

from limbeck.data import DataSet, Examples, open_data
from limbeck.errors import ConfigError, FormatError, RunError
from limbeck.kaldi.decoding.judging import Judged
from limbeck.kaldi.decoding.scoring import WordErrors
from limbeck.kaldi.formats.transition_model import read_transition_model
from limbeck.kaldi.options import SpeechOptions
from limbeck.kaldi.source import Spliced
from limbeck.kaldi.source.phones import one_utterance, phones_of, spectrogram
from limbeck.recipes import words
from limbeck.recipes.acoustic import Lesson, best
from limbeck.recipes.catalogue import recipe_named
from limbeck.recipes.corpus import corpus, frames, is_corpus
from limbeck.recipes.findings import Order
from limbeck.recipes.letters import Letters, letters
from limbeck.recipes.reproduce import reproduce
from limbeck.recipes.series import Cell, Series
from limbeck.recipes.specialists import _Maker
from limbeck.specialists import confusable_groups
from limbeck.system.callbacks import Callback

SO762 = Path(__file__).parent.parent / "fixtures" / "kaldi" / "so762"
PARTS = ("train", "dev", "test", "ali_train", "ali_dev", "ali_test")
WORDS = [key for key in (claim.key for claim in recipe_named("speech").claims) if key.endswith("_wer")]


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """The corpus with a graph of three words, each of two states."""
    root = tmp_path_factory.mktemp("corpus") / "so762"
    root.mkdir()
    for name in PARTS:
        (root / name).symlink_to(SO762 / name)
    (root / "graph").mkdir()
    said = sorted({word for line in (SO762 / "test" / "text").read_text().splitlines() for word in line.split()[1:]})
    (root / "graph" / "words.txt").write_text("".join(f"{w} {n}\n" for n, w in enumerate(["<eps>", *said[:3]])))
    lines = []
    for word in (1, 2, 3):
        state, tid = 2 * word - 1, 10 * word
        lines += [f"0 {state} {tid} {word} 0.5", f"{state} {state} {tid} 0 0.2"]
        lines += [f"{state} {state + 1} {tid + 1} 0 0.2", f"{state + 1} {state + 1} {tid + 1} 0 0.2"]
        lines += [f"{state + 1} 0 0 0 0.1"]
    kaldifst.compile("\n".join([*lines, "0 0.0", ""])).write(str(root / "graph" / "HCLG.fst"))
    return root


class Listening(Callback):
    """Notes what is begun."""

    def __init__(self, heard, name):
        self.heard, self.name = heard, name

    def on_start(self, name, epochs, steps, epoch):
        self.heard.append(self.name)

    def on_note(self, text):
        self.heard.append(text)


@pytest.fixture(scope="module")
def whole(spoken, tmp_path_factory):
    """A small version with words; with what was done before the test set was read, and after."""
    out, reads = tmp_path_factory.mktemp("reproduce"), []
    with pytest.MonkeyPatch.context() as patch:
        fit, spliced = Series.fit, Spliced.spliced

        def watched(self, cell, make, objective, data, training, **more):
            assert data.test is None and not any("test" in read for read in reads)
            return fit(self, cell, make, objective, data, training, **more)

        def noted(self, rows, splicing):
            if self.keys[0].startswith(tuple(tests)):
                reads.append("test")
            return spliced(self, rows, splicing)

        tests = [line.split()[0] for line in (SO762 / "test" / "feats.scp").read_text().splitlines()]
        patch.setattr(Series, "fit", watched)
        patch.setattr(Spliced, "spliced", noted)
        heard: list[str] = []
        done = reproduce(
            "speech",
            out,
            command="limbeck reproduce speech --quick",
            seeds=1,
            quick=True,
            data=str(spoken),
            callback_for=lambda name: Listening(heard, name),
        )
    assert reads and heard
    return done, heard


@pytest.mark.slow
def test_every_row_is_measured_and_drawn(whole, spoken):
    done, heard = whole
    recipe, text = recipe_named("speech"), done.markdown.read_text()
    for claim in recipe.claims:
        assert claim.what in text
        if claim.key not in {"kept", "closed"}:  # shares of a gain that tiny networks may not have
            assert done.findings.values[claim.key], claim.key
    assert all(0 <= value <= 100 for key in ("teacher", "small_soft") for value in done.findings.values[key])
    figures = re.findall(r"\(([\w.-]+\.svg)\)", text)
    assert {"speech-accuracy.svg", "speech-posteriors.svg"} <= set(figures)
    for figure in figures:
        assert (done.markdown.parent / figure).read_text().startswith("<svg")
    assert "small version" in text and "real-time factor" in text and str(spoken.parent) not in text
    assert any(line.startswith("decoding test with ensemble") for line in heard)


@pytest.mark.slow
def test_what_is_done_is_not_done_again(whole, spoken):
    done, heard = whole
    again: list[str] = []
    out = done.markdown.parents[3]
    found = reproduce(
        "speech",
        out,
        command="",
        seeds=1,
        quick=True,
        data=str(spoken),
        callback_for=lambda name: Listening(again, name),
    )
    assert found.findings.values == done.findings.values
    assert not again and len(heard) > 10
    kept = out / "quick" / "speech" / "words" / "teacher-0.json"
    kept.write_text(kept.read_text().replace('"max_active": ', '"max_active": 1'))
    with pytest.raises(RunError, match="other networks or settings"):
        reproduce("speech", out, command="", seeds=1, quick=True, data=str(spoken))


@pytest.mark.slow
def test_an_interrupted_run_without_a_graph_goes_on(whole, tmp_path):
    class Stopping(Callback):
        def on_epoch(self, row):
            epochs.append(row)
            if len(epochs) == 5:
                raise KeyboardInterrupt

    epochs: list[object] = []
    with pytest.raises(KeyboardInterrupt):
        reproduce(
            "speech", tmp_path, command="", seeds=1, quick=True, data=str(SO762), callback_for=lambda name: Stopping()
        )
    done = reproduce("speech", tmp_path, command="", seeds=1, quick=True, data=str(SO762))
    expected = whole[0].findings.values
    assert {key: expected[key] for key in expected if key not in WORDS} == dict(done.findings.values)
    text = done.markdown.read_text()
    assert "words were not counted" in text and text.count("not measured") >= len(WORDS)


def test_a_corpus_that_is_none(tmp_path, spoken):
    with pytest.raises(ConfigError, match="such as --data so762, also for --quick"):
        reproduce("speech", tmp_path, command="", quick=True)
    with pytest.raises(FormatError, match="has no train"):
        reproduce("speech", tmp_path, command="", quick=True, data=str(tmp_path))


def test_the_scale_is_chosen_on_development_utterances_alone(spoken, monkeypatch, tmp_path):
    decoded = []
    monkeypatch.setattr(words.Words, "_kept", lambda self, name, cells, settings, measure: measure())

    def note(self, part, name, cells, scale):
        decoded.append((part, scale))
        total = WordErrors(0, 0, round(100 * abs(scale - 0.14)), 100)
        return Judged(scale, by_utterance={"a": total}, hypotheses={"a": ()}, frame_count=1)

    monkeypatch.setattr(words.Words, "_decode", note)
    counting = words.Words(Series(tmp_path, "speech"), spoken)
    assert counting.choose("teacher", []) == 0.14
    assert {part for part, _ in decoded} == {"dev"}
    assert counting.count("teacher", [], 0.1).wer == 4.0 and decoded[-1] == ("test", 0.1)


def test_phones_add_up_to_their_pdfs():
    phones, model = (
        phones_of(SO762 / "ali_train" / "final.mdl"),
        read_transition_model(SO762 / "ali_train" / "final.mdl"),
    )
    for pdf in (0, 17, 999):
        assert phones.of_pdf[pdf] in model.tid_to_phone[1:][model.tid_to_pdf[1:] == pdf]
    posteriors = np.random.default_rng(0).dirichlet(np.ones(1000), 3).astype(np.float32)
    added = phones.add_up(posteriors)
    assert added.shape == (3, len(phones.names)) == (3, int(model.tid_to_phone.max()) + 1)
    np.testing.assert_allclose(added[:, 5], posteriors[:, phones.of_pdf == 5].sum(1), rtol=1e-5)


def test_a_spectrogram_is_the_frames_themselves(tmp_path):
    here = corpus(Series(tmp_path, "speech", quick=True), str(SO762))
    one = one_utterance(here.test, least=10, most=400)
    assert 10 <= len(one) <= 400
    seen = one.inputs[slice(0, len(one))]
    np.testing.assert_array_equal(spectrogram(one), seen[:, here.contexts[0]])


def test_the_lesson_of_most_right_frames_is_best():
    cells = {Lesson(t): Cell(str(t), None, {"accuracy": right}, 0.0, 1) for t, right in ((1, 0.3), (2, 0.5), (4, 0.4))}
    assert best(cells) == Lesson(2)


def test_frames_of_a_corpus_are_a_data_set_of_its_pdfs(tmp_path):
    assert is_corpus(str(SO762)) and not is_corpus(str(SO762 / "train"))
    series = Series(tmp_path, "specialists", seeds=1)
    whole = open_data(
        SpeechOptions(
            data=str(SO762 / "train"), ali=str(SO762 / "ali_train"),
            validation_data=str(SO762 / "dev"), validation_ali=str(SO762 / "ali_dev"), norm_vars=True, left=5, right=5,
        )
    )  # fmt: skip
    found = letters(series, str(SO762))
    assert found.data.test is None and found.test is not None and found.jitter is None
    assert found.data.classes == whole.classes
    rows = torch.arange(0, len(whole.train), 97)
    assert torch.equal(found.data.train.as_seen(rows), whole.train.as_seen(rows))
    groups = whole.validation.groups()
    quarter = (groups % 4 == 0).nonzero().flatten()
    assert torch.equal(found.data.validation.index, whole.validation.index[quarter])
    few = frames(series, str(SO762), len(whole.train) // 2)
    assert 0 < len(few.train) < len(whole.train)
    kept, groups = torch.isin(whole.train.index, few.train.index), whole.train.groups()
    assert all(len(kept[groups == group].unique()) == 1 for group in groups.unique())  # whole utterances


def test_specialists_know_classes_that_occur(tmp_path):
    labels = torch.tensor([0, 0, 1, 1, 3, 3, 4, 4, 5, 5])
    part = Examples.of(torch.rand(10, 4), labels)
    data = DataSet("some", tuple("abcdef"), part, part, part, every_class=False)
    maker = _Maker(Letters(Series(tmp_path, "specialists", seeds=1), data, data), Order(None))
    answers = torch.randn(10, 6, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    maker.size = 5  # of six classes: the one that nobody says is among nearly any five
    whole = confusable_groups(answers, maker.groups, size=maker.size, seed=0)
    assert any(2 in group for group in whole)
    assert maker.groups_of(answers, 0) == [tuple(k for k in group if k != 2) for group in whole]
    many = DataSet("some", tuple(map(str, range(1000))), part, part, part, every_class=False)
    maker = _Maker(Letters(Series(tmp_path, "specialists", seeds=1), many, many), Order(None))
    assert (maker.groups, maker.size) == (32, 50)
