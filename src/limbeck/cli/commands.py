"""The commands: their names, what each does in a line, and where its function is. Nothing else is imported for them."""

__all__ = ["COMMANDS", "Command", "find_command"]

from typing import NamedTuple


class Command(NamedTuple):
    """A command as the first page of the help names it.

    Attributes:
        name: What is typed after ``limbeck``.
        place: Its function, as ``module:function``; the module is imported when the command runs.
        summary: What it does, in a line.
    """

    name: str
    place: str
    summary: str


def _command(name: str, summary: str, place: str | None = None) -> Command:
    function = name.replace("-", "_")
    return Command(name, place or f"limbeck.cli.{function}:{function}", summary)


COMMANDS: dict[str, tuple[Command, ...]] = {
    "From a large model to a small one": (
        _command("quickstart", "All of it on MNIST, inside the package: three minutes"),
        _command("train", "Train a classifier, or an ensemble, on labels"),
        _command("distill", "Train a student on soft targets, beside its own baseline"),
        _command("mutual", "Train several students that learn from each other"),
        _command("soften", "Store a teacher's answers, for any number of students"),
        _command("tune", "Search temperature, weight, learning rate, epochs, method"),
        _command("compare-methods", "Compare methods of distillation on your data, fairly"),
        _command("compress", "Make a network smaller: low rank, fine-tuning, 8 bits"),
        _command("export", "Export to files that run elsewhere, with a parity report"),
    ),
    "What a model is worth": (
        _command("evaluate", "Judge a model on a test set: errors, size, speed"),
        _command("predict", "Label new examples: classes and probabilities"),
        _command("report", "Draw the report of a run, or of a search, anew"),
        _command("compare", "Compare finished runs on the test set they share"),
        _command("reproduce", "Run a paper's experiment beside the paper's numbers"),
    ),
    "What there is": (
        _command("data", "List the kinds of data, or describe a data set"),
        _command("methods", "List the methods of distillation and their options"),
        _command("taps", "List a model's layers, for methods that read them"),
        _command("info", "Say what a file holds"),
        _command("completion", "Complete commands and flags in bash, zsh or fish"),
    ),
    "Kaldi": (
        _command("features", "Make a Kaldi data directory out of sound"),
        _command("forward", "Write a network's outputs as a Kaldi archive"),
        _command("decode", "Find the words of utterances, and count errors"),
        _command("convert", "Write a network in another format"),
        _command("kaldi", "Commands for users of Kaldi alone, with Kaldi's names", "limbeck.cli.kaldi_nnet3:app"),
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
