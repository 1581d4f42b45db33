"""Positions of sequences as examples: words with classes, next tokens, and the runs that learn them."""

import json

import numpy as np
import pytest
import torch

import limbeck
from limbeck.data import Examples, Feed, cut_validation
from limbeck.data.next_tokens import NextTokens
from limbeck.data.position_files import next_token_set, open_next_tokens, open_words
from limbeck.data.words import Words
from limbeck.errors import ConfigError, DataError, FormatError
from limbeck.evaluation.prediction import answer_views, predict
from limbeck.inputs import POSITIONS
from limbeck.models.calling import call_model
from limbeck.models.hf_models import hf_model, hf_teacher
from limbeck.options import Augmentation, TextPresentation
from limbeck.protocols import Batch
from limbeck.runs.measure import answers_of, labels_of
from limbeck.runs.models import load
from limbeck.system.devices import Device
from limbeck.system.hugging_face import transformers
from limbeck.teachers import ModelTeacher

SIZES = {"vocab_size": 64, "num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2}
CPU = Device(torch.device("cpu"), "float32")


@pytest.fixture
def sentences(texts):
    return [text.split() for text in texts]


@pytest.fixture
def tags(sentences):
    """The class of a word is its number mod 3; every fourth word does not count."""
    return [[-100 if k % 4 == 3 else int(w[1:]) % 3 for k, w in enumerate(words)] for words in sentences]


@pytest.fixture
def tagged(tmp_path, sentences, tags):
    rows = [json.dumps({"tokens": words, "tags": labels}) for words, labels in zip(sentences, tags, strict=True)]
    (tmp_path / "tagged.jsonl").write_text("\n".join(rows))
    return tmp_path / "tagged.jsonl"


@pytest.fixture(scope="module")
def tagger(tokenizer, tmp_path_factory):
    """A folder with a small BERT for token classification."""
    torch.manual_seed(0)
    hf, folder = transformers(), tmp_path_factory.mktemp("tagger")
    config = hf.BertConfig(
        **SIZES, intermediate_size=16, max_position_embeddings=40, num_labels=3, initializer_range=0.3
    )
    hf.BertForTokenClassification(config).save_pretrained(folder)
    hf.AutoTokenizer.from_pretrained(tokenizer).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def speaker(other_tokenizer, tmp_path_factory):
    """A folder with a small GPT-2."""
    torch.manual_seed(0)
    hf, folder = transformers(), tmp_path_factory.mktemp("speaker")
    config = hf.GPT2Config(vocab_size=64, n_embd=16, n_layer=1, n_head=2, n_positions=16, initializer_range=0.3,
                           bos_token_id=3, eos_token_id=3)  # fmt: skip
    hf.GPT2LMHeadModel(config).save_pretrained(folder)
    hf.AutoTokenizer.from_pretrained(other_tokenizer).save_pretrained(folder)
    return str(folder)


def slowly_tagged(model, tokenizer, words):
    """Logits of each word of one sentence: those at its first token."""
    found = tokenizer(words, is_split_into_words=True, return_tensors="pt")
    places = [found.word_ids(0).index(word) for word in range(len(words))]
    with torch.no_grad():
        return model(**found).logits[0, places]


def test_words_are_answered_at_their_first_tokens_and_others_do_not_count(tagged, tagger, sentences, tags):
    model = hf_teacher(tagger, ["0", "1", "2"])
    data = open_words(tagged, presentation=model.presentation)
    assert data.classes == ("0", "1", "2")
    flat = [tag for row in tags for tag in row if tag != -100]
    whole = Examples.of(Words(sentences, [[tag != -100 for tag in row] for row in tags]), flat)
    assert len(whole) == len(flat) == len(data.train) + len(data.test)
    loaded = transformers().AutoTokenizer.from_pretrained(tagger)
    wanted = torch.cat([slowly_tagged(model, loaded, words) for words in sentences])
    wanted = wanted[torch.tensor([tag != -100 for row in tags for tag in row])].log_softmax(-1)
    for size in (1, 7, 64, 10_000):
        found = predict(model, whole, batch_size=size)
        assert (found - wanted).abs().max() < 1e-5 and torch.equal(found.argmax(-1), wanted.argmax(-1))
    for batch in Feed(whole.with_presentation(model.presentation), batch_size=50, seed=1).batches(0):
        assert (call_model(model, batch.inputs).log_softmax(-1) - wanted[batch.index]).abs().max() < 1e-5
        assert batch.labels.tolist() == [flat[row] for row in batch.index.tolist()]
    # Labels go with their words.
    part = whole.take(torch.tensor([30, 2, 100]))
    assert (predict(model, part) - wanted[[30, 2, 100]]).abs().max() < 1e-5
    again = {int(n): int(y) for p in data.parts().values() for n, y in zip(p.index, p.labels, strict=True)}
    assert [again[row] for row in range(len(flat))] == flat


def test_a_word_of_several_tokens_is_answered_once(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers

    made = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1, "##b": 2, "c": 3}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers().PreTrainedTokenizerFast(tokenizer_object=made, unk_token="[UNK]").save_pretrained(tmp_path)
    source = Words([["abb", "c", "ab"], ["c"]], presentation=TextPresentation(str(tmp_path), 9, ("input_ids",)))
    rows = torch.arange(4)
    (found,) = source.fetch(rows, rows)
    assert found["input_ids"].tolist() == [[1, 2, 2, 3, 1, 2], [3, 0, 0, 0, 0, 0]]
    assert found[POSITIONS].tolist() == [0, 3, 4, 6]
    short = source.with_presentation(TextPresentation(str(tmp_path), 4))
    with pytest.raises(DataError, match="position 2 of sequence 0 is beyond the 4 tokens .* raise max_length"):
        short.fetch(rows, rows)


def test_next_tokens_are_the_classes_of_positions(speaker, texts):
    presentation = TextPresentation(speaker, 5)
    data = next_token_set("texts", {"train": texts, "test": texts[:20]}, presentation)
    source, tokenizer = data.train.inputs, transformers().AutoTokenizer.from_pretrained(speaker)
    assert len(data.classes) == 64 and not data.every_class
    model, slow, labels = hf_teacher(speaker, data.classes), [], []
    for text in texts:
        ids = tokenizer(text)["input_ids"]
        for start in range(0, len(ids) - 1, 5):
            window = ids[start : start + 5][: len(ids) - 1 - start]
            with torch.no_grad():
                slow.append(model(torch.tensor([window])).logits[0].log_softmax(-1))
            labels += ids[start + 1 : start + 1 + len(window)]
    assert data.train.labels.tolist() == labels == source.labels.tolist()
    for size in (3, 500):
        assert (predict(model, data.train, batch_size=size) - torch.cat(slow)).abs().max() < 1e-5
    longer = next_token_set("texts", {"train": texts}, presentation, vocabulary=70)
    assert len(longer.classes) == 70
    with pytest.raises(ConfigError, match="outputs 64 tokens, and the data have 70 classes"):
        hf_model(speaker, longer.classes)


def test_teachers_of_next_tokens_need_the_same_tokenizer(speaker, tagger, texts):
    source, row = NextTokens(texts, TextPresentation(speaker, 8)), torch.tensor([0])
    source.fetch(row, row, presentations=[None, TextPresentation(speaker, 9)])
    with pytest.raises(DataError, match="teacher and student need the same"):
        source.fetch(row, row, presentations=[TextPresentation(tagger, 8)])
    with pytest.raises(DataError, match="windows have up to 8 tokens, and a model takes 7"):
        source.fetch(row, row, presentations=[TextPresentation(speaker, 7)])
    with pytest.raises(DataError, match="no position of any sequence"):
        NextTokens(["w1", ""], TextPresentation(speaker, 8))


def test_sequences_stay_together_and_cluster_verdicts(tagged, sentences):
    data = cut_validation(open_words(tagged), 0.2)
    parts = [set(part.inputs.sequence.tolist()) for part in data.parts().values()]
    assert len(parts) == 3 and sum(map(len, parts)) == len(set.union(*parts)) == 90
    groups = data.test.groups()
    assert groups.unique().numel() == len(parts[1]) or groups.unique().numel() == len(parts[2])
    assert groups[0] == 0 and (groups.diff() <= 1).all()
    grouped = Words(sentences, groups=[number // 30 for number in range(90)])
    words = [sum(map(len, sentences[first : first + 30])) for first in (0, 30, 60)]
    assert grouped.groups().bincount().tolist() == words


def test_the_order_keeps_sequences_whole_and_is_a_function_of_seed_and_epoch(sentences):
    source = Words(sentences)
    (order,) = source.orders(seed=1, epoch=2, batch_size=32)
    assert sorted(order.tolist()) == list(range(len(source)))
    assert torch.equal(order[64:], next(source.orders(seed=1, epoch=2, batch_size=32, start=64)))
    assert not torch.equal(order, next(source.orders(seed=1, epoch=3, batch_size=32)))
    blocks = order.split(32)
    pieces = sum(len(np.unique(source.sequence[block.numpy()])) for block in blocks)
    assert pieces <= 90 + len(blocks)  # of each batch at most its first and last sequence are cut


def test_a_batch_s_head_and_memory_go_by_positions(sentences, tagger):
    source = Words(sentences, presentation=TextPresentation(tagger, 40))
    examples = Examples.of(source)
    batch = examples.batch(torch.arange(30))
    few = batch.head(7)
    model = hf_teacher(tagger)
    assert len(few.index) == 7 and few.inputs["input_ids"].shape == batch.inputs["input_ids"].shape
    assert torch.equal(call_model(model, few.inputs), call_model(model, batch.inputs)[:7])
    longest = max(map(len, sentences))
    rows = examples.largest(2)
    assert {len(sentences[number]) for number in source.sequence[rows.numpy()]} == {longest}
    assert len(rows) == 2 * longest and examples.together_at_once == len(source) / 90
    with pytest.raises(DataError, match=r"logits of shape \(1, 3\).*of a model for token classification"):
        pooled = type("Pooled", (torch.nn.Module,), {"forward": lambda self, input_ids, **_: torch.zeros(1, 3)})()
        call_model(pooled, examples.batch(torch.arange(2)).inputs)


def test_stored_answers_are_those_of_training_batches(sentences, tagger):
    model = hf_teacher(tagger)
    examples = Examples.of(Words(sentences, presentation=model.presentation))
    teacher = ModelTeacher(model, ("0", "1", "2"))
    stored = answer_views(teacher, examples, Augmentation(), classes=teacher.classes, views=1, device=CPU)
    for batch in Feed(examples, batch_size=33, seed=3).batches(2):
        assert isinstance(batch, Batch)
        assert (stored.log_probs(batch, 2.0) - teacher.log_probs(batch, 2.0)).abs().max() < 1e-5


def test_a_run_on_words_of_teacher_and_student_with_other_tokenizers(tagged, tagger, other_tokenizer, tmp_path):
    hf = transformers()
    hf.BertConfig(
        **{**SIZES, "hidden_size": 8}, intermediate_size=8, architectures=["BertForTokenClassification"]
    ).save_pretrained(tmp_path / "tiny")
    teacher = hf_teacher(tagger, ["0", "1", "2"])
    student = hf_model(str(tmp_path / "tiny"), ["0", "1", "2"], tokenizer=other_tokenizer)
    assert type(student).__name__ == "BertForTokenClassification"
    data = cut_validation(open_words(tagged, presentation=student.presentation), 0.2)
    with pytest.warns(limbeck.errors.LimbeckWarning):
        run = limbeck.distill(
            teacher, student, data, epochs=2, batch_size=64, out=tmp_path / "run", precision="float32"
        )
    assert run.metrics["student"]["test_examples"] == len(data.test)
    assert "group" in run.verdict.sentence or "cluster" in str(run.verdict.to_dict())
    again = load(tmp_path / "run")
    assert torch.equal(predict(again, data.test), predict(run.student, data.test))
    found = answers_of(run.student, data.test)
    assert (found.predicted != labels_of(data.test)).sum() == run.metrics["student"]["test_errors"]


def test_a_run_on_next_tokens_lowers_the_loss(speaker, tmp_path, texts):
    (tmp_path / "texts.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    data = cut_validation(open_next_tokens(tmp_path / "texts.jsonl", TextPresentation(speaker, 8)), 0.2)
    hf = transformers()
    hf.GPT2Config(vocab_size=64, n_embd=8, n_layer=1, n_head=1, n_positions=16, bos_token_id=3, eos_token_id=3,
                  architectures=["GPT2LMHeadModel"]).save_pretrained(tmp_path / "tiny")  # fmt: skip
    student = hf_model(str(tmp_path / "tiny"), data.classes, tokenizer=speaker)
    teacher = hf_teacher(speaker, data.classes)
    run = limbeck.distill(teacher, student, data, epochs=3, batch_size=64, hard_weight=1.0, precision="float32")
    losses = [row["train_loss"] for row in run.history]
    assert losses[2] < losses[0] < 4.5


def test_files_with_other_lists_are_told(tmp_path):
    path = tmp_path / "a.jsonl"

    def told(*rows):
        path.write_text("\n".join(json.dumps(row) for row in rows))
        with pytest.raises(FormatError) as caught:
            open_words(path)
        return str(caught.value).removeprefix(str(path))

    good = {"tokens": ["a", "b"], "tags": ["X", "Y"]}
    assert told(good, {"tokens": ["a", "b"], "tags": ["X"]}) == ": line 2 has 2 words and 1 labels"
    assert "line 2 has 'a b' in column 'tokens', and a list is needed" in told(good, {"tokens": "a b", "tags": ["X"]})
    assert "text 2 is missing" in told(good, {"tokens": [None], "tags": ["X"]})
    assert "no position of any sequence is an example" in told({"tokens": ["a"], "tags": [-100]})
    assert "has 1 class" in told({"tokens": ["a", "b"], "tags": ["X", None]})
    with pytest.raises(FormatError, match="the label 'Y', which is not among the classes X, Z"):
        path.write_text(json.dumps(good))
        open_words(path, classes=["X", "Z"])
