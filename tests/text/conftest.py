"""Tokenizers and Hugging Face models of a few thousand numbers, made here."""

import pytest

from limbeck.system.hugging_face import transformers

WORDS = [f"w{number}" for number in range(60)]


def save_tokenizer(folder, words=WORDS, *, kind="bert"):
    """A tokenizer of whole words, with special tokens as BERT or GPT-2 have them."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = {word: number for number, word in enumerate([*special, *words])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    if kind == "bert":
        made.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
        named = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
        inputs = ["input_ids", "token_type_ids", "attention_mask"]
    else:
        named, inputs = {"eos_token": "[SEP]"}, ["input_ids", "attention_mask"]
    whole = transformers().PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="[UNK]", model_input_names=inputs, **named
    )
    whole.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory):
    return str(save_tokenizer(tmp_path_factory.mktemp("tokenizer")))


@pytest.fixture(scope="session")
def other_tokenizer(tmp_path_factory):
    """The same words with other numbers, in the way of GPT-2: no special tokens around, none to pad with."""
    return str(save_tokenizer(tmp_path_factory.mktemp("other"), WORDS[::-1], kind="gpt2"))


@pytest.fixture
def texts():
    """Texts of 1 to 24 words."""
    return [" ".join(WORDS[(7 * row + 3 * k) % 60] for k in range(1 + (5 * row) % 24)) for row in range(90)]


@pytest.fixture(scope="session")
def bert(tokenizer):
    import torch

    torch.manual_seed(0)
    hf = transformers()
    config = hf.BertConfig(
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=40,
        num_labels=3,
        initializer_range=0.3,
    )
    return hf.BertForSequenceClassification(config).eval()


@pytest.fixture(scope="session")
def limbeck():
    """The command line in this process."""
    from tiny_runs import run_here

    return run_here


@pytest.fixture(scope="module", autouse=True)
def no_drawing():
    """Reports without figures, in these tests alone: others look at theirs."""
    from tiny_runs import without_figures

    with without_figures():
        yield


SIZES = {"vocab_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
         "max_position_embeddings": 40, "initializer_range": 0.3}  # fmt: skip


@pytest.fixture(scope="session")
def architectures(tmp_path_factory, tokenizer, other_tokenizer):
    """Folders with a configuration, a tokenizer and no weights, by the end of the architecture's name."""
    hf, folder = transformers(), tmp_path_factory.mktemp("architectures")
    for name in ("SequenceClassification", "TokenClassification"):
        config = hf.BertConfig(**SIZES, hidden_size=16, architectures=[f"BertFor{name}"])
        config.save_pretrained(folder / name)
        hf.AutoTokenizer.from_pretrained(tokenizer).save_pretrained(folder / name)
    config = hf.GPT2Config(vocab_size=64, n_embd=16, n_layer=1, n_head=2, n_positions=16, initializer_range=0.3,
                           bos_token_id=3, eos_token_id=3, architectures=["GPT2LMHeadModel"])  # fmt: skip
    config.save_pretrained(folder / "LMHeadModel")
    hf.AutoTokenizer.from_pretrained(other_tokenizer).save_pretrained(folder / "LMHeadModel")
    return folder
