"""Distil a teacher into a student, and compare the student with the same network trained on labels alone."""

__all__ = ["DistillRun", "distill"]

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Unpack

from torch import nn

from limbeck.arguments import checked_arguments
from limbeck.data.data_set import DataSet
from limbeck.errors import ConfigError
from limbeck.evaluation.non_inferiority import MarginVerdict
from limbeck.evaluation.prediction import device_of
from limbeck.evaluation.verdicts import Verdict
from limbeck.models.calling import autograd_enabled
from limbeck.models.copying import copy_module
from limbeck.odd_teachers import tell_fitted_rows, tell_odd_teacher, tell_probabilities
from limbeck.options import Augmentation, Distillation, ModelOptions, SoftLoss, Training, TrainingKeywords
from limbeck.options.checks import from_keywords, require
from limbeck.protocols import Answering, Objective
from limbeck.runs.answering import answer_once
from limbeck.runs.claims import check_margin, tell_reach
from limbeck.runs.first_weights import keep_first_weights
from limbeck.runs.folder import RunFolder, require_out
from limbeck.runs.inputs import as_data_set, as_part, check_answers, check_classes, model_maker, verify_stores
from limbeck.runs.judging import Pair, judge_pairs
from limbeck.runs.oddities import tell_contradictions, tell_shared_examples
from limbeck.runs.starts import starts, tell_equal_ends
from limbeck.runs.training import fit_stage, settled_precision, stage_for
from limbeck.softtargets.digests import network_identity, teacher_fingerprint
from limbeck.system.devices import find_device
from limbeck.system.jobs import relayed, run_jobs
from limbeck.system.watcher import Watcher
from limbeck.teachers import as_teacher
from limbeck.training.checkpoint import save_tensors
from limbeck.training.objective import DistillationObjective, LabelObjective, require_logits, require_temperature


@dataclass(frozen=True)
class DistillRun:
    """What distillation left.

    Attributes:
        student: The student of the first seed, a plain module in evaluation mode.
        baseline: The same network trained on labels alone, or None.
        verdict: Whether distillation helped; None without a baseline or labels to judge by.
        margin: Whether the student is as good as the teacher within the margin; None without one.
        metrics: What ``metrics.json`` holds: ``teacher``, ``baseline``, ``student``, ``verdict``, ``margin`` and
            ``seeds``.
        history: A mapping an epoch of the student's training.
        folder: Where it all is, or None.
    """

    student: nn.Module
    baseline: nn.Module | None
    verdict: Verdict | None
    margin: MarginVerdict | None
    metrics: dict[str, Any]
    history: list[dict[str, Any]]
    folder: Path | None


@autograd_enabled
@checked_arguments
def distill(
    teacher: nn.Module | Answering,
    student: nn.Module | Callable[[int], nn.Module] | str,
    train: Any,
    validation: Any = None,
    *,
    test: Any = None,
    transfer: Any = None,
    classes: Sequence[str] | None = None,
    temperature: float = 4.0,
    hard_weight: float = 0.1,
    loss: SoftLoss = "kl",
    baseline_learning_rate: float | None = None,
    searched: Literal["nobody", "student", "both"] = "nobody",
    augmentation: Augmentation | None = None,
    baseline: bool = True,
    seeds: int = 1,
    margin: float | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    export: bool = False,
    jobs: int = 1,
    ray: str | None = None,
    settings: Mapping[str, Any] | None = None,
    watcher: Watcher | None = None,
    **training: Unpack[TrainingKeywords],
) -> DistillRun:
    """Train a student on a teacher's soft targets, and prove whether that helped.

    The baseline has the student's architecture, first weights, order, views, learning rate and number of steps; it
    differs in its targets alone, and where there is a transfer set in its examples. Where a view of an example comes
    more than once (no augmentation, or a number of views), the teacher answers it once and the answer is kept.

    Args:
        teacher: A module, an :class:`~limbeck.Ensemble`, or :class:`~limbeck.SoftTargets` opened from a store.
        student: A module (it is copied, and every seed starts from its weights), or a function that makes one from a
            seed or from nothing; it is called for each seed under that seed; or "mlp" or "cnn".
        train: A :class:`~limbeck.data.DataSet`, or training examples as a pair of inputs and labels. Without
            labels there is no baseline, and ``hard_weight`` must be 0.
        validation: Examples to choose the best epoch by.
        test: Examples to judge on, read once, at the end. Without them the verdict is on validation, and says so.
        transfer: Other inputs, labels not needed, on which the student learns the soft targets instead of ``train``.
        classes: Names of the classes.
        temperature: T of the soft targets, above 0.
        hard_weight: Weight of the true labels in [0, 1].
        loss: The soft term: "kl", or "logits", its limit at high temperatures, in which ``temperature`` does not count.
        baseline_learning_rate: Largest learning rate of the baseline, where one was searched for it; None for that of
            the student.
        searched: Whose settings were chosen by a search; where it was the "student" alone the verdict says so.
        augmentation: Random views of the training pictures, for baseline and student alike.
        baseline: Whether to train the baseline.
        seeds: How many pairs of student and baseline to train, with seeds that follow each other.
        margin: Percentage points of the error rate within which the student is to be as good as the teacher; that is
            judged too. Set it before the run, by what matters.
        out: Folder for the run; None to write nothing.
        resume: Continue what ``out`` holds.
        export: Write the student's weights after each epoch as HDF5, and at the end as nnet1 text too, into ``out``.
        jobs: How many trainings, of baselines and students, run at a time, each in a process of its own.
        ray: Instead: the address of a Ray cluster to train them on, or "local"; ``out`` must be there too.
        settings: More to keep in ``config.toml``.
        watcher: Hears how it goes.
        **training: Fields of :class:`~limbeck.options.Training`, such as ``epochs`` and ``learning_rate``.

    Returns:
        The student, the verdict, and all that was measured.

    Raises:
        ConfigError: If a setting is out of range, or contradicts another.
        MismatchError: If teacher and data have different classes.

    Example:
        >>> import torch
        >>> x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
        >>> y = (x[:, 0] > 0).long()
        >>> teacher = nn.Linear(4, 2)
        >>> _ = teacher.weight.data.copy_(torch.tensor([[-3.0, 0, 0, 0], [3.0, 0, 0, 0]]))
        >>> run = distill(teacher, nn.Linear(4, 2), (x[:100], y[:100]), (x[100:], y[100:]), epochs=2)
        >>> sorted(run.metrics)
        ['baseline', 'judged_on', 'margin', 'seeds', 'student', 'teacher', 'verdict']
    """
    options = from_keywords(Training, training)
    for name, count in (("seeds", seeds), ("jobs", jobs)):
        require(count >= 1, name, count, "at least 1")
    require_out(out, resume=resume, export=export)
    aims = Distillation(
        temperature=temperature,
        hard_weight=hard_weight,
        loss=loss,
        baseline_learning_rate=baseline_learning_rate,
        searched=searched,
    )
    data = as_data_set(train, validation, test, classes)
    if isinstance(student, str):
        student = model_maker(ModelOptions(model=student), data)
    made = starts(student, range(options.seed, options.seed + seeds), role="student", watcher=watcher)
    data = data.seen_by(made[0])
    source, unlabelled = data, "the training set has no labels"
    if transfer is not None:
        shown = as_part("transfer", transfer).without_labels().with_presentation(data.train.presentation)
        source = dataclasses.replace(data, train=shown).seen_by(made[0])
        unlabelled = "transfer examples are used without labels"
    if source.train.labels is None and aims.hard_weight > 0:
        raise ConfigError(f"hard_weight is {aims.hard_weight}, and {unlabelled}: set it to 0")
    if baseline and data.train.labels is None:
        raise ConfigError("a baseline learns from labels, and the training set has none: set baseline to False")
    if resume and out is not None and options.precision == "auto":
        options = dataclasses.replace(options, precision=settled_precision(out))
    device = find_device(options.device, options.precision)
    options = dataclasses.replace(options, precision=device.precision)
    augmentation = source.train.drawn(augmentation)
    guide = as_teacher(teacher, data.classes)
    check_classes("teacher", guide, data)
    require_logits(guide, aims.loss)
    if aims.loss == "kl" and aims.hard_weight < 1:
        require_temperature(guide, aims.temperature)
    home = device_of(guide)
    guide = guide.to(device.device).bind(source.train, augmentation)
    if guide.live:
        check_answers("teacher", guide, source)
    if aims.hard_weight < 1:
        verify_stores(guide, watcher)
    check_margin(margin, data, guide)
    check_answers("student", made[0], source)
    if aims.hard_weight < 1:
        tell_odd_teacher(guide, source.train, augmentation, aims.temperature, device, watcher, classes=data.classes)
        tell_probabilities("teacher", guide, source.train, device, watcher)
        tell_fitted_rows(guide, data, device, watcher)
    tell_probabilities("student", made[0], source.train, None, watcher)
    if baseline or aims.hard_weight > 0:
        tell_contradictions(data.train, watcher)
    elsewhere = None if transfer is None else source.train
    tell_shared_examples(data, ["validation"], watcher, transfer=elsewhere)

    def tell(done: int, count: int) -> None:
        (watcher or Watcher()).note(f"{done} of {count} trainings are done")

    def go(folder: RunFolder | None) -> DistillRun:
        keep_first_weights(folder, made)
        tell_reach(margin, data, watcher, teacher=guide)
        answered = answer_once(guide, source.train, data, augmentation, aims, options, device, watcher)
        apart = seeds * (1 + baseline) > 1 and (jobs > 1 or ray is not None)
        objective = DistillationObjective(
            answered,
            temperature=aims.temperature,
            hard_weight=aims.hard_weight,
            label_smoothing=options.label_smoothing,
            loss=aims.loss,
        )

        steps = -(-len(source.train) // options.batch_size)  # of student and baseline alike

        def tasks(hears: Watcher | None) -> Iterator[_Task]:
            for number in range(seeds):
                settled = dataclasses.replace(options, seed=options.seed + number)
                name = None if number == 0 else f"seeds/{number + 1}"
                roles: list[tuple[str | None, Objective, DataSet]] = [(name, objective, source)]
                if baseline:
                    aside = "baseline" if name is None else f"{name}/baseline"
                    roles.insert(0, (aside, LabelObjective(options.label_smoothing), data))
                for part, aim, examples in roles:
                    rate = aims.baseline_learning_rate if aim is not objective else None
                    yield partial(
                        fit_stage,
                        stage_for(folder, part, apart=apart),
                        copy_module(made[number], what="student"),
                        aim,
                        examples,
                        settled if rate is None else dataclasses.replace(settled, learning_rate=rate),
                        device,
                        augmentation=augmentation,
                        resume=resume or apart,  # a task that is begun again goes on
                        watcher=hears,
                        source=None if settings is None else settings.get("student"),
                        export=export and aim is objective,
                        steps=steps,
                    )

        if not apart:
            trained = [task() for task in tasks(watcher)]
        elif watcher is None or ray is not None:
            trained = run_jobs(list(tasks(None)), jobs=jobs, ray=ray, done=tell)
        else:
            with relayed(watcher, seeds * (1 + baseline) * options.epochs) as (relay, listen):
                trained = run_jobs(list(tasks(relay)), jobs=jobs, done=tell, tick=listen)
        pairs = _paired(trained, baseline=baseline)
        tell_equal_ends([pair.student for pair in pairs], role="students", watcher=watcher)
        tell_shared_examples(data, ["test"], watcher, transfer=elsewhere)
        result = judge_pairs(guide, pairs, data, options.seed, device, margin)
        if result.verdict is not None and aims.searched == "student":
            told = dataclasses.replace(result.verdict, sentence=f"{result.verdict.sentence} {_UNSEARCHED}")
            result = dataclasses.replace(result, verdict=told)
            result.metrics["verdict"] = told.to_dict()
        if folder is not None:
            folder.unseal_results()
            if result.answers:
                save_tensors(folder.path / "answers.safetensors", result.answers)
            folder.write_metrics(result.metrics)
        first = pairs[0]
        return DistillRun(
            first.student,
            first.baseline,
            result.verdict,
            result.margin,
            result.metrics,
            first.history,
            None if folder is None else folder.path,
        )

    if out is None:
        try:
            return go(None)
        finally:
            guide.to(home)
    kept = {**(settings or {}), **dataclasses.asdict(options), **dataclasses.asdict(augmentation)}
    kept |= {**dataclasses.asdict(aims), "seeds": seeds, "baseline": baseline, "export": export, "margin": margin}
    identity = {**data.identity(), "teacher": teacher_fingerprint(guide), **network_identity(made[0], "student")}
    identity |= {} if transfer is None else {"transfer": source.train.digest}
    with RunFolder(out).open_first("distill", kept, resume=resume, identity=identity) as folder:
        try:
            return go(folder)
        finally:
            guide.to(home)


_UNSEARCHED = "The student's settings were chosen by a search, and the baseline's were not: that favours the student."

_Task = Callable[[], tuple[nn.Module, list[dict[str, Any]]]]


def _paired(trained: Sequence[tuple[nn.Module, list[dict[str, Any]]]], *, baseline: bool) -> list[Pair]:
    """Each student with its baseline, where baselines and students take turns."""
    students = trained[1::2] if baseline else trained
    alone = [model for model, _ in trained[::2]] if baseline else [None] * len(trained)
    return [Pair(model, beside, history) for (model, history), beside in zip(students, alone, strict=True)]
