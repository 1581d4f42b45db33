"""Normalisation and deltas against slow float64 versions, and statistics that Kaldi wrote."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.errors import DataError, MismatchError
from limbeck.kaldi.formats.cmvn import accumulate_cmvn, add_deltas, apply_cmvn
from limbeck.kaldi.formats.nnet1 import read_nnet
from limbeck.kaldi.formats.table import open_stream, read_ark, read_object
from limbeck.kaldi.forward import propagate

KALDI = Path(__file__).parents[2] / "fixtures" / "kaldi"
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


def test_sums_alone_serve_the_mean_alone():
    stats = accumulate_cmvn(FRAMES)
    np.testing.assert_array_equal(apply_cmvn(FRAMES, stats[:1]), apply_cmvn(FRAMES, stats))
    with pytest.raises(DataError, match="without sums of squares"):
        apply_cmvn(FRAMES, stats[:1], variance=True)


def slow_deltas(some, order):
    """As Kaldi's DeltaFeatures: the kernel of each order is the one before it, convolved with -2 -1 0 1 2 over 10."""
    kernels = [np.array([1.0])]
    for _ in range(order):
        grown = np.zeros(len(kernels[-1]) + 4)
        for place, weight in enumerate(kernels[-1]):
            for step in range(-2, 3):
                grown[place + step + 2] += weight * step / 10
        kernels.append(grown)
    result = []
    for time in range(len(some)):
        row = []
        for kernel in kernels:
            reach = len(kernel) // 2
            total = np.zeros(some.shape[1])
            for place, weight in enumerate(kernel):
                total += weight * some[min(max(time + place - reach, 0), len(some) - 1)]
            row.append(total)
        result.append(np.concatenate(row))
    return np.array(result)


@given(st.integers(1, 12), st.integers(0, 3))
def test_deltas_are_those_of_the_slow_version(count, order):
    some = FRAMES[:count]
    np.testing.assert_allclose(add_deltas(some, order=order), slow_deltas(some, order), atol=1e-5)


def test_a_variance_that_rounding_makes_negative_is_the_floor():
    stats = np.array([[2.0, 6.0, 2.0], [2.0 - 1e-12, 20.0, 0.0]])  # variances of -5e-13 and 1
    found = apply_cmvn(np.array([[1.0, 4.0]], np.float32), stats, variance=True)
    np.testing.assert_allclose(found, [[0.0, 1.0]])


@pytest.mark.parametrize(
    ("value", "total", "variance"), [(1.0, 1e300, False), (1.0, 1e300, True), (3e38, 0.0, True), (1.0, -1e39, False)]
)
def test_statistics_that_make_features_infinite_are_told(value, total, variance):
    stats = np.array([[1.0, total, 1.0], [1.0, 0.0, 0.0]])
    frames = np.array([[0.0, 0.0], [0.0, value]], np.float32)
    with pytest.raises(DataError, match=r"feature 1 of frame [01] is not finite"):
        apply_cmvn(frames, stats, variance=variance)
