"""The command line: one file a command. Nothing else in Limbeck prints."""

__all__ = ["app", "main"]

import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import cyclopts

from limbeck import __version__
from limbeck.cli.compare import compare
from limbeck.cli.compare_methods import compare_methods
from limbeck.cli.compress import compress
from limbeck.cli.convert import convert
from limbeck.cli.data import data
from limbeck.cli.decode import decode
from limbeck.cli.distill import distill
from limbeck.cli.evaluate import evaluate
from limbeck.cli.export import export
from limbeck.cli.features import features
from limbeck.cli.forward import forward
from limbeck.cli.info import info
from limbeck.cli.kaldi_nnet3 import app as kaldi
from limbeck.cli.methods import methods
from limbeck.cli.mutual import mutual
from limbeck.cli.predict import predict
from limbeck.cli.quickstart import quickstart
from limbeck.cli.report import report
from limbeck.cli.reproduce import reproduce
from limbeck.cli.settings import read_settings, safe_settings
from limbeck.cli.soften import soften
from limbeck.cli.taps import taps
from limbeck.cli.train import train
from limbeck.cli.tune import tune
from limbeck.errors import ConfigError

_HELP = """Turn a large classifier, or an ensemble, into a small one that can be shipped, and prove that it worked.

```
limbeck quickstart
limbeck train --data photos/ --model timm:resnet18 --out runs/teacher
limbeck distill --data photos/ --teacher runs/teacher --student cnn --out runs/student
limbeck compress runs/student --size 200KB --out runs/smaller
limbeck export runs/student --to onnx --out shipped
```

`limbeck COMMAND --help` explains a command.
"""

app = cyclopts.App(
    name="limbeck",
    help=_HELP,
    version=__version__,
    help_format="markdown",
    default_parameter=cyclopts.Parameter(consume_multiple=True, negative_iterable=()),
)
# The modules of the commands import torch only when a command runs.
_COMMANDS: dict[str, tuple[Callable[..., Any], ...]] = {
    "From a large model to a small one": (
        quickstart, train, distill, mutual, soften, tune, compare_methods, compress, export,
    ),
    "What a model is worth": (evaluate, predict, report, compare, reproduce),
    "What there is": (data, methods, taps, info),
    "Kaldi": (features, forward, decode, convert),
}  # fmt: skip
for _place, (_title, _commands) in enumerate(_COMMANDS.items()):
    _group = cyclopts.Group(_title, sort_key=_place)
    for _number, _command in enumerate(_commands):
        app.command(_command, group=_group, sort_key=_number)
    if _title == "Kaldi":
        kaldi.group, kaldi.sort_key = (_group,), len(_commands)
        app.command(kaldi)
_group = cyclopts.Group("Flags", sort_key=len(_COMMANDS))
for _flag in ("--help", "--version"):
    app[_flag].group = _group


def main(tokens: list[str] | None = None) -> None:
    """Run a command line, and exit: 0 done, 2 a mistake in what was given, 1 a mistake of ours.

    Args:
        tokens: The words of the command; None for those of this process.
    """
    words = list(sys.argv[1:] if tokens is None else tokens)
    if os.environ.get("RANK", "0") != "0" and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # Of several processes the first speaks.
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    try:
        _refuse_renamed(words)
        words = _with_config(words)
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            app(words, result_action="return_value", exit_on_error=False, print_error=False)
        sys.stdout.flush()  # a full disk behind the output stream shows here, and not after the exit code is settled
    except cyclopts.CycloptsError as error:
        from limbeck.cli.console import explain

        sys.exit(explain(_misspelt(error)))
    except Exception as error:
        from limbeck.cli.console import explain

        sys.exit(explain(error))
    except KeyboardInterrupt:
        print("limbeck: stopped", file=sys.stderr)  # noqa: T201
        sys.exit(130)


def _show_warning(*given: Any, **more: Any) -> None:
    from limbeck.cli.console import show_warning

    show_warning(*given, **more)


def _refuse_renamed(words: list[str]) -> None:
    """Say what a flag of earlier versions is called now."""
    given = {word.split("=")[0] for word in words}
    if given & {"--loss", "--losses"}:
        raise ConfigError(
            "--loss is called --method now, and --losses --methods: kd is what kl was, and logits is as it was; "
            "limbeck methods lists them"
        )


def _misspelt(error: cyclopts.CycloptsError) -> ConfigError:
    """What cyclopts found wrong with the words of a command, and where to read what would be right."""
    found = " ".join(str(error).split()).rstrip(".")
    if "--validation:" in found and "into float" in found:
        found += ": it is a share or a count, and --validation-data names a file to choose by"
    chain = " ".join(error.command_chain or ())
    return ConfigError(f"{found}; see  {' '.join(('limbeck', chain)).strip()} --help")


def _with_config(words: list[str]) -> list[str]:
    """Let ``--config FILE`` supply what the flags leave open; its keys are the flags' names."""
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
    if waiting:
        raise ConfigError("--config needs a file: --config run.toml")
    if path is None:
        app.config = (_whole_numbers,)
        return rest
    settings = safe_settings(read_settings(Path(path)), rest, path)

    def fill_in(command: cyclopts.App, names: tuple[str, ...], arguments: cyclopts.ArgumentCollection) -> None:
        # Under the command's name: on the top level cyclopts passes over a key, "data", that is a command's name too.
        table: dict[str, Any] = settings
        for name in reversed(names):
            table = {name: table}
        cyclopts.config.Dict(table, source=path)(command, names, arguments)

    app.config = (fill_in, _whole_numbers)
    return rest


def _whole_numbers(_: object, __: tuple[str, ...], arguments: cyclopts.ArgumentCollection) -> None:
    """Refuse 2.5 for a whole number, which cyclopts would round."""
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
