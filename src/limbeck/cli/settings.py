"""TOML settings: the flags' names, with underscores or hyphens, on the top level."""

__all__ = ["read_settings"]

from pathlib import Path
from typing import Any

from limbeck.errors import ConfigError, FormatError
from limbeck.files import read_toml


def read_settings(path: Path) -> dict[str, Any]:
    """Read a settings file.

    Args:
        path: A TOML file such as a run's ``config.toml``.

    Returns:
        Values by flag name, with hyphens.

    Raises:
        ConfigError: If it is missing, no valid TOML, or holds tables or a key twice.
    """
    try:
        found = read_toml(path)
    except FormatError as error:
        raise ConfigError(f"--config {error}") from error
    settings: dict[str, Any] = {}
    for key, value in found.items():
        name = key.replace("_", "-")
        if isinstance(value, dict):
            raise ConfigError(f"--config {path}: [{key}] is a table, and settings are keys on the top level")
        if name in settings:
            raise ConfigError(f"--config {path}: {name} is there twice, with hyphens and with underscores")
        settings[name] = value
    return settings
