"""The profile of the tail: conditional means against a slow oracle, identities of the normal law, and its use."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, rel_entr

from limbeck.softtargets import TopK, tail
from limbeck.softtargets.decoding import decoded, profile_tensors
from limbeck.softtargets.tail import DEEPEST, TailProfile, learn_profile, mean_weights, profile_parts, sample_size
from limbeck.softtargets.topk import LADDER


def alike(rows, classes=12, seed=0):
    """Scores of a teacher to whom some classes look alike: few causes, and a little of each row's own."""
    generator = np.random.default_rng(seed)
    causes = np.random.default_rng(99).normal(size=(4, classes))
    return (2 * generator.normal(size=(rows, 4)) @ causes + generator.normal(size=(rows, classes))).astype(np.float32)


def encode(codec, scores):
    return codec.encode(scores, np.arange(len(scores)), np.zeros(len(scores), np.int64))


def divergence(scores, stored, temperature):
    exact = log_softmax(scores.astype(np.float64) / temperature, -1)
    return float(rel_entr(np.exp(exact), np.exp(stored)).sum(-1).mean())


def test_expected_scores_are_the_conditional_means_of_the_normal_law():
    generator = np.random.default_rng(1)
    root = generator.normal(size=(8, 8))
    covariance, means = root @ root.T + np.eye(8), generator.normal(size=(8, 8))
    profile = TailProfile(means.astype(np.float32), covariance.astype(np.float32))
    ids = np.stack([generator.permutation(8)[:3] for _ in range(20)])
    head = np.sort(generator.normal(size=(20, 3)) * 3 + 20)[:, ::-1]  # so high that nothing is cut off
    found = profile.expected(ids, head.copy())
    held = profile.covariance.astype(np.float64)
    for row in range(20):
        inside, mean = ids[row], profile.means[ids[row, 0]].astype(np.float64)
        expected = mean + held[:, inside] @ np.linalg.inv(held[np.ix_(inside, inside)]) @ (head[row] - mean[inside])
        np.testing.assert_allclose(found[row], np.minimum(expected, head[row, -1]), rtol=1e-6, atol=1e-6)
    # What is known is not guessed at.
    inside = np.take_along_axis(found, ids, 1)
    np.testing.assert_allclose(inside, np.minimum(head, head[:, -1:]), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("ladder", [LADDER, (1.0,), (1.0, 2.0, 4.0)])
def test_the_slope_at_infinity_is_exact_for_polynomials(ladder):
    weights, last = mean_weights(ladder, 6)
    rungs = np.array([1 / rung for rung in ladder])
    for power in range(min(len(ladder), 5) + 1):
        assert weights @ rungs**power + last * (power == 0) == pytest.approx(float(power == 1), abs=1e-9)


def test_the_ladder_tells_the_mean_of_a_row():
    scores, codec = alike(200), TopK(3)
    below = scores.astype(np.float64) - scores.max(1, keepdims=True)
    found = codec.mean_scores(encode(codec, scores), 12)
    assert np.abs(found - below.mean(1)).max() < 0.15
    assert np.abs(below.mean(1)).max() > 5


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0, 20.0])
def test_with_a_profile_far_less_is_lost(temperature):
    codec, scores = TopK(3), alike(500, seed=1)
    fields, taught = encode(codec, scores), replace(codec, profile=codec.learn(alike(2000)))
    even = divergence(scores, codec.decode(fields, 12, temperature), temperature)
    ours = divergence(scores, taught.decode(fields, 12, temperature), temperature)
    assert ours < {1.0: 0.9, 2.0: 0.65}.get(temperature, 0.5) * even
    # The head and the mass of the tail stay as they are.
    for one, other in zip(
        np.exp(codec.decode(fields, 12, temperature)), np.exp(taught.decode(fields, 12, temperature)), strict=True
    ):
        assert int((np.abs(one - other) < 1e-9).sum()) >= 3
        assert other.sum() == pytest.approx(1)


def test_more_is_lost_without_the_covariance_and_with_one_mean_for_all():
    codec, scores = TopK(3), alike(500, seed=1)
    fields, whole = encode(codec, scores), codec.learn(alike(2000))
    some = [whole, TailProfile(whole.means, None), TailProfile(whole.means.mean(0, keepdims=True), None)]
    lost = [divergence(scores, replace(codec, profile=each).decode(fields, 12, 4.0), 4.0) for each in some]
    assert lost == sorted(lost) and lost[0] < 0.8 * lost[1] < 0.8 * lost[2]
    for profile in some:
        held = replace(codec, profile=profile)
        tensors = {n: torch.from_numpy(v.astype(np.int64) if n == "ids" else v.copy()) for n, v in fields.items()}
        quick = decoded(tensors, held, 12, 4.0, profile_tensors(held, torch.device("cpu")))
        np.testing.assert_allclose(quick.exp().numpy(), np.exp(held.decode(fields, 12, 4.0)), atol=2e-6)


def test_a_class_that_never_comes_has_the_mean_of_all_rows():
    scores = alike(400)
    scores[:, 7] = scores.max(1) - 9
    codec = TopK(2)
    profile = codec.learn(scores)
    below = scores.astype(np.float64) - scores.max(1, keepdims=True)
    centred = below - codec.mean_scores(encode(codec, scores), 12)[:, None]
    np.testing.assert_allclose(profile.means[7], centred.mean(0), atol=1e-5)
    likeliest = scores.argmax(1)
    for label in set(likeliest.tolist()):
        here = centred[likeliest == label]
        np.testing.assert_allclose(profile.means[label], (here.sum(0) + centred.mean(0)) / (len(here) + 1), atol=1e-5)


def test_what_has_no_mass_does_not_spoil_the_profile():
    scores = alike(300)
    scores[::3, 4] = -np.inf
    codec = TopK(3)
    profile = codec.learn(scores)
    assert np.isfinite(profile.means).all() and np.isfinite(profile.covariance).all()
    taught = replace(codec, profile=profile)
    few = np.full((2, 12), -np.inf, np.float32)
    few[:, :2] = 0.0  # less in the head than k, and nothing in the tail
    for temperature in (1.0, 4.0, 20.0):
        assert np.isfinite(taught.decode(encode(codec, scores), 12, temperature)).all()
        probabilities = np.exp(taught.decode(encode(codec, few), 12, temperature))
        np.testing.assert_allclose(probabilities[:, :2], 0.5, atol=1e-12)
    assert DEEPEST == -50


def test_a_profile_stays_within_its_bounds():
    assert profile_parts(1024, 4) == (1024, True)
    assert profile_parts(1025, 4) == (1025, False)
    assert profile_parts(1000, 40) == (1000, False)
    assert profile_parts(4096, 1) == (4096, True)
    assert profile_parts(4097, 1) == (1, False)
    for classes in (10, 1000, 5000, 10**6):
        assert 4 * classes * sample_size(10**9, classes) <= 64 << 20
    generator = np.random.default_rng(0)
    below = -np.abs(generator.normal(size=(30, 4097))).astype(np.float32)
    profile = learn_profile(below, np.zeros(30, np.int64), below.mean(1, dtype=np.float64), 5)
    assert profile.means.shape == (1, 4097) and profile.covariance is None


def test_heads_that_go_together_do_not_make_it_singular(monkeypatch):
    scores = alike(400)
    scores[:, 1] = scores[:, 0]
    profile = TopK(3).learn(scores)
    taught = replace(TopK(3), profile=profile)
    found = taught.decode(encode(taught, scores), 12, 2.0)
    assert divergence(scores, found, 2.0) < 0.1
    assert math.isfinite(np.linalg.cond(profile.covariance.astype(np.float64)))
    assert np.linalg.cond(profile.covariance.astype(np.float64)) < 1e6
    monkeypatch.setattr(tail, "_RIDGE", 0.0)
    assert np.linalg.cond(TopK(3).learn(scores).covariance.astype(np.float64)) > 1e6
