"""One matrix: against numpy, against the theorem, against the obvious inverse."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.errors import ConfigError, DataError
from limbeck.lowrank import decompose, rank_for_energy, rank_for_parameters, rank_for_sum, truncate
from limbeck.lowrank.partial import partial_svd

SHAPES = st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**31))


def moment(generator, size, rows):
    samples = generator.normal(size=(rows, size)) * 2.0 ** -np.arange(size)
    return samples.T @ samples / rows


def error(weight, replacement, inputs=None, outputs=None):
    change = weight - replacement
    inputs = np.eye(weight.shape[1]) if inputs is None else inputs
    outputs = np.eye(weight.shape[0]) if outputs is None else outputs
    return np.trace(outputs @ change @ inputs @ change.T)


@settings(deadline=None)
@given(SHAPES)
def test_eckart_young(shape):
    m, n, seed = shape
    weight = np.random.default_rng(seed).normal(size=(m, n))
    expected = np.linalg.svd(weight, compute_uv=False)
    parts = decompose(weight)
    assert np.allclose(parts.values, expected, rtol=1e-10, atol=1e-12)
    for rank in range(1, min(m, n) + 1):
        first, second = truncate(weight, rank)
        assert first.shape == (rank, n) and second.shape == (m, rank)
        left = weight - second @ first
        assert np.isclose(np.linalg.norm(left), np.sqrt(np.sum(expected[rank:] ** 2)), atol=1e-12)
        spectral = expected[rank] if rank < len(expected) else 0.0
        assert np.isclose(np.linalg.norm(left, 2), spectral, atol=1e-12)
        assert np.isclose(parts.discarded(rank), np.sum(expected[rank:] ** 2), atol=1e-12)


@settings(deadline=None)
@given(SHAPES, st.booleans(), st.sampled_from(["input", "split"]))
def test_full_rank_is_identity_even_where_moments_are_singular(shape, two_sided, placement):
    m, n, seed = shape
    generator = np.random.default_rng(seed)
    weight = generator.normal(size=(m, n))
    inputs = moment(generator, n, max(1, n // 2))
    outputs = moment(generator, m, max(1, m // 2)) if two_sided else None
    parts = decompose(weight, inputs=inputs, outputs=outputs)
    first, second = truncate(weight, min(m, n), decomposition=parts, placement=placement)
    assert np.allclose(second @ first, weight, atol=1e-8)


@pytest.mark.parametrize("shape", [(9, 5), (5, 9), (7, 7)])
def test_whitened_truncation_is_that_of_the_obvious_formula(shape):
    m, n = shape
    generator = np.random.default_rng(3)
    weight = generator.normal(size=shape)
    inputs, outputs = (moment(generator, size, 500) + 0.05 * np.eye(size) for size in (n, m))

    def root(matrix):
        values, vectors = np.linalg.eigh(matrix)
        return vectors * np.sqrt(values) @ vectors.T

    for metric in ({"inputs": inputs}, {"inputs": inputs, "outputs": outputs}):
        left = root(metric.get("outputs", np.eye(m)))
        right = root(inputs)
        u, s, vt = np.linalg.svd(left @ weight @ right)
        for rank in (1, 2, 4):
            expected = np.linalg.inv(left) @ (u[:, :rank] * s[:rank]) @ vt[:rank] @ np.linalg.inv(right)
            parts = decompose(weight, **metric)
            first, second = truncate(weight, rank, decomposition=parts)
            # The ridges move the result by some millionths, those of the outputs by some ten-thousandths.
            assert np.allclose(second @ first, expected, atol=5e-3 if "outputs" in metric else 1e-4)
            assert np.isclose(
                error(weight, second @ first, **metric),
                np.sum(s[rank:] ** 2),
                rtol=1e-3 if "outputs" in metric else 1e-5,
            )
            assert np.isclose(parts.discarded(rank), np.sum(s[rank:] ** 2), rtol=1e-3)


@settings(deadline=None, max_examples=50)
@given(SHAPES)
def test_no_output_error_is_above_that_of_plain_truncation(shape):
    m, n, seed = shape
    generator = np.random.default_rng(seed)
    weight = generator.normal(size=(m, n))
    inputs = moment(generator, n, 3 * n)
    parts = decompose(weight, inputs=inputs)
    for rank in range(1, min(m, n)):
        aware = truncate(weight, rank, decomposition=parts)
        plain = truncate(weight, rank)
        with_data = error(weight, aware.second @ aware.first, inputs)
        without = error(weight, plain.second @ plain.first, inputs)
        assert with_data <= without + 2e-6 * np.trace(inputs) / n * np.sum(weight**2)


def test_white_inputs_are_plain_truncation():
    weight = np.random.default_rng(0).normal(size=(6, 4))
    aware = truncate(weight, 2, decomposition=decompose(weight, inputs=np.eye(4), outputs=np.eye(6)))
    plain = truncate(weight, 2)
    assert np.allclose(aware.first, plain.first, atol=1e-9) and np.allclose(aware.second, plain.second, atol=1e-9)


def test_where_the_singular_values_go():
    weight = np.random.default_rng(1).normal(size=(8, 5))
    values = np.linalg.svd(weight, compute_uv=False)[:3]
    on_input, split = truncate(weight, 3), truncate(weight, 3, placement="split")
    assert np.allclose(on_input.second.T @ on_input.second, np.eye(3))
    assert np.allclose(on_input.first @ on_input.first.T, np.diag(values**2))
    assert np.allclose(split.second.T @ split.second, np.diag(values))
    assert np.allclose(split.first @ split.first.T, np.diag(values))
    assert np.allclose(split.second @ split.first, on_input.second @ on_input.first)


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=9), st.floats(0.01, 1))
def test_rank_rules_against_a_loop(values, share):
    values = np.sort(values)[::-1]
    for rule, power in ((rank_for_sum, 1), (rank_for_energy, 2)):
        weights = values**power
        rank = rule(values, share)
        assert 1 <= rank <= len(values)
        assert weights[:rank].sum() >= share * weights.sum() * (1 - 1e-12)
        if rank > 1:
            assert weights[: rank - 1].sum() <= share * weights.sum() * (1 + 1e-12)


@given(st.integers(1, 500), st.integers(1, 500), st.floats(0.01, 1))
def test_rank_for_a_share_of_parameters(m, n, share):
    rank = rank_for_parameters(m, n, share)
    assert rank == 1 or rank * (m + n) <= share * m * n
    assert (rank + 1) * (m + n) > share * m * n * (1 - 1e-12)


def test_partial_is_the_full_one_and_checks_itself(monkeypatch):
    generator = np.random.default_rng(2)
    tall = generator.normal(size=(90, 60)) * 0.9 ** np.arange(60)
    basis, values = partial_svd(tall, 5, always=True)
    assert np.allclose(values, np.linalg.svd(tall, compute_uv=False)[:5], rtol=1e-12)
    assert np.allclose(basis.T @ basis, np.eye(5), atol=1e-12)
    assert partial_svd(np.zeros((9, 9)), 2, always=True) is None
    # Triplets that are right, but not the largest, and ones that are no triplets, are refused.
    u, s, vt = np.linalg.svd(tall)
    real = __import__("scipy.sparse.linalg", fromlist=["svds"]).svds

    def answering(vectors, found):
        return lambda matrix, k, **o: (vectors, found, None) if k == 2 else real(matrix, k=k, **o)

    monkeypatch.setattr("scipy.sparse.linalg.svds", answering(u[:, 1:3], s[1:3]))
    assert partial_svd(tall, 2, always=True) is None
    monkeypatch.setattr("scipy.sparse.linalg.svds", answering(u[:, :2] + 1e-4, s[:2]))
    assert partial_svd(tall, 2, always=True) is None
    monkeypatch.setattr("scipy.sparse.linalg.svds", answering(u[:, :2], s[:2]))
    assert partial_svd(tall, 2, always=True) is not None


def test_a_large_matrix_takes_the_partial_way_and_knows_what_it_left_out():
    weight = np.random.default_rng(0).normal(size=(520, 600)) * 0.97 ** np.arange(600)
    parts, full = decompose(weight, most=20), decompose(weight)
    assert not parts.complete and len(parts.values) == 20 and full.complete
    assert np.isclose(parts.discarded(12), full.discarded(12), rtol=1e-9)
    one, other = truncate(weight, 12, decomposition=parts), truncate(weight, 12, decomposition=full)
    assert np.allclose(one.second @ one.first, other.second @ other.first, atol=1e-9)
    with pytest.raises(ConfigError, match="only 20 singular values"):
        truncate(weight, 21, decomposition=parts)


def test_one_clear_line_for_bad_input():
    good = np.ones((2, 3))
    with pytest.raises(DataError, match="row 1, column 2"):
        decompose(np.array([[1, 2, 3], [4, 5, np.nan]]))
    with pytest.raises(DataError, match=r"shape \(3,\)"):
        decompose(np.ones(3))
    with pytest.raises(DataError, match="second moment of shape"):
        decompose(good, inputs=np.eye(2))
    with pytest.raises(DataError, match="second moment holds NaN"):
        decompose(good, inputs=np.full((3, 3), np.nan))
    for rank in (0, 3):
        with pytest.raises(ConfigError, match=f"rank {rank} is impossible"):
            truncate(good, rank)
    with pytest.raises(ConfigError, match="placement"):
        truncate(good, 1, placement="output")
    for rule in (lambda s: rank_for_sum(np.ones(2), s), lambda s: rank_for_parameters(2, 2, s)):
        for share in (0.0, 1.1, float("nan")):
            with pytest.raises(ConfigError, match="share"):
                rule(share)


def test_zeros_are_no_trouble():
    first, second = truncate(np.zeros((3, 4)), 2)
    assert not (second @ first).any() and decompose(np.zeros((3, 4))).kept(1) == 1.0
    parts = decompose(np.eye(3), inputs=np.zeros((3, 3)))
    assert np.allclose(parts.values, 1.0)


@pytest.mark.parametrize("placement", ["input", "split"])
def test_the_largest_entry_of_each_column_of_the_outer_factor_is_positive(placement):
    """So that the same weights give the same factors wherever a library's signs come out otherwise."""
    for seed in range(5):
        weight = np.random.default_rng(seed).normal(size=(7, 6))
        outer = truncate(weight, 5, placement=placement).second
        assert (outer[np.abs(outer).argmax(0), np.arange(5)] > 0).all()
