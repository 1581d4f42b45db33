"""The ranks of a network: chosen by settings and training data, saved in a run's folder, and loaded."""

__all__ = ["Decided", "calibration_inputs", "choose_ranks", "read_plan", "write_plan"]

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from limbeck.data.data_set import DataSet
from limbeck.errors import ConfigError
from limbeck.inputs import Inputs, first_few
from limbeck.lowrank import (
    Convolutions,
    Metric,
    Placement,
    RankPlan,
    Spectrum,
    budget_range,
    is_budget,
    look,
    metric_for,
    most_for,
    parse_bytes,
    plan_by_rule,
    plan_ranks,
    restructure,
)
from limbeck.models import to_int8
from limbeck.models.replaceable import whole_layers
from limbeck.options import RankRule
from limbeck.pruning.plan import FORMAT as PRUNE_FORMAT
from limbeck.pruning.plan import PrunePlan
from limbeck.runs.folder import RunFolder
from limbeck.runs.latency import fit_latency, parse_seconds
from limbeck.runs.measure import file_bytes
from limbeck.system.files import read_json
from limbeck.training.checkpoint import save_tensors

Decided = tuple[RankPlan | PrunePlan, Spectrum | None]
"""A plan, and for ranks what it was made from."""


def choose_ranks(
    model: nn.Module,
    data: DataSet,
    rule: RankRule,
    *,
    metric: Metric | None = None,
    calibration: int = 2000,
    placement: Placement = "input",
    convolutions: Convolutions = "best",
    int8: bool = False,
    seed: int = 0,
) -> tuple[RankPlan, Spectrum]:
    """Choose the ranks of a network with training data.

    Args:
        model: The network.
        data: The data; training examples are used for calibration.
        rule: The rank rule.
        metric: See :func:`limbeck.lowrank.look`; None: the default of the rule.
        calibration: Number of calibration examples.
        placement: Which factor gets the singular values.
        convolutions: Whether a budget may factorise convolutions spatially, into columns and rows ("best").
        int8: Whether a size budget is with 8-bit weights.
        seed: Seed of the choice of examples.

    Returns:
        The plan and its spectrum.

    Raises:
        ConfigError: If the rule is infeasible, or calibration is not positive.
    """
    if rule.name is None:
        raise ConfigError("give a rank rule")
    if rule.latency is not None:
        parse_seconds(rule.latency)  # before anything is computed
    chosen = metric or metric_for(rule)
    inputs = calibration_inputs(data, calibration, seed)
    calibrating = None if chosen == "weights" else inputs
    spectrum = look(
        model,
        calibrating,
        metric=chosen,
        example=first_few(inputs),
        most=most_for(rule),
        spatial=convolutions == "best" and is_budget(rule),
        seed=seed,
    )
    if rule.size is not None:
        whole = whole_layers(model, first_few(inputs)) if int8 else None
        return _fit_size(model, spectrum, rule.size, placement, whole), spectrum
    if rule.latency is not None:
        whole = whole_layers(model, first_few(inputs)) if int8 else None
        plan = fit_latency(model, spectrum, rule.latency, first_few(inputs), placement=placement, int8=whole)
        return plan, spectrum
    return plan_by_rule(spectrum, rule, placement=placement), spectrum


def calibration_inputs(data: DataSet, calibration: int, seed: int) -> Inputs:
    """Training examples to calibrate with.

    Args:
        data: The data.
        calibration: How many.
        seed: Of the choice.

    Returns:
        Inputs as the network sees them.

    Raises:
        ConfigError: If none are asked for.
    """
    if calibration < 1:
        raise ConfigError(f"calibration must be at least 1, and is {calibration}")
    rows = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed))[:calibration]
    return data.train.as_seen(rows)


def _fit_size(
    model: nn.Module, spectrum: Spectrum, size: str, placement: Placement, whole: Mapping[str, str] | None
) -> RankPlan:
    """The largest plan whose file, including its header, is within a size; in 8 bits except for ``whole``, if given."""
    wanted, int8 = parse_bytes(size, share_of=file_bytes(model)), whole is not None

    def bytes_of(plan: RankPlan) -> int:
        small = restructure(model, plan.ranks, plan.spatial, plan.tucker)
        return file_bytes(small if whole is None else to_int8(small, round_weights=False, whole=whole))

    smallest = plan_ranks(spectrum, size=budget_range(spectrum, "size")[0], placement=placement)
    if (least := bytes_of(smallest)) > wanted:
        raise ConfigError(
            f"size {size} is {wanted:,} bytes, and the smallest file, every layer at rank 1, has {least:,}"
        )
    best, low, high = smallest, smallest.bytes_after, 5 * wanted if int8 else wanted
    while low <= high:
        middle = (low + high) // 2
        plan = plan_ranks(spectrum, size=middle, placement=placement)
        if bytes_of(plan) <= wanted:
            best, low = plan, middle + 1
        else:
            high = middle - 1
    return dataclasses.replace(best, rule=f"size {size}")


def read_plan(path: Path) -> Decided:
    """A plan of ranks or of units, and the spectrum beside it where the plan needs one.

    Args:
        path: ``plan.json``, or the run folder with it.

    Returns:
        Both.
    """
    file = path / "plan.json" if path.is_dir() else path
    if _says(file, PRUNE_FORMAT):
        return PrunePlan.load(file), None
    plan = RankPlan.load(file)
    return plan, None if plan.spectrum_digest is None else Spectrum.load(file.parent / "spectrum.safetensors")


def _says(file: Path, format: str) -> bool:
    content = read_json(file)
    return isinstance(content, dict) and content.get("format") == format


def write_plan(run: RunFolder, plan: RankPlan | PrunePlan, spectrum: Spectrum | None) -> None:
    """Save a plan, its spectrum where it needs one, and the singular values for a report.

    Args:
        run: The run.
        plan: The ranks, or the units that stay.
        spectrum: What ranks were made from, or None.
    """
    folder = run.path
    run.unseal_plan()
    # The spectrum first: an existing plan can always be applied.
    if spectrum is not None and isinstance(plan, RankPlan):
        if plan.spectrum_digest is not None:
            spectrum.save(folder / "spectrum.safetensors")
        forms = {
            layer.name: layer.forms.get("spatial" if layer.name in plan.spatial else "channels")
            for layer in spectrum.layers
        }
        values = {name: form.decomposition.values for name, form in forms.items() if form is not None}
        named = {name or "(network)": torch.from_numpy(each).float() for name, each in values.items()}
        save_tensors(folder / "singular_values.safetensors", named)
    plan.save(folder / "plan.json")
    run.seal_plan()
