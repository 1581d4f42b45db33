"""Distil a teacher into a student, and compare the student with the same network trained on labels alone."""

__all__ = ["DistillRun", "distill"]

import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Unpack

from torch import nn

from limbeck.arguments import checked_arguments
from limbeck.data.data_set import DataSet
from limbeck.errors import ConfigError, LimbeckWarning
from limbeck.evaluation.non_inferiority import MarginVerdict
from limbeck.evaluation.verdicts import Verdict
from limbeck.methods import Method, OwnLoss
from limbeck.models.calling import autograd_enabled
from limbeck.options import Augmentation, Distillation, ModelOptions, TeacherView, Training, TrainingKeywords
from limbeck.options.checks import from_keywords, require, shown
from limbeck.options.methods import OWN, option_list, renamed, spelled
from limbeck.protocols import Answering
from limbeck.runs.claims import tell_reach
from limbeck.runs.data_warnings import tell_shared_examples
from limbeck.runs.distill_plan import DistillPlan, plan_distillation, student_data
from limbeck.runs.execution import Execution, told
from limbeck.runs.finished import FinishedRun
from limbeck.runs.folder import RunFolder, require_out
from limbeck.runs.initial_models import apart_from, same_start, tell_equal_ends
from limbeck.runs.initial_weights import keep_first_weights
from limbeck.runs.inputs import as_data_set, teacher_for
from limbeck.runs.judging import Judgement, Pair, judge_pairs, warn_unjudged
from limbeck.runs.pairs import train_pairs
from limbeck.runs.result_warnings import qualified, tell_few_steps, tell_results
from limbeck.system.callbacks import Callback
from limbeck.teacher_warnings import tell_fitted_rows
from limbeck.teachers import lent
from limbeck.training.checkpoint import save_tensors


@dataclass(frozen=True)
class DistillRun(FinishedRun):
    """The result of a distillation run.

    Attributes:
        student: The student of the first seed, a plain module in evaluation mode.
        baseline: The same network trained on labels alone, or None.
        verdict: Whether distillation helped; None without a baseline or labelled evaluation examples.
        margin: The non-inferiority verdict on the student; None without a margin.
        metrics: The contents of ``metrics.json``: ``teacher``, ``baseline``, ``student``, ``verdict``, ``margin`` and
            ``seeds``.
        history: One mapping per epoch of the student's training.
        folder: The run's folder, or None.
        data: The data set, for :meth:`export`.
    """

    student: nn.Module
    baseline: nn.Module | None
    verdict: Verdict | None
    margin: MarginVerdict | None
    metrics: dict[str, Any] = field(repr=False)
    history: list[dict[str, Any]] = field(repr=False)
    folder: Path | None
    data: DataSet | None = field(default=None, repr=False)

    @property
    def shipped(self) -> nn.Module:
        """The student."""
        return self.student


@autograd_enabled
@checked_arguments
def distill(
    teacher: nn.Module | Answering,
    student: nn.Module | Callable[[int], nn.Module] | str | ModelOptions,
    train: Any,
    validation: Any = None,
    *,
    test: Any = None,
    transfer: Any = None,
    classes: Sequence[str] | None = None,
    temperature: float = 4.0,
    hard_weight: float = 0.1,
    method: str | Mapping[str, float] | Method = "kd",
    method_options: Mapping[str, Any] | Sequence[str] = (),
    objective: Callable[..., Any] | None = None,
    baseline_learning_rate: float | None = None,
    searched: Literal["nobody", "student", "both"] = "nobody",
    teacher_view: TeacherView = "consistent",
    augmentation: Augmentation | None = None,
    baseline: bool = True,
    seeds: int = 1,
    margin: float | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    save_hdf5: bool = False,
    jobs: int = 1,
    ray: str | None = None,
    settings: Mapping[str, Any] | None = None,
    callbacks: Callback | Sequence[Callback] = (),
    progress: bool = True,
    **training: Unpack[TrainingKeywords],
) -> DistillRun:
    """Train a student on a teacher's soft targets, and test whether that helped.

    The baseline has the student's architecture, initial weights, order, views, learning rate and number of steps; it
    differs only in its targets, and with a transfer set in its examples. Where views repeat (no augmentation, or a
    fixed number of views), the teacher's outputs are computed once and cached.

    Args:
        teacher: A module, an :class:`~limbeck.Ensemble`, or :class:`~limbeck.SoftTargets` opened from a store. A module
            is not copied: it is frozen in evaluation mode, on the device of the run, and restored afterwards.
        student: A module (copied; every seed starts from its weights), a function that makes one, called with the seed
            or without arguments under each seed, or "mlp" or "cnn".
        train: A :class:`~limbeck.data.DataSet`, or training examples as a pair of inputs and labels. Without
            labels there is no baseline, and ``hard_weight`` must be 0.
        validation: Examples to choose the best epoch by.
        test: Test examples, read once, at the end. Without them the verdict is on validation, and says so.
        transfer: A transfer set: other inputs for the soft targets instead of ``train``; labels are not needed.
        classes: Names of the classes.
        temperature: T of the soft targets, above 0.
        hard_weight: Weight of the hard labels in [0, 1].
        method: The distillation method, by name (see :mod:`limbeck.methods`); several as ``{"kd": 1, "dkd": 0.5}``; or
            your own :class:`~limbeck.methods.Method`.
        method_options: The method's options, such as ``{"beta": 8}``; in a sum ``{"dkd": {"beta": 8}}``.
        objective: Instead of method, temperature and hard weight, your own loss function:
            ``f(student_logits, teacher_log_probs, labels)`` with the teacher's log-probabilities at T = 1 gives one
            value per example, ``(N,)``. A module's parameters are trained and checkpointed with the student's.
        baseline_learning_rate: Peak learning rate of the baseline, where it was tuned; None for the student's.
        teacher_view: Which view the teacher sees, where there is augmentation: "consistent" for the student's, "fixed"
            for the unaugmented example, "independent" for another view.
        searched: Whose settings were tuned; if only the "student"'s, the verdict says so.
        augmentation: Augmentation of the training images, for baseline and student.
        baseline: Whether to train the baseline.
        seeds: Number of pairs of student and baseline to train, with consecutive seeds.
        margin: Non-inferiority margin in percentage points of the error rate: also test whether the student is as good
            as the teacher within it. Choose it before the run.
        out: Folder for the run; None to write nothing.
        resume: Resume the run in ``out``.
        save_hdf5: Write the student's weights after each epoch as HDF5, and at the end as nnet1 text too, into ``out``.
        jobs: How many trainings, of baselines and students, run in parallel, each in its own process.
        ray: Instead of ``jobs``: the address of a Ray cluster, or "local"; the cluster must see ``out``.
        settings: More to keep in ``config.toml``.
        callbacks: Called as the run goes: instances of :class:`~limbeck.Callback`, such as a
            :class:`~limbeck.TensorBoardLogger`.
        progress: Show a progress bar, where there is a terminal or a notebook.
        **training: Fields of :class:`~limbeck.options.Training`, such as ``epochs`` and ``learning_rate``.

    Returns:
        The student, the verdict and the metrics.

    Raises:
        ConfigError: If a setting is out of range, or contradicts another.
        MismatchError: If teacher and data have different classes.

    Example:
        >>> import torch
        >>> x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
        >>> y = (x[:, 0] > 0).long()
        >>> teacher = nn.Linear(4, 2)
        >>> _ = teacher.weight.data.copy_(torch.tensor([[-3.0, 0, 0, 0], [3.0, 0, 0, 0]]))
        >>> run = distill(teacher, nn.Linear(4, 2), (x[:100], y[:100]), (x[100:], y[100:]), epochs=9, learning_rate=0.3)
        >>> sorted(run.metrics)
        ['baseline', 'inherited', 'judged_on', 'margin', 'seeds', 'student', 'teacher', 'verdict']
    """
    given_settings: dict[str, Any] = renamed(training) if method == "kd" else dict(training)
    if "method" in given_settings:  # a call for an earlier version, with loss=
        method = given_settings.pop("method")
        warnings.warn(f'loss="{training.get("loss")}" is called method="{method}" now', LimbeckWarning, stacklevel=4)
    options = from_keywords(Training, given_settings)
    for name, count in (("seeds", seeds), ("jobs", jobs)):
        require(count >= 1, name, count, "at least 1")
    require_out(out, resume=resume, save_hdf5=save_hdf5)
    aims = Distillation(
        temperature=temperature,
        hard_weight=hard_weight if objective is None or isinstance(objective, Method) else 0.0,
        method=OWN if objective is not None or isinstance(method, Method) else spelled(method),
        method_options=option_list(method_options),
        baseline_learning_rate=baseline_learning_rate,
        searched=searched,
        teacher_view=teacher_view,
    )
    execution = Execution(
        out=out, resume=resume, save_hdf5=save_hdf5, jobs=jobs, ray=ray, settings=settings,
        callback=told(callbacks, progress=progress),
    )  # fmt: skip
    given = as_data_set(train, validation, test, classes)
    made, data, source = student_data(student, given, transfer, options, seeds, execution)
    guide = teacher_for(teacher, data)
    made = apart_from(guide, made)
    with lent(guide):
        plan = plan_distillation(
            guide, made, data, source, aims, options, augmentation, baseline=baseline, margin=margin,
            execution=execution, own=_own_method(method, objective, len(data.classes)),
        )  # fmt: skip
        with execution.opened("distill", plan.settings(), plan.identity) as folder:
            return _carry_out(plan, folder)


def _own_method(method: Any, objective: Any, classes: int) -> Method | None:
    """The method, where it is given as an object: a method, or a loss function as one."""
    if objective is None:
        return method if isinstance(method, Method) else None
    if not callable(objective) or isinstance(objective, type):
        raise ConfigError(f"objective must be a function, a module or a method, and is {shown(objective)}")
    if method != "kd":
        raise ConfigError("objective replaces method: give one of them")
    return objective if isinstance(objective, Method) else OwnLoss(objective, classes=classes)


def _carry_out(plan: DistillPlan, folder: RunFolder | None) -> DistillRun:
    """Train students and baselines, evaluate them on the test set, and save the results."""
    data, callback = plan.data, plan.execution.callback
    keep_first_weights(folder, plan.made)
    tell_reach(plan.margin, data, callback, teacher=plan.guide)
    warn_unjudged(data, callback)
    tell_few_steps(plan.options, plan.steps or -(-len(plan.source.train) // plan.options.batch_size), callback)
    one_start = same_start(plan.made)
    pairs = train_pairs(plan, folder)
    tell_equal_ends([pair.student for pair in pairs], role="students", callback=callback)
    tell_shared_examples(data, ["test"], callback, transfer=plan.source.train if plan.transfers else None)
    if plan.asks and not plan.fitted_told:
        tell_fitted_rows(plan.guide, data, plan.device, callback, beside="test")
    result = _judge(plan, pairs, one_start=one_start)
    models = {"baseline": pairs[0].baseline, "student": pairs[0].student}
    histories = {"baseline": [pair.baseline_history for pair in pairs], "student": [pair.history for pair in pairs]}
    tell_results(
        result.metrics, histories, {role: one for role, one in models.items() if one is not None}, data, callback,
        seed=plan.options.seed,
    )  # fmt: skip
    metrics = plan.execution.with_warnings(result.metrics)
    if folder is not None:
        folder.unseal_results()
        if result.answers:
            save_tensors(folder.path / "answers.safetensors", result.answers)
        folder.write_metrics(metrics)
    plan.execution.conclude(metrics)
    first, path = pairs[0], None if folder is None else folder.path
    return DistillRun(
        first.student, first.baseline, result.verdict, result.margin, metrics, first.history, path, plan.data
    )  # fmt: skip


_UNSEARCHED = "The student's settings were tuned, and the baseline's were not, which favours the student."


def _judge(plan: DistillPlan, pairs: Sequence[Pair], *, one_start: bool) -> Judgement:
    """The verdicts and metrics; a verdict notes what learned nothing, and where only the student was tuned."""
    result = judge_pairs(plan.guide, pairs, plan.data, plan.options.seed, plan.device, plan.margin, one_start=one_start)
    if result.verdict is None:
        return result
    told = qualified(result.verdict, result.metrics, plan.data, plan.options.seed)
    if plan.aims.searched == "student":
        told = dataclasses.replace(told, sentence=f"{told.sentence} {_UNSEARCHED}")
    metrics = {**result.metrics, "verdict": told.to_dict()}
    return dataclasses.replace(result, verdict=told, metrics=metrics)
