"""What a GPU gives: examples per second of Limbeck's engine, beside plain loops on the same card.

    python benchmarks/gpu.py [--json FILE] [--markdown FILE] [--seconds 2] [--quick]

Each network trains on made-up images of MNIST's or CIFAR-10's size that lie on the card, in four ways:

- DataLoader: the loop that most code has: a ``DataLoader`` with workers and pinned memory, autocast, fused AdamW.
- on the card: the same loop over batches that are on the card already, in order, without shuffling: what PyTorch
  itself gives where nothing else is done.
- eager: Limbeck's engine with ``cuda_graphs="off"``: shuffling, sums, checks and learning rate included.
- graphs: Limbeck's engine as it is by default.

The last two learn from labels, and once more from a teacher's stored answers. All turns of a row are in one process,
one after the other; each is timed over at least ``--seconds`` after a first epoch that is not, and the card is waited
for at the end of each. Share of peak: operations of the network's products (six for a weight and example) at the rate
found, of what one large matrix product reaches in the same precision.

Then whole jobs: ``limbeck quickstart`` as a command of its own, from its start to its end, and the paper's teacher of
MNIST, 784-1200-1200-10 with dropout, limited norms and jitter, for a hundred epochs, with its test errors.

All of it takes less than ten minutes. ``--quick`` runs on any device to show that it runs.
"""

import argparse
import copy
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from limbeck.data import Examples, open_data
from limbeck.data.feed import Feed
from limbeck.data.splits import subset
from limbeck.evaluation.prediction import predict
from limbeck.models import CNN, MLP, CNNConfig, MLPConfig
from limbeck.options import Augmentation, DataOptions, Training
from limbeck.protocols import Objective
from limbeck.system.devices import Device
from limbeck.teachers import StoredTargets
from limbeck.training.engine import fit
from limbeck.training.objective import DistillationObjective, LabelObjective

Precision = Literal["float32", "bf16"]
Shape = tuple[int, ...]


def resnet18() -> nn.Module:
    """ResNet-18 for images of 32 x 32: no pooling at the start."""
    import timm

    model: nn.Module = timm.create_model("resnet18", num_classes=10, in_chans=3)
    model.conv1, model.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    return model


@dataclass(frozen=True)
class Case:
    """A network, and how it is trained.

    Attributes:
        title: In the table.
        make: Makes it.
        shape: Of an example.
        batch: Examples per step.
        precision: Of the products.
        examples: How many there are.
    """

    title: str
    make: Callable[[], nn.Module]
    shape: Shape
    batch: int
    precision: Precision
    examples: int = 60_000


def _mlp(*hidden: int, dropout: float = 0.0) -> Callable[[], nn.Module]:
    return lambda: MLP(MLPConfig(input_shape=(1, 28, 28), classes=10, hidden=hidden, dropout=dropout))


def _cnn() -> nn.Module:
    return CNN(CNNConfig(input_shape=(1, 28, 28), classes=10, channels=(64, 128), hidden=(1024,), dropout=0.5))


DIGITS, COLOURS = (1, 28, 28), (3, 32, 32)
CASES = [
    Case("784-300-300-10", _mlp(300, 300), DIGITS, 256, "float32"),
    Case("784-800-800-10", _mlp(800, 800), DIGITS, 128, "float32"),
    Case("784-800-800-10", _mlp(800, 800), DIGITS, 1024, "bf16"),
    Case("784-800-800-10", _mlp(800, 800), DIGITS, 4096, "bf16", 240_000),
    Case("784-1200-1200-10, dropout", _mlp(1200, 1200, dropout=0.5), DIGITS, 256, "float32"),
    Case("CNN 64-128-1024", _cnn, DIGITS, 256, "bf16"),
    Case("ResNet-18", resnet18, COLOURS, 256, "bf16", 50_000),
]


class Bench:
    """The data of a case, on the card and off it, and the loops over them."""

    def __init__(self, case: Case, place: torch.device, seconds: float) -> None:
        self.case, self.seconds = case, seconds
        self.device = Device(place, case.precision)
        generator = torch.Generator().manual_seed(1)
        self.inputs = torch.rand(case.examples, *case.shape, generator=generator)
        self.labels = torch.randint(0, 10, (case.examples,), generator=generator)
        torch.manual_seed(0)
        self.model = case.make()

    def wait(self) -> None:
        """Wait for the card."""
        if self.device.device.type == "cuda":
            torch.cuda.synchronize()

    def timed(self, epoch: Callable[[], None]) -> float:
        """Examples per second of epochs after the first."""
        epoch()
        self.wait()
        began, made = time.perf_counter(), 0
        while made == 0 or time.perf_counter() - began < self.seconds:
            epoch()
            self.wait()
            made += 1
        return made * self.case.examples / (time.perf_counter() - began)

    def plain(self, batches: Callable[[], Any]) -> float:
        """A loop of PyTorch's own."""
        place = self.device.device
        model = copy.deepcopy(self.model).to(place).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

        def epoch() -> None:
            for inputs, labels in batches():
                x, y = inputs.to(place, non_blocking=True), labels.to(place, non_blocking=True)
                optimizer.zero_grad(set_to_none=True)
                with self.device.autocast():
                    logits = model(x)
                nn.functional.cross_entropy(logits.float(), y).backward()
                optimizer.step()

        return self.timed(epoch)

    def with_loader(self) -> float:
        """The loop that most code has."""
        data = torch.utils.data.TensorDataset(self.inputs, self.labels)
        there = self.device.device.type == "cuda"
        workers = min(8, os.cpu_count() or 1) if there else 0
        loader = torch.utils.data.DataLoader(
            data, self.case.batch, shuffle=True, num_workers=workers, pin_memory=there, persistent_workers=workers > 0
        )
        return self.plain(lambda: loader)

    def on_the_card(self) -> float:
        """The same over batches that are there already."""
        place, size = self.device.device, self.case.batch
        parts = list(zip(self.inputs.to(place).split(size), self.labels.to(place).split(size), strict=True))
        return self.plain(lambda: parts)

    def engine(self, *, graphs: bool, stored: bool) -> float:
        """Limbeck's engine: the rate of its epochs after the first, by its own clock, which waits for the card."""
        examples = Examples.of(self.inputs, self.labels)
        place = self.device.device
        feed = Feed(examples, batch_size=self.case.batch, seed=0, device=place)
        objective: Objective = LabelObjective(0.0)
        if stored:
            answers = torch.randn(self.case.examples, 10).log_softmax(-1)
            known = StoredTargets(answers, examples.index, source=examples.source).to(place)
            objective = DistillationObjective(known, hard_weight=0.5, temperature=4.0)

        def made(epochs: int) -> list[float]:
            model = copy.deepcopy(self.model)
            settings = Training(
                epochs=epochs, batch_size=self.case.batch, cuda_graphs="auto" if graphs else "off", schedule="constant"
            )
            fitted = fit(model, objective, feed, settings, self.device)
            return [row["seconds"] for row in fitted.timings][1:]

        few = made(3)
        rest = made(2 + max(1, min(1000, round(self.seconds / (sum(few) / len(few))))))
        return len(rest) * self.case.examples / sum(rest)


def operations(bench: Bench) -> float:
    """Operations of a training step per example: six for each multiplication and addition of the forward pass."""
    from torch.utils.flop_counter import FlopCounterMode

    model = copy.deepcopy(bench.model).eval()
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        model(bench.inputs[:1])
    return 3 * float(counted.get_total_flops())


def product_rate(device: Device) -> float:
    """Operations per second of one large matrix product."""
    kind = torch.float32 if device.precision == "float32" else torch.bfloat16
    size = 8192 if device.device.type == "cuda" else 512
    a = torch.randn(size, size, device=device.device).to(kind)
    best = float("inf")
    for _ in range(10):
        float((a[:1, :1] @ a[:1, :1]).float())
        began = time.perf_counter()
        product = a @ a
        float(product[0, 0])
        best = min(best, time.perf_counter() - began)
    return 2 * float(size) ** 3 / best


def measure(case: Case, place: torch.device, seconds: float) -> dict[str, Any]:
    """A row of the table."""
    bench = Bench(case, place, seconds)
    row: dict[str, Any] = {
        "network": case.title, "batch": case.batch, "precision": case.precision,
        "DataLoader": bench.with_loader(),
        "on the card": bench.on_the_card(),
        "eager": bench.engine(graphs=False, stored=False),
        "graphs": bench.engine(graphs=True, stored=False),
        "stored, eager": bench.engine(graphs=False, stored=True),
        "stored, graphs": bench.engine(graphs=True, stored=True),
    }  # fmt: skip
    row["share of peak"] = row["graphs"] * operations(bench) / product_rate(bench.device)
    return row


def teacher(place: torch.device, epochs: int, examples: int | None = None) -> dict[str, Any]:
    """The paper's teacher: seconds of its training, and its test errors."""
    data = open_data(DataOptions(data="mnist"))
    if examples is not None:
        data = subset(data, examples)
    torch.manual_seed(0)
    model = MLP(MLPConfig(input_shape=DIGITS, classes=10, hidden=(1200, 1200), dropout=0.4, max_norm=3.0))
    settings = Training(epochs=epochs, batch_size=512, learning_rate=2e-3)
    feed = Feed(data.train, batch_size=512, augmentation=Augmentation(shift=2), seed=0, device=place)
    began = time.perf_counter()
    fit(model, LabelObjective(), feed, settings, Device(place, "float32"), validation=data.validation)
    seconds = time.perf_counter() - began
    assert data.test is not None
    assert data.test.labels is not None
    wrong = int((predict(model.cpu(), data.test).argmax(1) != data.test.labels).sum())
    return {"job": f"teacher, {epochs} epochs", "seconds": seconds, "test errors": wrong}


def quickstart(arguments: Sequence[str] = ()) -> dict[str, Any]:
    """The command, from its start to its end, and what its student makes of the test set."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        command = [sys.executable, "-m", "limbeck", "quickstart", "--out", folder, *arguments]
        subprocess.run(command, check=True, capture_output=True)  # its own, with nothing from outside
        seconds = time.perf_counter() - began
        found = json.loads((Path(folder) / "metrics.json").read_text())
    return {"job": "quickstart", "seconds": seconds, "test errors": found["student"]["test_errors"]}


COLUMNS = ("DataLoader", "on the card", "eager", "graphs", "stored, eager", "stored, graphs")


def markdown(rows: list[dict[str, Any]], jobs: list[dict[str, Any]], machine: Mapping[str, str]) -> str:
    """Both tables."""
    lines = [
        "| network | batch | precision | " + " | ".join(COLUMNS) + " | share of peak |",
        "|---|---|---|" + "---|" * (len(COLUMNS) + 1),
    ]
    for row in rows:
        rates = " | ".join(f"{row[name] / 1e6:.3g}" for name in COLUMNS)
        lines.append(
            f"| {row['network']} | {row['batch']} | {row['precision']} | {rates} | {100 * row['share of peak']:.1f} % |"
        )
    told = "; ".join(f"{name} {value}" for name, value in machine.items())
    lines += ["", f"Millions of examples per second. {told}.", "", "| job | seconds | test errors |", "|---|---|---|"]
    lines += [f"| {each['job']} | {each['seconds']:.1f} | {each['test errors']} |" for each in jobs]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args(arguments)
    place = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if place.type != "cuda" and not asked.quick:
        sys.exit("no CUDA device was found: --quick shows that this runs")
    cases = CASES
    if asked.quick:
        cases = [Case("784-32-10", _mlp(32), DIGITS, 64, "float32", 256)]
    rows = []
    for case in cases:
        rows.append(measure(case, place, 0.01 if asked.quick else asked.seconds))
        print(json.dumps(rows[-1]), flush=True)
    if asked.quick:
        jobs = [teacher(place, 1, 500)]
    else:
        jobs = [teacher(place, 100), quickstart()]
    card = torch.cuda.get_device_name(place) if place.type == "cuda" else platform.processor() or "processor"
    machine = {"Card:": card, "torch": torch.__version__, "Python": platform.python_version()}
    text = markdown(rows, jobs, machine)
    print(text)
    if asked.markdown:
        asked.markdown.write_text(text)
    if asked.json:
        asked.json.write_text(json.dumps({"machine": machine, "rows": rows, "jobs": jobs}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
