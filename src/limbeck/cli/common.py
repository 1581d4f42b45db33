"""Types that several commands share."""

__all__ = [
    "Config",
    "Data",
    "Jobs",
    "Json",
    "NetworkSizes",
    "Out",
    "Quiet",
    "Ray",
    "Resume",
    "Track",
    "Train",
    "Views",
    "track_with",
]

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from limbeck.options import Augmentation, DataOptions, Network, Training
from limbeck.watcher import Watcher, Watchers

Data = Annotated[DataOptions, Parameter(name="*", group="Data")]
NetworkSizes = Annotated[Network, Parameter(name="*", group="Network")]
Train = Annotated[Training, Parameter(name="*", group="Training")]
Views = Annotated[Augmentation, Parameter(name="*", group="Random views")]
Out = Annotated[Path, Parameter(group="Run")]
Resume = Annotated[bool, Parameter(group="Run", negative=())]
Json = Annotated[bool, Parameter(name="--json", group="Run", negative=())]
Quiet = Annotated[bool, Parameter(group="Run", negative=())]
Config = Annotated[Path | None, Parameter(group="Run")]
Jobs = Annotated[int, Parameter(group="Run")]
Ray = Annotated[str | None, Parameter(group="Run")]
Track = Annotated[Literal["tensorboard"] | None, Parameter(group="Run")]


def track_with(name: str | None, folder: Path, watcher: Watcher) -> Watcher:
    """A watcher that also writes to a tracker, where one is asked for.

    Args:
        name: "tensorboard", or None.
        folder: The run's folder; logs go to ``tensorboard/`` in it.
        watcher: The watcher there is.

    Returns:
        A watcher.
    """
    if name is None:
        return watcher
    from limbeck.tracking import TensorBoardWatcher

    return Watchers(watcher, TensorBoardWatcher(folder / "tensorboard"))
