"""TOML settings: flag names, with underscores or hyphens, as top-level keys."""

__all__ = ["read_settings", "require_networks", "safe_settings"]

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from limbeck.errors import ConfigError, FormatError
from limbeck.options.methods import names_code, option_list, renamed
from limbeck.system.files import read_toml

_RENAMED = {"export": "save_hdf5"}
"""Names of settings in earlier versions."""


def read_settings(path: Path) -> dict[str, Any]:
    """Read a settings file.

    Args:
        path: A TOML file such as a run's ``config.toml``.

    Returns:
        Values by flag name, with hyphens.

    Raises:
        ConfigError: If it is missing, is not valid TOML, or holds tables or a key twice.
    """
    try:
        found = read_toml(path)
    except FormatError as error:
        raise ConfigError(f"--config {error}") from error
    settings: dict[str, Any] = {}
    for key, value in renamed(found).items():
        name = _RENAMED.get(key, key).replace("_", "-")
        if isinstance(value, dict) and name == "method-options":
            value = list(option_list(value))
        if isinstance(value, dict):
            raise ConfigError(f"--config {path}: [{key}] is a table, and settings are top-level keys")
        if name in settings:
            raise ConfigError(f"--config {path}: {name} is there twice, with hyphens and with underscores")
        settings[name] = value
    return settings


def require_networks(path: Path, settings: Mapping[str, Any], words: Sequence[str]) -> None:
    """Refuse the settings of a run in Python, whose data and networks were objects, unless flags name both.

    Args:
        path: The file.
        settings: What it holds.
        words: The command line.

    Raises:
        ConfigError: If the command would train another network on other data.
    """
    from limbeck.runs.settings import IN_PYTHON

    flags = {word.split("=")[0] for word in words}
    if "data" in settings or not path.read_text("utf-8", "replace").startswith(f"# {IN_PYTHON}"):
        return
    if "--data" not in flags or not flags & {"--model", "--student", "--hidden"}:
        raise ConfigError(
            f"--config {path} is of a run in Python, whose data and networks were objects: name them too, as in "
            "--data FILE --hidden 64"
        )


_EXECUTED = frozenset({"method", "model", "optimizer", "student", "teacher-model"})
"""Settings that may name user code, as package.module:function."""
_LIBRARIES = ("hf:", "timm:")
"""Prefixes of library models: their weights are tensors, and none of their code is executed."""


def _runs(name: str, value: str) -> bool:
    """Whether a setting names code that would be imported."""
    if name == "method":
        return names_code(value)
    return ":" in value and not value.startswith(_LIBRARIES)


def safe_settings(settings: dict[str, Any], words: Sequence[str], source: str) -> dict[str, Any]:
    """Check that a file's settings execute nothing that the command line does not ask for too.

    Args:
        settings: From :func:`read_settings`.
        words: The arguments of the command line.
        source: The file, for messages.

    Returns:
        The settings that the file may supply.

    Raises:
        ConfigError: If the file asks for shell commands or names code, and the command line does not say so too.
    """
    given = {word.split("=")[0].replace("_", "-") for word in words if word.startswith("--")}
    found = dict(settings)
    if found.pop("allow-pipes", False) and "--allow-pipes" not in given:
        raise ConfigError(
            f"--config {source} has allow_pipes, and Limbeck executes no code from files: give --allow-pipes on "
            "the command line, if you trust the script files"
        )
    for name in sorted(_EXECUTED & found.keys()):
        if _runs(name, str(found[name])) and f"--{name}" not in given:
            raise ConfigError(
                f"--config {source} names code to import, {name} = {str(found[name])!r}, and Limbeck executes no "
                f"code from files: give --{name} {found[name]} on the command line, if you trust it"
            )
    return found
