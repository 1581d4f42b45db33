"""Answers of a network with 8-bit weights beside the float network, beside one scale for a whole batch, and torchao.

    python benchmarks/int8.py [--rounds 9] [--calls 100] [--json FILE] [--quick]

The network is that of the letters' fully connected layers, 3200-1024-26. The ways take turns in one process; a ratio
is of one round's times. "one scale" is PyTorch's dynamic quantisation, whose answers depend on the batch that they come
in. torchao is left out where it cannot be imported: pip install torchao
"""

import argparse
import copy
import json
import statistics
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.models import Int8Linear, to_int8

WIDTHS = (3200, 1024, 26)


def network() -> nn.Module:
    """Float32, in evaluation mode."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(*WIDTHS[:2]), nn.ReLU(), nn.Linear(*WIDTHS[1:])).eval()


class _OneScale(nn.Module):
    """A layer as PyTorch's dynamic quantisation has it: one scale for all inputs of a batch."""

    def __init__(self, layer: Int8Linear) -> None:
        super().__init__()
        scale = layer.scale.double()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            weight = torch._make_per_channel_quantized_tensor(
                layer.weight, scale, torch.zeros_like(scale, dtype=torch.int64), 0
            )
        self.packed = torch.ops.quantized.linear_prepack(weight, layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.quantized.linear_dynamic(x, self.packed, True)


def with_one_scale(model: nn.Module) -> nn.Module:
    """The network with 8-bit weights and one scale per batch."""
    layers = to_int8(model).children()
    return nn.Sequential(*(_OneScale(layer) if isinstance(layer, Int8Linear) else layer for layer in layers))


def with_torchao(model: nn.Module) -> nn.Module | None:
    """What torchao makes of it, or None."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_
    except ImportError:
        return None
    copied = copy.deepcopy(model)
    quantize_(copied, Int8DynamicActivationInt8WeightConfig())
    return copied


def seconds_of(model: nn.Module, inputs: Tensor, calls: int) -> float:
    """Median seconds of a call."""
    times = []
    with torch.inference_mode():
        for _ in range(calls):
            began = time.perf_counter()
            model(inputs)
            times.append(time.perf_counter() - began)
    return statistics.median(times)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="rounds that count")
    parser.add_argument("--calls", type=int, default=100, help="calls of a round")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the results to a file")
    parser.add_argument("--quick", action="store_true", help="a short run that only shows that it works")
    options = parser.parse_args(arguments)
    if options.quick:
        options.rounds, options.calls = 1, 3
    model = network()
    ways = {"float32": model, "one scale": with_one_scale(model), "int8": to_int8(model)}
    if (other := with_torchao(model)) is not None:
        ways["torchao"] = other
    rows: list[dict[str, Any]] = []
    print(f"{'-'.join(map(str, WIDTHS))}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{'examples':<10}{'way':<10}{'ms':>10}{'times as fast as float32':>28}{'(min - max)':>17}{'error':>10}")
    for size in (1, 256):
        inputs = torch.rand(size, WIDTHS[0], generator=torch.Generator().manual_seed(0))
        calls = options.calls if size == 1 else max(3, options.calls // 10)
        times: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(options.rounds + 1):
            for name, way in ways.items():
                seconds = seconds_of(way, inputs, calls)
                if number:
                    times[name].append(seconds)
        with torch.inference_mode():
            right = model(inputs)
            errors = {name: float((way(inputs) - right).norm() / right.norm()) for name, way in ways.items()}
        for name, found in times.items():
            ratios = [a / b for a, b in zip(times["float32"], found, strict=True)]
            ratio = {"min": min(ratios), "median": statistics.median(ratios), "max": max(ratios)}
            rows.append({"examples": size, "way": name, "ms": 1e3 * statistics.median(found), "times_as_fast": ratio,
                         "error": errors[name]})  # fmt: skip
            print(f"{size:<10}{name:<10}{rows[-1]['ms']:>10.3f}{ratio['median']:>28.2f}"
                  f"     ({ratio['min']:.2f} - {ratio['max']:.2f}){errors[name]:>10.4f}")  # fmt: skip
    if options.json is not None:
        options.json.write_text(json.dumps({"threads": torch.get_num_threads(), "rows": rows}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
