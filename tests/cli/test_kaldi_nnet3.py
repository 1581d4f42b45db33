"""Networks of nnet3 on the command line: forward, copied with edits, as a teacher, fine-tuned and written back."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from limbeck.kaldi.formats.nnet1 import Nnet, dialect_of, read_nnet, write_nnet
from limbeck.kaldi.formats.table import read_ark
from limbeck.kaldi.formats.write import write_ark
from limbeck.kaldi.forward import propagate
from limbeck.kaldi.nnet3.computing import Computer
from limbeck.kaldi.nnet3.model import read_nnet3
from limbeck.kaldi.nnet3.module import Nnet3Module
from limbeck.kaldi.nnet3.options import ComputeOptions

KALDI = Path(__file__).parent.parent / "fixtures" / "kaldi"
NNET3 = KALDI / "nnet3"
FEATS = ("--feats", NNET3 / "feats.txt.ark")


@pytest.fixture
def done(limbeck):
    def run(*words):
        found = limbeck(*words)
        assert found.code == 0, found.err
        return found

    return run


@pytest.fixture
def refused(limbeck, tmp_path):
    def run(*words, says):
        before = sorted(tmp_path.rglob("*"))
        found = limbeck(*words)
        assert found.code == 2 and found.err.count("\n") == 1, found.err
        assert says in found.err, found.err
        assert sorted(tmp_path.rglob("*")) == before

    return run


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("tdnn.bin", *FEATS), "tdnn.out.bin.ark"),
        (("tdnnf.bin", *FEATS, "--frame-subsampling-factor", 3), "tdnnf.sub3.out.bin.ark"),
        (("ivec.bin", *FEATS, "--ivectors", NNET3 / "ivec.utt.txt.ark"), "ivec.utt.out.txt.ark"),
        (("ivec.bin", *FEATS, "--ivectors", NNET3 / "ivec.spk.txt.ark", "--utt2spk", f"ark:{NNET3 / 'utt2spk'}"),
         "ivec.spk.out.txt.ark"),
        (("ivec.bin", *FEATS, "--online-ivectors", NNET3 / "ivec.online10.txt.ark", "--frames-per-chunk", 20),
         "ivec.online.chunk20.out.txt.ark"),
        (("am.mdl", "--feats", NNET3 / "am.feats.txt.ark", "--use-priors"), "am.priors.out.txt.ark"),
    ],
)  # fmt: skip
def test_forward_does_what_nnet3_compute_does(done, tmp_path, words, expected):
    done("forward", NNET3 / words[0], *words[1:], "--out", tmp_path / "out.ark")
    found = dict(read_ark(tmp_path / "out.ark"))
    for key, value in read_ark(NNET3 / expected):
        np.testing.assert_allclose(found.pop(key), value, atol=1e-4, rtol=0)
    assert not found


def test_scale_and_exponential_come_last(done, tmp_path):
    done("forward", NNET3 / "tdnn.bin", *FEATS, "--acoustic-scale", 0.1, "--apply-exp", "--out", tmp_path / "a")
    for (_, found), (_, plain) in zip(read_ark(tmp_path / "a"), read_ark(NNET3 / "tdnn.out.bin.ark"), strict=True):
        np.testing.assert_allclose(found, np.exp(0.1 * plain), atol=1e-5)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("ivec.bin", *FEATS), "give --ivectors or --online-ivectors"),
        (("ivec.bin", *FEATS, "--ivectors", NNET3 / "ivec.spk.txt.ark"), "are they of speakers? Give --utt2spk"),
        (("ivec.bin", *FEATS, "--ivectors", "a", "--online-ivectors", "b"), "exclude each other"),
        (("tdnn.bin", *FEATS, "--ivectors", NNET3 / "ivec.utt.txt.ark"), "does not read any"),
        (("ivec.bin", *FEATS, "--ivectors", "a", "--utt2spk", "ark:cat b |"), "is not a file, and this is read from"),
        (("tdnn.bin", *FEATS, "--use-priors"), "has no priors"),
        (("tdnn.bin", *FEATS, "--no-softmax"), "--no-softmax is not for nnet3 networks"),
        (("tdnn.bin", *FEATS, "--left-context", 3), "sees its own context"),
        (("tdnn.bin", *FEATS, "--output-node", "x"), "there is no output x: there are output"),
        (("tdnn.bin", *FEATS, "--frames-per-chunk", 0), "frames-per-chunk must be from 1"),
        (("tdnn.bin", "--feats", NNET3 / "am.feats.txt.ark"), "utt000: frames of 4 features for a network of 8"),
        (("cnn.bin", *FEATS), "component cnn1.conv is a TimeHeightConvolutionComponent, which is not run here"),
        (("lstm.bin", *FEATS), "recurrent networks"),
        (("../tiny.nnet.bin", "--feats", KALDI / "feats.txt.ark", "--use-priors"), "is for nnet3 networks"),
    ],
)
def test_what_forward_refuses(refused, tmp_path, words, says):
    refused("forward", NNET3 / words[0], *words[1:], "--out", tmp_path / "out.ark", says=says)


def test_copies_and_edits(done, refused, tmp_path):
    copy = ("kaldi", "nnet3-copy")
    done(*copy, NNET3 / "am.mdl", tmp_path / "a.txt", "--no-binary")
    done(*copy, tmp_path / "a.txt", tmp_path / "b.mdl", "--binary")
    assert (tmp_path / "b.mdl").read_bytes() == (NNET3 / "am.mdl").read_bytes()
    refused(*copy, NNET3 / "am.mdl", tmp_path / "b.mdl", says="--overwrite")
    (tmp_path / "edits").write_text("apply-svd name=* bottleneck-dim=3  # a comment\nremove-orphans\n")
    told = done(*copy, NNET3 / "am.mdl", tmp_path / "s.mdl", "--edits-config", tmp_path / "edits")
    assert "tdnn1.affine: 20 to 14 over rank 3" in told.err and "294 parameters, before 650" in told.err
    small = read_nnet3(tmp_path / "s.mdl")
    assert small.priors.size == 6 and "tdnn1.affine_a" in small.nnet.component_named
    done(*copy, tmp_path / "s.mdl", tmp_path / "s.raw", "--raw")
    assert json.loads(done("info", tmp_path / "s.raw", "--json").out)["kind"] == "nnet3"
    refused(*copy, NNET3 / "am.mdl", tmp_path / "c", "--edits", "shrink", says="'shrink' is not known")
    refused(*copy, KALDI / "tiny.nnet.bin", tmp_path / "c", says="tiny.nnet.bin")
    refused("convert", NNET3 / "am.mdl", tmp_path / "c.nnet", says="limbeck kaldi nnet3-copy")


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """A few utterances with the features and pdfs of the acoustic model."""
    place = tmp_path_factory.mktemp("speech")
    (place / "ali").mkdir()
    shutil.copyfile(KALDI / "e2e" / "ali.1.gz", place / "ali" / "ali.1.gz")
    shutil.copyfile(KALDI / "e2e" / "mono.mdl", place / "ali" / "final.mdl")
    (place / "ali" / "num_jobs").write_text("1\n")
    lines = (KALDI / "e2e" / "feats.scp").read_text().splitlines()[:12]
    (place / "feats.scp").write_text("".join(f"{line}\n" for line in lines))
    shutil.copyfile(KALDI / "e2e" / "feats.ark", place / "feats.ark")
    return "--data", place, "--ali", place / "ali", "--validation", 0.2


def test_a_network_of_nnet3_teaches(done, speech, tmp_path):
    done("soften", *speech, "--teacher", NNET3 / "am.mdl", "--precision", "float32", "--dtype", "float32",
         "--write-posteriors", f"ark:{tmp_path / 'post.ark'}", "--out", tmp_path / "targets")  # fmt: skip
    compute = Computer(Nnet3Module(read_nnet3(NNET3 / "am.mdl").nnet))
    frames = dict(read_ark(KALDI / "e2e" / "feats.ark"))
    written = dict(read_ark(tmp_path / "post.ark"))
    assert len(written) >= 8
    for key, posteriors in written.items():
        np.testing.assert_allclose(posteriors, np.exp(compute(frames[key])), atol=1e-5)


def divergence(model, expected, frames):
    compute = Computer(Nnet3Module(read_nnet3(model).nnet))
    found = np.concatenate([compute(matrix) for matrix in frames])
    return float((np.exp(expected) * (expected - found)).sum(1).mean())


def test_low_rank_is_won_back_by_distillation_and_written_back(done, refused, speech, tmp_path):
    small, tuned = tmp_path / "small.mdl", tmp_path / "tuned.mdl"
    edits = "apply-svd name=* bottleneck-dim=3; remove-orphans"
    done("kaldi", "nnet3-copy", NNET3 / "am.mdl", small, "--edits", edits)
    words = ("kaldi", "nnet3-finetune", small, tuned, "--teacher", NNET3 / "am.mdl", *speech)
    refused(*words, "--left", 3, says="an nnet3 network has its own context")
    done(*words, "--epochs", 3, "--batch-size", 64, "--learning-rate", 0.003, "--temperature", 1, "--hard-weight", 0,
         "--precision", "float32", "--quiet")  # fmt: skip
    frames = [matrix for _, matrix in read_ark(KALDI / "e2e" / "feats.ark")][20:40]  # which were not learned from
    teacher = Computer(Nnet3Module(read_nnet3(NNET3 / "am.mdl").nnet))
    expected = np.concatenate([teacher(matrix) for matrix in frames])
    assert divergence(tuned, expected, frames) < 0.7 * divergence(small, expected, frames)
    before, after = read_nnet3(small), read_nnet3(tuned)
    assert after.nnet.nodes == before.nnet.nodes and np.array_equal(after.priors, before.priors)
    assert [part.name for part in after.nnet.components] == [part.name for part in before.nnet.components]


def test_what_cannot_teach_frames_is_refused(refused, speech, tmp_path):
    out = ("--out", tmp_path / "targets")
    refused("soften", *speech, "--teacher", NNET3 / "ivec.bin", *out, says="the data have none: give --ivectors")
    refused("soften", *speech, "--teacher", NNET3 / "misc2.bin", *out, says="depend on where a chunk begins")
    refused(
        "soften", *speech, "--teacher", NNET3 / "tdnn.bin", *out, says="frames of 4 features for a network of 8 inputs"
    )
    refused("soften", *speech, "--teacher", NNET3 / "lstm.bin", *out, says="recurrent networks")


def test_words_with_a_network_of_nnet3_are_those_of_its_log_likelihoods(done, tmp_path):
    """The priors of the final.mdl are taken off as Kaldi's decoders do it."""
    pytest.importorskip("kaldi_decoder")
    e2e = KALDI / "e2e"
    graph = ("--graph", e2e, "--mdl", e2e / "mono.mdl", "--text", e2e / "text", "--acoustic-scale", 0.5, "--quiet")
    feats = tmp_path / "feats.scp"
    feats.write_text("".join((e2e / "feats.scp").read_text().splitlines(keepends=True)[:8]))
    given = ("--feats", feats, "--feats-root", e2e)
    done("forward", NNET3 / "am.mdl", *given, "--use-priors", "--out", tmp_path / "loglikes.ark", "--quiet")
    for priors, expected in (
        (("--model", NNET3 / "am.mdl", *given), "a"),
        (("--loglikes", tmp_path / "loglikes.ark"), "b"),
    ):
        done("decode", *priors, *graph, "--out", tmp_path / expected)
    assert (tmp_path / "a").read_text() == (tmp_path / "b").read_text()
    figures = [json.loads((tmp_path / f"{name}.json").read_text()) for name in "ab"]
    assert figures[0]["wer"] == figures[1]["wer"] and figures[0]["utterances"] == 8
    done(
        "decode", "--model", NNET3 / "am.mdl", *given, *graph, "--frame-subsampling-factor", 3, "--out", tmp_path / "c"
    )
    thirds = json.loads((tmp_path / "c.json").read_text())
    assert thirds["audio_seconds"] == pytest.approx(figures[0]["audio_seconds"], abs=0.2)


def test_a_network_that_reads_ivectors_is_fine_tuned_with_them(done, refused, tmp_path):
    source, tuned, data = NNET3 / "ivec.bin", tmp_path / "tuned.raw", tmp_path / "data"
    data.mkdir()
    shutil.copyfile(KALDI / "e2e" / "ali.1.gz", data / "ali.1.gz")
    shutil.copyfile(KALDI / "e2e" / "mono.mdl", data / "final.mdl")
    feats = {
        key: np.concatenate([frames, frames], 1) for key, frames in list(read_ark(KALDI / "e2e" / "feats.ark"))[:9]
    }
    write_ark(data / "feats.ark", feats, scp=data / "feats.scp")
    dim, random = Nnet3Module(read_nnet3(source).nnet).ivector_dim, np.random.default_rng(0)
    online = {key: random.normal(size=(7, dim)).astype(np.float32) for key in feats}
    write_ark(data / "ivector_online.ark", online, scp=data / "ivector_online.scp")
    (data / "ivector_period").write_text("10")
    given = ("--data", data, "--ali", data, "--cmvn", "none")
    words = ("kaldi", "nnet3-finetune", source, tuned, "--teacher", source, *given)
    refused(*words, says="reads i-vectors of 4 values, and those of the data have 0: give --ivectors")
    done(*words, "--ivectors", data, "--validation", 0.2, "--epochs", 2, "--batch-size", 64, "--learning-rate", 0.003,
         "--temperature", 1, "--hard-weight", 1, "--precision", "float32", "--quiet")  # fmt: skip
    before, after = (read_nnet3(path).nnet for path in (source, tuned))
    assert after.nodes == before.nodes and [part.name for part in after.components] == [
        part.name for part in before.components
    ]
    labels = dict(read_ark(KALDI / "e2e" / "alipdf.txt", "integers"))

    def loss(nnet):
        compute = Computer(Nnet3Module(nnet), ComputeOptions(frames_per_chunk=1))
        nats = [-compute(frames, online[key], online=True)[np.arange(len(frames)), labels[key]]
                for key, frames in feats.items()]  # fmt: skip
        return float(np.concatenate(nats).mean())

    assert loss(after) < 0.9 * loss(before)


# The same for nnet1.


def frames_divergence(model, expected, frames):
    """Of a network of nnet1 from expected posteriors."""
    found = np.concatenate([propagate(read_nnet(model), matrix) for matrix in frames])
    return float((expected * (np.log(expected) - np.log(found))).sum(1).mean())


def test_a_network_of_nnet1_wins_back_what_low_rank_lost(done, refused, speech, tmp_path):
    e2e = KALDI / "e2e"
    small, tuned, wrong = tmp_path / "small.nnet", tmp_path / "tuned.nnet", tmp_path / "wrong.nnet"
    done("compress", e2e / "final.nnet", small, "--rank", 2, "--dialect", "text")
    before = read_nnet(small)
    # The first component is not to be trained.
    kept = dataclasses.replace(before.components[0], learn_rate=0.0)
    write_nnet(small, Nnet((kept, *before.components[1:])), dialect="text")
    transform = ("--feature-transform", e2e / "final.feature_transform")
    words = ("kaldi", "nnet1-finetune", small, tuned, "--teacher", e2e / "final.nnet", *speech, "--cmvn", "none")
    refused(*words, "--left", 1, "--right", 1, says="20 inputs, and a frame is seen as 12 values")
    refused(*words[:2], KALDI / "nnet1_more" / "lstm.bin", *words[3:], says="has no place in a run")
    write_nnet(wrong, Nnet(before.components[:1]))
    refused(*words[:5], wrong, *words[6:], *transform, says="wrong.nnet")
    done(*words, *transform, "--epochs", 4, "--batch-size", 64, "--learning-rate", 0.003, "--temperature", 1,
         "--hard-weight", 0, "--precision", "float32", "--quiet")  # fmt: skip
    refused(*words, *transform, says="--overwrite")
    after = read_nnet(tuned)
    assert dialect_of(tuned) == dialect_of(small) == "text"
    assert [(p.tag, p.input_dim, p.output_dim) for p in after.components] == [
        (p.tag, p.input_dim, p.output_dim) for p in before.components
    ]
    np.testing.assert_array_equal(after.components[0].weight, kept.weight)
    assert after.components[0].learn_rate == 0
    read = read_nnet(e2e / "final.feature_transform")
    frames = [propagate(read, matrix) for _, matrix in read_ark(e2e / "feats.ark")][20:40]  # not learned from
    expected = np.concatenate([propagate(read_nnet(e2e / "final.nnet"), matrix) for matrix in frames])
    assert frames_divergence(tuned, expected, frames) < 0.7 * frames_divergence(small, expected, frames)


def test_a_file_of_nnet1_is_compressed_and_fine_tuned_at_once(done, refused, speech, tmp_path):
    e2e = KALDI / "e2e"
    source, out, exp = e2e / "final.nnet", tmp_path / "out.nnet", tmp_path / "exp"
    exp.mkdir()
    shutil.copy(e2e / "final.feature_transform", exp)
    words = ("compress", source, out, "--rank", 2, "--finetune-epochs", 4, "--batch-size", 64, "--learning-rate", 0.003,
             "--temperature", 1, "--hard-weight", 0, "--precision", "float32")  # fmt: skip
    refused(*words, says="give --data and --ali")
    refused(*words, *speech, says="has 20 inputs, and a frame is seen as 44 values")
    refused(*words[:5], *speech[:2], says="--data is for fine-tuning an nnet1 file: give --finetune-epochs too")
    done(*words, *speech, "--exp", exp)
    done("compress", source, tmp_path / "small.nnet", "--rank", 2)
    read = read_nnet(e2e / "final.feature_transform")
    frames = [propagate(read, matrix) for _, matrix in read_ark(e2e / "feats.ark")][20:40]
    expected = np.concatenate([propagate(read_nnet(source), matrix) for matrix in frames])
    assert frames_divergence(out, expected, frames) < 0.7 * frames_divergence(tmp_path / "small.nnet", expected, frames)
    assert (tmp_path / "out.nnet.plan.json").read_text() == (tmp_path / "small.nnet.plan.json").read_text()


def test_a_file_of_nnet1_teaches_frames_as_they_are_read(done, speech, tmp_path):
    e2e = KALDI / "e2e"
    transform = ("--feature-transform", e2e / "final.feature_transform")
    done("soften", *speech, *transform, "--teacher", e2e / "final.nnet", "--precision", "float32", "--dtype", "float32",
         "--write-posteriors", tmp_path / "post.ark", "--out", tmp_path / "targets")  # fmt: skip
    done("forward", e2e / "final.nnet", *transform, "--feats", speech[1], "--out", tmp_path / "same.ark", "--quiet")
    same = dict(read_ark(tmp_path / "same.ark"))
    for key, posteriors in read_ark(tmp_path / "post.ark"):
        np.testing.assert_allclose(posteriors, same[key], atol=1e-5)
