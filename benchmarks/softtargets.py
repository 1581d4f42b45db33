"""What a store of soft targets costs: writing beside a plain write, memory, and reading beside a training step.

    python benchmarks/softtargets.py [--examples 10000000] [--classes 100] [--repeats 3] [--folder DIR]

Scores are drawn once and repeated, so that making them costs next to nothing. "Plain" writes as many bytes in pieces
of 4 MB and flushes them to the disk once, in the same run, before and after each store; the disk's speed varies from
minute to minute, so the ratio of the medians is what to look at. Memory is the peak of the process's resident set,
mapped pages included, above what it was before. The step is one of a 784-800-800-10 network on a batch of 256.
2026-11-21, 2 cores of an AMD EPYC, other work held back, one thread, ``--repeats 1``: 10 million x 100 written at 708
MB/s, where plain writes before and after it had 397 and 625 MB/s; the disk varies too much for the ratio to mean more
than that hashing and headers do not slow it down. 6 MB of memory writing and 38 MB reading. A shuffled batch of 256
beside a step of 23,706 us (top-k from disk: measured later, beside one of 22,161 us):

    =======================================  =======  =====
    10 million x 100, dense, from disk        559 us  2.4 %
    60,000 x 8 x 10, dense, held softened      30 us  0.1 %
    60,000 x 8 x 10, dense, from disk         147 us  0.6 %
    60,000 x 8 x 10, top-k, held softened      31 us  0.1 %
    60,000 x 8 x 10, top-k, from disk         376 us  1.7 %
    =======================================  =======  =====

The default of 10 million examples of 100 classes needs 4 GB of disk while it runs; ``--repeats 1`` halves the time.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limbeck.softtargets import Dense, Store, TopK, write_arrays
from memory_use import forget_peak, held_bytes, peak_bytes

_BLOCK = 1 << 16


def plain_write(folder: Path, size: int) -> float:
    """Seconds that a sequential write of so many bytes takes, flushed to the disk."""
    piece = np.random.default_rng(0).bytes(4 << 20)
    path = folder / "plain"
    start = time.perf_counter()
    with path.open("wb", buffering=0) as file:
        left = size
        while left > 0:
            left -= file.write(piece[: min(left, len(piece))])
        os.fsync(file.fileno())
    seconds = time.perf_counter() - start
    path.unlink()
    return seconds


def seconds_of(action: Callable[[], object], least: float = 1.0) -> float:
    """Median seconds of an action, repeated for a while."""
    action()
    times: list[float] = []
    while sum(times) < least or len(times) < 5:
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def writing_and_memory(folder: Path, examples: int, classes: int, repeats: int) -> None:
    """Write and read a large store."""
    scores = np.random.default_rng(0).standard_normal((_BLOCK, classes), np.float32) * 4

    def blocks(first: int) -> Iterator[NDArray[np.float32]]:
        for start in range(first, examples, _BLOCK):
            yield scores[: min(_BLOCK, examples - start)]

    names = [str(number) for number in range(classes)]
    size = examples * 2 * classes
    plain, ours = [], []
    growth = 0.0
    for _ in range(repeats):
        shutil.rmtree(folder / "store", ignore_errors=True)
        plain.append(plain_write(folder, size))
        before = held_bytes() / 2**20
        forget_peak()
        start = time.perf_counter()
        write_arrays(folder / "store", blocks, classes=names, examples=examples, encoding=Dense())
        ours.append(time.perf_counter() - start)
        growth = max(growth, peak_bytes() / 2**20 - before)
        plain.append(plain_write(folder, size))
    megabytes = size / 1e6
    rate, plain_rate = megabytes / statistics.median(ours), megabytes / statistics.median(plain)
    print(f"{examples:,} x {classes} dense float16, {megabytes:,.0f} MB, {repeats} times")
    print(f"  plain write        {plain_rate:8.0f} MB/s  (each: {', '.join(f'{megabytes / t:.0f}' for t in plain)})")
    print(f"  store              {rate:8.0f} MB/s  (each: {', '.join(f'{megabytes / t:.0f}' for t in ours)})")
    print(f"  store / plain      {rate / plain_rate:8.0%}       at least 70 %")
    print(f"  memory, writing    {growth:8.0f} MB   under 200 MB")

    before = held_bytes() / 2**20
    forget_peak()
    start = time.perf_counter()
    store = Store(folder / "store")
    opened = time.perf_counter() - start
    rows = 0
    start = time.perf_counter()
    for numbers, _ in store.batches(256, seed=0):
        rows += len(numbers)
    seconds = time.perf_counter() - start
    assert rows == examples
    print(f"  opening            {opened * 1e3:8.1f} ms")
    print(f"  shuffled reading   {seconds / (rows / 256) * 1e6:8.0f} us a batch of 256, {rows / seconds:,.0f} rows/s")
    print(f"  memory, reading    {peak_bytes() / 2**20 - before:8.0f} MB   under 200 MB")


def reading_beside_a_step(folder: Path) -> None:
    """Compare looking up a batch with learning from it: for the large store, and one like MNIST's with 8 views.

    The small one is held softened in memory from the first batch on; "from disk" it is read and softened batch by
    batch, as every larger store is.
    """
    import torch
    from torch import nn

    import limbeck.softtargets.teacher
    from limbeck.protocols import Batch
    from limbeck.softtargets import SoftTargets

    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(784, 800), nn.ReLU(), nn.Linear(800, 800), nn.ReLU(), nn.Linear(800, 10))
    optimizer = torch.optim.AdamW(network.parameters())
    inputs, labels = torch.rand(256, 784), torch.randint(10, (256,))

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(inputs), labels).backward()
        optimizer.step()

    step_seconds = seconds_of(step, 3.0)
    print(f"784-800-800-10, batches of 256, {torch.get_num_threads()} threads")
    print(f"  training step      {step_seconds * 1e6:8.0f} us")

    def measure(name: str, place: Path) -> None:
        targets = SoftTargets.open(place)
        drawn = torch.Generator().manual_seed(0)
        plan = targets.store.plan

        def look_up() -> None:
            index = torch.randint(plan.examples, (256,), generator=drawn)
            targets.log_probs(Batch(index, int(index[0]) % plan.views, inputs, None), 4.0)

        seconds = seconds_of(look_up)
        print(f"  {name:<26} {seconds * 1e6:8.0f} us = {seconds / step_seconds:.1%}  at most 5 %")

    measure("large, from disk", folder / "store")
    scores = np.random.default_rng(0).standard_normal((480_000, 10), np.float32) * 4
    for encoding in (Dense(), TopK(3)):
        place = folder / encoding.name
        names = [str(number) for number in range(10)]
        write_arrays(place, [scores], classes=names, examples=60_000, views=8, encoding=encoding)
        measure(f"{encoding.name}, 60,000 x 8 x 10", place)
        held = limbeck.softtargets.teacher._SOFTENED_BYTES
        limbeck.softtargets.teacher._SOFTENED_BYTES = 0
        measure(f"{encoding.name}, the same, from disk", place)
        limbeck.softtargets.teacher._SOFTENED_BYTES = held


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--examples", type=int, default=10_000_000)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to write; default: the system's temporary folder")
    options = parser.parse_args()
    code = "import sys, limbeck.softtargets; assert 'torch' not in sys.modules"
    start = seconds_of(lambda: subprocess.run([sys.executable, "-c", code], check=True))
    nothing = seconds_of(lambda: subprocess.run([sys.executable, "-c", "import numpy"], check=True))
    print(f"start of a writer    {start:8.2f} s, of which numpy {nothing:.2f} s")
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        writing_and_memory(Path(name), options.examples, options.classes, options.repeats)
        reading_beside_a_step(Path(name))


if __name__ == "__main__":
    main()
