"""CMVN, deltas and context against slow obvious versions, and Kaldi's feature transform against nnet-forward."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.data.speech.frontend import add_deltas, divide_transform, normalise, splice, statistics_of
from limbeck.errors import ConfigError, DataError, MismatchError
from limbeck.formats import nnet1_components as nc
from limbeck.formats.kaldi_table import read_ark
from limbeck.formats.nnet1 import Nnet, read_nnet
from limbeck.nnet1_forward import propagate

E2E = Path(__file__).parent.parent / "fixtures" / "kaldi" / "e2e"


def frames(count=9, features=3, seed=0):
    return np.random.default_rng(seed).normal(3, 2, (count, features)).astype(np.float32)


def test_cmvn_makes_mean_nought_and_variance_one():
    some = frames(50)
    normal = normalise(some, statistics_of(some), norm_vars=True).astype(np.float64)
    np.testing.assert_allclose(normal.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(normal.std(0), 1, atol=1e-6)
    centred = normalise(some, statistics_of(some))
    np.testing.assert_allclose(centred, some - some.astype(np.float64).mean(0), atol=1e-6)


def test_cmvn_of_a_speaker_adds_the_statistics_of_utterances():
    first, second = frames(20, seed=1), frames(30, seed=2)
    together = statistics_of(np.concatenate([first, second]))
    np.testing.assert_allclose(statistics_of(first) + statistics_of(second), together)


def test_a_feature_that_never_changes_stays_finite():
    some = frames()
    some[:, 1] = 4
    assert np.isfinite(normalise(some, statistics_of(some), norm_vars=True)).all()


@pytest.mark.parametrize(
    ("statistics", "error", "says"),
    [
        (np.zeros((2, 9)), MismatchError, "3 features"),
        (np.zeros((2, 4)), DataError, "0.0 frames"),
        (np.array([[1.0, np.nan, 1, 5], [1, 1, 1, 0]]), DataError, "NaN"),
        (np.array([[1.0, 1, 1, 5]]), DataError, "without sums of squares"),
    ],
)
def test_statistics_that_cannot_be_used(statistics, error, says):
    with pytest.raises(error, match=says):
        normalise(frames(), statistics, norm_vars=True)


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
    some = frames(count)
    np.testing.assert_allclose(add_deltas(some, order), slow_deltas(some, order), atol=1e-5)


@given(st.integers(1, 8), st.lists(st.integers(-5, 5), min_size=1, max_size=6, unique=True))
def test_splicing_is_what_nnet_forward_does(count, offsets):
    some = frames(count)
    by_kaldi = propagate(Nnet((nc.Splice(3, tuple(offsets)),)), some)
    np.testing.assert_array_equal(splice(some, tuple(offsets)).reshape(count, -1), by_kaldi)


def test_a_transform_divided_at_its_splice_is_the_whole():
    transform = read_nnet(E2E / "final.feature_transform")
    before, splicing = divide_transform(transform)
    assert splicing is not None
    for _, matrix in read_ark(E2E / "feats.ark"):
        single = matrix if before is None else propagate(before, matrix)
        spliced = splice(single, splicing.offsets).reshape(len(single), -1)
        result = spliced if splicing.after is None else propagate(splicing.after, spliced)
        np.testing.assert_array_equal(result, propagate(transform, matrix))


def test_transforms_that_cannot_be_divided():
    splices = nc.Splice(2, (0,))
    with pytest.raises(ConfigError, match="two splices"):
        divide_transform(Nnet((splices, splices)))
    with pytest.raises(ConfigError, match="<Sigmoid>"):
        divide_transform(Nnet((splices, nc.Sigmoid(2))))
    assert divide_transform(Nnet((nc.Sigmoid(2),)))[1] is None
