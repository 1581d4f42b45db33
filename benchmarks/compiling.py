"""A training step with ``compile`` beside the plain one, and the seconds that compiling takes.

    python benchmarks/compiling.py [--device auto] [--rounds 5] [--json FILE] [--quick]

The two take turns within one process; a ratio is of one round's times. Weights after the rounds are compared too. On a
processor torch.compile needs a C++ compiler.
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

from limbeck.data import Examples, Feed
from limbeck.models import CNN, MLP, CNNConfig, MLPConfig
from limbeck.models.compiled import compiled_for
from limbeck.options import Training
from limbeck.system.devices import Device, find_device
from limbeck.system.processes import world
from limbeck.training.objective import LabelObjective
from limbeck.training.optimizers import make_optimizer
from limbeck.training.steps import Stepper


def networks(*, quick: bool) -> dict[str, nn.Module]:
    """Networks on images of 28 x 28 and ten classes; a tiny one for a quick look."""
    if quick:
        return {"mlp": MLP(MLPConfig(input_shape=(1, 28, 28), classes=10, hidden=(16,)))}
    sizes = CNNConfig(input_shape=(1, 28, 28), classes=10, channels=(32, 64), hidden=(256,), batch_norm=True)
    return {"mlp": MLP(MLPConfig(input_shape=(1, 28, 28), classes=10, hidden=(1200, 1200))), "cnn": CNN(sizes)}


def seconds_of(stepper: Stepper, feed: Feed, device: Device) -> float:
    """Seconds per step of one pass over the examples."""
    steps = 0
    began = time.perf_counter()
    for batch in feed.batches(0):
        total, _ = stepper.learn(batch, len(batch.index), len(batch.index))
        stepper.update(stepper.judge(steps, total))
        steps += 1
    if device.device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - began) / steps


def measure(name: str, net: nn.Module, device: Device, rounds: int, batches: int) -> dict[str, Any]:
    """Both ways, by turns."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (256 * batches, 1, 28, 28), dtype=torch.uint8, generator=generator)
    examples = Examples.of(images, torch.randint(0, 10, (len(images),), generator=generator))
    feed = Feed(examples, batch_size=256, seed=0, device=device.device)
    training, models, steppers = Training(), {}, {}
    for way in ("plain", "compiled"):
        again = type(net)(net.config)
        again.load_state_dict(net.state_dict())
        models[way] = again.to(device.device).train()
    began = time.perf_counter()
    called = compiled_for(models["compiled"], next(feed.batches(0)), device)
    compiling = time.perf_counter() - began
    for way, model in models.items():
        optimizer = make_optimizer(model, training, device)
        given = called if way == "compiled" else None
        steppers[way] = Stepper(model, LabelObjective(), optimizer, training, device, world(), given)
    times: dict[str, list[float]] = {way: [] for way in models}
    for number in range(rounds + 1):
        for way, stepper in steppers.items():
            found = seconds_of(stepper, feed, device)
            if number:
                times[way].append(found)
    ratios = [plain / other for plain, other in zip(times["plain"], times["compiled"], strict=True)]
    pairs = zip(models["plain"].parameters(), models["compiled"].parameters(), strict=True)
    return {
        "network": name,
        "milliseconds": {way: 1000 * statistics.median(found) for way, found in times.items()},
        "times_as_fast": {"min": min(ratios), "median": statistics.median(ratios), "max": max(ratios)},
        "seconds_to_compile": compiling,
        "largest_difference": max(float((one - other).abs().max()) for one, other in pairs),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="a tiny network and one round")
    options = parser.parse_args(arguments)
    rounds, batches = (1, 2) if options.quick else (options.rounds, 20)
    device = find_device(options.device, "float32")
    rows = [measure(name, net, device, rounds, batches) for name, net in networks(quick=options.quick).items()]
    print(f"{torch.__version__}, {device.device}, {torch.get_num_threads()} threads, batches of 256\n")
    print("network    ms/step plain    compiled    times as fast (min, max)    s to compile    weights differ by")
    for row in rows:
        ms, fast = row["milliseconds"], row["times_as_fast"]
        print(
            f"{row['network']:<10} {ms['plain']:>13.2f} {ms['compiled']:>11.2f} {fast['median']:>16.2f} "
            f"({fast['min']:.2f}, {fast['max']:.2f}) {row['seconds_to_compile']:>13.1f} "
            f"{row['largest_difference']:>19.1e}"
        )
    if options.json is not None:
        options.json.write_text(json.dumps({"rows": rows}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
