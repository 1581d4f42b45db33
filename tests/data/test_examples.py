"""Examples and their division: numbers stay with the examples, shares hold in every class."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limbeck.data import DataSet, Examples, cut_validation, subset
from limbeck.data.splits import count_of, stratified_rows
from limbeck.errors import DataError


def small(labels=(0, 1, 1, 0), shape=(4, 4)):
    return Examples.of(np.zeros((len(labels), *shape), np.uint8), np.array(labels))


@given(st.lists(st.integers(0, 4), min_size=2, max_size=200), st.data())
def test_stratified_rows_hold_each_class_in_proportion(labels, data):
    labels = torch.tensor(labels)
    count = data.draw(st.integers(0, len(labels)))
    rows = stratified_rows(labels, count)
    assert len(rows) == count == len(rows.unique())
    expected = torch.bincount(labels, minlength=5) * count / len(labels)
    found = torch.bincount(labels[rows], minlength=5)
    assert (found - expected).abs().max() < 1


def test_a_class_that_shares_its_place_with_others_takes_no_more_than_its_share():
    rows = stratified_rows(torch.tensor([0, 0, 0, 1, 2, 3]), 2)
    assert torch.bincount(torch.tensor([0, 0, 0, 1, 2, 3])[rows])[0] == 1


def test_samples_are_the_same_each_time_and_differ_by_seed():
    labels = torch.arange(3).repeat(100)
    assert torch.equal(stratified_rows(labels, 60), stratified_rows(labels, 60))
    assert not torch.equal(stratified_rows(labels, 60, seed=1), stratified_rows(labels, 60, seed=2))


def test_validation_comes_out_of_training_and_numbers_stay():
    data = DataSet("d", ("a", "b"), small([0, 1] * 50), test=small([0, 1] * 5))
    cut = cut_validation(data, 0.2)
    assert (len(cut.train), len(cut.validation), len(cut.test)) == (80, 20, 10)
    together = torch.cat([cut.train.index, cut.validation.index])
    assert torch.equal(together.sort().values, torch.arange(100))
    assert torch.equal(cut.train.labels, cut.train.index % 2)
    assert cut.validation.labels.bincount().tolist() == [10, 10]
    assert cut_validation(cut, 0.2) is cut
    smaller = subset(cut, 10)
    assert len(smaller.train) == 10
    assert set(smaller.train.index.tolist()) <= set(cut.train.index.tolist())


@pytest.mark.parametrize(("asked", "total", "count"), [(0.25, 10, 2), (3, 10, 3), (1, 10, 1), (0.0, 10, 0)])
def test_shares_and_counts(asked, total, count):
    assert count_of(asked, total) == count


def test_impossible_divisions_are_refused():
    data = DataSet("d", ("a", "b"), small())
    for asked, message in ((4, "sets 4 of 4 examples aside"), (5, "there are 4"), (1.5, "neither a share")):
        with pytest.raises(DataError, match=message):
            cut_validation(data, asked)


@pytest.mark.parametrize(
    ("inputs", "labels", "message"),
    [
        (np.zeros((0, 3)), None, "at least one example"),
        (np.zeros((2, 3)), [0], r"2 inputs, and labels have shape \(1,\)"),
        (np.zeros((2, 3)), [0.0, 1.5], "labels must be integers"),
        (np.zeros((2, 3)), [0, -1], "smallest is -1"),
        (np.array([[0.0, 1.0], [np.nan, 0.0]]), [0, 1], "1 of 2 examples hold NaN.*example 1"),
        (np.array([[0.0, np.inf]]), [0], "NaN or infinite"),
    ],
)
def test_examples_that_cannot_be_used_are_refused(inputs, labels, message):
    with pytest.raises(DataError, match=message):
        Examples.of(inputs, labels)


def test_data_sets_that_cannot_be_used_are_refused():
    with pytest.raises(DataError, match=r"label 2 of train example 1 is outside the 2 classes"):
        DataSet("d", ("a", "b"), small([0, 2]))
    with pytest.raises(DataError, match="no example of class 'c'"):
        DataSet("d", ("a", "b", "c"), small([0, 1]))
    with pytest.raises(DataError, match="at least two"):
        DataSet("d", ("a",), small([0, 0]))
    with pytest.raises(DataError, match=r"\(1, 4, 4\), and a test example has \(1, 5, 5\)"):
        DataSet("d", ("a", "b"), small([0, 1]), test=small([0, 1], (5, 5)))


def test_pictures_are_seen_in_the_unit_interval_and_numbers_as_they_are():
    pictures = Examples.of(np.array([[[0, 255]]], np.uint8))
    assert pictures.as_seen(slice(None)).tolist() == [[[[0.0, 1.0]]]]
    numbers = Examples.of(np.array([[3.0, -7.5]]))
    assert numbers.as_seen(slice(None)).tolist() == [[3.0, -7.5]]


def test_the_digest_tells_data_apart():
    base = small()
    assert base.digest == small().digest
    others = [small([0, 1, 1, 1]), small(shape=(2, 8)), base.without_labels(), base.take(torch.tensor([0, 1, 2]))]
    assert len({base.digest, *(other.digest for other in others)}) == 5
