"""convert, info, forward, decode and features as commands: what they do, and one clear line for what they cannot."""

import gzip
import json
import re
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
from tiny_runs import sealed_again

from limbeck.kaldi.formats.cmvn import accumulate_cmvn, add_deltas
from limbeck.kaldi.formats.compact_lattice import read_lattices
from limbeck.kaldi.formats.lines import read_table
from limbeck.kaldi.formats.matrix import matrix_bytes
from limbeck.kaldi.formats.nnet1 import read_nnet
from limbeck.kaldi.formats.online_cmvn import apply_online_cmvn
from limbeck.kaldi.formats.scp import read_entries, read_scp
from limbeck.kaldi.formats.sliding import apply_sliding_cmvn
from limbeck.kaldi.formats.table import read_ark
from limbeck.kaldi.formats.transition_model import read_alignments
from limbeck.kaldi.formats.write import write_ark
from limbeck.kaldi.options import OnlineCmvnOptions, SlidingOptions

KALDI = Path(__file__).parent.parent / "fixtures" / "kaldi"
E2E = KALDI / "e2e"
DECODE = ("--graph", E2E, "--mdl", E2E / "mono.mdl")
MODEL = ("--model", E2E / "final.nnet", "--feature-transform", E2E / "final.feature_transform",
         "--class-frame-counts", E2E / "ali_train_pdf.counts")  # fmt: skip


@pytest.fixture
def refused(limbeck, tmp_path):
    """Run a command that must fail with one line and exit code 2, and leave the folder as it was."""

    def run(*words, says):
        before = {path: path.read_bytes() if path.is_file() else None for path in tmp_path.rglob("*")}
        done = limbeck(*words)
        assert done.code == 2, done.err
        assert done.err.startswith("limbeck: ") and done.err.count("\n") == 1, done.err
        for text in says if isinstance(says, (list, tuple)) else [says]:
            assert str(text) in done.err, done.err
        after = {path: path.read_bytes() if path.is_file() else None for path in tmp_path.rglob("*")}
        assert before == after
        return done.err

    return run


# convert.


def test_convert_there_and_back(limbeck, tmp_path):
    for name in ("a.nnet.txt", "a.h5", "a.safetensors", "run", "back.nnet"):
        done = limbeck("convert", KALDI / "relu.nnet.bin", tmp_path / name)
        assert done.code == 0 and done.out.startswith(f"{tmp_path / name}: "), done.err
        assert "15 inputs, 6 outputs" in done.out
    done = limbeck("convert", tmp_path / "run", tmp_path / "back.nnet", "--overwrite")
    assert done.code == 0 and (tmp_path / "back.nnet").read_bytes() == (KALDI / "relu.nnet.bin").read_bytes()
    assert limbeck("convert", tmp_path / "a.h5", tmp_path / "old", "--to", "legacy").code == 0
    assert (tmp_path / "old").read_text().startswith("<affinetransform> 8 15\n")


def test_convert_says_what_is_left_out(limbeck, tmp_path):
    done = limbeck("convert", KALDI / "tiny.nnet.bin", tmp_path / "a.h5")
    assert "note: learning-rate factors" in done.err


def test_an_activation_that_nothing_needs_is_said(limbeck, tmp_path):
    assert limbeck("convert", KALDI / "relu.nnet.bin", tmp_path / "a.h5").err == ""
    for source in (tmp_path / "a.h5", KALDI / "relu.nnet.bin"):
        done = limbeck("convert", source, tmp_path / "b.txt", "--activation", "sigmoid", "--overwrite")
        assert done.code == 0 and f"sigmoid is not used: {source} says itself" in done.err
    assert "Relu" in (tmp_path / "b.txt").read_text()


def test_a_trained_run_goes_to_kaldi_and_back(limbeck, teacher, tmp_path):
    for source, target in ((teacher, "a.nnet"), (tmp_path / "a.nnet", "run")):
        assert limbeck("convert", source, tmp_path / target).code == 0
    assert [part.tag for part in read_nnet(tmp_path / "a.nnet").components] == [
        "AffineTransform", "ParametricRelu", "AffineTransform", "Softmax",
    ]  # fmt: skip
    frames = {"utt": np.random.default_rng(0).random((4, 64), np.float32)}
    write_ark(tmp_path / "f.ark", frames)
    for model in (teacher, tmp_path / "run", tmp_path / "a.nnet"):
        done = limbeck("forward", model, "--feats", tmp_path / "f.ark", "--out", tmp_path / "p.ark", "--overwrite")
        assert done.code == 0, done.err
        found = dict(read_ark(tmp_path / "p.ark"))["utt"]
        expected = found if model == teacher else expected  # noqa: F821
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    "source, target, says",
    [
        ("missing", "a.nnet", ["missing", "cannot be read"]),
        ("feats.txt.ark", "a.nnet", "an archive of matrices"),
        ("edge_results.txt", "a.nnet", "a table of words"),
        ("raw3.npz", "a.nnet", "of no known kind"),
        ("tiny.nnet.bin", "a.onnx", "--to"),
        ("tiny.nnet.bin", "no/such/folder/a.nnet", "cannot write"),
        ("splice2.nnet.txt", "run", ["<Splice>", "feature transform"]),
        ("splice2.nnet.txt", "a.h5", ["<Splice>", ": write nnet1 or safetensors"]),
        ("nnet1_more/lstm.bin", "a.h5", ["<LstmProjected>", ": write nnet1\n"]),
        ("nnet1_more/lstm.bin", "a.safetensors", ["<LstmProjected>", "nnet1 files alone"]),
    ],
)
def test_conversions_that_cannot_be(refused, tmp_path, source, target, says):
    refused("convert", KALDI / source, tmp_path / target, says=says)


def test_convert_refuses_to_overwrite_and_truncated_files(refused, tmp_path):
    (tmp_path / "a.nnet").write_text("mine")
    refused("convert", KALDI / "tiny.nnet.bin", tmp_path / "a.nnet", says=["exists already", "--overwrite"])
    for name in ("tiny.nnet.bin", "tiny.nnet.txt"):
        (tmp_path / "cut").write_bytes((KALDI / name).read_bytes()[:-30])
        refused("convert", tmp_path / "cut", tmp_path / "b.nnet", says="cut")


def test_compress_of_a_network_without_matrices_names_the_file(refused, tmp_path):
    for name, more in (("lstm.bin", ()), ("blstm.bin", ("--features", KALDI / "feats.txt.ark"))):
        says = f"{name} has no <AffineTransform> and no <LinearTransform>: there is nothing to make smaller"
        refused("compress", KALDI / "nnet1_more" / name, tmp_path / "a.nnet", "--rank", 2, *more, says=says)


def test_convert_an_ensemble(refused, tmp_path):
    (tmp_path / "ensemble.json").write_text('{"members": 3, "mean": "geometric"}')
    refused("convert", tmp_path, tmp_path / "a.nnet", says=["an ensemble", "members/1"])


# info.


def test_info_prints_a_table_and_json(limbeck):
    done = limbeck("info", KALDI / "tiny.nnet.bin")
    assert done.code == 0 and "AffineTransform" in done.out and "bias_learn_rate 0.1" in done.out
    found = json.loads(limbeck("info", KALDI / "tiny.nnet.bin", "--json").out)
    assert found["parameters"] == 41 and len(found["components"]) == 4
    assert "transition ids  12" in limbeck("info", E2E / "mono.mdl").out


def test_info_of_runs(limbeck, teacher, tmp_path):
    assert "Relu" in limbeck("info", teacher).out
    cnn = tmp_path / "cnn"
    assert limbeck("convert", teacher, cnn).code == 0
    config = cnn / "model" / "config.json"
    config.write_text(config.read_text().replace('"model_type": "nnet1"', '"model_type": "cnn"'))
    sealed_again(cnn)
    done = limbeck("info", cnn, "--json")
    found = json.loads(done.out)
    assert "no form in nnet1" in found["note"] and found["tensors"][0]["component"] == "0.bias"


def test_info_of_nothing(refused, tmp_path):
    (tmp_path / "x").write_bytes(b"PK\3\4")
    for path in ("missing", "x", ""):
        refused("info", tmp_path / path, says=str(tmp_path / path))
    (tmp_path / "a.scp").write_text("utt1 cat a.ark |\n")
    refused("info", tmp_path / "a.scp", says="--allow-pipes")


# forward.


def test_forward_writes_what_kaldi_writes(limbeck, tmp_path):
    out, scp = tmp_path / "llk.ark", tmp_path / "llk.scp"
    words = ("forward", KALDI / "tiny.nnet.txt", "--feats", KALDI / "feats.txt.ark", "--no-softmax",
             "--class-frame-counts", KALDI / "pdf.counts", "--out", out, "--scp", scp)  # fmt: skip
    done = limbeck(*words)
    assert done.code == 0 and "3 utterances, 11 frames, 5 outputs" in done.err
    for key, value in read_ark(KALDI / "llk.kaldi.txt.ark"):
        np.testing.assert_allclose(dict(read_ark(out))[key], value, rtol=0, atol=1e-4)
        np.testing.assert_allclose(dict(read_entries(read_scp(scp)))[key], value, rtol=0, atol=1e-4)
    assert limbeck(*words, "--text", "--overwrite").code == 0
    assert out.read_bytes().startswith(b"utt1  [\n  ")


def forward(*words, feats=KALDI / "feats.txt.ark", out):
    return ("forward", KALDI / "tiny.nnet.bin", "--feats", feats, "--out", out, *words)


@pytest.mark.parametrize(
    "words, says",
    [
        (["--no-softmax", "--apply-log"], ["--no-softmax", "--apply-log"]),
        (["--class-frame-counts", KALDI / "pdf.counts"], "--class-frame-counts needs --no-softmax or --apply-log"),
        (["--apply-log", "--class-frame-counts", E2E / "ali_train_pdf.counts"], ["counts of 6 pdfs", "5 outputs"]),
        (["--apply-log", "--class-frame-counts", KALDI / "tiny.nnet.txt"], "tiny.nnet.txt"),
        (["--left-context", 3], ["12 features", "3 inputs"]),
        (["--left-context", -1], "--left-context"),
        (["--prior-scale", "nan"], "--prior-scale"),
        (["--cmvn", "speaker"], "cmvn.scp"),
        (["--norm-vars"], "--norm-vars"),
        (["--feature-transform", E2E / "final.feature_transform"], ["3 features", "4 inputs"]),
        (["--feature-transform", KALDI / "feats.txt.ark"], "an archive of matrices"),
    ],
)
def test_forward_with_flags_that_do_not_fit(refused, tmp_path, words, says):
    refused(*forward(*words, out=tmp_path / "out.ark"), says=says)


def test_forward_on_bad_features(refused, tmp_path):
    out = tmp_path / "out.ark"
    write_ark(tmp_path / "good.ark", dict(read_ark(KALDI / "feats.txt.ark")), scp=tmp_path / "good.scp")
    whole = (tmp_path / "good.ark").read_bytes()
    (tmp_path / "good.ark").write_bytes(whole[:-1])
    for feats in ("good.ark", "good.scp"):
        refused(*forward(feats=tmp_path / feats, out=out), says="truncated")
    (tmp_path / "a.scp").write_text(f"utt1 {tmp_path / 'good.ark'}:99999\n")
    refused(*forward(feats=tmp_path / "a.scp", out=out), says="points at byte 99999")
    (tmp_path / "a.scp").write_text("utt1 cat x |\n")
    refused(*forward(feats=tmp_path / "a.scp", out=out), says="--allow-pipes")
    (tmp_path / "a.scp").write_text(f"utt1 {tmp_path / 'gone.ark'}:5\n")
    refused(*forward(feats=tmp_path / "a.scp", out=out), says="gone.ark")
    refused(*forward(feats=tmp_path / "nowhere", out=out), says="nowhere")
    (tmp_path / "huge.ark").write_bytes(b"utt1 \0BFM \4\xff\xff\xff\x7f\4\xff\xff\xff\x7f")
    refused(*forward(feats=tmp_path / "huge.ark", out=out), says="truncated")
    nan = np.full((4, 3), np.nan, np.float32)
    for name, entries, says in (
        ("nan", {"a": np.ones((4, 3), np.float32), "b": nan}, "frame 0 of b holds nan at feature 0"),
        ("wide", {"a": np.ones((4, 3), np.float32), "b": np.ones((4, 5), np.float32)}, "b has 5 features"),
    ):
        write_ark(tmp_path / f"{name}.ark", entries)
        refused(*forward(feats=tmp_path / f"{name}.ark", out=out), says=says)
    place = tmp_path / "speakers"
    place.mkdir()
    write_ark(place / "feats.ark", {"a": np.ones((4, 3), np.float32)}, scp=place / "feats.scp")
    write_ark(place / "cmvn.ark", {"ann": np.ones((2, 4))}, scp=place / "cmvn.scp")
    (place / "utt2spk").write_text("a bob\n")
    refused(*forward("--cmvn", "speaker", feats=place, out=out), says="no statistics of bob, the speaker of a")
    out.write_text("mine")
    refused(*forward(out=out), says=["exists already", "--overwrite"])
    refused(*forward(out=tmp_path / "no" / "out.ark"), says="make it first")


# decode.


@pytest.fixture(scope="module")
def decoded(tmp_path_factory, limbeck):
    out = tmp_path_factory.mktemp("decode") / "hyp"
    done = limbeck("decode", *DECODE, *MODEL, "--feats", E2E / "feats.scp", "--text", E2E / "text", "--ali", E2E,
                   "--acoustic-scale", 0.1, "--out", out, "--json")  # fmt: skip
    assert done.code == 0, done.err
    return out, json.loads(done.out)


def test_decode_finds_the_words(decoded):
    out, figures = decoded
    assert out.read_text() == (E2E / "text").read_text()
    assert json.loads(out.with_suffix(".json").read_text()) == figures
    assert figures["wer"] == 0 and figures["words"] == 280 and figures["frame_accuracy"] > 0.95
    assert 0 < figures["real_time_factor"] < 10


def test_decode_from_log_likelihoods_finds_the_same(decoded, limbeck, tmp_path):
    ark, out = tmp_path / "llk.ark", tmp_path / "hyp"
    limbeck("forward", E2E / "final.nnet", "--feats", E2E / "feats.scp", *MODEL[2:], "--no-softmax", "--out", ark)
    done = limbeck("decode", *DECODE, "--loglikes", ark, "--text", E2E / "text", "--out", out)
    assert done.code == 0, done.err
    assert out.read_text() == decoded[0].read_text() and "word error rate     0.00% (0 of 280 words)" in done.out


def test_decode_chooses_the_scale_on_dev(limbeck, tmp_path):
    dev = tmp_path / "dev"
    dev.mkdir()
    frames = dict(read_ark(E2E / "feats.ark"))
    write_ark(dev / "feats.ark", frames, scp=dev / "feats.scp")
    (dev / "text").write_text((E2E / "text").read_text())
    done = limbeck("decode", *DECODE, *MODEL, "--feats", dev, "--dev", dev, "--dev-utterances", 5,
                   "--acoustic-scales", 0.0001, 0.1, 0.2, "--out", tmp_path / "hyp", "--json")  # fmt: skip
    assert done.code == 0, done.err
    figures = json.loads(done.out)
    assert figures["acoustic_scale"] == 0.1 and [one["acoustic_scale"] for one in figures["dev"]] == [0.0001, 0.1, 0.2]
    assert figures["dev"][0]["wer"] > 0 == figures["dev"][1]["wer"] and figures["utterances"] == 80


def test_decode_against_another(limbeck, refused, decoded, tmp_path):
    """With speakers: two systems on the same utterances, and a rate with its interval."""
    place = tmp_path / "test"
    place.mkdir()
    frames = dict(read_ark(E2E / "feats.ark"))
    write_ark(place / "feats.ark", frames, scp=place / "feats.scp")
    (place / "text").write_text((E2E / "text").read_text())
    (place / "utt2spk").write_text("".join(f"{key} speaker{number % 8}\n" for number, key in enumerate(frames)))
    good, bad = tmp_path / "good", tmp_path / "bad"
    words = ("decode", *DECODE, *MODEL, "--feats", place)
    assert limbeck(*words, "--acoustic-scale", 0.0001, "--out", bad).code == 0
    done = limbeck(*words, "--acoustic-scale", 0.1, "--against", bad, "--out", good)
    assert done.code == 0, done.err
    assert re.search(r"over 8 speakers +95 % interval 0.00 to [01]\.", done.out)
    worse, better = (json.loads(out.with_suffix(".json").read_text()) for out in (bad, good))
    said = [line.split() for line in (place / "text").read_text().splitlines()]
    for speaker in range(8):
        heard = better["by_unit"][f"speaker{speaker}"]
        assert heard == [0, sum(len(line) - 1 for line in said[speaker::8])]
    assert sum(errors for errors, _ in worse["by_unit"].values()) == round(worse["wer"] * 280)
    found = better["against"]
    assert found["estimate"] == -worse["wer"] and found["low"] < found["estimate"] < found["high"] < 0
    assert f"{-100 * worse['wer']:+.2f} points from {bad}, 95 % interval -" in done.out
    # What does not fit: other speakers, no metrics, and metrics of something else. What was decoded is kept.
    refused(*decode("--against", good, out=tmp_path / "none"), says="--text")
    out = tmp_path / "third"
    done = limbeck(*words, "--acoustic-scale", 0.1, "--against", decoded[0], "--out", out)
    assert done.code == 2 and "80 utterances" in done.err and "utt2spk" in done.err and done.err.count("\n") == 1
    assert out.read_text() == good.read_text()
    nothing = "no word errors by speaker"
    for content, says in ((None, "cannot be read"), ("{}", nothing), ('{"unit": 1, "by_unit": {"a": 3}}', nothing)):
        other = tmp_path / "other.json"
        if content is not None:
            other.write_text(content)
        refused(*words, "--against", other, "--out", tmp_path / "fourth", says=["other.json", says])
        assert not (tmp_path / "fourth").exists()


def test_decode_takes_speakers_from_a_flag(limbeck, refused, tmp_path):
    keys = list(dict(read_ark(E2E / "feats.ark")))
    table = tmp_path / "owners"
    table.write_text("".join(f"{key} {key[-1]}\n" for key in keys))
    done = limbeck(*decode("--utt2spk", table, "--text", E2E / "text", out=tmp_path / "hyp"))
    assert done.code == 0 and "over 10 speakers" in done.out, done.err
    table.write_text("".join(f"{key} {key[-1]}\n" for key in keys[1:]))
    done = limbeck(*decode("--utt2spk", table, "--text", E2E / "text", out=tmp_path / "partly"))
    assert "over 80 utterances" in done.out and f"does not name the speaker of {keys[0]}" in done.out + done.err
    refused(*forward("--utt2spk", table, out=tmp_path / "out.ark"), says="utt2spk belongs to cmvn")


def decode(*words, out, feats=E2E / "feats.scp"):
    return ("decode", *DECODE, *MODEL, "--feats", feats, "--out", out, *words)


@pytest.mark.parametrize(
    "words, says",
    [
        (["--loglikes", E2E / "feats.ark"], ["--feats", "--loglikes"]),
        (["--acoustic-scale", 0.1, "--dev", E2E], ["--acoustic-scale", "--dev"]),
        (["--acoustic-scale", 0], "positive"),
        (["--acoustic-scale", "nan"], "positive"),
        (["--beam", -1], "beam"),
        (["--jobs", 0], "jobs"),
        (["--text", KALDI / "hmm" / "text"], "not in the text"),
        (["--ali", KALDI / "hmm" / "ali.1.gz"], "not in the alignments"),
        (["--text", KALDI / "tiny.nnet.bin"], "tiny.nnet.bin"),
        (["--against", KALDI / "none"], "none.json"),
        (["--ali", KALDI], "no alignments"),
    ],
)
def test_decode_with_flags_that_do_not_fit(refused, tmp_path, words, says):
    refused(*decode(*words, out=tmp_path / "hyp"), says=says)


def test_decode_of_things_that_do_not_belong_together(refused, tmp_path):
    out = tmp_path / "hyp"
    words = ("--feats", E2E / "feats.scp", "--out", out)
    refused("decode", *DECODE, "--model", KALDI / "relu.nnet.bin", *words, says=["15 inputs"])
    refused("decode", *DECODE, "--model", KALDI / "tiny.nnet.bin", *words, says=["5 outputs", "6 pdfs"])
    refused("decode", *DECODE, *words, says=["--feats and --model"])
    refused("decode", "--graph", KALDI, "--mdl", E2E / "mono.mdl", *MODEL, *words, says="HCLG.fst")
    refused("decode", "--graph", E2E, "--mdl", E2E / "final.nnet", *MODEL, *words, says="<TransitionModel>")
    (tmp_path / "HCLG.fst").write_bytes((E2E / "HCLG.fst").read_bytes()[:-9])
    (tmp_path / "words.txt").write_bytes((E2E / "words.txt").read_bytes())
    refused("decode", "--graph", tmp_path, "--mdl", E2E / "mono.mdl", *MODEL, *words, says=["HCLG.fst", "truncated"])
    with gzip.open(tmp_path / "ali.1.gz", "wb") as file:
        file.write(b"utt000 1 2 13\n")
    refused(*decode("--ali", tmp_path, out=out), says=["1 to 12", "another final.mdl"])
    out.with_suffix(".json").write_text("mine")
    refused(*decode(out=out), says=["hyp.json", "--overwrite"])


@pytest.mark.parametrize("command, package", [("decode", "kaldifst"), ("features", "kaldi-native-fbank")])
def test_a_missing_extra(refused, tmp_path, monkeypatch, command, package):
    from importlib.metadata import PackageNotFoundError

    import limbeck.kaldi.decoding.graph as graph_module

    def version(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(graph_module, "version", version)
    monkeypatch.setitem(sys.modules, "kaldi_native_fbank", None)
    with wave.open(str(tmp_path / "a.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(4000))
    words = decode(out=tmp_path / "hyp") if command == "decode" else ("features", tmp_path, tmp_path / "out")
    refused(*words, says=[package, "pip install 'limbeck[kaldi]'"])


# features.


def test_features_of_a_folder(limbeck, tmp_path):
    for name in ("0_ann_0", "1_bob_0"):
        with wave.open(str(tmp_path / f"{name}.wav"), "wb") as sound:
            sound.setparams((1, 2, 8000, 0, "NONE", ""))
            sound.writeframes(np.random.default_rng(0).integers(-999, 999, 4000).astype("<i2").tobytes())
    done = limbeck("features", tmp_path, tmp_path / "data", "--speaker", "_([a-z]+)_", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out).items() >= {"utterances": 2, "speakers": 2, "dim": 40, "sample_rate": 8000}.items()
    (tmp_path / "text").write_text("0_ann_0 ZERO\n1_bob_0 ONE\n")
    done = limbeck("features", tmp_path, tmp_path / "mfcc", "--kind", "mfcc", "--quiet")
    assert "2 utterances of 2 speakers, 96 frames of 13 features, 1 s at 8,000 Hz" in done.err
    assert (tmp_path / "mfcc" / "text").read_text() == (tmp_path / "text").read_text()
    assert limbeck("info", tmp_path / "data").code == 0


def test_features_that_cannot_be(refused, tmp_path):
    refused("features", tmp_path, tmp_path / "out", says="holds no WAV file")
    refused("features", tmp_path / "nowhere", tmp_path / "out", says="nowhere")
    (tmp_path / "a.wav").write_bytes(b"RIFF\xff\xff\xff\xffWAVE")
    refused("features", tmp_path, tmp_path / "out", says="a.wav")
    refused("features", tmp_path, tmp_path / "out", "--bins", 1, says="bins")
    refused("features", tmp_path, tmp_path, says=["exists already"])


def test_these_commands_import_no_torch():
    names = "limbeck.cli, limbeck.kaldi.summaries, limbeck.kaldi.decoding.judging, limbeck.kaldi.features"
    names += ", limbeck.kaldi.convert"
    probe = f"import sys, {names}"
    subprocess.run([sys.executable, "-c", f"{probe}; assert 'torch' not in sys.modules"], check=True)


# Specifiers and pipes.


def test_forward_in_a_pipe_of_commands(tmp_path):
    """What nnet-forward does between other tools: archive in, archive out, nothing else on the output stream."""
    words = [
        sys.executable,
        "-m",
        "limbeck",
        "forward",
        KALDI / "tiny.nnet.bin",
        "--feats",
        "ark:-",
        "--out",
        "ark,t:-",
    ]
    done = subprocess.run(words, input=(KALDI / "feats.txt.ark").read_bytes(), capture_output=True)
    assert done.returncode == 0, done.stderr
    (tmp_path / "out").write_bytes(done.stdout)
    expected = dict(read_ark(KALDI / "post.kaldi.bin.ark"))
    for key, value in read_ark(tmp_path / "out"):
        np.testing.assert_allclose(value, expected.pop(key), atol=1e-5)
    assert not expected


def test_specifiers_on_the_command_line(limbeck, refused, tmp_path):
    model, out = KALDI / "tiny.nnet.bin", tmp_path / "a.ark"
    feats = f"ark:cat {KALDI / 'feats.txt.ark'} |"
    forward = ("forward", model, "--feats")
    refused(*forward, feats, "--out", out, says="--allow-pipes")
    refused(*forward, KALDI / "feats.txt.ark", "--out", f"ark:| cat > {out}", says="--allow-pipes")
    both = f"ark,scp:{out},{tmp_path / 'a.scp'}"
    refused(*forward, KALDI / "feats.txt.ark", "--out", both, "--scp", tmp_path / "b.scp", says="leave one of them out")
    refused(*forward, KALDI / "feats.txt.ark", "--out", out, "--scp", out, says="as the archive and as its script")
    assert limbeck(*forward, feats, "--allow-pipes", "--out", both).code == 0
    refused(*forward, KALDI / "feats.txt.ark", "--out", f"ark:{out}", says=["exists already", "--overwrite"])
    again = limbeck(*forward, f"scp:{tmp_path / 'a.scp'}", "--out", tmp_path / "b.ark")
    assert again.code == 2 and "5 features" in again.err
    assert limbeck("info", f"scp:{tmp_path / 'a.scp'}").out == limbeck("info", tmp_path / "a.scp").out.replace(
        f"{tmp_path / 'a.scp'}: ", f"scp:{tmp_path / 'a.scp'}: "
    )


# limbeck kaldi.


def test_features_changed_from_archive_to_archive(limbeck, refused, tmp_path):
    feats = KALDI / "feats.txt.ark"
    given = dict(read_ark(feats))
    words = ("kaldi", "apply-cmvn-sliding", f"ark:{feats}", f"ark,scp:{tmp_path / 'a.ark'},{tmp_path / 'a.scp'}")
    assert limbeck(*words, "--center", "--cmn-window", 3, "--norm-vars").code == 0
    settings = SlidingOptions(cmn_window=3, center=True, norm_vars=True)
    found = dict(read_entries(read_scp(tmp_path / "a.scp")))
    assert found.keys() == given.keys()
    for key, frames in given.items():
        np.testing.assert_array_equal(found[key], apply_sliding_cmvn(frames, settings))
    deltas = ("kaldi", "add-deltas", feats, tmp_path / "d.ark", "--delta-order", 1, "--delta-window", 3)
    assert limbeck(*deltas).code == 0
    for key, frames in read_ark(tmp_path / "d.ark"):
        np.testing.assert_array_equal(frames, add_deltas(given[key], order=1, window=3))
    refused(*deltas, says="--overwrite")
    refused("kaldi", "add-deltas", feats, tmp_path / "e.ark", "--delta-window", 0, says="--delta-window")
    refused("kaldi", "add-deltas", "--truncate=2", feats, tmp_path / "e.ark", says="Unknown option: --truncate")
    refused("kaldi", "apply-cmvn-sliding", feats, tmp_path / "e.ark", "--cmn-window", 0, says="--cmn-window")
    refused("kaldi", "add-deltas", "ark:cat a |", tmp_path / "e.ark", says="--allow-pipes")
    refused("kaldi", "add-deltas", KALDI / "tiny.nnet.bin", tmp_path / "e.ark", says="tiny.nnet.bin")


@pytest.mark.parametrize("form", ["ark", "scp"])
def test_online_cmvn_remembers_the_speaker(limbeck, refused, tmp_path, form):
    given = dict(read_ark(KALDI / "feats.txt.ark"))
    write_ark(tmp_path / "f.ark", given, scp=tmp_path / "f.scp")
    keys = sorted(given, reverse=True)
    (tmp_path / "spk2utt").write_text(f"x {keys[0]} gone {keys[1]}\ny {' '.join(keys[2:])}\n")
    overall = sum(accumulate_cmvn(frames) for frames in given.values())
    (tmp_path / "g.mat").write_bytes(b"\0B" + b"".join(bytes(part) for part in matrix_bytes(overall, binary=True)))
    words = ("kaldi", "apply-cmvn-online", tmp_path / "g.mat", f"{form}:{tmp_path / 'f'}.{form}", tmp_path / "a.ark")
    done = limbeck(*words, "--spk2utt", f"ark,t:{tmp_path / 'spk2utt'}", "--cmn-window", 9, "--speaker-frames", 5)
    assert done.code == 0 and "1 utterances of the speakers have no features, the first is gone" in done.err
    found, options = dict(read_ark(tmp_path / "a.ark")), OnlineCmvnOptions(cmn_window=9, speaker_frames=5)
    assert list(found) == keys
    for key, before in ((keys[0], None), (keys[1], accumulate_cmvn(given[keys[0]])), (keys[2], None)):
        np.testing.assert_array_equal(found[key], apply_online_cmvn(given[key], overall, before, options))
    assert limbeck(*words, "--overwrite").code == 0
    alone = dict(read_ark(tmp_path / "a.ark"))
    np.testing.assert_array_equal(alone[keys[1]], apply_online_cmvn(given[keys[1]], overall))
    refused(*words, says="--overwrite")
    (tmp_path / "nobody").write_text("x a b\n")
    refused(*words, "--overwrite", "--spk2utt", tmp_path / "nobody", says="no utterance that the speakers have")
    refused(*words[:2], tmp_path / "f.ark", *words[3:], "--overwrite", says="f.ark")


def test_decode_writes_lattices(limbeck, refused, tmp_path):
    pytest.importorskip("kaldi_decoder")
    feats = tmp_path / "feats.scp"
    feats.write_text("".join((E2E / "feats.scp").read_text().splitlines(keepends=True)[:6]))
    words = ("decode", *MODEL, *DECODE, "--feats", feats, "--feats-root", E2E, "--acoustic-scale", 0.1, "--quiet")
    found = {}
    for form, jobs in (("ark", 1), ("ark,t", 2)):
        out = (
            "--lattices",
            f"{form}:{tmp_path / form}",
            "--lattice-beam",
            6,
            "--jobs",
            jobs,
            "--out",
            tmp_path / "hyp",
        )
        done = limbeck(*words, *out, "--text", f"ark:{E2E / 'text'}", "--overwrite")
        assert done.code == 0, done.err
        found[form] = dict(read_lattices(tmp_path / form))
    symbols = {int(number): word for word, number in map(str.split, (E2E / "words.txt").read_text().splitlines())}
    said, alignments = read_table(E2E / "text"), dict(read_alignments(E2E / "ali.1.gz"))
    hypotheses = read_table(tmp_path / "hyp")
    assert list(found["ark"]) == list(found["ark,t"]) == list(hypotheses)
    for key, lattice in found["ark"].items():
        paths = list(lattice.paths())
        best, weight = min(paths, key=lambda path: path[1].graph + 0.1 * path[1].acoustic)
        assert [symbols[word] for word in best] == hypotheses[key] == said[key]
        assert len(weight.transitions) == len(alignments[key]) and len(paths) > 1
        same = dict(found["ark,t"][key].paths())
        assert same.keys() == dict(paths).keys() and same[best].transitions == weight.transitions
        np.testing.assert_allclose(same[best][:2], weight[:2], rtol=1e-5)
    (tmp_path / "lat.1.gz").write_bytes(gzip.compress((tmp_path / "ark").read_bytes()))
    for name in (tmp_path / "ark", tmp_path / "ark,t", tmp_path / "lat.1.gz", f"ark:{tmp_path / 'ark'}"):
        told = json.loads(limbeck("info", name, "--json").out)
        assert (told["kind"], told["utterances"]) == ("lattices", 6)
        assert told["arcs"] == sum(len(lattice.arcs) for lattice in found["ark"].values())
    taken = (*words, "--out", tmp_path / "other")
    refused(*taken, "--lattices", tmp_path / "ark", says="--overwrite")
    refused(*taken, "--lattice-beam", 4, says="--lattice-beam belongs to --lattices")
    refused(*taken, "--lattices", tmp_path / "x", "--max-active", 500, says="--max-active is not for")
    refused(*taken, "--lattices", tmp_path / "x", "--lattice-beam", 0, says="--lattice-beam must be positive")
    refused(*taken, "--lattices", "ark:| cat", says="--allow-pipes")
