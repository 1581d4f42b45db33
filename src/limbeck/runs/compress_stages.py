"""The stages of a compression: low rank or fewer units, fine-tuning, 8-bit weights, each made of the one before."""

__all__ = ["Made", "make_stages", "save_stage"]

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from limbeck.data.trained_rows import trained_rows
from limbeck.inputs import move
from limbeck.lowrank import apply
from limbeck.lowrank.plan import RankPlan
from limbeck.models import (
    close_attention,
    close_conv1d,
    count_parameters,
    has_conv1d,
    open_attention,
    open_conv1d,
    to_int8,
)
from limbeck.models.calling import call_model, evaluating
from limbeck.models.copying import copy_module
from limbeck.models.replaceable import whole_layers
from limbeck.options import Training
from limbeck.runs.answer_cache import answer_once
from limbeck.runs.compress_plan import CompressPlan
from limbeck.runs.folder import RunFolder
from limbeck.runs.models import rows_trained_on, save_model
from limbeck.runs.ranks import Decided, choose_ranks, read_plan, write_plan
from limbeck.runs.stages import Stage
from limbeck.runs.units import choose_units, without_those
from limbeck.system.callbacks import Callback
from limbeck.system.devices import Device, find_device
from limbeck.teacher_warnings import tell_odd_teacher, tell_probabilities
from limbeck.teachers import lent
from limbeck.training.objective import DistillationObjective

_CLOSE = 1e-3
"""Share of the largest logit within which a network answers the same where its attention is computed by layers."""


@dataclass(frozen=True)
class Made:
    """The networks of a compression.

    Attributes:
        last: The last stage, or the network itself where there is none.
        stages: All of them by name, in order.
        ranks: The plan of the first stage, and the spectrum of ranks; or None.
    """

    last: nn.Module
    stages: Mapping[str, nn.Module]
    ranks: Decided | None


def make_stages(plan: CompressPlan, folder: RunFolder | None) -> Made:
    """Run each stage that is asked for.

    Args:
        plan: The plan.
        folder: The run's folder, or None.

    Returns:
        The networks.
    """
    base = _opened(plan.model, plan)
    ranks = _ranks(plan, base, folder)
    stages: dict[str, nn.Module] = {}
    name, last, whole = "", base, dict[str, str]()
    if ranks is not None:
        whole = {layer.name: layer.reason for layer in (ranks[1].layers if ranks[1] else ()) if layer.reason}
        _tell_whole(whole, "whole", plan.execution.callback)
        name, last = ranks[0].stage, _closed(_smaller(plan, base, ranks)).eval()
        stages[name] = last
        if count_parameters(last) >= count_parameters(base) and not plan.int8:
            (plan.execution.callback or Callback()).on_warning(
                f"no layer was made smaller: as it is, the network of {count_parameters(base):,} parameters is within "
                "what was asked for"
            )
        if folder is not None:
            write_plan(folder, *ranks)
            if plan.tuning.finetune_epochs or plan.int8:  # else it is the last stage, saved as the run's model
                save_stage(folder.sub(name), last, plan)
    if plan.tuning.finetune_epochs:
        place = None if folder is None else folder.sub(f"{name}-fine-tune")
        name, last = f"{name} + fine-tune", _finetune(plan, last, place)
        stages[name] = last
    if plan.int8:
        last = _opened(last, plan)
        floats = whole_layers(last, plan.data.train.as_seen(slice(0, 1)))
        last = _closed(to_int8(last, whole=floats))
        untold = {layer: why for layer, why in floats.items() if layer not in whole}
        _tell_whole(untold, "float32", plan.execution.callback)
        stages[f"{name} + int8" if name else "int8"] = last
    return Made(last, stages, ranks)


def _opened(model: nn.Module, plan: CompressPlan) -> nn.Module:
    """A network with the projections of attention as linear layers, where it answers the same."""
    few = plan.data.train.as_seen(slice(0, 2))

    def ask(asked: nn.Module) -> Tensor:
        with evaluating(asked), torch.no_grad():
            return call_model(asked, move(few, next(asked.parameters()).device))

    if not has_conv1d(model) and not any(type(part) is nn.MultiheadAttention for part in model.modules()):
        return model
    made, expected = open_conv1d(open_attention(model, call=lambda: ask(model))), ask(model)
    away = float((ask(made) - expected).abs().max())
    return made if away <= _CLOSE * max(1.0, float(expected.abs().max())) else model


def _closed(model: nn.Module) -> nn.Module:
    """A network in which what did not change is of the library's own class again."""
    return close_conv1d(close_attention(model))


def save_stage(folder: RunFolder, stage: nn.Module, plan: CompressPlan) -> None:
    """Write a stage's network, and record its files.

    Args:
        folder: The stage's folder.
        stage: The network.
        plan: The plan.
    """
    data = plan.data
    folder.unseal_stage()
    save_model(
        folder.path / "model", stage, classes=data.classes, source=plan.execution.origin("model"),
        reading=data.reading, trained_on=rows_trained_on(plan.model) or trained_rows(data.train), overwrite=True,
    )  # fmt: skip
    folder.seal_stage()


def _smaller(plan: CompressPlan, base: nn.Module, decided: Decided) -> nn.Module:
    """The network of a plan, made of one whose layers are open."""
    how, spectrum = decided
    if isinstance(how, RankPlan):
        return apply(how, base, spectrum)
    return without_those(base, plan.data, how, calibration=plan.calibration, seed=plan.tuning.seed)


def _ranks(plan: CompressPlan, base: nn.Module, folder: RunFolder | None) -> Decided | None:
    """The given ranks, those that the run has decided already, or those of the rule."""
    if plan.given is not None:
        return plan.given
    if folder is not None and (folder.path / "plan.json").exists():
        return read_plan(folder.path)
    if plan.rule.name is None:
        return None
    if plan.by == "units":
        chosen = choose_units(
            base, plan.data, plan.rule, calibration=plan.calibration, int8=plan.int8, seed=plan.tuning.seed
        )
        return chosen, None
    return choose_ranks(
        base, plan.data, plan.rule, metric=plan.metric, calibration=plan.calibration,
        placement=plan.placement, convolutions=plan.convolutions, int8=plan.int8, seed=plan.tuning.seed,
    )  # fmt: skip


def _finetune(plan: CompressPlan, small: nn.Module, folder: RunFolder | None) -> nn.Module:
    """Fine-tune the compressed network with the original network or another teacher."""
    tuning = plan.tuning
    options = tuning.training(tuning.finetune_epochs)
    device = find_device(options.device, options.precision)
    options = dataclasses.replace(options, precision=device.precision)
    with lent(plan.guide):
        return _taught(plan, small, folder, options, device)


def _taught(
    plan: CompressPlan, small: nn.Module, folder: RunFolder | None, options: Training, device: Device
) -> nn.Module:
    data, callback, aims = plan.data, plan.execution.callback, plan.tuning.aims
    guide = plan.guide.to(device.device)
    if plan.own_teacher and aims.hard_weight < 1:
        tell_probabilities("teacher", guide, data.train, device, callback)
        tell_odd_teacher(guide, data.train, plan.augmentation, aims.temperature, device, callback, classes=data.classes)
    objective = DistillationObjective(
        answer_once(
            guide,
            data.train,
            data,
            plan.augmentation,
            options,
            device,
            callback,
            temperature=aims.temperature if aims.hard_weight < 1 else None,
        ),  # fmt: skip
        temperature=aims.temperature,
        hard_weight=aims.hard_weight,
    )
    tuned, _ = Stage(
        folder, copy_module(small), objective, data, options, device, augmentation=plan.augmentation,
        resume=plan.execution.resume, callback=callback, name="fine-tuning",
        continues=True,
    )()  # fmt: skip
    return tuned


def _tell_whole(reasons: Mapping[str, str], stays: str, callback: Callback | None) -> None:
    """Warn of layers that stay unchanged, grouped by reason."""
    for reason in dict.fromkeys(reasons.values()):
        names = [name for name, other in reasons.items() if other == reason]
        shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
        (callback or Callback()).on_warning(f"{shown} stay{'s' if len(names) == 1 else ''} {stays}: {reason}")
