"""Six networks on real data, whose answers have margins, for ``export_networks.py``."""

import argparse
import csv
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

import limbeck
from limbeck.data import DataSet, Examples, cut_validation, open_data
from limbeck.data.text import Text
from limbeck.data.text_files import open_text
from limbeck.kaldi.convert.runs import write_run
from limbeck.kaldi.weight_files import nnet_of
from limbeck.models.timm_models import make_timm
from limbeck.options import DataOptions, ImagePresentation, ModelOptions, TextPresentation
from limbeck.recipes.corpus import corpus
from limbeck.recipes.series import Series
from limbeck.system.hugging_face import transformers
from text_pair import made_up, packages, save_tokenizer

LENGTH = 48
"""Tokens of a text, at most."""


@dataclass(frozen=True)
class Case:
    """A network, and what it is trained on.

    Attributes:
        name: What it is called.
        data: Opens its data; None where there are none.
        make: Makes the network for these data, from a seed.
        epochs: How long it is trained.
        learning_rate: How fast.
        formats: Those that make sense.
        finish: What becomes of the trained network.
    """

    name: str
    data: Callable[[], DataSet | None]
    make: Callable[[DataSet], Callable[[int], nn.Module]]
    epochs: int
    learning_rate: float
    formats: tuple[str, ...] = ("onnx", "int8", "torch", "hub", "browser")
    finish: Callable[[nn.Module, Path], nn.Module] = lambda network, folder: network


def own(**options: Any) -> Callable[[DataSet], Callable[[int], nn.Module]]:
    """Makes one of Limbeck's own networks."""

    def make(data: DataSet) -> Callable[[int], nn.Module]:
        from limbeck.models import from_options

        shape = data.train.shape
        return lambda seed: from_options(
            ModelOptions(**options), input_shape=shape, classes=len(data.classes), seed=seed
        )

    return make


def mobilenet(data: DataSet) -> Callable[[int], nn.Module]:
    """A small MobileNet of timm for grey images of 28 pixels."""
    return lambda seed: make_timm(
        "timm:mobilenetv3_small_050", classes=len(data.classes), input_shape=tuple(data.train.shape)
    )


def vit(data: DataSet) -> Callable[[int], nn.Module]:
    """A small ViT of transformers for grey images of 28 pixels."""
    hf = transformers()
    config = hf.ViTConfig(
        image_size=28, patch_size=7, num_channels=1, hidden_size=96, num_hidden_layers=4, num_attention_heads=4,
        intermediate_size=192, num_labels=len(data.classes),
    )  # fmt: skip

    def make(seed: int) -> nn.Module:
        made: nn.Module = hf.ViTForImageClassification(config)
        made.presentation = ImagePresentation.plain(28, channels=1)
        return made

    return make


def bert(folder: Path, data: DataSet) -> Callable[[int], nn.Module]:
    """A small BERT of transformers, with a tokenizer that is trained on its texts."""
    hf = transformers()
    assert isinstance(data.train.inputs, Text)
    tokenizer = save_tokenizer(data.train.inputs.texts, folder / "tokenizer", 8000)
    config = hf.BertConfig(
        vocab_size=8000, hidden_size=96, num_hidden_layers=2, num_attention_heads=4, intermediate_size=192,
        num_labels=len(data.classes), max_position_embeddings=LENGTH, hidden_dropout_prob=0.1,
    )  # fmt: skip

    def make(seed: int) -> nn.Module:
        made: nn.Module = hf.BertForSequenceClassification(config)
        names = ("input_ids", "attention_mask")
        made.presentation = TextPresentation(tokenizer, LENGTH, names)
        return made

    return make


def as_nnet1(network: nn.Module, folder: Path) -> nn.Module:
    """A trained network in the form of Kaldi's nnet1."""
    write_run(folder / "nnet1", nnet_of(network))
    found = limbeck.load(folder / "nnet1")
    assert isinstance(found, nn.Module)
    return found


def texts(folder: Path, *, quick: bool) -> DataSet:
    """Descriptions of Debian packages, by section."""
    command = ["apt-cache", "dumpavail"]
    text = made_up(900) if quick else subprocess.run(command, capture_output=True, text=True, check=True).stdout
    with open(folder / "descriptions.csv", "w", newline="") as stream:
        writer = csv.DictWriter(stream, ["text", "label", "source"])
        writer.writeheader()
        writer.writerows(packages(text))
    return cut_validation(open_text(folder / "descriptions.csv", group_column="source"), 0.1)


def frames(source: str, folder: Path, *, quick: bool) -> DataSet:
    """Frames of speech with their neighbours."""
    return corpus(Series(folder / "speech", "speech", quick=quick), source).whole


def cases(options: argparse.Namespace, folder: Path) -> list[Case]:
    """The networks that were asked for, of data that are there."""
    mnist = partial(open_data, DataOptions(data="mnist", validation=5000))
    letters, speech = options.letters, options.speech
    found = [
        Case("quickstart's student, MNIST", mnist, own(model="mlp", hidden=(300,)), 6, 1e-3),
        Case(
            "CNN, letters",
            lambda: None if letters is None else open_data(DataOptions(data=letters, validation=0.1)),
            own(model="cnn", channels=(32, 64), hidden=(256,)), 4, 1e-3,
        ),
        Case("MobileNet of timm, MNIST", mnist, mobilenet, 4, 2e-3),
        Case("ViT of transformers, MNIST", mnist, vit, 6, 1e-3),
        Case(
            "BERT of transformers, texts", partial(texts, folder, quick=options.quick), partial(bert, folder), 3, 1e-3
        ),
        Case(
            "nnet1, frames of speech",
            lambda: None if speech is None else frames(speech, folder, quick=options.quick),
            own(model="mlp", hidden=(256, 256), activation="sigmoid", standardise=False), 2, 1e-3, finish=as_nnet1,
        ),
    ]  # fmt: skip
    return [case for case in found if not options.only or any(word in case.name for word in options.only)]


def few(data: DataSet, count: int) -> DataSet:
    """A small part of the data."""

    def part(examples: Examples | None, most: int) -> Examples | None:
        return examples if examples is None or len(examples) <= most else examples.take(torch.arange(most))

    train = part(data.train, 4 * count)
    assert train is not None
    return replace(data, train=train, validation=part(data.validation, count), test=part(data.test, count))


def pages_need_runtime(case: Case) -> bool:
    """Whether the page of a network holds ONNX Runtime Web."""
    return "timm" in case.name or "transformers" in case.name


def without_page(case: Case) -> Case:
    """The same, without the page."""
    return replace(case, formats=tuple(kind for kind in case.formats if kind != "browser"))
