"""Several small trainings as one: their steps are batched products of stacked weights.

A small network's step is a few dozen operations that take longer to start than to compute. Where several networks of
one architecture are trained, with other seeds, losses, temperatures or learning rates, one operation serves all. Each
remains a training of its own, with its schedule, its best epoch, its checkpoints and its history, and equals the
training alone up to rounding.
"""

__all__ = ["Member", "fit_side_by_side", "suit"]

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.data.examples import Examples
from limbeck.data.feed import Feed
from limbeck.errors import InterruptedRun, NonFiniteError
from limbeck.losses import softened
from limbeck.losses.fused import HOT, stacked_loss
from limbeck.methods.kd import KD
from limbeck.models.calling import call_model, presentation_of
from limbeck.models.layers import Maxout, Standardise
from limbeck.models.mlp import MLP
from limbeck.options import Training
from limbeck.protocols import Batch, Objective
from limbeck.system.callbacks import Callback
from limbeck.system.devices import Device
from limbeck.system.interrupts import collect_signals
from limbeck.system.processes import world
from limbeck.training.engine import LOOK_EVERY, Fitted, TrainingRun, require_schedule
from limbeck.training.objective import DistillationObjective, LabelObjective
from limbeck.training.stacked import Stack, stacked_logits

_FEWEST = 4
"""Trainings that are worth it."""
_LARGEST = 6e7
"""Floating-point operations of a network's step above which starting them is no longer what takes the time."""
_LAYERS: tuple[type[nn.Module], ...] = (
    nn.Linear, nn.Flatten, nn.Identity, nn.LayerNorm, nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.LeakyReLU,
    nn.ELU, nn.Softplus, nn.Hardswish, Maxout, Standardise,
)  # fmt: skip
"""Layers that keep nothing, draw nothing, and do the same for each example."""
_BLOCK = 1000
"""Examples of a validation set at a time."""
_CLOSE = 1e-4
"""How far stacked logits may be from a network's own, as a share of the largest."""


@dataclass(frozen=True)
class Member:
    """One of the trainings: the arguments of :func:`~limbeck.training.engine.fit`."""

    model: nn.Module
    objective: Objective
    feed: Feed
    training: Training
    validation: Examples | None = None
    folder: Path | None = None
    callback: Callback = field(default_factory=Callback)
    name: str = "model"


def suit(members: Sequence[Member], device: Device, *, width: int | None = None) -> bool:
    """Whether trainings can be made side by side, and are faster so.

    The answer is a function of networks, settings and data, never of the machine's mood.

    Args:
        members: The trainings.
        device: Where they are to compute.
        width: Of how many these are a part, as for :func:`fit_side_by_side`.

    Returns:
        Whether there are several small networks of one architecture, on the CPU in float32, which differ in weights,
        seed, learning rate, and a loss of labels or soft targets.

    Example:
        >>> examples = Examples.of(torch.rand(20, 3), torch.arange(20) % 2)
        >>> training = Training(batch_size=10)
        >>> feed = Feed(examples, batch_size=10, seed=0)
        >>> members = [Member(nn.Linear(3, 2), LabelObjective(), feed, training) for _ in range(4)]
        >>> here = Device(torch.device("cpu"), "float32")
        >>> suit(members, here), suit(members[:2], here)
        (True, False)
    """
    if (
        (width or len(members)) < _FEWEST
        or device.device.type != "cpu"
        or device.precision != "float32"
        or world().size > 1
    ):
        return False
    first = members[0]
    alike = {
        (
            _shapes(each.model),
            str(first.model) == str(each.model),
            replace(each.training, seed=0, learning_rate=None),
            (each.feed.steps, each.feed.batch_size, each.feed.accumulate, len(each.feed.examples)),
            id(each.validation),
        )
        for each in members
    }
    return (
        len(alike) == 1
        and _plain(first.training)
        and all(_small(each) and _known(each.objective) and _in_memory(each) for each in members)
        and _stackable([each.model for each in members], first.feed)
    )


def _shapes(model: nn.Module) -> tuple[Any, ...]:
    return tuple((name, value.shape, value.dtype, value.requires_grad) for name, value in model.named_parameters())


def _plain(training: Training) -> bool:
    return not (
        training.own_optimizer
        or training.skip_nonfinite
        or training.compile
        or training.class_weight
        or training.accumulate > 1
        or training.schedule == "newbob"
        or not training.side_by_side
    )


def _small(member: Member) -> bool:
    """Whether a network is of known layers, all of them trained, and its step little work."""
    model = member.model
    leaves = [part for part in model.modules() if next(part.children(), None) is None]
    weights = list(model.parameters())
    constrained = getattr(model, "project_", None) is not None
    if constrained and not (isinstance(model, MLP) and model.config.max_norm is None):
        return False
    once = len(weights) == len(list(model.named_parameters(remove_duplicate=False)))
    return (
        once
        and bool(weights)
        and all(type(part) in _LAYERS for part in leaves)
        and next(model.buffers(), None) is None
        and all(weight.requires_grad and weight.dtype == torch.float32 for weight in weights)
        and presentation_of(model) is None
        and 6.0 * sum(weight.numel() for weight in weights) * member.feed.batch_size <= _LARGEST
    )


def _known(objective: Objective) -> bool:
    if type(objective) is LabelObjective:
        return True
    if type(objective) is not DistillationObjective or objective.teaching is not None:
        return False
    return objective.hard_weight == 1 or (type(objective.method) is KD and objective.temperature <= HOT)


def _in_memory(member: Member) -> bool:
    feed = member.feed
    parts = [feed.examples, *([] if member.validation is None else [member.validation])]
    return (
        feed.viewing.mixing is None
        and not feed.viewing.made
        and all(isinstance(each.inputs, Tensor) and each.presentation is None for each in parts)
    )


def _stackable(models: Sequence[nn.Module], feed: Feed) -> bool:
    """Whether the stacked networks answer as each alone does, on the first examples."""
    batch = next(feed.batches(0)).head(8)
    assert isinstance(batch.inputs, Tensor)
    try:
        with torch.no_grad():
            alone = torch.stack([call_model(model, batch.inputs) for model in models])
            weights = {
                name: torch.stack([dict(model.named_parameters())[name] for model in models])
                for name, _ in models[0].named_parameters()
            }
            together = stacked_logits(models[0], weights, batch.inputs.expand(len(models), *batch.inputs.shape))
    except Exception:  # whatever a user's module does that cannot be batched: it is trained alone
        return False
    largest = max(1.0, float(alone.abs().max()))
    return together.shape == alone.shape and float((together - alone).abs().max()) <= _CLOSE * largest


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
        members: Trainings for which :func:`suit` is true.
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
        self.loss = _StackedLoss([run.objective for run in runs], self.stack)
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


class _StackedLoss:
    """The losses of several objectives at once."""

    def __init__(self, objectives: Sequence[Objective], stack: Stack) -> None:
        self.objectives, self.stack = objectives, stack
        weights = [float(getattr(each, "hard_weight", 1.0)) for each in objectives]
        self.soft, self.hard = [weight < 1 for weight in weights], any(weight > 0 for weight in weights)
        self.smoothing = float(getattr(objectives[0], "label_smoothing", 0.0))
        self.weights = stack.stacked([torch.tensor(weight) for weight in weights])
        self.temperatures = stack.stacked(
            [torch.tensor(float(getattr(each, "temperature", 1.0))) for each in objectives]
        )

    def __call__(self, logits: Tensor, batches: Sequence[Batch]) -> tuple[Tensor, Tensor | None]:
        """Losses ``(M, N)`` of logits ``(M, N, K)``, and the labels ``(M, N)`` where there are any."""
        known = [batch.labels for batch in batches if batch.labels is not None]
        labels = self.stack.stacked(known) if len(known) == len(batches) else None
        losses = stacked_loss(
            logits,
            self._targets(logits, batches) if any(self.soft) else None,
            labels if self.hard else None,
            temperatures=self.temperatures,
            hard_weights=self.weights,
            label_smoothing=self.smoothing,
        )
        return losses, labels

    def _targets(self, logits: Tensor, batches: Sequence[Batch]) -> Tensor:
        """The teacher's answers to each, asked once for the same batch at the same temperature."""
        found: dict[tuple[Any, ...], Tensor] = {}
        rows = []
        for number, (objective, batch) in enumerate(zip(self.objectives, batches, strict=True)):
            if not self.soft[number]:
                rows.append(torch.zeros_like(logits[0]))
                continue
            assert isinstance(objective, DistillationObjective)
            key = (id(objective.teacher), objective.asked_at, id(batch))
            if key not in found:
                found[key] = self._answers(objective, batch, found)
            rows.append(found[key])
        return self.stack.stacked(rows)

    @staticmethod
    def _answers(objective: DistillationObjective, batch: Batch, found: dict[tuple[Any, ...], Tensor]) -> Tensor:
        """The teacher's answers at the objective's temperature; its logits are looked up once for all temperatures."""
        teacher = objective.teacher
        if not teacher.has_logits:
            return objective.taught(batch).logits
        key = (id(teacher), 1.0, id(batch))
        if key not in found:
            answers = teacher.log_probs(batch.for_teacher, 1.0).detach()
            # Half precision sums to 1 but nearly.
            exactly = answers.dtype in {torch.float32, torch.float64}
            found[key] = answers if exactly else softened(answers.float())
        return found[key] if objective.asked_at == 1 else softened(found[key], objective.asked_at)
