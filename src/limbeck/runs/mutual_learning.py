"""Deep mutual learning: train students that learn from each other, and compare the first with its baseline."""

__all__ = ["MutualRun", "mutual"]

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Unpack, cast

import torch
from torch import nn

from limbeck.arguments import checked_arguments
from limbeck.data.data_set import DataSet
from limbeck.data.feed import Feed
from limbeck.data.trained_rows import trained_rows
from limbeck.errors import ConfigError
from limbeck.evaluation.verdicts import Verdict
from limbeck.models.calling import autograd_enabled, presentation_of
from limbeck.models.copying import copy_module
from limbeck.options import Augmentation, ModelOptions, Training, TrainingKeywords
from limbeck.options.checks import from_keywords
from limbeck.options.mutual import Mutual, Order
from limbeck.runs.data_warnings import tell_contradictions, tell_shared_examples
from limbeck.runs.execution import Execution, told
from limbeck.runs.finished import FinishedRun
from limbeck.runs.folder import RunFolder, require_out
from limbeck.runs.initial_models import starts
from limbeck.runs.initial_weights import keep_first_weights
from limbeck.runs.inputs import as_data_set, check_answers
from limbeck.runs.judging import Pair, judge_pairs
from limbeck.runs.measure import answers_of, labels_of, scores_of
from limbeck.runs.models import load, save_model
from limbeck.runs.models_for_data import named_model
from limbeck.runs.result_warnings import qualified, tell_results
from limbeck.runs.speed import placed
from limbeck.runs.stages import Stage, keep_stage, stage_for
from limbeck.runs.unused import tell_unused, unused_in_training
from limbeck.softtargets.digests import network_identity
from limbeck.system.callbacks import Callback
from limbeck.system.devices import Device
from limbeck.system.processes import world
from limbeck.training.checkpoint import save_tensors
from limbeck.training.cohort import Cohort, MutualObjective, Turns
from limbeck.training.engine import fit
from limbeck.training.objective import LabelObjective
from limbeck.training.optimizers import make_optimizer


@dataclass(frozen=True)
class MutualRun(FinishedRun):
    """The result of mutual learning.

    Attributes:
        students: The networks, plain modules in evaluation mode; the verdict is on the first.
        baseline: The first student's network trained on labels alone, or None.
        verdict: Whether mutual learning helped; None without a baseline or labelled evaluation examples.
        metrics: The contents of ``metrics.json``: ``baseline``, ``student``, ``students``, ``verdict``.
        history: A mapping per epoch; validation is that of the first student.
        folder: The run's folder, or None.
        data: The data set, for :meth:`export`.
    """

    students: list[nn.Module]
    baseline: nn.Module | None
    verdict: Verdict | None
    metrics: dict[str, Any]
    history: list[dict[str, Any]]
    folder: Path | None
    data: DataSet | None = field(default=None, repr=False)

    @property
    def shipped(self) -> nn.Module:
        """The first student."""
        return self.students[0]


@dataclass(frozen=True, kw_only=True)
class _Plan:
    made: list[nn.Module]
    data: DataSet
    aims: Mutual
    options: Training
    augmentation: Augmentation
    device: Device
    baseline: bool
    execution: Execution

    def settings(self) -> dict[str, Any]:
        """The settings saved in ``config.toml``."""
        kept = {**dataclasses.asdict(self.options), **dataclasses.asdict(self.augmentation)}
        return kept | {**dataclasses.asdict(self.aims), "baseline": self.baseline}

    def identity(self) -> dict[str, Any]:
        """Digests that a resumed run must match."""
        return {**self.data.identity(), **network_identity(self.made[0], "student")}


@autograd_enabled
@checked_arguments
def mutual(
    student: nn.Module | Callable[[int], nn.Module] | Sequence[nn.Module] | str | ModelOptions,
    train: Any,
    validation: Any = None,
    *,
    test: Any = None,
    classes: Sequence[str] | None = None,
    students: int = 2,
    order: Order = "together",
    temperature: float = 1.0,
    hard_weight: float = 0.5,
    augmentation: Augmentation | None = None,
    baseline: bool = True,
    out: str | Path | None = None,
    resume: bool = False,
    settings: Mapping[str, Any] | None = None,
    callbacks: Callback | Sequence[Callback] = (),
    progress: bool = True,
    **training: Unpack[TrainingKeywords],
) -> MutualRun:
    """Train several students on labels and each other's outputs, without a teacher: deep mutual learning.

    The baseline has the first student's architecture, initial weights, order, views, learning rate and number of steps,
    and is trained on labels alone. The best epoch is that of the first student.

    Args:
        student: A function that makes a module from a seed, called once per student; or "mlp", "cnn", ...; or a list of
            modules, one per student, which may differ in architecture.
        train: A :class:`~limbeck.data.DataSet`, or training examples as a pair of inputs and labels.
        validation: Examples to choose the best epoch by.
        test: Test examples, read once, at the end.
        classes: Names of the classes.
        students: Number of students; for a list of modules its length.
        order: "together": all students are updated from the same outputs; "in turn": one after the other on each batch,
            each learning from the updated ones before it.
        temperature: T of the outputs that they learn from each other.
        hard_weight: Weight of the hard labels, above 0 and below 1; 0.5 as in the paper.
        augmentation: Augmentation of the training examples, the same for all.
        baseline: Whether to train the baseline.
        out: Folder for the run; None to write nothing.
        resume: Resume the run in ``out``.
        settings: More to keep in ``config.toml``.
        callbacks: Called as the run goes: instances of :class:`~limbeck.Callback`, such as a
            :class:`~limbeck.TensorBoardLogger`.
        progress: Show a progress bar, where there is a terminal or a notebook.
        **training: Fields of :class:`~limbeck.options.Training`.

    Returns:
        The students, the verdict on the first, and the metrics.

    Raises:
        ConfigError: If a setting is out of range, or the students would all be the same.
        DataError: If there are no labels to learn.

    Example:
        >>> x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
        >>> y = (x[:, 0] > 0).long()
        >>> run = mutual("mlp", (x[:100], y[:100]), (x[100:], y[100:]), epochs=2)
        >>> len(run.students), sorted(run.metrics)
        (2, ['baseline', 'judged_on', 'margin', 'seeds', 'student', 'students', 'verdict'])
    """  # noqa: DOC502
    options = from_keywords(Training, training)
    require_out(out, resume=resume)
    count = len(cast(Sequence[nn.Module], student)) if _is_list(student) else students
    aims = Mutual(students=count, order=order, temperature=temperature, hard_weight=hard_weight)
    _refuse(options, aims)
    execution = Execution(out=out, resume=resume, settings=settings, callback=told(callbacks, progress=progress))
    plan = _planned(
        student, as_data_set(train, validation, test, classes), aims, options, augmentation, execution, baseline
    )
    with execution.opened("mutual", plan.settings(), plan.identity) as folder:
        return _carry_out(plan, folder)


def _is_list(student: Any) -> bool:
    return isinstance(student, Sequence | nn.ModuleList) and not isinstance(student, str)


def _refuse(options: Training, aims: Mutual) -> None:
    """Refuse settings that mutual learning does not support."""
    if world().size > 1:
        raise ConfigError("mutual learning runs in one process, which trains all students")
    for name, value in (("compile", options.compile), ("class_weight", options.class_weight)):
        if value:
            raise ConfigError(f"{name} is {value!r}, and mutual learning does not support it: leave it out")
    if options.accumulate > 1 and aims.order == "in turn":
        raise ConfigError("order 'in turn' does not support accumulate, since each batch is used several times")


def _planned(
    student: Any,
    data: DataSet,
    aims: Mutual,
    options: Training,
    augmentation: Augmentation | None,
    execution: Execution,
    baseline: bool,
) -> _Plan:
    """Validate the inputs and make the plan."""
    if data.train.labels is None:
        raise ConfigError("students that learn from each other need labels, and the training set has none: use distill")
    made = _students(student, data, aims, options, execution)
    data = data.seen_by(made[0])
    for number, model in enumerate(made):
        if presentation_of(model) != presentation_of(made[0]):
            raise ConfigError(f"student {number + 1} has another presentation than the first: all must have the same")
        check_answers("student", model, data)
    options, device = execution.settle(options)
    make_optimizer(nn.ModuleList(made), options, device)  # refuses user-defined ones that cannot be trained
    plan = _Plan(
        made=made, data=data, aims=aims, options=options, augmentation=data.train.drawn(augmentation), device=device,
        baseline=baseline, execution=execution,
    )  # fmt: skip
    tell_unused(
        unused_in_training(options, data, plan.augmentation, kept=execution.out is not None, jobs=1, trainings=1),
        execution.callback,
    )
    tell_contradictions(data.train, execution.callback)
    tell_shared_examples(data, ["validation"], execution.callback)
    return plan


def _students(student: Any, data: DataSet, aims: Mutual, options: Training, execution: Execution) -> list[nn.Module]:
    """Make the students; their initial weights must differ."""
    student = named_model(student, data)
    if _is_list(student):
        made = [starts(one, [options.seed], role="student", callback=execution.callback)[0] for one in student]
    elif isinstance(student, nn.Module):
        raise ConfigError(
            "students that start from the same weights learn the same, and nothing from each other: give a function "
            "that makes the student from a seed, or a list of students"
        )
    else:
        seeds = range(options.seed, options.seed + aims.students)
        made = starts(student, seeds, role="student", callback=execution.callback)
    for number, one in enumerate(made):
        for other in range(number):
            if _alike(one, made[other]):
                raise ConfigError(
                    f"students {other + 1} and {number + 1} start from the same weights, so that they learn the same "
                    "and nothing from each other: let the function make each from its seed"
                )
    return made


def _alike(one: nn.Module, other: nn.Module) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in mine.items())


def _carry_out(plan: _Plan, folder: RunFolder | None) -> MutualRun:
    """Train baseline and students, evaluate on the test set, and save the results."""
    data, execution = plan.data, plan.execution
    keep_first_weights(folder, plan.made)
    beside = None
    if plan.baseline:
        beside, _ = Stage(
            stage_for(folder, "baseline", apart=False), copy_module(plan.made[0], what="student"),
            LabelObjective(plan.options.label_smoothing), data, plan.options, plan.device,
            augmentation=plan.augmentation, resume=execution.resume, callback=execution.callback,
            name="baseline", source=execution.origin("student"),
        )()  # fmt: skip
    students, history = _fit_together(plan, folder)
    tell_shared_examples(data, ["test"], execution.callback)
    result = judge_pairs(None, [Pair(students[0], beside, history)], data, plan.options.seed, plan.device, None)
    if result.verdict is not None:
        verdict = qualified(result.verdict, result.metrics, data, plan.options.seed)
        result = dataclasses.replace(result, verdict=verdict, metrics={**result.metrics, "verdict": verdict.to_dict()})
    models = {"student": students[0]} if beside is None else {"baseline": beside, "student": students[0]}
    tell_results(result.metrics, {"student": [history]}, models, data, execution.callback, seed=plan.options.seed)
    metrics = execution.with_warnings({**result.metrics, "students": _scores(students, data, plan.device)})
    if folder is not None:
        folder.unseal_results()
        if result.answers:
            save_tensors(folder.path / "answers.safetensors", result.answers)
        folder.write_metrics(metrics)
    execution.conclude(metrics)
    path = None if folder is None else folder.path
    return MutualRun(students, beside, result.verdict, metrics, history, path, data)


def _fit_together(plan: _Plan, folder: RunFolder | None) -> tuple[list[nn.Module], list[dict[str, Any]]]:
    """Train the students, or load finished ones; the first is in the run's own folder."""
    execution, data, options = plan.execution, plan.data, plan.options
    students = [copy_module(one, what="student") for one in plan.made]
    folders = [None if folder is None else folder.sub(f"peers/{number}") for number in range(2, len(students) + 1)]
    if folder is not None and execution.resume and folder.complete:
        paths = [folder.path, *(peer.path for peer in folders if peer is not None)]
        loaded = [load(path, model=model) for path, model in zip(paths, students, strict=True)]
        return [cast(nn.Module, model).to("cpu").eval() for model in loaded], folder.history()
    if folder is not None:
        folder.unseal_stage()
    feed: Any = Feed(
        data.train, batch_size=options.batch_size, augmentation=plan.augmentation, seed=options.seed,
        device=plan.device.device, accumulate=options.accumulate, workers=options.workers,
    )  # fmt: skip
    feed = Turns(feed, len(students)) if plan.aims.order == "in turn" else feed
    objective = MutualObjective(
        order=plan.aims.order,
        temperature=plan.aims.temperature,
        hard_weight=plan.aims.hard_weight,
        label_smoothing=options.label_smoothing,
    )
    fitted = fit(
        Cohort(students), objective, feed, options, plan.device, validation=data.validation,
        folder=None if folder is None else folder.checkpoints, resume=execution.resume, callback=execution.callback,
        name="students",
    )  # fmt: skip
    students = [model.to("cpu").eval() for model in students]
    source = execution.origin("student")
    for model, peer in zip(students[1:], folders, strict=True):
        if peer is not None:
            save_model(
                peer.path / "model", model, classes=data.classes, source=source, reading=data.reading,
                trained_on=trained_rows(data.train), overwrite=True,
            )  # fmt: skip
    if folder is not None:
        first = "members.0."
        last = {name.removeprefix(first): value for name, value in fitted.last.items() if name.startswith(first)}
        alone = dataclasses.replace(fitted, last=last)
        keep_stage(folder, students[0], alone, data, options, source=source, save_hdf5=False)
    return students, [{**row, **timing} for row, timing in zip(fitted.history, fitted.timings, strict=True)]


def _scores(students: Sequence[nn.Module], data: DataSet, device: Device) -> list[dict[str, Any]]:
    """Errors and accuracy of each student on the evaluation examples."""
    examples = data.test or data.validation
    if examples is None or examples.labels is None:
        return []
    found = []
    for model in students:
        with placed(model, device.device) as there:
            scores = scores_of(answers_of(there, examples), labels_of(examples))
        found.append({name: scores[name] for name in ("test_errors", "accuracy")})
    return found
