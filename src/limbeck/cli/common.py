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
    "SaveHdf5",
    "Track",
    "Train",
    "Views",
    "kept_settings",
    "open_examples",
    "track_with",
]

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from limbeck.cli.console import Bar, say
from limbeck.options import Augmentation, DataOptions, Network, Training
from limbeck.options.kinds import every_option
from limbeck.system.watcher import Watcher, Watchers

if TYPE_CHECKING:
    from limbeck.data import DataSet

if TYPE_CHECKING:
    Data = Annotated[DataOptions, Parameter(name="*", group="Data")]
else:  # with the settings of all kinds of data; whoever opens them takes those of the kind, and refuses the rest
    Data = Annotated[every_option(), Parameter(name="*", group="Data")]
NetworkSizes = Annotated[Network, Parameter(name="*", group="Network")]
Train = Annotated[Training, Parameter(name="*", group="Training")]
Views = Annotated[Augmentation, Parameter(name="*", group="Random views")]
Out = Annotated[Path, Parameter(group="Run")]
Resume = Annotated[bool, Parameter(group="Run", negative=())]
Json = Annotated[bool, Parameter(name="--json", group="Run", negative=())]
Quiet = Annotated[bool, Parameter(group="Run", negative=())]
SaveHdf5 = Annotated[bool, Parameter(group="Run", negative=())]
Config = Annotated[Path | None, Parameter(group="Run")]
Jobs = Annotated[int, Parameter(group="Run")]
Ray = Annotated[str | None, Parameter(group="Run")]
Track = Annotated[Literal["tensorboard"] | None, Parameter(group="Run")]


def open_examples(options: DataOptions, *, quiet: bool = False) -> "DataSet":
    """Open the data that options name, with a bar where that takes long, and say what there is to say of them.

    Args:
        options: Which data.
        quiet: No bar.

    Returns:
        The data set.
    """
    from limbeck.data import open_data

    with Bar("reading", quiet=quiet) as bar:
        examples = open_data(options, progress=bar.show)
    for note in examples.notes:
        say(note)
    return examples


def kept_settings(options: DataOptions) -> dict[str, Any]:
    """What a run keeps of the settings of its data: those that their kind has.

    Args:
        options: Which data; they exist.

    Returns:
        Values by name.
    """
    from limbeck.data.registry import claimed

    return dataclasses.asdict(claimed(options.data, options)[1])


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
    from limbeck.system.tracking import TensorBoardWatcher

    return Watchers(watcher, TensorBoardWatcher(folder / "tensorboard"))
