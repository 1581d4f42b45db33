"""Data sets of torch as people write them: read where they are unambiguous, else refused in one line."""

import random
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

import limbeck
from limbeck.errors import DataError
from limbeck.runs.inputs import as_data_set, as_examples

X, Y = torch.randn(12, 5, generator=torch.Generator().manual_seed(3)), torch.arange(12) % 3


class Items(Dataset):
    def __init__(self, make, count=12):
        self.make, self.count = make, count

    def __len__(self):
        return self.count

    def __getitem__(self, number):
        return self.make(number)


class Stream(IterableDataset):
    def __iter__(self):
        return iter(zip(X, Y, strict=True))


class CountedStream(Stream):
    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count


class Plain:
    """What behaves as a data set without being one of torch's."""

    def __len__(self):
        return 12

    def __getitem__(self, number):
        return {"features": X[number].tolist(), "label": int(Y[number]), "idx": number}


def one_hot(number):
    return nn.functional.one_hot(Y[number], 3)


@pytest.mark.parametrize(
    "given",
    [
        Items(lambda i: (X[i], Y[i])),
        Items(lambda i: [X[i].numpy(), np.int16(Y[i])]),
        Items(lambda i: (X[i].tolist(), float(Y[i]))),
        Items(lambda i: (X[i], one_hot(i))),
        Items(lambda i: (X[i], one_hot(i).float())),
        Items(lambda i: (X[i], Y[i : i + 1])),
        Items(lambda i: {"x": X[i], "label": Y[i]}),
        Items(lambda i: {"pixel_values": X[i], "labels": one_hot(i), "path": f"{i}.png"}),
        Items(lambda i: (X[i].double() if i else X[i], Y[i])),
        TensorDataset(X, Y),
        Subset(TensorDataset(X, Y), range(12)),
        ConcatDataset([TensorDataset(X[:5], Y[:5]), Items(lambda i: (X[5 + i], int(Y[5 + i])), 7)]),
        DataLoader(TensorDataset(X, Y), batch_size=5, shuffle=True),
        DataLoader(Items(lambda i: {"x": X[i], "y": Y[i]}), batch_size=None),
        DataLoader(Items(lambda i: (X[i % 12], Y[i % 12]), 20), sampler=SubsetRandomSampler(range(12))),
        CountedStream(12),
        DataLoader(CountedStream(12)),
        Plain(),
        [(X[i], int(Y[i])) for i in range(12)],
        tuple({"input": X[i].numpy(), "target": int(Y[i])} for i in range(12)),
        {"inputs": X, "labels": Y},
    ],
)
def test_what_is_unambiguous_is_read(given):
    examples = as_examples(given)
    assert torch.equal(examples.inputs, X) and torch.equal(examples.labels, Y)


@pytest.mark.parametrize("given", [Items(lambda i: X[i]), Items(lambda i: (X[i],)), TensorDataset(X), {"x": X}])
def test_items_without_labels(given):
    examples = as_examples(given)
    assert torch.equal(examples.inputs, X) and examples.labels is None
    with pytest.raises(DataError, match="label"):
        limbeck.train(nn.Linear(5, 3), given, epochs=1, precision="float32")


def test_token_ids_keep_their_type():
    ids = torch.arange(24).view(12, 2)
    assert as_examples(Items(lambda i: {"input_ids": ids[i], "labels": Y[i]})).inputs.dtype == torch.int64


def test_images_of_pillow_become_channels_first():
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    read = as_examples(Items(lambda i: (Image.fromarray(grey + i), i % 2), 4))
    assert torch.equal(read.inputs[:, 0], torch.stack([torch.from_numpy(grey + i) for i in range(4)]))
    colour = np.random.default_rng(0).integers(0, 256, (3, 4, 3), np.uint8)
    mixed = [Image.fromarray(grey), Image.fromarray(colour), Image.fromarray(grey).convert("P")]
    read = as_examples(Items(lambda i: {"image": mixed[i], "label": i % 2}, 3)).inputs
    assert np.array_equal(read[1].numpy(), np.moveaxis(colour, -1, 0))
    assert np.array_equal(read[0].numpy(), np.stack([grey] * 3)) and torch.equal(read[0], read[2])


def fail(number):
    if number == 7:
        raise IndexError("list index\nout of range")
    return X[number], 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Items(fail), r"item 7 of the Items cannot be read: IndexError: list index out of range"),
        (Items(lambda i: (torch.zeros(3 + i % 2), 1)), r"item 1 .*shape \(4,\), and item 0 has \(3,\): resize"),
        (Items(lambda i: (X[i], 0, 1)), "item 0 of the Items has 3 parts"),
        (Items(lambda i: ()), "item 0 of the Items has 0 parts"),
        (Items(lambda i: {"ids": X[i], "label": 0}), "has the keys ids, label: one input"),
        (Items(lambda i: {"x": X[i], "image": X[i]}), "one input"),
        (Items(lambda i: {"text": "good", "title": "a", "label": 1}), "tokenise the text of 'text' first"),
        (Items(lambda i: {"input_ids": X[i], "attention_mask": X[i]} if i else {"input_ids": X[i]}), "several by name"),
        (Items(lambda i: (X[i], random.randrange(2))), "label of item 0 .* differs when it is read again"),
        (Items(lambda i: (X[i], "cat")), "item 0 of the Items: labels must be numbers"),
        (Items(lambda i: (X[i], i / 2)), "item 1 of the Items: labels must be integers"),
        (Items(lambda i: (X[i], X[i])), "item 0 of the Items: labels .* must be one-hot"),
        (Items(lambda i: (X[i], -1)), "item 0 of the Items: labels must be at least 0"),
        (Items(lambda i: ("text", "other")), "item 0 of the Items: inputs must be numbers"),
        (Items(lambda i: (None, 1)), "item 0 of the Items: inputs must be numbers"),
        (Items(lambda i: None), "item 0 of the Items: inputs must be numbers"),
        (Items(lambda i: (X[i], 0) if i else X[i]), "item 0 of the Items has no label, and others have one"),
        (Items(lambda i: (X[i].int() if i else X[i], 0)), r"item 1 .* torch.int32, and item 0 of torch.float32"),
        (Items(lambda i: (torch.zeros(8, 8, 3), 0)), "layout"),
        (Items(lambda i: (X[i], 0), 0), "no items"),
        (CountedStream(13), "says that it has 13 items, and ends after 12"),
        (TensorDataset(X, X, Y), "3 tensors"),
        (DataLoader(TensorDataset(X, Y), sampler=WeightedRandomSampler([1.0] * 12, 12)), "WeightedRandomSampler"),
        (iter([1]), "are a list_iterator"),
        ("some.npz", "open files with limbeck.open_data"),
        ([1, 2, 3], "are a list"),
    ],
)
def test_what_is_not_is_refused_in_one_line(given, message):
    with pytest.raises(DataError, match=message) as caught:
        as_examples(given)
    assert "\n" not in str(caught.value)


def test_items_that_stay_the_same_are_not_told():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        as_examples(Items(lambda i: (X[i], 0)))
        as_examples(Items(lambda i: (torch.randn(3, generator=torch.Generator().manual_seed(i)), 0)))


def test_a_data_set_that_counts_itself_is_read_to_its_length():
    seen = []

    def item(number):
        seen.append(number)
        return X[number], 0

    as_examples(Items(item, 7))
    assert set(seen) == set(range(7))


def test_a_stream_is_read_from_its_beginning_to_its_end():
    assert torch.equal(as_examples(Stream()).inputs, X) and torch.equal(as_examples(CountedStream(7)).labels, Y[:7])


def test_messages_name_the_part():
    with pytest.raises(DataError, match=r"^test data: item 0"):
        as_data_set((X, Y), None, Items(lambda i: None), None)
    with pytest.raises(DataError, match="labels run from 1 to 3, and class indices start at 0: subtract 1"):
        as_data_set((X, Y + 1), None, None, None)
    with pytest.raises(DataError, match="labels run from 1 to 3"):
        as_data_set((X, Y + 1), None, None, ["a", "b", "c"])


def test_numbers_that_are_no_class_indices_are_refused_before_each_up_to_them_has_a_name():
    rows = torch.randn(30, 4)
    with pytest.raises(
        DataError, match="labels go up to 2,000,000,000, and there are 3 different ones: .*numpy.unique"
    ):
        limbeck.train("mlp", (rows, torch.arange(30) % 3 * 1_000_000_000), epochs=1, progress=False)
    with pytest.raises(DataError, match="no example of class '1'"):
        limbeck.train("mlp", (rows, torch.arange(30) % 2 * 2), epochs=1, progress=False)
