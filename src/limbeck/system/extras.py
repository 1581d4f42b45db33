"""Optional packages, imported where they are used."""

__all__ = ["load_extra"]

import importlib
from typing import Any

from limbeck.errors import MissingExtraError


def load_extra(module: str, extra: str, *, package: str | None = None) -> Any:
    """Import a module of an optional package.

    Args:
        module: Its name, such as ``"pandas"``.
        extra: The extra of Limbeck that installs it.
        package: The name it is installed by, where that is another.

    Returns:
        The module.

    Raises:
        MissingExtraError: If it is not installed.

    Example:
        >>> load_extra("numpy", "table").__name__
        'numpy'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(package or module.partition(".")[0], extra) from error
