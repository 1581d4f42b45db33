"""Text classifiers exported: any number of texts of any length, and a folder that from_pretrained loads."""

import inspect
import json

import pytest
import torch

import limbeck
from limbeck.data.examples import Examples
from limbeck.data.text import Text
from limbeck.data.words import Words
from limbeck.exporters import exporter_named
from limbeck.exporters.parity import judge_file
from limbeck.models.copying import copy_module
from limbeck.options import TextPresentation
from limbeck.runs import parity_files
from limbeck.system.hugging_face import transformers


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(parity_files, "write_parity_page", lambda contents, path: path.write_text(contents.title))
    for name, value in (("seconds", 0.001), ("memory", False)):
        monkeypatch.setitem(inspect.unwrap(judge_file).__kwdefaults__, name, value)


@pytest.fixture
def classifier(bert, tokenizer):
    made = copy_module(bert)
    made.presentation = TextPresentation(tokenizer, 30, ("input_ids", "attention_mask"))
    return made


def held(texts):
    return Examples.of(Text(texts), [k % 3 for k in range(len(texts))])


def tokens(batch, length):
    ids = torch.randint(4, 60, (batch, length), generator=torch.Generator().manual_seed(batch + length))
    return {"input_ids": ids, "attention_mask": (torch.arange(length) < max(1, length - 2)).long().repeat(batch, 1)}


def test_a_folder_is_loaded_by_from_pretrained(classifier, texts, tmp_path):
    done = limbeck.export(classifier, out=tmp_path / "out", formats=["hub"], data=held(texts), classes=["a", "b", "c"])
    assert done.parity["formats"]["hub"]["flips"]["count"] == 0
    folder = done.files["hub"]
    hf = transformers()
    model = hf.AutoModelForSequenceClassification.from_pretrained(folder)
    assert model.config.id2label == {0: "a", 1: "b", 2: "c"}
    given = hf.AutoTokenizer.from_pretrained(folder)(texts[:5], padding=True, return_tensors="pt")
    expected = limbeck.predict(classifier, Examples.of(Text(texts[:5])), classes="abc").probabilities
    with torch.no_grad():
        found = model(input_ids=given["input_ids"], attention_mask=given["attention_mask"]).logits.softmax(-1)
    torch.testing.assert_close(found, torch.from_numpy(expected), atol=1e-5, rtol=1e-4)
    assert "AutoModelForSequenceClassification.from_pretrained" in (folder / "README.md").read_text()
    assert "Texts are truncated to 30 tokens" in (folder / "README.md").read_text()
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["BertForSequenceClassification"]


@pytest.mark.slow
def test_the_folder_s_memory_is_that_of_a_process_with_transformers_alone(classifier, texts, tmp_path):
    done = limbeck.export(classifier, out=tmp_path / "out", formats=["hub"], data=held(texts))
    found = exporter_named("hub").peak_memory(done.files["hub"], tokens(2, 5))
    assert found["bytes"] > found["runtime_bytes"] > 1 << 26


@pytest.mark.slow
def test_any_number_of_texts_of_any_length(classifier, texts, tmp_path):
    done = limbeck.export(classifier, out=tmp_path / "out", formats=["onnx", "torch"], data=held(texts))
    for name, path in done.files.items():
        ask = exporter_named(name).open(path)
        for batch, length in ((1, 3), (3, 9), (257, 30), (2, 1)):
            with torch.no_grad():
                expected = classifier(**tokens(batch, length)).logits
            torch.testing.assert_close(ask(tokens(batch, length)), expected, atol=2e-5, rtol=1e-4)
        found = done.parity["formats"][name]
        assert found["inputs"] == ["input_ids", "attention_mask"] and found["flips"]["count"] == found["flips"]["ties"]


@pytest.mark.slow
def test_words_with_classes_are_compared_word_by_word(bert, tokenizer, texts, tmp_path):
    torch.manual_seed(0)
    model = transformers().BertForTokenClassification(bert.config).eval()
    model.presentation = TextPresentation(tokenizer, 30, ("input_ids", "attention_mask"))
    sentences = [text.split() for text in texts[:30]]
    tags = [[int(word[1:]) % 3 for word in words] for words in sentences]
    examples = Examples.of(Words(sentences), [tag for row in tags for tag in row])
    done = limbeck.export(model, out=tmp_path / "out", formats=["torch"], data=examples)
    found = done.parity["formats"]["torch"]
    assert found["examples"] == sum(map(len, sentences)) and found["flips"]["count"] == 0
