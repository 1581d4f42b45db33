"""An answer to a text does not depend on those beside it; where a model cannot help it, that is told."""

import pytest
import torch
from torch import nn

import limbeck
from limbeck import Examples, SoftTargets
from limbeck.data.next_tokens import NextTokens
from limbeck.data.text import Text
from limbeck.data.words import Words
from limbeck.evaluation import prediction
from limbeck.evaluation.prediction import predict
from limbeck.models.hf_models import hf_model
from limbeck.options import TextPresentation
from limbeck.runs.data_warnings import tell_padding
from limbeck.softtargets import softening
from limbeck.system.hugging_face import transformers
from limbeck.teachers import ModelTeacher


@pytest.fixture
def heard():
    """A callback, and what it was warned of."""
    said = []
    callback = type("Heard", (limbeck.system.callbacks.Callback,), {"on_warning": lambda _, text: said.append(text)})()
    return callback, said


def bert(hf, config):
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return hf.BertForSequenceClassification(hf.BertConfig(**config, **sizes, max_position_embeddings=40))


def distilbert(hf, config):
    sizes = {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 16, "max_position_embeddings": 40}
    return hf.DistilBertForSequenceClassification(hf.DistilBertConfig(**config, **sizes))


def gpt2(hf, config):
    sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 40}
    return hf.GPT2ForSequenceClassification(hf.GPT2Config(**config, **sizes, bos_token_id=3, eos_token_id=3))


def llama(hf, config):
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
             "num_key_value_heads": 2, "max_position_embeddings": 40}  # fmt: skip
    return hf.LlamaForSequenceClassification(hf.LlamaConfig(**config, **sizes, bos_token_id=3, eos_token_id=3))


@pytest.mark.parametrize(
    ("make", "side"),
    [(bert, "right"), (distilbert, "right"), (gpt2, "right"), (gpt2, "left"), (llama, "left"), (llama, "right")],
)
def test_models_of_texts_answer_alone_as_beside_others(make, side, tokenizer, other_tokenizer, tmp_path, texts, heard):
    hf, texts = transformers(), texts[:24]
    torch.manual_seed(0)
    make(hf, {"vocab_size": 64, "num_labels": 3, "initializer_range": 0.3}).save_pretrained(tmp_path)
    own = hf.AutoTokenizer.from_pretrained(tokenizer if make in {bert, distilbert} else other_tokenizer)
    own.padding_side = side
    own.save_pretrained(tmp_path)
    model = hf_model(str(tmp_path), ["a", "b", "c"]).eval()
    examples = Examples.of(Text(texts)).with_presentation(model.presentation)
    whole = predict(model, examples, batch_size=24)
    alone = torch.cat([predict(model, examples.take(torch.tensor([row]))) for row in range(len(texts))])
    assert (whole - alone).abs().max() < 1e-5 and torch.equal(whole.argmax(-1), alone.argmax(-1))
    assert (whole - whole.mean(0)).abs().max() > 0.03
    by_itself = [model(**own(text, return_tensors="pt")).logits[0].log_softmax(-1) for text in texts]
    assert (torch.stack(by_itself) - whole).abs().max() < 1e-5  # as the library answers to one text
    tell_padding("student", model, examples, heard[0])
    assert not heard[1]


class Bag(nn.Module):
    """The mean of all tokens' embeddings, padding among them."""

    def __init__(self, tokenizer):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.out = nn.Embedding(64, 8), nn.Linear(8, 3)
        self.presentation = TextPresentation(tokenizer, 40, ("input_ids",))

    def forward(self, input_ids):
        return self.out(self.embedding(input_ids).mean(-2))


class Each(Bag):
    """The same of each token alone: what pads others does not count."""

    def forward(self, input_ids):
        return self.out(self.embedding(input_ids))


def test_a_model_that_takes_no_mask_is_told(tokenizer, texts, heard):
    callback, said = heard
    model = Bag(tokenizer)
    examples = Examples.of(Text(texts)).with_presentation(model.presentation)
    tell_padding("student", model, examples, callback)
    tell_padding("teacher", ModelTeacher(model), examples, callback)
    assert len(said) == 2 and all("It takes no attention_mask." in text for text in said)
    assert said[0].startswith("the student's output for a short text changes with its padding, by up to")
    assert said[1].startswith("the teacher Bag's output")
    short, long = min(texts, key=len), max(texts, key=len)
    together, by_itself = (predict(model, Examples.of(Text(each)).with_presentation(model.presentation))[0]
                           for each in ([short, long], [short]))  # fmt: skip
    assert f"by up to {float((together - by_itself).abs().max()):.2g} nats" in said[0]
    several = Examples.of_labels(Text(texts), torch.ones(len(texts), 3, dtype=torch.int64))
    tell_padding("student", model, several.with_presentation(model.presentation), callback)
    assert len(said) == 3


def test_positions_of_models_that_look_at_each_token_alone_are_not_told(tokenizer, texts, heard):
    model = Each(tokenizer)
    for source in (Words([text.split() for text in texts]), NextTokens(texts, model.presentation)):
        tell_padding("student", model, Examples.of(source).with_presentation(model.presentation), heard[0])
    tell_padding("student", nn.Linear(2, 2), Examples.of(torch.zeros(3, 2)), heard[0])
    assert not heard[1]


class Shapes(nn.Module):
    """Embeddings summed over the tokens that there are; keeps the shapes it was asked about."""

    def __init__(self, tokenizer, most=10**9):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.most, self.asked = nn.Embedding(64, 3), most, []
        self.presentation = TextPresentation(tokenizer, 40, ("input_ids", "attention_mask"))

    def forward(self, input_ids, attention_mask):
        if len(input_ids) > self.most:
            raise torch.OutOfMemoryError("no memory")
        self.asked.append(tuple(input_ids.shape))
        return (self.embedding(input_ids) * attention_mask.unsqueeze(-1)).sum(1)


@pytest.mark.parametrize("most", [10**9, 5])
def test_texts_of_like_length_are_answered_together_and_come_back_in_order(
    tokenizer, texts, tmp_path, most, monkeypatch
):
    texts = [" ".join([texts[n % len(texts)]] * (1 + n % 4)) for n in range(90)]
    monkeypatch.setattr(prediction, "TEXTS_AT_ONCE", 8)
    monkeypatch.setattr(prediction, "_BLOCK", 40)
    monkeypatch.setattr(softening, "TEXTS_AT_ONCE", 8)
    slow, quick = Shapes(tokenizer), Shapes(tokenizer, most)
    examples = Examples.of(Text(texts)).with_presentation(slow.presentation)
    alone = torch.cat([predict(slow, examples.take(torch.tensor([row]))) for row in range(90)])
    torch.testing.assert_close(predict(quick, examples), alone, rtol=0, atol=1e-5)
    spent = sum(rows * length for rows, length in quick.asked)
    at_once = Shapes(tokenizer)
    at_once(**examples.as_seen(slice(0, 90)))
    assert spent < 1.2 * at_once.asked[0][0] * at_once.asked[0][1]
    blocks = list(prediction.answers_in_blocks(quick, examples, within=slice(7, 77)))
    assert [rows for rows, _ in blocks] == [slice(7, 47), slice(47, 77)]
    torch.testing.assert_close(torch.cat([each for _, each in blocks]), alone[7:77], rtol=0, atol=1e-5)
    if most > 5:
        SoftTargets.write(tmp_path / "s", quick, examples, classes="abc", dtype="float32", batch_size=32)
        stored = SoftTargets.open(tmp_path / "s", examples=examples)
        torch.testing.assert_close(stored.log_probs(examples.batch(slice(0, 90)), 1.0), alone, rtol=0, atol=1e-5)
