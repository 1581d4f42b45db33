"""One training of a run in its own folder: a stage, which is started, resumed, or loaded if finished."""

__all__ = [
    "Stage",
    "Trained",
    "keep_stage",
    "run_side_by_side",
    "run_stages",
    "stage_for",
    "suited",
]

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from importlib import import_module
from typing import Any

from torch import nn

from limbeck.data.data_set import DataSet
from limbeck.data.feed import Feed
from limbeck.data.trained_rows import trained_rows
from limbeck.models.calling import presentation_of
from limbeck.models.copying import copy_module
from limbeck.options import Augmentation, Training
from limbeck.protocols import Objective, Teaching
from limbeck.runs.folder import RunFolder
from limbeck.runs.inputs import check_answers
from limbeck.runs.models import load, rows_trained_on, save_model
from limbeck.system.callbacks import Callback, Recording
from limbeck.system.devices import Device
from limbeck.system.files import make_folder
from limbeck.system.jobs import run_jobs
from limbeck.system.processes import World, world
from limbeck.teachers import Ensemble
from limbeck.training.checkpoint import save_tensors
from limbeck.training.class_weights import weighted
from limbeck.training.engine import Fitted, fit
from limbeck.training.side_by_side import fit_side_by_side
from limbeck.training.stackable import Member, suit

Trained = tuple[nn.Module, list[dict[str, Any]]]
"""A model, and its history with timing."""


def _weight_files() -> Any:
    """What writes weights in the formats of other toolkits, imported where that is asked for."""
    return import_module("limbeck.kaldi.weight_files")


@dataclass(frozen=True)
class Stage:
    """One training, to be called for its model, on the CPU in evaluation mode, and its history with timing.

    A finished training is loaded from its folder.

    Attributes:
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
        copied: Whether a copy of the module is trained, and not itself.
        continues: Whether the module was trained before.
    """

    folder: RunFolder | None
    model: nn.Module
    objective: Objective
    data: DataSet
    training: Training
    device: Device
    _: KW_ONLY
    augmentation: Augmentation | None
    resume: bool
    callback: Callback | None
    source: str | None = None
    save_hdf5: bool = False
    steps: int | None = None
    name: str = "model"
    copied: bool = False
    continues: bool = False

    def __call__(self) -> Trained:
        """Train the model, or load it if that is done."""
        model, folder = self._own_model(), self.folder
        if self._done():
            return _take_up(folder, model, world())
        self._begin(model)
        exporting = _weight_files().epoch_writer(folder.path, model) if self.save_hdf5 and folder is not None else None
        fitted = fit(
            model,
            self._loss(),
            self._feed(),
            self.training,
            self.device,
            validation=self.data.validation,
            folder=None if folder is None else folder.checkpoints,
            resume=self.resume,
            callback=self.callback,
            name=self.name,
            after_epoch=exporting,
            continues=self.continues,
        )
        return self._kept(model, fitted)

    def _own_model(self) -> nn.Module:
        return copy_module(self.model, what="student") if self.copied else self.model

    def _done(self) -> bool:
        return bool(world().told(self.folder is not None and self.resume and self.folder.complete))

    def _begin(self, model: nn.Module) -> None:
        """What precedes the first step."""
        check_answers("model", model, self.data)
        _remember_presentation(model, self.data)
        if self.folder is not None:
            self.folder.unseal_stage()

    def _feed(self) -> Feed:
        teaching: Teaching | None = getattr(self.objective, "teaching", None)
        return Feed(
            self.data.train,
            batch_size=self.training.batch_size,
            augmentation=self.augmentation,
            seed=self.training.seed,
            device=self.device.device,
            world=world(),
            steps=self.steps,
            accumulate=self.training.accumulate,
            workers=self.training.workers,
            presentations=() if teaching is not None else getattr(self.objective, "presentations", ()),
            teaching=teaching,
        )

    def _loss(self) -> Objective:
        counts = self.data.train.class_counts(len(self.data.classes)) if self.training.class_weight else ()
        return weighted(self.objective, self.training, counts)

    def _member(self, model: nn.Module, callback: Callback) -> Member:
        """The training as one of several side by side."""
        return Member(
            model,
            self._loss(),
            self._feed(),
            self.training,
            self.data.validation,
            None if self.folder is None else self.folder.checkpoints,
            callback,
            self.name,
        )

    def _kept(self, model: nn.Module, fitted: Fitted) -> Trained:
        """Keep the result, if there is a folder."""
        model.to("cpu").eval()
        if self.folder is not None:
            keep_stage(
                self.folder, model, fitted, self.data, self.training, source=self.source, save_hdf5=self.save_hdf5
            )
        return model, [{**row, **timing} for row, timing in zip(fitted.history, fitted.timings, strict=True)]


def run_stages(stages: Sequence[Stage], *, done: Callable[[int, int], None] | None = None) -> list[Trained]:
    """Make several trainings in this process: side by side where that suits, else one after the other.

    Args:
        stages: The trainings.
        done: Called after each with how many are done, and all; where they are made one after the other.

    Returns:
        What each gives, in order.

    Raises:
        NonFiniteError: If a loss became NaN; trainings that were made beside it are kept.
    """  # noqa: DOC502
    if not suited(stages):
        return run_jobs(stages, done=done) if len(stages) > 1 else [stage() for stage in stages]
    found = run_side_by_side(stages)
    faults = [one for one in found if isinstance(one, Exception)]
    if faults:
        raise faults[0]
    return [one for one in found if not isinstance(one, Exception)]


def suited(stages: Sequence[Stage], *, width: int | None = None) -> bool:
    """Whether several trainings can be made side by side, and are faster so.

    Args:
        stages: The trainings.
        width: Of how many these are a part, as for :func:`run_side_by_side`.

    Returns:
        Whether that is so: see :func:`~limbeck.training.stackable.suit`.
    """
    if (width or len(stages)) < 2 or any(stage.save_hdf5 or not stage.training.side_by_side for stage in stages):
        return False
    callback = Callback()
    return suit([stage._member(stage.model, callback) for stage in stages], stages[0].device, width=width)


def run_side_by_side(
    stages: Sequence[Stage], *, places: Sequence[int] | None = None, width: int | None = None
) -> list[Trained | Exception]:
    """Make trainings side by side; the first one's callback is called as it goes, the others' when all are done.

    Args:
        stages: The trainings, for which :func:`suited` is true.
        places: Which they are of a larger number, some of which are done or to be made apart; None for all.
        width: That number.

    Returns:
        What each gives, in order, or the error that ended it.
    """
    found: dict[int, Trained | Exception] = {}
    models = [stage._own_model() for stage in stages]
    waiting = [number for number, stage in enumerate(stages) if not stage._done()]
    for number, stage in enumerate(stages):
        if number not in waiting:
            found[number] = _take_up(stage.folder, models[number], world())
    if not waiting:
        return [found[number] for number in range(len(stages))]
    first, *others = waiting
    told = stages[first].callback or Callback()
    told.on_note(f"{len(waiting)} trainings are made side by side")
    recorded = [Recording(stages[number].callback or Callback()) for number in others]
    members = []
    for number, callback in zip(waiting, [told, *recorded], strict=True):
        stages[number]._begin(models[number])
        members.append(stages[number]._member(models[number], callback))
    at = [number if places is None else places[number] for number in waiting]
    fitted = fit_side_by_side(members, stages[0].device, places=at, width=width or len(stages), resume=stages[0].resume)
    for recording in recorded:
        recording.replay()
    for number, one in zip(waiting, fitted, strict=True):
        found[number] = one if isinstance(one, Exception) else stages[number]._kept(models[number], one)
    return [found[number] for number in range(len(stages))]


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
    rows, before = trained_rows(data.train), rows_trained_on(model)  # a loaded model was trained before
    save_model(
        folder.path / "model", model, classes=data.classes, source=source, reading=data.reading,
        trained_on=before if rows is None else rows.joined(before), overwrite=True,
    )  # fmt: skip
    folder.seal_stage()
