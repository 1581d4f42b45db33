"""Examples of one part that are in another, against a dictionary of their bytes."""

import numpy as np
import pytest
import torch

import limbeck
from limbeck import Examples
from limbeck.data import duplicates
from limbeck.data.duplicates import shared_examples


@pytest.mark.parametrize("shape", [(1,), (3,), (7,), (8,), (1, 5, 9), (600,), (3, 40, 40)])
@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
def test_they_are_those_that_a_dictionary_finds(shape, kind):
    generator = torch.Generator().manual_seed(len(shape))
    pool = torch.randint(0, 3 if shape == (1,) else 250, (40, *shape), generator=generator).to(kind)
    train, test = Examples.of(pool[torch.arange(60) % 30]), Examples.of(pool[torch.randperm(40, generator=generator)])
    known = {}
    for row, values in enumerate(train.inputs.numpy()):
        known.setdefault(values.tobytes(), row)
    expected = [(row, known[v.tobytes()]) for row, v in enumerate(test.inputs.numpy()) if v.tobytes() in known]
    rows, others = shared_examples(test, train)
    assert list(zip(rows.tolist(), others.tolist(), strict=True)) == expected and len(expected) >= 30


def test_long_examples_that_differ_between_the_hashed_words_are_not_the_same():
    one = torch.zeros(2, 100_000)
    for place in range(0, 100_000, 331):
        other = one.clone()
        other[0, place] = 1.0
        assert shared_examples(Examples.of(other), Examples.of(one))[0].tolist() == [1]


def test_equal_hashes_alone_claim_nothing(monkeypatch):
    monkeypatch.setattr(duplicates, "hash_rows", lambda rows: np.zeros(len(rows), np.uint64))
    some = torch.eye(3)
    assert shared_examples(Examples.of(some), Examples.of(some))[0].tolist() == [0]


def test_other_shapes_types_and_speech_share_nothing():
    zeros = Examples.of(torch.zeros(2, 4))
    for other in (Examples.of(torch.zeros(2, 5)), Examples.of(torch.zeros(2, 1, 2, 2, dtype=torch.uint8))):
        assert not len(shared_examples(zeros, other)[0])


def test_a_run_tells_their_number_and_none_where_there_is_none():
    x = torch.randn(90, 8, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0).long()
    short = {"epochs": 1, "precision": "float32"}
    with pytest.warns(limbeck.LimbeckWarning) as heard:
        limbeck.train(torch.nn.Linear(8, 2), (x[:60], y[:60]), (x[50:70], y[50:70]), test=(x[58:], y[58:]), **short)
    told = [str(warning.message) for warning in heard]
    assert any("10 of 20 validation examples" in text and "is training example 50" in text for text in told)
    assert any("2 of 32 test examples" in text and "first is test example 0" in text for text in told)
    with pytest.warns(limbeck.LimbeckWarning) as heard:
        limbeck.train(torch.nn.Linear(8, 2), (x[:60], y[:60]), (x[:5], y[:5]), test=(x[60:], y[60:]), **short)
    assert not any("test examples are in" in str(warning.message) for warning in heard)
