"""The training loop. It knows objectives, not teachers: distillation is an objective like another.

A run is a function of its settings, its data and its seed. At every step its whole state (weights, optimiser,
schedule, random numbers, place in the epoch, sums so far) can be written to a checkpoint, and a run that is continued
from one ends in the same bits.
"""

__all__ = ["Fitted", "fit"]

import dataclasses
import math
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import index
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from limbeck.checkpoint import load_latest, save_rotating
from limbeck.data.examples import Examples
from limbeck.data.feed import Feed
from limbeck.devices import Device
from limbeck.errors import ConfigError, DataError, InterruptedRun, NonFiniteError, RunError
from limbeck.files import make_folder
from limbeck.interrupts import collect_signals
from limbeck.models.dropout import draw_for
from limbeck.nonfinite import Guard, explain_nonfinite
from limbeck.objective import check_objective
from limbeck.optimizers import check_slots, make_optimizer
from limbeck.options import Training
from limbeck.prediction import predict
from limbeck.processes import on_first, world
from limbeck.protocols import Batch, Objective
from limbeck.schedules import Schedule
from limbeck.watcher import Watcher

_LOOK_EVERY = 50
"""Steps between looks at numbers that live on an accelerator: a look makes the host wait for it."""
_ENOUGH = 20
"""Examples of which nobody is right about all by chance."""
_FREE = ("device", "precision", "epochs", "patience", "checkpoint_minutes", "skip_nonfinite")
"""Settings in which a continued run may differ; the precision is compared as it was found."""


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
    clock: Callable[[], float] = time.monotonic,
) -> Fitted:
    """Train a model, in place.

    It ends with the weights of the epoch that was best on validation (fewest errors, then least negative
    log-likelihood), or with the last where there is no validation set.

    Where the run is spread over several processes each calls this with the same arguments, but for ``folder``, which
    counts in the first alone. Every batch is divided among them and the loss is the mean over the whole batch, so
    the run is that of one process up to rounding.

    Args:
        model: Gives scores ``(N, K)``; it is moved to the device.
        objective: What to make small; it is checked on the first batch before anything is changed.
        feed: The batches.
        training: Optimiser, schedule, epochs, seed.
        device: Where and how precisely to compute.
        validation: Labelled examples to choose the epoch by.
        folder: Where checkpoints go, after every epoch, every ``training.checkpoint_minutes`` and on a signal; None
            for none.
        resume: Continue from the newest checkpoint in ``folder``, if there is one.
        watcher: Hears how it goes.
        clock: Seconds, for ``checkpoint_minutes``.

    Returns:
        History, timings and the last weights.

    Raises:
        InterruptedRun: If SIGINT or SIGTERM came; a checkpoint was written.
        NonFiniteError: If the loss or the gradient became NaN or infinite; the last checkpoint is one from before.
        RunError: If the checkpoint belongs to other settings.
        SelfCheckError: If the objective is wrong.
    """
    watcher = watcher or Watcher()
    with torch.random.fork_rng(devices=[device.device] if device.device.type == "cuda" else []):
        torch.manual_seed(training.seed)
        run = _Run(model, objective, feed, training, device, validation, folder, watcher, clock)
        if resume:
            run.restore()
        run.check()
        watcher.start(training.epochs, feed.steps, run.epoch)
        try:
            with collect_signals(enabled=run.kept) as caught:
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
        clock: Callable[[], float],
    ) -> None:
        self.world = world()
        self.model, self.objective, self.feed = model.to(device.device), objective, feed
        self.training, self.device, self.folder, self.watcher = training, device, folder, watcher
        self.kept = self.world.told(folder is not None)
        if folder is not None:
            make_folder(folder)
        if self.world.size > 1:
            _refuse_batch_norm(model)
            self.world.agree({**dict(model.named_parameters()), **dict(model.named_buffers())})
        self.validation = None if validation is None else validation.to(device.device)
        self.optimizer = make_optimizer(self.model, training, device)
        self.schedule = Schedule(training, feed.steps)
        self.fitted = Fitted()
        self.best: dict[str, Tensor] = {}
        self.best_score = (math.inf, math.inf)
        self.epoch = self.step = 0
        # Loss, errors, examples, and steps left out.
        self.sums = torch.zeros(4, dtype=torch.float64, device=device.device)
        self.seconds = 0.0
        self.clock = clock
        self.saved_at = clock()
        self.saved = ""

    def check(self) -> None:
        """Prove the objective, and the shape of the model's answers, on the first batch."""
        batch = next(self.feed.batches(0))
        self.model.eval()
        with torch.no_grad(), self.device.autocast():
            scores = self.model(batch.inputs)
        if scores.ndim != 2 or len(scores) != len(batch.inputs):
            shape = tuple(scores.shape)
            raise DataError(
                f"a model must give scores (examples, classes), and gave shape {shape} for {len(batch.inputs)}"
            )
        labels = batch.labels
        if labels is not None and int(labels.max()) >= scores.shape[1]:
            raise DataError(f"the model gives {scores.shape[1]} classes, and there is a label {int(labels.max())}")
        check_objective(self.objective, batch, scores.shape[1])
        fresh = self.epoch == self.step == 0
        if fresh and labels is not None and len(labels) >= _ENOUGH and bool((scores.argmax(-1) == labels).all()):
            self.watcher.note(
                f"odd: before its first step the model is right on all {len(labels)} examples of the first batch: was "
                "it trained already, or are the labels in the inputs?"
            )

    def loop(self, caught: list[int]) -> None:
        """Go through the epochs that are left."""
        while self.epoch < self.training.epochs and not self.stalled():
            try:
                self.train_epoch(caught)
            finally:
                draw_for(None)
            self.end_epoch()
            if self.world.told(bool(caught)):
                self.interrupt(caught)

    def train_epoch(self, caught: list[int]) -> None:
        """Make the steps of one epoch that are left."""
        model, optimizer, objective, feed = self.model, self.optimizer, self.objective, self.feed
        spread, skip = self.world.size > 1, self.training.skip_nonfinite
        loss_sum, error_sum, count_sum, skipped_sum = self.sums.unbind()
        autocast = self.device.autocast()
        share = torch.empty(0)  # each example's share of the batch's mean: the gradient starts from it
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        project = getattr(model, "project_", None)
        waits = self.device.device.type != "cuda"
        look_every = 1 if waits else _LOOK_EVERY
        guard = Guard(model, optimizer, skip=skip, waits=waits, device=self.device.device)
        clip, minutes = self.training.clip_norm, self.training.checkpoint_minutes
        wait = math.inf if minutes is None or not self.kept else 60 * minutes
        model.train()
        began, seen_before = time.perf_counter(), 0
        for batch in feed.batches(self.epoch, start=self.step):
            for group in optimizer.param_groups:
                group["lr"] = self.schedule.rate(self.epoch * feed.steps + self.step)
            size = own = len(batch.index)
            if spread:
                rows, size = feed.own_rows(self.step)
                own = rows.stop - rows.start
                draw_for((rows.start, size))
            guard.remember()
            with autocast:
                scores = model(batch.inputs).float()
                losses = objective(scores, batch).per_example
            if len(share) != len(losses) or spread:
                share = torch.full_like(losses, 1 / size if own else 0.0)
            losses.backward(share)  # type: ignore[no-untyped-call]
            total = losses.detach().sum()
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            errors = None
            if batch.labels is not None:
                errors = (scores.detach().argmax(-1) != batch.labels).sum()
            stop, due = bool(caught), self.clock() - self.saved_at >= wait
            if spread:
                tally = torch.tensor([0, 0, stop, due], dtype=torch.float64, device=total.device)
                if own:
                    tally[0] = total
                    tally[1] = 0 if errors is None else errors
                self.world.add_up([*gradients, tally])
                total, errors = tally[0], tally[1]
            norm = torch.nn.utils.get_total_norm(gradients)
            guard.judge(self.step, total, norm)
            looks = self.step % look_every == 0
            if looks and guard.fault() is not None:
                self.fail(guard)
            if clip is not None:
                torch.nn.utils.clip_grads_with_norm_(parameters, clip, norm)
            guard.step()
            for parameter in parameters:
                parameter.grad = None
            if project is not None:
                project()
            if skip:
                total = torch.where(guard.bad > 0, torch.zeros_like(total), total)
                errors = None if errors is None else errors * (1 - guard.bad)
                skipped_sum.add_(guard.bad)
                count_sum.sub_(size * guard.bad)
            loss_sum.add_(total)
            if errors is not None:
                error_sum.add_(errors)
            count_sum.add_(size)
            self.step += 1
            seen_before += size
            if self.step % _LOOK_EVERY == 0:
                self.report_step(seen_before / (time.perf_counter() - began), labelled=batch.labels is not None)
            if spread:
                stop, due = (bool(flag) for flag in tally[2:].tolist()) if looks else (False, False)
            if (stop or due) and self.step < feed.steps:
                self.seconds += time.perf_counter() - began
                began, seen_before = time.perf_counter(), 0
                if guard.fault() is not None:
                    self.fail(guard)
                if stop:
                    self.interrupt(caught)
                self.save()
        self.seconds += time.perf_counter() - began
        if guard.fault() is not None:
            self.fail(guard)

    def fail(self, guard: Guard) -> NoReturn:
        """Stop at a step that went wrong, and say where it did."""
        step = guard.fault()
        assert step is not None, "somebody saw it"
        batch: Batch = next(self.feed.batches(self.epoch, start=step))
        found = explain_nonfinite(self.model, self.objective, batch, self.device, 1 / len(batch.index))
        told = next((words for words in self.world.heard(found) if words is not None), None)
        examples, layer = told or ("", "all was finite when the batch was run again, or the gradient's norm overflowed")
        kept = f"; the checkpoint of {self.saved} is kept" if self.saved else ""
        raise NonFiniteError(
            f"the loss or its gradient became NaN or infinite at epoch {self.epoch + 1}, step {step + 1} of "
            f"{self.feed.steps}{f' ({examples})' if examples else ''}: {layer}{kept}; try a smaller "
            "learning rate, clip_norm, or skip_nonfinite, which leaves such steps out"
        )

    def report_step(self, rate: float, *, labelled: bool) -> None:
        """Tell the watcher the means so far."""
        loss, errors, count, _ = self.sums.tolist()
        count = max(count, 1)
        accuracy = 1 - errors / count if labelled else None
        self.watcher.step(self.epoch, self.step, loss / count, accuracy, rate)

    def end_epoch(self) -> None:
        """Validate, remember the best, write the history and a checkpoint."""
        loss, errors, count, skipped = self.sums.tolist()
        if count == 0:
            raise NonFiniteError(
                f"the loss or its gradient was NaN or infinite at every step of epoch {self.epoch + 1}: try a smaller "
                "learning rate or clip_norm"
            )
        last_step = self.epoch * self.feed.steps + self.feed.steps - 1
        row: dict[str, Any] = {
            "epoch": self.epoch + 1,
            "learning_rate": self.schedule.rate(last_step),
            "train_loss": loss / count,
        }
        if self.feed.examples.labels is not None:
            row["train_accuracy"] = 1 - errors / count
        if self.training.skip_nonfinite:
            row["skipped_steps"] = int(skipped)
            if skipped:
                self.watcher.note(f"{int(skipped)} steps of epoch {self.epoch + 1} were not finite, and left out")
        if self.validation is not None:
            row |= self.validate(self.validation)
            if not math.isfinite(row["validation_nll"]):
                raise NonFiniteError(f"the model's answers on validation are not finite after epoch {self.epoch + 1}")
            score = (row["validation_errors"], row["validation_nll"])
            self.schedule.observe(row["validation_nll"])
        else:
            score = (-float(self.epoch), 0.0)
        if score < self.best_score:
            self.best_score, self.fitted.best_epoch = score, self.epoch + 1
            self.best = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
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
        count = len(validation)
        if self.world.size > 1:
            own = self.world.slice_of(count)
            validation = validation.take(torch.arange(count, device=self.device.device)[own])
        found = torch.zeros(2, dtype=torch.float64, device=self.device.device)
        if len(validation):
            log_probs = predict(self.model, validation, device=self.device)
            assert validation.labels is not None
            labels = validation.labels.cpu()
            found[0] = (log_probs.argmax(-1) != labels).sum()
            found[1] = -log_probs.gather(1, labels[:, None]).double().sum()
        self.world.add_up([found])
        errors, nll = int(found[0]), float(found[1]) / count
        return {
            "validation_errors": errors,
            "validation_accuracy": 1 - errors / count,
            "validation_nll": nll,
        }

    def stalled(self) -> bool:
        """Whether early stopping ends the run."""
        patience = self.training.patience
        return patience is not None and self.epoch - self.fitted.best_epoch >= patience > 0 and self.epoch > 0

    def interrupt(self, caught: list[int]) -> NoReturn:
        """Save and stop, and say how to go on."""
        self.save()
        number = caught[0] if caught else signal.SIGTERM  # it may have come to another process
        raise InterruptedRun(
            f"stopped by {signal.Signals(number).name} after step {self.step} of epoch {self.epoch + 1}; "
            f"everything is saved, the same command with --resume continues",
            number,
        )

    def fingerprint(self) -> dict[str, Any]:
        """What a checkpoint must agree in with the run that continues it; the number of epochs may be raised."""
        settings = dataclasses.asdict(self.training)
        for free in _FREE:
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
        self.saved_at = self.clock()
        self.saved = f"epoch {self.epoch + 1}, step {self.step}" if self.step else f"the end of epoch {self.epoch}"
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

    def restore(self) -> None:
        """Take up the state of the newest good checkpoint, if there is one."""
        folder = self.folder
        found = on_first(lambda: None if folder is None else load_latest(folder))
        if found is None:
            return
        tensors, state, warning = found
        if warning is not None:
            self.watcher.note(warning)
        try:
            self.take_up(tensors, state)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise RunError(
                f"the checkpoint in {folder} is whole, and does not hold what this run needs ({reason}): was it "
                "written by another version? Start in another folder"
            ) from error

    def take_up(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Go on from a state, if it is of a run like this one."""
        folder = "what is to be continued" if self.folder is None else self.folder
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
        check_slots(self.optimizer)
        torch.set_rng_state(tensors["random"])
        if "random_cuda" in tensors and device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random_cuda"], device)
        self.sums.copy_(tensors["sums"].view(4))
        self.epoch, self.step = index(state["epoch"]), index(state["step"])
        if self.epoch < 0 or not 0 <= self.step < self.feed.steps:
            raise ValueError(f"epoch {self.epoch}, step {self.step}")
        self.seconds = float(state["seconds"])
        self.saved = f"epoch {self.epoch + 1}, step {self.step}" if self.step else f"the end of epoch {self.epoch}"
        self.schedule.restore(state["schedule"])
        if state["best_score"] is not None:
            errors, nll = state["best_score"]
            self.best_score = (float(errors), float(nll))
        self.fitted.best_epoch = index(state["best_epoch"])
        self.fitted.history, self.fitted.timings = (
            [dict(row) for row in state[name]] for name in ("history", "timings")
        )
        if len(self.fitted.history) != self.epoch or len(self.fitted.timings) != self.epoch:
            raise ValueError(f"{len(self.fitted.history)} epochs of history after {self.epoch} epochs")

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


def _refuse_batch_norm(model: nn.Module) -> None:
    if any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in model.modules()):
        raise ConfigError(
            "batch normalisation takes its means over the part of a batch that one process has, so that several "
            "processes would train another network than one: train it in one process, or without batch_norm"
        )
