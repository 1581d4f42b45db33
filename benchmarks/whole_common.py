"""What the jobs of ``whole_job.py`` have in common: what a process is told, clocks, and the machine's rate."""

import os
import resource
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Task:
    """What one process does.

    Attributes:
        job: Which job.
        way: With what.
        folder: Where teacher and data are.
        settings: Sizes, by name.
        seed: Seed of weights and order, where there is one training alone.
    """

    job: str
    way: str
    folder: str
    settings: dict[str, Any] = field(default_factory=dict)
    seed: int = 0


def processor() -> float:
    """Seconds of processor time of this process, its threads, and its children that have ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


@contextmanager
def clocked(found: dict[str, Any], name: str) -> Iterator[None]:
    """Keep the seconds of a stretch, by the clock and of the processor."""
    began, used = time.perf_counter(), processor()
    yield
    found[name] = {"clock": time.perf_counter() - began, "processor": processor() - used}


def stopwatch() -> Any:
    """A callback that keeps the seconds of the steps, from the first to the end of the last epoch."""
    from limbeck import Callback

    class Stopwatch(Callback):
        """Seconds by the clock and of the processor."""

        def on_start(self, name: str, epochs: int, steps: int, epoch: int) -> None:
            """Begin."""
            self.began = time.perf_counter(), processor()

        def on_epoch(self, row: Mapping[str, Any]) -> None:
            """So far."""
            now = time.perf_counter(), processor()
            self.seconds = {"clock": now[0] - self.began[0], "processor": now[1] - self.began[1]}

    return Stopwatch()


def product_rate(size: int = 1536, repeats: int = 8) -> float:
    """Floating-point operations per second of the processor in products of large matrices, the best of some."""
    import torch

    a, b = (torch.randn(size, size, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    best = float("inf")
    for _ in range(repeats):
        began = time.process_time()
        float((a @ b)[0, 0])
        best = min(best, time.process_time() - began)
    return float(2 * size**3 / best)


def step_operations(model: Any, inputs: Any) -> int:
    """Floating-point operations of a network's forward and backward pass, counted by PyTorch."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        out = model(**inputs) if isinstance(inputs, dict) else model(inputs)
        getattr(out, "logits", out).sum().backward()
    model.zero_grad(set_to_none=True)
    return int(counter.get_total_flops())


def warm_up() -> None:
    """Import what PyTorch's first optimiser and the first run import, so that no way pays for it within its clock."""
    import importlib

    import torch

    torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])
    importlib.import_module("accelerate")


def threads() -> int:
    """Threads of each way, as ``OMP_NUM_THREADS`` says."""
    return int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)


def plain_loss(logits: Any, answers: Any, labels: Any, *, temperature: float, weight: float) -> Any:
    """The loss of a distillation as scripts have it, from a teacher's logits."""
    from torch.nn import functional

    log_probs = functional.log_softmax(logits / temperature, dim=1)
    soft = functional.kl_div(log_probs, (answers / temperature).softmax(1), reduction="batchmean")
    return (1 - weight) * temperature**2 * soft + weight * functional.cross_entropy(logits, labels)
