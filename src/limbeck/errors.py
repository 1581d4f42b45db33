"""Exceptions, each with an exit code: 2 for a user's mistake, 1 for a fault of Limbeck."""

__all__ = [
    "ArgumentError",
    "ConfigError",
    "DataError",
    "FormatError",
    "InterruptedRun",
    "ItemError",
    "LimbeckError",
    "LimbeckWarning",
    "MismatchError",
    "MissingExtraError",
    "NonFiniteError",
    "ParityError",
    "RunError",
    "SelfCheckError",
    "UserCodeError",
]

from os import PathLike


class LimbeckError(Exception):
    """Base class of every error that Limbeck raises on purpose.

    The message says what was given and the cure, in one line.

    Attributes:
        exit_code: Exit code of the command line: 2 for a user's mistake, 1 for a fault of Limbeck.
    """

    exit_code = 2


class LimbeckWarning(UserWarning):
    """A result may not mean what it seems to, although nothing is an error.

    It goes through Python's :mod:`warnings`, so that ``warnings.filterwarnings`` silences it or makes it an error.
    """


class ConfigError(LimbeckError):
    """A flag, TOML key or argument is unknown, out of range or contradicts another."""


class DataError(LimbeckError):
    """Invalid values: wrong shape, NaN, a label outside the classes, an empty set."""


class ItemError(DataError):
    """One item or file among many cannot be read when it is needed; the message names it."""


class ArgumentError(ConfigError, DataError):
    """An argument of a public function has the wrong type."""


class MismatchError(DataError):
    """Two things do not belong together, such as a teacher and data with other classes."""


class RunError(LimbeckError):
    """A run folder is missing, in use, incomplete or not writable."""


class UserCodeError(LimbeckError):
    """A user's function, model or teacher raised an error, which is the ``__cause__`` of this one."""


class MissingExtraError(LimbeckError):
    """An optional package is not installed; the message names the extra and the commands that install it.

    Args:
        package: Its name.
        extra: The extra of Limbeck that it belongs to.
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"this needs the package {package}: install the extra {extra!r}, in a clone of Limbeck with  "
            f"pip install '.[{extra}]'  (or -e '.[{extra}]'), elsewhere with  pip install 'limbeck[{extra}]'"
        )


class NonFiniteError(LimbeckError):
    """The loss became NaN or infinite; the message names the epoch and the step."""


class InterruptedRun(LimbeckError):
    """A signal stopped a run after it wrote a checkpoint; the message says how to continue.

    Args:
        message: What was saved, and how to continue.
        signal_number: The signal; the exit code is 128 plus this number, as in shells.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


class ParityError(LimbeckError):
    """The predictions of an exported file differ from the model's, so it is not kept.

    Args:
        message: What differs, and where the parity report is.
        ours: Whether the file is wrong, which is a fault of Limbeck (exit code 1); False where a rounding format misses
            the margin that was asked for.
    """

    def __init__(self, message: str, *, ours: bool = True) -> None:
        super().__init__(message)
        self.exit_code = 1 if ours else 2


class SelfCheckError(LimbeckError):
    """The objective failed its self-check before training: the loss itself is wrong."""

    exit_code = 1


class FormatError(LimbeckError):
    """A file that is truncated, corrupt, hostile or of another format.

    Args:
        path: The file.
        reason: What is wrong, and where possible what was expected.
        offset: Position in the (decompressed) file, in bytes, or None where it has no meaning.
    """

    def __init__(self, path: str | PathLike[str], reason: str, *, offset: int | None = None) -> None:
        self.path = str(path)
        self.reason = reason
        self.offset = offset
        where = "" if offset is None else f" at byte {offset}"
        super().__init__(f"{self.path}{where}: {reason}")
