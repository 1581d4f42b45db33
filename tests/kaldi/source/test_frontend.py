"""Context against what nnet-forward splices, and Kaldi's feature transform against nnet-forward."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.errors import ConfigError
from limbeck.kaldi.formats import nnet1_components as nc
from limbeck.kaldi.formats.nnet1 import Nnet, read_nnet
from limbeck.kaldi.formats.table import read_ark
from limbeck.kaldi.forward import propagate
from limbeck.kaldi.source.frontend import divide_transform, splice

E2E = Path(__file__).parents[2] / "fixtures" / "kaldi" / "e2e"


def frames(count=9, features=3, seed=0):
    return np.random.default_rng(seed).normal(3, 2, (count, features)).astype(np.float32)


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
