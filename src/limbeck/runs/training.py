"""Train a classifier, or an ensemble of them, on labels."""

__all__ = ["TrainRun", "fit_stage", "settled_precision", "stage_for", "train"]

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Unpack

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from limbeck.arguments import checked_arguments
from limbeck.data.data_set import DataSet
from limbeck.data.feed import Feed
from limbeck.errors import DataError
from limbeck.evaluation.prediction import device_of
from limbeck.kaldi.source.alignments import write_pdf_counts
from limbeck.models.calling import autograd_enabled, presentation_of
from limbeck.odd_teachers import tell_probabilities
from limbeck.options import Augmentation, Training, TrainingKeywords
from limbeck.options.checks import from_keywords, require
from limbeck.protocols import Objective
from limbeck.runs.exporting import epoch_writer, write_final
from limbeck.runs.first_weights import keep_first_weights
from limbeck.runs.folder import RunFolder, require_out
from limbeck.runs.inputs import as_data_set, check_answers
from limbeck.runs.measure import answers_of, labels_of, scores_of, size_of, speed_of, title_of
from limbeck.runs.models import load, save_ensemble, save_model
from limbeck.runs.oddities import tell_contradictions, tell_shared_examples
from limbeck.runs.speed import placed
from limbeck.runs.starts import starts, tell_equal_ends
from limbeck.softtargets.digests import network_identity
from limbeck.system.devices import Device, find_device
from limbeck.system.files import make_folder
from limbeck.system.jobs import run_jobs
from limbeck.system.processes import on_first, world
from limbeck.system.watcher import Watcher
from limbeck.teachers import Ensemble
from limbeck.training.checkpoint import save_tensors
from limbeck.training.engine import fit
from limbeck.training.objective import LabelObjective


@dataclass(frozen=True)
class TrainRun:
    """What training left.

    Attributes:
        model: The trained module in evaluation mode, or the ensemble.
        history: A mapping an epoch; of the first member, for an ensemble.
        metrics: What ``metrics.json`` holds: ``model``, and ``members`` for an ensemble.
        folder: Where it all is, or None.
    """

    model: nn.Module | Ensemble
    history: list[dict[str, Any]]
    metrics: dict[str, Any]
    folder: Path | None


def fit_stage(
    folder: RunFolder | None,
    model: nn.Module,
    objective: Objective,
    data: DataSet,
    training: Training,
    device: Device,
    *,
    augmentation: Augmentation | None,
    resume: bool,
    watcher: Watcher | None,
    source: str | None = None,
    export: bool = False,
    steps: int | None = None,
) -> tuple[nn.Module, list[dict[str, Any]]]:
    """Train one model in a folder of its own, or take it from there where that was done before.

    Args:
        folder: Where history, checkpoints and model go; None to keep nothing.
        model: The module, trained in place.
        objective: What to make small.
        data: Training and validation examples.
        training: The settings.
        device: Where to compute.
        augmentation: Random views.
        resume: Go on with what the folder holds.
        watcher: Hears how it goes.
        source: Where a module of the user's own came from.
        export: Write the weights after each epoch as HDF5, and at the end as nnet1 text too.
        steps: Steps per epoch; None for those of one pass over the training examples.

    Returns:
        The model on the CPU in evaluation mode, and its history with timing.
    """
    here = world()
    if here.told(folder is not None and resume and folder.complete):
        history: list[dict[str, Any]] = []
        if folder is not None:
            model, history = _only_module(load(folder.path, model=model)), folder.history()
        weights, history = here.told((model.state_dict(), history))
        model.load_state_dict(weights)
        return model.to("cpu").eval(), history
    check_answers("model", model, data)
    shown = presentation_of(model)
    kept = getattr(data.train.inputs, "remembered", lambda own: own or data.train.presentation)(shown)
    if kept is not shown:
        model.presentation = kept
    if folder is not None:
        folder.unseal_stage()
    feed = Feed(
        data.train,
        batch_size=training.batch_size,
        augmentation=augmentation,
        seed=training.seed,
        device=device.device,
        world=here,
        steps=steps,
        workers=training.workers,
        presentations=getattr(objective, "presentations", ()),
    )
    checkpoints = None if folder is None else folder.checkpoints
    exporting = epoch_writer(folder.path, model) if export and folder is not None else None
    fitted = fit(
        model,
        objective,
        feed,
        training,
        device,
        validation=data.validation,
        folder=checkpoints,
        resume=resume,
        watcher=watcher,
        after_epoch=exporting,
    )
    model.to("cpu").eval()
    merged = [{**row, **timing} for row, timing in zip(fitted.history, fitted.timings, strict=True)]
    if folder is not None:
        folder.write_rows("history.jsonl", fitted.history)
        folder.write_rows("timings.jsonl", fitted.timings)
        if training.keep == "best" and fitted.best_epoch != len(fitted.history):
            save_tensors(folder.path / "last.safetensors", fitted.last)
        if exporting is not None:
            write_final(folder.path, model)
        if data.front_end is not None and data.train.labels is not None:
            counts = make_folder(folder.path / "model") / "ali_train_pdf.counts"
            write_pdf_counts(counts, data.train.class_counts(len(data.classes)))
        save_model(folder.path / "model", model, classes=data.classes, source=source, front_end=data.front_end)
        folder.seal_stage()
    return model, merged


def stage_for(folder: RunFolder | None, name: str | None, *, apart: bool) -> RunFolder | None:
    """The folder of a part of a run.

    Args:
        folder: Of the run, or None.
        name: Of the part; None for the run itself.
        apart: Whether another process will use it, which may have another working folder.

    Returns:
        The folder, or None.
    """
    if folder is None:
        return None
    found = folder if name is None else folder.sub(name)
    return RunFolder(found.path.absolute()) if apart else found


def settled_precision(out: str | Path) -> Literal["auto", "float32", "bf16"]:
    """The precision that a run measured when it began, or "auto" where there is no run; the same in all processes."""
    found = on_first(lambda: str(RunFolder(out).settled("precision", "auto")))
    return "bf16" if found == "bf16" else "float32" if found == "float32" else "auto"


def _only_module(loaded: nn.Module | Ensemble) -> nn.Module:
    assert isinstance(loaded, nn.Module), "a stage holds one model"
    return loaded


@autograd_enabled
@checked_arguments
def train(
    model: nn.Module | Callable[[int], nn.Module],
    train: Any,
    validation: Any = None,
    *,
    test: Any = None,
    classes: Sequence[str] | None = None,
    members: int = 1,
    mean: Literal["arithmetic", "geometric"] = "arithmetic",
    augmentation: Augmentation | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    export: bool = False,
    jobs: int = 1,
    ray: str | None = None,
    settings: Mapping[str, Any] | None = None,
    watcher: Watcher | None = None,
    **training: Unpack[TrainingKeywords],
) -> TrainRun:
    """Train a classifier on labels; or several, as an ensemble.

    Args:
        model: A module (it is copied, and all members start from its weights), or a function that makes one from a
            seed or from nothing; it is called for each member under the seed of that member.
        train: A :class:`~limbeck.data.DataSet`, or training examples as a pair of inputs and labels.
        validation: Examples to choose the best epoch by.
        test: Examples to judge on, read once, at the end.
        classes: Names of the classes.
        members: How many to train, with seeds that follow each other; above 1 they make an ensemble.
        mean: How the ensemble averages: "arithmetic" or "geometric".
        augmentation: Random views of the training pictures.
        out: Folder for the run; None to write nothing.
        resume: Continue what ``out`` holds.
        export: Write the weights after each epoch as HDF5, and at the end as nnet1 text too, into ``out``.
        jobs: How many members are trained at a time, each in a process of its own.
        ray: Instead: the address of a Ray cluster to train them on, or "local"; ``out`` must be there too.
        settings: More to keep in ``config.toml``, such as the name of the data.
        watcher: Hears how it goes.
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
    require_out(out, resume=resume, export=export)
    data = as_data_set(train, validation, test, classes)
    if data.train.labels is None:
        raise DataError("training on labels needs labels; an unlabelled set can only be distilled on")
    if resume and out is not None and options.precision == "auto":
        options = dataclasses.replace(options, precision=settled_precision(out))
    device = find_device(options.device, options.precision)
    options = dataclasses.replace(options, precision=device.precision)
    augmentation = data.train.drawn(augmentation)

    begun = starts(model, range(options.seed, options.seed + members), watcher=watcher)
    data = data.seen_by(begun[0])
    check_answers("model", begun[0], data)

    def tell(done: int, count: int) -> None:
        (watcher or Watcher()).note(f"{done} of {count} members are trained")

    def go(folder: RunFolder | None) -> TrainRun:
        apart = members > 1 and (jobs > 1 or ray is not None)
        tell_probabilities("model", begun[0], data.train, None, watcher)
        tell_contradictions(data.train, watcher)
        tell_shared_examples(data, ["validation"], watcher)
        keep_first_weights(folder, begun)
        tasks = [
            partial(
                fit_stage,
                stage_for(folder, None if members == 1 else f"members/{number + 1}", apart=apart),
                begun[number],
                LabelObjective(options.label_smoothing),
                data,
                dataclasses.replace(options, seed=options.seed + number),
                device,
                augmentation=augmentation,
                resume=resume or apart,  # a task that is begun again goes on
                watcher=None if apart else watcher,
                source=None if settings is None else settings.get("model"),
                export=export,
            )
            for number in range(members)
        ]
        trained = run_jobs(tasks, jobs=jobs, ray=ray, done=tell) if members > 1 else [tasks[0]()]
        models, histories = [fitted for fitted, _ in trained], [history for _, history in trained]
        whole: nn.Module | Ensemble = models[0]
        if folder is not None:
            folder.unseal_results()
        if members > 1:
            tell_equal_ends(models, role="members", watcher=watcher)
            whole = Ensemble(models, mean=mean, classes=data.classes)
            if folder is not None:
                save_ensemble(folder.path, members=members, mean=mean)
        tell_shared_examples(data, ["test"], watcher)
        with placed(whole, device.device) as there:
            metrics, answers = _judge(there, models, data)
        if folder is not None:
            if answers is not None:
                save_tensors(folder.path / "answers.safetensors", {"model": answers})
            folder.write_metrics(metrics)
        return TrainRun(whole, histories[0], metrics, None if folder is None else folder.path)

    if out is None:
        return go(None)
    kept = {**(settings or {}), **dataclasses.asdict(options), **dataclasses.asdict(augmentation)}
    kept |= {"members": members, "mean": mean, "export": export}
    identity = {**data.identity(), **network_identity(begun[0], "model")}
    with RunFolder(out).open_first("train", kept, resume=resume, identity=identity) as folder:
        return go(folder)


def _judge(
    whole: nn.Module | Ensemble, models: Sequence[nn.Module], data: DataSet
) -> tuple[dict[str, Any], Tensor | None]:
    """Metrics on the test set, or on validation where there is none."""
    part = "test" if data.test is not None else "validation"
    examples = data.test or data.validation
    if examples is None or examples.labels is None:
        return {"model": {"title": title_of(whole), **size_of(whole, data.train)}, "judged_on": None}, None
    answers, labels = answers_of(whole, examples), labels_of(examples)
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
    """What an ensemble gains over its members.

    Args:
        whole: The ensemble's scores.
        members: The members' scores.

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
