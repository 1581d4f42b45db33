"""The forward pass against the outputs of Kaldi's nnet-forward, and each component against its definition."""

from pathlib import Path

import numpy as np
import pytest

from limbeck.errors import ConfigError, DataError, FormatError, MismatchError
from limbeck.kaldi.formats import nnet1_components as nc
from limbeck.kaldi.formats.nnet1 import Nnet, read_nnet
from limbeck.kaldi.formats.table import read_ark
from limbeck.kaldi.forward import forward, likelihoods, log_priors, propagate, read_pdf_counts, without_softmax

KALDI = Path(__file__).parent.parent / "fixtures" / "kaldi"


def compare(nnet, feats, reference, tolerance, **options):
    frames, expected = dict(read_ark(KALDI / feats)), dict(read_ark(KALDI / reference))
    assert frames.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_allclose(forward(nnet, frames[key], **options), value, rtol=0, atol=tolerance)


@pytest.mark.parametrize("suffix", [".nnet.bin", ".nnet.txt", ".seed.txt", ".kaldi.txt"])
def test_posteriors_and_likelihoods_of_a_sigmoid_network(suffix):
    nnet, counts = read_nnet(KALDI / f"tiny{suffix}"), read_pdf_counts(KALDI / "pdf.counts")
    compare(nnet, "feats.txt.ark", "post.kaldi.bin.ark", 1e-5)
    compare(nnet, "feats.txt.ark", "logit.kaldi.txt.ark", 1e-4, no_softmax=True)
    compare(nnet, "feats.txt.ark", "llk.kaldi.txt.ark", 1e-4, no_softmax=True, counts=counts)
    compare(nnet, "feats.txt.ark", "loglik_softmax.kaldi.txt.ark", 1e-4, apply_log=True, counts=counts)


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("relu.nnet.bin", "relu"),
        ("relu.nnet.txt", "relu"),
        ("relu.seed.txt", "relu"),
        ("relu.svd_full.nnet.bin", "relu.svd_full"),
        ("relu.svd_low.nnet.bin", "relu.svd_low"),
        ("relu.seed.svd.txt", "relu.svd_low"),
    ],
)
def test_posteriors_of_relu_networks_behind_a_splice(name, reference):
    nnet, transform = read_nnet(KALDI / name), read_nnet(KALDI / "splice2.nnet.txt")
    tolerance = 1e-5 if "seed" not in name else 2e-5  # the older text has seven digits
    compare(nnet, "raw3.txt.ark", f"{reference}.post.txt.ark", tolerance, feature_transform=transform)


@pytest.mark.parametrize("path", ["relu.seed.txt", "relu.seed.svd.txt"])
def test_for_kaldi_changes_no_output(path):
    nnet = read_nnet(KALDI / path)
    frames = np.random.default_rng(0).standard_normal((9, nnet.input_dim)).astype(np.float32)
    np.testing.assert_array_equal(propagate(nnet, frames), propagate(nnet.for_kaldi(), frames))


def test_against_the_float64_reference():
    reference, nnet = np.load(KALDI / "tiny_reference.npz"), read_nnet(KALDI / "tiny.nnet.bin")
    for key in ("utt1", "utt2", "utt3"):
        np.testing.assert_allclose(forward(nnet, reference[f"{key}_x"]), reference[f"{key}_post"], atol=1e-6)
        logits = forward(nnet, reference[f"{key}_x"], no_softmax=True)
        np.testing.assert_allclose(logits, reference[f"{key}_logit"], atol=1e-6)


def test_feature_transform_normalises_the_data_that_it_was_made_of():
    transform = read_nnet(KALDI / "e2e/final.feature_transform")
    spliced = np.concatenate([propagate(transform, frames) for _, frames in read_ark(KALDI / "e2e/feats.ark")])
    np.testing.assert_allclose(spliced.mean(0), 0, atol=0.05)
    np.testing.assert_allclose(spliced.std(0), 1, atol=0.05)


def test_the_trained_network_knows_its_alignments():
    nnet, transform = read_nnet(KALDI / "e2e/final.nnet"), read_nnet(KALDI / "e2e/final.feature_transform")
    pdfs = dict(read_ark(KALDI / "e2e/alipdf.txt", "integers"))
    right = total = 0
    for key, frames in read_ark(KALDI / "e2e/feats.ark"):
        posteriors = forward(nnet, frames, feature_transform=transform)
        np.testing.assert_allclose(posteriors.sum(1), 1, atol=1e-6)
        right += int((posteriors.argmax(1) == pdfs[key]).sum())
        total += len(frames)
    assert right / total > 0.9


def test_components_against_their_definitions():
    x = np.float32([[-2, 0, 3, 1]])
    cases = [
        (nc.Sigmoid(4), 1 / (1 + np.exp(-x.astype(float)))),
        (nc.Tanh(4), np.tanh(x.astype(float))),
        (nc.Relu(4), [[0, 0, 3, 1]]),
        (nc.Linear(4), x),
        (nc.Dropout(4, 0.5), x),
        (nc.ParametricRelu(np.float32([1, 1, 2, 3]), np.float32([0.5, 1, 1, 1])), [[-1, 0, 6, 3]]),
        (nc.Maxout(4, 2), [[0, 3]]),
        (nc.Copy(4, (3, 3, 0)), [[1, 1, -2]]),
        (nc.AddShift(np.float32([1, 2, 3, 4])), [[-1, 2, 6, 5]]),
        (nc.Rescale(np.float32([1, 2, 3, 4])), [[-2, 0, 9, 4]]),
        (nc.LengthNormComponent(4), x / np.sqrt(14)),
        (nc.HiddenSoftmax(4), np.exp(x) / np.exp(x).sum()),
        (nc.BlockSoftmax((1, 3)), [[1, *(np.exp(x[0, 1:]) / np.exp(x[0, 1:]).sum())]]),
    ]
    for component, expected in cases:
        got = propagate(Nnet((component,)), x)
        assert got.dtype == np.float32, component.tag
        np.testing.assert_allclose(got, expected, atol=1e-6, err_msg=component.tag)


def test_extreme_inputs_give_no_nan():
    x = np.float32([[-1e30, 0, 1e30, 200]])
    for component in (nc.Sigmoid(4), nc.Softmax(4), nc.BlockSoftmax((2, 2)), nc.Tanh(4)):
        assert np.isfinite(propagate(Nnet((component,)), x)).all()
    assert not propagate(Nnet((nc.LengthNormComponent(2),)), np.zeros((1, 2), np.float32)).any()


def test_splice_against_the_slow_loop():
    frames = np.random.default_rng(0).standard_normal((5, 2)).astype(np.float32)
    offsets = (-7, -1, 0, 2, 9)
    slow = [[frames[min(max(n + o, 0), 4)] for o in offsets] for n in range(5)]
    np.testing.assert_array_equal(propagate(Nnet((nc.Splice(2, offsets),)), frames), np.reshape(slow, (5, 10)))


def test_priors_have_a_floor():
    priors = log_priors(np.float32([1, 3, 0]))
    np.testing.assert_allclose(priors[:2], np.log([0.25, 0.75]), rtol=1e-6)
    assert priors[2] == np.float32(1.8446743e19)
    assert log_priors(np.float32([1, 0]), floor=0)[1] == pytest.approx(np.log(1e-20), rel=1e-6)
    for wrong in ([0, 0], [-1, 2], [np.inf, 1], [[1, 2]]):
        with pytest.raises(DataError):
            log_priors(np.float32(wrong))


def test_prior_scale():
    nnet, counts = read_nnet(KALDI / "tiny.nnet.bin"), read_pdf_counts(KALDI / "pdf.counts")
    frames = np.ones((1, 3), np.float32)
    plain, half = (forward(nnet, frames, no_softmax=True, counts=counts, prior_scale=scale) for scale in (0, 0.5))
    np.testing.assert_allclose(plain - half, 0.5 * log_priors(counts)[None], atol=1e-5)


def test_mismatches_are_named(tmp_path):
    nnet, frames = read_nnet(KALDI / "tiny.nnet.bin"), np.ones((2, 3), np.float32)
    with pytest.raises(ConfigError, match="exclude"):
        forward(nnet, frames, no_softmax=True, apply_log=True)
    with pytest.raises(ConfigError, match="log-priors"):
        forward(nnet, frames, counts=np.ones(5))
    with pytest.raises(MismatchError, match="counts of 4 pdfs"):
        forward(nnet, frames, no_softmax=True, counts=np.ones(4))
    with pytest.raises(MismatchError, match="2 features"):
        forward(nnet, frames[:, :2])
    with pytest.raises(DataError, match="at least one row"):
        propagate(nnet, frames[:0])
    (tmp_path / "counts").write_text(" [ 1 2 ]\n [ 3 ]\n")
    with pytest.raises(FormatError, match="bytes follow"):
        read_pdf_counts(tmp_path / "counts")
    assert without_softmax(Nnet((nc.Softmax(2),))).components == (nc.Softmax(2),)


def test_the_logarithm_of_no_mass_at_all_is_finite():
    """nnet-forward adds 1e-20 before each logarithm."""
    found = likelihoods(np.array([[0.0, 1.0]], np.float32), apply_log=True)
    np.testing.assert_allclose(found, [[np.log(1e-20), 0.0]], rtol=1e-6)
