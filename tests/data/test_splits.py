"""Divisions of examples: stratified, the same for every run, and another for another seed."""

import pytest
import torch

from limbeck.data import DataSet, Examples, cut_validation
from limbeck.data.splits import _SPLIT_SEED, stratified_rows, subset
from limbeck.keyed import permutation

LABELS = torch.tensor([0, 1, 2, 1, 0, 0, 1, 0, 2, 0] * 6)


KNOWN = {"validation": [8, 24, 29, 34, 36, 46], "subset": [8, 23, 33, 37, 50, 59]}


def data(labels=LABELS):
    inputs = torch.arange(len(labels), dtype=torch.float32)[:, None]
    return DataSet("toy", ("a", "b", "c"), Examples.of(inputs, labels), None)


def slow_rows(labels, count, seed):
    """The first of each class in a shuffled order, as many as its share; what is left goes by remainders."""
    order = permutation(len(labels), seed=seed, epoch=0).tolist()
    sizes = [int((labels == k).sum()) for k in range(3)]
    take = [size * count // len(labels) for size in sizes]
    by_remainder = sorted(range(3), key=lambda k: -(sizes[k] * count % len(labels)))
    for k in by_remainder[: count - sum(take)]:
        take[k] += 1
    chosen = []
    for row in order:
        k = int(labels[row])
        if take[k]:
            take[k] -= 1
            chosen.append(row)
    return sorted(chosen)


@pytest.mark.parametrize("seed", [0, 1, _SPLIT_SEED, 1 << 40])
@pytest.mark.parametrize("count", [1, 7, 20, 59])
def test_a_stratified_sample_is_the_first_of_each_class_in_the_order_of_its_seed(seed, count):
    assert stratified_rows(LABELS, count, seed=seed).tolist() == slow_rows(LABELS, count, seed)


def test_another_seed_is_another_sample():
    samples = {tuple(stratified_rows(LABELS, 10, seed=seed).tolist()) for seed in range(20)}
    assert len(samples) == 20


def test_the_division_is_the_same_for_every_run_and_version():
    """Stores, runs that resume and comparisons between runs depend on it."""
    cut = cut_validation(data(), 0.1)
    assert cut.validation.inputs.flatten().tolist() == slow_rows(LABELS, 6, 20150309) == KNOWN["validation"]
    assert sorted(cut.train.inputs.flatten().tolist() + cut.validation.inputs.flatten().tolist()) == list(range(60))
    assert cut.train.index.tolist() == cut.train.inputs.flatten().tolist()  # numbers stay those of the whole
    kept = subset(data(), 6)
    assert kept.train.inputs.flatten().tolist() == slow_rows(LABELS, 6, 20150310) == KNOWN["subset"]
