"""How a run is executed: its folder, processes and callbacks. None of this changes a result."""

__all__ = ["Execution", "settled_precision", "told"]

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from limbeck.options import Training
from limbeck.runs.folder import RunFolder
from limbeck.system.callbacks import Callback, Callbacks, as_callback
from limbeck.system.devices import Device, find_device
from limbeck.system.processes import is_first, on_first
from limbeck.system.progress import ProgressBar, place_of_progress


@dataclass(frozen=True, kw_only=True)
class Execution:
    """The folder, processes and callbacks of a run.

    Attributes:
        out: Folder for the run; None to write nothing.
        resume: Resume the run in ``out``.
        save_hdf5: Write weights as HDF5 and nnet1 text too.
        jobs: How many trainings run in parallel, each in its own process.
        ray: Instead of jobs: the address of a Ray cluster, or "local".
        settings: More to keep in ``config.toml``.
        callback: Receives training progress, and keeps warnings; None in all processes but the first.
    """

    out: str | Path | None = None
    resume: bool = False
    save_hdf5: bool = False
    jobs: int = 1
    ray: str | None = None
    settings: Mapping[str, Any] | None = None
    callback: Callbacks | None = None

    def settle(self, training: Training) -> tuple[Training, Device]:
        """Find the device, and the precision as measured at the start of the run or now.

        Args:
            training: Settings, whose precision may be "auto".

        Returns:
            Settings with the precision, and the device.
        """
        if self.resume and self.out is not None and training.precision == "auto":
            training = dataclasses.replace(training, precision=settled_precision(self.out))
        device = find_device(training.device, training.precision)
        return dataclasses.replace(training, precision=device.precision), device

    def watched(self) -> bool:
        """Whether somebody wants to hear of trainings while they go on in other processes of this machine."""
        return self.callback is not None and bool(self.callback.parts) and self.ray is None

    def warn(self, text: str) -> None:
        """Pass a warning to the callback."""
        (self.callback or Callback()).on_warning(text)

    def apart(self, trainings: int) -> bool:
        """Whether that many trainings run in separate processes."""
        return trainings > 1 and (self.jobs > 1 or self.ray is not None)

    def origin(self, role: str) -> str | None:
        """The origin of a user's module, as noted in the settings under its role."""
        return None if self.settings is None else self.settings.get(role)

    def note(self, text: str) -> None:
        """Pass a note to the callback."""
        (self.callback or Callback()).on_note(text)

    def with_warnings(self, metrics: dict[str, Any]) -> dict[str, Any]:
        """The metrics with the run's warnings, where there were any: whoever reads the one should see the other."""
        return (
            {**metrics, "warnings": list(self.callback.warned)} if self.callback and self.callback.warned else metrics
        )

    def conclude(self, metrics: Mapping[str, Any]) -> None:
        """Tell the callback that the run is finished, and its metrics."""
        if self.callback is not None:
            self.callback.on_run_end(metrics)

    @contextmanager
    def opened(
        self, command: str, settings: Mapping[str, Any], identity: Callable[[], Mapping[str, Any]]
    ) -> Iterator[RunFolder | None]:
        """Open and lock the run's folder, if there is one.

        Args:
            command: Which command makes such runs.
            settings: What ``config.toml`` will hold beside ``self.settings``.
            identity: Computes the digests of data, teacher and weights; called only where there is a folder.

        Yields:
            The folder; None where nothing is written, and in processes other than the first.
        """
        kept = {**(self.settings or {}), **settings}
        begun = self.callback or Callback()
        if self.out is None:
            begun.on_run_start(command, kept)
            yield None
            return
        with RunFolder(self.out).open_first(command, kept, resume=self.resume, identity=identity()) as folder:
            if folder is not None and self.callback is not None:
                # Of a run that is resumed, in their order; those that are told again count once.
                self.callback.warned = list(dict.fromkeys([*folder.warnings(), *self.callback.warned]))
                self.callback.keep = folder.keep_warnings
                if self.callback.warned:
                    folder.keep_warnings(self.callback.warned)
            begun.on_run_start(command, kept)
            yield folder


def told(callbacks: Callback | Sequence[Callback], *, progress: bool) -> Callbacks | None:
    """Who is told how a run goes, as one callback.

    Args:
        callbacks: What the caller gave.
        progress: Whether a bar is wanted too.

    Returns:
        The callback; None in all processes of a run but the first.
    """
    if not is_first():
        return None
    bars = [ProgressBar()] if progress and place_of_progress() is not None else []
    return as_callback(callbacks, *bars)


def settled_precision(out: str | Path) -> Literal["auto", "float32", "bf16"]:
    """The precision that a run measured when it began, or "auto" where there is no run; the same in all processes."""
    found = on_first(lambda: str(RunFolder(out).settled("precision", "auto")))
    return "bf16" if found == "bf16" else "float32" if found == "float32" else "auto"
