"""Kaldi directories as examples: against slow splicing, Kaldi's ali-to-pdf, and memory against the disk."""

import dataclasses
import gzip
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from limbeck.data import Feed, open_data
from limbeck.errors import ConfigError, FormatError, MismatchError
from limbeck.kaldi.formats.cmvn import add_deltas, apply_cmvn
from limbeck.kaldi.formats.nnet1 import read_nnet
from limbeck.kaldi.formats.scp import read_entries, read_scp
from limbeck.kaldi.formats.table import read_ark
from limbeck.kaldi.formats.write import write_ark
from limbeck.kaldi.forward import propagate, read_pdf_counts
from limbeck.kaldi.options import SpeechOptions
from limbeck.kaldi.source import FrontEnd, Spliced, Splicing, open_directory, read_labels
from limbeck.kaldi.source import spliced as spliced_module
from limbeck.kaldi.source.alignments import write_pdf_counts
from limbeck.kaldi.source.frames import open_frames
from limbeck.kaldi.source.frontend import splice
from limbeck.kaldi.source.opening import judged_alone, with_context
from limbeck.kaldi.source.store import FrameStore
from limbeck.softtargets import SoftTargets
from limbeck.teachers import ModelTeacher

KALDI = Path(__file__).parents[2] / "fixtures" / "kaldi"
SO762 = KALDI / "so762"
OPTIONS = SpeechOptions(data=str(SO762 / "train"), ali=str(SO762 / "ali_train"), left=2, right=1, norm_vars=True)


@pytest.fixture(scope="module")
def data():
    return open_data(dataclasses.replace(OPTIONS, validation=0))


@pytest.fixture(scope="module")
def streamed():
    return open_data(dataclasses.replace(OPTIONS, validation=0, in_memory_gb=0))


def slowly(part="train", deltas=0):
    """Each utterance's frames, spliced and normalised with the speaker's statistics, by the plain functions."""
    statistics = dict(read_entries(read_scp(SO762 / part / "cmvn.scp"), dtype=np.float64))
    speakers = dict(line.split() for line in (SO762 / part / "utt2spk").read_text().splitlines())
    for key, matrix in read_entries(read_scp(SO762 / part / "feats.scp")):
        normal = apply_cmvn(matrix, statistics[speakers[key]], variance=True)
        yield key, add_deltas(normal, order=deltas)


@pytest.mark.parametrize("memory", [4, 0])
def test_examples_can_be_sent_to_another_process(data, memory):
    here = open_data(dataclasses.replace(OPTIONS, validation=0, in_memory_gb=memory)).train
    there = pickle.loads(pickle.dumps(here))
    rows = torch.tensor([8000, 3, 77])
    assert torch.equal(there.as_seen(rows), data.train.as_seen(rows)) and there.digest == here.digest


def test_inputs_are_those_of_the_slow_version(data):
    slow = np.concatenate([splice(frames, (-2, -1, 0, 1)) for _, frames in slowly()])
    assert data.train.inputs.shape == slow.shape == (8184, 4, 40)
    np.testing.assert_array_equal(data.train.as_seen(slice(None)), slow)
    rows = torch.randperm(len(slow))[:500]
    np.testing.assert_array_equal(data.train.as_seen(rows), slow[rows])


def test_deltas_come_after_cmvn():
    found = open_data(dataclasses.replace(OPTIONS, validation=0, deltas=2)).train
    slow = np.concatenate([splice(frames, (-2, -1, 0, 1)) for _, frames in slowly(deltas=2)])
    np.testing.assert_array_equal(found.as_seen(slice(0, 999)), slow[:999])


def test_labels_are_those_of_ali_to_pdf():
    alignment = read_labels(f"ark:{KALDI / 'e2e' / 'ali.1.gz'}", transition_model=KALDI / "e2e" / "mono.mdl")
    directory = open_directory(KALDI / "e2e")
    front = FrontEnd(Splicing((0,)))
    examples, match = open_frames(directory, front, labels=alignment)
    by_kaldi = dict(read_ark(KALDI / "e2e" / "alipdf.txt", "integers"))
    assert match is not None and match.left_out == 0
    order = [entry.key for entry in directory.entries]
    np.testing.assert_array_equal(examples.labels, np.concatenate([by_kaldi[key] for key in order]))


def test_counts_are_those_of_analyze_counts(tmp_path):
    alignment = read_labels(KALDI / "e2e" / "ali.1.gz", transition_model=KALDI / "e2e" / "mono.mdl")
    pdfs = np.concatenate(list(alignment.pdfs.values()))
    write_pdf_counts(tmp_path / "counts", np.bincount(pdfs, minlength=alignment.pdf_count))
    theirs = KALDI / "e2e" / "ali_train_pdf.counts"
    np.testing.assert_array_equal(read_pdf_counts(tmp_path / "counts"), read_pdf_counts(theirs))


def test_a_feature_transform_is_run_as_nnet_forward_runs_it(tmp_path):
    transform = KALDI / "e2e" / "final.feature_transform"
    directory = open_directory(KALDI / "e2e")
    options = SpeechOptions(feature_transform=str(transform))
    from limbeck.kaldi.source.settled import front_end

    examples, _ = open_frames(directory, front_end(options, directory))
    by_kaldi = [propagate(read_nnet(transform), matrix) for _, matrix in read_entries(directory.entries)]
    with torch.autocast("cpu", torch.bfloat16):
        np.testing.assert_allclose(examples.as_seen(slice(None)), np.concatenate(by_kaldi), atol=1e-5)
    there = pickle.loads(pickle.dumps(examples))
    assert torch.equal(there.as_seen(slice(0, 9)), examples.as_seen(slice(0, 9)))
    with pytest.raises(ConfigError, match="splice of its own"):
        front_end(dataclasses.replace(options, left=3), directory)


def epoch_of(examples, *, start=0, epoch=1, size=100):
    return list(Feed(examples, batch_size=size, seed=5).batches(epoch, start=start))


@pytest.fixture
def small_windows(monkeypatch):
    monkeypatch.setattr(spliced_module, "WINDOW", 1000)


@pytest.mark.usefixtures("small_windows")
def test_each_frame_comes_once_an_epoch_in_an_order_of_its_own(data):
    first, second = (torch.cat([b.index for b in epoch_of(data.train, epoch=e)]) for e in (0, 1))
    assert torch.equal(first.sort().values, torch.arange(8184))
    assert torch.equal(second.sort().values, torch.arange(8184))
    assert not torch.equal(first, second)
    # No batch is of one utterance alone: its frames would be alike.
    utterance = torch.bucketize(first, data.train.inputs.ends, right=True)
    assert min(len(batch.unique()) for batch in utterance[:8000].split(100)) >= 3


@pytest.mark.usefixtures("small_windows")
def test_each_stretch_is_shuffled_in_its_own_way():
    store = FrameStore(torch.tensor([4000]), 1, None, torch.zeros(4000, 1))
    inputs = Spliced(store, torch.arange(1), Splicing((0,)), 1, ["a"], ["a"], [b""], "")
    stretches = list(inputs.orders(seed=0, epoch=0, batch_size=100))
    places = [tuple((stretch - 1000 * number).tolist()) for number, stretch in enumerate(stretches)]
    assert [sorted(order) for order in places] == [list(range(1000))] * 4
    assert len(set(places)) == 4


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("start", [0, 1, 9, 10, 37, 81])
def test_an_epoch_goes_on_from_any_step(data, start):
    whole, rest = epoch_of(data.train), epoch_of(data.train, start=start)
    assert len(rest) == len(whole) - start
    for one, other in zip(whole[start:], rest, strict=True):
        assert torch.equal(one.index, other.index) and torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.labels, other.labels) and one.labels.dtype == torch.int64


@pytest.mark.usefixtures("small_windows")
def test_the_disk_gives_the_same_bits_as_memory(data, streamed):
    assert data.train.inputs.store.in_memory and not streamed.train.inputs.store.in_memory
    assert data.train.digest == streamed.train.digest
    for one, other in zip(epoch_of(data.train), epoch_of(streamed.train), strict=True):
        assert torch.equal(one.index, other.index) and torch.equal(one.inputs, other.inputs)
    # Rows that nobody announced are read as they are wanted.
    rows = torch.tensor([8000, 3, 4000, 8183, 0])
    assert torch.equal(data.train.as_seen(rows), streamed.train.as_seen(rows))
    for first in range(0, 8184, 1000):
        part = slice(first, first + 1000)
        assert torch.equal(data.train.as_seen(part), streamed.train.as_seen(part))


@pytest.mark.usefixtures("small_windows")
def test_the_disk_holds_one_stretch_at_a_time():
    streamed = open_data(dataclasses.replace(OPTIONS, validation=0, in_memory_gb=0))
    store, most = streamed.train.inputs.store, 0
    for _ in Feed(streamed.train, batch_size=100, seed=0).batches(0):
        most = max(most, len(store._frames))
    assert 1000 <= most < 3000


def test_the_digest_knows_frames_and_labels_and_not_the_context(data):
    other = open_data(dataclasses.replace(OPTIONS, validation=0, left=5, right=5))
    assert other.train.digest == data.train.digest
    plain = open_data(dataclasses.replace(OPTIONS, validation=0, norm_vars=False))
    assert plain.train.digest != data.train.digest
    labels = data.train.labels.clone()
    labels[7] += 1
    assert dataclasses.replace(data.train, labels=labels).digest != data.train.digest
    assert data.train.without_labels().digest == other.train.without_labels().digest != data.train.digest


def test_every_third_frame_keeps_its_neighbours(data):
    third = open_data(dataclasses.replace(OPTIONS, validation=0, every=3)).train
    counts = data.train.inputs.counts.tolist()
    rows = torch.cat([torch.arange(0, n, 3) + sum(counts[:u]) for u, n in enumerate(counts)])
    assert torch.equal(third.as_seen(slice(None)), data.train.as_seen(rows))
    assert torch.equal(third.labels, data.train.labels[rows])


def test_other_neighbours_of_the_same_frames(data):
    wide = Splicing(tuple(range(-6, 7)))
    rows = torch.tensor([0, 5, 8183, 4000])
    direct = open_data(dataclasses.replace(OPTIONS, validation=0, left=6, right=6)).train.as_seen(rows)
    assert torch.equal(data.train.batch(rows).seen_as(wide), direct)
    same = with_context(data, dataclasses.replace(OPTIONS, left=6, right=6))
    assert torch.equal(same.train.as_seen(rows), direct) and same.train.digest == data.train.digest


def test_a_teacher_sees_a_wider_context_than_its_student(data):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(13 * 40, 1000))
    wide = Splicing(tuple(range(-6, 7)))
    teacher = ModelTeacher(net, presentation=wide)
    for batch in epoch_of(data.train)[:3]:
        expected = (net(batch.seen_as(wide)) / 2).log_softmax(-1)
        torch.testing.assert_close(teacher.log_probs(batch, 2.0), expected)
        head = batch.head(5)
        torch.testing.assert_close(teacher.log_probs(head, 2.0), expected[:5])


def test_stored_targets_belong_to_the_frame(data, streamed, tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(4 * 40, 1000))
    SoftTargets.write(tmp_path / "s", net, streamed.train, classes=data.classes, encoding="topk", k=3)
    targets = SoftTargets.open(tmp_path / "s", examples=data.train, teacher=net)
    for batch in epoch_of(streamed.train)[:4]:
        live = net(batch.inputs).log_softmax(-1)
        top = live.topk(3).indices
        torch.testing.assert_close(targets.log_probs(batch, 1.0).gather(1, top), live.gather(1, top), atol=5e-3, rtol=0)


def test_validation_is_whole_speakers_and_a_share_whole_utterances(data):
    divided = open_data(OPTIONS)
    train, validation = divided.train.inputs, divided.validation.inputs
    assert not set(train.speakers) & set(validation.speakers)
    assert sorted(train.keys + validation.keys) == sorted(data.train.inputs.keys)
    part = open_data(dataclasses.replace(OPTIONS, validation=0, train_examples=0.2)).train
    assert len(part) == pytest.approx(0.2 * 8184, abs=300)
    assert set(part.inputs.keys) < set(data.train.inputs.keys)
    rows = torch.isin(data.train.index, part.index).nonzero().flatten()
    assert torch.equal(part.as_seen(slice(None)), data.train.as_seen(rows))
    assert torch.equal(part.labels, data.train.labels[rows])
    again = open_data(dataclasses.replace(OPTIONS, validation=0, train_examples=0.2)).train
    assert part.inputs.keys == again.inputs.keys


def alter_alignments(folder, change):
    """The training alignments, changed."""
    held = change(dict(read_ark(SO762 / "ali_train" / "ali.1.gz", "integers")))
    folder.mkdir()
    write_ark(folder / "ali", held)
    (folder / "ali.1.gz").write_bytes(gzip.compress((folder / "ali").read_bytes()))
    (folder / "final.mdl").write_bytes((SO762 / "ali_train" / "final.mdl").read_bytes())
    return str(folder)


def test_utterances_without_fitting_labels_are_named_and_left_out(tmp_path, data):
    keys = data.train.inputs.keys

    def change(held):
        del held[keys[3]]
        held[keys[10]] = held[keys[10]][:-2]
        return held

    folder = alter_alignments(tmp_path / "ali", change)
    found = open_data(dataclasses.replace(OPTIONS, ali=folder, validation=0, most_left_out=0.1))
    assert set(data.train.inputs.keys) - set(found.train.inputs.keys) == {keys[3], keys[10]}
    count = int(data.train.inputs.counts[10])
    (note,) = found.notes
    assert f"2 of 30 utterances are left out: 1 have no labels ({keys[3]})" in note
    assert f"{keys[10]}: {count} frames, {count - 2} labels" in note
    rows = torch.cat([data.train.inputs.rows_of(torch.tensor([u])) for u in range(30) if u not in {3, 10}])
    assert torch.equal(found.train.as_seen(slice(None)), data.train.as_seen(rows))
    assert torch.equal(found.train.labels, data.train.labels[rows])
    with pytest.raises(MismatchError, match="2 of 30 utterances are left out.*at most 5%"):
        open_data(dataclasses.replace(OPTIONS, ali=folder))


def test_a_second_copy_of_an_utterance_or_a_missing_job_is_refused(tmp_path):
    folder = alter_alignments(tmp_path / "ali", lambda held: held)
    (tmp_path / "ali" / "ali.2.gz").write_bytes((tmp_path / "ali" / "ali.1.gz").read_bytes())
    with pytest.raises(FormatError, match="which another file or entry has too"):
        read_labels(folder)
    (tmp_path / "ali" / "num_jobs").write_text("3\n")
    with pytest.raises(FormatError, match="says 3 jobs, and there are 2 files"):
        read_labels(folder)


def test_only_what_is_judged_on_is_opened():
    asked = dataclasses.replace(OPTIONS, test_data=str(SO762 / "test"), test_ali=str(SO762 / "ali_test"))
    judged = open_data(judged_alone(asked))
    assert judged.name == "test" and len(judged.train) == 1575 and judged.validation is None
    assert len(open_data(judged_alone(OPTIONS)).train) == 8184


def test_a_moved_store_is_one_store(data):
    assert isinstance(data.train.inputs, Spliced)
    assert data.train.to("cpu").inputs.store is data.train.inputs.store
    store = data.train.inputs.store  # a teacher's view and the student's share what was read there too
    assert store.to("meta") is store.to("meta") is not store
