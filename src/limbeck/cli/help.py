"""The help of a command: essential flags and examples; every flag with ``--help-all``."""

__all__ = ["ESSENTIAL", "arguments_of", "command_help", "flag_docs", "kind_of_values", "print_help"]

import dataclasses
import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin, get_type_hints

import cyclopts
from cyclopts.argument import Argument

from limbeck.cli.help_text import heading, terminal_width, two_columns, wrapped

ESSENTIAL = frozenset(
    {
        "out", "data", "validation_data", "test_data", "transfer",
        "teacher", "teacher_targets", "model", "student", "students", "hidden", "members",
        "temperature", "hard_weight", "method", "methods", "baseline", "seeds", "margin",
        "epochs", "batch_size", "learning_rate", "device", "temperatures", "hard_weights", "trials",
        "size", "latency", "parameters", "energy", "rank", "int8", "finetune_epochs", "target",
        "posteriors", "answers", "encoding", "k", "kind", "scp", "no_softmax", "class_frame_counts", "text",
        "graph", "mdl", "feats", "ali", "exp", "beam", "resume", "jobs", "config", "log", "json", "overwrite",
    }
)  # fmt: skip
"""Parameters that most people need; the rest of a command with many of them is shown by ``--help-all``."""
_OF_ROWS = frozenset({"label_column", "text_column"})
"""Essential flags of groups that come last."""
_LAST = 90
"""Groups from this index on are for some kinds of data only."""
_FEW = 20
"""A command with no more flags than this shows all of them."""
_EXAMPLES = 3
_KINDS: dict[object, str] = {str: "TEXT", int: "INT", float: "NUMBER", Path: "PATH", bool: ""}


def print_help(app: cyclopts.App, words: Sequence[str], *, every: bool) -> None:
    """Print the help of a command.

    Args:
        app: The application.
        words: The arguments of the command line.
        every: Whether every flag is shown.
    """
    named = [word for word in words if not word.startswith("-")]
    sys.stdout.write(command_help(app, named, every=every, width=terminal_width()))


def arguments_of(app: cyclopts.App, words: Sequence[str]) -> list[Argument]:
    """The arguments of a command; empty for a group of commands.

    Args:
        app: The application.
        words: The words of a command line.

    Returns:
        Arguments in the order of the command's signature.
    """
    _, apps, _ = app.parse_commands(words)
    if apps[-1].default_command is None:
        return []
    with app.app_stack(apps):  # the application's default_parameter applies only so
        return [one for one in apps[-1].assemble_argument_collection() if one.show]


def command_help(app: cyclopts.App, words: Sequence[str], *, every: bool, width: int) -> str:
    """The help of a command as text.

    Args:
        app: The application.
        words: The words that name the command, or a group of commands.
        every: Whether every flag is shown, and every example.
        width: Columns there are.

    Returns:
        Lines with a newline at the end.
    """
    chain, apps, _ = app.parse_commands(words)
    name, function = " ".join(("limbeck", *chain)), apps[-1].default_command
    if function is None:
        return _group_help(apps[-1], name, width)
    arguments = arguments_of(app, chain)
    shown = [one for one in arguments if every or len(arguments) <= _FEW or one.required or _is_essential(one)]
    summary, examples, more = _parts(inspect.getdoc(function) or "", every=every)
    docs = flag_docs(function)
    parts = [_usage(name, arguments), wrapped(summary, width), *([examples] if examples else [])]
    parts += [wrapped(text, width) for text in more]
    for title, group in _grouped(shown):
        rows = [(_label(one), _meaning(one, docs)) for one in group]
        parts.append(f"{heading(title)}\n{two_columns(rows, width)}")
    if len(shown) < len(arguments):
        titles = [title for title, _ in _grouped([one for one in arguments if one not in shown])]
        rest = f"{len(arguments) - len(shown)} more flags, of {', '.join(titles)}"
        parts.append(wrapped(f"{name} --help-all: {rest}", width))
    return "\n\n".join(parts) + "\n"


def flag_docs(function: Any) -> dict[str, str]:
    """The description of each parameter, from the docstrings of a command's function and its dataclasses.

    Args:
        function: The function of a command.

    Returns:
        Texts by the names of parameters and of fields.

    Example:
        >>> from limbeck.cli.report import report
        >>> flag_docs(report)["run"]
        'A folder of a run or of limbeck tune.'
    """
    found: dict[str, str] = {}
    for hint in get_type_hints(function).values():
        kinds = get_args(hint) or (hint,)
        for kind in kinds:
            if dataclasses.is_dataclass(kind) and isinstance(kind, type):
                for base in reversed(kind.__mro__):
                    found |= _entries(inspect.cleandoc(base.__doc__ or ""), "Attributes")
    return found | _entries(inspect.getdoc(function) or "", "Args")


def _entries(doc: str, section: str) -> dict[str, str]:
    """The names and texts of a section of a docstring."""
    found = re.search(rf"^{section}:\n((?:[ \t]+.*\n?|\n)+)", doc, re.M)
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", found.group(1), re.M) if found else []
    return {name: " ".join(text.split()).replace("``", "") for name, text in entries}


def _parts(doc: str, *, every: bool) -> tuple[str, str, list[str]]:
    """Summary, examples and the paragraphs of a docstring, before its sections."""
    text = re.split(r"^(?:Args|Returns|Raises):$", doc, maxsplit=1, flags=re.M)[0]
    blocks = re.findall(r"^```\n(.*?)^```$", text, re.M | re.S)
    examples = [one for block in blocks for one in re.findall(r"^(\S.*(?:\n[ \t]+.*)*)", block, re.M)]
    lines = "\n".join(examples if every else examples[:_EXAMPLES])
    summary, *more = [part for part in re.split(r"\n\s*\n", re.sub(r"^```\n.*?^```$", "", text, flags=re.M | re.S))]
    return summary, re.sub(r"^", "  ", lines, flags=re.M) if lines else "", [part for part in more if part.strip()]


def _group_help(app: cyclopts.App, name: str, width: int) -> str:
    """The help of a group of commands, one line per command."""
    rows = []
    for each in sorted(app.resolved_commands()):
        if not each.startswith("-"):
            function = app[each].default_command
            rows.append((each, (inspect.getdoc(function) or "").split("\n\n")[0]))
    introduction = wrapped(str(app.help), width)
    return f"Usage: {name} COMMAND [OPTIONS]\n\n{introduction}\n\n{two_columns(rows, width, 22)}\n"


def _usage(name: str, arguments: Sequence[Argument]) -> str:
    needed = [_label(one) for one in arguments if one.required]
    places = [f"[{_label(one)}]" for one in arguments if not one.required and _is_place(one)]
    options = ["[OPTIONS]"] if any(not one.required and not _is_place(one) for one in arguments) else []
    return " ".join((f"Usage: {name}", *needed, *places, *options))


def _is_essential(argument: Argument) -> bool:
    name = str(argument.field_info.name)
    return name in _OF_ROWS or _is_place(argument) or (name in ESSENTIAL and _order(argument) < _LAST)


def _is_place(argument: Argument) -> bool:
    """Whether an argument is positional."""
    return bool(argument.field_info.is_positional)


def _group(argument: Argument) -> Any:
    return next(iter(cast("tuple[Any, ...]", argument.parameter.group or ())), None)


def _order(argument: Argument) -> int:
    """The sort key of an argument's group; positional arguments come first."""
    order = getattr(_group(argument), "sort_key", None)
    return -1 if _is_place(argument) else order if isinstance(order, int) else 0


def _grouped(arguments: Sequence[Argument]) -> Iterator[tuple[str, list[Argument]]]:
    """Arguments by group, in the order of the groups; required ones first."""
    groups: dict[str, tuple[tuple[int, int], list[Argument]]] = {}
    for number, argument in enumerate(arguments):
        title = "Arguments" if _is_place(argument) else str(getattr(_group(argument), "name", "Flags"))
        groups.setdefault(title, ((_order(argument), number), []))[1].append(argument)
    for title, (_, group) in sorted(groups.items(), key=lambda item: item[1][0]):
        yield title, sorted(group, key=lambda one: not one.required)


def _label(argument: Argument) -> str:
    kind = kind_of_values(argument.hint)
    if _is_place(argument):
        return argument.name.lstrip("-").upper() + ("..." if kind.endswith("...") else "")
    return f"{', '.join(argument.names)} {kind}".rstrip()


def kind_of_values(hint: Any) -> str:
    """What a flag takes, in capital letters.

    Args:
        hint: The type of its parameter.

    Returns:
        The metavar, with dots for several values.

    Example:
        >>> kind_of_values(list[Path] | None), kind_of_values(Literal["a", "b"]), kind_of_values(int | float)
        ('PATH...', 'CHOICE', 'INT|NUMBER')
    """
    origin, inside = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return kind_of_values(inside[0])
    if origin in {Union, UnionType}:
        return "|".join(dict.fromkeys(kind_of_values(one) for one in inside if one is not NoneType))
    if origin is Literal:
        return "CHOICE"
    if isinstance(origin, type):  # a list, a tuple
        return f"{kind_of_values(inside[0])}..."
    return _KINDS.get(hint, "VALUE")


def _meaning(argument: Argument, docs: dict[str, str]) -> str:
    """A flag's description, choices and default."""
    text = argument.parameter.help or docs.get(str(argument.field_info.name), "")
    choices = argument.get_choices()
    if choices:
        text += f" [choices: {', '.join(choices)}]"
    default = argument.field_info.default
    if default is not inspect.Parameter.empty and default not in (None, False, (), [], ""):
        text += f" [default: {'yes' if default is True else _shown(default)}]"
    return text.strip()


def _shown(default: object) -> str:
    return " ".join(map(str, default)) if isinstance(default, tuple | list) else str(default)
