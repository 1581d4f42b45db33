"""What each method of distillation costs beside kd: time per step, and memory.

    python benchmarks/methods.py [--rounds 7] [--steps 40] [--methods rkd srd ...] [--json FILE] [--quick]

One student, a small CNN on images of 28x28, and one teacher, a CNN of four times the channels that is asked at each
step, for every method alike, so that a method that reads layers is not compared with answers that were kept. All
methods take turns within one process (A B C A B C ...), each round is an epoch of the engine after one round that does
not count, and ratios to kd are of one round's times. The losses have hard weight 0.1 and the options of each method's
defaults; "fitnets, hints" is the first of two stages alone.

Memory is how much the process grows beyond what it had before the first step, at its peak, in a process of its own for
each method: what autograd keeps of the method's intermediate numbers, such as N N N angles, among it.
"""

import argparse
import copy
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from limbeck.data import Examples, Feed
from limbeck.methods import Method, make_method
from limbeck.models import CNN, CNNConfig
from limbeck.options import Training
from limbeck.options.methods import METHODS
from limbeck.system.callbacks import Callback
from limbeck.system.devices import find_device
from limbeck.teachers import ModelTeacher
from limbeck.training.engine import fit
from limbeck.training.objective import DistillationObjective
from memory_use import forget_peak, held_bytes, peak_bytes

BATCH, CLASSES = 128, 26
STUDENT, TEACHER = (16, 32), (64, 128)
HINTS = "fitnets, hints"


class Stopwatch(Callback):
    """Seconds, and the peak of memory before and after, from the engine's first step to the end of its epoch."""

    def on_start(self, name: str, epochs: int, steps: int, epoch: int) -> None:
        """Begin."""
        forget_peak()
        self.held, self.began = held_bytes(), time.perf_counter()

    def on_epoch(self, row: Mapping[str, Any]) -> None:
        """End."""
        self.seconds = time.perf_counter() - self.began
        self.grown = max(peak_bytes() - self.held, 0)


def network(channels: Sequence[int]) -> nn.Module:
    """A CNN of some channels."""
    torch.manual_seed(0)
    return CNN(CNNConfig(input_shape=(1, 28, 28), classes=CLASSES, channels=tuple(channels), hidden=(128,)))


def method_of(name: str) -> Method:
    """A method with its defaults."""
    return make_method("fitnets", {"stages": 2, "hint_epochs": 1}) if name == HINTS else make_method(name)


def epoch_of(name: str, steps: int, device: str) -> Stopwatch:
    """One epoch of the engine."""
    found = find_device(device, "float32")
    images = torch.randint(0, 256, (steps * BATCH, 1, 28, 28), generator=torch.Generator().manual_seed(0))
    examples = Examples.of(images.to(torch.uint8), torch.arange(len(images)) % CLASSES)
    feed = Feed(examples, batch_size=BATCH, seed=0, device=found.device)
    objective = DistillationObjective(
        ModelTeacher(network(TEACHER)).to(found.device), method=method_of(name), hard_weight=0.1
    )
    watch = Stopwatch()
    fit(copy.deepcopy(network(STUDENT)), objective, feed, Training(epochs=1, batch_size=BATCH), found, callback=watch)
    return watch


def take_turns(names: Sequence[str], rounds: int, epoch: Callable[[str], Stopwatch]) -> dict[str, list[float]]:
    """Seconds of an epoch with each method in each round, after a round that does not count."""
    times: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds + 1):
        for name in names:
            seconds = epoch(name).seconds
            if number:
                times[name].append(seconds)
    return times


def memory_of(name: str, options: argparse.Namespace) -> int:
    """How much a process of its own grows."""
    command = [sys.executable, os.fspath(Path(__file__)), "--steps", str(min(options.steps, 5)), "--child", name]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(json.loads(done.stdout.splitlines()[-1]))


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row per method, kd first."""
    names = list(dict.fromkeys(["kd", *options.methods]))
    times = take_turns(names, options.rounds, lambda name: epoch_of(name, options.steps, options.device))
    rows = []
    for name in names:
        ratios = [own / plain for own, plain in zip(times[name], times["kd"], strict=True)]
        rows.append({
            "method": name,
            "milliseconds_per_step": 1e3 * statistics.median(times[name]) / options.steps,
            "times_kd": {"min": min(ratios), "median": statistics.median(ratios), "max": max(ratios)},
            "peak_growth_bytes": memory_of(name, options),
        })  # fmt: skip
    return rows


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """The table."""
    print(f"\n{'method':<16}{'ms per step':>12}{'times kd':>10}{'(min - max)':>16}{'peak growth':>14}")
    for row in rows:
        ratio = row["times_kd"]
        between = f"({ratio['min']:.2f} - {ratio['max']:.2f})"
        print(f"{row['method']:<16}{row['milliseconds_per_step']:>12.2f}{ratio['median']:>10.2f}{between:>16}"
              f"{row['peak_growth_bytes'] / 2**20:>10.1f} MiB")  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, help="rounds that count (default 7)")
    parser.add_argument("--steps", type=int, default=40, help="steps per epoch")
    parser.add_argument("--methods", nargs="+", default=[*METHODS, HINTS], help="which methods beside kd")
    parser.add_argument("--device", default="cpu", help="a PyTorch device; memory is counted on the host")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the results to a file")
    parser.add_argument("--quick", action="store_true", help="a short run that only shows that it works")
    parser.add_argument("--child", metavar="METHOD", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        print(json.dumps(epoch_of(options.child, options.steps, "cpu").grown))
        return 0
    if options.quick:
        options.steps = 1
    options.rounds = options.rounds or (1 if options.quick else 7)
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "load_before": os.getloadavg()[0],
        "date": time.strftime("%Y-%m-%d"),
    }
    print("  ".join(f"{name} {value}" for name, value in machine.items()))
    rows = measure(options)
    print_table(rows)
    if options.json is not None:
        options.json.write_text(json.dumps({"machine": machine, "rounds": options.rounds, "methods": rows}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
