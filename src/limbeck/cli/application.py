"""The commands as cyclopts runs them: the words of a command line become a call of its function, or one error line.

A command's module is imported when the command is named, and torch when it runs.
"""

__all__ = ["app", "run"]

import difflib
import itertools
import re
import signal
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import cyclopts

from limbeck import __version__
from limbeck.cli.commands import COMMANDS, find_command
from limbeck.cli.settings import read_settings, require_networks, safe_settings
from limbeck.errors import ConfigError, InterruptedRun, LimbeckError
from limbeck.system.interrupts import Terminated

app = cyclopts.App(
    name="limbeck",
    version=__version__,
    help_flags=(),
    suppress_keyboard_interrupt=False,  # else it ends without a word
    default_parameter=cyclopts.Parameter(consume_multiple=True, negative_iterable=()),
)
for _commands in COMMANDS.values():
    for _one in _commands:
        app.command(_one.place, name=_one.name)

_CONTINUING = frozenset({"soften", "reproduce"})
"""Commands that continue without a flag."""
_HELP = ("--help", "-h", "--help-all")
_FOR_EXAMPLE = {
    "method_options": "beta=2", "methods": "kd dkd", "hidden": "1200 1200", "channels": "32 64", "rank": "50",
    "teacher": "runs/teacher", "model": "runs/teacher", "to": "onnx int8", "log": "tensorboard",
    "label_columns": "cat dog", "leave_out": "name", "category_columns": "postcode",
    "temperatures": "1 2 4", "acoustic_scales": "0.1 0.2",
    "learning_rates": "0.001 0.01", "decoded": "decoded.json",
}  # fmt: skip
"""Values of flags that take several."""
_NUMBERS: dict[object, str] = {int: "a whole number", float: "a number"}
_BY_KIND = {"INT": "1 2", "NUMBER": "0.5 1", "PATH": "FILE"}


def run(words: list[str]) -> None:
    """Run a command.

    Args:
        words: The words after ``limbeck``, at least one.

    Raises:
        LimbeckError: For a mistake in what was given.
        InterruptedRun: If SIGINT or SIGTERM stopped it.
    """
    _refuse_renamed(words)
    _refuse_unknown(words)
    asked = [word for word in words if word in _HELP]
    if asked or words == ["kaldi"]:  # a group of commands without a command
        from limbeck.cli.help import print_help

        print_help(app, words, every="--help-all" in asked)
        return
    words = _with_config(_with_equals(words))
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            app(words, result_action="return_value", exit_on_error=False, print_error=False)
    except cyclopts.CycloptsError as error:
        raise _misspelt(error, words) from error
    except KeyboardInterrupt as stop:
        number = signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT
        raise InterruptedRun(f"stopped by {number.name}{_how_to_continue(words)}", number) from stop
    except LimbeckError as error:
        from limbeck.cli.flag_names import in_flags
        from limbeck.cli.help import arguments_of

        known = {str(one.field_info.name): one.name for one in arguments_of(app, words)}
        error.args = (in_flags(str(error), known), *error.args[1:])
        raise


def _how_to_continue(words: list[str]) -> str:
    """What a user types to continue a command that was stopped, where that is possible."""
    from limbeck.cli.help import arguments_of

    if words[0] in _CONTINUING or "--resume" in words:
        return "; what was finished is kept, the same command continues"
    resumes = any(one.name == "--resume" for one in arguments_of(app, words))
    return "; what was finished is kept, the same with --resume continues" if resumes else ""


def _show_warning(*given: Any, **more: Any) -> None:
    from limbeck.cli.console import show_warning

    show_warning(*given, **more)


def _refuse_renamed(words: list[str]) -> None:
    """Name the flag that replaces one of an earlier version."""
    given = {word.split("=")[0] for word in words}
    if "--track" in given:
        raise ConfigError("--track is called --log now: --log tensorboard, or wandb, mlflow, trackio")
    if given & {"--loss", "--losses"}:
        raise ConfigError(
            "--loss is called --method now, and --losses --methods: kd is what kl was, and logits is as it was; "
            "limbeck methods lists them"
        )


def _refuse_unknown(words: list[str]) -> None:
    """Refuse a command that does not exist."""
    if find_command(words[0]) is not None:
        return
    names = [command.name for commands in COMMANDS.values() for command in commands]
    near = difflib.get_close_matches(words[0], names, 1)
    what = "a command is needed before" if words[0].startswith("-") else "there is no command"
    raise ConfigError(f"{what} {words[0]}{f': did you mean {near[0]}?' if near else ''}; see limbeck --help")


def _with_equals(words: list[str]) -> list[str]:
    """Join values such as -5KB to their flags, since cyclopts takes them for flags; it knows plain negative numbers."""
    found: list[str] = []
    for word in words:
        before = found[-1] if found else ""
        if re.match(r"-\.?\d", word) and not _is_number(word) and re.fullmatch(r"--[a-z][\w-]*", before):
            found[-1] = f"{before}={word}"
        else:
            found.append(word)
    return found


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _misspelt(error: cyclopts.CycloptsError, words: list[str]) -> ConfigError:
    """The message of an argument error of cyclopts, with the help command to read."""
    command = " ".join(("limbeck", *(error.command_chain or ())))
    found = " ".join(str(error).split()).rstrip(".")
    if isinstance(error, cyclopts.MissingArgumentError) and error.argument is not None:
        # A misspelt flag is often why another is missing, and cyclopts reports missing ones first.
        found = _unknown_flag(words) or found
        if found.endswith("requires an argument"):
            needs = f"{command} needs {error.argument.name}"
            found = _hyphen_after(error.argument.names, words) or (found if error.argument.tokens else needs)
    if isinstance(error, cyclopts.UnusedCliTokensError):
        # Where a leading hyphen is allowed, a misspelt flag took the place of a path.
        found = _unknown_flag(words) or _left_over(error.unused_tokens or [], command)
    if isinstance(error, cyclopts.RepeatArgumentError):
        found = f"{error.token.keyword} is given more than once: leave all but one out"
    if isinstance(error, cyclopts.CoercionError) and error.token is not None and error.target_type in _NUMBERS:
        name, value = error.token.keyword or (error.argument.name if error.argument else "a value"), error.token.value
        found = f"{name} must be {_NUMBERS[error.target_type]}, and is {value!r}"
        if name == "--validation":
            found += ": it is a share or a count, and --validation-data names a file to choose by"
    return ConfigError(f"{found}; see {command} --help")


def _left_over(tokens: Sequence[str], command: str) -> str:
    """What a command has no place for."""
    rest = f" and {len(tokens) - 3} more" if len(tokens) > 3 else ""
    return (
        f"{command} has no place for {', '.join(map(repr, tokens[:3]))}{rest}: leave it out, or name the flag that it "
        "belongs to, if that takes several values"
    )


def _hyphen_after(names: Sequence[str], words: Sequence[str]) -> str | None:
    """The refusal of a value that begins with a hyphen, and was taken for a flag; None where there is none."""
    for flag, word in itertools.pairwise(words):
        if flag in names and re.match(r"-[^-]", word):
            return f"{word} after {flag} is taken for a flag: write {flag}={word} if it is the value"
    return None


def _unknown_flag(words: list[str]) -> str | None:
    """The first unknown flag, with the closest known one; None where there is none."""
    from limbeck.cli.help import arguments_of

    known = {name for argument in arguments_of(app, words) for name in argument.names}
    for word in words if known else ():
        flag = word.split("=")[0]
        if flag == "--":
            return None
        if flag.startswith("--") and flag.replace("_", "-") not in known:
            near = difflib.get_close_matches(flag, sorted(known), 1)
            return f"Unknown option: {flag}" + (f". Did you mean {near[0]}?" if near else "")
    return None


def _with_config(words: list[str]) -> list[str]:
    """Let ``--config FILE`` supply the flags that are not given; its keys are the flags' names."""
    path: str | None = None
    rest: list[str] = []
    waiting = False
    for word in words:
        if waiting:
            path, waiting = word, False
        elif word == "--config":
            waiting = True
        elif word.startswith("--config="):
            path = word.removeprefix("--config=")
        else:
            rest.append(word)
    if waiting or path == "":
        raise ConfigError("--config needs a file: --config run.toml")
    if path is None:
        app.config = (_no_values, _no_empty_values, _whole_numbers)
        return rest
    settings = safe_settings(read_settings(Path(path)), rest, path)
    require_networks(Path(path), settings, rest)

    def fill_in(command: cyclopts.App, names: tuple[str, ...], arguments: cyclopts.ArgumentCollection) -> None:
        # Under the command's name: on the top level cyclopts passes over a key, "data", that is a command's name too.
        table: dict[str, Any] = settings
        for name in reversed(names):
            table = {name: table}
        cyclopts.config.Dict(table, source=path)(command, names, arguments)

    app.config = (fill_in, _no_values, _no_empty_values, _whole_numbers)
    return rest


def _no_values(_: object, __: tuple[str, ...], arguments: cyclopts.ArgumentCollection) -> None:
    """Refuse a flag of the command line that takes several values and is given none."""
    for argument in arguments:
        if any(token.implicit_value in ((), [], {}) and token.source == "cli" for token in argument.tokens):
            from limbeck.cli.help import kind_of_values

            kind, name = kind_of_values(argument.hint), str(argument.field_info.name)
            example = _FOR_EXAMPLE.get(name) or _BY_KIND.get(kind.rstrip("."), "NAME")
            raise ConfigError(
                f"{argument.name} takes one value or more ({kind}), and none is given: as in {argument.name} {example}"
            )


def _no_empty_values(_: object, names: tuple[str, ...], arguments: cyclopts.ArgumentCollection) -> None:
    """Refuse an empty text, which an unset variable of a shell leaves: as a path it is the current folder."""
    for argument in arguments:
        if "kaldi" in names or argument.name.endswith(("-column", "-columns", "-separator", "--leave-out")):
            continue
        if any(token.value == "" and token.source == "cli" and not _has_implicit(token) for token in argument.tokens):
            raise ConfigError(f"{argument.name} is an empty text: is a variable of the shell unset?")


def _has_implicit(token: cyclopts.Token) -> bool:
    """Whether a flag stands for its value, as one without a value does."""
    return token.implicit_value is not cyclopts.UNSET


def _whole_numbers(_: object, __: tuple[str, ...], arguments: cyclopts.ArgumentCollection) -> None:
    """Refuse 2.5 for an integer, which cyclopts would round."""
    for argument in arguments:
        if _types_in(argument.hint).isdisjoint({int}) or float in _types_in(argument.hint):
            continue
        for token in argument.tokens:
            if "." in token.value and not token.value.rstrip("0").endswith("."):
                source = "" if token.source in {"", "cli"} else f" in {token.source}"
                raise ConfigError(f"{argument.name}{source} must be a whole number, and is {token.value}")


def _types_in(hint: object) -> set[object]:
    inside = get_args(hint)
    return set().union(*map(_types_in, inside)) if inside else {hint}
