"""One training of a run in its own folder: a stage, which is started, resumed, or loaded if finished."""

__all__ = ["fit_stage", "keep_stage", "stage_for"]

from importlib import import_module
from typing import Any

from torch import nn

from limbeck.data.data_set import DataSet
from limbeck.data.feed import Feed
from limbeck.models.calling import presentation_of
from limbeck.options import Augmentation, Training
from limbeck.protocols import Objective, Teaching
from limbeck.runs.folder import RunFolder
from limbeck.runs.inputs import check_answers
from limbeck.runs.models import load, save_model
from limbeck.system.callbacks import Callback
from limbeck.system.devices import Device
from limbeck.system.files import make_folder
from limbeck.system.processes import World, world
from limbeck.teachers import Ensemble
from limbeck.training.checkpoint import save_tensors
from limbeck.training.class_weights import weighted
from limbeck.training.engine import Fitted, fit


def _weight_files() -> Any:
    """What writes weights in the formats of other toolkits, imported where that is asked for."""
    return import_module("limbeck.kaldi.weight_files")


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
    callback: Callback | None,
    source: str | None = None,
    save_hdf5: bool = False,
    steps: int | None = None,
    name: str = "model",
) -> tuple[nn.Module, list[dict[str, Any]]]:
    """Train one model in its own folder, or load it if the training is finished.

    Args:
        folder: Folder of history, checkpoints and model; None to save nothing.
        model: The module, trained in place.
        objective: The loss that is minimised.
        data: Training and validation examples.
        training: The training settings.
        device: Where to compute.
        augmentation: The augmentation.
        resume: Continue what the folder holds.
        callback: Receives training progress.
        source: Origin of a user's module.
        save_hdf5: Also write the weights after each epoch as HDF5, and at the end as nnet1 text.
        steps: Steps per epoch; None for those of one pass over the training examples.
        name: Which of the run's trainings it is, for the callback.

    Returns:
        The model on the CPU in evaluation mode, and its history with timing.
    """
    here = world()
    if here.told(folder is not None and resume and folder.complete):
        return _take_up(folder, model, here)
    check_answers("model", model, data)
    _remember_presentation(model, data)
    if folder is not None:
        folder.unseal_stage()
    teaching: Teaching | None = getattr(objective, "teaching", None)
    feed = Feed(
        data.train,
        batch_size=training.batch_size,
        augmentation=augmentation,
        seed=training.seed,
        device=device.device,
        world=here,
        steps=steps,
        accumulate=training.accumulate,
        workers=training.workers,
        presentations=() if teaching is not None else getattr(objective, "presentations", ()),
        teaching=teaching,
    )
    counts = data.train.class_counts(len(data.classes)) if training.class_weight else ()
    objective = weighted(objective, training, counts)
    exporting = _weight_files().epoch_writer(folder.path, model) if save_hdf5 and folder is not None else None
    fitted = fit(
        model,
        objective,
        feed,
        training,
        device,
        validation=data.validation,
        folder=None if folder is None else folder.checkpoints,
        resume=resume,
        callback=callback,
        name=name,
        after_epoch=exporting,
    )
    model.to("cpu").eval()
    if folder is not None:
        keep_stage(folder, model, fitted, data, training, source=source, save_hdf5=save_hdf5)
    return model, [{**row, **timing} for row, timing in zip(fitted.history, fitted.timings, strict=True)]


def stage_for(folder: RunFolder | None, name: str | None, *, apart: bool) -> RunFolder | None:
    """The folder of a part of a run.

    Args:
        folder: The run's folder, or None.
        name: Name of the part; None for the run itself.
        apart: Whether another process will use it, which may have another working directory.

    Returns:
        The folder, or None.
    """
    if folder is None:
        return None
    found = folder if name is None else folder.sub(name)
    return RunFolder(found.path.absolute()) if apart else found


def _take_up(folder: RunFolder | None, model: nn.Module, here: World) -> tuple[nn.Module, list[dict[str, Any]]]:
    """Load the result of a finished training, in all processes; only the first has the folder."""
    history: list[dict[str, Any]] = []
    if folder is not None:
        loaded = load(folder.path, model=model)
        assert not isinstance(loaded, Ensemble), "a stage has one model"
        model, history = loaded, folder.history()
    weights, history = here.told((model.state_dict(), history))
    model.load_state_dict(weights)
    return model.to("cpu").eval(), history


def _remember_presentation(model: nn.Module, data: DataSet) -> None:
    """Attach the presentation to the model: its own, completed by statistics of the data."""
    shown = presentation_of(model)
    kept = getattr(data.train.inputs, "remembered", lambda own: own or data.train.presentation)(shown)
    if kept is not shown:
        model.presentation = kept


def keep_stage(
    folder: RunFolder,
    model: nn.Module,
    fitted: Fitted,
    data: DataSet,
    training: Training,
    *,
    source: str | None,
    save_hdf5: bool,
) -> None:
    """Save the result of a training and record its files, which completes it.

    Args:
        folder: The folder to write into.
        model: On the CPU.
        fitted: Its history and last weights.
        data: Its training data.
        training: The training settings.
        source: Origin of a user's module.
        save_hdf5: Write the weights as HDF5 and nnet1 text too.
    """
    folder.write_rows("history.jsonl", fitted.history)
    folder.write_rows("timings.jsonl", fitted.timings)
    if training.keep == "best" and fitted.best_epoch != len(fitted.history):
        save_tensors(folder.path / "last.safetensors", fitted.last)
    if save_hdf5:
        _weight_files().write_final(folder.path, model)
    if data.reading is not None and data.train.labels is not None:
        data.reading.write_training(make_folder(folder.path / "model"), data.train, len(data.classes))
    save_model(folder.path / "model", model, classes=data.classes, source=source, reading=data.reading)
    folder.seal_stage()
