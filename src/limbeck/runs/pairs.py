"""The trainings of a distillation: pairs of student and baseline."""

__all__ = ["train_pairs"]

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from limbeck.data.data_set import DataSet
from limbeck.options import Training
from limbeck.protocols import Objective, Teacher
from limbeck.runs.answer_cache import answer_once
from limbeck.runs.distill_plan import DistillPlan
from limbeck.runs.folder import RunFolder
from limbeck.runs.judging import Pair
from limbeck.runs.stages import Stage, Trained, run_stages, stage_for
from limbeck.system.callbacks import Callback
from limbeck.system.jobs import relayed, run_jobs
from limbeck.training.objective import DistillationObjective, LabelObjective


def train_pairs(plan: DistillPlan, folder: RunFolder | None) -> list[Pair]:
    """Train students and baselines, alternately or in parallel.

    Args:
        plan: The plan.
        folder: The run's folder, or None.

    Returns:
        A pair per seed.
    """
    execution, count = plan.execution, plan.seeds * (1 + plan.baseline)
    answered = answer_once(
        plan.guide, plan.source.train, plan.data, plan.taught, plan.options, plan.device, execution.callback,
        temperature=plan.method.temperature if plan.asks and not plan.method.reads_features else None,
    )  # fmt: skip
    if plan.options.compile and plan.asks:
        answered = getattr(answered, "compiled", lambda: answered)()

    def tell(done: int, count: int) -> None:
        execution.note(f"{done} of {count} trainings are done")

    if not execution.apart(count):
        trained = run_stages(list(_tasks(plan, folder, answered, execution.callback)))
    elif not execution.watched():
        tasks = list(_tasks(plan, folder, answered, None))
        trained = run_jobs(tasks, jobs=execution.jobs, ray=execution.ray, done=tell, warn=execution.warn)
    else:
        assert execution.callback is not None, "somebody watches"
        with relayed(execution.callback, count * plan.options.epochs) as (relay, listen):
            tasks = list(_tasks(plan, folder, answered, relay))
            trained = run_jobs(tasks, jobs=execution.jobs, done=tell, tick=listen)
    return _paired(trained, baseline=plan.baseline)


@dataclass(frozen=True)
class _Role:
    """One of the two trainings of a seed.

    Attributes:
        name: Its folder inside the run's; None for the run's own.
        title: What callbacks are told of which training it is.
        objective: The loss that is minimised.
        data: Its training data.
        training: Its settings.
        save_hdf5: Whether its weights are also written in other formats.
    """

    name: str | None
    title: str
    objective: Objective
    data: DataSet
    training: Training
    save_hdf5: bool


def _roles(plan: DistillPlan, answered: Teacher, number: int) -> Iterator[_Role]:
    """The tasks of a seed: the baseline, where there is one, and the student. They differ only here."""
    training = dataclasses.replace(plan.options, seed=plan.options.seed + number)
    name = None if number == 0 else f"seeds/{number + 1}"
    if plan.baseline:
        rate = plan.aims.baseline_learning_rate
        settled = training if rate is None else dataclasses.replace(training, learning_rate=rate)
        aside = "baseline" if name is None else f"{name}/baseline"
        yield _Role(aside, aside, LabelObjective(training.label_smoothing), plan.data, settled, save_hdf5=False)
    yield _Role(
        name,
        name or "student",
        _student_objective(plan, answered),
        plan.source,
        training,
        save_hdf5=plan.execution.save_hdf5,
    )


def _student_objective(plan: DistillPlan, answered: Teacher) -> Objective:
    """A new objective per student, so that trainable parameters of the method are not shared."""
    return DistillationObjective(
        answered,
        method=copy.deepcopy(plan.method),
        hard_weight=plan.aims.hard_weight,
        label_smoothing=plan.options.label_smoothing,
        teacher_view=plan.aims.teacher_view,
    )


def _tasks(
    plan: DistillPlan, folder: RunFolder | None, answered: Teacher, callback: Callback | None
) -> Iterator[Stage]:
    """The trainings in order."""
    execution = plan.execution
    apart = execution.apart(plan.seeds * (1 + plan.baseline))
    for number, start in enumerate(plan.made):
        for role in _roles(plan, answered, number):
            yield Stage(
                stage_for(folder, role.name, apart=apart),
                start,
                role.objective,
                role.data,
                role.training,
                plan.device,
                augmentation=plan.augmentation,
                resume=execution.resume or apart,  # a task that is started again resumes
                callback=callback,
                name=role.title,
                source=execution.origin("student"),
                save_hdf5=role.save_hdf5,
                steps=plan.steps,
                copied=True,
            )


def _paired(trained: Sequence[Trained], *, baseline: bool) -> list[Pair]:
    """Pair each student with its baseline, given alternating results."""
    if not baseline:
        return [Pair(model, None, history) for model, history in trained]
    return [
        Pair(model, beside, history, alone)
        for (beside, alone), (model, history) in zip(trained[::2], trained[1::2], strict=True)
    ]
