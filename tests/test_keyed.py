"""Keyed randomness: known answers, a slow version, and that nothing but the key matters."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limbeck import keyed
from limbeck.errors import DataError
from limbeck.keyed import permutation, philox, small_integers, uniform

MASK = 0xFFFFFFFF

# Known answers of philox4x32-10 published with Random123.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ((MASK,) * 4, (MASK,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


def slow_philox(counter, key):
    """The generator with Python's integers, from its published definition."""
    c, k = list(counter), list(key)
    for _ in range(10):
        left, right = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [(right >> 32) ^ c[1] ^ k[0], right & MASK, (left >> 32) ^ c[3] ^ k[1], left & MASK]
        k = [(k[0] + 0x9E3779B9) & MASK, (k[1] + 0xBB67AE85) & MASK]
    return c


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_known_answers(counter, key, words):
    given = tuple(torch.tensor(word) for word in counter)
    for found in (philox(given, key), keyed._on_device(given, key)):
        assert found.shape == (4,) and found.dtype == torch.int64
        assert " ".join(f"{word:08x}" for word in found.tolist()) == words


word = st.integers(0, MASK)


@given(st.tuples(word, word, word, word), st.tuples(word, word))
def test_agrees_with_python_integers(counter, key):
    assert philox(tuple(torch.tensor(c) for c in counter), key).tolist() == slow_philox(counter, key)


@given(
    st.lists(st.integers(0, (1 << 32) - 1), min_size=1, max_size=20), st.integers(0, (1 << 64) - 1), st.integers(0, 99)
)
def test_an_examples_numbers_do_not_depend_on_its_company(index, seed, view):
    together = uniform(torch.tensor(index), seed=seed, view=view)
    alone = torch.cat([uniform(torch.tensor([i]), seed=seed, view=view) for i in index])
    assert torch.equal(together, alone)


@given(st.lists(word, min_size=1, max_size=9), st.integers(0, (1 << 64) - 1), st.integers(0, 99), st.integers(0, 40))
def test_small_integers_are_the_bits_of_the_words(index, seed, view, count):
    found = small_integers(torch.tensor(index), seed=seed, view=view, draw=5, count=count)
    assert found.shape == (len(index), count)
    for row, example in zip(found.tolist(), index, strict=True):
        expected = []
        for draw in range(5, 5 + -(-count // 12)):
            words = slow_philox((example, 0, view, draw), (seed & MASK, seed >> 32))
            expected += [w >> bits & 1023 for bits in (0, 10, 20) for w in words]
        assert row == expected[:count]


def test_numbers_are_even_and_uncorrelated():
    index = torch.arange(20_000)
    columns = [
        uniform(index, seed=seed, view=view, draw=draw)
        for seed, view, draw in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))
    ]
    numbers = torch.cat(columns, 1).double()
    assert numbers.min() >= 0
    assert numbers.max() < 1
    # Standard error of a mean is 0.002, of a variance 0.0005, of a correlation 0.007.
    assert (numbers.mean(0) - 0.5).abs().max() < 0.01
    assert (numbers.var(0) - 1 / 12).abs().max() < 0.0025
    correlations = torch.corrcoef(numbers.T) - torch.eye(16, dtype=torch.float64)
    assert correlations.abs().max() < 0.035


@given(st.integers(1, 200), st.integers(0, 1 << 40), st.integers(0, 1000))
def test_permutation_is_one(count, seed, epoch):
    assert torch.equal(permutation(count, seed=seed, epoch=epoch).sort().values, torch.arange(count))


def test_permutations_are_evenly_spread():
    counts = torch.zeros(24)
    codes = {}
    for epoch in range(2400):
        order = tuple(permutation(4, seed=9, epoch=epoch).tolist())
        counts[codes.setdefault(order, len(codes))] += 1
    # Chi-squared with 23 degrees of freedom is above 60 once in 40,000 times.
    assert ((counts - 100) ** 2 / 100).sum() < 60


@pytest.mark.parametrize("wrong", [{"seed": -1}, {"seed": 1 << 64}, {"view": -1}, {"draw": 1 << 32}])
def test_ranges_are_checked(wrong):
    with pytest.raises(DataError, match="must be in"):
        uniform(torch.tensor([0]), **{"seed": 0, "view": 0, "draw": 0, **wrong})


@given(st.integers(0, (1 << 62) - 1), st.integers(0, (1 << 64) - 1), word, word)
def test_every_bit_of_index_seed_view_and_draw_counts(index, seed, view, draw):
    found = uniform(torch.tensor([index]), seed=seed, view=view, draw=draw)
    words = slow_philox((index & MASK, index >> 32, view, draw), (seed & MASK, seed >> 32))
    assert found.tolist() == [[(w >> 8) * 2.0**-24 for w in words]]


@given(st.integers(1, 40), st.integers(0, (1 << 64) - 1), st.integers(0, 1000), st.integers(0, 1000))
def test_permutations_sort_keys_of_their_own_domain(count, seed, epoch, part):
    """The last counter word is one that no draw of `uniform` has, so that order and views are independent."""
    words = [slow_philox((row, part, epoch, MASK), (seed & MASK, seed >> 32)) for row in range(count)]
    order = sorted(range(count), key=lambda row: words[row][0] << 31 | words[row][1] >> 1)
    assert permutation(count, seed=seed, epoch=epoch, part=part).tolist() == order


def test_answers_that_stored_views_and_resumed_runs_depend_on():
    assert permutation(8, seed=5, epoch=2).tolist() == [1, 4, 3, 7, 2, 0, 5, 6]
    assert permutation(8, seed=(1 << 33) + 5, epoch=2, part=1).tolist() == [0, 5, 7, 3, 4, 6, 2, 1]
    numbers = uniform(torch.tensor([7, 7 + (1 << 32)]), seed=(1 << 40) + 1, view=3, draw=2) * 2**24
    assert numbers.tolist() == [[11948669, 1221852, 6160443, 12770333], [937338, 10534772, 5193923, 5826982]]


def test_keys_drawn_in_pieces_are_those_drawn_at_once(monkeypatch):
    once = permutation(1000, seed=3, epoch=2, part=1)
    monkeypatch.setattr(keyed, "_PIECE", {"cpu": 7})
    assert torch.equal(permutation(1000, seed=3, epoch=2, part=1), once)
    assert permutation(0, seed=0, epoch=0).tolist() == []


def test_numpy_and_tensors_give_the_same_words_of_shapes_that_broadcast():
    chance = torch.Generator().manual_seed(0)
    counter = tuple(torch.randint(0, 1 << 32, shape, generator=chance) for shape in ((7, 5), (5,), (7, 1), ()))
    found = philox(counter, (9, MASK))
    assert found.shape == (7, 5, 4) and torch.equal(found, keyed._on_device(counter, (9, MASK)))
