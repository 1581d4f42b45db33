"""Training as an experiment's folder says, with i-vectors: trained, run, taught from, converted and decoded."""

import json
from pathlib import Path

import numpy as np
import pytest

import limbeck as lb
from limbeck.data import open_data
from limbeck.kaldi.formats.lines import read_map
from limbeck.kaldi.formats.matrix import matrix_bytes
from limbeck.kaldi.formats.nnet1 import Nnet, read_nnet, write_nnet
from limbeck.kaldi.formats.nnet1_components import AffineTransform
from limbeck.kaldi.formats.table import read_ark
from limbeck.kaldi.formats.write import write_ark
from limbeck.kaldi.options import SpeechOptions
from limbeck.kaldi.transforms import with_ivector

KALDI = Path(__file__).parent.parent / "fixtures" / "kaldi"
SO762 = KALDI / "so762"
E2E = KALDI / "e2e"
QUICK = ("--hidden", 8, "--epochs", 1, "--batch-size", 1024, "--precision", "float32", "--quiet")


@pytest.fixture(scope="module")
def done(limbeck):
    def run(*words):
        found = limbeck(*words)
        assert found.code == 0, found.err
        return found

    return run


@pytest.fixture(scope="module")
def refused(limbeck):
    def run(*words, says):
        found = limbeck(*words)
        assert found.code == 2 and found.err.count("\n") == 1 and says in found.err, found.err

    return run


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """An experiment's folder whose features go through CMVN, LDA and MLLT, and i-vectors of its speakers."""
    place, random = tmp_path_factory.mktemp("experiment"), np.random.default_rng(0)
    exp = place / "exp"
    exp.mkdir()
    (exp / "cmvn_opts").write_text("--norm-means=true --norm-vars=true\n")
    (exp / "splice_opts").write_text("--left-context=1 --right-context=2\n")
    (exp / "ivector_dim").write_text("3\n")
    matrix = random.normal(0, 0.1, (20, 40 * 4 + 1)).astype(np.float32)
    (exp / "final.mat").write_bytes(b"\0B" + b"".join(bytes(part) for part in matrix_bytes(matrix, binary=True)))
    names = {name for part in ("train", "dev", "test") for name in read_map(SO762 / part / "utt2spk").values()}
    write_ark(place / "spk.ark", {name: random.normal(size=3).astype(np.float32) for name in sorted(names)})
    return place


@pytest.fixture(scope="module")
def given(here):
    vectors = here / "spk.ark"
    return (
        *("--data", SO762 / "train", "--ali", SO762 / "ali_train", "--ivectors", vectors),
        *("--validation-data", SO762 / "dev", "--validation-ali", SO762 / "ali_dev", "--validation-ivectors", vectors),
        *("--exp", here / "exp"),
    )


@pytest.fixture(scope="module")
def trained(done, here, given):
    done("train", *given, *QUICK, "--out", here / "run")
    return here / "run"


def opened(given, **more):
    words = zip((str(word)[2:].replace("-", "_") for word in given[::2]), map(str, given[1::2]), strict=True)
    return open_data(SpeechOptions(**dict(words), **more))


def validation_of(given):
    return opened(given).validation


def test_the_folder_says_how_inputs_are_made(here, given, trained):
    config = json.loads((trained / "model" / "config.json").read_text())
    assert config["front_end"] == {"offsets": [-1, 0, 1, 2], "cmvn": "speaker", "norm_vars": True, "deltas": 0,
                                   "every": 1, "feature_transform": True, "ivector_dim": 3}  # fmt: skip
    assert config["input_shape"] == [23]
    # Flags win.
    other = opened(given, left=3, right=0, deltas=1, norm_vars=False).reading
    assert other.splicing.offsets == (-3, -2, -1, 0) and other.splicing.after is None
    assert (other.deltas, other.norm_vars, other.ivector_dim) == (1, False, 3)


def test_forward_gives_what_the_model_answers(done, refused, here, given, trained):
    out = here / "post.ark"
    words = ("forward", trained, "--feats", SO762 / "dev", "--overwrite", "--quiet", "--out", out)
    speakers = ("--ivectors", here / "spk.ark", "--utt2spk", SO762 / "dev" / "utt2spk")
    done(*words, *speakers)
    dev = validation_of(given)
    expected = lb.load(trained)(dev.as_seen(slice(None))).softmax(1).detach().numpy()
    by_run = np.concatenate([frames for _, frames in read_ark(out)])
    np.testing.assert_allclose(by_run, expected, atol=1e-6)
    # The same as a network of nnet1 with the transform that Kaldi would be given.
    done("convert", trained, here / "am.nnet", "--overwrite")
    flags = ("--cmvn", "speaker", "--norm-vars", "--feature-transform", trained / "model" / "final.feature_transform")
    done("forward", here / "am.nnet", *flags, *words[2:], *speakers)
    np.testing.assert_allclose(np.concatenate([frames for _, frames in read_ark(out)]), by_run, atol=1e-6)
    refused(*words, says="was trained with i-vectors of 3 values: give --ivectors")
    write_ark(here / "wide.ark", {"x": np.ones(4, np.float32)})
    refused(*words, "--ivectors", here / "wide.ark", says="i-vectors of 4 values, and")
    refused(*words, *speakers[:2], says="are they of speakers? Give --utt2spk")


def test_it_teaches(done, refused, here, given, trained):
    done("soften", *given, "--teacher", trained, "--precision", "float32", "--dtype", "float32",
         "--write-posteriors", here / "train.ark", "--out", here / "targets")  # fmt: skip
    done("forward", trained, "--feats", SO762 / "train", "--ivectors", here / "spk.ark", "--quiet",
         "--utt2spk", SO762 / "train" / "utt2spk", "--out", here / "again.ark")  # fmt: skip
    again = dict(read_ark(here / "again.ark"))
    for key, posteriors in read_ark(here / "train.ark"):
        np.testing.assert_allclose(posteriors, again[key], atol=1e-5)
    done("distill", *given, "--teacher-targets", here / "targets", "--no-baseline", *QUICK, "--out", here / "student")
    dev = ("--data", SO762 / "dev", "--ali", SO762 / "ali_dev", "--mdl", SO762 / "ali_train" / "final.mdl")
    judged = json.loads(done("evaluate", here / "student", *dev, "--ivectors", here / "spk.ark", "--json").out)
    examples = validation_of(given)
    guesses = lb.load(here / "student")(examples.as_seen(slice(None))).argmax(1)
    assert judged["test_errors"] == int((guesses != examples.labels).sum()) > 0
    refused("evaluate", here / "student", *dev, says="trained with i-vectors of 3 values")
    without = [word for name, word in zip(given[::2], given[1::2], strict=True) if "ivector" not in str(name)]
    flags = [word for pair in zip((n for n in given[::2] if "ivector" not in n), without, strict=True) for word in pair]
    refused("soften", *flags, "--teacher", trained, "--out", here / "x", says="are appended to features, and none")
    refused("soften", *flags[:-2], "--teacher", trained, "--out", here / "x",
            says="was trained with i-vectors of 3 values")  # fmt: skip


def test_words_with_ivectors_that_weigh_nothing_are_the_words_without(done, tmp_path):
    pytest.importorskip("kaldi_decoder")
    first, *others = read_nnet(E2E / "final.nnet").components
    exp = tmp_path / "exp"
    exp.mkdir()
    weight = np.c_[first.weight, np.zeros((first.output_dim, 2), np.float32)]
    write_nnet(exp / "final.nnet", Nnet((AffineTransform(weight, first.bias), *others)))
    write_nnet(exp / "final.feature_transform", with_ivector(read_nnet(E2E / "final.feature_transform"), 2))
    (exp / "ivector_dim").write_text("2")
    lines = (E2E / "feats.scp").read_text().splitlines(keepends=True)[:8]
    (tmp_path / "feats.scp").write_text("".join(lines))
    vectors = {line.split()[0]: np.full((1 + 100, 2), 9, np.float32) for line in lines}
    write_ark(tmp_path / "online.ark", vectors)
    given = ("--feats", tmp_path / "feats.scp", "--feats-root", E2E, "--graph", E2E, "--mdl", E2E / "mono.mdl",
             "--text", E2E / "text", "--class-frame-counts", E2E / "ali_train_pdf.counts", "--quiet")  # fmt: skip
    done("decode", "--model", exp / "final.nnet", "--exp", exp, "--online-ivectors", tmp_path / "online.ark",
         "--online-ivector-period", 5, *given, "--out", tmp_path / "with")  # fmt: skip
    done("decode", "--model", E2E / "final.nnet", "--feature-transform", E2E / "final.feature_transform", *given,
         "--out", tmp_path / "without")  # fmt: skip
    assert (tmp_path / "with").read_text() == (tmp_path / "without").read_text()
    assert json.loads((tmp_path / "with.json").read_text())["wer"] == 0


@pytest.mark.slow
def test_a_run_goes_on_and_is_compressed_as_it_was_trained(done, here, given, trained):
    done("train", *given, *QUICK, "--resume", "--out", trained)
    done("compress", trained, "--rank", 4, "--finetune-epochs", 1, "--temperature", 1, "--precision", "float32",
         "--quiet", "--out", here / "small")  # fmt: skip
    front = json.loads((here / "small" / "model" / "config.json").read_text())["front_end"]
    assert front == json.loads((trained / "model" / "config.json").read_text())["front_end"]
    words = ("--feats", SO762 / "dev", "--ivectors", here / "spk.ark", "--utt2spk", SO762 / "dev" / "utt2spk")
    done("forward", here / "small", *words, "--quiet", "--out", here / "small.ark")
    by_run = np.concatenate([frames for _, frames in read_ark(here / "small.ark")])
    expected = lb.load(here / "small")(validation_of(given).as_seen(slice(None))).softmax(1).detach().numpy()
    np.testing.assert_allclose(by_run, expected, atol=1e-6)
