"""Whether students bear damaged images, and know how sure they are, as well as the same networks on labels alone.

    python benchmarks/robustness.py --data package --runs runs/pair [--markdown docs/results/robustness.md] [--quick]

Teacher, students and baselines are those that ``cifar_pair.py`` left in the folder of the runs (give the same widths
and seeds; with ``--quick`` a pair on made-up images is trained first, for a moment); none saw such damage in
training beyond crops and flips. The test images are given noise, shifted, rotated, blurred and robbed of contrast, each
at two strengths, the same damage for every network; ``under_damage.py`` says how they are compared.
"""

import argparse
import datetime
import json
import math
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import cifar_pair
import limbeck
from cifar import made_up, network, read_cifar
from cifar_flags import add_flags
from limbeck.data import Examples
from limbeck.system.files import replace_text
from limbeck.system.machine import machine
from under_damage import measure, summary, table


def noise(images: Tensor, strength: float) -> Tensor:
    """Gaussian noise of this standard deviation, for images in [0, 1]."""
    return images + strength * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))


def shift(images: Tensor, strength: float) -> Tensor:
    """To the right and down by so many pixels; the border repeats."""
    by, side = int(strength), images.shape[-1]
    return functional.pad(images, (by, 0, by, 0), mode="replicate")[..., :side, :side]


def rotate(images: Tensor, strength: float) -> Tensor:
    """By so many degrees about the centre, bilinear; the border is mirrored."""
    angle = math.radians(strength)
    turn = torch.tensor([[math.cos(angle), -math.sin(angle), 0.0], [math.sin(angle), math.cos(angle), 0.0]])
    grid = functional.affine_grid(turn.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def blur(images: Tensor, strength: float) -> Tensor:
    """A Gaussian of this standard deviation in pixels."""
    place = torch.arange(-3.0, 4.0)
    row = torch.exp(-((place / strength) ** 2) / 2)
    kernel = torch.outer(row, row) / row.sum() ** 2
    channels = images.shape[1]
    padded = functional.pad(images, (3, 3, 3, 3), mode="replicate")
    return functional.conv2d(padded, kernel.expand(channels, 1, 7, 7), groups=channels)


def contrast(images: Tensor, strength: float) -> Tensor:
    """The distance of each pixel from the image's mean, times this."""
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + strength * (images - mean)


DAMAGES: dict[str, tuple[Callable[[Tensor, float], Tensor], float]] = {
    "as they are": (lambda images, strength: images, 0.0),
    "noise of 0.05": (noise, 0.05),
    "noise of 0.1": (noise, 0.1),
    "shifted by 2 pixels": (shift, 2),
    "shifted by 4 pixels": (shift, 4),
    "rotated by 15 degrees": (rotate, 15),
    "rotated by 30 degrees": (rotate, 30),
    "blurred, 0.7 pixels": (blur, 0.7),
    "blurred, 1.2 pixels": (blur, 1.2),
    "half the contrast": (contrast, 0.5),
    "a quarter of the contrast": (contrast, 0.25),
}


def damaged(test: Examples, name: str) -> Examples:
    """The test images with a damage, as bytes again."""
    change, strength = DAMAGES[name]
    images = test.inputs
    assert isinstance(images, Tensor) and test.labels is not None
    changed = torch.cat([change(part.float() / 255, strength) for part in images.split(1000)])
    return Examples.of((255 * changed).round().clamp(0, 255).to(torch.uint8).numpy(), test.labels.numpy())


def models_of(runs: Path, seeds: int, teacher_width: int, student_width: int) -> dict[str, list[nn.Module]]:
    """Teacher, baselines and students of a pair, by role."""

    def loaded(place: Path, width: int, seed: int) -> nn.Module:
        model = limbeck.load(place, model=network(width, seed))
        assert isinstance(model, nn.Module)
        return model

    folders = [runs / "student" if seed == 0 else runs / "student" / "seeds" / str(seed + 1) for seed in range(seeds)]
    return {
        "teacher": [loaded(runs / "teacher", teacher_width, 0)],
        "baseline": [loaded(each / "baseline", student_width, seed) for seed, each in enumerate(folders)],
        "student": [loaded(each, student_width, seed) for seed, each in enumerate(folders)],
    }


def page(rows: list[dict[str, Any]], seeds: int, examples: int, command: str) -> str:
    """The results as Markdown."""
    lines = [
        "# Damaged images, and how sure the networks are",
        "",
        f"Teacher, students and baselines of [the pair on CIFAR-10](cifar-pair.md), {seeds} seeds, on {examples:,} "
        "test images that are damaged alike for all. None saw such damage in training beyond crops and flips.",
        "",
        summary(rows),
        "",
        *table(rows, "images"),
    ]
    about = f"{datetime.date.today()}, {machine()['processor']}, one thread."
    return "\n".join([*lines, "", "```", command, "```", "", about]) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_flags(parser, teacher_width=40, student_width=24, seeds=3)
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="also write the page to a file")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the results to a file")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        if options.quick:
            options.runs, options.seeds, options.teacher_width, options.student_width = Path(scratch), 2, 8, 4
            cifar_pair.main(["--quick", "--runs", scratch])
            test = made_up(128, 32, 64).test
        elif options.data is None or options.runs is None:
            parser.error("give --data and --runs, or --quick")
        else:
            test = read_cifar(options.data, 1000, 1000).test
        assert test is not None
        models = models_of(options.runs, options.seeds, options.teacher_width, options.student_width)
        rows = measure(((name, damaged(test, name)) for name in DAMAGES), models)
    text = page(rows, options.seeds, len(test), "python benchmarks/robustness.py --data package --runs runs/pair")
    print(text)
    if options.markdown is not None:
        replace_text(options.markdown, text)
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
