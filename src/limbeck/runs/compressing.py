"""Compress a trained network: low-rank factorisation, fine-tuning by distillation, 8-bit weights."""

__all__ = ["CompressRun", "compress"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.arguments import checked_arguments
from limbeck.data.data_set import DataSet
from limbeck.evaluation.non_inferiority import MarginVerdict, judge_margin
from limbeck.lowrank import Convolutions, Metric, Placement, RankPlan, Spectrum
from limbeck.models.calling import autograd_enabled
from limbeck.options import Augmentation, FineTuning, RankRule
from limbeck.protocols import Answering, Teacher
from limbeck.pruning import PrunePlan
from limbeck.runs.calibrating import calibration_of
from limbeck.runs.claims import tell_reach
from limbeck.runs.compress_parity import write_parity
from limbeck.runs.compress_plan import CompressPlan, plan_compression
from limbeck.runs.compress_stages import make_stages, save_stage
from limbeck.runs.data_warnings import tell_shared_examples, tell_trained_on
from limbeck.runs.execution import Execution, told
from limbeck.runs.finished import FinishedRun
from limbeck.runs.folder import RunFolder, require_out
from limbeck.runs.inputs import as_data_set
from limbeck.runs.measure import Answers, answers_of, labels_of, scores_of, size_of, speed_of, title_of
from limbeck.runs.speed import placed
from limbeck.runs.units import By
from limbeck.system.callbacks import Callback
from limbeck.system.devices import find_device
from limbeck.training.checkpoint import save_tensors


@dataclass(frozen=True)
class CompressRun(FinishedRun):
    """The result of a compression run.

    Attributes:
        model: The last stage, a module in evaluation mode on the CPU.
        plan: The ranks, or the units that stay; None where only weights were rounded.
        spectrum: What the plan was made from, or None.
        margin: The non-inferiority verdict on the last stage; None without a margin.
        metrics: The contents of ``metrics.json``: ``judged_on``, ``stages`` in order, each with its metrics, and
            ``margin``.
        folder: The run's folder, or None.
        data: The data set, for :meth:`export`.
        parity: The contents of ``parity.json``, the last stage against the original; None without a folder.
    """

    model: nn.Module
    plan: RankPlan | PrunePlan | None
    spectrum: Spectrum | None
    margin: MarginVerdict | None
    metrics: dict[str, Any]
    folder: Path | None
    data: DataSet | None = field(default=None, repr=False)
    parity: dict[str, Any] | None = field(default=None, repr=False)

    @property
    def shipped(self) -> nn.Module:
        """The model."""
        return self.model


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
    by: By = "rank",
    plan: tuple[RankPlan | PrunePlan, Spectrum | None] | RankPlan | PrunePlan | None = None,
    int8: bool = False,
    metric: Metric | None = None,
    calibration: int = 2000,
    placement: Placement = "input",
    convolutions: Convolutions = "best",
    finetuning: FineTuning | None = None,
    teacher: nn.Module | Answering | None = None,
    augmentation: Augmentation | None = None,
    role: str = "original",
    before: Mapping[str, nn.Module | Teacher] | None = None,
    margin: float | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    settings: Mapping[str, Any] | None = None,
    callbacks: Callback | Sequence[Callback] = (),
    progress: bool = True,
) -> CompressRun:
    """Compress a network stage by stage, and evaluate every stage.

    The stages are ``svd`` (each layer as two of low rank) or ``pruned`` (without some hidden units and channels), the
    same ``+ fine-tune`` (distilled from the network as it was)
    and ``int8`` (linear layers with 8-bit weights), each only where it is asked for.

    Args:
        model: The network; it is not modified.
        train: A :class:`~limbeck.data.DataSet`, or training examples as a pair of inputs and labels, for calibration
            and fine-tuning.
        validation: Examples to choose the best epoch by.
        test: Examples to judge the stages on; without them they are judged on validation.
        classes: Names of the classes.
        rule: The rank rule; None where a plan is given, or weights are only quantised.
        by: ``"rank"``: each layer is factorised into two. ``"units"``: hidden units and channels are pruned, chosen by
            the measured change of the predictions (:mod:`limbeck.pruning`); the rule is then a budget.
        plan: Instead of a rule: a plan made before for this network, alone or with its spectrum.
        int8: Quantise the weights of the linear layers to 8 bits at the end.
        metric: The metric of truncation errors, see :func:`limbeck.lowrank.look`. None: ``"divergence"``, over
            calibration data, for a budget of the whole network; ``"weights"`` for rules per layer.
        calibration: How many training examples to calibrate with, drawn by the seed.
        placement: Which factor gets the singular values: the first (``"input"``), or both as square roots
            (``"split"``).
        convolutions: ``"channels"``: a convolution becomes one to fewer channels and a 1x1 convolution. ``"best"``:
            where a budget is divided, it may become one over columns and one over rows, or three, if that loses less.
        finetuning: Epochs and settings of the distillation; None: no fine-tuning.
        teacher: A teacher other than the original network, such as :class:`~limbeck.SoftTargets`.
        augmentation: The augmentation of the fine-tuning.
        role: Display name of the network in tables.
        before: Other models to show beside it, by role.
        margin: Non-inferiority margin in percentage points of the error rate: test whether the last stage is as good as
            the original within it.
        out: Folder of the run; None to write nothing.
        resume: Resume the run in ``out``.
        settings: More settings to save in ``config.toml``.
        callbacks: Called as the run goes: instances of :class:`~limbeck.Callback`, such as a
            :class:`~limbeck.TensorBoardLogger`.
        progress: Show a progress bar, where there is a terminal or a notebook.

    Returns:
        The last stage, the plan and the metrics.

    Raises:
        ConfigError: If there is nothing to do, or settings contradict each other.
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
    decided = plan_compression(
        model, data, rule or RankRule(), (plan, None) if isinstance(plan, RankPlan | PrunePlan) else plan,
        finetuning or FineTuning(), teacher, augmentation, by=by, int8=int8, metric=metric, calibration=calibration,
        placement=placement, convolutions=convolutions, role=role, before=before or {}, margin=margin,
        execution=Execution(out=out, resume=resume, settings=settings, callback=told(callbacks, progress=progress)),
    )  # fmt: skip
    if out is None:
        return _carry_out(decided, None)
    decided = decided.settled()
    kept = {**(settings or {}), **decided.settings()}
    with RunFolder(out).open("compress", kept, resume=resume, identity=decided.identity()) as folder:
        return _carry_out(decided, folder)


def _carry_out(plan: CompressPlan, folder: RunFolder | None) -> CompressRun:
    """Run the stages, evaluate each on the test set, and save the results."""
    data, callback = plan.data, plan.execution.callback
    if plan.margin is not None:
        tell_reach(plan.margin, data, callback)
    made = make_stages(plan, folder)
    made.last.classes = data.classes  # type: ignore[assignment]
    tell_shared_examples(data, ["test"], callback)
    tell_trained_on("network", plan.model, data, callback)
    stages = {**plan.beside, plan.role: plan.model, **made.stages}
    place = find_device(plan.tuning.device, "float32").device
    metrics, answers, verdict = _judge(stages, data, plan.role, place, plan.margin)
    ranks, spectrum = made.ranks or (None, None)
    if ranks is not None:
        metrics["plan"] = ranks.to_metrics()
    metrics, parity = plan.execution.with_warnings(metrics), None
    if folder is not None:
        folder.unseal_results()
        if answers:
            save_tensors(folder.path / "answers.safetensors", answers)
        save_stage(folder, made.last, plan)
        parity = write_parity(plan, made.last, folder)
        folder.write_metrics(metrics)
    plan.execution.conclude(metrics)
    path = None if folder is None else folder.path
    return CompressRun(made.last, ranks, spectrum, verdict, metrics, path, data, parity)


def _judge(
    stages: Mapping[str, nn.Module | Teacher],
    data: DataSet,
    original: str,
    device: torch.device,
    margin: float | None,
) -> tuple[dict[str, Any], dict[str, Tensor], MarginVerdict | None]:
    """Evaluate every stage on the test set, once; on validation where there is no test set."""
    part = "test" if data.test is not None else "validation"
    examples = data.test or data.validation
    if examples is None or examples.labels is None:
        sizes = {name: {"title": title_of(stage), **size_of(stage, data.train)} for name, stage in stages.items()}
        return {"judged_on": None, "stages": sizes}, {}, None
    labels = labels_of(examples)
    answers: dict[str, Answers] = {}
    found = {}
    # The original first: all others, including its teacher, are compared with it.
    for name, stage in sorted(stages.items(), key=lambda named: named[0] != original):
        with placed(stage, device) as there:
            fitted = calibration_of(there, data.validation)
            answers[name] = answers_of(there, examples, calibration=fitted)
            found[name] = {
                "title": title_of(stage),
                **scores_of(answers[name], labels, original=None if name == original else answers[original]),
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
