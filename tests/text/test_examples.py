"""The scripts of examples/ on texts, each run on tiny models in a folder of its own."""

import csv
import json
import runpy
from pathlib import Path

import pytest
import torch

from limbeck.system.hugging_face import transformers

EXAMPLES = Path(__file__).parents[2] / "examples"
SIZES = {"vocab_size": 64, "num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}


def save(folder, tokenizer, config, architecture=None):
    """A model with its tokenizer; a configuration alone where no architecture makes weights."""
    torch.manual_seed(0)
    hf = transformers()
    if architecture is None:
        config.save_pretrained(folder)
    else:
        getattr(hf, architecture)(config).save_pretrained(folder)
    hf.AutoTokenizer.from_pretrained(tokenizer).save_pretrained(folder)


def small(name):
    """A script of at most ten lines of code, as it is."""
    path = EXAMPLES / name
    code = [line for line in path.read_text().splitlines() if line.strip() and not line.startswith('"""')]
    assert len(code) <= 10
    return str(path)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_text_classifier(texts, tokenizer, other_tokenizer, capsys):
    with open("reviews.csv", "w", newline="") as stream:
        csv.writer(stream).writerows([("text", "label"), *((t, ["short", "long"][len(t) > 30]) for t in texts)])
    hf = transformers()
    named = {"id2label": {0: "short", 1: "long"}, "label2id": {"short": 0, "long": 1}}
    save("bert-finetuned", tokenizer, hf.BertConfig(**SIZES, **named), "BertForSequenceClassification")
    save("tiny-config", other_tokenizer, hf.BertConfig(**{**SIZES, "hidden_size": 8}))
    runpy.run_path(small("hf_text.py"))
    assert "test errors" in capsys.readouterr().out
    described = json.loads(Path("runs/text/model/config.json").read_text())
    assert described["config"]["hidden_size"] == 8 and described["id2label"] == {"0": "long", "1": "short"}


def test_token_classes(texts, tokenizer, capsys):
    rows = [
        {"tokens": text.split(), "tags": ["odd" if int(w[1:]) % 2 else "even" for w in text.split()]} for text in texts
    ]
    Path("tagged.jsonl").write_text("\n".join(map(json.dumps, rows)))
    hf = transformers()
    named = {"id2label": {0: "even", 1: "odd"}, "label2id": {"even": 0, "odd": 1}}
    save("bert-tagger", tokenizer, hf.BertConfig(**SIZES, **named), "BertForTokenClassification")
    save("tiny-tagger", tokenizer, hf.BertConfig(**SIZES, architectures=["BertForTokenClassification"]))
    runpy.run_path(small("hf_token_classes.py"))
    assert "test errors" in capsys.readouterr().out and Path("runs/tags/metrics.json").exists()


def test_next_token(texts, other_tokenizer, capsys):
    Path("texts.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    hf = transformers()
    sizes = {"vocab_size": 64, "n_layer": 1, "n_head": 1, "n_positions": 128, "bos_token_id": 3, "eos_token_id": 3}
    save("gpt", other_tokenizer, hf.GPT2Config(n_embd=16, **sizes), "GPT2LMHeadModel")
    save("tiny-gpt", other_tokenizer, hf.GPT2Config(n_embd=8, **sizes, architectures=["GPT2LMHeadModel"]))
    runpy.run_path(small("next_token.py"))
    assert "test errors" in capsys.readouterr().out
    metrics = json.loads(Path("runs/next/metrics.json").read_text())
    assert metrics["student"]["test_examples"] > 20
