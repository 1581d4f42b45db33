"""Search method, temperature, hard weight, learning rate and epochs on validation, with stored soft targets."""

__all__ = ["TuneRun", "tune"]

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Unpack

from torch import nn

from limbeck.arguments import checked_arguments
from limbeck.data.data_set import DataSet
from limbeck.models.calling import autograd_enabled
from limbeck.options import Augmentation, ModelOptions, TeacherView, Training, TrainingKeywords
from limbeck.options.checks import from_keywords
from limbeck.options.search_space import Axis, Search, baseline_axes, combinations
from limbeck.protocols import Answering
from limbeck.runs.folder import RunFolder
from limbeck.runs.inputs import as_data_set
from limbeck.runs.models_for_data import named_model
from limbeck.system.checksums import check_file
from limbeck.system.progress import counting
from limbeck.teachers import as_teacher, lent
from limbeck.tuning.results import conclude, conclude_baseline, report_search
from limbeck.tuning.search_plan import SearchPlan, Where, check_search, plan_search
from limbeck.tuning.study import address_of, connect, open_study, optuna_here, told_of_storage, unfinished
from limbeck.tuning.trial_runner import TrialRunner
from limbeck.tuning.trials import Bench, rows_of


@dataclass(frozen=True)
class TuneRun:
    """The result of a search.

    Attributes:
        best: The settings that were best on validation: ``method``, ``temperature`` where it counts, ``hard_weight``,
            ``learning_rate``, ``epochs`` and, where any counts, ``method_options``, as :func:`~limbeck.distill` takes
            them.
        trials: One mapping per finished trial, in the order of their start.
        metrics: The contents of ``metrics.json``.
        folder: The run's folder, or None.
    """

    best: dict[str, Any]
    trials: list[dict[str, Any]]
    metrics: dict[str, Any]
    folder: Path | None


@autograd_enabled
@checked_arguments
def tune(
    teacher: nn.Module | Answering,
    student: nn.Module | Callable[[int], nn.Module] | str | ModelOptions,
    train: Any,
    validation: Any = None,
    *,
    classes: Sequence[str] | None = None,
    search: Search | None = None,
    augmentation: Augmentation | None = None,
    teacher_view: TeacherView = "consistent",
    jobs: int = 1,
    ray: str | None = None,
    storage: str | None = None,
    study: str | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    settings: Mapping[str, Any] | None = None,
    progress: bool | Callable[[int, int], None] = True,
    **training: Unpack[TrainingKeywords],
) -> TuneRun:
    """Search the best settings of a distillation, evaluated on validation only.

    The teacher's outputs are computed once per view of each example, or a store of them is used; every trial is a
    student trained on them. A test set that comes with the data is not read. Poor trials are pruned.

    Args:
        teacher: :class:`~limbeck.SoftTargets` opened from a store; or a module or teacher, which answers once.
        student: A module (it is copied), a function that makes one from a seed, a name such as "mlp", or
            :class:`~limbeck.ModelOptions`.
        train: A :class:`~limbeck.data.DataSet`, or training examples as a pair of inputs and labels.
        validation: Labelled examples to judge by, where the data set has none of its own.
        classes: Names of the classes.
        search: Ranges or lists, and how many trials; None for the defaults.
        augmentation: Augmentation of the training images; their number must be given, unless a method reads layers.
        teacher_view: Which view of an example the teacher answers: "consistent" for that of the student, "fixed" for
            the example as it is, "independent" for another view.
        jobs: How many processes of this machine work on the one study, each with as many threads as this one. Above
            1 it needs ``out`` or ``storage``, and a program that begins with ``if __name__ == "__main__"``.
        ray: Instead: the address of a Ray cluster, or "local" for one that is started here. A cluster needs
            ``storage``, which all its machines reach.
        storage: Address of a database that several machines reach, such as ``postgresql://host/db``; None for an
            SQLite file in ``out``. Each machine has an ``out`` of its own.
        study: Name of the study in ``storage``.
        out: Folder for the search; None to write nothing.
        resume: Continue what ``out`` holds; trials that came to an end are not repeated.
        settings: More to keep in ``config.toml`` and ``best.toml``.
        progress: Show a progress bar, where there is a terminal or a notebook; or a function that is called with the
            number of trials that came to an end, and of all.
        **training: Fields of :class:`~limbeck.options.Training` for all trials, such as ``batch_size``.

    Returns:
        The best settings, and every trial.

    Raises:
        ConfigError: If a setting is out of range, or contradicts another.
        MismatchError: If teacher, student and data do not belong together.
        RunError: If the study was begun with other settings or data, or no trial came to an end.

    Example:
        >>> import torch
        >>> x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
        >>> y = (x[:, 0] > 0).long()
        >>> teacher = nn.Linear(4, 2)
        >>> _ = teacher.weight.data.copy_(torch.tensor([[-3.0, 0, 0, 0], [3.0, 0, 0, 0]]))
        >>> grid = Search(grid=True, temperatures=(1, 4), hard_weights=(0, 0.5))
        >>> found = tune(teacher, nn.Linear(4, 2), (x[:100], y[:100]), (x[100:], y[100:]), search=grid, epochs=2)
        >>> len(found.trials), sorted(found.best)
        (4, ['epochs', 'hard_weight', 'learning_rate', 'method', 'temperature'])
    """
    optuna_here()
    options, sought = from_keywords(Training, training), search or Search()
    where = Where(jobs=jobs, ray=ray, storage=storage, study=study, out=out, resume=resume, settings=settings)
    where.check()
    check_search(sought, options)
    if isinstance(train, DataSet):
        train = dataclasses.replace(train, test=None)  # put aside before anything looks at it
    data = as_data_set(train, validation, None, classes)
    with lent(as_teacher(teacher), freeze=False):
        plan = plan_search(
            teacher, named_model(student, data), data, sought, options, augmentation, where, teacher_view
        )
        with counting("tuning", progress) as show:
            if out is None:
                return _carry_out(plan, None, show)
            with RunFolder(out).open("tune", plan.settings(), resume=resume) as folder:
                return _carry_out(plan, folder, show)


def _carry_out(plan: SearchPlan, folder: RunFolder | None, progress: Callable[[int, int], None]) -> TuneRun:
    """Run what waits of the study, and conclude."""
    if folder is not None:
        check_file(folder.path / "study.db")
    storage = plan.where.storage
    url = storage if folder is None or storage is not None else address_of(folder.path / "study.db")
    database, alone = connect(url, shared=storage is not None), storage is None
    with told_of_storage(url):
        open_study(database, plan.name, plan.common)
    if folder is not None:
        folder.unseal_results()

    def told(done: int) -> None:
        progress(done, len(plan.points) * (1 + plan.with_baseline))

    until = time.time() + 60 * (plan.search.timeout_minutes or float("inf"))
    runner = TrialRunner(database, url, alone, plan.where.jobs, plan.where.ray, until, folder is not None, told)
    with told_of_storage(url):
        best, rows, metrics = _search(plan, runner)
    if folder is not None:
        folder.write_settings("best.toml", "distill", {**plan.fixed_settings(), **best})
        folder.write_metrics(metrics)
        report_search(folder.path)
    return TuneRun(best, rows, metrics, None if folder is None else folder.path)


def _search(plan: SearchPlan, runner: TrialRunner) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    """The student's study, and the baseline's where one is searched: best settings, trials and metrics."""
    answers = cache(plan.answers)  # the teacher answers once, and not where no trial waits

    def bench(axes: tuple[Axis, ...]) -> Bench:
        return plan.bench(answers(), axes)

    judges = plan.data.validation
    assert judges is not None
    opened = runner.run(plan.name, plan.common, plan.points, partial(bench, plan.axes))
    rows = rows_of(opened, plan.axes)
    best, metrics = conclude(rows, judges, left=unfinished(opened))
    if plan.with_baseline:
        narrow = baseline_axes(plan.axes, best["epochs"])
        tried = combinations(narrow) if plan.search.grid else [{} for _ in plan.points]
        name = f"{plan.name}, baseline of {best['epochs']} epochs"
        common = {**plan.common, "searched for": name}
        beside = runner.run(name, common, tried, partial(bench, narrow), before=len(plan.points))
        best |= conclude_baseline(rows_of(beside, narrow), metrics, left=unfinished(beside))
    elif plan.chooses_rate:
        best["searched"] = "student"
    return best, rows, metrics
