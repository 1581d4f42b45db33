"""Peak memory and time of answering images of 224 x 224 with a network like ResNet-18, in blocks of 1,000 and as fits.

    python benchmarks/judging.py [--examples 1000] [--quick]

Each way is a process of its own; the memory is its largest resident set. On a small network the two ways take turns in
one process, since there nothing may be lost.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from limbeck.data import Examples
from limbeck.evaluation.prediction import predict
from memory_use import forget_peak, held_bytes, peak_bytes


class Block(nn.Module):
    """Two convolutions and what goes past them."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.inside = nn.Sequential(
            nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU(),
            nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out),
        )  # fmt: skip
        self.past = nn.Conv2d(channels, out, 1, stride, bias=False) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """The sum of both."""
        return torch.relu(self.inside(x) + self.past(x))


def network() -> nn.Module:
    """Eleven million weights."""
    torch.manual_seed(0)
    widths = [(64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2)]
    blocks = [Block(*width) for width in [*widths, (512, 512, 1)]]
    stem = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10)).eval()


def alone(count: int, size: int | None) -> None:
    """Answer, and print megabytes before and at the most, and seconds."""
    torch.set_num_threads(1)
    net, images = network(), Examples.of(torch.zeros(count, 3, 224, 224, dtype=torch.uint8))
    forget_peak()
    before, began = held_bytes(), time.perf_counter()
    predict(net, images, batch_size=size)
    print(json.dumps([before / 2**20, peak_bytes() / 2**20, time.perf_counter() - began]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--examples", type=int, default=1000, help="images to answer")
    parser.add_argument("--quick", action="store_true", help="a short run that only shows that it works")
    parser.add_argument("--alone", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.quick:
        options.examples = 4
    if options.alone is not None:
        alone(options.examples, options.alone or None)
        return 0
    print(f"{'way':<16}{'MiB before':>12}{'MiB at most':>13}{'seconds':>9}")
    for name, size in (("blocks of 1000", 1000), ("as fits", 0)):
        command = [sys.executable, __file__, "--alone", str(size), "--examples", str(options.examples)]
        before, most, seconds = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        print(f"{name:<16}{before:>12,.0f}{most:>13,.0f}{seconds:>9.1f}")
    small = nn.Sequential(nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 300), nn.ReLU(), nn.Linear(300, 10)).eval()
    digits, ratios = Examples.of(torch.rand(100 if options.quick else 10_000, 784)), []
    for _ in range(1 if options.quick else 9):
        times = []
        for size in (1000, None):
            began = time.perf_counter()
            predict(small, digits, batch_size=size)
            times.append(time.perf_counter() - began)
        ratios.append(times[1] / times[0])
    print(f"784-300-300-10 on {len(digits):,}: {statistics.median(ratios):.2f} times as long as in blocks of 1,000")
    return 0


if __name__ == "__main__":
    sys.exit(main())
