"""CMVN over a window that goes along, against the plain definition, frame by frame in float64."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from limbeck.errors import ConfigError, DataError
from limbeck.kaldi.formats.cmvn import accumulate_cmvn, apply_cmvn
from limbeck.kaldi.formats.sliding import apply_sliding_cmvn
from limbeck.kaldi.options import SlidingOptions


def slowly(frames, options):
    found = np.empty(frames.shape)
    for t in range(len(frames)):
        first, end = t - options.cmn_window, t + 1
        if options.center:
            first = t - options.cmn_window // 2
            end = first + options.cmn_window
        if first < 0:
            first, end = 0, end - first
        if not options.center:
            end = max(t + 1, options.min_cmn_window)
        if end > len(frames):
            first, end = max(0, first - (end - len(frames))), len(frames)
        window = frames[first:end].astype(np.float64)
        found[t] = frames[t] - window.mean(0)
        if options.norm_vars:
            found[t] = 0 if len(window) == 1 else found[t] / np.sqrt(np.maximum(window.var(0), 1e-10))
    return found


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 50), st.integers(1, 50), st.booleans(), st.booleans(), st.integers(0, 99))
@example(40, 10, 1, True, False, 0)  # an even window reaches further back than ahead
@example(40, 11, 1, True, True, 0)
@example(40, 10, 5, False, True, 0)
def test_against_the_definition(count, window, least, center, norm_vars, seed):
    frames = np.random.default_rng(seed).standard_normal((count, 3)).astype(np.float32)
    options = SlidingOptions(cmn_window=window, min_cmn_window=least, center=center, norm_vars=norm_vars)
    np.testing.assert_allclose(apply_sliding_cmvn(frames, options), slowly(frames, options), atol=2e-5, rtol=1e-4)


def test_a_window_as_long_as_the_utterance_is_the_utterance():
    frames = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32) + 5
    whole = apply_cmvn(frames, accumulate_cmvn(frames), variance=True)
    options = SlidingOptions(cmn_window=100, center=True, norm_vars=True)
    np.testing.assert_allclose(apply_sliding_cmvn(frames, options), whole, atol=1e-4)


def test_what_is_refused():
    with pytest.raises(ConfigError, match="cmn_window must be from 1"):
        SlidingOptions(cmn_window=0)
    with pytest.raises(DataError, match="NaN or infinity"):
        apply_sliding_cmvn(np.array([[np.nan]], np.float32))
