"""The table of commands: name, module of the function, and one-line summary. Nothing heavy is imported."""

__all__ = ["COMMANDS", "Command", "find_command"]

from typing import NamedTuple


class Command(NamedTuple):
    """A command on the first page of the help.

    Attributes:
        name: What is typed after ``limbeck``.
        place: Its function, as ``module:function``; the module is imported when the command runs.
        summary: What it does, in one line.
    """

    name: str
    place: str
    summary: str


def _command(name: str, summary: str, place: str | None = None) -> Command:
    function = name.replace("-", "_")
    return Command(name, place or f"limbeck.cli.{function}:{function}", summary)


COMMANDS: dict[str, tuple[Command, ...]] = {
    "Train and distil": (
        _command("quickstart", "Try it all on MNIST (included), in some three minutes"),
        _command("train", "Train a classifier, or an ensemble, on labels"),
        _command("distill", "Train a student on soft targets, beside its own baseline"),
        _command("mutual", "Train several students that learn from each other"),
        _command("soften", "Store a teacher's soft targets for many students"),
        _command("tune", "Search temperature, weight, learning rate, epochs, method"),
        _command("compare-methods", "Compare methods of distillation on your data, fairly"),
        _command("compress", "Compress a network: low rank, fine-tuning, 8 bits"),
        _command("export", "Export to files that run elsewhere, with a parity report"),
    ),
    "Evaluate and use": (
        _command("evaluate", "Evaluate a model on a test set: errors, size, speed"),
        _command("predict", "Predict new examples: classes and probabilities"),
        _command("report", "Write the report of a run or a search again"),
        _command("compare", "Compare finished runs on the test set they share"),
        _command("reproduce", "Reproduce an experiment of the paper"),
    ),
    "List and describe": (
        _command("data", "List the kinds of data, or describe a data set"),
        _command("methods", "List the methods of distillation and their options"),
        _command("taps", "List a model's layers, for feature methods"),
        _command("info", "Describe a file: network, archive, alignment, store"),
        _command("completion", "Complete commands and flags in bash, zsh or fish"),
    ),
    "Kaldi": (
        _command("features", "Make a Kaldi data directory from WAV files"),
        _command("forward", "Write a network's outputs as a Kaldi archive"),
        _command("decode", "Decode utterances to words, and count errors"),
        _command("convert", "Convert a network to another format"),
        _command("kaldi", "Commands for Kaldi users, under Kaldi's names", "limbeck.cli.kaldi_nnet3:app"),
    ),
}
"""Groups of commands in the order of the help."""


def find_command(name: str) -> Command | None:
    """Find a command by its name.

    Args:
        name: What is typed after ``limbeck``.

    Returns:
        The command, or None where there is no such command.

    Example:
        >>> find_command("compare-methods").place
        'limbeck.cli.compare_methods:compare_methods'
        >>> find_command("distil")
    """
    return next((one for commands in COMMANDS.values() for one in commands if one.name == name), None)
