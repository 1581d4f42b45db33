"""The training loop. It depends on objectives, not on teachers: distillation is one objective.

A run is a function of its settings, its data and its seed. At every step its whole state (``run_state``) can be
written to a checkpoint, and a run resumed from one ends in the same bits.
"""

__all__ = ["LOOK_EVERY", "Fitted", "TrainingRun", "fit", "require_schedule"]

import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import nn

from limbeck.data.examples import Examples
from limbeck.data.feed import Feed
from limbeck.errors import ConfigError, InterruptedRun, NonFiniteError
from limbeck.evaluation.prediction import answers_in_blocks
from limbeck.losses.soft_targets import without_looking
from limbeck.methods import Moment
from limbeck.models.calling import call_model, require_logits
from limbeck.models.compiled import compiled_for
from limbeck.models.dropout import draw_for
from limbeck.models.layout import Layout
from limbeck.models.specialist import Specialist
from limbeck.models.strided import contiguous_strided
from limbeck.options import Training
from limbeck.protocols import Batch, Objective
from limbeck.system.callbacks import Callback
from limbeck.system.devices import Device, sum64, widest
from limbeck.system.energy import EnergyMeter
from limbeck.system.files import make_folder
from limbeck.system.interrupts import collect_signals
from limbeck.system.processes import world
from limbeck.training.batch_norm import has_batch_norm, refuse_unshared
from limbeck.training.first_batch import refuse_coupled, refuse_labels, smallest_part, try_one
from limbeck.training.nonfinite import Fault, Guard, explain_nonfinite
from limbeck.training.objective import check_objective
from limbeck.training.run_state import Fitted, RunState
from limbeck.training.step_graphs import StepGraphs, record_cuda_graph, wants_graphs
from limbeck.training.steps import Stepper

LOOK_EVERY = 50
"""Steps between reads of values on an accelerator, since each read synchronises the host."""
_ENOUGH = 20
"""Number of examples on which all predictions are not right by chance."""


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
    callback: Callback | None = None,
    name: str = "model",
    after_epoch: Callable[[int, nn.Module], None] | None = None,
    continues: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> Fitted:
    """Train a model, in place.

    The final weights are those of the best epoch on validation (fewest errors, then lowest negative log-likelihood), or
    the last where there is no validation set or ``training.keep`` says so.

    Where the run is spread over several processes each calls this with the same arguments, except ``folder``, which
    only the first process uses. Every batch is divided among them and the loss is the mean over the whole batch, so the
    run is that of one process up to rounding.

    Args:
        model: Gives logits ``(N, K)``; it is moved to the device.
        objective: The loss; it is checked on the first batch before anything is changed.
        feed: The batches.
        training: Optimiser, schedule, epochs, seed.
        device: Device and precision.
        validation: Labelled examples to choose the best epoch on.
        folder: Folder of the checkpoints, written after every epoch, every ``training.checkpoint_minutes`` and on a
            signal; None for none.
        resume: Resume from the latest checkpoint in ``folder``, if there is one.
        callback: Receives training progress.
        name: Which training it is, for the callback.
        after_epoch: Called after each epoch with its number, from 1, and the model.
        continues: Whether the model was trained before, so that right answers before its first step are no wonder.
        clock: A clock in seconds, for ``checkpoint_minutes``.

    Returns:
        History, timings and the last weights.

    Raises:
        ConfigError: If the schedule needs validation, and there is none.
        InterruptedRun: If SIGINT or SIGTERM came; a checkpoint was written.
        NonFiniteError: If the loss or the gradient became NaN or infinite; the last checkpoint is from before.
        RunError: If the checkpoint belongs to other settings.
        SelfCheckError: If the objective is wrong.
    """
    callback = callback or Callback()
    require_schedule(training, validation)
    forked = torch.random.fork_rng(devices=[device.device] if device.device.type == "cuda" else [])
    with forked, Layout(model, device.device) as layout, contiguous_strided(model, device.device):
        layout.keep_if(lambda: next(feed.batches(0)).head(2).inputs)
        torch.manual_seed(training.seed)
        run = TrainingRun(model, objective, feed, training, device, validation, folder, callback, clock)
        run.after_epoch, run.continues = after_epoch, continues
        try:
            if resume:
                run.restore()
            run.check()
            callback.on_start(name, training.epochs, feed.steps, run.state.epoch)
            try:
                with collect_signals(enabled=run.kept) as caught:
                    run.loop(caught)
            finally:
                callback.on_end()
        finally:
            getattr(run.objective, "ended", lambda: None)()
    return run.finish()


def require_schedule(training: Training, validation: Examples | None) -> None:
    """Refuse a schedule that goes by validation where there is none.

    Args:
        training: The settings.
        validation: The examples to choose the best epoch on, or None.

    Raises:
        ConfigError: If that is so.
    """
    if validation is None and training.schedule in {"plateau", "newbob"}:
        raise ConfigError(f"schedule {training.schedule} goes by a validation set, and there is none: set one aside")


class TrainingRun:
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
        callback: Callback,
        clock: Callable[[], float],
    ) -> None:
        self.world = world()
        self.model, self.feed = model.to(device.device), feed
        begin = getattr(objective, "begun", None)
        self.objective: Objective = objective if begin is None else begin(self.model, feed)
        self.own: nn.Module | None = getattr(self.objective, "own", None)
        self.training, self.device, self.folder, self.callback = training, device, folder, callback
        self.meter = EnergyMeter()
        self.kept = self.world.told(folder is not None)
        if folder is not None:
            make_folder(folder)
        if self.world.size > 1:
            refuse_unshared(model)
            self.world.agree({**dict(model.named_parameters()), **dict(model.named_buffers())})
            if getattr(self.objective, "coupled", False):
                raise ConfigError(
                    "in this method an example's loss depends on the others in its batch, of which several processes "
                    "have a part each: train it in one process, or take another method"
                )
            if self.own is not None:
                self.world.agree({**dict(self.own.named_parameters()), **dict(self.own.named_buffers())})
        self.validation = None if validation is None else validation.to(device.device)
        self.state = RunState(self.model, feed, training, device, self.objective.fingerprint(), self.own)
        self.after_epoch: Callable[[int, nn.Module], None] | None = None
        self.continues = False
        self.called: nn.Module | None = None
        self.steps: Stepper | None = None
        self.clock = clock
        self.saved_at = clock()
        self.saved = ""

    @property
    def hints(self) -> bool:
        """Whether only features are trained, so that model selection and early stopping start later."""
        return bool(getattr(self.objective, "hints", False))

    @property
    def phases(self) -> int:
        """Number of phases with different losses."""
        return int(getattr(getattr(self.objective, "method", None), "phases", 1))

    def check(self, *, losses: bool = True) -> None:
        """Check the objective, and the shape of the model's logits, on the first batch.

        Args:
            losses: Whether the objective is checked; not where one of its kind was.

        Raises:
            ConfigError: If compiling contradicts another setting.
        """
        batch = next(self.feed.batches(0))
        self.model.eval()
        with torch.no_grad(), self.device.autocast():
            scores = call_model(self.model, batch.inputs)
        require_logits(scores, len(batch.index))
        labels = batch.main_labels
        refuse_labels(self.feed.examples, "training", scores.shape[1])
        if self.validation is not None:
            refuse_labels(self.validation, "validation", scores.shape[1])
        if losses:
            check_objective(self.objective, batch, scores.shape[1])
        refuse_coupled(self.objective, self.feed)
        if smallest_part(self.feed) == 1:
            try_one(self.model, batch.head(1), self.feed, self.device)
        if self.training.compile:
            if getattr(getattr(self.objective, "method", None), "reads_features", False):
                raise ConfigError("a method that reads layers of the student does not go with compile: leave it out")
            if self.world.size > 1 and has_batch_norm(self.model):
                raise ConfigError("compile does not go with batch normalisation in several processes: leave it out")
            self.called = compiled_for(self.model, batch, self.device)
        # A specialist starts from the trained generalist.
        fresh = self.state.epoch == self.state.step == 0 and not (self.continues or isinstance(self.model, Specialist))
        if fresh and labels is not None and len(labels) >= _ENOUGH and bool((scores.argmax(-1) == labels).all()):
            self.callback.on_warning(
                f"before its first step the model is right on all {len(labels)} examples of the first batch: was "
                "it trained already, or are the labels in the inputs?"
            )

    def loop(self, caught: list[int]) -> None:
        """Train for the remaining epochs."""
        state = self.state
        while state.epoch < self.training.epochs and not self.stalled():
            try:
                with without_looking(self.device.device.type != "cpu"):
                    self.train_epoch(caught)
            finally:
                draw_for(None)
            self.end_epoch()
            if self.after_epoch is not None:
                self.after_epoch(state.epoch, self.model)
            if self.world.told(bool(caught)):
                self.interrupt(caught)

    def train_epoch(self, caught: list[int]) -> None:
        """Run the remaining steps of an epoch."""
        state, feed = self.state, self.feed
        steps = self.steps = self.steps or self.make_steps()
        guard = steps.guard
        look_every = 1 if steps.waits else LOOK_EVERY
        minutes = self.training.checkpoint_minutes
        wait = math.inf if minutes is None or not self.kept else 60 * minutes
        self.model.train()
        if self.own is not None:
            self.own.train()
        began, seen_before = time.perf_counter(), 0
        batches = feed.batches(state.epoch, start=state.step)
        at = getattr(self.objective, "at", None)
        for batch in batches:
            state.set_rate()
            if at is not None:
                at(Moment(state.epoch, state.step, feed.steps, self.training.epochs))
            stop, due = bool(caught), self.clock() - self.saved_at >= wait
            looks = state.step % look_every == 0
            if steps.graphs is not None and steps.graphs.step(batch, state.step):
                size = len(batch.index)
                if looks:
                    self.require_finite(guard)
            else:
                size, stop, due = self.step(steps, batch, batches, looks=looks, stop=stop, due=due)
            if steps.graphs is not None and steps.graphs.refused is not None:
                self.callback.on_note(f"steps are made without CUDA graphs: {steps.graphs.refused}")
                steps.graphs = None
            state.step += 1
            seen_before += size
            if state.step % LOOK_EVERY == 0:
                self.report_step(seen_before / (time.perf_counter() - began), labelled=batch.labels is not None)
            if (stop or due) and state.step < feed.steps:
                state.seconds += time.perf_counter() - began
                began, seen_before = time.perf_counter(), 0
                self.require_finite(guard)
                if stop:
                    self.interrupt(caught)
                self.save()
        state.seconds += time.perf_counter() - began
        self.require_finite(guard)

    def make_steps(self) -> Stepper:
        """What makes the steps, from CUDA graphs where that serves."""
        steps = Stepper(
            self.model, self.objective, self.state.optimizer, self.training, self.device, self.world, self.called,
            self.own,
        )  # fmt: skip
        if wants_graphs(self.model, self.objective, self.training, self.device, self.world, self.feed.accumulate):
            steps.graphs = StepGraphs(partial(steps.make, sums=self.state.sums), self.objective, record_cuda_graph)
        return steps

    def step(
        self, steps: Stepper, batch: Batch, batches: Iterator[Batch], *, looks: bool, stop: bool, due: bool
    ) -> tuple[int, bool, bool]:
        """Make a step, one kernel at a time.

        Args:
            steps: What makes it.
            batch: The examples, or the first part of them.
            batches: The parts that follow.
            looks: Whether the host may wait for its result.
            stop: Whether this process was told to stop.
            due: Whether a checkpoint is due here.

        Returns:
            Examples of the whole batch, and whether all processes stop, and write a checkpoint.
        """
        state, spread = self.state, self.world.size > 1
        size = own = len(batch.index)
        if spread or self.feed.accumulate > 1:
            parts, size = self.feed.parts(state.epoch, state.step)
            own = parts[-1].stop - parts[0].start
            total, errors = steps.learn_parts(batch, batches, parts, size)
        else:
            total, errors = steps.learn(batch, own, size)
        if spread:
            tally = steps.add_up(total, errors, own, stop, due)
            total, errors = tally[0], tally[1]
            # All processes decide the same, and only where the host may wait.
            stop, due = (bool(flag) for flag in tally[2:].tolist()) if looks else (False, False)
        norm = steps.judge(state.step, total)
        if looks:
            self.require_finite(steps.guard)
        steps.update(norm)
        state.sums.add(total, errors, size, steps.guard.bad if steps.skip else None)
        return size, stop, due

    def require_finite(self, guard: Guard) -> None:
        """Stop at a non-finite step, and report where; a checkpoint from before it is kept."""
        step = guard.fault()
        if step is not None:
            self.fail(step)

    def fail(self, step: int) -> NoReturn:
        """Stop at a non-finite step, and report where."""
        parts, size = self.feed.parts(self.state.epoch, step)
        batches = islice(self.feed.batches(self.state.epoch, start=step), len(parts))
        looked = (explain_nonfinite(self.model, self.objective, batch, self.device, 1 / size) for batch in batches)
        found = next((fault for fault in looked if fault is not None), None)
        told = next((fault for fault in self.world.heard(found) if fault is not None), None)
        told = told or Fault("", "all was finite when the batch was run again, or the gradient's norm overflowed")
        kept = f"; the checkpoint of {self.saved} is kept" if self.saved else ""
        raise NonFiniteError(
            f"the loss or its gradient became NaN or infinite at epoch {self.state.epoch + 1}, step {step + 1} of "
            f"{self.feed.steps}{f' ({told.examples})' if told.examples else ''}: {told.place}{kept}; {told.cure}"
        )

    def report_step(self, rate: float, *, labelled: bool) -> None:
        """Pass the running means to the callback."""
        state = self.state
        loss, errors, count, _ = state.sums.tolist()
        count = max(count, 1)
        accuracy = 1 - errors / count if labelled else None
        self.callback.on_step(state.epoch, state.step, loss / count, accuracy, rate)

    def end_epoch(self, judged: Mapping[str, Any] | None = None, share: float = 1.0) -> None:
        """Validate, keep the best weights, write the history and a checkpoint.

        Args:
            judged: What validation found, where it was made already.
            share: Of the machine's energy meanwhile.

        Raises:
            NonFiniteError: If no step was finite, or the outputs on validation are not.
        """
        state = self.state
        loss, errors, count, skipped = state.sums.tolist()
        if count == 0:
            raise NonFiniteError(
                f"the loss or its gradient was NaN or infinite at every step of epoch {state.epoch + 1}: try a smaller "
                "learning rate or clip_norm"
            )
        row: dict[str, Any] = {
            "epoch": state.epoch + 1,
            "learning_rate": state.rate_at_end(),
            "train_loss": loss / count,
        }
        if self.feed.examples.labels is not None:
            row["train_accuracy"] = 1 - errors / count
        if self.training.skip_nonfinite:
            row["skipped_steps"] = int(skipped)
            if skipped:
                self.callback.on_warning(
                    f"{int(skipped)} steps of epoch {state.epoch + 1} were not finite, and left out"
                )
        if self.phases > 1:
            row["stage"] = 1 if self.hints else 2
        if self.validation is not None:
            row |= self.validate(self.validation) if judged is None else judged
            if not math.isfinite(row["validation_nll"]):
                raise NonFiniteError(f"the model's answers on validation are not finite after epoch {state.epoch + 1}")
            score = (row["validation_errors"], row["validation_nll"])
            if not self.hints:
                state.schedule.observe(row["validation_nll"])
            if self.training.schedule == "newbob":
                score = (row["validation_nll"], row["validation_errors"])  # the monitored value
        else:
            score = (-float(state.epoch), 0.0)
        if not self.hints:
            state.keep_best(score)
        if state.schedule.undo:
            state.go_back()
            self.steps = None  # its graphs hold the averages that are forgotten
        rate = self.feed.steps and count / max(state.seconds, 1e-9)
        timing = {"epoch": state.epoch + 1, "seconds": state.seconds, "examples_per_second": rate}
        joules = self.meter.spent()
        if joules is not None:
            timing["joules"] = joules * share
        self.callback.on_epoch({**row, **timing})
        state.end_epoch(row, timing)
        self.save()

    def validate(self, validation: Examples) -> dict[str, Any]:
        """Errors and negative log-likelihood on the validation set."""
        assert validation.labels is not None
        count = len(validation)
        wrong, lost = 0, 0.0
        own = self.world.slice_of(count)
        for rows, log_probs in answers_in_blocks(self.model, validation, device=self.device, within=own):
            labels = validation.labels[rows].long().cpu()
            wrong += int((log_probs.argmax(-1) != labels).sum())
            lost -= sum64(log_probs.gather(1, labels[:, None]))
        if self.world.size > 1:
            found = torch.tensor([wrong, lost], dtype=widest(self.device.device), device=self.device.device)
            self.world.add_up([found])
            wrong, lost = int(found[0]), float(found[1])
        errors, nll = wrong, lost / count
        return {
            "validation_errors": errors,
            "validation_accuracy": 1 - errors / count,
            "validation_nll": nll,
        }

    def stalled(self) -> bool:
        """Whether early stopping, or the schedule, ends the run."""
        state = self.state
        if self.hints:
            return False
        if state.schedule.ended:
            return True
        patience = self.training.patience
        return patience is not None and state.epoch - state.fitted.best_epoch >= patience > 0 and state.epoch > 0

    def interrupt(self, caught: list[int]) -> NoReturn:
        """Save and stop, with instructions to resume."""
        self.save()
        number = caught[0] if caught else signal.SIGTERM  # the signal may have reached another process
        raise InterruptedRun(
            f"stopped by {signal.Signals(number).name} after step {self.state.step} of epoch {self.state.epoch + 1}; "
            f"everything is saved, the same with resume=True (--resume) continues",
            number,
        )

    def save(self) -> None:
        """Write the whole state, if there is a folder for it."""
        self.saved_at, self.saved = self.clock(), self.state.place
        if self.folder is not None:
            self.state.save(self.folder)

    def restore(self) -> None:
        """Restore the state of the latest valid checkpoint, if there is one."""
        warning = self.state.restore(self.folder)
        if warning is not None:
            self.callback.on_warning(warning)
        if self.state.epoch or self.state.step:
            self.saved = self.state.place

    def finish(self) -> Fitted:
        """Load the selected weights into the model, and keep the last."""
        state = self.state
        state.fitted.last = {name: value.detach().cpu().clone() for name, value in self.model.state_dict().items()}
        if state.best and self.training.keep == "best":
            self.model.load_state_dict(state.best)
        self.model.eval()
        return state.fitted
