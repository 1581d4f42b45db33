"""User code: found by its name, its errors reported in one line with the user's traceback as their cause."""

__all__ = ["import_user_module", "introduce_error", "is_out_of_memory", "refuse_misfit"]

import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import NoReturn

import torch

from limbeck.errors import ConfigError, LimbeckError, MismatchError, UserCodeError

_SIGNS = ("out of memory", "not enough memory", "can't allocate memory", "failed to allocate")


def import_user_module(name: str, called: str) -> ModuleType:
    """Import a module that the user names, from the current folder too, which a console script does not look into.

    Args:
        name: Such as ``package.module``.
        called: What names it, for the message.

    Returns:
        The module.

    Raises:
        ConfigError: If it cannot be imported, or raises while it is.

    Example:
        >>> import_user_module("math", "model math:gcd").gcd(4, 6)
        2
    """
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)  # last: nothing there comes before an installed package of the same name
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"{called}: the module {name} cannot be imported ({error}); it must be in the current folder or on "
            "PYTHONPATH"
        ) from error
    except Exception as error:  # any error while importing the user's module
        raise ConfigError(f"{called} failed: {type(error).__name__}: {error}") from error


def introduce_error(error: Exception, called: str, given: str) -> NoReturn:
    """Wrap an error of a user's function, model or teacher in a one-line error that names it and its inputs.

    Args:
        error: What was raised. Limbeck's own errors and those of memory pass as they are.
        called: Name of what was called.
        given: What it was given, such as ``"inputs of shape (256, 784)"``.

    Raises:
        UserCodeError: Whose ``__cause__`` is the error.

    Example:
        >>> introduce_error(KeyError("head"), "Student", "inputs of shape (256, 784)")
        Traceback (most recent call last):
        limbeck.errors.UserCodeError: Student raised KeyError on inputs of shape (256, 784): 'head'
    """
    if isinstance(error, LimbeckError) or is_out_of_memory(error):
        raise error
    reason = " ".join(str(error).split())[:300]
    raise UserCodeError(f"{called} raised {type(error).__name__} on {given}{': ' if reason else ''}{reason}") from error


@contextmanager
def refuse_misfit(role: str, shape: Sequence[int], source: str = "the data", cure: str = "") -> Iterator[None]:
    """Where a model is first tried on data: its error says which model and which data do not fit together.

    Args:
        role: What to call the model, such as "teacher".
        shape: Of one example.
        source: What to call the data.
        cure: A further sentence, or nothing.

    Yields:
        Nothing.

    Raises:
        MismatchError: If the user's code raised an error.

    Example:
        >>> with refuse_misfit("student", (784,), "digits.npz"):
        ...     introduce_error(RuntimeError("shapes cannot be multiplied"), "Net", "inputs of shape (1, 784)")
        Traceback (most recent call last):
        limbeck.errors.MismatchError: the student cannot take an example of shape (784,) from digits.npz: Net raised
        RuntimeError on inputs of shape (1, 784): shapes cannot be multiplied
    """
    try:
        yield
    except UserCodeError as error:
        hint = f" ({cure})" if cure else ""
        raise MismatchError(
            f"the {role} cannot take an example of shape {tuple(shape)} from {source}{hint}: {error}"
        ) from error.__cause__


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is used up, on a processor or an accelerator.

    Args:
        error: Any error.

    Returns:
        Whether it does.

    Example:
        >>> is_out_of_memory(RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"))
        True
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _SIGNS)
