"""Train a classifier, or an ensemble of them, on labels."""

__all__ = ["TrainRun", "train"]

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Unpack

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from limbeck.arguments import checked_arguments
from limbeck.data.data_set import DataSet
from limbeck.errors import ConfigError, DataError
from limbeck.evaluation.prediction import device_of
from limbeck.methods import Method, OwnObjective
from limbeck.models.calling import autograd_enabled
from limbeck.options import Augmentation, ModelOptions, Training, TrainingKeywords
from limbeck.options.checks import from_keywords, require
from limbeck.protocols import Objective
from limbeck.runs.calibrating import calibration_of
from limbeck.runs.data_warnings import tell_contradictions, tell_padding, tell_shared_examples
from limbeck.runs.execution import Execution, told
from limbeck.runs.finished import FinishedRun
from limbeck.runs.folder import RunFolder, require_out
from limbeck.runs.initial_models import starts, tell_equal_ends
from limbeck.runs.initial_weights import keep_first_weights
from limbeck.runs.inputs import as_data_set, check_answers
from limbeck.runs.measure import answers_of, labels_of, scores_of, size_of, speed_of, title_of
from limbeck.runs.models import save_ensemble
from limbeck.runs.models_for_data import named_model
from limbeck.runs.result_warnings import tell_results
from limbeck.runs.speed import placed
from limbeck.runs.stages import Stage, run_stages, stage_for
from limbeck.runs.unused import tell_class_weights, tell_unused, unused_in_training
from limbeck.softtargets.digests import network_identity
from limbeck.system.callbacks import Callback
from limbeck.system.devices import Device
from limbeck.system.jobs import relayed, run_jobs
from limbeck.teacher_warnings import tell_probabilities
from limbeck.teachers import Ensemble
from limbeck.training.checkpoint import save_tensors
from limbeck.training.objective import LabelObjective
from limbeck.training.optimizers import make_optimizer


@dataclass(frozen=True)
class TrainRun(FinishedRun):
    """The result of a training run.

    Attributes:
        model: The trained module in evaluation mode, or the ensemble.
        history: One mapping per epoch; for an ensemble, of the first member.
        metrics: The contents of ``metrics.json``: ``model``, and ``members`` for an ensemble.
        folder: The run's folder, or None.
        data: The data set, for :meth:`export`.
    """

    model: nn.Module | Ensemble
    history: list[dict[str, Any]] = field(repr=False)
    metrics: dict[str, Any] = field(repr=False)
    folder: Path | None
    data: DataSet | None = field(default=None, repr=False)

    @property
    def shipped(self) -> nn.Module | Ensemble:
        """The model."""
        return self.model


@autograd_enabled
@checked_arguments
def train(
    model: nn.Module | Callable[[int], nn.Module] | str | ModelOptions,
    train: Any,
    validation: Any = None,
    *,
    test: Any = None,
    classes: Sequence[str] | None = None,
    members: int = 1,
    mean: Literal["arithmetic", "geometric"] = "arithmetic",
    objective: Callable[..., Any] | None = None,
    augmentation: Augmentation | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    save_hdf5: bool = False,
    jobs: int = 1,
    ray: str | None = None,
    settings: Mapping[str, Any] | None = None,
    callbacks: Callback | Sequence[Callback] = (),
    progress: bool = True,
    **training: Unpack[TrainingKeywords],
) -> TrainRun:
    """Train a classifier on labels; or several, as an ensemble.

    Args:
        model: A module (copied; all members start from its weights), a function that makes one, called with the seed or
            without arguments under each member's seed, or a name, such as "mlp", "cnn" or "timm:resnet18".
        train: A :class:`~limbeck.data.DataSet`, or training examples as a pair of inputs and labels.
        validation: Examples to choose the best epoch by.
        test: Test examples, read once, at the end.
        classes: Names of the classes.
        members: Number of members, with consecutive seeds; above 1 they form an ensemble.
        mean: How the ensemble averages: "arithmetic" or "geometric".
        objective: Instead of cross-entropy with the labels, your own loss function: ``f(logits, labels)`` gives
            one value per example, ``(N,)``. A module's parameters are trained and checkpointed with the model's.
        augmentation: Augmentation of the training images.
        out: Folder for the run; None to write nothing.
        resume: Resume the run in ``out``.
        save_hdf5: Also write the weights after each epoch as HDF5, and at the end as nnet1 text, into ``out``.
        jobs: How many members are trained in parallel, each in its own process.
        ray: Instead of ``jobs``: the address of a Ray cluster, or "local"; the cluster must see ``out``.
        settings: More settings to save in ``config.toml``, such as the name of the data.
        callbacks: Called as the run goes: instances of :class:`~limbeck.Callback`, such as a
            :class:`~limbeck.TensorBoardLogger`.
        progress: Show a progress bar, where there is a terminal or a notebook.
        **training: Fields of :class:`~limbeck.options.Training`, such as ``epochs`` and ``learning_rate``.

    Returns:
        The model, its history and its metrics.

    Raises:
        ConfigError: If a setting is out of range.
        DataError: If the examples cannot be used.

    Example:
        >>> import torch
        >>> inputs = torch.randn(64, 5, generator=torch.Generator().manual_seed(0))
        >>> run = train(nn.Linear(5, 2), (inputs, (inputs[:, 0] > 0).long()), epochs=99, learning_rate=0.1)
        >>> run.history[-1]["train_accuracy"] > 0.9
        True
    """
    options = from_keywords(Training, training)
    for name, count in (("members", members), ("jobs", jobs)):
        require(count >= 1, name, count, "at least 1")
    require_out(out, resume=resume, save_hdf5=save_hdf5)
    execution = Execution(
        out=out, resume=resume, save_hdf5=save_hdf5, jobs=jobs, ray=ray, settings=settings,
        callback=told(callbacks, progress=progress),
    )  # fmt: skip
    data = as_data_set(train, validation, test, classes)
    plan = _plan(named_model(model, data), data, options, augmentation, members, mean, execution, objective)
    with execution.opened("train", plan.settings(), plan.identity) as folder:
        return _carry_out(plan, folder)


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """The decisions of a training run, made before anything is trained.

    Attributes:
        begun: The networks with their initial weights, one per member.
        data: The data in the networks' presentation.
        options: The training settings, with the measured precision.
        augmentation: Augmentation of the training examples.
        device: Where to compute.
        members: Number of members.
        mean: How members' distributions are averaged.
        execution: The folder, the processes and callbacks.
        objective: A user's loss function.
    """

    begun: list[nn.Module]
    data: DataSet
    options: Training
    augmentation: Augmentation
    device: Device
    members: int
    mean: Literal["arithmetic", "geometric"]
    execution: Execution
    objective: Callable[..., Any] | None

    def loss(self) -> Objective:
        """A new objective per member, so that its trainable parameters are not shared."""
        if self.objective is None:
            return LabelObjective(self.options.label_smoothing)
        return OwnObjective(self.objective, classes=len(self.data.classes))

    def settings(self) -> dict[str, Any]:
        """The settings saved in ``config.toml``."""
        kept = {**dataclasses.asdict(self.options), **dataclasses.asdict(self.augmentation)}
        return kept | {"members": self.members, "mean": self.mean, "save_hdf5": self.execution.save_hdf5}

    def identity(self) -> dict[str, Any]:
        """Digests that a resumed run must match."""
        found = {**self.data.identity(), **network_identity(self.begun[0], "model")}
        return found if self.objective is None else {**found, "method": self.loss().fingerprint()["method"]}


def _plan(
    model: nn.Module | Callable[[int], nn.Module],
    data: DataSet,
    options: Training,
    augmentation: Augmentation | None,
    members: int,
    mean: Literal["arithmetic", "geometric"],
    execution: Execution,
    objective: Callable[..., Any] | None,
) -> _Plan:
    """Validate the inputs of a training run and make its plan."""
    if isinstance(objective, Method | type):
        raise ConfigError("objective must be a function or a module of logits and labels; a method needs a teacher")
    if data.train.labels is None:
        raise DataError("training on labels needs labels; an unlabelled set can only be distilled on")
    options, device = execution.settle(options)
    views = data.train.drawn(augmentation)
    begun = starts(model, range(options.seed, options.seed + members), callback=execution.callback)
    data = data.seen_by(begun[0])
    check_answers("model", begun[0], data)
    make_optimizer(begun[0], options, device)  # refuses user-defined ones that cannot be trained
    return _Plan(
        begun=begun, data=data, options=options, augmentation=views, device=device, members=members, mean=mean,
        execution=execution, objective=objective,
    )  # fmt: skip


def _carry_out(plan: _Plan, folder: RunFolder | None) -> TrainRun:
    """Give the warnings, train, and evaluate on the test set."""
    data, callback = plan.data, plan.execution.callback
    unused = unused_in_training(
        plan.options,
        data,
        plan.augmentation,
        kept=plan.execution.out is not None,
        jobs=plan.execution.jobs,
        trainings=plan.members,
    )
    unused += [("mean", plan.mean, "there is one member")] if plan.mean != "arithmetic" and plan.members == 1 else []
    if plan.objective is not None and plan.options.label_smoothing:
        unused.append(("label_smoothing", plan.options.label_smoothing, "objective replaces cross-entropy"))
    tell_unused(unused, callback)
    tell_class_weights(plan.options, data, data, callback)
    tell_probabilities("model", plan.begun[0], data.train, None, callback)
    tell_padding("model", plan.begun[0], data.train, callback)
    tell_contradictions(data.train, callback)
    tell_shared_examples(data, ["validation"], callback)
    keep_first_weights(folder, plan.begun)
    models, histories = _train_members(plan, folder)
    whole: nn.Module | Ensemble = models[0]
    if folder is not None:
        folder.unseal_results()
    if plan.members > 1:
        tell_equal_ends(models, role="members", callback=callback)
        whole = Ensemble(models, mean=plan.mean, classes=data.classes)
        if folder is not None:
            save_ensemble(folder.path, members=plan.members, mean=plan.mean)
    tell_shared_examples(data, ["test"], callback)
    with placed(whole, plan.device.device) as there:
        metrics, answers = _judge(there, models, data)
    tell_results(
        metrics, {"model": histories}, {"model": models[0]}, data, callback, seed=plan.options.seed,
        on_labels=("model",) if plan.objective is None else (),
    )  # fmt: skip
    metrics = plan.execution.with_warnings(metrics)
    if folder is not None:
        if answers is not None:
            save_tensors(folder.path / "answers.safetensors", {"model": answers})
        folder.write_metrics(metrics)
    plan.execution.conclude(metrics)
    return TrainRun(whole, histories[0], metrics, None if folder is None else folder.path, data)


def _train_members(plan: _Plan, folder: RunFolder | None) -> tuple[list[nn.Module], list[list[dict[str, Any]]]]:
    """Train the members; a single one in the run's own folder."""
    execution, apart = plan.execution, plan.execution.apart(plan.members)

    def tell(done: int, count: int) -> None:
        execution.note(f"{done} of {count} members are trained")

    if not apart:
        trained = run_stages(_member_tasks(plan, folder, execution.callback), done=tell)
    elif not execution.watched():
        tasks = _member_tasks(plan, folder, None)
        trained = run_jobs(tasks, jobs=execution.jobs, ray=execution.ray, done=tell, warn=execution.warn)
    else:
        assert execution.callback is not None, "somebody watches"
        with relayed(execution.callback, plan.members * plan.options.epochs) as (relay, listen):
            tasks = _member_tasks(plan, folder, relay)
            trained = run_jobs(tasks, jobs=execution.jobs, done=tell, tick=listen)
    return [model for model, _ in trained], [history for _, history in trained]


def _member_tasks(plan: _Plan, folder: RunFolder | None, callback: Callback | None) -> list[Stage]:
    """The trainings of the members."""
    execution, apart = plan.execution, plan.execution.apart(plan.members)
    names = [None if plan.members == 1 else f"members/{number + 1}" for number in range(plan.members)]
    return [
        Stage(
            stage_for(folder, name, apart=apart),
            plan.begun[number],
            plan.loss(),
            plan.data,
            dataclasses.replace(plan.options, seed=plan.options.seed + number),
            plan.device,
            augmentation=plan.augmentation,
            resume=execution.resume or apart,  # a task that is started again resumes
            callback=None if apart else execution.callback,
            source=execution.origin("model"),
            save_hdf5=execution.save_hdf5,
            name=name or "model",
        )
        for number, name in enumerate(names)
    ]


def _judge(
    whole: nn.Module | Ensemble, models: Sequence[nn.Module], data: DataSet
) -> tuple[dict[str, Any], Tensor | None]:
    """Metrics on the test set, or on validation where there is none."""
    part = "test" if data.test is not None else "validation"
    examples = data.test or data.validation
    if examples is None or examples.labels is None:
        return {"model": {"title": title_of(whole), **size_of(whole, data.train)}, "judged_on": None}, None
    fitted = calibration_of(whole, data.validation)
    answers, labels = answers_of(whole, examples, calibration=fitted), labels_of(examples)
    metrics: dict[str, Any] = {
        "judged_on": part,
        "model": {
            "title": title_of(whole),
            **scores_of(answers, labels),
            **examples.scores(answers.predicted, labels),
            **size_of(whole, examples),
            **speed_of(whole, examples),
        },
    }
    if len(models) > 1:
        scores = []
        for member in models:
            with placed(member, device_of(whole)) as there:
                scores.append(scores_of(answers_of(there, examples), labels))
        metrics["members"] = scores
        metrics["gain"] = ensemble_gain(metrics["model"], scores)
    return metrics, answers.log_probs


def ensemble_gain(whole: Mapping[str, Any], members: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The gain of an ensemble over its members.

    Args:
        whole: The ensemble's metrics.
        members: The members' metrics.

    Returns:
        Members' mean and best error rate, and the ensemble's accuracy above each, as shares of the examples.

    Example:
        >>> gain = ensemble_gain({"error_rate": 0.02}, [{"error_rate": 0.03}, {"error_rate": 0.05}])
        >>> round(gain["over_mean"], 3), round(gain["over_best"], 3)
        (0.02, 0.01)
    """
    rates: NDArray[np.float64] = np.array([member["error_rate"] for member in members])
    return {
        "members_mean_error_rate": float(rates.mean()),
        "members_best_error_rate": float(rates.min()),
        "over_mean": float(rates.mean() - whole["error_rate"]),
        "over_best": float(rates.min() - whole["error_rate"]),
    }
