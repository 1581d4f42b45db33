"""The profile of the tail: means and directions against slow oracles, identities, and what it is worth."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, logsumexp, rel_entr

from limbeck.softtargets import TopK, rows, tail, write_arrays
from limbeck.softtargets.decoding import decoded, profile_tensors
from limbeck.softtargets.tail import DEEPEST, TailProfile, learn_profile, means_rows, sample_size


def alike(rows, classes=12, seed=0):
    """Scores of a teacher to whom some classes look alike: few causes, and a little of each row's own."""
    generator = np.random.default_rng(seed)
    causes = np.random.default_rng(99).normal(size=(4, classes))
    return (2 * generator.normal(size=(rows, 4)) @ causes + generator.normal(size=(rows, classes))).astype(np.float32)


def encode(codec, scores):
    return codec.encode(scores, np.arange(len(scores)), np.zeros(len(scores), np.int64))


def taught(codec, scores):
    return replace(codec, profile=codec.learn(scores))


def divergence(scores, stored, temperature):
    exact = log_softmax(scores.astype(np.float64) / temperature, -1)
    return float(rel_entr(np.exp(exact), np.exp(stored)).sum(-1).mean())


def tails(scores, k):
    """Scores below the largest, ``-inf`` in the head, and the head's classes: by sorting."""
    below = scores - scores.max(1, keepdims=True)
    head = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    np.put_along_axis(below, head, -np.inf, 1)
    return below, head


def test_means_are_those_of_the_rows_in_which_a_class_is_in_the_tail():
    scores = alike(400)
    scores[:, 7] = scores.max(1) - 9  # never the likeliest
    below, head = tails(scores, 2)
    profile = TopK(2).learn(scores)
    overall = [below[below[:, j] > -np.inf, j].mean(dtype=np.float64) for j in range(12)]
    for label in range(12):
        for j in range(12):
            here = below[(head[:, 0] == label) & (below[:, j] > -np.inf), j].astype(np.float64)
            assert profile.means[label, j] == pytest.approx((here.sum() + overall[j]) / (len(here) + 1), abs=1e-5)
    np.testing.assert_allclose(profile.means[7], overall, atol=1e-5)


def test_directions_are_the_principal_ones_of_what_the_means_leave():
    scores = alike(500)
    below, head = tails(scores, 3)
    codec = TopK(3, coordinates=3)
    profile = codec.learn(scores)
    left = np.where(below > -np.inf, below - profile.means[head[:, 0]], 0.0)
    _, _, right = np.linalg.svd(left, full_matrices=False)
    unit = profile.directions / np.linalg.norm(profile.directions, axis=1, keepdims=True)
    np.testing.assert_allclose(np.abs((unit * right[:3]).sum(1)), 1, atol=1e-6)
    np.testing.assert_allclose(unit @ unit.T, np.eye(3), atol=1e-5)
    # A byte reaches all but one in a thousand.
    places = profile.place(below, head[:, 0])
    assert places.dtype == np.int8 and (np.abs(places.astype(int)).max(0) >= 126).all()
    assert (np.abs(places.astype(int)) == 127).mean() < 0.005


def test_a_place_is_that_of_weighted_least_squares():
    scores = alike(60, seed=3)
    codec = taught(TopK(3, coordinates=4), alike(1000))
    below, head = tails(scores, 3)
    places = codec.profile.place(below, head[:, 0])
    for row in range(60):
        here = np.flatnonzero(below[row] > -np.inf)
        weight = np.sqrt(np.exp((below[row, here] - below[row, here].max()) / 4))[:, None]
        design = codec.profile.directions[:, here].T * weight
        left = (below[row, here] - codec.profile.means[head[row, 0], here])[:, None] * weight
        exact = np.linalg.lstsq(design, left, rcond=None)[0][:, 0]
        # The ridge of a thousandth moves a place a little.
        np.testing.assert_allclose(places[row], np.clip(exact, -127, 127), atol=0.6 + 0.05 * np.abs(exact).max())


def test_a_tail_that_the_directions_reach_comes_back_as_it_was():
    generator = np.random.default_rng(5)
    means = -6 + generator.normal(size=(9, 9))
    directions = np.linalg.qr(generator.normal(size=(9, 2)))[0].T / 40
    profile = TailProfile(means.astype(np.float32), directions.astype(np.float32))
    places = generator.integers(-60, 60, (50, 2)).astype(np.int8)
    likeliest = generator.integers(0, 9, 50)
    below = profile.expected(likeliest, places).astype(np.float32)
    below[np.arange(50), likeliest] = -np.inf
    found = profile.place(below, likeliest).astype(int)
    assert np.abs(found - places).max() <= 1  # the ridge
    assert (found == places).mean() > 0.9


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0, 20.0])
def test_directions_save_most_of_what_an_even_tail_or_means_lose(temperature):
    codec, scores = TopK(3), alike(500, seed=1)
    usual = TopK(3, coordinates=0)
    ways = [codec, taught(usual, alike(2000)), taught(codec, alike(2000))]
    stored = [way.decode(encode(way, scores), 12, temperature) for way in ways]
    even, means, ours = (divergence(scores, each, temperature) for each in stored)
    assert ours < 0.5 * min(means, even)
    assert means < even or temperature < 4  # at low temperatures a mean of scores makes too much of the unlikely
    below, _ = tails(scores, 3)
    exact = log_softmax(scores.astype(np.float64) / temperature, -1)
    for each in stored:
        np.testing.assert_allclose(np.exp(each).sum(1), 1, atol=1e-9)
        # Head and tail weigh what they weighed, and within the head nothing is lost.
        mass, known = (logsumexp(np.where(below > -np.inf, x, -np.inf), axis=1) for x in (each, exact))
        assert np.abs(np.exp(mass) - np.exp(known)).max() < (2e-3 if temperature in (1, 4) else 0.1)
        shift = np.where(below == -np.inf, each - exact, np.nan)
        assert np.nanmax(np.nanmax(shift, 1) - np.nanmin(shift, 1)) < 0.01


def test_the_mass_of_the_tail_is_right_between_the_rungs():
    codec, scores = taught(TopK(3), alike(2000)), alike(500, seed=1)
    below, _ = tails(scores, 3)
    for temperature in (1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0, 100.0):
        each = codec.decode(encode(codec, scores), 12, temperature)
        exact = log_softmax(scores.astype(np.float64) / temperature, -1)
        mass, known = (np.exp(np.where(below > -np.inf, x, -np.inf)).sum(1) for x in (each, exact))
        coarse = rel_entr(known, mass) + rel_entr(1 - known, 1 - mass)
        assert coarse.mean() < 2e-4, temperature


def test_one_mean_for_all_and_no_direction_are_decoded_too():
    codec, scores = TopK(3), alike(500, seed=1)
    whole = codec.learn(alike(2000))
    none = np.zeros((0, 12), np.float32)
    for profile in (whole, TailProfile(whole.means, none), TailProfile(whole.means[:1], whole.directions)):
        held = replace(codec, profile=profile, coordinates=len(profile.directions))
        fields = encode(held, scores)
        assert ("place" in fields) == bool(len(profile.directions))
        tensors = {n: torch.from_numpy(v.astype(np.int64) if n == "ids" else v.copy()) for n, v in fields.items()}
        for temperature in (1.0, 3.0, 4.0):
            quick = decoded(tensors, held, 12, temperature, profile_tensors(held, torch.device("cpu")))
            exact = held.decode(fields, 12, temperature)
            np.testing.assert_allclose(quick.exp().numpy(), np.exp(exact), atol=2e-6)
        with torch.autocast("cpu", torch.bfloat16):
            same = decoded(tensors, held, 12, 4.0, profile_tensors(held, torch.device("cpu")))
        torch.testing.assert_close(same, quick)


def test_no_class_of_the_tail_comes_above_the_head():
    codec, scores = taught(TopK(3), alike(2000)), alike(500, seed=2)
    stored = codec.decode(encode(codec, scores), 12, 1.0)
    _, head = tails(scores, 3)
    last = np.take_along_axis(stored, head[:, -1:], 1)
    expected = codec.profile.expected(head[:, 0], encode(codec, scores)["place"])
    raised = expected > np.take_along_axis(scores - scores.max(1, keepdims=True), head[:, -1:], 1)
    np.put_along_axis(raised, head, False, 1)
    assert raised.any()  # else nothing is shown
    np.put_along_axis(stored, head, -np.inf, 1)
    # By no more than the mass of the tail asks for.
    assert (stored.max(1) - last[:, 0]).max() < 0.7


def test_what_has_no_mass_does_not_spoil_the_profile():
    scores = alike(300)
    scores[::3, 4] = -np.inf
    codec = taught(TopK(3), scores)
    assert np.isfinite(codec.profile.means).all() and np.isfinite(codec.profile.directions).all()
    assert codec.profile.means.min() >= DEEPEST == -50
    few = np.full((2, 12), -np.inf, np.float32)
    few[:, :2] = 0.0  # less in the head than k, and nothing in the tail
    for temperature in (1.0, 4.0, 20.0):
        assert np.isfinite(codec.decode(encode(codec, scores), 12, temperature)).all()
        probabilities = np.exp(codec.decode(encode(codec, few), 12, temperature))
        np.testing.assert_allclose(probabilities[:, :2], 0.5, atol=1e-12)


def test_answers_that_are_all_alike_have_no_directions():
    scores = np.tile(alike(1), (50, 1))
    codec = taught(TopK(3), scores)
    assert (codec.profile.directions == 0).all()
    fields = encode(codec, scores)
    assert (fields["place"] == 0).all()
    assert divergence(scores, codec.decode(fields, 12, 4.0), 4.0) < 1e-6


def test_a_profile_of_fewer_rows_than_directions():
    codec = taught(TopK(3, coordinates=4), alike(2))
    assert codec.profile.directions.shape == (4, 12) and (codec.profile.directions[2:] == 0).all()
    assert np.isfinite(codec.decode(encode(codec, alike(20, seed=4)), 12, 4.0)).all()


def test_rows_fewer_than_classes_find_the_same_directions():
    left = np.random.default_rng(2).normal(size=(20, 29)) * np.linspace(3, 0.1, 29)
    few, many = tail._principal(left, 3), tail._principal(np.concatenate([left, left]), 3)
    np.testing.assert_allclose(few, many, atol=1e-9)
    _, _, right = np.linalg.svd(left, full_matrices=False)
    np.testing.assert_allclose(np.abs((few * right[:3]).sum(1)), 1, atol=1e-9)


def test_a_profile_stays_within_its_bounds():
    assert means_rows(4096) == 4096 and means_rows(4097) == 1
    for classes in (10, 1000, 5000, 10**6):
        assert 4 * classes * sample_size(10**9, classes) <= 64 << 20
    generator = np.random.default_rng(0)
    below = -np.abs(generator.normal(size=(30, 4097))).astype(np.float32)
    profile = learn_profile(below, np.zeros(30, np.int64), 2)
    assert profile.means.shape == (1, 4097) and profile.directions.shape == (2, 4097)
    assert TopK(3).directions(26) == 6 and TopK(3).directions(10) == 3 and TopK(3).directions(4) == 0


def test_the_first_directions_of_many_rows_and_classes_are_those_of_all(monkeypatch):
    random = np.random.default_rng(0)
    left = random.normal(size=(700, 4)) * [40, 30, 20, 10] @ np.linalg.qr(random.normal(size=(600, 4)))[0].T
    left += 0.1 * random.normal(size=left.shape)
    quick = tail._principal(left, 4)
    _, _, right = np.linalg.svd(left, full_matrices=False)
    np.testing.assert_allclose(np.abs((quick * right[:4]).sum(1)), 1, atol=1e-9)
    # Where nothing stands out they still reach nearly as much as the best.
    flat = random.normal(size=(700, 600))
    best = np.linalg.svd(flat, compute_uv=False)[:6]
    assert ((flat @ tail._principal(flat, 6).T) ** 2).sum() > 0.9 * (best**2).sum()


def test_places_found_in_pieces_are_those_found_at_once(monkeypatch):
    scores = alike(50)
    profile = taught(TopK(3), scores).profile
    below, ids, _ = TopK(3)._parted(scores)
    once = profile.place(below, ids[:, 0])
    monkeypatch.setattr(tail, "_PIECE", 40)
    np.testing.assert_array_equal(profile.place(below, ids[:, 0]), once)


def test_a_card_measured_in_pieces_is_that_measured_at_once(monkeypatch, tmp_path):
    scores = alike(200)
    common = {"classes": [*"abcdefghijkl"], "examples": 200, "encoding": TopK(3), "labels": scores.argmax(1)}
    once = write_arrays(tmp_path / "once", [scores], **common)
    monkeypatch.setattr(rows, "_MEASURED_NUMBERS", 100)
    pieces = write_arrays(tmp_path / "pieces", [scores], **common)
    assert pieces.rows_measured == once.rows_measured == 200 and pieces.teacher_accuracy == once.teacher_accuracy
    assert pieces.divergence == pytest.approx(once.divergence) and pieces.mass_kept == pytest.approx(once.mass_kept)
