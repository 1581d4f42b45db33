"""Small data for the scripts of examples/, by the script's name: each function makes what one of them reads, here."""

__all__ = ["SMALL", "word_tokenizer"]

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from limbeck.system.hugging_face import transformers

WORDS = [f"w{number}" for number in range(60)]
_SIZES = {"vocab_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
_OWN_TEACHER = """
import torch
torch.manual_seed(0)
teacher = torch.nn.Linear(4, 3)
"""
_OWN_DATA = '''
import random
from pathlib import Path

import numpy as np
import torch
from PIL import Image


class Photographs(torch.utils.data.Dataset):
    """Images of classes' folders as tensors, shifted and turned at random."""

    def __init__(self, part, augment=False):
        self.files, self.augment = sorted(Path(part).glob("*/*.png")), augment
        self.classes = sorted({file.parent.name for file in self.files})

    def __len__(self):
        return len(self.files)

    def __getitem__(self, number):
        image = Image.open(self.files[number])
        if self.augment:
            image = image.rotate(random.uniform(-10, 10), translate=(random.randint(-1, 1), 0))
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
        return pixels, self.classes.index(self.files[number].parent.name)


def network(width):
    layers = torch.nn.Flatten(), torch.nn.Linear(432, width), torch.nn.ReLU(), torch.nn.Linear(width, 3)
    return torch.nn.Sequential(*layers)


torch.manual_seed(0)
teacher, student = network(32), network(6)
'''


def coloured(label: int, size: int, draw: np.random.Generator) -> Image.Image:
    """An image with more of one colour than of others."""
    pixels = draw.integers(0, 150, (size, size + 3, 3))
    pixels[..., label] += 60
    return Image.fromarray(pixels.astype(np.uint8))


def coloured_files(folder: str, count: int, size: int, ending: str, *, labelled: bool = True) -> None:
    """Such images in folders of three classes, or in one."""
    draw = np.random.default_rng(count)
    for number in range(count):
        place = Path(folder, ("blue", "green", "red")[number % 3] if labelled else "")
        place.mkdir(parents=True, exist_ok=True)
        coloured(number % 3, size, draw).save(place / f"{number}.{ending}")


def word_tokenizer(folder: str | Path, words: Sequence[str] = WORDS) -> None:
    """A tokenizer of whole words."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    made = Tokenizer(models.WordLevel({word: row for row, word in enumerate([*special, *words])}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    transformers().PreTrainedTokenizerFast(tokenizer_object=made, eos_token="[SEP]", **names).save_pretrained(folder)


def texts(count: int) -> list[str]:
    """Texts of 1 to 24 words; those of class 1 have more words of the second half."""
    draw = random.Random(0)
    return [
        " ".join(
            WORDS[draw.randrange(30) + 30 * (draw.random() < (0.8 if row % 2 else 0.2))] for _ in range(1 + row % 24)
        )
        for row in range(count)
    ]


def save_network(folder: str, config: Any, architecture: str | None = None) -> None:
    """A model with its tokenizer; a configuration alone where no architecture makes weights."""
    torch.manual_seed(0)
    if architecture is None:
        config.save_pretrained(folder)
    else:
        getattr(transformers(), architecture)(config).save_pretrained(folder)
    word_tokenizer(folder, WORDS if architecture else WORDS[::-1])


def _bert(**settings: Any) -> Any:
    return transformers().BertConfig(**_SIZES, **settings)


def _named(*names: str) -> dict[str, Any]:
    return {"id2label": dict(enumerate(names)), "label2id": {name: row for row, name in enumerate(names)}}


def _classifiers() -> None:
    save_network("bert-finetuned", _bert(hidden_size=16, **_named("bad", "good")), "BertForSequenceClassification")
    save_network("tiny-config", _bert(hidden_size=8))


def forest() -> None:
    """Three columns, of which the larger of two is the class."""
    import pandas

    frame = pandas.DataFrame(np.random.default_rng(0).normal(size=(160, 3)), columns=["a", "b", "c"])
    frame["y"] = (frame["a"] > frame["b"]).astype(int)
    frame[:100].to_csv("train.csv", index=False)
    frame[100:].to_csv("val.csv", index=False)
    frame[100:].drop(columns="y").to_csv("new.csv", index=False)


def saved_answers() -> None:
    """The five largest of eight probabilities."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(120, 6)).astype(np.float32)
    logits = x @ draw.normal(size=(6, 8)) * 2
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.savez("data.npz", x=x, y=np.arange(120) % 8)
    ids = np.argsort(-probs, 1)[:, :5]
    np.savez("top5.npz", probs=np.take_along_axis(probs, ids, 1), ids=ids)


def multi_label() -> None:
    """Three labels, each the sign of a number."""
    x = torch.randn(90, 4, generator=torch.Generator().manual_seed(0))
    y = (x[:, :3] > 0).int()
    parts = {"train": slice(0, 50), "val": slice(50, 70), "test": slice(70, 90)}
    arrays = {
        f"{name}_{part}": each[rows].numpy() for part, rows in parts.items() for name, each in (("x", x), ("y", y))
    }
    np.savez("tags.npz", **arrays)
    Path("own.py").write_text(_OWN_TEACHER)


def timm_images() -> None:
    """JPEGs, and a network of timm's own tests as timm saves one."""
    from safetensors.torch import save_file

    from limbeck.models.timm_models import import_timm

    coloured_files("photos", 48, 40, "jpg")
    torch.manual_seed(0)
    network = import_timm().create_model("test_resnet", num_classes=3)
    Path("resnet-finetuned").mkdir()
    shown = {"input_size": (3, 32, 32), "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    described = {"architecture": "test_resnet", "num_classes": 3, "pretrained_cfg": shown}
    save_file(network.state_dict(), "resnet-finetuned/model.safetensors")
    Path("resnet-finetuned/config.json").write_text(json.dumps(described))


def own_dataset() -> None:
    """A module with a data set and two networks."""
    for part, count in (("train", 60), ("val", 30)):
        draw = np.random.default_rng(count)
        for number in range(count):
            place = Path(part, ("blue", "green", "red")[number % 3])
            place.mkdir(parents=True, exist_ok=True)
            coloured(number % 3, 12, draw).crop((0, 0, 12, 12)).save(place / f"{number}.png")
    Path("own.py").write_text(_OWN_DATA)


def transfer_folder() -> None:
    """Few images with labels, more without, and a teacher's run."""
    import limbeck

    coloured_files("photos", 30, 20, "jpg")
    coloured_files("unlabelled", 40, 24, "jpg", labelled=False)
    data = limbeck.open_data("photos", image_size=64)
    limbeck.train("mlp", data.train, classes=data.classes, epochs=1, precision="float32", out="runs/teacher")


def hf_text() -> None:
    """A CSV file of texts."""
    rows = [f"{text},{('bad', 'good')[row % 2]}" for row, text in enumerate(texts(90))]
    Path("reviews.csv").write_text("\n".join(["text,label", *rows]))
    _classifiers()


def hf_dataset() -> None:
    """The same texts as a DatasetDict."""
    import datasets

    features = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=["bad", "good"]))
    rows = [{"text": text, "label": row % 2} for row, text in enumerate(texts(90))]
    whole = datasets.Dataset.from_list(rows, features=features)
    parts = {
        "train": whole.select(range(50)),
        "validation": whole.select(range(50, 70)),
        "test": whole.select(range(70, 90)),
    }
    datasets.DatasetDict(parts).save_to_disk("reviews")
    _classifiers()


def hf_token_classes() -> None:
    """Sentences whose words are tagged by their numbers."""
    rows = [
        {"tokens": text.split(), "tags": [("even", "odd")[int(word[1:]) % 2] for word in text.split()]}
        for text in texts(90)
    ]
    Path("tagged.jsonl").write_text("\n".join(map(json.dumps, rows)))
    save_network("bert-tagger", _bert(hidden_size=16, **_named("even", "odd")), "BertForTokenClassification")
    save_network("tiny-tagger", _bert(hidden_size=16, architectures=["BertForTokenClassification"]))


def next_token() -> None:
    """Texts, and language models of their words."""
    Path("texts.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts(90)))
    sizes = {"vocab_size": 64, "n_layer": 1, "n_head": 1, "n_positions": 128, "bos_token_id": 3, "eos_token_id": 3}
    config = transformers().GPT2Config
    save_network("gpt", config(n_embd=16, **sizes), "GPT2LMHeadModel")
    save_network("tiny-gpt", config(n_embd=8, **sizes, architectures=["GPT2LMHeadModel"]))
    word_tokenizer("tiny-gpt")  # a vocabulary of its own would make other classes


SMALL: dict[str, Callable[[], None]] = {
    "forest.py": forest,
    "hf_dataset.py": hf_dataset,
    "hf_text.py": hf_text,
    "hf_token_classes.py": hf_token_classes,
    "multi_label.py": multi_label,
    "next_token.py": next_token,
    "own_dataset.py": own_dataset,
    "saved_answers.py": saved_answers,
    "timm_images.py": timm_images,
    "transfer_folder.sh": transfer_folder,
}
