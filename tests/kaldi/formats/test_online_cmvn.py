"""CMVN over what was heard so far, against Kaldi's rule in its own words: slow, in float64, frame by frame."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.errors import ConfigError, DataError, MismatchError
from limbeck.kaldi.formats.cmvn import accumulate_cmvn, apply_cmvn
from limbeck.kaldi.formats.online_cmvn import apply_online_cmvn
from limbeck.kaldi.options import OnlineCmvnOptions

# No output of the real tool is among the fixtures. This is its rule, read in Kaldi's feat/online-feature.cc.


def slowly(frames, overall, speaker, options):
    found = np.array(frames, np.float64)
    for t in range(len(frames)):
        total = np.zeros((2, frames.shape[1] + 1))
        for heard in frames[max(0, t + 1 - options.cmn_window) : t + 1].astype(np.float64):
            total[0] += [*heard, 1]
            total[1] += [*heard**2, 0]
        for stats, most in ((speaker, options.speaker_frames), (overall, options.global_frames)):
            wanted = options.cmn_window - total[0, -1]
            if stats is None or wanted <= 0:
                continue
            wanted = min(wanted, most)
            if stats is speaker:
                wanted = min(wanted, stats[0, -1])
            total += wanted / stats[0, -1] * stats
        mean = total[0, :-1] / total[0, -1]
        for d in range(frames.shape[1]):
            if str(d) not in options.skip_dims.split(":"):
                found[t, d] -= mean[d]
                if options.norm_vars:
                    found[t, d] /= np.sqrt(max(total[1, d] / total[0, -1] - mean[d] ** 2, 1e-20))
    return found


def random_frames(generator, count):
    return (generator.standard_normal((count, 3)) * [1, 2, 3] + [0, 4, -2]).astype(np.float32)


@settings(max_examples=80, deadline=None)
@given(
    st.integers(1, 40), st.integers(1, 50), st.integers(0, 50), st.integers(1, 50), st.integers(0, 60), st.booleans(),
    st.sampled_from(["", "1", "0:2"]), st.integers(0, 99),
)  # fmt: skip
def test_against_the_rule(count, window, of_speaker, of_all, before, norm_vars, skip_dims, seed):
    generator = np.random.default_rng(seed)
    frames, overall = random_frames(generator, count), accumulate_cmvn(random_frames(generator, 70))
    speaker = accumulate_cmvn(random_frames(generator, before)) if before else None
    norm_vars = norm_vars and window > 2  # of one or two frames the variance is what rounding left
    options = OnlineCmvnOptions(
        cmn_window=window, speaker_frames=of_speaker, global_frames=of_all, norm_vars=norm_vars, skip_dims=skip_dims
    )
    found = apply_online_cmvn(frames, overall, speaker, options)
    np.testing.assert_allclose(found, slowly(frames, overall, speaker, options), atol=2e-4, rtol=1e-4)


def test_the_limits():
    generator = np.random.default_rng(0)
    frames, overall = random_frames(generator, 30), accumulate_cmvn(random_frames(generator, 900))
    # Where the global statistics weigh much more than the frames, it is apply-cmvn with them.
    heavy = OnlineCmvnOptions(cmn_window=1_000_000, global_frames=1_000_000, norm_vars=True)
    np.testing.assert_allclose(
        apply_online_cmvn(frames, overall, None, heavy), apply_cmvn(frames, overall, variance=True), atol=1e-3
    )
    # The last frame of an utterance without other statistics sees the mean of all of it.
    alone = apply_online_cmvn(frames, overall, None, OnlineCmvnOptions(global_frames=0))
    np.testing.assert_allclose(alone[-1], apply_cmvn(frames, accumulate_cmvn(frames))[-1], atol=1e-5)
    # Speakers are heard on: an utterance cut in two is normalised as it was, within the window.
    nothing = OnlineCmvnOptions(global_frames=0)
    second = apply_online_cmvn(frames[12:], overall, accumulate_cmvn(frames[:12]), nothing)
    np.testing.assert_allclose(second, alone[12:], atol=1e-5)
    assert apply_online_cmvn(frames, overall, None, OnlineCmvnOptions(norm_means=False)) is frames


def test_what_is_refused():
    frames, overall = np.ones((2, 3), np.float32), accumulate_cmvn(np.ones((2, 3), np.float32))
    for wrong, says in (({"cmn_window": 0}, "cmn_window must be from 1"), ({"global_frames": -1}, "global_frames"),
                        ({"norm_means": False, "norm_vars": True}, "needs norm_means")):  # fmt: skip
        with pytest.raises(ConfigError, match=says):
            OnlineCmvnOptions(**wrong)
    with pytest.raises(MismatchError, match="which need"):
        apply_online_cmvn(frames[:, :2], overall)
    with pytest.raises(DataError, match="hold no frame"):
        apply_online_cmvn(frames, overall * 0)
    with pytest.raises(DataError, match="NaN"):
        apply_online_cmvn(frames * np.nan, overall)
    with pytest.raises(ConfigError, match="skip_dims has '3'"):
        apply_online_cmvn(frames, overall, options=OnlineCmvnOptions(skip_dims="0:3"))
