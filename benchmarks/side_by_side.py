"""Searches and seeds of small networks, their trainings side by side and one after the other, in turns.

    python benchmarks/side_by_side.py [--rounds 3] [--json FILE] [--quick]

"search" is a grid of four temperatures and three weights with three seeds each, as `limbeck.tune` makes it; "verdict"
is a distillation with eight seeds and their baselines, evaluated. Data are drawn, the teacher is a network that has
them wrong here and there; epochs are few, since only time is measured. A ratio is of one round: the time of one after
the other over that of side by side. Beside it, the work of a network's step, above which trainings are not stacked.
"""

import argparse
import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

import limbeck
from limbeck.errors import LimbeckWarning
from limbeck.options.search_space import Search

TARGET = 3.0
"""How much faster a search is to be."""
EPOCHS, SEARCHES, SEEDS = 5, 3, 8
"""Of each training, of the grid, and of a verdict."""


@dataclass(frozen=True)
class Size:
    """Data and networks: inputs, hidden widths, classes, training examples and batch size."""

    inputs: int
    hidden: tuple[int, ...]
    classes: int
    examples: int
    batch: int

    def __str__(self) -> str:
        return f"{'-'.join(map(str, (self.inputs, *self.hidden, self.classes)))}, batches of {self.batch}"

    @property
    def work(self) -> float:
        """Floating-point operations of a step."""
        widths = (self.inputs, *self.hidden, self.classes)
        return 6.0 * self.batch * sum(a * b for a, b in zip(widths, widths[1:], strict=False))


SIZES = (
    Size(20, (32,), 5, 5000, 64),
    Size(54, (64, 64), 7, 10_000, 128),
    Size(100, (128, 128), 10, 10_000, 256),
)


def network(size: Size, seed: int) -> nn.Module:
    """A network of a size."""
    torch.manual_seed(seed)
    widths, layers = (size.inputs, *size.hidden), []
    for before, after in zip(widths, widths[1:], strict=False):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], size.classes))


def job(size: Size, kind: str, *, side_by_side: bool) -> float:
    """Seconds of a search, or of a distillation with its verdict."""
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(size.examples + 2000, size.inputs, generator=draw)
    labels = (inputs @ torch.randn(size.inputs, size.classes, generator=draw)).argmax(1)
    cuts = (slice(size.examples), slice(size.examples, -1000), slice(-1000, None))
    parts = [(inputs[rows], labels[rows]) for rows in cuts]
    settings: dict[str, Any] = {
        "epochs": EPOCHS, "batch_size": size.batch, "precision": "float32", "progress": False,
        "side_by_side": side_by_side,
    }  # fmt: skip
    teacher = network(size, 99)
    began = time.perf_counter()
    if kind == "verdict":
        limbeck.distill(
            teacher, lambda seed: network(size, seed), parts[0], parts[1], test=parts[2], seeds=SEEDS, **settings
        )
    else:
        grid = Search(grid=True, temperatures=(1, 2, 4, 8), hard_weights=(0, 0.1, 0.5))
        for seed in range(SEARCHES):
            limbeck.tune(
                teacher, lambda seed: network(size, seed), parts[0], parts[1], search=grid, seed=seed, **settings
            )
    return time.perf_counter() - began


def measure(sizes: Sequence[Size], rounds: int, show: Callable[[str], None] = print) -> list[dict[str, Any]]:
    """Times of each job both ways, in turns."""
    rows = []
    for size in sizes:
        for kind in ("search", "verdict"):
            job(sizes[0], kind, side_by_side=True)
            times = [(job(size, kind, side_by_side=False), job(size, kind, side_by_side=True)) for _ in range(rounds)]
            ratios = sorted(apart / together for apart, together in times)
            apart, together = (statistics.median(column) for column in zip(*times, strict=True))
            met = "" if kind == "verdict" else " met" if statistics.median(ratios) >= TARGET else " MISSED"
            show(
                f"{size!s:36} {kind:8} {apart:8.2f} s {together:8.2f} s  {statistics.median(ratios):5.2f} "
                f"({ratios[0]:.2f} to {ratios[-1]:.2f}){met}   {size.work / 1e6:.1f} MFLOP a step"
            )
            rows.append({**asdict(size), "job": kind, "apart": apart, "together": together, "ratios": ratios})
    return rows


def main(words: Sequence[str] | None = None) -> int:
    """Measure and print."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    options.add_argument("--rounds", type=int, default=3, help="rounds in turns (default: 3)")
    options.add_argument("--json", type=Path, metavar="FILE", help="also write the results to a file")
    options.add_argument("--quick", action="store_true", help="a short run that shows only that all of it works")
    given = options.parse_args(words)
    sizes, rounds = (SIZES, given.rounds) if not given.quick else ((Size(6, (8,), 3, 200, 50),), 1)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.2f}")
    print(f"{'network':36} {'job':8} {'one by one':>10} {'together':>10}  ratio (least to greatest)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LimbeckWarning)
        rows = measure(sizes, rounds)
    if given.json:
        given.json.write_text(json.dumps({"rows": rows}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
