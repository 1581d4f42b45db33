"""Loggers: callbacks that write a run's settings, epochs and metrics to an experiment tracker.

Each tracker is imported when its logger is made. A run's trainings are told apart by their names, such as "student".
"""

__all__ = ["MLflowLogger", "TensorBoardLogger", "TrackioLogger", "WandbLogger", "logger_named"]

import difflib
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from limbeck.errors import ConfigError, MissingExtraError
from limbeck.system.callbacks import Callback
from limbeck.system.extras import load_extra


class _Logger(Callback):
    """What the loggers share; each says how it begins, writes numbers, and ends."""

    def __init__(self) -> None:
        self._begun, self._name = False, "training"

    def on_run_start(self, command: str, settings: Mapping[str, Any]) -> None:
        """Begin a run of the tracker, with the settings."""
        self._begin(command, dict(_flat(settings)))
        self._begun = True

    def on_start(self, name: str, epochs: int, steps: int, epoch: int) -> None:
        """Remember whose epochs follow."""
        if not self._begun:
            self.on_run_start("training", {})
        self._name = name

    def on_epoch(self, row: Mapping[str, Any]) -> None:
        """Write the epoch's numbers."""
        numbers = {name: value for name, value in _numbers(row) if name != "epoch"}
        self._write(self._name, numbers, int(row["epoch"]))

    def on_run_end(self, metrics: Mapping[str, Any]) -> None:
        """Write the metrics, and end the run of the tracker."""
        self._conclude(dict(_numbers(metrics)))
        self._begun = False

    def _begin(self, command: str, settings: dict[str, Any]) -> None:
        raise NotImplementedError

    def _write(self, training: str, numbers: dict[str, float], epoch: int) -> None:
        raise NotImplementedError

    def _conclude(self, metrics: dict[str, float]) -> None:
        raise NotImplementedError


class TensorBoardLogger(_Logger):
    """Writes to TensorBoard's files: a folder for each training, and ``run`` for settings and metrics.

    Args:
        folder: Where the logs go; ``tensorboard --logdir`` takes it.

    Raises:
        MissingExtraError: If TensorBoard is not installed.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtraError("tensorboard", "track") from error
        self._make, self._folder = SummaryWriter, Path(folder)
        self._writer: Any = None

    def on_start(self, name: str, epochs: int, steps: int, epoch: int) -> None:
        """Begin the log of the next training."""
        super().on_start(name, epochs, steps, epoch)
        self._writer = self._make(str(self._folder / name), purge_step=epoch + 1)

    def on_end(self) -> None:
        """Close the log of the training."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _begin(self, command: str, settings: dict[str, Any]) -> None:
        with self._make(str(self._folder / "run")) as writer:
            writer.add_text(command, "\n".join(f"    {name} = {value}" for name, value in settings.items()))

    def _write(self, training: str, numbers: dict[str, float], epoch: int) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, epoch)

    def _conclude(self, metrics: dict[str, float]) -> None:
        with self._make(str(self._folder / "run")) as writer:
            for name, value in metrics.items():
                writer.add_scalar(name, value, 0)


class WandbLogger(_Logger):
    """Writes to Weights & Biases: a run, with a panel of numbers for each training.

    Args:
        project: Name of the project.
        **settings: More for ``wandb.init``, such as ``name``, ``entity`` or ``mode="offline"``.

    Raises:
        MissingExtraError: If wandb is not installed.
    """

    def __init__(self, project: str = "limbeck", **settings: Any) -> None:
        super().__init__()
        self._wandb, self._project, self._settings = load_extra("wandb", "wandb"), project, settings
        self._run: Any = None

    def _begin(self, command: str, settings: dict[str, Any]) -> None:
        self._run = self._wandb.init(
            **{"project": self._project, "job_type": command, "config": settings, **self._settings}
        )

    def _write(self, training: str, numbers: dict[str, float], epoch: int) -> None:
        self._run.log({f"{training}/{name}": value for name, value in {"epoch": epoch, **numbers}.items()})

    def _conclude(self, metrics: dict[str, float]) -> None:
        self._run.summary.update(metrics)
        self._run.finish()


class MLflowLogger(_Logger):
    """Writes to MLflow: a run, whose metrics are named after the training that they are of.

    Args:
        experiment: Name of the experiment.
        tracking_uri: Address of the server, or a folder; None for what MLflow's own settings say.

    Raises:
        MissingExtraError: If MLflow is not installed.
    """

    def __init__(self, experiment: str = "limbeck", *, tracking_uri: str | None = None) -> None:
        super().__init__()
        self._mlflow, self._experiment, self._uri = load_extra("mlflow", "mlflow"), experiment, tracking_uri

    def _begin(self, command: str, settings: dict[str, Any]) -> None:
        if self._uri is not None:
            self._mlflow.set_tracking_uri(self._uri)
        self._mlflow.set_experiment(self._experiment)
        self._mlflow.start_run(run_name=command)
        self._mlflow.log_params({name: str(value)[:500] for name, value in settings.items()})

    def _write(self, training: str, numbers: dict[str, float], epoch: int) -> None:
        self._mlflow.log_metrics({f"{training}/{name}": value for name, value in numbers.items()}, step=epoch)

    def _conclude(self, metrics: dict[str, float]) -> None:
        self._mlflow.log_metrics({f"run/{name}": value for name, value in metrics.items()})
        self._mlflow.end_run()


class TrackioLogger(_Logger):
    """Writes to Trackio: a run, whose metrics are named after the training that they are of.

    Args:
        project: Name of the project.
        **settings: More for ``trackio.init``, such as ``name`` or ``space_id``.

    Raises:
        MissingExtraError: If Trackio is not installed.
    """

    def __init__(self, project: str = "limbeck", **settings: Any) -> None:
        super().__init__()
        self._trackio, self._project, self._settings = load_extra("trackio", "trackio"), project, settings

    def _begin(self, command: str, settings: dict[str, Any]) -> None:
        self._trackio.init(**{"project": self._project, "config": {"command": command, **settings}, **self._settings})

    def _write(self, training: str, numbers: dict[str, float], epoch: int) -> None:
        self._trackio.log({f"{training}/{name}": value for name, value in {"epoch": epoch, **numbers}.items()})

    def _conclude(self, metrics: dict[str, float]) -> None:
        self._trackio.log({f"run/{name}": value for name, value in metrics.items()})
        self._trackio.finish()


_LOGGERS: dict[str, Callable[..., _Logger]] = {
    "tensorboard": TensorBoardLogger,
    "wandb": WandbLogger,
    "mlflow": MLflowLogger,
    "trackio": TrackioLogger,
}


def logger_named(spelled: str, *, folder: str | Path) -> Callback:
    """The logger that ``--log`` names.

    Args:
        spelled: ``tensorboard[:FOLDER]``, ``wandb[:PROJECT]``, ``mlflow[:EXPERIMENT]`` or ``trackio[:PROJECT]``.
        folder: The run's folder: TensorBoard's logs go into it where no other is named.

    Returns:
        The logger.

    Raises:
        ConfigError: If there is no such tracker.
        MissingExtraError: If it is not installed.

    Example:
        >>> logger_named("tensorbord", folder="runs/a")
        Traceback (most recent call last):
        limbeck.errors.ConfigError: there is no logger tensorbord: did you mean tensorboard? ...
    """
    name, _, where = spelled.partition(":")
    if name not in _LOGGERS:
        near = difflib.get_close_matches(name, _LOGGERS, 1)
        meant = f": did you mean {near[0]}?" if near else ";"
        raise ConfigError(f"there is no logger {name}{meant} loggers are {', '.join(_LOGGERS)}")
    if name == "tensorboard":
        return TensorBoardLogger(where or Path(folder) / "tensorboard")
    return _LOGGERS[name](where) if where else _LOGGERS[name]()


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Values by their names, those of mappings inside under both names."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _numbers(values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The finite numbers among values."""
    for name, value in _flat(values):
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            yield name, value
