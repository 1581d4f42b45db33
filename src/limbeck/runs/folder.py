"""A run is a folder: its settings, history, checkpoints, model, metrics and report.

::

    config.toml           the resolved settings, from which the run can be repeated
    identity.json         digests of data and teacher, which a resumed run must match
    history.jsonl         one line per epoch; a function of settings, data and seed
    timings.jsonl         one line per epoch: seconds, examples per second
    first.safetensors     the initial weights, until the run is finished
    checkpoints/          the last two states
    model/                config.json and model.safetensors, in the layout of the Hugging Face Hub
    last.safetensors      the weights after the last epoch, where an earlier epoch was better
    answers.safetensors   log-probabilities on the test set
    metrics.json          the metrics
    study.db, best.toml   of a search: its trials, and the best settings
    plan.json             the ranks of a compressed network, with spectrum.safetensors where it is needed again;
                          or the units that stay
    svd/, svd-fine-tune/  the intermediate networks of a compression; pruned/ where units went
    report.html, figures/ the report
    SHA256SUMS            digests of the finished files; model/ has its own

A training ends by recording its files (:meth:`RunFolder.seal_stage`), and a run by recording the rest with
``metrics.json``: a recorded file is complete, and is verified against its digest whenever it is read.
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
from limbeck.runs.cleanup import FIRST_WEIGHTS, WARNINGS, give_up, sweep
from limbeck.runs.settings import command_in, place_of, plain_settings, require_settings, settings_text
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
"""Settings that may also differ where digests identify their content: a folder of images may have been renamed."""

_IDENTITY, _FIRST = "identity.json", "first weights"

_BESIDE = frozenset({".lock", "teacher"})
"""What a folder may hold before a run starts in it: a teacher trained for it."""

_STAGE = ("history.jsonl", "timings.jsonl", "last.safetensors", "model/SHA256SUMS")
"""The files of a training."""

_PLAN = ("plan.json", "spectrum.safetensors", "singular_values.safetensors")
"""The files of a compression plan."""

_RESULTS = (
    "ensemble.json", "answers.safetensors", "parity.json", "parity.html", "metrics.json", "best.toml", "study.db"
)  # fmt: skip
"""The files of a run beside its trainings; rewritten when the run is resumed."""
_MADE_BY = {"comparison.json": "compare-methods", "shard-00000.safetensors": "soften"}
"""Commands by files that only their folders have."""


class RunFolder:
    """The folder of one run.

    Args:
        path: Its path.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def complete(self) -> bool:
        """Whether a training finished here: its files are recorded, or, in a run of an older version, its model
        exists.
        """
        listed = read_sums(self.path)
        if listed is None:
            return (self.path / "model" / "model.safetensors").exists()
        return "history.jsonl" in listed

    @property
    def finished(self) -> bool:
        """Whether the run is finished."""
        listed = read_sums(self.path)
        return (self.path / "metrics.json").exists() and (listed is None or "metrics.json" in listed)

    def unseal_stage(self) -> None:
        """Remove a training's files from the record, before they are rewritten."""
        unseal_files(self.path, _STAGE)

    def seal_stage(self) -> None:
        """Record a training's files: the last step of a training, which completes it."""
        seal_files(self.path, _STAGE)

    def unseal_results(self) -> None:
        """Remove a run's other files from the record, before they are rewritten."""
        if (self.path / SUMS).exists():
            unseal_files(self.path, _RESULTS)

    def unseal_plan(self) -> None:
        """Remove the plan of a compression from the record, before it is rewritten."""
        unseal_files(self.path, _PLAN)

    def seal_plan(self) -> None:
        """Record the plan of a compression, and its spectrum."""
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
        """Open the folder for a run, and lock it.

        Args:
            command: Which command makes such runs, "train", "distill" or "compress".
            settings: What ``config.toml`` will hold; None values are left out.
            resume: Resume the run in the folder, if there is one.
            heading: First line of ``config.toml``, where the command does not accept that file.
            identity: Digests of data, teacher and so on: saved in ``identity.json``, and matched when the run is
                resumed.

        Yields:
            The folder.

        Raises:
            RunError: If it is not empty and ``resume`` is not set, if another process uses it, if it cannot be written,
                or if its run was started with other settings.
        """
        plain_settings(settings)  # refuses settings that cannot be saved, before anything is written
        try:
            missing = [path for path in (self.path, *self.path.parents) if not path.exists()]
            taken = self.require_free(resume=resume, command=command)
            make_folder(self.path)
        except OSError as error:
            raise RunError(f"cannot use {self.path} for a run: {why(error)}") from error
        try:
            with hold(self.path):
                if not taken and self._holds_something():
                    raise RunError(f"{self.path} was taken by another run just now: choose another out (--out)")
                try:
                    if taken:
                        known = identity is not None and (self.path / _IDENTITY).exists()
                        self.agree(settings, free=_PLACES if known else ())
                        identity = self.agree_in_identity(identity, settings)
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
            for path in missing:  # remove a folder that this run made, if it is empty
                with contextlib.suppress(OSError):
                    path.rmdir()
            raise

    @contextmanager
    def open_first(
        self, command: str, settings: Mapping[str, Any], *, resume: bool, identity: Mapping[str, Any] | None = None
    ) -> Iterator["RunFolder | None"]:
        """Open the folder for a run of one or several processes: only the first process writes.

        Args:
            command: As for :meth:`open`.
            settings: As for :meth:`open`.
            resume: As for :meth:`open`.
            identity: As for :meth:`open`.

        Yields:
            The folder in the first process, None in the others.

        Raises:
            LimbeckError: In all processes, if the first cannot open it.
        """
        with ExitStack() as stack:

            def take() -> None:
                stack.enter_context(self.open(command, settings, resume=resume, identity=identity))

            on_first(take)
            yield self if is_first() else None

    def require_free(self, *, resume: bool, kept: str = "config.toml", command: str | None = None) -> bool:
        """Refuse a path that cannot be a run's folder, or is not empty and not resumed.

        Args:
            resume: Whether an existing run is resumed.
            kept: A file by which a run of this kind is known.
            command: Which command makes such runs; None for any.

        Returns:
            Whether the folder has content.

        Raises:
            RunError: If it cannot be used; nothing is changed.
        """
        if any("\ud800" <= letter <= "\udfff" for letter in str(self.path)):
            # safetensors cannot open such a path, which would fail only after the training.
            raise RunError(
                f"{str(self.path)!a} is not valid UTF-8, and cannot be a run's folder: choose another out (--out)"
            )
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"{self.path} is a file: give a folder")
        taken = self._holds_something()
        if taken and not resume:
            raise RunError(
                f"{self.path} exists already: resume it with resume=True (--resume), or choose another out (--out)"
            )
        made = self.made_by() if taken else None
        if made is not None and command not in {None, made}:
            raise RunError(
                f"{self.path} is of limbeck {made}, and limbeck {command} does not resume it: resume it with limbeck "
                f"{made}, or choose another out (--out)"
            )
        if taken and not (self.path / kept).exists():
            raise RunError(f"{self.path} is not empty and not a run: choose another out (--out)")
        return taken

    def made_by(self) -> str | None:
        """The command that made the folder, as far as its files say."""
        for name, command in _MADE_BY.items():
            if (self.path / name).is_file():
                return command
        try:
            with open(self.path / "config.toml", encoding="utf-8", errors="replace") as file:
                return command_in(file.readline())
        except OSError:
            return None

    def _holds_something(self) -> bool:
        """Whether there are files beyond those that a run may find, or leaves when killed at once."""
        if not self.path.is_dir():
            return False
        begun = {path for name in ("config.toml", SUMS) for path in self.path.glob(f".{name}.*.partial")}
        others = [path for path in self.path.iterdir() if path.name not in _BESIDE and path not in begun]
        return any(path.name != SUMS or path.stat().st_size for path in others)

    def settled(self, name: str, default: Any) -> Any:
        """The saved value of a setting that is measured when a run starts.

        Args:
            name: The setting.
            default: Returned where there is no run.

        Returns:
            The setting.
        """
        return self.config().get(name, default) if (self.path / "config.toml").exists() else default

    def agree(self, settings: Mapping[str, Any], *, free: Collection[str] = ()) -> None:
        """Check that the run was started with these settings, except for those that may differ.

        Args:
            settings: As for :meth:`open`.
            free: Names of further settings that may differ.

        Raises:
            RunError: If they differ.
        """  # noqa: DOC502
        require_settings(self.path, self.config(), settings, finished=self.finished_stage(), free=free)

    def finished_stage(self) -> Path | None:
        """The first finished training of this run (its own, a baseline's, a member's, a seed's)."""
        parts = [self.path / "baseline", *self.path.glob("members/*"), *self.path.glob("seeds/*"), self.path]
        parts += self.path.glob("seeds/*/baseline")
        return next((path for path in parts if RunFolder(path).complete), None)

    def agree_in_identity(
        self, identity: Mapping[str, Any] | None, settings: Mapping[str, Any]
    ) -> Mapping[str, Any] | None:
        """Check that the run was started with the same data and teacher.

        Args:
            identity: As for :meth:`open`.
            settings: As for :meth:`open`.

        Returns:
            What the run is of; with the first weights that it began with, where it has them or needs none.

        Raises:
            RunError: If they differ.
            FormatError: If the saved identity cannot be read.
        """
        path = self.path / _IDENTITY
        if not path.exists():  # from an earlier version
            return identity
        before = read_json(path)
        if not isinstance(before, dict):
            raise FormatError(path, "is not a JSON object")
        # Compare the parts in numbered order: one that differs renumbers those after it.
        order = ("train", "transfer", "validation", "test")
        now, known = identity or {}, self.config()
        for name in (*order, *sorted((before.keys() | now.keys()) - {*order, _FIRST})):
            places = place_of(name, known), place_of(name, plain_settings(settings))
            require_agreement(self.path, name, before.get(name), now.get(name), places=places)
        if before.get(_FIRST) != now.get(_FIRST):
            if self.finished or (self.path / FIRST_WEIGHTS).exists():
                return {**now, _FIRST: before.get(_FIRST)}
            warn_user(
                f"{self.path} was started with other initial weights: trainings already started keep theirs, the "
                f"others use these, so student and baseline may differ; seed before making the network, or give a "
                f"function of the seed"
            )
        return identity

    def config(self) -> dict[str, Any]:
        """The settings of the run.

        Returns:
            The contents of ``config.toml``.

        Raises:
            FormatError: If it is missing or no valid TOML.
        """
        path = self.path / "config.toml"
        if not path.exists():
            raise FormatError(path, f"is missing: is {self.path} a run folder?")
        tell_unlisted(self.path)
        return renamed(read_toml(path))

    def write_settings(
        self, name: str, command: str, settings: Mapping[str, Any], *, heading: str | None = None
    ) -> None:
        """Write settings as TOML for ``--config``; None values are left out.

        Args:
            name: File name.
            command: The command they are for.
            settings: Values by name.
            heading: First line, where the command does not accept the file. A run without a setting "data" was started
                in Python, and the command would train on other data.
        """
        self._write_listed(name, settings_text(command, settings, heading=heading))

    def _write_listed(self, name: str, text: str) -> None:
        """Write a file, unless it is unchanged, and record its digest where there is a record."""
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
            name: Its relative path.

        Returns:
            The folder, created if it is missing.

        Raises:
            RunError: If this run's folder no longer exists.
        """
        if not self.path.is_dir():
            raise RunError(f"{self.path} was deleted during the run: start it again")
        return RunFolder(make_folder(self.path / name))

    def write_rows(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write ``name`` as JSON lines."""
        replace_text(self.path / name, "".join(json.dumps(row) + "\n" for row in rows))

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Read JSON lines; empty where there is no such file.

        Returns:
            One mapping per line.

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
                raise FormatError(path, f"line {number} is not valid JSON") from error
            if not isinstance(row, dict):
                raise FormatError(path, f"line {number} is not a JSON object")
            found.append(row)
        return found

    def history(self) -> list[dict[str, Any]]:
        """The history with its timing, one mapping per epoch."""
        timings = {str(row.get("epoch")): row for row in self.rows("timings.jsonl")}
        return [{**row, **timings.get(str(row.get("epoch")), {})} for row in self.rows("history.jsonl")]

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Write ``metrics.json``, and record the digests of all files, which completes the run."""
        unseal_files(self.path, ("metrics.json", FIRST_WEIGHTS))
        replace_json(self.path / "metrics.json", metrics)
        seal_files(self.path, (*_STAGE, *_PLAN, *_RESULTS, "config.toml", _IDENTITY))
        for name in (FIRST_WEIGHTS, WARNINGS):
            (self.path / name).unlink(missing_ok=True)

    def keep_warnings(self, texts: Sequence[str]) -> None:
        """Keep the warnings of a run that is under way, for when it is resumed; ``metrics.json`` takes their place."""
        replace_json(self.path / WARNINGS, list(texts))

    def warnings(self) -> list[str]:
        """The warnings of this run so far, finished or not; none where they cannot be read."""
        kept: Any = None
        with contextlib.suppress(FormatError):
            if self.finished:
                kept = self.metrics().get("warnings")
            elif (self.path / WARNINGS).exists():
                kept = read_json(self.path / WARNINGS)
        return [str(text) for text in kept] if isinstance(kept, list) else []

    def metrics(self) -> dict[str, Any]:
        """Read ``metrics.json``.

        Returns:
            Its content.

        Raises:
            FormatError: If it is missing or no JSON object.
        """
        value = read_json(self.path / "metrics.json")
        if not isinstance(value, dict):
            raise FormatError(self.path / "metrics.json", "is not a JSON object")
        return value


def require_out(out: str | Path | None, *, resume: bool, save_hdf5: bool = False) -> None:
    """Refuse options that need a run's folder where there is none.

    Args:
        out: The folder, or None.
        resume: Whether a run is resumed.
        save_hdf5: Whether weights are written as HDF5.

    Raises:
        ConfigError: If one of them is asked for without a folder.
    """
    if out is None and resume:
        raise ConfigError("resume needs a run's folder, and none is given: give out")
    if out is None and save_hdf5:
        raise ConfigError("save_hdf5 needs a run's folder, and none is given: give out")
