"""Limbeck's dropout beside PyTorch's: forward and backward on 256 examples of 1200 units.

    python benchmarks/dropout.py [--rounds 9] [--calls 200] [--json FILE] [--quick]

The two take turns within one process; a ratio is of one round's times. On a processor Limbeck draws 16 random bits a
unit; on an accelerator it calls PyTorch's kernel, and there is nothing to gain.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from limbeck.models import Dropout

SHAPE = (256, 1200)
SHARE = 0.5


def seconds_of(layer: nn.Module, x: torch.Tensor, upstream: torch.Tensor, calls: int) -> tuple[float, float]:
    """Seconds of one forward pass, and of forward and backward together, means over some calls."""
    forward = both = 0.0
    for _ in range(calls):
        x.grad = None
        began = time.perf_counter()
        y = layer(x)
        middle = time.perf_counter()
        y.backward(upstream)
        forward += middle - began
        both += time.perf_counter() - began
    return forward / calls, both / calls


def measure(dtype: torch.dtype, rounds: int, calls: int) -> dict[str, Any]:
    """Both layers in one precision, by turns."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(SHAPE, generator=generator).to(dtype).requires_grad_(True)
    upstream = torch.randn(SHAPE, generator=generator).to(dtype)
    layers = {"torch": nn.Dropout(SHARE).train(), "limbeck": Dropout(SHARE).train()}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in layers}
    for number in range(rounds + 1):
        for name, layer in layers.items():
            pair = seconds_of(layer, x, upstream, calls)
            if number:
                times[name].append(pair)
    row: dict[str, Any] = {"dtype": str(dtype).removeprefix("torch.")}
    for place, part in enumerate(("forward", "both")):
        ratios = [a[place] / b[place] for a, b in zip(times["torch"], times["limbeck"], strict=True)]
        row[part] = {
            **{name: 1e6 * statistics.median(pair[place] for pair in pairs) for name, pairs in times.items()},
            "times_as_fast": {"min": min(ratios), "median": statistics.median(ratios), "max": max(ratios)},
        }
    kept = float((layers["limbeck"](torch.ones(SHAPE, dtype=dtype)) != 0).double().mean())
    row["share_kept"] = kept
    return row


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="rounds that count")
    parser.add_argument("--calls", type=int, default=200, help="calls of a round")
    parser.add_argument("--threads", type=int, help="threads of PyTorch")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the results to a file")
    parser.add_argument("--quick", action="store_true", help="a short run that only shows that it works")
    options = parser.parse_args(arguments)
    if options.quick:
        options.rounds, options.calls = 1, 5
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    rows = [measure(dtype, options.rounds, options.calls) for dtype in (torch.float32, torch.bfloat16)]
    print(f"dropout of {SHARE} on {SHAPE}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{'precision':<10}{'pass':<20}{'torch us':>10}{'limbeck us':>12}{'times as fast':>15}{'(min - max)':>17}")
    for row in rows:
        for part, title in (("forward", "forward"), ("both", "forward + backward")):
            ratio = row[part]["times_as_fast"]
            print(f"{row['dtype']:<10}{title:<20}{row[part]['torch']:>10.0f}{row[part]['limbeck']:>12.0f}"
                  f"{ratio['median']:>15.2f}     ({ratio['min']:.2f} - {ratio['max']:.2f})")  # fmt: skip
    if options.json is not None:
        options.json.write_text(json.dumps({"threads": torch.get_num_threads(), "rows": rows}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
