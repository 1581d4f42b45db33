"""How a run is carried out: its folder, its processes, and who is told of it. None of this changes a result."""

__all__ = ["Execution", "settled_precision"]

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from limbeck.options import Training
from limbeck.runs.folder import RunFolder
from limbeck.system.callbacks import Callback
from limbeck.system.devices import Device, find_device
from limbeck.system.processes import on_first


@dataclass(frozen=True, kw_only=True)
class Execution:
    """Where a run is kept, how its trainings are carried out, and who is told.

    Attributes:
        out: Folder for the run; None to write nothing.
        resume: Continue what ``out`` holds.
        save_hdf5: Write weights as HDF5 and nnet1 text too.
        jobs: How many trainings run at a time, each in a process of its own.
        ray: Instead: the address of a Ray cluster, or "local".
        settings: More to keep in ``config.toml``.
        callback: Callbacks for training progress, or None.
    """

    out: str | Path | None = None
    resume: bool = False
    save_hdf5: bool = False
    jobs: int = 1
    ray: str | None = None
    settings: Mapping[str, Any] | None = None
    callback: Callback | None = None

    def settle(self, training: Training) -> tuple[Training, Device]:
        """Find the device, and the precision that was measured when the run began or is measured now.

        Args:
            training: Settings, whose precision may be "auto".

        Returns:
            Settings with the precision, and the device.
        """
        if self.resume and self.out is not None and training.precision == "auto":
            training = dataclasses.replace(training, precision=settled_precision(self.out))
        device = find_device(training.device, training.precision)
        return dataclasses.replace(training, precision=device.precision), device

    def apart(self, trainings: int) -> bool:
        """Whether that many trainings run in processes of their own."""
        return trainings > 1 and (self.jobs > 1 or self.ray is not None)

    def origin(self, role: str) -> str | None:
        """Where the user's own module came from, as it is noted in the settings under its role."""
        return None if self.settings is None else self.settings.get(role)

    def note(self, text: str) -> None:
        """Tell whoever is told."""
        (self.callback or Callback()).note(text)

    @contextmanager
    def opened(
        self, command: str, settings: Mapping[str, Any], identity: Callable[[], Mapping[str, Any]]
    ) -> Iterator[RunFolder | None]:
        """Take the run's folder, if there is to be one.

        Args:
            command: Which command makes such runs.
            settings: What ``config.toml`` will hold beside ``self.settings``.
            identity: Gives the digests of what the run is of; called only where there is a folder.

        Yields:
            The folder; None where nothing is written, and in processes other than the first.
        """
        if self.out is None:
            yield None
            return
        kept = {**(self.settings or {}), **settings}
        with RunFolder(self.out).open_first(command, kept, resume=self.resume, identity=identity()) as folder:
            yield folder


def settled_precision(out: str | Path) -> Literal["auto", "float32", "bf16"]:
    """The precision that a run measured when it began, or "auto" where there is no run; the same in all processes."""
    found = on_first(lambda: str(RunFolder(out).settled("precision", "auto")))
    return "bf16" if found == "bf16" else "float32" if found == "float32" else "auto"
