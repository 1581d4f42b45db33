"""Normalisation and deltas against slow float64 versions, and statistics that Kaldi wrote."""

from pathlib import Path

import numpy as np
import pytest

from limbeck.errors import DataError, MismatchError
from limbeck.formats.kaldi_cmvn import accumulate_cmvn, add_deltas, apply_cmvn
from limbeck.formats.kaldi_table import open_stream, read_ark, read_object
from limbeck.formats.nnet1 import read_nnet
from limbeck.nnet1_forward import propagate

KALDI = Path(__file__).parent.parent / "fixtures" / "kaldi"
FRAMES = np.random.default_rng(0).normal(3, 2, (50, 4)).astype(np.float32)


def test_statistics_are_those_that_kaldi_summed_up_over_the_spliced_frames():
    """The recipe's global statistics come after its splice, which is the first component of the transform."""
    with open_stream(KALDI / "e2e/cmvn-g.stats") as stream:
        kaldi = read_object(stream, "matrix", dtype=np.float64)
    splice = type(read_nnet(KALDI / "e2e/final.feature_transform"))(
        read_nnet(KALDI / "e2e/final.feature_transform").components[:1]
    )
    ours = sum(accumulate_cmvn(propagate(splice, frames)) for _, frames in read_ark(KALDI / "e2e/feats.ark"))
    np.testing.assert_allclose(ours, kaldi, rtol=1e-5, atol=1e-2)


def test_normalised_frames_have_mean_zero_and_variance_one():
    stats = accumulate_cmvn(FRAMES[:20]) + accumulate_cmvn(FRAMES[20:])
    np.testing.assert_allclose(stats, accumulate_cmvn(FRAMES))
    centred, scaled = apply_cmvn(FRAMES, stats), apply_cmvn(FRAMES, stats, variance=True)
    np.testing.assert_allclose(centred, FRAMES - FRAMES.mean(0), atol=1e-5)
    np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.std(0), 1, atol=1e-5)
    assert centred.dtype == scaled.dtype == np.float32


def test_a_feature_that_never_changes_stays_finite():
    frames = np.full((5, 2), 7.0, np.float32)
    assert np.isfinite(apply_cmvn(frames, accumulate_cmvn(frames), variance=True)).all()


def test_statistics_that_do_not_fit():
    with pytest.raises(MismatchError, match=r"\(2, 4\) for frames of 4 features"):
        apply_cmvn(FRAMES, np.ones((2, 4)))
    for wrong in (np.zeros((2, 5)), np.full((2, 5), np.nan)):
        with pytest.raises(DataError, match="statistics of"):
            apply_cmvn(FRAMES, wrong)


def test_deltas_against_the_slow_loop():
    def slow(frames):
        last = len(frames) - 1
        # Kaldi extends the edges of the features, and filters once for each order.
        ramp = {j: j / 10 for j in range(-2, 3)}
        double = {}
        for i, a in ramp.items():
            for j, b in ramp.items():
                double[i + j] = double.get(i + j, 0) + a * b
        parts = [frames]
        for taps in (ramp, double):
            parts.append([sum(t * frames[min(max(n + j, 0), last)] for j, t in taps.items()) for n in range(last + 1)])
        return np.concatenate(parts, 1)

    np.testing.assert_allclose(add_deltas(FRAMES), slow(FRAMES.astype(float)), atol=1e-5)
    np.testing.assert_allclose(add_deltas(FRAMES[:1]), slow(FRAMES[:1].astype(float)), atol=1e-5)
    np.testing.assert_array_equal(add_deltas(FRAMES, order=0), FRAMES)
