"""Errors in user code: reported in one line, with the user's traceback as their cause."""

__all__ = ["introduce_error", "is_out_of_memory"]

from typing import NoReturn

import torch

from limbeck.errors import LimbeckError, UserCodeError

_SIGNS = ("out of memory", "not enough memory", "can't allocate memory", "failed to allocate")


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
