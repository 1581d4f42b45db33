"""A training step of timm's networks channels last, as Limbeck lays those with depthwise convolutions, and as they are.

    python benchmarks/layout.py [--rounds 9] [--networks NAME ...] [--json FILE] [--quick]

Both ways take turns in one process with one thread, and are counted in seconds of the processor; a ratio is of one
round's steps. The first two rounds do not count.
"""

import argparse
import copy
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from limbeck.data import Examples, Feed
from limbeck.models.layout import Layout
from limbeck.models.timm_models import import_timm
from limbeck.options import Training
from limbeck.system.devices import find_device
from limbeck.system.processes import world
from limbeck.training.objective import LabelObjective
from limbeck.training.optimizers import make_optimizer
from limbeck.training.steps import Stepper

NETWORKS = {
    "mobilenetv3_small_100": (64, 32), "mobilenetv3_large_100": (128, 16), "efficientnet_b0": (128, 8),
    "mobilenetv2_100": (128, 8), "convnext_atto": (128, 8), "resnet18": (64, 16),
}  # fmt: skip
"""Pixels, and images a step."""


def measure(name: str, pixels: int, count: int, rounds: int) -> dict[str, Any]:
    """Both ways, by turns. Of networks that Limbeck leaves as they are both are the same."""
    torch.manual_seed(0)
    device = find_device("cpu", "float32")
    network = import_timm().create_model(name, num_classes=10).train()
    examples = Examples.of(torch.rand(count, 3, pixels, pixels), torch.arange(count) % 10)
    batch = next(Feed(examples, batch_size=count, seed=0).batches(0))
    seconds: dict[str, list[float]] = {"as it is": [], "last": []}
    one, other = copy.deepcopy(network), copy.deepcopy(network)
    with Layout(other, device.device) as layout:
        changed = len(layout.changed)
        settings = Training()
        ways = {
            way: Stepper(model, LabelObjective(), make_optimizer(model, settings, device), settings, device, world())
            for way, model in zip(seconds, (one, other), strict=True)
        }
        for _ in range(rounds + 2):
            for way, stepper in ways.items():
                began = time.process_time()
                total, _ = stepper.learn(batch, count, count)
                stepper.update(stepper.judge(0, total))
                seconds[way].append(time.process_time() - began)
    ratios = [before / after for before, after in zip(seconds["as it is"][2:], seconds["last"][2:], strict=True)]
    return {
        "network": name, "pixels": pixels, "images": count, "changed": changed,
        **{way: statistics.median(found[2:]) for way, found in seconds.items()},
        "ratio": {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)},
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="small images, to show that it runs")
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print("| network | pixels | images | as it is, s | channels last, s | ratio (least to greatest) |")
    print("|---|---:|---:|---:|---:|---|")
    rows = []
    for name in asked.networks:
        pixels, count = (32, 2) if asked.quick else NETWORKS[name]
        rows.append(measure(name, pixels, count, 1 if asked.quick else asked.rounds))
        row, ratio = rows[-1], rows[-1]["ratio"]
        print(
            f"| {name} | {pixels} | {count} | {row['as it is']:.3f} | {row['last']:.3f} | {ratio['median']:.2f} "
            f"({ratio['min']:.2f} to {ratio['max']:.2f}) |",
            flush=True,
        )
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
