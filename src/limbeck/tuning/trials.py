"""One trial of a search: train a student with the trial's settings, evaluate on validation, prune early."""

__all__ = ["Bench", "rows_of", "stopped_by", "work"]

import dataclasses
import math
import signal
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from torch import nn

from limbeck.data.data_set import DataSet
from limbeck.errors import InterruptedRun, NonFiniteError
from limbeck.losses.fused import HOT
from limbeck.methods import make_method
from limbeck.options import Augmentation, TeacherView, Training
from limbeck.options.search_space import Axis, counts, option_texts
from limbeck.protocols import Teacher
from limbeck.runs.initial_models import starts
from limbeck.runs.stages import Stage, Trained, run_side_by_side, suited
from limbeck.system.callbacks import Callback
from limbeck.system.devices import find_device
from limbeck.training.objective import DistillationObjective
from limbeck.tuning.sampling import placed_sampler
from limbeck.tuning.study import optuna_here, waiting

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial, Trial

_STAGES = 10
"""Where the number of epochs is searched, trials are compared at each tenth of their schedules."""
_WARM_SHARE = 0.2
"""Share of a schedule before which no trial is stopped early."""
_AT_ONCE = 16
"""Trials of a grid that are made side by side."""
_FIRST = 5
"""Trials that are never stopped early: the others are compared with them."""


@dataclass(frozen=True)
class Bench:
    """The shared inputs of all trials of a search, in memory once per process.

    Attributes:
        teacher: The stored soft targets.
        student: A module, or a function that makes one from a seed.
        data: Training and validation examples; there is no test set in it.
        augmentation: The augmentation.
        training: The settings that are not searched, their precision settled.
        axes: What is searched.
        prune: Whether poor trials are stopped early.
        grid: Whether all that is tried is known beforehand, so that trials may be made side by side.
        teacher_view: Which view of an example the teacher answers.
    """

    teacher: Teacher
    student: nn.Module | Callable[[int], nn.Module]
    data: DataSet
    augmentation: Augmentation
    training: Training
    axes: tuple[Axis, ...]
    prune: bool
    grid: bool = False
    teacher_view: TeacherView = "consistent"

    def __post_init__(self) -> None:
        assert self.data.test is None, "a search does not see the test set"

    @cached_property
    def _teacher_there(self) -> Teacher:
        """The soft targets on the device, once for all trials."""
        return self.teacher.to(find_device(self.training.device, self.training.precision).device)

    def stage_of(self, values: Mapping[str, Any], callback: Callback) -> Stage:
        """The training of a student.

        Args:
            values: Method, temperature (where it has one), hard weight, learning rate, epochs and the method's own
                options by name.
            callback: Receives training progress, and may raise.

        Returns:
            The training, which gives the model and its history when it is called.
        """
        rate, epochs = values["learning_rate"], int(values["epochs"])
        training = dataclasses.replace(self.training, learning_rate=rate, epochs=epochs)
        device = find_device(training.device, training.precision)
        objective = DistillationObjective(
            self._teacher_there,
            hard_weight=values["hard_weight"],
            label_smoothing=training.label_smoothing,
            method=make_method(
                values["method"],
                option_texts(values),
                temperature=values.get("temperature", 1.0),
                classes=len(self.data.classes),
            ),
            teacher_view=self.teacher_view,
        )
        return Stage(
            None,
            starts(self.student, [training.seed], role="student", callback=callback)[0],
            objective,
            self.data,
            training,
            device,
            augmentation=self.augmentation,
            resume=False,
            callback=callback,
        )


class _NothingLeft(Exception):
    """Another process took the last trial that waited."""


class _Left(BaseException):
    """A trial was stopped from outside: Optuna is not to count it as one that failed, and it will be run again."""


class _Reporter(Callback):
    """Reports validation errors per epoch, and stops a trial for the pruner or a signal.

    A trial that is run again has reported up to some stage, and was found good enough before it: the pruner, which
    looks at all reports, is not asked again until then.
    """

    def __init__(self, trial: "Trial", epochs: int, *, staged: bool, caught: Sequence[int]) -> None:
        self.caught = caught
        self.trial, self.epochs, self.staged, self.stage = trial, epochs, staged, 0
        known = trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values
        self.reported = max(known, default=0)

    def on_step(self, epoch: int, step: int, loss: float, accuracy: float | None, rate: float) -> None:
        """Stop where a signal came: here, and not within what the database is doing."""
        if self.caught:
            raise InterruptedRun(stopped_by(self.caught[0]), self.caught[0])

    def on_epoch(self, row: Mapping[str, Any]) -> None:
        """Report; raise Optuna's own TrialPruned where the trial is poor."""
        if self.caught:
            raise InterruptedRun(stopped_by(self.caught[0]), self.caught[0])
        if row.get("stage") == 1:  # hints alone, of which validation says nothing
            return
        epoch = int(row["epoch"])
        stage = epoch * _STAGES // self.epochs if self.staged else epoch
        if stage == self.stage:
            return
        self.stage = stage
        if stage > self.reported:
            self.trial.report(float(row["validation_errors"]), stage)
        if stage >= self.reported and epoch < self.epochs and self.trial.should_prune():
            raise optuna_here().TrialPruned


def work(
    study: "Study",
    bench: Bench,
    *,
    alone: bool,
    together: bool = False,
    until: float = math.inf,
    caught: Sequence[int] = (),
    told: Callable[[], None] | None = None,
) -> None:
    """Run waiting trials until none is left.

    Args:
        study: The study, planned.
        bench: What the trials have in common.
        alone: Whether nobody but processes of this run works on it: a trial that is stopped then stays as it is, for
            :func:`~limbeck.tuning.study.plan` to find; otherwise it counts as failed, so that others see it at once.
        together: Whether this process is the only one, so that trials of a grid may be made side by side.
        until: Begin none after this time, as ``time.time()`` has it.
        caught: Signals that came, now or later.
        told: Called after each.

    Raises:
        InterruptedRun: If a signal came.
    """
    optuna = optuna_here()
    staged = not next(axis for axis in bench.axes if axis.name == "epochs").fixed
    steps = _STAGES if staged else bench.training.epochs
    pruner: Any = optuna.pruners.NopPruner()
    if bench.prune:
        pruner = optuna.pruners.MedianPruner(_FIRST, n_warmup_steps=math.ceil(_WARM_SHARE * steps), n_min_trials=_FIRST)
    study.pruner, study.sampler = pruner, placed_sampler(bench.training.seed)
    if bench.grid and together and bench.training.side_by_side and _all_suit(bench):
        _work_side_by_side(study, bench, until=until, caught=caught, told=told)
        return

    def objective(trial: "Trial") -> float:
        if "place" not in trial.user_attrs:
            raise _NothingLeft
        values = _values_of(trial, bench)
        reporter = _Reporter(trial, int(values["epochs"]), staged=staged, caught=caught)
        began = time.perf_counter()
        try:
            _, history = bench.stage_of(values, reporter)()
        except NonFiniteError as error:
            trial.set_user_attr("note", str(error))
            raise optuna.TrialPruned from error
        except (Exception, KeyboardInterrupt) as error:
            if alone and not isinstance(error, optuna.TrialPruned):
                raise _Left from error
            raise
        finally:
            trial.set_user_attr("seconds", time.perf_counter() - began)
        return _result_of(trial, history, bench)

    while time.time() < until and waiting(study):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            try:
                study.optimize(objective, n_trials=1, catch=(_NothingLeft,))
            except _Left as left:
                assert left.__cause__ is not None, "it was raised from what stopped the trial"
                raise left.__cause__ from None
        if told is not None:
            told()
        if caught:
            raise InterruptedRun(stopped_by(caught[0]), caught[0])


def _values_of(trial: "Trial", bench: Bench) -> dict[str, Any]:
    """The settings of a trial."""
    values: dict[str, Any] = {}
    # Whether a temperature counts may be a matter of a method's own options.
    for axis in sorted(bench.axes, key=lambda axis: (axis.name != "method", "." not in axis.name)):
        if axis.name == "method" or counts(axis.name, values):
            values[axis.name] = _suggest(trial, axis)
    return values


def _result_of(trial: "Trial", history: list[dict[str, Any]], bench: Bench) -> float:
    """Validation errors of the epoch that is kept, whose other figures the trial keeps too."""
    kept = history[-1]
    if bench.training.keep == "best":
        kept = min(_judged(history), key=lambda row: (row["validation_errors"], row["validation_nll"]))
    for name in ("validation_accuracy", "validation_nll"):
        trial.set_user_attr(name, kept[name])
    trial.set_user_attr("best_epoch", kept["epoch"])
    return float(kept["validation_errors"])


def _all_suit(bench: Bench) -> bool:
    """Whether all trials of a grid can be made side by side: a group of which some cannot would be half empty."""
    axes = {axis.name: axis for axis in bench.axes}
    hottest = max((float(value) for value in axes["temperature"].values), default=1.0)
    if axes["method"].values != ("kd",) or not axes["epochs"].fixed or hottest > HOT:
        return False
    point = {"method": "kd", "temperature": hottest, "hard_weight": 0.0}
    point |= {"learning_rate": bench.training.peak_learning_rate, "epochs": axes["epochs"].values[0]}
    return suited([bench.stage_of(point, Callback())], width=_AT_ONCE)


def _work_side_by_side(
    study: "Study",
    bench: Bench,
    *,
    until: float,
    caught: Sequence[int],
    told: Callable[[], None] | None,
) -> None:
    """Run the waiting trials of a grid, several side by side; what is stopped waits again when it is resumed."""
    while time.time() < until and waiting(study):
        trials, width = _neighbours(study)
        stages = []
        for trial in trials:
            values = _values_of(trial, bench)
            reporter = _Reporter(trial, int(values["epochs"]), staged=False, caught=caught)
            stages.append(bench.stage_of(values, reporter))
        _make(study, trials, stages, bench, width)
        if told is not None:
            told()
        if caught:
            raise InterruptedRun(stopped_by(caught[0]), caught[0])


def _neighbours(study: "Study") -> "tuple[list[Trial], int]":
    """The next waiting trials of one group, and the group's size: the same however often a search is resumed."""
    from optuna.trial import TrialState

    group_of = [
        trial.user_attrs["place"] // _AT_ONCE
        for trial in study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    ]
    count = next((number for number, group in enumerate(group_of) if group != group_of[0]), len(group_of))
    last = max(trial.user_attrs.get("place", 0) for trial in study.get_trials(deepcopy=False))
    return [study.ask() for _ in range(count)], min(_AT_ONCE, last + 1 - group_of[0] * _AT_ONCE)


def _make(study: "Study", trials: "Sequence[Trial]", stages: Sequence[Stage], bench: Bench, width: int) -> None:
    """Make trials of a group of some width side by side, and tell the study what came out."""
    began = time.perf_counter()
    places = [trial.user_attrs["place"] % _AT_ONCE for trial in trials]
    if suited(stages, width=width):
        found = run_side_by_side(stages, places=places, width=width)
    else:  # a last group of few
        found = [_alone(stage) for stage in stages]
    for trial, one in zip(trials, found, strict=True):
        trial.set_user_attr("seconds", (time.perf_counter() - began) / len(trials))
        if isinstance(one, NonFiniteError):
            trial.set_user_attr("note", str(one))
            study.tell(trial, state=optuna_here().trial.TrialState.PRUNED)
        elif isinstance(one, Exception):
            raise one
        else:
            study.tell(trial, _result_of(trial, one[1], bench))


def _alone(stage: Stage) -> Trained | Exception:
    try:
        return stage()
    except NonFiniteError as error:
        return error


def _judged(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The epochs of which one is kept: not those in which hints alone were learnt."""
    return [row for row in history if row.get("stage") != 1]


def stopped_by(number: int) -> str:
    """What a search says that a signal stopped.

    Args:
        number: Of the signal.

    Returns:
        A line.

    Example:
        >>> stopped_by(15)
        'stopped by SIGTERM; finished trials are kept, the same with resume=True (--resume) continues'
    """
    name = signal.Signals(number).name
    return f"stopped by {name}; finished trials are kept, the same with resume=True (--resume) continues"


def _suggest(trial: "Trial", axis: Axis) -> Any:
    """The trial's value of an axis; a fixed one is not asked of the sampler."""
    if axis.fixed:
        return axis.values[0]
    if axis.scale == "choice":
        return trial.suggest_categorical(axis.name, axis.values)
    low, high = axis.values[0], axis.values[-1]
    if axis.scale == "whole":
        return trial.suggest_int(axis.name, int(low), int(high))
    return trial.suggest_float(axis.name, low, high, log=axis.scale == "log")


def rows_of(study: "Study", axes: tuple[Axis, ...]) -> list[dict[str, Any]]:
    """The trials that came to an end, as plain rows.

    Args:
        study: The study.
        axes: What was searched.

    Returns:
        One mapping per trial, in the order of their start: ``trial``, one value per axis (None for a temperature that
        does not apply), ``state`` ("complete", "stopped early" or "diverged"), ``reports`` (epochs, or tenths of the
        schedule, that it came through), ``validation_errors`` (of the epoch that is kept; None where it diverged in its
        first), ``seconds``, and for complete ones ``validation_accuracy``, ``validation_nll`` and ``best_epoch``.
    """
    from optuna.trial import TrialState

    found = []
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)):
        if "place" in trial.user_attrs:
            found.append(_row(trial, axes, complete=trial.state == TrialState.COMPLETE))
    return found


def _row(trial: "FrozenTrial", axes: tuple[Axis, ...], *, complete: bool) -> dict[str, Any]:
    fixed = {axis.name: axis.values[0] for axis in axes if axis.fixed}
    values: dict[str, Any] = {axis.name: {**fixed, **trial.params}.get(axis.name) for axis in axes}
    values["epochs"] = int(values["epochs"])
    for name in [axis.name for axis in axes if "." in axis.name] + ["temperature"]:
        if not counts(name, values):
            values[name] = None
    attributes = trial.user_attrs
    state = "complete" if complete else "diverged" if "note" in attributes else "stopped early"
    errors = trial.value if complete else min(trial.intermediate_values.values(), default=None)
    return {
        "trial": trial.number,
        **values,
        "state": state,
        "reports": len(trial.intermediate_values),
        "validation_errors": None if errors is None else int(errors),
        **{name: attributes.get(name) for name in ("validation_accuracy", "validation_nll", "best_epoch", "seconds")},
    }
