"""What a run costs in memory, disk and exchanges between processes, by a formula and by measurement.

    python benchmarks/scale.py [--json FILE] [--quick]

For multi-layer networks of several sizes, trained with AdamW on random bytes of 28x28, it compares

- the size of a checkpoint with 16 bytes a parameter (weights, best weights, two moments);
- the growth of the process while it trains, to its peak, with 64 bytes a parameter (while a checkpoint is written:
  those 16, a copy of them, their bytes, and the file), 784 bytes per example, and the activations of a batch;
- the time that two processes on this machine (gloo) take to add up the gradients, with a line through the sizes.
"""

import argparse
import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from memory_use import peak_bytes

PARAMETER_DISK, PARAMETER_PEAK = 16, 64
"""Bytes a parameter: in a checkpoint, and in memory at the peak."""
EXAMPLE = 784
"""Bytes an example of 28x28, held as bytes."""
EXAMPLE_ORDER = 8 * 4
"""Bytes an example for its label, its number, and the order of an epoch."""


def predicted(parameters: int, hidden: int, examples: int, batch: int = 256) -> dict[str, int]:
    """The formula: bytes on disk and in memory."""
    # Of each hidden layer the scores, what comes out, and their gradients; of the pictures two copies as floats.
    activations = batch * 4 * (2 * EXAMPLE + 2 * 4 * hidden)
    memory = PARAMETER_PEAK * parameters + (EXAMPLE + EXAMPLE_ORDER) * examples + activations
    return {"checkpoint": PARAMETER_DISK * parameters, "memory": memory}


def measure(hidden: int, examples: int) -> dict[str, int]:
    """Train for two epochs in this process; it should be a fresh one."""
    import torch

    from limbeck.data import Examples, Feed
    from limbeck.models import MLP, MLPConfig
    from limbeck.options import Training
    from limbeck.system.devices import Device
    from limbeck.training.engine import fit
    from limbeck.training.objective import LabelObjective

    place = Device(torch.device("cpu"), "float32")

    def train(width: int, count: int) -> tuple[int, int]:
        inputs = torch.randint(0, 256, (count, 1, 28, 28), dtype=torch.uint8)
        feed = Feed(Examples.of(inputs, torch.randint(0, 10, (count,))), batch_size=256, seed=0)
        model = MLP(MLPConfig(input_shape=(1, 28, 28), classes=10, hidden=(width, width)))
        with tempfile.TemporaryDirectory() as folder:
            fit(model, LabelObjective(), feed, Training(epochs=2), place, folder=Path(folder))
            size = (Path(folder) / "latest.safetensors").stat().st_size
        return size, sum(value.numel() for value in model.parameters())

    train(8, 300)  # libraries and their caches
    before = peak_bytes()
    size, parameters = train(hidden, examples)
    return {"parameters": parameters, "checkpoint": size, "memory": peak_bytes() - before}


def exchange(rank: int, port: int, sizes: Sequence[int], rounds: int, answers: Any) -> None:
    """One of two processes that add up tensors."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    import torch

    from limbeck.system.processes import world

    torch.set_num_threads(1)
    here = world()
    found = []
    for size in sizes:
        tensor, times = torch.ones(size), []
        for _ in range(rounds):
            began = time.perf_counter()
            here.add_up([tensor])
            times.append(time.perf_counter() - began)
        found.append(min(times))
    if rank == 0:
        answers.put(found)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the results to a file")
    parser.add_argument("--quick", action="store_true", help="a short run that only shows that it works")
    given = parser.parse_args()
    cases = [(64, 2_000)] if given.quick else [(300, 60_000), (1200, 20_000), (2400, 5_000)]
    context = get_context("spawn")
    rows: list[dict[str, Any]] = []
    print(
        f"{'hidden':>6} {'examples':>9} {'parameters':>11} {'':>11} {'formula MB':>11} {'measured MB':>12} {'ratio':>6}"
    )
    for hidden, examples in cases:
        with context.Pool(1) as pool:
            found = pool.apply(measure, (hidden, examples))
        formula = predicted(found["parameters"], hidden, examples)
        for what in ("checkpoint", "memory"):
            row = {"hidden": hidden, "examples": examples, "what": what}
            rows.append(row | {"formula": formula[what], "measured": found[what]})
            print(
                f"{hidden:>6} {examples:>9,} {found['parameters']:>11,} {what:>11} {formula[what] / 1e6:>11.1f} "
                f"{found[what] / 1e6:>12.1f} {found[what] / formula[what]:>6.2f}"
            )
    sizes = [1_000, 10_000] if given.quick else [1_000, 100_000, 1_000_000, 4_000_000]
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
    answers = context.Queue()
    pair = [context.Process(target=exchange, args=(n, port, sizes, 5 if given.quick else 30, answers)) for n in (0, 1)]
    for process in pair:
        process.start()
    seconds = answers.get(timeout=120)
    for process in pair:
        process.join()
    slope = (seconds[-1] - seconds[0]) / (sizes[-1] - sizes[0])
    print(f"\n{'numbers':>9} {'measured ms':>12} {'line ms':>8}")
    for size, taken in zip(sizes, seconds, strict=True):
        line = seconds[0] + slope * (size - sizes[0])
        rows.append({"numbers": size, "seconds": taken, "line": line})
        print(f"{size:>9,} {1e3 * taken:>12.3f} {1e3 * line:>8.3f}")
    if given.json is not None:
        given.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
