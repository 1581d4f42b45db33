"""Batches: passes over the examples, epochs of any number of steps, and views that belong to the pass."""

import pytest
import torch

from limbeck.data import Examples, Feed
from limbeck.models import Dropout
from limbeck.models.dropout import draw_for
from limbeck.options import Augmentation
from limbeck.system.processes import World


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


@pytest.mark.parametrize("accumulate", [1, 3, 8])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("steps", [None, 5])
def test_parts_of_a_batch_are_the_batch(accumulate, count, steps):
    """Whatever process has them: 26 examples end in a batch of 2, which 3 processes and 8 parts cannot share."""
    examples = Examples.of(torch.arange(26.0)[:, None], torch.arange(26) % 2)
    place = torch.device("cpu")
    whole = Feed(examples, batch_size=8, seed=1, steps=steps)
    feeds = [
        Feed(examples, batch_size=8, seed=1, steps=steps, accumulate=accumulate, world=World(rank, count, place))
        for rank in range(count)
    ]
    for start in (0, 2):
        streams = [feed.batches(1, start=start) for feed in feeds]
        for step, batch in enumerate(whole.batches(1, start=start), start):
            found = []
            for feed, stream in zip(feeds, streams, strict=True):
                parts, size = feed.parts(1, step)
                assert size == len(batch.index) and len(parts) == (
                    accumulate if size == 8 else 2 if accumulate == 8 else 1
                )
                for part in parts:
                    own = part.stop - part.start
                    given = next(stream)
                    assert len(given.index) == max(1, own)
                    found += given.index[:own].tolist()
            assert sorted(found) == sorted(batch.index.tolist())
        assert [next(stream, None) for stream in streams] == [None] * count


def test_parts_that_follow_each_other_get_the_masks_of_the_whole_batch():
    layers = torch.nn.Sequential(Dropout(0.4), Dropout(0.3))
    x = torch.rand(10, 3, 5)
    torch.manual_seed(3)
    whole = layers(x)
    state = torch.get_rng_state()
    try:
        torch.manual_seed(3)
        for part, (first, last) in enumerate([(0, 4), (4, 5), (5, 10)]):
            draw_for((first, 10), part=part)
            assert torch.equal(layers(x[first:last]), whole[first:last])
            assert torch.equal(torch.get_rng_state(), state)
    finally:
        draw_for(None)
