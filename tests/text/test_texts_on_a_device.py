"""Batches of texts and tables are wholly on the device; "meta" stands for one, whose values cannot be read."""

import pandas
import pytest
import torch

from limbeck.data import Examples
from limbeck.data.feed import Feed
from limbeck.data.next_tokens import NextTokens
from limbeck.data.table import Table
from limbeck.data.text import Text
from limbeck.data.words import Words
from limbeck.inputs import tensors_of
from limbeck.options.text import TextPresentation


def presented(kind, tokenizer, other_tokenizer, texts):
    shown, other = TextPresentation(tokenizer, 30), TextPresentation(other_tokenizer, 28)
    if kind == "texts":
        return Examples.of(Text(texts, presentation=shown), [0, 1] * 45), [other]
    if kind == "words":
        return Examples.of(Words([text.split() for text in texts])).with_presentation(shown), [other]
    if kind == "next tokens":
        return Examples.of(NextTokens(texts, shown)), []
    frame = pandas.DataFrame({"a": range(90), "b": ["x", "y", "z"] * 30})
    return Examples.of(Table.of(frame), [0, 1] * 45), []


@pytest.mark.parametrize("kind", ["texts", "words", "next tokens", "table"])
def test_batches_are_on_the_device(kind, tokenizer, other_tokenizer, texts):
    examples, others = presented(kind, tokenizer, other_tokenizer, texts)

    def batches(device):
        return Feed(examples, batch_size=7, seed=1, presentations=others, device=device).batches(2)

    count, meta = 0, torch.device("meta")
    for here, there in zip(batches("cpu"), batches(meta), strict=True):
        for wanted in [None, *others]:
            one, two = (
                list(tensors_of(each.inputs if wanted is None else each.seen_as(wanted))) for each in (here, there)
            )
            assert [(part.shape, part.dtype, part.device) for part in two] == [
                (part.shape, part.dtype, meta) for part in one
            ]
        assert there.index.device == meta and there.index.shape == here.index.shape
        assert here.labels is None or there.labels.device == meta
        count += len(here.index)
    assert count == len(examples)


def test_a_batch_that_is_moved_is_seen_there_by_every_model(tokenizer, other_tokenizer, texts):
    examples, (other,) = presented("texts", tokenizer, other_tokenizer, texts)
    batch, meta = examples.batch(slice(0, 3)), torch.device("meta")
    for wanted in (None, other):
        one, two = (list(tensors_of(each.seen_as(wanted))) for each in (batch, batch.to(meta)))
        assert [(part.shape, part.device) for part in two] == [(part.shape, meta) for part in one]
    assert batch.head(2).to(meta).index.device == meta
