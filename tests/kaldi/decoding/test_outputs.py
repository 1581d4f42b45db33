"""Outputs of many utterances against Kaldi's nnet-forward, in any batches and from any format."""

from pathlib import Path

import numpy as np
import pytest

from limbeck.errors import DataError, FormatError, MismatchError, RunError
from limbeck.kaldi.convert import read_network, write_network
from limbeck.kaldi.decoding import outputs
from limbeck.kaldi.decoding.fronts import settled
from limbeck.kaldi.decoding.options import FeatureOptions, OutputOptions
from limbeck.kaldi.decoding.outputs import AcousticModel
from limbeck.kaldi.decoding.utterances import Utterances
from limbeck.kaldi.formats.cmvn import accumulate_cmvn, add_deltas, apply_cmvn
from limbeck.kaldi.formats.table import read_ark
from limbeck.kaldi.formats.write import write_ark

KALDI = Path(__file__).parents[2] / "fixtures" / "kaldi"
COUNTS = KALDI / "pdf.counts"
CASES = [
    ("post.kaldi.bin.ark", {}, 1e-5),
    ("post.kaldi.txt.ark", {}, 1e-5),
    ("logit.kaldi.txt.ark", {"no_softmax": True}, 1e-4),
    ("llk.kaldi.txt.ark", {"no_softmax": True, "class_frame_counts": COUNTS}, 1e-4),
    ("loglik_softmax.kaldi.txt.ark", {"apply_log": True, "class_frame_counts": COUNTS}, 1e-4),
]


@pytest.mark.parametrize("batch", [1, 5, 2048])
@pytest.mark.parametrize("reference, options, tolerance", CASES)
def test_agrees_with_kaldi(reference, options, tolerance, batch, monkeypatch):
    monkeypatch.setattr(outputs, "_BATCH", batch)
    model = AcousticModel(KALDI / "tiny.nnet.bin", OutputOptions(**options))
    found = dict(model.run(Utterances(KALDI / "feats.txt.ark")))
    expected = dict(read_ark(KALDI / reference))
    assert list(found) == list(expected)
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", ["relu", "relu.svd_full", "relu.svd_low"])
def test_relu_networks_behind_a_transform_from_every_format(name, tmp_path):
    nnet = read_network(KALDI / f"{name}.nnet.bin").nnet
    expected = dict(read_ark(KALDI / f"{name}.post.txt.ark"))
    features = FeatureOptions(feature_transform=KALDI / "splice2.nnet.txt")
    for file, form in (("a.nnet", "binary"), ("a.txt", "text"), ("a.h5", "hdf5"), ("a.safetensors", "safetensors"),
                       ("run", "run"), ("old.txt", "legacy")):  # fmt: skip
        write_network(tmp_path / file, nnet, form)
        model = AcousticModel(tmp_path / file, OutputOptions(), features=features)
        for key, value in model.run(Utterances(KALDI / "raw3.txt.ark")):
            np.testing.assert_allclose(value, expected[key], rtol=0, atol=1e-5, err_msg=form)


def test_a_network_that_splices_itself_sees_no_other_utterance(tmp_path):
    from limbeck.kaldi.formats.nnet1 import Nnet

    transform = read_network(KALDI / "splice2.nnet.txt").nnet
    whole = Nnet((*transform.components, *read_network(KALDI / "relu.nnet.bin").nnet.components))
    write_network(tmp_path / "a.nnet", whole, "binary")
    expected = dict(read_ark(KALDI / "relu.post.txt.ark"))
    for key, value in AcousticModel(tmp_path / "a.nnet", OutputOptions()).run(Utterances(KALDI / "raw3.txt.ark")):
        np.testing.assert_allclose(value, expected[key], rtol=0, atol=1e-5)


def test_context_is_the_splice_of_a_transform():
    plain = settled(FeatureOptions(left_context=2, right_context=2), None)
    through = settled(FeatureOptions(feature_transform=KALDI / "splice2.nnet.txt"), None)
    for _, frames in Utterances(KALDI / "raw3.txt.ark"):
        np.testing.assert_array_equal(plain.neighbours(frames), through.neighbours(frames))


def data_directory(folder):
    """Two speakers, CMVN of each, paths relative to the folder above."""
    place = folder / "data"
    place.mkdir()
    random = np.random.default_rng(0)
    frames = {f"s{s}-u{u}": random.normal(s, 1 + s, (20, 3)).astype(np.float32) for s in (1, 2) for u in (1, 2)}
    write_ark(place / "feats.ark", frames, scp=place / "feats.scp")
    stats = {f"s{s}": accumulate_cmvn(frames[f"s{s}-u1"]) + accumulate_cmvn(frames[f"s{s}-u2"]) for s in (1, 2)}
    write_ark(place / "cmvn.ark", stats, scp=place / "cmvn.scp")
    (place / "utt2spk").write_text("".join(f"{key} {key[:2]}\n" for key in frames))
    for name in ("feats.scp", "cmvn.scp"):
        (place / name).write_text((place / name).read_text().replace(f"{folder}/", ""))
    return place, frames, stats


def test_cmvn_of_speakers_and_utterances(tmp_path):
    place, frames, stats = data_directory(tmp_path)
    by_speaker = Utterances(place, FeatureOptions(cmvn="speaker", norm_vars=True))
    assert by_speaker.count == 4
    for key, value in by_speaker:
        np.testing.assert_array_equal(value, apply_cmvn(frames[key], stats[key[:2]], variance=True))
    for key, value in Utterances(place, FeatureOptions(cmvn="utterance", deltas=2)):
        np.testing.assert_array_equal(value, add_deltas(apply_cmvn(frames[key], accumulate_cmvn(frames[key]))))


def test_statistics_in_an_archive(tmp_path):
    place, frames, stats = data_directory(tmp_path)
    (place / "cmvn.scp").unlink()
    archive = place / "cmvn.ark"
    for given in (archive, f"ark:{archive}", f"ark,s,cs:cat {archive} |"):
        options = FeatureOptions(cmvn="speaker", cmvn_scp=Path(given), allow_pipes=True)
        for key, value in Utterances(place, options):
            np.testing.assert_array_equal(value, apply_cmvn(frames[key], stats[key[:2]]))
    with pytest.raises(RunError, match="--allow-pipes"):
        consume(place, cmvn="speaker", cmvn_scp=Path(f"ark:cat {archive} |"))
    with pytest.raises(FormatError, match="utt2spk: holds no CMVN statistics, which are matrices, but words"):
        consume(place, cmvn="speaker", cmvn_scp=place / "utt2spk")
    with pytest.raises(FormatError, match="missing.ark: cannot be read"):
        consume(place, cmvn="speaker", cmvn_scp=Path(f"ark:{place}/missing.ark"))


def test_keeping_some(tmp_path):
    utterances = Utterances(data_directory(tmp_path)[0])
    utterances.keep(2)
    assert [key for key, _ in utterances] == ["s1-u1", "s2-u2"] and utterances.count == 2


def consume(path, **options):
    return list(Utterances(path, FeatureOptions(**options)))


def test_missing_speakers_and_statistics(tmp_path):
    place, frames, _ = data_directory(tmp_path)
    owners = (place / "utt2spk").read_text()
    (place / "utt2spk").write_text(owners.replace("s2-u1 s2", "s2-u1 s9"))
    with pytest.raises(MismatchError, match="no statistics of s9, the speaker of s2-u1"):
        consume(place, cmvn="speaker")
    (place / "utt2spk").write_text(owners.replace("s2-u1 s2\n", ""))
    with pytest.raises(MismatchError, match="utt2spk names no speaker of the utterance s2-u1"):
        consume(place, cmvn="speaker")
    (place / "utt2spk").unlink()
    with pytest.raises(FormatError, match="utt2spk: is missing"):
        consume(place, cmvn="speaker")
    (place / "cmvn.scp").unlink()
    (place / "utt2spk").write_text(owners)
    with pytest.raises(FormatError, match=r"cmvn\.scp: is missing"):
        consume(place, cmvn="speaker")
    write_ark(place / "cmvn.ark", {"s1": np.ones((2, 7)), "s2": np.ones((2, 7))}, scp=place / "cmvn.scp")
    (place / "utt2spk").write_text(owners)
    with pytest.raises(MismatchError, match=r"s1-u1: CMVN statistics of shape \(2, 7\)"):
        consume(place, cmvn="speaker")


def test_bad_features(tmp_path):
    good = np.ones((3, 2), np.float32)
    bad = good.copy()
    bad[1, 1] = np.nan
    path = tmp_path / "a.ark"
    write_ark(path, {"a": good, "b": bad})
    with pytest.raises(DataError, match="frame 1 of b holds nan at feature 1"):
        consume(path)
    write_ark(path, {"a": good, "b": np.ones((3, 4), np.float32)})
    with pytest.raises(MismatchError, match="b has 4 features, and the utterances before it have 2"):
        consume(path)
    write_ark(path, {"a": np.ones((0, 0), np.float32)})
    with pytest.raises(DataError, match="the utterance a has no frame"):
        consume(path)
    write_ark(path, {"a": good})
    transform = FeatureOptions(feature_transform=KALDI / "splice2.nnet.txt")
    with pytest.raises(MismatchError, match="a: frames of 2 features for a network of 3 inputs"):
        list(AcousticModel(KALDI / "relu.nnet.bin", OutputOptions(), features=transform).run(Utterances(path)))
    with pytest.raises(MismatchError, match="a has 2 features for each frame, and .*tiny.nnet.bin has 3 inputs"):
        list(AcousticModel(KALDI / "tiny.nnet.bin", OutputOptions()).run(Utterances(path)))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FormatError, match="truncated"):
        consume(path)
    with pytest.raises(FormatError, match="no features"):
        Utterances(KALDI / "tiny.nnet.bin")


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
@pytest.mark.parametrize("weights", [None, (1.0, 3.0), (0.0, 2.0)])
def test_networks_are_averaged_by_their_weights(tmp_path, mean, weights):
    from limbeck.kaldi.formats import nnet1_components as nc
    from limbeck.kaldi.formats.nnet1 import Nnet

    random = np.random.default_rng(0)
    frames = random.normal(size=(5, 3)).astype(np.float32)
    write_ark(tmp_path / "a.ark", {"u": frames})
    paths, logs = [], []
    for number in range(2):
        weight = random.normal(size=(4, 3)).astype(np.float32)
        paths.append(tmp_path / f"{number}.nnet")
        write_network(paths[-1], Nnet((nc.LinearTransform(weight), nc.Softmax(4))), "binary")
        scores = frames.astype(float) @ weight.T
        logs.append(scores - np.log(np.exp(scores).sum(1, keepdims=True)))
    shares = np.array(weights or (1.0, 1.0)) / sum(weights or (1.0, 1.0))
    if mean == "arithmetic":
        expected = shares[0] * np.exp(logs[0]) + shares[1] * np.exp(logs[1])
    else:
        expected = np.exp(shares[0] * logs[0] + shares[1] * logs[1])
        expected /= expected.sum(1, keepdims=True)
    model = AcousticModel(paths, OutputOptions(), mean=mean, weights=weights)
    ((_, found),) = model.run(Utterances(tmp_path / "a.ark"))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    logits = AcousticModel(paths, OutputOptions(no_softmax=True), mean=mean, weights=weights)
    ((_, found),) = logits.run(Utterances(tmp_path / "a.ark"))
    np.testing.assert_allclose(found, np.log(expected), atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"no_softmax": True}, {"apply_log": True}])
def test_outputs_that_overflow_are_told_with_their_place(tmp_path, options):
    write_ark(tmp_path / "a.ark", {"a": np.ones((2, 3), np.float32), "b": np.full((3, 3), 3e38, np.float32)})
    with pytest.raises(DataError, match=r"b: output \d of .*relu.* is .* in frame 0: .* too large for float32"):
        list(AcousticModel(_loud(tmp_path), OutputOptions(**options)).run(Utterances(tmp_path / "a.ark")))


def _loud(folder):
    from limbeck.kaldi.formats import nnet1_components as nc
    from limbeck.kaldi.formats.nnet1 import Nnet

    weight = np.array([[9, 9, 9], [9, 9, -9]], np.float32)
    write_network(folder / "relu.nnet", Nnet((nc.LinearTransform(weight), nc.Softmax(2))), "binary")
    return folder / "relu.nnet"


def test_a_script_file_with_ranges(tmp_path):
    """Of whole lines of the kind ``key path:offset[rows,columns]``; Kaldi's own tools take them too."""
    frames = np.arange(24, dtype=np.float32).reshape(6, 4)
    write_ark(tmp_path / "a.ark", {"u": frames})
    for line, expected in (
        ("u a.ark:2[1:3]", frames[1:4]),
        ("u a.ark:2[1:3,0:2]", frames[1:4, :3]),
        ("u a.ark:2[,2:3]", frames[:, 2:]),
        ("u a.ark:2[:,2:3]", frames[:, 2:]),
    ):
        (tmp_path / "feats.scp").write_text(line + "\n")
        ((_, found),) = Utterances(tmp_path / "feats.scp")
        np.testing.assert_array_equal(found, expected)


def test_pipes(tmp_path):
    (tmp_path / "feats.scp").write_text(f"utt1 sed 's/^utt1  //;/^utt2/,$d' {KALDI / 'feats.txt.ark'} |\n")
    with pytest.raises(RunError, match="--allow-pipes"):
        Utterances(tmp_path)
    ((key, frames),) = consume(tmp_path, allow_pipes=True)
    np.testing.assert_array_equal(frames, dict(read_ark(KALDI / "feats.txt.ark"))[key])


def test_counts_of_other_pdfs():
    with pytest.raises(MismatchError, match="counts of 6 pdfs, and .*tiny.nnet.bin has 5 outputs"):
        AcousticModel(
            KALDI / "tiny.nnet.bin",
            OutputOptions(apply_log=True, class_frame_counts=KALDI / "e2e/ali_train_pdf.counts"),
        )
