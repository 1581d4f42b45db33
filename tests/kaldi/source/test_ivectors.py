"""I-vectors beside frames: against the plain definition, transforms of appended features, and nnet3-compute."""

import dataclasses
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from limbeck.data import open_data
from limbeck.errors import ConfigError, FormatError, MismatchError
from limbeck.kaldi.formats.cmvn import add_deltas
from limbeck.kaldi.formats.lines import read_map
from limbeck.kaldi.formats.matrix import matrix_bytes
from limbeck.kaldi.formats.nnet1 import Nnet, read_nnet, write_nnet
from limbeck.kaldi.formats.nnet1_components import AffineTransform, LinearTransform, Sigmoid, Splice
from limbeck.kaldi.formats.scp import read_entries, read_scp
from limbeck.kaldi.formats.table import read_ark
from limbeck.kaldi.formats.write import write_ark
from limbeck.kaldi.forward import propagate
from limbeck.kaldi.ivectors import read_ivectors
from limbeck.kaldi.nnet3.runs import runs_of
from limbeck.kaldi.nnet3.teacher import load_for_frames
from limbeck.kaldi.options import SpeechOptions
from limbeck.kaldi.source import FrontEnd, Splicing, open_directory
from limbeck.kaldi.source.frames import open_frames
from limbeck.kaldi.source.frontend import read_front_end, splice
from limbeck.kaldi.source.opening import judged_alone, open_speech
from limbeck.kaldi.source.settled import front_end
from limbeck.kaldi.transforms import with_ivector

KALDI = Path(__file__).parents[2] / "fixtures" / "kaldi"
NNET3 = KALDI / "nnet3"
SO762 = KALDI / "so762"
GIVEN = {"data": str(SO762 / "train"), "ali": str(SO762 / "ali_train"), "cmvn": "none", "left": 2, "right": 1}
SPEAKERS = read_map(SO762 / "train" / "utt2spk")
FEATS = dict(read_entries(read_scp(SO762 / "train" / "feats.scp")))


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """I-vectors of three values: of utterances, of speakers, and online ones, a row for 7 frames."""
    place = tmp_path_factory.mktemp("ivectors")
    random = np.random.default_rng(0)
    made = {"utt": {key: random.normal(size=3).astype(np.float32) for key in FEATS},
            "spk": {name: random.normal(size=3).astype(np.float32) for name in sorted(set(SPEAKERS.values()))},
            "ivector_online": {k: random.normal(size=(len(m) // 7, 3)).astype(np.float32)
                               for k, m in FEATS.items()}}  # fmt: skip
    for name, values in made.items():
        write_ark(place / f"{name}.ark", values, scp=place / f"{name}.scp")
    (place / "ivector_period").write_text("7\n")
    return place, made


def slowly(made, kind, key, count):
    """A frame's i-vector, one frame after the other."""
    if kind == "utt":
        return np.array([made["utt"][key] for _ in range(count)])
    if kind == "spk":
        return np.array([made["spk"][SPEAKERS[key]] for _ in range(count)])
    rows = made["ivector_online"][key]
    return np.array([rows[t // 7] if t // 7 < len(rows) else rows[-1] for t in range(count)])


def expected_rows(made, kind, key):
    spliced = splice(FEATS[key], (-2, -1, 0, 1))
    return np.c_[spliced.reshape(len(spliced), -1), slowly(made, kind, key, len(spliced))]


@pytest.mark.parametrize("memory", [4, 0])
@pytest.mark.parametrize("kind", ["utt", "spk", "ivector_online"])
def test_a_frame_is_seen_with_its_neighbours_and_its_ivector(given, kind, memory):
    place, made = given
    where = place if kind == "ivector_online" else place / f"{kind}.scp"
    data = open_data(SpeechOptions(**GIVEN, validation=0, ivectors=str(where), in_memory_gb=memory))
    expected = np.concatenate([expected_rows(made, kind, key) for key in data.train.inputs.keys])
    assert data.train.inputs.shape == expected.shape == (8184, 4 * 40 + 3)
    rows = torch.randperm(8184)[:600]
    np.testing.assert_array_equal(data.train.as_seen(rows), expected[rows])
    # The transform that is kept does the same to features with the i-vector appended, as Kaldi would run it.
    key = data.train.inputs.keys[1]
    appended = np.c_[FEATS[key], slowly(made, kind, key, len(FEATS[key]))].astype(np.float32)
    first = len(FEATS[data.train.inputs.keys[0]])
    np.testing.assert_array_equal(propagate(data.reading.transform, appended), expected[first : first + len(appended)])
    there = pickle.loads(pickle.dumps(data.train))
    assert torch.equal(there.as_seen(rows[:9]), data.train.as_seen(rows[:9]))


def test_they_are_part_of_the_digest(given):
    place, _ = given
    options = SpeechOptions(**GIVEN, validation=0)
    digests = {open_data(options).train.digest}
    for name in ("utt", "spk"):
        digests.add(open_data(dataclasses.replace(options, ivectors=str(place / f"{name}.ark"))).train.digest)
    assert len(digests) == 3


@pytest.mark.parametrize("form", ["own splice", "no splice", "passes them on", "sees them spliced", "matrix"])
def test_feature_transforms_beside_ivectors(given, tmp_path, form):
    place, made = given
    random = np.random.default_rng(1)
    bias = np.ones(5, np.float32)
    own = Nnet((Splice(40, (-1, 0)), LinearTransform(random.normal(size=(5, 80)).astype(np.float32))))
    single = Nnet((AffineTransform(random.normal(size=(5, 40)).astype(np.float32), bias), Sigmoid(5)))
    matrix = random.normal(size=(6, 40 * 4 + 1)).astype(np.float32)
    path, width = tmp_path / "transform", 43
    options = {**GIVEN, "left": None, "right": None} if form not in ("no splice", "matrix") else GIVEN
    whole = {
        "own splice": with_ivector(own, 3),
        "no splice": with_ivector(Nnet((*single.components, Splice(5, (-2, -1, 0, 1)))), 3),
        "passes them on": with_ivector(own, 3),
        "sees them spliced": Nnet((Splice(43, (0, 1)),)),
        "matrix": with_ivector(
            Nnet((Splice(40, (-2, -1, 0, 1)), AffineTransform(matrix[:, :-1].copy(), matrix[:, -1].copy()))), 3
        ),
    }[form]
    if form == "matrix":
        path.write_bytes(b"\0B" + b"".join(bytes(part) for part in matrix_bytes(matrix, binary=True)))
    else:
        write_nnet(path, {"own splice": own, "no splice": single}.get(form, whole))
    options = SpeechOptions(**options, ivectors=str(place / "utt.scp"), feature_transform=str(path))
    directory = open_directory(options.data)
    ivectors = read_ivectors(options.ivectors)
    front = front_end(options, directory, ivectors)
    examples, _ = open_frames(directory, front, ivectors=ivectors)
    frames = examples.as_seen(slice(None))
    begin = 0
    for key in examples.inputs.keys[:3]:
        appended = np.c_[FEATS[key], slowly(made, "utt", key, len(FEATS[key]))].astype(np.float32)
        assert appended.shape[1] == width
        mine = frames[begin : begin + len(appended)].flatten(1)
        np.testing.assert_allclose(mine, propagate(whole, appended), rtol=1e-4, atol=1e-3)
        begin += len(appended)
    front.write(tmp_path)
    again = read_front_end(tmp_path, front.to_dict())
    assert again.splicing == front.splicing and again.ivector_dim == 3
    assert read_nnet(tmp_path / "final.feature_transform").components == whole.components


@pytest.mark.parametrize("kind", ["utt", "spk"])
def test_a_network_of_nnet3_teaches_frames_with_their_ivectors(tmp_path, kind):
    feats = dict(read_ark(NNET3 / "feats.txt.ark"))
    write_ark(tmp_path / "feats.ark", feats, scp=tmp_path / "feats.scp")
    (tmp_path / "utt2spk").write_bytes((NNET3 / "utt2spk").read_bytes())
    directory = open_directory(tmp_path)
    ivectors = read_ivectors(NNET3 / f"ivec.{kind}.txt.ark", speakers=directory.owners)
    front = FrontEnd(Splicing((0,), ivector=ivectors.dim), ivector_dim=ivectors.dim)
    examples, _ = open_frames(directory, front, ivectors=ivectors)
    teacher = load_for_frames(NNET3 / "ivec.bin")
    expected = np.concatenate([dict(read_ark(NNET3 / f"ivec.{kind}.out.txt.ark"))[key] for key in examples.inputs.keys])
    inputs = examples.inputs.spliced(slice(None), teacher.presentation)
    for rows in (slice(None), torch.randperm(len(inputs))):  # in their order, where runs go together, and in none
        with torch.no_grad():
            np.testing.assert_allclose(teacher(inputs[rows]).log_softmax(1), expected[rows], atol=1e-4)
    with pytest.raises(MismatchError, match="an i-vector of"):
        teacher(inputs[:, :-1])
    without, _ = open_frames(directory, FrontEnd(Splicing((0,))))
    with pytest.raises(MismatchError, match="the data have none: give --ivectors"):
        without.inputs.spliced(slice(0, 5), teacher.presentation)
    # A teacher that reads none sees the features alone.
    tdnn = load_for_frames(NNET3 / "tdnn.bin")
    assert torch.equal(
        examples.inputs.spliced(slice(None), tdnn.presentation), without.inputs.spliced(slice(None), tdnn.presentation)
    )


def test_windows_that_go_together_have_one_ivector():
    frames = torch.arange(6.0)[:, None]
    windows = torch.stack([frames[n : n + 3] for n in (0, 1, 2, 3)] + [frames[0:3]])
    one, other = torch.zeros(1, 2), torch.ones(1, 2)
    beside = torch.cat([one, one, other, other, other])
    assert [(run.first, run.count) for run in runs_of(windows, beside)] == [(0, 2), (2, 2), (4, 1)]


def test_deltas_have_the_window_that_is_asked_for():
    found = open_data(SpeechOptions(**GIVEN, validation=0, deltas=1, delta_window=3))
    key = found.train.inputs.keys[0]
    expected = splice(add_deltas(FEATS[key], order=1, window=3), (-2, -1, 0, 1))
    np.testing.assert_array_equal(found.train.as_seen(slice(0, len(expected))), expected)
    assert found.reading.to_dict()["delta_window"] == 3


def test_what_is_refused(given, tmp_path):
    place, _ = given
    options = SpeechOptions(**GIVEN, validation=0, ivectors=str(place / "utt.scp"))
    dev = {"validation_data": str(SO762 / "dev"), "validation_ali": str(SO762 / "ali_dev")}
    with pytest.raises(MismatchError, match="give --ivectors, --validation-ivectors and --test-ivectors"):
        open_speech(dataclasses.replace(options, **dev))
    with pytest.raises(MismatchError, match="no i-vector of .* or of its speaker"):
        open_speech(dataclasses.replace(options, **dev, validation_ivectors=options.ivectors))
    with pytest.raises(ConfigError, match="--test-ivectors belong to --test-data"):
        open_speech(dataclasses.replace(options, test_ivectors="x"))
    with pytest.raises(ConfigError, match="ivector_period must be left out where there are no ivectors"):
        SpeechOptions(**GIVEN, ivector_period=10)
    with pytest.raises(MismatchError, match="end .* frames before the utterance"):
        open_speech(dataclasses.replace(options, ivectors=str(place / "ivector_online.scp"), ivector_period=3))
    (tmp_path / "a.ark").write_text("x [ 1 2 ]\ny [ 1 ]\n")
    (tmp_path / "b.ark").write_bytes(b"x \0BFV \4\1\0\0\0" + np.float32(np.nan).tobytes())
    for name, says in (("a", "y has 1 values, and others have 2"), ("b", "NaN")):
        with pytest.raises(FormatError, match=says):
            read_ivectors(tmp_path / f"{name}.ark")
    with pytest.raises(FormatError, match=r"ivector_online\.scp.*is missing"):
        read_ivectors(tmp_path)
    test = dataclasses.replace(options, test_data="t", test_ali="a", test_ivectors="i", ivector_period=10)
    alone = judged_alone(test)
    assert (alone.ivectors, alone.test_ivectors, alone.ivector_period) == ("i", None, 10)
    plain = open_data(dataclasses.replace(options, ivectors=None)).reading
    with pytest.raises(MismatchError, match="trained with i-vectors of 3 values, and x is read with 0: give"):
        front_end(options, open_directory(options.data), read_ivectors(options.ivectors)).seen_in(plain, "teacher", "x")
