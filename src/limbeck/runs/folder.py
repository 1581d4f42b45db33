"""A run is a folder: its settings, history, checkpoints, model, metrics and report.

::

    config.toml           the resolved settings; a run can be started again from them
    identity.json         digests of data and teacher; a run that resumes must agree in them
    history.jsonl         a line an epoch; a function of settings, data and seed alone
    timings.jsonl         a line an epoch: seconds, examples a second
    first.safetensors     the weights that its trainings start from, until the run is finished
    checkpoints/          the newest two states
    model/                config.json and model.safetensors, in the layout of the Hugging Face Hub
    last.safetensors      the weights after the last epoch, where those of an earlier one were better
    answers.safetensors   log-probabilities on the test set
    metrics.json          what was measured
    study.db, best.toml   of a search: its trials, and the settings that were best
    plan.json             the ranks of a compressed network, with spectrum.safetensors where these are needed again;
                          or the units that stay
    svd/, svd-fine-tune/  the networks on the way to a compressed one; pruned/ where units went
    report.html, figures/ to look at
    SHA256SUMS            digests of the files that are finished; model/ has its own

A training ends by listing its files (:meth:`RunFolder.seal_stage`), and a run by listing the rest with
``metrics.json``: what is listed is complete, and is compared with its digest whenever it is read.
"""

__all__ = ["RunFolder", "require_out"]

import contextlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from limbeck.errors import ConfigError, FormatError, RunError
from limbeck.options.methods import renamed
from limbeck.runs.cleanup import FIRST_WEIGHTS, give_up, sweep
from limbeck.runs.settings import plain_settings, require_settings, settings_text
from limbeck.system.callbacks import warn_user
from limbeck.system.checksums import SUMS, read_checked, read_sums, tell_unlisted
from limbeck.system.files import (
    make_folder,
    read_json,
    read_toml,
    render_json,
    replace_json,
    replace_text,
    seal_files,
    unseal_files,
    why,
)
from limbeck.system.locks import hold
from limbeck.system.processes import is_first, on_first
from limbeck.training.identity import require_agreement

_PLACES = frozenset({"data"})
"""Settings that may differ too where digests say what they stood for: a folder of images may have been renamed."""

_IDENTITY, _FIRST = "identity.json", "first weights"

_BESIDE = frozenset({".lock", "teacher"})
"""What a folder may hold before a run begins in it: a teacher trained for it is kept inside."""

_STAGE = ("history.jsonl", "timings.jsonl", "last.safetensors", "model/SHA256SUMS")
"""What a training leaves."""

_PLAN = ("plan.json", "spectrum.safetensors", "singular_values.safetensors")
"""What is decided before a compressed network is trained."""

_RESULTS = (
    "ensemble.json", "answers.safetensors", "parity.json", "parity.html", "metrics.json", "best.toml", "study.db"
)  # fmt: skip
"""What a run leaves beside its trainings; it is written anew when the run is continued."""


class RunFolder:
    """The folder of one run.

    Args:
        path: Where it is, or will be.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def checkpoints(self) -> Path:
        """Where the states are."""
        return self.path / "checkpoints"

    @property
    def complete(self) -> bool:
        """Whether a training ended here: its files are listed, or, in a run of an older version, its model is there."""
        listed = read_sums(self.path)
        if listed is None:
            return (self.path / "model" / "model.safetensors").exists()
        return "history.jsonl" in listed

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        listed = read_sums(self.path)
        return (self.path / "metrics.json").exists() and (listed is None or "metrics.json" in listed)

    def unseal_stage(self) -> None:
        """Take a training's files off the list, before they are written anew."""
        unseal_files(self.path, _STAGE)

    def seal_stage(self) -> None:
        """List a training's files: the last act of a training, which is complete by it."""
        seal_files(self.path, _STAGE)

    def unseal_results(self) -> None:
        """Take what a run leaves beside its trainings off the list, before it is written anew."""
        if (self.path / SUMS).exists():
            unseal_files(self.path, _RESULTS)

    def unseal_plan(self) -> None:
        """Take the plan of a compressed network off the list, before it is written anew."""
        unseal_files(self.path, _PLAN)

    def seal_plan(self) -> None:
        """List the plan of a compressed network, and what it needs."""
        seal_files(self.path, _PLAN)

    @contextmanager
    def open(
        self,
        command: str,
        settings: Mapping[str, Any],
        *,
        resume: bool,
        heading: str | None = None,
        identity: Mapping[str, Any] | None = None,
    ) -> Iterator["RunFolder"]:
        """Take the folder for a run, and let nobody else have it meanwhile.

        Args:
            command: Which command makes such runs, "train", "distill" or "compress".
            settings: What ``config.toml`` will hold; None values are left out.
            resume: Continue what is there, if anything is.
            heading: First line of ``config.toml``, where the command does not take that file.
            identity: Digests of what the run is of, such as data and teacher: kept in ``identity.json``, and a run that
                resumes must agree in them.

        Yields:
            The folder.

        Raises:
            RunError: If it holds something already and ``resume`` is not set, if another run has it, if it cannot
                be written, or if what it holds was started with other settings.
        """
        plain_settings(settings)  # refuses what cannot be kept, before anything is made
        try:
            missing = [path for path in (self.path, *self.path.parents) if not path.exists()]
            taken = self.require_free(resume=resume)
            make_folder(self.path)
        except OSError as error:
            raise RunError(f"cannot use {self.path} for a run: {why(error)}") from error
        try:
            with hold(self.path):
                if not taken and self._holds_something():
                    raise RunError(f"{self.path} was taken by another run just now: choose another --out")
                try:
                    if taken:
                        known = identity is not None and (self.path / _IDENTITY).exists()
                        self.agree(settings, free=_PLACES if known else ())
                        identity = self.agree_in_identity(identity)
                        sweep(self.path)
                    else:
                        sweep(self.path)
                        unseal_files(self.path, ())
                    self.write_settings("config.toml", command, settings, heading=heading)
                    if identity is not None:
                        self._write_listed(_IDENTITY, render_json(self.path / _IDENTITY, identity))
                    yield self
                except BaseException:
                    if not taken:
                        give_up(self.path)
                    raise
        except BaseException:
            for path in missing:  # what this run made, where nothing is in it
                with contextlib.suppress(OSError):
                    path.rmdir()
            raise

    @contextmanager
    def open_first(
        self, command: str, settings: Mapping[str, Any], *, resume: bool, identity: Mapping[str, Any] | None = None
    ) -> Iterator["RunFolder | None"]:
        """Take the folder for a run of one process or several: the first has it, and the others write nothing.

        Args:
            command: As for :meth:`open`.
            settings: As for :meth:`open`.
            resume: As for :meth:`open`.
            identity: As for :meth:`open`.

        Yields:
            The folder in the first process, None in the others.

        Raises:
            LimbeckError: In all of them, if the first cannot have it.
        """
        with ExitStack() as stack:

            def take() -> None:
                stack.enter_context(self.open(command, settings, resume=resume, identity=identity))

            on_first(take)
            yield self if is_first() else None

    def require_free(self, *, resume: bool) -> bool:
        """Refuse a place that cannot be a run's folder, or holds something that is not continued.

        Args:
            resume: Whether a run that is there is continued.

        Returns:
            Whether it holds something.

        Raises:
            RunError: If it cannot be used; nothing is changed.
        """
        if any("\ud800" <= letter <= "\udfff" for letter in str(self.path)):
            # The library that reads safetensors files cannot open such a path, which showed after the training.
            raise RunError(f"{str(self.path)!a} is no valid text, and cannot be a run's folder: choose another --out")
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"{self.path} is a file: give the run a folder")
        taken = self._holds_something()
        if taken and not resume:
            raise RunError(f"{self.path} exists already: continue it with --resume, or choose another --out")
        if taken and not (self.path / "config.toml").exists():
            raise RunError(f"{self.path} holds files that are no run: choose another --out")
        return taken

    def _holds_something(self) -> bool:
        """Whether there is more than a run may find, or one leaves that is killed before its settings are there."""
        if not self.path.is_dir():
            return False
        begun = {path for name in ("config.toml", SUMS) for path in self.path.glob(f".{name}.*.partial")}
        others = [path for path in self.path.iterdir() if path.name not in _BESIDE and path not in begun]
        return any(path.name != SUMS or path.stat().st_size for path in others)

    def settled(self, name: str, default: Any) -> Any:
        """What a setting that is measured when a run starts was found to be, where the run is there already.

        Args:
            name: The setting.
            default: What to return where there is no run.

        Returns:
            The setting.
        """
        return self.config().get(name, default) if (self.path / "config.toml").exists() else default

    def agree(self, settings: Mapping[str, Any], *, free: Collection[str] = ()) -> None:
        """Make sure that the run was started with these settings, but for those that may differ.

        Args:
            settings: As for :meth:`open`.
            free: Names of further settings that may differ.

        Raises:
            RunError: If it was not.
        """  # noqa: DOC502
        require_settings(self.path, self.config(), settings, finished=self.finished_stage(), free=free)

    def finished_stage(self) -> Path | None:
        """The first of the trainings in this run (its own, a baseline's, a member's, a seed's) that is finished."""
        parts = [self.path / "baseline", *self.path.glob("members/*"), *self.path.glob("seeds/*"), self.path]
        parts += self.path.glob("seeds/*/baseline")
        return next((path for path in parts if RunFolder(path).complete), None)

    def agree_in_identity(self, identity: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        """Make sure that the run was begun with the same data and teacher.

        Args:
            identity: As for :meth:`open`.

        Returns:
            What the run is of; with the first weights that it began with, where it has them or needs none.

        Raises:
            RunError: If it was not.
            FormatError: If what was kept of them cannot be read.
        """
        path = self.path / _IDENTITY
        if not path.exists():  # a run of an earlier version
            return identity
        before = read_json(path)
        if not isinstance(before, dict):
            raise FormatError(path, "holds no JSON object")
        # The parts in the order in which they are numbered: one that differs gives those behind it other numbers.
        order = ("train", "transfer", "validation", "test")
        now = identity or {}
        for name in (*order, *sorted((before.keys() | now.keys()) - {*order, _FIRST})):
            require_agreement(self.path, name, before.get(name), now.get(name))
        if before.get(_FIRST) != now.get(_FIRST):
            if self.finished or (self.path / FIRST_WEIGHTS).exists():
                return {**now, _FIRST: before.get(_FIRST)}
            warn_user(
                f"{self.path} was begun with other first weights: trainings that have begun keep theirs, the others "
                "begin with these, and student and baseline may differ; seed before the network is made, or give a "
                "function of the seed"
            )
        return identity

    def config(self) -> dict[str, Any]:
        """The settings of the run.

        Returns:
            What ``config.toml`` holds.

        Raises:
            FormatError: If it is missing or no valid TOML.
        """
        path = self.path / "config.toml"
        if not path.exists():
            raise FormatError(path, f"is missing: is {self.path} the folder of a run?")
        tell_unlisted(self.path)
        return renamed(read_toml(path))

    def write_settings(
        self, name: str, command: str, settings: Mapping[str, Any], *, heading: str | None = None
    ) -> None:
        """Write settings as TOML that a command takes with ``--config``; None values are left out.

        Args:
            name: Of the file.
            command: Which command takes them.
            settings: Values by name.
            heading: First line, where the command does not take the file. A run without a setting "data" was started
                in Python, and the command would train on other data.
        """
        self._write_listed(name, settings_text(command, settings, heading=heading))

    def _write_listed(self, name: str, text: str) -> None:
        """Write a file, unless it holds this already, and list its digest at once where there is a list."""
        path, listed = self.path / name, (self.path / SUMS).exists()
        if path.exists() and path.read_bytes() == text.encode(errors="surrogateescape"):
            return
        if listed:
            unseal_files(self.path, (name,))
        replace_text(path, text)
        if listed:
            seal_files(self.path, (name,))

    def sub(self, name: str) -> "RunFolder":
        """A run inside this one, such as the baseline.

        Args:
            name: Its path from here.

        Returns:
            The folder, made if it is missing.

        Raises:
            RunError: If this one's folder is not there any more.
        """
        if not self.path.is_dir():
            raise RunError(f"{self.path} vanished while its run was under way: start it again")
        return RunFolder(make_folder(self.path / name))

    def write_rows(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write ``name`` as JSON lines."""
        replace_text(self.path / name, "".join(json.dumps(row) + "\n" for row in rows))

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Read JSON lines; none where there is no such file.

        Returns:
            A mapping a line.

        Raises:
            FormatError: If the file cannot be read, does not match its digest, or a line is not a JSON object.
        """
        path = self.path / name
        if not path.exists():
            return []
        found = []
        try:
            text = read_checked(path).decode("utf-8", errors="replace")
        except OSError as error:
            raise FormatError(path, f"cannot be read: {error.strerror or error}") from error
        for number, line in enumerate(text.splitlines(), 1):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise FormatError(path, f"line {number} is no valid JSON") from error
            if not isinstance(row, dict):
                raise FormatError(path, f"line {number} is no JSON object")
            found.append(row)
        return found

    def history(self) -> list[dict[str, Any]]:
        """The history with its timing, a mapping an epoch."""
        timings = {str(row.get("epoch")): row for row in self.rows("timings.jsonl")}
        return [{**row, **timings.get(str(row.get("epoch")), {})} for row in self.rows("history.jsonl")]

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Write ``metrics.json``, the last file of a run, and list the digests of all: the run is finished by it."""
        unseal_files(self.path, ("metrics.json", FIRST_WEIGHTS))
        replace_json(self.path / "metrics.json", metrics)
        seal_files(self.path, (*_STAGE, *_PLAN, *_RESULTS, "config.toml", _IDENTITY))
        (self.path / FIRST_WEIGHTS).unlink(missing_ok=True)

    def metrics(self) -> dict[str, Any]:
        """Read ``metrics.json``.

        Returns:
            Its content.

        Raises:
            FormatError: If it is missing or no JSON object.
        """
        value = read_json(self.path / "metrics.json")
        if not isinstance(value, dict):
            raise FormatError(self.path / "metrics.json", "holds no JSON object")
        return value


def require_out(out: str | Path | None, *, resume: bool, save_hdf5: bool = False) -> None:
    """Refuse what needs a run's folder where there is none.

    Args:
        out: The folder, or None.
        resume: Whether a run is to be continued.
        save_hdf5: Whether weights are to be written.

    Raises:
        ConfigError: If one of them is asked for without a folder.
    """
    if out is None and resume:
        raise ConfigError("resume continues the run in a folder, and none is given: name it with out")
    if out is None and save_hdf5:
        raise ConfigError("save_hdf5 writes into the folder of a run, and none is given: name one with out")
