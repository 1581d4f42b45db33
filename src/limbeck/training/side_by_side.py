"""Several small trainings as one: their steps are batched products of stacked weights.

A small network's step is a few dozen operations that take longer to start than to compute. Where several networks of
one architecture are trained, with other seeds, losses, temperatures or learning rates, one operation serves all. Each
remains a training of its own, with its schedule, its best epoch, its checkpoints and its history, and equals the
training alone up to rounding.
"""

__all__ = ["fit_side_by_side"]

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import astuple
from typing import Any

import torch
from torch import Tensor

from limbeck.data.feed import Feed
from limbeck.errors import InterruptedRun, NonFiniteError
from limbeck.protocols import Batch, Objective
from limbeck.system.devices import Device
from limbeck.system.interrupts import collect_signals
from limbeck.training.engine import LOOK_EVERY, Fitted, TrainingRun, require_schedule
from limbeck.training.objective import DistillationObjective
from limbeck.training.stackable import Member
from limbeck.training.stacked import Stack
from limbeck.training.stacked_objective import StackedLoss

_BLOCK = 1000
"""Examples of a validation set at a time."""


def fit_side_by_side(
    members: Sequence[Member],
    device: Device,
    *,
    places: Sequence[int] | None = None,
    width: int | None = None,
    resume: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> list[Fitted | Exception]:
    """Train networks in place, side by side.

    Args:
        members: Trainings for which :func:`~limbeck.training.stackable.suit` is true.
        device: Where to compute.
        places: Which they are of a larger number, where the others are done already, so that they end in the bits that
            they would have ended in among all; None for all.
        width: That number; None for theirs.
        resume: Resume each from the latest checkpoint in its folder, if there is one; those that are behind go first.
        clock: A clock in seconds, for ``checkpoint_minutes``.

    Returns:
        For each, in order: history, timings and last weights; or the error that ended it, such as a loss that became
        NaN, or what its callback raised.

    Raises:
        ConfigError: If the schedule needs validation, and there is none.
        InterruptedRun: If SIGINT or SIGTERM came; a checkpoint of each was written.
    """  # noqa: DOC502
    for each in members:
        require_schedule(each.training, each.validation)
    runs, checked = [], set()
    with torch.random.fork_rng(devices=[]), ExitStack() as ends:
        for each in members:
            torch.manual_seed(each.training.seed)
            run = TrainingRun(
                each.model, each.objective, each.feed, each.training, device, each.validation, each.folder,
                each.callback, clock,
            )  # fmt: skip
            if resume:
                run.restore()
            kind = _kind(each.objective)
            run.check(losses=kind not in checked)
            checked.add(kind)
            runs.append(run)
        for run, each in zip(runs, members, strict=True):
            each.callback.on_start(each.name, each.training.epochs, each.feed.steps, run.state.epoch)
            ends.callback(each.callback.on_end)
        with collect_signals(enabled=any(run.kept for run in runs)) as caught:
            faults = _SideBySide(runs, places or range(len(runs)), width or len(runs), caught).loop()
    return [faults.get(id(run)) or run.finish() for run in runs]


def _kind(objective: Objective) -> Any:
    """What one check serves: losses of one formula and, where it matters, one teacher."""
    if isinstance(objective, DistillationObjective) and objective.hard_weight < 1:
        return type(objective), id(objective.teacher), objective.hard_weight > 0
    return type(objective), None, True


class _SideBySide:
    """The loop over several trainings."""

    def __init__(self, runs: Sequence[TrainingRun], places: Sequence[int], width: int, caught: list[int]) -> None:
        self.runs, self.caught, self.width = list(runs), caught, width
        self.places = {id(run): place for run, place in zip(runs, places, strict=True)}
        self.faults: dict[int, Exception] = {}

    def loop(self) -> dict[int, Exception]:
        """Train all to their ends; returns the errors that ended some, by the id of the run."""
        while going := [run for run in self.runs if self._goes_on(run)]:
            place = min((run.state.epoch, run.state.step) for run in going)
            now = [run for run in going if (run.state.epoch, run.state.step) == place]
            ahead = [run.state.step for run in going if run.state.epoch == place[0] and run.state.step > place[1]]
            self._train(now, min(ahead, default=now[0].feed.steps))
        return self.faults

    def _goes_on(self, run: TrainingRun) -> bool:
        return id(run) not in self.faults and run.state.epoch < run.training.epochs and not run.stalled()

    def _train(self, runs: list[TrainingRun], stop: int) -> None:
        """Train some, which are at the same place, up to a step; to the end of the epoch where that is its last."""
        epoch = _Epoch(runs, self.places, self.width)
        try:
            for fault, run in epoch.steps(stop, self._between):
                self.faults[id(run)] = fault
            if not epoch.runs or epoch.runs[0].state.step < epoch.runs[0].feed.steps:
                return
            for run, judged in zip(epoch.runs, epoch.judged(), strict=True):
                try:
                    run.end_epoch(judged, 1 / len(epoch.runs))
                except (InterruptedRun, KeyboardInterrupt):
                    raise
                except Exception as error:  # a callback's, which ends this training alone
                    self.faults[id(run)] = error
        finally:
            epoch.stack.release()
        if self.caught:
            self._interrupt(runs)

    def _between(self, epoch: "_Epoch") -> None:
        """Save where that is due, and stop where a signal came; between two steps."""
        first = epoch.runs[0]
        minutes = first.training.checkpoint_minutes
        due = minutes is not None and first.clock() - first.saved_at >= 60 * minutes
        if self.caught or due:
            epoch.settle()
            if self.caught:
                self._interrupt(epoch.runs)
            for run in epoch.runs:
                run.save()

    def _interrupt(self, runs: Sequence[TrainingRun]) -> None:
        for run in runs[1:]:
            run.save()
        runs[0].interrupt(self.caught)


class _Epoch:
    """The steps of an epoch, or a part of it, of trainings that are at the same place."""

    def __init__(self, runs: Sequence[TrainingRun], places: Mapping[int, int], width: int) -> None:
        self.runs, self.places, self.width = list(runs), places, width
        self._begin()

    def _begin(self) -> None:
        runs = self.runs
        self.at = [self.places[id(run)] for run in runs]
        optimizers = [run.state.optimizer for run in runs]
        self.stack = Stack([run.model for run in runs], optimizers, runs[0].training, self.at, self.width)
        self.sums = torch.tensor([run.state.sums.tolist() for run in runs], dtype=torch.float64)
        self.began = time.perf_counter()
        self.loss = StackedLoss([run.objective for run in runs], self.stack)
        for run in runs:
            run.model.train()

    def steps(self, stop: int, between: Callable[["_Epoch"], None]) -> Iterator[tuple[NonFiniteError, TrainingRun]]:
        """Make the steps; yields the trainings that became not finite, which are left out from there on."""
        while self.runs:
            lost = self._steps_until(stop, between)
            self.settle()
            if lost is None:
                return
            self.stack.release()
            for number in lost:
                run = self.runs[number]
                try:
                    run.fail(run.state.step)
                except NonFiniteError as error:
                    yield error, run
            self.runs = [run for number, run in enumerate(self.runs) if number not in lost]
            if self.runs:
                self._begin()

    def _steps_until(self, stop: int, between: Callable[["_Epoch"], None]) -> set[int] | None:
        """Make steps until a place; the numbers of trainings whose next step is not finite, where there are any."""
        runs, first = self.runs, self.runs[0]
        steps, batches = first.feed.steps, _batches(runs)
        place = first.state.epoch * steps
        while first.state.step < stop:
            given = next(batches)
            logits = self.stack.logits(_inputs(given))
            losses, labels = self.loss(logits, given)
            size = losses.shape[1]
            # Beside a place without a network its gradient goes nowhere.
            torch.dot(losses.flatten(), losses.new_full((losses.numel(),), 1 / size)).backward()  # type: ignore[no-untyped-call]
            totals, norms = losses.detach().sum(1), self.stack.norms()
            finite = (totals + norms).isfinite()[self.at]
            if not bool(finite.all()):
                return {number for number, fine in enumerate(finite.tolist()) if not fine}
            self.stack.update([run.state.schedule.rate(place + first.state.step) for run in runs], norms)
            self.sums[:, 0] += totals[self.at]
            self.sums[:, 2] += size
            if labels is not None:
                self.sums[:, 1] += (logits.detach().argmax(-1) != labels).sum(1)[self.at]
            for run in runs:
                run.state.step += 1
            if first.state.step % LOOK_EVERY == 0:
                self._report(first.state.step * size, labelled=labels is not None)
            if first.state.step < steps:
                between(self)
        return None

    def _report(self, seen: int, *, labelled: bool) -> None:
        self.settle()
        for run in self.runs:
            rate = seen / max(run.state.seconds, 1e-9)
            run.report_step(rate, labelled=labelled)

    def settle(self) -> None:
        """Write sums, times and numbers of steps to where each training keeps its own."""
        now = time.perf_counter()
        for run, sums in zip(self.runs, self.sums.tolist(), strict=True):
            run.state.sums.restore(sums)
            run.state.seconds += (now - self.began) / len(self.runs)
        self.began = now
        self.stack.count()

    def judged(self) -> list[dict[str, Any] | None]:
        """What validation finds of each; None where there is none."""
        examples = self.runs[0].validation
        if examples is None:
            return [None] * len(self.runs)
        assert examples.labels is not None
        wrong = torch.zeros(self.width, dtype=torch.int64)
        lost = torch.zeros(self.width, dtype=torch.float64)
        for run in self.runs:
            run.model.eval()
        for start in range(0, len(examples), _BLOCK):
            rows = torch.arange(start, min(start + _BLOCK, len(examples)))
            labels = examples.labels[rows].long()
            inputs = examples.as_seen(rows)
            assert isinstance(inputs, Tensor)
            with torch.no_grad():
                log_probs = self.stack.logits([inputs]).log_softmax(-1)
            wrong += (log_probs.argmax(-1) != labels).sum(1)
            right = log_probs.gather(-1, labels.expand(self.width, -1).unsqueeze(-1)).squeeze(-1)
            lost -= right.double().sum(1)
        return [
            {
                "validation_errors": errors,
                "validation_accuracy": 1 - errors / len(examples),
                "validation_nll": nll / len(examples),
            }
            for errors, nll in zip(wrong[self.at].tolist(), lost[self.at].tolist(), strict=True)
        ]


def _batches(runs: Sequence[TrainingRun]) -> Iterator[list[Batch]]:
    """The next batch of each; trainings of one seed on the same examples are given the same one."""
    keys = [_stream(run.feed) for run in runs]
    feeds = {key: run.feed for key, run in zip(keys, runs, strict=True)}
    state = runs[0].state
    streams = {key: feed.batches(state.epoch, start=state.step) for key, feed in feeds.items()}
    while True:
        now = {key: next(stream) for key, stream in streams.items()}
        yield [now[key] for key in keys]


def _stream(feed: Feed) -> tuple[Any, ...]:
    examples = feed.examples
    return id(examples.inputs), id(examples.labels), id(examples.index), feed.seed, astuple(feed.augmentation)


def _inputs(batches: Sequence[Batch]) -> list[Tensor]:
    """What each network is given; one for all, where that is the same."""
    found = [batch.inputs for batch in batches if isinstance(batch.inputs, Tensor)]
    assert len(found) == len(batches), "there are tensors in memory"
    return found[:1] if all(batch is batches[0] for batch in batches) else found
