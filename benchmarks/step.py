"""How much of a bare PyTorch loop's speed is left in Limbeck's engine, and what distillation adds to a step.

    python benchmarks/step.py [--rounds 7] [--examples 60000] [--json FILE] [--quick]
    python benchmarks/step.py --allocator [--rounds 5] [--json FILE] [--quick]
    python benchmarks/step.py --store [--rounds 7] [--json FILE] [--quick]

The first form prints three tables, for the networks 784-300-300-10 and 784-1200-1200-10 at batch 256 in float32 and
bf16. All that are compared take turns within one process (A B C A B C ...), each round is an epoch, and ratios are
of one round's times.

- Engine and bare loop. The engine is ``fit`` over a shuffled ``Feed`` of MNIST's bytes, timed from its
  first step to the end of its epoch, with all that it does beside: shuffling, sums, checks, learning rate. The
  bare loop has the arithmetic alone: float batches made and shuffled beforehand, forward, cross-entropy, backward,
  fused AdamW.
- Distilling in the engine from stored answers, against learning from labels in the engine.
- Beside the limit: what the arithmetic of a step takes at the rate at which this machine multiplies large matrices,
  measured in the same round. The operations are counted from the step's matrix products alone: six for a weight and
  example, four in the first layer, whose inputs need no gradient.

The second form trains the convolutional network 64-128-1024 on pictures of 28x28 with 26 classes, with and without
``limbeck.system.devices.keep_freed_memory``, each in processes of its own.

The third form is the second table with answers that are read from a store on disk: eight shifted views of each
example, dense, in the network 784-300-300-10; labels and soft targets on the same views.
"""

import argparse
import copy
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from limbeck.data import Examples, open_data
from limbeck.data.feed import Feed
from limbeck.models import CNN, MLP, CNNConfig, MLPConfig
from limbeck.options import Augmentation, Training
from limbeck.protocols import Objective
from limbeck.softtargets import SoftTargets
from limbeck.system.callbacks import Callback
from limbeck.system.devices import Device, find_device
from limbeck.teachers import StoredTargets
from limbeck.training.engine import fit
from limbeck.training.objective import DistillationObjective, LabelObjective

BATCH = 256
TEMPERATURE = 4.0
TARGETS = {300: 0.80, 1200: 0.95}
"""Share of the bare loop's speed that the engine is to keep, by width."""
MOST_FOR_DISTILLING = 1.10
MOST_OF_LIMIT = {300: 1.60, 1200: 1.25}
"""Times as long as the arithmetic alone that distilling in the engine is to take, by width."""
Precision = Literal["float32", "bf16"]
PRECISIONS: tuple[Precision, ...] = ("float32", "bf16")


class Stopwatch(Callback):
    """Seconds from the engine's first step to the end of its epoch, when the sums are back on the host."""

    seconds = 0.0
    clock = staticmethod(time.perf_counter)

    def on_start(self, name: str, epochs: int, steps: int, epoch: int) -> None:
        """Begin."""
        self.began = self.clock()

    def on_epoch(self, row: Mapping[str, Any]) -> None:
        """End."""
        self.seconds = self.clock() - self.began


@dataclass(frozen=True)
class Case:
    """A network and the data it learns from."""

    model: nn.Module
    feed: Feed
    device: Device

    def engine(self, objective: Objective) -> float:
        """Seconds of an epoch in the engine."""
        watch = Stopwatch()
        model = copy.deepcopy(self.model)
        fit(model, objective, self.feed, Training(epochs=1, batch_size=BATCH), self.device, callback=watch)
        return watch.seconds

    def bare(self, batches: Sequence[tuple[Tensor, Tensor]]) -> float:
        """Seconds of an epoch of the arithmetic alone."""
        model = copy.deepcopy(self.model).to(self.device.device).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0, fused=True)
        last = torch.zeros(())
        began = Stopwatch.clock()
        for inputs, labels in batches:
            with self.device.autocast():
                scores = model(inputs).float()
            loss = nn.functional.cross_entropy(scores, labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            last = loss.detach()
        float(last)  # waits for an accelerator
        return Stopwatch.clock() - began


def float_batches(feed: Feed) -> list[tuple[Tensor, Tensor]]:
    """An epoch's batches as float tensors, shuffled."""
    return [(b.inputs.clone(), b.labels.clone()) for b in feed.batches(0) if b.labels is not None]


def stored_answers(feed: Feed, classes: int) -> StoredTargets:
    """Answers of some teacher; their values have no influence on the time."""
    scores = 3 * torch.randn(len(feed.examples), classes, generator=torch.Generator().manual_seed(1))
    return StoredTargets(scores.log_softmax(-1).to(feed.examples.index.device), feed.examples.index)


def take_turns(ways: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each way in each round, after a round that does not count."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            seconds = way()
            if number:
                times[name].append(seconds)
    return times


def spread(ratios: Sequence[float]) -> dict[str, float]:
    """Least, median and greatest."""
    return {"min": min(ratios), "median": statistics.median(ratios), "max": max(ratios)}


def product_rate(device: Device, size: int, repeats: int) -> float:
    """Floating-point operations a second in products of large matrices, the best of some."""
    dtype = torch.bfloat16 if device.precision == "bf16" else torch.float32
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(size, size, generator=generator).to(device.device, dtype) for _ in range(2))
    best = float("inf")
    for _ in range(repeats):
        began = Stopwatch.clock()
        float((a @ b)[0, 0])
        best = min(best, Stopwatch.clock() - began)
    return 2 * size**3 / best


def operations(model: nn.Module) -> int:
    """Floating-point operations of one example's matrix products, forward and backward."""
    weights = [part.weight.numel() for part in model.modules() if isinstance(part, nn.Linear)]
    return 6 * sum(weights) - 2 * weights[0]


def measure(width: int, precision: Precision, examples: Examples, options: argparse.Namespace) -> dict[str, Any]:
    """All that is measured of one network in one precision."""
    device = find_device(options.device, precision)
    torch.manual_seed(0)
    model = MLP(MLPConfig(input_shape=(1, 28, 28), classes=10, hidden=(width, width)))
    feed = Feed(examples, batch_size=BATCH, seed=0, device=device.device)
    case, batches, answers = Case(model, feed, device), float_batches(feed), stored_answers(feed, 10)
    repeats = 3 if options.quick else 8
    ways: dict[str, Callable[[], float]] = {
        "bare": lambda: case.bare(batches),
        "engine": lambda: case.engine(LabelObjective()),
        "distil 0": lambda: case.engine(DistillationObjective(answers, temperature=TEMPERATURE, hard_weight=0.0)),
        "distil 0.1": lambda: case.engine(DistillationObjective(answers, temperature=TEMPERATURE, hard_weight=0.1)),
        "limit": lambda: len(examples) * operations(model) / product_rate(device, options.matrix, repeats),
    }
    times = take_turns(ways, options.rounds)
    limits = times.pop("limit")
    per_step = {name: 1e6 * statistics.median(values) / feed.steps for name, values in times.items()}
    images = {name: len(examples) / statistics.median(values) for name, values in times.items()}
    labels = times["engine"]
    return {
        "network": f"784-{width}-{width}-10",
        "width": width,
        "precision": precision,
        "microseconds_per_step": per_step,
        "images_per_second": images,
        "engine_of_bare": spread([bare / engine for bare, engine in zip(times["bare"], labels, strict=True)]),
        "distilling_over_labels": {
            name.split()[1]: spread([soft / hard for soft, hard in zip(times[name], labels, strict=True)])
            for name in ("distil 0", "distil 0.1")
        },
        "product_rate": len(examples) * operations(model) / statistics.median(limits),
        "times_the_limit": {
            name: spread([taken / limit for taken, limit in zip(values, limits, strict=True)])
            for name, values in times.items()
        },
    }


def measure_store(precision: Precision, examples: Examples, options: argparse.Namespace) -> dict[str, Any]:
    """A step on labels, and one on soft targets from a store, with hard weight 0.1, on the same views."""
    device, views = find_device(options.device, precision), Augmentation(shift=2, views=8)
    torch.manual_seed(0)
    model, teacher = (MLP(MLPConfig(input_shape=(1, 28, 28), classes=10, hidden=hidden)) for hidden in ((300, 300), ()))
    feed = Feed(examples, batch_size=BATCH, seed=0, device=device.device, augmentation=views)
    case = Case(model, feed, device)
    with tempfile.TemporaryDirectory() as folder:
        SoftTargets.write(folder, teacher, examples, classes="0123456789", augmentation=views)
        targets = SoftTargets.open(folder).to(device.device)
        objective = DistillationObjective(targets, temperature=TEMPERATURE, hard_weight=0.1)
        ways = {"engine": lambda: case.engine(LabelObjective()), "distil 0.1": lambda: case.engine(objective)}
        times = take_turns(ways, options.rounds)
    return {
        "network": "784-300-300-10",
        "precision": precision,
        "microseconds_per_step": {name: 1e6 * statistics.median(some) / feed.steps for name, some in times.items()},
        "distilling_over_labels": {
            "0.1": spread([soft / hard for soft, hard in zip(times["distil 0.1"], times["engine"], strict=True)])
        },
    }


def between(ratio: Mapping[str, float]) -> str:
    """Least and greatest, for printing."""
    return f"({ratio['min']:.2f} - {ratio['max']:.2f})"


def print_tables(rows: Sequence[Mapping[str, Any]]) -> None:
    """The three tables."""
    print("\nEngine and bare loop: training on labels, batch 256")
    print(f"{'network':<19}{'precision':<10}{'bare img/s':>11}{'engine img/s':>13}{'bare us':>9}{'engine us':>10}"
          f"{'engine/bare':>13}{'(min - max)':>15}{'target':>8}")  # fmt: skip
    for row in rows:
        images, us, kept = row["images_per_second"], row["microseconds_per_step"], row["engine_of_bare"]
        target = TARGETS[row["width"]]
        print(f"{row['network']:<19}{row['precision']:<10}{images['bare']:>11,.0f}{images['engine']:>13,.0f}"
              f"{us['bare']:>9.0f}{us['engine']:>10.0f}{kept['median']:>13.3f}   {between(kept)}"
              f"{target:>8.2f} {'met' if kept['median'] >= target else 'MISSED'}")  # fmt: skip
    print_ratios(rows)
    print("\nTimes as long as the step's arithmetic at the rate of large matrix products")
    print(f"{'network':<19}{'precision':<10}{'products Gflop/s':>17}{'bare':>8}{'engine':>8}{'distil':>8}"
          f"{'(min - max)':>15}{'at most':>9}")  # fmt: skip
    for row in rows:
        times, most = row["times_the_limit"], MOST_OF_LIMIT[row["width"]]
        print(f"{row['network']:<19}{row['precision']:<10}{row['product_rate'] / 1e9:>17,.0f}"
              f"{times['bare']['median']:>8.2f}{times['engine']['median']:>8.2f}{times['distil 0']['median']:>8.2f}"
              f"   {between(times['distil 0'])}{most:>9.2f} "
              f"{'met' if times['distil 0']['median'] <= most else 'MISSED'}")  # fmt: skip


def print_ratios(rows: Sequence[Mapping[str, Any]]) -> None:
    """The table of distilling over training on labels."""
    print("\nDistilling from stored answers over training on labels, both in the engine: time of a step")
    print(f"{'network':<19}{'precision':<10}{'hard weight':>12}{'labels us':>11}{'distil us':>11}{'ratio':>8}"
          f"{'(min - max)':>15}{'at most':>9}")  # fmt: skip
    for row in rows:
        us = row["microseconds_per_step"]
        for weight, ratio in row["distilling_over_labels"].items():
            print(f"{row['network']:<19}{row['precision']:<10}{weight:>12}{us['engine']:>11.0f}"
                  f"{us[f'distil {weight}']:>11.0f}{ratio['median']:>8.3f}   {between(ratio)}"
                  f"{MOST_FOR_DISTILLING:>9.2f} "
                  f"{'met' if ratio['median'] <= MOST_FOR_DISTILLING else 'MISSED'}")  # fmt: skip


def cnn_step(precision: Precision, steps: int, batch: int) -> dict[str, float]:
    """Milliseconds and page faults of a step of the convolutional network in the engine, in this process."""
    device = find_device("cpu", precision)
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (steps * batch, 1, 28, 28), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 26, (steps * batch,), generator=generator)
    feed = Feed(Examples.of(pictures, labels), batch_size=batch, seed=0)
    torch.manual_seed(0)
    case = Case(CNN(CNNConfig(input_shape=(1, 28, 28), classes=26)), feed, device)
    case.engine(LabelObjective())  # warms up
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    seconds = case.engine(LabelObjective())
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
    return {"milliseconds": 1e3 * seconds / steps, "faults": faults / steps}


def compare_allocators(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Time the convolutional network with and without the setting, in processes that take turns."""
    steps, batch = (2, 32) if options.quick else (15, BATCH)
    rows = []
    for precision in PRECISIONS:
        found: dict[str, list[dict[str, float]]] = {"kept": [], "given back": []}
        for _ in range(options.rounds):
            for name, results in found.items():
                environment = {key: value for key, value in os.environ.items() if key != "LIMBECK_MALLOC"}
                if name == "given back":
                    environment["LIMBECK_MALLOC"] = "0"
                command = [sys.executable, __file__, "--child", precision, str(steps), str(batch)]
                answer = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
                results.append(json.loads(answer.stdout.splitlines()[-1]))
        ms = {name: [result["milliseconds"] for result in results] for name, results in found.items()}
        rows.append({
            "precision": precision,
            "milliseconds_per_step": {name: statistics.median(values) for name, values in ms.items()},
            "page_faults_per_step": {
                name: statistics.median(result["faults"] for result in results) for name, results in found.items()
            },
            "times_as_slow_without": spread([b / a for a, b in zip(ms["kept"], ms["given back"], strict=True)]),
        })  # fmt: skip
    return rows


def print_allocators(rows: Sequence[Mapping[str, Any]]) -> None:
    """The table of the second form."""
    print("\nCNN 64-128-1024, 28x28, 26 classes: a training step with freed memory kept, and given back to the system")
    print(
        f"{'precision':<10}{'kept ms':>9}{'faults':>9}{'given back ms':>15}{'faults':>9}{'ratio':>8}{'(min - max)':>15}"
    )
    for row in rows:
        ms, faults = row["milliseconds_per_step"], row["page_faults_per_step"]
        ratio = row["times_as_slow_without"]
        print(f"{row['precision']:<10}{ms['kept']:>9.1f}{faults['kept']:>9,.0f}{ms['given back']:>15.1f}"
              f"{faults['given back']:>9,.0f}{ratio['median']:>8.2f}   {between(ratio)}")  # fmt: skip


def machine() -> dict[str, Any]:
    """Where this was measured."""
    model = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "load_before": load,
        "date": time.strftime("%Y-%m-%d"),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, help="rounds that count (default 7, and 5 with --allocator)")
    parser.add_argument("--examples", type=int, default=60000, help="images of an epoch")
    parser.add_argument("--matrix", type=int, default=2048, help="rows and columns of the large matrices")
    parser.add_argument("--threads", type=int, help="threads of PyTorch")
    parser.add_argument("--device", default="cpu", help="a PyTorch device")
    parser.add_argument(
        "--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS, help="of the first and third form (both)"
    )
    parser.add_argument("--allocator", action="store_true", help="the second form")
    parser.add_argument("--store", action="store_true", help="the third form")
    parser.add_argument(
        "--busy", action="store_true", help="count this process's processor time: the machine has other work"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the results to a file")
    parser.add_argument("--quick", action="store_true", help="a short run that only shows that it works")
    parser.add_argument("--child", nargs=3, metavar=("PRECISION", "STEPS", "BATCH"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        print(json.dumps(cnn_step(options.child[0], int(options.child[1]), int(options.child[2]))))
        return 0
    if options.quick:
        options.examples, options.matrix = min(options.examples, 2 * BATCH + 10), 256
    options.rounds = options.rounds or (1 if options.quick else 5 if options.allocator else 7)
    if options.busy:
        Stopwatch.clock = staticmethod(time.process_time)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    result: dict[str, Any] = {"machine": machine(), "rounds": options.rounds}
    print("  ".join(f"{name} {value}" for name, value in result["machine"].items()))
    if options.allocator:
        result["allocator"] = compare_allocators(options)
        print_allocators(result["allocator"])
    else:
        mnist = open_data("mnist").train
        examples = mnist.take(torch.arange(min(options.examples, len(mnist))))
        if options.store:
            result["store"] = [measure_store(precision, examples, options) for precision in options.precisions]
            print_ratios(result["store"])
        else:
            result["steps"] = [
                measure(width, precision, examples, options) for width in TARGETS for precision in options.precisions
            ]
            print_tables(result["steps"])
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
