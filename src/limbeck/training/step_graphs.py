"""Training steps as CUDA graphs: forward, loss, backward, optimiser and sums are launched by one call.

A small network's step is dozens of kernels of a few microseconds, and launching each from Python takes longer than
computing it. A graph records the kernels once and replays them on the tensors of the next batch.

What is recorded is what ran on the device, so nothing may depend on Python between two steps: models and objectives
of which that is not known are trained without graphs (see :func:`~limbeck.models.capturable.capturable` and
``--cuda-graphs``).
"""

__all__ = ["Recorder", "StepGraphs", "Watch", "record_cuda_graph", "wants_graphs", "watch_host"]

import gc
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from limbeck.errors import LimbeckError
from limbeck.inputs import mapped, tensors_of
from limbeck.methods import Method
from limbeck.models.capturable import capturable
from limbeck.options import Training
from limbeck.protocols import Batch, Objective, Output
from limbeck.system.devices import Device
from limbeck.system.processes import World

WARM = 3
"""Steps of each shape that are made one kernel at a time first: libraries and the optimiser set themselves up."""
MOST = 4
"""Graphs that are kept: each holds the memory of a step."""

Recorder = Callable[[Callable[[], None]], Callable[[], None]]
"""Takes a function that launches kernels, and returns one that launches them again."""
Watch = Callable[[], AbstractContextManager[list[str]]]
"""A context that lists, once it is left, what made the host wait in it."""


def wants_graphs(
    model: nn.Module, objective: Objective, training: Training, device: Device, world: World, accumulate: int = 1
) -> bool:
    """Whether steps are to be recorded.

    Args:
        model: What is trained.
        objective: The loss that is minimised.
        training: The settings.
        device: Where it computes.
        world: The processes that divide each batch.
        accumulate: Parts in which each batch is given.

    Returns:
        Whether they are, on a CUDA device in one process; without being told to, only for models that are
        :func:`capturable`, with objectives of Limbeck.
    """
    if device.device.type != "cuda" or training.cuda_graphs == "off" or world.size > 1 or accumulate > 1:
        return False
    if training.compile or training.own_optimizer:
        return False
    method = getattr(objective, "method", None)
    if isinstance(method, Method) and (method.phases > 1 or type(method).at is not Method.at):
        return False  # its loss changes as the training goes on
    if training.cuda_graphs == "on":
        return True
    parts = (objective, getattr(objective, "inner", objective))
    ours = all(type(part).__module__.startswith("limbeck.training.") for part in parts)
    return ours and capturable(model) and (method is None or capturable(method))


def record_cuda_graph(launch: Callable[[], None]) -> Callable[[], None]:
    """Record what a function launches on the current CUDA device, without running it.

    Args:
        launch: Reads and writes tensors that stay where they are.

    Returns:
        A function that replays the kernels.
    """
    graph, stream = torch.cuda.CUDAGraph(), cast(Any, torch.cuda).Stream()
    torch.cuda.synchronize()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream), _uncollected():
        try:
            graph.capture_begin(capture_error_mode="thread_local")
            launch()
            graph.capture_end()
        except BaseException:
            _release(graph)
            raise
    torch.cuda.current_stream().wait_stream(stream)
    return graph.replay


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the garbage collector from freeing an older graph's memory meanwhile, which would end the capture."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _release(graph: torch.cuda.CUDAGraph) -> None:
    """End a capture that failed; the generator of random numbers believes in it until another one has ended well."""
    with suppress(RuntimeError):
        graph.capture_end()
    something, other = torch.zeros(1, device="cuda"), torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    other.capture_begin(capture_error_mode="thread_local")
    something.add_(1)
    other.capture_end()


@contextmanager
def watch_host() -> Iterator[list[str]]:
    """Note what makes the host wait for a CUDA device: such a step cannot be recorded.

    Yields:
        What was noted, as it comes.
    """
    noted: list[str] = []
    if not torch.cuda.is_available():
        yield noted
        return
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        before = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("warn")  # which itself warns that it is new
        try:
            yield noted
        finally:
            torch.cuda.set_sync_debug_mode(before)
            noted += [str(each.message) for each in found if "called a synchronizing" in str(each.message)]


class StepGraphs:
    """Makes steps from graphs, one for each shape of batch.

    Args:
        make: Makes a step of a batch whose teacher's answers are given (None where the objective asks itself), with
            its number as a tensor; all that it changes must stay where it is.
        objective: Asked for the teacher's answers beforehand, where these are looked up or computed by others.
        record: How to record one step.
        watch: Notes what makes the host wait, in the step before the first that is recorded.

    Attributes:
        refused: Why no step is recorded any more; None while they are.
    """

    def __init__(
        self,
        make: Callable[[Batch, Output | None, Tensor], None],
        objective: Objective,
        record: Recorder,
        watch: Watch = watch_host,
    ) -> None:
        self._make, self._record, self._watch = make, record, watch
        ask: Callable[[Batch], Output | None] | None = getattr(objective, "taught_before", None)
        within = ask is None or bool(getattr(objective, "asks_within", False))
        self._ask = (lambda batch: None) if ask is None or within else ask
        self._seen: Counter[Any] = Counter()
        self._graphs: dict[Any, _Graph] = {}
        self.refused: str | None = None

    def step(self, batch: Batch, number: int) -> bool:
        """Make a step from a graph.

        Args:
            batch: The examples.
            number: Of the step.

        Returns:
            Whether it was made; the first few of a shape, and rare shapes, are left to the caller.
        """
        if self.refused is not None:
            return False
        shapes = tuple((tuple(value.shape), value.dtype) for value in _tensors(batch))
        graph = self._graphs.get(shapes)
        if graph is None:
            self._seen[shapes] += 1
            if self._seen[shapes] < WARM or len(self._graphs) == MOST:
                return False
            if self._seen[shapes] == WARM:
                self._try(batch, number)
                return True
            try:
                graph = self._graphs[shapes] = _Graph(batch, self._ask(batch), self._make, self._record)
            except (
                RuntimeError,
                LimbeckError,
            ) as error:  # something in the step makes the host wait, or cannot be recorded
                self.refused = " ".join(str(error).split())[:200]
                return False
        graph.replay(batch, self._ask(batch), number)
        return True

    def _try(self, batch: Batch, number: int) -> None:
        """Make a step as one will be recorded, and see whether the host need not wait in it."""
        counted = torch.full((), number, dtype=torch.int64, device=batch.index.device)
        answers = self._ask(batch)
        with self._watch() as waited:
            self._make(batch, answers, counted)
        if waited:
            self.refused = f"in each step the host waits for the device ({waited[0].splitlines()[0][:120]})"


class _Graph:
    """One recorded step and the tensors that it reads."""

    def __init__(
        self,
        batch: Batch,
        answers: Output | None,
        make: Callable[[Batch, Output | None, Tensor], None],
        record: Recorder,
    ) -> None:
        self._number = torch.zeros((), dtype=torch.int64, device=batch.index.device)
        self._batch = _copied(batch)
        self._answers = None if answers is None else _kept(answers)
        self._places = [*_tensors(self._batch), *_parts(self._answers)]
        self._launch = record(lambda: make(self._batch, self._answers, self._number))

    def replay(self, batch: Batch, answers: Output | None, number: int) -> None:
        """Make the step on another batch of the same shapes."""
        self._number.fill_(number)
        for place, value in zip(self._places, [*_tensors(batch), *_parts(answers)], strict=True):
            place.copy_(value, non_blocking=True)
        self._launch()


def _tensors(batch: Batch) -> Iterator[Tensor]:
    """All tensors of a batch, in an order of its fields."""
    yield batch.index
    yield from tensors_of(batch.inputs)
    if batch.labels is not None:
        yield batch.labels
    if batch.mixed is not None:
        yield batch.mixed.labels
        yield batch.mixed.share
    if batch.taught is not None:
        yield from _tensors(batch.taught)


def _copied(batch: Batch) -> Batch:
    """A batch with tensors of its own, seen by every model as the student sees it."""
    mixed = batch.mixed
    return replace(
        batch,
        index=batch.index.clone(),
        inputs=mapped(batch.inputs, torch.clone),
        labels=None if batch.labels is None else batch.labels.clone(),
        mixed=None if mixed is None else replace(mixed, labels=mixed.labels.clone(), share=mixed.share.clone()),
        taught=None if batch.taught is None else _copied(batch.taught),
        presented=None,
    )


def _parts(answers: Output | None) -> list[Tensor]:
    return [] if answers is None else [answers.logits, *answers.features.values()]


def _kept(answers: Output) -> Output:
    features = {name: value.clone() for name, value in answers.features.items()}
    return Output(answers.logits.clone(), features, answers.temperature)
