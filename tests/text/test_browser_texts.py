"""Texts on a page: its script makes the tokens that Hugging Face's tokenizers make."""

import json
import os
import shutil
import subprocess
from importlib.resources import files

import numpy as np
import pytest
import torch
from chromium import Browser, chromium

import limbeck
from limbeck.data.examples import Examples
from limbeck.data.text import Text
from limbeck.data.tokens import tokenise
from limbeck.errors import ConfigError
from limbeck.exporters.browser.inputs import input_of, samples_of
from limbeck.exporters.browser.tokenizer import tokenizer_for_page
from limbeck.exporters.protocol import Samples
from limbeck.models.copying import copy_module
from limbeck.options import TextPresentation
from limbeck.runs import parity_files
from limbeck.system.hugging_face import transformers

TEXTS = (
    "The quick brown fox, isn't it? 12,345 times!", "", "   ", "naïve café — Ünïcödé  ", "日本語 text 漢字",
    "tabs\tand\nnewlines\r\nhere", "emoji 👩‍👩‍👧 🎉!!", "a" * 150, "price: $5.00 (50%) <b>bold</b> & [SEP] more",
    "it's we're I'll you've they'd", "x_y-z/1.5e-3", "Σίσυφος ΑΣ İstanbul ß", "…“quoted” ‘single’ «guillemets»",
    "next\u0085line end\u200b zero\ufeff width\u00a0nbsp",
    "the the the fox fox [MASK] brown[CLS]it", "ﬁ ligature ½ Ⅷ ²", "0123456789 ٣٤٥",
)  # fmt: skip
CORPUS = [*TEXTS, "the quick brown fox jumps over the lazy dog", "a naïve price in the café is more than it was"] * 4
in_node = pytest.mark.skipif(shutil.which("node") is None, reason="the program node (Node.js) is not installed")


def made(kind, folder):
    """A tokenizer that is trained here, of the ways of BERT, GPT-2, a word-level one, and BPE with suffixes."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    if kind == "bert":
        whole = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        whole.normalizer = normalizers.BertNormalizer(lowercase=True)
        whole.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=special)
    elif kind == "gpt2":
        whole = Tokenizer(models.BPE())
        whole.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<eos>"], initial_alphabet=alphabet)
    elif kind == "words":
        whole = Tokenizer(models.WordLevel(unk_token="[UNK]"))
        whole.normalizer = normalizers.Sequence(
            [normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()]
        )
        whole.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Whitespace(), pre_tokenizers.Digits(individual_digits=True)]
        )
        trainer = trainers.WordLevelTrainer(vocab_size=60, special_tokens=special)
    else:
        whole = Tokenizer(models.BPE(unk_token="[UNK]", end_of_word_suffix="</w>"))
        whole.normalizer = normalizers.NFKC()
        whole.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
        trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=special, end_of_word_suffix="</w>")
    whole.train_from_iterator(CORPUS[:9] if kind == "words" else CORPUS, trainer)
    named = {"eos_token": "<eos>"}
    if kind != "gpt2":
        whole.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[(t, whole.token_to_id(t)) for t in ("[CLS]", "[SEP]")]
        )
        named = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    transformers().PreTrainedTokenizerFast(tokenizer_object=whole, **named).save_pretrained(folder)
    return str(folder)


@in_node
@pytest.mark.parametrize("kind", ["bert", "gpt2", "words", "suffixes"])
def test_tokens_are_those_of_the_tokenizer(kind, tmp_path):
    for length in (12, 300):
        seen = TextPresentation(made(kind, tmp_path / f"{length}"), length)
        tokens = tokenise(TEXTS, None, seen)
        expected = [tokens.ids[a:b].tolist() for a, b in zip(tokens.ends[:-1], tokens.ends[1:], strict=True)]
        source = (files("limbeck.exporters.browser") / "assets" / "tokens.js").read_text()
        asked = json.dumps([tokenizer_for_page(seen, TEXTS), TEXTS])
        source += f"const [t, texts] = {asked}; const ask = limbeckTokens.opened(t.tokenizer, t);"
        source += "console.log(JSON.stringify(texts.map((text) => ask(text).ids)));"
        done = subprocess.run(["node", "-"], input=source, capture_output=True, text=True, check=False)
        assert not done.returncode, done.stderr
        for text, one, other in zip(TEXTS, json.loads(done.stdout), expected, strict=True):
            assert one == other, f"{text!r}"


def test_tokenizers_with_other_parts_are_refused_by_name(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers

    whole = Tokenizer(models.Unigram([("a", 0.0), ("b", -1.0)]))
    transformers().PreTrainedTokenizerFast(tokenizer_object=whole).save_pretrained(tmp_path / "one")
    with pytest.raises(ConfigError, match="which has a model Unigram: export to onnx or hub"):
        tokenizer_for_page(TextPresentation(str(tmp_path / "one")), TEXTS)
    whole = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    whole.pre_tokenizer = pre_tokenizers.Metaspace()
    transformers().PreTrainedTokenizerFast(tokenizer_object=whole).save_pretrained(tmp_path / "two")
    with pytest.raises(ConfigError, match="which has a pre-tokenizer Metaspace"):
        tokenizer_for_page(TextPresentation(str(tmp_path / "two")), TEXTS)


def test_a_page_asks_for_texts_and_shows_some(tokenizer):
    seen = TextPresentation(tokenizer, 30)
    ids = torch.zeros(2, 3, dtype=torch.int64)
    some = Samples("test", seen, {"input_ids": ids, "attention_mask": ids}, ["w1  w2", "w3"], (1, 0))
    found = input_of(some)
    assert (found["kind"], found["names"], found["before"], found["after"]) == (
        "text", ["input_ids", "attention_mask"], [2], [3]
    )  # fmt: skip
    assert samples_of(some, ["a", "b"])[0] == {"label": "b", "title": "w1 w2", "text": "w1  w2"}


@pytest.mark.slow
@pytest.mark.skipif(chromium() is None, reason="Chromium is not installed: apt-get install chromium")
@pytest.mark.skipif("LIMBECK_ORT_WEB" not in os.environ, reason="LIMBECK_ORT_WEB does not name onnxruntime-web")
def test_texts_that_are_typed_are_answered_as_in_python(bert, tokenizer, texts, tmp_path, monkeypatch):
    monkeypatch.setattr(parity_files, "write_parity_page", lambda contents, path: path.write_text(contents.title))
    model = copy_module(bert).eval()
    model.presentation = TextPresentation(tokenizer, 10, ("input_ids", "attention_mask"))
    held = Examples.of(Text(texts), [k % 3 for k in range(len(texts))])
    done = limbeck.export(
        model,
        out=tmp_path / "out",
        formats=["browser"],
        data=held,
        classes="abc",
        ort_web=os.environ["LIMBECK_ORT_WEB"],
    )
    assert done.parity["formats"]["browser"].get("flips", {"count": 0})["count"] == 0
    asked = ["w1 w2 w3", texts[23], "nothing that is known", "w5"]
    expected = limbeck.predict(model, Examples.of(Text(asked)), classes="abc").probabilities
    browser = Browser()
    try:
        browser.open(tmp_path / "out" / "model.html")
        for text, one in zip(asked, expected, strict=True):
            found = browser.run(f"limbeckPredict({json.dumps({'text': text})})")["probabilities"]
            np.testing.assert_allclose(found, one, atol=1e-4)
        assert "more that the network does not see" not in browser.run("document.getElementById('tokens').textContent")
        browser.run(f"document.getElementById('text').value = {json.dumps(texts[23])}")
        browser.run("document.getElementById('text').dispatchEvent(new Event('input'))")
        browser.until("document.getElementById('said').textContent === 'Your text'")
        assert "12 more that the network does not see" in browser.run("document.getElementById('tokens').textContent")
        assert browser.troubles() == [] and len(browser.requests()) == 1
        browser.screenshot(tmp_path / "texts.png")
    finally:
        browser.close()
