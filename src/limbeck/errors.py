"""What can go wrong, each with an exit code: 2 for a mistake in what was given, 1 for a mistake of ours."""

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
    """Root of every error that Limbeck raises on purpose.

    The message says what was given and the cure, in one line.

    Attributes:
        exit_code: What the command line exits with: 2 for a user's mistake, 1 for ours.
    """

    exit_code = 2


class LimbeckWarning(UserWarning):
    """Something is odd, though it is not an error: a result may not mean what it seems to.

    It goes through Python's :mod:`warnings`, so that ``warnings.filterwarnings`` silences it or makes it an error.
    """


class ConfigError(LimbeckError):
    """A flag, a TOML key or an argument that is unknown, out of range or contradicts another."""


class DataError(LimbeckError):
    """Values that cannot be used: wrong shape, NaN, a label outside the classes, an empty set."""


class ItemError(DataError):
    """An item or a file among many that cannot be read, when it is wanted; the message names it."""


class ArgumentError(ConfigError, DataError):
    """An argument of a public function, a setting or values, that is of another type than the function takes."""


class MismatchError(DataError):
    """Two things that do not belong together, such as a teacher and data with other classes."""


class RunError(LimbeckError):
    """A run folder that is missing, taken, incomplete or cannot be written."""


class UserCodeError(LimbeckError):
    """A function, model or teacher of the user's own raised an error, which is the ``__cause__`` of this one."""


class MissingExtraError(LimbeckError):
    """An optional package is not installed; the message names the command that installs it."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"this needs the package {package}: install it with  pip install 'limbeck[{extra}]'")


class NonFiniteError(LimbeckError):
    """The loss became NaN or infinite; the message names the epoch and the step."""


class InterruptedRun(LimbeckError):
    """A signal stopped a run after it wrote a checkpoint; the message says how to continue.

    Args:
        message: What was saved, and how to go on.
        signal_number: The signal; the exit code is 128 more, as shells have it.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


class ParityError(LimbeckError):
    """An exported file does not decide as the model does, and is not kept.

    Args:
        message: What differs, and where the report on it is.
        ours: Whether the file is wrong, which is a mistake of ours (exit code 1); not where a margin that was asked for
            is missed by a format that rounds.
    """

    def __init__(self, message: str, *, ours: bool = True) -> None:
        super().__init__(message)
        self.exit_code = 1 if ours else 2


class SelfCheckError(LimbeckError):
    """The objective failed its own check before training: the loss itself is wrong."""

    exit_code = 1


class FormatError(LimbeckError):
    """A file that is truncated, corrupt, hostile or of another format.

    Args:
        path: The file.
        reason: What is wrong, and where possible what would be right.
        offset: Position in the (decompressed) file, in bytes, or None where it has no meaning.
    """

    def __init__(self, path: str | PathLike[str], reason: str, *, offset: int | None = None) -> None:
        self.path = str(path)
        self.reason = reason
        self.offset = offset
        where = "" if offset is None else f" at byte {offset}"
        super().__init__(f"{self.path}{where}: {reason}")
