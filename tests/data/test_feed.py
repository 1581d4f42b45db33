"""Batches: passes over the examples, epochs of any number of steps, and views that belong to the pass."""

import pytest
import torch

from limbeck.data import Examples, Feed
from limbeck.options import Augmentation


@pytest.mark.parametrize("steps", [None, 1, 2, 3, 4, 7])
def test_epochs_of_any_number_of_steps_are_passes_that_follow_each_other(steps):
    examples = Examples.of(torch.arange(10.0).unsqueeze(1), torch.zeros(10, dtype=torch.int64))
    plain, other = (Feed(examples, batch_size=4, seed=3, steps=count) for count in (None, steps))
    wanted = [batch.index.tolist() for epoch in range(12) for batch in plain.batches(epoch)]
    epochs = -(-len(wanted) // other.steps) - 1
    found = [[batch.index.tolist() for batch in other.batches(epoch)] for epoch in range(epochs)]
    assert all(len(batches) == other.steps == (steps or 3) for batches in found)
    assert sum(found, []) == wanted[: epochs * other.steps]
    # Any step can be begun at, and tells how many examples it has.
    for epoch in range(epochs):
        for start in range(other.steps):
            assert [batch.index.tolist() for batch in other.batches(epoch, start=start)] == found[epoch][start:]
            assert other.own_rows(epoch, start)[1] == len(found[epoch][start])


def test_each_pass_has_views_of_its_own_whatever_an_epoch_is():
    pictures = Examples.of(torch.randint(0, 256, (6, 8, 8), dtype=torch.uint8), torch.zeros(6, dtype=torch.int64))
    shifted = Augmentation(shift=2, views=3)
    plain, other = (Feed(pictures, batch_size=3, seed=0, augmentation=shifted, steps=steps) for steps in (None, 3))
    wanted = [batch for epoch in range(6) for batch in plain.batches(epoch)]
    found = [batch for epoch in range(4) for batch in other.batches(epoch)]
    assert [batch.view for batch in found] == [batch.view for batch in wanted] == [0, 0, 1, 1, 2, 2] * 2
    assert all(torch.equal(a.inputs, b.inputs) for a, b in zip(found, wanted, strict=True))
