"""Encodings against numpy's own rounding, scipy's softmax, sorting, and the laws of chance."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import log_softmax as oracle_log_softmax
from scipy.special import logsumexp, rel_entr

from limbeck import keyed
from limbeck.errors import ConfigError, DataError, MismatchError
from limbeck.softtargets import Dense, Sampled, TopK
from limbeck.softtargets.counter_rng import philox_words, uniforms
from limbeck.softtargets.decoding import decoded, profile_tensors
from limbeck.softtargets.encodings import FLOOR, below_largest
from limbeck.softtargets.manifest import encoding_of
from limbeck.softtargets.topk import LADDER, ladder_for, tail_weights


def draw(rows=200, classes=30, scale=4.0, seed=0):
    return (scale * np.random.default_rng(seed).normal(size=(rows, classes))).astype(np.float32)


def encode(codec, scores, first=0):
    numbers = np.arange(first, first + len(scores))
    return codec.encode(scores, numbers, np.zeros_like(numbers))


def profiled(codec, scores):
    return replace(codec, profile=codec.learn(scores)) if codec.name == "topk" else codec


def as_tensors(fields):
    return {name: torch.from_numpy(v.astype(np.int64) if name == "ids" else v.copy()) for name, v in fields.items()}


def divergence(exact, stored):
    return float(rel_entr(np.exp(exact), np.exp(stored)).sum(-1).mean())


def test_every_float16_that_is_not_positive_survives():
    bits = np.arange(0x8000, 0xFC00, dtype=np.uint16)
    values = bits.view(np.float16).astype(np.float32)
    scores = np.stack([np.zeros_like(values), values], 1)
    kept = encode(Dense(), scores)["scores"]
    assert (kept[:, 0] == 0).all()
    np.testing.assert_array_equal(kept[:, 1].astype(np.float32), values)


@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-4, 0.1, 4.0, 300.0]))
@settings(max_examples=40, deadline=None)
def test_float16_is_the_nearest(seed, scale):
    scores = draw(20, 17, scale, seed)
    kept = encode(Dense(), scores)["scores"].astype(np.float64)
    below = scores.astype(np.float32) - scores.max(1, keepdims=True)
    nearest = below.astype(np.float16).astype(np.float64)
    np.testing.assert_array_less(np.abs(kept - below), np.abs(nearest - below) + 1e-12)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_what_lies_beyond_the_range_is_held_at_its_end(dtype):
    scores = np.array([[0.0, -np.inf, -1e30, -7e4]], np.float32)
    assert encode(Dense(dtype), scores)["scores"].tolist() == [[0.0, FLOOR, FLOOR, FLOOR]]
    probabilities = np.exp(Dense(dtype).decode(encode(Dense(dtype), scores), 4, 20.0))
    assert probabilities.tolist() == [[1.0, 0.0, 0.0, 0.0]]


@pytest.mark.parametrize("codec", [Dense(), Dense("float32"), TopK(2), Sampled(3)])
@pytest.mark.parametrize("bad", [[np.nan, 0, 0, 0], [0, np.inf, 0, 0], [-np.inf] * 4])
def test_an_answer_that_is_no_distribution_is_refused_with_its_row(codec, bad):
    scores = draw(5, 4)
    scores[3] = bad
    with pytest.raises(DataError, match="row 103 "):
        codec.encode(scores, np.arange(5), np.zeros(5, int), 100)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
@pytest.mark.parametrize(("dtype", "limit"), [("float16", 1e-5), ("float32", 1e-11)])
def test_dense_serves_every_temperature(temperature, dtype, limit):
    scores = draw()
    exact = oracle_log_softmax(scores.astype(np.float64) / temperature, -1)
    stored = Dense(dtype).decode(encode(Dense(dtype), scores), 30, temperature)
    np.testing.assert_allclose(np.exp(stored).sum(-1), 1, atol=1e-12)
    assert abs(divergence(exact, stored)) < limit


def test_differences_are_kept_better_than_log_probabilities():
    scores = draw(500, 100, 0.5)
    exact = oracle_log_softmax(scores.astype(np.float64), -1)
    plain = oracle_log_softmax(exact.astype(np.float16).astype(np.float64), -1)
    ours = Dense().decode(encode(Dense(), scores), 100, 1.0)
    assert divergence(exact, ours) < 0.5 * divergence(exact, plain)


def spread_oracle(scores, k, temperature):
    log_p = oracle_log_softmax(scores.astype(np.float64) / temperature, -1)
    order = np.argsort(-scores, axis=1, kind="stable")
    found = log_p.copy()
    tail = np.take_along_axis(log_p, order[:, k:], 1)
    even = logsumexp(tail, axis=1, keepdims=True) - math.log(tail.shape[1])
    np.put_along_axis(found, order[:, k:], np.broadcast_to(even, tail.shape), 1)
    return found


@pytest.mark.parametrize(("classes", "k"), [(4, 1), (26, 3), (300, 5), (66_000, 2)])
@pytest.mark.parametrize("temperature", [1.0, 1.1, 1.6, 3.0, 4.0, 7.0, 20.0, 100.0])
def test_top_k_spreads_the_tail_at_every_temperature(classes, k, temperature):
    scores = draw(2 if classes > 1000 else 100, classes)
    codec = TopK(k, (1.0, 1.25, 2.0, 4.0, 12.0))
    fields = encode(codec, scores)
    order = np.argsort(-scores, axis=1, kind="stable")
    np.testing.assert_array_equal(fields["ids"], order[:, :k])
    stored = codec.decode(fields, classes, temperature)
    np.testing.assert_allclose(np.exp(stored).sum(-1), 1, atol=1e-9)
    assert divergence(spread_oracle(scores, k, temperature), stored) < 2e-5


def test_top_k_of_26_classes_takes_at_most_a_third_of_dense():
    dense = sum(field.row_bytes for field in Dense().fields(26))
    assert dense == 52
    assert 3 * sum(field.row_bytes for field in TopK(3).fields(26)) <= dense
    assert {name: values.nbytes for name, values in encode(TopK(3), draw(10, 26)).items()} == {
        field.name: 10 * field.row_bytes for field in TopK(3).fields(26)
    }


@pytest.mark.parametrize("ladder", [LADDER, (1.0, 2.0, 4.0), (0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 16.0)])
@pytest.mark.parametrize("temperature", [1.0, 1.3, 2.0, 2.7, 9.0, 50.0])
def test_interpolation_is_exact_for_polynomials_in_the_inverse_temperature(ladder, temperature):
    weights, last = tail_weights(ladder, temperature)
    degree = min(len(ladder), 5)
    rungs = np.array([1 / rung for rung in ladder])
    for power in range(degree + 1):
        value = weights @ rungs**power + last * (power == 0)
        assert value == pytest.approx(temperature**-power, abs=1e-9)


@pytest.mark.parametrize("temperature", [1.1, 1.7, 2.4, 4.5, 6.5, 10.0, 20.0, 100.0])
def test_interpolation_uses_the_six_rungs_around_the_temperature(temperature):
    """Three above in 1 / T and three below, or as near to that as the ladder's ends allow; infinity is a rung."""
    ladder = (1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 8.0, 12.0, 16.0)
    weights, last = tail_weights(ladder, temperature)
    used = [place for place, weight in enumerate([*weights, last]) if weight]
    below = sum(rung < temperature for rung in ladder)
    first = min(max(below - 3, 0), len(ladder) + 1 - 6)
    assert used == list(range(first, first + 6))
    # Which is not only a matter of bytes: a window elsewhere would be off by orders on a kink such as this.
    kink = np.maximum(0.0, 1 / np.array(ladder) - 0.4)
    if temperature > 5:
        assert abs(weights @ kink - max(0.0, 1 / temperature - 0.4)) < 0.05


@pytest.mark.parametrize(("classes", "k"), [(100, 5), (1000, 5), (1000, 20), (40, 3)])
def test_a_new_stores_ladder_keeps_head_and_tail_between_its_rungs(classes, k):
    assert ladder_for(k, classes) == (1.0, 2.0, 4.0)
    scores = draw(400, classes, 3.0)

    def between(ladder, temperature):
        """Divergence of head and tail, the tail taken in sum, in nats."""
        codec = profiled(TopK(k, ladder), scores)
        fields = encode(codec, scores)
        exact = oracle_log_softmax(scores.astype(np.float64) / temperature, -1)
        stored = codec.decode(fields, classes, temperature)
        head = fields["ids"].astype(np.int64)
        p, q = (np.exp(np.take_along_axis(values, head, 1)) for values in (exact, stored))
        p, q = (np.column_stack([each, np.clip(1 - each.sum(1), 0, 1)]) for each in (p, q))
        return float(rel_entr(p, q).sum(1).mean())

    for temperature in (1.25, 1.5, 1.75, 2.0, 3.0, 6.0, 8.0):
        assert between(ladder_for(k, classes), temperature) < 5e-5
    assert between(LADDER, 1.5) > 3e-4  # what the rung is for
    # A store that was written before has its own ladder, which is what its manifest says.
    assert encoding_of({**TopK(k).parameters(), "name": "topk"}).ladder == LADDER


def test_temperatures_outside_the_ladder_are_refused():
    for ladder, temperature in ((LADDER, 0.9), (LADDER, math.inf), (LADDER, math.nan), ((4.0,), 2.0)):
        with pytest.raises(MismatchError, match="temperature"):
            tail_weights(ladder, temperature)


@pytest.mark.parametrize(
    "make",
    [
        lambda: TopK(0),
        lambda: TopK(2, ()),
        lambda: TopK(2, (2.0, 1.0)),
        lambda: TopK(2, coordinates=-1),
        lambda: TopK(4).fields(4),
        lambda: Sampled(0),
        lambda: Sampled(2, -1.0),
        lambda: Sampled(2, seed=-1),
        lambda: Dense("int8"),
    ],
)
def test_settings_out_of_range_are_refused(make):
    with pytest.raises(ConfigError):
        make()


@pytest.mark.parametrize("codec", [Dense(), Dense("float32"), TopK(1), TopK(3), Sampled(5), Sampled(5, 0.5)])
@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_the_quick_decoder_agrees_with_the_reference(codec, temperature):
    codec = profiled(codec, draw(300, 12, seed=1))
    fields = encode(codec, draw(50, 12))
    if codec.name == "sampled" and temperature != 1:
        for refuse in (lambda: codec.decode(fields, 12, temperature), lambda: decoded(fields, codec, 12, temperature)):
            with pytest.raises(MismatchError):
                refuse()
        return
    reference = codec.decode(fields, 12, temperature)
    profile = profile_tensors(codec, torch.device("cpu"))
    assert (profile is None) == (codec.name != "topk")
    quick = decoded(as_tensors(fields), codec, 12, temperature, profile).numpy()
    np.testing.assert_allclose(np.exp(quick), np.exp(reference), atol=2e-6)


def test_the_generator_is_that_of_keyed():
    counter = np.random.default_rng(0).integers(0, 2**32, (4, 50)).astype(np.uint64)
    key = (0x12345678, 0xFEDCBA98)
    ours = philox_words(tuple(counter), key)
    theirs = keyed.philox(tuple(torch.from_numpy(counter.astype(np.int64))), key)
    np.testing.assert_array_equal(ours.astype(np.int64), theirs.numpy())


def test_uniform_numbers_are_uniform_and_inside():
    numbers = uniforms(np.arange(5000), np.zeros(5000, int), 3, seed=5)
    assert numbers.shape == (5000, 3)
    assert 0 < numbers.min() and numbers.max() < 1
    assert stats.kstest(numbers.ravel(), "uniform").pvalue > 1e-3
    assert not np.array_equal(numbers, uniforms(np.arange(5000), np.ones(5000, int), 3, seed=5))
    assert not np.array_equal(numbers, uniforms(np.arange(5000), np.zeros(5000, int), 3, seed=6))


@pytest.mark.parametrize("proposal", [1.0, 0.5, 0.0])
def test_sampled_targets_are_right_on_average(proposal):
    log_p = np.log(np.array([0.55, 0.3, 0.1, 0.04, 0.01], np.float32))
    codec, rows = Sampled(6, proposal, seed=3), 40_000
    estimate = np.exp(codec.decode(encode(codec, np.tile(log_p, (rows, 1))), 5, 1.0))
    error = (estimate.mean(0) - np.exp(log_p)) / (estimate.std(0) / math.sqrt(rows))
    assert np.abs(error).max() < 4
    if proposal == 1:
        np.testing.assert_allclose(estimate.sum(1), 1, atol=1e-12)
        counts = np.rint(estimate * 6).astype(int).sum(0)
        expected = np.exp(log_p.astype(np.float64))
        assert stats.chisquare(counts, expected / expected.sum() * counts.sum()).pvalue > 1e-3


def test_the_gradient_of_sampled_targets_is_right_on_average():
    from limbeck.losses import soft_target_loss

    scores, codec, rows = draw(1, 6, 1.5), Sampled(4, seed=1), 20_000
    student = torch.zeros(rows, 6, requires_grad=True)
    targets = decoded(as_tensors(encode(codec, np.repeat(scores, rows, 0))), codec, 6, 1.0)
    (gradient,) = torch.autograd.grad(soft_target_loss(student, targets).sum(), student)
    exact = 1 / 6 - np.exp(oracle_log_softmax(scores[0].astype(np.float64)))
    error = (gradient.numpy().mean(0) - exact) / (gradient.numpy().std(0) / math.sqrt(rows))
    assert np.abs(error).max() < 4


def test_draws_belong_to_the_example_and_the_view():
    scores, codec = draw(30, 8), Sampled(4, 0.7, seed=9)
    every = encode(codec, scores)
    some = codec.encode(scores[10:20], np.arange(10, 20), np.zeros(10, int))
    for name, values in some.items():
        np.testing.assert_array_equal(values, every[name][10:20])
    other = codec.encode(scores, np.arange(30), np.ones(30, int))
    assert not np.array_equal(other["ids"], every["ids"])


def test_a_class_without_mass_is_never_drawn():
    scores = np.tile(np.array([-np.inf, 0.0, -np.inf, 0.0, -np.inf], np.float32), (2000, 1))
    assert set(encode(Sampled(5), scores)["ids"].ravel().tolist()) == {1, 3}


def test_below_largest_keeps_the_differences():
    scores = draw()
    np.testing.assert_array_equal(below_largest(scores), scores - scores.max(1, keepdims=True))


@pytest.mark.parametrize("place", range(2, 9))
def test_the_mass_is_interpolated_between_the_nearest_rungs(place):
    """Three to each side: a window that lay to one side would extrapolate."""
    ladder = tuple(1.3**power for power in range(12))
    weights, last = tail_weights(ladder, (ladder[place] + ladder[place + 1]) / 2)
    assert np.flatnonzero(weights).tolist() == list(range(place - 2, place + 4)) and last == 0
    assert weights[place] > 0 and weights[place + 1] > 0
