"""Texts as examples: token numbers and masks, the order of an epoch, and answers that do not depend on neighbours."""

import numpy as np
import pytest
import torch

from limbeck.data import Examples, Feed
from limbeck.data import text as text_module
from limbeck.data.text import Strings, Text
from limbeck.errors import ConfigError, DataError
from limbeck.evaluation.prediction import answer_views, predict
from limbeck.inputs import same
from limbeck.options import Augmentation, TextPresentation
from limbeck.system.devices import Device
from limbeck.system.hugging_face import transformers
from limbeck.teachers import ModelTeacher


def slowly(tokenizer, texts, pairs=None, max_length=256):
    """What the tokenizer itself makes of a batch."""
    loaded = transformers().AutoTokenizer.from_pretrained(tokenizer)
    given = [texts] if pairs is None else [texts, pairs]
    return loaded(*given, truncation=True, max_length=max_length, padding="longest", return_tensors="pt")


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("paired", [True, False])
def test_batches_are_what_the_tokenizer_makes_of_them(tokenizer, texts, paired, kept, monkeypatch):
    if not kept:
        monkeypatch.setattr(text_module, "_KEPT_TOKENS", 10)
    pairs = texts[::-1] if paired else None
    source = Text(texts, pairs, presentation=TextPresentation(tokenizer, 12))
    assert source.decoded is not kept
    rows = torch.tensor([5, 80, 0, 44])
    (found,) = source.fetch(rows, rows)
    chosen = [texts[row] for row in rows]
    wanted = slowly(tokenizer, chosen, [pairs[row] for row in rows] if paired else None, 12)
    assert set(found) == {"input_ids", "token_type_ids", "attention_mask"} == set(wanted)
    assert all(torch.equal(found[name], wanted[name]) for name in found)
    assert found["token_type_ids"].any() == paired
    part = source.select(torch.tensor([44, 5]))
    (again,) = part.fetch(torch.tensor([0, 1]), rows)
    longest = again["input_ids"].shape[1]
    assert torch.equal(again["input_ids"], wanted["input_ids"][[3, 0], :longest])
    assert not wanted["attention_mask"][[3, 0], longest:].any()


def test_too_many_tokens_to_hold_are_made_in_workers(tokenizer, texts, monkeypatch):
    examples = Examples.of(Text(texts, presentation=TextPresentation(tokenizer, 12)), [0, 1] * 45)
    wanted = [batch.inputs for batch in Feed(examples, batch_size=16, seed=0).batches(0)]
    monkeypatch.setattr(text_module, "_KEPT_TOKENS", 10)
    examples = Examples.of(Text(texts, presentation=TextPresentation(tokenizer, 12)), [0, 1] * 45)
    found = [batch.inputs for batch in Feed(examples, batch_size=16, seed=0, workers=2).batches(0)]
    assert examples.inputs.decoded and not examples.inputs._tokens
    assert len(found) == 6 and all(same(one, other) for one, other in zip(found, wanted, strict=True))


def test_models_of_two_tokenizers_see_the_same_texts(tokenizer, other_tokenizer, texts):
    ours, theirs = TextPresentation(tokenizer, 30), TextPresentation(other_tokenizer, 8, ("input_ids",))
    examples = Examples.of(Text(texts, presentation=ours), [0, 1] * 45)
    batch = next(Feed(examples, batch_size=5, seed=1, presentations=[theirs]).batches(0))
    chosen = [texts[row] for row in batch.index]
    assert torch.equal(batch.inputs["input_ids"], slowly(tokenizer, chosen)["input_ids"])
    loaded = transformers().AutoTokenizer.from_pretrained(other_tokenizer)
    other = batch.seen_as(theirs)
    assert set(other) == {"input_ids"}
    for row, text in zip(other["input_ids"], chosen, strict=True):
        ids = loaded(text)["input_ids"][:8]
        assert row.tolist() == ids + [3] * (other["input_ids"].shape[1] - len(ids))  # padded with its end-of-text


def test_a_text_without_a_token_is_one_token(other_tokenizer):
    source = Text(["", "w1"], presentation=TextPresentation(other_tokenizer, 5))
    (found,) = source.fetch(torch.tensor([0]), torch.tensor([0]))
    assert found["input_ids"].shape == (1, 1) and found["attention_mask"].all()


def test_an_answer_does_not_depend_on_its_neighbours(tokenizer, texts, bert):
    examples = Examples.of(Text(texts, presentation=TextPresentation(tokenizer, 30)), [0, 1, 2] * 30)
    alone = predict(bert, examples, batch_size=1)
    assert alone.argmax(-1).unique().numel() > 1 and alone.std() > 0.1
    for size in (2, 7, 90):
        together = predict(bert, examples, batch_size=size)
        assert (together - alone).abs().max() < 1e-5
        assert torch.equal(together.argmax(-1), alone.argmax(-1))
    shuffled = examples.take(torch.randperm(90, generator=torch.Generator().manual_seed(0)))
    assert (predict(bert, shuffled, batch_size=16) - alone[shuffled.index]).abs().max() < 1e-5
    # The mask does it: without it the padding is read.
    unmasked = examples.with_presentation(TextPresentation(tokenizer, 30, ("input_ids",)))
    assert (predict(bert, unmasked, batch_size=90) - alone).abs().max() > 1e-3


def test_stored_answers_are_those_of_batches_in_training(tokenizer, texts, bert):
    examples = Examples.of(Text(texts, presentation=TextPresentation(tokenizer, 30)), [0, 1, 2] * 30)
    teacher = ModelTeacher(bert, ("a", "b", "c"))
    device = Device(torch.device("cpu"), "float32")
    stored = answer_views(teacher, examples, Augmentation(), classes=teacher.classes, views=1, device=device)
    for batch in Feed(examples, batch_size=8, seed=3).batches(2):
        assert (stored.log_probs(batch, 2.0) - teacher.log_probs(batch, 2.0)).abs().max() < 1e-5


def test_the_order_is_of_like_lengths_and_a_function_of_seed_and_epoch():
    lengths = torch.randint(1, 200, (1003,), generator=torch.Generator().manual_seed(0)).tolist()
    source = Text(["x" * length for length in lengths])
    (order,) = source.orders(seed=4, epoch=2, batch_size=10)
    assert sorted(order.tolist()) == list(range(1003))
    assert torch.equal(order, next(source.orders(seed=4, epoch=2, batch_size=10)))
    assert torch.equal(order[130:], next(source.orders(seed=4, epoch=2, batch_size=10, start=130)))
    for other in ({"seed": 5, "epoch": 2}, {"seed": 4, "epoch": 3}):
        assert not torch.equal(order, next(source.orders(**other, batch_size=10)))

    def padded(rows):
        blocks = [torch.tensor(lengths)[block] for block in rows.split(10)]
        return sum(int(block.max()) * len(block) for block in blocks) / sum(lengths)

    assert padded(order) < 1.06 < 1.5 < padded(torch.randperm(1003, generator=torch.Generator().manual_seed(1)))
    # Batches come in random order, not from short to long.
    first = torch.tensor(lengths)[order[:1000:10]].float()
    assert abs(np.corrcoef(first, torch.arange(100))[0, 1]) < 0.25


@pytest.mark.parametrize("size", [1, 89, 90, 91, 500])
def test_orders_of_any_batch_size_are_permutations(texts, size):
    (order,) = Text(texts).orders(seed=0, epoch=0, batch_size=size)
    assert sorted(order.tolist()) == list(range(90))


def test_the_digest_is_of_all_texts_and_of_nothing_else(tokenizer, texts):
    base = Examples.of(Text(texts))
    assert Examples.of(Text(texts, groups=range(90), presentation=TextPresentation(tokenizer))).source == base.source
    for row in (0, 44, 89):
        changed = [*texts[:row], texts[row] + " ", *texts[row + 1 :]]
        assert Examples.of(Text(changed)).source != base.source
    moved = [texts[0] + "w1", texts[1].removeprefix("w1"), *texts[2:]]
    assert Examples.of(Text(moved)).source != base.source
    assert Examples.of(Text(texts, texts)).source != base.source
    assert base.take(torch.tensor([3, 5])).source == base.source


def test_groups_are_numbered_anew_where_some_are_taken(texts):
    source = Text(texts, groups=[f"g{row // 4}" for row in range(90)])
    part = source.select(torch.tensor([80, 81, 3, 82]))
    assert part.groups().tolist() == part.together("validation").tolist() == [0, 0, 1, 0]
    assert Text(texts).groups() is None


def test_what_is_no_text_is_told():
    with pytest.raises(DataError, match=r"text 1 is missing: fill it in, or leave the example out"):
        Strings(["a", float("nan")])
    with pytest.raises(DataError, match=r"text 0 is missing"):
        Strings([None])
    with pytest.raises(DataError, match=r"text 2 is 5, a int: give texts as strings"):
        Text(["a", "b", 5])
    with pytest.raises(DataError, match="text 0 holds half a surrogate pair at character 1"):
        Text(["a\ud800"])
    with pytest.raises(DataError, match="there are no texts"):
        Text([])
    with pytest.raises(DataError, match="there are 2 texts and 1 groups"):
        Text(["a", "b"], groups=["x"])


def test_a_model_without_a_tokenizer_an_augmentation_and_a_wrong_folder_are_told(tokenizer, texts, tmp_path):
    rows = torch.tensor([0])
    with pytest.raises(DataError, match=r"set its attribute presentation to limbeck.TextPresentation"):
        Text(texts).fetch(rows, rows)
    with pytest.raises(ConfigError, match="augmentation is for images"):
        Text(texts, presentation=TextPresentation(tokenizer)).fetch(rows, rows, augmentation=Augmentation(shift=1))
    with pytest.raises(ConfigError, match=r"tokenizer .*nowhere: there is no such folder"):
        Text(texts, presentation=TextPresentation(str(tmp_path / "nowhere"))).fetch(rows, rows)
    with pytest.raises(ConfigError, match="cannot be loaded"):
        Text(texts, presentation=TextPresentation(str(tmp_path))).fetch(rows, rows)
    with pytest.raises(ConfigError, match="max_length must be"):
        TextPresentation(tokenizer, 0)
    with pytest.raises(ConfigError, match="names must be"):
        TextPresentation(tokenizer, 5, ("labels",))
