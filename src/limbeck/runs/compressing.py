"""Make a trained network smaller: low rank, distillation from the network as it was, 8-bit weights."""

__all__ = ["CompressRun", "compress"]

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.arguments import checked_arguments
from limbeck.data.data_set import DataSet
from limbeck.errors import ConfigError, DataError
from limbeck.evaluation.non_inferiority import MarginVerdict, judge_margin
from limbeck.lowrank import Metric, Placement, RankPlan, Spectrum, apply
from limbeck.models import has_int8, to_int8
from limbeck.models.calling import autograd_enabled
from limbeck.models.copying import copy_module
from limbeck.models.replaceable import whole_layers
from limbeck.odd_teachers import tell_odd_teacher, tell_probabilities
from limbeck.options import Augmentation, FineTuning, RankRule
from limbeck.protocols import Answering, Teacher
from limbeck.runs.answering import answer_once
from limbeck.runs.claims import check_margin, tell_reach
from limbeck.runs.folder import RunFolder, require_out
from limbeck.runs.inputs import as_data_set, check_answers, check_classes, verify_stores
from limbeck.runs.measure import Answers, answers_of, labels_of, scores_of, size_of, speed_of, title_of
from limbeck.runs.models import save_model
from limbeck.runs.oddities import tell_shared_examples
from limbeck.runs.ranks import choose_ranks, read_plan, write_plan
from limbeck.runs.speed import placed
from limbeck.runs.training import fit_stage
from limbeck.softtargets.digests import teacher_fingerprint
from limbeck.system.devices import find_device
from limbeck.system.watcher import Watcher
from limbeck.teachers import as_teacher
from limbeck.training.checkpoint import save_tensors
from limbeck.training.objective import DistillationObjective


@dataclass(frozen=True)
class CompressRun:
    """What compression left.

    Attributes:
        model: The last stage, a module in evaluation mode on the CPU.
        plan: The ranks, or None where only weights were rounded.
        spectrum: What the plan was made from, or None.
        margin: Whether the last stage is as good as the network was within the margin; None without one.
        metrics: What ``metrics.json`` holds: ``judged_on``, ``stages`` in order, each with its scores, and ``margin``.
        folder: Where it all is, or None.
    """

    model: nn.Module
    plan: RankPlan | None
    spectrum: Spectrum | None
    margin: MarginVerdict | None
    metrics: dict[str, Any]
    folder: Path | None


@autograd_enabled
@checked_arguments
def compress(
    model: nn.Module,
    train: Any,
    validation: Any = None,
    *,
    test: Any = None,
    classes: Sequence[str] | None = None,
    rule: RankRule | None = None,
    plan: tuple[RankPlan, Spectrum | None] | RankPlan | None = None,
    int8: bool = False,
    metric: Metric | None = None,
    calibration: int = 2000,
    placement: Placement = "input",
    finetuning: FineTuning | None = None,
    teacher: nn.Module | Answering | None = None,
    augmentation: Augmentation | None = None,
    role: str = "original",
    before: Mapping[str, nn.Module | Teacher] | None = None,
    margin: float | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    settings: Mapping[str, Any] | None = None,
    watcher: Watcher | None = None,
) -> CompressRun:
    """Make a network smaller, stage by stage, and judge every stage.

    The stages are ``svd`` (each layer as two of low rank), ``svd + fine-tune`` (distilled from the network as it was)
    and ``int8`` (linear layers with 8-bit weights), each only where it is asked for.

    Args:
        model: The network; it is left as it was.
        train: A :class:`~limbeck.data.DataSet`, or training examples as a pair of inputs and labels: to calibrate and
            fine-tune with.
        validation: Examples to choose the best epoch by.
        test: Examples to judge the stages on; without them they are judged on validation.
        classes: Names of the classes.
        rule: How small the layers become; None where a plan is given, or weights are only rounded.
        plan: Instead of a rule: a plan made before for this network, alone or with its spectrum.
        int8: Round the weights of the linear layers to 8 bits at the end.
        metric: In which errors are counted, see :func:`limbeck.lowrank.look`. None: ``"divergence"``, over
            calibration data, where a budget for the whole network is divided; ``"weights"`` for rules a layer.
        calibration: How many training examples to calibrate with, drawn by the seed.
        placement: Where the singular values go: ``"input"``, or ``"split"`` as square roots.
        finetuning: Epochs and settings of the distillation; None: no fine-tuning.
        teacher: Who is asked in place of the network as it was, such as :class:`~limbeck.SoftTargets`.
        augmentation: Random views for the fine-tuning.
        role: What to call the network in tables.
        before: Other models to show beside it, by role.
        margin: Percentage points of the error rate within which the last stage is to be as good as the network was.
        out: Folder for the run; None to write nothing.
        resume: Continue what ``out`` holds.
        settings: More to keep in ``config.toml``.
        watcher: Hears how it goes.

    Returns:
        The last stage, the plan, and all that was measured.

    Raises:
        ConfigError: If nothing is asked for, or settings contradict each other.
        DataError: If the weights are not finite, or there is nothing to make smaller.
        MismatchError: If model, plan, teacher and data do not belong together.

    Example:
        >>> import torch
        >>> from limbeck.models import MLP, MLPConfig
        >>> x = torch.randn(60, 40, generator=torch.Generator().manual_seed(0))
        >>> y = (x[:, 0] > 0).long()
        >>> net = MLP(MLPConfig(input_shape=(40,), classes=2, hidden=(30,)))
        >>> run = compress(net, (x, y), (x, y), rule=RankRule(rank=(5,)), int8=True)
        >>> [(role, scores["parameters"]) for role, scores in run.metrics["stages"].items()]
        [('original', 1292), ('svd', 442), ('svd + int8', 442)]
    """
    require_out(out, resume=resume)
    data = as_data_set(train, validation, test, classes).seen_by(model)
    tuning = finetuning or FineTuning()
    chosen, given = rule or RankRule(), (plan, None) if isinstance(plan, RankPlan) else plan
    _check(model, chosen, given, int8, tuning)
    _check_roles(role, before or {})
    if teacher is not None and not tuning.finetune_epochs:
        raise ConfigError("the teacher is for fine-tuning: give finetune_epochs too, or leave the teacher out")
    if tuning.finetune_epochs and tuning.hard_weight > 0 and data.train.labels is None:
        raise ConfigError(f"hard_weight is {tuning.hard_weight}, and the training set has no labels: set it to 0")
    check_margin(margin, data)
    check_classes("network", model, data)
    check_answers("network", model, data)
    tell_probabilities("network", model, data.train, None, watcher)
    tell_shared_examples(data, ["validation"], watcher)
    augmentation = data.train.drawn(augmentation)
    beside = {name: each if isinstance(each, nn.Module) else as_teacher(each) for name, each in (before or {}).items()}
    _tell_unused(tuning, augmentation, watcher)
    if teacher is not None:
        check_classes("teacher", teacher, data)
    guide = as_teacher(model if teacher is None else teacher, data.classes).bind(data.train, augmentation)
    if tuning.finetune_epochs:
        verify_stores(guide, watcher)

    def go(folder: RunFolder | None) -> CompressRun:
        if margin is not None:
            tell_reach(margin, data, watcher)
        found = given or (
            read_plan(folder.path) if folder is not None and (folder.path / "plan.json").exists() else None
        )
        if found is None and chosen.name is not None:
            found = choose_ranks(
                model, data, chosen, metric=metric, calibration=calibration, placement=placement, int8=int8,
                seed=tuning.seed,
            )  # fmt: skip
        stages: dict[str, nn.Module | Teacher] = {**beside, role: model}
        name, last, told = "", model, set[str]()
        if found is not None:
            left = {layer.name: layer.reason for layer in (found[1].layers if found[1] else ()) if layer.reason}
            _tell_whole(left, "whole", watcher)
            told = set(left)
            name, last = "svd", apply(found[0], model, found[1]).eval()
            stages[name] = last
            if folder is not None:
                write_plan(folder, *found)
        if tuning.finetune_epochs:
            if folder is not None:
                _save(folder.sub("svd"), last, model, data, settings)
            last = _finetune(
                None if folder is None else folder.sub("svd-fine-tune"),
                guide, last, data, tuning, augmentation, given=teacher is not None, resume=resume, watcher=watcher,
            )  # fmt: skip
            name = "svd + fine-tune"
            stages[name] = last
        if int8:
            if folder is not None and name == "svd":
                _save(folder.sub("svd"), last, model, data, settings)
            whole = whole_layers(last, data.train.as_seen(slice(0, 1)))
            last = to_int8(last, whole=whole)
            _tell_whole({n: r for n, r in whole.items() if n not in told}, "float32", watcher)
            stages[f"{name} + int8" if name else "int8"] = last
        last.classes = data.classes  # type: ignore[assignment]
        tell_shared_examples(data, ["test"], watcher)
        metrics, answers, verdict = _judge(stages, data, role, find_device(tuning.device, "float32").device, margin)
        if found is not None:
            metrics["plan"] = {"rule": found[0].rule, "metric": found[0].metric, "ranks": found[0].ranks}
        if folder is not None:
            folder.unseal_results()
            if answers:
                save_tensors(folder.path / "answers.safetensors", answers)
            _save(folder, last, model, data, settings)
            folder.write_metrics(metrics)
        plan_, spectrum = found or (None, None)
        return CompressRun(last, plan_, spectrum, verdict, metrics, None if folder is None else folder.path)

    if out is None:
        return go(None)
    if tuning.finetune_epochs and tuning.precision == "auto":
        if resume:
            tuning = dataclasses.replace(tuning, precision=RunFolder(out).settled("precision", "auto"))
        tuning = dataclasses.replace(tuning, precision=find_device(tuning.device, tuning.precision).precision)
    kept = {**(settings or {}), **dataclasses.asdict(chosen), **dataclasses.asdict(tuning)}
    kept |= {**dataclasses.asdict(augmentation), "int8": int8, "metric": metric, "margin": margin}
    kept |= {"calibration": calibration, "placement": placement}
    identity = {**data.identity(), "teacher": teacher_fingerprint(guide), "network": teacher_fingerprint(model)}
    with RunFolder(out).open("compress", kept, resume=resume, identity=identity) as folder:
        return go(folder)


def _check(
    model: nn.Module, rule: RankRule, plan: tuple[RankPlan, Spectrum | None] | None, int8: bool, tuning: FineTuning
) -> None:
    if rule.name is not None and plan is not None:
        raise ConfigError(f"a plan says the ranks: leave {rule.name} out")
    ranked = rule.name is not None or plan is not None
    if not ranked and not int8:
        names = ", ".join(field.name for field in dataclasses.fields(RankRule))
        raise ConfigError(f"nothing is asked for: give one rank rule ({names}), a plan, or int8")
    if not ranked and tuning.finetune_epochs:
        raise ConfigError("fine-tuning makes up for low rank: give a rank rule too, or leave finetune_epochs out")
    if has_int8(model):
        raise DataError("the network has 8-bit weights already: compress the one that it was made of")


_STAGES = ("svd", "svd + fine-tune", "int8", "svd + int8", "svd + fine-tune + int8")
"""What the networks that are made are called."""


def _check_roles(role: str, before: Mapping[str, object]) -> None:
    """Refuse names for models that are shown which are those of others, in the place of which they would be."""
    for what, name in [("role", role), *(("before", name) for name in before)]:
        if not isinstance(name, str) or not name.strip():
            raise ConfigError(f"{what} names a model, such as 'original', and is {name!r}")
        if name in _STAGES:
            raise ConfigError(f"{what} is {name!r}, which is what a compressed network is called: choose another name")
    if role in before:
        raise ConfigError(f"before holds {role!r}, which is what the network itself is called: choose another name")


def _tell_unused(tuning: FineTuning, augmentation: Augmentation, watcher: Watcher | None) -> None:
    """Say which settings belong to the fine-tuning where there is none."""
    if tuning.finetune_epochs:
        return
    used = {"finetune_epochs", "seed", "device", "precision"}
    plain = FineTuning()
    names = [field.name for field in dataclasses.fields(tuning) if field.name not in used]
    names = [name for name in names if getattr(tuning, name) != getattr(plain, name)]
    names += ["augmentation"] if augmentation.active else []
    if names:
        (watcher or Watcher()).warn(
            f"{', '.join(names)} belong{'s' if len(names) == 1 else ''} to fine-tuning, and there is none: give "
            "finetune_epochs, or leave them out"
        )


def _tell_whole(reasons: Mapping[str, str], stays: str, watcher: Watcher | None) -> None:
    """Say which layers stay as they are, and why; layers with the same reason together."""
    for reason in dict.fromkeys(reasons.values()):
        names = [name for name, other in reasons.items() if other == reason]
        shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
        (watcher or Watcher()).warn(f"{shown} stay{'s' if len(names) == 1 else ''} {stays}: {reason}")


def _finetune(
    folder: RunFolder | None,
    guide: Teacher,
    small: nn.Module,
    data: DataSet,
    tuning: FineTuning,
    augmentation: Augmentation,
    *,
    given: bool,
    resume: bool,
    watcher: Watcher | None,
) -> nn.Module:
    options = tuning.training(tuning.finetune_epochs)
    device = find_device(options.device, options.precision)
    options = dataclasses.replace(options, precision=device.precision)
    guide = guide.to(device.device)
    aims = tuning.aims
    if given and aims.hard_weight < 1:
        tell_probabilities("teacher", guide, data.train, device, watcher)
        tell_odd_teacher(guide, data.train, augmentation, aims.temperature, device, watcher, classes=data.classes)
    objective = DistillationObjective(
        answer_once(guide, data.train, data, augmentation, aims, options, device, watcher),
        temperature=aims.temperature,
        hard_weight=aims.hard_weight,
    )
    tuned, _ = fit_stage(
        folder, copy_module(small), objective, data, options, device, augmentation=augmentation, resume=resume,
        watcher=watcher,
    )  # fmt: skip
    return tuned


def _save(
    folder: RunFolder, small: nn.Module, model: nn.Module, data: DataSet, settings: Mapping[str, Any] | None
) -> None:
    source = None if settings is None else settings.get("model")
    folder.unseal_stage()
    save_model(folder.path / "model", small, classes=data.classes, source=source, front_end=data.front_end)
    folder.seal_stage()


def _judge(
    stages: Mapping[str, nn.Module | Teacher],
    data: DataSet,
    original: str,
    device: torch.device,
    margin: float | None,
) -> tuple[dict[str, Any], dict[str, Tensor], MarginVerdict | None]:
    """Read the test set, once, with every stage; validation stands in where there is no test set."""
    part = "test" if data.test is not None else "validation"
    examples = data.test or data.validation
    if examples is None or examples.labels is None:
        sizes = {name: {"title": title_of(stage), **size_of(stage, data.train)} for name, stage in stages.items()}
        return {"judged_on": None, "stages": sizes}, {}, None
    labels = labels_of(examples)
    answers: dict[str, Answers] = {}
    found = {}
    # The original first: the others, its teacher before it in the table too, are compared with it.
    for name, stage in sorted(stages.items(), key=lambda named: named[0] != original):
        with placed(stage, device) as there:
            answers[name] = answers_of(there, examples)
            found[name] = {
                "title": title_of(stage),
                **scores_of(answers[name], labels, teacher=None if name == original else answers[original]),
                **size_of(there, examples),
                **speed_of(there, examples),
            }
    kept = {name: held for name in stages if (held := answers[name].log_probs) is not None}
    verdict = None
    if margin is not None:
        groups, last = examples.groups(), answers[next(reversed(answers))]
        verdict = judge_margin(
            [last.predicted != labels],
            [answers[original].predicted != labels],
            margin,
            model="compressed network",
            reference=original,
            judged_on=part,
            groups=None if groups is None else groups.cpu().numpy(),
            labels=labels,
            classes=data.classes,
        )
    said = {} if verdict is None else {"margin": verdict.to_dict()}
    return {"judged_on": part, "stages": {name: found[name] for name in stages}, **said}, kept, verdict
