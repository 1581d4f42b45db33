"""The plan of a distillation: teacher, students, data and settings, decided before anything is trained."""

__all__ = ["DistillPlan", "plan_distillation", "student_data"]

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from limbeck.data.data_set import DataSet, as_transfer
from limbeck.errors import ConfigError
from limbeck.methods import Method, make_method
from limbeck.options import Augmentation, Distillation, ModelOptions, Training
from limbeck.options.methods import OWN, names_code
from limbeck.protocols import Teacher
from limbeck.runs.claims import check_margin
from limbeck.runs.data_warnings import (
    tell_contradictions,
    tell_foreign_teacher,
    tell_padding,
    tell_scale_of_training,
    tell_shared_examples,
    tell_trained_on,
)
from limbeck.runs.execution import Execution
from limbeck.runs.initial_models import starts
from limbeck.runs.inputs import as_part, check_answers, verify_stores
from limbeck.runs.models_for_data import named_model
from limbeck.runs.result_warnings import tell_teacher_unused
from limbeck.runs.unused import tell_class_weights, tell_unused, unused_in_distillation, unused_in_training
from limbeck.softtargets.digests import network_identity, teacher_fingerprint
from limbeck.system.devices import Device
from limbeck.teacher_warnings import tell_fitted_rows, tell_odd_teacher, tell_probabilities
from limbeck.training.objective import require_teacher
from limbeck.training.optimizers import make_optimizer


@dataclass(frozen=True, kw_only=True)
class DistillPlan:
    """The decisions of a distillation, made before anything is trained.

    Attributes:
        guide: The teacher, on the device and bound to the student's examples.
        made: Students with their initial weights, one per seed.
        data: The baselines' training data, and the evaluation data.
        source: The students' training data: ``data``, or the same with the transfer set as its training examples.
        aims: The distillation settings.
        method: The method; each student gets a copy.
        options: The training settings, with the measured precision.
        augmentation: Augmentation of students and baselines.
        taught: Augmentation of the teacher.
        device: Where to compute.
        baseline: Whether each student has a baseline.
        margin: Non-inferiority margin to the teacher in percentage points, or None.
        execution: The folder, the processes and callbacks.
        fitted_told: Whether there was a warning that the teacher was fitted on the training rows.
    """

    guide: Teacher
    made: list[nn.Module]
    data: DataSet
    source: DataSet
    aims: Distillation
    method: Method
    options: Training
    augmentation: Augmentation
    taught: Augmentation
    device: Device
    baseline: bool
    margin: float | None
    execution: Execution
    fitted_told: bool = False

    @property
    def seeds(self) -> int:
        """The number of students."""
        return len(self.made)

    @property
    def asks(self) -> bool:
        """Whether the teacher is used: labels alone need none."""
        return self.aims.hard_weight < 1

    @property
    def transfers(self) -> bool:
        """Whether students and baselines have different training examples."""
        return self.source is not self.data

    @property
    def steps(self) -> int:
        """Steps per epoch, the same for student and baseline."""
        return -(-len(self.source.train) // self.options.batch_size)

    def settings(self) -> dict[str, Any]:
        """The settings saved in ``config.toml``."""
        kept = {**dataclasses.asdict(self.options), **dataclasses.asdict(self.augmentation)}
        kept |= {**dataclasses.asdict(self.aims), "seeds": self.seeds, "baseline": self.baseline}
        return kept | {"save_hdf5": self.execution.save_hdf5, "margin": self.margin}

    def identity(self) -> dict[str, Any]:
        """Digests that a resumed run must match."""
        found = {**self.data.identity(), "teacher": teacher_fingerprint(self.guide)}
        found |= network_identity(self.made[0], "student")
        if self.aims.method == OWN or names_code(self.aims.method):
            found["method"] = self.method.fingerprint()
        return found | ({"transfer": self.source.train.digest} if self.transfers else {})


def student_data(
    student: nn.Module | Callable[[int], nn.Module] | str | ModelOptions,
    data: DataSet,
    transfer: Any,
    options: Training,
    seeds: int,
    execution: Execution,
) -> tuple[list[nn.Module], DataSet, DataSet]:
    """Make the students, and the data in their presentation.

    Args:
        student: A module, a function that makes one, or the name of an architecture.
        data: Examples with labels.
        transfer: Inputs of the transfer set, or None.
        options: The training settings; their seed is the first student's.
        seeds: Number of students.
        execution: The callbacks.

    Returns:
        A student per seed, the data of baselines and evaluation, and those of students; without a transfer set the two
        are the same.
    """
    made = starts(
        named_model(student, data),
        range(options.seed, options.seed + seeds),
        role="student",
        callback=execution.callback,
    )
    data = data.seen_by(made[0])
    if transfer is None:
        return made, data, data
    shown = as_transfer(as_part("transfer", transfer), data, "transfer (--transfer)")
    return made, data, dataclasses.replace(data, train=shown).seen_by(made[0])


def plan_distillation(
    teacher: Teacher,
    made: list[nn.Module],
    data: DataSet,
    source: DataSet,
    aims: Distillation,
    options: Training,
    augmentation: Augmentation | None,
    *,
    baseline: bool,
    margin: float | None,
    execution: Execution,
    own: Method | None = None,
) -> DistillPlan:
    """Validate the inputs of a distillation and make its plan.

    Args:
        teacher: The teacher.
        made: Students with their initial weights.
        data: The baselines' training data, and the evaluation data.
        source: The students' training data.
        aims: The distillation settings.
        options: The training settings.
        augmentation: The augmentation, or None.
        baseline: Whether to train baselines.
        margin: Non-inferiority margin to the teacher in percentage points, or None.
        execution: The folder, the processes and callbacks.
        own: The method, where ``aims`` does not name it.

    Returns:
        The plan, with the teacher on the device.

    Raises:
        ConfigError: If labels are needed and missing, or settings do not fit the teacher.
        MismatchError: If teacher, student and data do not belong together.
    """  # noqa: DOC502
    method = own or make_method(
        aims.method, aims.method_options, temperature=aims.temperature, classes=len(data.classes)
    )
    _require_labels(data, source, aims, method, baseline=baseline)
    options, device = execution.settle(options)
    make_optimizer(made[0], options, device)  # refuses user-defined ones that cannot be trained
    views = source.train.drawn(augmentation)
    taught = views.for_teacher(aims.teacher_view)
    _require_teacher(teacher, data, aims, method, options.epochs)
    guide = teacher.to(device.device).bind(source.train, taught)
    if guide.live:
        check_answers("teacher", guide, source)
    if aims.hard_weight < 1:
        verify_stores(guide, execution.callback)
    check_margin(margin, data, guide)
    check_answers("student", made[0], source)
    plan = DistillPlan(
        guide=guide, made=made, data=data, source=source, aims=aims, method=method, options=options,
        augmentation=views, taught=taught, device=device, baseline=baseline, margin=margin, execution=execution,
    )  # fmt: skip
    return dataclasses.replace(plan, fitted_told=_warn_of_data_and_teacher(plan))


def _require_labels(data: DataSet, source: DataSet, aims: Distillation, method: Method, *, baseline: bool) -> None:
    """Refuse settings that need labels where there are none."""
    if source.train.labels is None and (aims.hard_weight > 0 or method.needs_labels):
        transfers = source is not data
        why = "transfer examples are used without labels" if transfers else "the training set has no labels"
        if aims.hard_weight == 0:
            raise ConfigError(f"method {method.name} needs labels, and {why}: use kd")
        raise ConfigError(f"hard_weight is {aims.hard_weight}, and {why}: set it to 0")
    if aims.hard_weight == 0 and not method.reads_logits:
        raise ConfigError(
            f"method {method.name} trains only features, and hard_weight is 0, so that nothing would train the "
            "classifier: give hard_weight, or add kd"
        )
    if baseline and data.train.labels is None:
        raise ConfigError("a baseline learns from labels, and the training set has none: set baseline to False")


def _require_teacher(guide: Teacher, data: DataSet, aims: Distillation, method: Method, epochs: int) -> None:
    """Refuse a teacher, or a number of classes or epochs, that the method cannot use."""
    if aims.hard_weight < 1:
        method.require(len(data.classes))
        method.require_epochs(epochs)
        require_teacher(guide, method)


def _warn_of_data_and_teacher(plan: DistillPlan) -> bool:
    """Warn of suspicious teachers, students and data; True where the teacher was seen to be fitted on the rows."""
    guide, source, data, callback = plan.guide, plan.source, plan.data, plan.execution.callback
    unused = unused_in_distillation(plan.aims, plan.options, baseline=plan.baseline)
    unused += unused_in_training(
        plan.options, source, plan.augmentation, kept=plan.execution.out is not None, jobs=plan.execution.jobs,
        trainings=plan.seeds * (1 + plan.baseline),
    )  # fmt: skip
    tell_unused(unused, callback)
    tell_teacher_unused(plan.aims, callback)
    tell_class_weights(plan.options, data, source, callback)
    fitted = False
    if plan.asks:
        temperature = plan.method.temperature
        tell_odd_teacher(
            guide, source.train, plan.taught, temperature, plan.device, callback, classes=data.classes
        )  # fmt: skip
        tell_probabilities("teacher", guide, source.train, plan.device, callback)
        fitted = tell_fitted_rows(guide, data, plan.device, callback)
        tell_padding("teacher", guide, source.train, callback)
        tell_trained_on("teacher", guide, data, callback)
        tell_scale_of_training("teacher", guide, source.train)
        tell_foreign_teacher(guide, data, callback)
    tell_probabilities("student", plan.made[0], source.train, None, callback)
    tell_padding("student", plan.made[0], source.train, callback)
    tell_trained_on("student", plan.made[0], data, callback)
    if plan.baseline or plan.aims.hard_weight > 0:
        tell_contradictions(data.train, callback)
    tell_shared_examples(data, ["validation"], callback, transfer=source.train if plan.transfers else None)
    return fitted
