"""The plan of a compression: stages, rank rule, and the teacher of the fine-tuning."""

__all__ = ["CompressPlan", "plan_compression"]

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from limbeck.data.data_set import DataSet
from limbeck.errors import ConfigError, DataError
from limbeck.lowrank import Convolutions, Metric, Placement, is_budget
from limbeck.models import has_int8
from limbeck.options import Augmentation, FineTuning, RankRule
from limbeck.protocols import Answering, Teacher
from limbeck.runs.claims import check_margin
from limbeck.runs.data_warnings import tell_shared_examples
from limbeck.runs.execution import Execution
from limbeck.runs.folder import RunFolder
from limbeck.runs.inputs import check_answers, check_classes, teacher_for, verify_stores
from limbeck.runs.ranks import Decided
from limbeck.runs.units import By
from limbeck.runs.unused import tell_unused, unused_in_compression
from limbeck.softtargets.digests import teacher_fingerprint
from limbeck.system.callbacks import Callback
from limbeck.system.devices import find_device
from limbeck.teacher_warnings import tell_probabilities
from limbeck.teachers import as_teacher


@dataclass(frozen=True, kw_only=True)
class CompressPlan:
    """The decisions of a compression, made before any layer is changed.

    Attributes:
        model: The original network.
        data: The data, for calibration, fine-tuning, validation and testing.
        rule: The rank rule.
        given: Ranks or units that were decided before, or None.
        by: Whether layers get a low rank, or lose units.
        tuning: Settings of the fine-tuning.
        guide: The teacher of the fine-tuning.
        own_teacher: Whether that is not the original network.
        augmentation: The augmentation of the fine-tuning.
        int8: Whether weights are quantised at the end.
        metric: The metric of truncation errors, or None.
        calibration: How many training examples to calibrate with.
        placement: Which factor gets the singular values.
        convolutions: The allowed factorisations of convolutions.
        role: Display name of the network.
        beside: Other models to show, by role.
        margin: Non-inferiority margin of the last stage in percentage points, or None.
        execution: The folder and callbacks.
    """

    model: nn.Module
    data: DataSet
    rule: RankRule
    given: Decided | None
    by: By
    tuning: FineTuning
    guide: Teacher
    own_teacher: bool
    augmentation: Augmentation
    int8: bool
    metric: Metric | None
    calibration: int
    placement: Placement
    convolutions: Convolutions
    role: str
    beside: Mapping[str, nn.Module | Teacher]
    margin: float | None
    execution: Execution

    def settled(self) -> "CompressPlan":
        """The plan with the precision of the fine-tuning, as measured at the start of the run or now."""
        tuning = self.tuning
        if not tuning.finetune_epochs or tuning.precision != "auto":
            return self
        if self.execution.resume and self.execution.out is not None:
            found = RunFolder(self.execution.out).settled("precision", "auto")
            tuning = dataclasses.replace(tuning, precision=found)
        tuning = dataclasses.replace(tuning, precision=find_device(tuning.device, tuning.precision).precision)
        return dataclasses.replace(self, tuning=tuning)

    def settings(self) -> dict[str, Any]:
        """The settings saved in ``config.toml``."""
        kept = {**dataclasses.asdict(self.rule), **dataclasses.asdict(self.tuning)}
        kept |= {**dataclasses.asdict(self.augmentation), "int8": self.int8, "metric": self.metric}
        kept |= {"margin": self.margin, "calibration": self.calibration, "placement": self.placement}
        return kept | {"convolutions": self.convolutions, "by": self.by}

    def identity(self) -> dict[str, Any]:
        """Digests that a resumed run must match."""
        of = {"teacher": teacher_fingerprint(self.guide), "network": teacher_fingerprint(self.model)}
        return {**self.data.identity(), **of}


def plan_compression(
    model: nn.Module,
    data: DataSet,
    rule: RankRule,
    given: Decided | None,
    tuning: FineTuning,
    teacher: nn.Module | Answering | None,
    augmentation: Augmentation | None,
    *,
    by: By,
    int8: bool,
    metric: Metric | None,
    calibration: int,
    placement: Placement,
    convolutions: Convolutions,
    role: str,
    before: Mapping[str, nn.Module | Teacher],
    margin: float | None,
    execution: Execution,
) -> CompressPlan:
    """Validate the inputs of a compression and make its plan.

    Args:
        model: The network.
        data: The data in the network's presentation.
        rule: The rank rule.
        given: A given plan of ranks, or None.
        tuning: The fine-tuning.
        teacher: A teacher other than the network, or None.
        augmentation: The augmentation, or None.
        by: Whether layers get a low rank, or lose units.
        int8: Whether weights are quantised at the end.
        metric: The metric of truncation errors, or None.
        calibration: How many training examples to calibrate with.
        placement: Which factor gets the singular values.
        convolutions: The allowed factorisations of convolutions.
        role: Display name of the network.
        before: Other models to show, by role.
        margin: Non-inferiority margin of the last stage in percentage points, or None.
        execution: The folder and callbacks.

    Returns:
        The plan.

    Raises:
        ConfigError: If there is nothing to do, or settings contradict each other.
        DataError: If there is nothing to compress.
        MismatchError: If model, teacher and data do not belong together.
    """  # noqa: DOC502
    callback = execution.callback
    _check(model, rule, given, int8, tuning)
    _check_units(by, rule, metric)
    _check_roles(role, before)
    _check_tuning(tuning, data, taught=teacher is not None)
    check_margin(margin, data)
    check_classes("network", model, data)
    check_answers("network", model, data)
    tell_probabilities("network", model, data.train, None, callback)
    tell_shared_examples(data, ["validation"], callback)
    views = data.train.drawn(augmentation)
    beside = {name: each if isinstance(each, nn.Module) else as_teacher(each) for name, each in before.items()}
    _tell_unused(tuning, views, callback)
    unused = unused_in_compression(
        rule, by=by, planned=given is not None, metric=metric, calibration=calibration, placement=placement,
        convolutions=convolutions,
    )  # fmt: skip
    tell_unused(unused, callback)
    guide = teacher_for(model if teacher is None else teacher, data).bind(data.train, views)
    if teacher is not None and guide.live:
        check_answers("teacher", guide, data)
    for name, each in before.items():
        if isinstance(each, nn.Module):
            check_answers(name, each, data)
    if tuning.finetune_epochs:
        verify_stores(guide, callback)
    return CompressPlan(
        model=model, data=data, rule=rule, given=given, by=by, tuning=tuning, guide=guide,
        own_teacher=teacher is not None,
        augmentation=views, int8=int8, metric=metric, calibration=calibration, placement=placement,
        convolutions=convolutions, role=role,
        beside=beside, margin=margin, execution=execution,
    )  # fmt: skip


def _check_tuning(tuning: FineTuning, data: DataSet, *, taught: bool) -> None:
    """Refuse a teacher without fine-tuning, and a hard weight without labels."""
    if taught and not tuning.finetune_epochs:
        raise ConfigError("the teacher is for fine-tuning: give finetune_epochs too, or leave the teacher out")
    if tuning.finetune_epochs and tuning.hard_weight > 0 and data.train.labels is None:
        raise ConfigError(f"hard_weight is {tuning.hard_weight}, and the training set has no labels: set it to 0")


def _check_units(by: By, rule: RankRule, metric: Metric | None) -> None:
    """Refuse for units what is for ranks alone."""
    if by != "units":
        return
    if rule.name is not None and not is_budget(rule):
        raise ConfigError(
            f"units are pruned within a budget: give parameters, flops, size or latency instead of {rule.name}"
        )
    if metric not in {None, "divergence"}:
        raise ConfigError(f"units are chosen by the divergence of the answers: leave metric {metric} out")


def _check(model: nn.Module, rule: RankRule, plan: Decided | None, int8: bool, tuning: FineTuning) -> None:
    if rule.name is not None and plan is not None:
        raise ConfigError(f"a plan fixes the ranks: leave {rule.name} out")
    ranked = rule.name is not None or plan is not None
    if not ranked and not int8:
        names = ", ".join(field.name for field in dataclasses.fields(RankRule))
        raise ConfigError(f"there is nothing to do: give one rank rule ({names}), a plan, or int8")
    if not ranked and tuning.finetune_epochs:
        raise ConfigError(
            "fine-tuning makes up for low rank or units that went: give a rank rule too, or leave finetune_epochs out"
        )
    if has_int8(model):
        raise DataError("the network has 8-bit weights already: compress the original")


_STAGES = (
    *(f"{way}{after}" for way in ("svd", "pruned") for after in ("", " + fine-tune", " + int8", " + fine-tune + int8")),
    "int8",
)
"""Names of the stages."""


def _check_roles(role: str, before: Mapping[str, object]) -> None:
    """Refuse display names that clash with those of other models."""
    for what, name in [("role", role), *(("before", name) for name in before)]:
        if not isinstance(name, str) or not name.strip():
            raise ConfigError(f"{what} names a model, such as 'original', and is {name!r}")
        if name in _STAGES:
            raise ConfigError(f"{what} is {name!r}, which is what a compressed network is called: choose another name")
    if role in before:
        raise ConfigError(f"before holds {role!r}, which is what the network itself is called: choose another name")


def _tell_unused(tuning: FineTuning, augmentation: Augmentation, callback: Callback | None) -> None:
    """Warn of fine-tuning settings where there is no fine-tuning."""
    if tuning.finetune_epochs:
        return
    used = {"finetune_epochs", "seed", "device", "precision"}
    plain = FineTuning()
    names = [field.name for field in dataclasses.fields(tuning) if field.name not in used]
    names = [name for name in names if getattr(tuning, name) != getattr(plain, name)]
    names += ["augmentation"] if augmentation.active else []
    if names:
        (callback or Callback()).on_warning(
            f"{', '.join(names)} belong{'s' if len(names) == 1 else ''} to fine-tuning, and there is none: give "
            "finetune_epochs, or leave them out"
        )
