"""The settings of a run in ``config.toml``: written, read, and compared on resuming."""

__all__ = ["IN_PYTHON", "command_in", "options_of", "place_of", "plain_settings", "require_settings", "settings_text"]

import dataclasses
import re
from collections.abc import Collection, Mapping
from datetime import date, time
from pathlib import Path
from typing import Any

import tomli_w

from limbeck.errors import ConfigError, FormatError, RunError
from limbeck.options import Augmentation, DataOptions, Distillation, ModelOptions, Training
from limbeck.options.checks import shown
from limbeck.options.kinds import every_option
from limbeck.options.methods import renamed

_FREE_KEYS = frozenset(
    {
        "epochs",
        "patience",
        "device",
        "checkpoint_minutes",
        "skip_nonfinite",
        "trials",
        "timeout_minutes",
        "jobs",
        "workers",
        "compile",
        "cuda_graphs",
        "side_by_side",
    }
)
"""Settings that may differ when a run is resumed; option fields with the metadata "free" may too."""


_LENGTH = frozenset({"epochs", "patience", "skip_nonfinite"})
"""Of these, settings that may not differ for a finished training."""

_DEFAULTS = {
    field.name: list(field.default) if isinstance(field.default, tuple) else field.default
    for options in (Training, Distillation, Augmentation, DataOptions, ModelOptions)
    for field in dataclasses.fields(options)
}
"""Values of settings in runs of versions without them."""

_UNSET = {"deltas": 0, "norm_vars": False}
"""Defaults of earlier versions in place of None, which means the same where nothing else says it."""

_RENAMED = {"export": "save_hdf5"}
"""Names of settings in earlier versions."""

IN_PYTHON = "A run of limbeck."
"""How the first line of the settings of a run in Python begins."""

_STARTED_BY = {True: "on the command line", False: "in Python"}
"""Only the command line has a setting "data"; in Python data are objects."""

_PLACES_OF = {
    "train": ("data",), "validation": ("validation_data", "data"), "test": ("test_data", "data"),
    "transfer": ("transfer",), "teacher": ("teacher_targets", "teacher"),
}  # fmt: skip
"""Settings that name the places of what is identified by a digest."""


def plain_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Convert settings to TOML values; None values are left out, since TOML has none.

    Args:
        settings: Values by name.

    Returns:
        Plain values by name.

    Raises:
        ConfigError: If a value is not a string, a number, or a list or mapping of these.
    """  # noqa: DOC502
    return {name: _plain(value) for name, value in settings.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if not isinstance(value, str | bool | int | float | date | time):
        raise ConfigError(f"settings must be strings or numbers, and one is {shown(value)}: leave it out")
    return value


def settings_text(command: str, settings: Mapping[str, Any], *, heading: str | None = None) -> str:
    """Settings as TOML for ``--config``.

    Args:
        command: The command they are for.
        settings: Values by name; None values are left out.
        heading: First line, where the command does not accept the file. A run without a setting "data" was started in
            Python, and the command would train on other data.

    Returns:
        The contents of the file.
    """
    again = f"Repeat this run with:  limbeck {command} --config THIS_FILE --out NEW_FOLDER"
    if "data" not in settings:
        again = f"{IN_PYTHON}{command} in Python, with data and networks as objects"
    return f"# {heading or again}\n{tomli_w.dumps(plain_settings(settings))}"


def place_of(name: str, settings: Mapping[str, Any]) -> str | None:
    """The file or folder of a part of the data, or of a teacher, by a run's settings.

    Args:
        name: Of the part, or "teacher".
        settings: The settings.

    Returns:
        The path; None where they name none.

    Example:
        >>> place_of("test", {"data": "letters"}), place_of("transfer", {"data": "letters"})
        ('letters', None)
    """
    for key in _PLACES_OF.get(name, ()):
        value = settings.get(key)
        if value:
            return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return None


def command_in(text: str) -> str | None:
    """The command that made a run, by the first line of its settings.

    Args:
        text: The contents of the file, or its beginning.

    Returns:
        The command; None where the line says none.

    Example:
        >>> command_in(settings_text("train", {"epochs": 3})), command_in("epochs = 3")
        ('train', None)
    """
    found = re.match(rf"# (?:Repeat this run with:  limbeck |{IN_PYTHON})([a-z][a-z-]*)\b", text)
    return None if found is None else found[1]


def require_settings(
    path: Path,
    before: Mapping[str, Any],
    settings: Mapping[str, Any],
    *,
    finished: Path | None,
    free: Collection[str] = (),
) -> None:
    """Check that a run was started with these settings, except for those that may differ.

    Args:
        path: The run folder.
        before: The settings that it was started with.
        settings: The settings that it is resumed with.
        finished: A finished training of it, or None.
        free: Names of further settings that may differ.

    Raises:
        RunError: If others differ.
    """
    before = {_RENAMED.get(name, name): value for name, value in renamed(before).items()}
    config, own = plain_settings(settings), _own_fields()
    if ("data" in before) != ("data" in config):
        begun, here = _STARTED_BY["data" in before], _STARTED_BY["data" in config]
        raise RunError(
            f"{path} was started {begun}, and now it is resumed {here}, which may have other data and "
            f"networks: resume it {begun}, or choose another out (--out)"
        )
    for name in sorted(set(before) | set(config)):
        # Kinds of data have settings of their own, which runs of other kinds do not save.
        field = own.get(name)
        default = None if field is None else field.default
        started, now = before.get(name, _DEFAULTS.get(name, default)), config.get(name, default)
        if finished is not None and name in _LENGTH and started != now:
            raise RunError(
                f"{finished} is finished with {name} = {started}, and now it is {now}: a finished "
                f"training cannot be extended; resume with {name} = {started}, or choose another out (--out)"
            )
        of_kind = field is not None and field.metadata.get("free", False)
        same = started == now or (now is None and name in _UNSET and started == _UNSET[name])
        if name not in _FREE_KEYS and name not in free and not of_kind and not same:
            was = f"without {name}" if started is None else f"with {name} = {started!r}"
            raise RunError(
                f"{path} was started {was}, and now it is {'left out' if now is None else repr(now)}: resume with the "
                "same settings, or choose another out (--out)"
            )


def _own_fields() -> dict[str, dataclasses.Field[Any]]:
    """The settings that only some kinds of data have, by name."""
    plain = {field.name for field in dataclasses.fields(DataOptions)}
    return {field.name: field for field in dataclasses.fields(every_option()) if field.name not in plain}


def options_of(run: Path, config: Mapping[str, Any]) -> DataOptions:
    """The data settings of a run's ``config.toml``.

    Args:
        run: The run folder.
        config: Data settings by name.

    Returns:
        The settings.

    Raises:
        FormatError: If a value has the wrong type.
    """
    plain = every_option()()
    for name, value in config.items():
        kind = type(getattr(plain, name, None))
        right = (
            (str, int, float, bool, list) if kind is type(None) else (int, float) if kind in {int, float} else (kind,)
        )
        if not isinstance(value, right) and value is not None:
            raise FormatError(run / "config.toml", f"{name} cannot be {str(value)[:60]!r}")
    return every_option()(**config)
