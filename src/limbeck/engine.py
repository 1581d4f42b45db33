"""The training loop. It knows objectives, not teachers: distillation is an objective like another.

A run is a function of its settings, its data and its seed. At every step its whole state (weights, optimiser,
schedule, random numbers, place in the epoch, sums so far) can be written to a checkpoint, and a run that is continued
from one ends in the same bits.
"""

__all__ = ["Fitted", "fit"]

import dataclasses
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.checkpoint import load_latest, save_rotating
from limbeck.data.examples import Examples
from limbeck.data.feed import Feed
from limbeck.devices import Device
from limbeck.errors import ConfigError, DataError, InterruptedRun, NonFiniteError, RunError
from limbeck.objective import check_objective
from limbeck.options import Training
from limbeck.prediction import answers_in_blocks
from limbeck.protocols import Objective
from limbeck.schedules import Schedule
from limbeck.watcher import Watcher

_LOOK_EVERY = 50
"""Steps between looks at numbers that live on an accelerator: a look makes the host wait for it."""


@dataclass
class Fitted:
    """What training left.

    Attributes:
        history: One row an epoch; a function of settings, data and seed alone.
        timings: One row an epoch: seconds and examples a second.
        best_epoch: The epoch whose weights the model holds, from 1.
        last: The weights after the last epoch, by name.
    """

    history: list[dict[str, Any]] = field(default_factory=list)
    timings: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    last: dict[str, Tensor] = field(default_factory=dict)


def fit(
    model: nn.Module,
    objective: Objective,
    feed: Feed,
    training: Training,
    device: Device,
    *,
    validation: Examples | None = None,
    folder: Path | None = None,
    resume: bool = False,
    watcher: Watcher | None = None,
    after_epoch: Callable[[int, nn.Module], None] | None = None,
) -> Fitted:
    """Train a model, in place.

    It ends with the weights of the epoch that was best on validation (fewest errors, then least negative
    log-likelihood), or with the last where there is no validation set.

    Args:
        model: Gives scores ``(N, K)``; it is moved to the device.
        objective: What to make small; it is checked on the first batch before anything is changed.
        feed: The batches.
        training: Optimiser, schedule, epochs, seed.
        device: Where and how precisely to compute.
        validation: Labelled examples to choose the epoch by.
        folder: Where checkpoints go, after every epoch and on a signal; None for none.
        resume: Continue from the newest checkpoint in ``folder``, if there is one.
        watcher: Hears how it goes.
        after_epoch: Called with the number of each epoch, from 1, and the model as it is then.

    Returns:
        History, timings and the last weights.

    Raises:
        ConfigError: If the schedule goes by validation, and there is none.
        InterruptedRun: If SIGINT or SIGTERM came; a checkpoint was written.
        NonFiniteError: If the loss became NaN or infinite; the last checkpoint is the one before.
        RunError: If the checkpoint belongs to other settings.
        SelfCheckError: If the objective is wrong.
    """
    watcher = watcher or Watcher()
    if validation is None and training.schedule in {"plateau", "newbob"}:
        raise ConfigError(f"schedule {training.schedule} goes by a validation set, and there is none: set one aside")
    with torch.random.fork_rng(devices=[device.device] if device.device.type == "cuda" else []):
        torch.manual_seed(training.seed)
        run = _Run(model, objective, feed, training, device, validation, folder, watcher)
        run.after_epoch = after_epoch
        if resume and folder is not None:
            run.restore(folder)
        run.check()
        watcher.start(training.epochs, feed.steps, run.epoch)
        try:
            with _signals(enabled=folder is not None) as caught:
                run.loop(caught)
        finally:
            watcher.finish()
    return run.finish()


class _Run:
    """The state of a run, and the loop over it."""

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        feed: Feed,
        training: Training,
        device: Device,
        validation: Examples | None,
        folder: Path | None,
        watcher: Watcher,
    ) -> None:
        self.model, self.objective, self.feed = model.to(device.device), objective, feed
        self.training, self.device, self.folder, self.watcher = training, device, folder, watcher
        self.validation = None if validation is None else validation.to(device.device)
        self.optimizer = _optimizer(self.model, training, device)
        self.schedule = Schedule(training, feed.steps)
        self.fitted = Fitted()
        self.best: dict[str, Tensor] = {}
        self.best_score = (math.inf, math.inf)
        self.epoch = self.step = 0
        self.sums = torch.zeros(3, dtype=torch.float64, device=device.device)  # loss, errors, examples
        self.seconds = 0.0
        self.after_epoch: Callable[[int, nn.Module], None] | None = None

    def check(self) -> None:
        """Prove the objective, and the shape of the model's answers, on the first batch."""
        batch = next(self.feed.batches(0))
        self.model.eval()
        with torch.no_grad(), self.device.autocast():
            scores = self.model(batch.inputs[:2])
        if scores.ndim != 2 or len(scores) != len(batch.inputs[:2]):
            raise DataError(f"a model must give scores (examples, classes), and gave shape {tuple(scores.shape)}")
        labels = batch.labels
        if labels is not None and int(labels.max()) >= scores.shape[1]:
            raise DataError(f"the model gives {scores.shape[1]} classes, and there is a label {int(labels.max())}")
        check_objective(self.objective, batch, scores.shape[1])

    def loop(self, caught: list[int]) -> None:
        """Go through the epochs that are left."""
        while self.epoch < self.training.epochs and not self.stalled():
            self.train_epoch(caught)
            self.end_epoch()
            if self.after_epoch is not None:
                self.after_epoch(self.epoch, self.model)
            if caught:
                self.interrupt(caught[0])

    def train_epoch(self, caught: list[int]) -> None:
        """Make the steps of one epoch that are left."""
        model, optimizer, objective = self.model, self.optimizer, self.objective
        loss_sum, error_sum, count_sum = self.sums.unbind()
        autocast = self.device.autocast()
        share = torch.empty(0)  # each example's share of the batch's mean: the gradient starts from it
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        project = getattr(model, "project_", None)
        look_every = 1 if self.device.device.type == "cpu" else _LOOK_EVERY
        clip = self.training.clip_norm
        model.train()
        began, seen_before = time.perf_counter(), 0
        for batch in self.feed.batches(self.epoch, start=self.step):
            for group in optimizer.param_groups:
                group["lr"] = self.schedule.rate(self.epoch * self.feed.steps + self.step)
            with autocast:
                scores = model(batch.inputs).float()
                losses = objective(scores, batch).per_example
            size = len(losses)
            if len(share) != size:
                share = torch.full_like(losses, 1 / size)
            losses.backward(share)  # type: ignore[no-untyped-call]
            total = losses.detach().sum()
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(parameters, clip)
            if self.step % look_every == 0 and not math.isfinite(total.item()):
                raise NonFiniteError(
                    f"the loss became {total.item() / size} at epoch {self.epoch + 1}, step {self.step + 1} of "
                    f"{self.feed.steps}: try a smaller learning rate or clip_norm"
                )
            optimizer.step()
            for parameter in parameters:
                parameter.grad = None
            if project is not None:
                project()
            with torch.no_grad():
                loss_sum.add_(total)
                if batch.labels is not None:
                    error_sum.add_((scores.detach().argmax(-1) != batch.labels).sum())
                count_sum.add_(len(batch.index))
            self.step += 1
            seen_before += len(batch.index)
            if self.step % _LOOK_EVERY == 0:
                self.report_step(seen_before / (time.perf_counter() - began), labelled=batch.labels is not None)
            if caught and self.step < self.feed.steps:
                self.seconds += time.perf_counter() - began
                self.interrupt(caught[0])
        self.seconds += time.perf_counter() - began

    def report_step(self, rate: float, *, labelled: bool) -> None:
        """Tell the watcher the means so far."""
        loss, errors, count = self.sums.tolist()
        accuracy = 1 - errors / count if labelled else None
        self.watcher.step(self.epoch, self.step, loss / count, accuracy, rate)

    def end_epoch(self) -> None:
        """Validate, remember the best, write the history and a checkpoint."""
        loss, errors, count = self.sums.tolist()
        if not math.isfinite(loss):
            raise NonFiniteError(f"the loss became {loss} in epoch {self.epoch + 1}: try a smaller learning rate")
        last_step = self.epoch * self.feed.steps + self.feed.steps - 1
        row: dict[str, Any] = {
            "epoch": self.epoch + 1,
            "learning_rate": self.schedule.rate(last_step),
            "train_loss": loss / count,
        }
        if self.feed.examples.labels is not None:
            row["train_accuracy"] = 1 - errors / count
        if self.validation is not None:
            row |= self.validate(self.validation)
            if not math.isfinite(row["validation_nll"]):
                raise NonFiniteError(f"the model's answers on validation are not finite after epoch {self.epoch + 1}")
            score = (row["validation_errors"], row["validation_nll"])
            self.schedule.observe(row["validation_nll"])
            if self.training.schedule == "newbob":
                score = (row["validation_nll"], row["validation_errors"])  # what the rule goes by
        else:
            score = (-float(self.epoch), 0.0)
        if score < self.best_score:
            self.best_score, self.fitted.best_epoch = score, self.epoch + 1
            self.best = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        if self.schedule.undo:
            self.model.load_state_dict(self.best)
            self.optimizer.state.clear()  # its averages led here
        rate = self.feed.steps and count / max(self.seconds, 1e-9)
        timing = {"epoch": self.epoch + 1, "seconds": self.seconds, "examples_per_second": rate}
        self.fitted.history.append(row)
        self.fitted.timings.append(timing)
        self.watcher.epoch({**row, **timing})
        self.epoch, self.step, self.seconds = self.epoch + 1, 0, 0.0
        self.sums.zero_()
        self.save()

    def validate(self, validation: Examples) -> dict[str, Any]:
        """Errors and negative log-likelihood on the validation set."""
        assert validation.labels is not None
        errors, log_likelihood = 0, 0.0
        for rows, log_probs in answers_in_blocks(self.model, validation, device=self.device):
            labels = validation.labels[rows].long().cpu()
            errors += int((log_probs.argmax(-1) != labels).sum())
            log_likelihood += float(log_probs.gather(1, labels[:, None]).double().sum())
        return {
            "validation_errors": errors,
            "validation_accuracy": 1 - errors / len(validation),
            "validation_nll": -log_likelihood / len(validation),
        }

    def stalled(self) -> bool:
        """Whether early stopping, or the schedule, ends the run."""
        if self.schedule.ended:
            return True
        patience = self.training.patience
        return patience is not None and self.epoch - self.fitted.best_epoch >= patience > 0 and self.epoch > 0

    def interrupt(self, signal_number: int) -> None:
        """Save and stop, and say how to go on."""
        self.save()
        raise InterruptedRun(
            f"stopped by {signal.Signals(signal_number).name} after step {self.step} of epoch {self.epoch + 1}; "
            f"everything is saved, the same command with --resume continues",
            signal_number,
        )

    def fingerprint(self) -> dict[str, Any]:
        """What a checkpoint must agree in with the run that continues it; the number of epochs may be raised."""
        settings = dataclasses.asdict(self.training)
        for free in ("device", "precision", "epochs", "patience"):
            del settings[free]
        return {
            **settings,
            "precision": self.device.precision,
            "examples": self.feed.examples.digest,
            **dataclasses.asdict(self.feed.augmentation),
            "weights": {name: list(value.shape) for name, value in self.model.state_dict().items()},
        }

    def save(self) -> None:
        """Write the whole state, if there is a folder for it."""
        if self.folder is None:
            return
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self.best.items()}
        optimizer = self.optimizer.state_dict()
        for number, slots in optimizer["state"].items():
            for name, value in slots.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer.{number}.{name}"] = value
        tensors |= {"random": torch.get_rng_state(), "sums": self.sums}
        if self.device.device.type == "cuda":
            tensors["random_cuda"] = torch.cuda.get_rng_state(self.device.device)
        save_rotating(
            self.folder,
            {name: value.clone() for name, value in tensors.items()},
            {
                "fingerprint": self.fingerprint(),
                "epoch": self.epoch,
                "step": self.step,
                "seconds": self.seconds,
                "schedule": self.schedule.state(),
                "best_score": None if math.isinf(self.best_score[0]) else list(self.best_score),
                "best_epoch": self.fitted.best_epoch,
                "history": self.fitted.history,
                "timings": self.fitted.timings,
            },
        )

    def restore(self, folder: Path) -> None:
        """Take up the state of the newest good checkpoint, if there is one."""
        found = load_latest(folder)
        if found is None:
            return
        tensors, state, warning = found
        if warning is not None:
            self.watcher.note(warning)
        here = self.fingerprint()
        for name, value in here.items():
            if name == "examples" and state["fingerprint"].get(name) != value:
                raise RunError(
                    f"{folder} belongs to other training data: digest {state['fingerprint'].get(name)}, and these "
                    f"have {value}"
                )
            if _as_json(value) != state["fingerprint"].get(name):
                raise RunError(
                    f"{folder} was written with {name} = {state['fingerprint'].get(name)}, and now it is {value}: "
                    "resume with the same settings, or start in another folder"
                )
        self.model.load_state_dict(_group(tensors, "model."))
        device = self.device.device
        self.best = {name: value.to(device) for name, value in _group(tensors, "best.").items()}
        slots: dict[int, dict[str, Tensor]] = {}
        for name, value in _group(tensors, "optimizer.").items():
            number, slot = name.split(".", 1)
            slots.setdefault(int(number), {})[slot] = value
        self.optimizer.load_state_dict({"state": slots, "param_groups": self.optimizer.state_dict()["param_groups"]})
        torch.set_rng_state(tensors["random"])
        if "random_cuda" in tensors and device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random_cuda"], device)
        self.sums.copy_(tensors["sums"])
        self.epoch, self.step, self.seconds = state["epoch"], state["step"], state["seconds"]
        self.schedule.restore(state["schedule"])
        self.best_score = (math.inf, math.inf) if state["best_score"] is None else tuple(state["best_score"])
        self.fitted.best_epoch = state["best_epoch"]
        self.fitted.history, self.fitted.timings = state["history"], state["timings"]

    def finish(self) -> Fitted:
        """Put the best weights in the model, and keep the last."""
        self.fitted.last = {name: value.detach().cpu().clone() for name, value in self.model.state_dict().items()}
        if self.best:
            self.model.load_state_dict(self.best)
        self.model.eval()
        return self.fitted


def _as_json(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _group(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _optimizer(model: nn.Module, training: Training, device: Device) -> torch.optim.Optimizer:
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trainable:
        raise DataError("the model has no parameters to train")
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": training.weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    # One group is one fused call a step.
    groups = [group for group in groups if group["params"]] if training.weight_decay else [{"params": trainable}]
    fused = device.device.type in {"cpu", "cuda"}
    rate = training.peak_learning_rate
    if training.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=rate, weight_decay=0.0, fused=fused)
    nesterov = training.nesterov and training.momentum > 0
    return torch.optim.SGD(groups, lr=rate, momentum=training.momentum, nesterov=nesterov, fused=fused)


@contextmanager
def _signals(*, enabled: bool) -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM instead of dying of them; a second one acts as always."""
    caught: list[int] = []
    if not enabled or threading.current_thread() is not threading.main_thread():
        yield caught
        return
    before = {int(number): signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, _: FrameType | None) -> None:
        caught.append(number)
        signal.signal(number, before[number])

    for number in before:
        signal.signal(number, note)
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
