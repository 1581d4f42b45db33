"""How long it takes to combine a generalist with its specialists, by the number of classes.

    python benchmarks/committee.py [--rows 20000] [--rounds 3] [--json FILE] [--quick]

Random networks as sure as trained ones (logits of standard deviation 4), specialists for random classes, asked where
one of the generalist's top classes is special to them. Times are of ``combine`` alone, the least of some rounds, on one
thread; with many classes nearly each example asks specialists of its own. Beside each stands how far the answers are
from a probability distribution.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from limbeck.specialists import combine

CASES = ((26, 9, 5, 1), (53, 17, 10, 1), (53, 17, 10, 3), (1000, 60, 50, 1), (1000, 60, 50, 3))
"""Classes, specialists, special classes of each, and the generalist's top classes that decide who is asked."""


def measure(classes: int, specialists: int, special: int, top: int, rows: int, rounds: int) -> dict[str, Any]:
    """Microseconds an example, and the largest error of a sum of probabilities."""
    generator = torch.Generator().manual_seed(0)

    def answers(count: int) -> torch.Tensor:
        return (4 * torch.randn(rows, count, generator=generator)).log_softmax(-1)

    generalist = answers(classes)
    groups = [torch.randperm(classes, generator=generator)[:special].sort().values.tolist() for _ in range(specialists)]
    experts = [answers(special + 1) for _ in groups]
    best = float("inf")
    for _ in range(rounds):
        began = time.perf_counter()
        found = combine(generalist, experts, groups, top=top)
        best = min(best, time.perf_counter() - began)
    return {
        "classes": classes,
        "specialists": specialists,
        "special": special,
        "top": top,
        "microseconds": 1e6 * best / rows,
        "error": float((found.double().exp().sum(-1) - 1).abs().max()),
    }


def main(words: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000, help="a tenth of them with 1,000 classes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="few examples, to see that it works")
    options = parser.parse_args(words)
    rows, rounds = (200, 1) if options.quick else (options.rows, options.rounds)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found = []
    print("| classes | specialists | special classes | top | microseconds an example | sums of probabilities off by |")
    print("|---:|---:|---:|---:|---:|---:|")
    for case in CASES:
        row = measure(*case, rows // (10 if case[0] > 100 else 1), rounds)
        found.append(row)
        print(
            "| "
            + " | ".join(f"{value:.2g}" if key == "error" else f"{value:,.0f}" for key, value in row.items())
            + " |",
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    torch.set_num_threads(threads)
    return 0


if __name__ == "__main__":
    sys.exit(main())
