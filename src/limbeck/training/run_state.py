"""The complete state of a run at a step, and its checkpoints.

A run resumed from it ends in the same bits as an uninterrupted one: weights, the best weights so far, optimiser,
schedule, random state, the position in the epoch and the epoch's sums.
"""

__all__ = ["Fitted", "RunState"]

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import index
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.data.feed import Feed
from limbeck.errors import RunError
from limbeck.options import Training
from limbeck.system.devices import Device, has_float64
from limbeck.system.processes import on_first
from limbeck.training.checkpoint import load_latest, save_rotating
from limbeck.training.identity import require_agreement
from limbeck.training.optimizer_state import describe_groups, laid_as, pack, unpack
from limbeck.training.optimizers import check_slots, make_optimizer, rates_of
from limbeck.training.schedules import Schedule

_LATER = frozenset({"steps", "objective", "method", "temperature", "hard_weight", "teacher"})
"""Entries that checkpoints of earlier versions lack."""
_BEFORE = {"mixup": 0.0, "cutmix": 0.0, "teacher_view": "consistent", "accumulate": 1, "class_weight": None}
"""Values for checkpoints without these entries."""
_FREE = (
    "device", "precision", "epochs", "patience", "checkpoint_minutes", "skip_nonfinite", "workers", "compile",
    "cuda_graphs", "side_by_side",
)  # fmt: skip
"""Settings that may differ in a resumed run; the precision is compared as measured."""


@dataclass
class Fitted:
    """The result of a training run.

    Attributes:
        history: One row per epoch; a function of settings, data and seed.
        timings: One row per epoch: seconds and examples per second.
        best_epoch: The best epoch on validation, from 1; the last where there is none.
        last: The weights after the last epoch, by name.
    """

    history: list[dict[str, Any]] = field(default_factory=list)
    timings: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    last: dict[str, Tensor] = field(default_factory=dict)


class _Sums:
    """Sums of loss, errors, examples and skipped steps in float64; on the host where the device has no float64.

    Args:
        device: Where the numbers come from.
    """

    def __init__(self, device: torch.device) -> None:
        self._host = [0.0] * 4
        self._there = torch.zeros(4, dtype=torch.float64, device=device) if has_float64(device) else None
        self._parts = () if self._there is None else self._there.unbind()

    def add(self, total: Tensor, errors: Tensor | None, size: int, bad: Tensor | None) -> None:
        """Add a step.

        Args:
            total: The sum of its losses.
            errors: Number of wrong predictions; None where there are no labels.
            size: Number of examples.
            bad: 1.0 where the step is skipped, else 0.0; None where steps are never skipped.
        """
        if bad is not None:
            total = torch.where(bad > 0, torch.zeros_like(total), total)
            errors = None if errors is None else errors * (1 - bad)
        if self._there is None:
            skipped = 0.0 if bad is None else float(bad)
            values = (float(total), 0.0 if errors is None else float(errors), size * (1 - skipped), skipped)
            self._host = [before + value for before, value in zip(self._host, values, strict=True)]
            return
        loss, wrong, count, left_out = self._parts
        if bad is not None:
            left_out.add_(bad)
            count.sub_(size * bad)
        loss.add_(total)
        if errors is not None:
            wrong.add_(errors)
        count.add_(size)

    def tolist(self) -> list[float]:
        """The four sums; the host waits for the device."""
        return list(self._host) if self._there is None else self._there.tolist()

    def restore(self, values: Sequence[float]) -> None:
        """Restore saved sums; ValueError where they are not four numbers."""
        found = [float(value) for value in values]
        if len(found) != 4 or not all(map(math.isfinite, found)):
            raise ValueError(f"sums {found}")
        self._host = found
        if self._there is not None:
            for place, value in zip(self._parts, found, strict=True):
                place.fill_(value)


class RunState:
    """The state of one training.

    Args:
        model: The model, on its device.
        feed: The batches.
        training: Optimiser, schedule, epochs, seed.
        device: Device and precision.
        objective: The objective's fingerprint, which a resumed run must match.
        own: The objective's own module: trained and checkpointed, but not part of the result.

    Attributes:
        optimizer: The optimiser.
        schedule: The learning-rate schedule.
        fitted: History and timings of the finished epochs.
        best: Weights of the best epoch so far, by name; empty before the first.
        best_score: The score of the best epoch; lower is better.
        epoch: Number of finished epochs.
        step: Number of finished steps in the current epoch.
        sums: Sums over these steps: loss, errors, examples, and skipped steps.
        seconds: Duration of these steps.
    """

    def __init__(
        self,
        model: nn.Module,
        feed: Feed,
        training: Training,
        device: Device,
        objective: Mapping[str, Any] | None = None,
        own: nn.Module | None = None,
    ) -> None:
        self.model, self.feed, self.training, self.device = model, feed, training, device
        self.objective = dict(objective or {})
        self.own = own
        self.optimizer = make_optimizer(model, training, device, own)
        self.rates = rates_of(self.optimizer, training)
        self._own_groups = describe_groups(self.optimizer) if training.own_optimizer else None
        self.schedule = Schedule(training, feed.steps)
        self.fitted = Fitted()
        self.best: dict[str, Tensor] = {}
        self.best_score = (math.inf, math.inf)
        self.epoch = self.step = 0
        self.sums = _Sums(device.device)
        self.seconds = 0.0

    @property
    def place(self) -> str:
        """The position in the run, in words."""
        return f"epoch {self.epoch + 1}, step {self.step}" if self.step else f"the end of epoch {self.epoch}"

    def set_rate(self) -> None:
        """Set the learning rate of each parameter group for the next step."""
        rate = self.schedule.rate(self.epoch * self.feed.steps + self.step)
        for group, own in zip(self.optimizer.param_groups, self.rates, strict=True):
            if isinstance(group["lr"], Tensor) and not self.training.own_optimizer:
                group["lr"].fill_(own * rate)
            else:
                group["lr"] = own * rate

    def rate_at_end(self) -> float:
        """The learning rate of the epoch's last step; of several groups' own, that of the first."""
        return self.rates[0] * self.schedule.rate(self.epoch * self.feed.steps + self.feed.steps - 1)

    def keep_best(self, score: tuple[float, float]) -> None:
        """Save the weights of the current epoch, if it is the best so far.

        Args:
            score: The score; lower is better.
        """
        if score < self.best_score:
            self.best_score, self.fitted.best_epoch = score, self.epoch + 1
            self.best = {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    def go_back(self) -> None:
        """Restore the best weights, and reset the optimiser's averages."""
        self.model.load_state_dict(self.best)
        self.optimizer.state.clear()

    def end_epoch(self, row: dict[str, Any], timing: dict[str, Any]) -> None:
        """Record an epoch, and start the next.

        Args:
            row: The row of the history.
            timing: The row of the timings.
        """
        self.fitted.history.append(row)
        self.fitted.timings.append(timing)
        self.epoch, self.step, self.seconds = self.epoch + 1, 0, 0.0
        self.sums.restore([0.0] * 4)

    def fingerprint(self) -> dict[str, Any]:
        """The values that a checkpoint must share with the resumed run; the number of epochs may be raised."""
        settings = dataclasses.asdict(self.training)
        for free in _FREE:
            del settings[free]
        return {
            **settings,
            "precision": self.device.precision,
            "examples": self.feed.examples.digest,
            "steps": self.feed.steps,
            **self.objective,
            **({} if self._own_groups is None else {"optimizer settings": self._own_groups}),
            **dataclasses.asdict(self.feed.augmentation),
            "weights": {name: list(value.shape) for name, value in self.model.state_dict().items()},
        }

    def save(self, folder: Path) -> None:
        """Write a checkpoint.

        Args:
            folder: The folder; the last two checkpoints are kept.
        """
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self.best.items()}
        tensors |= {} if self.own is None else {f"own.{name}": v for name, v in self.own.state_dict().items()}
        held, plain = pack(self.optimizer) if self.training.own_optimizer else (self._slots(), None)
        tensors |= held
        tensors["random"] = torch.get_rng_state()
        if self.device.device.type == "cuda":
            tensors["random_cuda"] = torch.cuda.get_rng_state(self.device.device)
        save_rotating(
            folder,
            {name: value.clone() for name, value in tensors.items()},
            {
                "fingerprint": self.fingerprint(),
                "tensors": sorted(tensors),
                "epoch": self.epoch,
                "step": self.step,
                "sums": self.sums.tolist(),
                "seconds": self.seconds,
                "schedule": self.schedule.state(),
                **({} if plain is None else {"optimizer": plain}),
                "best_score": None if math.isinf(self.best_score[0]) else list(self.best_score),
                "best_epoch": self.fitted.best_epoch,
                "history": self.fitted.history,
                "timings": self.fitted.timings,
            },
        )

    def _slots(self) -> dict[str, Tensor]:
        """The state of a built-in optimiser per parameter."""
        return {
            f"optimizer.{number}.{name}": value
            for number, slots in self.optimizer.state_dict()["state"].items()
            for name, value in slots.items()
            if isinstance(value, Tensor)
        }

    def _take_slots(self, tensors: Mapping[str, Tensor]) -> None:
        slots: dict[int, dict[str, Tensor]] = {}
        for name, value in _group(tensors, "optimizer.").items():
            number, slot = name.split(".", 1)
            slots.setdefault(int(number), {})[slot] = value
        check_slots(self.optimizer, slots)
        for place, held in slots.items():
            _require_numbers(f"optimizer.{place}.", held, held)
        # Fused steps iterate over raw memory: averages need the memory format of their weights, such as channels last.
        weights = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        slots = {
            place: {name: laid_as(weights[place], value) for name, value in held.items()}
            for place, held in slots.items()
        }
        self.optimizer.load_state_dict({"state": slots, "param_groups": self.optimizer.state_dict()["param_groups"]})

    def restore(self, folder: Path | None) -> str | None:
        """Restore the state of the latest valid checkpoint, if there is one.

        Args:
            folder: Folder of the checkpoints; only the first of several processes uses it.

        Returns:
            A warning, if the latest one is damaged and the one before it was used.

        Raises:
            RunError: If it belongs to other settings or data, or lacks what this run needs.
        """
        found = on_first(lambda: None if folder is None else load_latest(folder))
        if found is None:
            return None
        tensors, state, warning = found
        try:
            self._take_up(tensors, state, "what is to be continued" if folder is None else str(folder))
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise RunError(
                f"the checkpoint in {folder} is whole, and does not hold what this run needs ({reason}): was it "
                "written by another version? Start in another folder"
            ) from error
        return warning

    def _take_up(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any], folder: str) -> None:
        before = {**_BEFORE, **state["fingerprint"]}
        for name, value in self.fingerprint().items():
            if name in before or name not in _LATER:
                require_agreement(folder, name, before.get(name), value)
        if (listed := state.get("tensors", sorted(tensors))) != sorted(tensors):  # none in earlier versions
            odd = sorted(set(tensors).symmetric_difference(listed))
            raise ValueError(f"{odd[0]} is {'not listed' if odd[0] in tensors else 'missing'}")
        weights, best = _group(tensors, "model."), _group(tensors, "best.")
        wanted = self.model.state_dict()
        _require_like("model.", weights, wanted)
        parameters = [name for name, _ in self.model.named_parameters()]
        _require_numbers("model.", weights, parameters)
        if best:
            _require_like("best.", best, wanted)
            _require_numbers("best.", best, parameters)
        if self.own is not None:
            beside = _group(tensors, "own.")
            _require_like("own.", beside, self.own.state_dict())
            _require_numbers("own.", beside, [name for name, _ in self.own.named_parameters()])
            self.own.load_state_dict(beside)
        self.model.load_state_dict(weights)
        device = self.device.device
        self.best = {name: value.to(device) for name, value in best.items()}
        if self.training.own_optimizer:
            unpack(self.optimizer, tensors, state["optimizer"], device)
        else:
            self._take_slots(tensors)
        _require_like("", {"random": tensors["random"]}, {"random": torch.get_rng_state()})
        torch.set_rng_state(tensors["random"])
        if "random_cuda" in tensors and device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random_cuda"], device)
        # Checkpoints of earlier versions hold them as a tensor.
        self.sums.restore(state["sums"] if "sums" in state else tensors["sums"].view(4).tolist())
        self.epoch, self.step = index(state["epoch"]), index(state["step"])
        if self.epoch < 0 or not 0 <= self.step < self.feed.steps:
            raise ValueError(f"epoch {self.epoch}, step {self.step}")
        self.seconds = float(state["seconds"])
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


def _group(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _require_numbers(prefix: str, found: Mapping[str, Tensor], names: Iterable[str]) -> None:
    """Check that no weight is NaN: no step produces one, and every later step would be NaN too."""
    for name in names:
        if bool(torch.isnan(found[name]).any()):
            raise ValueError(f"{prefix}{name} holds NaN")


def _require_like(prefix: str, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Check that tensors have the names, shapes and dtypes of others, since loading converts silently."""
    for name in sorted(found.keys() | wanted.keys()):
        if name not in found or name not in wanted:
            raise ValueError(f"{prefix}{name} is {'missing' if name in wanted else 'not of this model'}")
        one, other = found[name], wanted[name]
        if (one.shape, one.dtype) != (other.shape, other.dtype):
            raise ValueError(
                f"{prefix}{name} is {one.dtype} of shape {tuple(one.shape)}, and the model has {other.dtype} of shape "
                f"{tuple(other.shape)}"
            )
